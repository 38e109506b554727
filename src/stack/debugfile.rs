//! Where the debug information of a file is: in itself, or in one of the places where distributions put it.

use super::elf::{self, Section};
use super::module::Module;
use object::{Object, ObjectSection, ReadCache};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where distributions install separate debug files.
const ROOT: &str = "/usr/lib/debug";
/// A larger debug file is not read for its checksum.
const MAX_CHECKED: u64 = 1 << 30;
/// `.debug_frame` larger than this is not read, in bytes.
const MAX_FRAME_SECTION: u64 = 64 << 20;
/// Limits of `.gnu_debugdata`, compressed and not.
const MAX_XZ: u64 = 32 << 20;
const MAX_MINIDEBUG: u64 = 256 << 20;

/// `.debug_frame` of the module's file or of its debug file.
pub(crate) fn debug_frame(module: &Module) -> Option<Section> {
    let file = module.file()?;
    elf::section(&file, ".debug_frame", MAX_FRAME_SECTION).or_else(|| {
        let (debug, _) = separate(module)?;
        elf::section(&debug, ".debug_frame", MAX_FRAME_SECTION)
    })
}

/// The separate debug file of a module, by build id (`/usr/lib/debug/.build-id/xx/yyy.debug`), else by the name in its
/// `.gnu_debuglink`, next to it, in `.debug/` beside it, or under `/usr/lib/debug`.
///
/// One found by name must have the module's build id, or, where one of them has none, the checksum of the link.
pub(crate) fn separate(module: &Module) -> Option<(File, PathBuf)> {
    let by_id = module.build_id().and_then(by_build_id);
    by_id.or_else(|| by_link(module))
}

/// A debug file by build id.
pub(crate) fn by_build_id(id: &[u8]) -> Option<(File, PathBuf)> {
    let (first, rest) = id.split_first()?;
    (!rest.is_empty() && id.len() <= 64).then_some(())?;
    let rest: String = rest.iter().map(|b| format!("{b:02x}")).collect();
    let path = PathBuf::from(format!("{ROOT}/.build-id/{first:02x}/{rest}.debug"));
    let file = open(&path)?;
    (build_id(&file)? == id).then_some((file, path))
}

fn by_link(module: &Module) -> Option<(File, PathBuf)> {
    let own = module.file()?;
    let cache = ReadCache::new(&own);
    let object = object::File::parse(&cache).ok()?;
    let (name, crc) = object.gnu_debuglink().ok()??;
    // The link is a file name; one that is a path could name anything.
    (!name.is_empty() && !name.contains(&b'/') && name != b".." && name != b".").then_some(())?;
    let name = std::ffi::OsStr::from_bytes(name);
    let dir = Path::new(std::ffi::OsStr::from_bytes(module.path())).parent()?;
    let under = Path::new(ROOT).join(dir.strip_prefix("/").ok()?);
    for path in [dir.join(name), dir.join(".debug").join(name), under.join(name)] {
        let Some(file) = open(&path) else { continue };
        let same = match (module.build_id(), build_id(&file)) {
            (Some(own), Some(id)) => own == id,
            _ => checksum(&file) == Some(crc),
        };
        if same {
            return Some((file, path));
        }
    }
    None
}

/// The supplementary file that `dwz` moved common parts into (`.gnu_debugaltlink`), for a debug file at `path`.
pub(crate) fn supplement(file: &File, path: &Path) -> Option<PathBuf> {
    let cache = ReadCache::new(file);
    let object = object::File::parse(&cache).ok()?;
    let (name, id) = object.gnu_debugaltlink().ok()??;
    let beside = path.parent()?.join(std::ffi::OsStr::from_bytes(name));
    match open(&beside) {
        Some(file) if build_id(&file).as_deref() == Some(id) => Some(beside),
        _ => by_build_id(id).map(|(_, path)| path),
    }
}

/// The small symbol table that Fedora packs into `.gnu_debugdata`: an ELF file, compressed with xz.
pub(crate) fn minidebug(file: &File) -> Option<Vec<u8>> {
    let packed = elf::section(file, ".gnu_debugdata", MAX_XZ)?;
    (unpacked_size(&packed.bytes)? <= MAX_MINIDEBUG).then_some(())?;
    let mut out = Vec::new();
    lzma_rs::xz_decompress(&mut &*packed.bytes, &mut out).ok()?;
    Some(out)
}

/// How large an xz stream gets, by adding up what its LZMA2 chunks say of themselves (xz file format 1.1.0 §3, §5.3.1).
///
/// The decoder believes those numbers and no others, so they bound its memory; the index at the end of the file could
/// say anything.
fn unpacked_size(xz: &[u8]) -> Option<u64> {
    (xz.get(..6)? == b"\xfd7zXZ\0").then_some(())?;
    let check = match xz.get(7)? & 0x0f {
        0 => 0,
        1 => 4,
        4 => 8,
        10 => 32,
        _ => return None,
    };
    let mut at = 12usize;
    let mut total = 0u64;
    // Byte 0 where a block would begin: the index.
    while let Some(&header) = xz.get(at).filter(|&&b| b != 0) {
        at = at.checked_add((usize::from(header) + 1) * 4)?;
        loop {
            let control = *xz.get(at)?;
            let word = |i: usize| Some(u64::from(u16::from_be_bytes([*xz.get(at + i)?, *xz.get(at + i + 1)?])));
            let (unpacked, length) = match control {
                0 => break,
                1 | 2 => (word(1)? + 1, 3 + word(1)? + 1),
                0x80.. => {
                    let properties = u64::from(control >= 0xc0);
                    ((u64::from(control & 0x1f) << 16) + word(1)? + 1, 5 + properties + word(3)? + 1)
                }
                _ => return None,
            };
            total = total.checked_add(unpacked)?;
            at = at.checked_add(usize::try_from(length).ok()?)?;
        }
        at = (at + 1).next_multiple_of(4).checked_add(check)?;
    }
    Some(total)
}

/// Opens a regular file and nothing else: a FIFO of that name must not block us.
pub(crate) fn open(path: &Path) -> Option<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

fn build_id(file: &File) -> Option<Vec<u8>> {
    let cache = ReadCache::new(file);
    let object = object::File::parse(&cache).ok()?;
    object.build_id().ok()?.map(<[u8]>::to_vec)
}

/// Whether the file holds DWARF, and not more than the symbolizer may unpack.
pub(crate) fn has_dwarf(file: &File) -> bool {
    /// Sections of one file, unpacked, in bytes: those that are mapped, and those that take memory of our own.
    const MAX_PLAIN: u64 = 4 << 30;
    const MAX_PACKED: u64 = 512 << 20;
    let cache = ReadCache::new(file);
    let Ok(object) = object::File::parse(&cache) else { return false };
    let (mut found, mut plain, mut packed) = (false, 0u64, 0u64);
    for section in object.sections() {
        let name = section.name_bytes().unwrap_or_default();
        if !name.starts_with(b".debug_") && !name.starts_with(b".zdebug_") {
            continue;
        }
        found |= name.ends_with(b"debug_info") || name.ends_with(b"debug_line");
        if let Ok(range) = section.compressed_file_range() {
            let sum = if range.format == object::CompressionFormat::None { &mut plain } else { &mut packed };
            *sum = sum.saturating_add(range.uncompressed_size);
        }
    }
    found && plain <= MAX_PLAIN && packed <= MAX_PACKED
}

/// The checksum of `.gnu_debuglink`: CRC-32 as in ISO 3309, over the whole file.
fn checksum(file: &File) -> Option<u32> {
    let mut left = file.metadata().ok().map(|m| m.len()).filter(|&n| n <= MAX_CHECKED)?;
    let mut reader = file;
    let mut crc = u32::MAX;
    let mut buf = vec![0; 64 << 10];
    while left > 0 {
        let n = reader.read(&mut buf).ok().filter(|&n| n > 0)?;
        crc = crc32(crc, buf.get(..n)?);
        left = left.saturating_sub(n as u64);
    }
    Some(!crc)
}

fn crc32(mut crc: u32, bytes: &[u8]) -> u32 {
    #[allow(clippy::indexing_slicing)] // run by the compiler, which checks it
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut c = i as u32;
            let mut bit = 0;
            while bit < 8 {
                c = if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
                bit += 1;
            }
            table[i] = c;
            i += 1;
        }
        table
    };
    for &b in bytes {
        let row = TABLE.get(usize::from(crc as u8 ^ b)).copied().unwrap_or(0);
        crc = row ^ (crc >> 8);
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(!crc32(u32::MAX, b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_size_of_an_xz_stream_is_known_before_it_is_unpacked() {
        let mut packed = Vec::new();
        lzma_rs::xz_compress(&mut &[7u8; 100_000][..], &mut packed).unwrap();
        assert_eq!(unpacked_size(&packed), Some(100_000));
        for cut in 0..packed.len().min(200) {
            unpacked_size(&packed[..cut]);
        }
        assert_eq!(unpacked_size(b"not xz"), None);
    }

    #[test]
    fn a_build_id_that_is_no_path_finds_nothing() {
        assert!(by_build_id(&[]).is_none());
        assert!(by_build_id(&[1]).is_none());
        assert!(by_build_id(&[0xee; 200]).is_none());
    }
}

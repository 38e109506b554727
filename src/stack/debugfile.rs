//! Where the debug information of a file is: in itself, or in one of the places where distributions put it.

use super::elf::{self, Section};
use super::module::Module;
use super::sections::Sections;
use crate::base::Root;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use object::ReadCache;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where distributions install separate debug files.
const ROOT: &str = "/usr/lib/debug";
/// A larger debug file is not read for its checksum.
const MAX_CHECKED: u64 = 1 << 30;
/// `.debug_frame` larger than this is not read, in bytes.
const MAX_FRAME_SECTION: u64 = 64 << 20;
/// Limits of `.gnu_debugdata`, compressed and not.
const MAX_XZ: u64 = 32 << 20;
const MAX_MINIDEBUG: u64 = 256 << 20;

/// Where the paths of a process begin. One of another mount namespace, or with a root directory of its own, means other
/// files by the same paths.
#[derive(Clone, Debug, Default)]
pub(crate) enum Place {
    /// At this process's own root.
    #[default]
    Here,
    /// At another.
    Below(Arc<Root>),
    /// At one that is not kept: there nothing is found.
    Nowhere,
}

impl Place {
    /// Opens a regular file and nothing else. Links, absolute ones too, stay below the root (openat2(2),
    /// RESOLVE_IN_ROOT).
    pub(crate) fn open(&self, path: &Path) -> Option<File> {
        let root = match self {
            Place::Here => return open(path),
            Place::Below(root) => root,
            Place::Nowhere => return None,
        };
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        regular(File::from(openat2(&root.dir, path, how).ok()?))
    }

    /// A path that the kernel gave for a mapped file, as the process itself would write it.
    pub(crate) fn inside<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let Place::Below(root) = self else { return path };
        path.strip_prefix(&*root.path).filter(|rest| rest.first() == Some(&b'/')).unwrap_or(path)
    }

    /// `path` without links; only where it is this process's own.
    fn real(&self, path: &Path) -> Option<PathBuf> {
        matches!(self, Place::Here).then(|| std::fs::canonicalize(path).ok()).flatten()
    }
}

/// Asks a server, or a cache, for the debug file with a build id.
pub type Fetch = dyn FnMut(&[u8]) -> Option<PathBuf>;

/// `.debug_frame` of the module's file or of its debug file.
pub(crate) fn debug_frame(module: &Module) -> Option<Section> {
    let file = module.file().filter(|_| !module.is_perf_map())?;
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
    separate_with(module, &|_| true, None)
}

/// As [`separate`], the first for which `good` holds, and what `fetch` finds where there is none.
pub(crate) fn separate_with(
    module: &Module,
    good: &dyn Fn(&File) -> bool,
    fetch: Option<&mut Fetch>,
) -> Option<(File, PathBuf)> {
    let good = |found: &(File, PathBuf)| good(&found.0);
    let id = module.build_id();
    let by_id = id.and_then(|id| by_build_id(id, module.place())).filter(&good);
    by_id.or_else(|| by_link(module).filter(&good)).or_else(|| fetched(id?, fetch?).filter(&good))
}

/// A debug file by build id: in the process's own place, else in ours, because an id cannot mean another file.
pub(crate) fn by_build_id(id: &[u8], place: &Place) -> Option<(File, PathBuf)> {
    let (first, rest) = id.split_first()?;
    (!rest.is_empty() && id.len() <= 64).then_some(())?;
    let rest: String = rest.iter().map(|b| format!("{b:02x}")).collect();
    let path = PathBuf::from(format!("{ROOT}/.build-id/{first:02x}/{rest}.debug"));
    let has_id = |file: &File| build_id(file).as_deref() == Some(id);
    let file = place.open(&path).filter(has_id).or_else(|| open(&path).filter(has_id))?;
    Some((file, path))
}

/// What `fetch` says, if it has the build id.
fn fetched(id: &[u8], fetch: &mut Fetch) -> Option<(File, PathBuf)> {
    let path = fetch(id)?;
    let file = open(&path)?;
    (build_id(&file)? == id).then_some((file, path))
}

fn by_link(module: &Module) -> Option<(File, PathBuf)> {
    let own = module.file()?;
    let cache = ReadCache::new(&own);
    let (name, crc) = Sections::of(&cache)?.debug_link(&cache)?;
    // The link is a file name; one that is a path could name anything.
    (!name.is_empty() && !name.contains(&b'/') && name != b".." && name != b".").then_some(())?;
    let name = OsStr::from_bytes(&name);
    let dir = Path::new(OsStr::from_bytes(module.path())).parent()?;
    let inner = dir.strip_prefix("/").ok()?;
    let under = Path::new(ROOT).join(inner);
    // Where /lib is a link to /usr/lib, packages may still count from /lib.
    let merged = inner.strip_prefix("usr").map(|dir| Path::new(ROOT).join(dir)).unwrap_or_else(|_| under.clone());
    for path in [dir.join(name), dir.join(".debug").join(name), under.join(name), merged.join(name)] {
        let Some(file) = module.place().open(&path) else { continue };
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
///
/// Its name counts from where the debug file really lies, because `.build-id` may hold links. A name is only a hint:
/// the file must have the build id of the link.
pub(crate) fn supplement(file: &File, path: &Path, place: &Place, fetch: Option<&mut Fetch>) -> Option<File> {
    let cache = ReadCache::new(file);
    let (name, id) = Sections::of(&cache)?.alternate_link(&cache)?;
    let (name, id) = (Path::new(OsStr::from_bytes(&name)), &*id);
    let dwz = name.file_name().map(|name| Path::new(ROOT).join(".dwz").join(name));
    let beside = |path: &Path| path.parent().map(|dir| dir.join(name));
    let paths = [beside(path), place.real(path).as_deref().and_then(beside), dwz];
    let mut files = paths.iter().flatten().filter_map(|path| place.open(path));
    let named = files.find(|file| build_id(file).as_deref() == Some(id));
    named.or_else(|| by_build_id(id, place).map(|(file, _)| file)).or_else(|| Some(fetched(id, fetch?)?.0))
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
fn open(path: &Path) -> Option<File> {
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
    regular(File::options().read(true).custom_flags(flags).open(path).ok()?)
}

fn regular(file: File) -> Option<File> {
    file.metadata().ok()?.is_file().then_some(file)
}

fn build_id(file: &File) -> Option<Vec<u8>> {
    let cache = ReadCache::new(file);
    Sections::of(&cache)?.build_id(&cache)
}

/// Whether the file holds DWARF.
pub(crate) fn has_dwarf(file: &File) -> bool {
    let cache = ReadCache::new(file);
    let Some(sections) = Sections::of(&cache) else { return false };
    [".debug_info", ".debug_line"].iter().any(|name| sections.find_packed(name).is_some())
}

/// The checksum of `.gnu_debuglink`: CRC-32 as in ISO 3309, over the whole file.
fn checksum(file: &File) -> Option<u32> {
    let size = file.metadata().ok().map(|m| m.len()).filter(|&n| n <= MAX_CHECKED)?;
    let mut at = 0;
    let mut crc = u32::MAX;
    let mut buf = vec![0; 64 << 10];
    while at < size {
        // By position: whoever looked at the file before has left its own anywhere.
        let n = file.read_at(&mut buf, at).ok().filter(|&n| n > 0)?;
        crc = crc32(crc, buf.get(..n)?);
        at += n as u64;
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
        assert!(by_build_id(&[], &Place::default()).is_none());
        assert!(by_build_id(&[1], &Place::default()).is_none());
        assert!(by_build_id(&[0xee; 200], &Place::default()).is_none());
    }
}

//! What the layer needs of an ELF file, read with bounded effort from a file or from memory.
//!
//! Files are read piece by piece, never mapped: a mapped file that somebody truncates would kill fdwatch with SIGBUS,
//! and with it the program that it traces.

use super::sections::{Header, Sections};
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, Sym};
use object::{LittleEndian, ReadCache, ReadRef};
use std::fs::File;
use std::ops::Range;

/// Sections of unwind information larger than this are not read.
const MAX_UNWIND: u64 = 64 << 20;
/// String and symbol tables larger than this are not read.
const MAX_TABLE: u64 = 512 << 20;
/// Notes larger than this are not searched for a build id.
pub(crate) const MAX_NOTES: u64 = 64 << 10;
/// Entries of symbol and relocation tables that are looked at in one file, in all its sections together. A browser with
/// its symbols has about a million of each.
const MAX_ENTRIES: usize = 8 << 20;
/// Bytes of names that are looked at in one file, in all its tables together.
pub(crate) const MAX_NAMES: usize = 256 << 20;
/// Longer names are left out, in bytes.
pub(crate) const MAX_NAME: usize = 4096;

/// No larger piece of a file is read for `object`, in bytes. It reads the first symbol table whole, whatever is asked of the
/// file; this is one with as many entries as are looked at.
const MAX_PIECE: u64 = MAX_ENTRIES as u64 * size_of::<elf::Sym64<LittleEndian>>() as u64;

/// A file without its pieces that are too large. One with a hole in it can claim any size without being so large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limited<R>(pub(crate) R);

impl<'d, R: ReadRef<'d>> ReadRef<'d> for Limited<R> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'d [u8], ()> {
        if size > MAX_PIECE { Err(()) } else { self.0.read_bytes_at(offset, size) }
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'d [u8], ()> {
        self.0.read_bytes_at_until(range, delimiter)
    }
}

/// Why a file gives no information.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ElfError {
    #[error("not an ELF file for x86")]
    NotElf,
    #[error("damaged: {0}")]
    Damaged(#[from] object::read::Error),
}

/// A part of the file that gets mapped (PT_LOAD).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) vaddr: u64,
    pub(crate) size: u64,
    pub(crate) executable: bool,
}

/// A section's bytes and the address they are linked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    pub(crate) addr: u64,
    pub(crate) bytes: Box<[u8]>,
}

/// Everything that capturing needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    /// 8 for ELF64, 4 for ELF32.
    pub(crate) word: u8,
    pub(crate) segments: Vec<Segment>,
    pub(crate) build_id: Option<Vec<u8>>,
    pub(crate) eh_frame: Option<Section>,
    pub(crate) eh_frame_hdr: Option<Section>,
    /// Link addresses of `.text` and `.got`, which unwind information may count from.
    pub(crate) text: u64,
    pub(crate) got: u64,
    /// Where the kernel or the loader enters it; 0 for none.
    pub(crate) entry: u64,
    /// Whether Go's linker made it, or a part of it.
    pub(crate) go: bool,
    /// Whether it is what loads programs: it has an entry point and no fixed address, and names no loader (PT_INTERP).
    /// A static PIE looks the same.
    pub(crate) is_loader: bool,
}

impl Image {
    pub(crate) fn of_file(file: &File) -> Result<Self, ElfError> {
        image(&ReadCache::new(file))
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Result<Self, ElfError> {
        image(bytes)
    }

    /// What to add (wrapping) to an address of a mapping that begins at `start` with file offset `offset`, to get the
    /// address as the file numbers it. `None` when no segment of the file covers that part.
    pub(crate) fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        const PAGE: u64 = 4096;
        let covers = |s: &&Segment| (s.offset & !(PAGE - 1)) <= offset && offset < s.offset.saturating_add(s.size);
        let mut all = self.segments.iter().filter(covers);
        let mut executable = all.clone().filter(|s| s.executable);
        let s = executable.next().or_else(|| all.next())?;
        Some(s.vaddr.wrapping_sub(s.offset).wrapping_add(offset).wrapping_sub(start))
    }
}

fn image<'d, R: ReadRef<'d>>(data: R) -> Result<Image, ElfError> {
    let ident = data.read_bytes_at(0, 16).map_err(|()| ElfError::NotElf)?;
    match (ident.get(..4), ident.get(4), ident.get(5)) {
        (Some(b"\x7fELF"), Some(2), Some(1)) => image_of::<FileHeader64<LittleEndian>, R>(data, 8),
        (Some(b"\x7fELF"), Some(1), Some(1)) => image_of::<FileHeader32<LittleEndian>, R>(data, 4),
        _ => Err(ElfError::NotElf),
    }
}

fn image_of<'d, E: FileHeader<Endian = LittleEndian>, R: ReadRef<'d>>(data: R, word: u8) -> Result<Image, ElfError> {
    let le = LittleEndian;
    let header = E::parse(data)?;
    let mut out = Image { word, entry: header.e_entry(le).into(), ..Image::default() };
    out.is_loader = header.e_type(le) == elf::ET_DYN && out.entry != 0;
    let mut hdr_at = None;
    for p in header.program_headers(le, data)? {
        match p.p_type(le) {
            elf::PT_LOAD => out.segments.push(Segment {
                offset: p.p_offset(le).into(),
                vaddr: p.p_vaddr(le).into(),
                size: p.p_filesz(le).into(),
                executable: p.p_flags(le).0 & elf::PF_X.0 != 0,
            }),
            elf::PT_INTERP => out.is_loader = false,
            elf::PT_GNU_EH_FRAME => hdr_at = Some((p.p_offset(le).into(), p.p_vaddr(le).into(), p.p_filesz(le).into())),
            elf::PT_NOTE if out.build_id.is_none() && p.p_filesz(le).into() <= MAX_NOTES => {
                let mut notes = p.notes(le, data).ok().flatten();
                while let Some(note) = notes.as_mut().and_then(|n| n.next().ok().flatten()) {
                    if note.name() == elf::ELF_NOTE_GNU && note.n_type(le) == elf::NT_GNU_BUILD_ID {
                        out.build_id = Some(note.desc().to_vec());
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    // A file without section headers is unusual but runs: then the program headers must do.
    let sections = Sections::of(data).unwrap_or_default();
    let read = |s: &Header| -> Option<Section> {
        let (offset, size) = s.range()?;
        Some(Section { addr: s.addr, bytes: read(data, offset, size, MAX_UNWIND)? })
    };
    out.eh_frame = sections.find(b".eh_frame").and_then(read);
    out.eh_frame_hdr = sections.find(b".eh_frame_hdr").and_then(read);
    out.text = sections.find(b".text").map_or(0, |s| s.addr);
    out.got = sections.find(b".got").map_or(0, |s| s.addr);
    // strip(1) leaves one of them, whoever linked the program.
    out.go = [&b".gopclntab"[..], b".go.buildinfo"].into_iter().any(|name| sections.find(name).is_some());
    if let (None, Some((offset, addr, size))) = (&out.eh_frame_hdr, hdr_at) {
        out.eh_frame_hdr = read_at(data, offset, size).map(|bytes| Section { addr, bytes });
    }
    if let (None, Some(hdr)) = (&out.eh_frame, &out.eh_frame_hdr) {
        out.eh_frame = behind(hdr, &out.segments, data);
    }
    Ok(out)
}

fn read_at<'d, R: ReadRef<'d>>(data: R, offset: u64, size: u64) -> Option<Box<[u8]>> {
    read(data, offset, size, MAX_UNWIND)
}

fn read<'d, R: ReadRef<'d>>(data: R, offset: u64, size: u64, max: u64) -> Option<Box<[u8]>> {
    (size <= max).then(|| data.read_bytes_at(offset, size).ok().map(Box::from)).flatten()
}

/// The `.eh_frame` that a `.eh_frame_hdr` points to, up to the end of its segment.
fn behind<'d, R: ReadRef<'d>>(hdr: &Section, segments: &[Segment], data: R) -> Option<Section> {
    // Byte 1 is the encoding of the pointer in bytes 4–7; 0x1b is "signed 4 bytes from here", what linkers write.
    let b = hdr.bytes.get(..8)?;
    (b.get(1) == Some(&0x1b)).then_some(())?;
    let distance = i32::from_le_bytes(b.get(4..8)?.try_into().ok()?);
    let addr = hdr.addr.checked_add(4)?.checked_add_signed(distance.into())?;
    let s = segments.iter().find(|s| addr.checked_sub(s.vaddr).is_some_and(|d| d < s.size))?;
    let within = addr - s.vaddr;
    Some(Section { addr, bytes: read_at(data, s.offset.checked_add(within)?, s.size - within)? })
}

/// A defined function or object of a symbol table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawSymbol<'n> {
    pub(crate) addr: u64,
    pub(crate) size: u64,
    pub(crate) name: &'n [u8],
    /// `STB_GLOBAL` 2, `STB_WEAK` 1, local 0.
    pub(crate) binding: u8,
    /// Whether its type says function; assembly often says nothing.
    pub(crate) function: bool,
}

/// The text up to the next NUL; `None` if it is longer than [`MAX_NAME`] bytes, or has no end.
pub(crate) fn text(bytes: &[u8]) -> Option<&[u8]> {
    let near = bytes.get(..=MAX_NAME).unwrap_or(bytes);
    near.get(..near.iter().position(|&b| b == 0)?)
}

/// What may still be read of the tables of one file.
///
/// Sections do not overlap (gABI, "Sections"), so all together have no more bytes than the file. Headers that cover the
/// same bytes a thousand times would make a small file large.
struct Budget {
    bytes: u64,
    entries: usize,
    names: usize,
}

impl Budget {
    fn of<'d, R: ReadRef<'d>>(data: R) -> Self {
        Self { bytes: data.len().unwrap_or(0).min(MAX_TABLE), entries: MAX_ENTRIES, names: MAX_NAMES }
    }

    /// Takes a section of so many bytes; `None` if that is too much.
    fn take(&mut self, bytes: u64) -> Option<()> {
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(())
    }
}

/// Calls `each` for every defined code symbol of the file's `.symtab` and `.dynsym`. Returns whether that was all: `false`
/// if they were more than a file of that size can have, or than is looked at.
///
/// A damaged table gives what could be read. Thread-local, file and section symbols and those without a name are left
/// out.
pub(crate) fn symbols<'d, R: ReadRef<'d>>(data: R, each: &mut dyn FnMut(RawSymbol<'_>)) -> bool {
    let Some(sections) = Sections::of(data) else { return true };
    let whole = match sections.word() {
        8 => symbols_of::<FileHeader64<LittleEndian>, R>(&sections, data, each),
        _ => symbols_of::<FileHeader32<LittleEndian>, R>(&sections, data, each),
    };
    whole.is_some()
}

fn is_symbols(s: &Header) -> bool {
    [elf::SHT_SYMTAB.0, elf::SHT_DYNSYM.0].contains(&s.kind)
}

/// `None` where the budget came to its end.
fn symbols_of<'d, E: FileHeader<Endian = LittleEndian>, R: ReadRef<'d>>(
    sections: &Sections,
    data: R,
    each: &mut dyn FnMut(RawSymbol<'_>),
) -> Option<()> {
    let le = LittleEndian;
    let (mut left, mut whole) = (Budget::of(data), Some(()));
    for s in sections.iter().filter(|s| is_symbols(s)) {
        let Some((at, bytes)) = s.range() else { continue };
        let count = usize::try_from(bytes).unwrap_or(usize::MAX) / size_of::<E::Sym>();
        // More than are looked at are not read either.
        if count > MAX_ENTRIES {
            whole = None;
            continue;
        }
        let strings = sections.get(s.link).and_then(Header::range);
        let Some((offset, size)) = strings.filter(|&(_, size)| size <= MAX_TABLE) else { continue };
        left.take(bytes)?;
        left.take(size)?;
        let Ok(table) = data.read_slice_at::<E::Sym>(at, count) else { continue };
        let Ok(strings) = data.read_bytes_at(offset, size) else { continue };
        for sym in table {
            left.entries = left.entries.checked_sub(1)?;
            let kind = sym.st_type();
            let code = matches!(kind, elf::STT_FUNC | elf::STT_GNU_IFUNC | elf::STT_NOTYPE);
            if !code || sym.st_shndx(le) == elf::SHN_UNDEF || sym.st_value(le).into() == 0 {
                continue;
            }
            let name = strings.get(sym.st_name(le) as usize..).and_then(text);
            left.names = left.names.checked_sub(name.map_or(MAX_NAME, <[u8]>::len))?;
            let Some(name) = name.filter(|name| !name.is_empty()) else { continue };
            let binding = match sym.st_bind() {
                elf::STB_LOCAL => 0,
                elf::STB_WEAK => 1,
                _ => 2,
            };
            each(RawSymbol {
                addr: sym.st_value(le).into(),
                size: sym.st_size(le).into(),
                name,
                binding,
                function: kind != elf::STT_NOTYPE,
            });
        }
    }
    whole
}

/// Addresses of words that the loader relocates by the load address alone, and what they hold relative to it.
pub(crate) type Relocations = Vec<(u64, u64)>;

/// The `R_X86_64_RELATIVE` entries of all `SHT_RELA` sections for words in `range`, and whether these are all: `false` if
/// there are more than a file of that size can have, or than is looked at. None for ELF32. (`SHT_RELR` needs no table:
/// the words hold their values already.)
pub(crate) fn relocations(file: &File, range: Range<u64>) -> (Relocations, bool) {
    let mut out = Vec::new();
    let whole = relocations_of(file, range, &mut out).is_some();
    (out, whole)
}

/// `None` where the budget came to its end.
fn relocations_of(file: &File, range: Range<u64>, out: &mut Relocations) -> Option<()> {
    const RELATIVE: u64 = 8;
    let cache = ReadCache::new(file);
    let Some(sections) = Sections::of(&cache).filter(|s| s.word() == 8) else { return Some(()) };
    let mut left = Budget::of(&cache);
    for s in sections.iter().filter(|s| s.kind == elf::SHT_RELA.0) {
        let Some((offset, size)) = s.range().filter(|&(_, size)| size <= MAX_UNWIND) else { continue };
        left.take(size)?;
        let Ok(bytes) = (&cache).read_bytes_at(offset, size) else { continue };
        let (rows, _) = bytes.as_chunks::<24>();
        left.entries = left.entries.checked_sub(rows.len())?;
        let word = |b: &[u8]| b.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        let field = |row: &[u8; 24], i: usize| row.get(i * 8..).map_or(0, word);
        let wanted = |row: &&[u8; 24]| field(row, 1) & 0xffff_ffff == RELATIVE && range.contains(&field(row, 0));
        out.extend(rows.iter().filter(wanted).map(|row| (field(row, 0), field(row, 2))));
    }
    Some(())
}

/// A section of the file, decompressed; `None` when there is none, or it is damaged or larger than `max` bytes.
pub(crate) fn section(file: &File, name: &str, max: u64) -> Option<Section> {
    let cache = ReadCache::new(file);
    let sections = Sections::of(&cache)?;
    let s = sections.find_packed(name)?;
    Some(Section { addr: s.addr, bytes: sections.content(s, &cache, max)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(segments: &[(u64, u64, u64, bool)]) -> Image {
        let segments = segments
            .iter()
            .map(|&(offset, vaddr, size, executable)| Segment { offset, vaddr, size, executable })
            .collect();
        Image { segments, ..Image::default() }
    }

    #[test]
    fn addresses_follow_the_segment_not_the_file_offset() {
        // Linked at 0x401000 though the segment lies at 0xe40 of the file, as lld does it.
        let i = image(&[(0, 0x400000, 0xe00, false), (0xe40, 0x401e40, 0x500, true)]);
        let bias = i.bias(0x40_1000, 0).map(|b| 0x40_1100u64.wrapping_add(b));
        assert_eq!(bias, Some(0x40_1100));
        let pie = i.bias(0x5555_0000_1000, 0).map(|b| 0x5555_0000_1e50u64.wrapping_add(b));
        assert_eq!(pie, Some(0x40_1e50));
    }

    #[test]
    fn a_mapping_outside_every_segment_has_no_address() {
        assert_eq!(image(&[(0, 0, 0x1000, true)]).bias(0x1000, 0x5000), None);
        assert_eq!(image(&[]).bias(0, 0), None);
        let hostile = image(&[(u64::MAX, u64::MAX, u64::MAX, true)]);
        let _ = hostile.bias(u64::MAX, u64::MAX);
    }

    #[test]
    fn what_is_not_elf_is_an_error() {
        assert!(Image::of_bytes(b"").is_err());
        assert!(Image::of_bytes(b"#!/bin/sh\nexit\n\n\n").is_err());
        assert!(Image::of_bytes(b"\x7fELF\x02\x01\x01").is_err());
        symbols(&b"\x7fELF\x02\x01\x01\0\0\0"[..], &mut |_| panic!("a symbol of nothing"));
    }

    /// A file with `copies` headers over one table, `entry` bytes a row, of this kind; the text is `f`.
    fn copied(copies: u16, kind: u32, rows: &[u8], entry: u64) -> Vec<u8> {
        let mut out = b"\x7fELF\x02\x01\x01".to_vec();
        out.resize(64, 0);
        let (text, table) = (64u64, 72u64);
        out.extend(b"\0f\0\0\0\0\0\0");
        out.extend(rows);
        let at = out.len() as u64;
        // sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size, sh_link, sh_info, sh_addralign, sh_entsize
        let mut header = |kind: u32, offset: u64, size: u64, entry: u64| {
            out.extend(u64::from(kind).wrapping_shl(32).to_le_bytes());
            [0, 0, offset, size, 1, 8, entry].iter().for_each(|n| out.extend(n.to_le_bytes()));
        };
        header(0, 0, 0, 0);
        header(3, text, 3, 0);
        (0..copies).for_each(|_| header(kind, table, rows.len() as u64, entry));
        out[40..48].copy_from_slice(&at.to_le_bytes());
        for (i, n) in [(16, 3u16), (18, 62), (20, 1), (52, 64), (54, 56), (58, 64), (60, copies + 2), (62, 1)] {
            out[i..i + 2].copy_from_slice(&n.to_le_bytes());
        }
        out
    }

    /// Each header by itself is within all limits.
    #[test]
    fn headers_that_cover_the_same_bytes_do_not_make_a_file_larger() {
        use std::io::Write;
        let symbol: Vec<u8> = [0x0001_0002_0000_0001u64, 0x1000, 16].iter().flat_map(|n| n.to_le_bytes()).collect();
        let rela: Vec<u8> = [0x2000u64, 8, 0x1000].iter().flat_map(|n| n.to_le_bytes()).collect();
        for (copies, whole) in [(1, true), (3000, false)] {
            let mut n = 0;
            let file = copied(copies, 2, &symbol.repeat(1000), 24);
            let all = symbols(&file[..], &mut |s| n += usize::from(s.name == b"f" && s.addr == 0x1000));
            assert_eq!(all, whole);
            assert!(if whole { n == 1000 } else { n < 20_000 }, "{n}");
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&copied(copies, 4, &rela.repeat(1000), 24)).unwrap();
            let (found, all) = relocations(&file, 0..u64::MAX);
            assert_eq!(all, whole);
            assert!(if whole { found.len() == 1000 } else { found.len() < 20_000 }, "{}", found.len());
            assert_eq!(found.first(), Some(&(0x2000, 0x1000)));
            assert!(relocations(&file, 0..0x2000).0.is_empty());
        }
    }

    #[test]
    fn a_name_is_not_looked_for_further_than_names_are_long() {
        assert_eq!(text(b"f\0g\0"), Some(&b"f"[..]));
        assert_eq!(text(&[[b'x'; MAX_NAME].as_slice(), b"\0"].concat()).map(<[u8]>::len), Some(MAX_NAME));
        assert_eq!(text(&[[b'x'; MAX_NAME + 1].as_slice(), b"\0"].concat()), None);
        assert_eq!(text(b"no end"), None);
    }
}

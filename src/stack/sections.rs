//! The sections of an ELF file: where they lie and what they hold.
//!
//! Only what is asked for is read. What one section claims, a symbol table of gigabytes, costs none of the others.

use super::elf::MAX_NOTES;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, NoteIterator, SectionHeader};
use object::{CompressedFileRange, CompressionFormat, LittleEndian, ReadRef};

/// Real files have some dozens; `-ffunction-sections` leaves thousands only in object files, which nobody maps.
const MAX_SECTIONS: usize = 1 << 16;
/// Names of sections that begin further behind are not known, in bytes.
const MAX_NAMES: u64 = 16 << 20;

/// A section header (elf(5), "Section header").
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// Where its name begins among the names.
    name: usize,
    /// `SHT_…`.
    pub(crate) kind: u32,
    flags: u64,
    /// Where it is linked at.
    pub(crate) addr: u64,
    offset: u64,
    /// In bytes, as the header claims.
    pub(crate) size: u64,
    /// The number of another section, which depends on the kind: a symbol table's names.
    pub(crate) link: usize,
    align: u64,
}

impl Header {
    /// Where its bytes are in the file, and how many; `None` where it has none there (`SHT_NOBITS`).
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        (self.kind != elf::SHT_NOBITS.0).then_some((self.offset, self.size))
    }
}

/// All section headers of a file, with their names.
#[derive(Default)]
pub(crate) struct Sections {
    /// 8 for ELF64, 4 for ELF32.
    word: u8,
    headers: Vec<Header>,
    names: Box<[u8]>,
}

impl Sections {
    /// `None` where the file is no ELF of this byte order, or has no sections, or more than any has.
    pub(crate) fn of<'d, R: ReadRef<'d>>(data: R) -> Option<Self> {
        match data.read_bytes_at(0, 6).ok()? {
            [0x7f, b'E', b'L', b'F', 2, 1] => Self::read::<FileHeader64<LittleEndian>, R>(data, 8),
            [0x7f, b'E', b'L', b'F', 1, 1] => Self::read::<FileHeader32<LittleEndian>, R>(data, 4),
            _ => None,
        }
    }

    fn read<'d, E: FileHeader<Endian = LittleEndian>, R: ReadRef<'d>>(data: R, word: u8) -> Option<Self> {
        let le = LittleEndian;
        let file = E::parse(data).ok()?;
        let headers = file.section_headers(le, data).ok()?;
        (headers.len() <= MAX_SECTIONS).then_some(())?;
        let (offset, size) = headers.get(file.section_strings_index(le, data).ok()?.0)?.file_range(le)?;
        let names = data.read_bytes_at(offset, size.min(MAX_NAMES)).ok()?.into();
        let header = |s: &E::SectionHeader| Header {
            name: s.sh_name(le) as usize,
            kind: s.sh_type(le).0,
            flags: s.sh_flags(le).0,
            addr: s.sh_addr(le).into(),
            offset: s.sh_offset(le).into(),
            size: s.sh_size(le).into(),
            link: s.sh_link(le) as usize,
            align: s.sh_addralign(le).into(),
        };
        Some(Self { word, headers: headers.iter().map(header).collect(), names })
    }

    /// The size of an address in the file, in bytes.
    pub(crate) fn word(&self) -> u8 {
        self.word
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Header> {
        self.headers.iter()
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Header> {
        self.headers.get(number)
    }

    fn is_called(&self, s: &Header, name: &[u8]) -> bool {
        let rest = self.names.get(s.name..).and_then(|n| n.strip_prefix(name));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<&Header> {
        self.headers.iter().find(|s| self.is_called(s, name))
    }

    /// As [`Sections::find`], or, for `.debug_NAME`, the section `.zdebug_NAME` that older tools compressed it into.
    pub(crate) fn find_packed(&self, name: &str) -> Option<&Header> {
        let old = || self.find(format!(".z{}", name.strip_prefix('.').filter(|n| n.starts_with("debug_"))?).as_bytes());
        self.find(name.as_bytes()).or_else(old)
    }

    /// Where the bytes of a section are, how they are compressed, and to how many they unpack. `None` for what is no section
    /// of the file, is damaged, or is compressed in a way that nobody knows.
    pub(crate) fn packed<'d, R: ReadRef<'d>>(&self, s: &Header, data: R) -> Option<CompressedFileRange> {
        let le = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
        let be = |bytes: &[u8]| bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
        let (offset, size) = s.range()?;
        let inside = |header: u64, format, unpacked| {
            let (offset, compressed_size) = (offset.checked_add(header)?, size.checked_sub(header)?);
            Some(CompressedFileRange { format, offset, compressed_size, uncompressed_size: unpacked })
        };
        if s.flags & elf::SHF_COMPRESSED.0 != 0 {
            // Elf64_Chdr: type, a reserved word, size, alignment. Elf32_Chdr: type, size, alignment, all of four bytes.
            let (length, from, to) = if self.word == 8 { (24, 8, 16) } else { (12, 4, 8) };
            let header = data.read_bytes_at(offset, length).ok()?;
            let format = match le(header.get(..4)?) {
                1 => CompressionFormat::Zlib,
                2 => CompressionFormat::Zstandard,
                _ => return None,
            };
            return inside(length, format, le(header.get(from..to)?));
        }
        if self.names.get(s.name..).is_some_and(|n| n.starts_with(b".zdebug_")) {
            // "ZLIB", and the size in eight bytes, the highest first.
            let header = data.read_bytes_at(offset, 12).ok()?;
            header.starts_with(b"ZLIB").then_some(())?;
            return inside(12, CompressionFormat::Zlib, be(header.get(4..)?));
        }
        Some(CompressedFileRange::none(s.range()))
    }

    /// What a section holds, unpacked; `None` where it is damaged or has more than `max` bytes, before or after.
    pub(crate) fn content<'d, R: ReadRef<'d>>(&self, s: &Header, data: R, max: u64) -> Option<Box<[u8]>> {
        let range = self.packed(s, data)?;
        (range.uncompressed_size <= max && range.compressed_size <= max).then_some(())?;
        Some(range.data(data).ok()?.decompress().ok()?.into())
    }

    /// What `.gnu_debuglink` says (GDB manual, "Separate Debug Files"): a name, and the checksum of the file meant.
    pub(crate) fn debug_link<'d, R: ReadRef<'d>>(&self, data: R) -> Option<(Vec<u8>, u32)> {
        let bytes = self.content(self.find(b".gnu_debuglink")?, data, MAX_NOTES)?;
        let name = bytes.split(|&b| b == 0).next()?;
        let crc = bytes.get((name.len() + 1).next_multiple_of(4)..)?.first_chunk()?;
        Some((name.to_vec(), u32::from_le_bytes(*crc)))
    }

    /// What `.gnu_debugaltlink` says (dwz(1)): a name, and the build id of the file meant.
    pub(crate) fn alternate_link<'d, R: ReadRef<'d>>(&self, data: R) -> Option<(Vec<u8>, Vec<u8>)> {
        let bytes = self.content(self.find(b".gnu_debugaltlink")?, data, MAX_NOTES)?;
        let end = bytes.iter().position(|&b| b == 0)?;
        Some((bytes.get(..end)?.to_vec(), bytes.get(end + 1..)?.to_vec()))
    }

    /// The GNU build id in the sections of notes.
    pub(crate) fn build_id<'d, R: ReadRef<'d>>(&self, data: R) -> Option<Vec<u8>> {
        let le = LittleEndian;
        self.iter().filter(|s| s.kind == elf::SHT_NOTE.0).find_map(|s| {
            let bytes = self.content(s, data, MAX_NOTES)?;
            let mut notes = NoteIterator::<FileHeader64<LittleEndian>>::new(le, s.align, &bytes).ok()?;
            let mut note = || notes.next().ok().flatten();
            while let Some(note) = note() {
                if note.name() == elf::ELF_NOTE_GNU && note.n_type(le) == elf::NT_GNU_BUILD_ID {
                    return Some(note.desc().to_vec());
                }
            }
            None
        })
    }
}

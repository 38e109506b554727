//! Finding the interpreter in a process: the module that defines `_PyRuntime`, and which version it is.

use crate::base::AddressSpace;
use crate::stack::elf::Limited;
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, ReadCache, ReadRef};
use std::collections::HashMap;
use std::fs::File;

/// What an ELF file says about the interpreter in it. Addresses are the file's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Module {
    runtime: u64,
    minor: Option<u8>,
    /// Loadable segments: file offset, size in the file, address.
    loads: Vec<(u64, u64, u64)>,
}

/// The interpreter of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Runtime {
    /// Where `_PyRuntime` is in the process.
    pub address: u64,
    /// The 12 of 3.12; `None` leaves it to be found out.
    pub minor: Option<u8>,
}

/// The address of `_PyRuntime` in an ELF file, as the file counts.
///
/// From the dynamic symbols (a stripped interpreter still exports it to its extension modules), else the full ones,
/// else the section that 3.13 and later keep it in.
pub fn runtime_symbol(elf: &[u8]) -> Option<u64> {
    module(elf, true).map(|m| m.runtime)
}

/// `thorough`: the full symbols are worth a search, which takes long in a large program.
fn module<'a, R: ReadRef<'a>>(data: R, thorough: bool) -> Option<Module> {
    let elf = ElfFile64::<LittleEndian, R>::parse(data).ok()?;
    let [runtime, version] = exported(&elf, [b"_PyRuntime", b"Py_Version"]).unwrap_or_default();
    let runtime = runtime.or_else(|| elf.section_by_name(".PyRuntime").map(|s| s.address())).or_else(|| {
        let named = |s: &object::read::elf::ElfSymbol64<'a, '_, LittleEndian, R>| s.name_bytes() == Ok(b"_PyRuntime");
        thorough.then(|| elf.symbols().find(named)).flatten().map(|s| s.address())
    })?;
    let endian = elf.endian();
    let headers = elf.elf_header().program_headers(endian, data).ok()?;
    let loads: Vec<_> = headers
        .iter()
        .filter(|p| p.p_type(endian) == object::elf::PT_LOAD)
        .map(|p| (p.p_offset(endian), p.p_filesz(endian), p.p_vaddr(endian)))
        .collect();
    // `const unsigned long Py_Version` (3.11): 0x030b07f0 is 3.11.7 final. It is in read-only data, so in the file.
    let minor = version.and_then(|v| {
        let &(off, _, vaddr) = loads.iter().find(|&&(_, size, vaddr)| v >= vaddr && v - vaddr < size)?;
        let word = data.read_bytes_at(off.checked_add(v - vaddr)?, 8).ok()?;
        let hex = u64::from_le_bytes(word.try_into().ok()?);
        (hex >> 24 == 3).then_some((hex >> 16) as u8)
    });
    Some(Module { runtime, minor, loads })
}

/// The addresses of exported symbols.
///
/// An interpreter exports some 2,000, and through `object` each name is a lookup in the file's cache: two tables read
/// whole and searched here take a tenth of that time.
fn exported<'a, R: ReadRef<'a>>(elf: &ElfFile64<'a, LittleEndian, R>, names: [&[u8]; 2]) -> Option<[Option<u64>; 2]> {
    let table = elf.section_by_name(".dynsym")?.data().ok()?;
    let strings = elf.section_by_name(".dynstr")?.data().ok()?;
    let mut found = [None; 2];
    for symbol in table.chunks_exact(24) {
        // Elf64_Sym: name, info, other, section (0: not defined here), value, size.
        let &[n0, n1, n2, n3, _, _, s0, s1, v0, v1, v2, v3, v4, v5, v6, v7, ..] = symbol else { continue };
        let name = strings.get(u32::from_le_bytes([n0, n1, n2, n3]) as usize..).unwrap_or_default();
        for (want, slot) in names.iter().zip(&mut found) {
            if [s0, s1] != [0, 0] && name.strip_prefix(*want).and_then(|rest| rest.first()) == Some(&0) {
                *slot = Some(u64::from_le_bytes([v0, v1, v2, v3, v4, v5, v6, v7]));
            }
        }
    }
    Some(found)
}

/// A line of `/proc/PID/maps`.
struct Mapping<'a> {
    start: u64,
    end: u64,
    offset: u64,
    dev: (u32, u32),
    inode: u64,
    path: &'a [u8],
}

fn mapping(line: &[u8]) -> Option<Mapping<'_>> {
    let mut rest = line;
    let mut field = || {
        let skip = rest.iter().position(|&b| b != b' ')?;
        let from = rest.get(skip..)?;
        let n = from.iter().position(|&b| b == b' ').unwrap_or(from.len());
        let (word, tail) = from.split_at_checked(n)?;
        rest = tail;
        std::str::from_utf8(word).ok()
    };
    let (start, end) = field()?.split_once('-')?;
    field()?;
    let offset = u64::from_str_radix(field()?, 16).ok()?;
    let (major, minor) = field()?.split_once(':')?;
    let inode = field()?.parse().ok()?;
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        offset,
        dev: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        path: rest.trim_ascii_start(),
    })
}

/// The minor version in a name like `libpython3.9.so.1.0` or `python3.10`.
fn minor_in(path: &[u8]) -> Option<u8> {
    let name = path.rsplit(|&b| b == b'/').next()?;
    let at = name.windows(8).position(|w| w == b"python3.")? + 8;
    let digits: Vec<u8> = name.get(at..)?.iter().copied().take_while(u8::is_ascii_digit).take(3).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

/// Whether a file of this name may be an interpreter; others are not opened.
fn candidate(path: &[u8]) -> bool {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
    [&b"python"[..], b"libpython", b"pypy"].iter().any(|p| name.starts_with(p))
}

/// Files of one process that are looked at.
const FILES: usize = 512;

type Key = ((u32, u32), u64);

/// Interpreters' files, parsed once for all processes.
#[derive(Default, Debug)]
pub(super) struct Files(HashMap<Key, Option<Module>>);

/// Why no interpreter was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    /// No file of the process looks like one.
    Absent,
    /// One looks like it, but does not say where `_PyRuntime` is.
    Hidden,
}

impl Files {
    /// The interpreter of a process, from its mappings.
    ///
    /// The file is known by device and inode: an interpreter that is replaced while fdwatch watches is another file.
    pub(super) fn find(&mut self, space: &dyn AddressSpace) -> Result<Runtime, Missing> {
        let maps = space.maps().map_err(|_| Missing::Absent)?;
        let mut missing = Missing::Absent;
        // libpython first: an executable that links to it exports nothing (and comes earlier in the maps).
        // Last all else that has code: a program may have the interpreter built in, under any name, and exports it to
        // its extension modules then.
        let mut found: Vec<Mapping<'_>> = Vec::new();
        let mut others: Vec<Mapping<'_>> = Vec::new();
        for m in maps.split(|&b| b == b'\n').filter(|l| l.contains(&b'/')).filter_map(mapping) {
            let list = if candidate(m.path) { &mut found } else { &mut others };
            if m.inode != 0 && list.len() < FILES && !list.iter().any(|f| (f.dev, f.inode) == (m.dev, m.inode)) {
                list.push(m);
            }
        }
        found.sort_by_key(|m| !m.path.rsplit(|&b| b == b'/').next().unwrap_or_default().starts_with(b"libpython"));
        let named = found.len();
        for (i, m) in found.iter().chain(&others).enumerate() {
            if i < named {
                missing = Missing::Hidden;
            }
            let parsed = self.0.entry((m.dev, m.inode)).or_insert_with(|| {
                let file: File = space.open_mapped(m.start, m.end, m.path, m.dev, m.inode).ok()?;
                module(Limited(&ReadCache::new(file)), i < named)
            });
            let Some(module) = parsed else { continue };
            // The address of a segment in the file belongs to its first mapping, rounded down to the page.
            let load = module
                .loads
                .iter()
                .find(|&&(off, size, _)| off & !0xfff <= m.offset && m.offset < off.saturating_add(size));
            if let Some(&(off, _, vaddr)) = load {
                let bias = m.start.wrapping_sub(m.offset).wrapping_sub(vaddr.wrapping_sub(off));
                return Ok(Runtime {
                    address: module.runtime.wrapping_add(bias),
                    minor: module.minor.or_else(|| minor_in(m.path)),
                });
            }
        }
        Err(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_maps_is_taken_apart() {
        let m = mapping(b"7f00-7f10 r-xp 00001000 fe:01 42    /usr/lib/lib python3.9.so").unwrap();
        assert_eq!((m.start, m.end, m.offset, m.dev, m.inode), (0x7f00, 0x7f10, 0x1000, (0xfe, 1), 42));
        assert_eq!(m.path, b"/usr/lib/lib python3.9.so");
        assert!(mapping(b"7f00 r-xp").is_none());
    }

    #[test]
    fn the_version_is_read_from_the_file_name() {
        for (path, want) in [
            (&b"/usr/lib/libpython3.9.so.1.0"[..], Some(9)),
            (b"/usr/bin/python3.10", Some(10)),
            (b"/usr/bin/python3", None),
            (b"/opt/python3.9/bin/tool", None),
        ] {
            assert_eq!(minor_in(path), want);
        }
    }

    #[test]
    fn bytes_that_are_no_elf_have_no_runtime() {
        assert_eq!(runtime_symbol(b"\x7fELF"), None);
    }
}

//! Finalizers of CPython's own types, found without symbols.
//!
//! A distribution's interpreter has no `.symtab`, and link-time optimisation inlines what it exports: in Debian's
//! Python 3.11 nothing between `close` and the evaluation loop has a telling name. But each type names itself: a static
//! `PyTypeObject` (`Include/cpython/object.h`) or a `PyType_Spec` (`Include/object.h`) holds a pointer to a string such
//! as `_io.FileIO`, and next to it pointers to its deallocator and finalizer. Those are ranges that cannot be mistaken.

use super::cause::{Match, Role, Row};
use super::elf::{Relocations, Segment};
use super::pyparts;
use rustc_hash::FxHashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Types whose end closes a descriptor.
const TYPES: [&[u8]; 11] = [
    b"_io._IOBase",
    b"_io.FileIO",
    b"_io.TextIOWrapper",
    b"_io.BufferedReader",
    b"_io.BufferedWriter",
    b"_io.BufferedRandom",
    b"_io.BufferedRWPair",
    b"_socket.socket",
    b"select.epoll",
    b"posix.ScandirIterator",
    b"mmap.mmap",
];

const fn row(name: &'static str, role: Role) -> Row {
    Row { runtime: "CPython", name, role, by: Match::Exact }
}

static DEALLOC: &Row = &row("tp_dealloc", Role::Count);
static FINALIZE: &Row = &row("tp_finalize", Role::Finalizer);

/// Every row of this file: the slots of types, and functions by the names that Python knows them by.
pub(crate) static ROWS: &[Row] = &[
    row("tp_dealloc", Role::Count),
    row("tp_finalize", Role::Finalizer),
    row("collect", Role::Collector),
    row("__exit__", Role::With),
];

/// Bytes of one file that are searched.
const MAX_SEARCHED: u64 = 64 << 20;
/// Slots of a `PyType_Spec`; there are about 85 kinds.
const MAX_SLOTS: u64 = 128;

// Distances from the pointer to a type's name, in bytes, on x86-64.
/// `PyTypeObject`: from `tp_name` to `tp_dealloc` and `tp_finalize`; unchanged since 3.8.
const STATIC_DEALLOC: u64 = 24;
const STATIC_FINALIZE: u64 = 368;
/// `PyType_Spec`: from `name` to `slots`.
const SPEC_SLOTS: u64 = 24;
/// `Include/typeslots.h`; part of the stable ABI.
const PY_TP_DEALLOC: u64 = 52;
const PY_TP_FINALIZE: u64 = 80;

/// A file's bytes as the loader will place them, without the code.
struct Data {
    segments: Vec<(u64, Vec<u8>, bool)>,
    code: Vec<(u64, u64)>,
    relocated: FxHashMap<u64, u64>,
}

impl Data {
    fn bytes(&self, addr: u64) -> Option<&[u8]> {
        self.segments.iter().find_map(|(start, bytes, _)| {
            let at = usize::try_from(addr.checked_sub(*start)?).ok()?;
            bytes.get(at..).filter(|rest| !rest.is_empty())
        })
    }

    /// The pointer that the word at `addr` will hold.
    fn word(&self, addr: u64) -> Option<u64> {
        match self.relocated.get(&addr) {
            Some(&value) => Some(value),
            None => Some(u64::from_le_bytes(*self.bytes(addr)?.first_chunk()?)),
        }
    }

    fn function(&self, addr: u64) -> Option<u64> {
        let value = self.word(addr)?;
        self.code.iter().any(|&(start, end)| (start..end).contains(&value)).then_some(value)
    }
}

/// The first addresses of telling functions in a file that is or extends a Python interpreter.
pub(crate) fn functions(file: &File, segments: &[Segment], relocations: Relocations) -> Vec<(u64, &'static Row)> {
    let mut data = Data { segments: Vec::new(), code: Vec::new(), relocated: relocations.into_iter().collect() };
    let mut budget = MAX_SEARCHED;
    let separate = segments.iter().filter(|s| !s.executable).count() >= 2;
    for s in segments {
        if s.executable {
            data.code.push((s.vaddr, s.vaddr.saturating_add(s.size)));
        }
        // Linkers have long kept code apart; before that the strings lay in the executable segment.
        if s.size > budget || (s.executable && separate) {
            continue;
        }
        budget -= s.size;
        let mut bytes = vec![0; s.size as usize];
        if file.read_exact_at(&mut bytes, s.offset).is_ok() {
            data.segments.push((s.vaddr, bytes, s.executable));
        }
    }
    let mut out = pyparts::functions(file, segments);
    for (&at, &value) in &data.relocated {
        inspect(&data, at, value, &mut out);
    }
    for (start, bytes, executable) in &data.segments {
        if *executable {
            continue;
        }
        let skip = start.wrapping_neg() as usize & 7;
        let (words, _) = bytes.get(skip..).unwrap_or_default().as_chunks::<8>();
        for (at, word) in (start.wrapping_add(skip as u64)..).step_by(8).zip(words) {
            inspect(&data, at, u64::from_le_bytes(*word), &mut out);
        }
    }
    out
}

/// If `value`, the pointer at `at`, points to a name we know, adds what stands next to it.
fn inspect(data: &Data, at: u64, value: u64, out: &mut Vec<(u64, &'static Row)>) {
    if value < 8 {
        return;
    }
    let Some(text) = data.bytes(value).filter(|text| text.first().is_some_and(|b| b"_cmps".contains(b))) else {
        return;
    };
    let is = |name: &[u8]| text.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0));
    // PyMethodDef: ml_name, ml_meth
    let methods = ROWS.iter().filter(|r| !r.name.starts_with("tp_"));
    if let Some(row) = methods.into_iter().find(|r| is(r.name.as_bytes())) {
        out.extend(data.function(at.wrapping_add(8)).map(|f| (f, row)));
    }
    if !TYPES.iter().any(|name| is(name)) {
        return;
    }
    if let Some(dealloc) = data.function(at.wrapping_add(STATIC_DEALLOC)) {
        out.push((dealloc, DEALLOC));
        out.extend(data.function(at.wrapping_add(STATIC_FINALIZE)).map(|f| (f, FINALIZE)));
        return;
    }
    let Some(slots) = data.word(at.wrapping_add(SPEC_SLOTS)) else { return };
    for i in 0..MAX_SLOTS {
        let slot = slots.wrapping_add(i * 16);
        let row = match data.word(slot) {
            None | Some(0) => return,
            Some(PY_TP_DEALLOC) => DEALLOC,
            Some(PY_TP_FINALIZE) => FINALIZE,
            Some(_) => continue,
        };
        out.extend(data.function(slot.wrapping_add(8)).map(|f| (f, row)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of one data segment at 0x1000 and a code segment at 0x10000 that holds nothing.
    fn data(words: &[(u64, u64)]) -> Data {
        let mut bytes = vec![0; 0x1000];
        bytes[0x800..0x80b].copy_from_slice(b"_io.FileIO\0");
        bytes[0x900..0x908].copy_from_slice(b"collect\0");
        for &(at, value) in words {
            let at = (at - 0x1000) as usize;
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        Data { segments: vec![(0x1000, bytes, false)], code: vec![(0x10000, 0x20000)], relocated: FxHashMap::default() }
    }

    fn found(data: &Data, at: u64) -> Vec<(u64, &'static str)> {
        let mut out = Vec::new();
        inspect(data, at, data.word(at).unwrap(), &mut out);
        out.iter().map(|(f, row)| (*f, row.name)).collect()
    }

    #[test]
    fn a_static_type_names_its_deallocator_and_finalizer() {
        let d = data(&[(0x1000, 0x1800), (0x1018, 0x10010), (0x1000 + 368, 0x10020)]);
        assert_eq!(found(&d, 0x1000), [(0x10010, "tp_dealloc"), (0x10020, "tp_finalize")]);
    }

    #[test]
    fn a_spec_names_them_in_its_slots() {
        let d = data(&[(0x1000, 0x1800), (0x1018, 0x1100), (0x1100, 80), (0x1108, 0x10020), (0x1110, 7)]);
        assert_eq!(found(&d, 0x1000), [(0x10020, "tp_finalize")]);
    }

    #[test]
    fn a_method_table_names_the_collector() {
        let d = data(&[(0x1000, 0x1900), (0x1008, 0x10030)]);
        assert_eq!(found(&d, 0x1000), [(0x10030, "collect")]);
    }

    #[test]
    fn pointers_into_nothing_are_passed_over() {
        let d = data(&[(0x1000, 0x1800), (0x1018, 0xffff_ffff_ffff_fff0), (0x1ff8, 0x1800)]);
        assert!(found(&d, 0x1000).is_empty());
        assert!(found(&d, 0x1ff8).is_empty());
    }
}

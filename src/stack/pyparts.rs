//! Parts of CPython's own functions that no symbol names.
//!
//! A distribution's interpreter has no `.symtab`. What is exported has a name, but two things that matter have not:
//!
//! - The compiler moves code that it takes for rare out of a function, to a place of its own (GCC's
//!   `-freorder-blocks-and-partition`). Of the evaluation loop that can be nearly all: Debian's 3.14.10 keeps 1 kB at
//!   the symbol and has 84 kB elsewhere. Nothing but a jump leads there, and jumps lead back into the middle of the
//!   loop: that is the proof.
//! - `Py_FinalizeEx` is from 3.13 on a call of a static function and nothing else. `Py_RunMain` calls that one directly.
//!
//! Jumps are searched for byte by byte, without telling where an instruction begins; so single hits prove nothing.

use super::cause::{Match, Role, Row};
use super::elf::{self, Segment};
use super::sections::Sections;
use object::ReadCache;
use std::fs::File;
use std::os::unix::fs::FileExt;

static LOOP: Row = Row { runtime: "CPython", name: "_PyEval_EvalFrameDefault", role: Role::Code, by: Match::Exact };
static SHUTDOWN: Row = Row { runtime: "CPython", name: "Py_FinalizeEx", role: Role::Shutdown, by: Match::Exact };

/// The largest function that is searched, in bytes; the loop has some 100 kB.
const MAX_FUNCTION: u64 = 1 << 20;
/// How far the targets of one function's jumps may lie apart to belong to one part.
const MAX_PART: u64 = 1 << 18;
/// Jumps to the part and back that prove it.
const OUT: usize = 4;
const BACK: usize = 2;
/// The least code that an interpreter has, in bytes; 3.8 to 3.14 have 2 to 4 MB.
const INTERPRETER: u64 = 1 << 20;
/// The size of a function that only passes a call on, in bytes.
const THIN: u64 = 48;

/// The code of a file.
struct Code<'a> {
    file: &'a File,
    segments: Vec<&'a Segment>,
}

impl Code<'_> {
    fn bytes(&self, addr: u64, size: u64) -> Option<Vec<u8>> {
        let s =
            self.segments.iter().find(|s| addr >= s.vaddr && addr.checked_add(size).is_some_and(|e| e <= end(s)))?;
        let mut out = vec![0; usize::try_from(size.min(MAX_FUNCTION)).ok()?];
        self.file.read_exact_at(&mut out, s.offset.checked_add(addr - s.vaddr)?).ok()?;
        Some(out)
    }

    fn has(&self, addr: u64) -> bool {
        self.segments.iter().any(|s| (s.vaddr..end(s)).contains(&addr))
    }
}

fn end(s: &Segment) -> u64 {
    s.vaddr.saturating_add(s.size)
}

/// Where the jumps in `bytes`, which lie at `addr`, lead to: `jmp rel32`, `jcc rel32`, and with `calls` `call rel32`
/// (Intel SDM, volume 2).
fn targets(addr: u64, bytes: &[u8], calls: bool) -> impl Iterator<Item = u64> {
    bytes.windows(5).enumerate().filter_map(move |(i, window)| {
        let &[op, a, b, c, d] = window else { return None };
        let conditional = i.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&0x0f) && op & 0xf0 == 0x80;
        let jump = op == 0xe9 || conditional || (calls && op == 0xe8);
        let next = addr.wrapping_add(i as u64 + 5);
        jump.then(|| next.wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d]))))
    })
}

/// An address in each part that was recognised. With symbols there is nothing to be found out, and they are many.
pub(super) fn functions(file: &File, segments: &[Segment]) -> Vec<(u64, &'static Row)> {
    // An extension module is not worth opening once more.
    if !segments.iter().any(|s| s.executable && s.size >= INTERPRETER) {
        return Vec::new();
    }
    let cache = ReadCache::new(file);
    if Sections::of(&cache).is_some_and(|all| all.find(b".symtab").is_some()) {
        return Vec::new();
    }
    let code = Code { file, segments: segments.iter().filter(|s| s.executable).collect() };
    let (mut eval, mut finalize, mut parted) = (None, None, false);
    elf::symbols(&cache, &mut |s| match s.name {
        b"_PyEval_EvalFrameDefault" => eval = Some((s.addr, s.size)),
        b"Py_FinalizeEx" => finalize = Some((s.addr, s.size)),
        name => parted |= name.starts_with(b"_PyEval_EvalFrameDefault."),
    });
    let mut out = Vec::new();
    if let (Some((addr, size)), false) = (eval, parted) {
        out.extend(rest(&code, addr, size).map(|at| (at, &LOOP)));
    }
    if let Some((addr, size)) = finalize {
        out.extend(passed_to(&code, addr, size).map(|at| (at, &SHUTDOWN)));
    }
    out
}

/// An address in the part of a function that lies elsewhere.
fn rest(code: &Code<'_>, addr: u64, size: u64) -> Option<u64> {
    let inside = |t: &u64| *t >= addr && *t - addr < size;
    let own = code.bytes(addr, size)?;
    let mut out: Vec<u64> = targets(addr, &own, false).filter(|t| !inside(t) && code.has(*t)).collect();
    out.sort_unstable();
    // Most of them lie together, and there may be strays.
    let near = |from: &u64| out.partition_point(|t| *t - from.min(t) <= MAX_PART);
    let (first, last) = out.iter().enumerate().map(|(i, from)| (i, near(from))).max_by_key(|(i, n)| n - i)?;
    let part = out.get(first..last).filter(|part| part.len() >= OUT)?;
    let (from, to) = (*part.first()?, *part.last()?);
    // The way back begins behind the last place that is jumped to, perhaps.
    let there = code.bytes(from, (to - from).saturating_add(4096)).or_else(|| code.bytes(from, to - from))?;
    let back = targets(from, &there, false).filter(|t| inside(t) && *t != addr).count();
    (back >= BACK).then(|| part.get(part.len() / 2).copied()).flatten()
}

/// The function that a small one passes its call on to.
fn passed_to(code: &Code<'_>, addr: u64, size: u64) -> Option<u64> {
    let own = code.bytes(addr, Some(size).filter(|&n| n <= THIN)?)?;
    let mut out = targets(addr, &own, true).filter(|t| code.has(*t) && !(*t >= addr && *t - addr < size));
    let only = out.next()?;
    out.all(|t| t == only).then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// A file whose one segment of code is `bytes`, linked at 0x1000.
    fn file(bytes: &[u8]) -> (File, Vec<Segment>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        (file, vec![Segment { offset: 0, vaddr: 0x1000, size: bytes.len() as u64, executable: true }])
    }

    fn put(bytes: &mut [u8], at: usize, op: u8, to: i32) {
        bytes[at] = op;
        bytes[at + 1..at + 5].copy_from_slice(&(to - at as i32 - 5).to_le_bytes());
    }

    #[test]
    fn a_part_elsewhere_is_known_by_the_jumps_to_it_and_back() {
        let mut bytes = vec![0x90; 0x8000];
        for i in 0..5 {
            put(&mut bytes, 0x100 + i * 8, 0xe9, 0x6000 + i as i32 * 64);
        }
        let code = |bytes: &[u8]| {
            let (file, segments) = file(bytes);
            rest(&Code { file: &file, segments: segments.iter().collect() }, 0x1100, 0x100)
        };
        assert_eq!(code(&bytes), None, "nothing leads back");
        bytes[0x6010] = 0x0f;
        put(&mut bytes, 0x6011, 0x84, 0x150);
        put(&mut bytes, 0x6200, 0xe9, 0x160);
        assert_eq!(code(&bytes), Some(0x1000 + 0x6080));
    }

    #[test]
    fn what_passes_its_call_on_calls_one_function() {
        let mut bytes = vec![0x90; 0x1000];
        put(&mut bytes, 4, 0xe9, 0x800);
        let (f, s) = file(&bytes);
        assert_eq!(passed_to(&Code { file: &f, segments: s.iter().collect() }, 0x1000, 9), Some(0x1800));
        put(&mut bytes, 16, 0xe8, 0x900);
        let (f, s) = file(&bytes);
        assert_eq!(passed_to(&Code { file: &f, segments: s.iter().collect() }, 0x1000, 32), None);
        assert_eq!(passed_to(&Code { file: &f, segments: s.iter().collect() }, 0x1000, 0x200), None);
    }

    proptest::proptest! {
        #[test]
        fn no_code_is_too_strange(bytes: Vec<u8>, addr: u64, size: u64) {
            let (f, s) = file(&bytes);
            let code = Code { file: &f, segments: s.iter().collect() };
            rest(&code, addr, size);
            passed_to(&code, addr, size);
            rest(&code, 0x1000, bytes.len() as u64 / 2);
        }
    }
}

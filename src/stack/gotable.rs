//! Functions and lines of Go programs, from the table that each of them carries.
//!
//! Go needs it itself, for its own stack traces, so it stays when symbols and debug information are stripped
//! (`-ldflags="-s -w"`, as most programs are shipped). Its form follows from a magic number: Go 1.2, 1.16, 1.18 and 1.20
//! changed it (Go, `runtime/symtab.go`, `pcHeader`; `runtime/runtime2.go`, `_func`; `debug/gosym/pclntab.go`).
//!
//! What was inlined stands elsewhere, in data that only a running program finds. So a line is given where the table says
//! that nothing was inlined, and the function's name everywhere.

use super::elf;
use object::ReadCache;
use std::fs::File;
use std::ops::Range;

/// Tables larger than this are not read, in bytes. Programs of 100 MB have 30 MB.
const MAX_TABLE: u64 = 64 << 20;
/// Steps from one range of a function to the next: there are fewer than it has instructions.
const MAX_STEPS: usize = 1 << 16;

/// Where things are, by the magic number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Form {
    Go12,
    Go116,
    Go118,
    Go120,
}

impl Form {
    fn of(magic: u32) -> Option<Form> {
        Some(match magic {
            0xffff_fffb => Form::Go12,
            0xffff_fffa => Form::Go116,
            0xffff_fff0 => Form::Go118,
            0xffff_fff1 => Form::Go120,
            _ => return None,
        })
    }
}

/// The table of one module.
#[derive(Debug)]
pub(crate) struct GoTable {
    bytes: Box<[u8]>,
    form: Form,
    /// Bytes of an address.
    word: usize,
    /// What a distance between instructions is counted in, in bytes.
    quantum: u64,
    /// Number of functions.
    count: usize,
    /// What entries count from; from 1.18 on.
    text: u64,
    // Offsets in the table: names, which files a compilation unit has, names of files, values, functions.
    names: usize,
    units: usize,
    files: usize,
    values: usize,
    functions: usize,
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoFunction<'a> {
    pub(crate) start: u64,
    /// One past its last byte.
    pub(crate) end: u64,
    pub(crate) name: &'a [u8],
    /// Where it is described.
    at: usize,
}

/// A function that is the first on a stack, or whose caller is on another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoStart {
    pub(crate) start: u64,
    /// One past its last byte.
    pub(crate) end: u64,
    pub(crate) role: GoRole,
}

/// What such a function does (Go, `runtime/asm_amd64.s`, `runtime/cgo/asm_amd64.s`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GoRole {
    /// It has no caller.
    First,
    /// `systemstack`: calls a function of Go on the thread's stack.
    System,
    /// `asmcgocall`: calls C on the thread's stack.
    CallsC,
    /// `cgocallback`: was called by C, and calls Go on the goroutine's stack.
    CalledByC,
    /// `crosscall2`: between C and `cgocallback`, on the stack of C. It saves C's registers, and Go's unwind information does not
    /// know where.
    Between,
}

/// The functions that have nobody's return address above them: the first of a program, of a thread and of a goroutine, and
/// two that take up a thread's stack anew and never return, for the scheduler and for a goroutine's larger stack (Go, `runtime/asm_amd64.s`, where the first three are `TOPFRAME`;
/// `runtime/traceback.go` of Go 1.16, `topofstack`). `sigtramp` is `TOPFRAME` too, but the kernel has left the way on.
const STARTS: [&[u8]; 5] =
    [b"runtime.rt0_go", b"runtime.mstart", b"runtime.goexit", b"runtime.mcall", b"runtime.morestack"];
/// Those that have one.
const SWITCHES: [(&[u8], GoRole); 4] = [
    (b"runtime.systemstack", GoRole::System),
    (b"runtime.asmcgocall", GoRole::CallsC),
    (b"runtime.cgocallback", GoRole::CalledByC),
    (b"crosscall2", GoRole::Between),
];
/// A name of assembly stands twice in a table where Go calls it through a few instructions that the compiler makes.
const MAX_STARTS: usize = 2 * (STARTS.len() + SWITCHES.len());

impl GoTable {
    /// Reads the table of a file; `None` where it is no Go program's, or cannot be read.
    pub(crate) fn read(file: &File) -> Option<GoTable> {
        // By the linker of Go; for position-independent programs; and linked by the system's linker.
        let named = [".gopclntab", ".data.rel.ro.gopclntab"];
        if let Some(section) = named.into_iter().find_map(|name| elf::section(file, name, MAX_TABLE)) {
            return Self::of(section.bytes, &|at, table| {
                first_address(file, section.addr, section.addr.checked_add(at as u64)?, table)
            });
        }
        // Kept by strip(1), and in no other program: nothing else is searched.
        elf::section(file, ".go.buildinfo", MAX_TABLE)?;
        let section = elf::section(file, ".data.rel.ro", MAX_TABLE)?;
        // It begins at a multiple of 32.
        let begins = |at: &usize| section.bytes.get(*at..).is_some_and(|b| header(b).is_some());
        let at = (0..section.bytes.len()).step_by(32).find(begins)?;
        let addr = section.addr.checked_add(at as u64)?;
        let bytes = section.bytes.get(at..)?.into();
        Self::of(bytes, &|at, table| first_address(file, addr, addr.checked_add(at as u64)?, table))
    }

    /// Reads a table. `text` gives the first address of the code where the table has none, at that offset; the addresses
    /// of the table that it is given count from 0.
    fn of(bytes: Box<[u8]>, text: &dyn Fn(usize, &GoTable) -> Option<u64>) -> Option<GoTable> {
        let (form, quantum, word) = header(&bytes)?;
        let mut table = GoTable {
            bytes,
            form,
            word,
            quantum,
            count: 0,
            text: 0,
            names: 0,
            units: 0,
            files: 0,
            values: 0,
            functions: 0,
        };
        let field = |i: usize| usize::try_from(table.address(8 + i * word)?).ok();
        let count = field(0)?;
        // Number of functions and of files, since 1.18 the first address, and where the parts begin.
        let parts = match form {
            Form::Go12 => (0, 0, 0, 0, 8 + word),
            Form::Go116 => (field(2)?, field(3)?, field(4)?, field(5)?, field(6)?),
            Form::Go118 | Form::Go120 => (field(3)?, field(4)?, field(5)?, field(6)?, field(7)?),
        };
        table.count = count;
        (table.names, table.units, table.files, table.values, table.functions) = parts;
        // Each has a row, and is described in at least nine fields of 32 bits.
        let size = table.count.checked_mul(table.row() + 36)?.checked_add(table.functions)?;
        (size <= table.bytes.len()).then_some(())?;
        if form >= Form::Go118 {
            let at = 8 + 2 * word;
            let written = table.address(at)?;
            table.text = if written == 0 { text(at, &table)? } else { written };
        }
        Some(table)
    }

    /// Calls `each` for all functions, in the order of their addresses. Returns whether that was all: `false` if their
    /// names have more bytes than a table may.
    pub(crate) fn functions(&self, each: &mut dyn FnMut(GoFunction<'_>)) -> bool {
        // The linker writes a name once. Rows that share a long one would make much work of a small table.
        let mut left = MAX_TABLE;
        (0..self.count).all(|i| {
            let function = self.function(i);
            let read = function.as_ref().map_or(elf::MAX_NAME, |f| f.name.len());
            match left.checked_sub(read as u64) {
                Some(rest) => left = rest,
                None => return false,
            }
            function.into_iter().for_each(&mut *each);
            true
        })
    }

    /// The functions that are the first on their stack, and those whose caller is on another.
    pub(crate) fn starts(&self) -> Vec<GoStart> {
        let mut out = Vec::new();
        self.functions(&mut |f| {
            let switch = SWITCHES.iter().find(|(name, _)| *name == f.name).map(|(_, role)| *role);
            let role = switch.or_else(|| STARTS.contains(&f.name).then_some(GoRole::First));
            if let Some(role) = role.filter(|_| out.len() < MAX_STARTS) {
                out.push(GoStart { start: f.start, end: f.end, role });
            }
        });
        out
    }

    /// How far the stack pointer is below the return address at `addr`, in bytes.
    pub(crate) fn depth(&self, addr: u64) -> Option<u64> {
        let function = self.find(addr)?;
        let at = self.field(&function, 3)?;
        u64::try_from(self.value(at, function.start, addr)?).ok()
    }

    /// The function that an address is in.
    pub(crate) fn find(&self, addr: u64) -> Option<GoFunction<'_>> {
        // The last that begins at or before it, as in a sorted list; a list that is none gives what it gives.
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)? <= addr { low = middle + 1 } else { high = middle }
        }
        self.function(low.checked_sub(1)?).filter(|f| (f.start..f.end).contains(&addr))
    }

    /// The file and line of an address in a function, where no call was inlined; `None` for tables before Go 1.16.
    pub(crate) fn line(&self, function: &GoFunction<'_>, addr: u64) -> Option<(String, u32)> {
        let field = |i: usize| self.field(function, i);
        (self.form >= Form::Go116).then_some(())?;
        let (files, lines, tables, unit) = (field(4)?, field(5)?, field(6)?, field(7)?);
        // Behind them, with the kind of the function: tables by kind, the third of which is that of inlined calls.
        const INLINED: u32 = 2;
        let more = if self.form == Form::Go120 { 10 } else { 9 };
        if tables > INLINED {
            let at = field(more + INLINED as usize)?;
            (at == 0 || self.value(at, function.start, addr) == Some(-1)).then_some(())?;
        }
        let line = u32::try_from(self.value(lines, function.start, addr)?).ok().filter(|&n| n > 0)?;
        let file = u32::try_from(self.value(files, function.start, addr)?).ok()?;
        let row = usize::try_from(unit.checked_add(file)?).ok()?.checked_mul(4)?;
        let at = usize::try_from(self.half(self.units.checked_add(row)?)?).ok()?;
        let name = text(self.bytes.get(self.files.checked_add(at)?..)?);
        (!name.is_empty()).then(|| (String::from_utf8_lossy(name).into_owned(), line))
    }

    /// A field of `_func`, from the name's on: 32 bits each.
    fn field(&self, function: &GoFunction<'_>, i: usize) -> Option<u32> {
        let base = function.at.checked_add(if self.form >= Form::Go118 { 4 } else { self.word })?;
        self.half(base.checked_add(i * 4)?)
    }

    fn function(&self, i: usize) -> Option<GoFunction<'_>> {
        let (start, end) = (self.entry(i)?, self.entry(i + 1)?);
        let second = self.functions.checked_add(i.checked_mul(self.row())?)?.checked_add(self.row() / 2)?;
        let offset = if self.form >= Form::Go118 { self.half(second)?.into() } else { self.address(second)? };
        let base = if self.form == Form::Go12 { 0 } else { self.functions };
        let at = base.checked_add(usize::try_from(offset).ok()?)?;
        let name = self.half(at.checked_add(if self.form >= Form::Go118 { 4 } else { self.word })?)?;
        let name = text(self.bytes.get(self.names.checked_add(usize::try_from(name).ok()?)?..)?);
        (start < end && !name.is_empty()).then_some(GoFunction { start, end, name, at })
    }

    /// Bytes of a row of the list of functions: where it begins, and where it is described.
    fn row(&self) -> usize {
        if self.form >= Form::Go118 { 8 } else { 2 * self.word }
    }

    /// Where function `i` begins; behind the last there is one more.
    fn entry(&self, i: usize) -> Option<u64> {
        let at = self.functions.checked_add(i.checked_mul(self.row())?)?;
        match self.form >= Form::Go118 {
            true => self.text.checked_add(self.half(at)?.into()),
            false => self.address(at),
        }
    }

    /// The value for an address, of the list at `offset`: pairs of a change and how far it holds, both of variable length.
    fn value(&self, offset: u32, start: u64, addr: u64) -> Option<i64> {
        let mut rest = self.bytes.get(self.values.checked_add(usize::try_from(offset).ok()?)?..)?;
        let (mut value, mut pc) = (-1i64, start);
        for step in 0..MAX_STEPS {
            let change = number(&mut rest)?;
            if change == 0 && step > 0 {
                return None;
            }
            // Zigzag.
            let magnitude = i64::from(change >> 1);
            value = value.checked_add(if change & 1 == 1 { !magnitude } else { magnitude })?;
            pc = pc.checked_add(u64::from(number(&mut rest)?).checked_mul(self.quantum)?)?;
            if addr < pc {
                return Some(value);
            }
        }
        None
    }

    fn half(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?))
    }

    fn address(&self, at: usize) -> Option<u64> {
        match self.word {
            8 => Some(u64::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?)),
            _ => self.half(at).map(u64::from),
        }
    }
}

/// The form, the quantum and the size of an address, if a table begins here.
fn header(bytes: &[u8]) -> Option<(Form, u64, usize)> {
    let &[a, b, c, d, 0, 0, quantum @ (1 | 2 | 4), word @ (4 | 8)] = bytes.first_chunk::<8>()? else { return None };
    Some((Form::of(u32::from_le_bytes([a, b, c, d]))?, quantum.into(), word.into()))
}

/// A number of 7 bits a byte, the lowest first.
fn number(bytes: &mut &[u8]) -> Option<u32> {
    let mut out = 0u32;
    for shift in (0..32).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        out |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(out);
        }
    }
    None
}

/// The text up to the next NUL; nothing if that is too far.
fn text(bytes: &[u8]) -> &[u8] {
    elf::text(bytes).unwrap_or_default()
}

/// The first address of Go's code, where the table at `addr` of a file does not say it at `field`: in position-independent
/// programs it leaves that to the loader, and since Go 1.26 it says nothing.
///
/// `None` where it cannot be known: by a wrong one, every name would be wrong.
fn first_address(file: &File, addr: u64, field: u64, table: &GoTable) -> Option<u64> {
    let by_loader = || relocated(file, field..field.checked_add(1)?).first().map(|(_, value)| *value);
    by_loader().or_else(|| by_symbol(file)).or_else(|| by_module(file, addr, table)).or_else(|| by_entry(file, table))
}

fn relocated(file: &File, range: Range<u64>) -> elf::Relocations {
    elf::relocations(file, range).0
}

/// As the symbol table has it (Go, `cmd/link/internal/ld/data.go`, `textaddress`).
fn by_symbol(file: &File) -> Option<u64> {
    let mut out = None;
    elf::symbols(&ReadCache::new(file), &mut |s| {
        if s.name == b"runtime.text" {
            out = Some(s.addr);
        }
    });
    out
}

/// As the runtime's description of the module has it, whose first word is the address of the table (Go,
/// `runtime/symtab.go`, `moduledata`). Three words in it are the first address of a function, the end of the last, and
/// where the code begins. They are found by that the table must say the same, wherever they stand.
fn by_module(file: &File, addr: u64, table: &GoTable) -> Option<u64> {
    const WORDS: usize = 64;
    let mut section = elf::section(file, ".go.module", MAX_TABLE)?;
    let end = section.addr.checked_add((WORDS * table.word) as u64)?;
    for (at, value) in relocated(file, section.addr..end) {
        let at = usize::try_from(at - section.addr).ok()?;
        let word = value.to_le_bytes();
        if let Some(bytes) = section.bytes.get_mut(at..).and_then(|b| b.first_chunk_mut()) {
            *bytes = word;
        }
    }
    let word = |row: &[u8]| match table.word {
        8 => row.first_chunk().map(|b| u64::from_le_bytes(*b)),
        _ => row.first_chunk().map(|b| u32::from_le_bytes(*b).into()),
    };
    let words: Vec<u64> = section.bytes.chunks_exact(table.word).take(WORDS).filter_map(word).collect();
    (words.first() == Some(&addr)).then_some(())?;
    let (first, last) = (table.entry(0)?, table.entry(table.count)?);
    let text = |w: &[u64]| match w {
        &[from, to, text] if text != 0 && from < to => {
            (text.checked_add(first) == Some(from) && text.checked_add(last) == Some(to)).then_some(text)
        }
        _ => None,
    };
    words.windows(3).find_map(text)
}

/// Where the section of code begins, if nothing lies there before Go's: where the system's linker made the program, code
/// of the C library does. Then the program is entered in that, and not in Go's.
fn by_entry(file: &File, table: &GoTable) -> Option<u64> {
    let image = elf::Image::of_file(file).ok()?;
    let text = Some(image.text).filter(|&text| text != 0)?;
    let function = table.find(image.entry.checked_sub(text)?)?;
    function.name.starts_with(b"_rt0_").then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two functions at 0x401000 and 0x401040, `main.f` and `main.g`, up to 0x401050. The lines of `main.f` are 10 for 16
    /// bytes, then 12; of the second 16 bytes something was inlined.
    fn made() -> Vec<u8> {
        let mut t = 0xffff_fff1u32.to_le_bytes().to_vec();
        t.extend([0, 0, 1, 8]);
        let (names, units, files, values, functions) = (72u64, 96u64, 100u64, 116u64, 140u64);
        for field in [2, 1, 0x40_1000, names, units, files, values, functions] {
            t.extend(u64::to_le_bytes(field));
        }
        t.extend(b"\0main.f\0main.g\0");
        t.resize(units as usize, 0);
        t.extend(1u32.to_le_bytes());
        t.extend(b"\0/src/f.go\0");
        t.resize(values as usize, 0);
        t.push(0);
        t.extend([2, 64, 0]); // 1: file 0
        t.extend([22, 16, 4, 48, 0]); // 4: -1 + 11, then + 2
        t.extend([0, 16, 2, 16, 1, 32, 0]); // 9: -1, 0, -1
        t.resize(functions as usize, 0);
        // Rows, and the end of the last; then what describes both.
        for (entry, at) in [(0u32, 20u32), (0x40, 76)] {
            t.extend(entry.to_le_bytes());
            t.extend(at.to_le_bytes());
        }
        t.extend(0x50u32.to_le_bytes());
        for name in [1u32, 8] {
            // entry, name, args, deferreturn, pcsp, pcfile, pcln, npcdata, cu, start line, kind, and tables
            for field in [0, name, 0, 0, 0, 1, 4, 3, 0, 1, 0, 0, 0, 9] {
                t.extend(field.to_le_bytes());
            }
        }
        t
    }

    fn table(bytes: Vec<u8>) -> Option<GoTable> {
        GoTable::of(bytes.into(), &|_, _| None)
    }

    #[test]
    fn functions_and_lines_are_found_by_address() {
        let t = table(made()).unwrap();
        let mut found = Vec::new();
        assert!(t.functions(&mut |f| found.push((f.start, f.end, f.name.to_vec()))));
        let (first, second) = (b"main.f".to_vec(), b"main.g".to_vec());
        assert_eq!(found, [(0x40_1000, 0x40_1040, first), (0x40_1040, 0x40_1050, second)]);
        let f = t.find(0x40_103f).unwrap();
        assert_eq!(f.name, b"main.f");
        assert_eq!(t.find(0x40_1040).unwrap().name, b"main.g");
        assert!(t.find(0x40_0fff).is_none() && t.find(0x40_1050).is_none() && t.find(u64::MAX).is_none());
        assert_eq!(t.line(&f, 0x40_100f), Some(("/src/f.go".to_owned(), 10)));
        assert_eq!(t.line(&f, 0x40_1010), None, "something was inlined here: the line is another function's");
        assert_eq!(t.line(&f, 0x40_1020), Some(("/src/f.go".to_owned(), 12)));
    }

    proptest::proptest! {
        #[test]
        fn no_table_is_too_strange(changes: Vec<(u16, u8)>, addr: u64, cut: u16) {
            let mut bytes = made();
            let size = bytes.len();
            for (at, value) in changes {
                bytes[usize::from(at) % size] = value;
            }
            bytes.truncate(size - usize::from(cut) % 64);
            if let Some(t) = table(bytes) {
                for at in [addr, 0x40_1000 + addr % 0x60] {
                    if let Some(f) = t.find(at) {
                        let _ = t.line(&f, at);
                    }
                }
                let _ = t.functions(&mut |_| ());
                let _ = (t.starts(), t.depth(addr), t.depth(0x40_1000 + addr % 0x60));
            }
        }
    }
}

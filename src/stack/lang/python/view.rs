//! Reading Python objects out of another process: every size bounded, every read allowed to fail.

use super::layout::Layout;
use crate::base::ReadMemory;
use crate::stack::Stretch;

/// The longest string that is read; file names are at most `PATH_MAX`.
const STRING: usize = 4096;
/// The largest tuple (names of a code object) that is read.
const TUPLE: usize = 4096;
/// Dictionary entries that are looked at before the search is given up.
const ENTRIES: usize = 4096;
/// The most code or line table that is read of one code object.
pub(super) const CODE: usize = 1 << 20;

/// The first `N` bytes at `off` of `buf`.
fn array<const N: usize>(buf: &[u8], off: usize) -> Option<[u8; N]> {
    buf.get(off..off.checked_add(N)?)?.try_into().ok()
}

/// A word of `buf`.
pub(super) fn word_in(buf: &[u8], off: usize) -> Option<u64> {
    array(buf, off).map(u64::from_le_bytes)
}

/// A C `int` of `buf`.
pub(super) fn int_in(buf: &[u8], off: usize) -> Option<i32> {
    array(buf, off).map(i32::from_le_bytes)
}

/// `n` words at `addr`, as bytes; `None` unless all are readable.
pub(super) fn words(mem: &dyn ReadMemory, addr: u64, n: usize) -> Option<Vec<u8>> {
    bytes(mem, addr, n.checked_mul(8)?)
}

/// `n` bytes at `addr`; `None` unless all are readable.
pub(super) fn bytes(mem: &dyn ReadMemory, addr: u64, n: usize) -> Option<Vec<u8>> {
    let mut buf = vec![0; n];
    (mem.read(addr, &mut buf) == n).then_some(buf)
}

/// What a value is, as far as anybody here cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Value {
    /// No value: the slot is empty or its variable deleted.
    Unset,
    None,
    /// An `int` that fits.
    Int(i64),
    /// A file object of the io module and the number it holds now (-1 when closed).
    File(Option<i32>),
    /// A dict, at this address.
    Dict(u64),
    Other,
}

/// A process's memory together with the layout of its interpreter.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) mem: &'a dyn ReadMemory,
    pub(super) layout: &'a Layout,
    /// What of the native stack has been read at this stop.
    pub(super) stack: Stretch<'a>,
}

impl View<'_> {
    /// The word at `addr`, which may be on the native stack.
    pub(super) fn word(&self, addr: u64) -> Option<u64> {
        self.stack.get(addr, 8).and_then(|b| word_in(b, 0)).or_else(|| self.mem.word(addr))
    }

    /// A non-null pointer at `addr`.
    pub(super) fn pointer(&self, addr: u64) -> Option<u64> {
        self.mem.word(addr).filter(|&p| p != 0)
    }

    /// The name of an object's type, as in `tp_name`.
    fn type_name(&self, object: u64) -> Option<Vec<u8>> {
        let ty = self.pointer(object.checked_add(8)?)?;
        self.mem.c_string(self.pointer(ty.checked_add(24)?)?, 128)
    }

    /// A `str`: compact forms only, which is what the compiler makes of every name. Lone surrogates are replaced.
    pub(super) fn string(&self, object: u64) -> Option<String> {
        let head = bytes(self.mem, object, 40)?;
        let length = usize::try_from(word_in(&head, 16)?).ok().filter(|&n| n <= STRING)?;
        let state = int_in(&head, 32)? as u32;
        let (kind, compact, ascii) = (state >> 2 & 7, state >> 5 & 1, state >> 6 & 1);
        if compact == 0 || !matches!(kind, 1 | 2 | 4) {
            return None;
        }
        let skip = if ascii == 1 { self.layout.str_ascii } else { self.layout.str_compact };
        let raw = bytes(self.mem, object.checked_add(skip as u64)?, length * kind as usize)?;
        Some(match kind {
            1 => raw.iter().map(|&b| char::from(b)).collect(),
            2 => {
                let units = raw.chunks_exact(2).filter_map(|c| array(c, 0).map(u16::from_le_bytes));
                char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            }
            _ => raw
                .chunks_exact(4)
                .filter_map(|c| array(c, 0).map(u32::from_le_bytes))
                .map(|c| char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
        })
    }

    /// The content of a `bytes` object.
    pub(super) fn bytes_object(&self, object: u64) -> Option<Vec<u8>> {
        let n = usize::try_from(self.mem.word(object.checked_add(16)?)?).ok().filter(|&n| n <= CODE)?;
        bytes(self.mem, object.checked_add(32)?, n)
    }

    /// The strings of a tuple; what is not a readable string becomes empty, so that positions stay right.
    pub(super) fn names(&self, tuple: u64) -> Option<Vec<String>> {
        let n = usize::try_from(self.mem.word(tuple.checked_add(16)?)?).ok().filter(|&n| n <= TUPLE)?;
        let raw = words(self.mem, tuple.checked_add(self.layout.tuple_items as u64)?, n)?;
        Some((0..n).map(|i| word_in(&raw, i * 8).and_then(|p| self.string(p)).unwrap_or_default()).collect())
    }

    /// What the reference in a variable refers to.
    ///
    /// From 3.14 on a reference carries tag bits, and a small integer may be the reference itself.
    pub(super) fn value(&self, reference: u64) -> Value {
        let mut object = reference;
        if self.layout.minor >= 14 {
            if reference & 3 == 3 {
                return Value::Int(reference as i64 >> 2);
            }
            object &= !3;
        }
        if object == 0 {
            return Value::Unset;
        }
        self.object(object).unwrap_or(Value::Other)
    }

    fn object(&self, object: u64) -> Option<Value> {
        Some(match self.type_name(object)?.as_slice() {
            b"NoneType" => Value::None,
            b"int" => Value::Int(self.int(object)?),
            b"cell" => match self.mem.word(object.checked_add(16)?)? {
                0 => Value::Unset,
                // A cell that holds a cell is not followed: nobody writes it, and it might be a ring.
                inner if self.type_name(inner)? == b"cell" => Value::Other,
                inner => self.object(inner)?,
            },
            b"dict" => Value::Dict(object),
            name @ (b"_io.TextIOWrapper"
            | b"_io.BufferedWriter"
            | b"_io.BufferedReader"
            | b"_io.BufferedRandom"
            | b"_io.FileIO") => Value::File(self.file_number(object, name)),
            _ => Value::Other,
        })
    }

    /// The descriptor inside a file object: TextIOWrapper.buffer, Buffered*.raw, FileIO.fd, whose places in the C
    /// structs of `Modules/_io` did not change from 3.8 to 3.14.
    fn file_number(&self, object: u64, name: &[u8]) -> Option<i32> {
        let fd_at = |raw: u64| self.mem.half(raw.checked_add(16)?).map(|n| n as i32);
        match name {
            b"_io.FileIO" => fd_at(object),
            b"_io.TextIOWrapper" => {
                let buffer = self.pointer(object.checked_add(32)?)?;
                match self.type_name(buffer)?.as_slice() {
                    b"_io.BufferedWriter" | b"_io.BufferedReader" | b"_io.BufferedRandom" => {
                        self.file_number(buffer, b"_io.BufferedWriter")
                    }
                    _ => None,
                }
            }
            _ => {
                let raw = self.pointer(object.checked_add(16)?)?;
                if self.type_name(raw)? == b"_io.FileIO" { fd_at(raw) } else { None }
            }
        }
    }

    /// An `int` of at most one digit (30 bits): every descriptor is one.
    fn int(&self, object: u64) -> Option<i64> {
        let raw = bytes(self.mem, object.checked_add(16)?, 16)?;
        let (tag, digit) = (word_in(&raw, 0)?, i64::from(int_in(&raw, 8)? as u32));
        let (digits, sign) = if self.layout.minor >= 12 {
            (tag >> 3, [1, 0, -1].get((tag & 3) as usize).copied()?)
        } else {
            ((tag as i64).unsigned_abs(), (tag as i64).signum())
        };
        match digits {
            0 => Some(0),
            1 => Some(sign * digit),
            _ => None,
        }
    }

    /// The reference that a dict holds for the first of `keys` it has, and which key it was.
    ///
    /// Only tables of their own (not the split tables of instances), only so many entries: globals and keyword
    /// arguments are such dicts. The entries are read in one piece and searched in order: hashing is not ours to redo.
    pub(super) fn lookup<'k>(&self, dict: u64, keys: &[&'k str]) -> Vec<(&'k str, u64)> {
        let mut found = Vec::new();
        self.each_entry(dict, |name, value| {
            if let Some(key) = keys.iter().find(|k| **k == name) {
                found.push((*key, value));
            }
        });
        found
    }

    /// Calls `f` with each key and value of a dict with string keys.
    pub(super) fn each_entry(&self, dict: u64, mut f: impl FnMut(&str, u64)) -> Option<()> {
        let head = words(self.mem, dict, 6)?;
        let (keys, values) = (word_in(&head, 32)?, word_in(&head, 40)?);
        if values != 0 {
            return None;
        }
        let head = words(self.mem, keys, 5)?;
        // struct _dictkeysobject: rebuilt in 3.11, which also brought entries without a hash.
        let (table, entry, n) = if self.layout.modern() {
            let shift = head.get(9).copied().filter(|&s| s <= 40)?;
            let entry = match head.get(10)? {
                0 => 24,
                1 => 16,
                _ => return None,
            };
            (32 + (1u64 << shift), entry, word_in(&head, 24)?)
        } else {
            let size = word_in(&head, 8)?;
            let width = match size {
                0..=0xff => 1,
                0x100..=0xffff => 2,
                0x1_0000..=0xffff_ffff => 4,
                _ => 8,
            };
            (40u64.checked_add(size.checked_mul(width)?)?, 24, word_in(&head, 32)?)
        };
        let n = usize::try_from(n).ok().filter(|&n| n <= ENTRIES)?;
        let raw = bytes(self.mem, keys.checked_add(table)?, n * entry)?;
        for e in raw.chunks_exact(entry) {
            let (key, value) = (word_in(e, entry - 16)?, word_in(e, entry - 8)?);
            if let (true, Some(name)) = (value != 0, self.string(key)) {
                f(&name, value);
            }
        }
        Some(())
    }
}

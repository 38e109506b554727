//! Where CPython keeps things: one table of offsets per minor version, as data.
//!
//! The numbers are `offsetof` as a compiler printed them from each version's own internal headers (x86-64, default
//! build). A minor version keeps its layout over its patch releases; from 3.13 on the interpreter also publishes part of it
//! (`_Py_DebugOffsets`, at the start of `_PyRuntime`), and what it publishes wins over the table.

use super::view::{word_in, words};
use crate::base::ReadMemory;

/// How a frame says where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Instr {
    /// `f_lasti`, an index into `co_code` in units of so many bytes (1 up to 3.9, 2 in 3.10).
    Lasti(i64),
    /// `prev_instr` or `instr_ptr`: the address of the instruction being executed, inside the code object.
    Address,
}

/// How a thread state leads to its innermost frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Root {
    /// A pointer in the thread state itself.
    Direct(usize),
    /// A pointer to a `_PyCFrame`, and the pointer in there.
    CFrame(usize, usize),
}

/// The encoding of a code object's lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lines {
    /// `co_lnotab` (up to 3.9).
    Lnotab,
    /// `co_linetable` of 3.10 (PEP 626).
    Linetable,
    /// The location table of 3.11 and later (PEP 657).
    Locations,
}

/// Offsets of one minor version, in bytes. Names follow CPython's fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub(super) minor: u8,
    pub(super) runtime_head: usize,
    pub(super) interp_next: usize,
    pub(super) interp_threads: usize,
    pub(super) ts_next: usize,
    pub(super) ts_thread_id: usize,
    pub(super) ts_native_id: Option<usize>,
    pub(super) ts_root: Root,
    /// Where 3.10 keeps the pointer to what belongs to the innermost evaluation loop, on the native stack.
    pub(super) ts_cframe: Option<usize>,
    pub(super) ts_datastack_top: Option<usize>,
    pub(super) f_previous: usize,
    pub(super) f_code: usize,
    pub(super) f_globals: usize,
    pub(super) f_locals: usize,
    pub(super) f_instr: usize,
    pub(super) instr: Instr,
    pub(super) f_owner: Option<usize>,
    pub(super) f_is_entry: Option<usize>,
    pub(super) f_localsplus: usize,
    pub(super) c_firstlineno: usize,
    pub(super) c_nlocals: usize,
    pub(super) c_stacksize: usize,
    pub(super) c_code: usize,
    pub(super) c_names: usize,
    pub(super) c_varnames: usize,
    pub(super) c_filename: usize,
    pub(super) c_name: usize,
    pub(super) c_qualname: Option<usize>,
    pub(super) c_linetable: usize,
    pub(super) c_firsttraceable: Option<usize>,
    pub(super) c_executors: Option<usize>,
    /// `_co_monitoring`, and in what it points to `lines` and `per_instruction_opcodes`.
    pub(super) c_monitoring: Option<(usize, usize, usize)>,
    pub(super) lines: Lines,
    /// Header sizes of an ASCII and of another compact string.
    pub(super) str_ascii: usize,
    pub(super) str_compact: usize,
    /// From a tuple to its first item.
    pub(super) tuple_items: usize,
}

impl Layout {
    /// Whether frames live on the thread's data stack and code bytes inside the code object (3.11 and later).
    pub(super) fn modern(&self) -> bool {
        self.minor >= 11
    }

    /// Bytes of a frame that are needed to walk on.
    pub(super) fn frame_head(&self) -> usize {
        self.f_localsplus
    }

    /// Bytes of a code object up to and without its code.
    pub(super) fn code_head(&self) -> usize {
        if self.modern() { self.c_code } else { self.c_linetable + 8 }
    }

    /// The table of version 3.`minor`.
    pub(super) fn of(minor: u8) -> Option<Layout> {
        Some(match minor {
            8 | 9 => OLD,
            10 => Layout {
                minor: 10,
                ts_root: Root::Direct(24),
                ts_cframe: Some(48),
                f_instr: 96,
                instr: Instr::Lasti(2),
                f_localsplus: 352,
                lines: Lines::Linetable,
                ..OLD
            },
            11 => V11,
            12 => V12,
            13 => V13,
            14 => V14,
            _ => return None,
        })
        .map(|l| Layout { minor, ..l })
    }

    /// Replaces what the interpreter itself publishes. `None`: this build cannot be read with these tables
    /// (no or another description than the version should have, or a free-threaded build).
    pub(super) fn published(mut self, mem: &dyn ReadMemory, runtime: u64) -> Option<Layout> {
        if self.minor < 13 {
            return Some(self);
        }
        let raw = words(mem, runtime, 49)?;
        let at = |i: usize| word_in(&raw, i * 8).filter(|&v| v < 1 << 24).map(|v| v as usize);
        // Cookie, PY_VERSION_HEX (0x030e0af0 is 3.14.10 final), whether it is a free-threaded build.
        let version = word_in(&raw, 8)? >> 16;
        if word_in(&raw, 0)? != u64::from_le_bytes(*b"xdebugpy")
            || version != 0x300 | u64::from(self.minor)
            || at(2)? != 0
        {
            return None;
        }
        // Positions of the sub-structures, in words: 3.14 grew interpreter_state by 3 and interpreter_frame by 2.
        let (thread, frame, code) = if self.minor == 13 { (19, 28, 34) } else { (22, 31, 39) };
        self.runtime_head = at(5)?;
        self.interp_next = at(8)?;
        self.interp_threads = at(9)?;
        self.ts_next = at(thread + 2)?;
        self.ts_root = Root::Direct(at(thread + 4)?);
        self.ts_thread_id = at(thread + 5)?;
        self.ts_native_id = Some(at(thread + 6)?);
        self.ts_datastack_top = Some(at(thread + 7)? + 8);
        self.f_previous = at(frame + 1)?;
        self.f_code = at(frame + 2)?;
        self.f_instr = at(frame + 3)?;
        self.f_localsplus = at(frame + 4)?;
        self.f_owner = Some(at(frame + 5)?);
        self.c_filename = at(code + 1)?;
        self.c_name = at(code + 2)?;
        self.c_qualname = Some(at(code + 3)?);
        self.c_linetable = at(code + 4)?;
        self.c_firstlineno = at(code + 5)?;
        self.c_varnames = at(code + 7)?;
        self.c_code = at(code + 9)?;
        // Heads are read in one piece: nothing published may make that piece absurd.
        (self.f_localsplus <= 512 && self.c_code <= 1024).then_some(self)
    }
}

const OLD: Layout = Layout {
    minor: 8,
    runtime_head: 32,
    interp_next: 0,
    interp_threads: 8,
    ts_next: 8,
    ts_thread_id: 176,
    ts_native_id: None,
    ts_root: Root::Direct(24),
    ts_cframe: None,
    ts_datastack_top: None,
    f_previous: 24,
    f_code: 32,
    f_globals: 48,
    f_locals: 56,
    f_instr: 104,
    instr: Instr::Lasti(1),
    f_owner: None,
    f_is_entry: None,
    f_localsplus: 360,
    c_firstlineno: 40,
    c_nlocals: 28,
    c_stacksize: 32,
    c_code: 48,
    c_names: 64,
    c_varnames: 72,
    c_filename: 104,
    c_name: 112,
    c_qualname: None,
    c_linetable: 120,
    c_firsttraceable: None,
    c_executors: None,
    c_monitoring: None,
    lines: Lines::Lnotab,
    str_ascii: 48,
    str_compact: 72,
    tuple_items: 24,
};

const V11: Layout = Layout {
    minor: 11,
    runtime_head: 40,
    interp_next: 0,
    interp_threads: 16,
    ts_next: 8,
    ts_thread_id: 152,
    ts_native_id: Some(160),
    ts_root: Root::CFrame(56, 8),
    ts_cframe: None,
    ts_datastack_top: Some(304),
    f_previous: 48,
    f_code: 32,
    f_globals: 8,
    f_locals: 24,
    f_instr: 56,
    instr: Instr::Address,
    f_owner: Some(69),
    f_is_entry: Some(68),
    f_localsplus: 72,
    c_firstlineno: 72,
    // In 3.11 and later this is co_nlocalsplus: the slots that have a name in co_localsplusnames.
    c_nlocals: 76,
    c_stacksize: 68,
    c_code: 184,
    c_names: 32,
    c_varnames: 96,
    c_filename: 112,
    c_name: 120,
    c_qualname: Some(128),
    c_linetable: 136,
    c_firsttraceable: Some(168),
    c_executors: None,
    c_monitoring: None,
    lines: Lines::Locations,
    str_ascii: 48,
    str_compact: 72,
    tuple_items: 24,
};

const V12: Layout = Layout {
    minor: 12,
    interp_threads: 72,
    ts_thread_id: 136,
    ts_native_id: Some(144),
    ts_root: Root::CFrame(56, 0),
    ts_datastack_top: Some(240),
    f_previous: 8,
    f_code: 0,
    f_globals: 24,
    f_locals: 40,
    f_owner: Some(70),
    f_is_entry: None,
    c_firstlineno: 68,
    c_nlocals: 72,
    c_stacksize: 64,
    c_code: 192,
    c_firsttraceable: Some(176),
    c_monitoring: Some((168, 40, 56)),
    str_ascii: 40,
    str_compact: 56,
    ..V11
};

const V13: Layout = Layout {
    minor: 13,
    runtime_head: 632,
    interp_next: 7264,
    interp_threads: 7344,
    ts_thread_id: 152,
    ts_native_id: Some(160),
    ts_root: Root::Direct(72),
    c_code: 200,
    c_firsttraceable: Some(184),
    c_monitoring: Some((176, 32, 48)),
    ..V12
};

const V14: Layout = Layout {
    minor: 14,
    f_owner: Some(74),
    f_localsplus: 80,
    c_code: 208,
    c_firsttraceable: Some(192),
    c_executors: Some(152),
    c_monitoring: Some((176, 96, 112)),
    // A tuple keeps its hash.
    tuple_items: 32,
    ..V13
};

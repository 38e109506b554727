//! Code objects: read once, recognised again by what points out of them.

use super::layout::Layout;
use super::opcode::{self, Instruction};
use super::view::{CODE, View, bytes, int_in, word_in};
use rustc_hash::FxHashMap;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// Bytes of code objects kept per process; beyond that the cache starts anew (a program that makes code all the time).
const KEPT: usize = 8 << 20;

/// Places in one code object where compiled code begins; what a cache entry holds may look like one.
const EXECUTORS: usize = 256;

/// The names that a code object uses, with the question that is always asked of them answered.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) list: Vec<String>,
    /// Where `fileno` is in the list. Code that never names it cannot let a number escape through it.
    pub(super) fileno: Option<u32>,
}

/// What was read of one code object. Its bytecode is not kept: from 3.11 on the interpreter rewrites it.
#[derive(Debug)]
pub(super) struct Code {
    addr: u64,
    stamp: Vec<u8>,
    pub(super) function: Arc<str>,
    pub(super) file: Arc<str>,
    table: Vec<u8>,
    first: i32,
    /// Words of a frame that runs this code, on the thread's data stack (3.11 and later).
    pub(super) frame_words: u64,
    slots: usize,
    names: OnceCell<Option<Names>>,
    variables: OnceCell<Vec<String>>,
    /// Lines that were looked for: a stack is at the same calls again and again, and a table is searched from its start.
    lines: RefCell<FxHashMap<i64, Option<u32>>>,
}

/// Lines that are remembered of one code object.
const LINES: usize = 64;

impl Code {
    /// About what it occupies; names that are read later are as many as the head's counts allow and left out.
    fn size(&self) -> usize {
        size_of::<Code>() + self.stamp.len() + self.table.len() + self.function.len() + self.file.len()
    }

    pub(super) fn line(&self, layout: &Layout, at: i64) -> Option<u32> {
        let mut lines = self.lines.borrow_mut();
        if lines.len() >= LINES {
            lines.clear();
        }
        *lines.entry(at).or_insert_with(|| super::lines::line(layout.lines, &self.table, self.first, at))
    }

    /// `co_names`.
    pub(super) fn names(&self, view: View<'_>) -> Option<&Names> {
        self.names
            .get_or_init(|| {
                let list = view.names(word_in(&self.stamp, view.layout.c_names)?)?;
                let fileno = list.iter().position(|n| n == "fileno").and_then(|i| u32::try_from(i).ok());
                Some(Names { list, fileno })
            })
            .as_ref()
    }

    /// The names of the frame's slots that have one: arguments and locals, from 3.11 on cells and free variables too.
    pub(super) fn variables(&self, view: View<'_>) -> &[String] {
        self.variables.get_or_init(|| {
            let mut v = word_in(&self.stamp, view.layout.c_varnames).and_then(|t| view.names(t)).unwrap_or_default();
            v.truncate(self.slots);
            v
        })
    }

    /// Puts back the opcodes that line and instruction events (a debugger, coverage) have covered, since 3.12.
    ///
    /// They are kept in `_PyCoMonitoringData`, one entry per code unit. Where that cannot be read the covers stay, and
    /// decoding stops at them.
    fn uncover(&self, view: View<'_>, code: &mut [u8]) -> Option<()> {
        let (field, lines, opcodes) = view.layout.c_monitoring?;
        let data = view.pointer(self.addr.checked_add(field as u64)?)?;
        let table = |at: usize, skip: u64, width: usize| {
            let table = view.pointer(data.checked_add(at as u64)?)?.checked_add(skip)?;
            bytes(view.mem, table, code.len() / 2 * width)
        };
        let first_byte = |at: usize| {
            let table = data.checked_add(at as u64).and_then(|a| view.pointer(a));
            table.and_then(|t| bytes(view.mem, t, 1)).and_then(|b| b.first().copied()).map_or(0, usize::from)
        };
        // An entry of a line's begins with the opcode. In 3.14 the table begins with the size of its entries, which
        // grows with the number of lines (`_PyCoLineInstrumentationData`).
        let (skip, width) = match view.layout.minor {
            ..=13 => (0, 2),
            _ => (1, first_byte(lines)),
        };
        let (lines, opcodes) = (table(lines, skip, width), table(opcodes, 0, 1));
        let (line, instruction) = opcode::covers(view.layout.minor)?;
        for (i, unit) in code.chunks_exact_mut(2).enumerate() {
            let op = unit.first_mut()?;
            if let (true, Some(&original)) = (*op == line, lines.as_ref().and_then(|l| l.get(i * width))) {
                *op = original;
            }
            if let (true, Some(&original)) = (*op == instruction, opcodes.as_ref().and_then(|o| o.get(i))) {
                *op = original;
            }
        }
        Some(())
    }

    /// Puts back the instructions where the optional compiler of 3.14 begins what it has compiled (ENTER_EXECUTOR).
    ///
    /// Each is kept in its executor, which the instruction's argument counts (`_PyExecutorArray`, `_PyVMData`).
    fn uncompile(&self, view: View<'_>, code: &mut [u8]) -> Option<()> {
        let enter = opcode::enters(view.layout.minor)?;
        let array = view.pointer(self.addr.checked_add(view.layout.c_executors? as u64)?)?;
        for unit in code.as_chunks_mut::<2>().0.iter_mut().filter(|[op, _]| *op == enter).take(EXECUTORS) {
            let slot = array.checked_add(8 + u64::from(unit[1]) * 8);
            let kept = slot.and_then(|at| view.pointer(at)).and_then(|e| bytes(view.mem, e.checked_add(32)?, 2));
            if let Some([op, arg]) = kept.as_deref() {
                *unit = [*op, *arg];
            }
        }
        Some(())
    }

    /// The slot of the variable that LOAD_DEREF and its kin call `i`: up to 3.10 cells and free variables are counted
    /// on their own and lie behind the locals.
    pub(super) fn cell_slot(&self, view: View<'_>, i: u32) -> u32 {
        if view.layout.modern() { i } else { u32::try_from(self.slots).unwrap_or(0).saturating_add(i) }
    }

    /// The name of that variable.
    pub(super) fn cell_name(&self, view: View<'_>, i: u32) -> Option<String> {
        if view.layout.modern() {
            return self.variables(view).get(i as usize).cloned();
        }
        // co_varnames, co_freevars, co_cellvars follow one another; the cells come first in the frame.
        let tuple = |o: usize| word_in(&self.stamp, view.layout.c_varnames + o).and_then(|t| view.names(t));
        tuple(16)?.into_iter().chain(tuple(8)?).nth(i as usize)
    }

    /// The instructions from the start up to the one that byte `upto` lies in, or all.
    pub(super) fn instructions(&self, view: View<'_>, upto: Option<usize>) -> Option<Vec<Instruction>> {
        let code = if view.layout.modern() {
            let n = usize::try_from(view.mem.word(self.addr.checked_add(16)?)?).ok().filter(|&n| n <= CODE / 2)?;
            let mut code = bytes(view.mem, self.addr.checked_add(view.layout.c_code as u64)?, n * 2)?;
            self.uncompile(view, &mut code);
            self.uncover(view, &mut code);
            code
        } else {
            view.bytes_object(word_in(&self.stamp, view.layout.c_code)?)?
        };
        opcode::decode(view.layout.minor, &code, upto)
    }

    /// The bytecode up to and with the instruction at byte `at`, at most `n` bytes of it (up to 3.10).
    pub(super) fn before(&self, view: View<'_>, at: usize, n: usize) -> Option<Vec<u8>> {
        let object = word_in(&self.stamp, view.layout.c_code)?;
        let (end, room) = (at.checked_add(2).filter(|&end| end <= CODE)?, n.min(at + 2));
        bytes(view.mem, object.checked_add(32 + (end - room) as u64)?, room)
    }

    /// The first offset at which the frame counts as started; 0 where the version does not say.
    pub(super) fn first_traceable(&self, layout: &Layout) -> i64 {
        layout.c_firsttraceable.and_then(|o| int_in(&self.stamp, o)).map_or(0, |n| i64::from(n) * 2)
    }
}

/// The code objects of one process.
#[derive(Clone, Default, Debug)]
pub(super) struct Codes {
    known: FxHashMap<u64, Rc<Code>>,
    size: usize,
    /// Where the type of code objects is, which is the interpreter's own and stays there.
    code_type: Option<u64>,
}

impl Codes {
    /// The code object at `addr`.
    ///
    /// Code may have been freed and another been made at its address. What is compared is the part of the head that
    /// stays the same while the object lives: its counts, its first line and every pointer to what it was made of.
    pub(super) fn get(&mut self, view: View<'_>, addr: u64) -> Option<Rc<Code>> {
        self.get_read(view, addr, bytes(view.mem, addr, view.layout.code_head())?)
    }

    /// The code object at `addr`, whose head has just been read.
    pub(super) fn get_read(&mut self, view: View<'_>, addr: u64, head: Vec<u8>) -> Option<Rc<Code>> {
        let kept = view.layout.c_linetable + 8;
        let stamp = head.get(24..kept)?;
        if let Some(known) = self.known.get(&addr).filter(|k| k.stamp.get(24..kept) == Some(stamp)) {
            return Some(Rc::clone(known));
        }
        let code = Rc::new(read(view, addr, head, &mut self.code_type)?);
        self.size += code.size();
        if self.size > KEPT {
            self.known.clear();
            self.size = code.size();
        }
        self.known.insert(addr, Rc::clone(&code));
        Some(code)
    }
}

fn read(view: View<'_>, addr: u64, head: Vec<u8>, code_type: &mut Option<u64>) -> Option<Code> {
    let l = view.layout;
    // A freed object, or something else that a stale pointer leads to, has another type.
    let ty = word_in(&head, 8)?;
    if *code_type != Some(ty) {
        if view.mem.c_string(view.pointer(ty.checked_add(24)?)?, 16)? != b"code" {
            return None;
        }
        *code_type = Some(ty);
    }
    let string = |o: usize| word_in(&head, o).and_then(|p| view.string(p));
    let function = l.c_qualname.and_then(string).or_else(|| string(l.c_name))?;
    let file = string(l.c_filename)?;
    let slots = usize::try_from(int_in(&head, l.c_nlocals)?).ok().filter(|&n| n <= 1 << 16)?;
    let stack = u64::try_from(int_in(&head, l.c_stacksize)?).ok().filter(|&n| n <= 1 << 20)?;
    let table = view.bytes_object(word_in(&head, l.c_linetable)?).unwrap_or_default();
    Some(Code {
        addr,
        function: function.into(),
        file: file.into(),
        table,
        first: int_in(&head, l.c_firstlineno)?,
        frame_words: (l.f_localsplus as u64 / 8) + slots as u64 + stack,
        slots,
        stamp: head,
        names: OnceCell::new(),
        variables: OnceCell::new(),
        lines: RefCell::default(),
    })
}

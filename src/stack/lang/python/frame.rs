//! From the interpreter to the frames of one thread.

use super::code::{Code, Codes};
use super::layout::{Instr, Layout, Root};
use super::opcode;
use super::view::{Value, View, bytes, int_in, word_in};
use super::{NoPython, PyFrame, PyStack, Task};
use crate::stack::activation::{Keys, add};
use std::rc::Rc;

/// The most frames that are shown of a stack.
pub(super) const FRAMES: usize = 256;
const INTERPRETERS: usize = 256;
/// Frames that one call of the evaluation loop may run before its own is looked for no further.
const SHIM_WITHIN: usize = 4096;
const THREADS: usize = 4096;
/// Reaches beyond every field of a thread state that is used.
const THREAD_STATE: usize = 320;

/// A frame as it lies in memory.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) addr: u64,
    head: Vec<u8>,
    pub(super) code: Rc<Code>,
    /// The byte of the code that is being executed; negative before the first.
    pub(super) at: i64,
    pub(super) entry: bool,
    /// Lies on the thread's data stack (`FRAME_OWNED_BY_THREAD`), neither in a generator nor on the heap.
    on_data_stack: bool,
}

impl Frame {
    pub(super) fn shown(&self, layout: &Layout) -> PyFrame {
        PyFrame {
            function: self.code.function.clone(),
            file: self.code.file.clone(),
            line: self.code.line(layout, self.at),
            entry: self.entry,
        }
    }

    /// The reference in a slot (local, argument; from 3.11 on also cell and free variable).
    pub(super) fn slot(&self, view: View<'_>, index: u32) -> Value {
        let at = (view.layout.f_localsplus as u64).checked_add(u64::from(index) * 8);
        match at.and_then(|o| self.addr.checked_add(o)).and_then(|a| view.mem.word(a)) {
            Some(reference) => view.value(reference),
            None => Value::Other,
        }
    }

    /// Whether the instruction being executed calls `__exit__` of a `with` block.
    fn leaves_with(&self, view: View<'_>) -> bool {
        let at = usize::try_from(self.at).ok().filter(|_| !view.layout.modern());
        let before = |at| self.code.before(view, at, opcode::LEAVING);
        at.and_then(before).is_some_and(|code| opcode::leaves_with(&code))
    }

    /// The dict of the module's variables.
    pub(super) fn globals(&self, layout: &Layout) -> Option<u64> {
        word_in(&self.head, layout.f_globals).filter(|&p| p != 0)
    }

    /// The dict of local variables that module and class bodies have instead of slots.
    pub(super) fn locals(&self, layout: &Layout) -> Option<u64> {
        word_in(&self.head, layout.f_locals).filter(|&p| p != 0)
    }
}

/// What is visible of a thread's Python stack.
pub(super) struct Frames {
    pub(super) list: Vec<Frame>,
    pub(super) truncated: bool,
}

impl Frames {
    pub(super) fn stack(&self, view: View<'_>) -> PyStack {
        PyStack {
            frames: self.list.iter().map(|f| f.shown(view.layout)).collect(),
            truncated: self.truncated,
            // The second frame is there for an `__exit__` in C that calls a `close()` in Python.
            leaves_with: self.list.iter().take(2).any(|f| f.leaves_with(view)),
            activations: if self.truncated { Keys::new() } else { self.activations(view.layout) },
        }
    }

    /// A frame is where it lies and whose code it runs; it will go on behind the instruction that its caller is at.
    fn activations(&self, layout: &Layout) -> Keys {
        let mut keys = Keys::with_capacity(self.list.len());
        let mut back = None;
        for frame in self.list.iter().rev() {
            add(&mut keys, frame.addr, (at_code(layout, &frame.head), back));
            back = Some(frame.at);
        }
        keys
    }
}

/// The first thread of a process that has one interpreter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Main {
    state: u64,
    interpreter: u64,
}

/// The thread states of a task, read; the one that runs now comes first. There are several where one interpreter runs
/// code in another (sub-interpreters): each has a state of its own for the thread.
///
/// `thread_id` is `pthread_self()`, which on x86-64 is the thread pointer, `fs_base`: it holds in every version and pid
/// namespace, in a forked child and in a vforked one. The kernel's number (3.11 and later) is the second choice, for
/// who has no registers; it is the target's own view and wrong in a child that CPython has not told about the fork. A
/// process with one thread state has nothing to choose.
///
/// `main` remembers the thread state of the process's first thread, which lives as long as the interpreter; others come
/// and go, and a freed one may still look right, so for them the list is walked each time. An interpreter that is made
/// becomes the head of their list, so that one word tells whether there is still one only. The second value says that
/// there are several.
pub(super) fn threads(
    view: View<'_>,
    runtime: u64,
    task: &Task<'_>,
    main: &mut Option<Main>,
) -> Result<(Vec<Vec<u8>>, bool), NoPython> {
    let l = view.layout;
    let at = |base: u64, off: usize| base.checked_add(off as u64).ok_or(NoPython::Unreadable);
    let head = at(runtime, l.runtime_head)?;
    let leader = task.tid.0 == task.pid.0 && task.fs_base.is_some();
    if let (Some(known), true) = (*main, leader) {
        let mut raw = vec![0; THREAD_STATE * 2];
        let got = view.mem.gather(&[known.state, head], THREAD_STATE, &mut raw);
        let alone = got == 2 && word_in(&raw, THREAD_STATE) == Some(known.interpreter);
        raw.truncate(THREAD_STATE);
        if alone && word_in(&raw, l.ts_thread_id) == task.fs_base && has_frame(l, &raw) {
            return Ok((vec![raw], false));
        }
    }
    let first = view.mem.word(head).ok_or(NoPython::Unreadable)?;
    if first == 0 {
        return Err(NoPython::NotYet);
    }
    let several = view.mem.word(at(first, l.interp_next)?).ok_or(NoPython::Unreadable)? != 0;
    let (mut interp, mut seen, mut last) = (first, 0usize, None);
    let mut found: Vec<(u64, Vec<u8>)> = Vec::new();
    for _ in 0..INTERPRETERS {
        if interp == 0 {
            break;
        }
        let mut state = view.mem.word(at(interp, l.interp_threads)?).ok_or(NoPython::Unreadable)?;
        while state != 0 && seen < THREADS {
            let raw = bytes(view.mem, state, THREAD_STATE).ok_or(NoPython::Unreadable)?;
            let id = word_in(&raw, l.ts_thread_id);
            let native = l.ts_native_id.and_then(|o| word_in(&raw, o));
            let mine = match task.fs_base {
                Some(fs) if fs != 0 => id == Some(fs),
                _ => native == u64::try_from(task.tid.0).ok(),
            };
            seen += 1;
            let next = word_in(&raw, l.ts_next).unwrap_or(0);
            if mine && has_frame(l, &raw) {
                if !several {
                    if leader {
                        *main = Some(Main { state, interpreter: first });
                    }
                    return Ok((vec![raw], false));
                }
                found.extend(depth(view, &raw).map(|depth| (depth, raw)));
            } else {
                last = Some(raw);
            }
            state = next;
        }
        interp = view.mem.word(at(interp, l.interp_next)?).ok_or(NoPython::Unreadable)?;
    }
    if !found.is_empty() {
        found.sort_by_key(|&(depth, _)| depth);
        return Ok((found.into_iter().map(|(_, raw)| raw).collect(), true));
    }
    match (seen, last) {
        (0, _) => Err(NoPython::NotYet),
        // Without registers and without the kernel's numbers; with registers a stranger must not pass for the task.
        (1, Some(raw)) if task.fs_base.is_none() => Ok((vec![raw], several)),
        _ => Err(NoPython::NoThread),
    }
}

/// What orders a thread's states, the innermost first: the address of something on the native stack that belongs to the
/// innermost call of the evaluation loop. `None` for a state that runs nothing.
///
/// 3.8 and 3.9 keep nothing there; a newer interpreter, which comes first in the list, is taken for the inner one.
fn depth(view: View<'_>, state: &[u8]) -> Option<u64> {
    let l = view.layout;
    match l.ts_root {
        Root::CFrame(off, inner) => {
            let cframe = word_in(state, off)?;
            view.pointer(cframe.checked_add(inner as u64)?)?;
            Some(cframe)
        }
        Root::Direct(_) if !l.modern() => Some(l.ts_cframe.and_then(|o| word_in(state, o)).unwrap_or(0)),
        Root::Direct(off) => {
            let mut addr = word_in(state, off)?;
            for _ in 0..SHIM_WITHIN {
                let head = bytes(view.mem, addr, l.frame_head())?;
                if shim(l, &head) {
                    break;
                }
                addr = word_in(&head, l.f_previous).filter(|&p| p != 0)?;
            }
            Some(addr)
        }
    }
}

fn has_frame(l: &Layout, raw: &[u8]) -> bool {
    let off = match l.ts_root {
        Root::Direct(o) | Root::CFrame(o, _) => o,
    };
    word_in(raw, off).is_some_and(|p| p != 0)
}

/// The frames of a task's thread states, innermost first.
pub(super) fn walk_all(
    view: View<'_>,
    states: &[Vec<u8>],
    codes: &mut Codes,
    limit: usize,
) -> Result<Frames, NoPython> {
    let mut all = Frames { list: Vec::new(), truncated: false };
    for state in states {
        if all.truncated {
            break;
        }
        if all.list.len() >= limit {
            all.truncated = true;
            break;
        }
        let more = walk(view, state, codes, limit - all.list.len())?;
        all.list.extend(more.list);
        all.truncated = more.truncated;
    }
    Ok(all)
}

/// The frames of a thread state, innermost first.
///
/// No more than `limit` of them: what is asked of a close is asked of the innermost.
pub(super) fn walk(view: View<'_>, state: &[u8], codes: &mut Codes, limit: usize) -> Result<Frames, NoPython> {
    let l = view.layout;
    let root = match l.ts_root {
        Root::Direct(off) => word_in(state, off),
        Root::CFrame(off, inner) => {
            word_in(state, off).and_then(|c| c.checked_add(inner as u64)).and_then(|c| view.word(c))
        }
    };
    let mut addr = root.ok_or(NoPython::Unreadable)?;
    let mut list: Vec<Frame> = Vec::new();
    let mut truncated = false;
    let mut window = Window::of(l, state);
    // Shims and frames that have not started are not shown but are steps as well: twice as many, at most.
    let mut steps = limit * 2;
    while addr != 0 && !truncated {
        if list.len() == limit || steps == 0 {
            truncated = true;
            break;
        }
        // Frames first, then all the code that they run: a read costs by the call.
        let mut heads: Vec<(u64, Vec<u8>)> = Vec::new();
        while addr != 0 && heads.len() < (limit - list.len()).min(steps).min(BATCH) {
            let Some(head) = window.get(view, addr, l.frame_head()) else {
                truncated = true;
                break;
            };
            let previous = word_in(&head, l.f_previous).unwrap_or(0);
            heads.push((addr, head));
            addr = previous;
        }
        steps -= heads.len();
        let mut code = Batch::read(view, heads.iter().filter(|(_, h)| !shim(l, h)).filter_map(|(_, h)| at_code(l, h)));
        for (at, head) in heads {
            if shim(l, &head) {
                mark_entry(&mut list);
                continue;
            }
            match read(view, at, head, &mut |addr| code.get(view, addr, codes)) {
                Some(frame) if &*frame.code.file == "<shim>" || frame.code.file.is_empty() => mark_entry(&mut list),
                Some(frame) if frame.started(l) => list.push(frame),
                Some(_) => {}
                None if list.is_empty() => return Err(NoPython::Unreadable),
                None => {
                    truncated = true;
                    break;
                }
            }
        }
    }
    if !truncated {
        mark_entry(&mut list);
    }
    Ok(Frames { list, truncated })
}

/// Frames whose code is read together.
const BATCH: usize = 64;

/// The heads of code objects, read in one go, each once.
struct Batch {
    addrs: Vec<u64>,
    held: Vec<u8>,
    each: usize,
    /// What was made of those that were asked for: a stack runs the same code more than once.
    known: Vec<Option<Rc<Code>>>,
}

impl Batch {
    fn read(view: View<'_>, addrs: impl Iterator<Item = u64>) -> Batch {
        let mut addrs: Vec<u64> = addrs.collect();
        addrs.sort_unstable();
        addrs.dedup();
        let each = view.layout.code_head();
        let mut held = vec![0; addrs.len() * each];
        let got = view.mem.gather(&addrs, each, &mut held);
        held.truncate(got * each);
        let known = vec![None; addrs.len()];
        Batch { addrs, held, each, known }
    }

    fn get(&mut self, view: View<'_>, addr: u64, codes: &mut Codes) -> Option<Rc<Code>> {
        let Ok(i) = self.addrs.binary_search(&addr) else { return codes.get(view, addr) };
        let known = self.known.get_mut(i)?;
        if known.is_none() {
            *known = match self.held.get(i * self.each..(i + 1) * self.each) {
                Some(head) => codes.get_read(view, addr, head.to_vec()),
                None => codes.get(view, addr),
            };
        }
        known.clone()
    }
}

/// The bytes below a frame, read along with it: from 3.11 on frames lie one above the other on the thread's data stack,
/// and a read costs by the call and not by the byte. From 3.12 on some lie on the native stack in between.
struct Window {
    /// What was read so far: where it begins, and the bytes. The newest is last.
    held: Vec<(u64, Vec<u8>)>,
    /// Where the newest piece of the data stack begins (`datastack_chunk`); 0 if that is not known.
    floor: u64,
}

impl Window {
    fn of(l: &Layout, state: &[u8]) -> Window {
        let floor = l.ts_datastack_top.and_then(|o| word_in(state, o.checked_sub(8)?)).unwrap_or(0);
        Window { held: Vec::new(), floor }
    }

    fn get(&mut self, view: View<'_>, addr: u64, n: usize) -> Option<Vec<u8>> {
        const BELOW: u64 = 4096;
        /// Pieces that are kept: a stack in many pieces is no reason to hold much memory.
        const PIECES: usize = 8;
        if let Some(found) = view.stack.get(addr, n) {
            return Some(found.to_vec());
        }
        if let (true, Some(start)) = (view.layout.modern(), addr.checked_sub(BELOW)) {
            let within = |(start, bytes): &(u64, Vec<u8>)| {
                let off = usize::try_from(addr.checked_sub(*start)?).ok()?;
                bytes.get(off..off.checked_add(n)?).map(<[u8]>::to_vec)
            };
            if let Some(found) = self.held.iter().rev().find_map(within) {
                return Some(found);
            }
            let start = if self.floor <= addr { start.max(self.floor) } else { start };
            if let Some(read) = bytes(view.mem, start, usize::try_from(addr - start).ok()?.checked_add(n)?) {
                let piece = (start, read);
                let found = within(&piece);
                if self.held.len() == PIECES {
                    self.held.remove(0);
                }
                self.held.push(piece);
                return found;
            }
        }
        bytes(view.mem, addr, n)
    }
}

/// The newest frame so far is the outermost of its native evaluation loop.
fn mark_entry(list: &mut [Frame]) {
    if let Some(f) = list.last_mut() {
        f.entry = true;
    }
}

/// Since 3.12 the interpreter puts a frame of its own, on the native stack, where native code called Python
/// (`FRAME_OWNED_BY_CSTACK` is 3; in 3.14 3 and 4 are both not Python's).
fn shim(l: &Layout, head: &[u8]) -> bool {
    l.minor >= 12 && l.f_owner.and_then(|o| head.get(o)).is_some_and(|&o| o >= 3)
}

/// Where the code of a frame is.
fn at_code(l: &Layout, head: &[u8]) -> Option<u64> {
    let at = word_in(head, l.f_code)?;
    Some(if l.minor >= 14 { at & !3 } else { at })
}

fn read(view: View<'_>, addr: u64, head: Vec<u8>, code: &mut dyn FnMut(u64) -> Option<Rc<Code>>) -> Option<Frame> {
    let l = view.layout;
    let at_code = at_code(l, &head)?;
    let code = code(at_code)?;
    let at = match l.instr {
        Instr::Lasti(unit) => i64::from(int_in(&head, l.f_instr)?) * unit,
        Instr::Address => {
            let start = at_code.checked_add(l.c_code as u64)?;
            word_in(&head, l.f_instr)?.wrapping_sub(start).cast_signed()
        }
    };
    let entry = match l.f_is_entry {
        Some(o) => *head.get(o)? != 0,
        None => !l.modern(),
    };
    let on_data_stack = l.f_owner.and_then(|o| head.get(o)) == Some(&0);
    Some(Frame { addr, head, code, at, entry, on_data_stack })
}

impl Frame {
    /// As `_PyFrame_IsIncomplete`: a frame whose cells are still being made is not shown (a collection may run then).
    fn started(&self, l: &Layout) -> bool {
        !self.on_data_stack || self.at >= self.code.first_traceable(l)
    }
}

/// The frame that is being cleared after its return, if there is one.
///
/// A frame that returns is unlinked first, then its locals are released, and only then is its place on the thread's data
/// stack given back (`_PyEvalFrameClearAndPop`, `_PyThreadState_PopFrame`, 3.11 and later). So while a local's
/// finalizer runs, the place between the end of the innermost linked frame and `datastack_top` is exactly one frame
/// that nothing links to. That its own size fills the gap to the byte is the proof that it is one. Up to 3.10 frames
/// are objects on the heap, and nothing leads to one in that state.
pub(super) fn dying(view: View<'_>, state: &[u8], list: &[Frame], codes: &mut Codes) -> Option<Frame> {
    let off = view.layout.ts_datastack_top?;
    let top = word_in(state, off)?;
    let chunk = word_in(state, off.checked_sub(8)?)?;
    let newest = list.iter().find(|f| f.on_data_stack);
    let end = newest.and_then(|f| f.addr.checked_add(f.code.frame_words * 8));
    if end == Some(top) {
        return None;
    }
    // The frame may be the first of a chunk: data follows previous, size, top (and the very first word is skipped).
    [end, chunk.checked_add(24), chunk.checked_add(32)].into_iter().flatten().find_map(|addr| {
        let room = top.checked_sub(addr).filter(|&n| n > 0 && n <= 1 << 23)?;
        let frame = read(view, addr, bytes(view.mem, addr, view.layout.frame_head())?, &mut |at| codes.get(view, at))?;
        (frame.code.frame_words * 8 == room && newest.is_none_or(|f| f.addr != addr)).then_some(frame)
    })
}

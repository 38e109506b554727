//! Python's frames, and what they say about a descriptor.
//!
//! `run(cmd, stdout=open("out", "w").fileno())`: CPython's reference count closes the descriptor before the child
//! exists. At that close the native stack shows a finalizer; this module shows the user's line, and decides whether the
//! *number* has escaped from the object that dies (see `escape`).
//!
//! The reader is our own: it knows where CPython 3.8 to 3.14 keep their frames (`layout`), finds `_PyRuntime` in the
//! interpreter's symbols (`locate`), and walks from there over [`ReadMemory`](crate::base::ReadMemory): no system call
//! but reads, and nothing in the target runs. py-spy takes over where the tables do not fit (with the feature
//! `python`); how often that happened, and what stayed unknown, is in [`Coverage`].
//!
//! The target must be stopped: nothing here guards against a stack that changes while it is read. What is read may
//! still be torn or hostile; every size and every chain is bounded and every failure is a value.

mod code;
mod escape;
mod frame;
mod layout;
mod lines;
mod locate;
mod opcode;
#[cfg(feature = "python")]
mod pyspy;
mod spawn;
mod view;

pub use locate::{Runtime, runtime_symbol};

use crate::base::{AddressSpace, Pid, Tid};
use crate::stack::Stretch;
use code::Codes;
use escape::Verdict;
use frame::Frames;
use layout::Layout;
use locate::{Files, Missing};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use view::View;

/// One frame of Python code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PyFrame {
    /// The function's qualified name (3.11 and later) or name; `<module>` for a module's own code.
    pub function: Arc<str>,
    /// The file as the code object names it, which may be relative.
    pub file: Arc<str>,
    /// The line that is being executed; `None` where the compiler gave the instruction none.
    pub line: Option<u32>,
    /// The outermost frame of a native evaluation loop: one `_PyEval_EvalFrameDefault` on the native stack stands for
    /// the frames before it, up to and with this one.
    pub entry: bool,
}

/// A task's Python stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PyStack {
    /// Innermost first.
    pub frames: Vec<PyFrame>,
    /// The stack went on, but was too deep or could not be read further.
    pub truncated: bool,
    /// The innermost code is leaving a `with` block. Told up to 3.10, whose bytecode has a shape of its own for that.
    pub leaves_with: bool,
    /// Which activation each frame is, outermost first: where the frame lies, whose code it runs, and where in its caller it
    /// will go on. Empty where that is not known of all.
    pub activations: Vec<u64>,
}

/// Evidence that the number has left the object. Frames are indices into [`PyStack::frames`] of the same stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Escape {
    /// The frame is calling `fileno()` on a temporary.
    FilenoCall {
        /// The calling frame.
        frame: usize,
    },
    /// A function has returned what `fileno()` gave, and the object dies with its frame. Seen from 3.11 on; up to 3.10
    /// nothing leads to such a frame.
    ReturnsFileno {
        /// The frame that returned. It is not part of the stack any more: frame 0 is its caller.
        callee: PyFrame,
    },
    /// The variable that the file was in is being replaced or deleted, another still holds the number and is read later.
    Holds {
        /// The frame that holds it.
        frame: usize,
        /// The variable.
        name: String,
    },
}

/// How a spawning frame holds a descriptor. Frames are indices into [`PyStack::frames`] of the same stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SpawnArgument {
    /// As a number, which keeps nothing alive.
    RawInt {
        /// The frame, and the name of its variable or keyword argument.
        frame: usize,
        /// The variable or keyword argument.
        name: String,
    },
    /// As a file object, which keeps the descriptor open.
    FileObject {
        /// The frame.
        frame: usize,
        /// The variable or keyword argument.
        name: String,
    },
}

/// Why there is no Python stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoPython {
    /// Nothing in the process looks like CPython.
    #[error("no Python interpreter in the process")]
    Absent,
    /// The interpreter is still starting, or already gone.
    #[error("the Python interpreter is not running yet")]
    NotYet,
    /// An earlier attempt failed; this call did not try again.
    #[error("an earlier attempt to find the Python interpreter failed")]
    BackingOff,
    /// The task runs no Python code.
    #[error("the task has no Python thread state")]
    NoThread,
    /// A version, or a build of one, whose structures are not known.
    #[error("Python 3.{0} is not understood")]
    Unsupported(u8),
    /// A build without the global lock, whose objects are laid out otherwise (PEP 703).
    #[error("free-threaded Python 3.{0} is not understood")]
    FreeThreaded(u8),
    /// The interpreter was found but does not read as one.
    #[error("the interpreter's memory is inconsistent")]
    Unreadable,
}

/// How well Python was understood, for a report's coverage.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Coverage {
    /// Stacks read.
    pub traces: u64,
    /// Of these, by py-spy because our own reader could not.
    pub by_py_spy: u64,
    /// Stops at which a Python process gave no stack (not those before it had started).
    pub failures: u64,
    /// Stops at which code that calls `fileno()` could not be decoded.
    pub undecided: u64,
    /// Minor versions of Python 3 that were met and are not understood.
    pub unsupported: BTreeSet<u8>,
    /// A process of Python 3.12 or earlier had several interpreters. Frames of one that another thread than the running
    /// one had made are not seen.
    pub interpreters_shared: bool,
    /// Minor versions of which a free-threaded build was met; none is understood.
    pub free_threaded: BTreeSet<u8>,
}

/// A stopped task, and the way to its memory.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// Its process.
    pub pid: Pid,
    /// The task.
    pub tid: Tid,
    /// Its thread pointer, `Regs::fs_base`: the surest way to its Python thread (see [`NoPython::NoThread`]).
    pub fs_base: Option<u64>,
    /// Its memory and mappings.
    pub space: &'a dyn AddressSpace,
    /// What of its native stack has been read at this stop; nothing of it is read again.
    pub stack: Stretch<'a>,
}

impl Task<'_> {
    fn view<'a>(&'a self, layout: &'a Layout) -> View<'a> {
        View { mem: self.space, layout, stack: self.stack }
    }
}

/// Frames that can be evidence: the innermost two, and the ones to be passed on the way to the data stack's newest.
const INNERMOST: usize = 8;

#[derive(Clone, Debug)]
struct Interpreter {
    runtime: u64,
    layout: Rc<Layout>,
}

#[derive(Clone, Default, Debug)]
struct Process {
    hint: Option<Runtime>,
    interpreter: Option<Interpreter>,
    codes: Codes,
    /// Its first thread.
    main: Option<frame::Main>,
    failures: u32,
    wait: u32,
    why: Option<NoPython>,
}

/// The interpreters of all processes of a session.
#[derive(Default, Debug)]
pub struct Pythons {
    processes: HashMap<Pid, Process>,
    files: Files,
    coverage: Coverage,
    #[cfg(feature = "python")]
    spies: HashMap<Pid, pyspy::Spy>,
}

impl Pythons {
    /// For a session that has seen nothing yet.
    pub fn new() -> Pythons {
        Pythons::default()
    }

    /// Says where a process's `_PyRuntime` is, so that its mappings need not be searched.
    pub fn hint(&mut self, pid: Pid, runtime: Runtime) {
        let process = self.processes.entry(pid).or_default();
        *process = Process { hint: Some(runtime), ..Process::default() };
    }

    /// The Python stack of a stopped task.
    pub fn trace(&mut self, task: &Task<'_>) -> Result<PyStack, NoPython> {
        let result = match self.frames(task, frame::FRAMES) {
            Ok((layout, frames, _)) => Ok(frames.stack(task.view(&layout))),
            Err(why @ (NoPython::Unsupported(_) | NoPython::Unreadable)) => self.fall_back(task, why),
            Err(why) => Err(why),
        };
        match result {
            Ok(_) => self.coverage.traces += 1,
            Err(NoPython::Absent | NoPython::NotYet | NoPython::BackingOff) => {}
            Err(_) => self.coverage.failures += 1,
        }
        result
    }

    /// Whether descriptor `fd`, which a finalizer is closing on this task, has escaped from its object as a number.
    ///
    /// Only asked when the native stack shows an implicit close: of a close that code asked for it says nothing.
    pub fn escape(&mut self, task: &Task<'_>, fd: i32) -> Result<Option<Escape>, NoPython> {
        let (layout, frames, state) = self.frames(task, INNERMOST)?;
        let view = task.view(&layout);
        let codes = &mut self.processes.entry(task.pid).or_default().codes;
        let dying = frame::dying(view, &state, &frames.list, codes);
        Ok(match escape::verdict(view, &frames, dying.as_ref(), fd) {
            Verdict::Escaped(e) => Some(e),
            Verdict::Kept => None,
            Verdict::Undecided => {
                self.coverage.undecided += 1;
                None
            }
        })
    }

    /// In what form the frames that are spawning a child hold descriptor `fd`.
    ///
    /// Asked in the parent at the entry of fork, vfork, clone or posix_spawn's clone.
    pub fn spawn_argument(&mut self, task: &Task<'_>, fd: i32) -> Result<Option<SpawnArgument>, NoPython> {
        let (layout, frames, _) = self.frames(task, spawn::FRAMES)?;
        Ok(spawn::argument(task.view(&layout), &frames, fd))
    }

    /// A process is gone or has executed another program.
    pub fn forget(&mut self, pid: Pid) {
        self.processes.remove(&pid);
        #[cfg(feature = "python")]
        self.spies.remove(&pid);
    }

    /// A process has forked: the child's interpreter is where the parent's is.
    pub fn fork(&mut self, parent: Pid, child: Pid) {
        if let Some(p) = self.processes.get(&parent).cloned() {
            self.processes.insert(child, p);
        }
    }

    /// What has been understood so far.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// The frames of a task, and the thread state in which the innermost were found.
    fn frames(&mut self, task: &Task<'_>, limit: usize) -> Result<(Rc<Layout>, Frames, Vec<u8>), NoPython> {
        let process = self.processes.entry(task.pid).or_default();
        let found = match &process.interpreter {
            Some(i) => i.clone(),
            None => {
                if process.wait > 0 {
                    process.wait -= 1;
                    return Err(process.why.unwrap_or(NoPython::BackingOff));
                }
                match interpreter(process.hint, &mut self.files, task) {
                    Ok(i) => {
                        process.failures = 0;
                        process.interpreter.insert(i).clone()
                    }
                    Err(why) => {
                        // By calls, not by time: looking costs a read of the maps. While the dynamic linker is still
                        // mapping libraries the next call may already succeed, so the first few are free.
                        process.failures += 1;
                        process.wait = match process.failures {
                            0..=8 => 0,
                            n => 1 << (n - 8).min(8),
                        };
                        process.why = Some(why);
                        match why {
                            NoPython::Unsupported(minor) => self.coverage.unsupported.insert(minor),
                            NoPython::FreeThreaded(minor) => self.coverage.free_threaded.insert(minor),
                            _ => false,
                        };
                        return Err(why);
                    }
                }
            }
        };
        let view = task.view(&found.layout);
        let (states, several) = frame::threads(view, found.runtime, task, &mut process.main)?;
        // Up to 3.12 run_string() makes whatever thread calls it use the state of the thread that made the interpreter.
        self.coverage.interpreters_shared |= several && found.layout.minor <= 12;
        let frames = frame::walk_all(view, &states, &mut process.codes, limit)?;
        let innermost = states.into_iter().next().ok_or(NoPython::NoThread)?;
        Ok((found.layout, frames, innermost))
    }

    #[cfg(feature = "python")]
    fn fall_back(&mut self, task: &Task<'_>, why: NoPython) -> Result<PyStack, NoPython> {
        // While libraries are being mapped an interpreter looks unreadable: py-spy's milliseconds would be wasted.
        if self.processes.get(&task.pid).is_some_and(|p| p.interpreter.is_none() && p.failures < 4) {
            return Err(why);
        }
        let stack = self.spies.entry(task.pid).or_insert_with(pyspy::Spy::new).trace(task).map_err(|_| why)?;
        self.coverage.by_py_spy += 1;
        Ok(stack)
    }

    #[cfg(not(feature = "python"))]
    fn fall_back(&mut self, _: &Task<'_>, why: NoPython) -> Result<PyStack, NoPython> {
        Err(why)
    }
}

/// Finds the interpreter of a process and the layout that fits it.
fn interpreter(hint: Option<Runtime>, files: &mut Files, task: &Task<'_>) -> Result<Interpreter, NoPython> {
    let found = match hint {
        Some(r) => r,
        None => files.find(task.space).map_err(|m| match m {
            Missing::Absent => NoPython::Absent,
            Missing::Hidden => NoPython::Unreadable,
        })?,
    };
    let mem: &dyn crate::base::ReadMemory = task.space;
    // From 3.13 on the version follows the cookie. Before 3.11 it is nowhere: try what is left (3.9 is like 3.8).
    let published = mem
        .word(found.address)
        .filter(|w| w.to_le_bytes() == *b"xdebugpy")
        .and_then(|_| mem.word(found.address.checked_add(8)?))
        .map(|v| (v >> 16) as u8);
    let Some(minor) = found.minor.or(published) else {
        return [10, 8]
            .into_iter()
            .filter_map(Layout::of)
            .find(|layout| {
                let view = task.view(layout);
                frame::threads(view, found.address, task, &mut None)
                    .and_then(|(states, _)| frame::walk_all(view, &states, &mut Codes::default(), 2))
                    .is_ok_and(|f| !f.list.is_empty())
            })
            .map(|l| Interpreter { runtime: found.address, layout: Rc::new(l) })
            .ok_or(NoPython::NotYet);
    };
    // `_Py_DebugOffsets::free_threaded` follows the version.
    if published.is_some() && found.address.checked_add(16).and_then(|a| mem.word(a)).is_some_and(|w| w != 0) {
        return Err(NoPython::FreeThreaded(minor));
    }
    let layout = Layout::of(minor).and_then(|l| l.published(task.space, found.address));
    let layout = layout.ok_or(NoPython::Unsupported(minor))?;
    Ok(Interpreter { runtime: found.address, layout: Rc::new(layout) })
}

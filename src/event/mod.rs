//! What happened, in the model's terms: a closed and small set, whatever the kernel may have been asked.
//!
//! A system call becomes at most a few [`Effect`]s; a new system call therefore never reaches the model, the rules or
//! the reports. Events are plain values: a test can write them down, a file can hold them.

mod alteration;
mod environment;
mod file;
pub(crate) mod wire;

pub use alteration::Alteration;
pub use environment::{may_name, may_promise};
pub use file::{Direction, FileKind, NewFile};

use crate::base::{Fd, Pid, PyStackId, StackId, Tid};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One thing that a task did, or that happened to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since fdwatch started watching; never decreasing from one event to the next.
    pub at: u64,
    /// The task.
    pub tid: Tid,
    /// What.
    pub kind: EventKind,
}

impl Event {
    /// Where it was made, if a stack was taken there.
    pub fn site(&self) -> Option<&Site> {
        match &self.kind {
            EventKind::Call(call) => Some(&call.site),
            EventKind::Fork(fork) => Some(&fork.site),
            EventKind::Start(_) | EventKind::Exec { .. } | EventKind::Exit { .. } | EventKind::Reconciled { .. } => {
                None
            }
        }
    }
}

/// The kinds of event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The task is followed from now on, and nothing of it was seen before.
    Start(Start),
    /// A system call, about to be made or made.
    Call(Call),
    /// `tid` created a task. Comes before every event of the child.
    Fork(Fork),
    /// A process executed a program. If another thread than the leader called execve, that thread's tid is `former`
    /// and it is the leader (the event's task) from now on; all other threads are gone.
    Exec {
        /// The tid of the task that called execve, before it took over the leader's.
        former: Tid,
        /// What it runs now.
        program: Program,
    },
    /// The task is gone.
    Exit {
        /// How.
        status: ExitStatus,
    },
    /// The kernel's table was looked at, and differs from what is known of the task's.
    Reconciled {
        /// Whether calls of several tasks, which were made at once, explain it: nothing was missed then.
        raced: bool,
        /// What differs.
        corrections: Vec<Correction>,
    },
}

impl EventKind {
    /// The call, if it is one.
    pub fn call(&self) -> Option<&Call> {
        match self {
            EventKind::Call(call) => Some(call),
            _ => None,
        }
    }
}

/// A task that nobody announced: the first program's, one that was attached to, or an orphan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Its process. One that is known already gets another thread.
    pub pid: Pid,
    /// The process that made it, if that is followed.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub parent: Option<Pid>,
    /// Program and arguments.
    pub program: Program,
    /// Its table.
    pub table: Found,
}

/// The table of a task that nobody announced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Its own, with these descriptors, in ascending order.
    Own(Vec<Present>),
    /// That of another task that is followed.
    SharedWith(Tid),
}

/// How the kernel's table differs from what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Correction {
    /// A descriptor is open that was not known; what was known of its number is over.
    Appeared(Present),
    /// A descriptor is not open any more.
    Vanished {
        /// The number.
        fd: Fd,
    },
    /// FD_CLOEXEC is otherwise.
    Cloexec {
        /// The number.
        fd: Fd,
        /// Set?
        on: bool,
    },
    /// A descriptor that had appeared is of the same open file description as another, which was told later.
    Same {
        /// The number.
        fd: Fd,
        /// The other: a task and a number of its table.
        with: (Tid, Fd),
    },
}

/// A program that was executed.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Program {
    /// The executable as `/proc/PID/exe` names it; empty where it could not be read.
    #[serde(with = "wire::bytes")]
    pub exe: Vec<u8>,
    /// The arguments, the zeroth included.
    #[serde(with = "wire::many_bytes")]
    pub argv: Vec<Vec<u8>>,
    /// What of its environment may promise it a descriptor, or name a file, as `NAME=value`; see [`may_promise`] and
    /// [`may_name`].
    #[serde(default, with = "wire::many_bytes", skip_serializing_if = "wire::is_default")]
    pub env: Vec<Vec<u8>>,
    /// The soft limit of RLIMIT_NOFILE (getrlimit(2)) when it was executed; `None` where it is not known.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub most_fds: Option<u64>,
}

/// A descriptor that is open, and whose beginning was not seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Present {
    /// The number.
    pub fd: Fd,
    /// Whether execve closes it.
    pub cloexec: bool,
    /// The object.
    pub file: NewFile,
    /// A descriptor of the very same open file description that is known: a task, and a number of its table. It may be
    /// an earlier one of the same list.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub same_as: Option<(Tid, Fd)>,
}

/// How a task ended (waitpid(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It called exit with this status, 0..=255.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

/// A new task (clone(2)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fork {
    /// The new task.
    pub child: Tid,
    /// Its process: the caller's own for a thread.
    pub child_pid: Pid,
    /// CLONE_FILES: the two share one table. Otherwise the child gets a copy.
    pub shares_files: bool,
    /// CLONE_VM without CLONE_THREAD: a vfork or posix_spawn.
    pub shares_memory: bool,
    /// Where.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub site: Site,
    /// What the spawning code holds for numbers that look suspicious; empty where nobody asked.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub held: Vec<(Fd, Held)>,
    /// Numbers that the spawning code took for itself, and that had been something else before.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub plumbing: Vec<Plumbing>,
}

/// A number that was something else before the code that starts a child opened something of its own there: within the very
/// activation of a function that goes on to make the child, while what it was before was opened outside of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plumbing {
    /// The number.
    pub fd: Fd,
    /// When its latest life began, in nanoseconds since fdwatch started watching.
    pub at: u64,
    /// When those of its former lives began that were opened outside.
    pub outside: Vec<u64>,
    /// Which frames tell it.
    pub by: Frames,
}

/// A kind of stack frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frames {
    /// Native: canonical frame address and return address.
    Native,
    /// Python's: its address, its code, and the instruction that its caller is at.
    Python,
}

/// What a frame that starts a child holds in place of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// A bare number, in the variable of this name.
    Number(Arc<str>),
    /// An object that owns the descriptor, in the variable of this name.
    Object(Arc<str>),
}

/// A system call in the model's terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Name, arguments, result.
    pub info: CallInfo,
    /// What it does to the table, or did.
    pub effects: Vec<Effect>,
    /// Where.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub site: Site,
}

/// The name of a system call. It lives as long as the program, so that calls are plain values.
pub type CallName = &'static str;

/// A system call as a person reads it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallInfo {
    /// Its name in the table that it was made through.
    #[serde(deserialize_with = "wire::call_name::deserialize")]
    pub name: CallName,
    /// The arguments, as passed.
    pub args: [u64; 6],
    /// The result: negative numbers above -4096 are errors (-errno). `None` while it is only about to be made.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub ret: Option<i64>,
}

/// The stack behind an event and what it says.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Site {
    /// The native stack; `None` where none was taken.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub stack: Option<StackId>,
    /// The Python stack.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub py: Option<PyStackId>,
    /// What the stack says about why.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub cause: Cause,
    /// Evidence that the number has left the object that owns it.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub escape: Option<Escape>,
    /// The shared object, or the program, that the innermost frame lies in which is no runtime's and no system library's:
    /// the last component of its path. `None` where there is none or no stack was taken.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub owner: Option<Arc<str>>,
}

/// Why an end came.
///
/// An event has what its stack says at the stop, by the addresses of telling functions; more is known when somebody looks
/// and functions get their names (`render::why`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// Nothing is known.
    #[default]
    Unknown,
    /// Code asked for it.
    Explicit,
    /// Code left a block that owns the object (Python's `with`).
    With,
    /// A finalizer ran because the last reference went away.
    Finalizer,
    /// A finalizer ran because a collector found the object.
    Collector,
    /// A finalizer ran because the interpreter shuts down.
    Shutdown,
    /// A destructor (C++) or drop glue (Rust) ran. Known by names only.
    Destructor,
    /// `fclose`: the stream owned the descriptor.
    Stream,
    /// `closedir`.
    Directory,
    /// `pclose`.
    Pipe,
    /// All that is open was closed, one by one or as a range, as before an exec.
    Loop,
    /// A redirection was made or undone, as shells do.
    Redirection,
    /// execve closed it because of FD_CLOEXEC. Known by how the life ended.
    Exec,
    /// The last task of its table ended. Known by how the life ended.
    Exit,
}

impl Cause {
    /// Whether no code asked for this close at this place.
    pub fn is_implicit(self) -> bool {
        matches!(self, Cause::Finalizer | Cause::Collector)
    }
}

/// Evidence that a number has left the object that owns the descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Escape {
    /// The frame is at a call of `fileno()`: the object was a temporary and dies with the call.
    FilenoCall,
    /// The frame returns what `fileno()` gave and takes the object with it.
    ReturnsFileno,
    /// The frame holds the number in the variable of this name.
    Holds(Arc<str>),
}

/// A file, whatever its names are (statx(2), `stx_dev_major`, `stx_dev_minor` and `stx_ino`): as long as somebody has it
/// open, no other has these numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Inode {
    /// The device of its file system, major and minor number.
    pub dev: (u32, u32),
    /// Its number there.
    pub ino: u64,
}

/// What a call does to a descriptor table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// A new open file description at `fd`.
    Open {
        /// The number.
        fd: Fd,
        /// FD_CLOEXEC.
        cloexec: bool,
        /// The object.
        file: NewFile,
    },
    /// A descriptor of an open file description that somebody else holds, or held: received over a socket (unix(7),
    /// SCM_RIGHTS) or taken with pidfd_getfd(2).
    Receive {
        /// The number.
        fd: Fd,
        /// FD_CLOEXEC.
        cloexec: bool,
        /// The object.
        file: NewFile,
        /// Whose it is: a task and a number of its table; `None` where nobody who is followed is known to hold it.
        from: Option<(Tid, Fd)>,
    },
    /// `to` becomes another descriptor of `from`'s open file description; what `to` was before ends.
    Alias {
        /// The number that is copied.
        from: Fd,
        /// The number that is filled.
        to: Fd,
        /// FD_CLOEXEC of `to`.
        cloexec: bool,
    },
    /// FD_CLOEXEC is set or cleared.
    Cloexec {
        /// The number.
        fd: Fd,
        /// Set?
        on: bool,
    },
    /// The slot is emptied.
    Close {
        /// The number.
        fd: Fd,
    },
    /// All slots of a range are emptied, or marked FD_CLOEXEC (close_range(2)).
    CloseRange {
        /// The first number.
        first: u32,
        /// The last, included.
        last: u32,
        /// CLOSE_RANGE_CLOEXEC: mark, do not close.
        mark: bool,
    },
    /// The task gets a table of its own, a copy of the one it shared.
    Unshare,
    /// The kernel refused a call because `fd` is not open (EBADF).
    Refused {
        /// The number.
        fd: Fd,
        /// The number that should have become a copy of it.
        to: Option<Fd>,
        /// Whether the call was a close.
        close: bool,
    },
    /// A call closes, marks FD_CLOEXEC or uses a number that never was open. No mistake, and nothing changes; those are told
    /// that may show a loop: of a child that tidies up before it executes a program the first few closes in succession, of
    /// others what comes next after a call that was refused; and of all a call on the number next to one that was closed.
    Vain {
        /// The number.
        fd: Fd,
    },
    /// A program was not executed: the result of the call says why (execve(2), "ERRORS"). No table changes.
    NotExecuted {
        /// Its path, as the call names it; empty where the call names it by a descriptor alone, or it could not be read.
        #[serde(with = "wire::bytes")]
        path: Vec<u8>,
        /// The file that the path leads to, as `/proc` names it, where somebody has it open for writing (ETXTBSY); else
        /// empty.
        #[serde(default, with = "wire::bytes", skip_serializing_if = "wire::is_default")]
        file: Vec<u8>,
        /// Which file that is, as the kernel tells files apart.
        #[serde(default, skip_serializing_if = "wire::is_default")]
        inode: Option<Inode>,
        /// The known descriptors that had this very file open for writing after the call; `None` where nobody could ask.
        #[serde(default, skip_serializing_if = "wire::is_default")]
        writers: Option<Vec<(Tid, Fd)>>,
        /// When the call was entered, in nanoseconds since fdwatch started watching.
        since: u64,
    },
    /// fdwatch makes the call come out differently. What it does to the table for all that is told by other effects, or by
    /// the event of the call itself, which follows.
    Altered {
        /// How.
        how: Alteration,
        /// The numbers that the call is about, in ascending order, as far as it is about any.
        fds: Vec<Fd>,
        /// The path that the call names, where it names one and was not made; else empty.
        #[serde(default, with = "wire::bytes", skip_serializing_if = "wire::is_default")]
        path: Vec<u8>,
    },
}

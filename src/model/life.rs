//! Lives, the objects they refer to, and the moments at which they begin and end.

use crate::base::{Fd, FileId, LifeId, Pid, TableId, Tid};
use crate::event::{CallInfo, NewFile, Site};

/// An open file description, shared by every descriptor that dup or fork made of it.
#[derive(Clone, Debug)]
pub struct OpenFile {
    /// Its id.
    pub id: FileId,
    /// What it is.
    pub file: NewFile,
    /// The life it began with.
    pub first: LifeId,
    /// How many lives refer to it that are not over.
    pub holders: u32,
    /// How many remembered lives refer to it, over or not.
    pub(super) lives: u32,
}

/// When, who and where.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Nanoseconds since fdwatch started watching.
    pub at: u64,
    /// The process.
    pub pid: Pid,
    /// The task.
    pub tid: Tid,
    /// What happened.
    pub what: What,
    /// The stack.
    pub site: Site,
}

/// What happened at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// A system call.
    Call(CallInfo),
    /// A process was created; this is in its parent.
    Fork,
    /// A program was executed.
    Exec,
    /// The last task of the table ended.
    Exit,
    /// It was so when fdwatch began to look.
    Present,
    /// The kernel's table was looked at, and it was so.
    Noticed,
}

/// How a life began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A call made a new object.
    Opened,
    /// dup, dup2, dup3 or F_DUPFD made it from another life.
    Duplicated(LifeId),
    /// A fork copied the table.
    Inherited(LifeId),
    /// unshare or CLOSE_RANGE_UNSHARE copied the table.
    Unshared(LifeId),
    /// It came over a socket or by pidfd_getfd, from this life if that is known.
    Received(Option<LifeId>),
    /// It was there when fdwatch began to look.
    Present,
    /// It was found in the kernel's table, and nobody saw how it came there.
    Appeared,
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// close.
    Closed,
    /// dup2 or dup3 put another file in the slot.
    Replaced,
    /// close_range.
    ClosedInRange,
    /// execve closed it because of FD_CLOEXEC.
    ClosedOnExec,
    /// Its table's last task ended.
    TableGone,
    /// Something filled or emptied the slot unseen.
    Vanished,
}

/// The end of a life.
#[derive(Clone, Debug)]
pub struct End {
    /// How.
    pub how: Ended,
    /// When, who and where.
    pub moment: Moment,
}

/// One generation of one number in one table.
#[derive(Clone, Debug)]
pub struct Life {
    /// Its id.
    pub id: LifeId,
    /// The table.
    pub table: TableId,
    /// The number.
    pub fd: Fd,
    /// The object.
    pub file: FileId,
    /// FD_CLOEXEC, now or when it ended.
    pub cloexec: bool,
    /// When FD_CLOEXEC changed last, in nanoseconds since fdwatch started watching; 0 if never.
    pub(super) marked: u64,
    /// How it began.
    pub origin: Origin,
    /// When, who and where.
    pub began: Moment,
    /// How it ended, if it has.
    pub end: Option<End>,
}

impl Life {
    /// How long it lasted, in nanoseconds; `None` while it lasts.
    pub fn lasted(&self) -> Option<u64> {
        self.end.as_ref().map(|e| e.moment.at.saturating_sub(self.began.at))
    }

    /// Whether a call has cleared FD_CLOEXEC of it: somebody wants a child to have it.
    pub fn was_made_inheritable(&self) -> bool {
        self.marked > 0 && !self.cloexec
    }

    /// Whether nothing asked for its end and its number had left the object that owned it.
    pub fn was_lost(&self) -> bool {
        self.end.as_ref().is_some_and(|e| e.moment.site.cause.is_implicit() && e.moment.site.escape.is_some())
    }
}

//! What can go wrong with ptrace, with the operation and the task in every message.

use nix::errno::Errno;
use thiserror::Error;

/// A failure of the kernel's that is not the end of a task. A vanished task (ESRCH) is an outcome, never an error.
#[derive(Debug, Error)]
pub enum Error {
    /// A ptrace request was refused.
    #[error("ptrace {request} on task {tid}: {errno}")]
    Ptrace {
        /// The request, in ptrace(2)'s words.
        request: &'static str,
        /// The task.
        tid: i32,
        /// Why.
        errno: Errno,
    },
    /// Waiting failed.
    #[error("wait: {0}")]
    Wait(Errno),
}

/// `None` where the task is gone: then the operation has no object any more (ptrace(2), ESRCH).
pub(super) fn unless_gone<T>(request: &'static str, tid: i32, result: Result<T, Errno>) -> Result<Option<T>, Error> {
    match result {
        Ok(v) => Ok(Some(v)),
        Err(Errno::ESRCH) => Ok(None),
        Err(errno) => Err(Error::Ptrace { request, tid, errno }),
    }
}

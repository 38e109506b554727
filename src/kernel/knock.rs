//! Another way to the prompt, for targets that keep Ctrl-C to themselves: a signal to fdwatch, which stops the target by a
//! signal that nobody can block.

use super::{procfs, sys};
use crate::base::Tid;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid as NixPid;

/// Asks the fdwatch that `pid` is, or that watches `pid`, to open its prompt. Gives that fdwatch's pid.
///
/// # Errors
/// A sentence: nobody watches the process, or somebody else does.
pub fn knock(pid: i32) -> Result<i32, String> {
    let watcher = match is_fdwatch(pid) {
        true if procfs::traces_somebody(pid) => pid,
        true => return Err(format!("fdwatch {pid} watches nobody now")),
        false => match procfs::tracer_of(Tid(pid)) {
            Some(tracer) if is_fdwatch(tracer) => tracer,
            Some(tracer) => return Err(format!("process {pid} is traced by {tracer}, which is not fdwatch")),
            None if procfs::state(Tid(pid)).is_none() => return Err(format!("there is no process {pid}")),
            None => return Err(format!("fdwatch does not watch process {pid}")),
        },
    };
    match kill(NixPid::from_raw(watcher), Signal::SIGUSR1) {
        Ok(()) => Ok(watcher),
        Err(Errno::EPERM) => Err(format!("fdwatch {watcher} is somebody else's")),
        Err(e) => Err(format!("fdwatch {watcher}: {e}")),
    }
}

/// Whether a process is fdwatch and takes the signal, which ends whoever does not (signal(7)).
fn is_fdwatch(pid: i32) -> bool {
    let exe = procfs::program(Tid(pid)).exe;
    let named = exe.rsplit(|b| *b == b'/').next().is_some_and(|name| name.starts_with(b"fdwatch"));
    // `run` has a handler, `attach` blocks it and reads it (signalfd(2)).
    named && ["SigCgt", "SigBlk"].iter().any(|mask| procfs::has_signal(Tid(pid), mask, libc::SIGUSR1))
}

/// The signal by which fdwatch stops a target that somebody knocks at.
pub const KNOCK: i32 = libc::SIGSTOP;

/// Passes SIGUSR1 on as [`KNOCK`]; whether it was ignored before.
pub(super) fn listen() -> bool {
    sys::dispose(libc::SIGUSR1, sys::Disposition::Knock)
}

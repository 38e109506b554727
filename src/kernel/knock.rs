//! Another way to the prompt, for targets that keep Ctrl-C to themselves: a signal to fdwatch, which stops the target by a
//! signal that nobody can block.

use super::{procfs, sys};
use crate::base::Tid;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid as NixPid;

/// Asks the fdwatch that `pid` is, or that watches `pid`, to open its prompt: there at that process, as far as it can be
/// stopped. Gives that fdwatch's pid.
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
    // In another pid namespace nobody would know whom the signal is from, and it would be the target's.
    let sent = match watcher != pid && procfs::same_pid_namespace(watcher, pid) && may_stop(pid) {
        true => sys::send_wanting(watcher, libc::SIGUSR1, pid),
        false => kill(NixPid::from_raw(watcher), Signal::SIGUSR1),
    };
    match sent {
        Ok(()) => Ok(watcher),
        Err(Errno::EPERM) => Err(format!("fdwatch {watcher} is somebody else's")),
        Err(e) => Err(format!("fdwatch {watcher}: {e}")),
    }
}

/// Whether a process can be stopped now: one that job control has stopped, or that waits where nothing interrupts it, would
/// answer who knows when. The first process is stopped in its place.
fn may_stop(pid: i32) -> bool {
    // At a stop of fdwatch's own, which looks the same, it is for a moment only; the kernel tells nobody but its tracer when
    // that is over.
    (0..LOOKS).any(|n| {
        if n > 0 {
            std::thread::sleep(BETWEEN);
        }
        !matches!(procfs::state(Tid(pid)), None | Some('t' | 'T' | 'D' | 'Z' | 'X'))
    })
}

const LOOKS: u32 = 5;
const BETWEEN: std::time::Duration = std::time::Duration::from_millis(2);

/// Whether a process is fdwatch and takes the signal, which ends whoever does not (signal(7)).
fn is_fdwatch(pid: i32) -> bool {
    let exe = procfs::program(Tid(pid)).exe;
    let named = exe.rsplit(|b| *b == b'/').next().is_some_and(|name| name.starts_with(b"fdwatch"));
    // `run` has a handler, `attach` blocks it and reads it (signalfd(2)).
    named && ["SigCgt", "SigBlk"].iter().any(|mask| procfs::has_signal(Tid(pid), mask, libc::SIGUSR1))
}

/// The signal by which fdwatch stops a target that somebody knocks at.
pub const KNOCK: i32 = libc::SIGSTOP;

/// Whom the last request for the prompt was about, where requests are read ([`super::Requests`]); asked once.
pub fn knocked_for() -> Option<Tid> {
    sys::take_wanted().map(Tid)
}

/// Passes SIGUSR1 on as [`KNOCK`]; whether it was ignored before.
pub(super) fn listen() -> bool {
    sys::dispose(libc::SIGUSR1, sys::Disposition::Knock)
}

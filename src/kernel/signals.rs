//! What fdwatch does with signals of its own, and what the target gets back.

use super::sys::{self, Disposition};

/// The signals whose disposition fdwatch changes, and what the target must find instead.
#[derive(Debug)]
pub struct Caught {
    /// To be reset to the default in the child.
    pub(super) defaults: Vec<i32>,
    /// To be ignored in the child: a handler of ours does not outlive exec, and what was ignored must.
    pub(super) ignored: Vec<i32>,
}

impl Caught {
    /// Takes over: what a terminal sends to the whole process group is the target's alone (SIGINT, SIGQUIT); what is
    /// sent to fdwatch (SIGTERM, SIGHUP) is passed on to the target; moving the terminal between process groups must
    /// not stop fdwatch (SIGTTOU, SIGTTIN, tcsetpgrp(3)); a file that may not grow must not end it (SIGXFSZ,
    /// setrlimit(2)).
    ///
    /// What was ignored when fdwatch started stays ignored in the target, as without fdwatch.
    pub fn new() -> Caught {
        let (mut defaults, mut ignored) = (Vec::new(), Vec::new());
        let mut set = |signal, how| match sys::dispose(signal, how) {
            true => ignored.push(signal),
            false => defaults.push(signal),
        };
        for s in [libc::SIGINT, libc::SIGQUIT, libc::SIGTTOU, libc::SIGTTIN, libc::SIGXFSZ] {
            set(s, Disposition::Ignore);
        }
        for s in [libc::SIGTERM, libc::SIGHUP] {
            set(s, Disposition::PassOn);
        }
        match super::knock::listen() {
            true => ignored.push(libc::SIGUSR1),
            false => defaults.push(libc::SIGUSR1),
        }
        if !sys::pipe_signal_was_ignored() {
            // Rust's runtime ignores it before main.
            defaults.push(libc::SIGPIPE);
        }
        Caught { defaults, ignored }
    }
}

/// Stops this process and all of its process group, as Ctrl-Z does, until the job is continued. Whether it was: a group
/// that no shell would continue is not stopped (orphaned, setpgid(2)), and neither is who ignores that signal.
pub fn stop_job() -> bool {
    let ignored = sys::dispose(libc::SIGCONT, Disposition::Note);
    // It stops before kill returns, and is told that it goes on before that, too (kill(2)).
    let _ = sys::kill(0, libc::SIGTSTP);
    sys::dispose(libc::SIGCONT, if ignored { Disposition::Ignore } else { Disposition::Default });
    sys::was_noted()
}

impl Default for Caught {
    fn default() -> Self {
        Self::new()
    }
}

//! What a wait status says (waitpid(2), ptrace(2) "Stopped states"). Pure and total.

/// A wait status as the kernel gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RawStatus(pub(super) i32);

/// Which kind of task creation an event reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForkKind {
    /// PTRACE_EVENT_FORK.
    Fork,
    /// PTRACE_EVENT_VFORK.
    Vfork,
    /// PTRACE_EVENT_CLONE.
    Clone,
}

/// Why a task stopped or ended, in ptrace(2)'s words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// It exited with this status, 0..=255.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// A seccomp filter returned SECCOMP_RET_TRACE.
    Seccomp,
    /// Syscall-enter-stop or syscall-exit-stop.
    Syscall,
    /// It made a task.
    Fork(ForkKind),
    /// Its vfork child has let go of its memory.
    VforkDone,
    /// It has executed a program.
    Exec,
    /// Group-stop by this signal.
    Group(i32),
    /// PTRACE_INTERRUPT took effect, the first stop of a seized task, or the end of a group-stop.
    Interrupted,
    /// Signal-delivery-stop.
    Signal(i32),
    /// Nothing that ptrace(2) describes: it is resumed and counted.
    Unknown(i32),
}

impl RawStatus {
    /// Decodes the status of a task that was seized with PTRACE_O_TRACESYSGOOD.
    pub(super) fn decode(self) -> Stop {
        let s = self.0;
        if libc::WIFEXITED(s) {
            return Stop::Exited(libc::WEXITSTATUS(s));
        }
        if libc::WIFSIGNALED(s) {
            return Stop::Killed(libc::WTERMSIG(s));
        }
        if !libc::WIFSTOPPED(s) {
            return Stop::Unknown(s);
        }
        let sig = libc::WSTOPSIG(s);
        match s >> 16 {
            0 if sig == libc::SIGTRAP | 0x80 => Stop::Syscall,
            0 => Stop::Signal(sig),
            libc::PTRACE_EVENT_FORK => Stop::Fork(ForkKind::Fork),
            libc::PTRACE_EVENT_VFORK => Stop::Fork(ForkKind::Vfork),
            libc::PTRACE_EVENT_CLONE => Stop::Fork(ForkKind::Clone),
            libc::PTRACE_EVENT_VFORK_DONE => Stop::VforkDone,
            libc::PTRACE_EVENT_EXEC => Stop::Exec,
            libc::PTRACE_EVENT_SECCOMP => Stop::Seccomp,
            libc::PTRACE_EVENT_STOP if matches!(sig, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) => {
                Stop::Group(sig)
            }
            libc::PTRACE_EVENT_STOP => Stop::Interrupted,
            _ => Stop::Unknown(s),
        }
    }

    /// Whether the task is gone after this.
    pub(super) fn is_end(self) -> bool {
        libc::WIFEXITED(self.0) || libc::WIFSIGNALED(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_read_as_ptrace_2_says() {
        let d = |s: i32| RawStatus(s).decode();
        let stopped = |sig: i32, event: i32| d(event << 16 | sig << 8 | 0x7f);
        assert_eq!(d(3 << 8), Stop::Exited(3));
        assert_eq!(d(9), Stop::Killed(9));
        assert_eq!(d(11 | 0x80), Stop::Killed(11), "with a core");
        assert_eq!(stopped(libc::SIGTRAP | 0x80, 0), Stop::Syscall);
        assert_eq!(stopped(libc::SIGTRAP, 0), Stop::Signal(libc::SIGTRAP), "a breakpoint of the target's own");
        assert_eq!(stopped(34, 0), Stop::Signal(34), "a real-time signal");
        assert_eq!(stopped(libc::SIGTRAP, libc::PTRACE_EVENT_SECCOMP), Stop::Seccomp);
        assert_eq!(stopped(libc::SIGTSTP, libc::PTRACE_EVENT_STOP), Stop::Group(libc::SIGTSTP));
        assert_eq!(stopped(libc::SIGTRAP, libc::PTRACE_EVENT_STOP), Stop::Interrupted);
        assert!(matches!(stopped(libc::SIGTRAP, 99), Stop::Unknown(_)));
    }

    #[test]
    fn every_status_is_decoded() {
        for s in (0..0x20_0000).chain([-1, i32::MIN, i32::MAX]) {
            let _ = RawStatus(s).decode();
        }
    }
}

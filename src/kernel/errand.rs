//! Calls that a stopped task makes for fdwatch, in the place of one of its own.
//!
//! At the entry of a call its number and arguments can be exchanged (ptrace(2), seccomp(2)). At the exit the task can be
//! sent back to the instruction, as the kernel does when it restarts a call (arch/x86/kernel/signal.c): both ways of
//! entering a call are two bytes long. Nothing is written to the task's memory.

use super::{Error, Stopped, procfs, sys};
use crate::base::{Fd, ReadMemory, Regs, Tid};

/// A call of the 64-bit table: its number and its first three arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errand {
    /// The number (arch/x86/entry/syscalls/syscall_64.tbl).
    pub nr: u64,
    /// The arguments.
    pub args: [u64; 3],
}

/// What a number is called behind which nothing is that can be used ([`Errand::object`]).
const LINK: &[u8] = b"anon_inode:[eventfd]";

/// linux/fcntl.h.
const AT_EMPTY_PATH: u64 = 0x1000;

impl Errand {
    /// close(2).
    pub fn close(fd: Fd) -> Errand {
        Errand { nr: 3, args: [fd.0 as u64, 0, 0] }
    }

    /// dup3(2) of `from` over `to`, with FD_CLOEXEC.
    pub fn place(from: Fd, to: Fd) -> Errand {
        Errand { nr: 292, args: [from.0 as u64, to.0 as u64, libc::O_CLOEXEC as u64] }
    }

    /// fcntl(2), F_DUPFD_CLOEXEC: a copy of `from` at the first free number from `least` on.
    pub fn copy(from: Fd, least: i32) -> Errand {
        Errand { nr: 72, args: [from.0 as u64, libc::F_DUPFD_CLOEXEC as u64, least as u64] }
    }

    /// eventfd2(2): an object that needs nothing, and holds nothing of the file systems.
    pub fn eventfd() -> Errand {
        Errand { nr: 290, args: [0, libc::O_CLOEXEC as u64, 0] }
    }

    /// open_tree(2) of the object itself, as openat(2) with O_PATH would be: reading, writing, poll and the like are
    /// refused with EBADF, as if the number were not open. `nothing` is where an empty text stands.
    pub fn object(of: Fd, nothing: u64) -> Errand {
        Errand { nr: 428, args: [of.0 as u64, nothing, AT_EMPTY_PATH | libc::O_CLOEXEC as u64] }
    }
}

/// Where an empty text stands in the task's memory: in the padding of the header of the code that the kernel maps into
/// every process (vdso(7); elf(5), EI_PAD). `None` without that.
pub fn empty_text(task: &Stopped) -> Option<u64> {
    const AT_SYSINFO_EHDR: u64 = 33;
    const EI_PAD: u64 = 9;
    let auxv = procfs::read(format!("/proc/{}/auxv", task.tid())).ok()?;
    let mut words = auxv.chunks_exact(8).filter_map(|w| w.try_into().ok().map(u64::from_ne_bytes));
    let at = loop {
        let (kind, value) = (words.next()?, words.next()?);
        if kind == AT_SYSINFO_EHDR {
            break value.checked_add(EI_PAD)?;
        }
    };
    (task.memory().word(at)? & 0xff == 0).then_some(at)
}

/// Whether a number of the task's table is one that [`Errand::object`] has made, or a copy of it. No program makes such.
pub fn is_object(tid: Tid, fd: Fd) -> bool {
    procfs::link(tid, fd).is_some_and(|link| link == LINK)
        && procfs::flags(tid, fd).is_some_and(|flags| flags & libc::O_PATH as u32 != 0)
}

/// How many seccomp filters are in force for a task (proc_pid_status(5), Seccomp_filters); `None` before Linux 5.9.
pub fn seccomp_filters(tid: Tid) -> Option<u32> {
    procfs::status_field(tid, "Seccomp_filters")?.parse().ok()
}

impl Stopped {
    /// Lets it make another call than the one that it is entering; false when it is gone.
    ///
    /// # Errors
    /// As for every request.
    pub fn make_instead(&self, errand: Errand) -> Result<bool, Error> {
        let Errand { nr, args } = errand;
        Ok(self.ask("POKEUSER", sys::exchange_call(self.tid().0, nr, args))?.is_some())
    }

    /// Sends it, at the exit of a call, back to make this one; `regs` as they were when it entered the first.
    ///
    /// # Errors
    /// As for every request.
    pub fn make_next(&self, regs: &Regs, errand: Errand) -> Result<bool, Error> {
        let Errand { nr, args } = errand;
        let rip = regs.rip.wrapping_sub(2);
        Ok(self.ask("POKEUSER", sys::set_call(self.tid().0, rip, nr, args))?.is_some())
    }

    /// Sends it back to make the call again that it entered with `regs`.
    ///
    /// # Errors
    /// As for every request.
    pub fn make_again(&self, regs: &Regs) -> Result<bool, Error> {
        self.make_next(regs, Errand { nr: regs.orig_rax, args: [regs.rdi, regs.rsi, regs.rdx] })
    }

    /// Lets the call that it entered with `regs` have returned `result`.
    ///
    /// # Errors
    /// As for every request.
    pub fn tell_result(&self, regs: &Regs, result: u64) -> Result<bool, Error> {
        let args = [regs.rdi, regs.rsi, regs.rdx];
        Ok(self.ask("POKEUSER", sys::set_call(self.tid().0, regs.rip, result, args))?.is_some())
    }

    /// Blocks every signal that can be blocked, and gives the mask that there was; `None` when it is gone.
    ///
    /// # Errors
    /// As for every request.
    pub fn block_signals(&self) -> Result<Option<u64>, Error> {
        let Some(mask) = self.ask("GETSIGMASK", sys::mask_of(self.tid().0))? else { return Ok(None) };
        Ok(self.set_mask(u64::MAX)?.then_some(mask))
    }

    /// Blocks the signals of a mask, and no others; false when it is gone.
    ///
    /// # Errors
    /// As for every request.
    pub fn set_mask(&self, mask: u64) -> Result<bool, Error> {
        Ok(self.ask("SETSIGMASK", sys::set_mask_of(self.tid().0, mask))?.is_some())
    }
}

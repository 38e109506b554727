//! Every unsafe block of the crate, each with its reason.
#![allow(unsafe_code)]

use super::stop::RawStatus;
use crate::base::{Arch, RawCall, Regs};
use crate::event::Inode;
use libc::{c_int, c_long, c_void, pid_t};
use nix::NixPath;
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

/// Waits for any child or tracee (waitpid(2) with `__WALL`). `None` with `block` false and nothing to report.
///
/// libc is called because nix's `waitpid` fails on a stop by a real-time signal, and the stop would be lost.
pub(super) fn wait(tid: i32, block: bool) -> Result<Option<(i32, RawStatus)>, Errno> {
    #[cfg(test)]
    let got = super::fault::wait(tid, block, wait_pid)?.map(|(tid, status)| (tid, super::fault::status(tid, status)));
    #[cfg(not(test))]
    let got = wait_pid(tid, block)?;
    Ok(got.map(|(tid, status)| (tid, RawStatus(status))))
}

fn wait_pid(tid: i32, block: bool) -> Result<Option<(i32, c_int)>, Errno> {
    let mut status: c_int = 0;
    let flags = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    // SAFETY: `status` is a valid place for an int for the whole call.
    let got = unsafe { libc::waitpid(tid, &raw mut status, flags) };
    match Errno::result(got)? {
        0 => Ok(None),
        tid => Ok(Some((tid, status))),
    }
}

/// A ptrace request on `tid` is about to be made: for tests, which may want it to fail.
#[inline]
fn about_to(tid: i32) -> Result<(), Errno> {
    #[cfg(test)]
    super::fault::request(tid)?;
    let _ = tid;
    Ok(())
}

/// Looks at what [`wait`] would report, of `tid` or of whoever comes first, and leaves it to be reported (waitid(2),
/// WNOWAIT): the task, and the status if it has stopped; `None` with nothing to report.
pub(super) fn peek(tid: Option<i32>) -> Result<Option<(i32, Option<RawStatus>)>, Errno> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WSTOPPED | libc::__WALL | libc::WNOHANG | libc::WNOWAIT;
    let (which, id) = tid.map_or((libc::P_ALL, 0), |tid| (libc::P_PID, tid as libc::id_t));
    // SAFETY: `info` is a place for a siginfo_t for the whole call; all-zero bytes are a valid one, and with nothing to
    // report it stays so or is zeroed (waitid(2)); si_pid and si_status are what waitid fills.
    let (pid, code, status) = unsafe {
        Errno::result(libc::waitid(which, id, info.as_mut_ptr(), flags))?;
        let info = info.assume_init();
        (info.si_pid(), info.si_code, info.si_status())
    };
    let stopped = matches!(code, libc::CLD_TRAPPED | libc::CLD_STOPPED);
    // A wait status has the stop's number in its second byte and above (kernel/exit.c, wait_task_stopped).
    Ok((pid != 0).then_some((pid, stopped.then_some(RawStatus(status << 8 | 0x7f)))))
}

/// Takes the stop of a child that is not traced out of what [`peek`] finds: [`wait`] gives only those of tracees
/// (waitid(2), WSTOPPED).
pub(super) fn take_job_stop(pid: i32) {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WSTOPPED | libc::__WALL | libc::WNOHANG;
    // SAFETY: `info` is a place for a siginfo_t for the whole call, and is not read.
    let _ = unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, info.as_mut_ptr(), flags) };
}

/// A ptrace request whose two arguments are numbers.
fn request(req: libc::c_uint, tid: i32, addr: usize, data: usize) -> Result<c_long, Errno> {
    about_to(tid)?;
    // SAFETY: called only with requests whose `addr` and `data` the kernel takes as numbers, never as addresses in this
    // process (ptrace(2)): nothing of ours is read or written.
    Errno::result(unsafe { libc::ptrace(req, tid as pid_t, addr as *mut c_void, data as *mut c_void) })
}

/// PTRACE_SEIZE with `options`.
pub(super) fn seize(tid: i32, options: c_int) -> Result<(), Errno> {
    request(libc::PTRACE_SEIZE, tid, 0, options as usize).map(drop)
}

/// PTRACE_INTERRUPT.
pub(super) fn interrupt(tid: i32) -> Result<(), Errno> {
    request(libc::PTRACE_INTERRUPT, tid, 0, 0).map(drop)
}

/// PTRACE_CONT, delivering `signal` unless it is 0.
///
/// By number, because nix's `Signal` has no real-time signals.
pub(super) fn cont(tid: i32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_CONT, tid, 0, signal as usize).map(drop)
}

/// PTRACE_SYSCALL, delivering `signal` unless it is 0.
pub(super) fn to_syscall(tid: i32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_SYSCALL, tid, 0, signal as usize).map(drop)
}

/// PTRACE_LISTEN: leave the task in its group-stop and be told when that ends.
pub(super) fn listen(tid: i32) -> Result<(), Errno> {
    request(libc::PTRACE_LISTEN, tid, 0, 0).map(drop)
}

/// PTRACE_DETACH, delivering `signal` unless it is 0.
pub(super) fn detach(tid: i32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_DETACH, tid, 0, signal as usize).map(drop)
}

/// PTRACE_GETEVENTMSG.
pub(super) fn event_message(tid: i32) -> Result<u64, Errno> {
    about_to(tid)?;
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel writes one unsigned long to `data`, which points to one.
    Errno::result(unsafe {
        libc::ptrace(libc::PTRACE_GETEVENTMSG, tid as pid_t, 0usize, &raw mut message as *mut c_void)
    })?;
    Ok(message)
}

/// PTRACE_GETREGS.
pub(super) fn registers(tid: i32) -> Result<Regs, Errno> {
    about_to(tid)?;
    let mut r = std::mem::MaybeUninit::<libc::user_regs_struct>::zeroed();
    // SAFETY: the kernel writes one `user_regs_struct` to `data`, which points to one.
    Errno::result(unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid as pid_t, 0usize, r.as_mut_ptr() as *mut c_void) })?;
    // SAFETY: all-zero bytes are a valid `user_regs_struct` (only integers), and the call filled it.
    let r = unsafe { r.assume_init() };
    Ok(Regs {
        rax: r.rax,
        rbx: r.rbx,
        rcx: r.rcx,
        rdx: r.rdx,
        rsi: r.rsi,
        rdi: r.rdi,
        rbp: r.rbp,
        rsp: r.rsp,
        r8: r.r8,
        r9: r.r9,
        r10: r.r10,
        r11: r.r11,
        r12: r.r12,
        r13: r.r13,
        r14: r.r14,
        r15: r.r15,
        rip: r.rip,
        orig_rax: r.orig_rax,
        cs: r.cs,
        fs_base: r.fs_base,
    })
}

/// tee(2): copies at most `max` bytes that wait in the pipe `from` into the pipe `to`, and leaves them there. Does not
/// wait.
pub(super) fn tee(from: &impl AsFd, to: &impl AsFd, max: usize) -> Result<usize, Errno> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: tee touches no memory of ours; both descriptors are open while they are borrowed.
    Errno::result(unsafe { libc::tee(from, to, max, libc::SPLICE_F_NONBLOCK) }).map(|n| n as usize)
}

/// Whether it is a socket whose close may wait (socket(7), SO_LINGER).
pub(super) fn lingers(socket: &impl AsFd) -> bool {
    let mut linger = libc::linger { l_onoff: 0, l_linger: 0 };
    let mut size = std::mem::size_of_val(&linger) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes to `linger`, and to `size` how many those were.
    let got = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw mut linger).cast(),
            &raw mut size,
        )
    };
    got == 0 && linger.l_onoff != 0 && linger.l_linger > 0
}

/// Writes one word of the task's `struct user` (PTRACE_POKEUSER).
fn poke_user(tid: i32, offset: usize, value: u64) -> Result<(), Errno> {
    request(libc::PTRACE_POKEUSER, tid, offset, value as usize).map(drop)
}

/// Makes the call that the task is about to enter not happen and return `result`.
///
/// At a seccomp or entry stop a number of -1 is no call: the kernel skips it and leaves `rax` as it is
/// (ptrace(2), arch/x86/entry/common.c).
pub(super) fn skip_call(tid: i32, result: i64) -> Result<(), Errno> {
    poke_user(tid, std::mem::offset_of!(libc::user_regs_struct, orig_rax), u64::MAX)?;
    poke_user(tid, std::mem::offset_of!(libc::user_regs_struct, rax), result as u64)
}

/// Makes the call that the task is about to enter another one, of the 64-bit table.
pub(super) fn exchange_call(tid: i32, nr: u64, args: [u64; 3]) -> Result<(), Errno> {
    poke_user(tid, std::mem::offset_of!(libc::user_regs_struct, orig_rax), nr)?;
    set_args(tid, args)
}

/// Lets the task go on at `rip` with `rax` and with these arguments of a call; at the exit of one.
pub(super) fn set_call(tid: i32, rip: u64, rax: u64, args: [u64; 3]) -> Result<(), Errno> {
    poke_user(tid, std::mem::offset_of!(libc::user_regs_struct, rip), rip)?;
    poke_user(tid, std::mem::offset_of!(libc::user_regs_struct, rax), rax)?;
    set_args(tid, args)
}

fn set_args(tid: i32, [rdi, rsi, rdx]: [u64; 3]) -> Result<(), Errno> {
    poke_user(tid, std::mem::offset_of!(libc::user_regs_struct, rdi), rdi)?;
    poke_user(tid, std::mem::offset_of!(libc::user_regs_struct, rsi), rsi)?;
    poke_user(tid, std::mem::offset_of!(libc::user_regs_struct, rdx), rdx)
}

/// PTRACE_GETSIGMASK: the kernel's mask of 64 signals.
pub(super) fn mask_of(tid: i32) -> Result<u64, Errno> {
    about_to(tid)?;
    let mut mask = 0u64;
    let size = std::mem::size_of_val(&mask);
    // SAFETY: the kernel writes `addr` = `size` bytes to `data`, which points to that many.
    Errno::result(unsafe { libc::ptrace(GETSIGMASK, tid as pid_t, size, &raw mut mask as *mut c_void) })?;
    Ok(mask)
}

/// PTRACE_SETSIGMASK.
pub(super) fn set_mask_of(tid: i32, mask: u64) -> Result<(), Errno> {
    about_to(tid)?;
    let size = std::mem::size_of_val(&mask);
    // SAFETY: the kernel reads `addr` = `size` bytes from `data`, which points to that many.
    Errno::result(unsafe { libc::ptrace(SETSIGMASK, tid as pid_t, size, &raw const mask as *mut c_void) }).map(drop)
}

/// linux/ptrace.h.
const GETSIGMASK: libc::c_uint = 0x420a;
const SETSIGMASK: libc::c_uint = 0x420b;

/// What PTRACE_GET_SYSCALL_INFO says of the stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CallStop {
    /// Entry, also at a seccomp stop of our own filter.
    Entry(RawCall),
    /// A seccomp stop that another filter asked for.
    Foreign,
    /// Exit, with the result.
    Exit(i64),
    /// Neither.
    None,
}

/// PTRACE_GET_SYSCALL_INFO: the kernel's own word on entry or exit, and on which table a number belongs to.
pub(super) fn call_stop(tid: i32) -> Result<CallStop, Errno> {
    about_to(tid)?;
    // struct ptrace_syscall_info of linux/ptrace.h: op, 3 bytes of padding, arch, ip, sp, then a union.
    let mut info = [0u64; 11];
    let size = std::mem::size_of_val(&info);
    // SAFETY: the kernel writes at most `addr` = `size` bytes to `data`, which points to that many.
    Errno::result(unsafe {
        libc::ptrace(PTRACE_GET_SYSCALL_INFO, tid as pid_t, size, info.as_mut_ptr() as *mut c_void)
    })?;
    let op = info[0] as u8;
    let arch = (info[0] >> 32) as u32;
    Ok(match op {
        // PTRACE_SYSCALL_INFO_SECCOMP: after nr and arguments the filter's SECCOMP_RET_DATA, 32 bits.
        3 if info[10] as u32 != super::filter::OURS => CallStop::Foreign,
        // PTRACE_SYSCALL_INFO_ENTRY, PTRACE_SYSCALL_INFO_SECCOMP: nr and six arguments.
        1 | 3 => {
            let nr = info[3] as u32;
            let (arch, nr) = match arch {
                AUDIT_ARCH_I386 => (Arch::I386, nr),
                _ if nr & X32_BIT != 0 && nr != u32::MAX => (Arch::X32, nr & !X32_BIT),
                _ => (Arch::X86_64, nr),
            };
            CallStop::Entry(RawCall { arch, nr, args: [info[4], info[5], info[6], info[7], info[8], info[9]] })
        }
        // PTRACE_SYSCALL_INFO_EXIT: the result.
        2 => CallStop::Exit(info[3] as i64),
        _ => CallStop::None,
    })
}

const PTRACE_GET_SYSCALL_INFO: libc::c_uint = 0x420e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const X32_BIT: u32 = 0x4000_0000;

/// PTRACE_GETSIGINFO: the signal's `si_code`.
pub(super) fn signal_code(tid: i32) -> Result<i32, Errno> {
    about_to(tid)?;
    let info = nix::sys::ptrace::getsiginfo(nix::unistd::Pid::from_raw(tid))?;
    Ok(info.si_code)
}

/// PTRACE_GETSIGINFO: the process that sent the signal, if a process did (si_code SI_USER or SI_TKILL, sigaction(2)).
pub(super) fn signal_sender(tid: i32) -> Option<i32> {
    about_to(tid).ok()?;
    let info = nix::sys::ptrace::getsiginfo(nix::unistd::Pid::from_raw(tid)).ok()?;
    // SAFETY: with these codes the kernel has filled `si_pid` (sigaction(2)); the whole structure is initialised in any case.
    matches!(info.si_code, libc::SI_USER | libc::SI_TKILL).then(|| unsafe { info.si_pid() })
}

/// The soft limit of RLIMIT_NOFILE of a task's process (prlimit(2)); EPERM where its user is another.
pub(super) fn most_fds(pid: i32) -> Result<u64, Errno> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: no new limit is given, and the kernel writes one `rlimit` to where `limit` is.
    Errno::result(unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit) })?;
    Ok(limit.rlim_cur)
}

/// Reads another process's memory in one go (process_vm_readv(2)); how many bytes came, 0 if none.
pub(super) fn read_memory(pid: i32, addr: u64, buf: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: buf.as_mut_ptr() as *mut c_void, iov_len: buf.len() };
    let remote = libc::iovec { iov_base: addr as *mut c_void, iov_len: buf.len() };
    // SAFETY: `local` describes `buf`, which is writable for its length; `remote` is an address in the other process
    // and never dereferenced here.
    let got = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    let got = usize::try_from(got).unwrap_or(0).min(buf.len());
    #[cfg(test)]
    let got = super::fault::memory(pid, buf.get_mut(..got).unwrap_or_default());
    got
}

/// Reads `each` bytes at every one of `addrs` into `buf`, in one go; how many bytes came, 0 if none.
///
/// `buf` must have room for all, and there must be at most 1,024 places (IOV_MAX): else nothing is read.
pub(super) fn read_places(pid: i32, addrs: &[u64], each: usize, buf: &mut [u8]) -> usize {
    if addrs.len().checked_mul(each).is_none_or(|n| n > buf.len()) {
        return 0;
    }
    let local = libc::iovec { iov_base: buf.as_mut_ptr() as *mut c_void, iov_len: buf.len() };
    let remote: Vec<libc::iovec> =
        addrs.iter().map(|a| libc::iovec { iov_base: *a as *mut c_void, iov_len: each }).collect();
    // SAFETY: `local` describes `buf`, which is writable for its length; `remote` holds as many addresses in the other
    // process as is said, which are never dereferenced here.
    let got =
        unsafe { libc::process_vm_readv(pid, &raw const local, 1, remote.as_ptr(), remote.len() as libc::c_ulong, 0) };
    usize::try_from(got).unwrap_or(0).min(buf.len())
}

/// What the child does between fork and exec, prepared before the fork so that the child allocates nothing.
pub(super) struct ChildPlan<'a> {
    /// The program's path.
    pub path: &'a CStr,
    /// Its arguments, NULL-terminated.
    pub argv: &'a [*const libc::c_char],
    /// Its environment, see [`environment`].
    pub envp: *const *const libc::c_char,
    /// Make the child the leader of a process group of its own.
    pub own_group: bool,
    /// The seccomp program; empty for none.
    pub filter: &'a [libc::sock_filter],
    /// Set no_new_privs before installing the filter.
    pub no_new_privs: bool,
    /// A byte on it releases the child.
    pub gate: BorrowedFd<'a>,
    /// The gate's other end, which the child must not hold: it would wait for itself if fdwatch died.
    pub gate_writer: BorrowedFd<'a>,
    /// The errno and the step that failed go here; exec closes it.
    pub trouble: BorrowedFd<'a>,
    /// Signals whose disposition fdwatch changed from the default and the child needs back.
    pub defaults: &'a [c_int],
    /// Signals that were ignored when fdwatch was started.
    pub ignored: &'a [c_int],
    /// The signal mask that fdwatch was started with.
    pub mask: &'a libc::sigset_t,
}

/// The environment that fdwatch was started with, as it is: Rust drops entries that are no `NAME=VALUE`.
pub(super) fn environment() -> *const *const libc::c_char {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: libc sets it before main (environ(7)), and nothing in fdwatch changes the environment.
    unsafe { environ }
}

/// The steps at which the child can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ChildStep {
    Privileges = 1,
    Filter = 2,
    Exec = 3,
}

/// Forks; the child carries out `plan` and never returns.
pub(super) fn fork_child(plan: &ChildPlan<'_>) -> Result<i32, Errno> {
    let program = libc::sock_fprog { len: plan.filter.len() as u16, filter: plan.filter.as_ptr().cast_mut() };
    let closed = CLOSED_AT_START.load(Ordering::Relaxed);
    // SAFETY: the child makes only async-signal-safe calls (signal-safety(7)) on data prepared before the fork, and
    // leaves by execve or _exit.
    match Errno::result(unsafe { libc::fork() })? {
        0 => {}
        child => return Ok(child),
    }
    let fail = |step: ChildStep| -> ! {
        let words = [step as i32, Errno::last_raw()];
        // SAFETY: write(2) reads eight bytes from `words`; _exit(2) does not return.
        unsafe {
            libc::write(plan.trouble.as_raw_fd(), words.as_ptr() as *const c_void, 8);
            libc::_exit(127)
        }
    };
    // SAFETY: see above; every pointer belongs to `plan`, which outlives the call, or to this frame.
    unsafe {
        if plan.own_group {
            libc::setpgid(0, 0);
        }
        for sig in plan.defaults {
            libc::signal(*sig, libc::SIG_DFL);
        }
        for sig in plan.ignored {
            libc::signal(*sig, libc::SIG_IGN);
        }
        for fd in (0..3).filter(|fd| closed >> fd & 1 == 1) {
            libc::close(fd);
        }
        libc::close(plan.gate_writer.as_raw_fd());
        let mut byte = 0u8;
        loop {
            match libc::read(plan.gate.as_raw_fd(), (&raw mut byte) as *mut c_void, 1) {
                1 => break,
                -1 if Errno::last_raw() == libc::EINTR => {}
                // EOF means that fdwatch gave up, or is gone.
                _ => libc::_exit(127),
            }
        }
        if plan.no_new_privs && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            fail(ChildStep::Privileges);
        }
        if program.len > 0 {
            // SECCOMP_FILTER_FLAG_SPEC_ALLOW: the filter guards nothing, so it must not slow the target down by
            // turning off speculation (seccomp(2)). Kernels before 4.17 do not know it.
            let set = |flags: libc::c_ulong| {
                libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
            };
            if set(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) != 0 && set(0) != 0 {
                fail(ChildStep::Filter);
            }
        }
        // The mask comes last: until here a stray signal must not interrupt.
        libc::sigprocmask(libc::SIG_SETMASK, plan.mask, std::ptr::null_mut());
        libc::execve(plan.path.as_ptr(), plan.argv.as_ptr(), plan.envp);
        fail(ChildStep::Exec)
    }
}

/// Whom signals to fdwatch are passed on to; 0 for nobody yet, [`NOBODY_LEFT`] after the last.
static TARGET: AtomicI32 = AtomicI32::new(0);

const NOBODY_LEFT: i32 = -1;

/// Signals to fdwatch go to `pid` from now on.
pub(super) fn pass_signals_to(pid: i32) {
    TARGET.store(pid, Ordering::Relaxed);
}

/// `gone` has ended and its number may come again: signals that went to it go to `heir`.
pub(super) fn pass_signals_from(gone: i32, heir: impl FnOnce() -> Option<i32>) {
    // Finding the heir takes as long as there are tasks: not at every end.
    if TARGET.load(Ordering::Relaxed) != gone {
        return;
    }
    let heir = heir().unwrap_or(NOBODY_LEFT);
    let _ = TARGET.compare_exchange(gone, heir, Ordering::Relaxed, Ordering::Relaxed);
}

extern "C" fn pass_on(signal: c_int) {
    let target = TARGET.load(Ordering::Relaxed);
    // SAFETY: kill(2) and _exit(2) are async-signal-safe and take numbers.
    unsafe {
        if target > 0 {
            libc::kill(target, signal);
        } else if target != NOBODY_LEFT {
            libc::_exit(128 + signal);
        }
    }
}

/// Which task is in a group-stop, if it is the one that signals go to; 0 for none.
static ASLEEP: AtomicI32 = AtomicI32::new(0);

/// A task is in a group-stop from now on, or was in one perhaps and is not any more.
pub(super) fn sleeps(tid: i32, sleeps: bool) {
    match sleeps {
        true if TARGET.load(Ordering::Relaxed) == tid => ASLEEP.store(tid, Ordering::Relaxed),
        true => {}
        false => drop(ASLEEP.compare_exchange(tid, 0, Ordering::Relaxed, Ordering::Relaxed)),
    }
}

extern "C" fn knock(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel hands over a siginfo_t that is valid as long as the handler runs.
    let wanted = unsafe { info.as_ref() }.and_then(wanted).filter(|pid| traces(*pid));
    let target = wanted.unwrap_or_else(|| TARGET.load(Ordering::Relaxed));
    if target > 0 {
        // SAFETY: kill(2) is async-signal-safe and takes numbers.
        unsafe {
            // Who is stopped already does not see it: it is continued first. The second takes the first away before that
            // reaches a handler (kernel/signal.c, prepare_signal).
            if ASLEEP.load(Ordering::Relaxed) == target {
                libc::kill(target, libc::SIGCONT);
            }
            libc::kill(target, libc::SIGSTOP);
        }
    }
}

/// The task that [`send_wanting`] was told, if it is the signal's origin and in this pid namespace (there a sender of none
/// has number 0, pid_namespaces(7)).
fn wanted(info: &libc::siginfo_t) -> Option<i32> {
    if info.si_code != libc::SI_QUEUE {
        return None;
    }
    // SAFETY: a signal of sigqueue(3) has both (sigaction(2), SI_QUEUE).
    let (sender, value) = unsafe { (info.si_pid(), info.si_value().sival_ptr as usize) };
    i32::try_from(value).ok().filter(|pid| *pid > 0 && sender != 0)
}

/// Whether a task is one of ours. Async-signal-safe: it only asks the kernel, and leaves errno as it was.
fn traces(tid: i32) -> bool {
    let before = Errno::last_raw();
    let flags = libc::WEXITED | libc::WSTOPPED | libc::__WALL | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: waitid(2) may be told nothing but the answer; WNOWAIT takes no report away.
    let asked = unsafe { libc::waitid(libc::P_PID, tid as libc::id_t, std::ptr::null_mut(), flags) };
    Errno::set_raw(before);
    asked == 0
}

/// The task that the last knock wanted, for who takes the signal by [`take_signal`].
static WANTED: AtomicI32 = AtomicI32::new(0);

/// Whom the last knock was for that was taken by [`take_signal`]; asked once.
pub(super) fn take_wanted() -> Option<i32> {
    Some(WANTED.swap(0, Ordering::Relaxed)).filter(|tid| *tid > 0)
}

/// Sends a signal together with the number of a task (sigqueue(3)).
pub(super) fn send_wanting(pid: i32, signal: c_int, tid: i32) -> Result<(), Errno> {
    let value = libc::sigval { sival_ptr: tid as usize as *mut c_void };
    // SAFETY: sigqueue takes numbers; the value is not read through.
    Errno::result(unsafe { libc::sigqueue(pid as pid_t, signal, value) }).map(drop)
}

static NOTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: c_int) {
    NOTED.store(true, Ordering::Relaxed);
}

/// Whether a signal has come whose disposition was [`Disposition::Note`], since this was last asked.
pub(super) fn was_noted() -> bool {
    NOTED.swap(false, Ordering::Relaxed)
}

/// Whether SIGPIPE was ignored when this process started, before Rust's runtime ignored it.
static PIPE_WAS_IGNORED: AtomicI32 = AtomicI32::new(0);

/// Which of the descriptors 0, 1 and 2 were closed when this process started, as bits, before Rust's runtime opened
/// `/dev/null` there.
static CLOSED_AT_START: AtomicI32 = AtomicI32::new(0);

/// Runs before `main` and before Rust's runtime, which sets SIGPIPE to be ignored, opens what is closed of the standard
/// descriptors, and keeps no record of either.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn before_main() {
        // SAFETY: all-zero bytes are a valid sigaction, which the kernel fills; F_GETFD takes numbers; nothing is changed.
        unsafe {
            let mut old: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut old);
            PIPE_WAS_IGNORED.store(i32::from(old.sa_sigaction == libc::SIG_IGN), Ordering::Relaxed);
            let closed = (0..3).filter(|fd| libc::fcntl(*fd, libc::F_GETFD) == -1).fold(0, |bits, fd| bits | 1 << fd);
            CLOSED_AT_START.store(closed, Ordering::Relaxed);
        }
    }
    before_main
};

/// Whether SIGPIPE was ignored when this process started.
pub(super) fn pipe_signal_was_ignored() -> bool {
    PIPE_WAS_IGNORED.load(Ordering::Relaxed) != 0
}

/// What to do with a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Disposition {
    Default,
    Ignore,
    /// Send it to the target.
    PassOn,
    /// Stop the target, which fdwatch then sees.
    Knock,
    /// Remember it, for [`was_noted`].
    Note,
}

/// Sets the disposition of `signal`; returns whether it was ignored before.
pub(super) fn dispose(signal: c_int, how: Disposition) -> bool {
    // SAFETY: `new` is a valid sigaction: all-zero bytes plus a handler that is
    // async-signal-safe; `old` is written by the kernel.
    unsafe {
        let mut new: libc::sigaction = std::mem::zeroed();
        let mut old: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = match how {
            Disposition::Default => libc::SIG_DFL,
            Disposition::Ignore => libc::SIG_IGN,
            Disposition::PassOn => pass_on as extern "C" fn(c_int) as usize,
            Disposition::Knock => {
                new.sa_flags = libc::SA_SIGINFO;
                knock as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize
            }
            Disposition::Note => note as extern "C" fn(c_int) as usize,
        };
        libc::sigaction(signal, &raw const new, &raw mut old);
        old.sa_sigaction == libc::SIG_IGN
    }
}

/// The signal mask of this thread.
pub(super) fn signal_mask() -> libc::sigset_t {
    // SAFETY: all-zero bytes are a valid sigset_t, and the kernel fills it.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut mask);
        mask
    }
}

/// A set of signals.
fn signal_set(signals: &[c_int]) -> libc::sigset_t {
    // SAFETY: all-zero bytes are a valid sigset_t, which sigemptyset fills; sigaddset refuses numbers that are none.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Blocks these signals in this thread and in those that it will start, or lets them through again.
pub(super) fn block_signals(signals: &[c_int], block: bool) {
    let set = signal_set(signals);
    let how = if block { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    // SAFETY: `set` is a valid set for the whole call; the former mask is not asked for.
    unsafe {
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
    }
}

/// Takes a blocked signal that is pending, or waits for one (sigtimedwait(2)); `timeout` `None` is for ever.
///
/// `None` when the time is over, and when something else interrupted the wait.
pub(super) fn take_signal(signals: &[c_int], timeout: Option<Duration>) -> Option<c_int> {
    let set = signal_set(signals);
    let timeout = timeout.map(|t| libc::timespec {
        tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(t.subsec_nanos()),
    });
    let until = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: all-zero bytes are a valid siginfo_t; `set`, `info` and `timeout` are valid for the whole call.
    let (got, info) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        (libc::sigtimedwait(&raw const set, &raw mut info, until), info)
    };
    if got == libc::SIGUSR1 {
        WANTED.store(wanted(&info).unwrap_or(0), Ordering::Relaxed);
    }
    (got > 0).then_some(got)
}

/// Ends this process by `signal`, as the target ended. Returns only if the kernel does not let it.
pub(super) fn die_by(signal: c_int) {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain numbers and a valid rlimit; the set is filled by sigemptyset before it is used.
    unsafe {
        // The target has dumped its core already; ours would overwrite it.
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::signal(signal, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::raise(signal);
    }
}

/// kill(2) by number, for real-time signals too.
pub(super) fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: two numbers.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Names a thread, not a process (linux/pidfd.h).
pub(super) const PIDFD_THREAD: c_int = libc::O_EXCL;

/// A descriptor of the call `nr` that makes one from numbers alone.
fn new_descriptor(nr: c_long, a: c_int, b: c_int, c: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: numbers only; what is returned is a descriptor that nobody else knows of.
    Errno::result(unsafe { libc::syscall(nr, a, b, c) }).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// A descriptor of a task, close-on-exec (pidfd_open(2)).
pub(super) fn pidfd_open(tid: i32, flags: c_int) -> Result<OwnedFd, Errno> {
    new_descriptor(libc::SYS_pidfd_open, tid, flags, 0)
}

/// A copy of our own of that task's descriptor `fd`, close-on-exec (pidfd_getfd(2)).
pub(super) fn pidfd_getfd(task: &OwnedFd, fd: i32) -> Result<OwnedFd, Errno> {
    new_descriptor(libc::SYS_pidfd_getfd, task.as_raw_fd(), fd, 0)
}

/// Which file `path` leads to (statx(2)). A file system is not asked for news of it (AT_STATX_DONT_SYNC): who serves it may
/// be a process that we let stand.
pub(super) fn inode(path: &Path) -> Result<Inode, Errno> {
    // SAFETY: a struct of numbers, of which zero is one.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: a path that nix ends with a NUL, and a buffer of the type that the call fills.
    let done = path.with_nix_path(|p| unsafe {
        libc::statx(libc::AT_FDCWD, p.as_ptr(), libc::AT_STATX_DONT_SYNC, libc::STATX_INO, &raw mut stat)
    })?;
    Errno::result(done)?;
    if stat.stx_mask & libc::STATX_INO == 0 {
        return Err(Errno::ENODATA);
    }
    Ok(Inode { dev: (stat.stx_dev_major, stat.stx_dev_minor), ino: stat.stx_ino })
}

// linux/kcmp.h
pub(super) const KCMP_FILE: c_int = 0;
pub(super) const KCMP_FILES: c_int = 2;

/// The order of the resources of two tasks, each with an index where `kind` has one: equal if they are one and the same,
/// else an order that is the same for every pair until the machine is started again (kcmp(2)).
pub(super) fn compare(kind: c_int, a: (i32, i32), b: (i32, i32)) -> Result<std::cmp::Ordering, Errno> {
    // SAFETY: five numbers.
    let order = Errno::result(unsafe {
        libc::syscall(libc::SYS_kcmp, a.0, b.0, kind, a.1 as libc::c_ulong, b.1 as libc::c_ulong)
    })?;
    match order {
        0 => Ok(std::cmp::Ordering::Equal),
        1 => Ok(std::cmp::Ordering::Less),
        2 => Ok(std::cmp::Ordering::Greater),
        _ => Err(Errno::EINVAL),
    }
}

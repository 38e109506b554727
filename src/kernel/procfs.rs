//! `/proc` (proc(5)).

use super::known::Known;
use super::sys;
use crate::base::{Fd, Pid, Root, Tid};
use crate::event::{Inode, NewFile, Present, Program, may_name, may_promise};
use nix::sched::CpuSet;
use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Opens a file to read it, without becoming a terminal's controller or blocking on a FIFO.
pub(super) fn open_read(path: &Path) -> io::Result<File> {
    #[cfg(test)]
    super::fault::proc()?;
    fs::OpenOptions::new().read(true).custom_flags(libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK).open(path)
}

/// All of a file below `/proc`.
pub(super) fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    #[cfg(test)]
    super::fault::proc()?;
    // Not fs::read(): such a file tells no size, and it would begin with a piece of 32 bytes and double it.
    let mut bytes = Vec::with_capacity(MOST_FILES);
    File::open(path)?.take(u64::MAX).read_to_end(&mut bytes)?;
    #[cfg(test)]
    let bytes = super::fault::text(bytes);
    Ok(bytes)
}

/// Most files below `/proc` are smaller, in bytes.
const MOST_FILES: usize = 4096;

/// What a link below `/proc` says.
fn read_link(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    #[cfg(test)]
    super::fault::proc()?;
    let bytes = fs::read_link(path)?.into_os_string().into_vec();
    #[cfg(test)]
    let bytes = super::fault::text(bytes);
    Ok(bytes)
}

/// `path` as the task sees it: below its root directory.
pub(super) fn under_root(tid: Tid, path: &[u8]) -> PathBuf {
    let mut full = format!("/proc/{tid}/root/").into_bytes();
    full.extend_from_slice(path.strip_prefix(b"/").unwrap_or(path));
    PathBuf::from(std::ffi::OsString::from_vec(full))
}

/// The root directory of a task, where it is not this process's own (proc_pid_root(5), mount_namespaces(7)).
pub(super) fn foreign_root(tid: Tid) -> Option<Root> {
    let namespace = |who: &str| fs::metadata(format!("/proc/{who}/ns/mnt")).ok().map(|m| m.ino());
    let path = format!("/proc/{tid}/root");
    let theirs = namespace(&tid.to_string())?;
    let (root, own) = (fs::metadata(&path).ok()?, fs::metadata("/").ok()?);
    if namespace("self") == Some(theirs) && (root.dev(), root.ino()) == (own.dev(), own.ino()) {
        return None;
    }
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let dir = fs::OpenOptions::new().read(true).custom_flags(flags).open(&path).ok()?;
    Some(Root { dir, path: read_link(path).ok()?, namespace: theirs })
}

/// Whether two processes give pids the same meaning (pid_namespaces(7)); not so where that cannot be known.
pub(super) fn same_pid_namespace(a: i32, b: i32) -> bool {
    let of = |pid: i32| read_link(format!("/proc/{pid}/ns/pid")).ok();
    of(a).is_some_and(|ns| of(b) == Some(ns))
}

/// The number of a task's process in its own, innermost pid namespace (proc_pid_status(5), NStgid).
pub(super) fn inner_pid(tid: Tid) -> Option<i32> {
    status_field(tid, "NStgid")?.split_whitespace().last()?.parse().ok()
}

/// What `/proc/TID/fd/FD` links to.
pub fn link(tid: Tid, fd: Fd) -> Option<Vec<u8>> {
    read_link(format!("/proc/{tid}/fd/{fd}")).ok()
}

/// The file that `path` leads a task to, and which one it is, beginning at its descriptor `dir`, or where it is, unless it is absolute. In a task
/// with another root directory an absolute symbolic link on the way is followed in ours, and may lead nowhere.
pub fn leads_to(tid: Tid, dir: Option<Fd>, path: &[u8]) -> Option<(Vec<u8>, Option<Inode>)> {
    #[cfg(test)]
    super::fault::proc().ok()?;
    let full = match (path.first(), dir) {
        (Some(b'/'), _) => under_root(tid, path),
        (None, None) => return None,
        (first, dir) => {
            let mut full = dir.map_or(format!("/proc/{tid}/cwd"), |fd| format!("/proc/{tid}/fd/{fd}")).into_bytes();
            if first.is_some() {
                full.push(b'/');
                full.extend_from_slice(path);
            }
            PathBuf::from(std::ffi::OsString::from_vec(full))
        }
    };
    // O_PATH opens nothing of the file itself (open(2)).
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(full).ok()?;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    Some((read_link(&own).ok()?, sys::inode(own.as_ref()).ok()))
}

/// Which file a task has open at `fd`.
pub fn inode(tid: Tid, fd: Fd) -> Option<Inode> {
    #[cfg(test)]
    super::fault::proc().ok()?;
    sys::inode(format!("/proc/{tid}/fd/{fd}").as_ref()).ok()
}

/// The folder in which a task is.
pub fn cwd(tid: Tid) -> Option<Vec<u8>> {
    read_link(format!("/proc/{tid}/cwd")).ok()
}

/// What the task runs: its executable, its arguments and what of its environment may promise it a descriptor or name a
/// file (proc_pid_environ(5)). Empty where it cannot be read.
pub fn program(tid: Tid) -> Program {
    let exe = read_link(format!("/proc/{tid}/exe")).unwrap_or_default();
    let line = read(format!("/proc/{tid}/cmdline")).unwrap_or_default();
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    let argv = if line.is_empty() { Vec::new() } else { line.split(|b| *b == 0).map(<[u8]>::to_vec).collect() };
    let environ = read(format!("/proc/{tid}/environ")).unwrap_or_default();
    let entries = || environ.split(|b| *b == 0);
    let promises = entries().filter(|e| may_promise(e)).take(ENTRIES);
    let names = entries().filter(|e| may_name(e) && !may_promise(e)).take(ENTRIES);
    let env = promises.chain(names).map(<[u8]>::to_vec).collect();
    Program { exe, argv, env, most_fds: most_fds(tid) }
}

/// So many variables of an environment are kept.
const ENTRIES: usize = 32;

/// The soft limit of RLIMIT_NOFILE, by prlimit(2), which a task of another user does not let us ask, or
/// `/proc/TID/limits` (proc_pid_limits(5)).
pub fn most_fds(tid: Tid) -> Option<u64> {
    if let Ok(limit) = sys::most_fds(tid.0) {
        return Some(limit);
    }
    let limits = read(format!("/proc/{tid}/limits")).ok()?;
    let text = String::from_utf8_lossy(&limits);
    text.lines().find_map(|l| l.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

/// The value of a field of `/proc/TID/status`.
pub(super) fn status_field(tid: Tid, name: &str) -> Option<String> {
    let status = read(format!("/proc/{tid}/status")).ok()?;
    let text = String::from_utf8_lossy(&status);
    text.lines().find_map(|l| Some(l.strip_prefix(name)?.strip_prefix(':')?.trim().to_string()))
}

/// Whether a task sleeps in a call that makes a task (proc_pid_syscall(5)): after vfork(2) until that executes a program or
/// ends.
pub(super) fn is_making_a_task(tid: Tid) -> bool {
    let Ok(text) = read(format!("/proc/{tid}/syscall")) else { return false };
    let number = text.split(|b| *b == b' ').next().and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
    // clone, vfork and clone3 of both tables.
    matches!(number, Some(56 | 58 | 120 | 190 | 435))
}

/// The CPUs that a task may run on, those that are off-line included, where sched_getaffinity(2) leaves them out.
pub(super) fn cpus_allowed(tid: Tid) -> Option<CpuSet> {
    super::place::mask(&status_field(tid, "Cpus_allowed")?)
}

/// The process of a task; `None` when it is gone.
pub fn process_of(tid: Tid) -> Option<Pid> {
    status_field(tid, "Tgid")?.parse().ok().map(Pid)
}

/// The parent of a task's process; `None` when it is gone.
pub(super) fn parent_of(tid: Tid) -> Option<Pid> {
    status_field(tid, "PPid")?.parse().ok().map(Pid)
}

/// The tasks of a process that have not ended, in ascending order.
pub(super) fn tasks_of(pid: Pid) -> Vec<Tid> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let mut tids: Vec<Tid> = entries.filter_map(number).map(Tid).collect();
    tids.sort_unstable();
    tids
}

/// Every process and its parent.
pub(super) fn parents() -> Vec<(Pid, Pid)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(number).filter_map(|pid| Some((Pid(pid), parent_of(Tid(pid))?))).collect()
}

/// The number that an entry of a directory is called; `None` for other names.
fn number(entry: fs::DirEntry) -> Option<i32> {
    std::str::from_utf8(entry.file_name().as_bytes()).ok()?.parse().ok()
}

/// Whether a task is the kernel's own (PF_KTHREAD of include/linux/sched.h, in the flags of proc_pid_stat(5)).
pub(super) fn is_kernel_thread(tid: Tid) -> bool {
    const PF_KTHREAD: u64 = 0x0020_0000;
    let stat = fs::read(format!("/proc/{tid}/stat")).unwrap_or_default();
    let text = String::from_utf8_lossy(&stat);
    // pid (comm) state ppid pgrp session tty_nr tpgid flags …; comm may hold anything.
    let flags = text.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u64>().ok());
    flags.is_some_and(|f| f & PF_KTHREAD != 0)
}

/// The pseudo-terminals whose other side the task holds: the N of `/dev/pts/N` (proc_pid_fdinfo(5), tty-index).
pub fn terminals_shown_by(tid: Tid) -> Vec<u32> {
    let fds = open_numbers(tid).unwrap_or_default().into_iter();
    let masters = fds.filter(|fd| link(tid, *fd).is_some_and(|l| l.ends_with(b"/ptmx")));
    masters.filter_map(|fd| fdinfo(tid, fd, "tty-index", 10)).filter_map(|n| u32::try_from(n).ok()).collect()
}

/// The name of a task, as `comm` says; empty when it is gone.
pub fn comm(tid: Tid) -> Vec<u8> {
    let mut name = read(format!("/proc/{tid}/comm")).unwrap_or_default();
    if name.last() == Some(&b'\n') {
        name.pop();
    }
    name
}

/// The state letter of a task (`R`, `S`, `D`, `T`, `t`, `Z` …, proc_pid_stat(5)); `None` when it is gone.
pub fn state(tid: Tid) -> Option<char> {
    status_field(tid, "State")?.chars().next()
}

/// Whether a task sleeps in a system call, by its state and `/proc/TID/syscall` (proc_pid_syscall(5)); false where that is
/// not known.
pub fn is_asleep_in_a_call(tid: Tid) -> bool {
    // The file alone gives a call's number for a task, too, that was just let go and has not run since (TASK_WAKING,
    // kernel/sched/core.c): the call is all before it. Its state reads `R`; see races.rs, a_number_is_given_out_again.
    matches!(state(tid), Some('S' | 'D'))
        // `running`, or -1 for a task that is blocked outside of a call, or the number of the call.
        && read(format!("/proc/{tid}/syscall")).is_ok_and(|text| text.first().is_some_and(u8::is_ascii_digit))
}

/// Whether a signal is pending for a process as a whole.
pub(super) fn is_pending(pid: Pid, signal: i32) -> bool {
    has_signal(Tid(pid.0), "ShdPnd", signal)
}

/// Whether a signal is in one of the masks of proc_pid_status(5): `ShdPnd`, `SigBlk`, `SigCgt` ….
pub(super) fn has_signal(tid: Tid, mask: &str, signal: i32) -> bool {
    let mask = status_field(tid, mask).and_then(|m| u64::from_str_radix(&m, 16).ok()).unwrap_or(0);
    (1..=64).contains(&signal) && mask >> (signal - 1) & 1 == 1
}

/// Whether some process is traced by this one.
pub(super) fn traces_somebody(pid: i32) -> bool {
    let names = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok).map(|e| e.file_name());
    let pids = names.filter_map(|n| n.to_str()?.parse().ok());
    pids.map(Tid).any(|tid| tracer_of(tid) == Some(pid))
}

/// The type of the file system that an open descriptor's object is on (proc_pid_mountinfo(5)); `None` for what is on no
/// mount that the task sees. Asks the file system itself nothing.
pub(super) fn filesystem(tid: Tid, fd: Fd) -> Option<String> {
    let mount = fdinfo(tid, fd, "mnt_id", 10)?.to_string();
    let text = read(format!("/proc/{tid}/mountinfo")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|l| l.split(' ').next() == Some(mount.as_str()))?;
    // … optional fields - type source options; what is before has its blanks escaped.
    Some(line.split_once(" - ")?.1.split(' ').next()?.to_string())
}

/// The process that traces this one, if one does.
pub fn tracer_of(tid: Tid) -> Option<i32> {
    status_field(tid, "TracerPid")?.parse().ok().filter(|t| *t != 0)
}

/// A task that this thread traces, if there is one. Looks at every task of the system.
pub(super) fn some_tracee() -> Option<Tid> {
    let own = nix::unistd::gettid().as_raw();
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok).filter_map(number);
    let mut tids = processes.flat_map(|pid| tasks_of(Pid(pid)));
    tids.find(|tid| tracer_of(*tid) == Some(own))
}

/// Whether some instance of seccomp filters this process already.
pub fn has_seccomp(tid: Tid) -> bool {
    status_field(tid, "Seccomp").is_some_and(|s| s != "0")
}

/// Yama's restriction (kernel documentation, LSM/Yama), `None` without Yama.
pub fn yama_scope() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?.trim().parse().ok()
}

/// A number of `/proc/TID/fdinfo/FD` (proc_pid_fdinfo(5)).
pub(super) fn fdinfo(tid: Tid, fd: Fd, name: &str, radix: u32) -> Option<u64> {
    let text = read(format!("/proc/{tid}/fdinfo/{fd}")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let value = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    u64::from_str_radix(value.trim(), radix).ok()
}

/// The O_* flags of a descriptor, with O_CLOEXEC where execve closes it; `None` when it is not open.
pub(super) fn flags(tid: Tid, fd: Fd) -> Option<u32> {
    fdinfo(tid, fd, "flags", 8).map(|f| f as u32)
}

/// The process that a pidfd refers to; `None` when it is no pidfd, or the process is gone (-1) or in a pid namespace that
/// cannot be seen from here (0).
pub(super) fn pid_of_pidfd(tid: Tid, fd: Fd) -> Option<Pid> {
    let pid = fdinfo(tid, fd, "Pid", 10)?;
    i32::try_from(pid).ok().filter(|p| *p > 0).map(Pid)
}

/// The children that a task has made, as far as it has not waited for them (proc_pid_task(5), `children`); none where the
/// kernel is built without CONFIG_PROC_CHILDREN. Exact only while the task stands still.
pub(super) fn children(tid: Tid) -> Vec<Tid> {
    let text = read(format!("/proc/{tid}/task/{tid}/children")).unwrap_or_default();
    let numbers = text.split(u8::is_ascii_whitespace).filter_map(|w| std::str::from_utf8(w).ok()?.parse().ok());
    numbers.map(Tid).collect()
}

/// The numbers that the task has open, in ascending order.
///
/// # Errors
/// If the task is gone, or hidden from us.
pub fn open_numbers(tid: Tid) -> io::Result<Vec<Fd>> {
    #[cfg(test)]
    super::fault::proc()?;
    let entries = fs::read_dir(format!("/proc/{tid}/fd"))?;
    let mut fds = entries.map(|e| Ok(number(e?).map(Fd))).collect::<io::Result<Vec<_>>>()?;
    fds.sort_unstable();
    Ok(fds.into_iter().flatten().collect())
}

/// What `fd` is and whether execve closes it; `None` when it is not open, or the task is gone.
pub fn descriptor(tid: Tid, fd: Fd) -> Option<(NewFile, bool)> {
    let path = link(tid, fd)?;
    let flags = match fdinfo(tid, fd, "flags", 8) {
        Some(flags) => flags as u32,
        // It was closed between the two looks.
        None if link(tid, fd).is_none() => return None,
        None => 0,
    };
    let cloexec = flags & libc::O_CLOEXEC as u32 != 0;
    Some((NewFile::from_link(path, flags & !(libc::O_CLOEXEC as u32)), cloexec))
}

/// Whether the task still has a descriptor table: an ending task gives it up long before its end is reported
/// (kernel/exit.c, exit_files; proc_pid_status(5), FDSize).
pub fn has_table(tid: Tid) -> bool {
    status_field(tid, "FDSize").is_some_and(|n| n != "0")
}

/// Whether a file shows on which CPUs a task may run (proc_pid_status(5), Cpus_allowed).
pub fn shows_placement(path: &[u8]) -> bool {
    path.starts_with(b"/proc/") && path.ends_with(b"/status")
}

/// Every descriptor that the task has open, with path and flags, in ascending order.
pub fn open_descriptors(tid: Tid) -> Vec<Present> {
    Known::default().present(tid)
}

/// Whether two descriptors refer to the same open file description (kcmp(2), KCMP_FILE); false where that is not known.
pub fn same_file(tid: Tid, fd: Fd, other_tid: Tid, other: Fd) -> bool {
    compare_files(tid, fd, other_tid, other) == Some(Ordering::Equal)
}

/// Whether two tasks share one descriptor table (kcmp(2), KCMP_FILES); false where that is not known.
pub fn same_table(tid: Tid, other: Tid) -> bool {
    compare_tables(tid, other) == Some(Ordering::Equal)
}

/// The order of two descriptors' open file descriptions, equal if they are one (kcmp(2), KCMP_FILE); `None` when one is not
/// open, or a task is gone or not ours to look at. The order is arbitrary, and the same for every pair.
pub fn compare_files(tid: Tid, fd: Fd, other_tid: Tid, other: Fd) -> Option<Ordering> {
    sys::compare(sys::KCMP_FILE, (tid.0, fd.0), (other_tid.0, other.0)).ok()
}

/// The order of two tasks' descriptor tables, equal if they share one (kcmp(2), KCMP_FILES); `None` as for files.
pub fn compare_tables(tid: Tid, other: Tid) -> Option<Ordering> {
    sys::compare(sys::KCMP_FILES, (tid.0, 0), (other.0, 0)).ok()
}

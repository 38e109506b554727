//! Descriptors of other processes, tables, and programs that are not executed: pidfd_open(2), pidfd_getfd(2), seccomp(2),
//! unshare(2), execve(2), execveat(2); and ends: _exit(2), exit_group(2).

use super::{Arg, Made, Need, Row, When};
use crate::base::{Fd, Tid};
use crate::event::{Effect, FileKind, NewFile};

const O_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const RDWR: u32 = libc::O_RDWR as u32;

// linux/seccomp.h
const SET_MODE_FILTER: u32 = 1;
const NEW_LISTENER: u32 = 1 << 3;

/// The number is one of another process, which the pidfd tells. Always close-on-exec (pidfd_getfd(2)).
///
/// EBADF does not say which of the two numbers is not open, so nothing is made of it.
fn getfd(m: &Made<'_>) -> Vec<Effect> {
    let Some(fd) = m.new_fd() else { return Vec::new() };
    let file = match m.task.link(fd) {
        Some(link) => NewFile::from_link(link, m.task.flags(fd).unwrap_or(RDWR) & !O_CLOEXEC),
        None => NewFile::from_link(Vec::new(), 0),
    };
    let from = m.task.pidfd(m.fd(0)).map(|pid| (Tid(pid.0), m.fd(1)));
    vec![Effect::Receive { fd, cloexec: true, file, from }]
}

/// A listener is returned only where one was asked for; it is close-on-exec (kernel/seccomp.c, init_listener).
fn listens(m: &Made<'_>) -> bool {
    m.int(0) as u32 == SET_MODE_FILTER && m.int(1) as u32 & NEW_LISTENER != 0
}

fn seccomp(m: &Made<'_>) -> Vec<Effect> {
    if !listens(m) {
        return Vec::new();
    }
    m.opens(RDWR, true, FileKind::SeccompListener)
}

/// No other flag implies CLONE_FILES (unshare(2), and ksys_unshare in kernel/fork.c).
fn unshares(m: &Made<'_>) -> bool {
    m.int(0) & libc::CLONE_FILES != 0
}

fn unshare(m: &Made<'_>) -> Vec<Effect> {
    match m.ret {
        Some(r) if r < 0 => Vec::new(),
        _ if unshares(m) => vec![Effect::Unshare],
        _ => Vec::new(),
    }
}

/// The longest path that the kernel takes (PATH_MAX, limits.h), the NUL included.
const PATH_MAX: usize = 4096;

/// A program that was executed is told by the kernel's own event (PTRACE_EVENT_EXEC), after which nothing of the call is
/// left; one that was not by its result, and the arguments are there as before.
fn executes(m: &Made<'_>, dir: Option<Fd>, path: usize) -> Vec<Effect> {
    if m.ret.is_none_or(|r| r >= 0) {
        return Vec::new();
    }
    let path = m.task.c_string(m.addr(path), PATH_MAX).unwrap_or_default();
    let file = if m.failed_with(libc::ETXTBSY) { m.task.leads_to(dir, &path) } else { None };
    let (file, inode) = file.unwrap_or_default();
    vec![Effect::NotExecuted { path, file, inode, writers: None, since: 0 }]
}

fn execveat(m: &Made<'_>) -> Vec<Effect> {
    executes(m, Some(m.fd(0)).filter(|fd| fd.0 != libc::AT_FDCWD), 1)
}

pub(super) static ROWS: &[Row] = &[
    // Always close-on-exec (pidfd_open(2)).
    Row::exit("pidfd_open", Some(434), Some(434), &[Arg::Int, Arg::Flags], |m| m.opens(RDWR, true, FileKind::Pidfd)),
    Row::exit("pidfd_getfd", Some(438), Some(438), &[Arg::Fd, Arg::Int, Arg::Flags], getfd),
    Row {
        when: When::Use,
        ..Row::exit("execve", Some(59), Some(11), &[Arg::Path, Arg::Pointer, Arg::Pointer], |m| executes(m, None, 0))
    },
    Row {
        when: When::Use,
        ..Row::exit("execveat", Some(322), Some(358), &[Arg::DirFd, Arg::Path, Arg::Pointer, Arg::Pointer], execveat)
    },
    Row { when: When::Last, ..Row::exit("exit", Some(60), Some(1), &[Arg::Int], |_| Vec::new()) },
    Row { when: When::Last, ..Row::exit("exit_group", Some(231), Some(252), &[Arg::Int], |_| Vec::new()) },
    Row {
        only: Some((0, &[SET_MODE_FILTER])),
        when: When::Arguments(|m| if listens(m) { Need::Exit } else { Need::Nothing }),
        ..Row::exit("seccomp", Some(317), Some(354), &[Arg::Int, Arg::Flags, Arg::Pointer], seccomp)
    },
    Row {
        when: When::Arguments(|m| if unshares(m) { Need::Exit } else { Need::Nothing }),
        ..Row::exit("unshare", Some(272), Some(310), &[Arg::Flags], unshare)
    },
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Paper, decode, need_as};
    use super::*;
    use crate::base::Arch;
    use crate::event::Inode;

    #[test]
    fn a_pidfd_tells_whose_number_was_taken() {
        let task = Paper {
            links: vec![(9, "pipe:[5]")],
            flags: vec![(9, 0o2_000_001)],
            pidfds: vec![(4, 1234)],
            ..Paper::default()
        };
        match decode("pidfd_getfd", [4, 7, 0, 0, 0, 0], Some(9), &task).as_slice() {
            [Effect::Receive { fd: Fd(9), cloexec: true, file, from: Some((Tid(1234), Fd(7))) }] => {
                assert_eq!((file.kind, file.flags), (FileKind::PipeWrite, 1), "{file:?}");
            }
            other => panic!("{other:?}"),
        }
        let unknown = decode("pidfd_getfd", [5, 7, 0, 0, 0, 0], Some(9), &task);
        assert!(matches!(unknown.as_slice(), [Effect::Receive { from: None, .. }]), "{unknown:?}");
        assert_eq!(decode("pidfd_getfd", [4, 7, 0, 0, 0, 0], Some(-9), &task), vec![]);
        assert_eq!(decode("pidfd_getfd", [4, 7, 0, 0, 0, 0], None, &task), vec![]);
    }

    #[test]
    fn a_program_that_was_not_executed_is_told_with_the_file_that_is_busy() {
        let task = Paper {
            at: 64,
            bytes: b"./x\0\0".to_vec(),
            paths: vec![(None, "./x", "/tmp/x"), (Some(5), "./x", "/srv/x"), (Some(6), "", "/srv/y")],
            ..Paper::default()
        };
        let (execve, execveat) = ("execve", "execveat");
        let told = |path: &[u8], file: &[u8]| {
            let inode = (!file.is_empty()).then_some(Inode { dev: (8, 1), ino: file.len() as u64 });
            let (path, file) = (path.to_vec(), file.to_vec());
            vec![Effect::NotExecuted { path, file, inode, writers: None, since: 0 }]
        };
        let busy = Some(-i64::from(libc::ETXTBSY));
        assert_eq!(decode(execve, [64, 0, 0, 0, 0, 0], busy, &task), told(b"./x", b"/tmp/x"));
        assert_eq!(decode(execve, [64, 0, 0, 0, 0, 0], Some(-2), &task), told(b"./x", b""), "ENOENT");
        assert_eq!(decode(execve, [9, 0, 0, 0, 0, 0], busy, &task), told(b"", b""), "unreadable");
        for ret in [None, Some(0)] {
            assert_eq!(decode(execve, [64, 0, 0, 0, 0, 0], ret, &task), vec![], "told by its own event");
        }
        let here = libc::AT_FDCWD as u32;
        assert_eq!(decode(execveat, [here.into(), 64, 0, 0, 0, 0], busy, &task), told(b"./x", b"/tmp/x"));
        assert_eq!(decode(execveat, [5, 64, 0, 0, 0, 0], busy, &task), told(b"./x", b"/srv/x"));
        assert_eq!(decode(execveat, [6, 68, 0, 0, 0x1000, 0], busy, &task), told(b"", b"/srv/y"), "AT_EMPTY_PATH");
        assert_eq!(need_as(Arch::X86_64, execve, [64, 0, 0, 0, 0, 0], &task), Need::Use, "it changes no table");
    }

    #[test]
    fn a_pidfd_is_close_on_exec() {
        let e = decode("pidfd_open", [1, 0, 0, 0, 0, 0], Some(3), &Paper::default());
        assert!(matches!(e.as_slice(), [Effect::Open { fd: Fd(3), cloexec: true, .. }]), "{e:?}");
        assert_eq!(decode("pidfd_open", [1, 0, 0, 0, 0, 0], Some(-3), &Paper::default()), vec![]);
    }

    #[test]
    fn only_a_listener_is_a_descriptor() {
        let t = Paper::default();
        let e = decode("seccomp", [1, 8, 0x10, 0, 0, 0], Some(3), &t);
        assert!(matches!(e.as_slice(), [Effect::Open { fd: Fd(3), cloexec: true, .. }]), "{e:?}");
        // SECCOMP_FILTER_FLAG_TSYNC: the result may be the id of a thread.
        assert_eq!(decode("seccomp", [1, 1, 0x10, 0, 0, 0], Some(3), &t), vec![]);
        assert_eq!(decode("seccomp", [1, 8, 0x10, 0, 0, 0], Some(-16), &t), vec![]);
        assert_eq!(need_as(Arch::X86_64, "seccomp", [1, 0, 0x10, 0, 0, 0], &t), Need::Nothing);
        assert_eq!(need_as(Arch::X86_64, "seccomp", [1, 8, 0x10, 0, 0, 0], &t), Need::Exit);
    }

    #[test]
    fn only_clone_files_unshares_the_table() {
        let t = Paper::default();
        let call = |flags: i32, ret| decode("unshare", [flags as u64, 0, 0, 0, 0, 0], ret, &t);
        assert_eq!(call(libc::CLONE_FILES | libc::CLONE_FS, Some(0)), vec![Effect::Unshare]);
        assert_eq!(call(libc::CLONE_FILES, None), vec![Effect::Unshare]);
        assert_eq!(call(libc::CLONE_FILES, Some(-1)), vec![]);
        for other in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_VM, libc::CLONE_SIGHAND, libc::CLONE_THREAD] {
            assert_eq!(call(other, Some(0)), vec![], "{other:#x}");
            assert_eq!(need_as(Arch::X86_64, "unshare", [other as u64, 0, 0, 0, 0, 0], &t), Need::Nothing);
        }
    }
}

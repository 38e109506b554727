//! System calls and objects as people write them.

use crate::base::text::{escape, span};
use crate::event::{Alteration, CallInfo, FileKind, NewFile};
use crate::finding::Object;
use crate::model::OpenFile;
use crate::syscall::{Arg, by_name, request_name};
use nix::errno::Errno;

/// `dup2(3, 1) = EBADF`. `path` is the path of the object that the call opened, where it is known.
pub fn call(info: &CallInfo, path: Option<&[u8]>) -> String {
    let shown = invocation(info, path);
    match info.ret {
        Some(ret) => format!("{shown} = {}", result(ret)),
        None => shown,
    }
}

/// A path, where one is known.
pub fn some(path: &[u8]) -> Option<&[u8]> {
    (!path.is_empty()).then_some(path)
}

/// `dup2(3, 1)`: a call without its result.
pub fn invocation(info: &CallInfo, path: Option<&[u8]>) -> String {
    let Some(row) = by_name(info.name) else { return format!("{}(…)", escape(info.name.as_bytes())) };
    let opens = row.args.contains(&Arg::Path);
    let args: Vec<String> = row
        .args
        .iter()
        .zip(info.args)
        .enumerate()
        .map(|(i, (arg, v))| argument(info, *arg, i, v, path, opens))
        .collect();
    format!("{}({})", info.name, args.join(", "))
}

fn argument(info: &CallInfo, arg: Arg, i: usize, value: u64, path: Option<&[u8]>, opens: bool) -> String {
    let int = value as i32;
    match arg {
        // close_range(2) takes unsigned numbers, and ~0 for "to the last".
        Arg::Fd if info.name == "close_range" => (value as u32).to_string(),
        Arg::Fd => int.to_string(),
        Arg::Int if i == 2 && is_setfd(info) && int == libc::FD_CLOEXEC => "FD_CLOEXEC".to_string(),
        Arg::Int => int.to_string(),
        Arg::DirFd if int == libc::AT_FDCWD => "AT_FDCWD".to_string(),
        Arg::DirFd => int.to_string(),
        Arg::Path => match path {
            Some(p) => format!("\"{}\"", quoted(p)),
            None if value == 0 => "NULL".to_string(),
            None => format!("{value:#x}"),
        },
        Arg::Flags => match value as u32 {
            0 => "0".to_string(),
            f => format!("{f:#x}"),
        },
        Arg::OpenFlags if opens => open_flags(value as u32),
        Arg::OpenFlags => status_flags(value as u32).unwrap_or_else(|| "0".to_string()),
        Arg::Fcntl => fcntl(int),
        Arg::Request => request_name(value as u32).map_or_else(|| format!("{:#x}", value as u32), str::to_string),
        Arg::Pointer if value == 0 => "NULL".to_string(),
        Arg::Pointer => format!("{value:#x}"),
    }
}

fn is_setfd(info: &CallInfo) -> bool {
    info.name.starts_with("fcntl") && info.args.get(1).is_some_and(|c| *c as i32 == libc::F_SETFD)
}

fn quoted(path: &[u8]) -> String {
    escape(path).replace('"', "\\\"")
}

fn fcntl(command: i32) -> String {
    match command {
        libc::F_DUPFD => "F_DUPFD".to_string(),
        libc::F_DUPFD_CLOEXEC => "F_DUPFD_CLOEXEC".to_string(),
        libc::F_GETFD => "F_GETFD".to_string(),
        libc::F_SETFD => "F_SETFD".to_string(),
        n => n.to_string(),
    }
}

/// A result: `3`, or `EBADF`.
pub fn result(ret: i64) -> String {
    // The kernel's errors are -1..=-4095 (linux/err.h).
    match ret {
        -4095..=-1 => errno(-ret as i32),
        _ => ret.to_string(),
    }
}

/// What was done to a call: `keep`, `fail EIO`, `delay 1s`.
pub fn alteration(how: Alteration) -> String {
    match how {
        Alteration::Keep => "keep".to_string(),
        Alteration::Fail(n) => format!("fail {}", errno(n)),
        Alteration::Return(n) => format!("return {n}"),
        Alteration::Delay(ns) => format!("delay {}", span(ns)),
        Alteration::DelayResult(ns) => format!("delay {} of the result", span(ns)),
        Alteration::Quarantine => "quarantine".to_string(),
    }
}

/// `EBADF` for 9.
pub fn errno(n: i32) -> String {
    match Errno::from_raw(n) {
        // The kernel's own, seen when a call is to be restarted (linux/errno.h).
        Errno::UnknownErrno => match n {
            512 => "ERESTARTSYS".to_string(),
            513 => "ERESTARTNOINTR".to_string(),
            514 => "ERESTARTNOHAND".to_string(),
            516 => "ERESTART_RESTARTBLOCK".to_string(),
            n => format!("errno {n}"),
        },
        e => format!("{e:?}"),
    }
}

/// `O_WRONLY|O_CREAT|O_CLOEXEC`: the access mode first.
pub fn open_flags(flags: u32) -> String {
    let access = match flags & libc::O_ACCMODE as u32 {
        f if f == libc::O_RDONLY as u32 => "O_RDONLY",
        f if f == libc::O_WRONLY as u32 => "O_WRONLY",
        f if f == libc::O_RDWR as u32 => "O_RDWR",
        _ => "O_ACCMODE",
    };
    // open(2): with O_PATH the access mode is ignored.
    let access = if flags & libc::O_PATH as u32 != 0 { None } else { Some(access.to_string()) };
    access.into_iter().chain(status_flags(flags)).collect::<Vec<_>>().join("|")
}

/// The flags but for the access mode; `None` without any.
fn status_flags(flags: u32) -> Option<String> {
    // Compound flags stand before their parts (open(2)): O_SYNC holds O_DSYNC, O_TMPFILE holds O_DIRECTORY.
    const NAMES: &[(i32, &str)] = &[
        (libc::O_CREAT, "O_CREAT"),
        (libc::O_EXCL, "O_EXCL"),
        (libc::O_NOCTTY, "O_NOCTTY"),
        (libc::O_TRUNC, "O_TRUNC"),
        (libc::O_APPEND, "O_APPEND"),
        (libc::O_NONBLOCK, "O_NONBLOCK"),
        (libc::O_SYNC, "O_SYNC"),
        (libc::O_DSYNC, "O_DSYNC"),
        (libc::O_ASYNC, "O_ASYNC"),
        (libc::O_DIRECT, "O_DIRECT"),
        (libc::O_TMPFILE, "O_TMPFILE"),
        (libc::O_DIRECTORY, "O_DIRECTORY"),
        (libc::O_NOFOLLOW, "O_NOFOLLOW"),
        (libc::O_NOATIME, "O_NOATIME"),
        (libc::O_PATH, "O_PATH"),
        (libc::O_CLOEXEC, "O_CLOEXEC"),
    ];
    // O_LARGEFILE: set by the kernel on every open of a 64-bit program, and tells nothing.
    const LARGEFILE: u32 = 0o100_000;
    let mut left = flags & !(libc::O_ACCMODE as u32) & !LARGEFILE;
    let mut out: Vec<String> = Vec::new();
    for (bits, name) in NAMES {
        let bits = *bits as u32;
        if left & bits == bits {
            out.push((*name).to_string());
            left &= !bits;
        }
    }
    if left != 0 {
        out.push(format!("{left:#o}"));
    }
    (!out.is_empty()).then(|| out.join("|"))
}

/// `/tmp/a`, or `pipe:[19544] (read end)`: an object in words, without its id.
pub fn file(file: &NewFile) -> String {
    let path = escape(&file.path);
    match file.kind {
        _ if path.is_empty() => file.noun().to_string(),
        FileKind::PipeRead => format!("{path} (read end)"),
        FileKind::PipeWrite => format!("{path} (write end)"),
        _ => path,
    }
}

/// `#17 /tmp/a`.
pub fn object(object: &Object) -> String {
    format!("{} {}", object.id, file(&object.file))
}

/// `#17 /tmp/a`.
pub fn open_file(open: &OpenFile) -> String {
    format!("{} {}", open.id, file(&open.file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &'static str, args: &[i64], ret: Option<i64>) -> CallInfo {
        let mut six = [0; 6];
        args.iter().zip(&mut six).for_each(|(a, s)| *s = *a as u64);
        CallInfo { name, args: six, ret }
    }

    #[test]
    fn calls_read_like_their_manual_pages() {
        assert_eq!(call(&info("dup2", &[3, 1], Some(-9)), None), "dup2(3, 1) = EBADF");
        assert_eq!(call(&info("close", &[3], None), None), "close(3)");
        let flags = i64::from(libc::O_WRONLY | libc::O_CREAT);
        let open = info("openat", &[-100, 0x7fff_0000, flags], Some(3));
        assert_eq!(call(&open, Some(b"/tmp/a")), "openat(AT_FDCWD, \"/tmp/a\", O_WRONLY|O_CREAT) = 3");
        assert_eq!(call(&open, None), "openat(AT_FDCWD, 0x7fff0000, O_WRONLY|O_CREAT) = 3");
        let setfd = info("fcntl", &[4, libc::F_SETFD.into(), 1], Some(0));
        assert_eq!(call(&setfd, None), "fcntl(4, F_SETFD, FD_CLOEXEC) = 0");
        let pipe = info("pipe2", &[0x10, libc::O_CLOEXEC.into()], Some(0));
        assert_eq!(call(&pipe, None), "pipe2(0x10, O_CLOEXEC) = 0");
        assert_eq!(call(&info("dup3", &[3, 4, 0], Some(4)), None), "dup3(3, 4, 0) = 4");
        let range = info("close_range", &[3, -1, 0], Some(0));
        assert_eq!(call(&range, None), "close_range(3, 4294967295, 0) = 0");
        assert_eq!(call(&info("frobnicate", &[], Some(-512)), None), "frobnicate(…) = ERESTARTSYS");
    }

    #[test]
    fn every_result_has_a_text() {
        for ret in [0, 3, -9, -4095, -4096, i64::MIN, i64::MAX] {
            assert!(!result(ret).is_empty());
        }
        assert_eq!(result(-4096), "-4096");
        assert_eq!(result(-4000), "errno 4000");
    }

    #[test]
    fn flags_have_names_and_what_has_none_is_shown() {
        assert_eq!(open_flags(0), "O_RDONLY");
        assert_eq!(open_flags((libc::O_RDWR | libc::O_SYNC) as u32), "O_RDWR|O_SYNC");
        assert_eq!(open_flags((libc::O_PATH | libc::O_CLOEXEC) as u32), "O_PATH|O_CLOEXEC");
        assert_eq!(open_flags(libc::O_TMPFILE as u32 | 0o100_000 | 1), "O_WRONLY|O_TMPFILE");
        assert_eq!(open_flags(0x8000_0000), "O_RDONLY|0o20000000000");
    }

    #[test]
    fn a_path_cannot_end_its_quotes_nor_reach_the_terminal() {
        let open = info("open", &[1, 0], Some(3));
        assert_eq!(call(&open, Some(b"a\"b\x1b[2J\\")), "open(\"a\\\"b\\x1b[2J\\\\\", O_RDONLY) = 3");
        assert_eq!(file(&NewFile::from_link(b"pipe:[9]".to_vec(), 1)), "pipe:[9] (write end)");
        assert_eq!(file(&NewFile::from_link(Vec::new(), 1)), "other");
    }
}

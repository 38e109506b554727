//! Which numbers a program is promised: by its arguments, or by its environment.

use super::descent::base_name;
use crate::base::text::escape;
use crate::base::{Fd, Pid};
use crate::event::{Program, may_promise};

/// Who made a promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    /// LISTEN_FDS, with a LISTEN_PID that is the process's own (sd_listen_fds(3)).
    Listen,
    /// The read or the write end of make's jobserver, `--jobserver-auth=R,W`.
    Jobserver {
        /// Which end.
        write: bool,
    },
    /// `--fd=N` or `--fd N`, or another option whose name ends with `fd`.
    Argument,
    /// `/dev/fd/N` or `/proc/self/fd/N`.
    Path,
    /// A variable such as NODE_CHANNEL_FD.
    Variable,
}

/// A number that a program is promised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Promise {
    pub(super) fd: Fd,
    pub(super) by: By,
    /// The words of the promise, safe to show.
    pub(super) text: String,
}

/// A number above this is none of a descriptor (NR_OPEN, proc_sys_fs(5)).
const HIGHEST: i32 = 1 << 20;
/// As many are looked at.
const MOST: usize = 64;

/// The promises to a process `pid` that executes `program`.
pub(super) fn promises(program: &Program, pid: Pid) -> Vec<Promise> {
    let mut out = Vec::new();
    let value = |name: &str| variable(program, name);
    if let (Some(fds), Some(owner)) = (value("LISTEN_FDS").and_then(number), value("LISTEN_PID"))
        && number(owner) == Some(pid.0)
    {
        let text = format!("LISTEN_FDS={fds}");
        out.extend((3..3 + fds.min(MOST as i32)).map(|n| Promise { fd: Fd(n), by: By::Listen, text: text.clone() }));
    }
    if let Some((read, write)) = jobserver(program) {
        let text = format!("MAKEFLAGS with --jobserver-auth={read},{write}");
        out.push(Promise { fd: Fd(read), by: By::Jobserver { write: false }, text: text.clone() });
        out.push(Promise { fd: Fd(write), by: By::Jobserver { write: true }, text });
    }
    out.extend(of_arguments(program));
    for entry in &program.env {
        let Some((name, value)) = split(entry) else { continue };
        if name.ends_with(b"FD")
            && !is_count(name)
            && let Some(n) = number(value)
        {
            out.push(Promise { fd: Fd(n), by: By::Variable, text: escape(entry) });
        }
    }
    out.truncate(MOST);
    out
}

fn of_arguments(program: &Program) -> Vec<Promise> {
    let mut out = Vec::new();
    let mut arguments = program.argv.iter().skip(1).peekable();
    while let Some(argument) = arguments.next() {
        let value = match argument.starts_with(b"-") {
            true => split(argument).map_or(argument.as_slice(), |(_, value)| value),
            false => argument.as_slice(),
        };
        let path = [b"/dev/fd/".as_slice(), b"/proc/self/fd/"].iter().find_map(|p| value.strip_prefix(*p));
        if let Some(n) = path.and_then(number) {
            out.push(Promise { fd: Fd(n), by: By::Path, text: escape(argument) });
            continue;
        }
        let Some(name) = argument.strip_prefix(b"--") else { continue };
        if let Some((name, value)) = split(name) {
            if is_fd(name)
                && let Some(n) = number(value)
            {
                out.push(Promise { fd: Fd(n), by: By::Argument, text: escape(argument) });
            }
        } else if is_fd(name)
            && let Some(n) = arguments.peek().and_then(|v| number(v))
        {
            out.push(Promise { fd: Fd(n), by: By::Argument, text: format!("{} {n}", escape(argument)) });
        }
    }
    out
}

/// Whether an option is called `fd`, `…-fd` or `…_fd`.
fn is_fd(name: &[u8]) -> bool {
    name.strip_suffix(b"fd").is_some_and(|rest| rest.last().is_none_or(|b| matches!(b, b'-' | b'_'))) && !is_count(name)
}

/// Whether a name says how many, as `max-fd` and `MAX_OPEN_FD` do, and not which.
fn is_count(name: &[u8]) -> bool {
    const WORDS: [&[u8]; 4] = [b"max", b"min", b"num", b"limit"];
    name.split(|b| matches!(b, b'-' | b'_')).any(|word| WORDS.iter().any(|w| word.eq_ignore_ascii_case(w)))
}

/// Whether a program only looks at what its arguments name, or only repeats them: that it is not open may be what its caller
/// wants to hear.
pub(super) fn only_looks(program: &Program) -> bool {
    const LOOK: [&[u8]; 9] = [b"test", b"[", b"ls", b"stat", b"readlink", b"realpath", b"echo", b"printf", b"basename"];
    // One file has many names in some systems: the name that it was called by counts.
    let called = program.argv.first().map(Vec::as_slice).unwrap_or_default();
    let called = called.rsplit(|b| *b == b'/').next().unwrap_or(called);
    LOOK.contains(&base_name(program)) || LOOK.contains(&called)
}

/// The two ends of the jobserver that the environment names; `None` where it is a FIFO (`--jobserver-auth=fifo:PATH`),
/// which is opened by name, or where make has taken it back (`-2,-2`).
pub(super) fn jobserver(program: &Program) -> Option<(i32, i32)> {
    let flags = variable(program, "MAKEFLAGS").or_else(|| variable(program, "CARGO_MAKEFLAGS"))?;
    let mut auth = None;
    for word in flags.split(|b| *b == b' ') {
        // What follows ` -- ` are variables of make's own.
        if word == b"--" {
            break;
        }
        let named = word.strip_prefix(b"--jobserver-auth=").or_else(|| word.strip_prefix(b"--jobserver-fds="));
        auth = named.or(auth);
    }
    let (read, write) = std::str::from_utf8(auth?).ok()?.split_once(',')?;
    Some((number(read.as_bytes())?, number(write.as_bytes())?))
}

/// Whether a program asks for the jobserver that its environment names. All others that make starts have it there, too,
/// and do not look.
pub(super) fn uses_jobserver(program: &Program) -> bool {
    const USERS: [&[u8]; 5] = [b"make", b"gmake", b"ninja", b"cargo", b"rustc"];
    USERS.contains(&base_name(program))
}

/// Whether anything in the arguments, or in what of the environment is known, is this number: a promise in a language that
/// nobody has told us.
pub(super) fn mentions(program: &Program, fd: Fd) -> bool {
    let text = fd.0.to_string();
    let within = |bytes: &[u8]| bytes.split(|b| !b.is_ascii_digit()).any(|word| word == text.as_bytes());
    let listens = variable(program, "LISTEN_FDS").and_then(number).is_some_and(|n| (3..3 + n).contains(&fd.0));
    listens || program.argv.iter().skip(1).any(|a| within(a)) || program.env.iter().any(|e| may_promise(e) && within(e))
}

fn variable<'p>(program: &'p Program, name: &str) -> Option<&'p [u8]> {
    program.env.iter().filter_map(|e| split(e)).find(|(n, _)| *n == name.as_bytes()).map(|(_, value)| value)
}

fn split(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = entry.iter().position(|b| *b == b'=')?;
    Some((entry.get(..at)?, entry.get(at + 1..)?))
}

fn number(text: &[u8]) -> Option<i32> {
    let n = std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    (n <= HIGHEST).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(argv: &[&str], env: &[&str]) -> Program {
        let bytes = |list: &[&str]| list.iter().map(|s| s.as_bytes().to_vec()).collect();
        Program { exe: b"/bin/x".to_vec(), argv: bytes(argv), env: bytes(env), ..Program::default() }
    }

    fn fds(argv: &[&str], env: &[&str]) -> Vec<i32> {
        promises(&program(argv, env), Pid(7)).iter().map(|p| p.fd.0).collect()
    }

    #[test]
    fn arguments_promise_by_name_and_by_path() {
        assert_eq!(fds(&["x", "--fd=5", "--status-fd", "6", "/dev/fd/63", "--in=/proc/self/fd/8"], &[]), [5, 6, 63, 8]);
        assert_eq!(
            fds(&["--fd=5", "--fdd=5", "--fd=x", "--fd", "--fd=99999999999", "/dev/fd/", "fd=3"], &[]),
            [0i32; 0]
        );
        assert_eq!(fds(&["sh", "-c", "cat /dev/fd/3"], &[]), [0i32; 0]);
        let counts = ["x", "--max-fd", "3", "--num_fd=3", "--min-open-fd=3", "--limit-fd=3", "--admin-fd=4"];
        assert_eq!(fds(&counts, &["MAX_FD=3", "IN_FD=5"]), [4, 5]);
    }

    #[test]
    fn sockets_are_promised_to_the_process_that_is_named() {
        assert_eq!(fds(&["x"], &["LISTEN_FDS=2", "LISTEN_PID=7"]), [3, 4]);
        assert_eq!(fds(&["x"], &["LISTEN_FDS=2", "LISTEN_PID=8"]), [0i32; 0]);
        assert_eq!(fds(&["x"], &["LISTEN_FDS=100000", "LISTEN_PID=7"]).len(), MOST);
    }

    #[test]
    fn the_jobserver_has_two_forms() {
        assert_eq!(fds(&["make"], &["MAKEFLAGS= -j2 --jobserver-auth=3,4 -- A=--jobserver-auth=5,6"]), [3, 4]);
        assert_eq!(fds(&["make"], &["MAKEFLAGS= -j2 --jobserver-auth=3,4 --jobserver-auth=-2,-2"]), [0i32; 0]);
        assert_eq!(fds(&["make"], &["MAKEFLAGS= -j2 --jobserver-auth=fifo:/tmp/GMfifo1"]), [0i32; 0]);
        assert_eq!(fds(&["x"], &["CARGO_MAKEFLAGS=-j --jobserver-fds=8,9 --jobserver-auth=8,9"]), [8, 9]);
        assert_eq!(fds(&["x"], &["NODE_CHANNEL_FD=3", "MY_FDS=3,4"]), [3]);
    }

    #[test]
    fn a_number_anywhere_is_mentioned() {
        let python = program(&["python3", "-c", "spawn_main(tracker_fd=5, pipe_handle=7)"], &["A_FDS=9,10"]);
        assert!([5, 7, 9, 10].iter().all(|n| mentions(&python, Fd(*n))));
        assert!(!mentions(&python, Fd(1)) && !mentions(&python, Fd(3)));
    }
}

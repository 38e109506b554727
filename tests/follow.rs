//! What is watched behaves as it does by itself: same output, same status, same surroundings; and the model of its
//! descriptors is the kernel's.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, alone, audit, example, fdwatch, has, pythons, run, skip, start, target};
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const MODES: [&[&str]; 2] = [&["--fail-on", "never"], &["--fail-on", "never", "--no-seccomp"]];

fn same_as_alone(command: &[&str]) {
    let native = alone(command);
    for mode in MODES {
        let watched = audit(mode, command);
        assert_eq!(watched.stdout, native.stdout, "{command:?} {mode:?} says something else: {}", watched.stderr);
        assert_eq!(watched.status, native.status, "{command:?} {mode:?} ends otherwise: {}", watched.stderr);
        assert!(!watched.stderr.contains("panicked"), "{}", watched.stderr);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn targets_say_and_end_as_they_do_alone() {
    for name in [
        "rt_signals",
        "stopper",
        "exec_from_thread",
        "threads_share",
        "clone_files_process",
        "int80",
        "close_loop",
        "cloexec",
        "all_calls",
        "all_calls32",
        "x32",
        "daemon",
        "crowd",
        "exec_chain",
        "own_filter",
        "clone_kinds",
    ] {
        let Some(path) = target(name) else { return skip("targets", "no C compiler") };
        if !path.exists() {
            skip("targets", &format!("{name} cannot be built here"));
            continue;
        }
        same_as_alone(&[text(&path)]);
    }
}

#[test]
fn nobody_is_passed_over() {
    let Some(path) = target("fair") else { return skip("turns", "no C compiler") };
    let done = audit(&[], &[text(&path)]);
    assert_eq!((done.code(), done.errors()), (0, 0), "{}", done.stderr);
    let turns = done.stderr.lines().find_map(|l| l.strip_prefix("from ")?.strip_suffix(" turns")?.split_once(" to "));
    let (least, most) = turns.unwrap_or_else(|| panic!("no turns: {}", done.stderr));
    let least: u32 = least.parse().expect("a number");
    assert!(least >= 50, "one thread had {least} turns while another had {most}");
}

#[test]
fn death_by_a_signal_is_repeated() {
    let Some(path) = target("exit_by_signal") else { return skip("death by a signal", "no C compiler") };
    for signal in ["1", "2", "3", "6", "9", "11", "13", "15", "31", "34", "64"] {
        same_as_alone(&[text(&path), signal]);
    }
}

fn compared(command: &[&str]) {
    for all_calls in [false, true] {
        let mut compare = Command::new(example("compare"));
        if all_calls {
            compare.env("ALL_CALLS", "1");
        }
        let done = run(compare.args(command));
        let last = done.stderr.lines().last().unwrap_or_default();
        assert!(last.ends_with(" comparisons, 0 differences"), "{command:?}: {}", done.stderr);
        assert!(!last.starts_with("0 "), "{command:?}: nothing was compared");
        assert_eq!(done.code(), 0, "{command:?}: {}", done.stderr);
    }
}

#[test]
fn the_model_is_the_kernels_table() {
    for name in [
        "all_calls",
        "all_calls32",
        "cloexec",
        "int80",
        "exec_from_thread",
        "posix_spawn_dup2",
        "clone_files_process",
        "stale_fork_dup2",
        "own_filter",
        "exec_chain",
        "clone_kinds",
        "uffd_fork",
    ] {
        let Some(path) = target(name) else { return skip("comparison", "no C compiler") };
        if !path.exists() || alone(&[&path]).code() == 77 {
            skip("comparison", &format!("{name} cannot run here"));
            continue;
        }
        compared(&[text(&path)]);
    }
}

/// One double close in a task that shares memory and no table, one of a pidfd, and one that is of two tasks with one table.
#[test]
fn what_a_new_task_has_of_a_table_is_told_by_its_flags() {
    let Some(path) = target("clone_kinds") else { return skip("clone flags", "no C compiler") };
    for mode in MODES {
        let done = audit(mode, &[text(&path)]);
        if done.code() == 77 {
            return skip("clone flags", done.stdout.trim());
        }
        assert_eq!(done.errors(), 3, "{mode:?}: {}", done.stderr);
        assert_eq!(done.stderr.matches("error[double-close]").count(), 3, "{mode:?}: {}", done.stderr);
        assert!(!done.stderr.contains("against expectation"), "{mode:?}: {}", done.stderr);
    }
}

/// Read by read(2) and by readv(2).
#[test]
fn a_userfaultfd_of_a_fork_is_seen_where_it_is_read() {
    let Some(path) = target("uffd_fork") else { return skip("userfaultfd", "no C compiler") };
    let native = alone(&[&path]);
    if native.code() == 77 {
        return skip("userfaultfd", native.stdout.trim());
    }
    for mode in MODES {
        let done = audit(mode, &[text(&path)]);
        assert_eq!((&done.stdout, done.errors()), (&native.stdout, 2), "{mode:?}: {}", done.stderr);
        assert!(!done.stderr.contains("against expectation"), "{mode:?}: {}", done.stderr);
    }
}

#[test]
fn what_is_received_is_the_sender_s_object() {
    let Some(path) = target("pass_fd") else { return skip("received", "no C compiler") };
    for how in ["kept", "closed", "getfd"] {
        if alone(&[text(&path), how]).code() == 77 {
            skip("received", &format!("{how} is not possible here"));
            continue;
        }
        compared(&[text(&path), how]);
        let native = alone(&[text(&path), how]);
        let numbers = |who: &str| -> Vec<String> {
            native.stdout.lines().filter_map(|l| l.strip_prefix(who)).map(str::to_string).collect()
        };
        let pairs = numbers("parent has ").into_iter().zip(numbers("child has "));
        for (i, (theirs, ours)) in pairs.enumerate() {
            let mut command = Command::new(fdwatch());
            // In the child's process: the number may be another's in the parent.
            command.args(["run", "--fd", &ours]);
            for _ in 0..4 {
                command.args(["-ex", &format!("hist {ours}"), "-ex", "continue"]);
            }
            let done = run(command.arg("--").arg(&path).arg(how));
            let line = done.stderr.lines().find(|l| l.contains(&format!("received as {ours}"))).unwrap_or_default();
            let from = format!("received as {ours}, which was {theirs} of [");
            // Of an object that nobody holds any more only a pipe or a socket is known by its link.
            let known = how != "closed" || i < 2;
            assert_eq!(line.contains(&from), known, "{how}: {line:?} in {}", done.stderr);
        }
    }
}

#[test]
fn calls_of_the_x32_table_are_counted_and_do_nothing_else() {
    let Some(path) = target("x32") else { return skip("x32", "no C compiler") };
    for mode in MODES {
        let done = audit(mode, &[text(&path)]);
        assert!(done.stderr.contains("1 call of the x32 table was not followed"), "{mode:?}: {}", done.stderr);
        assert_eq!(done.errors(), 0, "{mode:?}: {}", done.stderr);
    }
}

#[test]
fn the_model_is_the_kernels_table_in_shells_and_interpreters() {
    if has("bash") {
        compared(&["bash", "-c", "ls / | sort | head -3; x=$(echo hi | cat); cat <(echo a) - <<<\"$x\""]);
        compared(&["bash", "-c", "exec 5>/dev/null 6>&5; (exec 7<&0; echo a >&6) | cat 8>&1; exec 5>&- 6>&-"]);
    } else {
        skip("comparison", "no bash");
    }
    for python in pythons() {
        let script = "import subprocess, os\n\
                      subprocess.run(['echo', 'x'], capture_output=True, input=b'')\n\
                      subprocess.run(['true'], pass_fds=[os.open('/dev/null', 0)], cwd='/')\n\
                      subprocess.Popen('cat </dev/null | cat', shell=True).wait()\n";
        compared(&[text(&python), "-c", script]);
    }
}

/// A shell script that ends in `exec "$@"`, in front of the command.
fn within(prelude: &str, dir: &Path, watched: Option<&[&str]>, command: &[&str]) -> Done {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", prelude, "sh"]);
    if let Some(options) = watched {
        shell.arg(fdwatch()).arg("audit").args(["-o", "report"]).args(options).arg("--");
    }
    // A shell that sets it names what it executes.
    let mut done = run(shell.args(command).current_dir(dir).env("FOLLOWED", "by hand"));
    let differs = |l: &&str| !l.starts_with("environment _=") && !l.starts_with("group ");
    done.stdout = done.stdout.lines().filter(differs).collect::<Vec<_>>().join("\n");
    done
}

/// Each prelude ends in `exec "$@"`; the target tells of all it finds, with and without fdwatch.
fn same_surroundings(test: &str, preludes: &[(&str, &str)]) {
    let Some(path) = target("inherited") else { return skip(test, "no C compiler") };
    for (name, prelude) in preludes {
        let dir = tempfile::tempdir().expect("a folder");
        let go = |watched| within(prelude, dir.path(), watched, &[text(&path), "an argument", ""]);
        let native = go(None);
        for mode in MODES {
            let watched = go(Some(mode));
            let only = |a: &Done, b: &Done| -> Vec<String> {
                a.stdout.lines().filter(|l| !b.stdout.lines().any(|m| m == *l)).map(String::from).collect()
            };
            let (new, gone) = (only(&watched, &native), only(&native, &watched));
            assert!(watched.stdout == native.stdout, "{name} {mode:?}: not {gone:#?} but {new:#?}; {}", watched.stderr);
            assert_eq!(watched.status, native.status, "{name} {mode:?}: {}", watched.stderr);
        }
    }
}

#[test]
fn the_surroundings_are_the_same() {
    let preludes = [
        ("nothing special", "exec \"$@\""),
        ("numbers 7 and 9", "echo abcdef >file; exec 7<file 9>>other; read x <&7; exec \"$@\""),
        ("a file read in part", "echo abc >file; exec 7<file 9>file; echo xy >&9; exec \"$@\" <file"),
        ("SIGPIPE ignored", "trap '' PIPE; exec \"$@\""),
        ("SIGINT ignored", "trap '' INT; exec \"$@\""),
        ("job control ignored", "trap '' TTOU TTIN TSTP QUIT; exec \"$@\""),
        ("limits", "ulimit -n 200; ulimit -c 0; ulimit -S -s 4096; exec \"$@\""),
        ("umask", "umask 037; exec \"$@\""),
        ("no environment", "exec env -i \"$@\""),
        ("odd environment", "exec env 'A=b=c' 'EMPTY=' 'TWO=x\ny' \"$@\""),
    ];
    same_surroundings("surroundings", &preludes);
    if has("env") && alone(&["env", "--block-signal=TERM", "true"]).code() == 0 {
        let preludes = [
            ("signals blocked", "exec env --block-signal=TERM,USR1,CHLD,INT,RTMIN \"$@\""),
            ("SIGCHLD ignored", "exec env --ignore-signal=CHLD,PIPE \"$@\""),
        ];
        same_surroundings("signals blocked", &preludes);
    } else {
        skip("signals blocked", "no env that can block signals");
    }
}

/// As `nohup fdwatch …` needs it.
#[test]
fn what_was_ignored_stays_ignored() {
    let all = "trap '' HUP INT QUIT PIPE TERM CHLD USR1 USR2 ALRM TTOU TTIN TSTP; exec \"$@\"";
    let preludes = [("HUP", "trap '' HUP; exec \"$@\""), ("TERM", "trap '' TERM; exec \"$@\""), ("many signals", all)];
    same_surroundings("ignored signals", &preludes);
}

#[test]
fn closed_standard_descriptors_stay_closed() {
    let preludes = [
        ("no standard input", "exec \"$@\" <&-"),
        ("no standard error", "exec \"$@\" 2>&-"),
        ("output only", "exec \"$@\" <&- 2>&-"),
        ("output only, and 7", "exec 7<&1; exec \"$@\" <&- 2>&-"),
    ];
    same_surroundings("closed descriptors", &preludes);
}

/// Which no shell can make, but any program.
#[test]
fn entries_that_are_no_variables_are_handed_on() {
    let script = "import ctypes, sys\n\
                  texts = lambda l: (ctypes.c_char_p * (len(l) + 1))(*l, None)\n\
                  odd = [b'A=1', b'A=2', b'no equals sign', b'=x', b'', b'BAD=\\xff']\n\
                  command = [a.encode() for a in sys.argv[1:]]\n\
                  ctypes.CDLL(None).execve(command[0], texts(command), texts(odd))\n";
    let (Some(python), Some(path)) = (pythons().into_iter().next(), target("inherited")) else {
        return skip("environment", "no CPython or no C compiler");
    };
    let environment = |command: &[&str]| -> Vec<String> {
        let done = run(Command::new(&python).args(["-c", script]).args(command));
        assert_eq!(done.code(), 0, "{}", done.stderr);
        done.stdout.lines().filter(|l| l.starts_with("environment ")).map(String::from).collect()
    };
    let native = environment(&[text(&path)]);
    assert_eq!(native.len(), 6, "{native:?}");
    assert_eq!(environment(&[text(&fdwatch()), "audit", text(&path)]), native);
}

#[test]
fn the_group_and_the_session_are_ours() {
    let Some(path) = target("inherited") else { return skip("group", "no C compiler") };
    let mut watched = start(Command::new(fdwatch()).args(["audit", "--"]).arg(path));
    let expected = format!("group {} session {}", watched.pid(), nix::unistd::getsid(None).expect("a session"));
    let mut said = None;
    while let Some(line) = watched.line() {
        said = Some(line);
    }
    assert_eq!(said, Some(expected));
    assert_eq!(watched.end().code(), 0);
}

/// The target says a line when it can be signalled, then waits.
fn signalled(signal: Signal, script: &str) -> Done {
    let mut watched = start(Command::new(fdwatch()).args(["audit", "--", "sh", "-c", script]));
    assert_eq!(watched.line().as_deref(), Some("ready"));
    watched.signal(signal);
    watched.end()
}

#[test]
fn a_request_to_end_goes_to_the_target() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let done = signalled(signal, "echo ready; read x");
        assert_eq!(done.status.signal(), Some(signal as i32), "{done:?}");
        assert!(done.stderr.contains("0 suppressed; target "), "the report is written: {done:?}");
        let done = signalled(signal, "trap 'echo cleaned; exit 4' TERM HUP; echo ready; while :; do read x; done");
        assert_eq!((done.stdout.as_str(), done.code()), ("cleaned\n", 4), "{done:?}");
    }
}

/// timeout(1) signals the whole group: the target hears it directly, and fdwatch passes on what it hears itself.
#[test]
fn a_request_to_the_whole_group_arrives_once() {
    let Some(python) = common::pythons().into_iter().next() else { return skip("group", "no CPython") };
    let script = "import signal, sys\nn = []\nsignal.signal(signal.SIGTERM, lambda *a: n.append(1))\n\
                  print('ready', flush=True)\nsys.stdin.read()\nprint(len(n))";
    let mut watched = start(Command::new(fdwatch()).args(["audit", "--"]).arg(python).args(["-c", script]));
    assert_eq!(watched.line().as_deref(), Some("ready"));
    let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(watched.pid()), Signal::SIGTERM);
    watched.close_input();
    let done = watched.end();
    assert_eq!((done.stdout.as_str(), done.code()), ("1\n", 0), "{done:?}");
}

#[test]
fn a_child_of_a_parent_killed_at_its_fork_goes_on() {
    let Some(path) = target("fork_killed") else { return skip("fork_killed", "no C compiler") };
    for options in [&[][..], &["--no-seccomp"]] {
        let done = audit(options, &[&path]);
        assert!(done.stdout.ends_with("all ended\n"), "{done:?}");
        assert_eq!((done.errors(), done.code()), (0, 0), "{done:?}");
    }
}

#[test]
fn a_daemon_is_watched_to_its_end() {
    let Some(path) = target("daemon") else { return skip("daemon", "no C compiler") };
    let mut watched = start(Command::new(fdwatch()).args(["audit", "--"]).arg(path));
    while watched.line().expect("a line") != "the first process is gone" {}
    assert!(watched.is_alive(), "fdwatch left the daemon alone");
    watched.close_input();
    let done = watched.end();
    assert_eq!((done.stdout.as_str(), done.code()), ("the daemon ends\n", 0), "{done:?}");
}

/// Once the first process is gone, its number may be anybody's.
#[test]
fn a_request_to_end_reaches_a_daemon() {
    let Some(path) = target("daemon") else { return skip("daemon", "no C compiler") };
    let mut watched = start(Command::new(fdwatch()).args(["audit", "--"]).arg(path));
    while watched.line().expect("a line") != "the first process is gone" {}
    let fdwatch = nix::unistd::Pid::from_raw(watched.pid());
    let (done, end) = std::sync::mpsc::channel::<()>();
    let insists = std::thread::spawn(move || {
        // fdwatch may not have heard of the end of the first process yet, so once is not enough.
        while end.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let _ = nix::sys::signal::kill(fdwatch, Signal::SIGTERM);
            std::thread::yield_now();
        }
    });
    assert_eq!(watched.line(), None, "the daemon was told to end, and said something");
    drop(done);
    insists.join().expect("ends");
    let done = watched.end();
    assert_eq!(done.code(), 0, "the first process's status: {done:?}");
    assert!(done.stderr.contains("target exited 0"), "{done:?}");
}

#[test]
fn a_second_tracer_is_refused_in_a_line() {
    let inner = text(&fdwatch()).to_string();
    for mode in MODES {
        let mut command = vec![inner.as_str(), "audit"];
        command.extend(mode);
        command.extend(["--", "true"]);
        let done = audit(mode, &command);
        assert_eq!(done.code(), 125, "{}", done.stderr);
        let refusal = done.stderr.lines().find(|l| l.contains("cannot trace")).unwrap_or_default();
        assert!(refusal.starts_with("fdwatch: ") && refusal.contains("traces already"), "{}", done.stderr);
    }
}

#[test]
fn other_tracers_inside_and_outside_are_refused() {
    if has("strace") {
        let done = audit(&[], &["strace", "-f", "true"]);
        assert_eq!(done.code(), 1, "strace says that it cannot trace: {}", done.stderr);
        let outside =
            run(Command::new("strace").args(["-f", "-o", "/dev/null"]).arg(fdwatch()).args(["audit", "true"]));
        assert_eq!(outside.code(), 125, "{}", outside.stderr);
        assert_eq!(outside.stderr.lines().count(), 1, "{}", outside.stderr);
        assert!(outside.stderr.contains("traces already"), "{}", outside.stderr);
    } else {
        skip("other tracers", "no strace");
    }
    if has("gdb") {
        let done = audit(&["--fail-on", "never"], &["gdb", "-nx", "-q", "-batch", "-ex", "run", "/bin/true"]);
        assert!(done.stderr.contains("Could not trace the inferior"), "{}", done.stderr);
    } else {
        skip("other tracers", "no gdb");
    }
}

#[test]
fn a_filter_of_its_own_and_its_mistakes_are_seen() {
    let Some(path) = target("own_filter") else { return skip("own filter", "no C compiler") };
    for mode in [&[][..], &["--no-seccomp"]] {
        let done = audit(mode, &[&path]);
        if done.code() == 77 {
            return skip("own filter", "no seccomp filters here");
        }
        assert_eq!((done.errors(), done.code()), (1, 99), "{}", done.stderr);
        assert!(done.stderr.starts_with("error[double-close]"), "{}", done.stderr);
    }
}

#[test]
fn an_empty_directory_in_path_and_a_path_with_spaces() {
    let dir = tempfile::tempdir().expect("a folder");
    let spaced: PathBuf = dir.path().join("a b");
    std::fs::create_dir(&spaced).expect("a folder");
    std::os::unix::fs::symlink("/bin/echo", spaced.join("my echo")).expect("a link");
    let done = run(Command::new(fdwatch()).args(["audit", "--", "my echo", "x"]).env("PATH", &spaced));
    assert_eq!((done.stdout.as_str(), done.code()), ("x\n", 0), "{}", done.stderr);
    let done =
        run(Command::new(fdwatch()).args(["audit", "--", "my echo", "x"]).env("PATH", ":/bin").current_dir(&spaced));
    assert_eq!((done.stdout.as_str(), done.code()), ("x\n", 0), "{}", done.stderr);
}

#[test]
fn what_no_call_tells_is_noticed_at_fork_exec_and_prompt() {
    let Some(path) = target("ring") else { return skip("io_uring", "no C compiler") };
    let native = alone(&[text(&path), "fork"]);
    if native.code() == 77 {
        return skip("io_uring", native.stdout.trim());
    }
    let ring = |args: &[&str], next| run(Command::new(fdwatch()).args(args).arg("--").arg(&path).arg(next));
    let number = |name: &str| {
        let word = native.stdout.split_whitespace().find_map(|w| w.strip_prefix(name)?.parse::<i32>().ok());
        word.expect("the target tells its numbers")
    };
    let (made, shut) = (number("opened="), number("closed="));
    let at_fork =
        ring(&["run", "--path", "/dev/zero", "-ex", &format!("hist {shut}"), "-ex", "hist", "-ex", "continue"], "fork");
    let vanished = format!("{shut} vanished: it was closed unseen");
    for line in [vanished, format!("{made} appeared: it was opened unseen  #")] {
        assert!(at_fork.stderr.contains(&line), "{line} is missing: {}", at_fork.stderr);
    }
    let at_exec = ring(&["audit"], "exec");
    let surprises = "2 times a descriptor was open or closed against expectation";
    assert!(at_exec.stderr.contains(surprises), "{}", at_exec.stderr);
    let at_prompt = ring(&["run", "--fd", &(shut + 1).to_string(), "-ex", "info fds", "-ex", "continue"], "close");
    let line = at_prompt.stderr.lines().find(|l| l.contains("/dev/zero")).unwrap_or_default();
    assert!(line.starts_with(&format!("{made} ")) && line.ends_with("unseen"), "{}", at_prompt.stderr);
    assert!(!at_prompt.stderr.contains("/dev/full"), "{shut} is closed: {}", at_prompt.stderr);
}

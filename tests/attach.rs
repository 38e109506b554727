//! What was running before is watched from the outside, left as it was, and does not notice.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;
mod pty;

use common::{Done, LIMIT, Running, example, fdwatch, has, run, skip, start, target};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use pty::Pty;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;

/// A target of `waits.c` that is where it was told to be, or on its way there.
fn waits(test: &str, args: &[&str]) -> Option<Running> {
    let Some(path) = target("waits") else {
        skip(test, "no C compiler");
        return None;
    };
    let mut running = start(Command::new(path).args(args));
    while running.line().expect("a line") != "ready" {}
    Some(running)
}

/// fdwatch, attached.
struct Watch {
    child: Child,
    err: BufReader<ChildStderr>,
    text: String,
    _watchdog: mpsc::Sender<()>,
}

impl Watch {
    /// Starts it and waits until it says that it is attached, or why it is not.
    fn of(command: Command) -> Watch {
        Watch::with_input(command, Stdio::null())
    }

    fn with_input(mut command: Command, input: Stdio) -> Watch {
        common::no_settings(&mut command);
        let mut child = command.stdin(input).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("fdwatch");
        let pid = Pid::from_raw(child.id() as i32);
        let (watchdog, wait) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if wait.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        let mut err = BufReader::new(child.stderr.take().expect("piped"));
        let mut text = String::new();
        while !text.contains("fdwatch: ") && err.read_line(&mut text).expect("a line") > 0 {}
        Watch { child, err, text, _watchdog: watchdog }
    }

    fn new(options: &[&str], pid: i32) -> Watch {
        let mut command = Command::new(fdwatch());
        command.arg("attach").args(options).arg(pid.to_string());
        Watch::of(command)
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("fdwatch");
    }

    /// Waits until fdwatch has ended by itself.
    fn end(mut self) -> Done {
        let _ = self.err.read_to_string(&mut self.text);
        let status = self.child.wait().expect("a child");
        assert!(!self.text.contains("panicked"), "{}", self.text);
        assert_ne!(status.signal(), Some(9), "longer than {LIMIT:?}: {}", self.text);
        Done { status, stdout: String::new(), stderr: self.text }
    }

    fn leave(self) -> Done {
        self.signal(Signal::SIGINT);
        self.end()
    }
}

fn field(tid: i32, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|l| Some(l.strip_prefix(name)?.strip_prefix(':')?.trim().to_string()))
}

fn tasks(pid: i32) -> Vec<i32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// The tracer and the state letter of each task.
fn seen(pid: i32) -> Vec<(String, char)> {
    let of = |tid| Some((field(tid, "TracerPid")?, field(tid, "State")?.chars().next()?));
    tasks(pid).into_iter().filter_map(of).collect()
}

/// Nobody traces any task, and none is stopped.
fn is_free(pid: i32) {
    let tasks = seen(pid);
    assert!(!tasks.is_empty(), "{pid} is gone");
    for (tracer, state) in &tasks {
        assert_eq!(tracer, "0", "{pid} is traced still: {tasks:?}");
        assert!(!matches!(state, 't' | 'T'), "{pid} is stopped: {tasks:?}");
    }
}

fn is_traced(pid: i32, watch: &Watch) {
    let by = watch.pid().to_string();
    let tasks = seen(pid);
    assert!(!tasks.is_empty() && tasks.iter().all(|t| t.0 == by), "not all are traced by {by}: {tasks:?}");
}

/// The target's real parent has been told nothing.
fn parent_knows_nothing(pid: i32) {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED | WaitPidFlag::WCONTINUED;
    assert_eq!(waitpid(Pid::from_raw(pid), Some(flags)), Ok(WaitStatus::StillAlive));
}

fn is_told(done: &Done) {
    assert_eq!((done.errors(), done.code()), (1, 99), "{}", done.stderr);
    assert!(done.stderr.contains("error[double-close]"), "{}", done.stderr);
    assert!(done.stderr.contains("before fdwatch attached"), "{}", done.stderr);
}

/// Lets the target end, which it does as it would have.
fn ends(mut target: Running, status: i32) {
    is_free(target.pid());
    parent_knows_nothing(target.pid());
    target.close_input();
    let done = target.end();
    assert_eq!(done.code(), status, "{done:?}");
}

#[test]
fn what_was_open_before_and_is_closed_twice_is_told() {
    let Some(mut target) = waits("present", &["read", "5"]) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("log").into_os_string().into_string().expect("UTF-8");
    let watch = Watch::new(&["--record", &log], target.pid());
    is_traced(target.pid(), &watch);
    target.say("go");
    assert_eq!(target.line().as_deref(), Some("call read() = 1"));
    assert_eq!(target.line().as_deref(), Some("call close(3) = 0"));
    assert_eq!(target.line().as_deref(), Some("call close(3) = EBADF"));
    let done = watch.leave();
    is_told(&done);
    assert!(done.stderr.contains("/dev/null") && done.stderr.contains("open when fdwatch began to look"), "{done:?}");
    assert!(done.stderr.contains("target goes on without being watched"), "{done:?}");
    assert!(done.stderr.contains("watched all calls of 1 process\n"), "{done:?}");
    let replayed = run(Command::new(fdwatch()).args(["replay", &log]));
    let (_, report) = done.stderr.split_once('\n').expect("a line that says what it is attached to");
    assert_eq!((replayed.stderr.as_str(), replayed.code()), (report, 99), "the recording gives the same report");
    ends(target, 5);
}

#[test]
fn calls_in_the_middle_end_as_they_would_have() {
    for (place, says) in [
        ("read", "call read() = 1"),
        ("poll", "call poll() = 1"),
        ("nanosleep", "call nanosleep() = 0"),
        ("vfork", "the child's status is 3"),
        // 5 or 6: the thread that connects has a socket, too.
        ("accept", "call accept4(4) = "),
        ("crowd", "call close(500) = 0"),
    ] {
        let Some(mut target) = waits("calls in the middle", &[place, "6"]) else { return };
        let mut twice = String::new();
        let watch = Watch::new(if place == "vfork" { &["--children"] } else { &[] }, target.pid());
        if place == "nanosleep" {
            assert_eq!(target.line().as_deref(), Some(says), "{place}");
        }
        target.say("go");
        let mut lines = Vec::new();
        while !twice.contains("EBADF") {
            twice = target.line().unwrap_or_else(|| panic!("{place}: {lines:?}"));
            lines.push(twice.clone());
        }
        if place != "nanosleep" {
            assert!(lines[0].starts_with(says) && !lines[0].contains(" = E"), "{place}: {lines:?}");
        }
        is_traced(target.pid(), &watch);
        let done = watch.leave();
        is_told(&done);
        if place == "accept" {
            assert!(
                done.stderr.contains("in accepts: accept4()"),
                "the call began before, its result is known: {}",
                done.stderr
            );
        }
        ends(target, 6);
    }
}

/// Left in the middle of the same calls, they end as they would have, too.
#[test]
fn who_is_left_in_the_middle_of_a_call_goes_on() {
    for place in ["read", "poll", "nanosleep", "vfork", "accept", "crowd", "loop"] {
        let Some(mut target) = waits("left in the middle", &[place, "6"]) else { return };
        for _ in 0..3 {
            let watch = Watch::new(&["--children"], target.pid());
            let done = watch.leave();
            assert_eq!((done.errors(), done.code()), (0, 0), "{place}: {}", done.stderr);
            is_free(target.pid());
        }
        parent_knows_nothing(target.pid());
        if place == "loop" {
            continue; // to be killed
        }
        target.say("go");
        let mut lines = Vec::new();
        while let Some(line) = target.line() {
            let last = line.contains("EBADF");
            lines.push(line);
            if last {
                break;
            }
        }
        assert!(!lines.iter().any(|l| l.contains("EINTR") || l.contains("only")), "{place}: {lines:?}");
        ends(target, 6);
    }
}

#[test]
fn whatever_ends_the_watching_leaves_the_target_running() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        let Some(mut target) = waits("ends of watching", &["crowd", "7"]) else { return };
        let watch = Watch::new(&[], target.pid());
        is_traced(target.pid(), &watch);
        watch.signal(signal);
        let done = watch.end();
        assert_eq!(done.code(), 0, "{signal}: {}", done.stderr);
        assert!(done.stderr.contains("target goes on"), "{signal}: {}", done.stderr);
        is_free(target.pid());
        target.say("go");
        assert_eq!(target.line().as_deref(), Some("call close(500) = 0"), "{signal}");
        ends(target, 7);
    }
    let Some(target) = waits("ends of watching", &["crowd", "7"]) else { return };
    let began = std::time::Instant::now();
    let done = Watch::new(&["--for", "300ms"], target.pid()).end();
    assert!(began.elapsed().as_millis() >= 300, "it left too early");
    assert!(done.code() == 0 && done.stderr.contains("target goes on"), "{}", done.stderr);
    ends(target, 7);
}

/// The first thread that has stopped is named first, so the others would wait for as long as it stops again in time.
#[test]
fn nobody_is_passed_over_at_attach() {
    let Some(path) = target("fair") else { return skip("turns", "no C compiler") };
    let mut target = start(Command::new(path).arg("wait"));
    while target.line().expect("a line") != "ready" {}
    let watch = Watch::new(&[], target.pid());
    target.say("go");
    let done = target.end();
    let turns = done.stderr.lines().find_map(|l| l.strip_prefix("from ")?.strip_suffix(" turns")?.split_once(" to "));
    let (least, most) = turns.unwrap_or_else(|| panic!("no turns: {done:#?}"));
    assert!(least.parse::<u32>().unwrap() >= 50, "one thread had {least} turns while another had {most}");
    assert_eq!(watch.end().code(), 0);
}

/// A blocked wait hears of a signal at once, and a target that never lets it wait does not hide one.
#[test]
fn a_target_that_makes_no_call_is_left_too() {
    let Some(target) = waits("no call", &["loop"]) else { return };
    let watch = Watch::new(&[], target.pid());
    is_traced(target.pid(), &watch);
    let done = watch.leave();
    assert_eq!(done.code(), 0, "{}", done.stderr);
    is_free(target.pid());
}

#[test]
fn a_target_that_ends_is_reported_and_its_parent_hears_of_it() {
    let Some(mut target) = waits("target's end", &["read", "8"]) else { return };
    let watch = Watch::new(&[], target.pid());
    target.close_input();
    while target.line().is_some() {}
    let done = watch.end();
    is_told(&done);
    assert!(done.stderr.contains("target exited 8"), "{}", done.stderr);
    assert_eq!(target.end().code(), 8);
    let Some(target) = waits("target's end", &["crowd"]) else { return };
    let watch = Watch::new(&[], target.pid());
    target.signal(Signal::SIGUSR1);
    let done = watch.end();
    assert!(done.stderr.contains("target was killed by SIGUSR1") && done.code() == 0, "{}", done.stderr);
    assert_eq!(target.end().status.signal(), Some(Signal::SIGUSR1 as i32));
}

#[test]
fn children_are_watched_if_asked_for() {
    for asked in [true, false] {
        let Some(path) = target("waits") else { return skip("children", "no C compiler") };
        let mut target = start(Command::new(path).args(["child", "9"]));
        let child = target.line().and_then(|l| l.strip_prefix("child ")?.parse::<i32>().ok()).expect("a child");
        assert_eq!(target.line().as_deref(), Some("ready"));
        let watch = Watch::new(if asked { &["--children"] } else { &[] }, target.pid());
        is_traced(target.pid(), &watch);
        match asked {
            true => is_traced(child, &watch),
            false => is_free(child),
        }
        target.say("go");
        while !target.line().expect("a line").contains("EBADF") {}
        let done = watch.leave();
        assert_eq!(done.errors(), usize::from(asked), "{}", done.stderr);
        if asked {
            assert!(done.stderr.contains("watched all calls of 2 processes"), "{}", done.stderr);
            let lives = 2 * std::fs::read_dir(format!("/proc/{}/fd", target.pid())).expect("descriptors").count();
            assert!(done.stderr.contains(&format!("{lives} lives began before")), "{lives}: {}", done.stderr);
        }
        is_free(child);
        ends(target, 9);
    }
}

/// Job control's stop is left as it is: the parent has been told of it once, and SIGCONT ends it.
#[test]
fn a_stopped_target_stays_stopped() {
    for place in ["read", "crowd"] {
        let Some(mut target) = waits("stopped", &[place, "4"]) else { return };
        let pid = Pid::from_raw(target.pid());
        target.signal(Signal::SIGSTOP);
        let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("a child");
        assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGSTOP));
        let all_are = |letter: char| {
            // Who is let go has yet to run to stop again.
            let began = std::time::Instant::now();
            loop {
                let tasks = seen(pid.as_raw());
                if tasks.iter().all(|t| *t == ("0".to_string(), letter)) {
                    return;
                }
                assert!(began.elapsed() < LIMIT, "{place}: {tasks:?}");
                std::thread::yield_now();
            }
        };
        for _ in 0..3 {
            let done = Watch::new(&[], pid.as_raw()).leave();
            assert_eq!(done.code(), 0, "{place}: {}", done.stderr);
            all_are('T');
            parent_knows_nothing(pid.as_raw());
        }
        // Continued and stopped while it is watched.
        let watch = Watch::new(&[], pid.as_raw());
        target.signal(Signal::SIGCONT);
        target.say("go");
        while !target.line().expect("a line").contains("EBADF") {}
        target.signal(Signal::SIGSTOP);
        let continued = waitpid(pid, Some(WaitPidFlag::WCONTINUED | WaitPidFlag::WUNTRACED)).expect("a child");
        let now = match continued {
            WaitStatus::Continued(_) => waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("a child"),
            now => now,
        };
        assert_eq!(now, WaitStatus::Stopped(pid, Signal::SIGSTOP), "{place}");
        is_told(&watch.leave());
        all_are('T');
        target.signal(Signal::SIGCONT);
        let continued = waitpid(pid, Some(WaitPidFlag::WCONTINUED)).expect("a child");
        assert_eq!(continued, WaitStatus::Continued(pid));
        ends(target, 4);
    }
}

#[test]
fn threads_that_outlive_the_first_are_watched() {
    let Some(mut target) = waits("leaderless", &["leaderless"]) else { return };
    while field(target.pid(), "State").is_some_and(|s| !s.starts_with('Z')) {
        std::thread::yield_now();
    }
    let watch = Watch::new(&[], target.pid());
    target.say("go");
    while !target.line().expect("a line").contains("EBADF") {}
    is_told(&watch.leave());
    let watch = Watch::new(&[], target.pid());
    target.say("end");
    assert_eq!(target.line(), None);
    let done = watch.end();
    assert!(done.stderr.contains("target ended after what is known"), "{}", done.stderr);
    assert_eq!(target.end().code(), 4);
}

/// Threads and processes come and go while fdwatch comes and goes.
#[test]
fn a_busy_tree_is_attached_to_and_left_again_and_again() {
    let Some(path) = target("busy") else { return skip("busy", "no C compiler") };
    let mut target = start(&mut Command::new(path));
    target.line().expect("its group");
    for round in 0..20 {
        let options: &[&str] = if round % 2 == 0 { &["--children", "--for", "20ms"] } else { &["--for", "20ms"] };
        let done = Watch::new(options, target.pid()).end();
        assert_eq!((done.errors(), done.code()), (0, 0), "{round}: {}", done.stderr);
        assert!(target.is_alive(), "{round}");
    }
    target.close_input();
    let done = target.end();
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(done.stdout.ends_with("all well\n"), "{done:?}");
}

fn refused(pid: &str, parts: &[&str]) {
    let done = run(Command::new(fdwatch()).args(["attach", "--for", "1s", pid]));
    assert_eq!((done.code(), done.stderr.lines().count()), (125, 1), "{pid}: {}", done.stderr);
    for part in parts {
        assert!(done.stderr.contains(part), "{pid}: {}", done.stderr);
    }
}

#[test]
fn what_cannot_be_attached_to_is_said_in_a_line() {
    refused("abc", &["number of a process"]);
    refused("0", &["number of a process"]);
    refused("4194305", &["no such process"]);
    refused("-1", &["number of a process"]);
    if field(2, "Name").as_deref() == Some("kthreadd") {
        refused("2", &["kernel"]);
    }
    let Some(mut target) = waits("refusals", &["crowd"]) else { return };
    let thread = tasks(target.pid()).into_iter().find(|t| *t != target.pid()).expect("a thread");
    refused(&thread.to_string(), &["thread of process", &target.pid().to_string()]);
    let watch = Watch::new(&[], target.pid());
    refused(&target.pid().to_string(), &[&format!("process {} (fdwatch) traces it already", watch.pid())]);
    is_traced(target.pid(), &watch);
    assert_eq!(watch.leave().code(), 0);
    is_free(target.pid());
    // One that has ended, and whose parent, this test, has yet to wait for it.
    target.signal(Signal::SIGKILL);
    while target.line().is_some() {}
    while field(target.pid(), "State").is_some_and(|s| !s.starts_with('Z')) {
        std::thread::yield_now();
    }
    refused(&target.pid().to_string(), &["it has ended"]);
    let done = run(Command::new("/bin/sh").args(["-c", "exec \"$0\" attach $$"]).arg(fdwatch()));
    assert!(done.code() == 125 && done.stderr.contains("that is fdwatch itself"), "{}", done.stderr);
}

#[test]
fn without_privilege_ones_own_are_watched_and_others_refused() {
    if !nix::unistd::geteuid().is_root() || !has("setpriv") {
        return skip("without privilege", "not root, or no setpriv");
    }
    let Some(path) = target("waits") else { return skip("without privilege", "no C compiler") };
    let dir = tempfile::tempdir().expect("a folder");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).expect("its mode");
    for file in [&path, &fdwatch()] {
        std::fs::copy(file, dir.path().join(file.file_name().expect("a name"))).expect("a copy");
    }
    let nobody = |program: &str| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
        setpriv.arg(dir.path().join(program)).current_dir(dir.path());
        setpriv
    };
    let attach = |pid: i32| {
        let mut command = nobody("fdwatch");
        command.args(["attach", &pid.to_string()]);
        Watch::of(command)
    };
    let Some(other) = waits("without privilege", &["read", "3"]) else { return };
    let done = attach(other.pid()).end();
    assert_eq!((done.code(), done.stderr.lines().count()), (125, 1), "{}", done.stderr);
    assert!(done.stderr.contains("it runs as user 0, and you are user 65534"), "{}", done.stderr);
    ends(other, 3);
    let mut own = start(nobody("waits").args(["read", "3"]));
    while own.line().expect("a line") != "ready" {}
    let watch = attach(own.pid());
    if watch.text.contains("Yama") {
        drop(watch.end());
        skip("without privilege", "Yama allows it for children only");
        return ends(own, 3);
    }
    is_traced(own.pid(), &watch);
    own.say("go");
    while !own.line().expect("a line").contains("EBADF") {}
    is_told(&watch.leave());
    ends(own, 3);
}

/// The target's terminal and process group are its own.
#[test]
fn at_the_prompt_the_target_keeps_its_terminal() {
    let Some(path) = target("waits") else { return skip("prompt", "no C compiler") };
    let mut theirs = Pty::start(Command::new(path).args(["read", "5"]));
    theirs.expect("ready\n");
    let group = theirs.foreground();
    let attach = |options: &[&str]| {
        let mut command = Command::new(fdwatch());
        command.args(["attach", "--prompt"]).args(options).arg(theirs.pid().to_string());
        let mut ours = Pty::start(&mut command);
        ours.expect("Ctrl-C opens the prompt\n");
        ours
    };
    for leave in ["detach", "quit", "\x04"] {
        let mut ours = attach(&[]);
        ours.send("\x03");
        ours.expect("interrupted\n");
        ours.expect("(fdwatch) ");
        assert!(ours.ask("info fds").contains("/dev/null"));
        assert_eq!(theirs.foreground(), group);
        match leave {
            "\x04" => ours.send(leave),
            word => ours.line(word),
        }
        let (status, shown) = ours.end();
        assert_eq!(status, 0, "{shown}");
        assert!(shown.contains("target goes on without being watched"), "{shown}");
        is_free(theirs.pid());
        assert_eq!(theirs.foreground(), group);
    }
    let mut ours = attach(&["--fd", "3"]);
    theirs.line("go");
    ours.expect("about to close fd 3");
    ours.expect("(fdwatch) ");
    ours.line("keep");
    ours.expect("(fdwatch) ");
    ours.line("continue");
    // Kept: the second close is the first.
    ours.expect("about to close fd 3");
    ours.expect("(fdwatch) ");
    ours.line("continue");
    theirs.expect("call close(3) = 0\n");
    theirs.expect("call close(3) = 0\n");
    ours.kill();
    assert_eq!(ours.end().0, 128 + 9);
    is_free(theirs.pid());
    assert_eq!(theirs.foreground(), group);
    theirs.line("end");
    assert_eq!(theirs.end().0, 5);
}

#[test]
fn a_script_at_a_break_may_leave() {
    let Some(mut target) = waits("script", &["read", "5"]) else { return };
    let watch = Watch::new(&["--fd", "3", "-ex", "fd 3", "-ex", "quit"], target.pid());
    target.say("go");
    let done = watch.end();
    assert!(done.stderr.contains("asked: --fd 3") && done.code() == 0, "{}", done.stderr);
    while !target.line().expect("a line").contains("EBADF") {}
    ends(target, 5);
}

/// `cargo run --release --example kill_loop -- 200` for more.
#[test]
fn fdwatch_killed_at_random_moments_leaves_nobody_stopped_and_nothing_lost() {
    if target("toil").is_none() {
        return skip("killed fdwatch", "no C compiler");
    }
    let kills = std::env::var("FDWATCH_KILLS").unwrap_or_else(|_| "10".to_string());
    let done = run(Command::new(example("kill_loop")).arg(&kills));
    assert_eq!((done.code(), done.stdout.matches("nothing was left").count()), (0, 2), "{done:#?}");
}

/// A stopped process of a tree that is left stays stopped for the shell that waits for it, and is not held back.
#[test]
fn a_stopped_child_of_a_started_target_is_left_stopped() {
    if !has("bash") {
        return skip("left stopped", "no bash");
    }
    // The child stops itself; its parent is told, closes what --fd names, and is left there.
    let script = "exec 8</dev/null; sh -c 'kill -STOP $$; echo went on; exit 3' & c=$!; \
                  until grep -q '^State:.*[Tt] (' /proc/$c/status; do :; done; exec 8<&-; \
                  until grep -q '^TracerPid:.0' /proc/$c/status; do :; done; \
                  until grep -q '^State:.T (stopped)' /proc/$c/status; do :; done; \
                  echo stopped; kill -CONT $c; wait $c; echo $?";
    let mut command = Command::new(fdwatch());
    command.args(["run", "--no-seccomp", "--fd", "8", "-ex", "detach", "--", "bash", "-c", script]);
    let done = run(&mut command);
    assert_eq!((done.stdout.as_str(), done.code()), ("stopped\nwent on\n3\n", 0), "{done:#?}");
}

/// The vfork parent is in a sleep that nothing interrupts when the others are left.
#[test]
fn a_vfork_parent_of_a_started_target_is_left_when_it_can_be() {
    let Some(path) = target("waits") else { return skip("vfork", "no C compiler") };
    let mut command = Command::new(fdwatch());
    command.args(["run", "--no-seccomp", "--fd", "3", "-ex", "detach", "--"]).arg(path).args(["vfork-closes", "4"]);
    let mut watched = start(&mut command);
    assert_eq!(watched.line().as_deref(), Some("ready"));
    while watched.line().expect("a line") != "call close(3) = 0" {}
    watched.say("go");
    assert_eq!(watched.line().as_deref(), Some("the child's status is 3"));
    while !watched.line().expect("a line").contains("EBADF") {}
    let pid = numbers_of_children(watched.pid());
    pid.iter().for_each(|p| is_free(*p));
    assert_eq!(pid.len(), 1);
    watched.close_input();
    assert_eq!(watched.end().code(), 4);
}

/// Where nothing of fdwatch's is left in it, a started target that was let go needs fdwatch no more; with a filter, whose calls
/// nobody would answer, it ends with fdwatch and does not go on half.
#[test]
fn who_was_let_go_outlives_fdwatch_unless_it_has_a_filter() {
    let script = "exec 7</dev/null; exec 7<&-; echo $$; read x; echo \"got $x\"; : </dev/null && echo opened";
    for (mode, lives) in [(&["run", "--no-seccomp"][..], true), (&["run"], false)] {
        let options = ["--fd", "7", "--batch", "-ex", "detach", "--", "sh", "-c", script];
        let mut target = start(Command::new(fdwatch()).args(mode).args(options));
        let pid: i32 = target.line().and_then(|l| l.parse().ok()).expect("its number");
        let tracer = field(pid, "TracerPid").expect("it lives");
        assert_eq!(tracer == "0", lives, "{mode:?}");
        target.signal(Signal::SIGKILL);
        if lives {
            target.say("on");
            assert_eq!(target.line().as_deref(), Some("got on"), "{mode:?}");
            assert_eq!(target.line().as_deref(), Some("opened"), "{mode:?}");
        }
        assert_eq!(target.line(), None, "{mode:?}");
    }
}

fn numbers_of_children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|n| n.parse().ok()).collect()
}

/// It may have stopped, and its stop hides what others have to report (waitid(2) names the first that it finds).
#[test]
fn a_child_of_the_shell_before_us_hides_nothing() {
    let mut target = start(&mut Command::new("cat"));
    let before = "sh -c 'kill -STOP $$' >/dev/null 2>&1 3>&- & echo $! >&3; exec 3>&-; \
                  until grep -q '^State:.T' /proc/$!/status; do :; done; exec \"$@\"";
    let (stranger, told) = std::io::pipe().expect("a pipe");
    let mut command = Command::new("bash");
    command.args(["-c", &format!("exec 3>&0 </dev/null; {before}"), "bash"]).arg(fdwatch());
    command.args(["attach", &target.pid().to_string()]);
    let watch = Watch::with_input(command, told.into());
    let stranger: i32 = BufReader::new(stranger).lines().next().unwrap().unwrap().parse().unwrap();
    is_traced(target.pid(), &watch);
    target.close_input();
    let done = watch.end();
    let _ = kill(Pid::from_raw(stranger), Signal::SIGKILL);
    assert_eq!(done.status.code(), Some(0), "{done:#?}");
    target.end();
}

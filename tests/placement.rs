//! Target and tracer on one CPU: the target cannot see it.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{alone, audit, fdwatch, run, skip, start, target};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// fdwatch's log goes here, and how often it held a task is read from it.
struct Log(PathBuf);

impl Log {
    fn new(test: &str) -> Log {
        Log(std::env::temp_dir().join(format!("fdwatch-placement-{test}-{}", std::process::id())))
    }

    fn options(&self) -> [&str; 5] {
        ["-vv", "--log-file", self.0.to_str().expect("UTF-8"), "--fail-on", "never"]
    }

    fn holds(&self) -> usize {
        std::fs::read_to_string(&self.0).expect("a log").matches("held on one CPU").count()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether there is more than one CPU to choose from.
fn has_choice(test: &str) -> bool {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("a mask");
    let n = (0..nix::sched::CpuSet::count()).filter(|c| set.is_set(*c) == Ok(true)).count();
    if n < 2 {
        skip(test, "only one CPU");
    }
    n >= 2
}

fn allowed(pid: i32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().filter(|l| l.starts_with("Cpus_allowed:")).collect()
}

#[test]
fn a_target_sees_its_own_masks() {
    let name = "a target's masks";
    let Some(path) = target("placement") else { return skip(name, "no C compiler") };
    let native = alone(&[&path]);
    assert_eq!(native.code(), 0, "{}", native.stderr);
    for mode in [&[][..], &["--no-seccomp"]] {
        let log = Log::new(&format!("masks{}", mode.len()));
        let watched = audit(&[&log.options(), mode].concat(), &[&path]);
        assert_eq!(watched.stdout, native.stdout, "{mode:?}");
        assert_eq!(watched.code(), 0, "{}", watched.stderr);
        if has_choice(name) {
            assert!(log.holds() >= 6, "{mode:?}: it was held {} times only, which proves nothing", log.holds());
        }
        let free = audit(&[mode, &["--fail-on", "never", "--co-locate", "off"]].concat(), &[&path]);
        assert_eq!(free.stdout, native.stdout, "{mode:?}, off");
    }
}

#[test]
fn a_silent_task_is_released() {
    let name = "a silent task";
    let Some(path) = target("placement") else { return skip(name, "no C compiler") };
    let log = Log::new("silent");
    let mut watched = start(Command::new(fdwatch()).arg("audit").args(log.options()).arg("--").arg(&path).arg("quiet"));
    let line = watched.line().expect("a line");
    let pid: i32 = line.strip_prefix("quiet ").expect("quiet PID").parse().expect("a number");
    let native = allowed(std::process::id() as i32);
    let begun = Instant::now();
    // It is released by time: this is what is waited for.
    while allowed(pid) != native || allowed(watched.pid()) != native {
        assert!(begun.elapsed() < common::LIMIT, "{} is not {native}", allowed(pid));
        std::thread::yield_now();
    }
    if has_choice(name) {
        assert!(log.holds() > 0, "it was never held, which proves nothing");
    }
    watched.close_input();
    assert_eq!(watched.end().code(), 0);
}

#[test]
fn who_was_left_has_its_own_mask() {
    let name = "a target that is left";
    let Some(path) = target("placement") else { return skip(name, "no C compiler") };
    let native = alone(&[&path]);
    let log = Log::new("left");
    let watched = run(Command::new(fdwatch())
        .arg("run")
        .args(&log.options()[..3])
        .args(["--no-seccomp", "--path", "/dev/null", "-ex", "continue 400", "-ex", "detach", "--"])
        .arg(&path));
    // The prompt's words and the target's go to the same place.
    let told: String = watched.stdout.lines().filter(|l| native.stdout.contains(l)).map(|l| format!("{l}\n")).collect();
    assert_eq!(told, native.stdout, "{}", watched.stdout);
    if has_choice(name) {
        assert!(log.holds() > 0, "it was never held, which proves nothing");
    }
}

#[test]
fn where_there_is_one_cpu_nothing_is_held() {
    let name = "one CPU";
    let Some(path) = target("placement") else { return skip(name, "no C compiler") };
    if !common::has("taskset") {
        return skip(name, "no taskset");
    }
    let log = Log::new("one");
    let first = (0..nix::sched::CpuSet::count())
        .find(|c| {
            let own = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("a mask");
            own.is_set(*c) == Ok(true)
        })
        .expect("a CPU")
        .to_string();
    let pinned = |command: &mut Command, program: &Path| {
        command.args(["-c", &first]).arg(program);
    };
    let mut native = Command::new("taskset");
    pinned(&mut native, &path);
    let mut watched = Command::new("taskset");
    pinned(&mut watched, &fdwatch());
    watched.arg("audit").args(log.options()).arg("--").arg(&path);
    assert_eq!(run(&mut watched).stdout, run(&mut native).stdout);
    assert_eq!(log.holds(), 0);
}

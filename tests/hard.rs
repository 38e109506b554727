//! Targets that are hard on a tracer: those that trace, that have filters of their own, that ask who they are, and those
//! that do everything ten thousand times. Each behaves as it does alone, or is told in a word why not; nothing hangs.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, alone, audit, fdwatch, has, run, skip, start, target};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

const REFUSED: &str = "to trace were refused (EPERM): a task has one tracer, and here fdwatch is it";
const REFUSED_ONE: &str = "1 request to trace was refused (EPERM): a task has one tracer, and here fdwatch is it";

#[test]
fn filters_of_the_targets_own_do_what_they_do_alone() {
    let Some(path) = target("seccomp_kinds") else { return skip("filters", "no C compiler") };
    let native = alone(&[&path]);
    if native.code() == 77 {
        return skip("filters", native.stdout.trim());
    }
    assert!(native.stdout.contains("call close = ENOSYS") && native.stdout.contains("the supervisor says 4711"));
    let program = text(&path);
    let dir = tempfile::tempdir().expect("a folder");
    let recorded = dir.path().join("log");
    for options in [&["audit"][..], &["audit", "--no-seccomp"], &["run", "-ex", "continue"], &["run", "-ex", "detach"]]
    {
        let done = run(Command::new(fdwatch()).args(options).args(["--record", text(&recorded), "--", program]));
        assert_eq!(done.stdout, native.stdout, "{options:?}: {}", done.stderr);
        assert_eq!((done.errors(), done.code()), (0, 0), "{options:?}: {}", done.stderr);
        // Nothing that was refused is taken for done: a number 32 is not open because dup, which is call 32, was trapped.
        let log = std::fs::read_to_string(&recorded).expect("a log");
        let _ = std::fs::remove_file(&recorded);
        assert!(!log.contains(r#""to":32,"#), "{options:?}: a copy that nobody made");
    }
}

/// What a filter of the target's own shows to a supervisor does not come to ours, and may be made all the same, or said to
/// be made. Of the child, whose table nobody shares, what was done otherwise is said to be unseen.
#[test]
fn calls_that_a_supervisor_answers_are_seen() {
    let Some(path) = target("supervised") else { return skip("supervisor", "no C compiler") };
    for how in [&[][..], &["all threads"]] {
        let native = run(Command::new(&path).args(how));
        if native.code() == 77 {
            return skip("supervisor", native.stdout.trim());
        }
        assert!(native.stdout.ends_with("the child exited 3\n"), "{}", native.stdout);
        for mode in [&["audit"][..], &["audit", "--no-seccomp"], &["audit", "--uses", "all"]] {
            let done = run(Command::new(fdwatch()).args(mode).arg("--").arg(&path).args(how));
            assert_eq!(done.stdout, native.stdout, "{mode:?} {how:?}: {}", done.stderr);
            let told = done.stderr.matches("error[double-close]").count();
            assert_eq!(told, 2, "{mode:?} {how:?}: {}", done.stderr);
            let unseen = done.stderr.lines().find(|l| l.contains("against expectation")).unwrap_or_default();
            let times: u32 = unseen.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or_default();
            assert!(times >= 3, "{mode:?} {how:?}: {}", done.stderr);
        }
    }
}

/// A program that nobody but the kernel's strict mode watches over.
const STRICT: &str = r#"
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void)
{
    int refused = prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    syscall(SYS_exit, refused ? 1 : 0);
}
"#;

fn built(dir: &Path, name: &str, source: &str) -> Option<std::path::PathBuf> {
    if !has("cc") {
        skip(name, "no C compiler");
        return None;
    }
    let (file, program) = (dir.join(format!("{name}.c")), dir.join(name));
    std::fs::write(&file, source).expect("a file");
    let done = run(Command::new("cc").arg("-o").arg(&program).arg(&file));
    assert_eq!(done.code(), 0, "{}", done.stderr);
    Some(program)
}

#[test]
fn strict_mode_is_refused_with_a_word_and_works_without_a_filter() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(program) = built(dir.path(), "strict", STRICT) else { return };
    if alone(&[&program]).code() != 0 {
        return skip("strict mode", "it is refused here to everybody");
    }
    let done = audit(&[], &[&program]);
    let word =
        "1 task was refused seccomp's strict mode (EINVAL), because it is under fdwatch's filter: use --no-seccomp";
    assert!(done.stderr.contains(word), "{}", done.stderr);
    assert_eq!(done.code(), 1, "{}", done.stderr);
    let done = audit(&["--no-seccomp"], &[&program]);
    assert!(!done.stderr.contains("strict mode"), "{}", done.stderr);
    assert_eq!(done.code(), 0, "{}", done.stderr);
}

#[test]
fn who_traces_inside_is_told_that_it_may_not() {
    let Some(path) = target("tracers") else { return skip("tracers", "no C compiler") };
    // In a pid namespace of its own a process has another number than for us.
    let namespace = ["unshare", "-Upf", "--kill-child"];
    let apart = has("unshare") && alone(&[&namespace[..], &["true"]].concat()).code() == 0;
    if !apart {
        skip("tracers in a pid namespace", "no unshare, or it is refused");
    }
    let ways = [&[][..], &namespace].into_iter().take(1 + usize::from(apart));
    for (options, way) in [&[][..], &["--no-seccomp"]].into_iter().flat_map(|o| ways.clone().map(move |w| (o, w))) {
        let path = path.to_str().expect("plain text");
        let done = audit(options, &[way, &[path]].concat());
        // A stop for a tracer that there is not would be for ever; the next is as any.
        let blind = "the blind child stopped by 19\nthe blind child exited 5\n";
        let expected = format!(
            "call PTRACE_TRACEME = EPERM\nthe child exited 3\n{blind}{blind}call PTRACE_SEIZE = EPERM\n\
             call PTRACE_ATTACH = EPERM\nthe sibling exited 4\n"
        );
        assert_eq!(done.stdout, expected, "{options:?}: {}", done.stderr);
        assert!(done.stderr.contains(&format!("5 requests {REFUSED}")), "{options:?}: {}", done.stderr);
        assert_eq!(done.code(), 0, "{options:?}: {}", done.stderr);
    }
}

#[test]
fn strace_and_gdb_inside_end_with_a_word() {
    let tools: [&[&str]; 2] =
        [&["strace", "-f", "true"], &["gdb", "-batch", "-nx", "-ex", "run", "-ex", "bt", "/bin/true"]];
    for tool in tools {
        if !has(tool[0]) {
            skip("tracers inside", &format!("no {}", tool[0]));
            continue;
        }
        for options in [&[][..], &["--no-seccomp"]] {
            let done = audit(options, tool);
            assert!(done.stderr.contains("Operation not permitted"), "{tool:?} {options:?}: {}", done.stderr);
            assert!(done.stderr.contains("refused (EPERM)"), "{tool:?} {options:?}: {}", done.stderr);
            assert!(!done.stderr.contains("panicked"), "{tool:?} {options:?}: {}", done.stderr);
        }
    }
}

/// Each tracer that there may be inside, on a process inside and on one outside, which nobody traces: with a word, or it
/// works, and it does not wait for ever.
#[test]
fn tracers_inside_attach_to_nobody_inside_and_to_those_outside() {
    let mut outside = start(Command::new("sh").args(["-c", "echo ready; read x"]));
    assert_eq!(outside.line().as_deref(), Some("ready"));
    let (pid, program) = (outside.pid().to_string(), fdwatch());
    let own = text(&program);
    let dir = tempfile::tempdir().expect("a folder");
    let said = text(dir.path()).to_string() + "/said";
    // Left to itself it goes on for as long as what it traces.
    let strace = format!(
        "trace() {{ strace -p $1 2>{said} & until grep -qE 'attached|ptrace.PTRACE_' {said}; do :; done; \
         kill -INT $!; wait $!; cat {said}; }}; trace"
    );
    // The shell is traced, too, and asks about itself.
    let tools: [(&str, String, &str, &str); 3] = [
        (own, format!("{own} attach --for 1ms"), "traces it already, and a process has one tracer", "target goes on"),
        ("strace", strace, "Operation not permitted", "attached"),
        ("gdb", "gdb -nx -batch -p".into(), "Operation not permitted", "detached"),
    ];
    for (name, tool, refused, works) in &tools {
        if *name != own && !has(name) {
            skip("attaching inside", &format!("no {name}"));
            continue;
        }
        for outer in [&["audit"][..], &["audit", "--no-seccomp"], &["run", "--batch", "-ex", "continue"]] {
            for (of, word) in [("$$", refused), (pid.as_str(), works)] {
                let script = format!("{tool} {of} 2>&1; :");
                let done = run(Command::new(own).args(outer).args(["--", "sh", "-c", &script]));
                let said = format!("{}{}", done.stdout, done.stderr);
                assert!(said.contains(*word), "{outer:?} {tool} {of}: {said}");
                assert_eq!(done.code(), 0, "{outer:?} {tool} {of}: {said}");
            }
        }
    }
    outside.close_input();
    outside.end();
}

#[test]
fn fdwatch_inside_fdwatch_ends_with_a_word() {
    let program = fdwatch();
    let own = text(&program);
    for outer in [&["audit"][..], &["audit", "--no-seccomp"], &["run", "-ex", "continue"]] {
        for inner in [&["audit"][..], &["audit", "--no-seccomp"], &["run", "-ex", "continue"]] {
            let mut command = Command::new(own);
            command.args(outer).args(["--", own]).args(inner).args(["--", "true"]);
            let done = run(&mut command);
            let word = "traces already: a process has one tracer; run fdwatch outside of it";
            assert!(done.stderr.contains(word), "{outer:?} {inner:?}: {}", done.stderr);
            assert!(done.stderr.contains(REFUSED_ONE), "{outer:?} {inner:?}: {}", done.stderr);
            assert_eq!(done.code(), 125, "{outer:?} {inner:?}: {}", done.stderr);
        }
    }
    if has("strace") && alone(&["strace", "-o", "/dev/null", "true"]).code() == 0 {
        let done = run(Command::new("strace").args(["-f", "-o", "/dev/null", own, "audit", "--", "true"]));
        assert!(done.stderr.contains("a process has one tracer; run fdwatch outside of it"), "{}", done.stderr);
        assert_eq!(done.code(), 125, "{}", done.stderr);
    }
}

/// What the target says of itself, with what cannot be compared left out.
fn mirrored(done: &Done) -> Vec<String> {
    assert_eq!(done.code(), 0, "{}", done.stderr);
    // Whoever starts a program may say so in `_`, and pipes are new each time.
    done.stdout.lines().filter(|l| !l.starts_with("environment _=")).map(String::from).collect()
}

#[test]
fn a_program_sees_of_itself_what_it_sees_alone() {
    let Some(path) = target("mirror") else { return skip("mirror", "no C compiler") };
    if !has("timeout") {
        return skip("mirror", "no timeout(1), to be a parent");
    }
    let arguments = [text(&path), "an argument", ""];
    // A parent that passes everything on, as fdwatch is.
    let mut alone = Command::new("timeout");
    common::no_settings(&mut alone);
    let native = mirrored(&run(alone.args(["--foreground", "100"]).args(arguments)));
    assert!(native.len() > 80, "it says much: {native:#?}");
    let root = nix::unistd::geteuid().is_root();
    for (way, filtered) in
        [(&["audit"][..], true), (&["audit", "--no-seccomp"], false), (&["run", "-ex", "continue"], true)]
    {
        let watched = mirrored(&run(Command::new(fdwatch()).args(way).arg("--").args(arguments)));
        assert_eq!(watched.len(), native.len(), "{way:?}: {watched:#?}");
        let differ = native.iter().zip(&watched).filter(|(n, w)| n != w);
        let names: BTreeSet<&str> = differ.map(|(n, _)| n.split(['\t', ' ']).nth(1).unwrap_or(n)).collect();
        let mut expected = BTreeSet::from(["TracerPid:"]);
        if filtered {
            expected.extend(["Seccomp:", "Seccomp_filters:"]);
            if !root {
                expected.insert("NoNewPrivs:");
            }
        }
        assert_eq!(names, expected, "{way:?}: what differs");
    }
}

/// A copy of id(1) that belongs to root and has the setuid bit, and the means to run it as somebody else.
fn setuid(test: &str) -> Option<tempfile::TempDir> {
    if !nix::unistd::geteuid().is_root() || !has("setpriv") || !Path::new("/usr/bin/id").exists() {
        skip(test, "not root, or no setpriv, or no /usr/bin/id");
        return None;
    }
    let dir = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().expect("a folder");
    for (from, name, mode) in [(Path::new("/usr/bin/id"), "id", 0o4755), (&fdwatch(), "fdwatch", 0o755)] {
        let to = dir.path().join(name);
        std::fs::copy(from, &to).expect("a copy");
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode)).expect("its mode");
    }
    if in_dir(&dir, &[], &["./id", "-u"]).stdout != "0\n" {
        skip(test, "setuid programs get no privilege here");
        return None;
    }
    Some(dir)
}

/// `outer`, as root, starts `command` as nobody.
fn in_dir(dir: &tempfile::TempDir, outer: &[&str], command: &[&str]) -> Done {
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];
    let words: Vec<&str> = outer.iter().chain(&nobody).chain(command).copied().collect();
    run(Command::new(words[0]).args(&words[1..]).current_dir(dir.path()))
}

#[test]
fn setuid_programs_keep_their_privilege_under_root_and_lose_it_with_a_word_under_others() {
    let Some(dir) = setuid("setuid") else { return };
    for outer in [&["./fdwatch", "audit", "--"][..], &["./fdwatch", "audit", "--no-seccomp", "--"]] {
        let done = in_dir(&dir, outer, &["./id", "-u"]);
        assert_eq!(done.stdout, "0\n", "{outer:?}: {}", done.stderr);
        assert!(!done.stderr.contains("no privilege"), "{outer:?}: {}", done.stderr);
    }
    for (inner, word) in [
        (&["./fdwatch", "audit"][..], "no_new_privs was set: setuid programs got no privilege"),
        (&["./fdwatch", "audit", "--no-seccomp"], "setuid programs got no privilege: fdwatch has no CAP_SYS_PTRACE"),
    ] {
        let command: Vec<&str> = inner.iter().chain(&["--", "./id", "-u"]).copied().collect();
        let done = in_dir(&dir, &[], &command);
        assert_eq!(done.stdout, "65534\n", "{inner:?}: {}", done.stderr);
        assert!(done.stderr.contains(word), "{inner:?}: {}", done.stderr);
    }
}

/// Runs `many WAY N` under fdwatch: how long both were on a CPU, and how much memory fdwatch took at most, in KiB.
fn grown(path: &Path, way: &str, n: u32) -> Option<(Duration, u64)> {
    let dir = tempfile::tempdir().expect("a folder");
    let peak = dir.path().join("peak");
    let mut command = Command::new(target("peak")?);
    command.arg(&peak).arg(fdwatch()).args(["audit", "--"]).arg(path).args([way, &n.to_string()]);
    let done = run(&mut command);
    if done.code() == 77 {
        skip(way, done.stdout.trim());
        return None;
    }
    assert_eq!((done.errors(), done.code()), (0, 0), "{way} {n}: {}", done.stderr);
    let number = |file: &Path| -> u64 {
        std::fs::read_to_string(file).expect("what peak writes").trim().parse().expect("a number")
    };
    Some((Duration::from_millis(number(&peak.with_extension("ms"))), number(&peak)))
}

/// Ten times as much takes about ten times as long on a CPU, whatever else the machine does: thirty times are a third of what a
/// square would need.
fn grows_in_step(way: &str, n: u32) -> Option<(u64, u64)> {
    let Some(path) = target("many") else {
        skip(way, "no C compiler");
        return None;
    };
    let (little, small) = grown(&path, way, n)?;
    let (much, large) = grown(&path, way, 10 * n)?;
    eprintln!("{way}: {n} in {little:?} and {small} KiB, {} in {much:?} and {large} KiB", 10 * n);
    let allowed = 30 * little.max(Duration::from_millis(100));
    assert!(much < allowed, "{way}: {n} took {little:?}, ten times as many {much:?}");
    Some((small, large))
}

#[test]
fn execs_cost_no_memory() {
    // Ten thousand, and where fdwatch is not optimised fewer, or it takes a minute.
    let n = if cfg!(debug_assertions) { 200 } else { 1000 };
    let Some((small, large)) = grows_in_step("execs", n) else { return };
    assert!(large < small + 4 * 1024, "{small} KiB after {n}, {large} KiB after ten times as many");
}

#[test]
fn processes_in_sequence_cost_no_memory() {
    let Some((small, large)) = grows_in_step("processes", 1000) else { return };
    assert!(large < small + 4 * 1024, "{small} KiB after 1,000, {large} KiB after 10,000");
}

#[test]
fn a_thousand_threads_are_followed() {
    grows_in_step("threads", 100);
}

#[test]
fn as_many_descriptors_as_may_be_are_followed() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files")).unwrap_or_default();
    let limit: u64 = line.split_whitespace().nth(1).and_then(|w| w.parse().ok()).unwrap_or(1_000_000);
    // A tenth of what is allowed, and all of it; of 100,000 if that is allowed.
    let n = u32::try_from(limit.saturating_sub(100) / 10).unwrap_or(10_000).min(10_000);
    if n < 10_000 {
        skip("100,000 descriptors", &format!("no more than {limit} are allowed: {} are opened", 10 * n));
    }
    grows_in_step("descriptors", n);
}

/// Waits until a process sleeps in wait4 (proc_pid_syscall(5)), whoever traces it.
fn wait_until_asleep_in_wait4(pid: i32) {
    const WAIT4: &str = "61 ";
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let began = Instant::now();
    while !(read("stat").contains(") S ") && read("syscall").starts_with(WAIT4)) {
        assert!(began.elapsed() < common::LIMIT, "{pid} never waited");
        std::thread::yield_now();
    }
}

/// What the target says when its child is stopped, continued and killed by us, one after another.
fn told_of_jobs(command: &mut Command) -> Vec<String> {
    let mut target = start(command);
    let line = target.line().expect("the numbers");
    let words: Vec<i32> = line.split(' ').filter_map(|w| w.parse().ok()).collect();
    let (child, parent) = (words[0], words[1]);
    let mut said = Vec::new();
    for signal in [Signal::SIGSTOP, Signal::SIGCONT, Signal::SIGSTOP, Signal::SIGCONT, Signal::SIGSTOP, Signal::SIGKILL]
    {
        wait_until_asleep_in_wait4(parent);
        kill(Pid::from_raw(child), signal).expect("the child");
        said.push(target.line().expect("a line"));
    }
    let done = target.end();
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert_eq!(done.stdout, "", "nothing more is told");
    said
}

#[test]
fn job_control_from_outside_is_told_to_the_parent_as_it_is_alone() {
    let Some(path) = target("jobs") else { return skip("jobs", "no C compiler") };
    let native = told_of_jobs(Command::new(&path).arg("now"));
    assert_eq!(native[0], format!("stopped 19, SIGCHLD 1 with code {}", libc_code::CLD_STOPPED));
    assert_eq!(native[1], format!("continued 0, SIGCHLD 2 with code {}", libc_code::CLD_CONTINUED));
    assert_eq!(native[5], format!("killed 9, SIGCHLD 6 with code {}", libc_code::CLD_KILLED));
    for way in [&["audit"][..], &["audit", "--no-seccomp"], &["run", "-ex", "continue"]] {
        let watched = told_of_jobs(Command::new(fdwatch()).args(way).arg("--").arg(&path).arg("now"));
        assert_eq!(watched, native, "{way:?}");
    }
}

/// sigaction(2), si_code of SIGCHLD.
mod libc_code {
    pub(crate) const CLD_KILLED: i32 = 2;
    pub(crate) const CLD_STOPPED: i32 = 5;
    pub(crate) const CLD_CONTINUED: i32 = 6;
}

/// A shell that executes us may have started somebody before, as bash does for `fdwatch … 2> >(tee log)`: that is a child
/// of ours then, and may itself wait for our end.
#[test]
fn children_of_the_shell_before_us_are_not_waited_for() {
    let before = "exec 3<&0; cat <&3 >/dev/null 2>&1 & exec \"$@\" 3<&- </dev/null";
    let of = |args: &[&str]| start(Command::new("sh").args(["-c", before, "sh"]).arg(fdwatch()).args(args)).end();
    // The one that is left has a child of its own, which outlives it.
    let done = of(&["audit", "--", "sh", "-c", "(sleep 0.1; exit 4) & exit 3"]);
    assert_eq!(done.code(), 3, "{done:#?}");
    assert!(done.stderr.contains("of 3 processes"), "{done:#?}");
    let done = of(&["audit", "--no-seccomp", "--", "true"]);
    assert_eq!(done.code(), 0, "{done:#?}");
    if !has("bash") {
        return skip("children of the shell before us, at detach", "no bash");
    }
    // Who is being delayed is left, too, and not waited for as if it was watched.
    let script = "exec 7</dev/null 8</dev/null; (exec 8<&-; echo child) & c=$!; \
                  until grep -q '^State:.t' /proc/$c/status; do :; done; exec 7<&-; wait; echo over";
    for mode in [&["run"][..], &["run", "--no-seccomp"]] {
        let options = ["--inject", "close:fd=8:delay_enter=1000s", "--fd", "7", "--batch", "-ex", "detach", "--"];
        let done = of(&[mode, &options, &["bash", "-c", script]].concat());
        assert_eq!((done.stdout.as_str(), done.code()), ("child\nover\n", 0), "{mode:?}: {done:#?}");
    }
}

//! `--record` and `fdwatch replay`: the same report from a log as from the run, and no log that can do harm.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, alone, fdwatch, has, pythons, run, script, skip, target};
use fdwatch::policy::suppression::Suppressions;
use fdwatch::render::Style;
use fdwatch::report::{Report, Target, text};
use fdwatch::session::{LogError, Replay};
use proptest::prelude::*;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// `fdwatch ARGS` in `dir`.
fn go<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> Done {
    run(Command::new(fdwatch()).args(args).current_dir(dir))
}

/// The replayed report is the live one; else the first line that is not is shown.
fn equal(again: &str, live: &str, what: &str) {
    let differ = again.lines().zip(live.lines()).find(|(a, l)| a != l);
    assert_eq!(differ, None, "{what}: replayed, live");
    assert_eq!(again.len(), live.len(), "{what}: one report is longer");
}

/// Runs a command with a recording and replays that: the reports are the same, byte for byte, and so is the status.
/// Gives what the run printed, and the log.
fn same<S: AsRef<OsStr>>(options: &[&str], command: &[S]) -> (Done, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let mut args: Vec<&OsStr> =
        ["audit", "--record", "log", "--format", "json", "-o", "live"].iter().map(OsStr::new).collect();
    args.extend(options.iter().map(OsStr::new));
    args.push(OsStr::new("--"));
    args.extend(command.iter().map(AsRef::as_ref));
    let live = go(dir.path(), &args);
    let what = command.iter().map(|c| c.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");
    let again = go(dir.path(), &["replay", "log", "--format", "json", "-o", "again"]);
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""), "{what}");
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    equal(&read("again"), &read("live"), &what);
    assert_eq!(again.code(), live.code(), "{what} {options:?}");
    // As text, too, and to standard error.
    let report = Report::read(read("live").as_bytes()).unwrap();
    let again = go(dir.path(), &["replay", "log"]);
    equal(&again.stderr, &text(&report, Style::plain()), &what);
    assert_eq!(again.code(), live.code(), "{what}");
    (live, std::fs::read(dir.path().join("log")).unwrap())
}

fn report(log: &[u8]) -> Report {
    let mut replay = Replay::read(log, Suppressions::shipped()).unwrap();
    assert_eq!(replay.damage(), None);
    replay.report()
}

#[test]
fn python_programs_replay_the_same() {
    let pythons = pythons();
    if pythons.is_empty() {
        return skip("replay of Python", "no CPython of version 3.8 or later");
    }
    for (i, python) in pythons.iter().enumerate() {
        let python = python.as_os_str();
        for (n, name) in ["a_bare_call", "b_input", "c_error_pipe", "d_other_file", "e_posix_spawn"].iter().enumerate()
        {
            // The first does all, the others one each.
            if i > 0 && i % 5 != n {
                continue;
            }
            let options: &[&str] = if i == 0 && n % 2 == 0 { &["--no-seccomp"] } else { &[] };
            let path = script(&format!("python/symptom_{name}.py"));
            let (live, log) = same(options, &[python, path.as_ref()]);
            assert_eq!(live.code(), 99);
            assert_eq!(report(&log).counts.errors, 1, "{path}");
        }
        let path = script("python/repaired.py");
        let (live, log) = same(&[], &[python, path.as_ref(), "a".as_ref()]);
        assert_eq!((live.code(), report(&log).findings.len()), (0, 0));
    }
}

#[test]
fn c_programs_replay_the_same() {
    for (name, errors) in [
        ("double_close", 3),
        ("use_after_close", 1),
        ("stale_fork_dup2", 1),
        ("posix_spawn_dup2", 1),
        ("close_loop", 0),
        ("threads_share", 1),
        ("exec_from_thread", 0),
        ("clone_files_process", 1),
        ("exec_chain", 0),
        ("fork_killed", 0),
        ("daemon", 0),
        ("int80", 1),
        ("cloexec", 0),
        ("crowd", 0),
        ("all_calls", 1),
        ("pass_fd", 0),
        ("ring", 0),
    ] {
        let Some(path) = target(name) else { return skip("replay of C programs", "no C compiler") };
        for options in [&[][..], &["--no-seccomp"]] {
            let (_, log) = same(options, &[&path]);
            let report = report(&log);
            assert_eq!(report.counts.errors, errors, "{name}");
            assert_eq!(report.coverage.mode == fdwatch::report::Mode::Full, !options.is_empty());
        }
    }
}

#[test]
fn an_exec_that_fails_is_in_the_log_and_replays_the_same() {
    if !has("cc") {
        return skip("replay of a failed exec", "no C compiler");
    }
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (common::root().join("tests/targets/bugs/busy_program.c"), dir.path().join("busy"));
    let built = run(Command::new("cc").args(["-g", "-pthread", "-o"]).args([&program, &source]));
    assert_eq!(built.code(), 0, "{}", built.stderr);
    for options in [&[][..], &["--no-seccomp"]] {
        let here =
            |mode| ["env".as_ref(), "-C".as_ref(), dir.path().as_os_str(), program.as_os_str(), OsStr::new(mode)];
        let (_, log) = same(options, &here("search"));
        let text = String::from_utf8(log.clone()).unwrap();
        for (path, errno) in [("/nonexistent/true", libc::ENOENT), ("./no-program", libc::EACCES)] {
            let effect = format!("{{\"not_executed\":{{\"path\":\"{path}\",\"since\":");
            let line = text.lines().find(|l| l.contains(&effect)).unwrap_or_else(|| panic!("{path}: {text}"));
            assert!(line.contains(&format!("\"ret\":-{errno}}}")), "{line}");
        }
        assert_eq!(report(&log).findings.len(), 0);
        let (live, log) = same(options, &here("own"));
        if live.code() != 77 {
            assert_eq!(report(&log).findings[0].name, "program-held-open");
        }
    }
}

#[test]
fn a_32_bit_program_replays_the_same() {
    if !has("cc") {
        return skip("replay of i386", "no C compiler");
    }
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("p.c");
    let code = "static int call(int n, int a, int b) { int r; \
                __asm__ volatile (\"int $0x80\" : \"=a\"(r) : \"a\"(n), \"b\"(a), \"c\"(b) : \"memory\"); return r; }\n\
                void _start(void) { int fd = call(5, (int)\"/dev/null\", 0); call(6, fd, 0); call(6, fd, 0); \
                call(1, 0, 0); }\n";
    std::fs::write(&source, code).unwrap();
    let program = dir.path().join("p");
    let flags = ["-m32", "-O1", "-g", "-nostdlib", "-static", "-ffreestanding", "-fno-pic", "-no-pie"];
    let built = run(Command::new("cc").args(flags).arg("-o").arg(&program).arg(&source));
    if built.code() != 0 {
        return skip("replay of i386", "cc -m32 does not work");
    }
    let (live, log) = same(&[], &[&program]);
    assert_eq!(live.code(), 99);
    assert_eq!(report(&log).findings[0].steps[0].call_name.as_deref(), Some("open"));
}

/// bash closes twice what is known to be harmless: a name on the stack says so, and the log has it.
#[test]
fn suppressions_and_statuses_replay_the_same() {
    if has("bash") {
        let (_, log) = same(&[], &["bash", "-c", "ls / | sort | head -3 | tr a-z A-Z; x=$(echo a | cat); exit 4"]);
        let report = report(&log);
        assert_eq!(report.target, Target::Exited { status: 4 });
        assert_eq!(report.counts.errors, 0);
        assert!(report.counts.suppressed > 0, "nothing was suppressed: the test shows nothing");
    } else {
        skip("replay of suppressions", "no bash");
    }
    let (live, _) = same(&[], &["sh", "-c", "exit 7"]);
    assert_eq!(live.code(), 7);
    for signal in [9, 15, 34] {
        let (live, log) = same(&[], &["sh", "-c", &format!("ulimit -c 0; kill -{signal} $$")]);
        assert_eq!(live.code(), 128 + signal);
        assert_eq!(report(&log).target, Target::Signaled { signal });
    }
    // Any bytes in an argument and in a path.
    let odd = std::os::unix::ffi::OsStrExt::from_bytes(b"a\xff\n\"\\b");
    same(
        &[],
        &[OsStr::new("sh"), OsStr::new("-c"), OsStr::new("exec 5>\"/tmp/$1\"; rm \"/tmp/$1\""), OsStr::new("sh"), odd],
    );
}

/// The same places for several paths, of which an entry covers some: whichever comes first, the rest counts.
#[test]
fn one_path_of_a_place_can_be_suppressed_in_a_replay() {
    let Some(python) = pythons().into_iter().next() else { return skip("a path suppressed", "no CPython") };
    let code = "
import os, sys
def f(path):
    fd = os.open(path, os.O_RDONLY); os.close(fd)
    try: os.close(fd)
    except OSError: pass
for path in sys.argv[1:]: f(path)
";
    let dir = tempfile::tempdir().unwrap();
    let entry = "suppress double-close\n  reason tested\n  closed f\n  path /etc/host*\n";
    std::fs::write(dir.path().join("s"), entry).unwrap();
    for paths in [["/etc/hostname", "/etc/passwd", "/etc/hosts"], ["/etc/passwd", "/etc/hostname", "/etc/passwd"]] {
        let audit = ["audit", "--suppressions", "s", "--record", "log", "--format", "json", "-o", "live", "--"];
        let mut args: Vec<&OsStr> = audit.iter().map(OsStr::new).collect();
        args.extend([python.as_os_str(), "-S".as_ref(), "-c".as_ref(), code.as_ref()]);
        args.extend(paths.iter().map(OsStr::new));
        let live = go(dir.path(), &args);
        let replay = ["replay", "log", "--suppressions", "s", "--format", "json", "-o", "again"];
        let again = go(dir.path(), &replay);
        assert_eq!((live.code(), again.code()), (99, 99), "{paths:?}");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        equal(&read("again"), &read("live"), &paths.join(" "));
        let report = Report::read(read("live").as_bytes()).unwrap();
        let covered = paths.iter().filter(|p| p.starts_with("/etc/host")).count() as u64;
        assert_eq!((report.counts.suppressed, report.findings.len()), (covered, 1));
        assert_eq!((report.findings[0].object.path.as_str(), report.findings[0].count), ("/etc/passwd", 3 - covered));
    }
}

#[test]
fn findings_set_the_status_of_a_replay_as_asked() {
    let Some(program) = target("stale_fork_dup2") else { return skip("status of a replay", "no C compiler") };
    let dir = tempfile::tempdir().unwrap();
    let live = go(dir.path(), &[OsStr::new("audit"), "--record".as_ref(), "log".as_ref(), program.as_os_str()]);
    assert_eq!(live.code(), 99);
    let status = |options: &[&str]| {
        let done = go(dir.path(), &[&["replay"], options, &["log"]].concat());
        assert_eq!(done.stderr, live.stderr, "the text of the replay is that of the run");
        done.code()
    };
    assert_eq!(status(&[]), 99);
    assert_eq!(status(&["--error-exitcode", "42"]), 42);
    assert_eq!(status(&["--fail-on", "never"]), alone(&[&program]).code());
}

/// What the user did at the prompt is in the log.
#[test]
fn a_run_with_a_prompt_replays() {
    let Some(python) = pythons().into_iter().next() else { return skip("replay of run", "no CPython") };
    let dir = tempfile::tempdir().unwrap();
    let go_on = |commands: &[&str]| {
        let mut args = vec!["run", "--record", "log", "--format", "json", "-o", "live"];
        commands.iter().for_each(|c| args.extend(["-ex", c]));
        let lost = script("lost_output.py");
        args.extend(["--", python.to_str().unwrap(), &lost]);
        let live = go(dir.path(), &args);
        let again = go(dir.path(), &["replay", "log", "--fail-on", "never", "--format", "json", "-o", "again"]);
        assert_eq!(again.stderr, "");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        equal(&read("again"), &read("live"), &commands.join(", "));
        assert_eq!(again.code(), live.code(), "{commands:?}");
        Report::read(read("live").as_bytes()).unwrap()
    };
    assert_eq!(go_on(&["keep", "continue"]).altered.len(), 1);
    // A log that ends too early says all the same what was altered before.
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    let (cut, _) = log.trim_end().rsplit_once('\n').unwrap();
    std::fs::write(dir.path().join("cut"), format!("{cut}\n")).unwrap();
    let told = go(dir.path(), &["replay", "cut", "--fail-on", "never"]);
    assert!(told.stderr.contains("results altered by 1 injection\n"), "{told:#?}");
    assert_eq!(go_on(&["kill"]).target, Target::Killed);
    assert_eq!(go_on(&["detach"]).target, Target::Detached);
}

/// What was attached to goes on, and its status is not ours.
#[test]
fn an_attached_target_replays() {
    let dir = tempfile::tempdir().unwrap();
    let mut target = common::start(Command::new("sh").args(["-c", "echo here; read x; exit 3"]));
    assert_eq!(target.line().as_deref(), Some("here"));
    let pid = target.pid().to_string();
    let attach = ["attach", "--record", "log", "--format", "json", "-o", "live", "--for", "100ms", &pid];
    let live = go(dir.path(), &attach);
    target.close_input();
    assert_eq!((live.code(), target.end().code()), (0, 3), "{}", live.stderr);
    let again = go(dir.path(), &["replay", "log", "--format", "json", "-o", "again"]);
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    equal(&read("again"), &read("live"), "attach");
    assert_eq!((again.code(), again.stderr.as_str()), (0, ""));
    assert_eq!(Report::read(read("live").as_bytes()).unwrap().target, Target::Detached);
}

#[test]
fn a_file_that_is_no_log_is_told_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    let header = r#"{"log":"fdwatch-log/1","version":"9","command":[],"mode":"full","no_new_privs":false,"main":1}"#;
    write("empty", b"");
    write("binary", &std::fs::read(fdwatch()).unwrap()[..10_000]);
    write("report", b"{\n  \"schema\": \"fdwatch-report/1\"\n}\n");
    write("text", b"hello\n");
    write("other", header.replace("log/1", "log/2").as_bytes());
    write("nasty", b"{\"log\":\"a\\u001b[31m\\n\",\"version\":\"\\u202e\"}\n");
    write("half", &header.as_bytes()[..50]);
    write("wrong", header.replace("full", "empty").as_bytes());
    write("deep", &[b"{\"log\":".as_slice(), &b"[".repeat(1_000_000)].concat());
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    for (name, part) in [
        ("no/such", "no/such: No such file"),
        ("folder", "folder: it is a directory"),
        ("empty", "empty:1: the file is empty: expected a log"),
        ("binary", "binary:1: not an event log of fdwatch: expected a first line {\"log\":\"fdwatch-log/1\""),
        ("report", "report:1: not an event log"),
        ("text", "text:1: not an event log"),
        ("other", "other:1: its format is fdwatch-log/2, this fdwatch reads fdwatch-log/1: replay it with the fdwatch"),
        ("nasty", "nasty:1: its format is a\\x1b[31m\\n"),
        ("half", "half:1: not an event log"),
        ("wrong", "wrong:1: column"),
        ("deep", "deep:1: not an event log"),
    ] {
        let done = go(dir.path(), &["replay", name, "-o", "report-of-it"]);
        assert_eq!((done.code(), done.stdout.as_str()), (125, ""), "{name}");
        assert_eq!(done.stderr.lines().count(), 1, "{name}: {}", done.stderr);
        assert!(done.stderr.starts_with("fdwatch: ") && done.stderr.contains(part), "{name}: {}", done.stderr);
        assert!(!done.stderr.contains('\x1b'), "{name}");
        assert!(!dir.path().join("report-of-it").exists(), "{name}: there is nothing to report");
    }
    // A header alone is the beginning of a log.
    write("header", header.as_bytes());
    let done = go(dir.path(), &["replay", "header"]);
    assert_eq!(done.code(), 125);
    assert!(done.stderr.ends_with(
        "fdwatch: header:2: the log ends before its line \"end\": it was cut off, or is still being written\n"
    ));
    let done = go(dir.path(), &["replay", "header", "-o", "header"]);
    assert_eq!(done.code(), 125);
    assert!(done.stderr.contains("-o names the recording itself"), "{}", done.stderr);
}

/// A small log of a real program, with one finding.
fn real_log() -> Option<Vec<u8>> {
    let program = target("stale_fork_dup2")?;
    Some(same(&[], &[&program]).1)
}

#[test]
fn a_log_that_is_cut_off_shows_what_precedes() {
    let Some(log) = real_log() else { return skip("cut logs", "no C compiler") };
    let whole = report(&log);
    let lines: Vec<usize> = log.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
    let mut shown = 0;
    for cut in 0..log.len() - 1 {
        let line = lines.iter().filter(|end| **end <= cut).count() as u64 + 1;
        match Replay::read(&log[..cut], Suppressions::shipped()) {
            Err(e) => {
                // Only the first line tells what it is.
                assert!(cut < lines[0] && e.line == 1, "{cut}: {e}");
            }
            Ok(mut replay) => {
                let damage = replay.damage().unwrap_or_else(|| panic!("cut at {cut}: no word")).clone();
                // A line is whole without its end, too: then the next is missing.
                let after = u64::from(lines.contains(&(cut + 1)));
                assert_eq!(damage.line, line + after, "{cut}: {damage}");
                assert!(damage.what.contains("cut off"), "{cut}: {damage}");
                let report = replay.report();
                assert_eq!(report.target, Target::Unknown);
                assert!(report.coverage.notes[0].starts_with("incomplete: "), "{:?}", report.coverage.notes);
                assert!(report.findings.len() <= whole.findings.len());
                if let Some(found) = report.findings.first() {
                    shown += 1;
                    assert_eq!(found.title, whole.findings[0].title);
                }
            }
        }
    }
    assert!(shown > 0, "the finding was never shown before the end");
    // And the program says so.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cut"), &log[..lines[lines.len() - 2]]).unwrap();
    let done = go(dir.path(), &["replay", "cut"]);
    assert_eq!(done.code(), 125, "incomplete comes before findings");
    assert_eq!(done.errors(), 1, "{}", done.stderr);
    let last = done.stderr.lines().last().unwrap();
    assert!(last.starts_with(&format!("fdwatch: cut:{}: ", lines.len())), "{last}");
}

const HEADER: &str =
    r#"{"log":"fdwatch-log/1","version":"9","command":[],"mode":"full","no_new_privs":false,"main":1}"#;

/// A log with this line after the header and a first task.
fn with(line: &str) -> Result<LogError, Box<Report>> {
    let start =
        r#"{"event":{"at":1,"tid":1,"kind":{"start":{"pid":1,"program":{"exe":"a","argv":[]},"table":{"own":[]}}}}}"#;
    let end = r#"{"end":{"events":2,"status":{"code":0},"facts":{"target":{"how":"exited","status":0},"mode":"full","no_new_privs":false,"processes":1,"altered":[],"notes":[]}}}"#;
    let mut replay =
        Replay::read(format!("{HEADER}\n{start}\n{line}\n{end}\n").as_bytes(), Suppressions::shipped()).unwrap();
    match replay.damage() {
        Some(damage) => Ok(damage.clone()),
        None => Err(Box::new(replay.report())),
    }
}

#[test]
fn what_makes_no_sense_is_told_with_its_line() {
    let call = |name: &str, effects: &str, site: &str| {
        format!(
            r#"{{"event":{{"at":2,"tid":1,"kind":{{"call":{{"info":{{"name":"{name}","args":[0,0,0,0,0,0]}},"effects":[{effects}]{site}}}}}}}}}"#
        )
    };
    assert!(with(&call("close", "", "")).is_err(), "the line itself is well formed");
    assert!(with(&call("close", "", r#","new":[{"field":1}]"#)).is_err(), "what is not known is passed over");
    // The log says that version 9 wrote it.
    let own = env!("CARGO_PKG_VERSION");
    let newer = format!(": fdwatch 9 wrote it, this is {own}: replay it with the fdwatch that wrote it");
    let long = "x".repeat(100_000);
    let range = r#"{"close_range":{"first":0,"last":9,"mark":true}}"#;
    let ranges = vec![range; 1000].join(",");
    let deep = format!(r#"{{"event":{{"new":{}"#, "[".repeat(100_000));
    let frames = vec!["[null,1]"; 300].join(",");
    for (line, part) in [
        ("", "not a line of an event log"),
        ("{}", "not a line of an event log"),
        ("[]", "not a line of an event log"),
        ("null", "not a line of an event log"),
        (r#"{"event":{}}"#, "missing field `at`"),
        (r#"{"frob":{}}"#, "unknown variant `frob`, expected one of `module`"),
        (&call("close", r#"{"frob":{"fd":3}}"#, ""), &newer),
        (&format!(r#"{{"{long}":{{}}}}"#), "unknown variant"),
        (&deep, "not a line of an event log"),
        (r#"{"event":{"at":-1,"tid":1,"kind":{"exit":{"status":{"code":0}}}}}"#, "invalid value"),
        (r#"{"event":{"at":1e99,"tid":1,"kind":{"exit":{"status":{"code":0}}}}}"#, "floating point"),
        (r#"{"event":{"at":1,"tid":99999999999,"kind":{"exit":{"status":{"code":0}}}}}"#, "invalid value"),
        (&call(&long, "", ""), "a call's name"),
        (&call("close", r#"{"close":{"fd":3000000000}}"#, ""), "invalid value"),
        (&call("close", "", r#","site":{"stack":7}"#), "stack 7 is not known: expected a line \"stack\""),
        (&call("close", "", r#","site":{"py":7}"#), "python stack 7 is not known"),
        (&call("close_range", &ranges, ""), "1000 effects \"close_range\""),
        (r#"{"stack":{"id":1,"frames":[[5,1]]}}"#, "module 5 is not known"),
        (&format!(r#"{{"stack":{{"id":1,"frames":[{frames}]}}}}"#), "a stack with 300 frames"),
        (r#"{"names":{"stack":1,"frames":[]}}"#, "stack 1 is not known"),
        (r#"{"module":{"id":4294967296,"path":"a"}}"#, "invalid value"),
        (
            r#"{"end":{"events":7,"status":{"code":0},"facts":{"target":{"how":"killed"},"mode":"full","no_new_privs":false,"processes":1,"altered":[],"notes":[]}}}"#,
            "1 events are in the log, and it says 7",
        ),
        (
            r#"{"end":{"events":1,"status":{"code":0},"facts":{"target":{"how":"killed"},"mode":"full","no_new_privs":false,"processes":1,"altered":[],"notes":[]}}}"#,
            "goes on after its line \"end\"",
        ),
    ] {
        let damage = with(line).unwrap_or_else(|_| panic!("taken: {line:.100}"));
        let expected = if part.contains("goes on") { 4 } else { 3 };
        assert_eq!(damage.line, expected, "{line:.100}: {damage}");
        assert!(damage.what.contains(part), "{line:.100}: {damage}");
        assert!(damage.what.len() < 2000, "{}", damage.what.len());
    }
    let of_this = format!("{}\n{{\"frob\":{{}}}}\n", HEADER.replace("\"9\"", &format!("\"{own}\"")));
    let replay = Replay::read(of_this.as_bytes(), Suppressions::shipped()).unwrap();
    let damage = replay.damage().unwrap();
    assert!(damage.what.contains("unknown variant") && !damage.what.contains("wrote it"), "{damage}");
    for twice in
        [r#"{"module":{"id":1,"path":"a"}}"#, r#"{"stack":{"id":1,"frames":[]}}"#, r#"{"python":{"id":1,"frames":[]}}"#]
    {
        assert!(with(&format!("{twice}\n{twice}")).unwrap().what.contains("twice"), "{twice}");
    }
}

/// An endless line is not read to its end.
#[test]
fn a_line_without_an_end_takes_no_memory_without_an_end() {
    struct Endless(u64);
    impl std::io::Read for Endless {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0 += buf.len() as u64;
            buf.fill(b' ');
            Ok(buf.len())
        }
    }
    let header = r#"{"log":"fdwatch-log/1","version":"9","command":[],"mode":"full","no_new_privs":false,"main":1}"#;
    let header = format!("{header}\n");
    let input = std::io::Read::chain(header.as_bytes(), Endless(0));
    let replay = Replay::read(std::io::BufReader::with_capacity(1 << 20, input), Suppressions::none()).unwrap();
    let damage = replay.damage().unwrap();
    assert_eq!(damage.line, 2);
    assert!(damage.what.contains("longer than"), "{damage}");
}

fn survives(log: &[u8]) {
    if let Ok(mut replay) = Replay::read(log, Suppressions::shipped()) {
        let report = replay.report();
        for format in fdwatch::report::FORMATS {
            format.write(&report);
        }
    }
}

/// Numbers that are at the edge of something.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..6i64).prop_map(|n| n.to_string()),
        1 => prop::sample::select(vec!["-1", "2147483647", "-2147483648", "4294967295", "18446744073709551615", "1.5", "null"])
            .prop_map(str::to_string),
    ]
}

/// An event of a few tasks and a few numbers, well formed or nearly so.
fn event() -> impl Strategy<Value = String> {
    let effect = (0..9usize, number(), number(), any::<bool>()).prop_map(|(kind, a, b, on)| {
        let file = r#"{"kind":"pipe_read","path":"pipe:[1]","flags":1}"#;
        match kind {
            0 => format!(r#"{{"open":{{"fd":{a},"cloexec":{on},"file":{file}}}}}"#),
            1 => format!(r#"{{"receive":{{"fd":{a},"cloexec":{on},"file":{file},"from":[{b},{a}]}}}}"#),
            2 => format!(r#"{{"alias":{{"from":{a},"to":{b},"cloexec":{on}}}}}"#),
            3 => format!(r#"{{"cloexec":{{"fd":{a},"on":{on}}}}}"#),
            4 => format!(r#"{{"close":{{"fd":{a}}}}}"#),
            5 => format!(r#"{{"close_range":{{"first":{a},"last":{b},"mark":{on}}}}}"#),
            6 => r#""unshare""#.to_string(),
            7 => format!(r#"{{"refused":{{"fd":{a},"to":{b},"close":{on}}}}}"#),
            _ => format!(r#"{{"refused":{{"fd":{a},"to":null,"close":{on}}}}}"#),
        }
    });
    let effects = prop::collection::vec(effect, 0..4).prop_map(|e| e.join(","));
    let present = |n: &str| {
        format!(r#"{{"fd":{n},"cloexec":true,"file":{{"kind":"path","path":[255],"flags":0}},"same_as":[1,{n}]}}"#)
    };
    (0..8usize, number(), number(), number(), number(), any::<(bool, bool)>(), effects).prop_map(
        move |(kind, at, tid, a, b, (x, y), effects)| {
            let program = r#"{"exe":"/bin/x","argv":["x",[128]]}"#;
            let site = r#"{"stack":1,"py":1,"cause":"finalizer","escape":"fileno_call"}"#;
            let kind = match kind {
                0 => format!(r#"{{"start":{{"pid":{a},"parent":{b},"program":{program},"table":{{"own":[{}]}}}}}}"#, present(&b)),
                1 => format!(r#"{{"start":{{"pid":{a},"program":{program},"table":{{"shared_with":{b}}}}}}}"#),
                2 => format!(
                    r#"{{"fork":{{"child":{a},"child_pid":{b},"shares_files":{x},"shares_memory":{y},"site":{site},"held":[[{a},{{"number":"n"}}]]}}}}"#
                ),
                3 => format!(r#"{{"exec":{{"former":{a},"program":{program}}}}}"#),
                4 => format!(r#"{{"exit":{{"status":{{"code":{a}}}}}}}"#),
                5 => format!(
                    r#"{{"reconciled":{{"raced":{x},"corrections":[{{"appeared":{}}},{{"vanished":{{"fd":{b}}}}},{{"same":{{"fd":{a},"with":[{b},{a}]}}}}]}}}}"#,
                    present(&a)
                ),
                _ => format!(
                    r#"{{"call":{{"info":{{"name":"dup2","args":[{a},{b},0,0,0,18446744073709551615],"ret":{b}}},"effects":[{effects}],"site":{site}}}}}"#
                ),
            };
            format!(r#"{{"event":{{"at":{at},"tid":{tid},"kind":{kind}}}}}"#)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&bytes);
        let header = r#"{"log":"fdwatch-log/1","version":"9","command":[],"mode":"full","no_new_privs":false,"main":1}"#;
        survives(&[header.as_bytes(), b"\n", &bytes].concat());
    }

    /// Tasks that nobody announced, forks of known tids, time that goes backwards, numbers out of range.
    #[test]
    fn no_events_do_harm(events in prop::collection::vec(event(), 0..60)) {
        let mut log = String::from(
            "{\"log\":\"fdwatch-log/1\",\"version\":\"9\",\"command\":[],\"mode\":\"full\",\"no_new_privs\":false,\"main\":1}\n\
             {\"module\":{\"id\":1,\"path\":\"/x\"}}\n\
             {\"stack\":{\"id\":1,\"frames\":[[1,18446744073709551615],[null,0,true]],\"incomplete\":\"\\u001b\"}}\n\
             {\"python\":{\"id\":1,\"frames\":[{\"function\":\"f\",\"file\":\"f.py\",\"line\":4294967295}]}}\n",
        );
        for event in events {
            // A line that is not taken ends the log: the rest is tried without it.
            let before = log.len();
            log += &event;
            log.push('\n');
            let taken = Replay::read(log.as_bytes(), Suppressions::none()).unwrap().damage().is_some_and(|d| d.what.contains("before its line"));
            if !taken {
                log.truncate(before);
            }
        }
        survives(log.as_bytes());
    }
}

#[test]
fn no_mutation_of_a_real_log_does_harm() {
    let Some(log) = real_log() else { return skip("mutated logs", "no C compiler") };
    let lines: Vec<&[u8]> = log.split_inclusive(|b| *b == b'\n').collect();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let strategy =
        prop::collection::vec((0..6u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..5);
    runner
        .run(&strategy, |changes| {
            let mut lines: Vec<Vec<u8>> = lines.iter().map(|l| l.to_vec()).collect();
            for (kind, a, b, byte) in changes {
                let (i, j) = (a.index(lines.len()), b.index(lines.len()));
                match kind {
                    0 if lines.len() > 1 => drop(lines.remove(i)),
                    1 => lines.insert(i, lines[j].clone()),
                    2 => lines.swap(i, j),
                    3 => {
                        let at = b.index(lines[i].len());
                        lines[i][at] = byte;
                    }
                    4 => {
                        let at = b.index(lines[i].len());
                        lines[i].truncate(at.max(1));
                    }
                    _ => {
                        // Another number in the place of one.
                        let digits: Vec<usize> =
                            lines[i].iter().enumerate().filter(|(_, b)| b.is_ascii_digit()).map(|d| d.0).collect();
                        if !digits.is_empty() {
                            let at = digits[b.index(digits.len())];
                            let number = ["0", "3", "99999", "4294967295", "-1", "18446744073709551616"];
                            lines[i].splice(at..=at, number[byte as usize % number.len()].bytes());
                        }
                    }
                }
            }
            survives(&lines.concat());
            Ok(())
        })
        .unwrap();
}

/// What the target finds open, and what it prints, is the same.
#[test]
fn a_recording_does_not_reach_the_target() {
    let dir = tempfile::tempdir().unwrap();
    let list =
        ["sh", "-c", "ls -l /proc/self/fd | sed 's/.* \\([0-9]* -> \\)/\\1/; s/[0-9]*]//; s,/proc/[0-9]*,/proc,'"];
    let native = run(Command::new(list[0]).args(&list[1..]).current_dir(dir.path()));
    let watched = go(dir.path(), &[&["audit", "--record", "log", "--"], &list[..]].concat());
    assert!(native.stdout.contains("0 -> /dev/null"), "{}", native.stdout);
    assert_eq!(watched.stdout, native.stdout);
}

#[test]
fn a_recording_that_fails_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let busy = "i=0; while [ $i -lt 2000 ]; do : </dev/null; i=$((i+1)); done; echo done; exit 3";
    let told = |done: &Done, why: &str| {
        assert_eq!((done.stdout.as_str(), done.code()), ("done\n", 3), "{}", done.stderr);
        let words: Vec<&str> = done.stderr.lines().filter(|l| l.contains("the recording ")).collect();
        assert_eq!(words.len(), 2, "once when it happens, once in the report: {}", done.stderr);
        assert!(words[0].ends_with("; the target goes on") && words[1].contains(why), "{}", done.stderr);
    };
    // A full disk.
    let done = go(dir.path(), &["audit", "--record", "/dev/full", "--", "sh", "-c", busy]);
    told(&done, "No space left on device");
    // A file that may not grow. The target's limits are its own.
    let script = "ulimit -f 40; exec \"$@\"";
    let fdwatch = fdwatch();
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(&fdwatch).args(["audit", "--record", "log", "--", "sh", "-c", busy]);
    let done = run(command.current_dir(dir.path()));
    told(&done, "File too large");
    // What was written is a log that ends too early.
    let done = go(dir.path(), &["replay", "log"]);
    assert_eq!(done.code(), 125);
    assert!(done.stderr.contains("cut off") && done.stderr.contains("incomplete: "), "{}", done.stderr);
    // A pipe whose reader is gone.
    let script = "\"$0\" audit --record /dev/fd/9 -- sh -c \"$1\" 9>&1 >&3 | head -c 100 >/dev/null";
    let mut command = Command::new("bash");
    if !has("bash") {
        return skip("closed pipes", "no bash");
    }
    command.args(["-c", &format!("set -o pipefail; {{ {script}; }} 3>&1")]).arg(&fdwatch).arg(busy);
    told(&run(command.current_dir(dir.path())), "Broken pipe");
}

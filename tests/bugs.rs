//! Bugs of real programs, rebuilt small (`tests/targets/bugs`), and hand-offs that go wrong: each is named by one error, or
//! by the warnings that it deserves, and its repaired twin is silent.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used)] // a test may fail loudly

mod common;

use common::{Done, fdwatch, has, pythons, root, run, skip};
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a report says of findings: their names, in their order, with what each tells.
struct Told {
    findings: Vec<Value>,
    text: String,
}

impl Told {
    fn names(&self) -> Vec<&str> {
        self.findings.iter().map(|f| f["name"].as_str().expect("a name")).collect()
    }

    /// The name of the one error.
    fn one_error(&self) -> &Value {
        let errors: Vec<_> = self.findings.iter().filter(|f| f["severity"] == "error").collect();
        assert_eq!(errors.len(), 1, "exactly one error: {}", self.text);
        errors[0]
    }
}

/// How often a race that a barrier forces is run: `FDWATCH_RUNS`, or three times.
fn rounds() -> usize {
    runs().unwrap_or(3)
}

/// How often what must not depend on time is run: `FDWATCH_RUNS`, or once.
fn repeats() -> usize {
    runs().unwrap_or(1)
}

fn runs() -> Option<usize> {
    std::env::var("FDWATCH_RUNS").ok().map(|n| n.parse().expect("FDWATCH_RUNS is a number"))
}

/// The roles of a finding's story and the tasks that play them, numbered as they appear.
fn story(finding: &Value) -> Vec<(String, usize)> {
    let mut tasks = Vec::new();
    let steps = finding["steps"].as_array().expect("steps").iter();
    steps
        .map(|s| {
            let tid = s["tid"].as_i64().expect("a task");
            let n = tasks.iter().position(|t| *t == tid).unwrap_or_else(|| {
                tasks.push(tid);
                tasks.len() - 1
            });
            (s["role"].as_str().expect("a role").to_string(), n)
        })
        .collect()
}

fn steps(list: &[(&str, usize)]) -> Vec<(String, usize)> {
    list.iter().map(|(r, n)| ((*r).to_string(), *n)).collect()
}

/// A finding without its stacks.
fn in_short(f: &Value) -> String {
    let mut out = format!("\n{}[{}] {} {}", f["severity"], f["name"], f["title"], f["evidence"]);
    for s in f["steps"].as_array().expect("steps") {
        out += &format!("\n  {} [{}] {} {} {}", s["role"], s["tid"], s["what"], s["call"], s["note"]);
    }
    out
}

/// Audits a command and reads its report.
fn audited(options: &[&str], command: &[OsString]) -> Told {
    let dir = tempfile::tempdir().expect("a folder");
    let report = dir.path().join("report.json");
    let mut c = Command::new(fdwatch());
    c.args(["audit", "--format", "json", "-o"]).arg(&report).args(options).arg("--").args(command);
    let done: Done = run(&mut c);
    let text = std::fs::read_to_string(&report).unwrap_or_else(|e| panic!("{e}: {done:#?}"));
    let value: Value = serde_json::from_str(&text).expect("JSON");
    let findings = value["findings"].as_array().expect("findings").clone();
    let text = findings.iter().map(in_short).collect();
    Told { findings, text }
}

/// A program of `tests/targets/bugs`, built; `None` without a compiler for it.
fn bug(dir: &Path, file: &str) -> Option<PathBuf> {
    let source = root().join("tests/targets/bugs").join(file);
    let (name, kind) = file.split_once('.').expect("an extension");
    let out = dir.join(name);
    let mut build = match kind {
        "c" => Command::new("cc"),
        "rs" => Command::new("rustc"),
        _ => Command::new("go"),
    };
    match kind {
        "c" => build.args(["-O1", "-g", "-fno-omit-frame-pointer", "-pthread"]),
        // Without debug assertions std does not look before it closes.
        "rs" => build.args(["-O", "-g"]),
        _ => build.arg("build").env("GOCACHE", std::env::temp_dir().join("fdwatch-tests-go")).env("GO111MODULE", "off"),
    };
    if !has(&build.get_program().to_string_lossy()) {
        skip(file, "no compiler");
        return None;
    }
    let done = run(build.arg("-o").arg(&out).arg(&source));
    assert_eq!(done.code(), 0, "{}", done.stderr);
    Some(out)
}

fn words(program: &Path, args: &[&str]) -> Vec<OsString> {
    std::iter::once(program.as_os_str().to_os_string()).chain(args.iter().map(OsString::from)).collect()
}

#[test]
fn a_race_for_a_number_names_both_owners_every_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(program) = bug(dir.path(), "foreign_close.c") else { return };
    // Who opened, who closed first, who got the number, who replaced that.
    let at_once = steps(&[("opened", 0), ("closed", 0), ("reused", 1), ("used", 0)]);
    // Who opened, who closed that, who was hurt: what the closer had there before may have been another's affair.
    let by_victim = steps(&[("opened", 0), ("closed", 1), ("used", 0)]);
    for (mode, expected) in [("again", &by_victim), ("other", &by_victim), ("dup2", &at_once)] {
        for _ in 0..rounds() {
            let told = audited(&[], &words(&program, &[mode]));
            let error = told.one_error();
            assert_eq!(
                (&error["name"], told.findings.len()),
                (&Value::from("foreign-close"), 1),
                "{mode}: {}",
                told.text
            );
            assert_eq!(&story(error), expected, "{mode}: {}", told.text);
        }
        let repaired = audited(&[], &words(&program, &[&format!("repaired-{mode}")]));
        assert!(repaired.findings.is_empty(), "{mode}: {}", repaired.text);
    }
    let Some(innocent) = bug(dir.path(), "handed_over.c") else { return };
    let told = audited(&[], &words(&innocent, &[]));
    assert!(told.findings.is_empty(), "work that is handed over: {}", told.text);
    let told = audited(&[], &words(&innocent, &["stray"]));
    assert_eq!(story(told.one_error()), by_victim, "the worker's own close is not to blame: {}", told.text);
    assert_ne!(told.one_error()["confidence"], "certain", "{}", told.text);
}

#[test]
fn a_fork_between_pipe_and_f_setfd_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(program) = bug(dir.path(), "cloexec_race.c") else { return };
    if !has("cat") {
        return skip("cloexec race", "no cat");
    }
    for _ in 0..rounds() {
        let told = audited(&[], &words(&program, &["race"]));
        assert_eq!(told.names(), ["cloexec-race"], "{}", told.text);
        assert_eq!(story(&told.findings[0]), steps(&[("opened", 0), ("used", 1), ("used", 0)]), "{}", told.text);
        let told = audited(&[], &words(&program, &["held"]));
        let mut names = told.names();
        names.sort_unstable();
        assert_eq!(names, ["leak-across-exec", "pipe-held-open"], "{}", told.text);
    }
    let told = audited(&[], &words(&program, &["repaired"]));
    assert!(told.findings.is_empty(), "{}", told.text);
}

#[test]
fn a_program_that_a_forked_child_holds_open_names_who_has_it_every_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(program) = bug(dir.path(), "busy_program.c") else { return };
    if run(Command::new(&program).arg("own").current_dir(dir.path())).code() == 77 {
        return skip("a busy program", "this kernel executes what is open for writing");
    }
    let here = |mode: &str| {
        let mut command = words(Path::new("env"), &["-C"]);
        command.extend([dir.path().into(), program.clone().into(), mode.into()]);
        audited(&[], &command)
    };
    for _ in 0..rounds() {
        let told = here("race");
        let error = told.one_error();
        assert_eq!((&error["name"], told.findings.len()), (&"program-held-open".into(), 1), "{}", told.text);
        // Who wrote it, who closed it, whose fork copied it, whose exec was refused.
        let expected = [("opened", 0), ("closed", 0), ("used", 1), ("used", 2)];
        assert_eq!(story(error), steps(&expected), "{}", told.text);
        assert!(error["object"]["path"].as_str().is_some_and(|p| p.ends_with("/program")), "{}", told.text);
        assert!(error["steps"][3]["call"].as_str().is_some_and(|c| c.ends_with("= ETXTBSY")), "{}", told.text);
    }
    for mode in ["own", "at"] {
        let told = here(mode);
        let error = told.one_error();
        assert_eq!((&error["name"], &error["confidence"]), (&"program-held-open".into(), &"certain".into()));
        assert_eq!(story(error), steps(&[("opened", 0), ("used", 1)]), "{mode}: {}", told.text);
    }
    for mode in ["renamed", "linked"] {
        let told = here(mode);
        let error = told.one_error();
        assert_eq!((&error["name"], &error["confidence"]), (&"program-held-open".into(), &"certain".into()));
        let object = error["object"]["path"].as_str();
        assert!(object.is_some_and(|p| p.ends_with("/program.new")), "{mode}: {}", told.text);
    }
    let told = here("retry");
    assert_eq!((told.one_error()["count"].as_u64(), told.findings.len()), (Some(20), 1), "{}", told.text);
    let told = here("repaired-retry");
    let severities: Vec<&str> = told.findings.iter().filter_map(|f| f["severity"].as_str()).collect();
    assert_eq!(severities, ["note"], "{}", told.text);
    for mode in ["repaired-race", "repaired-own", "search"] {
        let told = here(mode);
        assert!(told.findings.is_empty(), "{mode}: {}", told.text);
    }
}

#[test]
fn bugs_of_one_owner_too_many_are_one_error() {
    let dir = tempfile::tempdir().expect("a folder");
    for (file, name) in [
        ("pidfd_twice.c", "double-close"),
        ("raw_fd.rs", "double-close"),
        ("finalizer.go", "use-after-close"),
        ("jobserver.c", "promised-fd-missing"),
    ] {
        let Some(program) = bug(dir.path(), file) else { continue };
        for _ in 0..repeats() {
            let told = audited(&[], &words(&program, &[]));
            assert_eq!(told.one_error()["name"], name, "{file}: {}", told.text);
            let roles: Vec<String> = story(told.one_error()).into_iter().map(|s| s.0).collect();
            assert_eq!(roles, ["opened", "closed", "used"], "{file}: {}", told.text);
        }
        let twin = audited(&[], &words(&program, &["repaired"]));
        assert!(twin.findings.is_empty(), "{file}: {}", twin.text);
    }
}

#[test]
fn who_hands_a_number_to_a_stream_does_not_close_it_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(program) = bug(dir.path(), "owned.c") else { return };
    for mode in ["directory", "stream"] {
        let told = audited(&[], &words(&program, &[mode]));
        let error = told.one_error();
        assert_eq!(error["name"], "double-close", "{mode}: {}", told.text);
        assert_eq!(story(error), steps(&[("opened", 0), ("closed", 0), ("used", 0)]), "{mode}: {}", told.text);
        assert_eq!(error["steps"][1]["cause"], mode, "what took the number over: {}", told.text);
        let twin = audited(&[], &words(&program, &[&format!("repaired-{mode}")]));
        assert!(twin.findings.is_empty(), "{mode}: {}", twin.text);
    }
}

#[test]
fn what_a_library_closes_once_more_is_its_own_or_the_programs() {
    let dir = tempfile::tempdir().expect("a folder");
    if !has("cc") {
        return skip("libraries.c", "no compiler");
    }
    let source = root().join("tests/targets/bugs/libraries.c");
    let (library, program) = (dir.path().join("libcourier.so"), dir.path().join("app"));
    let build = |args: &[&str], out: &Path, with: &[&Path]| {
        let done = run(Command::new("cc").args(["-O1", "-g"]).args(args).arg("-o").arg(out).arg(&source).args(with));
        assert_eq!(done.code(), 0, "{}", done.stderr);
    };
    build(&["-DLIBRARY", "-shared", "-fPIC"], &library, &[]);
    build(&[&format!("-Wl,-rpath,{}", dir.path().display())], &program, &[&library]);
    let told = audited(&[], &words(&program, &["stop"]));
    let error = told.one_error();
    assert_eq!(error["name"], "foreign-close", "{}", told.text);
    assert_eq!(error["object"]["path"], "/dev/null", "{}", told.text);
    assert!(told.text.contains("libcourier.so closed fd") && told.text.contains("of app that"), "{}", told.text);
    let told = audited(&[], &words(&program, &["late"]));
    let error = told.one_error();
    assert_eq!((&error["name"], &error["object"]["path"]), (&"double-close".into(), &"/dev/zero".into()));
    assert!(told.text.contains("libcourier.so had opened it"), "{}", told.text);
    let told = audited(&[], &words(&program, &["repaired"]));
    assert!(told.findings.is_empty(), "{}", told.text);
}

#[test]
fn the_spawners_own_pipe_is_known_by_the_call_that_opened_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(program) = bug(dir.path(), "plumbing.c") else { return };
    let clause = "outside the very call that started the child";
    for (mode, expected) in [("outside", true), ("twice", false)] {
        let told = audited(&[], &words(&program, &[mode]));
        let error = told.one_error();
        assert_eq!(error["name"], "stale-fd-to-child", "{mode}: {}", told.text);
        assert_eq!(error["object"]["path"], "/dev/null", "{mode}: {}", told.text);
        assert_eq!(story(error), steps(&[("opened", 0), ("closed", 0), ("reused", 0), ("used", 1)]), "{}", told.text);
        assert_eq!(told.text.contains(clause), expected, "{mode}: {}", told.text);
    }
    assert!(audited(&[], &words(&program, &["repaired"])).findings.is_empty());
}

#[test]
fn loops_over_all_numbers_are_no_mistake_and_one_place_twice_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(program) = bug(dir.path(), "all_numbers.c") else { return };
    for mode in ["listing", "mark", "half"] {
        let told = audited(&[], &words(&program, &[mode]));
        assert!(told.findings.is_empty(), "{mode}: {}", told.text);
    }
    for way in ["up", "down"] {
        for then in ["exit", "exec", "open", "thread", "mark", "mark, thread"] {
            let told = audited(&[], &words(&program, &[way, then]));
            assert!(told.findings.is_empty(), "{way} {then}: {}", told.text);
        }
        let told = audited(&[], &words(&program, &[way, "again"]));
        assert_eq!(told.one_error()["name"], "double-close", "{way}: {}", told.text);
    }
    let told = audited(&[], &words(&program, &["queue"]));
    assert_eq!(told.one_error()["name"], "double-close", "{}", told.text);
}

#[test]
fn a_directory_of_the_host_reaches_a_containers_first_program() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(program) = bug(dir.path(), "container.c") else { return };
    let told = audited(&[], &words(&program, &[]));
    assert_eq!(told.names(), ["leak-across-exec"], "{}", told.text);
    assert!(told.text.contains("a directory outlives chroot"), "{}", told.text);
    assert!(audited(&[], &words(&program, &["repaired"])).findings.is_empty());
    assert!(audited(&["--allow-inherit", "/sys"], &words(&program, &[])).findings.is_empty());
    let number = told.findings[0]["fd"].to_string();
    assert!(audited(&["--allow-inherit", &number], &words(&program, &[])).findings.is_empty());
}

#[test]
fn a_database_that_is_started_without_stderr_gets_its_number() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(program) = bug(dir.path(), "database.c") else { return };
    let shell = |arg: &str| {
        let line = format!("'{}' {arg} 2>&-; true", program.display());
        audited(&[], &words(Path::new("sh"), &["-c", &line]))
    };
    for _ in 0..repeats() {
        let told = shell("");
        assert_eq!(told.names(), ["stdio-missing", "stdio-slot-reused"], "{}", told.text);
    }
    let told = shell("repaired");
    assert_eq!(told.names(), ["stdio-missing"], "the caller's own affair: {}", told.text);
}

#[test]
fn two_wrappers_of_one_number_are_told() {
    let script = root().join("tests/targets/bugs/wrappers.py");
    let script = script.to_string_lossy();
    let pythons: Vec<PathBuf> = pythons().into_iter().take(2).collect();
    if pythons.is_empty() {
        return skip("wrappers", "no CPython of version 3.8 or later");
    }
    for python in &pythons {
        for _ in 0..rounds() {
            let told = audited(&[], &words(python, &[&script, "loop"]));
            let error = told.one_error();
            assert_eq!(error["name"], "foreign-close", "{}", told.text);
            assert_eq!(story(error), steps(&[("opened", 0), ("closed", 1), ("used", 0)]), "{}", told.text);
            assert_eq!(error["steps"][1]["cause"], "finalizer", "the socket's: {}", told.text);
        }
        let told = audited(&[], &words(python, &[&script, "manhole"]));
        let error = told.one_error();
        assert_eq!(error["name"], "double-close", "{}", told.text);
        assert_eq!(error["steps"][1]["cause"], "finalizer", "the file's, not the socket's: {}", told.text);
        let told = audited(&[], &words(python, &[&script, "collector"]));
        let error = told.one_error();
        assert_eq!(error["name"], "double-close", "{}", told.text);
        assert_eq!(error["steps"][1]["cause"], "collector", "{}", told.text);
        for twin in ["repaired-loop", "repaired-manhole", "repaired-collector"] {
            let told = audited(&[], &words(python, &[&script, twin]));
            assert!(told.findings.is_empty(), "{twin}: {}", told.text);
        }
    }
}

#[test]
fn handoffs_that_go_wrong_are_told_and_their_twins_are_not() {
    let script = root().join("tests/targets/bugs/handoffs.py");
    let script = script.to_string_lossy();
    let Some(python) = pythons().into_iter().next() else {
        return skip("hand-offs", "no CPython of version 3.8 or later");
    };
    for (mode, severity, name, options) in [
        ("direction", "error", "stdio-direction", &[][..]),
        ("listen", "error", "promised-fd-missing", &[]),
        ("devfd", "error", "promised-fd-missing", &[]),
        ("use", "error", "use-after-close", &["--uses", "all"]),
        ("leak", "warning", "leak-across-exec", &[]),
        ("growth", "warning", "fd-growth", &[]),
        ("exit", "warning", "leak-at-exit", &["--leaks-at-exit"]),
    ] {
        let told = audited(options, &words(&python, &[&script, mode]));
        let own = |f: &&Value| f["name"] == name && f["severity"] == severity;
        assert_eq!((told.findings.len(), told.findings.iter().filter(own).count()), (1, 1), "{mode}: {}", told.text);
        let told = audited(options, &words(&python, &[&script, &format!("repaired-{mode}")]));
        assert!(told.findings.is_empty(), "{mode}: {}", told.text);
    }
    for asked_for in ["exit", "use"] {
        let told = audited(&[], &words(&python, &[&script, asked_for]));
        assert!(told.findings.is_empty(), "only where it is asked for: {}", told.text);
    }
}

#[test]
fn the_same_mistake_a_thousand_times_is_counted() {
    let script = root().join("tests/targets/bugs/handoffs.py");
    let script = script.to_string_lossy();
    let Some(python) = pythons().into_iter().next() else {
        return skip("a thousand times", "no CPython of version 3.8 or later");
    };
    let told = audited(&[], &words(&python, &[&script, "thousand"]));
    // An interpreter that specializes its code is at another address from some round on.
    assert!(told.findings.len() <= 3, "{} findings", told.findings.len());
    assert!(told.names().iter().all(|n| *n == "double-close"), "{:?}", told.names());
    let count = |f: &Value| f["count"].as_u64().unwrap_or(1);
    assert_eq!(told.findings.iter().map(count).sum::<u64>(), 1000);
    assert!(audited(&[], &words(&python, &[&script, "repaired-thousand"])).findings.is_empty());
}

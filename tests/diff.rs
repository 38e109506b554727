//! `fdwatch diff` and `fdwatch show` on real programs, and what makes a life recognisable in another run.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;
mod pty;

use common::{Done, fdwatch, has, pythons, run, script, skip, start, target};
use fdwatch::render::Style;
use fdwatch::report::{Report, text};
use pty::Pty;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Reports of runs, in a folder of their own.
struct Reports(tempfile::TempDir);

impl Reports {
    fn new() -> Reports {
        Reports(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Audits a command into the report `name`.
    fn audit<S: AsRef<OsStr>>(&self, name: &str, options: &[&str], command: &[S]) -> Report {
        let path = self.path(name);
        let mut fdwatch = Command::new(fdwatch());
        fdwatch.args(["audit", "--format", "json", "-o"]).arg(&path).args(options).arg("--").args(command);
        let done = run(fdwatch.current_dir(self.0.path()));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{name}: {e}: {done:#?}"));
        Report::read(&bytes).unwrap()
    }

    fn go(&self, args: &[&str]) -> Done {
        let done = run(Command::new(fdwatch()).args(args).current_dir(self.0.path()));
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        done
    }

    /// Nothing differs between two reports.
    fn alike(&self, a: &str, b: &str) {
        let done = self.go(&["diff", a, b]);
        assert_eq!((done.stdout.as_str(), done.stderr.as_str(), done.code()), ("", "", 0), "{a} {b}");
    }
}

/// Process, opening fingerprint and ordinal of each life whose path `which` accepts.
fn marks(report: &Report, which: impl Fn(&str) -> bool) -> Vec<(String, String, u32)> {
    let lives = report.lives.as_ref().expect("lives");
    let of = |l: &fdwatch::report::lives::LifeRecord| {
        let path = &lives.object(l.object)?.path;
        let stack = lives.stack(l.began.stack)?;
        (l.origin == "opened" && which(path)).then(|| (l.process.clone(), stack.fingerprint.clone(), l.ordinal))
    };
    lives.list.iter().filter_map(of).collect()
}

#[test]
fn the_same_python_program_twice_does_not_differ() {
    let pythons = pythons();
    if pythons.is_empty() {
        return skip("diff of Python", "no CPython of version 3.8 or later");
    }
    for (i, python) in pythons.iter().enumerate() {
        for (n, letter) in ["a", "b", "c", "d", "e"].iter().enumerate() {
            // One each, and the first what is left over.
            if (i > 0 || n < pythons.len()) && i % 5 != n {
                continue;
            }
            let reports = Reports::new();
            let name = ["a_bare_call", "b_input", "c_error_pipe", "d_other_file", "e_posix_spawn"][n];
            let symptom = script(&format!("python/symptom_{name}.py"));
            let twin = script("python/repaired.py");
            println!("{} {name}", python.display());
            let python = python.as_os_str();
            // The first run may write byte code for the others.
            run(Command::new(python).arg(&symptom).current_dir(reports.0.path()));
            let one = reports.audit("one", &[], &[python, symptom.as_ref()]);
            let two = reports.audit("two", &["--no-seccomp"], &[python, symptom.as_ref()]);
            assert_eq!((one.counts.errors, two.counts.errors), (1, 1));
            reports.alike("one", "two");
            reports.alike("one#1", "two#1");
            let life = one.findings[0].life.as_ref().expect("the finding's life is known");
            assert_eq!((life.process.as_str(), life.ordinal), ("0", 1), "{life:?}");
            let prints = |r: &Report| -> Vec<_> { r.findings[0].steps.iter().map(|s| s.fingerprint.clone()).collect() };
            assert_eq!(prints(&one), prints(&two));
            reports.audit("three", &[], &[python, twin.as_ref(), letter.as_ref()]);
            if n == 0 {
                reports.audit("four", &[], &[python, twin.as_ref(), letter.as_ref()]);
                reports.alike("three", "four");
            }

            let done = reports.go(&["diff", "one", "three"]);
            assert_eq!((done.code(), done.stderr.as_str()), (1, ""), "{}", done.stdout);
            let told = done.stdout.split("\n\n").find(|s| s.starts_with("first divergence")).expect("a divergence");
            assert!(told.contains("/output"), "{told}");
            assert!(told.contains("- close() by reference count, no close() call"), "{told}");
            assert!(told.contains("+ close() explicit, at the end of a with block\n"), "{told}");
            let own = |file: &str, sign: char| {
                told.lines().any(|l| l.trim_start().starts_with(&format!("{sign} {file}:")) && l.ends_with(" in main"))
            };
            assert!(own(&format!("symptom_{name}.py"), '-') && own("repaired.py", '+'), "{told}");
            assert!(done.stdout.contains("\nfindings gone (only in A)\nA error["), "{}", done.stdout);
            assert!(done.stdout.lines().all(|l| l.chars().count() <= 100), "{}", done.stdout);
            // The culprit beside the close that works.
            let object = one.findings[0].object.id.0;
            let done = reports.go(&["diff", "one#1", &format!("one@{object}")]);
            assert!(done.stdout.contains("  opened  openat(), symptom_"), "{}", done.stdout);
        }
    }
}

/// What differs between two shells is said; two runs of one do not differ, whatever their pids.
#[test]
fn c_programs_and_shells_do_not_differ_from_themselves() {
    let reports = Reports::new();
    if let Some(path) = target("double_close") {
        let one = reports.audit("one", &[], &[&path]);
        reports.audit("two", &[], &[&path]);
        assert_eq!(one.findings.len(), 3);
        reports.alike("one", "two");
        reports.alike("one#2", "two#2");
        assert_eq!(reports.go(&["diff", "one#1", "two#2"]).code(), 1);
    } else {
        skip("diff of a C program", "no C compiler");
    }
    let shell = |name: &str, text: &str| reports.audit(name, &[], &["sh", "-c", text]);
    let text = "echo a | cat | cat; (echo x; exit 3) >out; cat <out; x=$(echo y; cat out)";
    let first = shell("a", text);
    shell("b", text);
    reports.alike("a", "b");
    assert!(first.lives.as_ref().unwrap().list.iter().any(|l| l.process == "0.3"), "the third process of the shell");
    shell("c", &text.replace("cat | cat;", "cat | cat; : <out;").replace("exit 3", "exit 4"));
    let done = reports.go(&["diff", "a", "c"]);
    assert_eq!(done.code(), 1, "{}", done.stdout);
    let only = done.stdout.split("\n\n").find(|s| s.starts_with("new (only in B)")).unwrap_or_default();
    assert!(only.contains("/out  openat(), "), "{}", done.stdout);
    shell("d", &format!("{text}; exit 7"));
    let done = reports.go(&["diff", "a", "d"]);
    assert!(done.stdout.contains("\ntarget\nA exited 0\nB exited 7\n"), "{}", done.stdout);
}

/// The same program has the same marks: under ASLR and without, in whatever folder, launched or attached to, with or
/// without a filter, with and without a build id.
#[test]
fn lives_are_recognised_in_every_run() {
    let Some(path) = target("sites") else { return skip("marks", "no C compiler") };
    let reports = Reports::new();
    let own = |path: &str| path == "/dev/null" || path.starts_with("/tmp/fdwatch-sites-");
    let expected = marks(&reports.audit("0", &[], &[&path]), own);
    let of = |process: &str| -> Vec<u32> { expected.iter().filter(|m| m.0 == process).map(|m| m.2).collect() };
    assert_eq!(of("0"), [1, 1, 1, 2, 2, 3, 3], "one made-up name, and three times two places: {expected:?}");
    for process in ["0.1", "0.1.1", "0.2", "0.2.1"] {
        assert_eq!(of(process), [1], "{process}: {expected:?}");
    }
    let places: BTreeSet<&str> = expected.iter().map(|m| m.1.as_str()).collect();
    // Who calls belongs to the place: mkstemp's, and each of the two from main; both in a child and a grandchild, which
    // two calls in main have made.
    assert_eq!(places.len(), 7, "{places:?}");

    for n in 1..5 {
        assert_eq!(marks(&reports.audit(&n.to_string(), &[], &[&path]), own), expected, "run {n}");
        reports.alike("0", &n.to_string());
    }
    assert_eq!(marks(&reports.audit("full", &["--no-seccomp"], &[&path]), own), expected, "without a filter");
    let other = reports.path("elsewhere");
    std::fs::create_dir(&other).unwrap();
    let copy = other.join("another-name");
    std::fs::copy(&path, &copy).unwrap();
    assert_eq!(marks(&reports.audit("copy", &[], &[&copy]), own), expected, "in another folder, by another name");
    reports.alike("0", "copy");
    match has("setarch") {
        true => {
            let fixed = reports.audit("fixed", &[], &[OsStr::new("setarch"), OsStr::new("-R"), path.as_os_str()]);
            assert_eq!(marks(&fixed, own), expected, "at fixed addresses");
        }
        false => skip("marks at fixed addresses", "no setarch"),
    }
    assert_eq!(marks(&attached(&reports, &path), own), expected, "attached to");

    // Without a build id the file's name stands for it.
    let (a, b) = (other.join("a"), other.join("b"));
    for (dir, name) in [(&a, "plain"), (&b, "plain"), (&b, "other")] {
        std::fs::create_dir_all(dir).unwrap();
        let source = common::root().join("tests/targets/sites.c");
        let cc = Command::new("cc")
            .args(["-O1", "-fno-omit-frame-pointer", "-Wl,--build-id=none", "-o"])
            .arg(dir.join(name))
            .arg(source)
            .status();
        assert!(cc.unwrap().success());
    }
    let plain = marks(&reports.audit("plain", &[], &[a.join("plain")]), own);
    assert!(plain.iter().all(|m| !expected.contains(m)), "another build is another place: {plain:?}");
    assert_eq!(marks(&reports.audit("again", &[], &[b.join("plain")]), own), plain);
    reports.alike("plain", "again");
    assert_ne!(marks(&reports.audit("other", &[], &[b.join("other")]), own), plain);
    // To a person, another build of the same program is the same program.
    reports.alike("plain", "0");
}

/// The report of a target that was attached to before it opened anything.
fn attached(reports: &Reports, path: &Path) -> Report {
    let mut running = start(Command::new(path).stdin(Stdio::piped()));
    while running.line().expect("a line") != "ready" {}
    let out = reports.path("attached");
    let mut command = Command::new(fdwatch());
    command.args(["attach", "--format", "json", "-o"]).arg(&out).arg(running.pid().to_string());
    let mut watch = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = std::io::BufReader::new(watch.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("attached to") && err.read_line(&mut line).unwrap() > 0 {}
    running.say("go");
    let done = running.end();
    assert!(done.stdout.ends_with("done\n"), "{done:?}, {line}");
    assert!(watch.wait().unwrap().success(), "{line}");
    Report::read(&std::fs::read(out).unwrap()).unwrap()
}

/// Python's lines are part of a place, the folder is not.
#[test]
fn python_lives_are_recognised_in_every_folder() {
    let Some(python) = pythons().into_iter().next() else {
        return skip("marks of Python", "no CPython of version 3.8 or later");
    };
    let reports = Reports::new();
    let text =
        "for i in range(2):\n    open('/dev/null').close()\nopen('/dev/null').close(); open('/dev/null').close()\n";
    let own = |path: &str| path == "/dev/null";
    let mut all = Vec::new();
    for n in 0..3 {
        let dir = reports.path(&format!("dir{n}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("job.py"), text).unwrap();
        all.push(marks(&reports.audit(&n.to_string(), &[], &[python.as_os_str(), dir.join("job.py").as_ref()]), own));
    }
    let python_half = |m: &(String, String, u32)| m.1.rsplit(':').next().unwrap().to_string();
    assert_eq!(all[0].len(), 4);
    assert_eq!(all[0].iter().map(python_half).collect::<BTreeSet<_>>().len(), 2, "two lines: {:?}", all[0]);
    assert_eq!((&all[1], &all[2]), (&all[0], &all[0]));
    // The same text further down is another place, of the same lives.
    let dir = reports.path("dir3");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("job.py"), format!("{}{text}", "#\n".repeat(9))).unwrap();
    reports.audit("3", &[], &[python.as_os_str(), dir.join("job.py").as_ref()]);
    let done = reports.go(&["diff", "0", "3"]);
    assert_eq!(done.code(), 1);
    assert!(done.stdout.contains(" 0 went otherwise, 0 gone, 0 new, 4 moved\n"), "{}", done.stdout);
    assert!(done.stdout.contains("- job.py:2 in <module>\n      + job.py:11 in <module>\n"), "{}", done.stdout);
}

/// A recording is as good as a report.
#[test]
fn logs_are_compared_too() {
    let Some(path) = target("double_close") else { return skip("diff of logs", "no C compiler") };
    let reports = Reports::new();
    let path = path.to_string_lossy();
    reports.audit("json", &["--record", "log"], &[path.as_ref()]);
    reports.alike("json", "log");
    reports.alike("log#3", "json#3");
    let log = std::fs::read(reports.path("log")).unwrap();
    std::fs::write(reports.path("cut"), &log[..log.len() / 2]).unwrap();
    let done = reports.go(&["diff", "json", "cut"]);
    assert_eq!((done.code(), done.stdout.as_str()), (2, ""));
    assert!(done.stderr.starts_with("fdwatch: cut:") && done.stderr.lines().count() == 1, "{}", done.stderr);
}

/// One side below the other where there is little room, beside it where there is more.
#[test]
fn a_wide_terminal_shows_both_sides() {
    let Some(path) = target("double_close") else { return skip("diff on a terminal", "no C compiler") };
    let reports = Reports::new();
    reports.audit("a", &[], &[&path]);
    let on = |columns: u16| {
        let mut command = Command::new(fdwatch());
        command.args(["diff", "a#1", "a#3"]).current_dir(reports.0.path());
        let (code, text) = Pty::start_on(columns, &mut command).end();
        assert_eq!(code, 1, "{text}");
        text
    };
    let side = |line: &str| line.contains("- twice_by_number at ") && line.contains(" | + ");
    let (narrow, wide) = (on(80), on(130));
    assert!(wide.lines().any(side), "{wide}");
    assert!(!narrow.lines().any(side) && narrow.contains("\n      - twice_by_number at "), "{narrow}");
    assert!(narrow.lines().all(|l| l.chars().count() <= 80), "{narrow}");
}

#[test]
fn what_cannot_be_compared_is_said_in_a_line() {
    let reports = Reports::new();
    reports.audit("a", &[], &["true"]);
    let mut old: serde_json::Value = serde_json::from_slice(&std::fs::read(reports.path("a")).unwrap()).unwrap();
    old.as_object_mut().unwrap().remove("lives");
    std::fs::write(reports.path("old"), old.to_string()).unwrap();
    std::fs::write(reports.path("newer"), "{\"schema\":\"fdwatch-report/2\"}").unwrap();
    std::fs::write(reports.path("bytes"), b"\xff\x1b[2J").unwrap();
    for (args, part) in [
        (&["diff", "a"][..], "<B>"),
        (&["diff", "a", "a", "a"], "'a'"),
        (&["diff", "--format", "json", "a", "a"], "--format"),
        (&["diff", "a", "none"], "none: No such file"),
        (&["diff", "bad\x1b[2J", "a"], "bad\\x1b[2J"),
        (&["diff", "a", "."], ".: Is a directory"),
        (&["diff", "bytes", "a"], "not a report"),
        (&["diff", "newer", "a"], "fdwatch-report/2"),
        (&["diff", "a", "old"], "old: it holds no lives"),
        (&["diff", "a#1", "a#1"], "no finding #1"),
        (&["diff", "a@999", "a@999"], "no object #999"),
        (&["diff", "a", "a@1"], "cannot be compared"),
        (&["diff", "/dev/zero", "a"], "longer than"),
    ] {
        let done = reports.go(args);
        assert_eq!((done.code(), done.stdout.as_str()), (2, ""), "{args:?}: {done:?}");
        assert!(done.stderr.contains(part) && done.stderr.lines().count() == 1, "{args:?}: {}", done.stderr);
        assert!(!done.stderr.contains('\x1b'));
    }
    // A file whose name looks like a part of another is the file.
    std::fs::copy(reports.path("a"), reports.path("b#1")).unwrap();
    reports.alike("b#1", "a");
}

#[test]
fn a_saved_report_is_shown_again() {
    let Some(path) = target("double_close") else { return skip("show", "no C compiler") };
    let reports = Reports::new();
    let report = reports.audit("a", &["--record", "log"], &[path.as_os_str()]);
    let done = reports.go(&["show", "a"]);
    assert_eq!((done.code(), done.stderr.as_str()), (0, ""));
    assert_eq!(done.stdout, text(&report, Style::plain()));
    let json = std::fs::read_to_string(reports.path("a")).unwrap();
    assert_eq!(reports.go(&["show", "--format", "json", "a"]).stdout, json);
    assert_eq!(reports.go(&["show", "a", "-o", "out"]).stdout, "");
    assert_eq!(std::fs::read_to_string(reports.path("out")).unwrap(), done.stdout);
    let coloured = reports.go(&["show", "a", "--color", "always"]).stdout;
    assert!(coloured.contains("\x1b["));
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), done.stdout, "nothing else changes");
    std::fs::write(reports.path("newer"), "{\"schema\":\"fdwatch-report/2\"}").unwrap();
    for (args, part) in [
        (&["show", "none"][..], "none: No such file"),
        (&["show", "log"], "fdwatch replay log"),
        (&["show", "newer"], "its schema is fdwatch-report/2"),
        (&["show", "/dev/null"], "not a report"),
        (&["show", "a", "-o", "no/such"], "no/such"),
        (&["show", "--format", "xml", "a"], "json"),
        (&["show"], "<REPORT>"),
    ] {
        let done = reports.go(args);
        assert_eq!((done.code(), done.stdout.as_str()), (125, ""), "{args:?}: {done:?}");
        assert!(done.stderr.contains(part) && done.stderr.lines().count() == 1, "{args:?}: {}", done.stderr);
    }
}

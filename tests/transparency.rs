//! Programs do not notice fdwatch: the quick part of `tests/transparency.py`, which compares runs without and with it.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, fdwatch, pythons, root, run, skip};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// `tests/transparency.py` on this program as fdwatch; `None` where it cannot run.
fn compare(test: &str, watcher: &Path, options: &[&str]) -> Option<Done> {
    let Some(python) = pythons().into_iter().next() else {
        skip(test, "no CPython of version 3.8 or later");
        return None;
    };
    let script = root().join("tests/transparency.py");
    Some(run(Command::new(python).arg(script).arg("--fdwatch").arg(watcher).args(options)))
}

#[test]
fn quick_programs_do_not_notice() {
    let Some(done) = compare("quick programs", &fdwatch(), &["--fast", "--mode", "seccomp"]) else { return };
    println!("{}", done.stdout);
    assert_eq!(done.code(), 0, "{}{}", done.stdout, done.stderr);
    for program in ["surroundings", "sh-descriptors", "perl"] {
        let line = done.stdout.lines().find(|l| l.starts_with(program)).expect("a line for each program");
        assert!(line.ends_with("same") || line.contains("skipped"), "{line}");
    }
}

#[test]
fn with_every_call_stopping_they_do_not_notice_either() {
    let options = ["--only", "surroundings", "--only", "bash-jobs", "--mode", "full"];
    let Some(done) = compare("quick programs at every call", &fdwatch(), &options) else { return };
    assert_eq!(done.code(), 0, "{}{}", done.stdout, done.stderr);
}

/// The comparison itself: a watcher that the target does notice must be told.
#[test]
fn what_is_noticed_is_told() {
    let dir = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let report = r#"{"counts":{"errors":0,"warnings":0},"coverage":{"surprises":0}}"#;
    let before = "while [ \"$1\" != -- ]; do [ \"$1\" = -o ] && report=$2; shift; done; shift";
    for (name, body, told) in [
        ("status", "\"$@\"; exit 1", "ended with exit 1, not exit 3"),
        ("output", "\"$@\"; s=$?; echo more; exit $s", "+more"),
        ("descriptor", "exec 7</dev/null; exec \"$@\"", "watched stdout"),
        ("process", "sleep 1000 & exec \"$@\"", "left running: ['sleep"),
    ] {
        let watcher = dir.join(format!("noticed-{name}"));
        std::fs::write(&watcher, format!("#!/bin/sh\n{before}\necho '{report}' >$report\n{body}\n")).expect("a script");
        std::fs::set_permissions(&watcher, std::fs::Permissions::from_mode(0o755)).expect("a script");
        let options = ["--only", "surroundings", "--mode", "seccomp"];
        let Some(done) = compare("a watcher that is noticed", &watcher, &options) else { return };
        assert_eq!(done.code(), 1, "{name}: {}{}", done.stdout, done.stderr);
        assert!(done.stdout.contains(told), "{name}: expected `{told}` in {}", done.stdout);
    }
}

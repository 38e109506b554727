//! Silence on ordinary programs: the quick rows of tests/silence.py, the whole of which fills docs/silence.md.

#![allow(clippy::expect_used, clippy::panic)] // a test may fail loudly

mod common;

use common::{fdwatch, has, root, run, skip};
use std::process::Command;

#[test]
fn ordinary_programs_are_clean() {
    if !has("python3") {
        return skip("silence", "no python3");
    }
    let script = root().join("tests/silence.py");
    let done = run(Command::new("python3").arg(script).arg("--quick").arg("--fdwatch").arg(fdwatch()));
    done.stderr.lines().filter(|l| l.starts_with("skipped: ")).for_each(|l| skip("silence", l));
    assert_eq!(done.code(), 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.lines().filter(|l| l.starts_with("ok ")).count() >= 1, "{}{}", done.stdout, done.stderr);
}

/// A table that could not be unclean would prove nothing.
#[test]
fn a_row_with_a_finding_is_not_clean() {
    if !has("python3") || !has("bash") {
        return skip("silence", "no python3 or no bash");
    }
    let dir = tempfile::tempdir().expect("a folder");
    // fdwatch itself, told to show what is known to be harmless, too.
    let loud = dir.path().join("fdwatch");
    let text = format!("#!/bin/sh\nshift\nexec '{}' audit --no-default-suppressions \"$@\"\n", fdwatch().display());
    std::fs::write(&loud, text).expect("writes");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&loud, mode).expect("sets the mode");
    let script = root().join("tests/silence.py");
    let done = run(Command::new("python3").arg(script).args(["--quick", "bash", "--fdwatch"]).arg(&loud));
    assert!(done.code() == 1 && done.stdout.contains("BAD  bash"), "{}{}", done.stdout, done.stderr);
}

//! Without privilege, as most users are: the essentials are the same, and the report says what that costs the target.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, alone, fdwatch, has, run, script, skip, target};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PYTHON: &str = "/usr/bin/python3";

/// A folder that nobody can read and execute from, but not write to; `None` if this is not root's test to make.
fn public(test: &str) -> Option<tempfile::TempDir> {
    if !nix::unistd::geteuid().is_root() {
        skip(test, "not root: the other tests are unprivileged already");
        return None;
    }
    if !has("setpriv") {
        skip(test, "no setpriv");
        return None;
    }
    let dir = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().expect("a folder");
    if as_nobody(&dir, &["test", "-x", "/"]).code() != 0 {
        skip(test, "setpriv cannot become nobody here");
        return None;
    }
    give(&dir, &fdwatch());
    Some(dir)
}

/// Copies a file to where nobody can reach it.
fn give(dir: &tempfile::TempDir, file: &Path) -> PathBuf {
    let copy = dir.path().join(file.file_name().expect("a name"));
    std::fs::copy(file, &copy).expect("a copy");
    let mode = std::fs::metadata(file).expect("a file").permissions().mode() | 0o444;
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(mode)).expect("its mode");
    copy
}

fn as_nobody(dir: &tempfile::TempDir, command: &[&str]) -> Done {
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]).args(command);
    common::no_settings(&mut setpriv);
    run(setpriv.current_dir(dir.path()).env("HOME", "/nonexistent").env_remove("TMPDIR"))
}

fn python_there() -> bool {
    let ask = "import sys; sys.exit(sys.version_info < (3, 8))";
    Path::new(PYTHON).exists() && alone(&[PYTHON, "-c", ask]).code() == 0
}

const NO_NEW_PRIVS: &str = "no_new_privs was set: setuid programs got no privilege";

#[test]
fn a_symptom_is_blamed_on_the_finalizer() {
    let Some(dir) = public("symptom") else { return };
    if !python_there() {
        return skip("symptom", "no /usr/bin/python3 of version 3.8 or later");
    }
    let symptom = give(&dir, Path::new(&script("python/symptom_a_bare_call.py")));
    let symptom = symptom.to_str().expect("UTF-8");
    let native = as_nobody(&dir, &[PYTHON, symptom]);
    let text = std::fs::read_to_string(symptom).expect("the symptom");
    let guilty = text.lines().position(|l| l.contains("open(path, \"w\").fileno()")).expect("the guilty line") + 1;
    for no_seccomp in [false, true] {
        let mut command = vec!["./fdwatch", "audit"];
        if no_seccomp {
            command.push("--no-seccomp");
        }
        command.extend(["--", PYTHON, symptom]);
        let done = as_nobody(&dir, &command);
        assert_eq!((done.errors(), done.code()), (1, 99), "{}", done.stderr);
        assert!(done.stderr.starts_with("error[stale-fd-to-child]"), "{}", done.stderr);
        let closed = done.stderr.lines().find(|l| l.trim_start().starts_with("closed ")).unwrap_or_default();
        assert!(closed.contains(&format!("symptom_a_bare_call.py:{guilty}")), "{closed}");
        assert!(closed.contains("by reference count, no close() call"), "{closed}");
        assert_eq!(done.stdout, native.stdout);
        assert_eq!(done.stderr.contains(NO_NEW_PRIVS), !no_seccomp, "{}", done.stderr);
    }
}

#[test]
fn keep_repairs_the_run() {
    let Some(dir) = public("keep") else { return };
    if !python_there() {
        return skip("keep", "no /usr/bin/python3 of version 3.8 or later");
    }
    let lost = give(&dir, Path::new(&script("lost_output.py")));
    let lost = lost.to_str().expect("UTF-8");
    assert_eq!(as_nobody(&dir, &[PYTHON, lost]).stdout, "done: report.txt holds 0 bytes\n");
    let done = as_nobody(&dir, &["./fdwatch", "run", "-ex", "keep", "-ex", "continue", "--", PYTHON, lost]);
    assert_eq!(done.stdout, "done: report.txt holds 18 bytes\n", "{}", done.stderr);
    assert_eq!((done.errors(), done.code()), (0, 0), "{}", done.stderr);
    assert!(done.stderr.contains("results altered by 1 injection"), "{}", done.stderr);
    assert!(done.stderr.contains(NO_NEW_PRIVS), "{}", done.stderr);
}

#[test]
fn c_programs_are_told_and_unchanged() {
    let Some(dir) = public("C programs") else { return };
    let Some(program) = target("double_close") else { return skip("C programs", "no C compiler") };
    give(&dir, &program);
    let native = as_nobody(&dir, &["./double_close"]);
    for (options, denied) in [(&[][..], true), (&["--no-seccomp"], false)] {
        let command: Vec<&str> =
            ["./fdwatch", "audit"].iter().chain(options).chain(&["./double_close"]).copied().collect();
        let done = as_nobody(&dir, &command);
        assert_eq!((done.errors(), done.code(), &done.stdout), (3, 99, &native.stdout), "{}", done.stderr);
        assert_eq!(done.stderr.contains(NO_NEW_PRIVS), denied, "{options:?}: {}", done.stderr);
    }
    let done = as_nobody(&dir, &["./fdwatch", "audit", "--format", "json", "./double_close"]);
    let report: serde_json::Value = serde_json::from_str(&done.stderr).expect("JSON");
    assert_eq!(report["coverage"]["no_new_privs"], true);
    assert_eq!(report["findings"][0]["name"], "double-close");
}

#[test]
fn the_surroundings_are_the_same() {
    let Some(dir) = public("surroundings") else { return };
    let Some(program) = target("inherited") else { return skip("surroundings", "no C compiler") };
    give(&dir, &program);
    let shown = |done: Done| -> Vec<String> {
        assert_eq!(done.code(), 0, "{}", done.stderr);
        done.stdout.lines().filter(|l| !l.starts_with("group ")).map(String::from).collect()
    };
    let native = shown(as_nobody(&dir, &["./inherited"]));
    assert_eq!(shown(as_nobody(&dir, &["./fdwatch", "audit", "./inherited"])), native);
    assert_eq!(shown(as_nobody(&dir, &["./fdwatch", "audit", "--no-seccomp", "./inherited"])), native);
}

/// A program that it may execute and not read: the kernel lets nobody look into such a process.
#[test]
fn a_program_that_may_not_be_read_is_followed_all_the_same() {
    let Some(dir) = public("unreadable program") else { return };
    let Some(program) = target("double_close") else { return skip("unreadable program", "no C compiler") };
    let copy = give(&dir, &program);
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o711)).expect("its mode");
    let native = as_nobody(&dir, &["./double_close"]);
    for options in [&[][..], &["--no-seccomp"]] {
        let command: Vec<&str> =
            ["./fdwatch", "audit"].iter().chain(options).chain(&["./double_close"]).copied().collect();
        let done = as_nobody(&dir, &command);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        assert_eq!(done.stdout, native.stdout, "{}", done.stderr);
        assert!(matches!(done.code(), 0 | 99), "{}", done.stderr);
    }
}

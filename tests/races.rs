//! Orders that the kernel does not promise, on real processes. A child's first stop before its parent's fork event, and
//! reports in any order, cannot be had by asking the kernel: they are brought about in `src/session/orders.rs`.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{audit, example, run, skip, target};
use std::process::Command;

/// The target under the oracle: after each stop the model is what the kernel has.
fn agrees(name: &str) -> Option<String> {
    let Some(path) = target(name) else {
        skip(name, "no C compiler");
        return None;
    };
    let done = run(Command::new(example("oracle")).args(["--once", "--"]).arg(path));
    if done.stdout.starts_with("skip") {
        skip(name, done.stdout.trim());
        return None;
    }
    assert_eq!(done.code(), 0, "{name}: {}", done.stderr);
    assert!(done.stderr.contains("; 0 mismatches"), "{name}: {}", done.stderr);
    Some(done.stdout)
}

/// A number that another thread is given while it is being closed: the new life is not the one that the close ends.
#[test]
fn a_number_is_given_out_again_before_its_close_returns() {
    let Some(said) = agrees("reuse") else { return };
    assert!(said.contains("reused at least 20"), "{said}");
    let Some(path) = target("reuse") else { return };
    // Held on one CPU, its threads would seldom meet.
    for mode in [&["--co-locate", "off"][..], &["--co-locate", "off", "--no-seccomp"]] {
        let done = audit(mode, &[&path]);
        if done.code() == 77 {
            skip("reuse", done.stdout.trim());
            continue;
        }
        assert_eq!((done.errors(), done.code()), (0, 0), "{mode:?}: {}", done.stderr);
        assert!(!done.stderr.contains("against expectation"), "{mode:?}: {}", done.stderr);
    }
}

/// What a process did is not told of a later one of the same number.
#[test]
fn a_pid_comes_again() {
    let Some(said) = agrees("pid_again") else { return };
    assert!(said.contains("the same number: yes"), "{said}");
    let Some(path) = target("pid_again") else { return };
    let done = audit(&[], &[&path]);
    assert_eq!((done.errors(), done.code()), (1, 99), "{}", done.stderr);
    assert!(
        done.stderr.contains("error[double-close]") && done.stderr.contains("closed fd 4 twice"),
        "{}",
        done.stderr
    );
}

/// Threads that are killed in the middle of calls by another one's exec: what they had done is in the new program, and
/// nothing is told that they had not.
#[test]
fn a_thread_executes_a_program_while_others_are_in_calls() {
    let Some(said) = agrees("exec_race") else { return };
    assert!(said.contains("executed 25 times"), "{said}");
    let Some(path) = target("exec_race") else { return };
    let done = audit(&["--fail-on", "never"], &[&path]);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert!(!done.stderr.contains("against expectation"), "{}", done.stderr);
}

/// Children of a thread that another one's exec has killed at its fork: nobody announces them, and they go on.
#[test]
fn a_thread_executes_a_program_while_another_forks() {
    let Some(path) = target("exec_fork") else { return skip("exec_fork", "no C compiler") };
    for mode in [&[][..], &["--no-seccomp"]] {
        let done = audit(mode, &[&path]);
        assert_eq!((done.errors(), done.code()), (0, 0), "{mode:?}: {}", done.stderr);
        assert!(done.stdout.contains("executed 25 times, and no child is left"), "{mode:?}: {}", done.stdout);
    }
}

/// Calls that are interrupted and made again, by the kernel or by the program: what they make comes once, and is known.
#[test]
fn calls_are_interrupted_and_made_again() {
    let Some(path) = target("restarted") else { return skip("restarted", "no C compiler") };
    for how in [&[][..], &["by the kernel"]] {
        let native = run(Command::new(&path).args(how));
        let again = if how.is_empty() { 9 } else { 0 };
        let line = format!("interrupted 9 times, made again by the program {again} times");
        assert!(native.stdout.contains(&line), "{}", native.stdout);
        for mode in [&["audit"][..], &["audit", "--no-seccomp"]] {
            let done = run(Command::new(common::fdwatch()).args(mode).arg("--").arg(&path).args(how));
            assert_eq!(done.stdout, native.stdout, "{mode:?} {how:?}: {}", done.stderr);
            assert_eq!(done.errors(), 3, "{mode:?} {how:?}: {}", done.stderr);
            assert!(!done.stderr.contains("against expectation"), "{mode:?} {how:?}: {}", done.stderr);
        }
        let done = run(Command::new(example("oracle")).args(["--once", "--"]).arg(&path).args(how));
        assert!(done.stderr.contains("; 0 mismatches"), "{how:?}: {}", done.stderr);
    }
}

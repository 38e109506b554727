//! The model is the kernel's, after random sequences of all calls; `examples/oracle.rs` says what is compared.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, example, run, skip, target};
use std::process::Command;

/// Runs the oracle; `None` where the program that it runs cannot be built.
fn oracle(program: &str, args: &[&str]) -> Option<Done> {
    if !target(program)?.exists() {
        return None;
    }
    Some(run(Command::new(example("oracle")).arg("--once").args(args)))
}

/// What the last line counts under this word.
fn count(done: &Done, word: &str) -> u64 {
    let line = done.stderr.lines().last().unwrap_or_default();
    let before = line.split(word).next().unwrap_or_default();
    before.split([' ', '(']).rfind(|w| !w.is_empty()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn agrees(program: &str, args: &[&str]) {
    for seed in ["1", "2"] {
        let with_seed = [args, &["--seed", seed]].concat();
        let Some(done) = oracle(program, &with_seed) else { return skip("oracle", "no compiler for it") };
        assert_eq!(done.code(), 0, "{with_seed:?}: {}", done.stderr);
        assert_eq!(count(&done, " mismatches"), 0, "{with_seed:?}: {}", done.stderr);
        // A run that compared nothing proves nothing.
        assert!(count(&done, " calls") >= 700, "{with_seed:?}: {}", done.stderr);
        assert!(count(&done, " processes") >= 3, "{with_seed:?}: {}", done.stderr);
        assert!(count(&done, " identities") > 10_000, "{with_seed:?}: {}", done.stderr);
    }
}

#[test]
fn in_single_processes() {
    agrees("random_calls", &["--calls", "700", "--processes", "1", "--threads", "0"]);
}

#[test]
fn in_processes_that_pass_descriptors_on() {
    agrees("random_calls", &["--calls", "700", "--processes", "5", "--threads", "0"]);
}

#[test]
fn in_threads_that_share_a_table() {
    agrees("random_calls", &["--calls", "1500", "--processes", "3", "--threads", "3"]);
}

#[test]
fn in_threads_with_every_call_stopping() {
    agrees("random_calls", &["--calls", "1000", "--processes", "3", "--threads", "3", "--all-calls"]);
}

#[test]
fn with_every_call_stopping() {
    agrees("random_calls", &["--calls", "700", "--processes", "3", "--threads", "0", "--all-calls"]);
}

#[test]
fn in_i386_programs() {
    agrees("random_calls32", &["--calls", "700", "--processes", "3", "--threads", "0", "--i386"]);
}

/// The oracle would see a mistake: without the io_uring's own calls nothing tells what a ring opens.
#[test]
fn a_descriptor_that_nobody_saw_begin_is_a_mismatch() {
    let Some(path) = target("ring") else { return skip("a descriptor unseen", "no C compiler") };
    let done = run(Command::new(example("oracle")).args(["--once", "--"]).arg(path));
    if done.stdout.starts_with("skip") {
        return skip("a descriptor unseen", done.stdout.trim());
    }
    assert_eq!(done.code(), 1, "{}", done.stderr);
    assert!(done.stderr.contains("closed in the model, open in the kernel"), "{}", done.stderr);
}

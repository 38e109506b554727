//! Stacks of real programs, compared with gdb's of the same process at the same stop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

mod stack_support;

use fdwatch::stack::{StackEnd, Stacks};
use stack_support::compile;
use stack_support::gdb::{Gdb, Stop, there};
use std::ffi::OsStr;
use std::path::Path;

/// What the targets close; never open.
const CLOSED: i32 = -77;

/// Runs a program under gdb and checks each stop: the frames must be gdb's. Returns the stops.
#[track_caller]
fn agree<S: AsRef<OsStr>>(label: &str, program: &Path, args: &[S], fd: i32) -> Vec<Stop> {
    agree_at(label, Gdb::start(program, args, fd))
}

#[track_caller]
fn agree_at(label: &str, mut gdb: Gdb) -> Vec<Stop> {
    let (mut stacks, mut stops) = (Stacks::new(), Vec::new());
    let mut wrong = String::new();
    while let Some(stop) = gdb.next(&mut stacks) {
        if stop.agreed() != stop.gdb.len().max(stop.ours.len()) {
            wrong += &stop.table();
        }
        stops.push(stop);
    }
    assert!(wrong.is_empty(), "{label}:\n{wrong}");
    stops
}

fn names(stop: &Stop) -> Vec<&str> {
    stop.ours.iter().filter_map(|s| s.name.as_deref()).collect()
}

/// Builds of `odd.c`: with and without frame pointers, every place for unwinding tables, every kind of executable.
const BUILDS: [(&str, &[&str]); 9] = [
    ("O0", &["-O0", "-g"]),
    ("O2", &["-O2", "-fomit-frame-pointer", "-g", "-fno-optimize-sibling-calls"]),
    ("stripped", &["-O2", "-s", "-fno-optimize-sibling-calls"]),
    ("debugframe", &["-O1", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-g"]),
    ("gz", &["-O1", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-g", "-gz=zlib"]),
    ("nopie", &["-O1", "-no-pie", "-g"]),
    ("lazy", &["-O2", "-Wl,-z,lazy", "-fcf-protection=none"]),
    ("static", &["-O1", "-static", "-g"]),
    ("static-pie", &["-O2", "-static-pie"]),
];

#[test]
fn c_programs_of_every_build() {
    if !there("c_programs_of_every_build") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (bits, more) in [("64", &[][..]), ("32", &["-m32"][..])] {
        for (label, flags) in BUILDS {
            let label = format!("{label}-{bits}");
            let Some(program) = compile("odd", &label, &[flags, more].concat(), dir.path()) else { continue };
            let stops = agree(&label, &program, &["all"], CLOSED);
            assert_eq!(stops.len(), 8, "{label}: each way closes once");
            for stop in &stops {
                assert_eq!(stop.end, StackEnd::Complete, "{label}: {}", stop.table());
            }
        }
    }
}

#[test]
fn every_instruction_of_a_call() {
    if !there("every_instruction_of_a_call") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (bits, more) in [("64", &[][..]), ("32", &["-m32"][..])] {
        for (label, flags) in [BUILDS[0], BUILDS[1], BUILDS[6], BUILDS[7]] {
            let label = format!("{label}-{bits}");
            let Some(program) = compile("odd", &label, &[flags, more].concat(), dir.path()) else { continue };
            let stops = agree_at(&label, Gdb::step(&program, &["steps"], "stepped"));
            assert!(stops.len() > 30, "{label}: {}", stops.len());
        }
    }
}

//! Stacks of real programs, compared with gdb's of the same process at the same stop.
//!
//! gdb stops the program and says what it sees; fdwatch's unwinder then looks at the same process through `/proc`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

#[path = "pythons/mod.rs"]
mod pythons;
mod stack_support;

use fdwatch::stack::{StackEnd, Stacks, Why};
use stack_support::gdb::{Gdb, Stop, there};
use stack_support::{build, compile, gos, skip};
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
fn programs_with_another_c_library() {
    if !there("programs_with_another_c_library") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // musl, as distributions build it, has neither unwind information nor frame pointers: the registers hold what looks like
    // a frame further out. Nothing may be left out, and the stack must say that it is incomplete.
    for (label, flags) in [("musl", ["-O2", "-g"]), ("musl-static", ["-O2", "-static"])] {
        let flags = [&flags[..], &["-fno-optimize-sibling-calls"]].concat();
        let Some(program) = build("musl-gcc", "odd.c", label, &flags, dir.path()) else { continue };
        let (mut gdb, mut stacks, mut stops) = (Gdb::start(&program, &["all"], CLOSED), Stacks::new(), 0);
        while let Some(stop) = gdb.next(&mut stacks) {
            assert_eq!(stop.agreed(), stop.ours.len(), "{label}: {}", stop.table());
            assert!(matches!(stop.end, StackEnd::Truncated(_)), "{label}: {}", stop.table());
            stops += 1;
        }
        assert!(stops > 0, "{label}");
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

/// In a clock of the vDSO, where neither i386's nor musl has unwind information: one of the two stacks is the beginning of
/// the other, and ours is never silently the shorter one.
#[test]
fn clocks_of_the_vdso() {
    if !there("clocks_of_the_vdso") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (compiler, label, flags) in [
        ("cc", "clock-64", &["-O1"][..]),
        ("cc", "clock-32", &["-O1", "-m32", "-pthread"]),
        ("musl-gcc", "clock-musl", &["-O1"]),
    ] {
        let Some(program) = build(compiler, "odd.c", label, flags, dir.path()) else { continue };
        let (mut gdb, mut stacks) = (Gdb::step(&program, &["clock"], "timed"), Stacks::new());
        let (mut within, mut whole) = (0, 0);
        while let Some(stop) = gdb.next(&mut stacks) {
            let inside = stop.ours.first().is_some_and(|f| f.place.0 == "[vdso]");
            within += usize::from(inside);
            whole += usize::from(inside && stop.end == StackEnd::Complete);
            assert_eq!(stop.agreed(), stop.gdb.len().min(stop.ours.len()), "{label}: {}", stop.table());
            let honest = stop.ours.len() >= stop.gdb.len() || matches!(stop.end, StackEnd::Truncated(_));
            assert!(honest, "{label}: {}", stop.table());
        }
        println!("{label}: {within} stops in the vDSO, {whole} whole");
        assert!(within > 0, "{label}: no stop in the vDSO");
        assert!(label != "clock-64" || whole == within, "{label}: {whole} of {within}");
    }
}

/// As [`agree`], and each stack must end where the program or the thread began.
#[track_caller]
fn agree_wholly<S: AsRef<OsStr>>(label: &str, program: &Path, args: &[S], fd: i32, stops: usize) {
    let seen = agree(label, program, args, fd);
    assert_eq!(seen.len(), stops, "{label}: stops");
    for stop in seen {
        assert_eq!(stop.end, StackEnd::Complete, "{label}: {}", stop.table());
    }
}

#[test]
fn cpp_and_rust_programs() {
    if !there("cpp_and_rust_programs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (label, flags) in
        [("O0", ["-O0", "-g"]), ("O2", ["-O2", "-g"]), ("stripped", ["-O2", "-s"]), ("i386", ["-m32", "-O2"])]
    {
        if let Some(program) = build("c++", "templates.cpp", label, &flags, dir.path()) {
            agree_wholly(label, &program, &[""; 0], CLOSED, 2);
        }
    }
    for (label, flags) in [("debug", &["-g"][..]), ("release", &["-O"]), ("stripped", &["-O", "-Cstrip=symbols"])] {
        let flags = [&["--edition=2024"], flags].concat();
        if let Some(program) = build("rustc", "generic.rs", label, &flags, dir.path()) {
            agree_wholly(label, &program, &[""; 0], CLOSED, 4);
        }
    }
}

#[test]
fn go_programs() {
    if !there("go_programs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for go in gos() {
        for (label, flags) in [("plain", &[][..]), ("pie", &["-buildmode=pie"]), ("noinline", &["-gcflags=-N -l"])] {
            if let Some(program) = build(&go, "calls.go", label, flags, dir.path()) {
                agree_wholly(&format!("{go} {label}"), &program, &[""; 0], CLOSED, 5);
            }
        }
        if let Some(program) = build(&format!("env GOARCH=386 {go}"), "calls.go", "i386", &[], dir.path()) {
            agree_wholly(&format!("{go} i386"), &program, &[""; 0], CLOSED, 5);
        }
    }
}

#[test]
fn libraries_that_take_each_others_place() {
    if !there("libraries_that_take_each_others_place") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("loader", "O1", &["-O1"], dir.path()) else { return };
    let mut libraries = Vec::new();
    for (name, room, pad) in [("one", "64", "-DNO"), ("two", "1064", "-DPAD"), ("three", "264", "-DNO")] {
        let flags = [&format!("-DNAME={name}"), &format!("-DROOM={room}"), pad, "-O2", "-shared", "-fPIC"];
        let flags = [&flags[..], &["-fno-optimize-sibling-calls"]].concat();
        let Some(library) = compile("plugin", name, &flags, dir.path()) else { return };
        libraries.push(library);
    }
    // The closes of the loader, which fdwatch sees, too, say that something was loaded.
    let stops = agree_at("loader", Gdb::any(&program, &libraries));
    let below =
        |function: &str| stops.iter().filter(|s| s.ours.iter().any(|f| f.name.as_deref() == Some(function))).count();
    assert_eq!([below("step_of_one"), below("step_of_two"), below("step_of_three")], [1, 1, 1]);
    for stop in stops {
        assert_eq!(stop.end, StackEnd::Complete, "{}", stop.table());
    }
}

#[test]
fn code_made_at_run_time() {
    if !there("code_made_at_run_time") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("jit", "O2", &["-O2", "-fno-optimize-sibling-calls"], dir.path()) else { return };
    let mut stacks = Stacks::new();
    let mut stop = |how| Gdb::start(&program, &[how], CLOSED).next(&mut stacks).unwrap();
    // gdb gives up here, where fdwatch goes on by the frame pointer; what gdb has must be the beginning.
    let framed = stop("framed");
    assert_eq!(framed.agreed(), framed.gdb.len(), "{}", framed.table());
    let names: Vec<_> = framed.ours.iter().filter_map(|f| f.name.as_deref()).collect();
    assert_eq!(names[1..5], ["target_close", "outer_step", "by_code", "main"], "{}", framed.table());
    assert_eq!(framed.end, StackEnd::Complete, "{}", framed.table());
    // Without a frame pointer nobody can know: the stack ends in the code made at run time, and says so.
    let bare = stop("bare");
    assert_eq!(bare.agreed(), bare.ours.len(), "{}", bare.table());
    assert_eq!(bare.end, StackEnd::Truncated(Why::NoUnwindInfo), "{}", bare.table());
    assert_eq!(stacks.coverage().truncated, [(Why::NoUnwindInfo, 1)]);
}

/// Interpreters, with their symbols and stripped: each closes 9, which it has from us.
#[test]
fn interpreters() {
    if !there("interpreters") {
        return;
    }
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/targets/stack");
    let script = targets.join("finalizer.py").display().to_string();
    let found = pythons::interpreters();
    for minor in (8..=14).filter(|minor| !found.iter().any(|(have, _)| have == minor)) {
        skip("interpreters", &format!("no Python 3.{minor}"));
    }
    for (_, python) in found {
        agree_wholly(&python.display().to_string(), &python, &["-S", "-E", &script], 9, 1);
    }
    let script = targets.join("callback.js").display().to_string();
    let node = Path::new("/usr/bin/node").canonicalize();
    if node.is_err() {
        skip("interpreters", "no node");
    }
    if let Ok(node) = node {
        // gdb knows no way out of V8's code; frame pointers do. What gdb has must be the beginning.
        let stop = Gdb::start(&node, &[script], 9).next(&mut Stacks::new()).unwrap();
        assert_eq!(stop.agreed(), stop.gdb.len(), "{}", stop.table());
        assert_eq!(stop.end, StackEnd::Complete, "{}", stop.table());
        let names: Vec<_> = stop.ours.iter().filter_map(|f| f.name.as_deref()).collect();
        let passed =
            ["Builtins_ArrayForEach", "Builtins_JSEntry", "_start"].map(|n| names.iter().position(|m| *m == n));
        assert!(passed.is_sorted() && passed[0].is_some(), "{}", stop.table());
    }
}

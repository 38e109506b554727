//! Stacks of real programs, compared with the calls that their source makes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

mod stack_support;

use fdwatch::stack::{Cause, Named, SpaceId, StackEnd, Stacks, Why};
use stack_support::{Tracee, build, compile, gos, is_close, names};
use std::path::Path;

const CLOSED: i32 = -77;

/// Compiles `odd.c`, runs it to its `close(-77)`, and returns the functions on the stack and whether it is whole.
fn functions(flags: &[&str], label: &str, how: &str) -> Option<(Vec<String>, StackEnd)> {
    let dir = tempfile::tempdir().unwrap();
    let program = compile("odd", label, flags, dir.path())?;
    Some(functions_of(&program, how))
}

fn functions_of(program: &Path, how: &str) -> (Vec<String>, StackEnd) {
    let mut tracee = Tracee::start(program, &[how]);
    let entry = tracee.run_to(|e| is_close(e, CLOSED)).expect("the program closes -77");
    let mut stacks = Stacks::new();
    let id = stacks.capture(SpaceId(0), &entry.regs, &tracee.space());
    (names(&mut stacks, id), stacks.end(id))
}

/// `wanted` is a sub-sequence of `names`; each of its elements may lie under functions of the C library.
#[track_caller]
fn assert_calls(names: &[String], wanted: &[&str]) {
    let mut rest = names.iter();
    for w in wanted {
        assert!(rest.any(|n| n == w), "no {w} where expected in {names:#?}");
    }
}

/// What of `names` is in the program: everything but the C library's own.
fn ours(names: &[String]) -> Vec<&str> {
    const OURS: [&str; 13] = [
        "target_close",
        "outer_step",
        "compare",
        "handler",
        "by_qsort",
        "by_signal",
        "by_fault",
        "by_alloca",
        "by_realign",
        "thread",
        "by_thread",
        "main",
        "_start",
    ];
    names.iter().map(String::as_str).filter(|n| OURS.contains(n)).collect()
}

const FLAGS: [(&str, &[&str]); 9] = [
    ("O0", &["-O0", "-g"]),
    ("O2", &["-O2", "-fomit-frame-pointer", "-g", "-fno-optimize-sibling-calls"]),
    ("stripped", &["-O2", "-rdynamic", "-s", "-fno-optimize-sibling-calls"]),
    ("debugframe", &["-O1", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-g"]),
    ("gz", &["-O1", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-g", "-gz=zlib"]),
    ("zstd", &["-O1", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-g", "-gz=zstd"]),
    // In `.zdebug_frame`, as before 2015.
    ("gz-gnu", &["-O1", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-g", "-gz=zlib-gnu"]),
    ("nopie", &["-O1", "-no-pie", "-g"]),
    ("static", &["-O1", "-static", "-g"]),
];

/// Runs `how` under every kind of build and compares the program's own functions.
fn under_all_builds(how: &str, wanted: &[&str]) {
    for (label, flags) in FLAGS {
        let Some((names, end)) = functions(flags, label, how) else { continue };
        assert_eq!(ours(&names), wanted, "{label}: {names:#?}");
        assert_eq!(end, StackEnd::Complete, "{label}: {names:#?}");
    }
}

#[test]
fn plain_calls() {
    under_all_builds("plain", &["target_close", "outer_step", "main", "_start"]);
}

#[test]
fn a_callback_through_the_c_library() {
    under_all_builds("qsort", &["target_close", "compare", "by_qsort", "main", "_start"]);
}

#[test]
fn a_signal_handler() {
    under_all_builds("signal", &["target_close", "outer_step", "handler", "by_signal", "main", "_start"]);
}

#[test]
fn a_signal_handler_on_a_stack_of_its_own() {
    under_all_builds("sigaltstack", &["target_close", "outer_step", "handler", "by_signal", "main", "_start"]);
}

#[test]
fn a_handler_of_a_fault_in_the_middle_of_a_function() {
    under_all_builds("fault", &["target_close", "outer_step", "handler", "by_fault", "main", "_start"]);
}

/// A handler that is interrupted by the same signal, and so on: followed for long, and then the end says why.
#[test]
fn signal_handlers_that_interrupt_one_another() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("odd", "nested", &["-O1", "-g"], dir.path()) else { return };
    let (names, end) = functions_of(&program, "nested20");
    assert_eq!(end, StackEnd::Complete, "{names:#?}");
    assert_eq!(names.iter().filter(|n| *n == "nested").count(), 20, "{names:#?}");
    assert_calls(&names, &["target_close", "nested", "main", "_start"]);
    let (names, end) = functions_of(&program, "nested40");
    assert_eq!(end, StackEnd::Truncated(Why::TooManySwitches), "{names:#?}");
    assert_eq!(names.iter().filter(|n| *n == "nested").count(), 33, "{names:#?}");
}

#[test]
fn alloca_and_realigned_stacks() {
    under_all_builds("alloca", &["target_close", "outer_step", "by_alloca", "main", "_start"]);
    under_all_builds("realign", &["target_close", "outer_step", "by_realign", "main", "_start"]);
}

#[test]
fn a_thread_ends_where_the_thread_began() {
    under_all_builds("thread", &["target_close", "outer_step", "thread"]);
}

#[test]
fn frame_pointers_serve_where_there_is_nothing_else() {
    let flags = ["-O0", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"];
    let Some((names, end)) = functions(&flags, "fp", "plain") else { return };
    assert_calls(&names, &["target_close", "outer_step", "main", "_start"]);
    assert_eq!(end, StackEnd::Complete);
}

#[test]
fn thirty_two_bit_programs() {
    let dir = tempfile::tempdir().unwrap();
    for (label, flags) in [("O0", "-O0"), ("O2", "-O2")] {
        let flags = [flags, "-m32", "-static", "-nostdlib", "-fno-pie", "-no-pie", "-fno-stack-protector", "-g"];
        let Some(program) = compile("small", label, &flags, dir.path()) else { return };
        let (names, _) = functions_of(&program, "");
        assert_calls(&names, &["target_close", "outer_step", "deep", "deep", "deep", "_start"]);
    }
}

#[test]
fn lines_and_inlined_calls() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("odd", "lines", &["-O1", "-g", "-gz=zlib"], dir.path()) else { return };
    let mut tracee = Tracee::start(&program, &["plain"]);
    let entry = tracee.run_to(|e| is_close(e, CLOSED)).unwrap();
    // What happens to the file after it was mapped must not matter.
    std::fs::remove_file(&program).unwrap();
    let mut stacks = Stacks::new();
    let id = stacks.capture(SpaceId(0), &entry.regs, &tracee.space());
    drop(tracee);
    let source = include_str!("targets/stack/odd.c");
    let line = 1 + source.lines().position(|l| l.contains("void target_close")).unwrap() as u32;
    let named = stacks.explain(id);
    let target = named.iter().find(|n| n.function.as_deref() == Some("target_close")).unwrap();
    assert_eq!(target.line, Some(line), "{target}");
    assert!(target.file.as_deref().is_some_and(|f| f.ends_with("odd.c")), "{target}");
    assert!(!target.inlined);
}

#[test]
fn streams_are_told_from_plain_closes() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("odd", "cause", &["-O1"], dir.path()) else { return };
    let mut stacks = Stacks::new();
    for (how, cause) in [("fclose", Cause::Stream), ("plain", Cause::Explicit)] {
        let mut tracee = Tracee::start(&program, &[how]);
        let space = SpaceId(how.len() as u32);
        let mut seen = Vec::new();
        while let Some(entry) = tracee.run_to(|e| e.nr == 3) {
            let id = stacks.capture(space, &entry.regs, &tracee.space());
            seen.push(stacks.cause(id).cause);
        }
        assert_eq!(seen.last(), Some(&cause), "{seen:?}");
    }
}

#[test]
fn equal_stacks_of_two_processes_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("odd", "share", &["-O1", "-pie", "-fPIE"], dir.path()) else { return };
    let mut stacks = Stacks::new();
    let ids: Vec<_> = (0..2)
        .map(|n| {
            let mut tracee = Tracee::start(&program, &["qsort"]);
            let entry = tracee.run_to(|e| is_close(e, CLOSED)).unwrap();
            stacks.capture(SpaceId(n), &entry.regs, &tracee.space())
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(stacks.coverage().stacks, 1);
}

/// A stack: where the frames are, whether it is whole, and the functions at each frame.
struct Seen {
    at: Vec<u64>,
    end: StackEnd,
    named: Vec<std::sync::Arc<[Named]>>,
}

/// All stacks of a program's `close(-77)`.
fn all_stacks(program: &Path) -> Vec<Seen> {
    let (mut tracee, mut stacks, mut out) = (Tracee::start(program, &[]), Stacks::new(), Vec::new());
    while let Some(entry) = tracee.run_to(|e| is_close(e, CLOSED)) {
        let id = stacks.capture(SpaceId(0), &entry.regs, &tracee.space());
        let frames = stacks.frames(id).to_vec();
        let (at, end) = (frames.iter().map(|f| f.offset).collect(), stacks.end(id));
        out.push(Seen { at, end, named: frames.into_iter().map(|f| stacks.explain_frame(f)).collect() });
    }
    out
}

#[test]
fn go_without_its_tables_has_the_same_stacks() {
    for go in gos() {
        without_tables(&go);
        // There Go keeps no frame pointers.
        without_tables(&format!("env GOARCH=386 {go}"));
    }
}

fn without_tables(go: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for (label, flags) in [("whole", "-ldflags="), ("stripped", "-ldflags=-s -w")] {
        let Some(program) = build(go, "calls.go", label, &[flags], dir.path()) else { return };
        seen.push(all_stacks(&program));
    }
    assert_eq!(seen[0].len(), 5);
    // The table that Go needs itself writes type arguments as `...`, and what assembly is called without a suffix.
    let plain = |n: &Named| {
        let name = n.function.as_deref().expect("a name");
        let name = name.split_once('[').map_or(name, |(head, _)| head);
        name.trim_end_matches(".abi0").to_string()
    };
    let mut lines = 0;
    let [whole, stripped] = &seen[..] else { panic!("two programs") };
    for (whole, stripped) in whole.iter().zip(stripped) {
        // The code is the same, at the same addresses.
        assert_eq!((&whole.at, whole.end), (&stripped.at, stripped.end));
        for (w, s) in whole.named.iter().zip(&stripped.named) {
            let [s] = &s[..] else { panic!("what was inlined is not known: {s:?}") };
            let physical = w.last().unwrap();
            assert_eq!(plain(physical), plain(s));
            // Where something was inlined, the line is not the function's, and none is given.
            match &w[..] {
                // What the compiler wrote has a folder there.
                [one] => {
                    let file = one.file.as_deref().map(|f| f.trim_start_matches("./"));
                    assert_eq!((file, one.line), (s.file.as_deref(), s.line), "{one:?}");
                }
                _ => assert_eq!((&s.file, s.line), (&None, None), "{w:?}"),
            }
            lines += usize::from(s.line.is_some());
        }
    }
    assert!(lines > 10, "{lines} lines");
}

/// Every system call of a Go program, so also those on the stacks of the runtime's threads, and of what it does before `main`.
#[test]
fn go_has_whole_stacks_at_every_call() {
    for go in gos() {
        whole_stacks(&go, true);
        whole_stacks(&format!("env GOARCH=386 {go}"), false);
    }
}

/// `follows`: calls on a thread's stack are followed back to the goroutine that made them.
fn whole_stacks(go: &str, follows: bool) {
    let dir = tempfile::tempdir().unwrap();
    for (label, flags) in [("whole", "-ldflags="), ("stripped", "-ldflags=-s -w")] {
        let Some(program) = build(go, "calls.go", label, &[flags], dir.path()) else { return };
        let (mut tracee, mut stacks) = (Tracee::start(&program, &[]), Stacks::new());
        let (mut first, mut seen, mut switched) = (std::collections::BTreeSet::new(), 0, 0);
        while let Some(entry) = tracee.run_to(|_| true) {
            let id = stacks.capture(SpaceId(0), &entry.regs, &tracee.space());
            let names = names(&mut stacks, id);
            let names: Vec<&str> = names.iter().map(|n| n.trim_end_matches(".abi0")).collect();
            println!("{label} {}: {:?} {names:?}", entry.nr, stacks.end(id));
            // What a new thread does first, on a stack that nothing was put on yet; and the end of a signal handler.
            if matches!(names[..], [.., "runtime.clone"] | ["runtime.sigreturn" | "runtime.sigreturn__sigaction"]) {
                continue;
            }
            // The command that gives way to the program is not Go's.
            if !names.iter().any(|n| n.starts_with("runtime.")) {
                continue;
            }
            seen += 1;
            switched += usize::from(names.contains(&"runtime.systemstack"));
            if !follows && names.last() == Some(&"runtime.systemstack") {
                assert_eq!(stacks.end(id), StackEnd::Truncated(Why::NoUnwindInfo), "{go} {label}: {names:#?}");
                continue;
            }
            assert_eq!(stacks.end(id), StackEnd::Complete, "{go} {label} {}: {names:#?}", entry.nr);
            first.extend(names.last().map(|n| n.to_string()));
            // Each function that is called on the thread's stack lies in the one that has asked for it, as closures do.
            for three in names.windows(3).filter(|three| three[1] == "runtime.systemstack") {
                // One of an inlined function is called `runtime.send.goready.func1` (since Go 1.21).
                let last = |name: &'_ str| name.rsplit('.').next().unwrap().to_owned();
                let asked = last(three[0].split(".func").next().unwrap());
                // What was inlined is not known where all is stripped.
                let tells = label == "whole" && three[0].contains(".func");
                assert!(!tells || last(three[2]) == asked, "{go} {label}: {names:#?}");
            }
        }
        // Whether the scheduler makes a call is a matter of time, and what asks it.
        first.retain(|n| n != "runtime.mcall" && n != "runtime.morestack");
        assert!(first.iter().eq(["runtime.goexit", "runtime.mstart", "runtime.rt0_go"]), "{go} {label}: {first:?}");
        assert!(seen > 100 && switched > 0, "{label}: {seen}, {switched}");
    }
}

/// From C back to the goroutine that called it, and from Go to the C that called that.
#[test]
fn go_that_calls_c_that_calls_go() {
    gos().iter().for_each(|go| with_c(go));
}

fn with_c(go: &str) {
    const C: [&str; 2] = ["inner_close", "by_c"];
    const BACK: [&str; 8] = [
        "main.targetClose",
        "main.deeper",
        "main.deeper",
        "main.deeper",
        "main.deeper",
        "fromC",
        "back",
        "back_framed",
    ];
    let dir = tempfile::tempdir().unwrap();
    let calls = [
        [&C[..], &["main.callsC", "main.main", "runtime.goexit"]].concat(),
        [&BACK[..], &["main.callsBack", "main.main", "runtime.goexit"]].concat(),
        [&C[..], &["main.callsC", "main.main.func1", "runtime.goexit"]].concat(),
        [&BACK[..], &["main.callsBack", "main.main.func2", "runtime.goexit"]].concat(),
        [&BACK[..], &["of_c"]].concat(),
    ];
    for (label, flags) in [
        ("whole", &["-ldflags="][..]),
        ("stripped-pie", &["-ldflags=-s -w", "-buildmode=pie"]),
        ("external", &["-ldflags=-linkmode=external"]),
    ] {
        let Some(program) = build(go, "cgo.go", label, flags, dir.path()) else { return };
        let seen = all_stacks(&program);
        assert_eq!(seen.len(), calls.len(), "{go} {label}");
        for (seen, calls) in seen.iter().zip(&calls) {
            let names: Vec<_> = seen.named.iter().flat_map(|n| n.iter()).filter_map(|n| n.function.clone()).collect();
            // What stands between the two languages may be inlined.
            let between = |n: &str| n.contains("_Cfunc_") || n == "main.fromC";
            let of_go = |n: &str| n.starts_with("main.") && !between(n) || n == "runtime.goexit";
            let of_c = |n: &str| C.contains(&n) || BACK[5..].contains(&n) || n == "of_c";
            let plain = names.iter().map(|n| n.trim_end_matches(".abi0"));
            let shown: Vec<&str> = plain.filter(|n| of_go(n) || !label.contains("stripped") && of_c(n)).collect();
            // Without symbols C's functions have no names.
            let expected: Vec<&str> =
                calls.iter().copied().filter(|n| of_go(n) || !label.contains("stripped")).collect();
            assert_eq!(shown, expected, "{go} {label}: {names:#?}");
            assert_eq!(seen.end, StackEnd::Complete, "{go} {label}: {names:#?}");
        }
    }
}

/// Followed for long, as handlers that interrupt one another are, and then the end says why.
#[test]
fn go_and_c_that_take_many_turns() {
    for go in gos() {
        let dir = tempfile::tempdir().unwrap();
        let Some(program) = build(&go, "turns.go", "whole", &["-ldflags="], dir.path()) else { return };
        for (turns, end, seen) in
            [("15", StackEnd::Complete, 16), ("40", StackEnd::Truncated(Why::TooManySwitches), 17)]
        {
            let mut tracee = Tracee::start(&program, &[turns]);
            let mut stacks = Stacks::new();
            let entry = tracee.run_to(|e| is_close(e, CLOSED)).unwrap();
            let id = stacks.capture(SpaceId(0), &entry.regs, &tracee.space());
            let frames = stacks.frames(id).to_vec();
            let named: Vec<Named> = frames.into_iter().flat_map(|f| stacks.explain_frame(f).to_vec()).collect();
            let names: Vec<_> = named.into_iter().filter_map(|n| n.function).collect();
            assert_eq!(stacks.end(id), end, "{go} {turns}: {names:#?}");
            assert_eq!(names.iter().filter(|n| *n == "turn").count(), seen, "{go} {turns}: {names:#?}");
        }
    }
}

#[test]
fn a_library_that_is_gone_still_has_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("loader", "O1", &["-O1"], dir.path()) else { return };
    let flags = ["-DNAME=gone", "-DROOM=64", "-O2", "-shared", "-fPIC", "-fno-optimize-sibling-calls"];
    let Some(library) = compile("plugin", "gone", &flags, dir.path()) else { return };
    let mut tracee = Tracee::start(&program, &[library.to_str().unwrap()]);
    let mut stacks = Stacks::new();
    let entry = tracee.run_to(|e| is_close(e, CLOSED)).unwrap();
    let id = stacks.capture(SpaceId(0), &entry.regs, &tracee.space());
    // munmap: dlclose has done its work.
    tracee.run_to(|e| e.nr == 11).unwrap();
    assert!(tracee.run_to(|e| e.nr == 231).is_some(), "exit_group");
    std::fs::remove_file(&library).unwrap();
    drop(tracee);
    assert_eq!(stacks.end(id), StackEnd::Complete);
    assert_calls(&names(&mut stacks, id), &["target_close", "step_of_gone", "run", "main", "_start"]);
}

#[test]
fn libraries_that_take_each_others_place() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("loader", "O1", &["-O1"], dir.path()) else { return };
    let mut libraries = Vec::new();
    for (name, room, pad) in [("one", "64", "-DNO"), ("two", "1064", "-DPAD"), ("three", "264", "-DNO")] {
        let (name_is, room) = (format!("-DNAME={name}"), format!("-DROOM={room}"));
        let flags = [&name_is, &room, pad, "-O2", "-shared", "-fPIC", "-fno-optimize-sibling-calls"];
        let Some(library) = compile("plugin", name, &flags, dir.path()) else { return };
        libraries.push(library.to_str().unwrap().to_string());
    }
    let arguments: Vec<&str> = libraries.iter().map(String::as_str).collect();
    let (mut tracee, mut stacks, mut steps) = (Tracee::start(&program, &arguments), Stacks::new(), Vec::new());
    // As fdwatch does it: a stack at every close.
    while let Some(entry) = tracee.run_to(|e| e.nr == 3) {
        let id = stacks.capture(SpaceId(0), &entry.regs, &tracee.space());
        if is_close(&entry, CLOSED) {
            let names = names(&mut stacks, id);
            assert_calls(&names, &["target_close", "run", "main", "_start"]);
            steps.push(names.into_iter().find(|n| n.starts_with("step_of_")).unwrap_or_default());
        }
    }
    assert_eq!(steps, ["step_of_one", "step_of_two", "step_of_three"]);
}

//! Why CPython closes: told from the native stack alone, in every interpreter on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

mod pythons;
mod stack_support;

use fdwatch::stack::{Cause, SpaceId, StackEnd, Stacks, Verdict};
use pythons::interpreters;
use stack_support::{Tracee, is_close, names};
use std::path::Path;

/// Runs `script` and classifies the first close after its `os.close(-77)`.
fn verdict(python: &Path, script: &str) -> (Verdict, StackEnd, Vec<String>) {
    let prelude = "import os, gc, sys\ndef mark():\n  try: os.close(-77)\n  except OSError: pass\n";
    let mut tracee = Tracee::start(python, &["-S", "-E", "-c", &format!("{prelude}{script}")]);
    tracee.run_to(|e| is_close(e, -77)).expect("the script reaches its mark");
    let entry = tracee.run_to(|e| e.nr == 3 && !is_close(e, -77)).expect("the script closes something");
    let mut stacks = Stacks::new();
    let id = stacks.capture(SpaceId(0), &entry.regs, &tracee.space());
    let verdict = stacks.cause(id);
    assert_eq!(stacks.has_python(id), verdict.python);
    // Names are for the message of a failure only, and cost seconds in a debug build.
    let shown = if std::env::var_os("SHOW").is_some() { names(&mut stacks, id) } else { Vec::new() };
    (verdict, stacks.end(id), shown)
}

#[track_caller]
fn check(script: &str, cause: Cause, user_code: bool) {
    check_from(0, script, cause, user_code);
}

/// From this minor version on.
#[track_caller]
fn check_from(minor: u8, script: &str, cause: Cause, user_code: bool) {
    for (_, python) in interpreters().into_iter().filter(|(version, _)| *version >= minor) {
        let (v, end, names) = verdict(&python, script);
        let place = format!("{}: {v:?} {names:#?}", python.display());
        assert_eq!((v.cause, v.user_code), (cause, user_code), "{place}");
        assert_eq!(end, StackEnd::Complete, "{place}");
    }
}

#[test]
fn the_last_reference_goes_away() {
    check("def f(): return open('/dev/null', 'w').fileno()\nf()\nmark()\nf()\n", Cause::Finalizer, false);
}

#[test]
fn the_program_asks_for_it() {
    check("f = open('/dev/null')\nmark()\nf.close()\n", Cause::Explicit, false);
    check("f = open('/dev/null')\nmark()\nos.close(f.fileno())\n", Cause::Explicit, false);
    // In 3.8 and 3.9 `__exit__` of a file ends with a jump to what it calls, and leaves no frame.
    check_from(10, "mark()\nwith open('/dev/null'): pass\n", Cause::With, false);
}

#[test]
fn a_user_written_finalizer() {
    let class = "class C:\n  def __init__(s): s.fd = os.open('/dev/null', 0)\n  def __del__(s): os.close(s.fd)\n";
    check(&format!("{class}c = C()\nmark()\ndel c\n"), Cause::Finalizer, true);
}

#[test]
fn the_collector_finds_a_cycle_during_an_allocation() {
    let script = "gc.disable()\nl = [open('/dev/null')]\nl.append(l)\ndel l\nmark()\ngc.enable()\nx = [[] for _ in range(5000)]\n";
    check(script, Cause::Collector, false);
}

#[test]
fn the_interpreter_shuts_down() {
    check("f = open('/dev/null')\nmark()\n", Cause::Shutdown, false);
}

#[test]
fn an_explicit_collection() {
    check("l = [open('/dev/null')]\nl.append(l)\ndel l\nmark()\ngc.collect()\n", Cause::Collector, false);
}

#[test]
fn the_last_reference_to_a_socket_goes_away() {
    check("import _socket\ns = _socket.socket()\nmark()\ndel s\n", Cause::Finalizer, false);
}

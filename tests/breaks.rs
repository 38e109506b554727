//! What makes `fdwatch run` break, and what does not: by scripts, without a terminal.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, alone, has, pythons, script, skip, target};
use std::path::PathBuf;
use std::process::Command;

fn run(options: &[&str], command: &[&str]) -> Done {
    common::run(Command::new(common::fdwatch()).arg("run").args(options).arg("--").args(command))
}

fn text(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

/// With `kill` at the first break, a program that breaks does not get to its end.
fn goes_through(name: &str, command: &[&str]) {
    let native = alone(command);
    let done = run(&["-ex", "kill"], command);
    assert!(!done.stderr.contains("break 1"), "{name}: {}", done.stderr);
    assert_eq!((done.stdout.as_str(), done.code()), (native.stdout.as_str(), native.code()), "{name}: {}", done.stderr);
}

#[test]
fn innocent_programs_do_not_break() {
    for python in pythons().into_iter().map(text) {
        goes_through("json.load", &[&python, &script("python/innocent_json_load.py")]);
        goes_through("imports", &[&python, "-c", "import asyncio, subprocess, email, http.client, json; print(1)"]);
        for letter in ["a", "b", "c", "d", "e"] {
            goes_through(letter, &[&python, &script("python/repaired.py"), letter]);
        }
    }
    if has("bash") {
        goes_through("bash", &["bash", "-c", "for i in 1 2 3; do echo $i | cat; done; x=$(ls /); cat < /dev/null"]);
    } else {
        skip("innocent programs", "no bash");
    }
    match target("close_loop") {
        Some(path) => goes_through("close loops", &[&text(path)]),
        None => skip("close loops", "no C compiler"),
    }
}

#[test]
fn keep_saves_the_output_of_each_broken_permutation() {
    let pythons = pythons();
    if pythons.is_empty() {
        return skip("keep", "no CPython of version 3.8 or later");
    }
    for python in pythons.into_iter().map(text) {
        for name in ["p1_temporary", "p2_temporary_unbuffered", "p3_temporary_gc_disabled"] {
            let path = script(&format!("python/permutations/{name}.py"));
            let native = alone(&[&python, &path]);
            let done = run(&["-ex", "keep", "-ex", "continue"], &[&python, &path]);
            assert!(native.stdout.contains("0 bytes"), "{name} is broken: {}", native.stdout);
            assert!(done.stdout.contains("3 bytes"), "{name}: {done:#?}");
            assert!(done.stderr.contains("results altered by 1 injection"), "{}", done.stderr);
            assert_eq!(done.errors(), 0, "nothing is wrong any more: {}", done.stderr);
            assert_eq!(done.code(), 0);
        }
    }
}

#[test]
fn keep_makes_each_symptom_go_away() {
    let Some(python) = pythons().into_iter().next().map(text) else { return skip("keep", "no CPython") };
    for (name, mended) in [
        ("symptom_a_bare_call", "the file holds 3 bytes"),
        ("symptom_b_input", "status 0"),
        ("symptom_c_error_pipe", "the file holds 3 bytes"),
        ("symptom_d_other_file", "the file holds 3 bytes"),
        ("symptom_e_posix_spawn", "the file holds 3 bytes"),
    ] {
        let path = script(&format!("python/{name}.py"));
        let done = run(&["-ex", "keep", "-ex", "continue"], &[&python, &path]);
        assert!(done.stdout.contains(mended), "{name}: {done:#?}");
        assert_eq!((done.errors(), done.code()), (0, 0), "{name}: {}", done.stderr);
    }
}

#[test]
fn a_report_in_between_changes_nothing_and_must_be_written() {
    let Some(python) = pythons().into_iter().next().map(text) else { return skip("save", "no CPython") };
    let command = [&python[..], &script("python/symptom_a_bare_call.py")];
    let dir = tempfile::tempdir().expect("a folder");
    let save = format!("save {}/r.json", dir.path().display());
    let done = run(&["--batch", "-ex", "keep", "-ex", &save], &command);
    assert_eq!((done.stdout.as_str(), done.code()), ("the file holds 3 bytes\n", 0), "{}", done.stderr);
    // What is found after it has its line.
    let done = run(&["--batch", "-ex", &save], &command);
    assert!(done.stderr.contains("error[stale-fd-to-child]"), "{}", done.stderr);
    let line = "\n          run_quietly([\"/bin/echo\", \"hi\"], stdout=open(";
    assert!(done.stderr.contains(line), "{}", done.stderr);
    let done = run(&["--batch", "-ex", "save /dev/null/r", "-ex", "continue"], &command);
    assert_eq!((done.stdout.as_str(), done.code()), ("", 125), "{}", done.stderr);
    assert!(done.stderr.contains("\n-ex 1: /dev/null/r: "), "{}", done.stderr);
}

#[test]
fn the_last_line_of_a_script_gets_what_it_waits_for() {
    let shell = ["sh", "-c", "exec 7</dev/null; exec 7<&-; exec 8</dev/null; exec 8<&-; echo end"];
    for (last, shown) in
        [("finish", "  why     the call has returned\n"), ("next", "  why     the next descriptor event\n")]
    {
        let done = run(&["--batch", "--fd", "7", "--fd", "8", "-ex", last], &shell);
        let (_, rest) = done.stderr.split_once(&format!("(fdwatch) {last}\n")).expect("a break");
        assert!(rest.contains(shown) && rest.contains("break 2 ["), "{last}: {rest}");
        assert!(!rest.contains("break 3 ["), "{last}: nothing else is waited for: {rest}");
        assert_eq!((done.stdout.as_str(), done.code()), ("end\n", 0), "{last}: {rest}");
    }
}

#[test]
fn a_break_says_why_and_shows_the_programs_own_line() {
    let Some(python) = pythons().into_iter().next().map(text) else { return skip("why", "no CPython") };
    let path = script("python/symptom_a_bare_call.py");
    let done = run(&["-ex", "bt", "-ex", "continue", "-ex", "explain", "-ex", "continue"], &[&python, &path]);
    for part in
        ["about to close fd 3", "no code called close()", "fileno() of a temporary", "symptom_a_bare_call.py:23"]
    {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    assert!(done.stderr.contains("break 2"), "the broken hand-off breaks by itself: {}", done.stderr);
    assert!(done.stderr.contains("between") && done.stderr.contains("execve"), "{}", done.stderr);
}

#[test]
fn numbers_and_paths_break_when_asked() {
    let shell = "exec 7</dev/null; exec 7<&-; echo end";
    let by_number = run(&["--fd", "7", "-ex", "fd 7", "-ex", "continue"], &["sh", "-c", shell]);
    assert!(by_number.stderr.contains("asked: --fd 7"), "{}", by_number.stderr);
    assert_eq!(by_number.stdout, "end\n");
    let by_path = run(&["--path", "/dev/nul?", "-ex", "continue"], &["sh", "-c", shell]);
    assert!(by_path.stderr.contains("asked: --path"), "{}", by_path.stderr);
    let no = run(&["--path", "/nowhere/*", "--fd", "99", "-ex", "kill"], &["sh", "-c", shell]);
    assert!(!no.stderr.contains("break 1"), "{}", no.stderr);
    // A dup2 over an open number ends it, too; it is shown before it happens, and can be kept from happening.
    let over = "exec 8</dev/null; exec 8</etc/passwd; read x <&8; echo \"[$x]\"";
    let native = alone(&["bash", "-c", over]);
    if native.code() == 0 {
        let kept = run(&["--fd", "8", "-ex", "keep", "-ex", "continue"], &["bash", "-c", over]);
        assert!(kept.stderr.contains("dup2"), "{}", kept.stderr);
        assert_ne!(kept.stdout, native.stdout, "8 is still /dev/null: {}", kept.stderr);
    }
}

#[test]
fn break_implicit_shows_what_the_default_only_remembers() {
    let Some(python) = pythons().into_iter().next().map(text) else { return skip("implicit", "no CPython") };
    let program = "open('/dev/null').read(); print('end')";
    let all = run(&["--break", "implicit", "-ex", "continue"], &[&python, "-S", "-c", program]);
    assert!(all.stderr.contains("break 1") && all.stderr.contains("/dev/null"), "{}", all.stderr);
    assert_eq!(all.stdout, "end\n");
    let lost = script("python/symptom_a_bare_call.py");
    let none = run(&["--break", "none", "-ex", "kill"], &[&python, &lost]);
    assert!(!none.stderr.contains("about to close"), "{}", none.stderr);
    assert!(none.stderr.contains("stale-fd-to-child"), "the broken hand-off breaks all the same: {}", none.stderr);
}

/// At a close and at a dup2 over an open number; the kernel says whether anybody traces still.
#[test]
fn without_a_filter_a_target_is_left_for_good() {
    if !has("bash") || !has("grep") {
        return skip("leaving", "no bash or no grep");
    }
    let who = "grep TracerPid /proc/self/status";
    for script in [
        format!("exec 8</dev/null; exec 8<&-; {who}; exit 5"),
        format!("exec 8</dev/null; exec 8</etc/passwd; {who}; exit 5"),
    ] {
        let options = ["--no-seccomp", "--fd", "8", "-ex", "detach"];
        let done = run(&options, &["bash", "-c", &script]);
        assert!(done.stderr.contains("asked: --fd 8"), "{}", done.stderr);
        assert_eq!((done.stdout.as_str(), done.code()), ("TracerPid:\t0\n", 5), "{script}: {}", done.stderr);
        let watched = run(&["--no-seccomp", "--fd", "8", "-ex", "continue"], &["bash", "-c", &script]);
        assert!(!watched.stdout.contains("\t0\n"), "it is traced while it is watched: {}", watched.stdout);
    }
}

#[test]
fn a_target_that_is_left_goes_on_to_its_own_end() {
    // It forks, pipes and closes after it was left: with a filter and nobody to answer, its calls would fail.
    let shell = "exec 7</dev/null; exec 7<&-; ls / | wc -l >/dev/null; (exit 3); echo \"$? on\"; exit 5";
    for options in [&["--fd", "7", "-ex", "detach"][..], &["--no-seccomp", "--fd", "7", "-ex", "detach"]] {
        let done = run(options, &["sh", "-c", shell]);
        assert!(done.stderr.contains("break 1") && !done.stderr.contains("break 2"), "{options:?}: {}", done.stderr);
        assert_eq!((done.stdout.as_str(), done.code()), ("3 on\n", 5), "{options:?}: {}", done.stderr);
    }
}

fn built(dir: &std::path::Path, body: &str) -> Option<String> {
    if !has("cc") {
        skip("breaks at the end", "no C compiler");
        return None;
    }
    let (source, program) = (dir.join("p.c"), text(dir.join("p")));
    let code = format!("#include <fcntl.h>\n#include <pthread.h>\n#include <unistd.h>\n{body}");
    std::fs::write(&source, code).expect("writes");
    let done = common::run(Command::new("cc").args(["-g", "-O0", "-pthread", "-o", &program]).arg(&source));
    assert_eq!(done.code(), 0, "{}", done.stderr);
    Some(program)
}

/// What may be the first step of a loop is known for a mistake when nothing follows: while there is still something to see.
#[test]
fn the_last_thing_that_a_task_does_wrong_breaks_before_it_ends() {
    let dir = tempfile::tempdir().expect("a folder");
    let twice = "int fd = open(\"/dev/null\", O_RDONLY); close(fd); close(fd);";
    let thread = "pthread_t t; pthread_create(&t, 0, work, 0); pthread_join(t, 0); return 0;";
    for (body, options) in [
        (format!("int main(void) {{ {twice} return 0; }}"), &[][..]),
        (format!("int main(void) {{ {twice} return 0; }}"), &["--no-seccomp"]),
        (format!("void *work(void *p) {{ {twice} return p; }} int main(void) {{ {thread} }}"), &[]),
    ] {
        let Some(program) = built(dir.path(), &body) else { return };
        let late = ["-ex", "keep"];
        let done = run(&[options, &["--batch"], &late].concat(), &[&program]);
        let made = "the close has been made already: catch it before, with catch close";
        let one_line = done.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(one_line.contains(made), "{}", done.stderr);
        let script = ["--batch", "-ex", "info fds", "-ex", "hist", "-ex", "continue"];
        let done = run(&[options, &script].concat(), &[&program]);
        let (break_1, rest) = done.stderr.split_once("(fdwatch) info fds").unwrap_or_else(|| panic!("{done:#?}"));
        assert!(break_1.contains("break 1 [") && break_1.contains("error[double-close]"), "{break_1}");
        let (fds, rest) = rest.split_once("(fdwatch) hist").expect("the script goes on");
        assert!(fds.lines().any(|l| l.starts_with("1 ")), "it is still there: {fds}");
        assert!(rest.contains("/dev/null") && !rest.contains("break 2"), "{rest}");
        assert!(rest.contains("1 error, "), "{rest}");
    }
    // With an end by a signal nothing can be shown before.
    let raises = format!("#include <signal.h>\nint main(void) {{ {twice} raise(SIGKILL); }}");
    let Some(program) = built(dir.path(), &raises) else { return };
    let done = run(&["--batch", "-ex", "hist", "-ex", "continue"], &[&program]);
    assert!(done.stderr.contains("break 1 [") && done.stderr.contains("(fdwatch) hist\n"), "{}", done.stderr);
    let loops = "int main(void) { int fd = open(\"/dev/null\", O_RDONLY); close(fd); \
        for (int n = fd; n < fd + 9; n++) close(n); return 0; }";
    let Some(program) = built(dir.path(), loops) else { return };
    let done = run(&["-ex", "kill"], &[&program]);
    assert!(!done.stderr.contains("break 1"), "a loop over all numbers: {}", done.stderr);
}

#[test]
fn what_is_found_at_an_end_breaks_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let leaks = "int main(void) { open(\"/dev/null\", O_RDONLY | O_CLOEXEC); return 0; }";
    let Some(program) = built(dir.path(), leaks) else { return };
    let plain = &["--no-seccomp"][..];
    for (last, options) in [("continue", &[][..]), ("continue", plain), ("detach", &[]), ("detach", plain)] {
        let script = ["--leaks-at-exit", "--batch", "-ex", "tcatch finding", "-ex", "hist", "-ex", last];
        let line = format!("'{program}'; echo after; : </dev/null || echo lost");
        let done = run(&[options, &script].concat(), &["sh", "-c", &line]);
        let (before, rest) = done.stderr.split_once("(fdwatch) hist").unwrap_or_else(|| panic!("{done:#?}"));
        assert!(before.contains("break 1 [") && before.contains("warning[leak-at-exit]"), "{before}");
        let story = rest.split_once("(fdwatch) ").expect("the script goes on").0;
        assert!(story.contains("openat(") && story.contains("/dev/null"), "its story, though it has ended: {story}");
        assert_eq!((done.code(), done.stdout.as_str()), (0, "after\n"), "{last}: {rest}");
    }
}

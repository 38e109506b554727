//! `fdwatch audit` on real programs: who is blamed, who is left alone, and with which status it ends.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, alone, audit, has, pythons, script, skip, target};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

const SYMPTOMS: [(&str, &str, &str); 5] = [
    ("symptom_a_bare_call.py", "stale-fd-to-child", "as stdout, but"),
    ("symptom_b_input.py", "recycled-fd-to-child", "pipe (read end)"),
    ("symptom_c_error_pipe.py", "recycled-fd-to-child", "pipe (write end)"),
    ("symptom_d_other_file.py", "recycled-fd-to-child", "now a file"),
    ("symptom_e_posix_spawn.py", "stale-fd-to-child", "as stdout, but"),
];

/// The line of the program that opens the file and loses it.
fn guilty_line(path: &str) -> usize {
    let text = std::fs::read_to_string(path).expect("an example");
    text.lines().position(|l| l.contains("open(path, \"w\").fileno()")).expect("a line that loses its file") + 1
}

fn names_the_finalizer(done: &Done, path: &str, finding: &str, what: &str) {
    assert_eq!(done.errors(), 1, "exactly one error: {}", done.stderr);
    let title = done.stderr.lines().find(|l| l.starts_with("error[")).expect("an error");
    assert!(title.contains(finding) && title.contains(what), "{title}");
    let line = |label: &str| {
        let found = done.stderr.lines().find(|l| l.trim_start().starts_with(label));
        found.unwrap_or_else(|| panic!("no line `{label}`: {}", done.stderr)).to_string()
    };
    let file = path.rsplit('/').next().expect("a name");
    let own = format!("{file}:{}", guilty_line(path));
    assert!(line("opened ").contains(&own), "{}", done.stderr);
    let closed = line("closed ");
    assert!(closed.contains(&own), "the program's own line {own}: {closed}");
    assert!(closed.contains("by reference count, no close() call"), "{closed}");
    assert_eq!(done.code(), 99, "{}", done.stderr);
}

#[test]
fn each_symptom_is_one_error_that_blames_the_finalizer() {
    let pythons = pythons();
    if pythons.is_empty() {
        return skip("symptoms", "no CPython of version 3.8 or later");
    }
    for python in &pythons {
        for (name, finding, what) in SYMPTOMS {
            let path = script(&format!("python/{name}"));
            let native = alone(&[python.as_os_str(), path.as_ref()]);
            let done = audit(&[], &[python.as_os_str(), path.as_ref()]);
            println!("{} {name}", python.display());
            names_the_finalizer(&done, &path, finding, what);
            assert_eq!(done.stdout, native.stdout, "fdwatch changed what the program says");
        }
    }
}

#[test]
fn of_the_seven_permutations_three_lose_and_four_work() {
    let Some(python) = pythons().into_iter().next() else {
        return skip("permutations", "no CPython of version 3.8 or later");
    };
    let dir = script("python/permutations");
    let mut names: Vec<_> = std::fs::read_dir(dir).expect("the folder").map(|e| e.expect("an entry").path()).collect();
    names.retain(|p| p.extension().is_some_and(|e| e == "py"));
    names.sort();
    assert_eq!(names.len(), 7);
    for (i, path) in names.iter().enumerate() {
        let done = audit(&[], &[python.as_os_str(), path.as_os_str()]);
        let expected = if i < 3 { (1, 99) } else { (0, 0) };
        assert_eq!((done.errors(), done.code()), expected, "{}: {}", path.display(), done.stderr);
    }
}

#[test]
fn repaired_and_innocent_programs_are_silent() {
    let pythons = pythons();
    if pythons.is_empty() {
        return skip("innocents", "no CPython of version 3.8 or later");
    }
    for python in &pythons {
        for name in ["innocent_json_load.py", "innocent_reopen.py"] {
            let done = audit(&[], &[python.as_os_str(), script(&format!("python/{name}")).as_ref()]);
            assert_eq!((done.errors(), done.code()), (0, 0), "{} {name}: {}", python.display(), done.stderr);
        }
        for letter in ["a", "b", "c", "d", "e"] {
            let done = audit(&[], &[python.as_os_str(), script("python/repaired.py").as_ref(), letter.as_ref()]);
            assert_eq!((done.errors(), done.code()), (0, 0), "{letter}: {}", done.stderr);
        }
    }
}

#[test]
fn python3_of_the_path_may_be_a_shim() {
    if !has("python3") {
        return skip("shim", "no python3");
    }
    let path = script("python/symptom_a_bare_call.py");
    let done = audit(&[], &["python3", &path]);
    names_the_finalizer(&done, &path, "stale-fd-to-child", "as stdout, but");
}

/// Runs a command with and without fdwatch: same output, same status, no error.
fn unnoticed(name: &str, prepare: impl Fn(&Path), command: &[&str]) {
    let go = |watched: bool| {
        let dir = tempfile::tempdir().expect("a folder");
        prepare(dir.path());
        let mut c = Command::new(if watched { common::fdwatch().into_os_string() } else { command[0].into() });
        if watched {
            c.args(["audit", "--", command[0]]);
        }
        c.args(&command[1..]).current_dir(dir.path()).env("GIT_CONFIG_GLOBAL", "/dev/null");
        common::no_settings(&mut c);
        common::run(&mut c)
    };
    let (native, watched) = (go(false), go(true));
    assert_eq!(watched.errors(), 0, "{name}: {}", watched.stderr);
    assert_eq!(watched.stdout, native.stdout, "{name}: another output");
    assert_eq!(watched.code(), native.code(), "{name}: another status; {}", watched.stderr);
}

#[test]
fn ordinary_programs_are_silent_and_unchanged() {
    let nothing = |_: &Path| {};
    let pipelines = "ls / | sort | head -3 | tr a-z A-Z; x=$(echo hi | cat; echo there)\n\
                     printf '%s\\n' \"$x\" | while read l; do echo \"[$l]\"; done\n\
                     cat <<END\nhere $x\nEND\n\
                     exec 5>out5; echo five >&5; exec 5>&-; cat out5\n\
                     { echo a; echo b >&2; } 2>&1 | wc -l\n(exit 3) | (exit 4)\n";
    for shell in ["bash", "dash", "sh"] {
        if has(shell) {
            unnoticed(shell, nothing, &[shell, "-c", pipelines]);
        } else {
            skip("ordinary programs", &format!("no {shell}"));
        }
    }
    if has("bash") {
        unnoticed("process substitution", nothing, &["bash", "-c", "diff <(echo a; echo b) <(echo a)"]);
    }
    if has("git") {
        let script = "git init -q . && echo x > a && git add a && \
                      git -c user.name=a -c user.email=a@b commit -qm one && git log --format=%s";
        unnoticed("git", nothing, &["sh", "-c", script]);
    } else {
        skip("ordinary programs", "no git");
    }
    if has("make") && has("cc") {
        let files = |dir: &Path| {
            for i in 0..4 {
                let text = format!("#include <stdio.h>\nint f{i}(void) {{ return puts(\"{i}\"); }}\n");
                std::fs::write(dir.join(format!("u{i}.c")), text).expect("a file");
            }
            std::fs::write(dir.join("Makefile"), "all: u0.o u1.o u2.o u3.o\n\t@echo done\n").expect("a file");
        };
        unnoticed("make", files, &["make", "-s", "-j2"]);
    } else {
        skip("ordinary programs", "no make or no C compiler");
    }
    if has("node") {
        let text = "console.log(require('child_process').execSync('echo hi').toString())";
        unnoticed("node", nothing, &["node", "-e", text]);
    } else {
        skip("ordinary programs", "no node");
    }
    for python in pythons() {
        let text = "import asyncio, subprocess, json, tempfile\n\
                    async def main():\n    p = await asyncio.create_subprocess_exec('cat', stdin=-1, stdout=-1)\n    \
                    print(await p.communicate(b'hi'))\nasyncio.run(main())\n\
                    print(subprocess.run(['echo', 'x'], capture_output=True, input=b'').stdout)\n";
        unnoticed("asyncio", nothing, &[&python.to_string_lossy(), "-c", text]);
    }
}

#[test]
fn the_targets_own_status_is_ours() {
    assert_eq!(audit(&[], &["sh", "-c", "exit 7"]).code(), 7);
    for signal in [9, 11, 15, 34] {
        let done = audit(&[], &["sh", "-c", &format!("ulimit -c 0; kill -{signal} $$")]);
        assert_eq!(done.status.signal(), Some(signal), "death by a signal is repeated: {done:?}");
    }
}

#[test]
fn findings_set_the_status_as_asked() {
    let Some(stale) = target("stale_fork_dup2") else { return skip("status", "no C compiler") };
    let status = |options: &[&str]| audit(options, &[&stale]).code();
    let native = alone(&[&stale]).code();
    assert_eq!(status(&[]), 99);
    assert_eq!(status(&["--error-exitcode", "42"]), 42);
    assert_eq!(status(&["--fail-on", "never"]), native);
}

/// The C programs print what must be said of them, as `expect FINDING fd=N`; a life is blamed once, however often it is
/// used afterwards.
#[test]
fn c_programs_are_told_what_they_expect() {
    for name in ["double_close", "use_after_close", "stale_fork_dup2", "posix_spawn_dup2", "close_loop"] {
        let Some(path) = target(name) else { return skip("C programs", "no C compiler") };
        for options in [&[][..], &["--no-seccomp"]] {
            let done = audit(options, &[&path]);
            let mut expected: Vec<&str> =
                done.stdout.lines().filter_map(|l| l.strip_prefix("expect ")?.split_whitespace().next()).collect();
            expected.retain(|e| *e != "silence");
            if name == "use_after_close" {
                expected.dedup();
            }
            let said: Vec<&str> =
                done.stderr.lines().filter_map(|l| l.strip_prefix("error[")?.split(']').next()).collect();
            assert_eq!(said, expected, "{name} {options:?}\n{}\n{}", done.stdout, done.stderr);
        }
    }
}

//! Going back to a culprit by going again: `rewind` at the prompt, and `--arm` with the report of an earlier run.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

mod common;
mod pty;

use common::{Done, audit, fdwatch, pythons, run, script, skip, target};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One bug in five appearances.
const SYMPTOMS: [&str; 5] = [
    "symptom_a_bare_call.py",
    "symptom_b_input.py",
    "symptom_c_error_pipe.py",
    "symptom_d_other_file.py",
    "symptom_e_posix_spawn.py",
];

fn python(test: &str) -> Option<PathBuf> {
    let found = pythons().into_iter().next();
    if found.is_none() {
        skip(test, "no CPython of version 3.8 or later");
    }
    found
}

fn go<S: AsRef<OsStr>>(options: &[&str], command: &[S]) -> Done {
    run(Command::new(fdwatch()).args(["run", "--break", "none"]).args(options).arg("--").args(command))
}

/// What was shown since `rewind`, up to the next command.
fn second(done: &Done) -> &str {
    done.stderr.split_once("[starting again]").unwrap_or_else(|| panic!("it did not start again: {}", done.stderr)).1
}

/// The line that loses its file.
fn guilty_line(path: &str) -> String {
    let text = std::fs::read_to_string(path).expect("an example");
    let line = text.lines().position(|l| l.contains("open(path, \"w\").fileno()")).expect("a line that loses its file");
    format!("{}:{}", path.rsplit('/').next().expect("a name"), line + 1)
}

fn stops_at_the_finalizer(banner: &str, path: &str) {
    let lines: Vec<&str> = banner.lines().filter(|l| !l.is_empty()).collect();
    assert!(lines[0].contains("about to close fd ") && lines[0].ends_with("/output"), "{banner}");
    assert!(lines[1].contains("why     rehearsed: this close led to "), "{banner}");
    assert!(banner.contains("by reference count, no close() call"), "{banner}");
    assert!(banner.contains(&guilty_line(path)), "{banner}");
}

#[test]
fn rewind_stops_at_the_finalizer_that_each_symptom_is_blamed_on() {
    let Some(python) = python("rewind") else { return };
    for name in SYMPTOMS {
        let path = script(&format!("python/{name}"));
        let script = ["-ex", "rewind --yes", "-ex", "keep", "-ex", "continue"];
        let done = go(&script, &[python.as_os_str(), path.as_ref()]);
        let again = second(&done);
        let (banner, after) = again.split_once("(fdwatch) keep").unwrap_or_else(|| panic!("{name}: {}", done.stderr));
        stops_at_the_finalizer(banner, &path);
        assert!(after.contains("0 errors") && after.contains("altered by 1 injection"), "{name}: {after}");
        assert_eq!(after.matches("[starting again]").count(), 0);
    }
}

/// As a user meets it, who sets nothing: at the broken hand-off, whatever was shown and passed over before it.
#[test]
fn at_a_terminal_rewind_goes_back_from_each_broken_hand_off_to_the_finalizer() {
    let Some(python) = python("rewind at a terminal") else { return };
    for name in SYMPTOMS {
        let path = script(&format!("python/{name}"));
        let mut command = Command::new(fdwatch());
        command.args(["run", "--"]).arg(&python).arg(&path);
        let mut p = pty::Pty::start_on(500, &mut command);
        let mut breaks = 0;
        loop {
            breaks += 1;
            p.expect(&format!("break {breaks} ["));
            let shown = p.expect("(fdwatch) ");
            if shown.contains("error[") {
                break;
            }
            assert!(shown.contains("why     implicit: "), "{name}: {shown}");
            p.line("continue");
        }
        p.line("rewind");
        let asked = p.expect("(y or n) ");
        assert!(asked.contains("all that it does happens again"), "{name}: what it does is said before: {asked}");
        p.line("y");
        p.expect("[starting again]");
        let before = p.expect("break 1 [");
        assert!(!before.contains("another way") && !before.contains("break "), "{name}: {before}");
        let banner = p.expect("(fdwatch) ");
        stops_at_the_finalizer(&banner, &path);
        assert!(p.ask("info fds").contains("/output"), "{name}: it is open as yet");
        p.ask("keep");
        p.line("continue");
        let (code, rest) = p.end();
        assert!(code == 0 && rest.contains("0 errors"), "{name}: {code} {rest}");
        assert!(rest.contains("results altered by 1 injection"), "{name}: {rest}");
    }
}

/// A script need not wait for it with another line, and nothing before it is shown.
#[test]
fn the_last_line_of_a_script_may_be_rewind() {
    let Some(python) = python("rewind, last") else { return };
    let path = script("python/symptom_d_other_file.py");
    let command = [python.as_os_str(), path.as_ref()];
    let dir = tempfile::tempdir().expect("a folder");
    let report = dir.path().join("r").display().to_string();
    let done = go(&["--batch", "-ex", "rewind --yes"], &command);
    stops_at_the_finalizer(second(&done).split_once("\n\n").map_or(second(&done), |b| b.0), &path);
    assert!(!done.stderr.contains("another way"), "{}", done.stderr);
    audit(&["--format", "json", "-o", &report], &command);
    // An earlier break uses the script up.
    let earlier = "tcatch open if path =~ \"*/output\"";
    let done = go(&["--batch", "--arm", &format!("{report}#1"), "-ex", earlier, "-ex", "bt"], &command);
    let (_, rest) = done.stderr.split_once("(fdwatch) bt").unwrap_or_else(|| panic!("{}", done.stderr));
    let (_, banner) = rest.split_once("\nbreak 2 ").unwrap_or_else(|| panic!("{}", done.stderr));
    stops_at_the_finalizer(banner, &path);
    assert!(!rest.contains("another way"), "{rest}");
}

#[test]
fn an_armed_report_and_an_armed_recording_stop_at_their_culprit() {
    let Some(python) = python("--arm") else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let (report, log) = (dir.path().join("r").display().to_string(), dir.path().join("log").display().to_string());
    let path = script("python/symptom_d_other_file.py");
    let command = [python.as_os_str(), path.as_ref()];
    let done = audit(&["--format", "json", "-o", &report, "--record", &log], &command);
    assert_eq!(done.code(), 99, "{}", done.stderr);
    for file in [&report, &log] {
        let done = go(&["--arm", &format!("{file}#1"), "-ex", "keep", "-ex", "continue"], &command);
        let (banner, after) = done.stderr.split_once("(fdwatch) keep").unwrap_or_else(|| panic!("{}", done.stderr));
        stops_at_the_finalizer(banner, &path);
        assert!(after.contains("0 errors"), "{after}");
    }
    // The repaired twin opens in another place: it says so, and stops nowhere.
    let twin = script("python/repaired.py");
    let other = [python.as_os_str(), twin.as_ref(), "d".as_ref()];
    let done = go(&["--arm", &format!("{report}#1"), "-ex", "keep"], &other);
    assert!(done.stderr.contains("goes another way") && done.stderr.contains("was not opened"), "{}", done.stderr);
    assert!(!done.stderr.contains("break 1"), "{}", done.stderr);
    for (which, expected) in [("#2", "there is no finding 2: it has 1"), ("", "say which finding"), ("@3", "say which")]
    {
        let done = go(&["--arm", &format!("{report}{which}"), "-ex", "bt"], &["touch", "/nonexistent/started"]);
        assert!(done.code() == 125 && done.stderr.contains(expected), "{}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }
}

/// A C program, whose stack and ordinal are all there is: the third of five lives from one place is closed too early.
#[test]
fn the_ordinal_tells_lives_from_one_place_apart() {
    if !common::has("cc") {
        return skip("the ordinal", "no cc");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let code = "#include <fcntl.h>\n#include <stdio.h>\n#include <sys/wait.h>\n#include <unistd.h>\n\
        static int make(int n) { char path[64]; sprintf(path, \"f%d\", n); return open(path, O_CREAT | O_WRONLY, 0600); }\n\
        static void drop(int fd) { close(fd); }\n\
        int main(void) { int fds[5]; for (int i = 0; i < 5; i++) fds[i] = make(i);\n\
        for (int i = 1; i < 4; i += 2) drop(fds[i]); drop(fds[2]);\n\
        if (fork() == 0) { if (dup2(fds[2], 1) < 0) _exit(3); execlp(\"true\", \"true\", NULL); }\n\
        int status; wait(&status); for (int i = 0; i < 5; i += 4) drop(fds[i]); return 0; }\n";
    std::fs::write(dir.path().join("p.c"), code).expect("writes");
    let built = run(Command::new("cc").current_dir(dir.path()).args(["-O0", "-o", "p", "p.c"]));
    assert_eq!(built.code(), 0, "{}", built.stderr);
    let done = run(Command::new(fdwatch()).current_dir(dir.path()).args([
        "run",
        "-ex",
        "rewind --yes",
        "-ex",
        "continue",
        "./p",
    ]));
    let banner = second(&done);
    assert!(
        banner.lines().any(|l| l.starts_with("break 1 ") && l.contains("about to close") && l.ends_with("/f2")),
        "{banner}"
    );
}

#[test]
fn breaks_of_the_prompt_and_what_is_armed_are_there_again() {
    let Some(python) = python("breaks after rewind") else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let report = dir.path().join("r").display().to_string();
    let (path, other) = (script("python/symptom_a_bare_call.py"), script("python/symptom_b_input.py"));
    let found = audit(&["--format", "json", "-o", &report], &[python.as_os_str(), other.as_ref()]);
    assert_eq!(found.code(), 99, "{}", found.stderr);
    let typed = [
        "info fds",
        "catch close if fd == 77",
        "ignore 1 5",
        "catch fork",
        "disable 2",
        "rewind --yes",
        "info breaks",
        "delete 1",
        "keep",
        "continue",
    ];
    let arm = format!("{report}#1");
    let options: Vec<&str> = ["--arm", &arm].into_iter().chain(typed.iter().flat_map(|t| ["-ex", t])).collect();
    let done = go(&options, &[python.as_os_str(), path.as_ref()]);
    let again = second(&done);
    stops_at_the_finalizer(again.split_once("(fdwatch) info breaks").expect("the script goes on").0, &path);
    let listed = again.split_once("(fdwatch) delete").expect("the script goes on").0;
    assert!(listed.contains("close if fd == 77") && listed.contains("fork"), "{again}");
    assert!(listed.contains("the next 5 are passed over") && listed.contains("disabled"), "{again}");
    assert!(again.contains("goes another way") && again.contains("symptom_b_input"), "{again}");
}

/// The parent has closed its own copy when its child's, which is the culprit's, is closed.
#[test]
fn the_end_of_a_copy_is_waited_for_when_the_first_has_ended() {
    let Some(python) = python("rewind to a copy") else { return };
    let program = "import os, sys\n\
        if len(sys.argv) > 1:\n    fd = int(sys.argv[1])\n    sys.stdin.read()\n    os.close(fd)\n    \
        try:\n        os.dup(fd)\n    except OSError:\n        pass\n    sys.exit(0)\n\
        import subprocess\nfd = os.open('/etc/passwd', os.O_RDONLY)\n\
        p = subprocess.Popen([sys.executable, '-S', sys.argv[0], str(fd)], pass_fds=[fd], stdin=subprocess.PIPE)\n\
        os.close(fd)\np.stdin.close()\np.wait()\n";
    let dir = tempfile::tempdir().expect("a folder");
    let (path, report) = (dir.path().join("p.py"), dir.path().join("r").display().to_string());
    std::fs::write(&path, program).expect("writes");
    let command = [python.as_os_str(), "-S".as_ref(), path.as_ref()];
    let found = audit(&["--format", "json", "-o", &report], &command);
    assert_eq!(found.code(), 99, "{}", found.stderr);
    let done = go(&["--arm", &format!("{report}#1"), "-ex", "info fds", "-ex", "continue"], &command);
    assert!(!done.stderr.contains("goes another way"), "{}", done.stderr);
    let (banner, _) = done.stderr.split_once("\n(fdwatch)").expect("it stops");
    assert!(banner.contains("about to close fd") && banner.contains("p.py:5"), "{banner}");
    // Who closes nothing in the end says so once, when the last has ended.
    std::fs::write(&path, program.replace("    os.close(fd)\n    ", "    pass\n    ")).expect("writes");
    let done = go(&["--arm", &format!("{report}#1"), "-ex", "info fds"], &command);
    assert_eq!(done.stderr.matches("another way: its process ended").count(), 2, "said, and noted: {}", done.stderr);
}

/// What the closer closed first was its own: the harm is its second close.
#[test]
fn a_foreign_close_is_rewound_to_the_close_that_did_the_harm() {
    if !common::has("cc") {
        return skip("rewind to a foreign close", "no cc");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let source = common::root().join("tests/targets/bugs/foreign_close.c");
    let program = dir.path().join("p");
    let mut cc = Command::new("cc");
    let built = run(cc.args(["-g", "-O0", "-pthread", "-o"]).arg(&program).arg(source));
    assert_eq!(built.code(), 0, "{}", built.stderr);
    let report = dir.path().join("r").display().to_string();
    for mode in ["other", "again", "dup2"] {
        let command = [program.as_os_str(), mode.as_ref()];
        let done = go(&["-ex", "rewind --yes", "-ex", "continue"], &command);
        let stops = |text: &str| {
            let banner = text.split_once("\n(fdwatch)").map_or(text, |t| t.0);
            assert!(banner.contains("why     rehearsed: this close led to foreign-close"), "{mode}: {text}");
            assert!(banner.contains("/dev/null"), "{mode}: it is the owner's file: {text}");
        };
        stops(second(&done));
        assert_eq!(audit(&["--format", "json", "-o", &report], &command).code(), 99);
        stops(&go(&["--arm", &format!("{report}#1"), "-ex", "keep", "-ex", "continue"], &command).stderr);
    }
}

/// A program that decides by what it left behind, as others do by the time or by chance.
const FICKLE: &str = "import os, subprocess, sys\n\
    def bad(path):\n    number = open(path, 'w').fileno()\n    \
    try:\n        subprocess.run(['/bin/echo', 'hi'], stdout=number)\n    except OSError:\n        pass\n\
    state = sys.argv[1]\n\
    first = not os.path.exists(state)\n\
    open(state, 'a').close()\n\
    if first or sys.argv[2] == 'path':\n    bad('one' if first else 'two')\n\
    elif sys.argv[2] == 'other':\n    f = open('one', 'w')\n    subprocess.run(['/bin/echo', 'hi'], stdout=f)\n";

#[test]
fn a_second_run_that_goes_another_way_says_so_and_stops_nowhere_else() {
    let Some(python) = python("divergence") else { return };
    for (how, expected) in [("path", "now"), ("other", "was not opened at "), ("none", "was not opened at ")] {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("fickle.py"), FICKLE).expect("writes");
        let mut command = Command::new(fdwatch());
        command.current_dir(dir.path()).args([
            "run",
            "--break",
            "none",
            "-ex",
            "rewind --yes",
            "-ex",
            "info fds",
            "--",
        ]);
        let done = run(command.arg(&python).args(["fickle.py", "state", how]));
        let again = second(&done);
        assert!(again.contains("this run goes another way than the one that was rehearsed"), "{how}: {again}");
        assert!(again.contains(expected), "{how}: {again}");
        assert!(!again.contains("about to close"), "{how}: it stopped somewhere else: {again}");
        // What is found again is shown, as in any run.
        assert_eq!(again.contains("break 1"), how == "path", "{how}: {again}");
    }
}

#[test]
fn a_file_as_standard_input_is_read_again_and_a_pipe_is_not() {
    let Some(python) = python("standard input") else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let program = "import subprocess, sys\nprint('read', sys.stdin.readline().strip(), flush=True)\n\
                   try:\n    subprocess.run(['/bin/true'], stdout=open('out', 'w').fileno())\nexcept OSError:\n    pass\n";
    std::fs::write(dir.path().join("p.py"), program).expect("writes");
    std::fs::write(dir.path().join("in"), "skipped\nline\n").expect("writes");
    let fdwatch = fdwatch().display().to_string();
    let start = format!("'{fdwatch}' run --break none -ex 'rewind --yes' -ex continue -- '{}' p.py", python.display());
    let go = |shell: &str| run(Command::new("sh").current_dir(dir.path()).arg("-c").arg(shell));
    let done = go(&format!("{{ read -r first; {start}; }} < in"));
    assert_eq!(done.stdout, "read line\nread line\n", "{}", done.stderr);
    assert!(!done.stderr.contains("not there again"), "{}", done.stderr);
    let done = go(&format!("echo line | {start}"));
    assert_eq!(done.stdout, "read line\nread \n", "{}", done.stderr);
    assert!(
        done.stderr.contains("what the command has read of its standard input is not there again"),
        "{}",
        done.stderr
    );
}

#[test]
fn what_cannot_be_rewound_is_said_and_nothing_starts_again() {
    let Some(program) = target("stale_fork_dup2") else { return skip("refusals of rewind", "no C compiler") };
    for (typed, expected) in [("rewind", "a script says `rewind --yes`"), ("rewind 7 --yes", "there is no finding 7")] {
        let done = go(&["-ex", typed, "-ex", "continue"], &[&program]);
        assert!(done.stderr.contains(expected), "{typed}: {}", done.stderr);
        assert!(!done.stderr.contains("[starting again]"), "{typed}: {}", done.stderr);
    }
    let done = go(&["--fd", "3", "-ex", "rewind --yes", "-ex", "kill"], &["sh", "-c", "exec 3>/dev/null 3>&-"]);
    assert!(done.stderr.contains("nothing was found yet"), "{}", done.stderr);
    for (typed, expected) in
        [("rewind 0", "counted from 1"), ("rewind x", "not the number of a finding"), ("rewind 1 2", "too many")]
    {
        let done = go(&["-ex", typed], &["touch", "/nonexistent/started"]);
        assert!(done.code() == 125 && done.stderr.contains(expected), "{typed}: {}", done.stderr);
    }
}

#[test]
fn nothing_of_the_first_run_is_left() {
    let Some(python) = python("what is left") else { return };
    let dir = tempfile::tempdir().expect("a folder");
    // A child that would live on holds a lock until it is killed.
    let program = "import fcntl, os, subprocess, sys, time\n\
        r, w = os.pipe()\n\
        if os.fork() == 0:\n    lock = open('lock', 'w')\n    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n    \
        os.write(w, b'x')\n    time.sleep(1000)\n\
        os.close(w)\n\
        print('locked' if os.read(r, 1) else 'still locked by the first', flush=True)\n\
        try:\n    subprocess.run(['/bin/true'], stdout=open('out', 'w').fileno())\nexcept OSError:\n    pass\n\
        sys.exit(0)\n";
    std::fs::write(dir.path().join("p.py"), program).expect("writes");
    let mut command = Command::new(fdwatch());
    command.current_dir(dir.path()).args(["run", "--break", "none", "-ex", "rewind --yes", "-ex", "kill", "--"]);
    let done = run(command.arg(&python).arg("p.py"));
    assert_eq!(done.stdout, "locked\nlocked\n", "{}", done.stderr);
    assert!(second(&done).contains("about to close"), "{}", done.stderr);
    assert!(Path::new(&dir.path().join("lock")).exists());
}

//! Suppressions and baselines: what is known does not count, what is new does, and what is wrong in a file is told
//! before anything starts.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, fdwatch, has, pythons, run, script, skip, target};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Programs with errors, C and Python: their commands, and how many errors.
fn guilty() -> Vec<(Vec<OsString>, usize)> {
    let c = target("double_close").map(|p| (vec![p.into_os_string()], 3));
    let python = pythons().into_iter().next();
    let python = python.map(|p| (vec![p.into_os_string(), script("python/symptom_a_bare_call.py").into()], 1));
    c.into_iter().chain(python).collect()
}

fn go(dir: &Path, options: &[&str], command: &[OsString]) -> Done {
    run(Command::new(fdwatch()).current_dir(dir).args(options).arg("--").args(command))
}

fn other(dir: &Path, args: &[&str]) -> Done {
    run(Command::new(fdwatch()).current_dir(dir).args(args))
}

#[test]
fn generated_suppressions_cover_the_next_run_and_unused_ones_are_told() {
    let commands = guilty();
    if commands.is_empty() {
        return skip("suppressions", "neither a C compiler nor a CPython");
    }
    for (command, errors) in commands {
        let dir = tempfile::tempdir().expect("a folder");
        let first = ["audit", "--gen-suppressions=s", "--format", "json", "-o", "r", "--record", "log"];
        let found = go(dir.path(), &first, &command);
        assert_eq!(found.code(), 99, "{command:?}: {}", found.stderr);
        let text = std::fs::read_to_string(dir.path().join("s")).expect("entries");
        assert!(text.starts_with("suppress ") && !text.contains("0x0"), "{text}");
        let covered = |done: &Done| {
            let out = format!("{}{}", done.stdout, done.stderr);
            assert!(
                out.contains(&format!("0 errors, 0 warnings, {errors} suppressed;")),
                "{command:?} with\n{text}: {out}"
            );
            assert!(!out.contains("unused suppression"), "{out}");
        };
        let quiet = go(dir.path(), &["audit", "--suppressions", "s"], &command);
        assert_eq!(quiet.code(), 0, "{}", quiet.stderr);
        covered(&quiet);
        covered(&go(dir.path(), &["run", "--break", "none", "-ex", "info findings", "--suppressions", "s"], &command));
        let replayed = other(dir.path(), &["replay", "--suppressions", "s", "log"]);
        assert_eq!(replayed.code(), 0, "{}", replayed.stderr);
        covered(&replayed);
        covered(&other(dir.path(), &["show", "--suppressions", "s", "r"]));
        let unused = go(dir.path(), &["audit", "--suppressions", "s"], &["true".into()]);
        assert!(unused.stderr.contains("unused suppression: s:1 ("), "{}", unused.stderr);
        // Another place is another finding.
        let elsewhere = text.replace("closed  ", "closed  no_such_function < ");
        std::fs::write(dir.path().join("t"), elsewhere).expect("writes");
        assert_eq!(go(dir.path(), &["audit", "--suppressions", "t"], &command).code(), 99);
    }
}

#[test]
fn what_ships_can_be_left_out() {
    if !has("bash") {
        return skip("shipped suppressions", "no bash");
    }
    let pipeline: Vec<OsString> = ["bash", "-c", "ls / | sort | head -3 | cat"].map(Into::into).into();
    let dir = Path::new("/");
    let quiet = go(dir, &["audit"], &pipeline);
    assert!(quiet.stderr.contains("0 errors") && !quiet.stderr.contains("0 suppressed"), "{}", quiet.stderr);
    let loud = go(dir, &["audit", "--no-default-suppressions"], &pipeline);
    assert!(loud.stderr.contains("double-close") && loud.stderr.contains(" 0 suppressed"), "{}", loud.stderr);
}

#[test]
fn a_baseline_lets_new_findings_fail_only_and_says_what_is_gone() {
    let commands = guilty();
    if commands.is_empty() {
        return skip("baselines", "neither a C compiler nor a CPython");
    }
    for (command, errors) in &commands {
        let dir = tempfile::tempdir().expect("a folder");
        let args = ["audit", "--write-baseline", "b", "--format", "json", "-o", "r", "--record", "log"];
        let first = go(dir.path(), &args, command);
        assert_eq!(first.code(), 0, "what is written down does not fail: {}", first.stderr);
        let again = go(dir.path(), &["audit", "--baseline", "b"], command);
        assert_eq!(again.code(), 0, "{}", again.stderr);
        assert!(
            again.stderr.contains(&format!("0 errors, 0 warnings, 0 suppressed, {errors} known;")),
            "{}",
            again.stderr
        );
        assert_eq!(other(dir.path(), &["replay", "--baseline", "b", "log"]).code(), 0);
        assert!(other(dir.path(), &["show", "--baseline", "b", "r"]).stdout.contains(&format!(" {errors} known")));
        let renewed = go(dir.path(), &["audit", "--baseline", "b", "--write-baseline", "c"], command);
        assert_eq!(renewed.code(), 0);
        let read = |name| std::fs::read(dir.path().join(name)).expect("a baseline");
        assert_eq!(read("b"), read("c"), "the same run writes the same");
        let gone = go(dir.path(), &["audit", "--baseline", "b"], &["true".into()]);
        assert!(gone.stderr.contains("fdwatch: gone: "), "{}", gone.stderr);
        for (stranger, errors) in commands.iter().filter(|c| c.0 != *command) {
            let new = go(dir.path(), &["audit", "--baseline", "b"], stranger);
            assert_eq!((new.code(), new.errors()), (99, *errors), "{}", new.stderr);
            let status = ["audit", "--baseline", "b", "--error-exitcode", "7"];
            assert_eq!(go(dir.path(), &status, stranger).code(), 7);
            assert_eq!(go(dir.path(), &["audit", "--baseline", "b", "--fail-on", "never"], stranger).code(), 0);
        }
    }
}

#[test]
fn another_build_is_recognised_by_its_functions() {
    if !has("cc") {
        return skip("baselines of another build", "no cc");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let build = |extra: &str| {
        let code = format!(
            "#include <fcntl.h>\n#include <unistd.h>\nint unrelated(int n) {{ return n {extra}; }}\n\
             static __attribute__((noinline)) int twice(int fd) {{ close(fd); return close(fd) + 1; }}\n\
             int main(void) {{ return twice(open(\"/dev/null\", O_RDONLY)) + unrelated(0) * 0; }}\n"
        );
        std::fs::write(dir.path().join("p.c"), code).expect("writes");
        let built = run(Command::new("cc").current_dir(dir.path()).args(["-O1", "-o", "p", "p.c"]));
        assert_eq!(built.code(), 0, "{}", built.stderr);
    };
    let command = [dir.path().join("p").into_os_string()];
    build("");
    assert_eq!(go(dir.path(), &["audit"], &command).code(), 99);
    assert_eq!(go(dir.path(), &["audit", "--write-baseline", "b"], &command).code(), 0);
    build("* 7 + n / 3 - 5");
    let known = go(dir.path(), &["audit", "--baseline", "b"], &command);
    assert!(known.code() == 0 && known.stderr.contains("1 known"), "{}", known.stderr);
}

/// Two bugs that only what a stripped program does not say tells apart.
#[test]
fn a_stripped_programs_other_bug_is_new() {
    if !has("cc") {
        return skip("baselines of a stripped program", "no cc");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let twice = |n, path| {
        format!(
            "static __attribute__((noinline)) int f{n}(int x) {{\n\
             int fd = open(\"{path}\", O_RDONLY); close(fd); return close(fd) + x; }}\n"
        )
    };
    let main = "int main(int c, char **v) { int n = v[1][0] == '1' ? f1(c) : f2(c); return n > 99; }\n";
    let (f1, f2) = (twice(1, "/etc/hostname"), twice(2, "/etc/passwd"));
    let code = format!("#include <fcntl.h>\n#include <unistd.h>\n{f1}{f2}{main}");
    std::fs::write(dir.path().join("two.c"), code).expect("writes");
    let built = run(Command::new("cc").current_dir(dir.path()).args(["-O1", "-s", "-o", "two", "two.c"]));
    assert_eq!(built.code(), 0, "{}", built.stderr);
    let two = |n: &str| [dir.path().join("two").into_os_string(), n.into()];
    assert_eq!(go(dir.path(), &["audit", "--write-baseline", "b"], &two("1")).code(), 0);
    let same = go(dir.path(), &["audit", "--baseline", "b"], &two("1"));
    assert!(same.code() == 0 && same.stderr.contains("1 known"), "{}", same.stderr);
    let new = go(dir.path(), &["audit", "--baseline", "b"], &two("2"));
    assert_eq!((new.code(), new.errors()), (99, 1), "{}", new.stderr);
}

#[test]
fn what_another_program_starts_without_is_new() {
    if !has("bash") {
        return skip("baselines of executed programs", "no bash");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let bash = |line: &str| ["bash", "-c", line].map(OsString::from);
    let audit = |more: &[&str], line: &str| {
        let done = go(dir.path(), &[&["audit", "--fail-on", "warning"], more].concat(), &bash(line));
        assert!(done.stderr.contains("1 known") || done.stderr.contains("stdio-missing"), "{line}: {}", done.stderr);
        done.code()
    };
    assert_eq!(audit(&["--write-baseline", "b"], "cat /etc/hostname 0<&-; true"), 0);
    assert_eq!(audit(&["--baseline", "b"], "cat /etc/hostname 0<&-; true"), 0);
    assert_eq!(audit(&["--baseline", "b"], "cat /etc/hostname 2<&-; true"), 99);
    assert_eq!(audit(&["--baseline", "b"], "wc -l /etc/hostname 0<&-; true"), 99);
    let text = std::fs::read_to_string(dir.path().join("b")).expect("a baseline");
    assert!(text.contains("\"program\": \"cat\"") && text.contains("\"fd\": 0"), "{text}");
    // A place may hold what turns a line round, or is not seen.
    let odd = "{\"baseline\":\"fdwatch-baseline/1\",\"findings\":[{\"name\":\"double-close\",\"steps\":\
               [{\"role\":\"closed\",\"place\":\"a\u{202e}b\\\\xff\u{200b}\"}]}]}";
    std::fs::write(dir.path().join("odd"), odd).expect("writes");
    let gone = go(dir.path(), &["audit", "--baseline", "odd"], &["true".into()]).stderr;
    assert!(gone.contains("gone: double-close (a\\u{202e}b\\xff\\u{200b})"), "{gone}");
}

/// Opens a descriptor for each letter of its argument, A in one place and B in another, and runs a program with them.
const LEAKS: &str = r#"
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
extern char **environ;
__attribute__((noinline)) static int first(void) { int fd = open("/dev/null", O_RDONLY); return fd + 1; }
__attribute__((noinline)) static int second(void) { int fd = open("/dev/zero", O_RDONLY); return fd + 2; }
int main(int argc, char **argv)
{
    char *command[] = {"true", 0};
    pid_t child;
    int sum = argc;
    for (const char *c = argv[1]; *c; c++)
        sum += *c == 'A' ? first() : second();
    if (posix_spawnp(&child, "true", 0, 0, command, environ) == 0)
        waitpid(child, 0, 0);
    return sum < 0;
}
"#;

#[test]
fn each_descriptor_that_a_program_inherits_is_known_by_itself() {
    if !has("cc") {
        return skip("baselines of inherited descriptors", "no cc");
    }
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("leaks.c"), LEAKS).expect("writes");
    let built = run(Command::new("cc").current_dir(dir.path()).args(["-O1", "-g", "-o", "leaks", "leaks.c"]));
    assert_eq!(built.code(), 0, "{}", built.stderr);
    let leaks = |options: &[&str], which: &str| {
        let command = [dir.path().join("leaks").into_os_string(), which.into()];
        let done = go(dir.path(), &[&["audit", "--fail-on", "warning"], options].concat(), &command);
        (done.code(), done.stderr)
    };
    let (code, both) = leaks(&["--write-baseline", "both", "--gen-suppressions=s"], "AB");
    assert!(code == 0 && both.contains(", and 1 more") && both.contains("a file (/dev/zero)"), "{both}");
    assert_eq!(leaks(&["--write-baseline", "first"], "A").0, 0);
    for which in ["A", "AA"] {
        let (code, told) = leaks(&["--baseline", "first"], which);
        assert!(code == 0 && told.contains("0 warnings"), "{which}: {told}");
    }
    for which in ["AB", "BA"] {
        let (code, told) = leaks(&["--baseline", "first"], which);
        assert!(code == 99 && told.contains("1 warning, 0 suppressed, 1 known"), "{which}: {told}");
        assert!(told.contains("/dev/zero") && !told.contains("/dev/null") && !told.contains("more"), "{which}: {told}");
        let (code, told) = leaks(&["--baseline", "both"], which);
        assert!(code == 0 && told.contains("0 warnings, 0 suppressed, 2 known"), "{which}: {told}");
    }
    // The same of suppressions: an entry covers a descriptor, and not what goes with it.
    let entries = std::fs::read_to_string(dir.path().join("s")).expect("entries");
    assert_eq!(entries.matches("suppress leak-across-exec").count(), 2, "{entries}");
    let (first, _) = entries.split_once("\n\n").expect("two entries");
    std::fs::write(dir.path().join("one"), first).expect("writes");
    let (code, told) = leaks(&["--suppressions", "one"], "AB");
    assert!(code == 99 && told.contains("1 warning, 1 suppressed"), "{told}");
    assert!(told.contains("/dev/zero") && !told.contains("/dev/null") && !told.contains("more"), "{told}");
    assert_eq!(leaks(&["--suppressions", "s"], "AB").0, 0);
}

/// Gives a child the number of a file that is closed by then, in one place or in another.
const HANDED: &str = "
import subprocess, sys
def one():
    subprocess.call(['true'], stdout=open('/dev/null', 'w').fileno())
def two():
    subprocess.call(['true'], stdout=open('/dev/null', 'w').fileno())
try: {'one': one, 'two': two}[sys.argv[1]]()
except OSError: pass
";

#[test]
fn what_a_baseline_knows_opens_no_prompt() {
    let Some(python) = pythons().into_iter().next() else { return skip("baselines at the prompt", "no CPython") };
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("handed.py"), HANDED).expect("writes");
    let command = |place: &str| ["-S".into(), "handed.py".into(), OsString::from(place)];
    let handed = |place| [&[python.clone().into_os_string()][..], &command(place)].concat();
    assert_eq!(go(dir.path(), &["audit", "--write-baseline", "b"], &handed("one")).code(), 0);
    // The target is killed at the first prompt.
    let prompts = |options: &[&str], place| {
        let run = ["run", "--batch", "--break", "none"];
        let done = go(dir.path(), &[&run, options].concat(), &handed(place));
        (done.stderr.contains("(fdwatch) kill"), done.stderr)
    };
    let kill = ["-ex", "kill"];
    let caught = ["-ex", "catch finding", "-ex", "kill"];
    for script in [&kill[..], &caught[..]] {
        let known = [script, &["--baseline", "b"]].concat();
        for (options, place, expected) in [(script, "one", true), (&known, "one", false), (&known, "two", true)] {
            let (prompted, said) = prompts(options, place);
            assert_eq!(prompted, expected, "{options:?} {place}: {said}");
        }
    }
}

#[test]
fn what_is_wrong_in_a_file_is_told_before_anything_starts() {
    let dir = tempfile::tempdir().expect("a folder");
    let files: [(&str, &[u8], &str, &str); 8] = [
        ("--suppressions", b"suppress double-close\n  raeson x\n", "f:2:3: ", "did you mean reason?"),
        ("--suppressions", b"suppress duble-close\n", "f:1:10: ", "did you mean double-close?"),
        ("--suppressions", b"# \xc3\xa9\n#\xff\n", "f:2:2: ", "UTF-8"),
        ("--baseline", b"{\n  \"baseline\": 3\n}\n", "f:2:15: ", "expected a string"),
        ("--baseline", b"", "f:1:1: ", "EOF"),
        ("--baseline", b"{\"baseline\":\"fdwatch-baseline/9\",\"findings\":[]}", "f: ", "fdwatch-baseline/1"),
        (
            "--baseline",
            b"{\"baseline\":\"fdwatch-baseline/1\",\"findings\":[{\"name\":\"duble-close\",\"steps\":[]}]}",
            "f: ",
            "no finding is called \"duble-close\"; did you mean double-close?",
        ),
        (
            "--baseline",
            b"{\"baseline\":\"fdwatch-baseline/1\",\"findings\":[{\"name\":\"double-close\",\"steps\":[{\"role\":\"used\",\"fingerprint\":\"zzz\"}]}]}",
            "f: ",
            "\"zzz\" is not a fingerprint",
        ),
    ];
    for (option, bytes, place, expected) in files {
        std::fs::write(dir.path().join("f"), bytes).expect("writes");
        let done = go(dir.path(), &["audit", option, "f"], &["touch".into(), "started".into()]);
        let line = done.stderr.trim_end();
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.starts_with(&format!("fdwatch: {place}")) && line.contains(expected), "{line}");
        assert_eq!(done.code(), 125, "{line}");
    }
    for args in [["--suppressions", "no"], ["--baseline", "no"], ["--write-baseline", "no/such"]] {
        let done = go(dir.path(), &["audit", args[0], args[1]], &["touch".into(), "started".into()]);
        assert_eq!((done.code(), done.stderr.lines().count()), (125, 1), "{}", done.stderr);
    }
    let same = go(dir.path(), &["audit", "-o", "x", "--write-baseline", "x"], &["touch".into(), "started".into()]);
    assert!(same.code() == 125 && same.stderr.contains("each its own"), "{}", same.stderr);
    assert!(!dir.path().join("started").exists(), "the target was started");
}

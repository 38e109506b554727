//! What says, before a child exists, that a descriptor is meant for one: each kind of break on a real program, on and
//! off, and silence where the child got what it was meant to get.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, fdwatch, pythons, run, skip};
use std::path::PathBuf;
use std::process::Command;

const PROGRAM: &str = "import os, subprocess, sys\n\
    fd = os.open('out', os.O_CREAT | os.O_WRONLY)\n\
    os.set_inheritable(fd, True)\n\
    if sys.argv[1] == 'early':\n    os.close(fd)\n    subprocess.run(['/bin/true'], close_fds=False)\n\
    elif sys.argv[1] == 'loop':\n    subprocess.run(['/bin/true', str(fd)], close_fds=True)\n\
    elif sys.argv[1] == 'passed':\n    subprocess.run(['/bin/true', str(fd)], pass_fds=[fd])\n    os.close(fd)\n\
    elif sys.argv[1] == 'moved':\n    subprocess.run(['/bin/true'], stdout=fd, close_fds=True)\n    os.close(fd)\n\
    elif sys.argv[1] == 'unheld':\n    open('unheld', 'w')\n    os.set_inheritable(fd, False)\n    \
    subprocess.run(['/bin/true'], close_fds=False)\n    open('later', 'w')\n";

fn go(python: &PathBuf, options: &[&str], how: &str) -> Done {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("p.py"), PROGRAM).expect("writes");
    let mut command = Command::new(fdwatch());
    command.current_dir(dir.path()).args(["run", "-ex", "continue", "-ex", "continue"]).args(options).arg("--");
    run(command.arg(python).args(["p.py", how]))
}

/// The banners: the line `break`, and the line `why`.
fn breaks(done: &Done) -> Vec<(String, String)> {
    let lines: Vec<&str> = done.stderr.lines().collect();
    let at = lines.windows(2).filter(|w| w[0].starts_with("break "));
    at.map(|w| (w[0].to_string(), w[1].trim_start().trim_start_matches("why").trim_start().to_string())).collect()
}

#[test]
fn what_was_made_inheritable_is_not_closed_in_silence() {
    let pythons = pythons();
    if pythons.is_empty() {
        return skip("kinds of breaks", "no CPython of version 3.8 or later");
    }
    // The one that is called python3, and one that starts children otherwise.
    for python in pythons.iter().take(1).chain(pythons.last()) {
        for (how, kind, word) in [("early", "inheritable", "inheritable:"), ("loop", "child-side", "child side:")] {
            let found = breaks(&go(python, &[], how));
            assert_eq!(found.len(), 1, "{} {how}: {found:?}", python.display());
            assert!(found[0].0.contains("about to close fd 3 ") && found[0].0.ends_with("/out"), "{found:?}");
            assert!(found[0].1.starts_with(word), "{found:?}");
            assert_eq!(breaks(&go(python, &["--no-break", kind], how)), [], "{how} can be turned off");
        }
        for how in ["passed", "moved"] {
            assert_eq!(breaks(&go(python, &[], how)), [], "{} {how}: the child got it", python.display());
        }
    }
}

#[test]
fn an_expected_child_makes_every_close_that_nobody_asked_for_break_until_it_runs() {
    let Some(python) = pythons().into_iter().next() else {
        return skip("--expect-child", "no CPython of version 3.8 or later");
    };
    let child = "true";
    let found = breaks(&go(&python, &["--expect-child", child], "unheld"));
    assert_eq!(found.len(), 1, "the first, and not the one after the child: {found:?}");
    assert!(found[0].0.ends_with("/unheld") && found[0].1.contains("asked: --expect-child true"), "{found:?}");
    assert_eq!(breaks(&go(&python, &[], "unheld")), [], "nobody holds these numbers");
    let never = go(&python, &["--expect-child", "/opt/no-such-child", "--no-break", "findings"], "passed");
    let note = "nobody was seen to execute /opt/no-such-child, which --expect-child names";
    assert!(never.stderr.contains(note), "{}", never.stderr);
    let wrong = go(&python, &["--expect-child", "a**b["], "passed");
    assert!(wrong.code() == 125 && wrong.stderr.contains("--expect-child"), "{}", wrong.stderr);
}

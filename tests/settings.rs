//! Settings from files, what they may not do, and what fdwatch says of itself.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, fdwatch, pythons, run, skip};
use std::path::Path;
use std::process::Command;

/// A folder of settings of its own, and a project in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new(own: &str, project: &str) -> Place {
        let place = Place(tempfile::tempdir().expect("a folder"));
        std::fs::create_dir_all(place.0.path().join("config/fdwatch")).unwrap();
        std::fs::create_dir_all(place.0.path().join("project/sub")).unwrap();
        place.write("config/fdwatch/config.toml", own);
        place.write("project/.fdwatch.toml", project);
        place
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn fdwatch(&self, args: &[&str]) -> Done {
        let here: &Path = self.0.path();
        run(Command::new(fdwatch())
            .args(args)
            .current_dir(here.join("project/sub"))
            .env("XDG_CONFIG_HOME", here.join("config")))
    }
}

const TWICE: &str = "
import os
fd = os.open('/etc/passwd', os.O_RDONLY); os.close(fd)
try: os.close(fd)
except OSError: pass
";

#[test]
fn the_users_settings_count_and_the_command_line_wins() {
    let Some(py) = pythons().first().map(|p| p.to_string_lossy().into_owned()) else {
        return skip("settings", "no CPython");
    };
    let place = Place::new("fail-on = \"never\"\n", "");
    let audit = |more: &[&str]| place.fdwatch(&[&["audit"], more, &["--", &py, "-S", "-c", TWICE]].concat());
    let lenient = audit(&[]);
    assert!(lenient.stderr.contains("error[double-close]"), "{}", lenient.stderr);
    assert_eq!(lenient.code(), 0, "{}", lenient.stderr);
    assert_eq!(audit(&["--fail-on", "error"]).code(), 99);
    assert_eq!(audit(&["--fail-on", "error", "--error-exitcode", "7"]).code(), 7);
}

#[test]
fn a_project_runs_no_commands_until_it_is_trusted_as_it_is() {
    let place = Place::new("", "color = \"never\"\nfd = 8\nex = [\"fd 8\", \"keep\", \"continue\"]\n");
    let script = "exec 8</etc/passwd; exec 8<&-; [ -e /proc/self/fd/8 ] && echo kept; true";
    if !common::has("bash") {
        return skip("a project's settings", "no bash");
    }
    let go = || place.fdwatch(&["run", "--batch", "-ex", "continue", "--", "bash", "-c", script]);
    let before = go();
    assert!(
        before.stderr.contains(".fdwatch.toml: ex not heeded, as you do not trust it: see fdwatch trust"),
        "{}",
        before.stderr
    );
    assert!(before.stderr.contains("asked: --fd 8"), "where to break is harmless: {}", before.stderr);
    assert_eq!(before.stdout, "", "{}", before.stderr);
    let trusted = place.fdwatch(&["trust"]);
    assert_eq!(trusted.code(), 0, "{}", trusted.stderr);
    assert!(trusted.stdout.contains("heeded from now on: ex\n"), "{}", trusted.stdout);
    assert_eq!(go().stdout, "kept\n");
    // Another text is another matter.
    place.write("project/.fdwatch.toml", "ex = [\"keep\"]\n");
    assert!(go().stderr.contains("ex not heeded"));
}

#[test]
fn where_to_break_is_no_matter_for_an_attach_that_asks_nobody() {
    if !common::has("cat") {
        return skip("settings and attach", "no cat");
    }
    let place = Place::new("", "path = [\"/tmp/out*\", \"/var/log/*\"]\nbreak = \"implicit\"\nfd = 8\n");
    let cat = common::start(&mut Command::new("cat"));
    let pid = cat.pid().to_string();
    let quiet = place.fdwatch(&["attach", "--for", "1ms", &pid]);
    assert_eq!(quiet.code(), 0, "{}", quiet.stderr);
    assert!(!quiet.stderr.contains("say where to break"), "{}", quiet.stderr);
    let asked = place.fdwatch(&["attach", "--for", "1ms", "--fd", "8", &pid]);
    assert_eq!(asked.code(), 125, "what the command line says is still refused: {}", asked.stderr);
    // Breaks are turned off by who is trusted only.
    place.write("project/.fdwatch.toml", "break = \"none\"\n");
    let held = place.fdwatch(&["attach", "--for", "1ms", &pid]);
    assert!(held.stderr.contains(".fdwatch.toml: break not heeded, as you do not trust it"), "{}", held.stderr);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    for (own, project, part) in [
        ("colour = \"never\"\n", "", "config.toml: unknown key \"colour\"; did you mean color?"),
        ("", "brek = \"none\"\n", ".fdwatch.toml: unknown key \"brek\"; did you mean break?"),
        ("", "break = \"escapd\"\n", "did you mean escaped?"),
        ("", "fd = 3000000000\n", ".fdwatch.toml: fd: a descriptor is wanted"),
        ("path = \"/***\"\n", "", "config.toml: path: \"/***\": "),
        ("", "break = \n", ".fdwatch.toml: line 1: "),
        (
            "fd = 3\nex = [\"fd 8\", \"kep\"]\n",
            "",
            "config.toml: line 2: ex: 2: unknown command \"kep\"; did you mean keep?",
        ),
        (
            "",
            "ex = \"catch clse\"\n",
            ".fdwatch.toml: line 1: ex: 1: column 1: no event is called \"clse\"; did you mean",
        ),
        (
            "\ninject = [\"close:keep\", \"clos:keep\"]\n",
            "",
            "config.toml: line 2: inject: clos:keep: column 1: \"clos\" cannot",
        ),
    ] {
        let done = Place::new(own, project).fdwatch(&["audit", "--", "echo", "started"]);
        assert_eq!((done.code(), done.stdout.as_str()), (125, ""), "{own}{project}: {}", done.stderr);
        assert!(done.stderr.contains(part) && done.stderr.lines().count() == 1, "{own}{project}: {}", done.stderr);
    }
}

#[test]
fn the_doctor_tries_what_it_says() {
    let done = run(Command::new(fdwatch()).arg("doctor"));
    assert_eq!(done.code(), 0, "fdwatch is being tested here, so it works: {}", done.stdout);
    for what in ["kernel", "ptrace", "confinement", "debug files", "Python", "a program was watched to its end"] {
        assert!(done.stdout.contains(what), "{what}: {}", done.stdout);
    }
    assert!(done.stdout.lines().filter(|l| l.starts_with("limited")).count() <= done.stdout.matches("mend:").count());
}

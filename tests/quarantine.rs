//! Numbers that are held back after their close: `--quarantine`.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{alone, audit, fdwatch, has, skip, target};
use std::process::Command;

/// Whether this kernel lets a program have what numbers are held back by: containers may forbid open_tree(2).
fn is_there(test: &str) -> bool {
    let Some(held) = target("held") else {
        skip(test, "no C compiler");
        return false;
    };
    let done = audit(&["--quarantine", "--fail-on", "never"], &[held.as_os_str(), "stale".as_ref()]);
    let refused = done.stderr.contains("nothing more was held back: the kernel refused open_tree(2)");
    if refused {
        skip(test, "the kernel refuses open_tree(2)");
    }
    !refused
}

#[test]
fn a_stale_use_is_refused_and_hits_nobody() {
    if !is_there("a_stale_use_is_refused_and_hits_nobody") {
        return;
    }
    let held = target("held").unwrap();
    let command = [held.as_os_str(), "stale".as_ref()];
    let without = audit(&["--fail-on", "never"], &command);
    assert!(without.stdout.contains("other at the same number\n"), "{}", without.stdout);
    assert!(without.stdout.contains("call read(other) = EBADF\n"), "the slip hits the other: {}", without.stdout);
    for more in [&[][..], &["--uses", "all"]] {
        let options = [&["--fail-on", "never", "--quarantine"][..], more].concat();
        let with = audit(&options, &command);
        let told = [
            "call close(100) = 0",
            "other at another number",
            "call fcntl(100, F_GETFD) = EBADF",
            "call close(100) = EBADF",
            "call read(other) = 1",
            "call dup2(file, 100) = 100",
            "call read(100) = 1",
        ];
        assert_eq!(with.stdout.lines().collect::<Vec<_>>(), told, "{}", with.stderr);
        assert!(with.stderr.contains("closed fd 100 twice"), "{}", with.stderr);
        assert!(with.stderr.contains("\nfdwatch:   quarantine of "), "{}", with.stderr);
        assert!(with.stderr.contains("numbers were held back after their close (--quarantine)\n"), "{}", with.stderr);
    }
}

#[test]
fn nothing_else_changes_with_threads_signals_a_full_table_and_programs_that_are_executed() {
    let test = "nothing_else_changes_with_threads_signals_a_full_table_and_programs_that_are_executed";
    if !is_there(test) {
        return;
    }
    let held = target("held").unwrap();
    let plain = alone(&[held.as_os_str()]);
    assert!(plain.stdout.contains("until Too many open files\n"), "{plain:?}");
    for most in ["--quarantine", "--quarantine=1", "--quarantine=1024"] {
        let with = audit(&[most], &[held.as_os_str()]);
        assert_eq!((with.code(), &with.stdout), (plain.code(), &plain.stdout), "{most}: {}", with.stderr);
        assert!(with.stderr.contains("fdwatch: 0 errors, "), "{most}: {}", with.stderr);
        assert!(with.stderr.contains("the program had no number left"), "{most}: {}", with.stderr);
        assert!(!with.stderr.contains("against expectation"), "{most}: {}", with.stderr);
    }
}

#[test]
fn shells_and_what_they_start_do_as_ever() {
    let test = "shells_and_what_they_start_do_as_ever";
    if !is_there(test) {
        return;
    }
    if !has("bash") {
        return skip(test, "no bash");
    }
    let script =
        "echo a | cat; exec 5</etc/passwd; read x <&5; exec 5<&-; (exec 7>&1; echo seven >&7); cat <(echo 1) <(echo 2)";
    let plain = alone(&["bash", "-c", script]);
    let with = audit(&["--quarantine"], &["bash", "-c", script]);
    assert_eq!((with.code(), &with.stdout), (plain.code(), &plain.stdout), "{}", with.stderr);
    assert!(with.stderr.contains("fdwatch: 0 errors, "), "{}", with.stderr);
}

#[test]
fn it_is_seen_at_the_prompt_and_in_a_recording() {
    if !is_there("it_is_seen_at_the_prompt_and_in_a_recording") {
        return;
    }
    let (held, dir) = (target("held").unwrap(), tempfile::tempdir().unwrap());
    let log = dir.path().join("log");
    let mut command = Command::new(fdwatch());
    command.args(["run", "--break", "none", "--no-break", "findings", "--quarantine=2", "--record"]).arg(&log);
    command.args(["-ex", "catch close if fd == 100 && nth == 1", "-ex", "next", "-ex", "info fds"]);
    command.args(["-ex", "fd 100", "-ex", "hist 100", "--batch", "--", held.to_str().unwrap(), "stale"]);
    let done = common::run(&mut command);
    for part in [
        "\nheld back after their close (--quarantine): ",
        ", 100\n",
        "\nfd 100 is not open\n",
        "  altered  quarantine of close(100) by [",
        "  altered by fdwatch, quarantine: the number does not become free\n",
    ] {
        assert!(done.stderr.contains(part), "{part:?}: {}", done.stderr);
    }
    let command = Command::new(fdwatch()).args(["replay", "--fail-on", "never"]).arg(&log).output().unwrap();
    let again = String::from_utf8(command.stderr).unwrap();
    assert!(again.contains("\nfdwatch:   quarantine of "), "{again}");
    assert!(again.contains("held back after their close (--quarantine)\n"), "{again}");
}

#[test]
fn where_it_cannot_be_it_is_refused() {
    for (options, why) in [
        (&["audit", "--quarantine", "--no-seccomp", "--", "true"][..], "cannot be used with"),
        (&["audit", "--quarantine=0", "--", "true"], "0 is not in 1..=1024"),
        (&["attach", "--quarantine", "1"], "--quarantine goes with run and audit"),
    ] {
        let done = common::run(Command::new(fdwatch()).args(options));
        assert!(done.stderr.contains(why) && !done.status.success(), "{options:?}: {}", done.stderr);
    }
}

/// Where too few numbers are left the kernel drops descriptors of a message, and the call succeeds (unix(7), MSG_CTRUNC).
#[test]
fn what_is_received_has_room() {
    if !is_there("what_is_received_has_room") {
        return;
    }
    if !has("python3") || !has("bash") {
        return skip("what_is_received_has_room", "no python3 or no bash");
    }
    let script = "import os, resource, socket\n\
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n\
        a, b = socket.socketpair()\n\
        socket.send_fds(a, [b'x'], [0] * 20)\n\
        for fd in [os.open('/dev/null', 0) for _ in range(20)]: os.close(fd)\n\
        kept = [os.open('/dev/null', 0) for _ in range(20)]\n\
        print(len(socket.recv_fds(b, 1, 20)[1]))\n";
    let done = audit(&["--quarantine", "--fail-on", "never"], &["python3", "-S", "-c", script]);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "20\n"), "{}", done.stderr);
    assert!(done.stderr.contains("got those back"), "{}", done.stderr);
}

#[test]
fn its_number_stands_behind_an_equals_sign_and_nothing_else_is_taken_for_it() {
    if !is_there("its_number_stands_behind_an_equals_sign_and_nothing_else_is_taken_for_it") {
        return;
    }
    let mut command = Command::new(fdwatch());
    command.args(["run", "--quarantine", "-ex", "tcatch exec", "--batch", "--", "true"]);
    let done = common::run(&mut command);
    assert_eq!(done.code(), 0, "{}", done.stderr);
}

//! Breaks that the user sets, and what can be done at them: by scripts, without a terminal.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, fdwatch, has, pythons, skip, start};
use std::process::Command;

fn run(options: &[&str], command: &[&str]) -> Done {
    common::run(Command::new(fdwatch()).arg("run").args(options).arg("--").args(command))
}

fn bash(test: &str) -> bool {
    let there = has("bash");
    if !there {
        skip(test, "no bash");
    }
    there
}

fn python(test: &str) -> Option<String> {
    let found = pythons().first().map(|p| p.to_string_lossy().into_owned());
    if found.is_none() {
        skip(test, "no CPython");
    }
    found
}

/// Opens fd 8 three times.
const EIGHT: &str = "for i in 1 2 3; do exec 8</etc/passwd; exec 8<&-; done; echo end";

#[test]
fn a_condition_decides_where_it_breaks() {
    if !bash("a_condition_decides_where_it_breaks") {
        return;
    }
    let catch = "catch close if fd == 8 && path =~ \"/etc/*\" && nth == 2";
    let done = run(&["-ex", catch, "-ex", "info breaks", "-ex", "continue"], &["bash", "-c", EIGHT]);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "end\n"), "{}", done.stderr);
    let set = "break 1: close if fd == 8 && path =~ \"/etc/*\" && nth == 2\n";
    assert!(done.stderr.starts_with(set), "before anything else: {}", done.stderr);
    assert_eq!(done.stderr.matches("about to close fd 8 #").count(), 1, "{}", done.stderr);
    assert!(done.stderr.contains("  caught  by 1: close if fd == 8"), "{}", done.stderr);
    assert!(done.stderr.contains("    hit once\n"), "{}", done.stderr);
}

#[test]
fn commands_are_run_at_every_hit_and_ignore_passes_over_some() {
    if !bash("commands_are_run_at_every_hit_and_ignore_passes_over_some") {
        return;
    }
    let block = ["commands", "info fds if fd == 8", "continue", "end"];
    let mut options = vec!["-ex", "catch close if fd == 8"];
    block.iter().for_each(|l| options.extend(["-ex", l]));
    let all = run(&options, &["bash", "-c", EIGHT]);
    assert_eq!((all.code(), all.stdout.as_str()), (0, "end\n"), "{}", all.stderr);
    assert_eq!(all.stderr.matches("\n8   #").count(), 3, "{}", all.stderr);
    options.extend(["-ex", "ignore 1 2"]);
    let last = run(&options, &["bash", "-c", EIGHT]);
    assert_eq!(last.stderr.matches("\n8   #").count(), 1, "{}", last.stderr);
    let once = ["-ex", "tcatch close if fd == 8", "-ex", "info breaks"];
    let once = run(&once, &["bash", "-c", EIGHT]);
    assert_eq!(once.stderr.matches("about to close fd 8").count(), 1, "{}", once.stderr);
    assert!(!once.stderr.contains("1   catch close"), "it is gone when it was hit: {}", once.stderr);
}

#[test]
fn every_kind_of_event_can_be_caught() {
    let Some(py) = python("every_kind_of_event_can_be_caught") else { return };
    let program = "
import os, socket, array
fd = os.open('/etc/passwd', os.O_RDONLY); copy = os.dup(fd); os.set_inheritable(fd, True)
a, b = socket.socketpair()
a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))])
b.recvmsg(1, 64)
if os.fork() == 0: os.execv('/bin/true', ['true'])
os.wait(); os.close(fd)
try: os.close(fd)
except OSError: print('twice')
";
    for (catch, shown) in [
        ("open if path == \"/etc/passwd\"", "] opened fd "),
        ("dup if path == \"/etc/passwd\"", "] after "),
        ("cloexec if path == \"/etc/passwd\"", "] about to clear FD_CLOEXEC of fd "),
        ("receive if kind == file", "] after recvmsg"),
        ("fork", "] made process "),
        ("exec", "] executed "),
        ("finding if finding == double-close", "error[double-close]"),
        ("close if path == \"/etc/passwd\" && !child && call == close", "] about to close fd "),
    ] {
        let catch = format!("catch {catch}");
        let done = run(&["--break", "none", "-ex", &catch, "-ex", "continue"], &[&py, "-S", "-c", program]);
        assert_eq!((done.code(), done.stdout.as_str()), (0, "twice\n"), "{catch}: {}", done.stderr);
        let first = done.stderr.split("break 1 [").nth(1).unwrap_or_default();
        let line = first.lines().next().unwrap_or_default();
        assert!(line.contains(shown), "{catch}: {}", done.stderr);
        assert!(first.contains("  caught  by 1: "), "{catch}: {}", done.stderr);
    }
}

/// What is found where a program is executed is shown there, before it does anything.
#[test]
fn what_is_found_at_an_exec_is_shown_at_it() {
    if !bash("what_is_found_at_an_exec_is_shown_at_it") {
        return;
    }
    let done = run(&["-ex", "info findings"], &["bash", "-c", "exec 3</etc/passwd; /bin/true >&3; echo end"]);
    assert_eq!(done.stdout, "end\n", "{}", done.stderr);
    assert!(done.stderr.contains(" true] error[stdio-direction] on fd 1 "), "{}", done.stderr);
    assert!(done.stderr.contains("error     stdio-direction  fd 1"), "{}", done.stderr);
}

#[test]
fn the_stack_can_decide() {
    let Some(py) = python("the_stack_can_decide") else { return };
    let program = "
def inner(): open('/etc/passwd')
def outer(): f = open('/etc/passwd'); f.close()
outer(); inner()
";
    for (condition, frame) in [
        ("frame == inner", "in inner"),
        ("frame =~ /^out.r$/", "in outer"),
        ("cause == finalizer && depth > 1", "in inner"),
        ("implicit && !(frame == outer)", "in inner"),
    ] {
        let catch = format!("catch close if path == \"/etc/passwd\" && {condition}");
        let done = run(&["-ex", &catch, "-ex", "bt py", "-ex", "continue 99"], &[&py, "-S", "-c", program]);
        assert_eq!(done.stderr.matches("break 1 [").count(), 1, "{catch}: {}", done.stderr);
        assert!(done.stderr.contains(frame), "{catch}: {}", done.stderr);
    }
}

#[test]
fn what_is_wrong_is_told_before_the_start() {
    for (command, part) in [
        ("catch close if fdd == 3", "-ex 1: column 10: unknown field \"fdd\"; did you mean fd?"),
        ("catch close if finding == duble-close", "did you mean double-close?"),
        ("catch", "catch what? close, open"),
        ("fail EBADD", "did you mean EBADF?"),
        ("commands 1", "these commands have no end"),
        ("delete 7", "there is no break 7: none was set"),
    ] {
        let done = run(&["-ex", command], &["echo", "started"]);
        assert_eq!((done.code(), done.stdout.as_str()), (125, ""), "{command}: {}", done.stderr);
        assert!(done.stderr.contains(part) && done.stderr.lines().count() == 1, "{command}: {}", done.stderr);
    }
}

#[test]
fn a_call_can_be_made_to_fail_and_every_report_says_so() {
    let Some(py) = python("a_call_can_be_made_to_fail_and_every_report_says_so") else { return };
    let program = "
import os
fd = os.open('/etc/passwd', os.O_RDONLY)
try: os.close(fd)
except OSError as e: print(e.errno, len(os.read(fd, 3)))
";
    let catch = "catch close if path == \"/etc/passwd\"";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let options = ["-ex", catch, "-ex", "fail EIO", "-ex", "continue"];
    let done = run(&options, &[&py, "-S", "-c", program]);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "5 3\n"), "it is open still: {}", done.stderr);
    assert!(done.stderr.contains("results altered by 1 injection"), "{}", done.stderr);
    assert!(done.stderr.contains("  fail EIO of close("), "{}", done.stderr);
    let json = [&options[..], &["--format", "json", "-o", file.to_str().unwrap()]].concat();
    run(&json, &[&py, "-S", "-c", program]);
    assert!(std::fs::read_to_string(&file).unwrap().contains("fail EIO"));
}

#[test]
fn what_was_altered_is_marked_wherever_the_descriptor_is_shown() {
    if !bash("what_was_altered_is_marked_wherever_the_descriptor_is_shown") {
        return;
    }
    let script = "exec 8</etc/passwd; exec 8<&-; exec 9</dev/null; exec 9<&-; echo end";
    let look = ["--fd", "8", "--fd", "9", "-ex", "fail EIO", "-ex", "c", "-ex", "hist 8", "-ex", "fd 8"];
    let done = run(&[&look[..], &["-ex", "info fds", "-ex", "c"]].concat(), &["bash", "-c", script]);
    let shown = ["  altered by fdwatch, fail EIO: it did not happen\n", "\n      altered: fail EIO of close(8) by ["];
    for part in shown.into_iter().chain(["\n  altered  fail EIO of close(8) by ["]) {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    assert_eq!((done.code(), done.stdout.as_str()), (0, "end\n"), "{}", done.stderr);
}

#[test]
fn a_delayed_call_waits_alone_and_no_longer_than_its_task_may() {
    if !bash("a_delayed_call_waits_alone_and_no_longer_than_its_task_may") {
        return;
    }
    // Who waits for a day is ended by a child that is not held up.
    for (signal, code) in [("TERM", 128 + 15), ("KILL", 128 + 9)] {
        let script = format!("exec 8</etc/passwd; {{ echo other; kill -{signal} $$; }} & exec 8<&-; echo never");
        for options in
            [&["audit", "--inject", "close:fd=8:nth=1:delay_enter=86400s:if=!child"][..], &["run", "--fd", "8"]]
        {
            let at_prompt: &[&str] =
                if options[0] == "run" { &["-ex", "delay 86400s", "-ex", "continue 99"] } else { &[] };
            let more = [options, at_prompt].concat();
            let done = common::run(Command::new(fdwatch()).args(more).args(["--", "bash", "-c", &script]));
            assert_eq!((done.code(), done.stdout.as_str()), (code, "other\n"), "{signal}: {}", done.stderr);
            assert!(done.stderr.contains("  delay 86400s of close(8) by ["), "{}", done.stderr);
        }
    }
    // It does happen, not earlier, and as was decided.
    let script = "exec 8</etc/passwd; exec 8<&-; [ -e /proc/self/fd/8 ] && echo kept; echo end";
    for (then, stdout) in [(&["-ex", "c"][..], "end\n"), (&["-ex", "keep", "-ex", "c"], "kept\nend\n")] {
        for more in [&[][..], &["--no-seccomp"]] {
            let began = std::time::Instant::now();
            let done = run(&[more, &["--fd", "8", "-ex", "delay 300ms"], then].concat(), &["bash", "-c", script]);
            assert_eq!((done.code(), done.stdout.as_str()), (0, stdout), "{}", done.stderr);
            assert!(began.elapsed().as_millis() >= 300, "{}", done.stderr);
            assert!(!done.stderr.contains("break 2 ["), "asked once: {}", done.stderr);
        }
    }
    // After a call it is the result that waits.
    let began = std::time::Instant::now();
    let options = ["-ex", "tcatch open if path == \"/etc/passwd\"", "-ex", "delay 300ms", "-ex", "c"];
    let done = run(&options, &["bash", "-c", script]);
    assert!(began.elapsed().as_millis() >= 300 && done.stdout == "end\n", "{}", done.stderr);
    assert!(done.stderr.contains("  delay 300ms of the result of open"), "{}", done.stderr);
    for (wrong, part) in [("delay 5", "\"5\" is no time"), ("delay 0s", "is no time"), ("delay", "usage: delay TIME")] {
        let done = run(&["-ex", wrong], &["echo", "started"]);
        assert_eq!((done.code(), done.stdout.as_str()), (125, ""), "{wrong}: {}", done.stderr);
        assert!(done.stderr.contains(part), "{wrong}: {}", done.stderr);
    }
}

#[test]
fn what_was_closed_can_be_looked_at_if_a_copy_is_held() {
    let Some(py) = python("what_was_closed_can_be_looked_at_if_a_copy_is_held") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (content, later) = (dir.path().join("content"), dir.path().join("later"));
    std::fs::write(&content, "hello wide world").unwrap();
    std::fs::write(&later, "").unwrap();
    let program = "
import os, subprocess, sys
fd = os.open(sys.argv[1], os.O_RDONLY); os.read(fd, 6); os.dup2(fd, 50); os.close(fd); os.unlink(sys.argv[1])
os.close(50)
os.close(os.open(sys.argv[2], os.O_RDONLY))
show = 'import os; print([os.path.realpath(\"/proc/self/fd/\" + n) for n in os.listdir(\"/proc/self/fd\") if int(n) > 2])'
subprocess.run([sys.executable, '-ISBc', show], close_fds=False)
own = f'/proc/{os.getppid()}/fd/'
print('end', [n for n in os.listdir('/proc/self/fd') if n == '50'], 'held' in sys.argv and
    any('content (deleted)' in os.path.realpath(own + n) for n in os.listdir(own)))
";
    let catch = format!("tcatch open if path == \"{}\"", later.display());
    let session = |lines: &[&str]| {
        std::fs::write(&content, "hello wide world").unwrap();
        let options = ["--fd", "50", "-ex", &catch].into_iter().chain(lines.iter().flat_map(|l| ["-ex", *l]));
        let held = if lines.first().is_some_and(|l| l.starts_with("catch")) { "held" } else { "" };
        let target = [&py, "-ISBc", program, content.to_str().unwrap(), later.to_str().unwrap(), held];
        run(&options.collect::<Vec<_>>(), &target)
    };
    let first = session(&["dup"]);
    let id =
        first.stderr.split("fdwatch holds a copy of ").nth(1).and_then(|t| t.split(' ').next()).unwrap_or_default();
    assert!(id.starts_with('#') && first.stdout.ends_with("end [] False\n"), "{}", first.stderr);
    let peek = format!("peek {id}");
    let lines = ["dup", "info fds", "c", "info fds", "fd 50", &peek, "dup off", "info fds", "c"];
    let done = session(&lines);
    for part in [
        "until dup off ID: a lock of flock(2) on it stays",
        "\n      fdwatch holds a copy: dup off ID lets go\n",
        "\nnot open here, fdwatch holds a copy: ID /",
        "\nfd 50 is not open\n",
        "\n  copy     fdwatch holds one of ID: dup off ID lets go\n",
        "\nposition 6 of 16 bytes\n> 00000000  68 65 6c 6c 6f 20 77 69 64 65 20 77 6f 72 6c 64  hello wide world\n",
        "\nfdwatch has let go of ID /",
        "fdwatch held open what it had copied by dup",
    ] {
        assert!(done.stderr.contains(&part.replace("ID", id)), "{part}: {}", done.stderr);
    }
    let after = done.stderr.split("has let go of").nth(1).unwrap_or_default();
    assert!(!after.contains("not open here, fdwatch holds"), "{}", done.stderr);
    // Neither the target nor what it executes has it, while fdwatch, which waits for another break, holds it.
    let held = session(&["catch open if path == \"/never\"", "dup", "c"]);
    assert!(held.stdout.ends_with("end [] True\n"), "{}: {}", held.stdout, held.stderr);
    assert!(held.stdout.starts_with('[') && !held.stdout.contains("/content"), "{}: {}", held.stdout, held.stderr);
    for (line, told) in [
        ("peek #9999", "object #9999: it is open nowhere: at a break before its close dup holds a copy\n"),
        ("peek 5000", "fd 5000 is not open here\n"),
        ("dup 5000", "fd 5000 is not open here\n"),
        ("dup off", "no copy is held\n"),
        ("dup off x", "\"x\" is not an object: #17"),
        ("dup -1", "a descriptor is not negative"),
    ] {
        let done = run(&["--fd", "8", "-ex", line], &["sh", "-c", "exec 8</dev/null; exec 8<&-"]);
        assert!(done.stderr.contains(told), "{line}: {}", done.stderr);
    }
}

/// The other end of the pipe is told of the end although fdwatch held its last writer.
#[test]
fn a_copy_is_let_go_of_when_nobody_can_look_at_it_any_more() {
    let Some(py) = python("a_copy_is_let_go_of_when_nobody_can_look_at_it_any_more") else { return };
    let program = "
import os
r, w = os.pipe(); os.dup2(w, 50); os.close(w); os.write(50, b'x')
os.close(50)
print(os.read(r, 9), os.read(r, 9))
";
    for last in ["c", "detach"] {
        let done = run(&["--fd", "50", "-ex", "dup", "-ex", last], &[&py, "-ISBc", program]);
        assert!(done.stderr.contains(": who reads from the pipe is told of no end of file\n"), "{}", done.stderr);
        assert_eq!((done.code(), done.stdout.as_str()), (0, "b'x' b''\n"), "{last}: {}", done.stderr);
    }
}

#[test]
fn finish_shows_the_result_of_the_call() {
    if !bash("finish_shows_the_result_of_the_call") {
        return;
    }
    for (script, result) in [
        ("exec 8</etc/passwd; exec 8<&-; echo end", "close(8) = 0\n"),
        ("exec 8</etc/passwd; exec 8</dev/null; echo end", "= 8\n"),
    ] {
        for more in [&[][..], &["--no-seccomp"]] {
            let options = [more, &["--fd", "8", "-ex", "finish", "-ex", "finish", "-ex", "never"]].concat();
            let done = run(&options[..options.len() - 2], &["bash", "-c", script]);
            let second = done.stderr.split("break 2 [").nth(1).unwrap_or_default();
            assert!(second.contains("  why     the call has returned\n"), "{script}: {}", done.stderr);
            assert!(second.contains(result), "{script}: {}", done.stderr);
            // The second finish is a mistake, which ends the script and the target.
            assert!(done.stderr.contains("-ex 2: the call has returned already\n"), "{}", done.stderr);
            assert_eq!((done.code(), done.stdout.as_str()), (125, ""), "{}", done.stderr);
        }
    }
}

#[test]
fn what_waits_in_a_pipe_is_seen_and_stays() {
    let Some(py) = python("what_waits_in_a_pipe_is_seen_and_stays") else { return };
    let program = "
import os
r, w = os.pipe(); os.write(w, b'hello pipe'); os.close(w); print(os.read(r, 99))
";
    let options =
        ["-ex", "tcatch close if kind == pipe", "-ex", "peek", "-ex", "who", "-ex", "info fds full if kind == pipe"];
    let done = run(&options, &[&py, "-S", "-c", program]);
    assert_eq!(done.stdout, "b'hello pipe'\n", "{}", done.stderr);
    assert!(done.stderr.contains("10 bytes that wait in it, and still do\n"), "{}", done.stderr);
    assert!(done.stderr.contains(" hello pipe\n"), "{}", done.stderr);
    assert!(done.stderr.contains("the other end, #"), "{}", done.stderr);
    assert!(done.stderr.contains("; other end "), "{}", done.stderr);
}

#[test]
fn a_report_of_all_so_far_is_saved_and_the_prompt_goes_on() {
    if !bash("a_report_of_all_so_far_is_saved_and_the_prompt_goes_on") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a report.json");
    let save = format!("save {}", file.display());
    let done = run(&["--fd", "8", "-ex", &save, "-ex", "keep", "-ex", "continue 99"], &["bash", "-c", EIGHT]);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "end\n"), "{}", done.stderr);
    assert_eq!(done.stderr.matches("break 1 [").count(), 1, "{}", done.stderr);
    assert!(done.stderr.contains("fd 8 will stay open"), "{}", done.stderr);
    let shown = common::run(Command::new(fdwatch()).arg("show").arg(&file));
    assert_eq!(shown.code(), 0, "{}", shown.stderr);
    assert!(shown.stdout.contains("0 errors"), "{}", shown.stdout);
}

#[test]
fn a_transcript_does_again_what_was_done() {
    if !bash("a_transcript_does_again_what_was_done") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|n| dir.path().join(n).to_string_lossy().into_owned());
    let options =
        ["--batch", "--transcript", &first, "-ex", "catch close if fd == 8", "-ex", "fd 8", "-ex", "keep", "-ex", "c"];
    let done = run(&options, &["bash", "-c", EIGHT]);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "end\n"), "{}", done.stderr);
    let again = run(&["--batch", "--transcript", &second, "-x", &first], &["bash", "-c", EIGHT]);
    assert_eq!((again.code(), again.stdout.as_str()), (0, "end\n"), "{}", again.stderr);
    let commands = |path: &str| -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().filter(|l| !l.starts_with("# ")).map(str::to_string).collect()
    };
    assert_eq!(commands(&first), ["catch close if fd == 8", "fd 8", "keep", "c"]);
    assert_eq!(commands(&first), commands(&second));
    assert!(again.stderr.contains("results altered by 1 injection"), "{}", again.stderr);
}

#[test]
fn calls_are_altered_as_the_command_line_says() {
    if !bash("calls_are_altered_as_the_command_line_says") {
        return;
    }
    let audit = |inject: &str, script: &str| {
        common::run(Command::new(fdwatch()).args(["audit", "--inject", inject, "--", "bash", "-c", script]))
    };
    let third = "for i in 1 2 3; do exec 8</etc/passwd; exec 8<&-; [ -e /proc/self/fd/8 ] && echo $i; done";
    for (inject, stdout, told) in [
        ("close:fd=8:nth=2:keep", "2\n", "keep of close(8)"),
        ("close:path=/etc/passwd:when=2+:error=EIO:if=fd == 8", "2\n3\n", "fail EIO of close(8)"),
        ("close:fd=8:path=/none:keep", "", ""),
    ] {
        let done = audit(inject, third);
        assert_eq!(done.stdout, stdout, "{inject}: {}", done.stderr);
        assert_eq!(done.stderr.contains("results altered by"), !told.is_empty(), "{inject}: {}", done.stderr);
        assert!(done.stderr.contains(told), "{inject}: {}", done.stderr);
    }
    let over = "exec 8</dev/null; exec 8</etc/passwd; read x <&8; echo \"[$x]\"";
    let done = audit("dup2,dup3:fd=8:keep:if=path == \"/dev/null\"", over);
    assert_eq!(done.stdout, "[]\n", "8 is /dev/null still: {}", done.stderr);
    // A wait, and then what else was asked for, in one or in two.
    let together = "close:fd=8:nth=1:delay_enter=200ms:error=EIO";
    let apart = ["close:fd=8:nth=1:error=EIO", "close:fd=8:nth=1:delay_enter=200ms"];
    for injects in [&[together][..], &apart] {
        let began = std::time::Instant::now();
        let options = injects.iter().flat_map(|i| ["--inject", i]);
        let done = common::run(Command::new(fdwatch()).arg("audit").args(options).args(["--", "bash", "-c", third]));
        assert!(began.elapsed().as_millis() >= 200 && done.stdout == "1\n", "{}", done.stderr);
        for told in ["  delay 200ms of close(8) by [", "  fail EIO of close(8) by ["] {
            assert!(done.stderr.contains(told), "{told}: {}", done.stderr);
        }
    }
    // Calls that make descriptors fail, too: by the path, absolute or not, and by the number that they take.
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    std::fs::write(dir.path().join("a"), "").unwrap();
    let opens = format!("cd {at}; for f in a ./a {at}/a; do : <$f || echo no $f; done 2>/dev/null");
    let (one, some) =
        (format!("open,openat:path={at}/a:when=1:error=EMFILE"), format!("openat:path={at}/*:error=EIO:when=2+"));
    let both = format!("no ./a\nno {at}/a\n");
    // Told by the path, not by where that stood.
    let (first, second) = (format!("fail EMFILE of openat(AT_FDCWD, \"{at}/a\", "), format!("\"{at}/./a\", "));
    for (inject, stdout, told) in [
        (one.as_str(), "no a\n", first.as_str()),
        (&some, &both, &second),
        ("open,openat:path=/none/*:error=ENOENT", "", ""),
    ] {
        for more in [&[][..], &["--no-seccomp"]] {
            let mut command = Command::new(fdwatch());
            let inject = format!("{inject}:delay_enter=1ms");
            command.arg("audit").args(more).args(["--inject", &inject, "--", "bash", "-c", &opens]);
            let done = common::run(&mut command);
            assert_eq!(done.stdout, stdout, "{inject}: {}", done.stderr);
            assert_eq!(done.stderr.contains("results altered by"), !told.is_empty(), "{inject}: {}", done.stderr);
            assert!(done.stderr.contains(told), "{inject}: {}", done.stderr);
        }
    }
    let wrong = audit("close:keeep", "echo started");
    assert_eq!((wrong.code(), wrong.stdout.as_str()), (125, ""), "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("column 7: \"keeep\" is nothing to say here; did you mean keep?"),
        "{}",
        wrong.stderr
    );
}

/// The kernel says who traces whom, and who stands still.
#[test]
fn a_process_is_handed_over_where_it_stands() {
    let Some(py) = python("a_process_is_handed_over_where_it_stands") else { return };
    let program = "
import os
print(os.getpid(), flush=True)
fd = os.open('/etc/passwd', os.O_RDONLY); os.dup2(fd, 50); os.close(50); print('gone on', flush=True)
";
    let options = ["--no-seccomp", "--fd", "50", "-ex", "gdb"];
    let mut running = start(Command::new(fdwatch()).arg("run").args(options).args(["--", &py, "-S", "-c", program]));
    let pid: i32 = running.line().expect("a line").parse().expect("a pid");
    let status = || std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let end = std::time::Instant::now() + common::LIMIT;
    while !(status().contains("TracerPid:\t0\n") && status().contains("State:\tT (stopped)")) {
        assert!(std::time::Instant::now() < end, "{}", status());
        // Between two looks at a state that the kernel announces to nobody.
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGCONT).unwrap();
    let done = running.end();
    assert_eq!((done.code(), done.stdout.as_str()), (0, "gone on\n"), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("gdb -p {pid}")), "{}", done.stderr);
    let filtered = run(&["--fd", "8", "-ex", "gdb"], &["bash", "-c", EIGHT]);
    assert!(filtered.stderr.contains("start it with --no-seccomp"), "{}", filtered.stderr);
}

#[test]
fn who_lets_go_of_a_socket_that_lingers_does_not_wait_for_it() {
    let Some(python) = python("who_lets_go_of_a_socket_that_lingers_does_not_wait_for_it") else { return };
    let code = "import os, socket, struct\nl = socket.create_server(('127.0.0.1', 0))\n\
                c = socket.create_connection(l.getsockname())\npeer = l.accept()[0]\n\
                c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 1000))\nc.setblocking(False)\n\
                try:\n    while True: c.send(bytes(1 << 16))\nexcept BlockingIOError: pass\n\
                os.dup2(c.fileno(), 90)\nc.close()\nos.close(90)\nprint('closed')";
    let lines = ["tcatch close if fd == 90", "dup", "finish", "dup off", "continue"];
    let options: Vec<&str> = lines.iter().flat_map(|l| ["-ex", *l]).collect();
    let done = run(&[&["--break", "none", "--batch"][..], &options].concat(), &[&python, "-S", "-c", code]);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "closed\n"), "{}", done.stderr);
    assert!(done.stderr.contains("fdwatch has let go of #"), "{}", done.stderr);
}

#[test]
fn results_are_told_later_and_what_copies_or_receives_a_descriptor_fails() {
    let Some(python) = python("results_are_told_later_and_what_copies_or_receives_a_descriptor_fails") else { return };
    let code = "import fcntl, os, socket, time\n\
                def t(what, *a):\n    try: what(*a); return 'done'\n    except OSError as e: return os.strerror(e.errno)\n\
                a, b = socket.socketpair()\nsocket.send_fds(a, [b'x'], [0])\n\
                print('receive', t(socket.recv_fds, b, 1, 1))\nprint('again', t(socket.recv_fds, b, 1, 1))\n\
                print('copy', t(fcntl.fcntl, a.fileno(), fcntl.F_DUPFD, 90), t(fcntl.fcntl, a.fileno(), fcntl.F_GETFD))\n\
                os.dup2(0, 91)\nbegan = time.monotonic()\nprint('close', t(os.close, 91))\n\
                print('slow', time.monotonic() - began >= 0.2, t(os.fstat, 91))";
    let told = [
        ("recvmsg:when=1:error=EIO", "fail EIO of recvmsg("),
        ("fcntl:error=EMFILE", "fail EMFILE of fcntl("),
        ("close:fd=91:delay_exit=200ms", "delay 200ms of the result of close(91) by ["),
    ];
    let expected = "receive Input/output error\nagain done\ncopy Too many open files done\nclose done\n\
                    slow True Bad file descriptor\n";
    for more in [&[][..], &["--no-seccomp"], &["--quarantine"]] {
        let options = told.iter().flat_map(|(inject, _)| ["--inject", inject]).chain(more.iter().copied());
        let mut command = Command::new(fdwatch());
        command.arg("audit").args(options).args(["--", &python, "-S", "-c", code]);
        let done = common::run(&mut command);
        assert_eq!(done.stdout, expected, "{more:?}: {}", done.stderr);
        if more != ["--quarantine"] {
            assert!(done.stderr.contains("results altered by 3 injections\n"), "{more:?}: {}", done.stderr);
        }
        for (_, told) in told {
            assert!(done.stderr.contains(told), "{more:?}: {told}: {}", done.stderr);
        }
    }
}

#[test]
fn what_was_decided_holds_where_another_thread_has_closed_the_number_meanwhile() {
    let Some(python) = python("what_was_decided_holds_where_another_thread_has_closed_the_number_meanwhile") else {
        return;
    };
    let code = "import os, threading\nos.dup2(0, 90)\nsaid = []\nboth = threading.Barrier(2)\n\
                def closes():\n    both.wait()\n    try: os.close(90); said.append('closed')\n    \
                except OSError as e: said.append(os.strerror(e.errno))\n\
                threads = [threading.Thread(target=closes) for _ in range(2)]\n\
                for t in threads: t.start()\nfor t in threads: t.join()\n\
                try: os.fstat(90)\nexcept OSError as e: said.append('gone')\nprint(*sorted(said))";
    for (decision, said) in [("keep", "closed closed gone\n"), ("fail EIO", "Input/output error closed gone\n")] {
        let lines = ["tcatch close if fd == 90", "delay 500ms", decision, "continue"];
        let options: Vec<&str> = lines.iter().flat_map(|l| ["-ex", *l]).collect();
        let none = ["--break", "none", "--no-break", "findings", "--batch"];
        let done = run(&[&none[..], &options].concat(), &[&python, "-S", "-c", code]);
        assert_eq!(done.stdout, said, "{decision}: {}", done.stderr);
        assert!(done.stderr.contains("results altered by 2 injections\n"), "{decision}: {}", done.stderr);
        for told in ["  delay 500ms of close(90) by [", &format!("  {decision} of close(90) by [")] {
            assert!(done.stderr.contains(told), "{decision}: {told}: {}", done.stderr);
        }
    }
}

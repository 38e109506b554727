//! The prompt on a real terminal: the whole story, who owns the terminal when, and every way out.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
mod pty;

use common::{alone, fdwatch, has, pythons, root, run, script, skip, target};
use pty::Pty;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `fdwatch run OPTIONS -- COMMAND`.
fn watched(options: &[&str], command: &[&str]) -> Command {
    let mut c = Command::new(fdwatch());
    c.arg("run").args(options).arg("--").args(command).current_dir(root());
    c
}

/// The interpreter for the tests; says so when there is none.
fn python(test: &str) -> Option<String> {
    let found = pythons().first().map(|p| p.to_string_lossy().into_owned());
    if found.is_none() {
        skip(test, "no python3");
    }
    found
}

fn lacks(test: &str, program: &str) -> bool {
    let lacks = !has(program);
    if lacks {
        skip(test, &format!("no {program}"));
    }
    lacks
}

fn repl() -> String {
    root().join("tests/targets/tty_repl.py").to_string_lossy().into_owned()
}

fn has_lines(program: &str) -> bool {
    use object::Object;
    let Ok(bytes) = std::fs::read(program) else { return false };
    object::File::parse(&*bytes).is_ok_and(|f| f.section_by_name(".debug_line").is_some())
}

const LOST: &str = "python/symptom_a_bare_call.py";

/// The number of the line of the example that holds `text`.
fn line_of(text: &str) -> usize {
    let source = std::fs::read_to_string(script(LOST)).unwrap();
    source.lines().position(|l| l.contains(text)).unwrap() + 1
}

#[test]
fn keep_shows_that_this_close_was_all_that_was_wrong() {
    let Some(py) = python("keep_shows_that_this_close_was_all_that_was_wrong") else { return };
    let mut p = Pty::start(&mut watched(&[], &[&py, &script(LOST)]));
    p.expect("break 1 [");
    p.expect("] about to close fd 3 #");
    p.expect("/output\n");
    p.expect("  why     implicit: the finalizer closes it");
    let line = line_of("fileno()");
    p.expect(&format!("symptom_a_bare_call.py:{line}  run_quietly([\"/bin/echo\", \"hi\"], stdout=open("));
    p.expect("(fdwatch) ");
    let bt = p.ask("bt");
    assert!(bt.contains(&format!("symptom_a_bare_call.py:{line} in main\n")), "{bt}");
    assert!(bt.contains("#0 "), "{bt}");
    if has_lines(&py) {
        assert!(bt.contains("iobase_finalize at ") && bt.contains("/iobase.c:"), "{bt}");
    }
    let fds = p.ask("info fds");
    let row = fds.lines().find(|l| l.split_whitespace().find(|w| *w != ">") == Some("3")).unwrap_or_default();
    assert!(row.contains('#') && row.contains("/output"), "{fds}");
    let hist = p.ask("hist 3");
    assert!(
        hist.contains("earlier lives") && hist.contains("/output\", O_WRONLY") && hist.contains(" = 3\n"),
        "{hist}"
    );
    assert!(p.ask("keep").contains("fd 3 will stay open"));
    p.line("continue");
    p.expect("the file holds 3 bytes\n");
    let (code, rest) = p.end();
    assert_eq!(code, 0);
    assert!(rest.contains("results altered by 1 injection"), "{rest}");
    assert!(!rest.contains("error["), "{rest}");
}

#[test]
fn without_keep_the_finding_tells_the_story() {
    let Some(py) = python("without_keep_the_finding_tells_the_story") else { return };
    let mut p = Pty::start(&mut watched(&[], &[&py, &script(LOST)]));
    p.expect("break 1 [");
    p.expect("(fdwatch) ");
    p.line("continue");
    p.expect("break 2 [");
    p.expect("error[stale-fd-to-child]");
    let story = p.expect("(fdwatch) ");
    for part in ["  opened  ", "  closed  ", "by reference count", "  used    ", "= EBADF", "  help    "] {
        assert!(story.contains(part), "{part}: {story}");
    }
    assert!(p.ask("keep").contains("this call has been made already"));
    assert!(p.ask("explain").contains("stale-fd-to-child"));
    p.line("continue");
    p.expect("the file holds 0 bytes\n");
    let (code, rest) = p.end();
    assert_eq!(code, 0);
    assert!(rest.contains("1 error") && !rest.contains("altered"), "{rest}");
}

#[test]
fn commands_repeat_may_be_shortened_and_mistakes_are_answered() {
    let Some(py) = python("commands_repeat_may_be_shortened_and_mistakes_are_answered") else { return };
    let mut p = Pty::start(&mut watched(&[], &[&py, &script(LOST)]));
    p.expect("break 1 [");
    p.expect("(fdwatch) ");
    assert!(p.ask("k").contains("ambiguous command \"k\": keep, kill"));
    assert!(p.ask("contineu").contains("unknown command \"contineu\"; did you mean continue?"));
    assert!(p.ask("xyzzy").contains("try help"));
    assert!(p.ask("keep it").contains("one word too many"));
    let help = p.ask("help");
    assert!(help.contains("continue [N]") && help.contains("quit"), "{help}");
    assert!(p.ask("help keep").contains("will not happen"));
    let fds = p.ask("info fd");
    assert!(fds.contains("/output"), "{fds}");
    p.line("next");
    p.expect("break 2 [");
    p.expect("] after pipe2, which opened fd 3 and 4\n");
    p.expect("the next descriptor event");
    p.expect("(fdwatch) ");
    p.line("");
    p.expect("break 3 [");
    p.expect("(fdwatch) ");
    // Tab completes.
    p.send("expl\t\r");
    p.expect("stale-fd-to-child");
    p.expect("(fdwatch) ");
    p.line("cont 100");
    p.expect("the file holds 0 bytes\n");
    assert_eq!(p.end().0, 0);
}

#[test]
fn a_target_keeps_its_terminal_around_a_break() {
    let Some(py) = python("a_target_keeps_its_terminal_around_a_break") else { return };
    let mut p = Pty::start(&mut watched(&[], &[&py, &repl()]));
    p.expect("\n> ");
    p.line("hello");
    p.expect("HELLO\n> ");
    let (mode, target) = (p.mode(), p.foreground());
    assert_ne!(target, p.pid());
    for n in 1..=3 {
        p.send("\x03");
        p.expect(&format!("break {n} ["));
        p.expect("interrupted\n");
        p.expect("(fdwatch) ");
        assert_eq!(p.foreground(), p.pid());
        let threads = p.ask("info threads");
        assert!(threads.contains(&target.to_string()), "{threads}");
        let procs = p.ask("info procs");
        assert!(procs.contains("tty_repl.py"), "{procs}");
        p.line("continue");
        p.expect("[continuing]");
        p.line("again");
        p.expect("AGAIN\n> ");
        assert_eq!((p.foreground(), p.mode()), (target, mode.clone()));
    }
    p.line("quit");
    p.expect("bye, on a terminal\n");
    assert_eq!(p.end().0, 0);
}

#[test]
fn a_target_learns_of_the_width_that_the_terminal_got_while_the_prompt_was_open() {
    let Some(py) = python("a_target_learns_of_the_width_that_the_terminal_got_while_the_prompt_was_open") else {
        return;
    };
    let size = root().join("tests/targets/tty_size.py").to_string_lossy().into_owned();
    let mut p = Pty::start(&mut watched(&[], &[&py, &size]));
    p.expect("\n80 columns\n");
    // While it runs the kernel tells it.
    p.resize(120);
    p.expect("now 120 columns\n");
    for (n, columns) in [(1, 60), (2, 140)] {
        p.send("\x03");
        p.expect(&format!("break {n} ["));
        p.expect("(fdwatch) ");
        p.resize(columns);
        let help = p.ask("help");
        // Of the summaries, which begin in one column: prose ends at 100 even where there is room for more.
        let widest = help.lines().filter(|l| l.starts_with("      ")).map(str::len).max().unwrap_or(0);
        let (least, most) = if columns < 80 { (50, 60) } else { (70, 100) };
        assert!((least..=most).contains(&widest), "{columns}, {widest}: {help}");
        p.line("continue");
        p.expect("[continuing]\n");
        p.expect(&format!("now {columns} columns\n"));
    }
    // The same width all along is not told.
    p.send("\x03");
    p.expect("break 3 [");
    p.expect("(fdwatch) ");
    p.line("continue");
    p.expect("[continuing]\n");
    p.line("hello");
    assert!(!p.expect("got hello\n").contains("columns"));
    p.send("\x04");
    p.expect("over\n");
    assert_eq!(p.end().0, 0);
}

/// Ctrl-\\, which a terminal makes SIGQUIT of.
const QUIT: &str = "\x1c";

#[test]
fn the_key_that_quits_is_no_command_and_ends_the_target_as_it_does_alone() {
    let Some(py) = python("the_key_that_quits_is_no_command_and_ends_the_target_as_it_does_alone") else { return };
    let size = root().join("tests/targets/tty_size.py").to_string_lossy().into_owned();
    let mut alone = Pty::start(Command::new(&py).arg(&size));
    alone.expect("80 columns\n");
    alone.send(QUIT);
    let (code, _) = alone.end();
    assert_eq!(code, 128 + libc::SIGQUIT);
    // With an editor of lines and without one.
    for term in ["xterm", "dumb"] {
        let mut shell = Command::new("sh");
        let script =
            format!("ulimit -c 0; trap : QUIT; export TERM={term}; \"$FDWATCH\" run -- {py} {size}; echo status $?");
        let mut p = Pty::start(shell.args(["-c", &script]).env("FDWATCH", fdwatch()));
        p.expect("80 columns\n");
        p.send("\x03");
        p.expect("break 1 [");
        p.expect("(fdwatch) ");
        p.send(QUIT);
        // What comes next is read whole, and the target knows nothing of the key.
        assert!(p.ask("info procs").contains("tty_size.py"), "{term}");
        p.line("continue");
        p.expect("[continuing]\n");
        p.line("hello");
        p.expect("got hello\n");
        p.send(QUIT);
        p.expect("status 131\n");
        assert_eq!(p.end().0, 0, "{term}");
    }
}

#[test]
fn a_program_of_the_whole_screen_goes_on_after_breaks_as_it_was() {
    const TEST: &str = "a_program_of_the_whole_screen_goes_on_after_breaks_as_it_was";
    let Some(py) = python(TEST) else { return };
    if run(Command::new(&py).args(["-c", "import curses; curses.setupterm('xterm', 1)"])).code() != 0 {
        return skip(TEST, "this Python has no curses, or nobody knows an xterm here");
    }
    let program = root().join("tests/targets/tty_screen.py").to_string_lossy().into_owned();
    let script = "\"$FDWATCH\" run --break none -ex 'catch close if fd == 40' -- \"$PY\" \"$PROGRAM\"; echo status $?";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]);
    let mut p = Pty::start(shell.env("FDWATCH", fdwatch()).env("PY", &py).env("PROGRAM", &program));
    let before = p.mode();
    p.expect("a whole screen");
    let (mode, target) = (p.mode(), p.foreground());
    assert_ne!(mode, before, "no line is edited there");
    for n in 1..=4 {
        let by_key = n % 2 == 1;
        p.send(if by_key { "\x03" } else { "o" });
        p.expect(&format!("break {n} ["));
        p.expect(if by_key { "interrupted\n" } else { "  caught  by 1: close if fd == 40\n" });
        p.expect("(fdwatch) ");
        assert_ne!(p.mode(), mode);
        assert!(p.ask("info fds").contains("/dev/pts/"), "lines are edited and ended at the prompt");
        p.line("continue");
        p.expect("[continuing]\n");
        if !by_key {
            p.expect("was o.");
        }
        p.expect_owner(target);
        p.send("x");
        p.expect("was x.");
        assert_eq!((p.mode(), p.foreground()), (mode.clone(), target));
    }
    p.send("q");
    p.expect("back again\n");
    p.expect("status 0\n");
    let raw = p.raw();
    let (last, left) = (raw.rfind("was x."), raw.rfind("\x1b[?1049l"));
    assert!(left.is_some() && left > last, "the screen from before is shown again");
    assert_eq!(p.mode(), before);
    assert_eq!(p.end().0, 0);
}

#[test]
fn vim_goes_on_after_a_break_and_draws_for_the_width_that_the_terminal_has_then() {
    if lacks("vim_goes_on_after_a_break_and_draws_for_the_width_that_the_terminal_has_then", "vim") {
        return;
    }
    let options = ["--break", "none", "-ex", "tcatch open if path == \"/etc/hosts\""];
    let mut p = Pty::start(&mut watched(&options, &["vim", "-u", "NONE", "-i", "NONE", "-n", "-X"]));
    // No echo of what is typed is taken for an answer.
    p.line(":echo 'up'.'right'");
    p.expect("upright");
    let (mode, target) = (p.mode(), p.foreground());
    p.line(":r /etc/hosts");
    p.expect("break 1 [");
    p.expect("(fdwatch) ");
    p.resize(132);
    assert!(p.ask("bt").contains("#0 "));
    p.line("continue");
    p.expect("[continuing]\n");
    p.expect_owner(target);
    p.line(":echo 'now '.&columns");
    p.expect("now 132");
    assert_eq!(p.mode(), mode);
    p.line(":q!");
    assert_eq!(p.end().0, 0);
}

#[test]
fn the_stack_of_any_task_is_taken_where_it_stands() {
    let Some(py) = python("the_stack_of_any_task_is_taken_where_it_stands") else { return };
    let script = "import os, sys, threading\n\
        r, w = os.pipe()\n\
        told, tells = os.pipe()\n\
        up = threading.Event()\n\
        def holds_out():\n    os.write(tells, b'x')\n    os.read(r, 1)\n    os._exit(0)\n\
        def waits_for_work():\n    up.set()\n    os.read(r, 1)\n\
        def asks():\n    up.wait()\n    print('ready', flush=True)\n    sys.stdin.readline()\n\
        child = os.fork()\n\
        if child == 0: holds_out()\n\
        os.read(told, 1)\n\
        worker = threading.Thread(target=waits_for_work)\n\
        worker.start()\n\
        asks()\n\
        os.kill(child, 9)\n\
        os.write(w, b'xx')\n\
        worker.join()\n\
        print('over', flush=True)\n";
    for options in [&["--break", "none"][..], &["--break", "none", "--no-seccomp"]] {
        let mut p = Pty::start(&mut watched(options, &[&py, "-c", script]));
        p.expect("ready\n");
        let main = p.foreground();
        p.send("\x03");
        p.expect("interrupted\n");
        p.expect("(fdwatch) ");
        // Of no call: nothing was taken there before.
        let bt = p.ask(&format!("thread {main}"));
        assert!(bt.contains("looking at thread"), "{bt}");
        let bt = p.ask("bt");
        assert!(bt.contains(" in asks\n") && !bt.contains("waits_for_work"), "{bt}");
        assert!(p.ask("up").contains("in <module>"));
        let threads = p.ask("info threads");
        let of = |pid: &dyn Fn(i32, i32) -> bool| -> i32 {
            let ids = |l: &str| -> Option<(i32, i32)> {
                let mut words = l.trim_start_matches('>').split_whitespace();
                Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
            };
            threads.lines().filter_map(ids).find(|(t, p)| pid(*t, *p)).unwrap_or_else(|| panic!("{threads}")).0
        };
        p.ask(&format!("thread {}", of(&|t, p| p == main && t != main)));
        let bt = p.ask("bt");
        assert!(bt.contains(" in waits_for_work\n") && !bt.contains("in asks"), "{bt}");
        // The frame is that of this stack, too.
        let frame = p.ask("frame");
        assert!(frame.contains("in waits_for_work"), "{frame}");
        p.ask(&format!("proc {}", of(&|_, p| p != main)));
        let bt = p.ask("bt py");
        assert!(bt.contains(" in holds_out\n") && !bt.contains("waits_for_work"), "{bt}");
        p.ask(&format!("thread {main}"));
        assert!(p.ask("bt").contains(" in asks\n"));
        p.line("continue");
        p.expect("[continuing]\n");
        p.line("");
        p.expect("over\n");
        assert_eq!(p.end().0, 0);
    }
}

#[test]
fn what_cannot_be_said_ends_nothing() {
    let mut shell = Command::new("sh");
    let script = "\"$FDWATCH\" run -- echo fine 2>/dev/full; echo status $?";
    let mut p = Pty::start(shell.args(["-c", script]).env("FDWATCH", fdwatch()));
    p.expect("fine\nstatus ");
    assert_eq!(p.end(), (0, "0\n".to_string()));
}

#[test]
fn cat_goes_on_after_an_interrupt_and_ends_at_end_of_file() {
    for options in [&[][..], &["--no-seccomp"]] {
        let mut p = Pty::start(&mut watched(options, &["cat"]));
        p.expect("opens the prompt\n");
        p.line("one");
        p.expect("one\none\n");
        p.send("\x03");
        p.expect("interrupted\n");
        p.expect("(fdwatch) ");
        // What is typed ahead of the continue is the prompt's, what follows it is the target's.
        p.line("c");
        p.expect("[continuing]\n");
        p.line("two");
        p.expect("two\ntwo\n");
        p.send("\x04");
        assert_eq!(p.end().0, 0);
    }
}

#[test]
fn pythons_line_editor_works_before_and_after_breaks() {
    const TEST: &str = "pythons_line_editor_works_before_and_after_breaks";
    let Some(py) = python(TEST) else { return };
    if run(Command::new(&py).args(["-c", "import readline"])).code() != 0 {
        return skip(TEST, "this Python has no readline");
    }
    let mut c = watched(&[], &[&py, "-i", "-q"]);
    // From 3.13 on there is a line editor of its own.
    let mut p = Pty::start(c.env("PYTHON_BASIC_REPL", "1"));
    p.expect(">>> ");
    let (mode, target) = (p.mode(), p.foreground());
    // Ctrl-A goes to the start of the line, Ctrl-D deletes there.
    p.send("921*2\x01\x04\r");
    p.expect("\n42\n>>> ");
    p.line("import os; n = open(os.devnull, 'w').fileno()");
    p.expect("break 1 [");
    p.expect("/dev/null\n");
    p.expect("(fdwatch) ");
    p.line("continue");
    p.expect("[continuing]\n");
    p.expect(">>> ");
    assert_eq!(p.mode(), mode);
    p.send("933*2\x01\x04\r");
    p.expect("\n66\n>>> ");
    // In the middle of a line: nothing of it is lost.
    p.send("x = 5");
    p.expect("x = 5");
    p.send("\x03");
    p.expect("break 2 [");
    p.expect("interrupted\n");
    p.expect("(fdwatch) ");
    assert_ne!(p.mode(), mode);
    p.line("continue");
    p.expect("[continuing]\n");
    p.send("0\r");
    p.expect(">>> ");
    p.line("x + 1");
    p.expect("\n51\n>>> ");
    p.expect_asleep(target);
    p.send("\x03");
    p.expect("break 3 [");
    p.expect("(fdwatch) ");
    p.line("signal SIGINT");
    p.expect("KeyboardInterrupt\n");
    p.expect(">>> ");
    assert_eq!(p.mode(), mode);
    p.line("exit(3)");
    assert_eq!(p.end().0, 3);
}

#[test]
fn a_pager_keeps_its_raw_mode() {
    if lacks("a_pager_keeps_its_raw_mode", "less") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lines");
    std::fs::write(&file, (1..=200).map(|n| format!("line number {n}.\n")).collect::<String>()).unwrap();
    let mut p = Pty::start(watched(&[], &["less", file.to_str().unwrap()]).env_remove("LESS"));
    p.expect("line number 20.");
    p.send(" ");
    p.expect("line number 40.");
    let (mode, less) = (p.mode(), p.foreground());
    p.send("\x03");
    p.expect("interrupted\n");
    p.expect("(fdwatch) ");
    p.line("continue");
    p.expect("[continuing]\n");
    // A key that it reads just when it is told to draw its screen anew, it may lose.
    for _ in 0..3 {
        p.expect_asleep(less);
        p.send("G");
    }
    p.expect("line number 200.");
    assert_eq!(p.mode(), mode);
    p.send("q");
    assert_eq!(p.end().0, 0);
}

#[test]
fn a_shell_with_job_control_is_a_target_like_any_other() {
    if lacks("a_shell_with_job_control_is_a_target_like_any_other", "bash") {
        return;
    }
    let mut p = Pty::start(&mut watched(&[], &["bash", "--norc", "-i"]));
    p.expect("sh> ");
    let (mode, shell) = (p.mode(), p.foreground());
    p.line("echo one | tr a-z A-Z");
    p.expect("\nONE\n");
    p.expect("sh> ");
    p.line("sh -c 'echo go; exec sleep 100'");
    p.expect("\ngo\n");
    let job = p.foreground();
    assert_ne!(job, shell);
    p.send("\x03");
    p.expect("break 1 [");
    p.expect("(fdwatch) ");
    let procs = p.ask("info procs");
    assert!(procs.contains("bash"), "{procs}");
    p.line("continue");
    p.expect("[continuing]\n");
    p.expect_owner(job);
    p.send("\x03");
    p.expect("break 2 [");
    p.expect("(fdwatch) ");
    p.line("signal");
    p.expect("[continuing]\n");
    p.expect("sh> ");
    assert_eq!((p.foreground(), p.mode()), (shell, mode));
    // A job that is suspended is the shell's business.
    p.line("sh -c 'echo asleep; exec sleep 100'");
    p.expect("\nasleep\n");
    p.send("\x1a");
    p.expect("Stopped");
    p.expect("sh> ");
    p.line("kill %1; fg");
    p.expect("Terminated");
    p.expect("sh> ");
    p.line("exit 5");
    assert_eq!(p.end().0, 5);
}

#[test]
fn a_suspended_job_comes_back_with_its_terminal() {
    const TEST: &str = "a_suspended_job_comes_back_with_its_terminal";
    let Some(py) = python(TEST) else { return };
    if lacks(TEST, "bash") {
        return;
    }
    let mut shell = Command::new("bash");
    let mut p = Pty::start(shell.args(["--norc", "-i"]).env("FDWATCH", fdwatch()).current_dir(root()));
    p.expect("sh> ");
    p.line(&format!("\"$FDWATCH\" run -- {py} {}", repl()));
    p.expect("\n> ");
    p.line("one");
    p.expect("ONE\n> ");
    let target = p.foreground();
    for _ in 0..2 {
        p.send("\x1a");
        p.expect("Stopped");
        p.expect("sh> ");
        assert_eq!(p.foreground(), p.pid());
        p.line("fg");
        p.expect("FDWATCH");
        p.expect_owner(target);
        p.line("two");
        p.expect("TWO\n> ");
        assert_eq!(p.foreground(), target);
    }
    p.send("\x03");
    p.expect("interrupted\n");
    p.expect("(fdwatch) ");
    p.line("continue");
    p.expect("[continuing]\n");
    p.line("quit");
    p.expect("bye, on a terminal\n");
    p.expect("sh> ");
    assert_eq!(p.foreground(), p.pid());
    p.line("exit 0");
    assert_eq!(p.end().0, 0);
}

#[test]
fn a_job_in_the_background_leaves_the_terminal_to_the_shell() {
    if lacks("a_job_in_the_background_leaves_the_terminal_to_the_shell", "bash") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut shell = Command::new("bash");
    let mut p = Pty::start(shell.args(["--norc", "-i"]).env("FDWATCH", fdwatch()).env("GATE", &gate));
    let suspend = |p: &mut Pty| {
        p.expect("\nup\n");
        p.send("\x1a");
        p.expect("Stopped");
        p.expect("sh> ");
        p.line("bg");
        p.expect("sh> ");
    };
    let lives = |p: &mut Pty| {
        p.line("echo al''ive");
        p.expect("\nalive\n");
        p.expect("sh> ");
        assert_eq!(p.foreground(), p.pid());
    };
    let stopped = |p: &mut Pty| {
        p.line("until [ -n \"$(jobs -s)\" ]; do :; done; echo stop''ped");
        p.expect("\nstopped\n");
        lives(p);
        p.line("fg");
        p.expect("FDWATCH");
    };
    p.expect("sh> ");
    // It reads.
    p.line("\"$FDWATCH\" run -- sh -c 'echo up; read x; echo got $x'");
    suspend(&mut p);
    stopped(&mut p);
    p.line("one");
    p.expect("\ngot one\n");
    // It breaks.
    p.expect("sh> ");
    p.line("\"$FDWATCH\" run --fd 8 -- sh -c 'exec 8</dev/null; echo up; read x < \"$GATE\"; exec 8<&-; read x; echo got $x'");
    suspend(&mut p);
    p.line("echo > \"$GATE\"");
    p.expect("sh> ");
    stopped(&mut p);
    p.expect("break 1 [");
    p.expect("(fdwatch) ");
    p.line("continue");
    p.expect("[continuing]\n");
    p.line("two");
    p.expect("\ngot two\n");
    // It ends.
    p.expect("sh> ");
    p.line("\"$FDWATCH\" run -- sh -c 'echo up; read x < \"$GATE\"'");
    suspend(&mut p);
    p.line("echo > \"$GATE\"; wait");
    p.expect("target exited 0");
    lives(&mut p);
    p.line("exit 0");
    assert_eq!(p.end().0, 0);
}

#[test]
fn one_ctrl_z_stops_the_whole_job() {
    if lacks("one_ctrl_z_stops_the_whole_job", "bash") {
        return;
    }
    let mut shell = Command::new("bash");
    let read = "echo up; read x; echo got $x";
    let mut p = Pty::start(shell.args(["--norc", "-i"]).env("FDWATCH", fdwatch()).env("READ", read));
    p.expect("sh> ");
    p.line("sh -c '\"$FDWATCH\" run -- sh -c \"$READ\"; echo last'");
    p.expect("\nup\n");
    p.send("\x1a");
    p.expect("Stopped");
    p.expect("sh> ");
    p.line("fg");
    p.expect("FDWATCH");
    p.line("one");
    p.expect("\ngot one\n");
    p.expect("\nlast\n");
    // So does what stops the target outright.
    p.expect("sh> ");
    p.line("\"$FDWATCH\" run -- sh -c 'kill -STOP $$; echo wo''ke'");
    p.expect("Stopped");
    p.expect("sh> ");
    p.line("fg");
    p.expect("\nwoke\n");
    p.expect("sh> ");
    p.line("exit 0");
    assert_eq!(p.end().0, 0);
}

#[test]
fn a_target_that_was_stopped_outright_is_reached() {
    let mut p = Pty::start(&mut watched(&[], &["sh", "-c", "kill -STOP $$; echo woke"]));
    p.expect(" was stopped: ");
    let asked = run(Command::new(fdwatch()).args(["break", &p.foreground().to_string()]));
    assert_eq!(asked.code(), 0, "{}", asked.stderr);
    p.expect("break 1 [");
    p.expect("(fdwatch) ");
    p.line("continue");
    p.expect("[continuing]\nwoke\n");
    assert_eq!(p.end().0, 0);
}

#[test]
fn a_signal_is_withheld_until_the_next_interrupt_and_no_longer() {
    let mut p = Pty::start(&mut watched(&[], &["cat"]));
    p.expect("opens the prompt\n");
    p.line("one");
    p.expect("one\none\n");
    p.send("\x03");
    p.expect("break 1 [");
    p.expect("(fdwatch) ");
    p.line("continue");
    p.expect("[continuing]\n");
    run(Command::new(fdwatch()).args(["break", &p.pid().to_string()]));
    p.expect("break 2 [");
    p.expect("(fdwatch) ");
    p.line("signal");
    p.expect("[continuing]\n");
    p.line("two");
    p.expect("two\ntwo\n");
    p.send("\x04");
    assert_eq!(p.end().0, 0);
}

#[test]
fn in_the_background_there_is_nobody_to_ask() {
    if lacks("in_the_background_there_is_nobody_to_ask", "bash") {
        return;
    }
    let mut shell = Command::new("bash");
    let mut p = Pty::start(shell.args(["--norc", "-i"]).env("FDWATCH", fdwatch()).current_dir(root()));
    p.expect("sh> ");
    p.line("\"$FDWATCH\" run -- echo started & wait $!; echo status $?");
    let shown = p.expect("\nstatus 125\n");
    assert!(shown.contains("fdwatch: in the background there is nobody to ask"), "{shown}");
    assert!(!shown.contains("\nstarted"), "{shown}");
    p.expect("sh> ");
    p.line("\"$FDWATCH\" run -ex continue -- echo started & wait $!; echo status $?");
    let shown = p.expect("\nstatus 0\n");
    assert!(shown.contains("\nstarted\n"), "{shown}");
    p.expect("sh> ");
    p.line("exit 0");
    assert_eq!(p.end().0, 0);
}

#[test]
fn leaving_is_asked_about_and_leaves_nothing_and_a_sane_terminal() {
    const TEST: &str = "leaving_is_asked_about_and_leaves_nothing_and_a_sane_terminal";
    let Some(py) = python(TEST) else { return };
    for way in ["\x04", "quit\r", "q\r", "kill\r"] {
        let mut shell = Command::new("sh");
        let script = "stty -g; \"$FDWATCH\" run -- \"$PY\" -i -q; echo status $?; stty -g";
        let mut p = Pty::start(shell.args(["-c", script]).env("FDWATCH", fdwatch()).env("PY", &py));
        p.expect(">>> ");
        p.send("\x03");
        p.expect("interrupted\n");
        p.expect("(fdwatch) ");
        p.send(way);
        p.expect("(1 task)");
        p.expect("(y or n) ");
        p.line("n");
        p.expect("(fdwatch) ");
        p.send(way);
        p.expect("(y or n) ");
        p.line("perhaps");
        p.expect("Please answer y or n.");
        p.expect("(y or n) ");
        p.line("y");
        p.expect("status 0\n");
        let all = p.text();
        let (code, after) = p.end();
        assert_eq!(code, 0);
        assert_eq!(after.trim(), all.lines().next().unwrap_or_default().trim(), "{way:?}");
    }
}

#[test]
fn nothing_is_left_when_fdwatch_is_killed_at_the_prompt() {
    let Some(py) = python("nothing_is_left_when_fdwatch_is_killed_at_the_prompt") else { return };
    let mut p = Pty::start(&mut watched(&[], &[&py, &repl()]));
    p.expect("\n> ");
    p.send("\x03");
    p.expect("interrupted\n");
    p.expect("(fdwatch) ");
    p.kill();
    assert_eq!(p.end().0, 128 + 9);
}

#[test]
fn a_target_that_is_left_alone_goes_on_to_its_own_end() {
    let Some(py) = python("a_target_that_is_left_alone_goes_on_to_its_own_end") else { return };
    let code = "print('ready', flush=True); print(input().upper()); raise SystemExit(7)";
    let mut p = Pty::start(&mut watched(&[], &[&py, "-c", code]));
    p.expect("ready\n");
    p.send("\x03");
    p.expect("interrupted\n");
    p.expect("(fdwatch) ");
    p.line("detach");
    p.expect("[detached]\n");
    p.line("hello");
    p.expect("HELLO\n");
    assert_eq!(p.end().0, 7);
}

#[test]
fn the_terminals_width_is_used() {
    let Some(py) = python("the_terminals_width_is_used") else { return };
    let mut p = Pty::start_on(120, &mut watched(&[], &[&py, &script(LOST)]));
    p.expect("stdout=open(path, \"w\").fileno())\n");
    p.expect("(fdwatch) ");
    p.line("continue");
    p.expect("(fdwatch) ");
    p.line("continue");
    assert_eq!(p.end().0, 0);
}

/// A file of commands.
fn commands(dir: &Path, lines: &[&str]) -> PathBuf {
    let file = dir.join("commands");
    std::fs::write(&file, lines.join("\n")).unwrap();
    file
}

#[test]
fn a_script_runs_first_and_then_the_user_is_asked() {
    let Some(py) = python("a_script_runs_first_and_then_the_user_is_asked") else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = commands(dir.path(), &["# a comment", "", "info fds", "continue"]);
    let options = ["-ex", "hist 3", "-x", file.to_str().unwrap()];
    let mut p = Pty::start(&mut watched(&options, &[&py, &script(LOST)]));
    p.expect("break 1 [");
    p.expect("(fdwatch) hist 3\n");
    p.expect("(fdwatch) info fds\n");
    p.expect("(fdwatch) continue\n");
    p.expect("break 2 [");
    p.expect("(fdwatch) ");
    p.line("c");
    p.expect("the file holds 0 bytes\n");
    assert_eq!(p.end().0, 0);
}

#[test]
fn without_a_terminal_the_transcript_goes_to_stderr_and_stdout_is_the_targets() {
    let Some(py) = python("without_a_terminal_the_transcript_goes_to_stderr_and_stdout_is_the_targets") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = commands(dir.path(), &["keep", "continue"]);
    let options = ["-ex", "bt", "-x", file.to_str().unwrap()];
    let done = run(&mut watched(&options, &[&py, &script(LOST)]));
    assert_eq!((done.code(), done.stdout.as_str()), (0, "the file holds 3 bytes\n"), "{}", done.stderr);
    for part in ["break 1 [", "(fdwatch) bt\n", "in main\n", "(fdwatch) keep\n", "altered by 1 injection"] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    // A script that ends without deciding lets the target go on.
    let done = run(&mut watched(&["-ex", "info fds"], &[&py, &script(LOST)]));
    assert_eq!((done.code(), done.stdout.as_str()), (0, "the file holds 0 bytes\n"), "{}", done.stderr);
}

/// At the break the parent is on its way into the sleep of vfork, which no interrupt ends: nothing may wait for it.
#[test]
fn a_break_in_a_vfork_child_does_not_wait_for_its_parent() {
    let Some(py) = python("a_break_in_a_vfork_child_does_not_wait_for_its_parent") else { return };
    for n in 0..8 {
        let options = ["-ex", "next", "-ex", "next", "-ex", "next", "-ex", "next", "-ex", "continue 100"];
        let done = run(&mut watched(&options, &[&py, &script(LOST)]));
        assert_eq!((done.code(), done.stdout.as_str()), (0, "the file holds 0 bytes\n"), "{n}: {}", done.stderr);
        assert!(done.stderr.contains("break 5 ["), "{}", done.stderr);
    }
}

#[test]
fn a_bad_script_is_told_before_the_target_starts() {
    let dir = tempfile::tempdir().unwrap();
    let file = commands(dir.path(), &["bt", "contineu"]);
    let place = format!("{}:2: ", file.display());
    for (options, part) in [
        (&["-x", file.to_str().unwrap()][..], place.as_str()),
        (&["-ex", "bt", "-ex", "contineu"], "-ex 2: "),
        (&["-ex", "info fdss"], "-ex 1: "),
        (&["-ex", "fd"], "an argument is missing"),
        (&["-x", "/no/such/file"], "/no/such/file"),
    ] {
        let done = run(&mut watched(options, &["echo", "started"]));
        assert_eq!((done.code(), done.stdout.as_str()), (125, ""), "{options:?}");
        assert!(done.stderr.contains(part), "{options:?}: {}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }
}

#[test]
fn without_a_terminal_and_a_script_there_is_a_line_that_helps() {
    let done = run(&mut watched(&[], &["echo", "started"]));
    assert_eq!((done.code(), done.stdout.as_str()), (125, ""));
    assert!(done.stderr.contains("fdwatch audit") && done.stderr.contains("-x FILE"), "{}", done.stderr);
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
}

/// Steps from the first close of fd 3, which is the dynamic linker's, to the end.
fn stepped(name: &str, command: &[&str]) -> Option<String> {
    let Some(path) = target(name) else {
        skip(name, "no C compiler");
        return None;
    };
    let path = path.to_string_lossy().into_owned();
    let mut options = vec!["--fd", "3"];
    (0..60).for_each(|_| options.extend(["-ex", "next"]));
    options.extend(["-ex", "continue 1000"]);
    let done = run(&mut watched(&options, &[&[path.as_str()], command].concat()));
    Some(done.stderr)
}

#[test]
fn a_step_says_what_a_call_does_to_a_number() {
    let Some(marks) = stepped("cloexec", &[]) else { return };
    for part in ["] about to set FD_CLOEXEC of fd 5 #", "] about to clear FD_CLOEXEC of fd 6 #"] {
        assert!(marks.contains(part), "{part}: {marks}");
    }
    let Some(passed) = stepped("pass_fd", &[]) else { return };
    let native = alone(&[&target("pass_fd").unwrap()]).stdout;
    let got: Vec<&str> = native.lines().filter_map(|l| l.strip_prefix("child has ")).collect();
    let part = format!("] after recvmsg, which received fd {}\n", got.join(" and "));
    assert!(passed.contains(&part), "{part}: {passed}");
}

#[test]
fn who_keeps_ctrl_c_to_himself_is_reached_by_another_way() {
    let Some(py) = python("who_keeps_ctrl_c_to_himself_is_reached_by_another_way") else { return };
    let code = "import signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGUSR1])\n\
                print('ready', flush=True)\nfor line in sys.stdin: print(line.upper(), end='', flush=True)";
    let mut p = Pty::start(&mut watched(&[], &[&py, "-S", "-c", code]));
    p.expect("ready\n");
    let target = p.foreground();
    for (n, pid) in [(1, target), (2, p.pid())] {
        let asked = run(Command::new(fdwatch()).args(["break", &pid.to_string()]));
        assert_eq!(asked.code(), 0, "{}", asked.stderr);
        p.expect(&format!("break {n} ["));
        p.expect("interrupted\n");
        p.expect("(fdwatch) ");
        p.line("continue");
        p.expect("[continuing]\n");
        p.line("one");
        p.expect("ONE\n");
    }
    p.send("\x04");
    assert_eq!(p.end().0, 0);
    let nobody = run(Command::new(fdwatch()).args(["break", &std::process::id().to_string()]));
    assert_eq!(nobody.code(), 125, "{}", nobody.stderr);
    // Whoever is called so and does not know the signal would end by it.
    let dir = tempfile::tempdir().unwrap();
    let alike = dir.path().join("fdwatch-alike");
    std::fs::copy(common::which("sleep").unwrap(), &alike).unwrap();
    let mut alike = Command::new(&alike).arg("1000").spawn().unwrap();
    let refused = run(Command::new(fdwatch()).args(["break", &alike.id().to_string()]));
    let lives = alike.try_wait().unwrap().is_none();
    alike.kill().and_then(|()| alike.wait()).unwrap();
    assert_eq!((refused.code(), lives), (125, true), "{}", refused.stderr);
}

#[test]
fn a_break_can_be_asked_for_at_any_process_of_the_target() {
    let Some(py) = python("a_break_can_be_asked_for_at_any_process_of_the_target") else { return };
    let code = "import os, signal, sys\nchild = os.fork()\nif child == 0: signal.pause()\n\
                print('child', child, flush=True)\nsys.stdin.readline()\nos.kill(child, 9)";
    let mut p = Pty::start(&mut watched(&[], &[&py, "-S", "-c", code]));
    p.expect("child ");
    let child: i32 = p.expect("\n").trim().parse().unwrap();
    p.expect_asleep(child);
    let first = p.foreground();
    for (n, pid) in [(1, child), (2, first), (3, child)] {
        let asked = run(Command::new(fdwatch()).args(["break", &pid.to_string()]));
        assert_eq!(asked.code(), 0, "{}", asked.stderr);
        p.expect(&format!("break {n} [{pid} "));
        p.expect(&format!(">  {pid} "));
        p.expect("(fdwatch) ");
        p.line("continue");
        p.expect("[continuing]\n");
        p.expect_owner(first);
        p.expect_asleep(child);
        p.expect_asleep(first);
    }
    p.line("");
    assert_eq!(p.end().0, 0);
}

#[test]
fn who_reads_single_keys_is_told_to_draw_anew_and_nobody_else() {
    let Some(py) = python("who_reads_single_keys_is_told_to_draw_anew_and_nobody_else") else { return };
    let code = "import os, signal, termios, tty\n\
                def draws(number, frame): os.write(1, b'drawn\\n')\n\
                signal.signal(signal.SIGWINCH, draws)\nmode = termios.tcgetattr(0)\ntty.setcbreak(0)\n\
                os.write(1, b'keys\\n')\nos.read(0, 1)\ntermios.tcsetattr(0, termios.TCSANOW, mode)\n\
                os.write(1, b'lines\\n')\nos.read(0, 9)\nos.write(1, b'over\\n')";
    let mut p = Pty::start(&mut watched(&[], &[&py, "-S", "-c", code]));
    let target = |p: &Pty| p.expect_asleep(p.foreground());
    p.expect("keys\n");
    target(&p);
    p.send("\x03");
    p.expect("break 1 [");
    p.expect("(fdwatch) ");
    p.line("continue");
    p.expect("[continuing]\n");
    p.expect("drawn\n");
    p.send("k");
    p.expect("lines\n");
    target(&p);
    p.send("\x03");
    p.expect("break 2 [");
    p.expect("(fdwatch) ");
    p.line("continue");
    p.expect("[continuing]\n");
    p.line("x");
    assert!(!p.expect("over\n").contains("drawn"), "{}", p.text());
    assert_eq!(p.end().0, 0);
}

/// Opens and closes fd 8, then copies its input.
const EIGHT: &str = "exec 8</etc/passwd; exec 8<&-; cat; echo end";

#[test]
fn the_prompt_can_be_on_another_terminal() {
    const TEST: &str = "the_prompt_can_be_on_another_terminal";
    if lacks(TEST, "bash") || lacks(TEST, "sleep") {
        return;
    }
    let mut other = Pty::start(Command::new("sleep").arg("1000"));
    let path = other.path().to_string();
    let mut p = Pty::start(&mut watched(&["--tty", &path, "--fd", "8"], &["bash", "-c", EIGHT]));
    other.expect("break 1 [");
    other.expect("(fdwatch) ");
    assert!(other.ask("fd 8").contains("/etc/passwd"));
    other.line("continue");
    p.line("mine");
    p.expect("mine\nmine\n");
    // Ctrl-C on the target's terminal opens the prompt on the other.
    p.send("\x03");
    other.expect("break 2 [");
    other.expect("(fdwatch) ");
    other.line("continue");
    p.send("\x04");
    p.expect("end\n");
    let (code, rest) = p.end();
    assert_eq!(code, 0, "{rest}");
    if let Some(py) = python(TEST) {
        let dir = tempfile::tempdir().unwrap();
        let did = dir.path().join("did");
        let options = ["--tty", &path, "--break", "none", "--transcript", did.to_str().unwrap()];
        let mut p = Pty::start(&mut watched(&options, &[&py, &script(LOST)]));
        other.expect("break 1 [");
        other.expect("(fdwatch) ");
        other.line("rewind");
        other.expect("(y or n) ");
        other.line("y");
        other.expect("break 1 [");
        other.expect("rehearsed: ");
        other.expect("(fdwatch) ");
        other.line("continue 2");
        p.expect("the file holds 0 bytes\n");
        assert_eq!(p.end().0, 0);
        // It says what a script has to say.
        let did = std::fs::read_to_string(did).unwrap();
        let commands: Vec<&str> = did.lines().filter(|l| !l.starts_with("# ")).collect();
        assert_eq!(commands, ["rewind --yes", "continue 2"], "{did}");
    }
    let bad = run(&mut watched(&["--tty", "/dev/null"], &["echo", "started"]));
    assert_eq!((bad.code(), bad.stdout.as_str()), (125, ""), "{}", bad.stderr);
}

#[test]
fn a_target_with_its_input_redirected_is_asked_about_at_the_terminal() {
    if lacks("a_target_with_its_input_redirected_is_asked_about_at_the_terminal", "bash") {
        return;
    }
    let mut shell = Command::new("sh");
    let script = "echo from a file | \"$FDWATCH\" run --fd 8 -- bash -c \"$EIGHT\" | tr a-z A-Z";
    let mut p = Pty::start(shell.args(["-c", script]).env("FDWATCH", fdwatch()).env("EIGHT", EIGHT));
    p.expect("break 1 [");
    p.expect("(fdwatch) ");
    assert!(p.ask("fd 8").contains("/etc/passwd"));
    p.line("continue");
    // tr says the last of it when its input has ended, before or after fdwatch's report.
    p.expect("FROM A FILE\n");
    p.expect("END\n");
    assert_eq!(p.end().0, 0);
}

#[test]
fn breaks_are_set_and_their_commands_typed_at_the_prompt() {
    if lacks("breaks_are_set_and_their_commands_typed_at_the_prompt", "bash") {
        return;
    }
    let script = "for i in 1 2 3; do exec 8</etc/passwd; exec 8<&-; done; echo end";
    let mut p = Pty::start(&mut watched(&["-ex", "tcatch open if path == \"/etc/passwd\""], &["bash", "-c", script]));
    p.expect("break 1 [");
    p.expect("] opened fd ");
    p.expect("(fdwatch) ");
    assert!(p.ask("catch close if fd = 8").contains("column 13: \"=\" means nothing here; to compare, write =="));
    assert!(p.ask("catch close if fd==8").contains("break 2: close if fd == 8\n"));
    p.line("commands");
    p.expect("> ");
    p.line("fd 8");
    p.expect("> ");
    p.line("end");
    p.expect("(fdwatch) ");
    assert!(p.ask("info breaks").contains("2   catch close if fd == 8\n      fd 8\n"));
    for _ in 0..3 {
        p.line("continue");
        p.expect("  caught  by 2: close if fd == 8\n");
        p.expect("(fdwatch) fd 8\n");
        p.expect("(fdwatch) ");
    }
    p.line("delete 2");
    p.expect("(fdwatch) ");
    p.line("continue");
    p.expect("end\n");
    assert_eq!(p.end().0, 0);
}

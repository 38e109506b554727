//! Every command of the prompt, under each of its names, on a terminal.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
mod pty;

use common::{fdwatch, pythons, root, skip};
use fdwatch::prompt::COMMANDS;
use pty::Pty;
use std::collections::BTreeSet;
use std::process::Command;

/// A session with the story of tests/targets/tty_story.py, and the commands that were typed in all of them.
struct Story {
    python: String,
    dir: tempfile::TempDir,
    typed: BTreeSet<String>,
}

impl Story {
    /// The command that is watched, at its first close of number 40.
    fn begin(&self, options: &[&str]) -> Pty {
        let path = self.dir.path().join("data");
        std::fs::write(&path, "the first line\n").unwrap();
        let mut c = Command::new(fdwatch());
        c.args(["run", "--break", "none"]);
        c.args(["-ex", "catch close if fd == 40"]).args(options).arg("--").arg(&self.python);
        c.arg(root().join("tests/targets/tty_story.py")).arg(&path).current_dir(root());
        let mut p = Pty::start(&mut c);
        p.expect("break 1 [");
        p.expect("  caught  by 1: close if fd == 40\n");
        p.expect("(fdwatch) ");
        p
    }

    fn note(&mut self, line: &str) {
        self.typed.extend(line.split_whitespace().next().map(str::to_string));
    }

    /// Types a command after which the prompt comes again, and looks for each of `parts` in what it shows.
    fn ask(&mut self, p: &mut Pty, line: &str, parts: &[&str]) -> String {
        self.note(line);
        let shown = p.ask(line);
        for part in parts {
            assert!(shown.contains(part), "{line}: {part:?} is not in\n{shown}");
        }
        shown
    }

    /// Types a command that lets the target go on, or ends it; each of `parts` is shown then, in this order.
    fn go(&mut self, p: &mut Pty, line: &str, parts: &[&str]) {
        self.note(line);
        p.line(line);
        p.expect(&format!("{line}\n"));
        for part in parts {
            p.expect(part);
        }
    }
}

#[test]
fn every_command_does_what_it_says() {
    let Some(python) = pythons().first().map(|p| p.to_string_lossy().into_owned()) else {
        return skip("every_command_does_what_it_says", "no python3");
    };
    let mut s = Story { python, dir: tempfile::tempdir().unwrap(), typed: BTreeSet::new() };
    looking(&mut s);
    breaking(&mut s);
    going(&mut s);
    leaving(&mut s);
    let names = COMMANDS.iter().flat_map(|c| c.about().names);
    let never: Vec<&&str> = names.filter(|name| !s.typed.contains(**name)).collect();
    assert!(never.is_empty(), "no session of this test types {never:?}");
}

/// What shows, and what alters.
fn looking(s: &mut Story) {
    let mut p = s.begin(&[]);
    for bt in ["bt", "backtrace", "where"] {
        s.ask(&mut p, bt, &["tty_story.py:11 in shut", "in turn", "in main"]);
    }
    s.ask(&mut p, "bt py", &["tty_story.py:11 in shut"]);
    let shut = s.ask(&mut p, "frame", &["in shut", "os.close(fd)"]);
    let number: usize = shut.split_once('#').unwrap().1.split_whitespace().next().unwrap().parse().unwrap();
    s.ask(&mut p, &format!("f {}", number + 1), &["in turn", "shut(40)"]);
    s.ask(&mut p, "up", &["in main", "turn(sys.argv[1])"]);
    s.ask(&mut p, "down 2", &["in shut"]);
    s.ask(&mut p, "list", &["     9  def shut(fd):\n", ">   11          os.close(fd)\n"]);
    s.ask(&mut p, "l", &["    19      os.dup2(fd, 40)\n"]);
    s.ask(&mut p, "info fds", &["\n40 ", "/data", "\n41 "]);
    let procs = s.ask(&mut p, "info procs", &["tty_story.py"]);
    s.ask(&mut p, "info children", &["forked", "tty_story.py"]);
    s.ask(&mut p, "info threads", &["python"]);
    s.ask(&mut p, "info breaks", &["1   catch close if fd == 40\n"]);
    s.ask(&mut p, "info findings", &["nothing was found"]);
    s.ask(&mut p, "fd 40", &["/data", "now      at 0"]);
    for hist in ["hist 40", "history"] {
        s.ask(&mut p, hist, &["/data", "dup2"]);
    }
    s.ask(&mut p, "who", &["40", "/data"]);
    s.ask(&mut p, "tree 41", &["41"]);
    s.ask(&mut p, "peek 40", &["the first line"]);
    s.ask(&mut p, "peek 41 7", &["waiting"]);
    let target = p.foreground();
    assert_eq!(target, p.pid());
    let pids: Vec<i32> = procs.split_whitespace().filter_map(|w| w.parse().ok()).filter(|n| *n > 41).collect();
    let (parent, child) = (pids[0], *pids.iter().find(|p| **p != pids[0]).unwrap());
    s.ask(&mut p, &format!("proc {child}"), &[&format!("looking at thread {child} of process {child}")]);
    s.ask(&mut p, "bt", &["in main"]);
    s.ask(&mut p, &format!("thread {parent}"), &[&format!("looking at thread {parent} of process {parent}")]);
    s.ask(&mut p, "explain double-close", &["double-close"]);
    for help in ["help", "h", "?"] {
        s.ask(&mut p, help, &["continue [N]", "quit"]);
    }
    for command in COMMANDS {
        s.ask(&mut p, &format!("help {}", command.name()), &[command.about().usage]);
    }
    let report = s.dir.path().join("report.json");
    s.ask(&mut p, &format!("save {}", report.display()), &["report.json: the report of all so far"]);
    assert!(std::fs::read_to_string(&report).unwrap().contains("\"schema\""), "a report");
    s.ask(&mut p, "dup", &["fdwatch holds a copy of"]);
    s.ask(&mut p, "dup off", &["fdwatch has let go of"]);
    s.ask(&mut p, "keep", &["fd 40 will stay open"]);
    s.ask(&mut p, "fail EIO", &["the call will not happen, and the program will be told EIO"]);
    s.go(&mut p, "continue 4", &["refused: Input/output error\n", "closed\n", "closed\n", "ready\n"]);
    to_its_end(p);
}

/// The last close of 40, which is one too many, and the end.
fn to_its_end(mut p: Pty) {
    p.line("");
    p.expect("refused: Bad file descriptor\n");
    p.expect("error[double-close]");
    p.expect("(fdwatch) ");
    p.line("continue");
    p.expect("over\n");
    assert_eq!(p.end().0, 0);
}

/// What breaks.
fn breaking(s: &mut Story) {
    let mut p = s.begin(&[]);
    for (n, catch) in [(2, "catch"), (3, "break"), (4, "b")] {
        s.ask(&mut p, &format!("{catch} open if path == \"/no/{n}\""), &[&format!("break {n}: open if path")]);
    }
    for (n, catch) in [(5, "tcatch"), (6, "tbreak")] {
        s.ask(&mut p, &format!("{catch} close if fd == 40"), &[&format!("break {n}: close if fd == 40")]);
    }
    s.ask(&mut p, "disable 1 6", &[]);
    s.ask(&mut p, "ignore 5 0", &[]);
    s.note("commands 5");
    p.line("commands 5");
    p.expect("> ");
    p.line("peek 40 9");
    p.expect("> ");
    p.line("end");
    p.expect("(fdwatch) ");
    s.ask(&mut p, "delete 2 3 4", &[]);
    let breaks = s.ask(&mut p, "info breaks", &["peek 40 9", "disabled"]);
    assert!(!breaks.contains("/no/"), "{breaks}");
    s.ask(&mut p, "delay 1ms", &["the call will happen"]);
    s.go(&mut p, "c", &["closed\n", "  caught  by 5: close if fd == 40\n", "(fdwatch) peek 40 9\n", "(fdwatch) "]);
    s.ask(&mut p, "enable 6", &[]);
    s.go(&mut p, "continue", &["closed\n", "  caught  by 6: close if fd == 40\n", "(fdwatch) "]);
    s.go(&mut p, "continue", &["closed\n", "ready\n"]);
    to_its_end(p);
}

/// What lets it run.
fn going(s: &mut Story) {
    let mut p = s.begin(&[]);
    s.go(&mut p, "finish", &["break 2 [", "= 0", "(fdwatch) "]);
    s.go(&mut p, "next", &["break 3 [", "] after openat", "(fdwatch) "]);
    s.go(&mut p, "n", &["break 4 [", "40", "(fdwatch) "]);
    s.go(&mut p, "continue 3", &["ready\n"]);
    p.expect_asleep(p.foreground());
    p.send("\x03");
    p.expect("interrupted\n");
    p.expect("(fdwatch) ");
    s.go(&mut p, "signal SIGINT", &["\ngot SIGINT\n", "error[double-close]", "(fdwatch) "]);
    s.go(&mut p, "c", &["over\n"]);
    // One Ctrl-C is for all of the foreground; the child may say so last.
    let before = p.text();
    let (code, rest) = p.end();
    assert!((before + &rest).contains("\nchild got SIGINT\n"), "{rest}");
    assert_eq!(code, 0);
    let mut p = s.begin(&[]);
    s.go(&mut p, "continue 3", &["ready\n"]);
    p.line("");
    p.expect("refused: Bad file descriptor\n");
    p.expect("double-close");
    p.expect("(fdwatch) ");
    s.go(&mut p, "rewind", &["(y or n) "]);
    p.line("y");
    p.expect("rehearsed");
    p.expect("(fdwatch) ");
    s.go(&mut p, "kill", &["(y or n) "]);
    p.line("y");
    assert_eq!(p.end().0, 0);
}

/// What ends it.
fn leaving(s: &mut Story) {
    for leave in ["kill", "quit", "q", "exit"] {
        let mut p = s.begin(&[]);
        s.go(&mut p, leave, &["(y or n) "]);
        p.line("y");
        assert_eq!(p.end().0, 0, "{leave}");
    }
    let mut p = s.begin(&[]);
    s.go(&mut p, "detach", &["[detached]\n", "closed\n", "ready\n"]);
    p.line("");
    p.expect("over\n");
    assert_eq!(p.end().0, 0);
    let mut p = s.begin(&[]);
    s.ask(&mut p, "gdb", &["start it with --no-seccomp"]);
    s.go(&mut p, "quit", &["(y or n) "]);
    p.line("y");
    p.end();
    let mut p = s.begin(&["--no-seccomp"]);
    s.note("gdb");
    p.line("gdb");
    let shown = p.expect("[detached]\n");
    let pid = shown.rsplit_once("kill -CONT ").unwrap().1.trim().to_string();
    let went_on = Command::new("kill").args(["-CONT", &pid]).status().unwrap();
    assert!(went_on.success());
    p.expect("closed\n");
    p.expect("ready\n");
    p.line("");
    p.expect("over\n");
    assert_eq!(p.end().0, 0);
}

//! The loop, driven by lines that a test writes down.

use super::*;
use crate::base::{Fd, PyStackId, StackId};
use crate::event::Site;
use crate::finding::testing::{MAIN, Script};
use crate::policy::catch::{Kind, Trap};
use crate::render::banner::tests::implicit_break;
use crate::render::live::tests::Paper as Kernel;
use crate::render::testing::{PaperNames, PaperSources, cpython, native};
use proptest::prelude::*;

/// What is typed, and what is shown.
#[derive(Default)]
struct Paper {
    typed: VecDeque<Input>,
    shown: String,
}

impl Console for Paper {
    fn read(&mut self, prompt: &str, _: &Words) -> std::io::Result<Input> {
        self.shown.push_str(prompt);
        self.shown.push('\n');
        Ok(self.typed.pop_front().unwrap_or(Input::End))
    }

    fn write(&mut self, text: &str) {
        self.shown.push_str(text);
    }
}

fn lines(typed: &[&str]) -> Paper {
    Paper { typed: typed.iter().map(|l| Input::Line(l.to_string())).collect(), shown: String::new() }
}

fn script(lines: &[&str]) -> Vec<ScriptLine> {
    let line = |(i, l): (usize, &&str)| ScriptLine { text: l.to_string(), from: format!("-ex {}", i + 1) };
    lines.iter().enumerate().map(line).collect()
}

struct Stage {
    script: Script,
    at: Break,
    names: PaperNames,
    sources: PaperSources,
    tids: Vec<(Tid, String, String)>,
    policy: Policy,
}

fn world() -> Stage {
    let (script, at) = implicit_break();
    let mut sources = PaperSources::default();
    for n in 1..=30 {
        sources.0.insert(("job.py".into(), n), format!("line {n}"));
    }
    Stage {
        script,
        at,
        names: cpython(),
        sources,
        tids: vec![(MAIN, "python3".into(), "close".into())],
        policy: Policy::default(),
    }
}

fn ask(prompt: &mut Prompt, w: &mut Stage, console: &mut Paper) -> Decision {
    let mut scene = Scene {
        world: &w.script.world,
        findings: &[],
        names: &mut w.names,
        sources: &mut w.sources,
        at: &w.at,
        tids: &w.tids,
        policy: &mut w.policy,
        live: &mut Kernel,
        can_leave: false,
        style: Style::plain(),
    };
    prompt.run(&mut scene, console).unwrap()
}

/// Types these lines at a fresh prompt, then leaves. Returns what was decided and what was shown after the banner.
fn type_in(typed: &[&str]) -> (Decision, String) {
    let (mut p, mut c) = (Prompt::new(vec![], true, Style::plain()), lines(typed));
    let d = ask(&mut p, &mut world(), &mut c);
    let (_, after) = c.shown.split_once("  next    ").unwrap();
    (d, after.split_once('\n').unwrap().1.to_string())
}

const GO: Then = Then::Continue { ignore: 0 };

#[test]
fn commands_decide() {
    assert_eq!(type_in(&["continue"]).0, Decision::default());
    assert_eq!(type_in(&["c 3"]).0.then, Then::Continue { ignore: 2 });
    assert_eq!(type_in(&["keep", "cont"]).0, Decision { keep: true, ..Decision::default() });
    assert_eq!(type_in(&["n"]).0.then, Then::Next);
    assert!(type_in(&["rewind", "c"]).1.contains("nothing was found yet"));
    assert_eq!(type_in(&["det"]).0.then, Then::Detach);
    assert_eq!(type_in(&["kill", "n", "kill", "y"]).0.then, Then::Kill);
    assert_eq!(type_in(&["quit", "perhaps", "no", "c"]).0.then, GO);
    assert_eq!(type_in(&[]).0.then, Then::Kill, "the end of input is a yes");
}

#[test]
fn ctrl_c_is_a_new_line() {
    let mut c = Paper { typed: [Input::Interrupted, Input::Line("c".into())].into(), ..Paper::default() };
    assert_eq!(ask(&mut Prompt::new(vec![], true, Style::plain()), &mut world(), &mut c).then, GO);
}

#[test]
fn ctrl_c_gives_up_the_lines_of_a_block() {
    let line = |text: &str| Input::Line(text.into());
    let typed = ["catch close", "commands", "peek 3", "end", "commands", "fd 3"].map(line);
    let rest = [Input::Interrupted, line("info breaks"), line("c")];
    let mut c = Paper { typed: typed.into_iter().chain(rest).collect(), ..Paper::default() };
    assert_eq!(ask(&mut Prompt::new(vec![], true, Style::plain()), &mut world(), &mut c).then, GO);
    assert!(c.shown.contains("given up: the commands of break 1 are what they were\n"), "{}", c.shown);
    assert!(c.shown.contains("1   catch close\n      peek 3\n"), "{}", c.shown);
}

#[test]
fn mistakes_name_what_was_meant() {
    let said = |line: &str| type_in(&[line, "c"]).1.lines().nth(1).unwrap().to_string();
    assert_eq!(said("contineu"), "unknown command \"contineu\"; did you mean continue?");
    assert_eq!(said("k"), "ambiguous command \"k\": keep, kill");
    assert_eq!(said("info fi"), "nothing was found so far");
    assert_eq!(said("info f"), "ambiguous list \"f\": fds, findings");
    assert_eq!(said("info"), "of what? fds, procs, children, threads, breaks, findings");
    let usage = said("info procs now");
    assert!(usage.starts_with("\"now\" is one word too many; usage: info fds [full]"), "{usage}");
    assert_eq!(said("info fds if knd == pipe"), "the condition, column 2: unknown field \"knd\"; did you mean kind?");
    assert_eq!(
        said("info fds if fd == 3 && !(nth == 2)"),
        "the condition: an open descriptor has no nth; catch can ask for that"
    );
    for what in ["cause == finalizer", "why == implicit", "finding == double-close", "implicit"] {
        let line = format!("info fds if {what}");
        assert!(said(&line).contains("an open descriptor has no "), "{what}");
    }
    assert_eq!(said("catch clos"), "column 1: no event is called \"clos\"; did you mean close?");
    assert_eq!(said("catch close if fd = 3"), "column 13: \"=\" means nothing here; to compare, write ==");
    assert_eq!(said("ignore 1"), "two numbers are needed; usage: ignore N COUNT");
    assert_eq!(said("ignore 1 2"), "there is no break 1: none was set");
    assert_eq!(said("fail EBADFF"), "no error is called \"EBADFF\"; did you mean EBADF?");
    assert_eq!(said("fail 4000"), "there is no error 4000");
    assert_eq!(said("peek 3 0"), "a number of bytes begins at 1");
    assert_eq!(said("peek 9"), "fd 9 is not open here");
    assert_eq!(said("who 9"), "fd 9 is not open here: hist 9 tells what it was");
    assert_eq!(said("thread 9"), "there is no task 9: info threads lists them");
    assert_eq!(said("frobnicate\u{202e}"), "unknown command \"frobnicate\\u{202e}\"; try help");
    assert_eq!(said("continue x"), "\"x\" is not a count");
    assert_eq!(said("continue 0"), "a count begins at 1");
    assert_eq!(said("keep 3"), "\"3\" is one word too many; usage: keep");
    assert_eq!(said("fd"), "an argument is missing; usage: fd N");
    assert_eq!(said("hist #x"), "\"x\" is not an object: #17");
    assert_eq!(said("signal"), "no signal was withheld here: signal works after an interrupt");
    assert_eq!(said("frame 99"), "there is no frame 99: they go from 0 to 12");
    assert_eq!(said("bt pyy"), "unknown kind of stack \"pyy\"; did you mean py?");
    assert_eq!(said("bt closed"), "this break has no such stack: nothing was closed yet");
    assert!(said("explain nonsense").starts_with("no finding is called \"nonsense\""));
}

#[test]
fn an_empty_line_repeats_what_may_be_repeated() {
    let shown = type_in(&["up", "", "c"]).1;
    assert!(shown.contains("#9   PyEval_EvalCode") && shown.contains("#10  pymain_run_python"), "{shown}");
    let kept = type_in(&["keep", "", "c"]).1;
    assert_eq!(kept.matches("will stay open").count(), 1);
    // Also at the next break.
    let (mut p, mut w) = (Prompt::new(vec![], true, Style::plain()), world());
    ask(&mut p, &mut w, &mut lines(&["next"]));
    assert_eq!(ask(&mut p, &mut w, &mut lines(&[""])).then, Then::Next);
}

#[test]
fn pasted_lines_are_all_executed_also_at_the_next_break() {
    let (mut p, mut w) = (Prompt::new(vec![], true, Style::plain()), world());
    let mut c = lines(&["bt py\ncontinue\nfd 3\n\nkeep\nnext"]);
    assert_eq!(ask(&mut p, &mut w, &mut c), Decision::default());
    assert!(c.shown.contains("#8   job.py:2 in <module>\n(fdwatch) continue\n"), "{}", c.shown);
    let mut c = lines(&[]);
    assert_eq!(ask(&mut p, &mut w, &mut c), Decision { keep: true, then: Then::Next, ..Decision::default() });
    assert!(c.shown.contains("(fdwatch) fd 3\nfd 3 #1 /tmp/a\n"), "{}", c.shown);
}

#[test]
fn a_script_runs_and_then_the_target_goes_on_by_itself() {
    let (mut p, mut w) =
        (Prompt::new(script(&["bt py", "keep", "# so far", "c", "fd 3"]), false, Style::plain()), world());
    let mut c = Paper::default();
    assert_eq!(ask(&mut p, &mut w, &mut c), Decision { keep: true, ..Decision::default() });
    assert!(c.shown.contains("(fdwatch) bt py\n> #8 "), "{}", c.shown);
    assert!(!c.shown.contains("[continuing]"));
    let mut c = Paper::default();
    assert_eq!(ask(&mut p, &mut w, &mut c), Decision::default());
    assert!(c.shown.contains("(fdwatch) fd 3\nfd 3 #1 /tmp/a\n"), "{}", c.shown);
    assert!(!p.is_live());
    let mut c = Paper::default();
    assert_eq!(ask(&mut p, &mut w, &mut c), Decision::default());
    assert_eq!(c.shown, "", "and says nothing more");
}

#[test]
fn a_script_is_not_asked_and_a_user_comes_after_it() {
    let mut w = world();
    let mut p = Prompt::new(script(&["kill"]), false, Style::plain());
    assert_eq!(ask(&mut p, &mut w, &mut Paper::default()).then, Then::Kill);
    let mut p = Prompt::new(script(&["fd 3"]), true, Style::plain());
    assert_eq!(ask(&mut p, &mut w, &mut lines(&["next"])).then, Then::Next);
}

#[test]
fn scripts_are_checked_before_the_target_starts() {
    assert_eq!(check_script(&script(&["bt", "", "# note", "hist #3", "continue 2", "explain double"])), Ok(()));
    let wrong = |l| check_script(&script(&["bt", l])).unwrap_err();
    assert_eq!(wrong("contineu"), "-ex 2: unknown command \"contineu\"; did you mean continue?");
    assert_eq!(wrong("frame x"), "-ex 2: \"x\" is not the number of a frame");
    assert!(wrong("explain duble-close").ends_with("did you mean double-close?"));
}

#[test]
fn what_has_been_made_cannot_be_kept() {
    let mut w = world();
    w.at.can_keep = false;
    let mut c = lines(&["keep", "c"]);
    assert!(!ask(&mut Prompt::new(vec![], true, Style::plain()), &mut w, &mut c).keep);
    assert!(c.shown.contains("this call has been made already"), "{}", c.shown);
    w.at = Break { why: Why::Interrupted, call: None, life: None, fd: None, object: None, ..w.at };
    let mut c = lines(&["keep", "bt", "list", "hist", "signal TERM"]);
    let d = ask(&mut Prompt::new(vec![], true, Style::plain()), &mut w, &mut c);
    assert_eq!(d.then, Then::Signal(Some(15)));
    assert!(c.shown.contains("not at a call") && c.shown.contains("no stack was taken here"), "{}", c.shown);
}

#[test]
fn source_and_frames() {
    let shown = type_in(&["list", "", "list", "frame 8", "down", "frame 0", "down", "c"]).1;
    assert!(shown.contains("     1  line 1\n>    2  line 2\n"), "{shown}");
    assert!(shown.contains("    11  line 11\n") && shown.contains("    30  line 30\n"), "{shown}");
    assert!(shown.contains("#8   job.py:2 in <module>\n     2  line 2\n"), "{shown}");
    assert!(shown.contains("#7   _PyEval_EvalFrameDefault from python3.11\n"), "{shown}");
    assert!(shown.contains("this is the innermost frame"), "{shown}");
}

#[test]
fn bt_opened_shows_where_the_life_began() {
    let mut w = world();
    let site = Site { stack: Some(StackId(1)), py: Some(PyStackId(1)), ..Site::default() };
    w.script.at(site).open(MAIN, 9, "/tmp/b");
    w.at.life = w.script.world.open_life(MAIN, Fd(9)).map(|l| l.id);
    let mut c = lines(&["bt opened py", "c"]);
    ask(&mut Prompt::new(vec![], true, Style::plain()), &mut w, &mut c);
    assert!(c.shown.contains("opened [100]\n  #4   job.py:2 in <module>\n"), "{}", c.shown);
}

#[test]
fn every_command_has_its_help_and_can_be_found() {
    let all = type_in(&["help", "c"]).1;
    for c in COMMANDS {
        let (name, about) = (c.name(), c.about());
        assert!(all.lines().any(|l| l.starts_with(&format!("  {}", about.usage))), "{name}");
        assert!(all.lines().all(|l| l.len() <= 80), "{all}");
        assert_eq!(commands::find(name).unwrap().name(), name);
        let help = type_in(&[&format!("help {name}"), "c"]).1;
        assert!(help.contains(about.usage) && help.contains(about.example.0), "{name}: {help}");
        // Of a command whose lines are of several, the example is the first.
        let (command, args) = commands::parse(about.example.0).unwrap().unwrap();
        assert_eq!((command.name(), command.check(&args)), (name, Ok(())), "the example of {name}");
        for other in about.names {
            let owners = COMMANDS.iter().filter(|c| c.about().names.contains(other)).count();
            assert_eq!(owners, 1, "{other}");
        }
    }
}

#[test]
fn words_complete() {
    let mut w = world();
    let scene = Scene {
        world: &w.script.world,
        findings: &[],
        names: &mut w.names,
        sources: &mut w.sources,
        at: &w.at,
        tids: &w.tids,
        policy: &mut w.policy,
        live: &mut Kernel,
        can_leave: false,
        style: Style::plain(),
    };
    let words = Words::of(&scene, MAIN);
    let of = |line: &str| words.complete(line);
    assert_eq!(of("con"), (0, vec!["continue".to_string()]));
    assert_eq!(of("info f"), (5, vec!["fds".to_string(), "findings".to_string()]));
    assert_eq!(of("hist "), (5, vec!["3".to_string(), "#1".to_string()]));
    assert_eq!(of("hist #"), (5, vec!["#1".to_string()]));
    assert_eq!(of("explain dou"), (8, vec!["double-close".to_string()]));
    assert_eq!(of("nonsense x\u{2003}"), (13, vec![]));
}

/// What is decided and shown at the break `at` of `w` by a prompt with this script.
fn scripted(w: &mut Stage, lines: &[&str]) -> (Prompt, Decision, String) {
    let mut p = Prompt::new(script(lines), false, Style::plain());
    let prepared = p.prepare(&mut w.policy).unwrap();
    let mut c = Paper::default();
    let d = ask(&mut p, w, &mut c);
    (p, d, prepared + &c.shown)
}

#[test]
fn catches_at_the_head_of_a_script_are_set_before_the_start() {
    let mut w = world();
    let (p, _, shown) =
        scripted(&mut w, &["catch close if fd==3", "ignore 1 2", "commands", "bt py", "keep", "end", "info breaks"]);
    assert!(
        shown.starts_with("break 1: close if fd == 3\nthe next 2 hits of break 1 are passed over\nbreak 1 ["),
        "{shown}"
    );
    let list = "1   catch close if fd == 3\n    the next 2 are passed over\n      bt py\n      keep\nalso closes";
    assert!(shown.contains(list), "{shown}");
    assert!(p.is_live(), "what is to be caught is worth a break although the script is used up");
}

#[test]
fn the_commands_of_a_break_are_run_at_its_hit() {
    let mut w = world();
    w.policy.catches.add(Trap::parse("close").unwrap(), false);
    w.policy.catches.get(1).unwrap().commands = vec!["keep".into(), "continue 2".into(), "never".into()];
    let catch = w.policy.catches.list()[0].clone();
    let by = vec![crate::policy::catch::Caught {
        number: 1,
        kind: catch.trap.kind,
        text: catch.trap.to_string(),
        commands: catch.commands.clone(),
    }];
    w.at.why = Why::Caught { by, also: Some(Box::new(w.at.why.clone())) };
    let (mut p, mut c) = (Prompt::new(vec![], true, Style::plain()), lines(&[]));
    let d = ask(&mut p, &mut w, &mut c);
    assert_eq!(d, Decision { keep: true, then: Then::Continue { ignore: 1 }, ..d });
    assert!(c.shown.contains("  caught  by 1: close\n") && c.shown.contains("  why     implicit:"), "{}", c.shown);
}

#[test]
fn blocks_of_commands_are_read_and_checked() {
    let shown = type_in(&["catch open", "commands 1", "bt", "contineu", "", "end", "info breaks", "c"]).1;
    assert!(shown.contains("> \nunknown command \"contineu\"; did you mean continue?\n> \n"), "{shown}");
    assert!(shown.contains("1   catch open\n      bt\nalso"), "{shown}");
    let wrong = |l: &[&str]| check_script(&script(l)).unwrap_err();
    assert_eq!(wrong(&["catch close", "commands", "bt"]), "-ex 2: these commands have no end");
    assert_eq!(wrong(&["commands 1", "commands 2"]), "-ex 2: commands cannot stand among commands");
    assert_eq!(wrong(&["commands 1", "bt pyy", "end"]), "-ex 2: unknown kind of stack \"pyy\"; did you mean py?");
}

#[test]
fn an_error_ends_a_script_with_its_place() {
    let (p, d, shown) = scripted(&mut world(), &["fd 3", "frame 99", "keep"]);
    assert_eq!(d, Decision { then: Then::Kill, ..Decision::default() });
    assert_eq!(p.failure(), Some("-ex 2: there is no frame 99: they go from 0 to 12"));
    assert!(!shown.contains("keep\n"), "{shown}");
    // With a user, the prompt stays.
    let (mut p, mut c) = (Prompt::new(script(&["frame 99", "keep"]), true, Style::plain()), lines(&["next"]));
    assert_eq!(ask(&mut p, &mut world(), &mut c), Decision { then: Then::Next, ..Decision::default() });
    assert_eq!(p.failure(), None);
}

#[test]
fn what_if_and_a_report_in_between() {
    assert_eq!(type_in(&["fail eio", "c"]).0, Decision { fail: Some(5), ..Decision::default() });
    assert_eq!(type_in(&["keep", "fail 9", "c"]).0, Decision { fail: Some(9), ..Decision::default() });
    assert_eq!(type_in(&["finish"]).0.then, Then::Finish);
    assert!(type_in(&["keep", "finish", "c"]).1.contains("there is no result to wait for"));
    let (mut p, mut w) = (Prompt::new(vec![], true, Style::plain()), world());
    let mut c = lines(&["keep", "save /tmp/some report.json"]);
    assert_eq!(ask(&mut p, &mut w, &mut c).then, Then::Report);
    assert_eq!(p.report_to(), Some("/tmp/some report.json".into()));
    let mut c = lines(&["c"]);
    let d = ask(&mut p, &mut w, &mut c);
    assert_eq!(d, Decision { keep: true, ..Decision::default() }, "what was decided before is not lost");
    assert!(!c.shown.contains("break 1"), "{}", c.shown);
}

#[test]
fn a_report_in_a_script_leaves_what_was_decided_and_its_failure_ends_the_script() {
    let decided = Decision { keep: true, ..Decision::default() };
    let asked = Decision { then: Then::Report, ..decided };
    let again = |p: &mut Prompt, w: &mut Stage, done: Result<String, String>| {
        let mut c = Paper::default();
        p.reported(done);
        (ask(p, w, &mut c), c.shown)
    };
    let mut w = world();
    let (mut p, d, _) = scripted(&mut w, &["keep", "save r"]);
    assert_eq!(d, asked);
    assert_eq!(again(&mut p, &mut w, Ok("r: written".into())), (decided, "r: written\n".into()));
    let (mut p, _, _) = scripted(&mut w, &["keep", "save r", "fd 3"]);
    let (d, shown) = again(&mut p, &mut w, Err("r: no room".into()));
    assert_eq!(d, Decision { then: Then::Kill, ..decided });
    assert_eq!((p.failure(), shown.as_str()), (Some("-ex 2: r: no room"), "-ex 2: r: no room\n"));
    // Of a break that was hit for the last time, what stands behind the report is done, too.
    let commands = vec!["save r".into(), "keep".into()];
    let by = vec![crate::policy::catch::Caught { number: 1, kind: Kind::Close, text: "close".into(), commands }];
    w.at.why = Why::Caught { by, also: None };
    let mut p = Prompt::new(script(&["fd 3"]), false, Style::plain());
    assert_eq!(ask(&mut p, &mut w, &mut Paper::default()).then, Then::Report);
    assert_eq!(again(&mut p, &mut w, Ok("r: written".into())).0, decided);
}

#[test]
fn what_the_last_line_of_a_script_waits_for_is_shown() {
    for (why, shows) in [
        (Why::Finished, true),
        (Why::Stepped, true),
        (Why::Rehearsed("a close".into()), true),
        (Why::Found("double-close"), false),
    ] {
        let mut w = world();
        w.at.why = why.clone();
        let (mut p, mut c) = (Prompt::new(vec![], false, Style::plain()), Paper::default());
        assert_eq!(ask(&mut p, &mut w, &mut c), Decision::default());
        assert_eq!(c.shown.contains("break 1 "), shows, "{why:?}: {}", c.shown);
    }
}

#[test]
fn looking_around() {
    let shown =
        type_in(&["info fds full if path =~ \"/tmp/*\" && !inherits", "peek 3", "fd 3", "who", "tree #1", "c"]).1;
    assert!(shown.contains("3   #1      yes      /tmp/a    opened\n      O_WRONLY|O_CREAT; at 12\n"), "{shown}");
    assert!(shown.contains("position 12 of 40 bytes\n> 00000008  61"), "{shown}");
    assert!(shown.contains("  now      at 12\n"), "{shown}");
    assert!(shown.contains("#1 /tmp/a\nPID  FD  CLOEXEC"), "{shown}");
    assert!(shown.contains("> 100 job  <- fd 3 (cloexec)\n"), "{shown}");
    assert!(type_in(&["info fds if comm == \"python3\"", "c"]).1.contains("3   #1 "));
    assert!(type_in(&["info fds if comm == \"sh\"", "c"]).1.contains("none of the 1 open descriptors is so"));
    assert!(type_in(&["info fds if kind == pipe", "c"]).1.contains("none of the 1 open descriptors is so"));
}

#[test]
fn another_task_is_looked_at() {
    let mut w = world();
    w.script.fork(MAIN, 200);
    w.script.close(200, 3);
    // Of the first, the stack is known that was taken at its close; of the other, what is asked for now.
    let other = StackId(77);
    w.names.native.insert(other, native(&[("read", "libc.so.6"), ("wait_for_work", "a.out")]).into());
    w.names.standing.insert(Tid(200), Site { stack: Some(other), ..Site::default() });
    w.names.standing.insert(Tid(100), Site { stack: Some(other), ..Site::default() });
    let mut c = lines(&["bt", "up 5", "proc 200", "info fds", "frame 1", "bt", "thread 100", "info fds", "bt", "c"]);
    ask(&mut Prompt::new(vec![], true, Style::plain()), &mut w, &mut c);
    assert!(c.shown.contains("looking at thread 200 of process 200"), "{}", c.shown);
    assert!(c.shown.contains("no descriptor is open\n"), "{}", c.shown);
    let [before, rest] = c.shown.split("looking at thread 200").collect::<Vec<_>>()[..] else { panic!("{}", c.shown) };
    let (there, back) = rest.split_once("looking at thread 100").unwrap();
    assert!(there.contains("wait_for_work"), "{there}");
    for own in [before, back] {
        assert!(own.contains("iobase_finalize") && !own.contains("wait_for_work"), "{own}");
    }
    assert!(c.shown.contains("/tmp/a    opened\n"), "{}", c.shown);
}

#[test]
fn a_transcript_can_be_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("transcript");
    let transcript = Transcript::new(std::fs::File::create(&path).unwrap(), "transcript".into());
    let mut w = world();
    let mut p =
        Prompt::new(script(&["catch close if fd == 3"]), true, Style::plain()).with_transcript(Some(transcript));
    p.prepare(&mut w.policy).unwrap();
    let mut typed = lines(&["commands 1", "bt py", "btt", "end", "fd 3", "fdd", "frame 999", "commands 1", "info fds"]);
    typed.typed.push_back(Input::End);
    for line in ["quit", "n", "kill", "no", "delete", "n", "keep", "c"] {
        typed.typed.push_back(Input::Line(line.into()));
    }
    assert_eq!(ask(&mut p, &mut w, &mut typed), Decision { keep: true, ..Decision::default() });
    let text = std::fs::read_to_string(&path).unwrap();
    let commands: Vec<&str> = text.lines().filter(|l| !l.starts_with("# ")).collect();
    let block = ["commands 1", "bt py", "end", "fd 3", "commands 1", "info fds", "end", "keep", "c"];
    assert_eq!(commands, [&["catch close if fd == 3"][..], &block].concat(), "{text}");
    assert!(text.contains("\nfd 3\n# fd 3 #1 /tmp/a\n"), "{text}");
    assert!(text.contains("\n# frame 999\n# there is no frame 999") && text.contains("\n# quit\n"), "{text}");
    let (_, d, _) = scripted(&mut world(), &text.lines().collect::<Vec<_>>());
    assert_eq!(d, Decision { keep: true, ..Decision::default() });
}

#[test]
fn a_transcript_does_nothing_twice_and_agrees_to_what_was_agreed_to() {
    let written = |p: Prompt, w: &mut Stage, typed: &[&str], reported: Option<Result<String, String>>| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("transcript");
        let transcript = Transcript::new(std::fs::File::create(&path).unwrap(), "transcript".into());
        let (mut p, mut c) = (p.with_transcript(Some(transcript)), lines(typed));
        ask(&mut p, w, &mut c);
        if let Some(done) = reported {
            p.reported(done);
            ask(&mut p, w, &mut c);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().filter(|l| !l.starts_with("# ")).map(str::to_string).collect::<Vec<_>>()
    };
    let fresh = || Prompt::new(vec![], true, Style::plain());
    // What the commands of a break do they do again.
    let mut w = world();
    let commands = vec!["fd 3".into(), "bt py".into()];
    let by = vec![crate::policy::catch::Caught { number: 1, kind: Kind::Close, text: "close".into(), commands }];
    w.at.why = Why::Caught { by, also: None };
    assert_eq!(written(fresh(), &mut w, &["keep", "c"], None), ["keep", "c"]);
    for (done, stands) in [(Ok("r: written".to_string()), &["save r", "c"][..]), (Err("no room".to_string()), &["c"])] {
        assert_eq!(written(fresh(), &mut world(), &["save r", "c"], Some(done)), stands);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_line_makes_it_fail(typed in proptest::collection::vec(any_line(), 1..6)) {
        let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
        let (_, shown) = type_in(&typed);
        prop_assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
        let _ = check_script(&script(&typed));
    }

    #[test]
    fn no_word_makes_completion_fail(line in any_line()) {
        let (start, _) = Words::default().complete(&line);
        prop_assert!(line.is_char_boundary(start));
    }
}

/// Lines of all kinds: noise, and real commands with noise behind them.
fn any_line() -> impl Strategy<Value = String> {
    let names: Vec<&str> = COMMANDS.iter().flat_map(|c| c.about().names.iter().copied()).collect();
    let arg = prop_oneof![
        "[ -~]{0,8}",
        "#?[0-9]{0,20}",
        "-[0-9]{1,3}",
        Just("native".to_string()),
        Just("full closed".to_string()),
        Just("fds".to_string()),
        Just("fds full if fd == 3 || kind == pipe".to_string()),
        Just("close if (fd".to_string()),
        Just("4294967295".to_string()),
        Just("18446744073709551615".to_string()),
    ];
    prop_oneof![any::<String>(), (proptest::sample::select(names), arg).prop_map(|(n, a)| format!("{n} {a}")),]
}

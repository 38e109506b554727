//! The loop, driven by lines that a test writes down.

use super::*;
use crate::base::{Fd, PyStackId, StackId};
use crate::event::Site;
use crate::finding::testing::{MAIN, Script};
use crate::render::banner::tests::implicit_break;
use crate::render::testing::{PaperNames, PaperSources, cpython};
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
}

fn world() -> Stage {
    let (script, at) = implicit_break();
    let mut sources = PaperSources::default();
    for n in 1..=30 {
        sources.0.insert(("job.py".into(), n), format!("line {n}"));
    }
    Stage { script, at, names: cpython(), sources, tids: vec![(MAIN, "python3".into(), "close".into())] }
}

fn ask(prompt: &mut Prompt, w: &mut Stage, console: &mut Paper) -> Decision {
    let mut scene = Scene {
        world: &w.script.world,
        findings: &[],
        names: &mut w.names,
        sources: &mut w.sources,
        at: &w.at,
        tids: &w.tids,
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
    assert_eq!(type_in(&["continue"]).0, Decision { keep: false, then: GO });
    assert_eq!(type_in(&["c 3"]).0.then, Then::Continue { ignore: 2 });
    assert_eq!(type_in(&["keep", "cont"]).0, Decision { keep: true, then: GO });
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
fn mistakes_name_what_was_meant() {
    let said = |line| type_in(&[line, "c"]).1.lines().nth(1).unwrap().to_string();
    assert_eq!(said("contineu"), "unknown command \"contineu\"; did you mean continue?");
    assert_eq!(said("k"), "ambiguous command \"k\": keep, kill");
    assert_eq!(said("info fi"), "nothing was found so far");
    assert_eq!(said("info f"), "ambiguous list \"f\": fds, findings");
    assert_eq!(said("info"), "of what? fds, procs, threads, findings");
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
    assert_eq!(ask(&mut p, &mut w, &mut c), Decision { keep: false, then: GO });
    assert!(c.shown.contains("#8   job.py:2 in <module>\n(fdwatch) continue\n"), "{}", c.shown);
    let mut c = lines(&[]);
    assert_eq!(ask(&mut p, &mut w, &mut c), Decision { keep: true, then: Then::Next });
    assert!(c.shown.contains("(fdwatch) fd 3\nfd 3 #1 /tmp/a\n"), "{}", c.shown);
}

#[test]
fn a_script_runs_and_then_the_target_goes_on_by_itself() {
    let (mut p, mut w) =
        (Prompt::new(script(&["bt py", "keep", "# so far", "c", "fd 3"]), false, Style::plain()), world());
    let mut c = Paper::default();
    assert_eq!(ask(&mut p, &mut w, &mut c), Decision { keep: true, then: GO });
    assert!(c.shown.contains("(fdwatch) bt py\n> #8 "), "{}", c.shown);
    assert!(!c.shown.contains("[continuing]"));
    let mut c = Paper::default();
    assert_eq!(ask(&mut p, &mut w, &mut c), Decision { keep: false, then: GO });
    assert!(c.shown.contains("(fdwatch) fd 3\nfd 3 #1 /tmp/a\n"), "{}", c.shown);
    assert!(!p.is_live());
    let mut c = Paper::default();
    assert_eq!(ask(&mut p, &mut w, &mut c), Decision { keep: false, then: GO });
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
        let name = c.names()[0];
        assert!(all.lines().any(|l| l.starts_with(c.usage()) && l.contains(c.summary())), "{name}");
        assert!(all.lines().all(|l| l.len() <= 90), "{all}");
        assert_eq!(commands::find(name).unwrap().names()[0], name);
        assert!(type_in(&[&format!("help {name}"), "c"]).1.contains(c.usage()), "{name}");
        for other in c.names() {
            let owners = COMMANDS.iter().filter(|c| c.names().contains(other)).count();
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
        style: Style::plain(),
    };
    let words = Words::of(&scene);
    let of = |line: &str| words.complete(line);
    assert_eq!(of("con"), (0, vec!["continue".to_string()]));
    assert_eq!(of("info f"), (5, vec!["fds".to_string(), "findings".to_string()]));
    assert_eq!(of("hist "), (5, vec!["3".to_string(), "#1".to_string()]));
    assert_eq!(of("hist #"), (5, vec!["#1".to_string()]));
    assert_eq!(of("explain dou"), (8, vec!["double-close".to_string()]));
    assert_eq!(of("nonsense x\u{2003}"), (13, vec![]));
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
    let names: Vec<&str> = COMMANDS.iter().flat_map(|c| c.names().iter().copied()).collect();
    let arg = prop_oneof![
        "[ -~]{0,8}",
        "#?[0-9]{0,20}",
        "-[0-9]{1,3}",
        Just("native".to_string()),
        Just("full closed".to_string()),
        Just("fds".to_string()),
        Just("4294967295".to_string()),
        Just("18446744073709551615".to_string()),
    ];
    prop_oneof![any::<String>(), (proptest::sample::select(names), arg).prop_map(|(n, a)| format!("{n} {a}")),]
}

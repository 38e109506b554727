//! Whatever a target calls its files, functions and threads: nothing of it reaches the terminal as a command.

use super::backtrace::{Form, trace};
use super::place::place;
use super::testing::{PaperNames, PaperSources, native, python};
use super::{NativeFrame, Style, banner, finding, history, holders, table};
use crate::base::{Fd, FileId, Pid, PyStackId, StackId};
use crate::event::{Cause, Effect, Escape, NewFile, Site};
use crate::finding::testing::{MAIN, Script};
use proptest::prelude::*;

fn names(text: &str, eval: bool) -> PaperNames {
    let mut names = PaperNames::default();
    let frame = |f: NativeFrame| NativeFrame {
        file: Some(text.to_string()),
        line: Some(7),
        inlined: true,
        evaluates_python: eval,
        ..f
    };
    let frames: Vec<NativeFrame> =
        native(&[(text, text), ("", text), ("main", "/bin/x")]).into_iter().map(frame).collect();
    names.native.insert(StackId(1), frames.into());
    names.python.insert(PyStackId(1), python(&[(text, text, 1), (text, text, u32::MAX)]).into());
    names.truncated.insert(StackId(1), text.to_string());
    names
}

fn all(text: &str, path: &[u8], eval: bool) -> String {
    let style = Style::plain();
    let mut n = names(text, eval);
    let mut s = Script::new();
    let site = Site {
        stack: Some(StackId(1)),
        py: eval.then_some(PyStackId(1)),
        cause: Cause::Finalizer,
        escape: Some(Escape::Holds(text.into())),
        owner: Some(text.into()),
    };
    let path = String::from_utf8_lossy(path);
    s.at(site.clone()).open(MAIN, 3, &path);
    s.at(site.clone()).dup2(MAIN.0, 3, 9);
    s.at(site.clone()).close(MAIN, 3);
    s.fork(MAIN, 200);
    let found = s.at(site.clone()).refused(200, 3, Some(1));
    let mut out = String::new();
    for f in &found {
        out += &finding::finding(f, &mut n, &mut PaperSources::default(), style);
    }
    let t = trace(&mut n, &site, None);
    for form in [Form::Merged, Form::Python, Form::Native, Form::Full] {
        out += &t.text(form, Some(0), style);
    }
    let tids = [(MAIN, text.to_string(), text.to_string())];
    out += &table::fds(&s.world, MAIN, &mut n, style, &mut |_| true, &mut |_| None);
    for id in 1..=9 {
        out += &holders::who(&s.world, FileId(id), &mut n, style);
    }
    out += &holders::tree(&s.world, Pid(100), Some(FileId(1)), style);
    out += &table::fd(&s.world, MAIN, Fd(9), &mut n, style);
    out += &table::procs(&s.world, Pid(100), style);
    out += &table::threads(&s.world, &tids, MAIN, style);
    out += &table::findings(&found, &mut n, style);
    out += &history::of_number(&s.world, (MAIN, Fd(3)), None, &found, &mut n, style);
    out += &history::of_object(&s.world, FileId(1), &found, &mut n, style);
    let (_, mut at) = banner::tests::implicit_break();
    at.object.iter_mut().for_each(|o| o.file = NewFile::from_link(path.as_bytes().to_vec(), 1));
    at.call.iter_mut().for_each(|c| {
        c.site = site.clone();
        c.effects = vec![Effect::Close { fd: Fd(3) }];
    });
    let mut sources = PaperSources::default();
    if let Some((file, line)) = place(&mut n, &site).source {
        sources.0.insert((file, line), text.to_string());
    }
    out += &banner::banner(&at, &s.world, &tids, &mut n, &mut sources, style);
    out
}

proptest! {
    #[test]
    fn no_name_reaches_the_terminal_as_a_command(
        text in any::<String>(),
        path in proptest::collection::vec(any::<u8>(), 0..80),
        eval in any::<bool>(),
    ) {
        let out = all(&text, &path, eval);
        let bad = |c: char| (c != '\n' && c.is_control()) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{200b}'..='\u{200f}');
        prop_assert!(!out.contains(bad), "{out:?}");
    }
}

#[test]
fn an_attack_is_shown_as_what_it_is() {
    let out = all("\x1b]0;owned\x07\u{202e}\n", b"\x1b[2J\n/x\xff\r", true);
    assert!(!out.contains(['\x1b', '\x07', '\r', '\u{202e}']), "{out:?}");
    assert!(out.contains("\\x1b]0;owned\\x07\\u{202e}\\n"), "{out}");
}

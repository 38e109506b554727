//! Why an end came: one verdict, in words, and the frames that prove it.
//!
//! An event knows what could be told at the stop, by addresses (`stack::cause`). Here the functions have their names,
//! those that were inlined included, so that destructors and requests are told, too. Nothing here decides by runtime:
//! what a function means stands in the tables of `stack/runtimes.rs`.

use super::place::{brief, is_libc, is_library, is_own, native_place, row, without_arguments};
use super::{Names, NativeFrame, PythonFrame};
use crate::base::text::escape;
use crate::event::Cause;
use crate::finding::{Moved, Sweep};
use crate::model::{Moment, What};
use crate::policy::Break;
use crate::stack::{self, REACH, Role, Row, StackEnd, python_role};

/// Why an end came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// In a word.
    pub cause: Cause,
    /// In a clause: `by reference count, no close() call`. Safe to show.
    pub words: String,
    /// The native frames that prove it, as indices, innermost first.
    pub native: Vec<usize>,
    /// The Python frame that does.
    pub python: Option<usize>,
    /// The functions of these frames, innermost first, safe to show.
    pub proof: Vec<String>,
}

/// Why the end at `moment` came; `None` where it is none. `moved` is what the lives say about it.
pub fn why(names: &mut dyn Names, moment: &Moment, moved: Option<Moved>) -> Option<Why> {
    let plain = |cause, words: &str| Why {
        cause,
        words: words.to_string(),
        native: Vec::new(),
        python: None,
        proof: Vec::new(),
    };
    let call = match moment.what {
        What::Call(info) => info,
        What::Exec => return Some(plain(Cause::Exec, "by exec, as FD_CLOEXEC was set")),
        What::Exit => return Some(plain(Cause::Exit, "by exit, with the last task of its table")),
        What::Noticed => return Some(plain(Cause::Unknown, "unseen, for a reason unknown")),
        What::Fork | What::Present => return None,
    };
    let site = &moment.site;
    let native = site.stack.map(|id| names.native(id)).unwrap_or_default();
    let python = site.py.map(|id| names.python(id)).unwrap_or_default();
    let cut = site.stack.is_some_and(|id| names.truncated(id).is_some());
    let sweep = site.stack.and_then(|id| names.sweep(moment.pid, id));
    let mut why = of_stack(site.cause, &native, &python, cut);
    match (why.cause, moved, sweep) {
        _ if call.name == "close_range" => {
            why.cause = Cause::Loop;
            why.words = with_sweep("by close_range", sweep);
        }
        (Cause::Explicit | Cause::Unknown | Cause::Loop, _, Some(_)) => {
            why.cause = Cause::Loop;
            why.words = with_sweep("by a close loop", sweep);
        }
        (Cause::Explicit | Cause::Unknown | Cause::Redirection, Some(moved), None) => {
            (why.cause, why.words) = told(why.cause, moved);
        }
        _ => {}
    }
    Some(why)
}

/// Why the end comes that `at` is about; `None` where it is about none.
pub fn of_break(names: &mut dyn Names, at: &Break) -> Option<Why> {
    let call = at.call.as_ref().filter(|_| at.life.is_some())?;
    let what = What::Call(call.info);
    why(names, &Moment { at: 0, pid: at.pid, tid: at.tid, what, site: call.site.clone() }, None)
}

fn with_sweep(what: &str, sweep: Option<Sweep>) -> String {
    match sweep {
        Some(Sweep::BeforeExec) => format!("{what} before exec"),
        Some(Sweep::AfterFork) => format!("{what} after fork"),
        None => what.to_string(),
    }
}

fn told(cause: Cause, moved: Moved) -> (Cause, String) {
    match moved {
        Moved::Undone { from } => {
            (Cause::Redirection, format!("by a redirection's end: dup2 put back what {from} had kept"))
        }
        Moved::Kept { of } => (Cause::Redirection, format!("by a redirection's end: it was the copy kept of fd {of}")),
        Moved::LivesOn { at } if cause == Cause::Redirection => {
            (cause, format!("by a redirection, which had moved it to fd {at}"))
        }
        Moved::LivesOn { at } => (Cause::Explicit, format!("explicit, after a copy to fd {at}")),
    }
}

/// A frame that is the user's own is told from the table's by this row.
static OWN: Row = Row::own();

/// The verdict over a stack, where `known` is what was told at the stop.
fn of_stack(known: Cause, native: &[NativeFrame], python: &[PythonFrame], cut: bool) -> Why {
    let mut marks: Vec<(usize, &'static Row)> = Vec::new();
    for (i, f) in native.iter().enumerate() {
        let jumped = || native.get(i + 1).is_some_and(|next| !is_libc(next));
        marks.extend(row(f).filter(|r| r.role != Role::Jump || jumped()).map(|row| (i, row)));
        if is_own(native, i) {
            marks.push((i, &OWN));
        }
    }
    let end = if cut { StackEnd::Truncated(stack::Why::NoUnwindInfo) } else { StackEnd::Complete };
    let verdict = stack::decide(&marks, end);
    let by_stack = cause_of(verdict.cause);
    let own = python.iter().position(|f| !is_library(&f.file)).unwrap_or(python.len().saturating_sub(1));
    let says = |role| {
        let mut own = 0;
        let near = python.iter().enumerate().take_while(|(_, f)| {
            let within = own < REACH;
            own += usize::from(!is_library(&f.file));
            within
        });
        let named = |f: &PythonFrame| f.function.rsplit('.').next().and_then(python_role) == Some(role);
        near.into_iter().find(|(_, f)| named(f)).map(|(i, _)| i)
    };
    let (with, del) = (says(Role::With), says(Role::Finalizer));
    let stands = known.is_implicit() || known == Cause::Shutdown;
    let (cause, line) = match (known, by_stack) {
        _ if stands => (known, del),
        (_, Cause::Finalizer | Cause::Collector | Cause::Shutdown) => (by_stack, del),
        (_, Cause::Explicit | Cause::Unknown) if del.is_some() => (Cause::Finalizer, del),
        (_, Cause::Explicit | Cause::Unknown) if with.is_some() => (Cause::With, with),
        // The bytecode has told that.
        (Cause::With, Cause::Explicit | Cause::Unknown) => (Cause::With, (!python.is_empty()).then_some(own)),
        // Without any names the stop knows more.
        (_, Cause::Explicit | Cause::Unknown) if marks.is_empty() && known != Cause::Unknown => (known, None),
        _ => (by_stack, None),
    };
    // The telling frames up to the one that decided.
    let last = if by_stack == cause { verdict.frame } else { None };
    let mut frames: Vec<usize> =
        marks.iter().filter(|(i, r)| last.is_some_and(|l| *i <= l) && proves(r.role, cause)).map(|m| m.0).collect();
    frames.dedup();
    let first_own = marks.iter().find(|m| m.1.role == Role::Own).map(|m| m.0);
    if frames.is_empty() && cause == Cause::Explicit && python.is_empty() {
        frames.extend(first_own);
    }
    let line = line.or((cause == Cause::Explicit && last.is_none() && !python.is_empty()).then_some(own));
    let name = |i: &usize| native.get(*i).map(frame_name);
    let mut proof: Vec<String> = frames.iter().filter_map(name).collect();
    proof.extend(line.and_then(|n| python.get(n)).map(|f| escape(f.function.as_bytes())));
    let by = last.and_then(|l| native.get(l));
    let decided = marks.iter().find(|m| Some(m.0) == last && is_proof(m.1.role)).map(|m| m.1.role);
    // A library's function stands between: it closes by itself, or what it called has ended with a jump.
    let through = native.get(..first_own.unwrap_or(native.len())).and_then(|n| n.iter().find(|f| !is_libc(f)));
    let words = match cause {
        Cause::Explicit if decided == Some(Role::Deferred) => {
            "explicit, asked for earlier: a worker thread does it".to_string()
        }
        Cause::Explicit => match (by, first_own.and_then(|i| native.get(i))) {
            (Some(by), _) => format!("explicit, by {}", frame_name(by)),
            _ if !python.is_empty() => "explicit".to_string(),
            (None, Some(f)) if may_hide(f) => {
                format!("explicit, or by a destructor that is inlined in {}", frame_name(f))
            }
            (None, Some(_)) => match through {
                Some(f) => format!("explicit, through {}", frame_name(f)),
                None => "explicit".to_string(),
            },
            (None, None) => match (native.iter().find(|f| f.function.is_none()), through) {
                (Some(f), _) => format!("explicit, by {}, whose file has no names", native_place(f)),
                (None, Some(f)) => format!("explicit, through {}", frame_name(f)),
                (None, None) => "explicit".to_string(),
            },
        },
        Cause::Destructor => destructor(by),
        Cause::Unknown if native.is_empty() => "for a reason unknown: there is no stack".to_string(),
        Cause::Unknown => "for a reason unknown: the stack ends too early".to_string(),
        _ => {
            let called = if del.is_some() { ", through __del__()" } else { ", no close() call" };
            match by_cause(cause) {
                (words, true) => format!("{words}{called}"),
                (words, false) => words.to_string(),
            }
        }
    };
    Why { cause, words, native: frames, python: line, proof }
}

/// What closed it, and whether nobody called close().
fn by_cause(cause: Cause) -> (&'static str, bool) {
    match cause {
        Cause::Finalizer => ("by reference count", true),
        Cause::Collector => ("by the garbage collector", true),
        Cause::Shutdown => ("at interpreter shutdown", false),
        Cause::With => ("explicit, at the end of a with block", false),
        Cause::Stream => ("by fclose", false),
        Cause::Directory => ("by closedir", false),
        Cause::Pipe => ("by pclose", false),
        Cause::Loop => ("by a close loop", false),
        Cause::Redirection => ("by a redirection", false),
        Cause::Destructor => ("by a destructor", false),
        Cause::Explicit => ("explicit", false),
        Cause::Exec => ("by exec", false),
        Cause::Exit => ("by exit", false),
        Cause::Unknown => ("for a reason unknown", false),
    }
}

/// The word of a stack's verdict.
/// What is known of a cause alone, in a clause; `None` where that is nothing.
pub(crate) fn clause(cause: Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::Unknown | Cause::Explicit => return None,
        Cause::With => "at the end of a with",
        Cause::Finalizer => "by reference count, no close() call",
        Cause::Collector => "by the garbage collector, no close() call",
        Cause::Shutdown => "at interpreter shutdown",
        Cause::Destructor => "by a destructor",
        Cause::Stream => "by fclose",
        Cause::Directory => "by closedir",
        Cause::Pipe => "by pclose",
        Cause::Loop => "by a close loop",
        Cause::Redirection => "by a redirection's end",
        Cause::Exec => "by exec, as FD_CLOEXEC was set",
        Cause::Exit => "by exit, with the last task of its table",
    })
}

pub(crate) fn cause_of(c: stack::Cause) -> Cause {
    match c {
        stack::Cause::Explicit => Cause::Explicit,
        stack::Cause::With => Cause::With,
        stack::Cause::Finalizer => Cause::Finalizer,
        stack::Cause::Collector => Cause::Collector,
        stack::Cause::Shutdown => Cause::Shutdown,
        stack::Cause::Destructor => Cause::Destructor,
        stack::Cause::Stream => Cause::Stream,
        stack::Cause::Directory => Cause::Directory,
        stack::Cause::Pipe => Cause::Pipe,
        stack::Cause::Loop => Cause::Loop,
        stack::Cause::Redirection => Cause::Redirection,
        stack::Cause::Unknown => Cause::Unknown,
    }
}

fn is_proof(role: Role) -> bool {
    !matches!(role, Role::Code | Role::Own)
}

/// Whether a function of this role proves `cause`: that a finalizer calls `close` proves nothing of why it ran.
fn proves(role: Role, cause: Cause) -> bool {
    let ends = matches!(role, Role::Count | Role::Finalizer | Role::Collector | Role::Shutdown | Role::Destructor);
    is_proof(role) && (ends || !(cause.is_implicit() || cause == Cause::Shutdown))
}

/// `by drop of std::fs::File`, `by a destructor, std::basic_ofstream::~basic_ofstream`.
fn destructor(by: Option<&NativeFrame>) -> String {
    let Some(name) = by.and_then(|f| f.function.as_deref()) else { return by_cause(Cause::Destructor).0.to_string() };
    let glue = name.strip_prefix("core::ptr::drop_in_place").and_then(|n| n.trim_start_matches("::").strip_prefix('<'));
    let of = glue.and_then(|n| n.strip_suffix('>')).or_else(|| name.strip_prefix('<')?.split_once(" as ").map(|n| n.0));
    match of {
        Some(of) => format!("by drop of {}", escape(brief(of).as_bytes())),
        None => format!("by a destructor, {}", escape(without_arguments(stack::without_result(name)).as_bytes())),
    }
}

fn frame_name(f: &NativeFrame) -> String {
    match &f.function {
        Some(name) if name.contains("::") => escape(without_arguments(stack::without_result(name)).as_bytes()),
        Some(name) => escape(brief(name).as_bytes()),
        None => native_place(f),
    }
}

/// Whether a destructor may have been inlined here without a trace: the language has them, and there are no lines that
/// would name what was inlined, or the place is not known.
fn may_hide(f: &NativeFrame) -> bool {
    (f.file.is_none() || f.jumped) && f.function.as_deref().is_some_and(|n| n.contains("::") || n.ends_with(')'))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{PaperNames, cpython, native, python};
    use super::*;
    use crate::base::{Fd, Pid, PyStackId, StackId, Tid};
    use crate::event::{CallInfo, Site};

    fn moment(name: &'static str, cause: Cause, py: Option<PyStackId>) -> Moment {
        let info = CallInfo { name, args: [3, 0, 0, 0, 0, 0], ret: Some(0) };
        let site = Site { stack: Some(StackId(2)), py, cause, ..Site::default() };
        Moment { at: 1, pid: Pid(1), tid: Tid(1), what: What::Call(info), site }
    }

    /// The verdict over a stack of (function, module), as told at the stop to be explicit.
    fn of(frames: &[(&str, &str)], moved: Option<Moved>) -> (PaperNames, Why) {
        let mut names = PaperNames::default();
        names.native.insert(StackId(2), native(frames).into());
        let why = why(&mut names, &moment("close", Cause::Explicit, None), moved).unwrap();
        (names, why)
    }

    #[test]
    fn what_the_stop_said_of_a_finalizer_stands_and_is_proved_by_the_names() {
        let found = why(&mut cpython(), &moment("close", Cause::Finalizer, Some(PyStackId(1))), None).unwrap();
        assert_eq!((found.cause, found.words.as_str()), (Cause::Finalizer, "by reference count, no close() call"));
        assert_eq!(found.proof, ["iobase_finalize", "PyObject_CallFinalizerFromDealloc"]);
        // Told by what the Python frame was doing, with no function that would say so.
        let mut names = PaperNames::default();
        names.native.insert(StackId(2), native(&[("close", "libc.so.6"), ("", "python3.11")]).into());
        let found = why(&mut names, &moment("close", Cause::Finalizer, None), None).unwrap();
        assert_eq!((found.cause, found.proof.len()), (Cause::Finalizer, 0));
    }

    #[test]
    fn python_functions_say_by_their_names_that_a_block_was_left_or_an_object_deleted() {
        let told = |function: &str| {
            let mut names = PaperNames::default();
            names.native.insert(StackId(2), native(&[("close", "libc.so.6"), ("os_close", "python3")]).into());
            let frames = [("C.close", "a.py", 3), (function, "a.py", 5), ("<module>", "a.py", 9)];
            names.python.insert(PyStackId(1), python(&frames).into());
            let found = why(&mut names, &moment("close", Cause::Explicit, Some(PyStackId(1))), None).unwrap();
            (found.words, found.python)
        };
        assert_eq!(told("C.__exit__"), ("explicit, at the end of a with block".to_string(), Some(1)));
        assert_eq!(told("C.__del__"), ("by reference count, through __del__()".to_string(), Some(1)));
        assert_eq!(told("C.stop"), ("explicit, by os_close".to_string(), None));
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        let libc = ("close", "/lib/libc.so.6");
        assert_eq!(of(&[libc, ("log_close", "/bin/c")], None).1.words, "explicit");
        let hidden = of(&[libc, ("r::f", "/bin/r")], None).1;
        assert_eq!(hidden.words, "explicit, or by a destructor that is inlined in r::f");
        assert_eq!(hidden.proof, ["r::f"]);
        let stripped = of(&[libc, ("", "/bin/s")], None).1;
        assert_eq!(stripped.words, "explicit, by s+0x1001, whose file has no names");
        // No frame is the user's own, and all have names.
        let theirs = of(&[libc, ("__libc_start_main", "/lib/libc.so.6")], None).1;
        assert_eq!(theirs.words, "explicit");
        let theirs = of(&[libc, ("std::fs::run", "/bin/r")], None).1;
        assert_eq!(theirs.words, "explicit, through std::fs::run");
        let of_vector = of(&[libc, ("std::vector<int> my::drain<int>(int)", "/bin/r")], None).1;
        assert_eq!(of_vector.words, "explicit, or by a destructor that is inlined in my::drain");
        let through = of(&[libc, ("std::thread::run", "/bin/r"), ("main", "/bin/r")], None).1;
        assert_eq!(through.words, "explicit, through std::thread::run");
        let mut names = PaperNames::default();
        let nothing = why(&mut names, &moment("close", Cause::Unknown, None), None).unwrap();
        assert_eq!(nothing.words, "explicit");
    }

    #[test]
    fn a_child_that_sweeps_and_lives_that_were_copied_tell_more_than_the_stack() {
        let frames = [("close", "/lib/libc.so.6"), ("", "/bin/dash")];
        let undone = of(&frames, Some(Moved::Undone { from: Fd(10) })).1;
        assert_eq!(undone.cause, Cause::Redirection);
        assert_eq!(undone.words, "by a redirection's end: dup2 put back what 10 had kept");
        assert_eq!(of(&frames, Some(Moved::LivesOn { at: Fd(1) })).1.words, "explicit, after a copy to fd 1");
        let (mut names, _) = of(&frames, None);
        names.sweeps.insert(StackId(2), Sweep::BeforeExec);
        let swept = why(&mut names, &moment("close", Cause::Explicit, None), None).unwrap();
        assert_eq!((swept.cause, swept.words.as_str()), (Cause::Loop, "by a close loop before exec"));
        let range = why(&mut names, &moment("close_range", Cause::Unknown, None), None).unwrap();
        assert_eq!(range.words, "by close_range before exec");
    }

    #[test]
    fn exec_and_exit_are_causes_and_a_beginning_has_none() {
        let of =
            |what| why(&mut PaperNames::default(), &Moment { what, ..moment("close", Cause::Unknown, None) }, None);
        assert_eq!(of(What::Exec).map(|w| w.cause), Some(Cause::Exec));
        assert_eq!(of(What::Exit).map(|w| w.cause), Some(Cause::Exit));
        assert_eq!(of(What::Present), None);
    }

    #[test]
    fn hostile_names_are_escaped() {
        let found = of(&[("close", "/lib/libc.so.6"), ("a\x1b::~\u{202e}", "/bin/c")], None).1;
        assert_eq!(found.words, "by a destructor, a\\x1b::~\\u{202e}");
        assert_eq!(found.proof, ["a\\x1b::~\\u{202e}"]);
    }
}

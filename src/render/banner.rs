//! What is shown when the target has been stopped.

use super::call::{self, object};
use super::place::{at_line, base, place};
use super::record::escape_words;
use super::style::{Ink, Style, columns, keep_start, wrap};
use super::table::{program, threads};
use super::why::of_break;
use super::{Names, Sources, finding};
use crate::base::text::escape;
use crate::base::{Fd, Tid};
use crate::event::{Cause, Effect, Escape};
use crate::model::World;
use crate::policy::catch::Kind;
use crate::policy::{Break, Why};

/// How many tasks are listed after an interrupt.
const TASKS: usize = 12;

/// The banner of `at`, lines with their ends. `tids` are the tasks that stand still: (tid, name, state).
pub fn banner(
    at: &Break,
    world: &World,
    tids: &[(Tid, String, String)],
    names: &mut dyn Names,
    sources: &mut dyn Sources,
    style: Style,
) -> String {
    let comm = tids.iter().find(|t| t.0 == at.tid).map(|t| format!(" {}", escape(t.1.as_bytes()))).unwrap_or_default();
    let head = style.paint(Ink::Warning, &format!("break {}", at.number));
    let mut out = format!("{head} [{}{comm}] {}\n", at.tid, what(at, world));
    if let Some(why) = why(at) {
        label(&mut out, style, "why", &wrap(&why, 10, 10, style.width));
    }
    if let Why::Caught { by, .. } = &at.why {
        for c in by {
            label(&mut out, style, "caught", &wrap(&format!("by {}: {}", c.number, c.text), 10, 10, style.width));
        }
    }
    if let Why::Stepped | Why::Asked(_) | Why::Rehearsed(_) | Why::Inheritable | Why::ChildSide | Why::Caught { .. } =
        at.why
        && let Some(why) = of_break(names, at)
    {
        label(&mut out, style, "cause", &wrap(&why.words, 10, 10, style.width));
    }
    let is_told = matches!(at.why, Why::Stepped | Why::Finished | Why::Asked(_) | Why::Caught { .. });
    if let Some(call) = at.call.as_ref().filter(|_| is_told && at.finding.is_none()) {
        let opened = call.effects.iter().find_map(|e| match e {
            Effect::Open { file, .. } => Some(file.path.as_slice()),
            _ => None,
        });
        let path = opened.or(at.object.as_ref().map(|o| o.file.path.as_slice()));
        label(&mut out, style, "call", &call::call(&call.info, path));
    }
    if let Some(call) = at.call.as_ref().filter(|_| at.finding.is_none()) {
        out += &line_of(&place(names, &call.site), sources, style);
    }
    if let Some(f) = &at.finding {
        out += &finding::finding(f, names, sources, style);
    }
    if at.why == Why::Interrupted {
        let some = tids.get(..TASKS).unwrap_or(tids);
        out += &threads(world, some, at.tid, style);
        if tids.len() > TASKS {
            out += &format!("   … and {} more (info threads)\n", tids.len() - TASKS);
        }
    }
    label(&mut out, style, "next", next(at));
    out
}

fn label(out: &mut String, style: Style, label: &str, text: &str) {
    *out += &format!("  {}{text}\n", style.paint(Ink::Label, &format!("{label:<8}")));
}

/// `about to close fd 3 #17 /tmp/a`.
fn what(at: &Break, world: &World) -> String {
    if let (Why::Caught { by, .. }, None) = (&at.why, &at.call)
        && let Some(first) = by.first().filter(|_| at.finding.is_none())
    {
        let program = || world.process(at.pid).map(|p| program(&p.program)).unwrap_or_default();
        return match first.kind {
            Kind::Exec => format!("executed {}", program()),
            _ => format!("made process {}", at.made.map(|p| p.to_string()).unwrap_or_default()),
        };
    }
    if at.why == Why::Interrupted {
        return "interrupted".to_string();
    }
    if let Some(f) = &at.finding {
        let tense = if at.can_keep { "about to happen: " } else { "" };
        return format!("{tense}{}[{}] on fd {} {}", f.severity, f.name, f.fd, object(&f.object));
    }
    let Some(call) = &at.call else { return "stopped".to_string() };
    let tense = if call.info.ret.is_none() { "about to " } else { "after " };
    let Some(fd) = at.fd else {
        let numbers = |which: fn(&Effect) -> Option<Fd>| -> Vec<String> {
            call.effects.iter().filter_map(which).map(|fd| fd.to_string()).collect()
        };
        let opened = numbers(|e| match e {
            Effect::Open { fd, .. } => Some(*fd),
            _ => None,
        });
        let received = numbers(|e| match e {
            Effect::Receive { fd, .. } => Some(*fd),
            _ => None,
        });
        let mut out = format!("{tense}{}", escape(call.info.name.as_bytes()));
        for (fds, verb) in [(opened, "opened"), (received, "received")] {
            if !fds.is_empty() {
                out += &format!(", which {verb} fd {}", fds.join(" and "));
            }
        }
        return out;
    };
    let of = at.object.as_ref().map(|o| format!(" {}", object(o))).unwrap_or_default();
    let replaces = call.effects.iter().any(|e| matches!(e, Effect::Alias { to, .. } if *to == fd));
    let marks = call.effects.iter().find_map(|e| match e {
        Effect::Cloexec { fd: to, on } if *to == fd => Some(*on),
        _ => None,
    });
    if let (None, Some(on)) = (call.info.ret, marks) {
        return format!("about to {} FD_CLOEXEC of fd {fd}{of}", if on { "set" } else { "clear" });
    }
    let opens = call.effects.iter().any(|e| matches!(e, Effect::Open { fd: new, .. } if *new == fd));
    if let (Some(_), true) = (call.info.ret, opens) {
        return format!("opened fd {fd}{of}");
    }
    match (call.info.ret, replaces) {
        (None, true) => format!("about to put another file in place of fd {fd}{of}"),
        (None, false) if at.life.is_some() => format!("about to close fd {fd}{of}"),
        (Some(_), false) if at.life.is_some() => format!("closed fd {fd}{of}"),
        _ => format!("{tense}{} on fd {fd}{of}", call.info.name),
    }
}

/// The evidence in words.
fn why(at: &Break) -> Option<String> {
    let of = match &at.why {
        Why::Caught { also, .. } => also.as_deref()?,
        why => why,
    };
    match of {
        Why::Asked(how) => Some(format!("asked: {}", escape(how.as_bytes()))),
        Why::Implicit(cause, escape) => Some(implicit(*cause, escape.as_ref())),
        Why::Inheritable => Some(
            "inheritable: FD_CLOEXEC was cleared, so a child is to have it, and none has received it yet".to_string(),
        ),
        Why::ChildSide => Some(
            "child side: the parent cleared FD_CLOEXEC, so a child is to have it; this one closes it before it \
             executes its program"
                .to_string(),
        ),
        Why::Rehearsed(which) => Some(format!("rehearsed: {which}")),
        Why::Found(name) if at.finding.is_none() => Some(format!("found: {name}")),
        Why::Found(_) => None,
        Why::Interrupted => None,
        Why::Stepped => Some("the next descriptor event".to_string()),
        Why::Finished => Some("the call has returned".to_string()),
        Why::Caught { .. } => None,
    }
}

fn implicit(cause: Cause, escape: Option<&Escape>) -> String {
    let mut out = match cause {
        Cause::Finalizer => {
            "implicit: the finalizer closes it, as the last reference went away; no code called close()"
        }
        Cause::Collector => "implicit: the garbage collector closes it; no code called close()",
        Cause::Shutdown => "implicit: the interpreter shuts down; no code called close()",
        _ => "implicit",
    }
    .to_string();
    if let Some(e) = escape {
        out += "; ";
        out += &escape_words(e);
    }
    out
}

/// `job.py:2  subprocess.run(…)`: the user's line with its text.
fn line_of(p: &super::place::Place, sources: &mut dyn Sources, style: Style) -> String {
    let Some(user) = &p.user else { return String::new() };
    let inside = p.runtime.as_ref().map(|r| format!("  in {r}\n")).unwrap_or_default();
    let bare = || format!("  {}\n{inside}", style.paint(Ink::Place, user));
    let Some((file, n)) = &p.source else { return bare() };
    let Some(text) = sources.line(file, *n) else { return bare() };
    let text = escape(text.trim().as_bytes());
    let room = |at: &str| style.width.saturating_sub(columns(at) + 4);
    let mut at = at_line(file, Some(*n));
    if columns(&text) > room(&at) {
        // The code says more than the folders do.
        at = at_line(base(file), Some(*n));
    }
    let text = keep_start(&text, room(&at).max(40));
    format!("  {}  {text}\n{inside}", style.paint(Ink::Place, &at))
}

/// What may be typed next.
fn next(at: &Break) -> &'static str {
    match (&at.why, at.can_keep) {
        (Why::Interrupted, _) => "bt, info threads, continue, signal (deliver it), kill, help",
        (_, true) => "bt, keep (let it live), continue, explain, help",
        (Why::Stepped | Why::Finished, false) => "bt, next, continue, help",
        (Why::Found(_), false) => "bt, hist, rewind (back to the culprit), continue, explain, help",
        (_, false) => "bt, hist, continue, explain, help",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::{Fd, Pid, PyStackId, StackId};
    use crate::event::{Call, CallInfo, Site};
    use crate::finding::testing::{MAIN, Script};
    use crate::render::testing::{PaperSources, cpython};

    /// The break before a finalizer's close of fd 3, in a world where that is open.
    pub(crate) fn implicit_break() -> (Script, Break) {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        let info = CallInfo { name: "close", args: [3, 0, 0, 0, 0, 0], ret: None };
        let cause = Cause::Finalizer;
        let site = Site {
            stack: Some(StackId(2)),
            py: Some(PyStackId(1)),
            cause,
            escape: Some(Escape::FilenoCall),
            owner: None,
        };
        let life = s.world.open_life(MAIN, Fd(3)).unwrap();
        let why = Why::Implicit(cause, Some(Escape::FilenoCall));
        let at = Break {
            call: Some(Call { info, effects: vec![Effect::Close { fd: Fd(3) }], site }),
            life: Some(life.id),
            fd: Some(Fd(3)),
            object: crate::finding::object(&s.world, life),
            can_keep: true,
            ..Break::at(1, MAIN, Pid(100), why)
        };
        (s, at)
    }

    fn shown(at: &Break, s: &Script) -> String {
        let mut sources = PaperSources::default();
        sources.0.insert(("job.py".into(), 2), "  subprocess.run(x, stdout=open(\"/tmp/a\").fileno())\x1b".into());
        let tids = [(MAIN, "python3".to_string(), "close".to_string())];
        banner(at, &s.world, &tids, &mut cpython(), &mut sources, Style::plain())
    }

    #[test]
    fn an_implicit_close_shows_the_evidence_and_the_users_line() {
        let (s, at) = implicit_break();
        let expected = "\
break 1 [100 python3] about to close fd 3 #1 /tmp/a
  why     implicit: the finalizer closes it, as the last reference went away; no
          code called close(); the calling frame is at fileno() of a temporary
  job.py:2  subprocess.run(x, stdout=open(\"/tmp/a\").fileno())\\x1b
  next    bt, keep (let it live), continue, explain, help
";
        assert_eq!(shown(&at, &s), expected);
    }

    #[test]
    fn an_interrupt_shows_the_tasks() {
        let (s, mut at) = implicit_break();
        at = Break { why: Why::Interrupted, call: None, life: None, fd: None, object: None, can_keep: false, ..at };
        let expected = "\
break 1 [100 python3] interrupted
   TID  PID  STATE  NAME
>  100  100  close  python3
  next    bt, info threads, continue, signal (deliver it), kill, help
";
        assert_eq!(shown(&at, &s), expected);
    }

    #[test]
    fn a_broken_hand_off_shows_the_finding() {
        let (mut s, mut at) = implicit_break();
        s.close(MAIN, 3);
        s.fork(MAIN, 200);
        let found = s.refused(200, 3, Some(1)).remove(0);
        at = Break { why: Why::Found(found.name), finding: Some(found), can_keep: false, number: 2, ..at };
        let text = shown(&at, &s);
        assert!(text.starts_with("break 2 [100 python3] error[stale-fd-to-child] on fd 3 #1 /tmp/a\nerror["), "{text}");
        assert!(text.contains("\n  used    [200] dup2(3, 1) = EBADF"), "{text}");
        assert!(!text.contains("  why     found"), "{text}");
    }

    #[test]
    fn what_was_asked_for_says_how() {
        let (s, mut at) = implicit_break();
        at.why = Why::Asked("--path /tmp/\x1b*".into());
        let text = shown(&at, &s);
        let cause = "  cause   by reference count, no close() call\n";
        assert!(text.contains(&format!("  why     asked: --path /tmp/\\x1b*\n{cause}  call    close(3)\n")), "{text}");
    }
}

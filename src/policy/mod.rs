//! When to break into the prompt: pure, over what an event is about to change and what the rules found.

pub mod catch;
pub mod condition;
pub mod inject;
mod predict;
pub mod suppression;

pub use predict::Expected;

use crate::base::{Fd, LifeId, Pid, Tid};
use crate::event::{Call, Cause, Escape, Event, EventKind};
use crate::finding::{Finding, Object, Severity};
use crate::model::{Life, Transition, World};
use catch::{Catches, Caught, Kind};
use glob::Pattern;
use inject::Injection;

/// Which implicit closes break.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Implicit {
    /// Those whose number has left the object.
    #[default]
    Escaped,
    /// All.
    All,
    /// None.
    Never,
}

/// Why the program was stopped.
#[derive(Clone, PartialEq, Debug)]
pub enum Why {
    /// The user named the number or the path; the text says how.
    Asked(String),
    /// No code called close.
    Implicit(Cause, Option<Escape>),
    /// It was made inheritable, and no child has received it.
    Inheritable,
    /// A child closes, before it executes its program, what was made inheritable for one.
    ChildSide,
    /// Another run has shown that a child needs it; the text says which.
    Rehearsed(String),
    /// A rule found something.
    Found(&'static str),
    /// The user interrupted (Ctrl-C).
    Interrupted,
    /// The user asked for the next event.
    Stepped,
    /// The user asked for the result of the call.
    Finished,
    /// What the user wants to be caught.
    Caught {
        /// By which, of which there is one at least.
        by: Vec<Caught>,
        /// Why it would have been shown anyway.
        also: Option<Box<Why>>,
    },
}

/// A stop that is shown to the user.
#[derive(Clone, Debug)]
pub struct Break {
    /// Counts from 1.
    pub number: u32,
    /// The task that is at it.
    pub tid: Tid,
    /// Its process.
    pub pid: Pid,
    /// Why.
    pub why: Why,
    /// The call that is about to be made (`ret` is `None`) or was made; `None` after an interrupt.
    pub call: Option<Call>,
    /// The life that is about to end, if one is.
    pub life: Option<LifeId>,
    /// Its number.
    pub fd: Option<Fd>,
    /// Its object.
    pub object: Option<Object>,
    /// What was found, if something was.
    pub finding: Option<Finding>,
    /// Whether the call has not been made yet and can be kept from happening.
    pub can_keep: bool,
    /// The process that was made, if one was.
    pub made: Option<Pid>,
}

impl Break {
    /// One that concerns no call and no descriptor.
    pub fn at(number: u32, tid: Tid, pid: Pid, why: Why) -> Break {
        Break {
            number,
            tid,
            pid,
            why,
            call: None,
            life: None,
            fd: None,
            object: None,
            finding: None,
            can_keep: false,
            made: None,
        }
    }
}

/// What the user wants to be shown.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// `--fd`.
    pub fds: Vec<Fd>,
    /// `--path`.
    pub paths: Vec<Pattern>,
    /// `--break`.
    pub implicit: Implicit,
    /// `--expect-child`: until somebody executes one of these, what it could be meant to get is shown before it is closed.
    pub expected: Vec<Expected>,
    /// Whether a close breaks that takes away what was made inheritable before a child has it.
    pub inheritable: bool,
    /// The same, in a child that has yet to execute its program.
    pub child_side: bool,
    /// Whether findings of severity error break.
    pub findings: bool,
    /// What is to be caught.
    pub catches: Catches,
    /// What is to be altered.
    pub injections: Vec<Injection>,
}

impl Why {
    /// A word of a condition's `why` for what would break by itself.
    pub fn word(why: Option<&Why>) -> &'static str {
        match why {
            Some(Why::Implicit(..)) => "implicit",
            Some(Why::Asked(_)) => "asked",
            Some(Why::Found(_)) => "found",
            _ => "none",
        }
    }
}

impl Policy {
    /// Whether to break before `transitions`, which `event` is about to cause, and because of which life's end.
    pub fn before(&self, world: &World, event: &Event, transitions: &[Transition]) -> Option<(LifeId, Why)> {
        let EventKind::Call(call) = &event.kind else { return None };
        let ended = predict::ends(world, event.tid, transitions);
        ended.into_iter().find_map(|life| Some((life.id, self.of_end(world, event.tid, life, call)?)))
    }

    fn of_end(&self, world: &World, tid: Tid, life: &Life, call: &Call) -> Option<Why> {
        if self.fds.contains(&life.fd) {
            return Some(Why::Asked(format!("--fd {}", life.fd)));
        }
        let path = &world.file(life.file)?.file.path;
        let text = String::from_utf8_lossy(path);
        if let Some(p) = self.paths.iter().find(|p| p.matches(&text)) {
            return Some(Why::Asked(format!("--path {}", p.as_str())));
        }
        let site = &call.site;
        let implicit = match self.implicit {
            Implicit::Never => false,
            Implicit::Escaped => site.cause.is_implicit() && site.escape.is_some(),
            Implicit::All => site.cause.is_implicit(),
        };
        if implicit {
            return Some(Why::Implicit(site.cause, site.escape.clone()));
        }
        let inheritable = || self.inheritable.then(|| predict::inheritable(world, tid, life)).flatten();
        let child_side = || self.child_side.then(|| predict::child_side(world, tid, life)).flatten();
        let expected = || self.expected.iter().find_map(|e| predict::expected(world, tid, life, call, e));
        inheritable().or_else(child_side).or_else(expected)
    }

    /// Whether anything but the stack of a close can make it break: then calls whose result matters must be looked at
    /// before they are made, too.
    pub fn asks_for_names(&self) -> bool {
        !self.fds.is_empty()
            || !self.paths.is_empty()
            || self.inheritable
            || self.child_side
            || !self.expected.is_empty()
            || self.catches.wants(Kind::Close)
    }

    /// Which of these findings breaks, if one does.
    pub fn after<'f>(&self, findings: &'f [Finding]) -> Option<&'f Finding> {
        findings.iter().find(|f| self.findings && f.severity >= Severity::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{CallInfo, Effect, Found, NewFile, Program, Site, Start};

    fn world() -> World {
        let mut w = World::new();
        let start = Event {
            at: 1,
            tid: Tid(1),
            kind: EventKind::Start(Start {
                pid: Pid(1),
                parent: None,
                program: Program::default(),
                table: Found::Own(vec![]),
            }),
        };
        let t = w.consequences(&start);
        w.commit(&start, t);
        let file = NewFile::from_link(b"/tmp/out.log".to_vec(), 1);
        let e = call(vec![Effect::Open { fd: Fd(3), cloexec: false, file }], Site::default());
        let t = w.consequences(&e);
        w.commit(&e, t);
        w
    }

    fn call(effects: Vec<Effect>, site: Site) -> Event {
        let info = CallInfo { name: "close", args: [3, 0, 0, 0, 0, 0], ret: None };
        Event { at: 2, tid: Tid(1), kind: EventKind::Call(Call { info, effects, site }) }
    }

    fn why(policy: &Policy, cause: Cause, escape: Option<Escape>) -> Option<Why> {
        let w = world();
        let e = call(vec![Effect::Close { fd: Fd(3) }], Site { cause, escape, ..Site::default() });
        policy.before(&w, &e, &w.consequences(&e)).map(|b| b.1)
    }

    #[test]
    fn an_implicit_close_breaks_by_default_only_if_the_number_has_escaped() {
        let p = Policy::default();
        assert_eq!(why(&p, Cause::Finalizer, None), None);
        assert_eq!(why(&p, Cause::Explicit, Some(Escape::FilenoCall)), None);
        assert_eq!(why(&p, Cause::Shutdown, Some(Escape::FilenoCall)), None);
        let expected = Why::Implicit(Cause::Finalizer, Some(Escape::FilenoCall));
        assert_eq!(why(&p, Cause::Finalizer, Some(Escape::FilenoCall)), Some(expected));
        let all = Policy { implicit: Implicit::All, ..Policy::default() };
        assert!(why(&all, Cause::Finalizer, None).is_some());
        let never = Policy { implicit: Implicit::Never, ..Policy::default() };
        assert_eq!(why(&never, Cause::Finalizer, Some(Escape::FilenoCall)), None);
    }

    #[test]
    fn numbers_and_paths_are_asked_for_by_name() {
        let fd = Policy { fds: vec![Fd(3)], ..Policy::default() };
        assert_eq!(why(&fd, Cause::Explicit, None), Some(Why::Asked("--fd 3".into())));
        let path = |p: &str| Policy { paths: vec![Pattern::new(p).unwrap()], ..Policy::default() };
        assert!(why(&path("/tmp/out*"), Cause::Explicit, None).is_some());
        assert!(why(&path("/tmp/in*"), Cause::Explicit, None).is_none());
    }
}

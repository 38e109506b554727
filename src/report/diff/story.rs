//! One life, or one finding, as it is laid beside another.

use super::Row;
use super::frames::{Frame, align};
use crate::event::Cause;
use crate::identity::same_path;
use crate::render::record::{FindingRecord, StepRecord};
use crate::render::why::clause;
use crate::report::lives::{EndRecord, LifeRecord, Lives, MomentRecord};

/// A finding or a life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// `stale-fd-to-child`; empty for a life.
    pub finding: String,
    /// What it is about: `fd 3 #17`.
    pub what: String,
    /// The object's path, or its kind where it has none.
    pub path: String,
    /// What happened.
    pub steps: Vec<Step>,
}

/// A step of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// `opened`, `closed`, `reused` or `used`.
    pub role: String,
    /// What happened, in words: `close(), by reference count, no close() call`.
    pub how: String,
    /// The same without what another run may know better, or number otherwise.
    what: String,
    /// Why, by the stack without names and with names, where they were asked for.
    cause: (Cause, Option<Cause>),
    /// The native stack, innermost first.
    pub native: Vec<Frame>,
    /// The Python stack; `None` where none was taken.
    pub python: Option<Vec<Frame>>,
}

impl Step {
    /// Whether two steps are the same but for what no two runs share.
    pub fn same(&self, other: &Step) -> bool {
        let alike = |a: &[Frame], b: &[Frame]| align(a, b).iter().all(|r| matches!(r, Row::Both(..)));
        let python = match (&self.python, &other.python) {
            (Some(a), Some(b)) => alike(a, b),
            _ => true,
        };
        let what = (&self.role, &self.what) == (&other.role, &other.what) && same_cause(self.cause, other.cause);
        what && alike(&self.native, &other.native) && python
    }
}

/// Whether two ends came for the same reason, each told without names and with them: what both know best is compared.
pub(super) fn same_cause(a: (Cause, Option<Cause>), b: (Cause, Option<Cause>)) -> bool {
    match (a.1, b.1) {
        (Some(a), Some(b)) => a == b,
        _ => a.0 == b.0,
    }
}

impl Story {
    /// The story of a finding.
    pub fn of_finding(f: &FindingRecord) -> Story {
        let path = if f.object.path.is_empty() { &f.object.kind } else { &f.object.path };
        Story {
            finding: f.name.clone(),
            what: format!("fd {} {}", f.fd, f.object.id),
            path: path.clone(),
            steps: f.steps.iter().map(step).collect(),
        }
    }

    /// The story of a life.
    pub fn of_life(lives: &Lives, life: &LifeRecord) -> Story {
        let began = step_of_moment(lives, "opened", opened(life), &life.began);
        let ended = life.ended.as_ref().map(|e| Step {
            what: call_of(e),
            cause: cause_of(lives, e),
            ..step_of_moment(lives, "closed", ended(lives, e), &e.moment)
        });
        Story {
            finding: String::new(),
            what: format!("fd {} {}", life.fd, life.object),
            path: path_of(lives, life),
            steps: [Some(began), ended].into_iter().flatten().collect(),
        }
    }

    /// The steps of both stories, those of one role together, in the order of the first.
    pub fn beside<'s>(&'s self, other: &'s Story) -> Vec<(Option<&'s Step>, Option<&'s Step>)> {
        let mut left: Vec<Option<&Step>> = other.steps.iter().map(Some).collect();
        let mut out = Vec::new();
        for step in &self.steps {
            let twin = left.iter_mut().find(|s| s.is_some_and(|s| s.role == step.role)).and_then(Option::take);
            out.push((Some(step), twin));
        }
        out.extend(left.into_iter().flatten().map(|s| (None, Some(s))));
        out
    }

    /// Whether two stories are the same but for what no two runs share.
    pub fn same(&self, other: &Story) -> bool {
        self.finding == other.finding
            && same_path(&self.path, &other.path)
            && self.beside(other).iter().all(|pair| matches!(pair, (Some(a), Some(b)) if a.same(b)))
    }
}

fn step(s: &StepRecord) -> Step {
    let call = match (&s.call_name, s.what.as_str()) {
        (Some(name), _) => format!("{name}()"),
        (None, what) => without_call(what).to_string(),
    };
    let failed = s.call.as_deref().and_then(|c| c.rsplit_once(" = ")).map(|c| c.1).filter(|r| r.starts_with('E'));
    let mut how = match s.why.as_deref().or(clause(s.cause)) {
        Some(cause) if s.role != crate::finding::Role::Opened => format!("{call} {cause}"),
        _ => call,
    };
    if let Some(error) = failed {
        how += &format!(" = {error}");
    }
    let python = (!s.python.is_empty()).then(|| s.python.iter().cloned().map(Frame::Python).collect());
    let native = s.native.iter().map(Frame::of_native).collect();
    Step { role: s.role.word().to_string(), what: how.clone(), how, cause: (s.cause, None), native, python }
}

fn step_of_moment(lives: &Lives, role: &str, how: String, moment: &MomentRecord) -> Step {
    let stack = lives.stack(moment.stack);
    Step {
        role: role.to_string(),
        what: how.clone(),
        how,
        cause: (Cause::Unknown, None),
        native: stack.map(|s| Frame::native_of(lives, s)).unwrap_or_default(),
        python: stack.and_then(|s| Frame::python_of(lives, s)),
    }
}

/// How a life began, in words.
pub(super) fn opened(life: &LifeRecord) -> String {
    match &life.began.call_name {
        Some(name) => format!("{name}()"),
        None => without_call(&life.began.what).to_string(),
    }
}

/// Why a life ended, told without names and with them.
pub(super) fn cause_of(lives: &Lives, end: &EndRecord) -> (Cause, Option<Cause>) {
    (end.cause, lives.why(end).map(|w| w.cause))
}

/// How a life ended, in words, with the reason.
pub(super) fn ended(lives: &Lives, end: &EndRecord) -> String {
    let call = call_of(end);
    let said = matches!(end.how.as_str(), "closed-on-exec" | "table-gone" | "vanished");
    match lives.why(end).map(|w| w.words.as_str()).or(clause(end.cause)) {
        Some(why) if !said => format!("{call} {why}"),
        _ => call,
    }
}

/// The same without the reason.
fn call_of(end: &EndRecord) -> String {
    match (&end.moment.call_name, end.how.as_str()) {
        (Some(name), "closed" | "replaced" | "closed-in-range") => format!("{name}()"),
        (_, "closed-on-exec") => "close-on-exec, by execve".to_string(),
        (_, "table-gone") => "the last task of its table ended".to_string(),
        (_, "vanished") => "it was gone, unseen".to_string(),
        (_, how) => how.to_string(),
    }
}

fn without_call(what: &str) -> &str {
    match what {
        "present" => "open when fdwatch began to look",
        "noticed" => "found open, unseen before",
        "exec" => "close-on-exec, by execve",
        "exit" => "the last task of its table ended",
        "fork" => "a fork copied it",
        other => other,
    }
}

/// The path of a life's object, or what it is.
pub(super) fn path_of(lives: &Lives, life: &LifeRecord) -> String {
    match lives.object(life.object) {
        Some(o) if o.path.is_empty() => o.kind.clone(),
        Some(o) => o.path.clone(),
        None => "an object that was forgotten".to_string(),
    }
}

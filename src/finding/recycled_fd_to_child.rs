//! `recycled-fd-to-child`: the number was live again, for another object; the child got the wrong file.

use super::culprit::{Clue, Evidence, advice, blame, story, told};
use super::{About, Confidence, Finding, Rule, Seen, Severity, bound, called, object, root, standard_name};
use crate::base::{Fd, LifeId};
use crate::event::{Direction, Effect, EventKind, Held};
use crate::model::Life;
use std::collections::HashSet;

/// The rule. Remembers whom it has blamed, so that one mistake is told once.
#[derive(Default)]
pub(super) struct RecycledFdToChild {
    told: HashSet<LifeId>,
}

static ABOUT: About = About {
    name: "recycled-fd-to-child",
    severity: Severity::Error,
    summary: "the number was live again, for another object: the child got the wrong file",
    page: include_str!("pages/recycled-fd-to-child.md"),
};

impl Rule for RecycledFdToChild {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        let EventKind::Call(call) = &seen.event.kind else { return Vec::new() };
        let Some(window) = seen.world.window(seen.event.tid) else { return Vec::new() };
        let Some(task) = seen.world.task(seen.event.tid) else { return Vec::new() };
        let mut out = Vec::new();
        for effect in &call.effects {
            let Effect::Alias { from, to, .. } = effect else { continue };
            let Some(now) = seen.world.open_life(seen.event.tid, *from) else { continue };
            let since = seen.world.process(task.pid).map_or(0, |p| p.since);
            let Some(blame) = blame(seen.world, task.table, *from, task.pid, since) else { continue };
            // A number is recycled all the time; only one that had left its object can have been meant.
            if !blame.life.was_lost() || self.told.contains(&blame.life.id) {
                continue;
            }
            let held = window.fork.held.iter().find(|h| h.0 == *from).map(|h| &h.1);
            let Some(proof) = proof(seen, root(seen.world, now), *from, *to, held) else { continue };
            let Some(object) = object(seen.world, blame.life) else { continue };
            bound(&mut self.told);
            self.told.insert(blame.life.id);
            let mut steps = story(seen.world, &blame);
            let got = super::object(seen.world, now);
            let noun = got.as_ref().map_or("another file", |g| g.file.noun());
            steps.push(seen.used(call, got.clone(), Some("the child got this instead".to_string())));
            let as_what = standard_name(*to).map_or(format!("fd {to}"), str::to_string);
            let cause = blame.life.end.as_ref().map(|e| e.moment.site.cause).unwrap_or_default();
            let mut evidence = blame.evidence;
            evidence.extend(proof);
            out.push(Finding {
                name: ABOUT.name,
                severity: ABOUT.severity,
                confidence: Confidence::Certain,
                fd: *from,
                tid: seen.event.tid,
                pid: task.pid,
                title: format!(
                    "child {} of {} got the wrong file as {as_what}: fd {from} had been closed and was now a {noun}",
                    task.pid,
                    called(seen.world, task.pid),
                ),
                object,
                steps,
                evidence: told(evidence),
                help: advice(cause).to_string(),
                count: 1,
                parts: Vec::new(),
            });
        }
        out
    }
}

/// What proves that the child was not meant to get `now`; `None` when it may well have been.
fn proof(seen: &Seen<'_>, now: &Life, from: Fd, to: Fd, held: Option<&Held>) -> Option<Evidence> {
    let mut out = Vec::new();
    match held {
        // Who hands over an object hands over what it is now.
        Some(Held::Object(_)) => return None,
        // The number is meant for another standard stream: this copy is the spawner's own plumbing.
        Some(Held::Number(name)) if is_for_another(name, to) => return None,
        Some(Held::Number(name)) => {
            let name = crate::base::text::escape(name.as_bytes());
            out.push((Clue::Held, format!("the code that started the child held the bare number {from}, as `{name}`")));
        }
        None => {}
    }
    let file = &seen.world.file(now.file)?.file;
    let unfit = match (to.0, file.direction()) {
        (0, Direction::Write) => Some("cannot be read from, and became stdin"),
        (1, Direction::Read) => Some("cannot be written to, and became stdout"),
        (2, Direction::Read) => Some("cannot be written to, and became stderr"),
        _ => None,
    };
    if let Some(unfit) = unfit {
        out.push((Clue::Unfit, format!("the {} {unfit}", file.noun())));
    }
    (!out.is_empty()).then_some(out)
}

/// Whether a variable called `stdin`, `stdout` or `stderr` means another standard stream than `to`.
fn is_for_another(name: &str, to: Fd) -> bool {
    let meant = (0..3).map(Fd).find(|fd| standard_name(*fd) == Some(name));
    meant.is_some_and(|meant| meant != to)
}

#[cfg(test)]
mod tests {

    use super::super::testing::*;
    use super::*;
    use crate::event::{Cause, Escape};

    fn lost() -> Script {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.close_by(MAIN, 3, Cause::Finalizer, Some(Escape::FilenoCall));
        s
    }

    #[test]
    fn the_read_end_of_a_pipe_as_stdout_is_wrong_whoever_holds_what() {
        let mut s = lost();
        s.pipe(MAIN, 3, 4);
        s.fork(MAIN, 200);
        let found = s.dup2(200, 3, 1);
        let [f] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((f.name, f.object.file.path.as_slice()), ("recycled-fd-to-child", b"/tmp/a".as_slice()));
        assert!(f.title.contains("pipe (read end)"), "{}", f.title);
        let starts = ["no code called close()", "the pipe (read end) cannot be written to", "the frame was at a call"];
        assert!(f.evidence.iter().zip(starts).all(|(e, s)| e.starts_with(s)), "in falling weight: {:?}", f.evidence);
        assert_eq!(f.evidence.len(), starts.len());
    }

    #[test]
    fn another_file_is_wrong_if_the_spawner_holds_a_number() {
        let mut s = lost();
        s.open(MAIN, 3, "/tmp/other");
        s.fork_holding(MAIN, 200, vec![(Fd(3), Held::Number("stdout".into()))]);
        assert_eq!(s.dup2(200, 3, 1).len(), 1);
        assert_eq!(s.dup2(200, 3, 2).len(), 0, "told once");
    }

    #[test]
    fn another_file_is_right_if_the_spawner_holds_its_object() {
        let mut s = lost();
        s.open(MAIN, 3, "/tmp/other");
        s.fork_holding(MAIN, 200, vec![(Fd(3), Held::Object("stdout".into()))]);
        assert!(s.dup2(200, 3, 1).is_empty());
    }

    #[test]
    fn the_spawners_own_plumbing_is_not_what_was_meant() {
        let mut s = lost();
        s.pipe(MAIN, 3, 4);
        s.fork_holding(MAIN, 200, vec![(Fd(3), Held::Number("stdout".into()))]);
        assert!(s.dup2(200, 3, 0).is_empty(), "the pipe is stdin's own");
        let found = s.dup2(200, 3, 1);
        assert!(found[0].title.contains("as stdout"), "{}", found[0].title);
    }

    #[test]
    fn without_evidence_nothing_is_said() {
        let mut s = lost();
        s.open(MAIN, 3, "/tmp/other");
        s.fork(MAIN, 200);
        assert!(s.dup2(200, 3, 1).is_empty());
        // json.load(open(p)): an end by the finalizer whose number never left.
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.close_by(MAIN, 3, Cause::Finalizer, None);
        s.pipe(MAIN, 3, 4);
        s.fork(MAIN, 200);
        assert!(s.dup2(200, 3, 1).is_empty());
    }
}

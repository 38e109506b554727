//! `foreign-close`: somebody closed, or dup2'd over, a life that another owner had opened.

use super::culprit::{Clue, Evidence, told};
use super::sweep::{Runs, Suspects};
use super::{
    About, Confidence, Finding, Object, Role, Rule, Seen, Severity, Step, bound, called, closed, object, opened,
};
use crate::base::text::escape;
use crate::base::{Fd, LifeId, TableId, Tid};
use crate::event::{Call, Effect, EventKind, Site};
use crate::model::{Change, Ended, Life, Moment, Origin, World};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// So many lives of a number are looked at, back from the one that was taken.
const BACK: usize = 16;

/// The rule.
///
/// A thread that closes what another has opened is ordinary: work is handed over, and a thread that has closed files of its
/// own closes those from the same place. So it takes more: the closer had a life of its own on this number, which it had
/// closed already, and the owner then finds its descriptor gone (EBADF). Only a dup2 that comes right behind the close of
/// the same number is told at once: a number that was handed over would not have been emptied first.
#[derive(Default)]
pub(super) struct ForeignClose {
    told: HashSet<LifeId>,
    runs: Runs,
    suspects: Suspects<(LifeId, Finding)>,
    /// When each task last changed a descriptor.
    last: HashMap<Tid, u64>,
}

/// Its name.
pub(super) const NAME: &str = "foreign-close";

static ABOUT: About = About {
    name: NAME,
    severity: Severity::Error,
    summary: "a close, or a dup2 over it, of a number that had become another owner's",
    page: include_str!("pages/foreign-close.md"),
};

impl Rule for ForeignClose {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        let tid = seen.event.tid;
        let (closing, in_loop) = self.runs.step(seen);
        let mut out = Vec::new();
        if let Some((life, f)) = self.suspects.judge(seen, in_loop) {
            out.extend(self.tell(life, f));
        }
        let before = self.before(seen);
        let EventKind::Call(call) = &seen.event.kind else { return out };
        for change in seen.changes {
            let Change::Ended(id) = change else { continue };
            let Some(taken) = seen.world.life(*id) else { continue };
            let Some(t) = trespass(seen.world, taken) else { continue };
            let in_two_steps = t.how == Ended::Replaced && before == Some(t.own_end.at) && t.is_of_threads();
            if in_two_steps && !same_place(&t.own.began.site, &taken.began.site) {
                out.extend(in_two_steps_over(seen, &t).and_then(|f| self.tell(taken.id, f)));
            }
        }
        for effect in &call.effects {
            let Effect::Refused { fd, close, .. } = effect else { continue };
            let Some(table) = seen.world.task(tid).map(|t| t.table) else { continue };
            let Some(t) = robbed(seen.world, table, *fd, (tid, &call.site)) else { continue };
            let Some(f) = found_gone(seen, call, &t) else { continue };
            match (close, closing) {
                (true, Some(_)) if in_loop => {}
                (true, _) => self.suspects.wait(tid, t.taken.began.at, (t.taken.id, f)),
                (false, _) => out.extend(self.tell(t.taken.id, f)),
            }
        }
        out
    }

    fn rest(&mut self) -> Vec<Finding> {
        let waiting: Vec<_> = self.suspects.drain().collect();
        waiting.into_iter().filter_map(|(life, f)| self.tell(life, f)).collect()
    }
}

impl ForeignClose {
    fn tell(&mut self, taken: LifeId, f: Finding) -> Option<Finding> {
        bound(&mut self.told);
        self.told.insert(taken).then_some(f)
    }

    /// When the task changed a descriptor before this event.
    fn before(&mut self, seen: &Seen<'_>) -> Option<u64> {
        let tid = seen.event.tid;
        match &seen.event.kind {
            EventKind::Exit { .. } => self.last.remove(&tid),
            EventKind::Call(_) if !seen.changes.is_empty() => self.last.insert(tid, seen.event.at),
            _ => None,
        }
    }
}

/// A life that was ended by another owner, whose own life on that number was over.
pub(super) struct Trespass<'w> {
    /// What tells the two owners apart.
    by: Apart<'w>,
    /// The trespasser's own, which it had closed before.
    own: &'w Life,
    own_end: &'w Moment,
    /// The other's.
    pub(super) taken: &'w Life,
    taken_end: &'w Moment,
    how: Ended,
}

impl Trespass<'_> {
    fn is_of_threads(&self) -> bool {
        matches!(self.by, Apart::Threads)
    }
}

/// What two owners have not in common.
#[derive(Clone, Copy)]
enum Apart<'w> {
    /// They are threads.
    Threads,
    /// They are code of two shared objects, this is the trespasser's and the other the owner's.
    Objects(&'w Arc<str>, &'w Arc<str>),
}

/// Who took `fd` from the task `victim`, which has just been told at this place that it is not open; `None` if its owner, or
/// the victim itself, has closed it.
pub(super) fn robbed<'w>(world: &'w World, table: TableId, fd: Fd, victim: (Tid, &Site)) -> Option<Trespass<'w>> {
    let taken = world.lineage(table, fd).next().filter(|l| l.table == table && l.end.is_some())?;
    trespass(world, taken).filter(|t| match t.by {
        Apart::Threads => t.taken_end.tid != victim.0,
        // Who is hurt need not be the owner, but not the closer.
        Apart::Objects(closer, _) => victim.1.owner.as_ref().is_some_and(|o| o != closer),
    })
}

fn trespass<'w>(world: &'w World, taken: &'w Life) -> Option<Trespass<'w>> {
    let end = taken.end.as_ref()?;
    let closer = &end.moment;
    if !matches!(end.how, Ended::Closed | Ended::Replaced) || !is_own(taken) {
        return None;
    }
    let by = match (taken.began.tid == closer.tid, &closer.site.owner, &taken.began.site.owner) {
        (false, ..) => Apart::Threads,
        (true, Some(thief), Some(owner)) if thief != owner => Apart::Objects(thief, owner),
        (true, ..) => return None,
    };
    let is_closers = |moment: &Moment| match by {
        Apart::Threads => moment.tid == closer.tid,
        Apart::Objects(thief, _) => moment.site.owner.as_ref() == Some(thief),
    };
    let before = world.lineage(taken.table, taken.fd).skip_while(|l| l.id != taken.id).skip(1).take(BACK);
    let (own, own_end) = before.filter(|l| l.table == taken.table).find_map(|l| {
        let e = l.end.as_ref().filter(|e| e.how == Ended::Closed && e.moment.at <= taken.began.at)?;
        (is_closers(&e.moment) && is_closers(&l.began)).then_some((l, &e.moment))
    })?;
    Some(Trespass { by, own, own_end, taken, taken_end: closer, how: end.how })
}

fn is_own(life: &Life) -> bool {
    matches!(life.origin, Origin::Opened | Origin::Duplicated(_) | Origin::Received(_))
}

/// The very same stacks; false where none was taken.
fn same_place(a: &Site, b: &Site) -> bool {
    a.stack.is_some() && (a.stack, a.py) == (b.stack, b.py)
}

/// dup2 came right behind the closer's own close: the whole story is known.
fn in_two_steps_over(seen: &Seen<'_>, t: &Trespass<'_>) -> Option<Finding> {
    let taken = object(seen.world, t.taken)?;
    let (fd, noun) = (t.taken.fd, taken.file.noun());
    let (thief, owner) = parties(t);
    let steps = vec![
        opened(t.own),
        closed(t.own_end),
        Step { role: Role::Reused, object: Some(taken.clone()), ..opened(t.taken) },
        Step {
            role: Role::Used,
            object: Some(taken),
            note: Some("replaced what was not its own any more".to_string()),
            ..closed(t.taken_end)
        },
    ];
    let said = format!("{thief} replaced fd {fd} once more, when it was a {noun} of {owner}");
    let nothing = format!("between its close and its dup2 {thief} did nothing else with descriptors");
    let evidence = vec![(Clue::Owner, nothing)];
    Some(Finding {
        tid: t.taken.began.tid,
        ..finding(seen, t, (object(seen.world, t.own)?, noun), steps, &said, evidence)
    })
}

/// Somebody counts on what was taken. The close that took it is the culprit: the closer may have meant its former life, or
/// was handed this one, and who counts on it is wrong. Its former close may be innocent and is not in the story.
fn found_gone(seen: &Seen<'_>, call: &Call, t: &Trespass<'_>) -> Option<Finding> {
    let taken = object(seen.world, t.taken)?;
    let (fd, noun) = (t.taken.fd, taken.file.noun());
    let (thief, owner) = parties(t);
    let victim = seen.event.tid;
    let verb = if t.how == Ended::Replaced { "replaced" } else { "closed" };
    let who = if victim == t.taken.began.tid { "its owner finds it gone" } else { "it was still counted on" };
    let steps = vec![opened(t.taken), closed(t.taken_end), seen.used(call, None, Some(who.to_string()))];
    let said = format!("{thief} {verb} fd {fd}, a {noun} of {owner} that was still in use");
    let evidence = vec![(Clue::Owner, format!("a call of thread {victim} failed with EBADF"))];
    Some(finding(seen, t, (taken, noun), steps, &said, evidence))
}

/// The closer and the owner, as a sentence calls them.
fn parties(t: &Trespass<'_>) -> (String, String) {
    match t.by {
        Apart::Threads => (format!("thread {}", t.taken_end.tid), format!("thread {}", t.taken.began.tid)),
        Apart::Objects(thief, owner) => (escape(thief.as_bytes()), escape(owner.as_bytes())),
    }
}

/// What both kinds have in common; `said` goes behind the name of the process.
fn finding(
    seen: &Seen<'_>,
    t: &Trespass<'_>,
    (object, noun): (Object, &str),
    steps: Vec<Step>,
    said: &str,
    more: Evidence,
) -> Finding {
    let (fd, pid) = (t.taken.fd, t.taken_end.pid);
    let (thief, owner) = parties(t);
    let mut evidence = vec![
        (Clue::Owner, format!("{thief} had opened and closed a life of its own on {fd} before")),
        (Clue::Owner, format!("the {noun} was opened by {owner}")),
    ];
    if let (Apart::Threads, Some(a), Some(b)) = (t.by, &t.taken_end.site.owner, &t.taken.began.site.owner)
        && a != b
    {
        let (a, b) = (escape(a.as_bytes()), escape(b.as_bytes()));
        evidence.push((Clue::Owner, format!("code of {b} opened it, and code of {a} closed it")));
    }
    evidence.extend(more);
    if same_place(&t.own_end.site, &t.taken_end.site) {
        evidence.push((Clue::SamePlace, "both closes came from the very same place".to_string()));
    }
    Finding {
        name: NAME,
        severity: ABOUT.severity,
        confidence: Confidence::Likely,
        fd,
        tid: seen.event.tid,
        pid,
        title: format!("process {pid} ({}): {said}", called(seen.world, pid)),
        object,
        steps,
        evidence: told(evidence),
        help: match t.how {
            Ended::Replaced => {
                "let dup2 alone replace the number: it closes what was there, and nobody can come between"
            }
            _ => "give the descriptor one owner, and forget the number when it is closed",
        }
        .into(),
        count: 1,
        parts: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::base::StackId;

    fn at(stack: u32) -> Site {
        Site { stack: Some(StackId(stack)), ..Site::default() }
    }

    fn named(found: &[Finding]) -> Vec<&'static str> {
        found.iter().map(|f| f.name).collect()
    }

    /// The main thread opens and closes 5, a second thread gets 5, the main thread closes 5 again.
    fn race(first: u32, second: u32) -> (Script, Tid, Vec<Finding>) {
        let mut s = Script::with_stdio();
        let other = s.thread(MAIN, 101);
        s.at(at(1)).open(MAIN, 5, "/tmp/a");
        s.at(at(first)).close(MAIN, 5);
        s.at(at(2)).open(other, 5, "socket:[6]");
        let found = s.at(at(second)).close(MAIN, 5);
        (s, other, found)
    }

    fn roles(f: &Finding) -> Vec<(Role, Tid)> {
        f.steps.iter().map(|s| (s.role, s.moment.tid)).collect()
    }

    /// Whether the closer meant its own former life, or was handed this one and the other closes once too often, the events
    /// do not say.
    #[test]
    fn when_the_owner_finds_it_gone_the_close_that_took_it_is_the_culprit() {
        for second in [7, 8] {
            let (mut s, other, found) = race(7, second);
            assert!(found.is_empty(), "one line may close what was handed over and what was not");
            s.at(at(9)).refused_close(other.0, 5);
            let found = s.exit(other.0);
            let [f] = found.as_slice() else { panic!("{found:?}") };
            assert_eq!((f.name, f.confidence, f.tid), ("foreign-close", Confidence::Likely, other));
            assert_eq!(roles(f), [(Role::Opened, other), (Role::Closed, MAIN), (Role::Used, other)]);
            assert_eq!(f.object.file.path, b"socket:[6]");
            assert_eq!(f.evidence.iter().any(|e| e.contains("the very same place")), second == 7);
        }
        let (mut s, other, _) = race(7, 8);
        assert_eq!(named(&s.at(at(9)).refused(other.0, 5, None)), ["foreign-close"]);
    }

    fn of(owner: &str, stack: u32) -> Site {
        Site { owner: Some(owner.into()), ..at(stack) }
    }

    /// A library and its program, in one thread.
    #[test]
    fn a_shared_object_that_closes_another_ones_file_is_told_when_that_is_missed() {
        let told = |opener: &str, closer: &str, victim: &str| {
            let mut s = Script::with_stdio();
            s.at(of("libcourier.so", 1)).open(MAIN, 5, "/tmp/a");
            s.at(of("libcourier.so", 2)).close(MAIN, 5);
            s.at(of(opener, 3)).open(MAIN, 5, "/tmp/log");
            assert!(s.at(of(closer, 2)).close(MAIN, 5).is_empty());
            s.at(of(victim, 4)).refused_close(MAIN.0, 5);
            s.exit(MAIN.0)
        };
        let found = told("app", "libcourier.so", "app");
        let [f] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((f.name, f.confidence, f.object.file.path.as_slice()), (NAME, Confidence::Likely, &b"/tmp/log"[..]));
        assert!(f.title.contains("libcourier.so closed fd 5, a file of app that was still in use"), "{}", f.title);
        assert_eq!(roles(f).iter().map(|r| r.0).collect::<Vec<_>>(), [Role::Opened, Role::Closed, Role::Used]);
        assert!(f.evidence[0].contains("the very same place"), "{:?}", f.evidence);
        // Whose own it was, who closes twice, and who has no life of its own there: a double close, as in any program.
        for (opener, closer, victim) in [("app", "app", "app"), ("app", "libcourier.so", "libcourier.so")] {
            assert_eq!(named(&told(opener, closer, victim)), ["double-close"], "{opener} {closer} {victim}");
        }
        assert_eq!(named(&told("app", "libother.so", "app")), ["double-close"]);
    }

    #[test]
    fn the_shared_objects_of_two_threads_are_evidence() {
        let mut s = Script::with_stdio();
        let other = s.thread(MAIN, 101);
        s.at(of("libloop.so", 1)).open(MAIN, 5, "/tmp/a");
        s.at(of("libloop.so", 2)).close(MAIN, 5);
        s.at(of("app", 3)).open(other, 5, "socket:[6]");
        s.at(of("libloop.so", 4)).close(MAIN, 5);
        let found = s.at(of("app", 5)).refused(other.0, 5, None);
        let clause = "code of app opened it, and code of libloop.so closed it";
        assert!(found[0].evidence.iter().any(|e| e == clause), "{:?}", found[0].evidence);
    }

    #[test]
    fn work_that_is_handed_over_is_no_theft() {
        // The main thread accepts, the others close: the same places each time.
        let mut s = Script::with_stdio();
        let worker = s.thread(MAIN, 101);
        for _ in 0..3 {
            assert!(s.at(at(1)).open(MAIN, 5, "socket:[6]").is_empty());
            assert!(s.at(at(2)).close(worker, 5).is_empty());
        }
        s.at(at(3)).refused_close(MAIN.0, 5);
        assert_eq!(named(&s.exit(MAIN.0)), ["double-close"], "main closes what the worker has closed");
    }

    #[test]
    fn close_and_dup2_lets_another_thread_come_between() {
        let mut s = Script::with_stdio();
        let other = s.thread(MAIN, 101);
        s.open(MAIN, 5, "/tmp/log.1");
        s.open(MAIN, 6, "/tmp/log.2");
        s.close(MAIN, 5);
        s.open(other, 5, "socket:[6]");
        assert_eq!(named(&s.dup2(MAIN.0, 6, 5)), ["foreign-close"]);
        let mut s = Script::with_stdio();
        s.thread(MAIN, 101);
        s.open(MAIN, 5, "/tmp/log.1");
        s.open(MAIN, 6, "/tmp/log.2");
        assert!(s.dup2(MAIN.0, 6, 5).is_empty(), "dup2 alone");
        // A number that was handed over, and a life of long ago.
        let mut s = Script::with_stdio();
        let other = s.thread(MAIN, 101);
        s.open(MAIN, 5, "/tmp/own");
        s.close(MAIN, 5);
        s.open(other, 5, "socket:[6]");
        s.open(MAIN, 6, "/tmp/log.2");
        assert!(s.dup2(MAIN.0, 6, 5).is_empty());
    }

    #[test]
    fn in_one_thread_a_close_too_many_is_a_double_close() {
        for openings in [[1, 1], [1, 2]] {
            let mut s = Script::with_stdio();
            for place in openings {
                s.at(at(place)).open(MAIN, 5, "/tmp/a");
                assert!(s.at(at(7)).close(MAIN, 5).is_empty());
            }
            s.at(at(9)).refused_close(MAIN.0, 5);
            assert_eq!(named(&s.exit(MAIN.0)), ["double-close"]);
        }
    }
}

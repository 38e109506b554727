//! `foreign-close`: somebody closed, or dup2'd over, a life that another owner had opened.

use super::sweep::{Runs, ends_twin};
use super::{About, Confidence, Finding, Role, Rule, Seen, Severity, Step, bound, called, object, opened};
use crate::base::{Fd, LifeId, TableId, Tid};
use crate::event::{Call, Effect, EventKind, Site};
use crate::model::{Change, Ended, Life, Moment, Origin, World};
use std::collections::{HashMap, HashSet};

/// So many lives of a number are looked at, back from the one that was taken.
const BACK: usize = 16;

/// The rule.
///
/// A thread that closes what another has opened is ordinary: work is handed over. So it takes more: the closer had a life
/// of its own on this number, which it had closed already. Then it is said at once if that was done from the very same
/// place, or if dup2 took the number in two steps; else when the owner finds its descriptor gone (EBADF).
#[derive(Default)]
pub(super) struct ForeignClose {
    told: HashSet<LifeId>,
    runs: Runs,
    waiting: HashMap<Tid, (LifeId, Finding)>,
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
        // A close of the next number from the same place makes it a loop, which is no victim.
        if let Some((life, f)) = self.waiting.remove(&tid)
            && (!in_loop || f.step(Role::Reused).is_some_and(|o| ends_twin(seen, o.moment.at)))
        {
            out.extend(self.tell(life, f));
        }
        let EventKind::Call(call) = &seen.event.kind else { return out };
        for change in seen.changes {
            let Change::Ended(id) = change else { continue };
            let Some(taken) = seen.world.life(*id) else { continue };
            if let Some(t) = trespass(seen.world, taken)
                && t.is_plain()
            {
                let f = finding(seen, call, &t, Confidence::Likely);
                out.extend(f.and_then(|f| self.tell(taken.id, f)));
            }
        }
        for effect in &call.effects {
            let Effect::Refused { fd, close, .. } = effect else { continue };
            let Some(table) = seen.world.task(tid).map(|t| t.table) else { continue };
            let Some(t) = robbed(seen.world, table, *fd, tid, &call.site) else { continue };
            let Some(f) = finding(seen, call, &t, Confidence::Certain) else { continue };
            match (close, closing) {
                (true, Some(_)) if in_loop => {}
                (true, _) => drop(self.waiting.insert(tid, (t.taken.id, f))),
                (false, _) => out.extend(self.tell(t.taken.id, f)),
            }
        }
        out
    }

    fn rest(&mut self) -> Vec<Finding> {
        let mut waiting: Vec<_> = self.waiting.drain().collect();
        waiting.sort_by_key(|w| w.0);
        waiting.into_iter().filter_map(|(_, (life, f))| self.tell(life, f)).collect()
    }
}

impl ForeignClose {
    fn tell(&mut self, taken: LifeId, f: Finding) -> Option<Finding> {
        bound(&mut self.told);
        self.told.insert(taken).then_some(f)
    }
}

/// A life that was ended by somebody whose own life on that number was over.
pub(super) struct Trespass<'w> {
    /// The trespasser's own, which it had closed before.
    own: &'w Life,
    own_end: &'w Moment,
    /// The other's.
    pub(super) taken: &'w Life,
    taken_end: &'w Moment,
    how: Ended,
}

/// Who took `fd` from the task `victim`, which has just been told at `site` that it is not open; `None` if its owner, or the
/// victim itself, has closed it.
pub(super) fn robbed<'w>(world: &'w World, table: TableId, fd: Fd, victim: Tid, site: &Site) -> Option<Trespass<'w>> {
    let taken = world.lineage(table, fd).next().filter(|l| l.table == table && l.end.is_some())?;
    let t = trespass(world, taken)?;
    // In one thread the same place tells it: who closes twice there is no victim of another.
    let is_victim = match t.taken_end.tid == victim {
        true => t.taken.began.tid == victim && t.is_same_place() && !same_place(site, &t.taken_end.site),
        false => true,
    };
    is_victim.then_some(t)
}

fn trespass<'w>(world: &'w World, taken: &'w Life) -> Option<Trespass<'w>> {
    let end = taken.end.as_ref()?;
    if !matches!(end.how, Ended::Closed | Ended::Replaced) || !is_own(taken) {
        return None;
    }
    let closer = &end.moment;
    let before = world.lineage(taken.table, taken.fd).skip_while(|l| l.id != taken.id).skip(1).take(BACK);
    let own = before.filter(|l| l.table == taken.table).find_map(|l| {
        let e = l.end.as_ref().filter(|e| e.how == Ended::Closed && e.moment.at <= taken.began.at)?;
        let its = e.moment.tid == closer.tid && l.began.tid == closer.tid;
        let by_place = same_place(&e.moment.site, &closer.site) && differ(&l.began.site, &taken.began.site);
        (its || by_place).then_some((l, &e.moment))
    })?;
    let t = Trespass { own: own.0, own_end: own.1, taken, taken_end: closer, how: end.how };
    // In one thread only the place can tell whose it was.
    (taken.began.tid != closer.tid || (t.is_same_place() && differ(&t.own.began.site, &taken.began.site))).then_some(t)
}

impl Trespass<'_> {
    /// Whether it is plain without a word from the victim.
    fn is_plain(&self) -> bool {
        let other_thread = self.taken.began.tid != self.taken_end.tid && self.own_end.tid == self.taken_end.tid;
        let in_two_steps = self.how == Ended::Replaced;
        let again = self.is_same_place() && self.own.began.tid == self.taken_end.tid;
        other_thread && (in_two_steps || again) && differs_or_unknown(&self.own.began.site, &self.taken.began.site)
    }

    fn is_same_place(&self) -> bool {
        same_place(&self.own_end.site, &self.taken_end.site)
    }
}

fn is_own(life: &Life) -> bool {
    matches!(life.origin, Origin::Opened | Origin::Duplicated(_) | Origin::Received(_))
}

/// The very same stacks; false where none was taken.
fn same_place(a: &Site, b: &Site) -> bool {
    a.stack.is_some() && (a.stack, a.py) == (b.stack, b.py)
}

/// Other stacks; false where one was not taken.
fn differ(a: &Site, b: &Site) -> bool {
    a.stack.is_some() && b.stack.is_some() && (a.stack, a.py) != (b.stack, b.py)
}

fn differs_or_unknown(a: &Site, b: &Site) -> bool {
    !same_place(a, b)
}

fn finding(seen: &Seen<'_>, call: &Call, t: &Trespass<'_>, confidence: Confidence) -> Option<Finding> {
    let world = seen.world;
    let fd = t.taken.fd;
    let (thief, owner) = (t.taken_end.tid, t.taken.began.tid);
    let pid = t.taken_end.pid;
    let taken = object(world, t.taken)?;
    let noun = taken.file.noun();
    let closed =
        Step { role: Role::Closed, moment: t.own_end.clone(), object: None, note: None, moved: None, program: None };
    let verb = if t.how == Ended::Replaced { "replaced" } else { "closed" };
    let mut steps = vec![
        opened(t.own),
        closed,
        Step { role: Role::Reused, object: Some(taken.clone()), ..opened(t.taken) },
        Step {
            role: Role::Used,
            moment: t.taken_end.clone(),
            object: Some(taken),
            note: Some(format!("{verb} what was not its own any more")),
            moved: None,
            program: None,
        },
    ];
    let mut evidence = Vec::new();
    match t.own.began.tid == thief && t.own_end.tid == thief {
        true => evidence.push(format!("thread {thief} had opened and closed a life of its own on {fd} before")),
        false => evidence.push(format!("a former life of {fd} had been closed from the same place before")),
    }
    if owner != thief {
        evidence.push(format!("the {noun} was opened by thread {owner}"));
    }
    if t.is_same_place() {
        evidence.push("both closes came from the very same place".to_string());
    }
    if confidence == Confidence::Certain {
        steps.push(seen.used(call, None, Some("its owner finds it gone".to_string())));
        evidence.push("the owner's own call failed with EBADF".to_string());
    }
    Some(Finding {
        name: ABOUT.name,
        severity: ABOUT.severity,
        confidence,
        fd,
        tid: if confidence == Confidence::Certain { seen.event.tid } else { owner },
        pid,
        title: match owner == thief {
            true => format!(
                "process {pid} ({}) closed fd {fd} twice: the second time it was another {noun}",
                called(world, pid)
            ),
            false => format!(
                "process {pid} ({}): thread {thief} {verb} fd {fd} once more, when it was a {noun} of thread {owner}",
                called(world, pid)
            ),
        },
        object: object(world, t.own)?,
        steps,
        evidence,
        help: match t.how {
            Ended::Replaced => {
                "let dup2 alone replace the number: it closes what was there, and nobody can come between"
            }
            _ => "give the descriptor one owner, and forget the number when it is closed",
        }
        .into(),
        count: 1,
    })
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

    #[test]
    fn a_close_repeated_from_the_same_place_is_told_at_once_and_once() {
        let (mut s, other, found) = race(7, 7);
        assert_eq!(named(&found), ["foreign-close"]);
        assert_eq!((found[0].confidence, found[0].tid), (Confidence::Likely, other));
        assert_eq!(found[0].object.file.path, b"/tmp/a");
        s.at(at(9)).refused_close(other.0, 5);
        assert!(s.exit(other.0).is_empty(), "the victim's close is no double close");
    }

    #[test]
    fn from_another_place_the_victims_word_decides() {
        let (mut s, other, found) = race(7, 8);
        assert!(found.is_empty(), "it may have been handed over");
        s.at(at(9)).refused_close(other.0, 5);
        let found = s.exit(other.0);
        let [f] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((f.name, f.confidence), ("foreign-close", Confidence::Certain));
        let roles: Vec<_> = f.steps.iter().map(|s| (s.role, s.moment.tid)).collect();
        let (m, o) = (MAIN, other);
        let story = [(Role::Opened, m), (Role::Closed, m), (Role::Reused, o), (Role::Used, m), (Role::Used, o)];
        assert_eq!(roles, story);
        let (mut s, other, _) = race(7, 8);
        assert_eq!(named(&s.at(at(9)).refused(other.0, 5, None)), ["foreign-close"]);
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
    }

    #[test]
    fn in_one_thread_the_place_tells() {
        let mut s = Script::with_stdio();
        s.at(at(1)).open(MAIN, 5, "/tmp/a");
        s.at(at(7)).close(MAIN, 5);
        s.at(at(2)).open(MAIN, 5, "/tmp/b");
        assert!(s.at(at(7)).close(MAIN, 5).is_empty());
        s.at(at(9)).refused_close(MAIN.0, 5);
        assert_eq!(named(&s.exit(MAIN.0)), ["foreign-close"]);
        // The same opening place: a loop, and one close too many behind it.
        let mut s = Script::with_stdio();
        for _ in 0..2 {
            s.at(at(1)).open(MAIN, 5, "/tmp/a");
            s.at(at(7)).close(MAIN, 5);
        }
        s.at(at(9)).refused_close(MAIN.0, 5);
        assert_eq!(named(&s.exit(MAIN.0)), ["double-close"]);
    }
}

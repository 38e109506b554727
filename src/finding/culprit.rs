//! Which life of a number was meant, and whose end is to blame.
//!
//! "Who closed it last" blames the wrong one: between the close that hurts and the use that fails the number may have
//! been other things, ended for good reasons. So all lives that the victim can have meant are ranked.

use super::{Copies, Role, Step, object, root};
use crate::base::{Fd, Pid, TableId, Tid};
use crate::event::{Cause, Escape};
use crate::model::{Life, Moment, Origin, World};

/// The life that was meant and the one that took its place.
pub struct Blame<'w> {
    /// The life whose end is to blame.
    pub life: &'w Life,
    /// The next life of the same number, if there was one before the use.
    pub reused: Option<&'w Life>,
    /// What speaks for it, a clause each.
    pub evidence: Vec<String>,
    /// How much.
    pub weight: u32,
}

/// Evidence that decides alone.
pub(super) const DECISIVE: u32 = 100;

/// Finds the culprit among the ended lives of `fd` that a task of `table` in `victim` can have meant.
///
/// `since` leaves out what ended before that time (an earlier program of the same process). `None` if the number never
/// was open.
pub fn blame(world: &World, table: TableId, fd: Fd, victim: Pid, since: u64) -> Option<Blame<'_>> {
    blame_of(world, table, fd, victim, since, None)
}

/// The same where a task closes once more: what it opened and closed itself is rather meant than another's.
pub(super) fn blame_of(
    world: &World,
    table: TableId,
    fd: Fd,
    victim: Pid,
    since: u64,
    closer: Option<Tid>,
) -> Option<Blame<'_>> {
    let lineage: Vec<&Life> = world.lineage(table, fd).collect();
    let mut best: Option<Blame<'_>> = None;
    for (i, life) in lineage.iter().enumerate() {
        let Some(end) = &life.end else { continue };
        if end.moment.at < since {
            continue;
        }
        let (mut weight, mut evidence) = weigh(life, victim);
        if closer.is_some() && (closer, closer) == (Some(life.began.tid), Some(end.moment.tid)) {
            weight += 5;
            if i > 0 {
                evidence.push("the same thread had opened and closed it".to_string());
            }
        }
        // The latest wins among equals: it comes first.
        if best.as_ref().is_none_or(|b| weight > b.weight) {
            // What came next on the number, as a call made it: a copy over fork is the same thing again.
            let next = lineage.iter().take(i).rev().find(|l| !matches!(l.origin, Origin::Inherited(_)));
            best = Some(Blame { life, reused: next.copied(), evidence, weight });
        }
    }
    best
}

fn weigh(life: &Life, victim: Pid) -> (u32, Vec<String>) {
    let Some(end) = &life.end else { return (0, Vec::new()) };
    let site = &end.moment.site;
    let mut evidence = Vec::new();
    let mut weight = match site.cause {
        Cause::Finalizer => {
            evidence.push("no code called close(): the last reference went away".to_string());
            60
        }
        Cause::Collector => {
            evidence.push("no code called close(): the collector found the object".to_string());
            60
        }
        _ => 20,
    };
    if let (true, Some(escape)) = (site.cause.is_implicit(), &site.escape) {
        weight = DECISIVE;
        evidence.push(escaped(escape));
    }
    // What the victim ended itself it did on purpose, unless nothing else is left to blame.
    if end.moment.pid == victim && matches!(life.origin, Origin::Inherited(_)) {
        weight = 10;
    }
    (weight, evidence)
}

/// What the evidence says, as a clause.
pub(crate) fn escaped(escape: &Escape) -> String {
    match escape {
        Escape::FilenoCall => "the frame was at a call of fileno() on a temporary".to_string(),
        Escape::ReturnsFileno => "the frame was returning what fileno() gave".to_string(),
        Escape::Holds(name) => {
            format!("the frame still held the number, as `{}`", crate::base::text::escape(name.as_bytes()))
        }
    }
}

/// The steps that every story shares: opened, closed, reused.
pub(crate) fn story(world: &World, blame: &Blame<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let first = root(world, blame.life);
    let step = |role, moment: &Moment, object| Step {
        role,
        moment: moment.clone(),
        object,
        note: None,
        moved: None,
        program: None,
    };
    steps.push(step(Role::Opened, &first.began, None));
    if let Some(end) = &blame.life.end {
        let moved = Copies::new(world).moved(blame.life);
        steps.push(Step { moved, ..step(Role::Closed, &end.moment, None) });
    }
    if let Some(next) = blame.reused {
        let next = root(world, next);
        steps.push(step(Role::Reused, &next.began, object(world, next)));
    }
    steps
}

/// What to do about it, by what closed it.
pub(crate) fn advice(cause: Cause) -> &'static str {
    match cause {
        Cause::Finalizer | Cause::Collector => {
            "keep the file object alive until the child has started: f = open(...); run(..., stdout=f)"
        }
        _ => "close the descriptor only after its last use, and forget the number when you do",
    }
}

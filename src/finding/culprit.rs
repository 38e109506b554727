//! Which life of a number was meant, and whose end is to blame.
//!
//! "Who closed it last" blames the wrong one: between the close that hurts and the use that fails the number may have
//! been other things, ended for good reasons. So all lives that the victim can have meant are ranked.

use super::{Copies, Role, Step, object, program_name, root};
use crate::base::text::escape;
use crate::base::{Fd, LifeId, Pid, TableId, Tid};
use crate::event::{Cause, Direction, Escape, Frames, Program, Site};
use crate::model::{Life, Moment, Origin, World};
use rustc_hash::FxHashSet;

/// A kind of evidence, in falling weight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Clue {
    /// No code asked for the end.
    Implicit,
    /// What took the number is the spawner's own: it was opened in the very call that started the child, the life outside.
    Activation,
    /// The closer had closed a former life of the number from the same place.
    SamePlace,
    /// Opener and closer are parts of a program that know nothing of each other: threads, shared objects.
    Owner,
    /// The object cannot be used as it was to be: the read end of a pipe as stdout.
    Unfit,
    /// The number had left the object that owned the descriptor.
    Escaped,
    /// Who made the hand-off held a bare number.
    Held,
    /// The arguments or the environment name the file.
    Named,
}

/// What speaks for a reading, each with its kind, in any order.
pub type Evidence = Vec<(Clue, String)>;

/// Evidence as a finding tells it: what weighs most comes first.
pub(super) fn told(mut evidence: Evidence) -> Vec<String> {
    evidence.sort_by_key(|e| e.0);
    evidence.into_iter().map(|e| e.1).collect()
}

/// The life that was meant and the one that took its place.
pub struct Blame<'w> {
    /// The life whose end is to blame.
    pub life: &'w Life,
    /// The next life of the same number, if there was one before the use.
    pub reused: Option<&'w Life>,
    /// What speaks for it.
    pub evidence: Evidence,
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

/// The same where a task closes once more, from this place: what it opened and closed itself is rather meant than another's,
/// and what the same shared object did rather than another.
pub(super) fn blame_of<'w>(
    world: &'w World,
    table: TableId,
    fd: Fd,
    victim: Pid,
    since: u64,
    closer: Option<(Tid, &Site)>,
) -> Option<Blame<'w>> {
    let lineage: Vec<&Life> = world.lineage(table, fd).collect();
    let others = |l: &&Life, owner| l.began.site.owner.as_ref().is_some_and(|o| o != owner);
    let weigh = |i: usize, life: &Life, end: &Moment, note: Note<'_>| {
        let mut weight = weigh(world, life, end, victim, &lineage, note);
        if let Some((tid, site)) = closer {
            let opener = &life.began;
            if (opener.tid, end.tid) == (tid, tid) {
                weight += 5;
                if i > 0 {
                    note(Clue::Owner, &|| "the same thread had opened and closed it".to_string());
                }
            }
            if let Some(owner) = site.owner.as_ref().filter(|o| opener.site.owner.as_ref() == Some(o)) {
                // The number was others' in between: whose code closes it again closes what was its own.
                if lineage.iter().any(|l| others(l, owner)) {
                    weight += 10;
                    let name = || escape(owner.as_bytes());
                    note(Clue::Owner, &|| format!("{0} had opened it, and {0} closes the number again", name()));
                }
            }
        }
        weight
    };
    let mut best: Option<(usize, u32)> = None;
    let mut copied: FxHashSet<LifeId> = FxHashSet::default();
    for (i, life) in lineage.iter().enumerate() {
        if let Origin::Inherited(from) = life.origin {
            copied.insert(from);
        }
        let Some(end) = &life.end else { continue };
        // What a fork has copied is the copy's affair from then on: the parent closes its own when the child runs.
        if end.moment.at < since || copied.contains(&life.id) {
            continue;
        }
        let weight = weigh(i, life, &end.moment, &mut |_, _| ());
        // The latest wins among equals: it comes first.
        if best.is_none_or(|(_, most)| weight > most) {
            best = Some((i, weight));
        }
    }
    // Most lives are not to blame: only of the one that is the evidence is put into words.
    let (i, weight) = best?;
    let life = *lineage.get(i)?;
    let mut evidence = Vec::new();
    if let Some(end) = &life.end {
        weigh(i, life, &end.moment, &mut |clue, words| evidence.push((clue, words())));
    }
    // What came next on the number, as a call made it: a copy over fork is the same thing again.
    let next = lineage.iter().take(i).rev().find(|l| !matches!(l.origin, Origin::Inherited(_)));
    Some(Blame { life, reused: next.copied(), evidence, weight })
}

/// Takes a clue, and what puts it into words.
type Note<'a> = &'a mut dyn FnMut(Clue, &dyn Fn() -> String);

fn weigh(world: &World, life: &Life, end: &Moment, victim: Pid, lineage: &[&Life], note: Note<'_>) -> u32 {
    let site = &end.site;
    let mut weight = match site.cause {
        Cause::Finalizer => {
            note(Clue::Implicit, &|| "no code called close(): the last reference went away".to_string());
            60
        }
        Cause::Collector => {
            note(Clue::Implicit, &|| "no code called close(): the collector found the object".to_string());
            60
        }
        _ => 20,
    };
    let began = root(world, life).began.at;
    let process = world.process(victim);
    let window = process.and_then(|p| p.window.as_ref());
    // What the spawner had closed before the fork may be what it wanted to hand over.
    let plumbing = window.and_then(|w| {
        let open = |l: &Life, at| root(world, l).began.at == at && l.end.as_ref().is_none_or(|e| e.moment.at > w.at);
        w.fork.plumbing.iter().find(|p| p.fd == life.fd && lineage.iter().any(|l| open(l, p.at)))
    });
    if let Some(p) = plumbing.filter(|p| p.outside.contains(&began)) {
        // Of two ends that code asked for the later is rather to blame, wherever the lives began.
        weight += if site.cause.is_implicit() { 40 } else { 0 };
        let frames = match p.by {
            Frames::Native => "by return address and frame address",
            Frames::Python => "by Python's frames",
        };
        let how = "it was opened outside the very call that started the child, and what took its number inside";
        note(Clue::Activation, &|| format!("{how} ({frames}): that is the spawner's own"));
    }
    if let (true, Some(escape)) = (site.cause.is_implicit(), &site.escape) {
        weight = weight.max(DECISIVE);
        note(Clue::Escaped, &|| escaped(escape));
    }
    // What the victim ended itself it did on purpose, unless nothing else is left to blame.
    if end.pid == victim && matches!(life.origin, Origin::Inherited(_)) {
        weight = 10;
    }
    if let Some(how) = process.and_then(|p| named(world, life, &p.program)) {
        // Scripts and settings are named, too, and read at the start: what is to be written is rather handed over.
        let written = world.file(life.file).is_some_and(|f| f.file.direction() != Direction::Read);
        weight += if written && window.is_some() { 2 } else { 0 };
        note(Clue::Named, &|| how.clone());
    }
    weight
}

/// Where the arguments or the environment of `program` name the file of a life, as a clause.
///
/// Between fork and exec a process runs its parent's program: then they are those of who started it.
pub(super) fn named(world: &World, life: &Life, program: &Program) -> Option<String> {
    let path = &world.file(life.file)?.file.path;
    // Names that many a program is given for other reasons.
    if !path.starts_with(b"/") || path.starts_with(b"/dev/") || path == b"/" {
        return None;
    }
    let is_it = |value: &[u8]| match value {
        b"" => false,
        [b'/', ..] => value == path,
        // A relative name is the end of the path, from a slash on.
        _ => path.strip_suffix(value.strip_prefix(b"./").unwrap_or(value)).is_some_and(|rest| rest.ends_with(b"/")),
    };
    let value = |entry: &[u8]| {
        let at = entry.iter().position(|b| *b == b'=');
        at.and_then(|at| entry.get(at + 1..)).is_some_and(is_it)
    };
    let words = || (program_name(program), escape(path));
    if program.argv.iter().skip(1).any(|a| is_it(a) || a.starts_with(b"-") && value(a)) {
        let (what, path) = words();
        return Some(format!("the arguments of {what} name {path}"));
    }
    let variable = program.env.iter().find(|e| value(e))?;
    let (what, path) = words();
    let name = variable.split(|b| *b == b'=').next().unwrap_or_default();
    Some(format!("the environment of {what} names {path}, in {}", escape(name)))
}

/// What the evidence says, as a clause.
pub(crate) fn escaped(escape: &Escape) -> String {
    match escape {
        Escape::FilenoCall => "the frame was at a call of fileno() on a temporary".to_string(),
        Escape::ReturnsFileno => "the frame was returning what fileno() gave".to_string(),
        Escape::Holds(name) => {
            format!("the frame still held the number, as `{}`", self::escape(name.as_bytes()))
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

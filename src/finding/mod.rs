//! Diagnosed problems, and the rules that find them.
//!
//! A rule sees the world after an event, the event and what it changed, and says what is wrong. Rules are pure; one
//! rule a file, each with its explanation and its tests. Adding one is a file and a line in [`rules`].

mod cloexec_race;
mod culprit;
mod descent;
mod double_close;
mod fd_growth;
mod fold;
mod foreign_close;
mod leak_across_exec;
mod leak_at_exit;
mod meant;
mod moved;
mod options;
mod pipe_held_open;
mod program_held_open;
mod promise;
mod promised_fd_missing;
mod recycled_fd_to_child;
mod several;
mod stale_fd_to_child;
mod stdio_direction;
mod stdio_missing;
mod stdio_slot_reused;
mod sweep;
mod use_after_close;

#[cfg(test)]
pub(crate) mod testing;

pub use culprit::{Blame, Clue, Evidence, blame};
pub use fold::{Folded, Folds};
pub use moved::{Copies, Moved};
pub use options::{Inherit, Options};
pub(crate) use several::in_short;
pub use several::{Several, left, together};
pub use sweep::{NUMBERS as SWEEP, Sweep, Sweeps};

use crate::base::text::escape;
use crate::base::{Fd, FileId, Pid, Tid};
use crate::event::{Call, Event, NewFile, Program, Site};
use crate::model::{Change, Life, Moment, What, World};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something to know, not to act on.
    Note,
    /// Probably wrong, or wrong elsewhere.
    Warning,
    /// Wrong.
    Error,
}

/// How sure it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// It may be.
    Possible,
    /// Nothing speaks against it.
    Likely,
    /// The evidence leaves no other reading.
    Certain,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Confidence::Possible => "possible",
            Confidence::Likely => "likely",
            Confidence::Certain => "certain",
        })
    }
}

/// An object as a finding keeps it, after the model may have forgotten it.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its id.
    pub id: FileId,
    /// What it is.
    pub file: NewFile,
    /// How long the life concerned lasted, in nanoseconds.
    pub lasted: Option<u64>,
}

/// What a step of a finding's story is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The life that was meant began.
    Opened,
    /// It ended: the culprit.
    Closed,
    /// Its number became another object.
    Reused,
    /// Somebody needed it.
    Used,
}

impl Role {
    /// The word that stands before the step.
    pub fn word(self) -> &'static str {
        match self {
            Role::Opened => "opened",
            Role::Closed => "closed",
            Role::Reused => "reused",
            Role::Used => "used",
        }
    }
}

/// A step of a finding's story.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its part in the story.
    pub role: Role,
    /// When, who, where.
    pub moment: Moment,
    /// The object, where it is not the finding's own.
    pub object: Option<Object>,
    /// What else there is to say.
    pub note: Option<String>,
    /// What the lives say about the end, where this is one.
    pub moved: Option<Moved>,
    /// The program that was executed, where this is that; safe to show.
    pub program: Option<String>,
}

/// One diagnosed problem.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule's name.
    pub name: &'static str,
    /// How bad.
    pub severity: Severity,
    /// How sure.
    pub confidence: Confidence,
    /// The number.
    pub fd: Fd,
    /// The task that was hurt.
    pub tid: Tid,
    /// Its process.
    pub pid: Pid,
    /// One sentence, safe to show.
    pub title: String,
    /// The object that was meant.
    pub object: Object,
    /// The story, in its order.
    pub steps: Vec<Step>,
    /// Why this is so, a clause each, safe to show.
    pub evidence: Vec<String>,
    /// What to do, safe to show.
    pub help: String,
    /// How often it was found: the same mistake, made in the same places.
    pub count: u64,
    /// Each by itself, the finding's own first, where several are told together; else none.
    pub parts: Vec<Finding>,
}

impl Finding {
    /// The steps, and those of the other parts.
    pub fn all_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().chain(self.parts.iter().skip(1).flat_map(|p| &p.steps))
    }

    /// The step of this role, if the story has one.
    pub fn step(&self, role: Role) -> Option<&Step> {
        self.steps.iter().find(|s| s.role == role)
    }
}

/// The steps in which the life began, and ended, whose end did the harm, in a finding of this name that has, or has not,
/// another life of the number in its story: of `foreign-close` it is that, which was taken from its owner, and not the one
/// that the closer had closed before.
pub fn culprit_roles(finding: &str, reused: bool) -> (Role, Role) {
    match reused && finding == foreign_close::NAME {
        true => (Role::Reused, Role::Used),
        false => (Role::Opened, Role::Closed),
    }
}

/// What a rule sees.
pub struct Seen<'a> {
    /// The world after the event.
    pub world: &'a World,
    /// The event.
    pub event: &'a Event,
    /// What it changed.
    pub changes: &'a [Change],
}

impl Seen<'_> {
    /// Whether the task is between fork and exec, and `life` is one that it got from its parent: what it does with those
    /// is the hand-off's business, and a child tidies up without knowing what is open.
    pub(crate) fn is_handed_over(&self, life: &Life) -> bool {
        let window = self.world.window(self.event.tid);
        window.is_some_and(|w| root(self.world, life).began.at <= w.at)
    }

    /// The event as a step of a story: the use that failed.
    pub(crate) fn used(&self, call: &Call, object: Option<Object>, note: Option<String>) -> Step {
        let tid = self.event.tid;
        let pid = self.world.task(tid).map_or(Pid(tid.0), |t| t.pid);
        let mut site = call.site.clone();
        // posix_spawn's child runs on a stack of its own, from which nothing leads to the code that called it; the fork
        // was made there.
        if let (None, Some(window)) = (site.py, self.world.window(tid)) {
            site.py = window.fork.site.py;
        }
        let moment = Moment { at: self.event.at, pid, tid, what: What::Call(call.info), site };
        Step { role: Role::Used, moment, object, note, moved: None, program: None }
    }

    /// The execution of a program as a step of a story; `fork` is where its process was made, if it was made for that.
    pub(crate) fn executed(&self, fork: Option<&Site>, note: String) -> Step {
        let tid = self.event.tid;
        let pid = self.world.task(tid).map_or(Pid(tid.0), |t| t.pid);
        let site = fork.cloned().unwrap_or_default();
        let moment = Moment { at: self.event.at, pid, tid, what: What::Exec, site };
        let program = self.world.process(pid).map(|p| program_name(&p.program));
        Step { role: Role::Used, moment, object: None, note: Some(note), moved: None, program }
    }
}

/// The beginning of a life as a step of a story.
pub(crate) fn opened(life: &Life) -> Step {
    Step { role: Role::Opened, moment: life.began.clone(), object: None, note: None, moved: None, program: None }
}

/// The step of an end that came at `moment`.
pub(crate) fn closed(moment: &Moment) -> Step {
    Step { role: Role::Closed, moment: moment.clone(), object: None, note: None, moved: None, program: None }
}

/// What there is to say of a kind of finding before one was found.
#[derive(Debug)]
pub struct About {
    /// Its name: the id everywhere.
    pub name: &'static str,
    /// Its severity when the confidence is at least likely.
    pub severity: Severity,
    /// One line for lists.
    pub summary: &'static str,
    /// The page for `fdwatch explain`.
    pub page: &'static str,
}

/// A kind of finding.
pub trait Rule {
    /// What there is to say of it.
    fn about(&self) -> &'static About;
    /// What is wrong now.
    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding>;
    /// What it waited to tell: nothing more is going to be seen, although the target goes on.
    fn rest(&mut self) -> Vec<Finding> {
        Vec::new()
    }
}

/// Every rule, fresh, as nobody has asked for anything.
pub fn rules() -> Vec<Box<dyn Rule>> {
    rules_for(&Options::default())
}

/// Every rule, fresh, as `options` want them.
pub fn rules_for(options: &Options) -> Vec<Box<dyn Rule>> {
    vec![
        Box::<stale_fd_to_child::StaleFdToChild>::default(),
        Box::<recycled_fd_to_child::RecycledFdToChild>::default(),
        Box::<promised_fd_missing::PromisedFdMissing>::default(),
        Box::<use_after_close::UseAfterClose>::default(),
        Box::<double_close::DoubleClose>::default(),
        Box::<foreign_close::ForeignClose>::default(),
        Box::<program_held_open::ProgramHeldOpen>::default(),
        Box::<stdio_direction::StdioDirection>::default(),
        Box::<stdio_missing::StdioMissing>::default(),
        Box::<stdio_slot_reused::StdioSlotReused>::default(),
        Box::new(leak_across_exec::LeakAcrossExec::new(options)),
        Box::<cloexec_race::CloexecRace>::default(),
        Box::new(leak_at_exit::LeakAtExit::new(options)),
        Box::<fd_growth::FdGrowth>::default(),
        Box::<pipe_held_open::PipeHeldOpen>::default(),
    ]
}

/// The severity of a finding of this kind, as sure as it is: what may only be is no more than a note.
pub(crate) fn severity(about: &About, confidence: Confidence) -> Severity {
    if confidence == Confidence::Possible { Severity::Note } else { about.severity }
}

/// Forgets what was told when that is much: a mistake may be told twice, in place of ever more memory.
pub(crate) fn bound<K>(told: &mut HashSet<K>) {
    const MOST: usize = 1 << 16;
    if told.len() > MOST {
        told.clear();
    }
}

/// `/usr/bin/make`: which program a process runs, safe to show.
pub(crate) fn program_name(program: &Program) -> String {
    let name = if program.exe.is_empty() { program.argv.first() } else { Some(&program.exe) };
    escape(name.map(Vec::as_slice).unwrap_or_default())
}

/// The object of `life` for a finding; `None` when it was forgotten.
pub(crate) fn object(world: &World, life: &Life) -> Option<Object> {
    let file = world.file(life.file)?;
    Some(Object { id: file.id, file: file.file.clone(), lasted: life.lasted() })
}

/// Whether `life` is a directory that lists what a process has open (proc_pid_fd(5)), as who closes all of it reads.
pub(crate) fn is_listing(world: &World, life: &Life) -> bool {
    let Some(path) = world.file(life.file).map(|f| &f.file.path) else { return false };
    path.starts_with(b"/proc/") && (path.ends_with(b"/fd") || path.ends_with(b"/fdinfo"))
}

/// The life at the root of what fork copied: the one that a call began, in the process that made it.
pub(crate) fn root<'w>(world: &'w World, life: &'w Life) -> &'w Life {
    let mut life = life;
    // The chain is as long as the tree of processes is deep, and never has a loop: ids only grow.
    while let crate::model::Origin::Inherited(from) | crate::model::Origin::Unshared(from) = life.origin {
        match world.life(from) {
            Some(l) if l.id < life.id => life = l,
            _ => break,
        }
    }
    life
}

/// `python3`: how a process is called in a sentence.
pub(crate) fn called(world: &World, pid: Pid) -> String {
    let program = world.process(pid).map(|p| &p.program);
    let name = program.and_then(|p| p.argv.first().filter(|a| !a.is_empty()).or(Some(&p.exe)));
    let base = name.map(|n| n.rsplit(|b| *b == b'/').next().unwrap_or(n)).unwrap_or_default();
    escape(base)
}

/// `stdout` for 1, and so on.
pub(crate) fn standard_name(fd: Fd) -> Option<&'static str> {
    match fd.0 {
        0 => Some("stdin"),
        1 => Some("stdout"),
        2 => Some("stderr"),
        _ => None,
    }
}

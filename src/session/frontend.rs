//! Who is asked at a break: a person at the prompt, a script, or nobody.

use crate::base::Tid;
use crate::finding::{Finding, Seen};
use crate::model::{Flights, World};
use crate::policy::{Break, Policy};
pub use crate::prompt::{Decision, Then};
use crate::render::{Live, Names};
use crate::report::Report;

/// What a front end sees at a break. Every task that can be is stopped.
pub struct View<'a> {
    /// The descriptors.
    pub world: &'a World,
    /// What was found so far.
    pub findings: &'a [Finding],
    /// Names for stacks.
    pub names: &'a mut dyn Names,
    /// The break.
    pub at: &'a Break,
    /// The living tasks: tid, name, state; in ascending order.
    pub tids: &'a [(Tid, String, String)],
    /// What breaks; it may be changed.
    pub policy: &'a mut Policy,
    /// What only the kernel knows.
    pub live: &'a mut dyn Live,
    /// Whether the target can be left for good: with a seccomp filter of ours somebody must answer for it to the end.
    pub can_leave: bool,
}

/// Someone, or something, to ask.
pub trait Frontend {
    /// Whether breaks are wanted at all.
    fn wants_breaks(&self) -> bool;
    /// Whether Ctrl-C means a break: then the target does not get it.
    fn takes_interrupts(&self) -> bool {
        false
    }
    /// Something has happened. Called for every event, while its task is stopped: what this does, the target waits for.
    fn on_event(&mut self, seen: &Seen<'_>, names: &mut dyn Names) {
        let _ = (seen, names);
    }
    /// What a task did has been committed, and the task stands still. Of its table, `flights` says which numbers are in
    /// doubt because other tasks are at them.
    fn on_stop(&mut self, tid: Tid, world: &World, flights: &Flights) {
        let _ = (tid, world, flights);
    }
    /// A break.
    fn on_break(&mut self, view: View<'_>) -> Decision;
    /// Something that must be known now: a sentence.
    fn on_note(&mut self, note: &str) {
        let _ = note;
    }
    /// The report of all so far, which [`Then::Report`] asked for; the same break is shown again afterwards.
    fn on_report(&mut self, report: &Report) {
        let _ = report;
    }
    /// The target's first process has been stopped by `signal`: SIGTSTP (Ctrl-Z), SIGTTIN, SIGTTOU, or SIGSTOP. Whoever
    /// wants it to go on lets it, before this returns or later.
    fn on_suspended(&mut self, signal: i32, world: &World) {
        let _ = (signal, world);
    }
    /// The target has ended.
    fn on_end(&mut self) {}
}

/// Nobody: nothing breaks.
pub struct Quiet;

impl Frontend for Quiet {
    fn wants_breaks(&self) -> bool {
        false
    }

    fn on_break(&mut self, _: View<'_>) -> Decision {
        Decision::default()
    }
}

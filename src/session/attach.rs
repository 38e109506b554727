//! Watching what was running already: how that begins, and how it ends without an end of the target.

use super::frontend::{Frontend, Then};
use super::reconcile::Because;
use super::{Session, TaskState};
use crate::base::{Pid, Tid};
use crate::event::{Event, EventKind, Start};
use crate::kernel::{Attached, Error, Request};
use crate::model::{Doubt, World};
use crate::policy::{Break, Policy, Why};
use rustc_hash::FxHashMap;

/// What is known of a target that was attached to.
#[derive(Debug)]
pub(super) struct Attachment {
    pid: Pid,
    /// Its tasks, until watching begins.
    starts: Vec<(Tid, Start)>,
    /// How many lives had begun before.
    before: u64,
    /// Children that are not watched, and why.
    refused: Vec<String>,
    /// Tasks that could not be stopped at first.
    reached: u64,
}

impl Session {
    /// Takes over a process that was running, and that stands still now.
    pub fn attach(attached: Attached, policy: Policy) -> Session {
        let Attached { tracer, pid, tasks, refused } = attached;
        let mut session = Session::over(tracer, Tid(pid.0), policy, true);
        session.attached = Some(Attachment { pid, starts: tasks, before: 0, refused, reached: 0 });
        session
    }

    /// Takes in the tasks that were there.
    pub(super) fn begin(&mut self, frontend: &mut dyn Frontend) {
        let Some(attachment) = &mut self.attached else { return };
        let mut spaces = FxHashMap::default();
        for (tid, start) in std::mem::take(&mut attachment.starts) {
            let space = *spaces.entry(start.pid).or_insert_with(|| self.sites.new_space());
            self.tasks.insert(tid, TaskState::new(space));
            let event = Event { at: self.now(), tid, kind: EventKind::Start(start) };
            let transitions = self.world.consequences(&event);
            self.commit(&event, transitions, frontend);
        }
        self.limits.processes = spaces.len() as u64;
        let before = self.world.lives().count() as u64;
        if let Some(attachment) = &mut self.attached {
            attachment.before = before;
        }
    }

    /// Whether the target was left and there is nothing to wait for: it is not ours.
    pub(super) fn has_left(&self) -> bool {
        self.attached.is_some() && self.limits.detached
    }

    /// What limits what a report on an attachment can tell.
    pub(super) fn attachment_notes(&self) -> Vec<String> {
        let Some(a) = &self.attached else { return Vec::new() };
        let many = |n: u64, one: &str, more: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {more}") };
        let lives = many(a.before, "life began", "lives began");
        let mut notes = vec![format!("attached to {}: {lives} before fdwatch attached", a.pid)];
        notes.extend(a.refused.iter().cloned());
        if a.reached > 0 {
            let tasks = many(a.reached, "task", "tasks");
            notes.push(format!("{tasks} could not be stopped at first: what they did until then was not seen"));
        }
        notes
    }

    /// Somebody wants watching to end, or the prompt.
    pub(super) fn on_request(&mut self, request: Request, frontend: &mut dyn Frontend) -> Result<(), Error> {
        let asks = frontend.wants_breaks() && frontend.takes_interrupts() && !self.ended_by_user;
        match request {
            Request::Signal(libc::SIGINT | libc::SIGUSR1) if asks => {}
            // Nobody is to be asked.
            Request::Signal(libc::SIGUSR1) => return Ok(()),
            _ => return self.leave(),
        }
        self.tracer.hold()?;
        let main = self.main;
        let known = |tid: &Tid| self.world.task(*tid).is_some();
        let wanted = crate::kernel::knocked_for();
        let Some(tid) = wanted.into_iter().chain([main]).chain(self.tracer.tids()).find(known) else { return Ok(()) };
        let pid = self.pid_of(tid);
        let make = move |_: &World, number| Break::at(number, tid, pid, Why::Interrupted);
        self.ignore = 0;
        match self.show(make, frontend)?.then {
            Then::Detach => self.leave(),
            Then::Signal(Some(signal)) => {
                self.tracer.send(pid, signal);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Leaves the target running.
    pub(super) fn leave(&mut self) -> Result<(), Error> {
        self.limits.detached = true;
        self.tracer.detach_all(None)
    }

    /// A task was not to be stopped when the tables were read: what it has opened or closed since is in its table.
    pub(super) fn on_reached(&mut self, tid: Tid, frontend: &mut dyn Frontend) {
        if let Some(a) = &mut self.attached {
            a.reached += 1;
        }
        self.reconcile(tid, &Doubt::default(), Because::Raced, frontend);
    }

    /// Nothing more is going to be seen: what rules waited to tell is told.
    pub(super) fn last_findings(&mut self) {
        let mut names = super::names::Asked { sites: &mut self.sites, stacks: Vec::new() };
        self.pipeline.rest(&mut names);
        let asked = names.stacks;
        if let Some(recorder) = &mut self.recorder {
            recorder.asked(&asked, &mut self.sites);
        }
        super::pipeline::note_found(&mut self.ledger, &self.pipeline.findings);
    }
}

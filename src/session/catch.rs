//! What the user wants to be caught: the session's answers to what conditions ask.

use super::Session;
use super::names::SessionNames;
use crate::base::{Fd, LifeId, Tid};
use crate::event::{Call, Cause, Effect, Event, EventKind, Site};
use crate::finding::Finding;
use crate::kernel::procfs;
use crate::model::{Moment, Transition, What, World};
use crate::policy::Why;
use crate::policy::catch::{Caught, Kind, Lookup, Occurrence};
use crate::policy::inject::How;
use crate::render::Names;
use crate::render::why::why;

/// Names, as conditions want them.
pub(super) struct Answers<'a>(pub(super) SessionNames<'a>);

impl Lookup for Answers<'_> {
    fn functions(&mut self, site: &Site) -> Vec<String> {
        let native = site.stack.map(|id| self.0.native(id)).unwrap_or_default();
        let python = site.py.map(|id| self.0.python(id)).unwrap_or_default();
        let native = native.iter().map(|f| f.function.clone().unwrap_or_default());
        native.chain(python.iter().map(|f| f.function.clone())).collect()
    }

    fn cause(&mut self, of: &Occurrence<'_>) -> Cause {
        let Some(call) = of.call else { return Cause::Unknown };
        let (what, site) = (What::Call(call.info), of.site.clone());
        let moment = Moment { at: 0, pid: of.pid, tid: of.tid, what, site };
        why(&mut self.0, &moment, None).map_or(Cause::Unknown, |w| w.cause)
    }

    fn comm(&mut self, tid: Tid) -> String {
        String::from_utf8_lossy(&procfs::comm(tid)).into_owned()
    }
}

impl Session {
    /// What is caught of the lives that `event` is about to end or mark, at the first of them that is.
    pub(super) fn caught_before(
        &mut self,
        event: &Event,
        transitions: &[Transition],
        why: Option<&Why>,
    ) -> Option<(LifeId, Vec<Caught>)> {
        let EventKind::Call(call) = &event.kind else { return None };
        transitions.iter().find_map(|t| {
            let (kind, life) = match t {
                Transition::End { life, .. } => (Kind::Close, *life),
                Transition::Cloexec { life, .. } => (Kind::Cloexec, *life),
                _ => return None,
            };
            let by = self.caught(kind, event.tid, Some(call), &call.site, Concerns::Life(life), Why::word(why));
            (!by.is_empty()).then_some((life, by))
        })
    }

    /// What is caught of what a call has done, and the number that it concerns.
    pub(super) fn caught_after(&mut self, event: &Event) -> Option<(Fd, Vec<Caught>)> {
        let EventKind::Call(call) = &event.kind else { return None };
        call.effects.iter().find_map(|e| {
            let (kind, fd) = match e {
                Effect::Open { fd, .. } => (Kind::Open, *fd),
                Effect::Alias { to, .. } => (Kind::Dup, *to),
                Effect::Receive { fd, .. } => (Kind::Receive, *fd),
                Effect::Cloexec { fd, .. } => (Kind::Cloexec, *fd),
                _ => return None,
            };
            let by = self.caught(kind, event.tid, Some(call), &call.site, Concerns::Number(fd), "none");
            (!by.is_empty()).then_some((fd, by))
        })
    }

    /// What is caught of a process that was made, or of a program that was executed.
    pub(super) fn caught_of_process(&mut self, event: &Event) -> Option<Why> {
        let (kind, site) = match &event.kind {
            EventKind::Fork(fork) if fork.child_pid.0 == fork.child.0 => (Kind::Fork, fork.site.clone()),
            EventKind::Exec { .. } => (Kind::Exec, Site::default()),
            _ => return None,
        };
        let by = self.caught(kind, event.tid, None, &site, Concerns::Nothing, "none");
        (!by.is_empty()).then_some(Why::Caught { by, also: None })
    }

    /// The findings since `first` that the baseline does not know.
    pub(super) fn news(&mut self, first: usize) -> Vec<Finding> {
        let mut new = self.pipeline.findings.get(first..).unwrap_or_default().to_vec();
        let Some(known) = self.known.as_ref().filter(|_| !new.is_empty()) else { return new };
        let mut names = SessionNames { sites: &mut self.sites, sweeps: &self.pipeline.sweeps };
        new.retain(|f| !known.knows(f, &mut self.ledger, &mut names));
        new
    }

    /// The first of these findings that is caught.
    pub(super) fn caught_finding(&mut self, first: usize, event: &Event) -> Option<(Finding, Why)> {
        if !self.policy.catches.wants(Kind::Finding) {
            return None;
        }
        let new = self.news(first);
        let by_itself = self.policy.after(&new).map(|f| f.name);
        new.into_iter().find_map(|finding| {
            let call = event.kind.call();
            let site = event.site().cloned().unwrap_or_default();
            let also = by_itself.filter(|n| *n == finding.name).map(|n| Box::new(Why::Found(n)));
            let word = Why::word(also.as_deref());
            let concerns = Concerns::Finding(finding.name, finding.fd);
            let by = self.caught(Kind::Finding, event.tid, call, &site, concerns, word);
            (!by.is_empty()).then_some((finding, Why::Caught { by, also }))
        })
    }

    /// How the call that `event` is about to make is altered by what was asked for on the command line, and the life that
    /// it would have ended.
    pub(super) fn injected(&mut self, event: &Event, transitions: &[Transition]) -> Option<(LifeId, How)> {
        let EventKind::Call(call) = &event.kind else { return None };
        let (tid, pid, world) = (event.tid, self.pid_of(event.tid), &self.world);
        let names = SessionNames { sites: &mut self.sites, sweeps: &self.pipeline.sweeps };
        let (mut answers, injections) = (Answers(names), &mut self.policy.injections);
        transitions.iter().find_map(|t| {
            let Transition::End { life: id, .. } = t else { return None };
            let life = world.life(*id);
            let at = Occurrence {
                kind: Kind::Close,
                world,
                tid,
                pid,
                call: Some(call),
                site: &call.site,
                fd: life.map(|l| l.fd),
                life,
                finding: None,
                why: "none",
            };
            // Each counts for itself.
            let all: Vec<How> = injections.iter_mut().filter_map(|i| i.of(&at, &mut answers)).collect();
            all.into_iter().reduce(How::or).map(|how| (*id, how))
        })
    }

    fn caught(
        &mut self,
        kind: Kind,
        tid: Tid,
        call: Option<&Call>,
        site: &Site,
        concerns: Concerns,
        why: &'static str,
    ) -> Vec<Caught> {
        if !self.policy.catches.wants(kind) {
            return Vec::new();
        }
        let pid = self.pid_of(tid);
        let world: &World = &self.world;
        let (fd, life, finding) = match concerns {
            Concerns::Life(life) => (world.life(life).map(|l| l.fd), world.life(life), None),
            Concerns::Number(fd) => (Some(fd), world.open_life(tid, fd), None),
            Concerns::Finding(name, fd) => (Some(fd), world.open_life(tid, fd), Some(name)),
            Concerns::Nothing => (None, None, None),
        };
        let at = Occurrence { kind, world, tid, pid, call, site, fd, life, finding, why };
        let names = SessionNames { sites: &mut self.sites, sweeps: &self.pipeline.sweeps };
        self.policy.catches.hit(&at, &mut Answers(names))
    }
}

/// What an event is about.
enum Concerns {
    Life(LifeId),
    Number(Fd),
    Finding(&'static str, Fd),
    Nothing,
}

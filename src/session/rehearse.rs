//! What another run has shown: its culprit is waited for, and stopped at before it closes.

use super::{Frontend, Session};
use crate::base::LifeId;
use crate::base::text::escape;
use crate::event::{Event, EventKind};
use crate::finding::{Role, culprit_roles, root};
use crate::identity::{Followed, Rehearsal};
use crate::kernel::{Error, Stopped};
use crate::model::{Change, Transition, What};
use crate::policy::Why;
use crate::policy::catch::Catches;
use crate::render::call::call;
use crate::render::place::place;
use crate::report::Report;

impl Session {
    /// Stops before the end of a life that another run has shown to matter. `straight` is for who wants nothing else
    /// than to get there: nothing else is stopped at before a call meanwhile.
    pub fn rehearse(&mut self, rehearsal: Rehearsal, straight: bool) {
        self.followed.push(Followed::new(rehearsal));
        self.straight = straight;
    }

    /// The rehearsals whose end may still come.
    pub fn awaited(&self) -> impl Iterator<Item = &Rehearsal> {
        self.followed.iter().filter(|f| f.is_awaited()).map(Followed::rehearsal)
    }

    /// The breaks that the user has set, for another run.
    pub fn catches_again(&self) -> Catches {
        self.policy.catches.again()
    }

    /// What the user wants to be stopped at when the command is started again, if that is wanted.
    pub fn again(&self) -> Option<&Rehearsal> {
        self.again.as_ref()
    }

    /// The culprit of the nth finding, from 0, for another run.
    pub(super) fn rehearsal(&mut self, n: usize) -> Option<Rehearsal> {
        let finding = self.pipeline.findings.get(n)?;
        let mark = self.ledger.of_finding(n)?.clone();
        let (began, ended) = culprit_roles(finding.name, finding.step(Role::Reused).is_some());
        let (began, ended) = (finding.step(began)?, finding.step(ended)?);
        let opened = &began.moment.site;
        let ending = self.ledger.fingerprint(&ended.moment.site, &self.sites);
        let name = format!("{} on fd {} {}", finding.name, finding.fd, escape(&finding.object.file.path));
        let path = escape(&began.object.as_ref().unwrap_or(&finding.object).file.path);
        let sweeps = &self.pipeline.sweeps;
        let place = place(&mut super::names::SessionNames { sites: &mut self.sites, sweeps }, opened).user;
        let process = mark.place.to_string();
        Some(Rehearsal { name, place, opening: mark.opening, ordinal: mark.ordinal, process, path, ending })
    }

    /// Whether the end of a rehearsed life may still come.
    pub(super) fn is_rehearsing(&self) -> bool {
        self.followed.iter().any(Followed::is_awaited)
    }

    /// Whether `event` is about to end a rehearsed life as it was ended then.
    pub(super) fn rehearsed(
        &mut self,
        task: &Stopped,
        event: &Event,
        transitions: &[Transition],
    ) -> Result<Option<(LifeId, Why)>, Error> {
        if !self.is_rehearsing() {
            return Ok(None);
        }
        for transition in transitions {
            let Transition::End { life: id, .. } = transition else { continue };
            let Some(life) = self.world.life(*id) else { continue };
            let first = root(&self.world, life).id;
            let Some(i) = self.followed.iter().position(|f| f.is(first)) else { continue };
            let EventKind::Call(call) = &event.kind else { continue };
            // What is looked at after it was made has no stack yet.
            let site = match (&call.site.stack, self.locate(task)?) {
                (None, Some(at)) => self.sites.site(&at, None),
                _ => call.site.clone(),
            };
            let ending = self.ledger.fingerprint(&site, &self.sites);
            if let Some(f) = self.followed.get_mut(i).filter(|f| f.ends(&ending)) {
                f.reached();
                let why = Why::Rehearsed(format!("this close led to {}", f.rehearsal().name));
                self.straight = false;
                return Ok(Some((*id, why)));
            }
        }
        Ok(None)
    }

    /// Takes note of lives that begin and end.
    pub(super) fn follow_rehearsed(&mut self, changes: &[Change], frontend: &mut dyn Frontend) {
        if !self.is_rehearsing() {
            return;
        }
        let mut said = Vec::new();
        for change in changes {
            match change {
                Change::Began(id) => {
                    let Some(life) = self.world.life(*id) else { continue };
                    let Some(mark) = self.ledger.of_life(life) else { continue };
                    let path = self.world.file(life.file).map(|f| escape(&f.file.path)).unwrap_or_default();
                    said.extend(self.followed.iter_mut().filter_map(|f| f.begun(mark, &path)));
                }
                Change::Ended(id) => {
                    let Some(life) = self.world.life(*id) else { continue };
                    let Some(end) = &life.end else { continue };
                    let first = root(&self.world, life).id;
                    // Of those that fork copied another may be the one that is waited for.
                    if !self.followed.iter().any(|f| f.is(first)) || self.lives_on(first) {
                        continue;
                    }
                    let how = match &end.moment.what {
                        What::Call(info) => call(info, None),
                        What::Exec => "a program was executed".to_string(),
                        _ => "its process ended".to_string(),
                    };
                    said.extend(self.followed.iter_mut().filter(|f| f.is(first)).filter_map(|f| f.ended(&how)));
                }
                Change::Cloexec(_) => {}
            }
        }
        self.diverged(said, frontend);
    }

    /// Whether a life or one that fork copied from it is open.
    fn lives_on(&self, first: LifeId) -> bool {
        self.world.lives().any(|l| l.end.is_none() && root(&self.world, l).id == first)
    }

    /// Nothing more comes: what was waited for did not happen.
    pub(super) fn rehearsals_are_over(&mut self, frontend: &mut dyn Frontend) {
        if self.ended_by_user || self.relay {
            return;
        }
        let said = self.followed.iter_mut().filter_map(Followed::over).collect();
        self.diverged(said, frontend);
    }

    fn diverged(&mut self, said: Vec<String>, frontend: &mut dyn Frontend) {
        // What was armed besides may go another way: the first is what the user wants to get to.
        self.straight &= self.followed.first().is_some_and(Followed::is_awaited);
        said.iter().for_each(|s| frontend.on_note(s));
        self.divergences.extend(said);
    }
}

/// The culprit of the nth finding of a report, from 1, for another run; else what is wrong with that, in one line.
pub fn rehearsal_of(report: &Report, n: usize) -> Result<Rehearsal, String> {
    let found = report.findings.len();
    let finding = n.checked_sub(1).and_then(|i| report.findings.get(i));
    let finding = finding.ok_or_else(|| match found {
        0 => format!("there is no finding {n}: nothing was found"),
        1 => format!("there is no finding {n}: it has 1"),
        _ => format!("there is no finding {n}: it has {found}"),
    })?;
    let missing = || format!("finding {n} does not say which life it is about: it cannot be recognised in another run");
    let life = finding.life.as_ref().ok_or_else(missing)?;
    let (began, ended) = culprit_roles(&finding.name, finding.step(Role::Reused).is_some());
    let opened = finding.step(began).ok_or_else(missing)?;
    let print = |role| finding.step(role).and_then(|s| s.fingerprint.as_ref()?.parse().ok()).ok_or_else(missing);
    Ok(Rehearsal {
        name: format!("{} on fd {} {}", finding.name, finding.fd, finding.object.path),
        place: opened.place.clone(),
        opening: print(began)?,
        ordinal: life.ordinal,
        process: life.process.clone(),
        path: opened.object.as_ref().unwrap_or(&finding.object).path.clone(),
        ending: print(ended)?,
    })
}

//! The pure half of a session: what was decided is carried out, and the rules look at it.
//!
//! A live session and a replayed one go through it alike.

use crate::event::Event;
use crate::finding::{Finding, Folded, Folds, Options, Role, Rule, Seen, Sweeps, culprit_roles, left, rules_for};
use crate::identity::Ledger;
use crate::model::{Change, Transition, World};
use crate::policy::suppression::{Sight, Suppressions};
use crate::render::Names;
use crate::report::sift::Fresh;

/// The rules, and what they found.
pub(super) struct Pipeline {
    rules: Vec<Box<dyn Rule>>,
    /// In the order of time; what was found again is counted where it was found first.
    pub(super) findings: Vec<Finding>,
    folds: Folds,
    /// Names come later: what is suppressed is taken out by [`Pipeline::sift`].
    later: bool,
    /// What is known to be harmless.
    pub(super) suppressions: Suppressions,
    /// How many findings were that.
    pub(super) suppressed: u64,
    /// Who closed all there was.
    pub(super) sweeps: Sweeps,
}

/// What an event came to.
pub(super) struct Committed {
    pub(super) changes: Vec<Change>,
    /// The index of the first new finding, if there is one.
    pub(super) first: usize,
}

impl Pipeline {
    pub(super) fn new(options: &Options, suppressions: Suppressions) -> Pipeline {
        Pipeline {
            rules: rules_for(options),
            findings: Vec::new(),
            folds: Folds::default(),
            later: false,
            suppressions,
            suppressed: 0,
            sweeps: Sweeps::default(),
        }
    }

    /// One that suppresses nothing before [`Pipeline::sift`].
    pub(super) fn unsifted(options: &Options, suppressions: Suppressions) -> Pipeline {
        Pipeline { later: true, folds: Folds::coarse(), ..Pipeline::new(options, suppressions) }
    }

    /// How many findings were not kept, because there were too many different ones.
    pub(super) fn findings_lost(&self) -> u64 {
        self.folds.lost()
    }

    /// Commits what was decided and lets the rules look at it.
    pub(super) fn commit(
        &mut self,
        world: &mut World,
        event: &Event,
        transitions: Vec<Transition>,
        names: &mut dyn Names,
    ) -> Committed {
        let changes = world.commit(event, transitions);
        let first = self.findings.len();
        let seen = Seen { world, event, changes: &changes };
        self.sweeps.see(&seen);
        let found = self.rules.iter_mut().flat_map(|r| r.check(&seen)).collect();
        self.add(found, names);
        Committed { changes, first }
    }

    /// Nothing more is going to be seen, although the target goes on: what rules waited to tell is told.
    pub(super) fn rest(&mut self, names: &mut dyn Names) {
        let found = self.rules.iter_mut().flat_map(|r| r.rest()).collect();
        self.add(found, names);
    }

    /// Suppresses among all that was found, as it would have been done one by one, now that there are names. The indices
    /// of what is left, as they were.
    pub(super) fn sift(&mut self, names: &mut dyn Names) -> Vec<usize> {
        self.later = false;
        self.folds = Folds::default();
        let mut left = Vec::new();
        for (index, finding) in std::mem::take(&mut self.findings).into_iter().enumerate() {
            if self.take(finding, names) == Some(Folded::New) {
                left.push(index);
            }
        }
        left
    }

    fn add(&mut self, found: Vec<Finding>, names: &mut dyn Names) {
        for finding in found {
            if self.later {
                // In the same places only the path makes a difference to what covers them.
                let mut apart = Vec::new();
                for f in std::iter::once(&finding).chain(finding.parts.iter().skip(1)) {
                    let path = Fresh { finding: f, names: &mut *names }.path();
                    apart.extend(self.suppressions.possible(f.name, &path));
                }
                apart.dedup();
                let apart = apart.into_boxed_slice();
                let folded = self.folds.fold_apart(&finding, apart, self.findings.len());
                self.keep(finding, folded);
            } else {
                self.take(finding, names);
            }
        }
    }

    /// Takes a finding, unless it is suppressed.
    fn take(&mut self, finding: Finding, names: &mut dyn Names) -> Option<Folded> {
        let times = finding.count;
        let concerned = self.suppressions.concern(finding.name);
        let finding = match concerned {
            true => {
                let (new, suppressed) = left(finding, |f| {
                    let known = self.suppressions.find(&mut Fresh { finding: f, names: &mut *names }, times);
                    if let Some(known) = known {
                        tracing::info!(name = f.name, file = &*known.file, line = known.line, "suppressed");
                    }
                    known.is_none()
                });
                self.suppressed = self.suppressed.saturating_add(suppressed.saturating_mul(times));
                new?
            }
            false => finding,
        };
        tracing::info!(name = finding.name, title = finding.title, "finding");
        let folded = self.folds.fold(&finding, self.findings.len());
        self.keep(finding, folded);
        Some(folded)
    }

    fn keep(&mut self, finding: Finding, folded: Folded) {
        match folded {
            Folded::New => self.findings.push(finding),
            Folded::Again(index) => {
                if let Some(first) = self.findings.get_mut(index) {
                    first.count = first.count.saturating_add(finding.count);
                }
            }
            Folded::Lost => {}
        }
    }
}

/// Lets `ledger` take note of what is new among these findings.
pub(super) fn note_found(ledger: &mut Ledger, findings: &[Finding]) {
    for f in findings.get(ledger.findings()..).unwrap_or_default() {
        ledger.found(
            f.step(culprit_roles(f.name, f.step(Role::Reused).is_some()).0).map(|s| (s.moment.at, s.moment.tid, f.fd)),
        );
    }
}

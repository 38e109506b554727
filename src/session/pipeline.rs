//! The pure half of a session: what was decided is carried out, and the rules look at it.
//!
//! A live session and a replayed one go through it alike.

use crate::event::Event;
use crate::finding::{Finding, Folded, Folds, Options, Role, Rule, Seen, Sweeps, rules_for};
use crate::identity::Ledger;
use crate::model::{Change, Transition, World};
use crate::policy::suppression::Suppressions;
use crate::render::Names;
use crate::report::sift::Fresh;

/// The rules, and what they found.
pub(super) struct Pipeline {
    rules: Vec<Box<dyn Rule>>,
    /// In the order of time; what was found again is counted where it was found first.
    pub(super) findings: Vec<Finding>,
    folds: Folds,
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
            suppressions,
            suppressed: 0,
            sweeps: Sweeps::default(),
        }
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

    fn add(&mut self, found: Vec<Finding>, names: &mut dyn Names) {
        for finding in found {
            let concerned = self.suppressions.concern(finding.name);
            let mut sight = Fresh { finding: &finding, names: &mut *names };
            match concerned.then(|| self.suppressions.find(&mut sight, 1)).flatten() {
                Some(known) => {
                    tracing::info!(name = finding.name, file = &*known.file, line = known.line, "suppressed");
                    self.suppressed += 1;
                }
                None => {
                    tracing::info!(name = finding.name, title = finding.title, "finding");
                    match self.folds.fold(&finding, self.findings.len()) {
                        Folded::New => self.findings.push(finding),
                        Folded::Again(index) => {
                            if let Some(first) = self.findings.get_mut(index) {
                                first.count += 1;
                            }
                        }
                        Folded::Lost => {}
                    }
                }
            }
        }
    }
}

/// Lets `ledger` take note of what is new among these findings.
pub(super) fn note_found(ledger: &mut Ledger, findings: &[Finding]) {
    for f in findings.get(ledger.findings()..).unwrap_or_default() {
        ledger.found(f.step(Role::Opened).map(|s| (s.moment.at, s.moment.tid, f.fd)));
    }
}

//! Objects that are met before the call that made them is told.
//!
//! A thread opens a file, and before its stop is looked at a child has inherited the descriptor, or another process has
//! taken it with pidfd_getfd(2), or got it over a socket. Such an object is *unclaimed* until the call that made it is told,
//! or all calls that might have are.

use super::Session;
use super::frontend::Frontend;
use crate::base::{Fd, LifeId, RawCall, TableId, Tid};
use crate::event::{Correction, Effect, EventKind, NewFile, Present};
use crate::kernel::procfs;
use crate::model::{FdTable, Life, Origin, World};
use crate::syscall::{Row, When};
use std::collections::BTreeMap;

/// How many unclaimed objects are remembered: a fork while others open files leaves one for each number of the copy that is
/// in doubt.
const UNCLAIMED: usize = 1024;

/// A life whose object may have been made by a call that had not been told when it was met.
#[derive(Clone, Debug)]
pub(super) struct Unclaimed {
    life: LifeId,
    /// The tasks that were in a call then and have not told of it yet, or could not be asked what they have.
    makers: Vec<Tid>,
    /// It was taken for what a number held that one of them may have been about to replace: perhaps it is the replacement.
    suspect: bool,
}

impl Session {
    /// These lives have an object that `tid` met and nobody else is known to hold, or that is uncertain (`suspect`): whoever
    /// is in a call may have made it.
    pub(super) fn await_maker(&mut self, tid: Tid, lives: Vec<LifeId>, suspect: bool) {
        if lives.is_empty() {
            return;
        }
        let in_calls =
            self.tasks.iter().filter(|(t, s)| **t != tid && s.pending.is_some_and(|c| self.may_make(**t, &c)));
        let mut makers: Vec<Tid> = in_calls.map(|(t, _)| *t).collect();
        makers.extend(self.unasked());
        if makers.is_empty() {
            return;
        }
        self.unclaimed.extend(lives.into_iter().map(|life| Unclaimed { life, makers: makers.clone(), suspect }));
        let too_many = self.unclaimed.len().saturating_sub(UNCLAIMED);
        if too_many > 0 {
            tracing::debug!(too_many, "objects whose makers are not known are given up");
        }
        self.unclaimed.drain(..too_many);
    }

    /// Whether the call that a task is in may make a descriptor, and is not only a use of one.
    fn may_make(&self, tid: Tid, call: &RawCall) -> bool {
        let is_use = |row: &Row| matches!(row.when, When::Use);
        self.delivery(tid, call).is_some() || !self.table.row(call).is_some_and(is_use)
    }

    /// The tasks of tables that the kernel shows of none of them just now. Such a one may be about to tell of an exec, and
    /// have another tid by then.
    fn unasked(&self) -> Vec<Tid> {
        let mut by_table: BTreeMap<TableId, Vec<Tid>> = BTreeMap::new();
        for (tid, task) in self.world.tasks() {
            by_table.entry(task.table).or_default().push(tid);
        }
        by_table.into_values().filter(|tids| !tids.iter().any(|t| procfs::has_table(*t))).flatten().collect()
    }

    /// What `tid` has received, as far as it is an object that nobody is known to have held, or that was found at a number
    /// which somebody may have been about to replace.
    pub(super) fn await_senders(&mut self, tid: Tid, effects: &[Effect]) {
        let (mut strangers, mut suspects) = (Vec::new(), Vec::new());
        for effect in effects {
            let Effect::Receive { fd, from, .. } = effect else { continue };
            let Some(life) = self.world.open_life(tid, *fd) else { continue };
            if life.origin == Origin::Received(None) {
                strangers.push(life.id);
            } else if from.is_some_and(|holder| self.is_replaced(holder)) {
                suspects.push(life.id);
            }
        }
        self.await_maker(tid, strangers, false);
        self.await_maker(tid, suspects, true);
    }

    /// The call of a task is told: it filled these numbers, perhaps with an object that was met before.
    pub(super) fn claim(&mut self, tid: Tid, effects: &[Effect], frontend: &mut dyn Frontend) {
        if self.unclaimed.is_empty() {
            return;
        }
        let Some(table) = self.world.task(tid).map(|t| t.table) else { return };
        // What is in doubt is looked at when it is not any more, and finds its holders then.
        let filled: Vec<Fd> = effects
            .iter()
            .filter_map(|e| match e {
                Effect::Open { fd, .. } | Effect::Receive { fd, .. } | Effect::Alias { to: fd, .. } => Some(*fd),
                _ => None,
            })
            .filter(|fd| !self.flights.is_in_doubt(table, *fd, true))
            .collect();
        self.claim_by(tid, tid, |_, _| filled.clone(), frontend);
    }

    /// A task, which was `former` before, has executed a program, and can be asked again what it has.
    pub(super) fn claim_executed(&mut self, tid: Tid, former: Tid, frontend: &mut dyn Frontend) {
        let alike = |world: &World, file: &NewFile| {
            let open = world.task(tid).and_then(|t| world.table(t.table)).into_iter().flat_map(FdTable::open);
            let reads_as = |l: LifeId| {
                let known = world.life(l).and_then(|l| world.file(l.file));
                known.is_some_and(|k| k.file.reads_as(file))
            };
            open.filter(|(_, l)| reads_as(*l)).map(|(fd, _)| fd).collect()
        };
        self.claim_by(tid, former, alike, frontend);
        self.is_no_maker(former);
    }

    /// Looks for what `maker`, which is `tid` by now, may have made among the numbers of its table that `candidates` gives.
    fn claim_by(
        &mut self,
        tid: Tid,
        maker: Tid,
        candidates: impl Fn(&World, &NewFile) -> Vec<Fd>,
        frontend: &mut dyn Frontend,
    ) {
        if !self.unclaimed.iter().any(|u| u.makers.contains(&maker)) {
            return;
        }
        let (mine, others): (Vec<_>, Vec<_>) = self.unclaimed.drain(..).partition(|u| u.makers.contains(&maker));
        self.unclaimed = others;
        for u in mine {
            let Some(file) = self.world.life(u.life).and_then(|l| self.world.file(l.file)) else { continue };
            let numbers = candidates(&self.world, &file.file);
            let holders = self.holders_of(u.life);
            let pairs = numbers.iter().flat_map(|fd| holders.iter().map(move |h| (*h, *fd)));
            let mut met = pairs.filter(|((by, n), fd)| procfs::same_file(*by, *n, tid, *fd)).peekable();
            if met.peek().is_none() {
                if !holders.is_empty() {
                    self.unclaimed.push(u);
                }
                continue;
            }
            // An object that nobody knew has one more holder; of one that was taken for another only those change that were
            // made of the replacement.
            for ((by, n), fd) in met.take(if u.suspect { usize::MAX } else { 1 }).collect::<Vec<_>>() {
                let correction = match u.suspect {
                    false => Some(Correction::Same { fd: n, with: (tid, fd) }),
                    true => self.corrected((by, n), (tid, fd)),
                };
                if let Some(correction) = correction {
                    self.tell(by, EventKind::Reconciled { raced: true, corrections: vec![correction] }, frontend);
                }
            }
        }
    }

    /// A number turns out to be of another object than it was taken for.
    fn corrected(&self, of: (Tid, Fd), with: (Tid, Fd)) -> Option<Correction> {
        let (life, other) = (self.world.open_life(of.0, of.1)?, self.world.open_life(with.0, with.1)?);
        let (file, cloexec) = procfs::descriptor(of.0, of.1)?;
        let present = Present { fd: of.1, cloexec, file, same_as: Some(with) };
        (life.file != other.file).then_some(Correction::Appeared(present))
    }

    /// The call of a task is over, or will not be told.
    pub(super) fn is_no_maker(&mut self, tid: Tid) {
        self.unclaimed.retain_mut(|u| {
            u.makers.retain(|t| *t != tid);
            !u.makers.is_empty()
        });
    }

    /// Who has the object of a life open.
    fn holders_of(&self, life: LifeId) -> Vec<(Tid, Fd)> {
        let Some(file) = self.world.life(life).map(|l| l.file) else {
            return Vec::new();
        };
        let open = self.world.lives().filter(|l| l.file == file && l.end.is_none());
        let by = |l: &Life| {
            let (table, fd) = (l.table, l.fd);
            self.world.tasks().filter(move |(_, t)| t.table == table).map(move |(tid, _)| (tid, fd))
        };
        let mut holders: Vec<(Tid, Fd)> = open.flat_map(by).collect();
        holders.sort_unstable();
        holders
    }
}

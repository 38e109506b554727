//! Asking the kernel where the model cannot be sure: at exec, at fork, while the prompt is open, and about numbers of a
//! shared table that several tasks changed at once.
//!
//! What differs becomes an event like any other, so that the history says what *appeared* and what *vanished*, and a
//! recorded log replays it.

use super::Session;
use super::frontend::Frontend;
use crate::base::{Fd, LifeId, TableId, Tid};
use crate::event::{Correction, Event, EventKind, NewFile, Present};
use crate::kernel::procfs;
use crate::model::{Doubt, FdTable};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// How many descriptors that read alike are compared to find one of the same open file description.
const CANDIDATES: usize = 512;

/// Why a table may differ from what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Because {
    /// Something was not seen.
    Unseen,
    /// Other tasks were in calls on the same table.
    Raced,
    /// Other tasks were in calls on the table that it is a copy of.
    Copied,
}

impl Session {
    /// Compares the whole table of a task with the kernel's, and commits what differs; `doubt` says of which numbers the
    /// object and FD_CLOEXEC have to be compared, too. The table must not be in use by anybody whose call is not known.
    pub(super) fn reconcile(&mut self, tid: Tid, doubt: &Doubt, why: Because, frontend: &mut dyn Frontend) {
        match procfs::open_numbers(tid) {
            Ok(open) => self.compare(tid, &open.into_iter().collect(), None, doubt, why, frontend),
            Err(e) => {
                tracing::debug!(tid = tid.0, "its descriptors cannot be listed: {e}");
                self.limits.unread_tables += 1;
                Doubt::default()
            }
        };
    }

    /// Asks the kernel about the numbers in doubt of the task's table, and about whatever else can be decided by now.
    pub(super) fn settle(&mut self, tid: Tid, frontend: &mut dyn Frontend) {
        if !self.flights.is_idle()
            && let Some(table) = self.world.task(tid).map(|t| t.table)
            && let Some(doubt) = self.flights.take(table)
        {
            for other in self.flights.unconfirmed(table) {
                // Asleep in whatever call, it has left the one that was committed at its entry: that empties the number
                // before anything can make it wait (fs/open.c, close).
                if other != tid && procfs::is_asleep_in_a_call(other) {
                    let now = self.now();
                    self.flights.stopped(other, now);
                }
            }
            let open = match doubt.all {
                true => procfs::open_numbers(tid).map(BTreeSet::from_iter),
                false => Ok(doubt.numbers.iter().copied().filter(|fd| procfs::link(tid, *fd).is_some()).collect()),
            };
            match open {
                Ok(open) => {
                    let only = (!doubt.all).then_some(&doubt.numbers);
                    let rest = self.compare(tid, &open, only, &doubt, Because::Raced, frontend);
                    tracing::trace!(%tid, %table, ?doubt, left = ?rest, "asked the kernel");
                    self.flights.put_back(table, rest);
                }
                Err(e) => {
                    tracing::trace!(%tid, %table, ?doubt, "the kernel cannot be asked: {e}");
                    self.flights.put_back(table, doubt);
                }
            }
        }
        frontend.on_stop(tid, &self.world, &self.flights);
    }

    /// Looks at every table while everything stands still. Tables of which something is reported and not told yet are
    /// left out.
    pub(super) fn reconcile_all(&mut self, frontend: &mut dyn Frontend) {
        let mut by_table: BTreeMap<TableId, Vec<Tid>> = BTreeMap::new();
        for (tid, task) in self.world.tasks() {
            by_table.entry(task.table).or_default().push(tid);
        }
        for tids in by_table.into_values() {
            let told = |t: &Tid| self.tasks.get(t).is_some_and(|s| s.pending.is_none()) && !self.tracer.has_report(*t);
            if tids.iter().all(told)
                && let Some(tid) = tids.into_iter().find(|t| matches!(procfs::state(*t), Some('t' | 'T')))
            {
                self.reconcile(tid, &Doubt::default(), Because::Unseen, frontend);
            }
        }
    }

    /// Compares and commits. `open`: what the kernel has open, of the numbers `only` if there are some. Gives back what
    /// cannot be decided yet.
    fn compare(
        &mut self,
        tid: Tid,
        open: &BTreeSet<Fd>,
        only: Option<&BTreeSet<Fd>>,
        doubt: &Doubt,
        why: Because,
        frontend: &mut dyn Frontend,
    ) -> Doubt {
        let mut undecided = Doubt::default();
        let Some((id, table)) = self.table_of(tid) else { return undecided };
        let known: BTreeMap<Fd, LifeId> = table.open().filter(|(fd, _)| only.is_none_or(|o| o.contains(fd))).collect();
        let mut corrections = Vec::new();
        // What nobody else is known to hold.
        let mut strangers = Vec::new();
        // Of those, what is new; others that are found after it may be of the same object.
        let mut new: Vec<(Fd, NewFile)> = Vec::new();
        for fd in open.iter().chain(known.keys().filter(|fd| !open.contains(fd))) {
            let life = known.get(fd).copied();
            let doubted = doubt.all || doubt.numbers.contains(fd);
            if open.contains(fd) && life.is_some() && !doubted {
                continue;
            }
            if self.flights.is_touched(id, *fd, life.is_some()) {
                undecided.numbers.insert(*fd);
                continue;
            }
            match (procfs::descriptor(tid, *fd), life) {
                (Some((file, cloexec)), None) => {
                    // The original may have lost it since the copy was made: what it had there last is the same, if it
                    // reads so.
                    let lost = || Some((self.world.lost_by_original(id, *fd, &file, doubt.since?)?, *fd));
                    let same_as = twin(tid, *fd, &file, &new).or_else(|| self.holder(tid, *fd, &file)).or_else(lost);
                    if same_as.is_none() {
                        strangers.push(*fd);
                        new.push((*fd, file.clone()));
                    }
                    corrections.push(Correction::Appeared(Present { fd: *fd, cloexec, file, same_as }));
                }
                (None, Some(_)) => corrections.push(Correction::Vanished { fd: *fd }),
                (Some((file, cloexec)), Some(life)) if doubted => {
                    if let Some(same_as) = twin(tid, *fd, &file, &new) {
                        let present = Present { fd: *fd, cloexec, file, same_as: Some(same_as) };
                        corrections.push(Correction::Appeared(present));
                        continue;
                    }
                    let holder = self.holder(tid, *fd, &file);
                    let difference = self.difference(*fd, life, file, cloexec, holder);
                    if holder.is_none() {
                        strangers.push(*fd);
                        if let Some(Correction::Appeared(present)) = &difference {
                            new.push((*fd, present.file.clone()));
                        }
                    }
                    corrections.extend(difference);
                }
                _ => {}
            }
        }
        // Whose end has begun has no table any more, and what was listed may be half of it; who executes a program just now
        // may have gone over to another tid, and nothing be open at this one.
        let raced = !matches!(why, Because::Unseen);
        if (!corrections.is_empty() || raced) && !procfs::has_table(tid) {
            // Others may have it, and can be asked.
            return doubt.clone();
        }
        if !corrections.is_empty() || raced && !strangers.is_empty() {
            if !corrections.is_empty() {
                tracing::debug!(tid = tid.0, ?corrections, "the kernel's table differs");
                self.tell(tid, EventKind::Reconciled { raced, corrections }, frontend);
            }
            // Perhaps a call made it that has yet to be told, or it is a copy of that.
            if raced {
                let lives = strangers.iter().filter_map(|fd| self.world.open_life(tid, *fd)).map(|l| l.id);
                self.await_maker(tid, lives.collect());
            }
        }
        undecided
    }

    fn table_of(&self, tid: Tid) -> Option<(TableId, &FdTable)> {
        let id = self.world.task(tid)?.table;
        Some((id, self.world.table(id)?))
    }

    /// How an open number differs from what is known of it; `holder` has the same object.
    fn difference(
        &self,
        fd: Fd,
        life: LifeId,
        file: NewFile,
        cloexec: bool,
        holder: Option<(Tid, Fd)>,
    ) -> Option<Correction> {
        let life = self.world.life(life)?;
        let known = self.world.file(life.file)?;
        let same = match holder.and_then(|(t, n)| self.world.open_life(t, n)) {
            Some(other) => other.file == life.file,
            // Nobody else holds it: then its text must do.
            None => known.holders <= 1 && known.file.may_show_as(&file),
        };
        match same {
            false => Some(Correction::Appeared(Present { fd, cloexec, file, same_as: holder })),
            true if life.cloexec != cloexec => Some(Correction::Cloexec { fd, on: cloexec }),
            true => None,
        }
    }

    /// Who else, of all that are known, holds the open file description behind `fd` of `tid`'s table.
    pub(super) fn holder(&self, tid: Tid, fd: Fd, file: &NewFile) -> Option<(Tid, Fd)> {
        let (own, table) = self.table_of(tid)?;
        let mut tasks: Vec<(Tid, TableId)> = self.world.tasks().map(|(t, k)| (t, k.table)).collect();
        // Its own table first, then the one that it was copied from, then the others, in a fixed order.
        let parent = table.copied_from.map(|c| c.0);
        tasks.sort_unstable_by_key(|(t, k)| (*k != own, Some(*k) != parent, *k, *t != tid, *t));
        let tables: Vec<&[(Tid, TableId)]> = tasks.chunk_by(|a, b| a.1 == b.1).collect();
        let alike = tables.into_iter().flat_map(|tasks| {
            let k = tasks.first().map(|t| t.1);
            let open = k.and_then(|k| self.world.table(k)).into_iter().flat_map(FdTable::open);
            // What may be another's by now says nothing of what it was.
            let is_certain = move |n: Fd| k.is_some_and(|k| !self.flights.is_in_doubt(k, n, true));
            open.filter(move |(n, _)| (k, *n) != (Some(own), fd) && is_certain(*n)).filter_map(move |(n, life)| {
                let known = self.world.file(self.world.life(life)?.file)?;
                known.file.reads_as(file).then_some((tasks, n))
            })
        });
        // A first thread that has ended before the others has no table, and its end is told after theirs.
        alike.take(CANDIDATES).find_map(|(tasks, n)| {
            let mut orders = tasks.iter().map(|(t, _)| (*t, procfs::compare_files(tid, fd, *t, n)));
            let (t, order) = orders.find(|(_, order)| order.is_some())?;
            (order == Some(Ordering::Equal)).then_some((t, n))
        })
    }

    /// A process was made that has a copy of `parent`'s table: what the copy holds, the parent holds, too.
    pub(super) fn reconcile_parent(&mut self, parent: Tid, child: Tid, frontend: &mut dyn Frontend) {
        let Some((_, table)) = self.table_of(parent) else { return };
        let Ok(open) = procfs::open_numbers(child) else { return };
        if !open.iter().copied().eq(table.open().map(|o| o.0)) && procfs::has_table(child) {
            self.compare(parent, &open.into_iter().collect(), None, &Doubt::default(), Because::Unseen, frontend);
        }
    }

    /// Commits an event that no stop of its own brought.
    pub(super) fn tell(&mut self, tid: Tid, kind: EventKind, frontend: &mut dyn Frontend) {
        let event = Event { at: self.now(), tid, kind };
        let transitions = self.world.consequences(&event);
        self.commit(&event, transitions, frontend);
    }
}

/// Which of these numbers of `tid`'s table is of the same open file description as `fd`.
pub(super) fn twin(tid: Tid, fd: Fd, file: &NewFile, others: &[(Fd, NewFile)]) -> Option<(Tid, Fd)> {
    let mut alike = others.iter().filter(|(_, other)| other.reads_as(file));
    alike.find(|(other, _)| procfs::same_file(tid, fd, tid, *other)).map(|(other, _)| (tid, *other))
}

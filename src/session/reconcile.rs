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
use crate::model::{Doubt, FdTable, Life};
use crate::syscall::replaces;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many descriptors that read alike are compared to find one of the same open file description.
const CANDIDATES: usize = 512;

/// How far what is known of a number can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Certain,
    /// In doubt, but at rest.
    Doubtful,
    /// Something else may have been put there.
    Replaced,
}

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
            && let Some(mut doubt) = self.flights.take(table)
        {
            for other in self.flights.unconfirmed(table) {
                // Asleep in whatever call, it has left the one that was committed at its entry: that empties the number
                // before anything can make it wait (fs/open.c, close).
                // Where that stops it before all filters, one of the target's own may let it wait in the close itself
                // (seccomp_unotify(2)).
                if other != tid && !self.stops_unmarked(other) && procfs::is_asleep_in_a_call(other) {
                    let now = self.now();
                    self.flights.stopped(other, now);
                }
            }
            if !doubt.all {
                // What a call is at cannot be decided yet.
                let numbers = self.flights.decidable(&self.world, table, &mut doubt);
                self.flights.put_back(table, doubt);
                doubt = Doubt { numbers, ..Doubt::default() };
            }
            let open = match doubt.all {
                true => procfs::open_numbers(tid).map(BTreeSet::from_iter),
                false => Ok(doubt.numbers.iter().copied().filter(|fd| procfs::link(tid, *fd).is_some()).collect()),
            };
            match open {
                Ok(_) if doubt.is_empty() => {}
                Ok(open) => {
                    let only = (!doubt.all).then_some(&doubt.numbers);
                    let rest = self.compare(tid, &open, only, &doubt, Because::Raced, frontend);
                    tracing::trace!(%tid, %table, ?doubt, left = ?rest, "asked the kernel");
                    // Nobody could be asked: the next may.
                    let unasked = rest == doubt;
                    self.flights.put_back(table, rest);
                    if unasked {
                        self.flights.ask_again(table);
                    }
                }
                Err(e) => {
                    tracing::trace!(%tid, %table, ?doubt, "the kernel cannot be asked: {e}");
                    self.flights.put_back(table, doubt);
                    self.flights.ask_again(table);
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
            let told = |t: &Tid| {
                self.tasks.get(t).is_some_and(|s| s.pending.is_none() && !s.has_errand()) && !self.tracer.has_report(*t)
            };
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
        let mut seen = open.clone();
        self.without_held_back(tid, &mut seen);
        let open = &seen;
        let Some((id, table)) = self.table_of(tid) else { return undecided };
        let known: BTreeMap<Fd, LifeId> = table.open().filter(|(fd, _)| only.is_none_or(|o| o.contains(fd))).collect();
        let mut corrections = Vec::new();
        // What nobody else is known to hold.
        let mut strangers = Vec::new();
        // What a call in flight may have put in place of what is known.
        let mut suspects = Vec::new();
        // What the table turns out to have; what is found after it may be of the same object.
        let mut new: Vec<(Fd, NewFile)> = Vec::new();
        // What is in doubt says nothing of others until it was looked at, and is what is known only if that found it so.
        let mut upheld: BTreeSet<Fd> = BTreeSet::new();
        let in_doubt = |fd: &Fd| doubt.all || doubt.numbers.contains(fd);
        let numbers = open.iter().chain(known.keys().filter(|fd| !open.contains(fd)));
        let (mut first, rest): (VecDeque<&Fd>, VecDeque<&Fd>) = numbers.partition(|fd| known.contains_key(fd));
        // First what turns out to be right, so that the rest may be found to be the same; then what is not; then what is
        // not known.
        let (mut wrong, mut rest) = (VecDeque::new(), rest);
        while let Some((fd, again)) = first
            .pop_front()
            .map(|fd| (fd, false))
            .or_else(|| Some((wrong.pop_front()?, true)))
            .or_else(|| Some((rest.pop_front()?, true)))
        {
            let life = known.get(fd).copied();
            let doubted = in_doubt(fd);
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
                    let in_question = |n| in_doubt(&n) && !upheld.contains(&n);
                    let holder = || self.holder_of(tid, *fd, &file, in_question).map(|h| h.0);
                    let same_as = twin(tid, *fd, &file, &new).or_else(holder).or_else(lost);
                    if same_as.is_none() {
                        strangers.push(*fd);
                    }
                    new.push((*fd, file.clone()));
                    suspects.extend(same_as.filter(|h| self.is_replaced(*h)).map(|_| *fd));
                    corrections.push(Correction::Appeared(Present { fd: *fd, cloexec, file, same_as }));
                }
                (None, Some(_)) => corrections.push(Correction::Vanished { fd: *fd }),
                (Some((file, cloexec)), Some(life)) if doubted => {
                    if let Some(same_as) = twin(tid, *fd, &file, &new) {
                        let present = Present { fd: *fd, cloexec, file, same_as: Some(same_as) };
                        corrections.push(Correction::Appeared(present));
                        continue;
                    }
                    let in_question = |n| in_doubt(&n) && !upheld.contains(&n);
                    let holder = self.holder_of(tid, *fd, &file, in_question);
                    let others = || self.has_certain_holder(tid, life, in_question);
                    let difference = self.difference((*fd, life), file, cloexec, holder, others);
                    let appeared = match &difference {
                        Some(Correction::Appeared(_)) if !again => {
                            wrong.push_back(fd);
                            continue;
                        }
                        Some(Correction::Appeared(present)) => {
                            new.push((*fd, present.file.clone()));
                            true
                        }
                        _ => {
                            upheld.insert(*fd);
                            false
                        }
                    };
                    match holder {
                        Some((_, Standing::Replaced)) => suspects.push(*fd),
                        Some((_, Standing::Doubtful)) if appeared => strangers.push(*fd),
                        Some(_) => {}
                        None => strangers.push(*fd),
                    }
                    corrections.extend(difference);
                }
                _ => {}
            }
        }
        let corrections = in_order(tid, corrections);
        // Whose end has begun has no table any more, and what was listed may be half of it; who executes a program just now
        // may have gone over to another tid, and nothing be open at this one.
        let raced = !matches!(why, Because::Unseen);
        if (!corrections.is_empty() || raced) && !procfs::has_table(tid) {
            // Others may have it, and can be asked.
            return doubt.clone();
        }
        if !corrections.is_empty() || raced && !(strangers.is_empty() && suspects.is_empty()) {
            if !corrections.is_empty() {
                tracing::debug!(tid = tid.0, ?corrections, "the kernel's table differs");
                self.tell(tid, EventKind::Reconciled { raced, corrections }, frontend);
            }
            // Perhaps a call made it that has yet to be told, or it is a copy of that.
            if raced {
                let life = |fd: &Fd| self.world.open_life(tid, *fd).map(|l| l.id);
                let (strangers, suspects) = (strangers.iter().filter_map(life), suspects.iter().filter_map(life));
                let (strangers, suspects) = (strangers.collect(), suspects.collect());
                self.await_maker(tid, strangers, false);
                self.await_maker(tid, suspects, true);
            }
        }
        undecided
    }

    fn table_of(&self, tid: Tid) -> Option<(TableId, &FdTable)> {
        let id = self.world.task(tid)?.table;
        Some((id, self.world.table(id)?))
    }

    /// How an open number differs from what is known of it; `holder` has the same object. `others`: somebody else who can
    /// be relied on has the object that this number is taken for.
    fn difference(
        &self,
        (fd, life): (Fd, LifeId),
        file: NewFile,
        cloexec: bool,
        holder: Option<((Tid, Fd), Standing)>,
        others: impl Fn() -> bool,
    ) -> Option<Correction> {
        let life = self.world.life(life)?;
        let known = self.world.file(life.file)?;
        let same = match holder {
            Some(((t, n), Standing::Certain)) => self.world.open_life(t, n).is_some_and(|l| l.file == life.file),
            // Two that are in doubt uphold each other in what is wrong of both. Whoever is sure would have been found.
            Some(_) => known.file.may_show_as(&file) && !others(),
            // Nobody else holds it: then its text must do.
            None => known.holders <= 1 && known.file.may_show_as(&file),
        };
        let same_as = holder.filter(|h| h.1 != Standing::Doubtful).map(|h| h.0);
        match same {
            false => Some(Correction::Appeared(Present { fd, cloexec, file, same_as })),
            true if life.cloexec != cloexec => Some(Correction::Cloexec { fd, on: cloexec }),
            true => None,
        }
    }

    /// Whether somebody else has the object of a life, that is open in the table of `tid`, and there is no doubt about that.
    fn has_certain_holder(&self, tid: Tid, life: LifeId, in_question: impl Fn(Fd) -> bool) -> bool {
        let Some((own, file, fd)) = self.world.life(life).map(|l| (l.table, l.file, l.fd)) else { return false };
        let others = self.world.lives().filter(|l| l.file == file && l.end.is_none() && l.id != life);
        let certain = |l: &&Life| {
            let standing = self.standing(l.table, l.fd, l.table == own && in_question(l.fd));
            standing == Standing::Certain && !self.flights.is_touched(l.table, l.fd, true)
        };
        // One that is about to go cannot be asked any more.
        others.filter(certain).any(|l| {
            let mut tasks = self.world.tasks().filter(|(_, t)| t.table == l.table);
            tasks.any(|(t, _)| procfs::compare_files(tid, fd, t, l.fd).is_some())
        })
    }

    /// Who else, of all that are known, holds the open file description behind `fd` of `tid`'s table.
    pub(super) fn holder(&self, tid: Tid, fd: Fd, file: &NewFile) -> Option<(Tid, Fd)> {
        self.holder_of(tid, fd, file, |_| false).map(|h| h.0)
    }

    /// The same, and how far what is known of that holder can be relied on. A number that is in doubt may be another's by
    /// now, and says less of what it was: it is asked later, and one that a call is at, last. `open` says which numbers of
    /// the table itself are in doubt although they were taken out of it to be asked.
    fn holder_of(&self, tid: Tid, fd: Fd, file: &NewFile, open: impl Fn(Fd) -> bool) -> Option<((Tid, Fd), Standing)> {
        let (own, table) = self.table_of(tid)?;
        let mut tasks: Vec<(Tid, TableId)> = self.world.tasks().map(|(t, k)| (t, k.table)).collect();
        // Its own table first, then the one that it was copied from, then the others, in a fixed order.
        let parent = table.copied_from.map(|c| c.0);
        tasks.sort_unstable_by_key(|(t, k)| (*k != own, Some(*k) != parent, *k, *t != tid, *t));
        let (mut certain, mut later) = (0, Vec::new());
        let asked = |tasks: &[(Tid, TableId)], n| {
            // A first thread that has ended before the others has no table, and its end is told after theirs.
            let orders = tasks.iter().map(|(t, _)| (*t, procfs::compare_files(tid, fd, *t, n)));
            let (t, order) = orders.into_iter().find(|(_, order)| order.is_some())?;
            (order == Some(Ordering::Equal)).then_some((t, n))
        };
        'all: for tasks in tasks.chunk_by(|a, b| a.1 == b.1) {
            let Some(k) = tasks.first().map(|t| t.1) else { continue };
            for (n, life) in self.world.table(k).into_iter().flat_map(FdTable::open) {
                if certain == CANDIDATES || later.len() == CANDIDATES {
                    break 'all;
                }
                let known = self.world.life(life).and_then(|l| self.world.file(l.file));
                // One that is known with another access mode may have got this object meanwhile: whoever put it there is
                // asked when his call is told.
                if (k, n) == (own, fd) || !known.is_some_and(|f| f.file.may_show_as(file)) {
                    continue;
                }
                match self.standing(k, n, k == own && open(n)) {
                    Standing::Certain => {
                        certain += 1;
                        if let Some(found) = asked(tasks, n) {
                            return Some((found, Standing::Certain));
                        }
                    }
                    standing => later.push((tasks, n, standing)),
                }
            }
        }
        later.sort_by_key(|l| l.2);
        later.into_iter().find_map(|(tasks, n, standing)| Some((asked(tasks, n)?, standing)))
    }

    fn standing(&self, table: TableId, fd: Fd, in_question: bool) -> Standing {
        // Who only empties or marks it leaves what is there, as long as something is.
        if self.is_being_replaced(table, fd) {
            return Standing::Replaced;
        }
        match in_question || self.flights.is_in_doubt(table, fd, true) {
            true => Standing::Doubtful,
            false => Standing::Certain,
        }
    }

    /// Whether a call that is being made may have put something else at an open number.
    pub(super) fn is_replaced(&self, (tid, fd): (Tid, Fd)) -> bool {
        self.world.task(tid).is_some_and(|t| self.is_being_replaced(t.table, fd))
    }

    fn is_being_replaced(&self, table: TableId, fd: Fd) -> bool {
        if self.flights.is_being_replaced(table, fd) {
            return true;
        }
        // The calls in a table that only one task has are not in flight among others', but they may have been carried out and
        // not been told.
        let replaces = |call| self.table.row(&call).is_some_and(|row| replaces(row, call, fd));
        let mut pending = self.tasks.iter().filter_map(|(t, s)| Some((t, s.pending?)));
        pending.any(|(t, call)| self.world.task(*t).is_some_and(|k| k.table == table) && replaces(call))
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

/// Brings it into an order in which nothing is said to be the same as a number of the table that is corrected only later: the
/// first of them stands for the object.
fn in_order(tid: Tid, mut corrections: Vec<Correction>) -> Vec<Correction> {
    for later in 1..corrections.len() {
        let (before, rest) = corrections.split_at_mut(later);
        let Some(Correction::Appeared(present)) = rest.first_mut() else { continue };
        let mut first = None;
        for earlier in before {
            let Correction::Appeared(p) = earlier else { continue };
            if p.same_as == Some((tid, present.fd)) {
                p.same_as = first.map_or(present.same_as, |fd| Some((tid, fd)));
                first = first.or(Some(p.fd));
            }
        }
        if let Some(fd) = first {
            present.same_as = Some((tid, fd));
        }
    }
    corrections
}

/// Which of these numbers of `tid`'s table is of the same open file description as `fd`.
pub(super) fn twin(tid: Tid, fd: Fd, file: &NewFile, others: &[(Fd, NewFile)]) -> Option<(Tid, Fd)> {
    let mut alike = others.iter().filter(|(_, other)| other.reads_as(file)).take(CANDIDATES);
    alike.find(|(other, _)| procfs::same_file(tid, fd, tid, *other)).map(|(other, _)| (tid, *other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_numbers_of_one_object_stands_for_it() {
        let appeared = |fd: i32, same_as: Option<(i32, i32)>| {
            let same_as = same_as.map(|(tid, fd)| (Tid(tid), Fd(fd)));
            let file = NewFile::from_link(b"anon_inode:[eventpoll]".to_vec(), 2);
            Correction::Appeared(Present { fd: Fd(fd), cloexec: false, file, same_as })
        };
        let vanished = Correction::Vanished { fd: Fd(9) };
        let found =
            vec![appeared(3, Some((1, 7))), appeared(4, Some((2, 7))), vanished.clone(), appeared(5, Some((1, 7)))];
        let found = [found, vec![appeared(7, None)]].concat();
        let wanted = vec![appeared(3, None), appeared(4, Some((2, 7))), vanished, appeared(5, Some((1, 3)))];
        let wanted = [wanted, vec![appeared(7, Some((1, 3)))]].concat();
        assert_eq!(in_order(Tid(1), found), wanted);
    }
}

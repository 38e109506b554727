//! Whose objects come with messages, who reads descriptors, and what is opened and closed without a word.

use super::Session;
use super::reconcile::twin;
use crate::base::{Fd, LifeId, RawCall, TableId, Tid};
use crate::event::{Effect, Event, EventKind, FileKind, NewFile};
use crate::kernel::procfs;
use crate::model::{Change, FdTable};
use crate::syscall::{Row, delivery};
use rustc_hash::FxHashSet;
use std::cmp::Ordering;

/// Of so many descriptors of one call is it asked who else holds them.
const ASKED: usize = 256;

impl Session {
    /// Fills in of what came over a socket who else holds it, as far as the kernel can tell (kcmp(2)).
    ///
    /// A sender that has closed its own copy is not asked for here: where the text of the link names one object for good
    /// (`pipe:[5]`, `socket:[7]`), the model finds its ended life. Of other objects nothing is claimed then, but that two
    /// descriptors that came with one call are of one object.
    pub(super) fn find_senders(&mut self, tid: Tid, effects: &mut [Effect]) {
        let received = effects.iter_mut().filter_map(|e| match e {
            Effect::Receive { fd, file, from, .. } => Some((*fd, &*file, from)),
            _ => None,
        });
        let mut others: Vec<(Fd, NewFile)> = Vec::new();
        for (fd, file, from) in received.take(ASKED) {
            *from = match *from {
                Some(source) => self.source(tid, fd, file, source),
                None => twin(tid, fd, file, &others).or_else(|| self.holder(tid, fd, file)),
            };
            if from.is_none_or(|(t, n)| t != tid || !others.iter().any(|(other, _)| *other == n)) {
                others.push((fd, file.clone()));
            }
        }
        let is_ring = |e: &&Effect| matches!(e, Effect::Open { file, .. } if file.kind == FileKind::IoUring);
        self.limits.rings += effects.iter().filter(is_ring).count() as u64;
    }

    /// Fills in of a program that is busy which of the known descriptors have this very file open for writing: a path does
    /// not say it, which may have become another file's, or be one of several. A table is asked once.
    pub(super) fn find_writers(&self, effects: &mut [Effect]) {
        for effect in effects {
            let Effect::NotExecuted { inode: Some(inode), writers, .. } = effect else { continue };
            let mut asked = FxHashSet::default();
            let tasks = self.world.tasks().filter(|(_, t)| asked.insert(t.table));
            let open = tasks.flat_map(|(tid, t)| {
                let table = self.world.table(t.table);
                table.into_iter().flat_map(FdTable::open).map(move |(fd, life)| (tid, fd, life))
            });
            let writes = |life| {
                let file = self.world.life(life).and_then(|l| self.world.file(l.file));
                file.is_some_and(|f| f.file.is_writable())
            };
            let held = open.filter(|(.., life)| writes(*life));
            let same = held.filter(|(tid, fd, _)| procfs::inode(*tid, *fd) == Some(*inode));
            *writers = Some(same.map(|(tid, fd, _)| (tid, fd)).collect());
        }
    }

    /// Whether another thread may have replaced one of these descriptors in the middle of what was read of it: link and
    /// flags are two readings, and the target's memory is a third.
    pub(super) fn may_be_torn(&self, tid: Tid, effects: &[Effect]) -> bool {
        let Some(table) = self.world.task(tid).map(|t| t.table) else { return false };
        !self.flights.is_idle()
            && effects.iter().any(|e| match e {
                Effect::Open { fd, .. } | Effect::Receive { fd, .. } => self.flights.is_touched(table, *fd, true),
                _ => false,
            })
    }

    /// Of what pidfd_getfd(2) took from another process: who else holds it. The number that it was taken of may be another
    /// file's by now, and what is known of it may be of before or after that.
    fn source(&self, tid: Tid, fd: Fd, file: &NewFile, source: (Tid, Fd)) -> Option<(Tid, Fd)> {
        let known = self.world.open_life(source.0, source.1);
        let reads_so = known.and_then(|l| self.world.file(l.file)).is_none_or(|f| f.file.may_show_as(file));
        match procfs::compare_files(tid, fd, source.0, source.1) {
            Some(Ordering::Equal) if known.is_some() && reads_so && !self.is_replaced(source) => Some(source),
            // What put it there has yet to be told.
            Some(Ordering::Equal) => self.holder(tid, fd, file),
            // Closed, or on its way to be: then it was the last that is known of the number.
            _ => self.holder(tid, fd, file).or(Some(source).filter(|_| reads_so)),
        }
    }

    /// Whether a life is of a kind that hands out descriptors when it is read.
    fn hands_out(&self, life: LifeId) -> bool {
        let file = self.world.life(life).and_then(|l| self.world.file(l.file));
        file.is_some_and(|f| f.file.kind.hands_out())
    }

    /// The row of a call that makes descriptors only because its first argument is what it is.
    pub(super) fn delivery(&self, tid: Tid, call: &RawCall) -> Option<&'static Row> {
        let row = delivery(call)?;
        let fd = Fd(call.args.first().copied().unwrap_or(0) as i32);
        let life = self.world.open_life(tid, fd)?.id;
        self.hands_out(life).then_some(row)
    }

    /// Lets every call stop of the tasks that have a descriptor open that hands out others or that somebody supervises, and
    /// of nobody else.
    ///
    /// A thread that shares the table goes over to that at its next stop; what it reads before is noticed like all that
    /// is opened unseen.
    pub(super) fn follow_deliveries(&mut self, event: &Event, changes: &[Change]) {
        let concerned = changes.iter().any(|c| match c {
            Change::Began(life) | Change::Ended(life) => self.hands_out(*life),
            Change::Cloexec(_) => false,
        });
        self.deliveries |= concerned;
        // A new thread changes nothing but who has the table.
        let is_fork = matches!(event.kind, EventKind::Fork(_));
        let supervised = self.note_supervised(event);
        if self.limits.all_calls || !(supervised || concerned || is_fork && self.deliveries) {
            return;
        }
        let all: FxHashSet<TableId> = self.world.tasks().map(|(_, t)| t.table).collect();
        let open = |t: &TableId| self.world.table(*t).into_iter().flat_map(FdTable::open);
        let tables: FxHashSet<TableId> = all.into_iter().filter(|t| open(t).any(|(_, l)| self.hands_out(l))).collect();
        let all = |t: &crate::model::Task| tables.contains(&t.table) || self.supervised.contains(&t.pid);
        let tasks = self.world.tasks().filter(|(_, t)| all(t)).map(|(tid, _)| tid);
        self.tracer.stop_at_every_call(tasks);
    }
}

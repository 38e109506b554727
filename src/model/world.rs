//! What is known: tables, tasks, lives and objects, and questions about them.

use super::altered::Altered;
use super::life::{Life, OpenFile, Origin};
use crate::base::{Fd, FileId, LifeId, Pid, TableId, Tid};
use crate::event::{Fork, NewFile, Program};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its process.
    pub pid: Pid,
    /// Its table.
    pub table: TableId,
}

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    /// The process that created it; `None` for the first.
    pub parent: Option<Pid>,
    /// What it runs; between fork and exec, what its parent runs.
    pub program: Arc<Program>,
    /// Between fork and exec: how it was created.
    pub window: Option<Window>,
    /// How many of its tasks are alive.
    pub tasks: u32,
    /// When the program that it runs was executed, in nanoseconds since fdwatch started watching. A fork runs its
    /// parent's program.
    pub since: u64,
}

/// The time of a process between fork and exec.
#[derive(Clone, Debug)]
pub struct Window {
    /// The fork, in the parent.
    pub fork: Fork,
    /// The parent's task that forked.
    pub parent: Tid,
    /// When, in nanoseconds since fdwatch started watching.
    pub at: u64,
}

/// A number of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) now: Option<LifeId>,
    /// Ended lives, the latest last.
    pub(super) past: VecDeque<LifeId>,
}

/// A descriptor table.
#[derive(Clone, Debug)]
pub struct FdTable {
    pub(super) slots: BTreeMap<Fd, Slot>,
    pub(super) tasks: u32,
    /// The table it was copied from, and when.
    pub copied_from: Option<(TableId, u64)>,
    /// The task it was made for.
    pub made_for: Tid,
}

impl FdTable {
    /// How many tasks share it; 0 when it is only remembered.
    pub fn tasks(&self) -> u32 {
        self.tasks
    }

    /// Whether a number is open.
    pub fn is_open(&self, fd: Fd) -> bool {
        self.slots.get(&fd).is_some_and(|s| s.now.is_some())
    }

    /// The open descriptors, in ascending order.
    pub fn open(&self) -> impl Iterator<Item = (Fd, LifeId)> + '_ {
        self.slots.iter().filter_map(|(fd, s)| s.now.map(|l| (*fd, l)))
    }
}

/// Ended lives.
#[derive(Default)]
pub(super) struct Ends {
    /// In the order of their ends; some are forgotten already.
    pub(super) order: VecDeque<LifeId>,
    /// How many of them are remembered.
    pub(super) remembered: usize,
}

/// All that is known of the target's descriptors.
#[derive(Default)]
pub struct World {
    pub(super) files: FxHashMap<FileId, OpenFile>,
    pub(super) lives: FxHashMap<LifeId, Life>,
    pub(super) tables: FxHashMap<TableId, FdTable>,
    pub(super) tasks: FxHashMap<Tid, Task>,
    pub(super) processes: FxHashMap<Pid, Process>,
    pub(super) ended: Ends,
    pub(super) ended_lost: Ends,
    pub(super) dead_tables: VecDeque<TableId>,
    pub(super) dead_processes: VecDeque<Pid>,
    pub(super) next_file: u32,
    pub(super) next_life: u32,
    pub(super) next_table: u32,
    pub(super) forgotten: u64,
    pub(super) surprises: u64,
    /// How many lives were lost, ever.
    pub(super) lost: u64,
    pub(super) altered: Vec<Altered>,
    pub(super) altered_unlisted: u64,
}

impl World {
    /// A world without tasks.
    pub fn new() -> World {
        World { next_file: 1, ..World::default() }
    }

    /// The object of this id, if it is remembered.
    pub fn file(&self, id: FileId) -> Option<&OpenFile> {
        self.files.get(&id)
    }

    /// The life of this id, if it is remembered.
    pub fn life(&self, id: LifeId) -> Option<&Life> {
        self.lives.get(&id)
    }

    /// The table of this id.
    pub fn table(&self, id: TableId) -> Option<&FdTable> {
        self.tables.get(&id)
    }

    /// The task of this tid, if it is alive.
    pub fn task(&self, tid: Tid) -> Option<&Task> {
        self.tasks.get(&tid)
    }

    /// The process of this pid, alive or remembered.
    pub fn process(&self, pid: Pid) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// The living tasks, in no order.
    pub fn tasks(&self) -> impl Iterator<Item = (Tid, &Task)> {
        self.tasks.iter().map(|(tid, t)| (*tid, t))
    }

    /// The processes, alive and remembered, in no order.
    pub fn processes(&self) -> impl Iterator<Item = (Pid, &Process)> {
        self.processes.iter().map(|(pid, p)| (*pid, p))
    }

    /// Every remembered life, in no order.
    pub fn lives(&self) -> impl Iterator<Item = &Life> {
        self.lives.values()
    }

    /// How many ended lives were forgotten to bound memory.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How often a slot turned out to be filled or empty against expectation.
    pub fn surprises(&self) -> u64 {
        self.surprises
    }

    /// What `fd` is in the table of `tid` now.
    pub fn open_life(&self, tid: Tid, fd: Fd) -> Option<&Life> {
        let table = self.tables.get(&self.tasks.get(&tid)?.table)?;
        self.lives.get(&table.slots.get(&fd)?.now?)
    }

    /// What `fd` is in the table of `tid` now, if that reads as `file`, or else what it was before, if that does.
    pub(super) fn latest_as(&self, tid: Tid, fd: Fd, file: &NewFile) -> Option<&Life> {
        let slot = self.tables.get(&self.tasks.get(&tid)?.table)?.slots.get(&fd)?;
        let reads_so = |l: &&Life| self.files.get(&l.file).is_some_and(|f| f.file.may_show_as(file));
        let now = slot.now.and_then(|l| self.lives.get(&l));
        let before = slot.past.back().and_then(|l| self.lives.get(l));
        now.filter(reads_so).or(before.filter(reads_so))
    }

    /// The open numbers of a table whose life began, or whose FD_CLOEXEC changed, at `at` or later.
    pub(super) fn changed_since(&self, table: TableId, at: u64) -> impl Iterator<Item = Fd> {
        let open = self.tables.get(&table).into_iter().flat_map(FdTable::open);
        open.filter(move |(_, l)| self.lives.get(l).is_some_and(|l| l.began.at.max(l.marked) >= at)).map(|(fd, _)| fd)
    }

    /// A task of the table that `table` was copied from, if `fd` is empty there, and its last life ended at `since` or
    /// later and was of an object that reads as `file`.
    pub fn lost_by_original(&self, table: TableId, fd: Fd, file: &NewFile, since: u64) -> Option<Tid> {
        let (parent, _) = self.tables.get(&table)?.copied_from?;
        let slot = self.tables.get(&parent)?.slots.get(&fd)?;
        let last = self.lives.get(slot.past.back()?)?;
        let ended = last.end.as_ref().is_some_and(|e| e.moment.at >= since);
        let reads_so = ended && slot.now.is_none() && self.files.get(&last.file)?.file.may_show_as(file);
        reads_so.then(|| self.tasks.iter().find(|(_, t)| t.table == parent).map(|(t, _)| *t)).flatten()
    }

    /// A life of the object that `file` is, if nobody who is known has it open any more and its link names it for good:
    /// who sends a descriptor over a socket usually closes it before it is received. It is none of `others`.
    pub(super) fn closed_by_all(&self, file: &NewFile, others: Vec<FileId>) -> Option<LifeId> {
        if !file.is_named_for_good() {
            return None;
        }
        // Inode numbers come again in the end: the latest object that had this one is meant.
        let is_it = |f: &&OpenFile| f.holders == 0 && f.file.may_show_as(file) && !others.contains(&f.id);
        let found = self.files.values().filter(is_it).max_by_key(|f| f.id)?;
        let lives = self.lives.values().filter(|l| l.file == found.id);
        lives.max_by_key(|l| (l.end.as_ref().map(|e| e.moment.at), l.id)).map(|l| l.id)
    }

    /// Whether other tasks have the same table as `tid`.
    pub fn shares_table(&self, tid: Tid) -> bool {
        self.tasks.get(&tid).and_then(|t| self.tables.get(&t.table)).is_some_and(|t| t.tasks > 1)
    }

    /// Whether `fd` has ever been open in the table of `tid`, or in one that it was copied from.
    pub fn ever_lived(&self, tid: Tid, fd: Fd) -> bool {
        self.tasks.get(&tid).is_some_and(|t| self.lineage(t.table, fd).next().is_some())
    }

    /// Whether a call in the table of `tid` itself has ever opened or received `fd`.
    pub fn opened_here(&self, tid: Tid, fd: Fd) -> bool {
        let Some(task) = self.tasks.get(&tid) else { return false };
        let mut own = self.lineage(task.table, fd).take_while(|l| l.table == task.table);
        own.any(|l| matches!(l.origin, Origin::Opened | Origin::Received(_)))
    }

    /// The lives of number `fd` as a task of `table` knows them, the latest first: those of the table itself, then
    /// those of the table it was copied from, up to the copy, and so on.
    pub fn lineage(&self, table: TableId, fd: Fd) -> impl Iterator<Item = &Life> {
        let mut at = Some((table, u64::MAX));
        std::iter::from_fn(move || {
            let (id, until) = at?;
            let table = self.tables.get(&id);
            at = table.and_then(|t| t.copied_from);
            Some((table.and_then(|t| t.slots.get(&fd)), until))
        })
        .flat_map(move |(slot, until)| {
            slot.into_iter()
                .flat_map(|s| s.now.iter().chain(s.past.iter().rev()))
                .filter_map(|l| self.lives.get(l))
                .filter(move |l| l.began.at <= until)
        })
    }

    /// Whether `tid`'s process is between fork and exec.
    pub fn window(&self, tid: Tid) -> Option<&Window> {
        self.processes.get(&self.tasks.get(&tid)?.pid)?.window.as_ref()
    }

    /// The open numbers of `tid`'s table that belonged to an object before from which the number had escaped when it was
    /// closed, in ascending order.
    pub fn recycled(&self, tid: Tid) -> Vec<Fd> {
        if self.lost == 0 {
            return Vec::new();
        }
        let Some(table) = self.tasks.get(&tid).and_then(|t| self.tables.get(&t.table)) else { return Vec::new() };
        let lost = |l: &LifeId| self.lives.get(l).is_some_and(Life::was_lost);
        table.slots.iter().filter(|(_, s)| s.now.is_some() && s.past.iter().any(lost)).map(|(fd, _)| *fd).collect()
    }
}

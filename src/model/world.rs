//! Tables, tasks and lives, and how events change them.

use super::life::{End, Ended, Life, Moment, OpenFile, Origin, What};
use crate::base::{Fd, FileId, LifeId, Pid, TableId, Tid};
use crate::event::{Effect, Event, EventKind, Fork, NewFile, Present, Program};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};

/// How many ended lives of one number in one table are remembered.
const PAST_PER_NUMBER: usize = 256;
/// How many tables without a task are remembered.
const DEAD_TABLES: usize = 256;
/// How many ended processes are remembered.
const DEAD_PROCESSES: usize = 1024;

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
    pub program: Program,
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
struct Slot {
    now: Option<LifeId>,
    /// Ended lives, the latest last.
    past: VecDeque<LifeId>,
}

/// A descriptor table.
#[derive(Clone, Debug)]
pub struct FdTable {
    slots: BTreeMap<Fd, Slot>,
    tasks: u32,
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

    /// The open descriptors, in ascending order.
    pub fn open(&self) -> impl Iterator<Item = (Fd, LifeId)> + '_ {
        self.slots.iter().filter_map(|(fd, s)| s.now.map(|l| (*fd, l)))
    }
}

/// One thing that an event changes. Decided by [`World::consequences`], carried out by [`World::commit`].
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// A life begins with an object of its own.
    Open {
        /** The table. */
        table: TableId,
        /** The number. */
        fd: Fd,
        /** FD_CLOEXEC. */
        cloexec: bool,
        /** The object. */
        file: NewFile,
    },
    /// A life begins with another's object.
    Duplicate {
        /** The table. */
        table: TableId,
        /** The number. */
        fd: Fd,
        /** FD_CLOEXEC. */
        cloexec: bool,
        /** The other life. */
        from: LifeId,
    },
    /// A life ends.
    End {
        /** Which. */
        life: LifeId,
        /** How. */
        how: Ended,
    },
    /// FD_CLOEXEC changes.
    Cloexec {
        /** Of which life. */
        life: LifeId,
        /** Set? */
        on: bool,
    },
    /// The first process.
    Start {
        /** Its descriptors. */
        present: Vec<Present>,
        /** Its program. */
        program: Program,
    },
    /// A task begins.
    Fork(Fork),
    /// The task gets a copy of its table.
    Unshare,
    /// A task goes, without a word of its own (exec in another thread, or an end).
    TaskGone {
        /** Which. */
        tid: Tid,
    },
    /// A process runs another program.
    Exec {
        /** The program. */
        program: Program,
    },
}

/// What has changed, with the ids that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A life began.
    Began(LifeId),
    /// A life ended.
    Ended(LifeId),
    /// FD_CLOEXEC of a life changed.
    Cloexec(LifeId),
}

/// All that is known of the target's descriptors.
#[derive(Default)]
pub struct World {
    files: FxHashMap<FileId, OpenFile>,
    lives: FxHashMap<LifeId, Life>,
    tables: FxHashMap<TableId, FdTable>,
    tasks: FxHashMap<Tid, Task>,
    processes: FxHashMap<Pid, Process>,
    dead_tables: VecDeque<TableId>,
    dead_processes: VecDeque<Pid>,
    next_file: u32,
    next_life: u32,
    next_table: u32,
    forgotten: u64,
    surprises: u64,
    /// How many lives were lost, ever.
    lost: u64,
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

    /// Whether `fd` has ever been open in the table of `tid`, or in one that it was copied from.
    pub fn ever_lived(&self, tid: Tid, fd: Fd) -> bool {
        self.tasks.get(&tid).is_some_and(|t| self.lineage(t.table, fd).next().is_some())
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

    /// What `event` changes, if it happens. Decides, and changes nothing.
    pub fn consequences(&self, event: &Event) -> Vec<Transition> {
        let tid = event.tid;
        match &event.kind {
            EventKind::Start { program, present } => {
                vec![Transition::Start { present: present.clone(), program: program.clone() }]
            }
            EventKind::Call(call) => {
                let Some(task) = self.tasks.get(&tid) else {
                    return Vec::new();
                };
                let mut out = Vec::new();
                for effect in &call.effects {
                    self.of_effect(task.table, effect, &mut out);
                }
                out
            }
            EventKind::Fork(fork) => vec![Transition::Fork(fork.clone())],
            EventKind::Exec { former, program } => self.of_exec(tid, *former, program),
            EventKind::Exit { .. } => self.of_exit(tid),
        }
    }

    fn of_effect(&self, id: TableId, effect: &Effect, out: &mut Vec<Transition>) {
        let Some(table) = self.tables.get(&id) else {
            return;
        };
        let now = |fd: &Fd| table.slots.get(fd).and_then(|s| s.now);
        match effect {
            Effect::Open { fd, cloexec, file } => {
                if let Some(life) = now(fd) {
                    out.push(Transition::End { life, how: Ended::Vanished });
                }
                out.push(Transition::Open { table: id, fd: *fd, cloexec: *cloexec, file: file.clone() });
            }
            Effect::Alias { from, to, cloexec } => {
                if let Some(life) = now(to) {
                    out.push(Transition::End { life, how: Ended::Replaced });
                }
                // Another thread may have closed `from` after the kernel copied it and before we were told: the life
                // that ended last is then the one.
                let source = now(from).or_else(|| table.slots.get(from)?.past.back().copied());
                match source {
                    Some(from) => out.push(Transition::Duplicate { table: id, fd: *to, cloexec: *cloexec, from }),
                    None => {
                        let file = NewFile::from_link(Vec::new(), 0);
                        out.push(Transition::Open { table: id, fd: *to, cloexec: *cloexec, file });
                    }
                }
            }
            Effect::Cloexec { fd, on } => {
                if let Some(life) = now(fd) {
                    out.push(Transition::Cloexec { life, on: *on });
                }
            }
            Effect::Close { fd } => {
                if let Some(life) = now(fd) {
                    out.push(Transition::End { life, how: Ended::Closed });
                }
            }
            Effect::CloseRange { first, last, mark } => {
                let lo = Fd(i32::try_from(*first).unwrap_or(i32::MAX));
                let hi = Fd(i32::try_from(*last).unwrap_or(i32::MAX));
                if lo > hi {
                    return;
                }
                for life in table.slots.range(lo..=hi).filter_map(|(_, s)| s.now) {
                    out.push(match mark {
                        true => Transition::Cloexec { life, on: true },
                        false => Transition::End { life, how: Ended::ClosedInRange },
                    });
                }
            }
            Effect::Unshare if table.tasks > 1 => out.push(Transition::Unshare),
            Effect::Unshare | Effect::Refused { .. } => {}
        }
    }

    fn of_exec(&self, tid: Tid, former: Tid, program: &Program) -> Vec<Transition> {
        // execve(2): the table is unshared, other threads end, close-on-exec descriptors are closed.
        let mut out = Vec::new();
        let Some(task) = self.tasks.get(&former).or_else(|| self.tasks.get(&tid)) else {
            return out;
        };
        out.extend(
            self.tasks
                .iter()
                .filter(|(t, k)| k.pid == task.pid && **t != tid)
                .map(|(t, _)| Transition::TaskGone { tid: *t }),
        );
        out.push(Transition::Unshare);
        out.push(Transition::Exec { program: program.clone() });
        out
    }

    fn of_exit(&self, tid: Tid) -> Vec<Transition> {
        vec![Transition::TaskGone { tid }]
    }

    /// Carries out what [`World::consequences`] decided about the same event.
    pub fn commit(&mut self, event: &Event, transitions: Vec<Transition>) -> Vec<Change> {
        let mut changes = Vec::with_capacity(transitions.len());
        for t in transitions {
            self.apply(event, t, &mut changes);
        }
        changes
    }

    fn apply(&mut self, event: &Event, t: Transition, changes: &mut Vec<Change>) {
        let tid = event.tid;
        match t {
            Transition::Open { table, fd, cloexec, file } => {
                let moment = self.moment(event);
                // CLOSE_RANGE_UNSHARE and exec may have moved the task since the decision; a call's effect is on the
                // table it has now.
                let table = self.tasks.get(&tid).map_or(table, |t| t.table);
                let life = self.begin(table, fd, None, cloexec, Origin::Opened, moment);
                self.new_file(file, life);
                changes.push(Change::Began(life));
            }
            Transition::Duplicate { table, fd, cloexec, from } => {
                let Some(file) = self.lives.get(&from).map(|l| l.file) else {
                    return;
                };
                let moment = self.moment(event);
                let life = self.begin(table, fd, Some(file), cloexec, Origin::Duplicated(from), moment);
                changes.push(Change::Began(life));
            }
            Transition::End { life, how } => {
                if how == Ended::Vanished {
                    self.surprises += 1;
                }
                let moment = self.moment(event);
                self.end(life, how, moment, changes);
            }
            Transition::Cloexec { life, on } => {
                if let Some(l) = self.lives.get_mut(&life) {
                    l.cloexec = on;
                    changes.push(Change::Cloexec(life));
                }
            }
            Transition::Start { present, program } => self.start(event, present, program, changes),
            Transition::Fork(fork) => self.fork(event, fork, changes),
            Transition::Unshare => self.unshare(event, changes),
            Transition::TaskGone { tid } => self.task_gone(event, tid, changes),
            Transition::Exec { program } => self.exec(event, program, changes),
        }
    }

    fn moment(&self, event: &Event) -> Moment {
        let (what, site) = match &event.kind {
            EventKind::Start { .. } => (What::Present, Default::default()),
            EventKind::Call(call) => (What::Call(call.info), call.site.clone()),
            EventKind::Fork(fork) => (What::Fork, fork.site.clone()),
            EventKind::Exec { .. } => (What::Exec, Default::default()),
            EventKind::Exit { .. } => (What::Exit, Default::default()),
        };
        let pid = self.tasks.get(&event.tid).map_or(Pid(event.tid.0), |t| t.pid);
        Moment { at: event.at, pid, tid: event.tid, what, site }
    }

    fn new_table(&mut self, copied_from: Option<(TableId, u64)>, made_for: Tid) -> TableId {
        let id = TableId(self.next_table);
        self.next_table += 1;
        self.tables.insert(id, FdTable { slots: BTreeMap::new(), tasks: 1, copied_from, made_for });
        id
    }

    fn new_file(&mut self, file: NewFile, first: LifeId) {
        let id = FileId(self.next_file);
        self.next_file += 1;
        self.files.insert(id, OpenFile { id, file, first, holders: 1, lives: 1 });
        if let Some(l) = self.lives.get_mut(&first) {
            l.file = id;
        }
    }

    /// Begins a life. Without `file` the caller gives it one at once, by [`World::new_file`].
    fn begin(
        &mut self,
        table: TableId,
        fd: Fd,
        file: Option<FileId>,
        cloexec: bool,
        origin: Origin,
        began: Moment,
    ) -> LifeId {
        let id = LifeId(self.next_life);
        self.next_life += 1;
        if let Some(f) = file.and_then(|f| self.files.get_mut(&f)) {
            f.holders += 1;
            f.lives += 1;
        }
        let file = file.unwrap_or(FileId(0));
        self.lives.insert(id, Life { id, table, fd, file, cloexec, origin, began, end: None });
        if let Some(t) = self.tables.get_mut(&table) {
            t.slots.entry(fd).or_default().now = Some(id);
        }
        id
    }

    fn end(&mut self, life: LifeId, how: Ended, moment: Moment, changes: &mut Vec<Change>) {
        let Some(l) = self.lives.get_mut(&life) else {
            return;
        };
        if l.end.is_some() {
            return;
        }
        l.end = Some(End { how, moment });
        self.lost += u64::from(l.was_lost());
        let (table, fd, file) = (l.table, l.fd, l.file);
        if let Some(f) = self.files.get_mut(&file) {
            f.holders = f.holders.saturating_sub(1);
        }
        changes.push(Change::Ended(life));
        let Some(slot) = self.tables.get_mut(&table).and_then(|t| t.slots.get_mut(&fd)) else {
            return;
        };
        if slot.now == Some(life) {
            slot.now = None;
        }
        slot.past.push_back(life);
        if slot.past.len() > PAST_PER_NUMBER {
            // What was lost is what a later finding will look for; anything else goes first.
            let lives = &self.lives;
            let dull = |l: &LifeId| !lives.get(l).is_some_and(Life::was_lost);
            let at = slot.past.iter().position(dull).unwrap_or(0);
            if let Some(old) = slot.past.remove(at) {
                self.forget(old);
            }
        }
    }

    fn forget(&mut self, life: LifeId) {
        let Some(l) = self.lives.remove(&life) else {
            return;
        };
        self.forgotten += 1;
        if let Some(f) = self.files.get_mut(&l.file) {
            f.lives = f.lives.saturating_sub(1);
            if f.lives == 0 {
                self.files.remove(&l.file);
            }
        }
    }

    fn start(&mut self, event: &Event, present: Vec<Present>, program: Program, changes: &mut Vec<Change>) {
        let pid = Pid(event.tid.0);
        let table = self.new_table(None, event.tid);
        self.tasks.insert(event.tid, Task { pid, table });
        self.processes.insert(pid, Process { parent: None, program, window: None, tasks: 1, since: event.at });
        let moment = self.moment(event);
        let mut made: Vec<LifeId> = Vec::with_capacity(present.len());
        for p in present {
            let other = p.same_as.and_then(|i| made.get(i)).and_then(|l| self.lives.get(l)).map(|l| l.file);
            let life = self.begin(table, p.fd, other, p.cloexec, Origin::Present, moment.clone());
            if other.is_none() {
                self.new_file(p.file, life);
            }
            made.push(life);
            changes.push(Change::Began(life));
        }
    }

    fn fork(&mut self, event: &Event, fork: Fork, changes: &mut Vec<Change>) {
        let Some(parent) = self.tasks.get(&event.tid).cloned() else {
            return;
        };
        // A tid that is still known belonged to a task whose end was not seen.
        if self.tasks.contains_key(&fork.child) {
            self.task_gone(event, fork.child, changes);
        }
        let table = if fork.shares_files {
            if let Some(t) = self.tables.get_mut(&parent.table) {
                t.tasks += 1;
            }
            parent.table
        } else {
            let moment = self.moment(event);
            self.copy_table(parent.table, fork.child, moment, Origin::Inherited, changes)
        };
        self.tasks.insert(fork.child, Task { pid: fork.child_pid, table });
        if fork.child_pid == parent.pid {
            if let Some(p) = self.processes.get_mut(&parent.pid) {
                p.tasks += 1;
            }
        } else {
            let parent_process = self.processes.get(&parent.pid);
            let program = parent_process.map(|p| p.program.clone()).unwrap_or_default();
            let since = parent_process.map_or(event.at, |p| p.since);
            let child_pid = fork.child_pid;
            let window = Some(Window { fork, parent: event.tid, at: event.at });
            self.dead_processes.retain(|p| *p != child_pid);
            self.processes.insert(child_pid, Process { parent: Some(parent.pid), program, window, tasks: 1, since });
        }
    }

    fn copy_table(
        &mut self,
        from: TableId,
        made_for: Tid,
        moment: Moment,
        origin: fn(LifeId) -> Origin,
        changes: &mut Vec<Change>,
    ) -> TableId {
        let table = self.new_table(Some((from, moment.at)), made_for);
        let open: Vec<LifeId> = self.tables.get(&from).map(|t| t.open().map(|o| o.1).collect()).unwrap_or_default();
        for old in open {
            let Some(l) = self.lives.get(&old) else {
                continue;
            };
            let (fd, file, cloexec) = (l.fd, l.file, l.cloexec);
            changes.push(Change::Began(self.begin(table, fd, Some(file), cloexec, origin(old), moment.clone())));
        }
        table
    }

    fn unshare(&mut self, event: &Event, changes: &mut Vec<Change>) {
        let Some(old) = self.tasks.get(&event.tid).map(|t| t.table) else {
            return;
        };
        if self.tables.get(&old).is_none_or(|t| t.tasks <= 1) {
            return;
        }
        let moment = self.moment(event);
        let table = self.copy_table(old, event.tid, moment, Origin::Unshared, changes);
        if let Some(t) = self.tables.get_mut(&old) {
            t.tasks -= 1;
        }
        if let Some(t) = self.tasks.get_mut(&event.tid) {
            t.table = table;
        }
    }

    fn task_gone(&mut self, event: &Event, tid: Tid, changes: &mut Vec<Change>) {
        // exec from another thread: the leader's place is taken by the caller, whose own tid goes.
        if let EventKind::Exec { former, .. } = &event.kind
            && *former == tid
            && tid != event.tid
        {
            if let Some(task) = self.tasks.remove(&tid)
                && let Some(leader) = self.tasks.insert(event.tid, task)
            {
                self.leave(event, &leader, changes);
            }
            return;
        }
        if let Some(task) = self.tasks.remove(&tid) {
            self.leave(event, &task, changes);
        }
    }

    fn leave(&mut self, event: &Event, task: &Task, changes: &mut Vec<Change>) {
        if let Some(p) = self.processes.get_mut(&task.pid) {
            p.tasks = p.tasks.saturating_sub(1);
            if p.tasks == 0 {
                self.dead_processes.push_back(task.pid);
                if self.dead_processes.len() > DEAD_PROCESSES
                    && let Some(old) = self.dead_processes.pop_front()
                {
                    self.processes.remove(&old);
                }
            }
        }
        let Some(table) = self.tables.get_mut(&task.table) else {
            return;
        };
        table.tasks = table.tasks.saturating_sub(1);
        if table.tasks > 0 {
            return;
        }
        let open: Vec<LifeId> = table.open().map(|o| o.1).collect();
        let mut moment = self.moment(event);
        moment.pid = task.pid;
        for life in open {
            self.end(life, Ended::TableGone, moment.clone(), changes);
        }
        self.dead_tables.push_back(task.table);
        if self.dead_tables.len() > DEAD_TABLES {
            self.bury();
        }
    }

    /// Forgets the table that has been without tasks longest, unless a living table was copied from it.
    fn bury(&mut self) {
        let parents: Vec<TableId> =
            self.tables.values().filter(|t| t.tasks > 0).filter_map(|t| t.copied_from).map(|c| c.0).collect();
        let Some(at) = self.dead_tables.iter().position(|t| !parents.contains(t)) else {
            return;
        };
        let Some(old) = self.dead_tables.remove(at) else {
            return;
        };
        let Some(table) = self.tables.remove(&old) else {
            return;
        };
        for life in table.slots.values().flat_map(|s| s.past.iter().chain(s.now.iter())) {
            self.forget(*life);
        }
    }

    fn exec(&mut self, event: &Event, program: Program, changes: &mut Vec<Change>) {
        let Some(task) = self.tasks.get(&event.tid).cloned() else {
            return;
        };
        if let Some(p) = self.processes.get_mut(&task.pid) {
            p.program = program;
            p.window = None;
            p.since = event.at;
            p.tasks = 1;
        }
        let Some(table) = self.tables.get(&task.table) else {
            return;
        };
        let doomed: Vec<LifeId> =
            table.open().map(|o| o.1).filter(|l| self.lives.get(l).is_some_and(|l| l.cloexec)).collect();
        let moment = self.moment(event);
        for life in doomed {
            self.end(life, Ended::ClosedOnExec, moment.clone(), changes);
        }
        // The new program knows nothing of the numbers that the old one used.
        if let Some(t) = self.tables.get_mut(&task.table) {
            t.copied_from = None;
        }
    }
}

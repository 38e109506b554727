//! Carrying out what was decided.

use super::decide::{Change, Transition};
use super::life::{End, Ended, Life, Moment, OpenFile, Origin, What};
use super::world::{Ends, FdTable, Process, Task, Window, World};
use crate::base::{Fd, FileId, LifeId, Pid, TableId, Tid};
use crate::event::{Event, EventKind, Fork, Found, NewFile, Present, Program, Start};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many ended lives of one number in one table are remembered.
const PAST_PER_NUMBER: usize = 256;
/// How many ended lives are remembered in all, of numbers and tables of whatever kind: at some 500 bytes each, 8 MiB.
const PAST: usize = 16_384;
/// And how many of those that were lost, which a later finding will look for.
const PAST_LOST: usize = 4_096;
/// How many tables without a task are remembered.
const DEAD_TABLES: usize = 256;
/// How many ended processes are remembered.
const DEAD_PROCESSES: usize = 1024;

impl World {
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
                    self.surprises += u64::from(!is_race(event));
                }
                let moment = self.moment(event);
                self.end(life, how, moment, changes);
            }
            Transition::Cloexec { life, on } => {
                if let Some(l) = self.lives.get_mut(&life) {
                    l.cloexec = on;
                    l.marked = event.at;
                    changes.push(Change::Cloexec(life));
                }
            }
            Transition::Start(start) => self.start(event, start, changes),
            Transition::Receive { table, fd, cloexec, file, from, twin } => {
                let moment = self.moment(event);
                let twin = twin.and_then(|n| self.tables.get(&table)?.slots.get(&n)?.now);
                let from = from.or(twin);
                let known = from.and_then(|l| self.lives.get(&l)).map(|l| l.file);
                let life = self.begin(table, fd, known, cloexec, Origin::Received(from), moment);
                if known.is_none() {
                    self.new_file(file, life);
                }
                changes.push(Change::Began(life));
            }
            Transition::Range { first, last, mark } => self.range(event, first, last, mark, changes),
            Transition::Appear(present) => {
                let moment = self.moment(event);
                if let Some(table) = self.tasks.get(&event.tid).map(|t| t.table) {
                    self.surprises += u64::from(!is_race(event));
                    self.found(table, present, Origin::Appeared, moment, changes);
                }
            }
            Transition::Same { life, with } => self.same(life, with),
            Transition::Fork(fork) => self.fork(event, fork, changes),
            Transition::Unshare => self.unshare(event, changes),
            Transition::TaskGone { tid } => self.task_gone(event, tid, changes),
            Transition::Exec { program } => self.exec(event, program, changes),
            Transition::Altered { how, lives, path } => {
                let moment = self.moment(event);
                self.note_alteration(moment, how, lives, path);
            }
        }
    }

    fn moment(&self, event: &Event) -> Moment {
        let (what, site) = match &event.kind {
            EventKind::Start(_) => (What::Present, Default::default()),
            EventKind::Reconciled { .. } => (What::Noticed, Default::default()),
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
        self.lives.insert(id, Life { id, table, fd, file, cloexec, marked: 0, origin, began, end: None });
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
        let lost = self.lives.get(&life).is_some_and(Life::was_lost);
        if slot.past.len() > PAST_PER_NUMBER {
            // What was lost is what a later finding will look for; anything else goes first.
            let lives = &self.lives;
            let dull = |l: &LifeId| !lives.get(l).is_some_and(Life::was_lost);
            let at = slot.past.iter().position(dull).unwrap_or(0);
            if let Some(old) = slot.past.remove(at) {
                self.forget(old);
            }
        }
        let (ended, most) = self.ended_like(lost);
        ended.order.push_back(life);
        ended.remembered += 1;
        while self.ended_like(lost).0.remembered > most
            && let Some(old) = self.ended_like(lost).0.order.pop_front()
        {
            self.forget_ended(old);
        }
        // Most of them may be forgotten already, for other reasons.
        let lives = &self.lives;
        for ended in [&mut self.ended, &mut self.ended_lost] {
            if ended.order.len() > 4 * PAST {
                ended.order.retain(|l| lives.contains_key(l));
            }
        }
    }

    /// The ended lives that were lost, or those that were not, and how many of them are remembered at most.
    fn ended_like(&mut self, lost: bool) -> (&mut Ends, usize) {
        match lost {
            true => (&mut self.ended_lost, PAST_LOST),
            false => (&mut self.ended, PAST),
        }
    }

    /// Forgets an ended life, and its number where nothing is left of it.
    fn forget_ended(&mut self, life: LifeId) {
        let Some(l) = self.lives.get(&life) else { return };
        let (table, fd) = (l.table, l.fd);
        if let Some(t) = self.tables.get_mut(&table)
            && let Some(slot) = t.slots.get_mut(&fd)
        {
            if let Some(at) = slot.past.iter().position(|p| *p == life) {
                slot.past.remove(at);
            }
            if slot.past.is_empty() && slot.now.is_none() {
                t.slots.remove(&fd);
            }
        }
        self.forget(life);
    }

    fn forget(&mut self, life: LifeId) {
        let Some(l) = self.lives.remove(&life) else {
            return;
        };
        self.forgotten += 1;
        if l.end.is_some() {
            let (ended, _) = self.ended_like(l.was_lost());
            ended.remembered = ended.remembered.saturating_sub(1);
        }
        if let Some(f) = self.files.get_mut(&l.file) {
            f.lives = f.lives.saturating_sub(1);
            if f.lives == 0 {
                self.files.remove(&l.file);
            }
        }
    }

    fn start(&mut self, event: &Event, start: Start, changes: &mut Vec<Change>) {
        let Start { pid, parent, program, table: found } = start;
        // A tid that is still known belonged to a task whose end was not seen.
        if self.tasks.contains_key(&event.tid) {
            self.task_gone(event, event.tid, changes);
        }
        let shared = match found {
            Found::SharedWith(other) => self.tasks.get(&other).map(|t| t.table),
            Found::Own(_) => None,
        };
        let table = match shared {
            Some(table) => {
                if let Some(t) = self.tables.get_mut(&table) {
                    t.tasks += 1;
                }
                table
            }
            None => self.new_table(None, event.tid),
        };
        self.tasks.insert(event.tid, Task { pid, table });
        match self.processes.get_mut(&pid) {
            Some(p) if p.tasks > 0 => p.tasks += 1,
            _ => {
                self.dead_processes.retain(|p| *p != pid);
                let program = Arc::new(program);
                self.processes.insert(pid, Process { parent, program, window: None, tasks: 1, since: event.at });
            }
        }
        let Found::Own(present) = found else { return };
        let moment = self.moment(event);
        for p in present {
            self.found(table, p, Origin::Present, moment.clone(), changes);
        }
    }

    /// A descriptor whose beginning was not seen.
    fn found(&mut self, table: TableId, p: Present, origin: Origin, moment: Moment, changes: &mut Vec<Change>) {
        let of = |(tid, fd)| self.latest_as(tid, fd, &p.file).or_else(|| self.open_life(tid, fd));
        let known = p.same_as.and_then(of).map(|l| l.file);
        let life = self.begin(table, p.fd, known, p.cloexec, origin, moment);
        if known.is_none() {
            self.new_file(p.file, life);
        }
        changes.push(Change::Began(life));
    }

    fn range(&mut self, event: &Event, first: Fd, last: Fd, mark: bool, changes: &mut Vec<Change>) {
        let Some(table) = self.tasks.get(&event.tid).and_then(|t| self.tables.get(&t.table)) else { return };
        let lives: Vec<LifeId> = table.slots.range(first..=last).filter_map(|(_, s)| s.now).collect();
        for life in lives {
            self.apply(
                event,
                match mark {
                    true => Transition::Cloexec { life, on: true },
                    false => Transition::End { life, how: Ended::ClosedInRange },
                },
                changes,
            );
        }
    }

    /// `life`, of whose object nothing was known, is of the object of `with`.
    fn same(&mut self, life: LifeId, with: LifeId) {
        let (Some(old), Some(new)) = (self.lives.get(&life).map(|l| l.file), self.lives.get(&with).map(|l| l.file))
        else {
            return;
        };
        if old == new {
            return;
        }
        let source = self.lives.get(&with).map(|l| l.table);
        let moved: Vec<LifeId> = self.lives.values().filter(|l| l.file == old).map(|l| l.id).collect();
        let mut open = 0;
        for id in &moved {
            if let Some(l) = self.lives.get_mut(id) {
                l.file = new;
                open += u32::from(l.end.is_none());
                if *id == life && l.origin == Origin::Appeared {
                    let copied = source != Some(l.table);
                    l.origin = if copied { Origin::Inherited(with) } else { Origin::Duplicated(with) };
                }
            }
        }
        self.files.remove(&old);
        if let Some(f) = self.files.get_mut(&new) {
            f.holders += open;
            f.lives += moved.len() as u32;
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
            p.program = Arc::new(program);
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

/// Whether what an event corrects comes of calls that were made at once, and not of one that was missed.
fn is_race(event: &Event) -> bool {
    matches!(event.kind, EventKind::Reconciled { raced: true, .. })
}

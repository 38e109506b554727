//! Numbers that are held back after their close (`--quarantine`), so that a stale use of one cannot hit a live object.
//!
//! The close becomes a dup3(2) of an object with which nothing can be done over the number: the former object ends at that
//! moment, and the number is never free. The object is opened with O_PATH, so that the kernel itself answers EBADF to those
//! who read or write there; a call that fdwatch looks at and that names such a number is answered so by fdwatch. It has
//! FD_CLOEXEC: no program that is executed gets it. What fdwatch knows of the table is what the program believes: the number
//! is closed.

use super::frontend::Frontend;
use super::{Session, TaskState};
use crate::base::{Arch, Fd, RawCall, ReadMemory, Regs, TableId, Tid};
use crate::event::{Effect, Inode};
use crate::kernel::errand::{Errand, empty_text, is_object, seccomp_filters};
use crate::kernel::{Entering, Error, Resume, Stopped, procfs};
use crate::syscall::{Arg, ReadTask, Row, Table, makers};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Those below are what programs close to have them filled again (daemon(3), and the redirections of shells).
const FIRST: i32 = 3;

/// The object that is copied over numbers is out of the way from here on: what the target opens gets the numbers that it
/// would have got.
const OUT_OF_THE_WAY: i32 = 200;

/// So many of the numbers that a process may have open (RLIMIT_NOFILE) are held back at most: one in this many.
const SHARE: u64 = 4;

/// So many descriptors come with one message at most (unix(7), SCM_RIGHTS).
const SCM_MAX_FD: u64 = 253;

/// What is held back in one table.
#[derive(Clone, Debug, Default)]
struct Kept {
    /// The object that is copied over numbers; `None` before it was made.
    base: Option<Fd>,
    /// In the order of their closes.
    numbers: VecDeque<Fd>,
    most: usize,
    /// Nothing is held back here any more.
    given_up: bool,
    /// Numbers that calls of ours are at just now.
    ours: Vec<Fd>,
}

impl Kept {
    fn forget(&mut self, gone: impl Fn(Fd) -> bool) {
        self.numbers.retain(|fd| !gone(*fd));
        self.base = self.base.filter(|fd| !gone(*fd));
    }

    fn has(&self, fd: Fd) -> bool {
        self.base == Some(fd) || self.numbers.contains(&fd)
    }
}

/// All that is held back.
#[derive(Debug)]
pub(super) struct Quarantine {
    most: usize,
    /// How many seccomp filters were in force at first. Another may kill who makes a call of ours.
    filters: Option<u32>,
    tables: FxHashMap<TableId, Kept>,
    held: u64,
    /// Why there was none in a table, and how often.
    none: BTreeMap<&'static str, u64>,
}

/// What a task is doing for us in the place of a call of its own.
#[derive(Debug)]
pub(super) struct Running {
    /// At the entry of its own call; at its exit, where that has failed.
    regs: Regs,
    /// What it had blocked, while no signal may come between two calls of ours.
    mask: Option<u64>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// An object is made.
    Base { nothing: u64 },
    /// From that the one with which nothing can be done.
    Object { made: Fd },
    /// It is moved out of the way.
    Move { made: Fd, object: Fd },
    /// The number is taken in the place of its close.
    Hold { fd: Fd },
    /// The first of these is closed.
    Close { left: VecDeque<Fd>, then: Then },
    /// Its own call is made without us.
    Plain,
}

/// What comes after the calls of ours.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Its own call is made.
    Again,
    /// It has closed what it wanted to close.
    Closed,
}

enum Next {
    Call(Errand),
    Again { plain: bool },
    Closed,
}

/// A task's memory and table without what is held back: as the program sees it.
pub(super) struct Without<'a, T> {
    task: &'a T,
    held: Vec<Fd>,
}

impl<T: ReadMemory> ReadMemory for Without<'_, T> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        self.task.read(addr, buf)
    }

    fn gather(&self, addrs: &[u64], each: usize, buf: &mut [u8]) -> usize {
        self.task.gather(addrs, each, buf)
    }
}

impl<T: ReadTask> ReadTask for Without<'_, T> {
    fn link(&self, fd: Fd) -> Option<Vec<u8>> {
        if self.held.contains(&fd) { None } else { self.task.link(fd) }
    }

    fn flags(&self, fd: Fd) -> Option<u32> {
        if self.held.contains(&fd) { None } else { self.task.flags(fd) }
    }

    fn leads_to(&self, dir: Option<Fd>, path: &[u8]) -> Option<(Vec<u8>, Option<Inode>)> {
        self.task.leads_to(dir, path)
    }

    fn pidfd(&self, fd: Fd) -> Option<crate::base::Pid> {
        self.task.pidfd(fd)
    }
}

impl Session {
    /// Holds back at most `most` numbers of a table after their close; to be called before [`Session::run`], for a target
    /// that runs under [`crate::kernel::Filter::with`] questions. `uses`: as [`Session::watch_uses`].
    pub fn quarantine(&mut self, most: usize, uses: bool) {
        self.table = Table::with(uses, true);
        self.quarantine = Some(Quarantine {
            most,
            filters: seccomp_filters(self.main),
            tables: FxHashMap::default(),
            held: 0,
            none: BTreeMap::new(),
        });
    }

    fn kept(&self, tid: Tid) -> Option<&Kept> {
        self.quarantine.as_ref()?.tables.get(&self.world.task(tid)?.table)
    }

    fn kept_mut(&mut self, tid: Tid) -> Option<&mut Kept> {
        let table = self.world.task(tid)?.table;
        let quarantine = self.quarantine.as_mut()?;
        let most = quarantine.most;
        Some(quarantine.tables.entry(table).or_insert_with(|| Kept { most, ..Kept::default() }))
    }

    /// The numbers that are held back, by table.
    pub(super) fn held_back(&self) -> BTreeMap<TableId, Vec<Fd>> {
        let tables = self.quarantine.iter().flat_map(|q| &q.tables);
        tables.map(|(table, kept)| (*table, kept.numbers.iter().copied().collect())).collect()
    }

    /// What a call of the task is decoded from.
    pub(super) fn as_the_program_sees<'a, T>(&self, tid: Tid, task: &'a T) -> Without<'a, T> {
        let held = self.kept(tid).map(|k| k.numbers.iter().chain(&k.base).copied().collect());
        Without { task, held: held.unwrap_or_default() }
    }

    /// Takes out of what the kernel has open what is there because of us.
    pub(super) fn without_held_back(&mut self, tid: Tid, open: &mut BTreeSet<Fd>) {
        let Some(kept) = self.kept(tid) else { return };
        open.retain(|fd| !kept.has(*fd) && !kept.ours.contains(fd));
        // A copy of a table may have been made while another task was at it.
        let known = |fd: &Fd| self.world.open_life(tid, *fd).is_some();
        let more: Vec<Fd> = open.iter().copied().filter(|fd| !known(fd) && is_object(tid, *fd)).collect();
        open.retain(|fd| !more.contains(fd));
        if let Some(kept) = self.kept_mut(tid) {
            kept.numbers.extend(more);
        }
    }

    /// Whether a call names a number that is held back, and is to be told that it is not open.
    pub(super) fn names_held_back(&mut self, tid: Tid, row: &Row, call: &RawCall) -> bool {
        if row.name == "close_range" || self.kept(tid).is_none() {
            return false;
        }
        let folder = |(arg, _): &(&Arg, u64)| **arg == Arg::DirFd;
        let folders = row.args.iter().zip(call.args).filter(folder).map(|(_, v)| Fd(v as i32));
        let named: Vec<Fd> = row.number(call.args).into_iter().chain(folders).collect();
        let Some(kept) = self.kept_mut(tid) else { return false };
        // What somebody put there whom nobody saw is his.
        let (held, others): (Vec<Fd>, Vec<Fd>) =
            named.into_iter().filter(|fd| kept.has(*fd)).partition(|fd| is_object(tid, *fd));
        kept.forget(|fd| others.contains(&fd));
        !held.is_empty()
    }

    /// Whether numbers of the task's table can be held back; if not, from then on.
    fn may_hold_back(&mut self, tid: Tid) -> bool {
        let Some(filters) = self.quarantine.as_ref().map(|q| q.filters) else { return false };
        if self.kept(tid).is_some_and(|k| k.given_up) {
            return false;
        }
        // Linux before 5.9 does not tell how many there are.
        if filters.is_none() {
            self.give_up(tid, "this kernel does not tell whether the program has a seccomp filter of its own");
            return false;
        }
        if seccomp_filters(tid) != filters {
            self.give_up(tid, "a seccomp filter of the program's own may forbid what it takes");
            return false;
        }
        true
    }

    fn give_up(&mut self, tid: Tid, why: &'static str) {
        if let Some(kept) = self.kept_mut(tid) {
            kept.given_up = true;
        }
        if let Some(quarantine) = &mut self.quarantine {
            *quarantine.none.entry(why).or_default() += 1;
        }
    }

    /// What is to be said of it in every report.
    pub(super) fn quarantine_notes(&self) -> Vec<String> {
        let Some(quarantine) = &self.quarantine else { return Vec::new() };
        let mut notes = match quarantine.held {
            0 => vec!["--quarantine held back no number".to_string()],
            1 => vec!["1 number was held back after its close (--quarantine)".to_string()],
            n => vec![format!("{n} numbers were held back after their close (--quarantine)")],
        };
        notes.extend(quarantine.none.iter().map(|(why, n)| match n {
            1 => format!("in 1 descriptor table nothing more was held back: {why}"),
            n => format!("in {n} descriptor tables nothing more was held back: {why}"),
        }));
        notes
    }

    /// The descriptor that a call closes whose number may be held back.
    fn closes(&self, tid: Tid, row: &Row, call: &RawCall) -> Option<Fd> {
        self.quarantine.as_ref()?;
        let fd = row.number(call.args).filter(|fd| fd.0 >= FIRST)?;
        let may = row.name == "close" && call.arch == Arch::X86_64 && self.world.open_life(tid, fd).is_some();
        may.then_some(fd)
    }

    /// Before the first close of a table: the task makes the object first. Whether it is at that now.
    pub(super) fn makes_base(&mut self, task: &Stopped, row: &Row, call: &RawCall) -> Result<bool, Error> {
        let tid = task.tid();
        if self.closes(tid, row, call).is_none() || !self.may_hold_back(tid) {
            return Ok(false);
        }
        if let Some(base) = self.kept(tid).and_then(|k| k.base) {
            if is_object(tid, base) {
                return Ok(false);
            }
            // Somebody has closed it of whom nothing was seen, and perhaps others, too.
            if let Some(kept) = self.kept_mut(tid) {
                kept.forget(|fd| !is_object(tid, fd));
            }
        }
        let Some(nothing) = empty_text(task) else {
            self.give_up(tid, "it has no vDSO");
            return Ok(false);
        };
        let limit = procfs::most_fds(tid).unwrap_or(u64::MAX) / SHARE;
        if let Some(kept) = self.kept_mut(tid) {
            kept.most = kept.most.min(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        let Some(regs) = task.registers()? else { return Ok(false) };
        let Some(mask) = task.block_signals()? else { return Ok(false) };
        if !task.make_instead(Errand::eventfd())? {
            return Ok(false);
        }
        self.runs(tid, Running { regs, mask: Some(mask), step: Step::Base { nothing } });
        Ok(true)
    }

    fn runs(&mut self, tid: Tid, running: Running) {
        if let Some(state) = self.tasks.get_mut(&tid) {
            state.errand = Some(Box::new(running));
        }
    }

    /// Whether the number of a close that is about to be made will be held back.
    pub(super) fn will_hold_back(&mut self, task: &Stopped, row: &Row, call: &RawCall) -> Option<Fd> {
        let tid = task.tid();
        let fd = self.closes(tid, row, call)?;
        let base = self.kept(tid)?.base?;
        if self.kept(tid)?.most == 0 || !self.may_hold_back(tid) || !is_object(tid, base) {
            return None;
        }
        // Of two that close it at once the second would put the object where nothing is, or something else by now.
        let table = self.world.task(tid)?.table;
        let is_sure = !self.flights.is_touched(table, fd, true) && procfs::link(tid, fd).is_some();
        is_sure.then_some(fd)
    }

    /// Lets a task that is about to close `fd`, which has been told, put the object there instead.
    pub(super) fn hold_back(&mut self, task: &Stopped, fd: Fd) -> Result<(), Error> {
        let tid = task.tid();
        let (Some(base), Some(regs)) = (self.kept(tid).and_then(|k| k.base), task.registers()?) else { return Ok(()) };
        if task.make_instead(Errand::place(base, fd))? {
            if let Some(kept) = self.kept_mut(tid) {
                kept.ours.push(fd);
            }
            self.runs(tid, Running { regs, mask: None, step: Step::Hold { fd } });
        }
        Ok(())
    }

    /// Where there is no number left for what a task wants to open because so many are held back: they are given back, and
    /// its call is made again. Whether it is at that now. To be called at the exit of a call.
    pub(super) fn gives_back(&mut self, task: &Stopped, row: &Row, call: &RawCall) -> Result<bool, Error> {
        let tid = task.tid();
        // A call of ours is made by the instruction that made this one.
        if call.arch != Arch::X86_64 {
            return Ok(false);
        }
        let is_full = |e: Option<Entering>| e == Some(Entering::Exit(-i64::from(libc::EMFILE)));
        if self.kept(tid).is_none_or(|k| k.base.is_none()) || !is_full(task.call()?) {
            return Ok(false);
        }
        if !makers().any(|maker| maker.name == row.name) {
            return Ok(false);
        }
        self.lets_go(task, Stopped::make_next)
    }

    /// The same before a call that receives descriptors: where there are too few numbers for all of them the call does not
    /// fail, but what has no place is lost (unix(7), MSG_CTRUNC). To be called at the entry of a call.
    pub(super) fn makes_room(&mut self, task: &Stopped, row: &Row, call: &RawCall) -> Result<bool, Error> {
        let tid = task.tid();
        if call.arch != Arch::X86_64 || self.kept(tid).is_none_or(|k| k.base.is_none()) {
            return Ok(false);
        }
        let messages = match row.name {
            "recvmsg" => 1,
            "recvmmsg" => call.args.get(2).copied().unwrap_or(1),
            _ => return Ok(false),
        };
        let open = procfs::open_numbers(tid).map_or(0, |open| open.len() as u64);
        let free = procfs::most_fds(tid).map_or(u64::MAX, |most| most.saturating_sub(open));
        if free >= messages.saturating_mul(SCM_MAX_FD) {
            return Ok(false);
        }
        self.lets_go(task, |task, _, errand| task.make_instead(errand))
    }

    /// Lets a task close what is held back in its table, and nothing be held back there any more; its own call is made
    /// again after that. Whether it is at that now; `begin` makes it make the first call.
    fn lets_go(
        &mut self,
        task: &Stopped,
        begin: impl FnOnce(&Stopped, &Regs, Errand) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let tid = task.tid();
        let (Some(regs), Some(mask)) = (task.registers()?, task.block_signals()?) else { return Ok(false) };
        let Some(kept) = self.kept_mut(tid) else { return Ok(false) };
        let mut left = std::mem::take(&mut kept.numbers);
        left.extend(kept.base.take());
        left.retain(|fd| is_object(tid, *fd));
        let Some(first) = left.front().copied() else {
            task.set_mask(mask)?;
            return Ok(false);
        };
        kept.ours.extend(&left);
        self.give_up(tid, "the program had no number left, or too few for what it was to receive, and got those back");
        if !begin(task, &regs, Errand::close(first))? {
            return Ok(false);
        }
        self.runs(tid, Running { regs, mask: Some(mask), step: Step::Close { left, then: Then::Again } });
        Ok(true)
    }

    /// Whether a task is making calls for us.
    pub(super) fn has_errand(&self, tid: Tid) -> bool {
        self.tasks.get(&tid).is_some_and(TaskState::has_errand)
    }

    /// A stop at a call of a task that is making calls for us.
    pub(super) fn on_errand(&mut self, task: Stopped, frontend: &mut dyn Frontend) -> Result<(), Error> {
        let tid = task.tid();
        let Some(mut running) = self.tasks.get_mut(&tid).and_then(|s| s.errand.take()) else {
            return self.tracer.resume(task, Resume::Go);
        };
        let put_back = |s: &mut Session, running| {
            if let Some(state) = s.tasks.get_mut(&tid) {
                state.errand = Some(running);
            }
        };
        let ret = match task.call()? {
            Some(Entering::Exit(ret)) => ret,
            Some(_) if matches!(running.step, Step::Plain) => {
                let how = if self.finishing == Some(tid) { Resume::ToExit } else { Resume::Go };
                return self.tracer.resume(task, how);
            }
            Some(entry) => {
                if entry == Entering::Foreign {
                    task.skip_call(-i64::from(libc::ENOSYS))?;
                }
                put_back(self, running);
                return self.tracer.resume(task, Resume::ToExit);
            }
            // It is gone.
            None => return self.tracer.resume(task, Resume::Go),
        };
        let next = self.next_of(tid, &mut running, ret);
        tracing::trace!(%tid, ret, ?running, "an errand");
        match next {
            Next::Call(errand) => {
                if running.mask.is_none() {
                    running.mask = task.block_signals()?;
                }
                task.make_next(&running.regs, errand)?;
                put_back(self, running);
                self.tracer.resume(task, Resume::ToExit)
            }
            Next::Again { plain } => {
                if let Some(mask) = running.mask.take() {
                    task.set_mask(mask)?;
                }
                task.make_again(&running.regs)?;
                if plain {
                    running.step = Step::Plain;
                    put_back(self, running);
                }
                self.tracer.resume(task, Resume::Go)
            }
            Next::Closed => {
                if let Some(mask) = running.mask.take() {
                    task.set_mask(mask)?;
                }
                task.tell_result(&running.regs, 0)?;
                if self.relay {
                    return self.tracer.resume(task, Resume::Go);
                }
                self.settle(tid, frontend);
                match self.show_result(&task, frontend)? {
                    Some(decision) => self.leave_call_with(task, decision),
                    None => self.leave_call(task),
                }
            }
        }
    }

    /// What comes after a call of ours that has returned `ret`.
    fn next_of(&mut self, tid: Tid, running: &mut Running, ret: i64) -> Next {
        let number = i32::try_from(ret).ok().filter(|n| *n >= 0).map(Fd);
        match (&mut running.step, number) {
            (Step::Base { .. }, None) => {
                self.give_up(tid, "the kernel refused an eventfd");
                Next::Again { plain: false }
            }
            (Step::Base { nothing }, Some(made)) => {
                let errand = Errand::object(made, *nothing);
                self.is_ours(tid, made);
                running.step = Step::Object { made };
                Next::Call(errand)
            }
            (Step::Object { made }, None) => {
                let left = VecDeque::from([*made]);
                self.give_up(
                    tid,
                    "the kernel refused open_tree(2), which came with Linux 5.2 and which containers forbid",
                );
                self.close(running, left, Then::Again)
            }
            (Step::Object { made }, Some(object)) => {
                let errand = Errand::copy(object, OUT_OF_THE_WAY);
                let made = *made;
                self.is_ours(tid, object);
                running.step = Step::Move { made, object };
                Next::Call(errand)
            }
            (Step::Move { made, object }, moved) => {
                let (made, object) = (*made, *object);
                // With a low limit there is nothing out of the way.
                let base = moved.unwrap_or(object);
                let mut left = VecDeque::from([made]);
                if base != object {
                    left.push_back(object);
                }
                if let Some(kept) = self.kept_mut(tid) {
                    kept.ours.retain(|fd| *fd != base);
                    // Another thread may have made one meanwhile.
                    match kept.base {
                        None => kept.base = Some(base),
                        Some(_) => left.push_back(base),
                    }
                }
                self.close(running, left, Then::Again)
            }
            (Step::Hold { fd }, got) => {
                let fd = *fd;
                self.is_not_ours(tid, fd);
                if got != Some(fd) {
                    return Next::Again { plain: true };
                }
                if let Some(quarantine) = &mut self.quarantine {
                    quarantine.held += 1;
                }
                let Some(kept) = self.kept_mut(tid) else { return Next::Closed };
                kept.numbers.push_back(fd);
                let many = kept.numbers.len().saturating_sub(kept.most);
                let left: VecDeque<Fd> = kept.numbers.drain(..many).collect();
                kept.ours.extend(&left);
                self.close(running, left, Then::Closed)
            }
            (Step::Close { left, then }, _) => {
                let then = *then;
                let closed = left.pop_front();
                let left = std::mem::take(left);
                if let Some(fd) = closed {
                    self.is_not_ours(tid, fd);
                }
                self.close(running, left, then)
            }
            (Step::Plain, _) => Next::Again { plain: true },
        }
    }

    fn close(&self, running: &mut Running, left: VecDeque<Fd>, then: Then) -> Next {
        let Some(first) = left.front().copied() else {
            return match then {
                Then::Again => Next::Again { plain: false },
                Then::Closed => Next::Closed,
            };
        };
        running.step = Step::Close { left, then };
        Next::Call(Errand::close(first))
    }

    fn is_ours(&mut self, tid: Tid, fd: Fd) {
        if let Some(kept) = self.kept_mut(tid) {
            kept.ours.push(fd);
        }
    }

    fn is_not_ours(&mut self, tid: Tid, fd: Fd) {
        if let Some(kept) = self.kept_mut(tid) {
            kept.ours.retain(|n| *n != fd);
        }
    }

    /// A call has been committed that the task made when its table was `before`.
    pub(super) fn quarantine_follows(&mut self, tid: Tid, before: Option<TableId>, effects: &[Effect]) {
        if self.quarantine.is_none() {
            return;
        }
        if effects.contains(&Effect::Unshare)
            && let Some(before) = before
        {
            self.quarantine_copied(before, tid);
        }
        if self.kept(tid).is_none() {
            return;
        }
        let Some(kept) = self.kept_mut(tid) else { return };
        for effect in effects {
            match effect {
                Effect::Open { fd, .. } | Effect::Receive { fd, .. } | Effect::Alias { to: fd, .. } => {
                    kept.forget(|n| n == *fd);
                }
                Effect::CloseRange { first, last, mark: false } => {
                    kept.forget(|n| u32::try_from(n.0).is_ok_and(|n| (*first..=*last).contains(&n)));
                }
                _ => {}
            }
        }
    }

    /// A task has a copy of the table `of`.
    pub(super) fn quarantine_copied(&mut self, of: TableId, tid: Tid) {
        let Some(table) = self.world.task(tid).map(|t| t.table).filter(|t| *t != of) else { return };
        if let Some(quarantine) = &mut self.quarantine
            && let Some(kept) = quarantine.tables.get(&of).cloned()
        {
            quarantine.tables.insert(table, kept);
        }
    }

    /// A task has executed a program, which got none of it.
    pub(super) fn quarantine_executed(&mut self, tid: Tid) {
        let table = self.world.task(tid).map(|t| t.table);
        if let (Some(quarantine), Some(table)) = (&mut self.quarantine, table) {
            quarantine.tables.remove(&table);
        }
    }

    /// A task is gone, and perhaps its table.
    pub(super) fn quarantine_is_gone(&mut self) {
        if let Some(quarantine) = &mut self.quarantine {
            quarantine.tables.retain(|table, _| self.world.table(*table).is_some_and(|t| t.tasks() > 0));
        }
    }
}

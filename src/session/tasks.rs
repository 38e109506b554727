//! Tasks that come, execute a program, and go.

use super::frontend::{Frontend, Then};
use super::reconcile::Because;
use super::{Session, TaskState};
use crate::base::{Fd, Pid, ReadMemory, Regs, Tid};
use crate::event::{Call, CallInfo, Effect, Event, EventKind, ExitStatus, Fork, Found, Site, Start};
use crate::kernel::{Error, Resume, Stop, Stopped, procfs};

impl Session {
    /// A task was made.
    pub(super) fn on_fork(&mut self, task: Stopped, frontend: &mut dyn Frontend) -> Result<(), Error> {
        let tid = task.tid();
        let (Some(message), Some(regs)) = (task.message()?, task.registers()?) else {
            return self.tracer.resume(task, Resume::Go);
        };
        let child = Tid(message as i32);
        if self.tasks.contains_key(&child) {
            // It was taken in without this word.
            return self.tracer.resume(task, Resume::Go);
        }
        let flags = clone_flags(&regs, &task);
        let parent_pid = self.pid_of(tid);
        let thread = flags & libc::CLONE_THREAD as u64 != 0;
        let child_pid = if thread { parent_pid } else { Pid(child.0) };
        let mut site = Site::default();
        let (mut held, mut plumbing) = (Vec::new(), Vec::new());
        let at = self.where_with(tid, regs, &task);
        if let (false, Some(at)) = (thread, &at) {
            site = self.sites.site_of_fork(at);
            held = self.sites.held(at, site.stack, self.world.recycled(tid));
            plumbing = self.sites.plumbing(parent_pid, tid);
        }
        let space = match &at {
            Some(at) if thread => at.space,
            Some(at) => self.sites.fork(at.space, parent_pid, child_pid),
            None => self.sites.new_space(),
        };
        self.tasks.insert(child, TaskState::new(space));
        self.limits.processes += u64::from(!thread);
        let fork = Fork {
            child,
            child_pid,
            shares_files: flags & libc::CLONE_FILES as u64 != 0,
            shares_memory: !thread && flags & libc::CLONE_VM as u64 != 0,
            site,
            held,
            plumbing,
        };
        let copies = !thread && !fork.shares_files;
        let shared = self.flights.has_rivals(&self.world, tid);
        if copies && !shared {
            self.reconcile_parent(tid, child, frontend);
        }
        let doubt = self.flights.snapshot(&self.world, tid);
        tracing::trace!(%tid, %child, ?doubt, copies, shared, "fork");
        let event = Event { at: self.now(), tid, kind: EventKind::Fork(fork) };
        let transitions = self.world.consequences(&event);
        let first = self.commit(&event, transitions, frontend);
        if let Some(of) = self.world.task(tid).map(|t| t.table) {
            self.quarantine_copied(of, child);
        }
        if copies && shared {
            self.reconcile(child, &doubt, Because::Copied, frontend);
        }
        if flags & libc::CLONE_PIDFD as u64 != 0 {
            self.made_pidfd(&task, &regs, frontend);
        }
        self.settle(tid, frontend);
        match self.show_process(first, &event, frontend)? {
            Some(decision) => self.carry_out(task, decision),
            None => self.tracer.resume(task, Resume::Go),
        }
    }

    /// clone(2), CLONE_PIDFD: the maker of a task has got a descriptor for it, after the child's table was copied
    /// (kernel/fork.c, copy_process).
    fn made_pidfd(&mut self, task: &Stopped, regs: &Regs, frontend: &mut dyn Frontend) {
        let tid = task.tid();
        let memory = task.memory();
        let Some((name, args, place)) = pidfd_place(regs, &memory) else { return };
        let Some(fd) = place.and_then(|at| memory.half(at)).map(|n| Fd(n as i32)).filter(|fd| fd.0 >= 0) else {
            return;
        };
        let Some((file, cloexec)) = procfs::descriptor(tid, fd) else { return };
        let info = CallInfo { name, args, ret: None };
        let effects = vec![Effect::Open { fd, cloexec, file }];
        self.flights.committed(&self.world, tid, &effects, self.now());
        let site = self.where_with(tid, *regs, task).map(|at| self.sites.site_of_fork(&at)).unwrap_or_default();
        let event = Event { at: self.now(), tid, kind: EventKind::Call(Call { info, effects, site }) };
        let transitions = self.world.consequences(&event);
        self.commit(&event, transitions, frontend);
    }

    /// A task is followed from now on that nobody has announced: what it has open is asked for, as at the start.
    pub(super) fn on_adopted(&mut self, tid: Tid, frontend: &mut dyn Frontend) {
        let kind = self.start(tid);
        let EventKind::Start(Start { pid, .. }) = &kind else { return };
        let of_process = |t: &&Tid| self.world.task(**t).is_some_and(|k| k.pid == *pid);
        let sibling = self.tasks.keys().find(of_process).and_then(|t| self.tasks.get(t)).map(|s| s.space);
        self.limits.processes += u64::from(sibling.is_none());
        let space = sibling.unwrap_or_else(|| self.sites.new_space());
        self.tasks.insert(tid, TaskState::new(space));
        let event = Event { at: self.now(), tid, kind };
        let transitions = self.world.consequences(&event);
        self.commit(&event, transitions, frontend);
    }

    /// A task of which nothing was seen, with what it has open now.
    fn start(&self, tid: Tid) -> EventKind {
        let pid = procfs::process_of(tid).unwrap_or(Pid(tid.0));
        let shares = |(other, _): &(Tid, &crate::model::Task)| *other != tid && procfs::same_table(tid, *other);
        // A thread of the same process, most likely, but a process may share its table, too.
        let of_process = |(_, known): &(Tid, &crate::model::Task)| known.pid == pid;
        let thread = self.world.tasks().filter(of_process).find(shares);
        let table = match thread.or_else(|| self.world.tasks().filter(|t| !of_process(t)).find(shares)) {
            Some((other, _)) => Found::SharedWith(other),
            None => Found::Own(procfs::open_descriptors(tid)),
        };
        EventKind::Start(Start { pid, parent: None, program: procfs::program(tid), table })
    }

    /// A program was executed.
    pub(super) fn on_exec(&mut self, task: Stopped, frontend: &mut dyn Frontend) -> Result<(), Error> {
        let tid = task.tid();
        let former = task.message()?.map_or(tid, |m| Tid(m as i32));
        let pid = self.pid_of(tid);
        for gone in [former, tid] {
            self.sites.forget_task(gone);
            if let Some(state) = self.tasks.remove(&gone) {
                self.sites.drop_space(state.space, pid);
            }
        }
        let space = self.sites.new_space();
        self.tasks.insert(tid, TaskState::new(space));
        let program = procfs::program(tid);
        let kind = match self.world.task(tid).is_some() || self.world.task(former).is_some() {
            true => EventKind::Exec { former, program },
            false => self.start(tid),
        };
        let is_exec = matches!(kind, EventKind::Exec { .. });
        // The threads that are gone may have been in calls that were carried out, or not.
        let pid = self.pid_of(former);
        let threads: Vec<Tid> = self.world.tasks().filter(|(_, t)| t.pid == pid).map(|(t, _)| t).collect();
        let doubt = self.flights.snapshot(&self.world, former);
        let why = match self.flights.has_rivals(&self.world, former) {
            true => Because::Copied,
            false => Because::Unseen,
        };
        tracing::trace!(%tid, %former, ?threads, ?doubt, ?why, "exec");
        let event = Event { at: self.now(), tid, kind };
        let transitions = self.world.consequences(&event);
        let first = self.commit(&event, transitions, frontend);
        for gone in threads {
            match gone == former {
                true => self.flights.executed(gone, tid),
                false => self.flights.gone(&self.world, gone),
            }
        }
        self.quarantine_executed(tid);
        if is_exec {
            self.reconcile(tid, &doubt, why, frontend);
            self.claim_executed(tid, former, frontend);
        }
        self.settle(tid, frontend);
        match self.show_process(first, &event, frontend)? {
            Some(decision) => self.carry_out(task, decision),
            None => self.tracer.resume(task, Resume::Go),
        }
    }

    /// A task is gone.
    pub(super) fn on_gone(&mut self, tid: Tid, stop: Stop, frontend: &mut dyn Frontend) -> Result<(), Error> {
        let status = match stop {
            Stop::Exited(code) => ExitStatus::Code(code),
            Stop::Killed(sig) => ExitStatus::Signal(sig),
            _ => return Ok(()),
        };
        if tid == self.main {
            self.status = Some(status);
        }
        let pid = self.pid_of(tid);
        let event = Event { at: self.now(), tid, kind: EventKind::Exit { status } };
        let transitions = self.world.consequences(&event);
        let table = self.world.task(tid).map(|t| t.table);
        let first = self.commit(&event, transitions, frontend);
        self.is_no_maker(tid);
        self.flights.gone(&self.world, tid);
        if !self.flights.is_idle() {
            // One that runs may be in the middle of execve, and what it has open half closed: its next stop is early enough.
            let other = {
                let mut sharing = self.world.tasks().filter(|(_, t)| Some(t.table) == table).map(|(t, _)| t);
                sharing.find(|t| self.tracer.is_stopped(*t))
            };
            if let Some(other) = other {
                self.settle(other, frontend);
            }
        }
        self.quarantine_is_gone();
        self.sites.forget_task(tid);
        if let Some(state) = self.tasks.remove(&tid)
            && !self.tasks.values().any(|t| t.space == state.space)
        {
            self.sites.drop_space(state.space, pid);
        }
        // There is no task any more that could be let go; what became of its descriptors is there to be looked at.
        match self.show_findings(first, &event, frontend)?.map(|d| d.then) {
            // With a filter of ours somebody has to answer for it to the end; then nothing is asked any more (`relay`).
            Some(Then::Detach) if self.limits.all_calls => self.leave(),
            _ => Ok(()),
        }
    }
}

/// The call that made a task and a descriptor for it: its name, its arguments, and where the number was written.
fn pidfd_place(regs: &Regs, memory: &dyn ReadMemory) -> Option<(&'static str, [u64; 6], Option<u64>)> {
    // clone(2): the place of the parent's tid takes the number; clone3: the second word of `struct clone_args`.
    let of_args = |at: u64| at.checked_add(8).and_then(|a| memory.word(a));
    let args64 = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    let args32 = [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp];
    Some(match (regs.is_32bit(), regs.orig_rax) {
        (false, 56) => ("clone", args64, Some(regs.rdx)),
        (false, 435) => ("clone3", args64, of_args(regs.rdi)),
        (_, 120) => ("clone", args32, Some(regs.rdx)),
        (true, 435) => ("clone3", args32, of_args(regs.rbx)),
        _ => return None,
    })
}

/// The flags of the clone(2), clone3(2), fork(2) or vfork(2) that a task is in.
fn clone_flags(regs: &Regs, task: &Stopped) -> u64 {
    const VFORK: u64 = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    // At the event stop the registers are those of the entry. The number tells which table it belongs to: `int 0x80`
    // in a 64-bit program is told by the arguments' place only, which for these calls means rbx.
    let at = |addr: u64| task.memory().word(addr).unwrap_or(0);
    match (regs.is_32bit(), regs.orig_rax) {
        (false, 56) => regs.rdi,
        (false, 57) | (true, 2) => 0,
        (false, 58) | (true, 190) => VFORK,
        (false, 435) => at(regs.rdi),
        (_, 120) => regs.rbx,
        (true, 435) => at(regs.rbx),
        (false, 2) => 0,
        (false, 190) => VFORK,
        _ => 0,
    }
}

//! What to do at each kind of stop.

use super::alter::{skipped_result, told_instead};
use super::frontend::{Decision, Frontend, Then};
use super::reconcile::Because;
use super::sites::Where;
use super::{Decided, Session, TaskState};
use crate::base::{Arch, Fd, Pid, RawCall, Regs, Tid};
use crate::event::{Alteration, Call, CallInfo, Correction, Effect, Event, EventKind, Site};
use crate::finding::{SWEEP, object};
use crate::kernel::{Entering, Error, KNOCK, Resume, Stop, Stopped};
use crate::model::{Transition, World};
use crate::policy::catch::Kind;
use crate::policy::{Break, Why};
use crate::syscall::{InTheWay, Made, Need, ReadTask, Row, When, delivery, in_the_way};
use std::time::Duration;

/// Results that the kernel keeps to itself: the call will be made again (ERESTARTSYS … ERESTART_RESTARTBLOCK,
/// linux/errno.h).
const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;

/// How often what other threads change meanwhile is read again.
const TRIES: u32 = 3;

/// A request to end that comes twice within this time, once directly and once passed on, is one request; in nanoseconds.
const SAME_REQUEST: u64 = 1_000_000_000;

/// What is known of a call that has been made.
enum Told {
    /// All of it, and what the user decided about it.
    All(Option<Decision>),
    /// Nothing: its task is gone.
    Lost,
}

impl Session {
    /// Syscall stops: with every call stopping, the kernel says which side it is.
    pub(super) fn on_call(&mut self, task: Stopped, frontend: &mut dyn Frontend) -> Result<(), Error> {
        if !self.tracer.stops_at_every_call(task.tid()) {
            return self.on_exit(task, frontend);
        }
        let tid = task.tid();
        let unmarked = self.stops_unmarked(tid);
        match task.call()? {
            // What the filter marks is looked at when it does.
            Some(Entering::Entry(call)) if !unmarked && self.table.is_marked(&call) => {
                self.tracer.resume(task, Resume::Go)
            }
            Some(Entering::Entry(call)) => {
                if let Some(state) = self.tasks.get_mut(&tid) {
                    state.entered = unmarked;
                    state.early = None;
                }
                self.entering(task, call, frontend)
            }
            Some(Entering::Exit(ret)) => {
                let early = self.tasks.get_mut(&tid).and_then(|s| {
                    s.entered = false;
                    s.early.take()
                });
                // A filter of the target's own may have refused what was taken for made.
                if let Some(fd) = early
                    && (ret != 0 && !RESTARTS.contains(&ret) || self.is_supervised(tid))
                {
                    self.verify(tid, fd, frontend);
                }
                self.on_exit(task, frontend)
            }
            Some(Entering::Foreign) => self.tracer.resume(task, Resume::Go),
            None => {
                // Which side it was is not known: a call of which nothing was seen must not end another.
                self.forget_call(task.tid());
                self.tracer.resume(task, Resume::Go)
            }
        }
    }

    /// A call of the table is about to be made.
    pub(super) fn on_entry(&mut self, task: Stopped, frontend: &mut dyn Frontend) -> Result<(), Error> {
        match task.call()? {
            Some(Entering::Entry(call)) => {
                let state = self.tasks.get_mut(&task.tid());
                // It was looked at before the filter was asked. But after a delay it is looked at once more.
                if let Some(state) = state.filter(|s| s.entered && s.decided.is_none()) {
                    state.entered = false;
                    let how = if state.pending.is_some() { Resume::ToExit } else { Resume::Go };
                    return self.tracer.resume(task, how);
                }
                self.entering(task, call, frontend)
            }
            Some(Entering::Foreign) => self.refuse(task),
            _ => self.tracer.resume(task, Resume::Go),
        }
    }

    /// Lets a call fail that a filter of the target's own wants shown to a tracer of its own.
    fn refuse(&mut self, task: Stopped) -> Result<(), Error> {
        task.skip_call(-i64::from(libc::ENOSYS))?;
        self.tracer.resume(task, Resume::Go)
    }

    /// A call of the table is about to be made, and nobody looks any more.
    pub(super) fn on_entry_unwatched(&mut self, task: Stopped) -> Result<(), Error> {
        match task.call()? {
            Some(Entering::Foreign) => self.refuse(task),
            _ => self.tracer.resume(task, Resume::Go),
        }
    }

    fn entering(&mut self, task: Stopped, call: RawCall, frontend: &mut dyn Frontend) -> Result<(), Error> {
        if call.arch == Arch::X32 {
            self.limits.x32_calls += 1;
        }
        let tid = task.tid();
        let followed = self.tasks.contains_key(&tid);
        // The exit of the one before may not have been seen.
        self.forget_call(tid);
        // A read that hands out descriptors is more than a use.
        let row = self.delivery(tid, &call).or_else(|| self.table.row(&call));
        let (Some(row), true) = (row, followed) else {
            return self.tracer.resume(task, Resume::Go);
        };
        // Who asked to be traced, saw the refusal and goes about his business means a SIGSTOP when he sends himself one.
        if !matches!(row.when, When::Use)
            && row.name != "ptrace"
            && let Some(state) = self.tasks.get_mut(&tid)
        {
            state.untraced = false;
        }
        if self.makes_base(&task, row, &call)? || self.makes_room(&task, row, &call)? {
            return self.tracer.resume(task, Resume::ToExit);
        }
        // What is held back is not open, as far as the program is concerned.
        let held_back = self.names_held_back(tid, row, &call);
        if held_back {
            task.skip_call(-i64::from(libc::EBADF))?;
        }
        let decided = self.tasks.get_mut(&tid).and_then(|s| s.decided.take());
        // The exit of the one before, which was to be told later, may not have been seen.
        if let (None, Some(state)) = (decided, self.tasks.get_mut(&tid)) {
            state.late = None;
        }
        let need = row.need(&Made { call, ret: None, task: &task.memory() });
        let early = match need {
            Need::Nothing => return self.tracer.resume(task, Resume::Go),
            Need::Entry => true,
            Need::Use => false,
            // Its end may have been asked for, and can be shown only before it comes.
            Need::Exit => {
                let asked = || self.policy.asks_for_names() && frontend.wants_breaks();
                !self.policy.injections.is_empty() || self.is_rehearsing() || asked()
            }
            Need::Placement => {
                self.tracer.asks_for_placement(&task);
                return self.tracer.resume(task, Resume::ToExit);
            }
            Need::Last => return self.ending(task, row, &call, frontend),
        };
        if decided.is_none()
            && need == Need::Exit
            && !held_back
            && let Some(decision) = self.inject_maker(&task, row, &call, frontend)?
        {
            return self.carry_out(task, decision);
        }
        if early || decided.is_some() {
            let effects = (row.decode)(&Made { call, ret: None, task: &task.memory() });
            if let Some(decision) = self.about_to(&task, (row, need), &call, effects, decided, frontend)? {
                return self.carry_out(task, decision);
            }
        }
        let entered = self.now();
        if let Some(state) = self.tasks.get_mut(&tid) {
            state.pending = Some(call);
            state.entered_at = entered;
        }
        if need != Need::Use && self.world.shares_table(tid) {
            let effects = (row.decode)(&Made { call, ret: None, task: &task.memory() });
            let now = self.now();
            self.flights.enter(&self.world, tid, &effects, false, now);
        }
        self.tracer.resume(task, Resume::ToExit)
    }

    /// A task is about to end. What looks like a mistake, and may be the first step of a loop, is one if nothing follows: it
    /// is told while the process is still there to be looked at.
    fn ending(
        &mut self,
        task: Stopped,
        row: &'static Row,
        raw: &RawCall,
        frontend: &mut dyn Frontend,
    ) -> Result<(), Error> {
        let tid = task.tid();
        if self.tasks.get(&tid).is_none_or(|s| s.doubtful == 0) {
            return self.tracer.resume(task, Resume::Go);
        }
        let Some(at) = self.locate(&task)? else { return self.tracer.resume(task, Resume::Go) };
        let info = CallInfo { name: row.name, args: raw.args, ret: None };
        let call = Call { info, effects: Vec::new(), site: self.sites.site(&at, None) };
        let event = Event { at: self.now(), tid, kind: EventKind::Call(call) };
        let first = self.commit(&event, Vec::new(), frontend);
        match self.show_findings(first, &event, frontend)? {
            Some(decision) => self.carry_out(task, decision),
            None => self.tracer.resume(task, Resume::Go),
        }
    }

    /// The exit of a call that is awaited will not be seen, or not be known for it.
    fn forget_call(&mut self, tid: Tid) {
        if self.tasks.get_mut(&tid).is_some_and(|s| s.pending.take().is_some()) {
            self.flights.lost(&self.world, tid);
            self.is_no_maker(tid);
        }
    }

    /// Looks at a call before it is made. `Some` if that was all there is to it, `None` if its exit is needed.
    fn about_to(
        &mut self,
        task: &Stopped,
        (row, need): (&'static Row, Need),
        raw: &RawCall,
        effects: Vec<Effect>,
        decided: Option<Decided>,
        frontend: &mut dyn Frontend,
    ) -> Result<Option<Decision>, Error> {
        let tid = task.tid();
        let go = Decision::default();
        // Whatever became of the number meanwhile.
        if let Some(Decided { instead: Some(instead), life, .. }) = decided {
            let info = CallInfo { name: row.name, args: raw.args, ret: None };
            let call = Call { info, effects, site: Site::default() };
            let altered = self.alter(task, &call, told_instead(instead, row, raw), life, frontend)?;
            return Ok(altered.then_some(go));
        }
        if let Some(Decided { decision: Some(former), life, .. }) = decided {
            let info = CallInfo { name: row.name, args: raw.args, ret: None };
            let call = Call { info, effects: effects.clone(), site: Site::default() };
            if self.alter_as_decided(task, &call, (row, raw), former, life, frontend)? {
                return Ok(Some(former));
            }
        }
        let ends = effects.iter().find_map(|e| match e {
            Effect::Close { fd } => Some(*fd),
            _ => None,
        });
        let marks = effects.iter().find_map(|e| match e {
            Effect::Cloexec { fd, .. } => Some(*fd),
            _ => None,
        });
        if let (Need::Entry, Some(fd)) = (need, ends.or(marks))
            && !self.will_succeed(tid, fd, row)
        {
            // A number that never was open can be no one's mistake; a child tidies up what it inherited.
            let dull = self.is_dull(tid, fd, ends.is_some());
            // Unless another task may be given that number before this call comes to it.
            if !dull || self.world.shares_table(tid) {
                return Ok(None);
            }
            let also =
                self.tell_vain(task, CallInfo { name: row.name, args: raw.args, ret: None }, fd, ends, frontend)?;
            return Ok(Some(also.unwrap_or(go)));
        }
        let info = CallInfo { name: row.name, args: raw.args, ret: None };
        let mut call = Call { info, effects, site: Site::default() };
        // A close needs its stack in any case, and a rule compares the places of calls that set FD_CLOEXEC; others only if
        // they break, and theirs is taken at the exit.
        if need == Need::Entry {
            let Some(at) = self.locate(task)? else { return Ok(Some(go)) };
            call.site = self.sites.site(&at, ends);
        }
        let mut event = Event { at: self.now(), tid, kind: EventKind::Call(call) };
        let transitions = self.world.consequences(&event);
        let mut decision = go;
        if decided.is_none()
            && !self.policy.injections.is_empty()
            && let Some(altered) = self.inject(task, (row, need), raw, (&mut event, &transitions), frontend)?
        {
            return Ok(altered);
        }
        // A script that is used up may still wait for what its last line asked for, and for nothing else.
        let wanted = frontend.wants_breaks();
        if let Some(Decided { decision: Some(former), .. }) = decided {
            decision = former;
            // Another break that came meanwhile has forgotten what was asked for before.
            if former.then == Then::Finish && self.finishing.is_none() {
                self.finishing = Some(tid);
            }
        } else if wanted || self.step || self.is_rehearsing() {
            let rehearsed = self.rehearsed(task, &event, &transitions)?;
            if need != Need::Entry
                && self.policy.catches.needs_stack(Kind::Close)
                && let (Some(at), EventKind::Call(call)) = (self.locate(task)?, &mut event.kind)
            {
                call.site = self.sites.site(&at, None);
            }
            let before = match rehearsed {
                None if wanted && !self.straight => {
                    let before = self.policy.before(&self.world, &event, &transitions);
                    let caught = self.caught_before(&event, &transitions, before.as_ref().map(|b| &b.1));
                    match caught {
                        Some((life, by)) => Some((life, Why::Caught { by, also: before.map(|b| Box::new(b.1)) })),
                        None => before,
                    }
                }
                rehearsed => rehearsed,
            };
            let why = before.or_else(|| {
                let first = transitions.iter().find_map(|t| match t {
                    Transition::End { life, .. } => Some(*life),
                    // Not seen again after its entry.
                    Transition::Cloexec { life, .. } if need == Need::Entry => Some(*life),
                    _ => None,
                });
                first.filter(|_| self.step).map(|l| (l, Why::Stepped))
            });
            if let Some((life, why)) = why {
                if need != Need::Entry
                    && let (Some(at), EventKind::Call(call)) = (self.locate(task)?, &mut event.kind)
                {
                    call.site = self.sites.site(&at, None);
                }
                let EventKind::Call(call) = &event.kind else { return Ok(Some(go)) };
                let (call, made) = (call.clone(), call.clone());
                let pid = self.pid_of(tid);
                let can_keep = skipped_result(row, raw).is_some();
                decision = self.show(
                    move |world, number| {
                        let life = world.life(life);
                        Break {
                            call: Some(call),
                            life: life.map(|l| l.id),
                            fd: life.map(|l| l.fd),
                            object: life.and_then(|l| object(world, l)),
                            can_keep,
                            ..Break::at(number, tid, pid, why)
                        }
                    },
                    frontend,
                )?;
                if let (Some(ns), false) = (decision.delay, is_last_word(decision)) {
                    let decided = Decided {
                        decision: Some(Decision { delay: None, ..decision }),
                        instead: None,
                        life: Some(life),
                    };
                    return self.delay(task, &made, ns, decided, frontend).map(Some);
                }
                if self.alter_as_decided(task, &made, (row, raw), decision, Some(life), frontend)? {
                    return Ok(Some(decision));
                }
            }
        }
        if decision.then == Then::Finish
            && need == Need::Entry
            && let EventKind::Call(call) = &event.kind
        {
            self.finish_call = Some(call.clone());
        }
        if need != Need::Entry {
            // Shown before, committed after: the result is not known yet. Whoever leaves does not wait for it.
            return Ok(is_last_word(decision).then_some(decision));
        }
        let to_hold = self.will_hold_back(task, row, raw).filter(|_| !is_last_word(decision));
        if let EventKind::Call(call) = &event.kind {
            self.flights.enter(&self.world, tid, &call.effects, true, event.at);
        }
        let unmarked = self.stops_unmarked(tid);
        if let Some(state) = self.tasks.get_mut(&tid) {
            state.vain = 0;
            state.early = ends.or(marks).filter(|_| unmarked);
        }
        if let (Some(_), EventKind::Call(call)) = (to_hold, &event.kind) {
            let fds = to_hold.into_iter().collect();
            self.tell_done(tid, &call.clone(), Alteration::Quarantine, fds, frontend);
        }
        let first = self.commit(&event, transitions, frontend);
        self.settle(tid, frontend);
        if is_last_word(decision) {
            return Ok(Some(decision));
        }
        let decision = self.show_findings(first, &event, frontend)?.unwrap_or(decision);
        if let (Some(fd), false) = (to_hold, is_last_word(decision)) {
            self.hold_back(task, fd)?;
        }
        Ok(Some(decision))
    }

    /// Whether a close of `fd`, or another call on it, is nobody's mistake, though `fd` is not open.
    fn is_dull(&self, tid: Tid, fd: Fd, closes: bool) -> bool {
        match self.world.window(tid) {
            Some(_) if closes => !self.world.opened_here(tid, fd),
            _ => !self.world.ever_lived(tid, fd),
        }
    }

    /// Whether a call on a number next to `fd` would look like a mistake. A loop that comes to `fd` comes to that number
    /// next, and must be known for a loop by then: it may be the last that it comes to.
    fn is_beside_a_mistake(&self, tid: Tid, fd: Fd, closes: bool) -> bool {
        let beside = [fd.0.checked_sub(1), fd.0.checked_add(1)];
        let mut beside = beside.into_iter().flatten().filter(|_| fd.0 >= 0).map(Fd);
        beside.any(|fd| !self.is_dull(tid, fd, closes) && self.world.open_life(tid, fd).is_none())
    }

    /// A call on a number that never was open: tells so while it may be news that it is a step of a loop. A child closes so
    /// what it got; and of any other task a call before was refused, which may have been the loop's first step, or one that
    /// is refused may follow.
    fn tell_vain(
        &mut self,
        task: &Stopped,
        info: CallInfo,
        fd: Fd,
        ends: Option<Fd>,
        frontend: &mut dyn Frontend,
    ) -> Result<Option<Decision>, Error> {
        let tid = task.tid();
        let in_child = ends.is_some() && self.world.window(tid).is_some();
        let beside = self.is_beside_a_mistake(tid, fd, ends.is_some());
        let is_news = |s: &&mut TaskState| beside || if in_child { s.vain < SWEEP } else { s.doubtful > 0 };
        let Some(state) = self.tasks.get_mut(&tid).filter(is_news) else { return Ok(None) };
        state.vain += 1;
        let Some(at) = self.locate(task)? else { return Ok(None) };
        let site = self.sites.site(&at, None);
        let call = Call { info, effects: vec![Effect::Vain { fd }], site };
        let event = Event { at: self.now(), tid, kind: EventKind::Call(call) };
        let first = self.commit(&event, Vec::new(), frontend);
        self.show_findings(first, &event, frontend)
    }

    /// Whether a call whose entry is all that is looked at will be carried out: `fd` is open, and not only with O_PATH,
    /// which ioctl(2) refuses as if it were not.
    fn will_succeed(&self, tid: Tid, fd: Fd, row: &Row) -> bool {
        let Some(life) = self.world.open_life(tid, fd) else { return false };
        let flags = self.world.file(life.file).map_or(0, |f| f.file.flags);
        row.name != "ioctl" || flags & libc::O_PATH as u32 == 0
    }

    /// A call has been made.
    pub(super) fn on_exit(&mut self, task: Stopped, frontend: &mut dyn Frontend) -> Result<(), Error> {
        let tid = task.tid();
        let Some(raw) = self.tasks.get_mut(&tid).and_then(|s| s.pending.take()) else {
            return match self.show_result(&task, frontend)? {
                Some(decision) => self.leave_call_with(task, decision),
                None => self.leave_call(task),
            };
        };
        let row = self.table.row(&raw);
        if let Some(row) = row
            && self.gives_back(&task, row, &raw)?
        {
            self.flights.lost(&self.world, tid);
            return self.tracer.resume(task, Resume::ToExit);
        }
        let regs = task.registers()?;
        let told = match regs {
            Some(regs) => self.made(&task, raw, regs, frontend)?,
            None => Told::Lost,
        };
        let decision = match told {
            Told::All(decision) => decision,
            Told::Lost => {
                // Killed at this very stop, by another thread's exec perhaps: what the call did is not told.
                self.flights.lost(&self.world, tid);
                self.is_no_maker(tid);
                return self.tracer.resume(task, Resume::Go);
            }
        };
        self.flights.leave(tid);
        self.is_no_maker(tid);
        if self.is_supervised(tid)
            && let Some(fd) = regs.map(|r| r.rax as i32).filter(|fd| *fd >= 0)
        {
            self.verify(tid, Fd(fd), frontend);
        }
        self.settle(tid, frontend);
        match decision {
            Some(decision) => self.leave_call_with(task, decision),
            None => self.leave_call(task),
        }
    }

    /// Commits what a call did that has been made.
    fn made(&mut self, task: &Stopped, raw: RawCall, regs: Regs, frontend: &mut dyn Frontend) -> Result<Told, Error> {
        let tid = task.tid();
        let ret = match raw.arch {
            Arch::I386 => i64::from(regs.rax as i32),
            _ => regs.rax as i64,
        };
        let row = self.delivery(tid, &raw).or_else(|| self.table.row(&raw)).or_else(|| delivery(&raw));
        let (Some(row), false) = (row, RESTARTS.contains(&ret)) else {
            return Ok(Told::All(None));
        };
        // A filter of the target's own may have answered with SIGSYS (SECCOMP_RET_TRAP): the call was not made, and its number
        // stands where the result would (kernel/seccomp.c, syscall_rollback).
        if ret == i64::from(raw.nr) && self.stops_unmarked(tid) && task.has_pending(libc::SIGSYS) {
            return Ok(Told::All(None));
        }
        let memory = task.memory();
        let seen = self.as_the_program_sees(tid, &memory);
        let made = Made { call: raw, ret: Some(ret), task: &seen };
        let mut effects = (row.decode)(&made);
        for _ in 0..TRIES {
            if !self.may_be_torn(tid, &effects) {
                break;
            }
            let again = (row.decode)(&made);
            if again == effects {
                break;
            }
            effects = again;
        }
        // What was read of a task that is gone by now may be half of it.
        if self.world.shares_table(tid) && task.registers()?.is_none() {
            return Ok(Told::Lost);
        }
        let answered_by_another = self.is_supervised(tid) && !self.world.shares_table(tid);
        effects.retain_mut(|e| match e {
            Effect::Refused { fd, .. } if self.world.ever_lived(tid, *fd) => true,
            // In a table that others share the closes come here that are told at their entry otherwise.
            Effect::Refused { fd, to: None, close } => {
                let (fd, told) = (*fd, self.is_beside_a_mistake(tid, *fd, *close));
                *e = Effect::Vain { fd };
                told
            }
            Effect::Refused { .. } => false,
            Effect::Open { fd, .. } | Effect::Alias { to: fd, .. } | Effect::Receive { fd, .. } => {
                !answered_by_another || memory.link(*fd).is_some()
            }
            _ => true,
        });
        if effects.is_empty() {
            match in_the_way(row, &made) {
                Some(InTheWay::Tracing { by_parent }) => {
                    self.limits.refused_tracing += 1;
                    if let Some(state) = self.tasks.get_mut(&tid) {
                        state.untraced = by_parent;
                    }
                }
                Some(InTheWay::StrictMode) if !self.limits.all_calls => self.limits.refused_strict += 1,
                _ => {}
            }
            return Ok(Told::All(None));
        }
        for effect in &mut effects {
            if let (Effect::NotExecuted { since, .. }, Some(state)) = (effect, self.tasks.get(&tid)) {
                *since = state.entered_at;
            }
        }
        self.find_writers(&mut effects);
        self.find_senders(tid, &mut effects);
        // That asked the kernel about its descriptors once more.
        let received = effects.iter().any(|e| matches!(e, Effect::Receive { .. }));
        if received && self.world.shares_table(tid) && task.registers()?.is_none() {
            return Ok(Told::Lost);
        }
        let now = self.now();
        // A copy of a shared table is as exact as what is known of the table.
        let copied = (effects.contains(&Effect::Unshare) && self.flights.has_rivals(&self.world, tid))
            .then(|| self.flights.snapshot(&self.world, tid));
        self.make_room(tid, &effects, frontend);
        self.flights.committed(&self.world, tid, &effects, now);
        self.flights.leave(tid);
        let ends = effects.iter().find_map(|e| match e {
            Effect::Close { fd } => Some(*fd),
            Effect::Alias { to, .. } => self.world.open_life(tid, *to).map(|l| l.fd),
            _ => None,
        });
        let site = self.where_with(tid, regs, task).map(|at| self.sites.site(&at, ends)).unwrap_or_default();
        let info = CallInfo { name: row.name, args: raw.args, ret: Some(ret) };
        let event = Event { at: self.now(), tid, kind: EventKind::Call(Call { info, effects, site }) };
        let transitions = self.world.consequences(&event);
        let table = self.world.task(tid).map(|t| t.table);
        let changes = !transitions.is_empty();
        let first = self.commit(&event, transitions, frontend);
        if let EventKind::Call(call) = &event.kind {
            self.quarantine_follows(tid, table, &call.effects);
        }
        if let Some(doubt) = copied {
            self.reconcile(tid, &doubt, Because::Copied, frontend);
        }
        if let EventKind::Call(call) = &event.kind {
            self.claim(tid, &call.effects, frontend);
            self.await_senders(tid, &call.effects);
        }
        let mut decision = self.show_findings(first, &event, frontend)?;
        if decision.is_none() {
            let caught = if frontend.wants_breaks() { self.caught_after(&event) } else { None };
            decision = match caught {
                Some((fd, by)) => Some(self.show_number(&event, fd, Why::Caught { by, also: None }, frontend)?),
                None if self.finishing == Some(tid) => Some(self.show_event(&event, Why::Finished, None, frontend)?),
                None if self.step && changes => Some(self.show_event(&event, Why::Stepped, None, frontend)?),
                None => None,
            };
        }
        Ok(Told::All(decision))
    }

    /// What fills a number found it empty: if it is open by what has been told, somebody who was in a call at the same time
    /// has emptied it, or it is this very descriptor, which the kernel had shown already.
    fn make_room(&mut self, tid: Tid, effects: &[Effect], frontend: &mut dyn Frontend) {
        let filled = effects.iter().filter_map(|e| match e {
            Effect::Open { fd, .. } | Effect::Receive { fd, .. } => Some(*fd),
            _ => None,
        });
        let since = self.flights.since(tid);
        let emptied = filled.filter(|fd| {
            self.world.open_life(tid, *fd).is_some_and(|life| {
                since.is_some_and(|at| life.began.at >= at) || self.flights.may_have_emptied(tid, *fd)
            })
        });
        let corrections: Vec<Correction> = emptied.map(|fd| Correction::Vanished { fd }).collect();
        if !corrections.is_empty() {
            self.tell(tid, EventKind::Reconciled { raced: true, corrections }, frontend);
        }
    }

    /// Breaks on the first finding since `first` that the policy wants shown.
    pub(super) fn show_findings(
        &mut self,
        first: usize,
        event: &Event,
        frontend: &mut dyn Frontend,
    ) -> Result<Option<Decision>, Error> {
        if !frontend.wants_breaks() {
            return Ok(None);
        }
        if let Some((finding, why)) = self.caught_finding(first, event) {
            return self.show_event(event, why, Some(finding), frontend).map(Some);
        }
        let new = self.news(first);
        let Some(finding) = self.policy.after(&new).cloned() else { return Ok(None) };
        let why = Why::Found(finding.name);
        self.show_event(event, why, Some(finding), frontend).map(Some)
    }

    /// A break after a call that concerned `fd`.
    fn show_number(&mut self, event: &Event, fd: Fd, why: Why, frontend: &mut dyn Frontend) -> Result<Decision, Error> {
        let (tid, pid) = (event.tid, self.pid_of(event.tid));
        let call = event.kind.call().cloned();
        let shown = self.world.open_life(tid, fd).and_then(|l| object(&self.world, l));
        self.show(
            move |_, number| Break { call, fd: Some(fd), object: shown, ..Break::at(number, tid, pid, why) },
            frontend,
        )
    }

    /// Breaks at the making of a process or the execution of a program, if something was found there or that is to be
    /// caught.
    pub(super) fn show_process(
        &mut self,
        first: usize,
        event: &Event,
        frontend: &mut dyn Frontend,
    ) -> Result<Option<Decision>, Error> {
        if let Some(decision) = self.show_findings(first, event, frontend)? {
            return Ok(Some(decision));
        }
        if !frontend.wants_breaks() {
            return Ok(None);
        }
        let Some(why) = self.caught_of_process(event) else { return Ok(None) };
        self.show_event(event, why, None, frontend).map(Some)
    }

    /// The call at which the prompt was has returned.
    pub(super) fn show_result(
        &mut self,
        task: &Stopped,
        frontend: &mut dyn Frontend,
    ) -> Result<Option<Decision>, Error> {
        let tid = task.tid();
        if self.finishing != Some(tid) {
            return Ok(None);
        }
        let Some(mut call) = self.finish_call.take() else { return Ok(None) };
        let Some(regs) = task.registers()? else { return Ok(None) };
        call.info.ret = Some(if regs.is_32bit() { i64::from(regs.rax as i32) } else { regs.rax as i64 });
        let event = Event { at: self.now(), tid, kind: EventKind::Call(call) };
        self.show_event(&event, Why::Finished, None, frontend).map(Some)
    }

    fn show_event(
        &mut self,
        event: &Event,
        why: Why,
        finding: Option<crate::finding::Finding>,
        frontend: &mut dyn Frontend,
    ) -> Result<Decision, Error> {
        let tid = event.tid;
        let pid = self.pid_of(tid);
        let call = event.kind.call().cloned();
        let fd = finding.as_ref().map(|f| f.fd);
        let shown = finding.as_ref().map(|f| f.object.clone());
        let made = match &event.kind {
            EventKind::Fork(fork) => Some(fork.child_pid),
            _ => None,
        };
        self.show(
            move |_, number| Break { call, fd, object: shown, finding, made, ..Break::at(number, tid, pid, why) },
            frontend,
        )
    }

    /// Lets a task go on as was decided.
    pub(super) fn carry_out(&mut self, task: Stopped, decision: Decision) -> Result<(), Error> {
        if decision.then == Then::Detach && self.limits.all_calls {
            return self.tracer.detach_all(Some(task));
        }
        let how = match decision.then {
            Then::Signal(sig) => {
                let withheld = self.withheld.take();
                // What one Ctrl-C sends to all of them is for all of them.
                self.deliver_echoes = withheld.is_some() && (sig.is_none() || sig == withheld);
                sig.or(withheld).map_or(Resume::Go, Resume::Deliver)
            }
            _ if self.tasks.get(&task.tid()).is_some_and(|s| s.has_errand() || s.late.is_some()) => Resume::ToExit,
            // Its exit is of no interest otherwise.
            Then::Finish if self.finish_call.is_some() => Resume::ToExit,
            _ => Resume::Go,
        };
        let after = decision.delay.filter(|_| !is_last_word(decision)).map(Duration::from_nanos);
        let again = self.tasks.get(&task.tid()).is_some_and(|s| s.decided.is_some());
        match after {
            Some(after) if again => self.tracer.report_again(task, Stop::Seccomp, after),
            Some(after) => self.tracer.resume_later(task, how, after),
            None => self.tracer.resume(task, how)?,
        }
        Ok(())
    }

    pub(super) fn locate(&self, task: &Stopped) -> Result<Option<Where>, Error> {
        let Some(regs) = task.registers()? else { return Ok(None) };
        Ok(self.where_with(task.tid(), regs, task))
    }

    pub(super) fn where_with(&self, tid: Tid, regs: Regs, task: &Stopped) -> Option<Where> {
        let state = self.tasks.get(&tid)?;
        Some(Where { pid: self.pid_of(tid), tid, space: state.space, regs, memory: task.memory() })
    }

    /// A signal is about to be delivered. Every one is passed on, but for an interrupt that the user means for us.
    pub(super) fn on_signal(&mut self, task: Stopped, sig: i32, frontend: &mut dyn Frontend) -> Result<(), Error> {
        let tid = task.tid();
        let pid = self.pid_of(tid);
        // That of an attached target's terminal is the target's; ours comes as a request.
        let ours = self.attached.is_none() && frontend.takes_interrupts();
        if sig == KNOCK && task.signal_is_passed_on() {
            // Somebody knocked at fdwatch, which stopped the target (kernel::knock).
            return match self.attached.is_none() && frontend.wants_breaks() {
                true => self.interrupted(task, None, frontend),
                false => self.tracer.resume(task, Resume::Go),
            };
        }
        if sig == libc::SIGINT && ours && task.signal_is_from_kernel() {
            if let Some(i) = self.echoes.iter().position(|p| *p == pid) {
                self.echoes.swap_remove(i);
                let how = if self.deliver_echoes { Resume::Deliver(sig) } else { Resume::Go };
                return self.tracer.resume(task, how);
            }
            self.tracer.hold()?;
            // One Ctrl-C goes to every process of the foreground group.
            let others: Vec<Pid> =
                self.world.processes().filter(|(p, s)| *p != pid && s.tasks > 0).map(|p| p.0).collect();
            self.echoes = others.into_iter().filter(|p| self.tracer.will_report(*p, sig)).collect();
            return self.interrupted(task, Some(sig), frontend);
        }
        // Who asks to be traced stops itself so that its tracer can begin. There is none: it would stand there for ever, and so
        // would who waits for it, as gdb does without looking whether the request was granted.
        let asked = self.tasks.get_mut(&tid).filter(|s| sig == libc::SIGSTOP && s.untraced);
        if let Some(state) = asked
            && task.signal_is_from_itself(pid)
        {
            state.untraced = false;
            return self.tracer.resume(task, Resume::Go);
        }
        if self.attached.is_none() && matches!(sig, libc::SIGTERM | libc::SIGHUP) {
            // What is sent to the whole process group (as timeout(1) does) reaches the target by itself and by way of us.
            let now = self.now();
            if task.signal_is_passed_on() {
                let direct = self.requests.get(&(pid, sig)).is_some_and(|at| now.saturating_sub(*at) < SAME_REQUEST);
                if direct {
                    return self.tracer.resume(task, Resume::Go);
                }
            } else {
                self.requests.insert((pid, sig), now);
            }
        }
        self.tracer.resume(task, Resume::Deliver(sig))
    }

    /// A break because the user wants one, wherever the target is; of what asked for it, `withheld` is kept from the task.
    fn interrupted(&mut self, task: Stopped, withheld: Option<i32>, frontend: &mut dyn Frontend) -> Result<(), Error> {
        // What was withheld before is over.
        self.withheld = withheld;
        self.deliver_echoes = false;
        let tid = task.tid();
        let pid = self.pid_of(tid);
        let make = move |_: &World, number| Break::at(number, tid, pid, Why::Interrupted);
        self.ignore = 0;
        let decision = self.show(make, frontend)?;
        self.carry_out(task, decision)
    }

    /// Job control has stopped the task.
    pub(super) fn on_group_stop(&mut self, task: Stopped, sig: i32, frontend: &mut dyn Frontend) -> Result<(), Error> {
        let tid = task.tid();
        self.tracer.resume(task, Resume::Listen)?;
        if tid == self.main {
            frontend.on_suspended(sig, &self.world);
        }
        Ok(())
    }
}

/// Whether nothing is to be asked any more.
fn is_last_word(decision: Decision) -> bool {
    matches!(decision.then, Then::Kill | Then::Detach | Then::Rewind(_))
}

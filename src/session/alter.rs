//! Calls that are altered: they wait, or are not made and the program is told something else; and how that is told.

use super::frontend::{Decision, Frontend};
use super::{Decided, Session};
use crate::base::{Fd, LifeId, RawCall, ReadMemory, Tid};
use crate::event::{Alteration, Call, CallInfo, Effect, Event, EventKind, Site};
use crate::kernel::{Error, Resume, Stopped, procfs};
use crate::model::Transition;
use crate::policy::inject::{How, Injection, Instead};
use crate::syscall::{Need, Row, by_name};
use std::time::Duration;

impl Session {
    /// Alters the call as was asked for on the command line: how the task goes on, if that is all there is to it now; `None`
    /// in it if nothing could be brought about because the task is gone; `None` if it is none of those.
    pub(super) fn inject(
        &mut self,
        task: &Stopped,
        (row, need): (&'static Row, Need),
        raw: &RawCall,
        (event, transitions): (&mut Event, &[Transition]),
        frontend: &mut dyn Frontend,
    ) -> Result<Option<Option<Decision>>, Error> {
        if need != Need::Entry
            && self.policy.injections.iter().any(Injection::needs_stack)
            && let (Some(at), EventKind::Call(call)) = (self.locate(task)?, &mut event.kind)
        {
            call.site = self.sites.site(&at, None);
        }
        let Some((life, how)) = self.injected(event, transitions) else { return Ok(None) };
        let EventKind::Call(call) = &event.kind else { return Ok(None) };
        let (call, How { delay, delay_result, instead }) = (call.clone(), how);
        self.tell_late(task, &call, delay_result, Some(life), frontend)?;
        if let Some(ns) = delay {
            let decided = Decided { decision: None, instead, life: Some(life) };
            return self.delay(task, &call, ns, decided, frontend).map(|d| Some(Some(d)));
        }
        let Some(instead) = instead else { return Ok(None) };
        let altered = self.alter(task, &call, told_instead(instead, row, raw), Some(life), frontend)?;
        Ok(Some(altered.then_some(Decision::default())))
    }

    /// The same of a call that is about to make a descriptor: `None` if it is to be made now.
    pub(super) fn inject_maker(
        &mut self,
        task: &Stopped,
        row: &'static Row,
        raw: &RawCall,
        frontend: &mut dyn Frontend,
    ) -> Result<Option<Decision>, Error> {
        let tid = task.tid();
        let fd = row.number(raw.args);
        let mut path = || path_of(task, row, raw.args);
        let all = self.policy.injections.iter_mut().filter_map(|i| i.of_maker(row.name, fd, &mut path));
        let Some(How { delay, delay_result, instead }) = all.reduce(How::or) else { return Ok(None) };
        let info = CallInfo { name: row.name, args: raw.args, ret: None };
        let call = Call { info, effects: Vec::new(), site: Site::default() };
        let life = fd.and_then(|fd| self.world.open_life(tid, fd)).map(|l| l.id);
        self.tell_late(task, &call, delay_result, life, frontend)?;
        if let Some(ns) = delay {
            let decided = Decided { decision: None, instead, life };
            return self.delay(task, &call, ns, decided, frontend).map(Some);
        }
        let Some(instead) = instead else { return Ok(None) };
        let altered = self.alter(task, &call, told_instead(instead, row, raw), life, frontend)?;
        Ok(altered.then(Decision::default))
    }

    /// Keeps a call from being made, if the user wants that. Whether it will not be.
    pub(super) fn alter_as_decided(
        &mut self,
        task: &Stopped,
        call: &Call,
        (row, raw): (&'static Row, &RawCall),
        decision: Decision,
        life: Option<LifeId>,
        frontend: &mut dyn Frontend,
    ) -> Result<bool, Error> {
        let altered = match decision.fail {
            Some(n) => Some((Alteration::Fail(n), -i64::from(n))),
            None if decision.keep => skipped_result(row, raw).map(|result| (Alteration::Keep, result)),
            None => None,
        };
        match altered {
            Some(altered) => self.alter(task, call, altered, life, frontend),
            None => Ok(false),
        }
    }

    /// Lets a call that is about to be made wait: its entry is looked at once more when the time is over, so that nothing is
    /// told before it happens.
    pub(super) fn delay(
        &mut self,
        task: &Stopped,
        call: &Call,
        ns: u64,
        decided: Decided,
        frontend: &mut dyn Frontend,
    ) -> Result<Decision, Error> {
        self.tell_altered(task, call, Alteration::Delay(ns), decided.life, frontend)?;
        if let Some(state) = self.tasks.get_mut(&task.tid()) {
            state.decided = Some(decided);
        }
        Ok(Decision { delay: Some(ns), ..Decision::default() })
    }

    /// Lets the result of a call that is about to be made be told later, if that is wanted.
    fn tell_late(
        &mut self,
        task: &Stopped,
        call: &Call,
        ns: Option<u64>,
        life: Option<LifeId>,
        frontend: &mut dyn Frontend,
    ) -> Result<(), Error> {
        let Some(ns) = ns else { return Ok(()) };
        if let Some(state) = self.tasks.get_mut(&task.tid()) {
            state.late = Some(ns);
        }
        self.tell_altered(task, call, Alteration::DelayResult(ns), life, frontend)
    }

    /// Lets a task go on from the exit of a call of its own, now or when its result is to be told.
    pub(super) fn leave_call(&mut self, task: Stopped) -> Result<(), Error> {
        match self.tasks.get_mut(&task.tid()).and_then(|s| s.late.take()) {
            Some(ns) => self.tracer.resume_later(task, Resume::Go, Duration::from_nanos(ns)),
            None => self.tracer.resume(task, Resume::Go)?,
        }
        Ok(())
    }

    /// The same where something was decided.
    pub(super) fn leave_call_with(&mut self, task: Stopped, decision: Decision) -> Result<(), Error> {
        let late = self.tasks.get_mut(&task.tid()).and_then(|s| s.late.take());
        self.carry_out(task, Decision { delay: decision.delay.or(late), ..decision })
    }

    /// Keeps a call from being made, and has the program told `result`. False if the task is gone.
    pub(super) fn alter(
        &mut self,
        task: &Stopped,
        call: &Call,
        (how, result): (Alteration, i64),
        life: Option<LifeId>,
        frontend: &mut dyn Frontend,
    ) -> Result<bool, Error> {
        if !task.skip_call(result)? {
            return Ok(false);
        }
        self.tell_altered(task, call, how, life, frontend)?;
        Ok(true)
    }

    /// Tells what was done to a call that is about the number of `life`, if it is about one.
    fn tell_altered(
        &mut self,
        task: &Stopped,
        call: &Call,
        how: Alteration,
        life: Option<LifeId>,
        frontend: &mut dyn Frontend,
    ) -> Result<(), Error> {
        let mut call = call.clone();
        if call.site == Site::default()
            && let Some(at) = self.locate(task)?
        {
            call.site = self.sites.site(&at, None);
        }
        let fds = life.and_then(|life| self.world.life(life)).map(|l| l.fd).into_iter().collect();
        let path = by_name(call.info.name).and_then(|row| path_of(task, row, call.info.args)).unwrap_or_default();
        let effects = vec![Effect::Altered { how, fds, path }];
        self.tell_effects(task.tid(), Call { effects, ..call }, frontend);
        Ok(())
    }

    /// The same of a call whose place is known, by its numbers.
    pub(super) fn tell_done(
        &mut self,
        tid: Tid,
        call: &Call,
        how: Alteration,
        fds: Vec<Fd>,
        frontend: &mut dyn Frontend,
    ) {
        let effects = vec![Effect::Altered { how, fds, path: Vec::new() }];
        self.tell_effects(tid, Call { effects, ..call.clone() }, frontend);
    }

    fn tell_effects(&mut self, tid: Tid, call: Call, frontend: &mut dyn Frontend) {
        let kind = EventKind::Call(call);
        let event = Event { at: self.now(), tid, kind };
        let transitions = self.world.consequences(&event);
        self.commit(&event, transitions, frontend);
    }
}

/// The path that a call names which a task is about to make: absolute, as text.
fn path_of(task: &Stopped, row: &Row, args: [u64; 6]) -> Option<Vec<u8>> {
    let (text, folder) = row.path(args)?;
    let path = task.memory().c_string(text, libc::PATH_MAX as usize)?;
    let folder = match folder {
        _ if path.starts_with(b"/") => return Some(path),
        Some(folder) => procfs::link(task.tid(), folder)?,
        None => procfs::cwd(task.tid())?,
    };
    Some([folder.strip_suffix(b"/").unwrap_or(&folder), b"/", &path].concat())
}

/// What a call that is kept from happening returns; `None` where that makes no sense.
pub(super) fn skipped_result(row: &Row, raw: &RawCall) -> Option<i64> {
    match row.name {
        "close" | "close_range" => Some(0),
        // dup2 says that it has done what it was asked for.
        "dup2" | "dup3" => raw.args.get(1).map(|to| i64::from(*to as i32)),
        _ => None,
    }
}

/// How a call is altered that is not made, and its result.
pub(super) fn told_instead(instead: Instead, row: &Row, raw: &RawCall) -> (Alteration, i64) {
    match instead {
        Instead::Keep => (Alteration::Keep, skipped_result(row, raw).unwrap_or(0)),
        Instead::Error(n) => (Alteration::Fail(n), -i64::from(n)),
        Instead::Value(n) => (Alteration::Return(n), n),
    }
}

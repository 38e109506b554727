//! The wait loop, and tasks as values that can be resumed once.

use super::error::{Error, unless_gone};
use super::order::Order;
use super::park::{Later, Park};
use super::place::Placement;
use super::requests::{Request, Requests};
use super::stop::{ForkKind, RawStatus, Stop};
use super::sys::{self, CallStop};
use super::{Memory, procfs};
use crate::base::{Pid, RawCall, Regs, Tid};
use libc::c_int;
use nix::errno::Errno;
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Instant;

/// PTRACE_O_EXITKILL: a target that is stopped when fdwatch dies would stay so for ever.
///
/// Without a filter of ours PTRACE_O_TRACESECCOMP is left out: the kernel then answers ENOSYS to what a filter of the
/// target's own wants traced, as it would without us.
pub(super) fn options(seccomp: bool) -> c_int {
    if seccomp { OPTIONS } else { OPTIONS & !libc::PTRACE_O_TRACESECCOMP }
}

const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACEVFORKDONE
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_EXITKILL;

/// For a target that is not ours: it is to outlive us. Who makes use of seccomp's SECCOMP_RET_TRACE there gets ENOSYS, as
/// without us (no PTRACE_O_TRACESECCOMP).
pub(super) const OPTIONS_ATTACHED: c_int = OPTIONS & !(libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESECCOMP);

/// How long a look at the tasks that are to stop lasts until the next.
const HOLD_STEP: std::time::Duration = std::time::Duration::from_micros(200);

/// Uninterruptible sleeps that last longer are not waited for.
const SHORT_SLEEP: std::time::Duration = std::time::Duration::from_millis(300);

/// How a task goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resume {
    /// To its next stop of interest.
    Go,
    /// To the exit of the call that it is entering.
    ToExit,
    /// To its next stop of interest, with this signal delivered.
    Deliver(i32),
    /// It stays in its group-stop until somebody ends that (PTRACE_LISTEN).
    Listen,
}

/// A task that is in a ptrace-stop and that nobody else can resume.
#[derive(Debug)]
#[must_use = "a stopped task stays stopped until it is resumed"]
pub struct Stopped {
    tid: Tid,
    /// A request was answered as if the task were gone.
    denied: Cell<bool>,
    /// What PTRACE_GETEVENTMSG said at this stop, if it was asked.
    message: Cell<Option<u64>>,
}

impl Stopped {
    fn new(tid: i32) -> Stopped {
        Stopped { tid: Tid(tid), denied: Cell::new(false), message: Cell::new(None) }
    }

    /// Which task.
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// Its memory and descriptors.
    pub fn memory(&self) -> Memory {
        Memory(self.tid)
    }

    pub(super) fn ask<T>(&self, request: &'static str, answer: Result<T, Errno>) -> Result<Option<T>, Error> {
        let answer = unless_gone(request, self.tid.0, answer)?;
        if answer.is_none() {
            self.denied.set(true);
        }
        Ok(answer)
    }

    /// Its registers; `None` when it is gone.
    pub fn registers(&self) -> Result<Option<Regs>, Error> {
        self.ask("GETREGS", sys::registers(self.tid.0))
    }

    /// The call that it is entering, or the result of the one that it is leaving; `None` when it is gone or at neither.
    pub fn call(&self) -> Result<Option<Entering>, Error> {
        Ok(match self.ask("GET_SYSCALL_INFO", sys::call_stop(self.tid.0))? {
            Some(CallStop::Entry(call)) => Some(Entering::Entry(call)),
            Some(CallStop::Exit(ret)) => Some(Entering::Exit(ret)),
            Some(CallStop::Foreign) => Some(Entering::Foreign),
            Some(CallStop::None) | None => None,
        })
    }

    /// PTRACE_GETEVENTMSG: the new task at a fork event, the former tid at an exec event.
    pub fn message(&self) -> Result<Option<u64>, Error> {
        if self.message.get().is_none() {
            self.message.set(self.ask("GETEVENTMSG", sys::event_message(self.tid.0))?);
        }
        Ok(self.message.get())
    }

    /// Whether the signal that it is about to get was sent by the kernel, as a terminal's Ctrl-C is (si_code SI_KERNEL,
    /// sigaction(2)).
    pub fn signal_is_from_kernel(&self) -> bool {
        const SI_KERNEL: i32 = 0x80;
        sys::signal_code(self.tid.0) == Ok(SI_KERNEL)
    }

    /// Whether the signal that it is about to get is one that fdwatch got and passed on.
    pub fn signal_is_passed_on(&self) -> bool {
        sys::signal_sender(self.tid.0) == i32::try_from(std::process::id()).ok()
    }

    /// Whether this signal has been sent to it alone and waits (proc_pid_status(5), SigPnd).
    pub fn has_pending(&self, sig: i32) -> bool {
        procfs::has_signal(self.tid, "SigPnd", sig)
    }

    /// Whether the signal that it is about to get was sent by its own process `pid`: `si_pid` is the sender's number in the
    /// receiver's pid namespace (pid_namespaces(7)).
    pub fn signal_is_from_itself(&self, pid: Pid) -> bool {
        let sender = sys::signal_sender(self.tid.0);
        sender == Some(pid.0) || sender.is_some() && sender == procfs::inner_pid(self.tid)
    }

    /// Makes the call that it is entering not happen and return `result`; false when it is gone.
    pub fn skip_call(&self, result: i64) -> Result<bool, Error> {
        Ok(self.ask("POKEUSER", sys::skip_call(self.tid.0, result))?.is_some())
    }
}

/// Which side of a call a task is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entering {
    /// About to make it.
    Entry(RawCall),
    /// It returned this.
    Exit(i64),
    /// About to make one that a filter of the target's own shows to a tracer of its own (SECCOMP_RET_TRACE). There is
    /// none: the call must fail with ENOSYS, as it would without us (seccomp(2)).
    Foreign,
}

/// What the kernel reports next.
#[derive(Debug)]
pub enum Next {
    /// A task stopped.
    Stopped(Stopped, Stop),
    /// A task is gone.
    Gone(Tid, Stop),
    /// A task is traced whose maker ended before it could announce it. It goes on by itself.
    Adopted(Tid),
    /// A task that could not be stopped when its process was attached to has been reached: what it did to its table
    /// meanwhile was not seen. It goes on by itself, and what it is at is reported next.
    Reached(Tid),
    /// Somebody wants watching to end. Nothing has stopped because of it.
    Asked(Request),
    /// No task is left.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Run {
    /// Running, or told to.
    Running,
    /// In a ptrace-stop.
    Stopped,
    /// In a group-stop that it is left in.
    Listening,
    /// Gone, which has yet to be told.
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Task {
    run: Run,
    /// Resumed with [`Resume::ToExit`]: an interrupt in between must not lose the exit stop.
    to_exit: bool,
    /// A request at its last stop was answered as if it were gone. If its next report is not its end, it was not.
    denied: bool,
}

impl Task {
    fn new(run: Run) -> Task {
        Task { run, to_exit: false, denied: false }
    }
}

/// Every task of the target, and the waiting for them. Bound to its thread, as ptrace is.
pub struct Tracer {
    tasks: FxHashMap<i32, Task>,
    /// The process that was started, until it has ended: a child of ours, traced or left.
    started: Option<i32>,
    order: Order,
    queue: VecDeque<(i32, RawStatus)>,
    /// Tasks that were attached to and have not been stopped since.
    unreached: FxHashSet<i32>,
    /// A task whose stop was looked at and not waited for, see [`Tracer::report`].
    peeked: Option<i32>,
    /// For how many reports nobody is asked in turn, and who had the last turn.
    unasked: usize,
    turn: i32,
    /// What may interrupt the wait; `None` where signals have another use.
    requests: Option<Requests>,
    all_calls: bool,
    /// Tasks that stop at every call, whether the filter marks it or not.
    every_call: FxHashSet<i32>,
    /// A task has ended: somebody may wait to be announced by it.
    bereaved: bool,
    /// Nothing is traced any more: whoever still reports is left, too.
    leaving: bool,
    executed: bool,
    unknown: u64,
    /// How many tasks were said to be gone that were not.
    unanswered: u64,
    /// Processes that may have made a task without our being told.
    reticent: FxHashSet<i32>,
    /// Children of a thread that was killed, by another thread's exec, before it could announce them.
    unannounced: FxHashSet<i32>,
    /// Tasks that were found in a long uninterruptible sleep, and have not reported since: none of them is waited for again.
    sleepers: FxHashSet<i32>,
    placement: Placement,
    park: Park,
    /// ptrace requests are valid only from the thread that seized.
    _bound: std::marker::PhantomData<*const ()>,
}

impl Tracer {
    pub(super) fn new(first: Tid, all_calls: bool) -> Tracer {
        let mut tracer = Tracer::without_tasks(all_calls, None);
        tracer.add(first.0);
        tracer.started = Some(first.0);
        tracer
    }

    /// A tracer that traces nobody yet.
    pub(super) fn without_tasks(all_calls: bool, requests: Option<Requests>) -> Tracer {
        Tracer {
            tasks: FxHashMap::default(),
            started: None,
            order: Order::default(),
            queue: VecDeque::new(),
            unreached: FxHashSet::default(),
            peeked: None,
            unasked: 0,
            turn: 0,
            requests,
            all_calls,
            every_call: FxHashSet::default(),
            bereaved: false,
            leaving: false,
            executed: false,
            unknown: 0,
            unanswered: 0,
            reticent: FxHashSet::default(),
            unannounced: FxHashSet::default(),
            sleepers: FxHashSet::default(),
            placement: Placement::default(),
            park: Park::default(),
            _bound: std::marker::PhantomData,
        }
    }

    /// Takes in a task that was seized, and runs.
    pub(super) fn add(&mut self, tid: i32) {
        self.announce(tid);
    }

    /// Whether the task is traced and known.
    pub(super) fn knows(&self, tid: i32) -> bool {
        self.tasks.contains_key(&tid)
    }

    /// Sets the time after which watching is to end by itself, counted from now; for an attached target only.
    pub fn limit(&mut self, time: std::time::Duration) {
        if let Some(requests) = &mut self.requests {
            requests.limit(time);
        }
    }

    /// How many stops were none that ptrace(2) describes.
    pub fn unknown_stops(&self) -> u64 {
        self.unknown
    }

    /// At how many stops the kernel did not answer what it was asked about a task, although that was there.
    pub fn missing_answers(&self) -> u64 {
        self.unanswered
    }

    /// From now on tracer and target may be held on one CPU while that is faster. The target does not see it, provided
    /// that [`Tracer::asks_for_placement`] and [`Tracer::shows_placement`] are told.
    ///
    /// Only for a target that ends with the tracer: it would be left with a mask of ours if that died.
    pub fn co_locate(&mut self) {
        self.placement.enable();
    }

    /// From now on nothing is held on a CPU; what was has its own mask again.
    pub fn leave_placement(&mut self) {
        self.placement.retire();
    }

    /// Nobody is delayed any longer.
    pub fn end_delays(&mut self) {
        self.park.end();
    }

    /// `task` is entering a call that asks where tasks may run, or says so (sched_getaffinity(2)). It must be resumed
    /// with [`Resume::ToExit`]: until its next stop every task has its own mask.
    pub fn asks_for_placement(&mut self, task: &Stopped) {
        self.placement.on_question(task.tid.0);
    }

    /// The target has a file open that shows where tasks may run, or has closed the last of them.
    pub fn shows_placement(&mut self, open: bool) {
        self.placement.on_shown(open);
    }

    /// The tasks that are alive, in ascending order.
    pub fn tids(&self) -> Vec<Tid> {
        let mut tids: Vec<Tid> = self.tasks.keys().copied().map(Tid).collect();
        tids.sort_unstable();
        tids
    }

    /// The registers and the memory of a task that stands still, as all do after [`Tracer::hold`]; `None` where there is
    /// no such task, it is gone, or it is in no ptrace-stop, as in a sleep that nothing interrupts.
    ///
    /// # Errors
    /// If the kernel refuses for another reason.
    pub fn standing(&self, tid: Tid) -> Result<Option<(Regs, Memory)>, Error> {
        if !self.tasks.get(&tid.0).is_some_and(|t| t.run == Run::Stopped) {
            return Ok(None);
        }
        let regs = unless_gone("GETREGS", tid.0, sys::registers(tid.0))?;
        Ok(regs.map(|regs| (regs, Memory(tid))))
    }

    pub(super) fn has_executed(&self) -> bool {
        self.executed
    }

    /// Lets the fresh child run to its first exec event and leaves that as the next to be reported, or until it is gone.
    /// `has_executed` tells otherwise whether the exec was.
    pub(super) fn run_to_exec(&mut self, has_executed: impl Fn() -> bool) -> Result<(), Error> {
        loop {
            match self.next()? {
                // At a call of the program that is there although nobody said so: the call is let go for the word.
                Next::Stopped(s, stop)
                    if stop == Stop::Exec || matches!(stop, Stop::Seccomp | Stop::Syscall) && has_executed() =>
                {
                    self.executed = true;
                    // SIGTRAP with PTRACE_EVENT_EXEC, as it came.
                    let status = libc::PTRACE_EVENT_EXEC << 16 | libc::SIGTRAP << 8 | 0x7f;
                    self.queue.push_front((s.tid.0, RawStatus(status)));
                    return Ok(());
                }
                Next::Stopped(s, Stop::Signal(sig)) => self.resume(s, Resume::Deliver(sig))?,
                Next::Stopped(s, Stop::Group(_)) => self.resume(s, Resume::Listen)?,
                Next::Stopped(s, _) => self.resume(s, Resume::Go)?,
                Next::Adopted(_) | Next::Reached(_) | Next::Asked(_) => {}
                Next::Gone(..) | Next::End => return Ok(()),
            }
        }
    }

    /// Waits for the next report. Blocks while every task runs.
    ///
    /// What concerns only this layer (the first stop of a task, the end of a group-stop, an interrupt) is dealt with
    /// here and not reported.
    #[allow(clippy::should_implement_trait)] // it blocks, and fails
    pub fn next(&mut self) -> Result<Next, Error> {
        loop {
            if std::mem::take(&mut self.bereaved)
                && let Some(orphan) = self.adopt()?
            {
                self.bereaved = true;
                return Ok(Next::Adopted(orphan));
            }
            if let Some(request) = self.requests.as_mut().and_then(Requests::due) {
                return Ok(Next::Asked(request));
            }
            match self.park.take_due() {
                // It was killed meanwhile, or its number is another's by now.
                Some((tid, _)) if self.has_news(tid)? => continue,
                Some((tid, Later::Report(stop))) => {
                    return Ok(Next::Stopped(Stopped::new(tid), stop));
                }
                Some((tid, Later::Resume(how))) => {
                    self.resume(Stopped::new(tid), how)?;
                    continue;
                }
                None => {}
            }
            let (tid, status) = match self.queue.pop_front() {
                Some((tid, status)) => (tid, self.newest(tid, status)),
                None => match self.report() {
                    Ok(Some(report)) => {
                        self.take_turns()?;
                        report
                    }
                    Ok(None) => match self.wait_for_requests() {
                        Some(request) => return Ok(Next::Asked(request)),
                        None => continue,
                    },
                    Err(Errno::EINTR) => continue,
                    Err(Errno::ECHILD) => {
                        self.requests = None;
                        return Ok(Next::End);
                    }
                    Err(e) => return Err(Error::Wait(e)),
                },
            };
            if self.unreached.remove(&tid) && !status.is_end() {
                self.queue.push_front((tid, status));
                return Ok(Next::Reached(Tid(tid)));
            }
            if self.leaving && !status.is_end() {
                self.leave(tid, status)?;
                self.tasks.remove(&tid);
                continue;
            }
            let Some(status) = self.note(tid, status) else {
                if let Some(orphan) = self.adopt()? {
                    return Ok(Next::Adopted(orphan));
                }
                continue;
            };
            let stop = status.decode();
            if status.is_end() {
                self.tasks.remove(&tid);
                self.started.take_if(|started| *started == tid);
                self.park.forget(tid);
                self.unannounced.remove(&tid);
                self.order.forget(tid);
                self.placement.on_gone(tid);
                self.bereaved = true;
                sys::pass_signals_from(tid, || self.tasks.keys().min().copied());
                return Ok(Next::Gone(Tid(tid), stop));
            }
            self.sleepers.remove(&tid);
            let stopped = Stopped::new(tid);
            if !matches!(stop, Stop::Fork(_) | Stop::Exec) {
                self.placement.on_stop(tid);
            }
            match stop {
                // On its way to an exit stop it goes on its way.
                Stop::Interrupted if self.tasks.get(&tid).is_some_and(|t| t.to_exit) => {
                    self.resume(stopped, Resume::ToExit)?;
                }
                Stop::Interrupted | Stop::VforkDone => self.resume(stopped, Resume::Go)?,
                Stop::Unknown(_) => {
                    self.unknown += 1;
                    self.mistrust(tid);
                    self.resume(stopped, Resume::Go)?;
                }
                Stop::Fork(kind) => {
                    match stopped.message()? {
                        // It may have been taken in already.
                        Some(child) if self.tasks.contains_key(&(child as i32)) => {}
                        Some(child) => {
                            self.announce(child as i32);
                            self.placement.on_fork(tid, child as i32, kind == ForkKind::Vfork);
                        }
                        None => self.mistrust(tid),
                    }
                    return Ok(Next::Stopped(stopped, stop));
                }
                Stop::Exec => {
                    // The leader may have been delayed when another thread took its number over.
                    self.park.forget(tid);
                    // The leader's number is taken over by the thread that called execve, whose own is gone without a
                    // word (ptrace(2), "execve(2) under ptrace").
                    if let Some(former) = stopped.message()? {
                        let former = former as i32;
                        if former != tid {
                            self.tasks.remove(&former);
                            self.park.forget(former);
                            self.order.forget(former);
                        }
                        self.placement.on_exec(former, tid);
                    }
                    self.count_children(tid);
                    return Ok(Next::Stopped(stopped, stop));
                }
                _ => return Ok(Next::Stopped(stopped, stop)),
            }
        }
    }

    /// A process has executed a program, and stands still: a child that it has and that nobody announced was made by a thread
    /// that is gone, killed at its fork. The test `a_thread_executes_a_program_while_another_forks` has such children.
    fn count_children(&mut self, tid: i32) {
        let lives = |child: &Tid| !matches!(procfs::state(*child), None | Some('Z' | 'X'));
        let children = procfs::children(Tid(tid)).into_iter();
        let unknown = children.filter(|child| !self.tasks.contains_key(&child.0) && lives(child));
        let unannounced: Vec<i32> = unknown.map(|child| child.0).collect();
        if !unannounced.is_empty() {
            self.unannounced.extend(unannounced);
            // They may wait already.
            self.bereaved = true;
        }
    }

    /// `tid` may have been at a fork event that nobody will tell us of.
    fn mistrust(&mut self, tid: i32) {
        self.reticent.insert(procfs::process_of(Tid(tid)).map_or(tid, |p| p.0));
        // It may wait already.
        self.bereaved = true;
    }

    /// What the kernel reports next. Blocks, unless signals may be requests.
    ///
    /// Whoever waits for a stop at a signal takes the signal over, and the kernel forgets it: a tracer that dies before it
    /// has resumed the task takes it along (kernel/exit.c, wait_task_stopped clears exit_code; kernel/signal.c,
    /// ptrace_signal). A target that is to outlive us is only looked at, so that a stop is over with the resumption.
    fn report(&mut self) -> Result<Option<(i32, RawStatus)>, Errno> {
        self.take_peeked()?;
        if self.tasks.is_empty() && self.order.waiting().is_empty() {
            return match sys::wait(-1, false)? {
                None => self.last_report(),
                report => Ok(report),
            };
        }
        if self.requests.is_none() {
            return match self.park.is_empty() {
                true => sys::wait(-1, true),
                false => self.report_or_sleep(),
            };
        }
        loop {
            let next = match self.next_in_turn() {
                None => sys::peek(None)?,
                next => next,
            };
            let Some((tid, status)) = next else { return Ok(None) };
            match status {
                Some(status) if self.order.knows(tid) && !self.leaving => {
                    self.peeked = Some(tid);
                    return Ok(Some((tid, status)));
                }
                _ => {}
            }
            if let Some(report) = sys::wait(tid, false)? {
                return Ok(Some(report));
            }
            // It would hide what others have to report.
            sys::take_job_stop(tid);
        }
    }

    /// Of a target that is only looked at, who is next in turn of those that have something to report: the kernel names the
    /// first task that has stopped, and one that stops again as fast as it is served would be the only one. The test
    /// `nobody_is_passed_over_at_attach` has such threads.
    fn next_in_turn(&mut self) -> Option<(i32, Option<RawStatus>)> {
        if self.unasked > 0 {
            self.unasked -= 1;
            return None;
        }
        let mut tids: Vec<i32> = self.tasks.keys().copied().collect();
        let last = self.turn;
        tids.sort_unstable_by_key(|tid| (*tid <= last, *tid));
        let asked = |(n, tid)| Some((n, sys::peek(Some(tid)).ok().flatten()?));
        let found = tids.iter().copied().enumerate().find_map(asked);
        // Where most are at rest, asking is not to cost more than one call for each report.
        self.unasked = found.map_or(tids.len(), |(n, _)| n);
        let (_, next) = found?;
        self.turn = next.0;
        Some(next)
    }

    /// What there is to report when no task is known any more, but some child is left.
    ///
    /// A shell that executes us may have children, which are ours from then on: bash's `fdwatch … 2> >(tee log)`. They may
    /// well wait for our own end. The test `children_of_the_shell_before_us_are_not_waited_for` has such ones.
    fn last_report(&self) -> Result<Option<(i32, RawStatus)>, Errno> {
        // One that was traced from its birth may not have stopped yet.
        match self.started.or_else(|| Some(procfs::some_tracee()?.0)) {
            Some(tid) => sys::wait(tid, true),
            None => Err(Errno::ECHILD),
        }
    }

    /// The same while a task is being delayed: waits until that is over, if nothing is reported before.
    fn report_or_sleep(&mut self) -> Result<Option<(i32, RawStatus)>, Errno> {
        sys::block_signals(&[libc::SIGCHLD], true);
        let report = sys::wait(-1, false);
        if let Ok(None) = report {
            self.park.sleep();
        }
        sys::block_signals(&[libc::SIGCHLD], false);
        report
    }

    /// Whether a task that stood still has reported something else since.
    fn has_news(&mut self, tid: i32) -> Result<bool, Error> {
        self.take_peeked().map_err(Error::Wait)?;
        if let Some((tid, status)) = sys::wait(tid, false).or_else(no_children).map_err(Error::Wait)? {
            self.take(tid, status);
        }
        Ok(self.queue.iter().any(|(t, _)| *t == tid))
    }

    /// Waits for a request, or until there may be something to report, or a delay may be over.
    fn wait_for_requests(&mut self) -> Option<Request> {
        self.requests.as_mut()?.wait(self.park.wait())
    }

    /// Lets `stop`, at which `task` stands, be reported once more after this time, and `task` stand still until then.
    /// Others go on. It ends early when somebody wants the task to end: when it is killed, and at SIGINT, SIGTERM, SIGHUP,
    /// SIGQUIT and SIGSTOP that it neither blocks nor ignores.
    pub fn report_again(&mut self, task: Stopped, stop: Stop, after: std::time::Duration) {
        self.park_for(task, Later::Report(stop), after);
    }

    /// Lets `task` go on after this time; otherwise as [`Tracer::report_again`].
    pub fn resume_later(&mut self, task: Stopped, how: Resume, after: std::time::Duration) {
        self.park_for(task, Later::Resume(how), after);
    }

    fn park_for(&mut self, task: Stopped, then: Later, after: std::time::Duration) {
        let tid = task.tid.0;
        self.placement.release();
        if let Some(known) = self.tasks.get_mut(&tid) {
            known.denied |= task.denied.get();
        }
        self.park.add(tid, after, then);
    }

    /// Waits for the stop that was only looked at, which is not to be reported again.
    fn take_peeked(&mut self) -> Result<(), Errno> {
        let Some(tid) = self.peeked.take() else { return Ok(()) };
        match sys::wait(tid, false).or_else(no_children)? {
            Some((tid, status)) if status.is_end() => self.queue.push_back((tid, status)),
            _ => {}
        }
        Ok(())
    }

    /// Takes in a task that waits to be announced by somebody who is gone, or cannot be relied upon.
    ///
    /// A parent that is killed at its fork event never delivers it, and its child, which is traced from birth, would stay
    /// in its first stop for ever. The test `a_child_of_a_parent_killed_at_its_fork_goes_on` has such parents.
    fn adopt(&mut self) -> Result<Option<Tid>, Error> {
        for tid in self.order.waiting() {
            let process = procfs::process_of(Tid(tid));
            // A thread's maker is of its own process, which dies as a whole.
            let maker = match process {
                Some(p) if p.0 != tid => Some(p),
                _ => procfs::parent_of(Tid(tid)),
            };
            // Where that cannot be read, waiting may be waiting for ever.
            let alone = maker.is_none_or(|p| !self.tasks.contains_key(&p.0) || self.reticent.contains(&p.0));
            if alone || self.unannounced.remove(&tid) {
                self.announce(tid);
                self.placement.on_adopted(tid);
                return Ok(Some(Tid(tid)));
            }
        }
        Ok(None)
    }

    /// Records that `tid` has stopped; gives the status back if the task is known.
    fn note(&mut self, tid: i32, status: RawStatus) -> Option<RawStatus> {
        let status = self.order.admit(tid, status)?;
        sys::sleeps(tid, false);
        let task = self.tasks.entry(tid).or_insert(Task::new(Run::Stopped));
        task.run = Run::Stopped;
        // A leader that another thread's exec has killed is gone, and its number reports the exec.
        if std::mem::take(&mut task.denied) && !status.is_end() && status.decode() != Stop::Exec {
            self.unanswered += 1;
        }
        Some(status)
    }

    fn announce(&mut self, child: i32) {
        let early = self.order.announce(child);
        let run = if early.is_empty() { Run::Running } else { Run::Stopped };
        self.tasks.insert(child, Task::new(run));
        self.queue.extend(early.into_iter().map(|status| (child, status)));
    }

    /// Lets a task go on. One that has vanished meanwhile reports its end itself.
    pub fn resume(&mut self, task: Stopped, how: Resume) -> Result<(), Error> {
        let tid = task.tid.0;
        match how {
            // It may stay there for long, and be looked at.
            Resume::Listen => {
                self.placement.release();
                sys::sleeps(tid, true);
            }
            _ => self.placement.on_resume(tid),
        }
        let entry = self.tasks.entry(tid).or_insert(Task::new(Run::Running));
        entry.run = if how == Resume::Listen { Run::Listening } else { Run::Running };
        entry.to_exit = how == Resume::ToExit;
        if self.peeked == Some(tid) {
            self.peeked = None;
        }
        entry.denied |= task.denied.get();
        if self.request(tid, how)?.is_some() || procfs::state(task.tid) != Some('t') {
            return Ok(());
        }
        // It is said to be gone and stands there: who would wait for its next report would wait for ever.
        if let Some(entry) = self.tasks.get_mut(&tid) {
            entry.denied = true;
        }
        self.request(tid, how).map(drop)
    }

    fn request(&self, tid: i32, how: Resume) -> Result<Option<()>, Error> {
        let every = self.stops_at_every_call(Tid(tid));
        let (request, done) = match how {
            Resume::Listen => ("LISTEN", sys::listen(tid)),
            Resume::ToExit => ("SYSCALL", sys::to_syscall(tid, 0)),
            Resume::Go if every => ("SYSCALL", sys::to_syscall(tid, 0)),
            Resume::Go => ("CONT", sys::cont(tid, 0)),
            Resume::Deliver(sig) if every => ("SYSCALL", sys::to_syscall(tid, sig)),
            Resume::Deliver(sig) => ("CONT", sys::cont(tid, sig)),
        };
        unless_gone(request, tid, done)
    }

    /// These tasks, and no others, stop at every call from their next stop on, as with no filter at all. Calls that the
    /// filter marks stop twice at their entry then: a syscall-enter-stop, and the stop by the filter (seccomp(2)).
    pub fn stop_at_every_call(&mut self, tasks: impl Iterator<Item = Tid>) {
        self.every_call = tasks.map(|t| t.0).collect();
    }

    /// Whether a task stops at every call: its syscall stops are not only those that were asked for.
    pub fn stops_at_every_call(&self, tid: Tid) -> bool {
        self.all_calls || self.every_call.contains(&tid.0)
    }

    /// Stops every task that runs, so that what is looked at holds. What they report meanwhile is reported later.
    ///
    /// Tasks that cannot be stopped do not hold it up: a parent that waits for its vfork child, and whatever else is in
    /// uninterruptible sleep for long, cannot change anything either. A short one is waited for: who reads from a terminal
    /// is in such a one while what was typed is on its way (drivers/tty/n_tty.c, tty_buffer_flush_work), and would read what
    /// is meant for the prompt.
    pub fn hold(&mut self) -> Result<(), Error> {
        // What is looked at is the target's own; what the prompt starts inherits our own.
        self.placement.release();
        let running = |t: &Tracer| -> Vec<i32> {
            t.tasks.iter().filter(|(_, s)| s.run == Run::Running).map(|(tid, _)| *tid).collect()
        };
        // One that is said to be gone and runs all the same is asked again.
        let mut ask = running(self);
        let began = Instant::now();
        loop {
            let mut denied = Vec::new();
            for tid in ask {
                if unless_gone("INTERRUPT", tid, sys::interrupt(tid))?.is_none() {
                    denied.push(tid);
                }
            }
            ask = denied;
            // Everything that has been reported is taken first.
            self.collect()?;
            let running = running(self);
            ask.retain(|tid| running.contains(tid));
            let mut busy = false;
            for tid in running {
                busy |= match procfs::state(Tid(tid)) {
                    None | Some('Z' | 'X') => false,
                    Some('D') if self.sleepers.contains(&tid) || procfs::is_making_a_task(Tid(tid)) => false,
                    Some('D') if began.elapsed() < SHORT_SLEEP => true,
                    Some('D') => !self.sleepers.insert(tid),
                    Some(_) => true,
                };
            }
            if !busy {
                return Ok(());
            }
            // Waiting for a report would be waiting for ever: a task may have been on its way into a sleep that nothing
            // interrupts, as vfork's is, and nobody says when it is there.
            std::thread::sleep(HOLD_STEP);
        }
    }

    /// Takes what has been reported, to be looked at later.
    pub(super) fn collect(&mut self) -> Result<(), Error> {
        self.take_peeked().map_err(Error::Wait)?;
        if self.requests.is_none() {
            while let Some((tid, status)) = sys::wait(-1, false).or_else(no_children).map_err(Error::Wait)? {
                self.take(tid, status);
            }
            return Ok(());
        }
        loop {
            let peeked = match sys::peek(None) {
                Err(Errno::ECHILD) | Ok(None) => return Ok(()),
                Err(Errno::EINTR) => continue,
                other => other.map_err(Error::Wait)?,
            };
            let Some((tid, status)) = peeked else { return Ok(()) };
            match status.map(RawStatus::decode) {
                // It is not taken over, but delivered, and the task stops before it makes use of it.
                Some(Stop::Signal(signal)) if self.order.knows(tid) => {
                    unless_gone("INTERRUPT", tid, sys::interrupt(tid))?;
                    unless_gone("SYSCALL", tid, sys::to_syscall(tid, signal))?;
                }
                _ => match sys::wait(tid, false).or_else(no_children).map_err(Error::Wait)? {
                    Some((tid, status)) => self.take(tid, status),
                    None => sys::take_job_stop(tid),
                },
            }
        }
    }

    /// Takes what others have to report, too, so that each has its turn before anyone has a second one.
    ///
    /// The kernel looks for a report from the task that was traced first to the one that was traced last (`ptrace_do_wait`,
    /// kernel/exit.c): where the first stop again as fast as they are served, the last would wait for ever. The test
    /// `nobody_is_passed_over` has such threads.
    fn take_turns(&mut self) -> Result<(), Error> {
        // Of two each is served in turn: one reports while the other is being looked at. Of a target that was running before
        // nothing is taken ahead: a signal that was taken would be lost if fdwatch died.
        if self.tasks.len() > 2 && self.requests.is_none() {
            while let Some((tid, status)) = sys::wait(-1, false).or_else(no_children).map_err(Error::Wait)? {
                self.take(tid, status);
            }
        }
        Ok(())
    }

    /// What is to be looked at of a task whose report was kept: a leader that was stopped is gone when another thread has
    /// called execve, and its number reports the exec. The end of a task is left for later.
    fn newest(&mut self, tid: i32, kept: RawStatus) -> RawStatus {
        if self.requests.is_some() {
            return kept;
        }
        match sys::wait(tid, false) {
            Ok(Some((_, newer))) if !kept.is_end() && !newer.is_end() => {
                self.outdated(tid, kept);
                newer
            }
            Ok(Some((_, newer))) => {
                self.queue.push_back((tid, newer));
                kept
            }
            _ => kept,
        }
    }

    /// A report is not looked at any more, because a newer one has taken its place. If it was to announce a child, nobody
    /// else will.
    fn outdated(&mut self, tid: i32, status: RawStatus) {
        if matches!(status.decode(), Stop::Fork(_)) {
            self.mistrust(tid);
        }
    }

    /// Keeps a report for later. One that is kept already is outdated: a leader that had stopped is gone, and its number
    /// reports another thread's exec. The test `a_thread_executes_a_program_while_others_are_in_calls` has such leaders.
    fn take(&mut self, tid: i32, status: RawStatus) {
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.run = if status.is_end() { Run::Gone } else { Run::Stopped };
        }
        if !status.is_end()
            && let Some(kept) = self.queue.iter_mut().find(|(t, s)| *t == tid && !s.is_end())
        {
            let old = std::mem::replace(&mut kept.1, status);
            self.outdated(tid, old);
            return;
        }
        self.queue.push_back((tid, status));
    }

    /// Whether a task of process `pid` is about to get `signal`: it is pending for the process (proc_pid_status(5),
    /// ShdPnd), or its delivery has been reported and not been looked at.
    pub fn will_report(&self, pid: Pid, signal: i32) -> bool {
        let reported = self
            .queue
            .iter()
            .any(|(tid, status)| status.decode() == Stop::Signal(signal) && procfs::process_of(Tid(*tid)) == Some(pid));
        reported || procfs::is_pending(pid, signal)
    }

    /// Whether a report of `tid` waits to be looked at that was none of an interrupt of ours.
    pub fn has_report(&self, tid: Tid) -> bool {
        self.queue.iter().any(|(t, status)| *t == tid.0 && status.decode() != Stop::Interrupted)
    }

    /// Sends a signal to a process. One that is gone does not get it.
    pub fn send(&self, pid: Pid, signal: i32) {
        let _ = sys::kill(pid.0, signal);
    }

    /// Whether `tid` is in a stop, its own or ours.
    pub fn is_stopped(&self, tid: Tid) -> bool {
        self.tasks.get(&tid.0).is_some_and(|t| matches!(t.run, Run::Stopped | Run::Listening))
    }

    /// Sends SIGKILL to every task. Their ends are reported as usual.
    pub fn kill_all(&mut self) {
        for tid in self.tasks.keys().copied().chain(self.order.waiting()) {
            let _ = sys::kill(tid, libc::SIGKILL);
        }
    }

    /// Stops every task that was attached to and brings what it reports into a form from which watching can begin: a
    /// task that it has made meanwhile is one of ours, and its making is over. Gives the tasks that were made so.
    ///
    /// Tasks that cannot be stopped now ([`Tracer::hold`]) are reported when they are ([`Next::Reached`]).
    pub(super) fn settle(&mut self) -> Result<Vec<Tid>, Error> {
        self.hold()?;
        let mut made = Vec::new();
        for (tid, status) in std::mem::take(&mut self.queue) {
            match status.decode() {
                _ if status.is_end() => {
                    self.tasks.remove(&tid);
                    self.order.forget(tid);
                    continue;
                }
                Stop::Fork(_) => {
                    if let Some(child) = self.message(tid)? {
                        self.announce(child);
                        made.push(Tid(child));
                    }
                    self.queue.push_back((tid, INTERRUPTED));
                }
                Stop::Exec => {
                    if let Some(former) = self.message(tid)?.filter(|f| *f != tid) {
                        self.tasks.remove(&former);
                        self.order.forget(former);
                    }
                    self.queue.push_back((tid, INTERRUPTED));
                }
                _ => self.queue.push_back((tid, status)),
            }
        }
        let reported: FxHashSet<i32> = self.queue.iter().map(|(tid, _)| *tid).collect();
        for (tid, task) in &mut self.tasks {
            if reported.contains(tid) {
                task.run = Run::Stopped;
            }
        }
        self.unreached = self.tasks.iter().filter(|(_, t)| t.run == Run::Running).map(|(tid, _)| *tid).collect();
        Ok(made)
    }

    fn message(&self, tid: i32) -> Result<Option<i32>, Error> {
        Ok(Stopped::new(tid).message()?.map(|m| m as i32))
    }

    /// Leaves every task alone, for good: nothing is traced afterwards. Whoever cannot be stopped now is left at its next
    /// stop, if [`Tracer::next`] is called on, or by the kernel when this process ends, unless it is to end with us.
    ///
    /// A task goes on as it would have without us: with the signal that it was about to get, into the call that it was
    /// about to make, and stopped if job control had stopped it.
    ///
    /// Not after a start with a seccomp filter: without a tracer the kernel answers ENOSYS to the calls that the filter
    /// marks (seccomp(2), SECCOMP_RET_TRACE).
    pub fn detach_all(&mut self, current: Option<Stopped>) -> Result<(), Error> {
        self.leaving = true;
        self.park.clear();
        self.placement.retire();
        if let Some(s) = current {
            self.tasks.remove(&s.tid.0);
            self.peeked = self.peeked.filter(|tid| *tid != s.tid.0);
            unless_gone("DETACH", s.tid.0, sys::detach(s.tid.0, 0))?;
        }
        // PTRACE_DETACH wants a stop that it can end: one that a task listens in is none (kernel/ptrace.c,
        // ptrace_check_attach). An interrupt makes it report its group-stop again.
        let listening: Vec<i32> = self.tasks.iter().filter(|t| t.1.run == Run::Listening).map(|t| *t.0).collect();
        for tid in listening {
            if let Some(task) = self.tasks.get_mut(&tid) {
                task.run = Run::Running;
            }
        }
        let mut left = FxHashSet::default();
        loop {
            self.hold()?;
            let mut more = false;
            let mut ends = VecDeque::new();
            while let Some((tid, status)) = self.queue.pop_front() {
                self.tasks.remove(&tid);
                if status.is_end() {
                    ends.push_back((tid, status));
                    continue;
                }
                // A child is traced from birth. It may have reported before its parent.
                if let (Stop::Fork(_), Some(child)) = (status.decode(), self.message(tid)?)
                    && !left.contains(&child)
                {
                    self.announce(child);
                    more = true;
                }
                self.leave(tid, status)?;
                left.insert(tid);
            }
            self.queue = ends;
            if !more {
                break;
            }
        }
        for tid in self.order.waiting() {
            unless_gone("DETACH", tid, sys::detach(tid, 0))?;
        }
        for tid in self.tasks.keys().copied().collect::<Vec<_>>() {
            // What is left stands nowhere in what is waited for.
            if unless_gone("DETACH", tid, sys::detach(tid, 0))?.is_some() {
                self.tasks.remove(&tid);
            }
        }
        self.requests = None;
        Ok(())
    }

    /// Leaves one stopped task alone, with the signal that it is about to get.
    fn leave(&mut self, tid: i32, status: RawStatus) -> Result<(), Error> {
        let signal = match status.decode() {
            Stop::Signal(sig) => sig,
            Stop::Fork(_) => {
                if let Some(child) = Stopped::new(tid).message()? {
                    self.placement.on_fork(tid, child as i32, false);
                }
                0
            }
            _ => 0,
        };
        unless_gone("DETACH", tid, sys::detach(tid, signal)).map(drop)
    }
}

/// What an interrupted task reports.
const INTERRUPTED: RawStatus = RawStatus(libc::PTRACE_EVENT_STOP << 16 | libc::SIGTRAP << 8 | 0x7f);

/// Having no children is having nothing to report.
fn no_children(e: Errno) -> Result<Option<(i32, RawStatus)>, Errno> {
    match e {
        Errno::ECHILD | Errno::EINTR => Ok(None),
        e => Err(e),
    }
}

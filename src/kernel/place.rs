//! Tracer and target on one CPU.
//!
//! Left to the scheduler, each stop wakes the tracer on another CPU, and the tracer wakes the task on another: about
//! 100 µs on a virtual machine, most of it the waking of a CPU that sleeps. With both held on one CPU
//! (sched_setaffinity(2)) a stop is a switch between two processes, about 15 µs.
//!
//! Only one task is held at a time, and only while the stops are its own and come fast: what runs in parallel goes on
//! doing so. Nobody is to notice: a mask is given back before anybody can ask for it, sets it, inherits it, or misses it.
//!
//! [`Policy`] decides and is pure; [`Placement`] carries out.

use super::procfs;
use crate::base::Tid;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::sys::signal::{SigSet, SigmaskHow};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A task that runs longer than this between two stops gains little by being held, in nanoseconds.
const FAST: u64 = 2_000_000;
/// Stops of one task, nearly in a row, after which it is held.
const ENOUGH: u32 = 4;
/// No score is higher: so many stops of others, halved, end what it counts for.
const MOST: u32 = 8;
/// What a stop of another task takes away.
const OTHERS: u32 = 2;
/// A task is held no longer than this without a look at how it fares by itself, in nanoseconds.
const TERM: u64 = 100_000_000;
/// The longest time for which a task is not held after that turned out to be worse, in terms.
const LONGEST_PAUSE: u64 = 64;
/// How long after a look at `/proc/PID/status`, which shows the mask, nothing is held, in nanoseconds.
const SHOWN: u64 = 100_000_000;

/// How long a held task may be silent.
const SILENCE: Duration = Duration::from_millis(10);
/// Times that, with nothing held, after which the guard sleeps until it is woken.
const IDLE: u32 = 20;
/// Held tasks that ended and whose children may still come.
const DEPARTED: usize = 16;

/// What is to be done about a task that has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Advice {
    Stay,
    Hold,
    Release,
}

/// Whether a task should be held, by who stops when. Times are nanoseconds since any beginning.
#[derive(Default, Debug)]
struct Policy {
    /// The task whose stops are counted, and how much speaks for it.
    candidate: i32,
    score: u32,
    resumed: u64,
    /// Time and number of its runs between two stops, while it was not held and while it is.
    loose: Mean,
    tight: Mean,
    since: u64,
    not_before: u64,
    /// Somebody has a file open that shows a mask.
    shown: bool,
    /// In terms.
    pause: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Mean {
    sum: u64,
    n: u64,
}

impl Mean {
    fn add(&mut self, value: u64) {
        self.sum = self.sum.saturating_add(value);
        self.n += 1;
    }

    fn get(self) -> u64 {
        self.sum / self.n.max(1)
    }
}

impl Policy {
    fn resume(&mut self, tid: i32, now: u64) {
        if tid == self.candidate {
            self.resumed = now;
        }
    }

    /// `tid` has stopped; `held` is the task that is held.
    fn stop(&mut self, tid: i32, now: u64, held: Option<i32>) -> Advice {
        if tid != self.candidate {
            self.score = self.score.saturating_sub(OTHERS);
            if self.score == 0 {
                self.begin(tid);
            }
            return if held.is_some_and(|h| h != self.candidate || self.score < ENOUGH) {
                Advice::Release
            } else {
                Advice::Stay
            };
        }
        let ran = now.saturating_sub(self.resumed);
        if ran > FAST {
            self.score = 1;
            return if held.is_some() { Advice::Release } else { Advice::Stay };
        }
        self.score = (self.score + 1).min(MOST);
        if held == Some(tid) {
            self.tight.add(ran);
            if now.saturating_sub(self.since) < TERM {
                return Advice::Stay;
            }
            self.review(now);
            return Advice::Release;
        }
        // The run in which it was released was neither.
        self.loose.add(ran);
        match self.score >= ENOUGH && now >= self.not_before && !self.shown {
            true => Advice::Hold,
            false => Advice::Stay,
        }
    }

    fn begin(&mut self, tid: i32) {
        self.candidate = tid;
        self.score = 1;
        self.resumed = u64::MAX;
        (self.loose, self.tight) = (Mean::default(), Mean::default());
    }

    /// A term is over: was it worth it? Somebody else may keep that CPU busy.
    fn review(&mut self, now: u64) {
        let (tight, loose) = (self.tight.get(), self.loose.get());
        self.pause = match tight > loose + loose / 2 {
            true => (self.pause * 2).clamp(1, LONGEST_PAUSE),
            false => 0,
        };
        self.not_before = now.saturating_add(self.pause * TERM);
        self.score = 0;
        (self.loose, self.tight) = (Mean::default(), Mean::default());
    }

    /// The candidate is held from now on.
    fn held(&mut self, now: u64) {
        self.since = now;
        self.tight = Mean::default();
    }

    /// `heir` goes on where the candidate was, as a vfork child does in its parent's place.
    fn inherit(&mut self, heir: i32, now: u64) {
        self.begin(heir);
        self.score = ENOUGH;
        self.resumed = now;
    }

    /// Nothing is to be held until `until`.
    fn rest(&mut self, until: u64) {
        self.score = 0;
        self.not_before = self.not_before.max(until);
    }
}

/// What a held task had before, as sched_getaffinity(2) gives it and whole.
#[derive(Clone, Copy, Debug)]
struct Loan {
    cpu: usize,
    active: CpuSet,
    whole: CpuSet,
    /// No mask was set by the target since.
    sure: bool,
}

impl Loan {
    /// Gives `tid` its mask back, unless somebody has set another meanwhile.
    fn give_back(&self, tid: i32) {
        let narrow = only(self.cpu);
        if self.active != narrow && affinity(tid) == Ok(narrow) {
            let done = sched_setaffinity(pid(tid), &self.whole);
            if let Err(e) = done.or_else(|_| sched_setaffinity(pid(tid), &self.active))
                && e != Errno::ESRCH
            {
                tracing::warn!(tid, "its CPU mask could not be given back: {e}");
            }
        }
    }
}

#[derive(Debug)]
struct Held {
    tid: i32,
    loan: Loan,
    /// The tracer's own mask.
    own: Loan,
}

/// What the tracer and the guard share.
#[derive(Default)]
struct Shared {
    held: Option<Held>,
    /// Stops of the target: when they cease, what is held is released.
    stops: u64,
    asleep: bool,
    over: bool,
}

impl Shared {
    fn release(&mut self, tracer: i32) {
        if let Some(held) = self.held.take() {
            tracing::debug!(tid = held.tid, "released from its CPU");
            held.loan.give_back(held.tid);
            held.own.give_back(tracer);
        }
    }
}

type Both = Arc<(Mutex<Shared>, Condvar)>;

fn lock(both: &Both) -> MutexGuard<'_, Shared> {
    both.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds the tracer and one task on one CPU while that pays.
#[derive(Default)]
pub(super) struct Placement(Option<Box<Active>>);

struct Active {
    policy: Policy,
    began: Instant,
    tracer: i32,
    /// The tracer's own mask, as it was at the beginning.
    own: (CpuSet, CpuSet),
    shared: Both,
    /// Releases a task that is silent; started with the first hold.
    guard: Option<std::thread::JoinHandle<()>>,
    /// The last loan of each living task: a child may have inherited it although it is over.
    loans: FxHashMap<i32, Loan>,
    departed: VecDeque<Loan>,
    /// Tasks whose mask may not be set.
    refused: FxHashSet<i32>,
    /// Tasks that are in a call that asks for masks or sets them.
    asking: FxHashSet<i32>,
    /// A mask as sched_getaffinity(2) gave it, and whole.
    last_whole: Option<(CpuSet, CpuSet)>,
}

impl Placement {
    /// Holds from now on, where there is a choice of CPUs and the right to give a mask back.
    pub(super) fn enable(&mut self) {
        let tracer = nix::unistd::gettid().as_raw();
        let (Ok(own), Some(whole)) = (affinity(tracer), procfs::cpus_allowed(Tid(tracer))) else { return };
        if self.0.is_some() || count(own) < 2 || !may_give_back() {
            return;
        }
        self.0 = Some(Box::new(Active {
            policy: Policy::default(),
            began: Instant::now(),
            tracer,
            own: (own, whole),
            shared: Both::default(),
            guard: None,
            loans: FxHashMap::default(),
            departed: VecDeque::new(),
            refused: FxHashSet::default(),
            asking: FxHashSet::default(),
            last_whole: None,
        }));
    }

    /// Gives everything back and holds nothing any more.
    pub(super) fn retire(&mut self) {
        if let Some(a) = &mut self.0 {
            lock(&a.shared).release(a.tracer);
            a.policy.rest(u64::MAX);
        }
    }

    /// Gives everything back; more may be held later.
    pub(super) fn release(&mut self) {
        if let Some(a) = &mut self.0 {
            lock(&a.shared).release(a.tracer);
            a.policy.rest(0);
        }
    }

    /// `tid` is in a stop.
    #[inline]
    pub(super) fn on_stop(&mut self, tid: i32) {
        if let Some(a) = &mut self.0 {
            a.on_stop(tid, tid);
        }
    }

    /// `tid` goes on.
    #[inline]
    pub(super) fn on_resume(&mut self, tid: i32) {
        if let Some(a) = &mut self.0
            && a.policy.candidate == tid
        {
            let now = a.now();
            a.policy.resume(tid, now);
        }
    }

    /// `tid` is about to ask for a mask, its own or another's, or to set one: until it has, all have their own.
    pub(super) fn on_question(&mut self, tid: i32) {
        if let Some(a) = &mut self.0 {
            lock(&a.shared).release(a.tracer);
            a.policy.rest(0);
            a.asking.insert(tid);
            a.last_whole = None;
            // From now on a narrow mask may be the target's own.
            a.loans.values_mut().for_each(|l| l.sure = false);
            a.departed.clear();
        }
    }

    /// Somebody may read a file that shows a mask, for as long as it is `open` and a while after.
    pub(super) fn on_shown(&mut self, open: bool) {
        if let Some(a) = &mut self.0 {
            lock(&a.shared).release(a.tracer);
            let until = a.now().saturating_add(SHOWN);
            a.policy.rest(until);
            a.policy.shown = open;
        }
    }

    /// `parent` has made `child`, which has not run yet.
    pub(super) fn on_fork(&mut self, parent: i32, child: i32, vfork: bool) {
        if let Some(a) = &mut self.0 {
            a.on_fork(parent, child, vfork);
        }
    }

    /// The thread `former` has become `tid` by executing a program.
    pub(super) fn on_exec(&mut self, former: i32, tid: i32) {
        if let Some(a) = &mut self.0
            && former != tid
        {
            a.on_gone(tid);
            if let Some(loan) = a.loans.remove(&former) {
                a.loans.insert(tid, loan);
            }
            if let Some(held) = &mut lock(&a.shared).held
                && held.tid == former
            {
                held.tid = tid;
            }
            if a.policy.candidate == former {
                a.policy.candidate = tid;
            }
        }
        self.on_stop(tid);
    }

    /// `tid` has ended.
    pub(super) fn on_gone(&mut self, tid: i32) {
        if let Some(a) = &mut self.0 {
            a.on_gone(tid);
        }
    }

    /// `tid` is followed although its parent could not announce it: that may have been held when it made it.
    pub(super) fn on_adopted(&mut self, tid: i32) {
        if let Some(a) = &mut self.0
            && let Ok(mask) = affinity(tid)
            && let Some(loan) = a.departed.iter().rev().find(|l| only(l.cpu) == mask)
        {
            loan.give_back(tid);
        }
    }
}

impl Active {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// `tid` is in a stop, and `heir` will go on: another only where it sleeps meanwhile.
    fn on_stop(&mut self, tid: i32, heir: i32) {
        let now = self.now();
        if !self.asking.is_empty() {
            self.asking.remove(&tid);
        }
        let held = {
            let mut shared = lock(&self.shared);
            shared.stops = shared.stops.wrapping_add(1);
            shared.held.as_ref().map(|h| h.tid)
        };
        match self.policy.stop(tid, now, held) {
            Advice::Stay => {}
            Advice::Release => lock(&self.shared).release(self.tracer),
            Advice::Hold => {
                lock(&self.shared).release(self.tracer);
                if self.asking.is_empty() && !self.refused.contains(&heir) {
                    if self.hold(heir).is_none() {
                        self.refused.insert(heir);
                    }
                    if heir != tid {
                        self.policy.inherit(heir, now);
                    }
                    self.policy.held(now);
                }
            }
        }
    }

    /// Holds a task that is in a stop, or has not run yet; `None` if that cannot be.
    fn hold(&mut self, tid: i32) -> Option<()> {
        let own = affinity(self.tracer).ok()?;
        let active = affinity(tid).ok()?;
        let may = |cpu: &usize| has(&own, *cpu) && has(&active, *cpu);
        let here = sched_getcpu().ok().filter(may);
        let cpu = here.or_else(|| (0..CpuSet::count()).find(may))?;
        let narrow = only(cpu);
        if own == narrow {
            return None;
        }
        let whole = match self.last_whole {
            Some((a, whole)) if a == active => whole,
            _ => procfs::cpus_allowed(Tid(tid))?,
        };
        self.last_whole = Some((active, whole));
        let own_whole = if self.own.0 == own { self.own.1 } else { own };
        // The guard keeps the mask that it is born with.
        if self.guard.is_none() {
            let (both, tracer) = (Arc::clone(&self.shared), self.tracer);
            // Signals are for the thread that waits for tasks: it is to be woken by them, and counts on their handlers having
            // run when kill(2) to itself is over (signals::stop_job; one_ctrl_z_stops_the_whole_job).
            let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).ok();
            let guard = std::thread::Builder::new().name("fdwatch-guard".into()).spawn(move || watch(&both, tracer));
            if let Some(mask) = mask {
                let _ = mask.thread_set_mask();
            }
            self.guard = Some(guard.ok()?);
        }
        if active != narrow {
            sched_setaffinity(pid(tid), &narrow).ok()?;
        }
        let loan = Loan { cpu, active, whole, sure: true };
        match active != narrow {
            true => self.loans.insert(tid, loan),
            false => self.loans.remove(&tid),
        };
        if sched_setaffinity(pid(self.tracer), &narrow).is_err() {
            loan.give_back(tid);
            return None;
        }
        tracing::debug!(tid, cpu, "held on one CPU");
        let mut shared = lock(&self.shared);
        shared.held = Some(Held { tid, loan, own: Loan { cpu, active: own, whole: own_whole, sure: true } });
        if shared.asleep {
            self.shared.1.notify_one();
        }
        Some(())
    }

    fn on_fork(&mut self, parent: i32, child: i32, vfork: bool) {
        let now = self.now();
        let mut shared = lock(&self.shared);
        match &mut shared.held {
            Some(held) if held.tid == parent => {
                let loan = held.loan;
                // The parent sleeps until the child lets go of its memory (vfork(2)): the child goes on in its place.
                if vfork && affinity(child) == Ok(only(loan.cpu)) {
                    held.tid = child;
                    shared.stops = shared.stops.wrapping_add(1);
                    if let Some(l) = self.loans.get(&parent).copied() {
                        self.loans.insert(child, l);
                    }
                    loan.give_back(parent);
                    return self.policy.inherit(child, now);
                }
                loan.give_back(child);
            }
            // The child has the mask that its parent had when it was made. If they differ now, that was ours.
            _ => {
                if let Some(loan) = self.loans.get(&parent)
                    && affinity(parent) != affinity(child)
                {
                    loan.give_back(child);
                }
            }
        }
        drop(shared);
        self.on_stop(parent, if vfork { child } else { parent });
    }

    fn on_gone(&mut self, tid: i32) {
        if let Some(loan) = self.loans.remove(&tid).filter(|l| l.sure) {
            self.departed.push_back(loan);
            if self.departed.len() > DEPARTED {
                self.departed.pop_front();
            }
        }
        self.refused.remove(&tid);
        self.asking.remove(&tid);
        if self.policy.candidate == tid {
            self.policy.begin(0);
        }
        let mut shared = lock(&self.shared);
        if shared.held.as_ref().is_some_and(|h| h.tid == tid)
            && let Some(held) = shared.held.take()
        {
            held.own.give_back(self.tracer);
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.release(self.tracer);
        shared.over = true;
        drop(shared);
        self.shared.1.notify_one();
        if let Some(guard) = self.guard.take() {
            let _ = guard.join();
        }
    }
}

/// Releases what is held when the target is silent: it computes, sleeps, or was stopped by job control, and the tracer,
/// which waits for it, cannot see to it.
fn watch(both: &Both, tracer: i32) {
    let mut shared = lock(both);
    let (mut seen, mut idle) = (0, 0);
    while !shared.over {
        if shared.held.is_none() && idle > IDLE {
            shared.asleep = true;
            shared = both.1.wait(shared).unwrap_or_else(PoisonError::into_inner);
            shared.asleep = false;
            idle = 0;
        } else {
            shared = both.1.wait_timeout(shared, SILENCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        if shared.held.is_none() {
            idle += 1;
        } else {
            idle = 0;
            if shared.stops == seen {
                shared.release(tracer);
            }
        }
        seen = shared.stops;
    }
}

/// Whether a mask can be given back to a task that has changed its user since it was held (sched_setaffinity(2),
/// EPERM): with CAP_SYS_NICE always; without, if none of the target can change its user.
fn may_give_back() -> bool {
    const CAP_SETUID: u64 = 7;
    const CAP_SYS_NICE: u64 = 23;
    let has = |set, cap| {
        let caps = procfs::status_field(Tid(std::process::id() as i32), set);
        caps.and_then(|c| u64::from_str_radix(&c, 16).ok()).is_some_and(|c| c >> cap & 1 == 1)
    };
    has("CapEff", CAP_SYS_NICE) || !has("CapPrm", CAP_SETUID)
}

fn pid(tid: i32) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(tid)
}

fn affinity(tid: i32) -> Result<CpuSet, Errno> {
    sched_getaffinity(pid(tid))
}

fn has(set: &CpuSet, cpu: usize) -> bool {
    set.is_set(cpu).unwrap_or(false)
}

fn count(set: CpuSet) -> usize {
    (0..CpuSet::count()).filter(|cpu| has(&set, *cpu)).count()
}

fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    let _ = set.set(cpu);
    set
}

/// Reads the mask of a line `Cpus_allowed` (proc_pid_status(5)): words of 32 bits in hexadecimal, the highest first.
pub(super) fn mask(text: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for (i, word) in text.split(',').rev().enumerate() {
        let word = u32::from_str_radix(word, 16).ok()?;
        for bit in (0..32).filter(|bit| word >> bit & 1 == 1) {
            // A machine with more CPUs than the set has room for is not one to hold anything on.
            set.set(i * 32 + bit).ok()?;
        }
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1_000;
    const MS: u64 = 1_000_000;

    /// A policy with a clock, and the task that it holds.
    #[derive(Default)]
    struct Script {
        policy: Policy,
        now: u64,
        held: Option<i32>,
        holds: u32,
    }

    impl Script {
        /// `tid` runs for `ran` and stops; the tracer takes 5 µs.
        fn stop(&mut self, tid: i32, ran: u64) -> Advice {
            self.now += ran;
            let advice = self.policy.stop(tid, self.now, self.held);
            match advice {
                Advice::Stay => {}
                Advice::Release => self.held = None,
                Advice::Hold => {
                    self.held = Some(tid);
                    self.holds += 1;
                    self.policy.held(self.now);
                }
            }
            self.now += 5 * US;
            self.policy.resume(tid, self.now);
            advice
        }
    }

    #[test]
    fn a_task_that_stops_often_and_alone_is_held() {
        let mut s = Script::default();
        for _ in 0..6 {
            s.stop(1, 100 * US);
        }
        assert_eq!(s.held, Some(1));
        for _ in 0..100 {
            assert_eq!(s.stop(1, 12 * US), Advice::Stay);
        }
    }

    #[test]
    fn tasks_that_take_turns_are_not_held() {
        let mut s = Script::default();
        for n in 0..10_000 {
            s.stop(1 + n % 2, 50 * US);
        }
        assert_eq!(s.holds, 0);
        for n in 0..10_000 {
            s.stop(1 + n / 2 % 4, 50 * US);
        }
        assert_eq!(s.holds, 0, "two stops each, in turn");
    }

    #[test]
    fn one_that_stops_seldom_is_not_held() {
        let mut s = Script::default();
        for _ in 0..1_000 {
            s.stop(1, 3 * MS);
        }
        assert_eq!(s.holds, 0);
    }

    #[test]
    fn stops_of_others_end_it_and_a_single_one_does_not() {
        let mut s = Script::default();
        for _ in 0..20 {
            s.stop(1, 50 * US);
        }
        s.stop(2, 50 * US);
        assert_eq!(s.held, Some(1));
        for _ in 0..3 {
            s.stop(2, 50 * US);
        }
        assert_eq!(s.held, None);
        for _ in 0..20 {
            s.stop(2, 50 * US);
        }
        assert_eq!(s.held, Some(2));
    }

    #[test]
    fn where_holding_is_slower_it_is_tried_ever_less() {
        let mut s = Script::default();
        let mut held = 0;
        while s.now < 10_000 * MS {
            let ran = if s.held.is_some() { 1_000 * US } else { 100 * US };
            if s.held.is_some() {
                held += ran;
            }
            s.stop(1, ran);
        }
        assert!(held < s.now / 10, "{held} of {} ns", s.now);
        assert!(s.holds > 3, "it is tried again");
    }

    #[test]
    fn where_holding_is_faster_it_is_held_nearly_always() {
        let mut s = Script::default();
        let mut held = 0;
        while s.now < 10_000 * MS {
            let ran = if s.held.is_some() { 12 * US } else { 100 * US };
            if s.held.is_some() {
                held += ran + 5 * US;
            }
            s.stop(1, ran);
        }
        assert!(held > s.now / 100 * 98, "{held} of {} ns", s.now);
        assert!(s.holds > 90, "the scheduler has a say ten times a second: {}", s.holds);
    }

    #[test]
    fn after_a_rest_it_is_held_again() {
        let mut s = Script::default();
        for _ in 0..20 {
            s.stop(1, 50 * US);
        }
        s.policy.rest(s.now + 10 * MS);
        s.held = None;
        for _ in 0..100 {
            s.stop(1, 50 * US);
        }
        assert_eq!(s.held, None);
        for _ in 0..100 {
            s.stop(1, 50 * US);
        }
        assert_eq!(s.held, Some(1));
    }

    #[test]
    fn masks_read_as_proc_writes_them() {
        let set = |cpus: &[usize]| {
            let mut set = CpuSet::new();
            cpus.iter().for_each(|c| set.set(*c).unwrap());
            set
        };
        assert_eq!(mask("3"), Some(set(&[0, 1])));
        assert_eq!(mask("80000000,00000001"), Some(set(&[0, 63])));
        assert_eq!(mask("ff"), Some(set(&[0, 1, 2, 3, 4, 5, 6, 7])));
        assert_eq!(mask(""), None);
        assert_eq!(mask("x"), None);
        assert_eq!(mask(&vec!["ffffffff"; 33].join(",")), None, "1,056 CPUs");
    }
}

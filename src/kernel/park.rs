//! Tasks that stand still for a time, as was asked for, while the others go on.

use super::{Resume, Stop};
use super::{procfs, sys};
use crate::base::{Pid, Tid};
use std::time::{Duration, Instant};

/// The longest wait until the next look at whether somebody wants a task to end.
const LOOK: Duration = Duration::from_millis(100);

/// Signals that ask a process to end, or to stop so that the prompt opens ([`super::KNOCK`]). Who gets one does not wait
/// until its delay is over: a call that sleeps would not either (signal(7), "Interruption of system calls").
const URGENT: [i32; 5] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGSTOP];

/// How a delay ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Later {
    /// The stop is reported once more.
    Report(Stop),
    /// The task goes on.
    Resume(Resume),
}

#[derive(Debug)]
struct Parked {
    tid: i32,
    due: Instant,
    then: Later,
}

/// Every task that is being delayed.
#[derive(Debug)]
pub(super) struct Park {
    tasks: Vec<Parked>,
    /// When somebody last looked whether one of them is wanted to end.
    looked: Instant,
}

impl Default for Park {
    fn default() -> Park {
        Park { tasks: Vec::new(), looked: Instant::now() }
    }
}

impl Park {
    /// Delays `tid`, which has stopped.
    pub(super) fn add(&mut self, tid: i32, time: Duration, then: Later) {
        self.forget(tid);
        let now = Instant::now();
        // A time that the clock cannot tell is for ever.
        let due = now.checked_add(time).unwrap_or_else(|| now + Duration::from_secs(1 << 30));
        self.tasks.push(Parked { tid, due, then });
    }

    /// The task is gone, or goes on for other reasons.
    pub(super) fn forget(&mut self, tid: i32) {
        self.tasks.retain(|p| p.tid != tid);
    }

    /// Lets every delay end now.
    pub(super) fn end(&mut self) {
        let now = Instant::now();
        self.tasks.iter_mut().for_each(|p| p.due = p.due.min(now));
    }

    pub(super) fn clear(&mut self) {
        self.tasks.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// One whose time is over: of several that which was due first.
    pub(super) fn take_due(&mut self) -> Option<(i32, Later)> {
        if self.is_empty() {
            return None;
        }
        let now = Instant::now();
        if now.saturating_duration_since(self.looked) >= LOOK {
            self.looked = now;
            self.hurry(now);
        }
        let first = (0..self.tasks.len()).min_by_key(|i| self.tasks.get(*i).map(|p| p.due))?;
        if self.tasks.get(first)?.due > now {
            return None;
        }
        let parked = self.tasks.swap_remove(first);
        Some((parked.tid, parked.then))
    }

    /// Lets the delays end now of those whom somebody wants to end.
    fn hurry(&mut self, now: Instant) {
        for parked in self.tasks.iter_mut().filter(|p| p.due > now) {
            let tid = Tid(parked.tid);
            let pid = procfs::process_of(tid).unwrap_or(Pid(parked.tid));
            let wanted = |signal| {
                let sent = procfs::is_pending(pid, signal) || procfs::has_signal(tid, "SigPnd", signal);
                sent && !["SigBlk", "SigIgn"].iter().any(|mask| procfs::has_signal(tid, mask, signal))
            };
            if URGENT.into_iter().any(wanted) {
                parked.due = now;
            }
        }
    }

    /// How long to wait for others until the next must be looked at.
    pub(super) fn wait(&self) -> Option<Duration> {
        let first = self.tasks.iter().map(|p| p.due).min()?;
        Some(first.saturating_duration_since(Instant::now()).min(LOOK))
    }

    /// Waits until a delay may be over, or until the kernel may have something to report. To be called after a look for
    /// reports that found none; SIGCHLD is blocked, so that what comes after that look ends the wait.
    pub(super) fn sleep(&self) {
        if let Some(time) = self.wait() {
            sys::take_signal(&[libc::SIGCHLD], Some(time));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_due_first_goes_first_and_nobody_before() {
        let mut park = Park::default();
        assert!(park.wait().is_none() && park.take_due().is_none());
        park.add(1, Duration::from_secs(60), Later::Resume(Resume::Go));
        park.add(2, Duration::from_nanos(2), Later::Report(Stop::Seccomp));
        park.add(3, Duration::ZERO, Later::Resume(Resume::ToExit));
        park.add(4, Duration::MAX, Later::Resume(Resume::Go));
        while park.wait() != Some(Duration::ZERO) {}
        let due: Vec<i32> = std::iter::from_fn(|| park.take_due().map(|d| d.0)).collect();
        assert!(due.contains(&2) && due.contains(&3) && due.len() == 2, "{due:?}");
        assert!(park.wait().is_some_and(|t| t <= LOOK));
        park.forget(1);
        park.forget(4);
        assert!(park.is_empty());
    }
}

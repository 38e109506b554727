//! Requests to end that come from outside while a target is watched that is not ours: signals, and a time limit.
//!
//! `waitpid` cannot wait for both a report and a signal without a race: a signal that comes between the look and the
//! wait is noticed only after the next report. So the signals are blocked, SIGCHLD with them, which the kernel sends
//! with every report (ptrace(2)); whoever waits, waits for a signal, and looks for reports after each.

use super::sys::{self, Disposition};
use std::time::{Duration, Instant};

/// How long a busy target may keep a request waiting.
const PATIENCE: Duration = Duration::from_millis(20);

/// Why watching is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// This signal came.
    Signal(i32),
    /// The time is over.
    TimeIsUp,
}

/// The signals that ask to end, and the time limit.
#[derive(Debug)]
pub struct Requests {
    signals: Vec<i32>,
    deadline: Option<Instant>,
    looked: Instant,
}

impl Requests {
    /// Takes over SIGINT, SIGQUIT, SIGTERM, SIGHUP and SIGUSR1, but for those that were ignored when fdwatch was started.
    ///
    /// fdwatch does not stop either by its terminal's keys: the target would stand still with it.
    pub fn new() -> Requests {
        let mut signals = Vec::new();
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1] {
            match sys::dispose(signal, Disposition::Default) {
                true => drop(sys::dispose(signal, Disposition::Ignore)),
                false => signals.push(signal),
            }
        }
        for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
            sys::dispose(signal, Disposition::Ignore);
        }
        // Where it is ignored the kernel sends none.
        sys::dispose(libc::SIGCHLD, Disposition::Default);
        let requests = Requests { signals, deadline: None, looked: Instant::now() };
        sys::block_signals(&requests.awaited(), true);
        requests
    }

    /// A request comes of itself after this time, counted from now.
    pub(super) fn limit(&mut self, time: Duration) {
        self.deadline = Instant::now().checked_add(time);
    }

    fn awaited(&self) -> Vec<i32> {
        self.signals.iter().copied().chain([libc::SIGCHLD]).collect()
    }

    fn left(&self) -> Option<Duration> {
        self.deadline.map(|d| d.saturating_duration_since(Instant::now()))
    }

    /// A request that has come, if there was no look at it lately. Cheap enough to ask between any two stops.
    pub(super) fn due(&mut self) -> Option<Request> {
        if self.looked.elapsed() < PATIENCE {
            return None;
        }
        self.look()
    }

    fn look(&mut self) -> Option<Request> {
        self.looked = Instant::now();
        if self.deadline.is_some_and(|d| d <= self.looked) {
            self.deadline = None;
            return Some(Request::TimeIsUp);
        }
        sys::take_signal(&self.signals, Some(Duration::ZERO)).map(Request::Signal)
    }

    /// Waits for a request, or until the kernel may have something to report, at most for `most`. To be called only after
    /// a look for reports that found none.
    pub(super) fn wait(&mut self, most: Option<Duration>) -> Option<Request> {
        match sys::take_signal(&self.awaited(), self.left().into_iter().chain(most).min()) {
            Some(libc::SIGCHLD) => None,
            Some(signal) => Some(Request::Signal(signal)),
            None => self.look(),
        }
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Requests {
    /// After the target was left a report is to be written. A request may come twice, to the process and to its group
    /// (timeout(1)), so the report is not given up for another; Ctrl-\ is for those who insist.
    fn drop(&mut self) {
        sys::block_signals(&[libc::SIGQUIT], false);
    }
}

//! Orders of events that the kernel does not promise.
//!
//! A new task is traced from its birth and its first stop may be reported before its parent's fork event (ptrace(2),
//! "PTRACE_EVENT stops"). Above this layer a task is announced first: early stops wait here.

use super::stop::RawStatus;
use rustc_hash::{FxHashMap, FxHashSet};

/// Which tasks have been announced, and the stops of those that have not.
#[derive(Default)]
pub(super) struct Order {
    known: FxHashSet<i32>,
    early: FxHashMap<i32, Vec<RawStatus>>,
}

impl Order {
    /// Takes a report; gives it back if its task is known, keeps it otherwise.
    pub(super) fn admit(&mut self, tid: i32, status: RawStatus) -> Option<RawStatus> {
        if self.known.contains(&tid) {
            return Some(status);
        }
        if status.is_end() {
            // It came and went without a word; its number may come again.
            self.early.remove(&tid);
        } else {
            self.early.entry(tid).or_default().push(status);
        }
        None
    }

    /// Whether a task has been announced.
    pub(super) fn knows(&self, tid: i32) -> bool {
        self.known.contains(&tid)
    }

    /// A task is announced; what it reported before comes back, in its order.
    pub(super) fn announce(&mut self, tid: i32) -> Vec<RawStatus> {
        self.known.insert(tid);
        self.early.remove(&tid).unwrap_or_default()
    }

    /// A task is gone; its number may come again.
    pub(super) fn forget(&mut self, tid: i32) {
        self.known.remove(&tid);
    }

    /// The tasks that wait to be announced.
    pub(super) fn waiting(&self) -> Vec<i32> {
        self.early.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(signal: i32) -> RawStatus {
        RawStatus(signal << 8 | 0x7f)
    }

    #[test]
    fn a_childs_stop_before_its_parents_fork_event_waits() {
        let mut o = Order::default();
        assert!(o.announce(1).is_empty());
        let (first, second) = (stopped(5), stopped(19));
        assert_eq!(o.admit(2, first), None);
        assert_eq!(o.admit(2, second), None);
        assert_eq!(o.announce(2), [first, second]);
        assert_eq!(o.admit(2, first), Some(first));
    }

    #[test]
    fn a_number_that_comes_again_is_announced_again() {
        let mut o = Order::default();
        o.announce(2);
        o.forget(2);
        assert_eq!(o.admit(2, stopped(5)), None);
        assert_eq!(o.waiting(), [2]);
        assert_eq!(o.admit(2, RawStatus(9)), None, "an end");
        assert!(o.waiting().is_empty());
    }
}

//! Processes whose calls somebody else may answer: seccomp's user notification (seccomp_unotify(2)).
//!
//! Of two filters that ask, the kernel obeys SECCOMP_RET_USER_NOTIF before SECCOMP_RET_TRACE, so a call that the target's own
//! filter gives to a supervisor never stops at ours, although the supervisor may let it go on. And what it answers instead
//! may be anything: a success that nothing was done for, or a descriptor of its own (SECCOMP_IOCTL_NOTIF_ADDFD). So such a
//! process stops at every call, and what its calls are said to have done is compared with the kernel.

use super::Session;
use super::frontend::Frontend;
use super::reconcile::Because;
use crate::base::{Fd, Tid};
use crate::event::{Effect, Event, EventKind, FileKind};
use crate::model::Doubt;

impl Session {
    /// Whether calls of the task stop because they are calls, and not because our filter marks them.
    pub(super) fn stops_unmarked(&self, tid: Tid) -> bool {
        self.limits.all_calls || self.is_supervised(tid)
    }

    /// Whether somebody else may answer calls of the task.
    pub(super) fn is_supervised(&self, tid: Tid) -> bool {
        !self.supervised.is_empty() && self.supervised.contains(&self.pid_of(tid))
    }

    /// Notes who has installed a filter with a listener, and what it makes: a filter is inherited, and kept over exec
    /// (seccomp(2)). Whether the processes that are concerned are others now.
    ///
    /// The filter may be one thread's alone; then the others stop more often than they would have to.
    pub(super) fn note_supervised(&mut self, event: &Event) -> bool {
        let pid = self.pid_of(event.tid);
        match &event.kind {
            EventKind::Call(call) => {
                let listens =
                    |e: &Effect| matches!(e, Effect::Open { file, .. } if file.kind == FileKind::SeccompListener);
                call.effects.iter().any(listens) && self.supervised.insert(pid)
            }
            EventKind::Fork(fork) => {
                self.is_supervised(event.tid) && {
                    self.supervised.insert(fork.child_pid);
                    true
                }
            }
            EventKind::Exit { .. } if self.world.process(pid).is_none_or(|p| p.tasks == 0) => {
                self.supervised.remove(&pid);
                false
            }
            _ => false,
        }
    }

    /// A call of the task that may have been answered by somebody else, or refused by a filter of the target's own after it
    /// was taken for made, has returned: whether what is known of the number is so.
    pub(super) fn verify(&mut self, tid: Tid, fd: Fd, frontend: &mut dyn Frontend) {
        let Some(table) = self.world.task(tid).map(|t| t.table) else { return };
        let doubt = Doubt { numbers: [fd].into(), ..Doubt::default() };
        match self.world.shares_table(tid) {
            // Others may be at it just now.
            true => {
                self.flights.put_back(table, doubt);
                self.flights.ask_again(table);
            }
            false => self.reconcile(tid, &doubt, Because::Unseen, frontend),
        }
    }
}

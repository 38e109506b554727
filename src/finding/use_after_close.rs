//! `use-after-close`: a call on a number whose life was over.

use super::culprit::{advice, blame, story};
use super::{Confidence, Finding, Rule, Seen, Severity, called, object};
use crate::base::{Fd, LifeId, StackId, Tid};
use crate::event::{Effect, EventKind};
use std::collections::{HashMap, HashSet};

/// The rule. Remembers whom it has blamed, so that one mistake is told once.
///
/// A loop over all numbers (libuv and others set FD_CLOEXEC on whatever they inherited) uses what it never owned; it is
/// known by the number before, used by the same task from the same place.
#[derive(Default)]
pub(super) struct UseAfterClose {
    told: HashSet<LifeId>,
    last: HashMap<Tid, (Fd, Option<StackId>)>,
}

impl Rule for UseAfterClose {
    fn name(&self) -> &'static str {
        "use-after-close"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn summary(&self) -> &'static str {
        "a call on a number whose life was over"
    }

    fn page(&self) -> &'static str {
        include_str!("pages/use-after-close.md")
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        if let EventKind::Exit { .. } = seen.event.kind {
            self.last.remove(&seen.event.tid);
        }
        let EventKind::Call(call) = &seen.event.kind else { return Vec::new() };
        // Between fork and exec it is a broken hand-off: another rule's.
        if seen.world.window(seen.event.tid).is_some() {
            return Vec::new();
        }
        let Some(task) = seen.world.task(seen.event.tid) else { return Vec::new() };
        let since = seen.world.process(task.pid).map_or(0, |p| p.since);
        let mut out = Vec::new();
        for effect in &call.effects {
            let (Effect::Refused { fd, .. } | Effect::Cloexec { fd, .. }) = effect else { continue };
            let here = (*fd, call.site.stack);
            let before = self.last.insert(seen.event.tid, here);
            let Effect::Refused { close: false, .. } = effect else { continue };
            if before.is_some_and(|b| b.0.0.abs_diff(fd.0) == 1 && b.1 == here.1) {
                continue;
            }
            let Some(blame) = blame(seen.world, task.table, *fd, task.pid, since) else { continue };
            let Some(object) = object(seen.world, blame.life) else { continue };
            if !self.told.insert(blame.life.id) {
                continue;
            }
            let mut steps = story(seen.world, &blame);
            steps.push(seen.used(call, None, None));
            let cause = blame.life.end.as_ref().map(|e| e.moment.site.cause).unwrap_or_default();
            out.push(Finding {
                name: self.name(),
                severity: self.severity(),
                confidence: Confidence::Certain,
                fd: *fd,
                tid: seen.event.tid,
                pid: task.pid,
                title: format!(
                    "process {} ({}) called {} on fd {fd}, which had already been closed",
                    task.pid,
                    called(seen.world, task.pid),
                    call.info.name,
                ),
                object,
                steps,
                evidence: blame.evidence,
                help: advice(cause).to_string(),
            });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_dup_of_a_closed_number_is_told_with_its_closer() {
        let mut s = Script::new();
        s.open(MAIN, 5, "/tmp/a");
        s.close(MAIN, 5);
        let found = s.refused(MAIN.0, 5, None);
        let [f] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((f.name, f.severity), ("use-after-close", Severity::Error));
        assert!(f.step(Role::Closed).is_some() && f.step(Role::Opened).is_some());
    }

    #[test]
    fn a_loop_over_all_numbers_uses_what_it_never_owned() {
        let mut s = Script::new();
        s.open(MAIN, 2, "/tmp/a");
        s.open(MAIN, 3, "/tmp/b");
        s.close(MAIN, 3);
        s.set_cloexec(MAIN, 2);
        assert!(s.refused(MAIN.0, 3, None).is_empty());
    }

    #[test]
    fn probing_a_number_that_never_was_is_no_mistake() {
        let mut s = Script::new();
        assert!(s.refused(MAIN.0, 255, None).is_empty());
    }
}

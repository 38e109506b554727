//! `use-after-close`: a call on a number whose life was over.

use super::culprit::{advice, blame, story};
use super::{Confidence, Finding, Rule, Seen, Severity, called, object};
use crate::base::LifeId;
use crate::event::{Effect, EventKind};
use std::collections::HashSet;

/// The rule. Remembers whom it has blamed, so that one mistake is told once.
#[derive(Default)]
pub(super) struct UseAfterClose {
    told: HashSet<LifeId>,
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
        let EventKind::Call(call) = &seen.event.kind else { return Vec::new() };
        // Between fork and exec it is a broken hand-off: another rule's.
        if seen.world.window(seen.event.tid).is_some() {
            return Vec::new();
        }
        let Some(task) = seen.world.task(seen.event.tid) else { return Vec::new() };
        let since = seen.world.process(task.pid).map_or(0, |p| p.since);
        let mut out = Vec::new();
        for effect in &call.effects {
            let Effect::Refused { fd, close: false, .. } = effect else { continue };
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
    fn probing_a_number_that_never_was_is_no_mistake() {
        let mut s = Script::new();
        assert!(s.refused(MAIN.0, 255, None).is_empty());
    }
}

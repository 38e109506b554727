//! `use-after-close`: a call on a number whose life was over.

use super::culprit::{advice, blame, story, told};
use super::foreign_close::robbed;
use super::sweep::Place;
use super::{About, Confidence, Finding, Rule, Seen, Severity, bound, called, is_listing, object};
use crate::base::{Fd, LifeId, Tid};
use crate::event::{Call, Effect, EventKind};
use std::collections::{HashMap, HashSet};

/// The rule. Remembers whom it has blamed, so that one mistake is told once.
///
/// A loop over all numbers (libuv and others set FD_CLOEXEC on whatever they inherited) uses what it never owned; it is
/// known by the number before, used by the same task from the same place. Its first step looks like a mistake, so what such
/// a loop may do waits for the task's next event.
///
/// A shell saves what a redirection is about to replace with F_DUPFD, whether it is open or not. So a refused F_DUPFD
/// waits, too: if the next event fills the same number, it was a redirection.
#[derive(Default)]
pub(super) struct UseAfterClose {
    told: HashSet<LifeId>,
    last: HashMap<Tid, (Fd, Place)>,
    waiting: HashMap<Tid, Waiting>,
}

struct Waiting {
    life: LifeId,
    /// Whether it may be a shell that saves what it is about to replace.
    saving: bool,
    finding: Finding,
}

static ABOUT: About = About {
    name: "use-after-close",
    severity: Severity::Error,
    summary: "a call on a number whose life was over",
    page: include_str!("pages/use-after-close.md"),
};

impl Rule for UseAfterClose {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        let tid = seen.event.tid;
        let mut out = Vec::new();
        let in_loop = self.step(seen);
        if let Some(w) = self.waiting.remove(&tid)
            && !in_loop
            && !(w.saving && fills(&seen.event.kind, w.finding.fd))
        {
            out.extend(self.tell(w.life, w.finding));
        }
        let EventKind::Call(call) = &seen.event.kind else { return out };
        let Some(task) = seen.world.task(tid) else { return out };
        let since = seen.world.process(task.pid).map_or(0, |p| p.since);
        for effect in &call.effects {
            let Effect::Refused { fd, close: false, .. } = effect else { continue };
            if in_loop {
                continue;
            }
            let Some(blame) = blame(seen.world, task.table, *fd, task.pid, since) else { continue };
            // So is what another thread has closed by mistake.
            if robbed(seen.world, task.table, *fd, (tid, &call.site)).is_some() {
                continue;
            }
            // A broken hand-off is another rule's.
            if seen.is_handed_over(blame.life) {
                continue;
            }
            let Some(object) = object(seen.world, blame.life) else { continue };
            if self.told.contains(&blame.life.id) || is_listing(seen.world, blame.life) {
                continue;
            }
            let mut steps = story(seen.world, &blame);
            steps.push(seen.used(call, None, None));
            let cause = blame.life.end.as_ref().map(|e| e.moment.site.cause).unwrap_or_default();
            let finding = Finding {
                name: ABOUT.name,
                severity: ABOUT.severity,
                confidence: Confidence::Certain,
                fd: *fd,
                tid,
                pid: task.pid,
                title: format!(
                    "process {} ({}) called {} on fd {fd}, which had already been closed",
                    task.pid,
                    called(seen.world, task.pid),
                    call.info.name,
                ),
                object,
                steps,
                evidence: told(blame.evidence),
                help: advice(cause).to_string(),
                count: 1,
                parts: Vec::new(),
            };
            let (life, saving) = (blame.life.id, is_saving(call));
            if saving || may_be_a_step(call) {
                self.waiting.insert(tid, Waiting { life, saving, finding });
            } else {
                out.extend(self.tell(life, finding));
            }
        }
        out
    }

    fn rest(&mut self) -> Vec<Finding> {
        let mut waiting: Vec<_> = self.waiting.drain().collect();
        waiting.sort_by_key(|w| w.0);
        waiting.into_iter().filter_map(|(_, w)| self.tell(w.life, w.finding)).collect()
    }
}

impl UseAfterClose {
    fn tell(&mut self, life: LifeId, f: Finding) -> Option<Finding> {
        bound(&mut self.told);
        self.told.insert(life).then_some(f)
    }

    /// Whether the event uses the number next to the one that its task used last, from the same place.
    fn step(&mut self, seen: &Seen<'_>) -> bool {
        let tid = seen.event.tid;
        let call = match &seen.event.kind {
            EventKind::Call(call) => call,
            EventKind::Exit { .. } => {
                self.last.remove(&tid);
                return false;
            }
            _ => return false,
        };
        let used = call.effects.iter().find_map(|e| match e {
            Effect::Refused { fd, .. } | Effect::Cloexec { fd, .. } | Effect::Vain { fd } => Some(*fd),
            _ => None,
        });
        let Some(fd) = used else { return false };
        let place = (call.site.stack, call.site.py);
        let before = self.last.insert(tid, (fd, place));
        before.is_some_and(|(last, from)| last.0.abs_diff(fd.0) == 1 && from == place)
    }
}

/// Whether loops over all numbers make such calls: to mark what is open, or to find it.
fn may_be_a_step(call: &Call) -> bool {
    matches!(call.info.name, "fcntl" | "fcntl64" | "ioctl" | "fstat" | "fstat64" | "newfstatat" | "statx")
}

fn is_saving(call: &Call) -> bool {
    let command = call.info.args[1] as i32;
    call.info.name.starts_with("fcntl") && matches!(command, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC)
}

/// Whether an event puts something at `fd`, or empties it for good.
fn fills(event: &EventKind, fd: Fd) -> bool {
    let EventKind::Call(call) = event else { return false };
    call.effects.iter().any(|e| match e {
        Effect::Open { fd: to, .. }
        | Effect::Receive { fd: to, .. }
        | Effect::Alias { to, .. }
        | Effect::Refused { fd: to, close: true, .. } => *to == fd,
        _ => false,
    })
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
    fn the_first_step_of_such_a_loop_is_none_either() {
        let closed = || {
            let mut s = Script::new();
            s.open(MAIN, 3, "/lib/libc.so.6");
            s.close(MAIN, 3);
            assert!(s.refused_setfd(MAIN, 3).is_empty(), "it may be the start of a loop");
            s
        };
        let mut s = closed();
        (4..9).for_each(|fd| assert!(s.refused_setfd(MAIN, fd).is_empty(), "fd {fd}"));
        assert!(s.exit(MAIN.0).is_empty());
        assert_eq!(closed().exit(MAIN.0).len(), 1);
        assert_eq!(closed().rest().len(), 1);
        s = closed();
        assert!(s.vain(MAIN, 4).is_empty() && s.exit(MAIN.0).is_empty());
        s = closed();
        assert_eq!(s.open(MAIN, 3, "/tmp/a").len(), 1, "no shell's redirection");
    }

    #[test]
    fn a_shell_that_saves_what_it_redirects_is_left_alone() {
        let closed = || {
            let mut s = Script::new();
            s.open(MAIN, 5, "/tmp/a");
            s.close(MAIN, 5);
            s.open(MAIN, 3, "/tmp/b");
            assert!(s.refused_dupfd(MAIN, 5).is_empty());
            s
        };
        let mut shell = closed();
        assert!(shell.dup2(MAIN.0, 3, 5).is_empty());
        assert!(shell.exit(MAIN.0).is_empty());
        let mut other = closed();
        assert_eq!(other.dup2(MAIN.0, 3, 9).len(), 1);
        assert_eq!(closed().exit(MAIN.0).len(), 1);
    }

    #[test]
    fn probing_a_number_that_never_was_is_no_mistake() {
        let mut s = Script::new();
        assert!(s.refused(MAIN.0, 255, None).is_empty());
    }
}

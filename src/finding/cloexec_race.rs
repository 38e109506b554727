//! `cloexec-race`: opened without O_CLOEXEC, set later, and another thread forked in between.

use super::{
    About, Confidence, Finding, Role, Rule, Seen, Severity, Step, bound, called, object, opened, program_name,
};
use crate::base::{LifeId, Pid, TableId, Tid};
use crate::event::{EventKind, Site};
use crate::model::{Change, Life, Moment, Origin, What};
use std::collections::{HashMap, HashSet, VecDeque};

/// Forks that are remembered: what is set after more of them was not meant to be atomic.
const FORKS: usize = 256;
/// Copies that wait at once for their child's exec.
const MOST_WAITING: usize = 1024;

/// A fork that copied a shared table.
struct Copied {
    at: u64,
    by: Tid,
    pid: Pid,
    table: TableId,
    child: Tid,
    site: Site,
}

/// The rule.
///
/// The child's copy proves the race: it is not close-on-exec. It does harm when the child executes a program with it; a
/// child that closes it before that has not.
#[derive(Default)]
pub(super) struct CloexecRace {
    forks: VecDeque<Copied>,
    waiting: HashMap<Pid, Vec<(LifeId, Finding)>>,
    /// The moment of the call that opened, and the child: the two ends of a pipe are one mistake.
    told: HashSet<(u64, Tid)>,
}

static ABOUT: About = About {
    name: "cloexec-race",
    severity: Severity::Warning,
    summary: "opened without O_CLOEXEC, set later, and another thread forked in between",
    page: include_str!("pages/cloexec-race.md"),
};

impl Rule for CloexecRace {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        let tid = seen.event.tid;
        let mut out = Vec::new();
        match &seen.event.kind {
            EventKind::Fork(fork) if !fork.shares_files => {
                let Some(task) = seen.world.task(tid) else { return out };
                if seen.world.shares_table(tid) {
                    self.forks.push_back(Copied {
                        at: seen.event.at,
                        by: tid,
                        pid: task.pid,
                        table: task.table,
                        child: fork.child,
                        site: fork.site.clone(),
                    });
                    if self.forks.len() > FORKS {
                        self.forks.pop_front();
                    }
                }
            }
            EventKind::Exec { .. } => {
                let Some(task) = seen.world.task(tid) else { return out };
                let name = seen.world.process(task.pid).map(|p| program_name(&p.program)).unwrap_or_default();
                for (copy, mut finding) in self.waiting.remove(&task.pid).unwrap_or_default() {
                    if seen.world.life(copy).is_some_and(|c| c.end.is_none()) {
                        finding.evidence.push(format!("{name} was executed with it"));
                        out.push(finding);
                    }
                }
            }
            EventKind::Exit { .. } => drop(self.waiting.remove(&Pid(tid.0))),
            EventKind::Call(_) => {
                for change in seen.changes {
                    let Change::Cloexec(id) = change else { continue };
                    out.extend(seen.world.life(*id).filter(|l| l.cloexec).and_then(|l| self.marked(seen, l)));
                }
            }
            _ => {}
        }
        out
    }
}

impl CloexecRace {
    /// `life` has become close-on-exec.
    fn marked(&mut self, seen: &Seen<'_>, life: &Life) -> Option<Finding> {
        let world = seen.world;
        if matches!(life.origin, Origin::Inherited(_) | Origin::Unshared(_) | Origin::Present) {
            return None;
        }
        let between = |c: &&Copied| c.table == life.table && c.at > life.began.at && c.by != seen.event.tid;
        let copies = self.forks.iter().filter(between).filter_map(|c| {
            let table = world.task(c.child)?.table;
            let copy = world.lineage(table, life.fd).find(|l| l.origin == Origin::Inherited(life.id))?;
            (!copy.cloexec && copy.end.is_none()).then_some((c, copy))
        });
        let (copied, copy) = copies.into_iter().next()?;
        bound(&mut self.told);
        if !self.told.insert((life.began.at, copied.child)) {
            return None;
        }
        let moment =
            Moment { at: copied.at, pid: copied.pid, tid: copied.by, what: What::Fork, site: copied.site.clone() };
        let note = "another thread forked: the child has a copy that execve leaves open".to_string();
        let forked = Step { role: Role::Used, moment, object: None, note: Some(note), moved: None, program: None };
        let EventKind::Call(call) = &seen.event.kind else { return None };
        let mut steps = vec![opened(life), forked];
        steps.push(seen.used(call, None, Some("too late".to_string())));
        let file = &world.file(life.file)?.file;
        let mut finding = Finding {
            name: ABOUT.name,
            severity: ABOUT.severity,
            confidence: Confidence::Certain,
            fd: life.fd,
            tid: seen.event.tid,
            pid: copied.pid,
            title: format!(
                "process {} ({}) made fd {} close-on-exec after another thread had forked: child {} keeps the {}",
                copied.pid,
                called(world, copied.pid),
                life.fd,
                copied.child,
                file.noun()
            ),
            object: object(world, life)?,
            steps,
            evidence: vec!["it was opened without O_CLOEXEC, and the flag was set by a second call".to_string()],
            help: "set it in the call that opens: O_CLOEXEC, SOCK_CLOEXEC, pipe2(…, O_CLOEXEC), F_DUPFD_CLOEXEC".into(),
            count: 1,
            parts: Vec::new(),
        };
        let child = Pid(copied.child.0);
        if world.window(copied.child).is_some() && self.waiting.len() < MOST_WAITING {
            self.waiting.entry(child).or_default().push((copy.id, finding));
            return None;
        }
        let name = world.process(child).map(|p| program_name(&p.program)).unwrap_or_default();
        finding.evidence.push(format!("{name} was executed with it"));
        Some(finding)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn own(found: Vec<Finding>) -> Vec<Finding> {
        found.into_iter().filter(|f| f.name == "cloexec-race").collect()
    }

    /// A thread opens 3, the main thread forks 200 meanwhile.
    fn forked() -> (Script, Tid) {
        let mut s = Script::with_stdio();
        let other = s.thread(MAIN, 101);
        s.open_with(other, 3, "/tmp/a", libc::O_RDWR);
        s.fork(MAIN, 200);
        (s, other)
    }

    #[test]
    fn a_child_that_executes_before_or_after_the_flag_is_set_keeps_it() {
        let (mut s, other) = forked();
        s.exec_as(200, &["/bin/sleep"], &[]);
        let found = own(s.set_cloexec(other, 3));
        let [f] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((f.severity, f.confidence), (Severity::Warning, Confidence::Certain));
        assert!(f.evidence.iter().any(|e| e.contains("/bin/sleep")), "{f:?}");
        let (mut s, other) = forked();
        assert!(own(s.set_cloexec(other, 3)).is_empty(), "the child may still close it");
        assert_eq!(own(s.exec_as(200, &["/bin/sleep"], &[])).len(), 1);
    }

    #[test]
    fn a_child_that_closes_it_or_a_thread_that_forks_itself_is_none() {
        let (mut s, other) = forked();
        s.close(200, 3);
        assert!(own(s.set_cloexec(other, 3)).is_empty());
        let (mut s, other) = forked();
        s.set_cloexec(other, 3);
        s.close(200, 3);
        assert!(own(s.exec_as(200, &["/bin/sleep"], &[])).is_empty());
        let (mut s, _) = forked();
        s.exec_as(200, &["/bin/sleep"], &[]);
        assert!(own(s.set_cloexec(MAIN, 3)).is_empty(), "who forked sets it: the order, no race");
    }

    #[test]
    fn what_is_opened_with_the_flag_has_no_race() {
        let mut s = Script::with_stdio();
        let other = s.thread(MAIN, 101);
        s.open(other, 3, "/tmp/a");
        s.fork(MAIN, 200);
        s.exec_as(200, &["/bin/sleep"], &[]);
        assert!(own(s.set_cloexec(other, 3)).is_empty());
    }
}

//! `stdio-missing`: a program starts with 0, 1 or 2 closed.

use super::descent::Descent;
use super::{
    About, Confidence, Finding, Role, Rule, Seen, Severity, Step, bound, object, opened, program_name, root,
    standard_name,
};
use crate::base::Fd;
use crate::model::Origin;
use std::collections::HashSet;

/// The rule. Remembers what it has said of which program.
#[derive(Default)]
pub(super) struct StdioMissing {
    descent: Descent,
    told: HashSet<(String, Fd)>,
}

static ABOUT: About = About {
    name: "stdio-missing",
    severity: Severity::Warning,
    summary: "a program starts with 0, 1 or 2 closed",
    page: include_str!("pages/stdio-missing.md"),
};

impl Rule for StdioMissing {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        let Some(crossing) = self.descent.see(seen) else { return Vec::new() };
        let world = seen.world;
        let Some(task) = world.task(seen.event.tid) else { return Vec::new() };
        let Some(process) = world.process(crossing.pid) else { return Vec::new() };
        let name = program_name(&process.program);
        let mut out = Vec::new();
        for fd in (0..3).map(Fd) {
            let Some(stream) = standard_name(fd).filter(|_| world.open_life(seen.event.tid, fd).is_none()) else {
                continue;
            };
            // Without a former life it was closed before fdwatch began to look: its caller's affair.
            let lives = crossing.lineage(world, task.table, fd);
            let Some(last) = lives.into_iter().find(|l| l.end.is_some()) else { continue };
            let (Some(end), Some(object)) = (&last.end, object(world, last)) else { continue };
            bound(&mut self.told);
            if !self.told.insert((name.clone(), fd)) {
                continue;
            }
            let mut steps = Vec::new();
            let first = root(world, last);
            if !matches!(first.origin, Origin::Present) {
                steps.push(opened(first));
            }
            let moment = end.moment.clone();
            steps.push(Step { role: Role::Closed, moment, object: None, note: None, moved: None, program: None });
            steps.push(seen.executed(crossing.site(), format!("{name} starts without {stream}")));
            out.push(Finding {
                name: ABOUT.name,
                severity: ABOUT.severity,
                confidence: Confidence::Certain,
                fd,
                tid: seen.event.tid,
                pid: crossing.pid,
                title: format!("process {} ({name}) starts with {stream} closed", crossing.pid),
                object,
                steps,
                evidence: vec![format!("the next file that it opens may become its {stream}")],
                help: format!("redirect {stream} to /dev/null instead of closing it"),
                count: 1,
                parts: Vec::new(),
            });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn own(found: Vec<Finding>) -> Vec<Finding> {
        found.into_iter().filter(|f| f.name == "stdio-missing").collect()
    }

    #[test]
    fn a_closed_stream_is_told_with_its_closer() {
        let mut s = Script::with_stdio();
        s.fork(MAIN, 200);
        s.close(200, 2);
        let found = own(s.exec_as(200, &["/bin/db"], &[]));
        let [f] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((f.severity, f.fd), (Severity::Warning, Fd(2)));
        assert_eq!(f.step(Role::Closed).unwrap().moment.pid.0, 200);
        s.fork(MAIN, 201);
        s.close(201, 2);
        assert!(own(s.exec_as(201, &["/bin/db"], &[])).is_empty(), "the same once more");
    }

    #[test]
    fn open_streams_and_what_was_never_there_are_silent() {
        let mut s = Script::with_stdio();
        s.open(MAIN, 3, "/dev/null");
        s.fork(MAIN, 200);
        s.close(200, 1);
        s.dup2(200, 3, 1);
        assert!(own(s.exec_as(200, &["/bin/db"], &[])).is_empty());
        let mut s = Script::new();
        s.fork(MAIN, 200);
        assert!(own(s.exec_as(200, &["/bin/db"], &[])).is_empty());
    }
}

//! `pipe-held-open`: a reader waits for an end of file that cannot come.

use super::descent::{Descent, is_shell};
use super::promise::mentions;
use super::{
    About, Confidence, Finding, Role, Rule, Seen, Severity, Step, bound, called, object, opened, program_name, root,
};
use crate::base::{FileId, LifeId};
use crate::event::{EventKind, FileKind};
use crate::model::{Change, Life, OpenFile, Origin, World};
use std::collections::{HashMap, HashSet};

/// Pipes with a stray writer that are remembered at once.
const MOST: usize = 4096;

/// A write end that a program has inherited by mistake.
struct Stray {
    life: LifeId,
    executed: Step,
    program: String,
}

/// The rule.
///
/// It remembers the write ends that programs have inherited although nobody promised them. When all other writers have
/// gone and somebody still has the read end, the end of file cannot come as long as those programs run.
#[derive(Default)]
pub(super) struct PipeHeldOpen {
    descent: Descent,
    strays: HashMap<FileId, Vec<Stray>>,
    told: HashSet<FileId>,
}

static ABOUT: About = About {
    name: "pipe-held-open",
    severity: Severity::Warning,
    summary: "a reader waits for an end of file that cannot come: somebody else holds the writer",
    page: include_str!("pages/pipe-held-open.md"),
};

impl Rule for PipeHeldOpen {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        let world = seen.world;
        let mut out = Vec::new();
        if !self.strays.is_empty() {
            for change in seen.changes {
                let Change::Ended(id) = change else { continue };
                let Some(file) = world.life(*id).map(|l| l.file) else { continue };
                out.extend(self.ended(seen, file));
            }
        }
        let Some(crossing) = self.descent.see(seen) else { return out };
        let Some(table) = world.task(seen.event.tid).and_then(|t| world.table(t.table)) else { return out };
        let Some(process) = world.process(crossing.pid) else { return out };
        if is_shell(&crossing.before) {
            return out;
        }
        for (fd, id) in table.open().filter(|(fd, _)| fd.0 > 2) {
            let Some(life) = world.life(id) else { continue };
            let Some(file) = world.file(life.file).filter(|f| f.file.kind == FileKind::PipeWrite) else { continue };
            if matches!(root(world, life).origin, Origin::Present | Origin::Appeared) {
                continue;
            }
            if mentions(&process.program, fd) || self.strays.len() >= MOST {
                continue;
            }
            let program = program_name(&process.program);
            let executed = seen.executed(crossing.site(), format!("{program} has the write end open as fd {fd}"));
            self.strays.entry(file.id).or_default().push(Stray { life: id, executed, program });
        }
        out
    }
}

impl PipeHeldOpen {
    /// A writer of `file` has gone.
    fn ended(&mut self, seen: &Seen<'_>, file: FileId) -> Option<Finding> {
        let strays = self.strays.get(&file)?;
        let world = seen.world;
        let is_open = |s: &&Stray| world.life(s.life).is_some_and(|l| l.end.is_none());
        let left: Vec<&Stray> = strays.iter().filter(is_open).collect();
        let written = world.file(file);
        let (Some(first), Some(written)) = (left.first(), written) else {
            self.strays.remove(&file);
            return None;
        };
        // Others may still write, and mean to.
        if written.holders as usize > left.len() || matches!(seen.event.kind, EventKind::Exec { .. }) {
            return None;
        }
        let holder = world.life(first.life)?;
        let reader = reader(world, written, holder)?;
        let pid = world.task(reader.0)?.pid;
        bound(&mut self.told);
        if !self.told.insert(file) {
            return None;
        }
        let mut steps = vec![opened(root(world, holder)), first.executed.clone()];
        let last = Step {
            role: Role::Closed,
            moment: crate::model::Moment {
                at: seen.event.at,
                pid: world.task(seen.event.tid).map_or(pid, |t| t.pid),
                tid: seen.event.tid,
                what: match &seen.event.kind {
                    EventKind::Call(call) => crate::model::What::Call(call.info),
                    _ => crate::model::What::Exit,
                },
                site: seen.event.site().cloned().unwrap_or_default(),
            },
            object: None,
            note: Some("the last writer that was meant".to_string()),
            moved: None,
        };
        steps.insert(1, last);
        Some(Finding {
            name: ABOUT.name,
            severity: ABOUT.severity,
            confidence: Confidence::Likely,
            fd: reader.1.fd,
            tid: reader.0,
            pid,
            title: format!(
                "process {pid} ({}) reads fd {} of a pipe that gets no end of file: process {} ({}) still holds the writer",
                called(world, pid),
                reader.1.fd,
                first.executed.moment.pid,
                first.program
            ),
            object: object(world, holder)?,
            steps,
            evidence: vec![
                "every writer that was meant has closed".to_string(),
                format!("{} got it over execve, and nobody promised it", first.program),
            ],
            help: "make both ends close-on-exec when they are made: pipe2(fds, O_CLOEXEC)".into(),
            count: 1,
        })
    }
}

/// A task that has the read end of the same pipe open, and is not who holds the writer.
fn reader<'w>(world: &'w World, written: &OpenFile, holder: &Life) -> Option<(crate::base::Tid, &'w Life)> {
    let is_end = |l: &&Life| {
        let file = world.file(l.file).map(|f| &f.file);
        file.is_some_and(|f| f.kind == FileKind::PipeRead && f.path == written.file.path)
    };
    let open = world.lives().filter(|l| l.end.is_none() && l.table != holder.table).filter(is_end);
    let mut readers: Vec<_> = open
        .filter_map(|l| world.tasks().filter(|(_, t)| t.table == l.table).map(|(tid, _)| tid).min().map(|tid| (tid, l)))
        .collect();
    readers.sort_by_key(|(tid, l)| (*tid, l.id));
    readers.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn own(found: Vec<Finding>) -> Vec<Finding> {
        found.into_iter().filter(|f| f.name == "pipe-held-open").collect()
    }

    /// Child 200 has inherited both ends, child 201 writes to the pipe as it should.
    fn held() -> Script {
        let mut s = Script::with_stdio();
        s.open_pipe(MAIN, 3, 4);
        s.fork(MAIN, 200);
        s.close(200, 3);
        s.exec_as(200, &["/bin/sleep"], &[]);
        s.fork(MAIN, 201);
        s.dup2(201, 4, 1);
        s.close(201, 3);
        s.close(201, 4);
        s.exec_as(201, &["/bin/echo"], &[]);
        s
    }

    #[test]
    fn the_stray_writer_is_told_when_the_others_have_gone() {
        let mut s = held();
        assert!(own(s.close(MAIN, 4)).is_empty(), "echo writes");
        let found = own(s.exit(201));
        let [f] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((f.severity, f.pid.0, f.fd.0), (Severity::Warning, 100, 3));
        assert!(f.title.contains("process 200 (/bin/sleep) still holds the writer"), "{}", f.title);
    }

    #[test]
    fn a_holder_that_ends_first_or_a_reader_that_is_gone_is_none() {
        let mut s = held();
        s.close(MAIN, 4);
        assert!(own(s.exit(200)).is_empty());
        assert!(own(s.exit(201)).is_empty());
        let mut s = held();
        s.close(MAIN, 4);
        s.close(MAIN, 3);
        assert!(own(s.exit(201)).is_empty());
    }

    #[test]
    fn writers_that_are_meant_hold_nobody() {
        let mut s = Script::with_stdio();
        s.pipe(MAIN, 3, 4);
        s.fork(MAIN, 200);
        s.dup2(200, 4, 1);
        s.exec_as(200, &["/bin/echo"], &[]);
        s.fork(MAIN, 201);
        s.exec_as(201, &["/bin/sleep"], &[]);
        assert!(own(s.close(MAIN, 4)).is_empty());
        assert!(own(s.exit(200)).is_empty());
    }
}

//! `pipe-held-open`: a reader waits for an end of file that cannot come.

use super::descent::Descent;
use super::meant::{Meant, chain};
use super::{
    About, Confidence, Finding, Role, Rule, Seen, Severity, Step, bound, called, object, opened, program_name, root,
};
use crate::base::{FileId, LifeId};
use crate::event::{EventKind, FileKind};
use crate::model::{Change, Life, Moment, OpenFile, What, World};
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
    meant: Meant,
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
        self.meant.see(seen);
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
        let mut strays = Vec::new();
        for (fd, id) in table.open().filter(|(fd, _)| fd.0 > 2) {
            let Some(life) = world.life(id) else { continue };
            let Some(file) = world.file(life.file).filter(|f| f.file.kind == FileKind::PipeWrite) else { continue };
            // What a stray is copied to is known by where it comes from.
            let known =
                self.strays.get(&file.id).is_some_and(|s| s.iter().any(|s| chain(world, life).any(|l| l.id == s.life)));
            if known || self.strays.len() >= MOST || self.meant.covers(seen, &crossing, life) {
                continue;
            }
            let program = program_name(&process.program);
            let executed = seen.executed(crossing.site(), format!("{program} has the write end open as fd {fd}"));
            self.strays.entry(file.id).or_default().push(Stray { life: id, executed, program });
            strays.push(file.id);
        }
        out.extend(strays.into_iter().filter_map(|file| self.ended(seen, file)));
        out
    }
}

impl PipeHeldOpen {
    /// A writer of `file` has gone.
    fn ended(&mut self, seen: &Seen<'_>, file: FileId) -> Option<Finding> {
        let strays = self.strays.get(&file)?;
        let world = seen.world;
        let holders: Vec<&Life> = world.lives().filter(|l| l.file == file && l.end.is_none()).collect();
        let stray_of = |l: &&Life| strays.iter().find(|s| chain(world, l).any(|c| c.id == s.life));
        let (Some(written), false) = (world.file(file), holders.is_empty()) else {
            self.strays.remove(&file);
            return None;
        };
        let mut left: Vec<(LifeId, &Stray)> = holders.iter().filter_map(|l| Some((l.id, stray_of(l)?))).collect();
        left.sort_by_key(|(id, _)| *id);
        // Others may still write, and mean to.
        if holders.len() > left.len() {
            return None;
        }
        let (id, first) = *left.first()?;
        let holder = world.life(id)?;
        let held_by = world.tasks().filter(|(_, t)| t.table == holder.table).map(|(_, t)| t.pid).min()?;
        let program = world.process(held_by).map_or_else(|| first.program.clone(), |p| program_name(&p.program));
        let reader = reader(world, written, holder)?;
        let pid = world.task(reader.0)?.pid;
        bound(&mut self.told);
        if !self.told.insert(file) {
            return None;
        }
        let mut steps = vec![opened(root(world, holder)), first.executed.clone()];
        // Where the stray came last, the others had gone before.
        if let EventKind::Call(_) | EventKind::Exit { .. } = &seen.event.kind {
            let what = match &seen.event.kind {
                EventKind::Call(call) => What::Call(call.info),
                _ => What::Exit,
            };
            let (at, tid) = (seen.event.at, seen.event.tid);
            let by = world.task(tid).map_or(pid, |t| t.pid);
            let site = seen.event.site().cloned().unwrap_or_default();
            let moment = Moment { at, pid: by, tid, what, site };
            let note = Some("the last writer that was meant".to_string());
            steps.insert(1, Step { role: Role::Closed, moment, object: None, note, moved: None, program: None });
        }
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
                held_by,
                program
            ),
            object: object(world, holder)?,
            steps,
            evidence: vec![
                "every writer that was meant has closed".to_string(),
                format!("{program} got it over execve, and nobody promised it"),
            ],
            help: "make both ends close-on-exec when they are made: pipe2(fds, O_CLOEXEC)".into(),
            count: 1,
            parts: Vec::new(),
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
    use crate::base::Tid;

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
    fn a_stray_that_comes_last_is_told_then() {
        let mut s = Script::with_stdio();
        s.open_pipe(MAIN, 3, 4);
        s.fork(MAIN, 200);
        s.close(MAIN, 4);
        let found = own(s.exec_as(200, &["/bin/sleep"], &[]));
        assert_eq!(found.len(), 1, "{found:?}");
        // What it starts holds the writer, too.
        s.fork(Tid(200), 201);
        assert!(own(s.exec_as(201, &["/bin/x"], &[])).is_empty());
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

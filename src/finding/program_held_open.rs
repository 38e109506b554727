//! `program-held-open`: a program cannot be executed because somebody has its file open for writing.

use super::meant::chain;
use super::{
    About, Confidence, Finding, Role, Rule, Seen, Severity, Step, called, closed, object, opened, root, severity,
};
use crate::base::text::escape;
use crate::base::{Pid, Tid};
use crate::event::{Effect, EventKind, FileKind, Program};
use crate::model::{Life, Origin, World};

/// The rule.
///
/// execve(2) refuses a file that is open for writing (ETXTBSY), and does not say by whom. Mostly it is nobody who means it:
/// whoever wrote the program has closed it, but a child that was forked meanwhile has a copy of the descriptor until it
/// executes a program of its own.
///
/// Some try again after a while, and succeed. So a finding waits until who starts the program has ended, or nothing more is
/// seen: if that process or a descendant of it has executed the file by then, it is no more than a note.
#[derive(Default)]
pub(super) struct ProgramHeldOpen {
    waiting: Vec<Waiting>,
}

/// So many findings wait at once; the oldest is told then.
const MOST: usize = 1024;

/// So many generations are looked at.
const GENERATIONS: usize = 64;

/// What may yet be executed.
struct Waiting {
    /// Who starts the program: of a child that was forked for that its parent.
    by: Pid,
    /// The path as called, and the file.
    path: Vec<u8>,
    file: Vec<u8>,
    found: Finding,
}

static ABOUT: About = About {
    name: "program-held-open",
    severity: Severity::Error,
    summary: "a program cannot be executed (ETXTBSY): somebody has its file open for writing",
    page: include_str!("pages/program-held-open.md"),
};

impl Rule for ProgramHeldOpen {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        let world = seen.world;
        match &seen.event.kind {
            EventKind::Call(call) => call.effects.iter().filter_map(|e| self.wait(seen, e)).collect(),
            EventKind::Exec { program, .. } if !self.waiting.is_empty() => {
                let Some(pid) = world.task(seen.event.tid).map(|t| t.pid) else { return Vec::new() };
                let parent = |p: &Pid| world.process(*p).and_then(|p| p.parent);
                let line: Vec<Pid> = std::iter::successors(Some(pid), parent).take(GENERATIONS).collect();
                let done = self.waiting.extract_if(.., |w| line.contains(&w.by) && w.is(program));
                done.map(|w| succeeded(w.found)).collect()
            }
            EventKind::Exit { .. } => {
                let gone = |w: &mut Waiting| world.process(w.by).is_none_or(|p| p.tasks == 0);
                self.waiting.extract_if(.., gone).map(|w| w.found).collect()
            }
            _ => Vec::new(),
        }
    }

    fn rest(&mut self) -> Vec<Finding> {
        self.waiting.drain(..).map(|w| w.found).collect()
    }
}

impl ProgramHeldOpen {
    /// Lets a finding wait; one that has waited too long.
    fn wait(&mut self, seen: &Seen<'_>, effect: &Effect) -> Option<Finding> {
        let found = refused(seen, effect)?;
        let Effect::NotExecuted { path, file, .. } = effect else { return None };
        // A subshell is a fork, too.
        let mut by = found.pid;
        for _ in 0..GENERATIONS {
            match seen.world.process(by).filter(|p| p.window.is_some()).and_then(|p| p.parent) {
                Some(parent) if seen.world.process(parent).is_some_and(|p| p.tasks > 0) => by = parent,
                _ => break,
            }
        }
        self.waiting.push(Waiting { by, path: path.clone(), file: file.clone(), found });
        (self.waiting.len() > MOST).then(|| self.waiting.remove(0).found)
    }
}

impl Waiting {
    /// Whether this is what was to be executed: of a script the interpreter is, and the arguments begin with its own, of
    /// which there is one at most, and the script (execve(2), "Interpreter scripts").
    fn is(&self, program: &Program) -> bool {
        let mut first = program.argv.iter().skip(1).take(2);
        program.exe == self.file || !self.path.is_empty() && first.any(|a| *a == self.path)
    }
}

/// What turned out well.
fn succeeded(mut found: Finding) -> Finding {
    found.confidence = Confidence::Possible;
    found.severity = severity(&ABOUT, found.confidence);
    // In the step, which tells it from one in the same places that did not.
    if let Some(last) = found.steps.last_mut() {
        last.note = Some("tried again later, and executed".to_string());
    }
    found
}

/// What keeps the file of a program busy that was not executed.
fn refused(seen: &Seen<'_>, effect: &Effect) -> Option<Finding> {
    let Effect::NotExecuted { file, writers, since, .. } = effect else { return None };
    let call = seen.event.kind.call()?;
    if file.is_empty() {
        return None;
    }
    let world = seen.world;
    let proven = writers.iter().flatten().filter_map(|(tid, fd)| world.open_life(*tid, *fd));
    let mut holders: Vec<&Life> = proven.collect();
    let proven = !holders.is_empty();
    if !proven {
        // Who had it open while the call was made, may have closed it before anybody could ask; what is left is the path.
        // Who has a file of that path open still, was asked, and has another.
        let held = |l: &&Life| l.end.as_ref().map_or(writers.is_none(), |e| e.moment.at >= *since);
        holders = world.lives().filter(held).filter(|l| is_writer(world, l, file)).collect();
    }
    // Whoever opened it first; then who has it still, and longest.
    holders.sort_by_key(|l| (l.origin != Origin::Opened, l.end.is_some(), l.id));
    let holder = *holders.first()?;
    let first = root(world, holder);
    let by = owner(world, holder)?;
    let (tid, pid) = (seen.event.tid, world.task(seen.event.tid)?.pid);
    let mut steps = vec![opened(first)];
    if let Some(end) = first.end.as_ref().filter(|_| first.id != holder.id) {
        steps.push(closed(&end.moment));
    }
    // Each fork on the way to it, the last of which made the holder's copy.
    let copies = chain(world, holder).filter(|l| matches!(l.origin, Origin::Inherited(_)));
    if let Some(copy) = copies.into_iter().next() {
        let note = "gave the child a copy".to_string();
        let (moment, role) = (copy.began.clone(), Role::Used);
        steps.push(Step { role, moment, object: None, note: Some(note), moved: None, program: None });
    }
    steps.push(seen.used(call, None, None));
    let holding = match (by == pid, world.process(by).is_some_and(|p| p.window.is_some())) {
        (true, _) => "it has the file open for writing itself".to_string(),
        (false, true) => {
            format!("process {by}, which has executed no program since its fork, has the file open for writing")
        }
        (false, false) => format!("process {by} ({}) has the file open for writing", called(world, by)),
    };
    let copied = first.id != holder.id;
    let mut evidence = vec!["execve refuses a file that is open for writing".to_string()];
    evidence.push(match proven {
        true => "the kernel says that this very file is open there (device and inode)".to_string(),
        false => "only the path says that it was this file".to_string(),
    });
    match (copied, first.end.is_some()) {
        (true, true) => {
            evidence.push("who opened it has closed it: what is left is a copy that a fork made".to_string())
        }
        _ => evidence.push("it was not closed before the program was executed".to_string()),
    }
    if holders.len() > 1 {
        evidence.push(format!("{} descriptors are open for writing in all", holders.len()));
    }
    Some(Finding {
        name: ABOUT.name,
        severity: ABOUT.severity,
        // One that has ended since may have ended before the kernel looked, and its path may be another file's.
        confidence: if proven { Confidence::Certain } else { Confidence::Likely },
        fd: holder.fd,
        tid,
        pid,
        title: format!(
            "process {pid} ({}) cannot execute {} (ETXTBSY): {holding} as fd {}",
            called(world, pid),
            escape(file),
            holder.fd
        ),
        object: object(world, holder)?,
        steps,
        evidence,
        help: match copied {
            true => {
                "keep forks out between the open and the close of a program that is to be executed (a lock that both \
                     take; in Go syscall.ForkLock), or let a process of its own write it"
                    .into()
            }
            false => "close the file before the program is executed".into(),
        },
        count: 1,
        parts: Vec::new(),
    })
}

/// Whether a life is one of the file at `path`, open for writing.
fn is_writer(world: &World, life: &Life, path: &[u8]) -> bool {
    let Some(file) = world.file(life.file).map(|f| &f.file) else { return false };
    file.kind == FileKind::Path && file.path == path && file.is_writable()
}

/// The process of a life's table; of one that is gone, that which ended it.
fn owner(world: &World, life: &Life) -> Option<Pid> {
    let of = |(tid, _): (Tid, _)| world.task(tid).map(|t| t.pid);
    let living = world.tasks().filter(|(_, t)| t.table == life.table).filter_map(of).min();
    living.or_else(|| life.end.as_ref().map(|e| e.moment.pid))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Folded, Folds};
    use super::*;
    use crate::base::Fd;
    use crate::event::{Call, CallInfo, Site};

    fn own(found: Vec<Finding>) -> Vec<Finding> {
        found.into_iter().filter(|f| f.name == "program-held-open").collect()
    }

    impl Script {
        /// An execve that failed, and what is told of it in the end.
        fn not_executed(
            &mut self,
            tid: i32,
            errno: i32,
            file: &str,
            writers: Option<&[(i32, i32)]>,
            since: u64,
        ) -> Vec<Finding> {
            let info = CallInfo { name: "execve", args: [64, 0, 0, 0, 0, 0], ret: Some(-i64::from(errno)) };
            let (path, file) = (b"./p".to_vec(), file.as_bytes().to_vec());
            let writers = writers.map(|w| w.iter().map(|(tid, fd)| (Tid(*tid), Fd(*fd))).collect());
            let effects = vec![Effect::NotExecuted { path, file, inode: None, writers, since }];
            let mut found = self.event(Tid(tid), EventKind::Call(Call { info, effects, site: Site::default() }));
            found.extend(self.rest());
            own(found)
        }

        /// The same with ETXTBSY, the kernel having been asked who writes.
        fn busy(&mut self, tid: i32, writers: &[(i32, i32)]) -> Vec<Finding> {
            self.not_executed(tid, libc::ETXTBSY, "/tmp/p", Some(writers), self.next())
        }
    }

    fn roles(f: &Finding) -> Vec<(Role, i32)> {
        f.steps.iter().map(|s| (s.role, s.moment.tid.0)).collect()
    }

    /// The program is written, child 200 forked meanwhile, and then closed; child 201 is to execute it.
    fn copied() -> Script {
        let mut s = Script::with_stdio();
        s.open(MAIN, 3, "/tmp/p");
        let other = s.thread(MAIN, 101);
        s.fork(other, 200);
        s.close(MAIN, 3);
        s.fork(MAIN, 201);
        s
    }

    #[test]
    fn a_copy_that_a_fork_made_is_named_with_who_closed_the_original() {
        let mut s = copied();
        let found = s.busy(201, &[(200, 3)]);
        let [f] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((f.severity, f.confidence, f.pid.0, f.fd.0), (Severity::Error, Confidence::Certain, 201, 3));
        assert_eq!(roles(f), [(Role::Opened, 100), (Role::Closed, 100), (Role::Used, 101), (Role::Used, 201)], "{f:?}");
        assert!(f.title.contains("process 200, which has executed no program since its fork"), "{}", f.title);
    }

    #[test]
    fn whoever_has_not_closed_it_is_named_first() {
        let mut s = Script::with_stdio();
        s.open(MAIN, 3, "/tmp/p");
        s.fork(MAIN, 201);
        let found = s.busy(201, &[(201, 3), (100, 3)]);
        let [f] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(roles(f), [(Role::Opened, 100), (Role::Used, 201)]);
        assert!(f.title.contains("process 100 (job) has the file open"), "{}", f.title);
        // Its own copy alone.
        s.close(MAIN, 3);
        let found = s.busy(201, &[(201, 3)]);
        assert!(found[0].title.contains("it has the file open for writing itself"), "{}", found[0].title);
    }

    #[test]
    fn a_copy_that_went_while_the_call_was_made_is_likely_and_one_before_it_is_none() {
        let mut s = copied();
        let since = s.next();
        s.exec(200);
        for asked in [Some(&[][..]), None] {
            let found = s.not_executed(201, libc::ETXTBSY, "/tmp/p", asked, since);
            assert_eq!(found.first().map(|f| f.confidence), Some(Confidence::Likely), "{found:?}");
        }
        assert!(s.busy(201, &[]).is_empty(), "who has it is not known");
    }

    #[test]
    fn what_is_executed_later_is_a_note_and_what_is_not_an_error_at_the_end_of_who_starts_it() {
        let refuse = |s: &mut Script, tid: i32| {
            let info = CallInfo { name: "execve", args: [64, 0, 0, 0, 0, 0], ret: Some(-i64::from(libc::ETXTBSY)) };
            let (path, file, since) = (b"./p".to_vec(), b"/tmp/p".to_vec(), s.next());
            let writers = Some(vec![(Tid(200), Fd(3))]);
            let effects = vec![Effect::NotExecuted { path, file, inode: None, writers, since }];
            own(s.event(Tid(tid), EventKind::Call(Call { info, effects, site: Site::default() })))
        };
        // By the program's name, and a script by its interpreter's argument.
        for argv in [&["/tmp/p"][..], &["/bin/sh", "./p"], &["/bin/sh", "-e", "./p"]] {
            let mut s = copied();
            assert!(refuse(&mut s, 201).is_empty(), "it may yet be executed");
            assert!(own(s.exit(201)).is_empty(), "who starts it goes on");
            s.fork(MAIN, 202);
            assert!(own(s.exec_as(202, &["/bin/other"], &[])).is_empty());
            s.fork(MAIN, 203);
            let found = own(s.exec_as(203, argv, &[]));
            assert_eq!(found.first().map(|f| (f.severity, f.confidence)), Some((Severity::Note, Confidence::Possible)));
            // One in the same places that is never executed is not lost in its count.
            let error = s.busy(203, &[(200, 3)]);
            let mut folds = Folds::default();
            let folded: Vec<Folded> = found.iter().chain(&error).map(|f| folds.fold(f, 0)).collect();
            assert_eq!(folded, [Folded::New, Folded::New]);
        }
        // Somebody else's success is none of it.
        let mut s = copied();
        s.fork(MAIN, 204);
        s.exec_as(204, &["/bin/make"], &[]);
        s.fork(Tid(204), 205);
        assert!(refuse(&mut s, 205).is_empty());
        assert!(own(s.exec_as(201, &["/tmp/p"], &[])).is_empty());
        assert!(own(s.exit(205)).is_empty());
        let found = own(s.exit(204));
        assert_eq!(found.first().map(|f| f.severity), Some(Severity::Error), "{found:?}");
    }

    #[test]
    fn the_file_counts_and_not_its_name() {
        let mut s = Script::with_stdio();
        s.open(MAIN, 3, "/tmp/p");
        s.fork(MAIN, 200);
        s.close(MAIN, 3);
        // Another file, which gets the name of the first.
        s.open(MAIN, 4, "/tmp/p.new");
        s.fork(MAIN, 201);
        let found = s.busy(201, &[(100, 4)]);
        let [f] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((f.confidence, f.fd.0), (Confidence::Certain, 4));
        assert!(f.title.contains("process 100 (job) has the file open") && f.title.contains("/tmp/p "), "{}", f.title);
        assert!(s.busy(201, &[]).is_empty(), "who has a file of this name open still, was asked");
        // A log from before the kernel was asked has the names alone.
        let found = s.not_executed(201, libc::ETXTBSY, "/tmp/p", None, s.next());
        assert_eq!(found.first().map(|f| (f.confidence, f.fd.0)), Some((Confidence::Likely, 3)), "{found:?}");
    }

    #[test]
    fn other_errors_other_files_and_readers_are_none() {
        let mut s = copied();
        assert!(s.not_executed(201, libc::ENOENT, "", None, s.next()).is_empty());
        assert!(s.not_executed(201, libc::ETXTBSY, "/tmp/q", None, s.next()).is_empty());
        s.close(200, 3);
        s.open_with(MAIN, 3, "/tmp/p", libc::O_RDONLY);
        assert!(s.not_executed(201, libc::ETXTBSY, "/tmp/p", None, s.next()).is_empty());
    }
}

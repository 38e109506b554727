//! `leak-across-exec`: a program inherits a descriptor that is neither stdio nor promised to it.

use super::descent::{Crossing, Descent};
use super::meant::Meant;
use super::{
    About, Confidence, Finding, Inherit, Options, Rule, Seen, Severity, bound, object, opened, program_name, root,
    together,
};
use crate::base::{FileId, LifeId, Tid};
use crate::event::FileKind;
use crate::model::{Change, Life};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Findings that wait at once; what comes later is told at once.
const MOST_WAITING: usize = 4096;

/// The rule.
///
/// An object is looked at where it first crosses an exec: what a program does with what it was given is its own affair.
/// What was meant is told by how it came to its number: chosen by dup2, made inheritable on purpose, opened between fork
/// and exec, named in the arguments or the environment, or written down in a shell's script.
///
/// What a program inherits is one finding, of however many descriptors. It waits until one of the lives that were copied
/// ends: what becomes close-on-exec meanwhile was forked in between, and that is `cloexec-race`'s to tell.
pub(super) struct LeakAcrossExec {
    descent: Descent,
    allowed: Vec<Inherit>,
    meant: Meant,
    judged: HashSet<FileId>,
    /// Who has made a life close-on-exec, late.
    marked: HashMap<LifeId, Tid>,
    waiting: HashMap<LifeId, Waiting>,
    /// How many programs have been found to inherit something.
    programs: u64,
}

/// One that may have to be left out yet.
struct Waiting {
    program: u64,
    parent: Tid,
    leak: Finding,
}

/// What a program has inherited, told together.
fn of_a_program(mut leaks: Vec<Finding>) -> Vec<Finding> {
    leaks.sort_by_key(|l| l.fd);
    together(&leaks)
}

static ABOUT: About = About {
    name: "leak-across-exec",
    severity: Severity::Warning,
    summary: "a program inherits a descriptor that is neither stdio nor promised to it",
    page: include_str!("pages/leak-across-exec.md"),
};

impl LeakAcrossExec {
    pub(super) fn new(options: &Options) -> LeakAcrossExec {
        LeakAcrossExec {
            descent: Descent::default(),
            allowed: options.allow_inherit.clone(),
            meant: Meant::default(),
            judged: HashSet::new(),
            marked: HashMap::new(),
            waiting: HashMap::new(),
            programs: 0,
        }
    }
}

impl Rule for LeakAcrossExec {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        self.meant.see(seen);
        let mut out = Vec::new();
        for change in seen.changes {
            match change {
                // Who forks and then marks has no race, but the wrong order.
                Change::Cloexec(id) => {
                    if !seen.world.life(*id).is_some_and(|l| l.cloexec) {
                        continue;
                    }
                    if self.marked.len() < MOST_WAITING {
                        self.marked.insert(*id, seen.event.tid);
                    }
                    if self.waiting.get(id).is_some_and(|w| w.parent != seen.event.tid) {
                        self.waiting.remove(id);
                    }
                }
                Change::Ended(id) => {
                    self.marked.remove(id);
                    if let Some(program) = self.waiting.get(id).map(|w| w.program) {
                        out.extend(of_a_program(self.of(program)));
                    }
                }
                Change::Began(_) => {}
            }
        }
        let Some(crossing) = self.descent.see(seen) else { return out };
        self.programs += 1;
        let mut now = Vec::new();
        for (life, leak) in self.leaks(seen, &crossing) {
            // The flag came after the fork: a race, if it was another thread's.
            let by = self.marked.get(&life);
            if crossing.born.as_ref().is_some_and(|b| by.is_some_and(|t| *t != b.parent)) {
                continue;
            }
            let is_copied = crossing.born.is_some() && seen.world.life(life).is_some_and(|l| l.end.is_none());
            match (is_copied, &crossing.born) {
                (true, Some(born)) if self.waiting.len() < MOST_WAITING => {
                    self.waiting.insert(life, Waiting { program: self.programs, parent: born.parent, leak });
                }
                _ => now.push(leak),
            }
        }
        out.extend(of_a_program(now));
        out
    }

    fn rest(&mut self) -> Vec<Finding> {
        let programs: BTreeSet<u64> = self.waiting.values().map(|w| w.program).collect();
        programs.into_iter().flat_map(|program| of_a_program(self.of(program))).collect()
    }
}

impl LeakAcrossExec {
    /// Takes what a program has inherited out of what waits.
    fn of(&mut self, program: u64) -> Vec<Finding> {
        self.waiting.extract_if(|_, w| w.program == program).map(|(_, w)| w.leak).collect()
    }

    /// What crosses an exec and was not meant to, with the life that it is a copy of.
    fn leaks(&mut self, seen: &Seen<'_>, crossing: &Crossing) -> Vec<(LifeId, Finding)> {
        let world = seen.world;
        let Some(table) = world.task(seen.event.tid).and_then(|t| world.table(t.table)) else { return Vec::new() };
        let mut out = Vec::new();
        for life in table.open().filter(|(fd, _)| fd.0 > 2).filter_map(|(_, id)| world.life(id)) {
            bound(&mut self.judged);
            if !self.judged.insert(life.file) || self.is_meant(seen, crossing, life) {
                continue;
            }
            out.extend(leak(seen, crossing, life).map(|l| (root(world, life).id, l)));
        }
        out
    }

    fn is_meant(&self, seen: &Seen<'_>, crossing: &Crossing, life: &Life) -> bool {
        let Some(file) = seen.world.file(life.file).map(|f| &f.file) else { return true };
        self.meant.covers(seen, crossing, life) || self.allowed.iter().any(|a| a.covers(life.fd, file))
    }
}

fn leak(seen: &Seen<'_>, crossing: &Crossing, life: &Life) -> Option<Finding> {
    let world = seen.world;
    let process = world.process(crossing.pid)?;
    let name = program_name(&process.program);
    let file = &world.file(life.file)?.file;
    let mut evidence = vec![format!("nothing in the arguments or the environment of {name} names {}", life.fd)];
    match file.kind {
        FileKind::PipeWrite => evidence.push("whoever reads the pipe waits for this program, too".to_string()),
        FileKind::Path if file.flags & libc::O_DIRECTORY as u32 != 0 => {
            evidence.push("a directory outlives chroot and mount namespaces: paths below it can be opened".to_string());
        }
        _ => {}
    }
    Some(Finding {
        name: ABOUT.name,
        severity: ABOUT.severity,
        confidence: Confidence::Likely,
        fd: life.fd,
        tid: seen.event.tid,
        pid: crossing.pid,
        title: format!(
            "process {} ({name}) inherits fd {}, a {} that nobody has promised to it",
            crossing.pid,
            life.fd,
            file.noun()
        ),
        object: object(world, life)?,
        steps: vec![opened(root(world, life)), seen.executed(crossing.site(), format!("{name} has it open"))],
        evidence,
        help:
            "open it with O_CLOEXEC (SOCK_CLOEXEC, pipe2, fopen(…, \"e\")); what a program is meant to get, name with \
               --allow-inherit"
                .into(),
        count: 1,
        parts: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::base::Fd;

    fn own(found: Vec<Finding>) -> usize {
        found.iter().filter(|f| f.name == "leak-across-exec").count()
    }

    /// What is said of fd 7 of process 200, when it has executed /bin/x with these arguments and the parent ends.
    fn leaks(prepare: impl Fn(&mut Script), between: impl Fn(&mut Script), argv: &[&str]) -> usize {
        let mut s = Script::with_stdio();
        prepare(&mut s);
        s.fork(MAIN, 200);
        between(&mut s);
        own(s.exec_as(200, argv, &[])) + own(s.exit(MAIN.0))
    }

    fn plain(s: &mut Script) {
        s.open_with(MAIN, 7, "/tmp/a", libc::O_RDWR);
    }

    #[test]
    fn what_nobody_promised_is_a_leak_told_once() {
        assert_eq!(leaks(plain, |_| {}, &["/bin/x"]), 1);
        let mut s = Script::with_stdio();
        plain(&mut s);
        for child in [200, 201, 202] {
            s.fork(MAIN, child);
            assert_eq!(own(s.exec_as(child, &["/bin/x"], &[])), 0, "it may become close-on-exec yet");
        }
        assert_eq!(own(s.close(MAIN, 7)), 1);
        assert_eq!(own(s.rest()), 0);
    }

    #[test]
    fn what_is_meant_is_none() {
        let none = |_: &mut Script| {};
        assert_eq!(leaks(|s| drop(s.open(MAIN, 7, "/tmp/a")), none, &["/bin/x"]), 0, "close-on-exec");
        assert_eq!(leaks(plain, none, &["/bin/x", "--fd=7"]), 0, "promised");
        assert_eq!(leaks(plain, none, &["/bin/x", "spawn(7)"]), 0, "mentioned");
        assert_eq!(leaks(plain, |s| drop(s.close(200, 7)), &["/bin/x"]), 0, "closed");
        assert_eq!(leaks(plain, |s| drop(s.dup2(200, 7, 1)), &["/bin/x"]), 1, "also stdio, but still open at 7");
        let placed = |s: &mut Script| {
            s.open(MAIN, 3, "/tmp/a");
            s.dup2(MAIN.0, 3, 7);
        };
        assert_eq!(leaks(placed, none, &["/bin/x"]), 0, "its number was chosen");
        let opened = |s: &mut Script| drop(s.open_with(Tid(200), 9, "/tmp/b", libc::O_RDONLY));
        assert_eq!(leaks(none, opened, &["/bin/x"]), 0, "opened for the program");
        let inheritable = |s: &mut Script| {
            s.open(MAIN, 7, "/tmp/a");
            s.inheritable(MAIN, 7);
        };
        assert_eq!(leaks(inheritable, none, &["/bin/x"]), 0, "made inheritable");
        let in_child = |s: &mut Script| drop(s.inheritable(Tid(200), 7));
        assert_eq!(leaks(|s| drop(s.open(MAIN, 7, "/tmp/a")), in_child, &["/bin/x"]), 0, "pass_fds");
    }

    #[test]
    fn what_a_program_inherits_is_told_together() {
        let mut s = Script::with_stdio();
        for fd in [9, 7, 8] {
            s.open_with(MAIN, fd, &format!("/tmp/{fd}"), libc::O_RDWR);
        }
        s.fork(MAIN, 200);
        s.exec_as(200, &["/bin/x"], &[]);
        s.fork(MAIN, 201);
        s.open_with(MAIN, 10, "/tmp/10", libc::O_RDWR);
        s.fork(MAIN, 202);
        s.exec_as(202, &["/bin/y"], &[]);
        let told: Vec<Finding> =
            s.close(MAIN, 8).into_iter().chain(s.exit(MAIN.0)).filter(|f| f.name == "leak-across-exec").collect();
        let [first, second] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((first.fd, second.fd), (Fd(7), Fd(10)), "what /bin/y inherits besides was told before");
        assert!(first.title.ends_with("that nobody has promised to it, and 2 more"), "{}", first.title);
        let others = "with it goes fd 8, a file (/tmp/8); fd 9, a file (/tmp/9)";
        assert!(first.evidence.iter().any(|e| e == others), "{:?}", first.evidence);
        assert!(!second.title.contains("more"), "{}", second.title);
    }

    #[test]
    fn a_shells_descriptors_are_its_scripts() {
        let mut s = Script::with_stdio();
        s.exec_as(MAIN.0, &["/usr/bin/bash"], &[]);
        plain(&mut s);
        s.fork(MAIN, 200);
        assert_eq!(own(s.exec_as(200, &["/bin/x"], &[])) + own(s.exit(MAIN.0)), 0);
        // And what x starts has it from the shell.
        s.fork(Tid(200), 201);
        assert_eq!(own(s.exec_as(201, &["/bin/y"], &[])) + own(s.exit(200)), 0);
    }

    #[test]
    fn what_becomes_close_on_exec_by_another_thread_is_a_race() {
        let mut s = Script::with_stdio();
        let other = s.thread(MAIN, 101);
        plain(&mut s);
        s.fork(other, 200);
        s.exec_as(200, &["/bin/x"], &[]);
        s.set_cloexec(MAIN, 7);
        assert_eq!(own(s.close(MAIN, 7)), 0);
    }

    #[test]
    fn an_exec_without_a_fork_tells_at_once() {
        let mut s = Script::with_stdio();
        plain(&mut s);
        assert_eq!(own(s.exec_as(MAIN.0, &["/bin/init"], &[])), 1);
    }

    #[test]
    fn the_user_may_allow_it() {
        let allowed = |what: &str| {
            let options = Options { allow_inherit: vec![Inherit::parse(what).unwrap()], ..Options::default() };
            let mut s = Script::with_stdio();
            s.obey(&options);
            plain(&mut s);
            own(s.exec_as(MAIN.0, &["/bin/init"], &[])) == 0
        };
        assert!(allowed("7") && allowed("/tmp/*") && !allowed("8"));
    }
}

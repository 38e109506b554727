//! Event scripts for rules: what happens in words, what the rules say to it.

use super::{Finding, Seen, rules};
use crate::base::{Fd, Pid, Tid};
use crate::event::*;
use crate::model::{Change, World};

pub(crate) const MAIN: Tid = Tid(100);

pub(crate) struct Script {
    pub(crate) world: World,
    rules: Vec<Box<dyn super::Rule>>,
    at: u64,
    site: Option<Site>,
    plumbing: Vec<Plumbing>,
    /// What happened, with what it changed.
    pub(crate) events: Vec<(Event, Vec<Change>)>,
}

impl Script {
    pub(crate) fn new() -> Script {
        let mut s =
            Script { world: World::new(), rules: rules(), at: 0, site: None, plumbing: Vec::new(), events: Vec::new() };
        let program = Program { exe: b"/usr/bin/job".to_vec(), argv: vec![b"job".to_vec()], ..Program::default() };
        s.event(MAIN, EventKind::Start(Start { pid: Pid(MAIN.0), parent: None, program, table: Found::Own(vec![]) }));
        s
    }

    /// When the next event happens.
    pub(crate) fn next(&self) -> u64 {
        self.at + 1000
    }

    /// What the code that forks next has opened for itself.
    pub(crate) fn plumbing(&mut self, fd: i32, at: u64, outside: &[u64]) -> &mut Script {
        self.plumbing.push(Plumbing { fd: Fd(fd), at, outside: outside.to_vec(), by: Frames::Native });
        self
    }

    /// The site of the next call, in place of an empty one.
    pub(crate) fn at(&mut self, site: Site) -> &mut Script {
        self.site = Some(site);
        self
    }

    pub(crate) fn event(&mut self, tid: Tid, kind: EventKind) -> Vec<Finding> {
        self.at += 1000;
        let event = Event { at: self.at, tid, kind };
        let transitions = self.world.consequences(&event);
        let changes = self.world.commit(&event, transitions);
        let seen = Seen { world: &self.world, event: &event, changes: &changes };
        let found = self.rules.iter_mut().flat_map(|r| r.check(&seen)).collect();
        self.events.push((event, changes));
        found
    }

    /// Nothing more is seen.
    pub(crate) fn rest(&mut self) -> Vec<Finding> {
        self.rules.iter_mut().flat_map(|r| r.rest()).collect()
    }

    fn call(
        &mut self,
        tid: Tid,
        name: &'static str,
        args: &[i64],
        ret: i64,
        effects: Vec<Effect>,
        site: Site,
    ) -> Vec<Finding> {
        let mut six = [0; 6];
        args.iter().zip(&mut six).for_each(|(a, s)| *s = *a as u64);
        let info = CallInfo { name, args: six, ret: Some(ret) };
        let site = self.site.take().unwrap_or(site);
        self.event(tid, EventKind::Call(Call { info, effects, site }))
    }

    pub(crate) fn open(&mut self, tid: Tid, fd: i32, path: &str) -> Vec<Finding> {
        let file =
            NewFile::from_link(path.as_bytes().to_vec(), (libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC) as u32);
        let args = [i64::from(libc::AT_FDCWD), 0, (libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC).into()];
        self.call(
            tid,
            "openat",
            &args,
            fd.into(),
            vec![Effect::Open { fd: Fd(fd), cloexec: true, file }],
            Site::default(),
        )
    }

    pub(crate) fn pipe(&mut self, tid: Tid, read: i32, write: i32) {
        let end = |fd, flags: i32| Effect::Open {
            fd: Fd(fd),
            cloexec: true,
            file: NewFile::from_link(b"pipe:[9]".to_vec(), flags as u32),
        };
        self.call(
            tid,
            "pipe2",
            &[0x7ffc_0000_1000, libc::O_CLOEXEC.into()],
            0,
            vec![end(read, libc::O_RDONLY), end(write, libc::O_WRONLY)],
            Site::default(),
        );
    }

    pub(crate) fn close(&mut self, tid: impl Into<Id>, fd: i32) -> Vec<Finding> {
        self.close_by(tid, fd, Cause::Explicit, None)
    }

    pub(crate) fn close_by(
        &mut self,
        tid: impl Into<Id>,
        fd: i32,
        cause: Cause,
        escape: Option<Escape>,
    ) -> Vec<Finding> {
        let site = Site { cause, escape, ..Site::default() };
        self.call(tid.into().0, "close", &[fd.into()], 0, vec![Effect::Close { fd: Fd(fd) }], site)
    }

    pub(crate) fn refused(&mut self, tid: i32, fd: i32, to: Option<i32>) -> Vec<Finding> {
        let effect = Effect::Refused { fd: Fd(fd), to: to.map(Fd), close: false };
        self.call(Tid(tid), "dup2", &[fd.into(), to.unwrap_or(-1).into()], -9, vec![effect], Site::default())
    }

    pub(crate) fn set_cloexec(&mut self, tid: Tid, fd: i32) -> Vec<Finding> {
        self.call(tid, "fcntl", &[fd.into(), 2, 1], 0, vec![Effect::Cloexec { fd: Fd(fd), on: true }], Site::default())
    }

    pub(crate) fn refused_setfd(&mut self, tid: Tid, fd: i32) -> Vec<Finding> {
        let effect = Effect::Refused { fd: Fd(fd), to: None, close: false };
        self.call(tid, "fcntl", &[fd.into(), libc::F_SETFD.into(), 1], -9, vec![effect], Site::default())
    }

    pub(crate) fn refused_dupfd(&mut self, tid: Tid, fd: i32) -> Vec<Finding> {
        let effect = Effect::Refused { fd: Fd(fd), to: None, close: false };
        self.call(tid, "fcntl", &[fd.into(), libc::F_DUPFD.into(), 10], -9, vec![effect], Site::default())
    }

    /// A step of a loop that marks what was never there.
    pub(crate) fn vain(&mut self, tid: Tid, fd: i32) -> Vec<Finding> {
        self.call(
            tid,
            "fcntl",
            &[fd.into(), libc::F_SETFD.into(), 1],
            0,
            vec![Effect::Vain { fd: Fd(fd) }],
            Site::default(),
        )
    }

    pub(crate) fn refused_close(&mut self, tid: i32, fd: i32) -> Vec<Finding> {
        let effect = Effect::Refused { fd: Fd(fd), to: None, close: true };
        self.call(Tid(tid), "close", &[fd.into()], -9, vec![effect], Site::default())
    }

    pub(crate) fn dup2(&mut self, tid: i32, from: i32, to: i32) -> Vec<Finding> {
        let effect = Effect::Alias { from: Fd(from), to: Fd(to), cloexec: false };
        self.call(Tid(tid), "dup2", &[from.into(), to.into()], to.into(), vec![effect], Site::default())
    }

    pub(crate) fn fork(&mut self, parent: Tid, child: i32) -> Vec<Finding> {
        self.fork_holding(parent, child, vec![])
    }

    pub(crate) fn fork_holding(&mut self, parent: Tid, child: i32, held: Vec<(Fd, Held)>) -> Vec<Finding> {
        let fork = Fork {
            child: Tid(child),
            child_pid: Pid(child),
            shares_files: false,
            shares_memory: true,
            site: Site::default(),
            held,
            plumbing: std::mem::take(&mut self.plumbing),
        };
        self.event(parent, EventKind::Fork(fork))
    }

    pub(crate) fn exec(&mut self, tid: i32) -> Vec<Finding> {
        self.event(Tid(tid), EventKind::Exec { former: Tid(tid), program: Program::default() })
    }

    /// Executes a program with these arguments (the zeroth is the program) and this of its environment.
    pub(crate) fn exec_as(&mut self, tid: i32, argv: &[&str], env: &[&str]) -> Vec<Finding> {
        let bytes = |list: &[&str]| list.iter().map(|s| s.as_bytes().to_vec()).collect::<Vec<_>>();
        let exe = argv.first().map(|a| a.as_bytes().to_vec()).unwrap_or_default();
        let program = Program { exe, argv: bytes(argv), env: bytes(env), most_fds: None };
        self.event(Tid(tid), EventKind::Exec { former: Tid(tid), program })
    }

    /// Opens with these O_* flags; O_CLOEXEC among them counts.
    pub(crate) fn open_with(&mut self, tid: Tid, fd: i32, path: &str, flags: i32) -> Vec<Finding> {
        let file = NewFile::from_link(path.as_bytes().to_vec(), (flags & !libc::O_CLOEXEC) as u32);
        let effect = Effect::Open { fd: Fd(fd), cloexec: flags & libc::O_CLOEXEC != 0, file };
        let args = [i64::from(libc::AT_FDCWD), 0, flags.into()];
        self.call(tid, "openat", &args, fd.into(), vec![effect], Site::default())
    }

    /// A pipe whose ends survive an exec.
    pub(crate) fn open_pipe(&mut self, tid: Tid, read: i32, write: i32) -> Vec<Finding> {
        let end = |fd, flags: i32| Effect::Open {
            fd: Fd(fd),
            cloexec: false,
            file: NewFile::from_link(b"pipe:[11]".to_vec(), flags as u32),
        };
        let effects = vec![end(read, libc::O_RDONLY), end(write, libc::O_WRONLY)];
        self.call(tid, "pipe", &[0x7ffc_0000_1000], 0, effects, Site::default())
    }

    /// The standard streams, from a terminal that was there before.
    pub(crate) fn with_stdio() -> Script {
        let mut s = Script::new();
        let file = NewFile::from_link(b"/dev/pts/0".to_vec(), libc::O_RDWR as u32);
        let present = |fd| Present { fd: Fd(fd), cloexec: false, file: file.clone(), same_as: None };
        let corrections = (0..3).map(|fd| Correction::Appeared(present(fd))).collect();
        s.event(MAIN, EventKind::Reconciled { raced: true, corrections });
        s
    }

    /// Rules as the user wants them, in place of the default ones; they have seen nothing before.
    pub(crate) fn obey(&mut self, options: &super::Options) {
        self.rules = super::rules_for(options);
        let before = std::mem::take(&mut self.events);
        for (event, changes) in &before {
            let seen = Seen { world: &self.world, event, changes };
            self.rules.iter_mut().for_each(|r| drop(r.check(&seen)));
        }
        self.events = before;
    }

    /// A thread of `parent`'s process.
    pub(crate) fn thread(&mut self, parent: Tid, child: i32) -> Tid {
        let child_pid = self.world.task(parent).map_or(Pid(parent.0), |t| t.pid);
        let fork = Fork {
            child: Tid(child),
            child_pid,
            shares_files: true,
            shares_memory: true,
            site: Site::default(),
            held: vec![],
            plumbing: vec![],
        };
        self.event(parent, EventKind::Fork(fork));
        Tid(child)
    }

    pub(crate) fn inheritable(&mut self, tid: Tid, fd: i32) -> Vec<Finding> {
        self.call(tid, "fcntl", &[fd.into(), 2, 0], 0, vec![Effect::Cloexec { fd: Fd(fd), on: false }], Site::default())
    }

    pub(crate) fn exit(&mut self, tid: i32) -> Vec<Finding> {
        self.event(Tid(tid), EventKind::Exit { status: ExitStatus::Code(0) })
    }
}

/// A tid, written as a number or as one.
pub(crate) struct Id(pub(crate) Tid);

impl From<Tid> for Id {
    fn from(t: Tid) -> Id {
        Id(t)
    }
}

impl From<i32> for Id {
    fn from(t: i32) -> Id {
        Id(Tid(t))
    }
}

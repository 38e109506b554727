//! Where: native and Python stacks at the moments that matter, and what they say.

use super::activations::Activations;
use super::names::{native_frame, python_frame};
use crate::base::{Fd, Pid, PyStackId, ReadMemory, Regs, StackId, Tid};
use crate::event::{Cause, Escape, Held, Plumbing, Site};
use crate::kernel::Memory;
use crate::render::why::cause_of;
use crate::render::{NativeFrame, PythonFrame};
use crate::stack::lang::python::{self, Pythons, SpawnArgument};
use crate::stack::{self, Keys, Library, Named, SpaceId, StackCoverage, StackEnd, Stacks, Stretch};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much of the time that has passed may go into Python stacks that are only nice to have.
const PYTHON_SHARE: u32 = 8;
/// And how much on top of it, so that short programs are seen whole.
const PYTHON_GRACE: Duration = Duration::from_millis(300);

/// Frames of all distinct Python stacks together (48 bytes each): 6 MiB.
const PYTHON_FRAMES_KEPT: usize = 128 << 10;

/// A stopped task, for the stacks.
#[derive(Clone, Copy)]
pub(super) struct Where {
    pub(super) pid: Pid,
    pub(super) tid: Tid,
    pub(super) space: SpaceId,
    pub(super) regs: Regs,
    pub(super) memory: Memory,
}

impl Where {
    fn python<'a>(&'a self, stack: Stretch<'a>) -> python::Task<'a> {
        python::Task { pid: self.pid, tid: self.tid, fs_base: Some(self.regs.fs_base), space: &self.memory, stack }
    }
}

/// A Python frame as it is interned: function, file, line, whether it is an entry.
type Key = (Arc<str>, Arc<str>, Option<u32>, bool);

/// Takes stacks, and keeps them.
pub(super) struct Sites {
    stacks: Stacks,
    pythons: Pythons,
    by_frames: FxHashMap<Arc<[Key]>, PyStackId>,
    python_stacks: Vec<Arc<[Key]>>,
    python_frames: usize,
    /// Stacks that came when there was no more room.
    python_lost: u64,
    began: Instant,
    spent: Duration,
    skipped: u64,
    next_space: u32,
    activations: Activations,
    /// By stack, of which there is a bounded number.
    owners: FxHashMap<StackId, (Option<Arc<str>>, usize)>,
}

impl Sites {
    pub(super) fn new() -> Sites {
        Sites {
            stacks: Stacks::new(),
            pythons: Pythons::new(),
            by_frames: FxHashMap::default(),
            python_stacks: Vec::new(),
            python_frames: 0,
            python_lost: 0,
            began: Instant::now(),
            spent: Duration::ZERO,
            skipped: 0,
            next_space: 0,
            activations: Activations::default(),
            owners: FxHashMap::default(),
        }
    }

    /// A new address space.
    pub(super) fn new_space(&mut self) -> SpaceId {
        self.next_space += 1;
        SpaceId(self.next_space)
    }

    /// A copy of an address space, for a child process.
    pub(super) fn fork(&mut self, parent: SpaceId, parent_pid: Pid, child_pid: Pid) -> SpaceId {
        let child = self.new_space();
        self.stacks.fork_space(parent, child);
        self.pythons.fork(parent_pid, child_pid);
        child
    }

    /// An address space is gone, and with it what ran there.
    pub(super) fn drop_space(&mut self, space: SpaceId, pid: Pid) {
        self.stacks.drop_space(space);
        self.pythons.forget(pid);
        self.activations.forget(pid);
    }

    /// The stacks here; `ends` is the descriptor that is being closed, if one is.
    pub(super) fn site(&mut self, at: &Where, ends: Option<Fd>) -> Site {
        let (site, python) = self.look(at, ends);
        self.see(at.tid, &site, python);
        site
    }

    fn see(&mut self, tid: Tid, site: &Site, python: Option<Keys>) {
        let native = site.stack.and_then(|s| self.stacks.activations(s));
        let own = site.stack.map_or(0, |s| self.owner(s).1);
        self.activations.see(tid, native, python, own);
    }

    /// Whose code the innermost frame of a stack is that is no runtime's and no system library's; and how many frames there
    /// are from the outermost to it.
    fn owner(&mut self, stack: StackId) -> (Option<Arc<str>>, usize) {
        if let Some(known) = self.owners.get(&stack) {
            return known.clone();
        }
        let frames = self.stacks.frames(stack);
        let own = frames.iter().enumerate().find_map(|(i, frame)| {
            let name = stack::file_name(self.stacks.module(frame.module?)?.path());
            Library::of_module(&name).is_none().then(|| (Some(Arc::from(name)), frames.len() - i))
        });
        let own = own.unwrap_or_default();
        self.owners.insert(stack, own.clone());
        own
    }

    /// The stacks of a task that just stands still, whole whatever they cost: somebody asked for them.
    pub(super) fn standing(&mut self, at: &Where) -> Site {
        self.look_for(at, None, true).0
    }

    /// The stacks here, and the activations of the Python frames among them.
    fn look(&mut self, at: &Where, ends: Option<Fd>) -> (Site, Option<Keys>) {
        self.look_for(at, ends, false)
    }

    fn look_for(&mut self, at: &Where, ends: Option<Fd>, whole: bool) -> (Site, Option<Keys>) {
        let id = self.stacks.capture(at.space, &at.regs, &at.memory);
        let verdict = self.stacks.cause(id);
        let mut site = Site { stack: Some(id), owner: self.owner(id).0, ..Site::default() };
        if ends.is_some() {
            site.cause = cause_of(verdict.cause);
        }
        if !verdict.python {
            return (site, None);
        }
        let implicit = site.cause.is_implicit();
        let doubtful = ends.is_some() && verdict.finalizers_unnamed && site.cause == Cause::Explicit;
        if !whole && !implicit && !doubtful && !self.can_afford() {
            self.skipped += 1;
            return (site, None);
        }
        let start = Instant::now();
        let task = at.python(self.stacks.stretch());
        if let (true, Some(fd)) = (implicit || doubtful, ends) {
            site.escape = match self.pythons.escape(&task, fd.0) {
                Ok(Some(python::Escape::FilenoCall { .. })) => Some(Escape::FilenoCall),
                Ok(Some(python::Escape::ReturnsFileno { .. })) => Some(Escape::ReturnsFileno),
                Ok(Some(python::Escape::Holds { name, .. })) => Some(Escape::Holds(name.into())),
                Ok(None) => None,
                Err(why) => {
                    tracing::debug!(%why, pid = at.pid.0, "no evidence from Python");
                    None
                }
            };
        }
        if doubtful && site.escape.is_some() {
            // The frame is at a call of fileno(), or drops the object: neither calls close().
            site.cause = Cause::Finalizer;
        }
        let mut activations = None;
        match self.pythons.trace(&task) {
            Ok(trace) => {
                site.py = self.intern(&trace);
                // The `__exit__` of 3.8's and 3.9's files ends with a jump: it is not on the native stack.
                if site.cause == Cause::Explicit && trace.leaves_with {
                    site.cause = Cause::With;
                }
                activations = Some(trace.activations).filter(|a| !a.is_empty());
            }
            Err(why) => tracing::debug!(%why, pid = at.pid.0, "no Python stack"),
        }
        self.spent += start.elapsed();
        (site, activations)
    }

    /// The stacks of a task that has just made another.
    ///
    /// glibc's `clone` and `clone3` say of themselves that nobody called them, so that a debugger does not look for the
    /// caller of a new thread. In the parent they are leaves all the same: the word at the stack pointer is the return
    /// address (sysdeps/unix/sysv/linux/x86_64/clone3.S; the test `posix_spawn_has_a_stack`).
    pub(super) fn site_of_fork(&mut self, at: &Where) -> Site {
        let (site, python) = self.look(at, None);
        let is_leaf = |sites: &Sites, site: &Site| site.stack.is_none_or(|s| sites.stacks.frames(s).len() <= 1);
        let leaf = is_leaf(self, &site) && !at.regs.is_32bit();
        let caller = leaf.then(|| at.memory.word(at.regs.rsp)).flatten();
        let outer = caller.map(|caller| {
            let regs = Regs { rip: caller, rsp: at.regs.rsp.wrapping_add(8), ..at.regs };
            self.look(&Where { regs, ..*at }, None)
        });
        let (site, python) = match outer {
            Some(outer) if !is_leaf(self, &outer.0) => outer,
            // The activations are those of the stack that was looked at last.
            Some(_) => return site,
            None => (site, python),
        };
        self.see(at.tid, &site, python);
        site
    }

    /// Lives began on these numbers of a process, where its task `tid` was looked at last.
    pub(super) fn opened(&mut self, pid: Pid, tid: Tid, fds: impl Iterator<Item = Fd>, at: u64) {
        fds.for_each(|fd| self.activations.opened(pid, tid, fd, at));
    }

    /// What the code that is making a child has opened for itself; to be called after [`Sites::site_of_fork`].
    pub(super) fn plumbing(&self, pid: Pid, tid: Tid) -> Vec<Plumbing> {
        self.activations.plumbing(pid, tid)
    }

    /// A task is gone, or runs another program.
    pub(super) fn forget_task(&mut self, tid: Tid) {
        self.activations.forget_task(tid);
    }

    /// What the frames that are starting a child hold for each of `fds`.
    pub(super) fn held(&mut self, at: &Where, stack: Option<StackId>, fds: Vec<Fd>) -> Vec<(Fd, Held)> {
        if fds.is_empty() || !stack.is_some_and(|s| self.stacks.has_python(s)) {
            return Vec::new();
        }
        let mut out = Vec::new();
        for fd in fds {
            match self.pythons.spawn_argument(&at.python(Stretch::default()), fd.0) {
                Ok(Some(SpawnArgument::RawInt { name, .. })) => out.push((fd, Held::Number(name.into()))),
                Ok(Some(SpawnArgument::FileObject { name, .. })) => out.push((fd, Held::Object(name.into()))),
                Ok(None) => {}
                Err(why) => tracing::debug!(%why, "what the spawner holds is not known"),
            }
        }
        out
    }

    fn can_afford(&self) -> bool {
        self.spent <= PYTHON_GRACE + self.began.elapsed() / PYTHON_SHARE
    }

    fn intern(&mut self, trace: &python::PyStack) -> Option<PyStackId> {
        let key: Arc<[Key]> =
            trace.frames.iter().map(|f| (Arc::clone(&f.function), Arc::clone(&f.file), f.line, f.entry)).collect();
        if let Some(id) = self.by_frames.get(&key) {
            return Some(*id);
        }
        if self.python_frames + key.len() > PYTHON_FRAMES_KEPT {
            self.python_lost += 1;
            return None;
        }
        self.python_frames += key.len().max(1);
        let id = PyStackId(self.python_stacks.len() as u32);
        self.python_stacks.push(Arc::clone(&key));
        self.by_frames.insert(key, id);
        Some(id)
    }

    pub(super) fn native(&mut self, id: StackId) -> Arc<[NativeFrame]> {
        self.stacks.explain(id).iter().map(native_frame).collect()
    }

    pub(super) fn fetch_with(&mut self, fetch: Box<stack::Fetch>) {
        self.stacks.fetch_with(fetch);
    }

    /// The frames of a native stack with their names.
    pub(super) fn named(&mut self, id: StackId) -> Arc<[Named]> {
        self.stacks.explain(id)
    }

    /// The names at one native frame.
    pub(super) fn named_frame(&mut self, frame: stack::Frame) -> Arc<[Named]> {
        self.stacks.explain_frame(frame)
    }

    /// The native stacks.
    pub(super) fn stacks(&self) -> &Stacks {
        &self.stacks
    }

    pub(super) fn truncated(&self, id: StackId) -> Option<String> {
        match self.stacks.end(id) {
            StackEnd::Complete => None,
            StackEnd::Truncated(why) => Some(why.to_string()),
        }
    }

    pub(super) fn python(&self, id: PyStackId) -> Arc<[PythonFrame]> {
        let frames = self.python_stacks.get(id.0 as usize);
        frames
            .iter()
            .flat_map(|f| f.iter())
            .map(|(function, file, line, entry)| python_frame(function, file, *line, *entry))
            .collect()
    }

    pub(super) fn coverage(&self) -> StackCoverage {
        self.stacks.coverage()
    }

    pub(super) fn python_coverage(&self) -> &python::Coverage {
        self.pythons.coverage()
    }

    /// Lives of which it is forgotten in which calls of functions they began, to bound memory.
    pub(super) fn activations_forgotten(&self) -> u64 {
        self.activations.forgotten()
    }

    /// Python stacks that were not kept, because there were too many different ones.
    pub(super) fn python_lost(&self) -> u64 {
        self.python_lost
    }

    pub(super) fn python_skipped(&self) -> u64 {
        self.skipped
    }
}

//! Which life this is, counted while it happens.

use super::fingerprint::{Fingerprint, ModuleFrame, PythonLine};
use crate::base::{Fd, LifeId, Pid, PyStackId, StackId, Tid};
use crate::event::{Event, EventKind, Site};
use crate::model::{Change, Life, Origin, World};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// How many stacks have their fingerprints remembered.
const FINGERPRINTS: usize = 64 << 10;
/// How many opening places of one process are counted; lives of later ones have the ordinal 0.
const PLACES: usize = 64 << 10;
/// A process deeper in the tree than this is named by its last ancestors only.
const DEPTH: usize = 64;

/// The frames of a session's stacks; the session implements it.
pub trait Stacks {
    /// The physical frames of a native stack, innermost first, none inlined.
    fn module_frames(&self, id: StackId) -> Vec<ModuleFrame>;
    /// The frames of a Python stack, innermost first.
    fn python_lines(&self, id: PyStackId) -> Vec<PythonLine>;
}

/// Which life this is, in terms that another run has, too: together with its path (see [`super::same_path`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The life in this run.
    pub life: LifeId,
    /// Of the stack that opened it.
    pub opening: Fingerprint,
    /// It is the nth life with this opening fingerprint that its process began while it was watched, from 1; 0 where too
    /// many places opened something to count.
    pub ordinal: u32,
    /// The process's place in the tree: `0` for the first program, `0.1.3` for the third process that the first one which
    /// it made has made. Roots that nobody who is watched has made are `1`, `2` and so on.
    pub place: Arc<str>,
}

/// A process as it is counted.
struct Process {
    place: Arc<str>,
    /// Processes it has made.
    made: u32,
    counts: FxHashMap<Fingerprint, u32>,
}

/// Counts processes and lives. Copies that a fork made, or an unshare, are the lives that they are copies of.
///
/// What it keeps is bounded by what the [`World`] remembers.
#[derive(Default)]
pub struct Ledger {
    processes: FxHashMap<Pid, Process>,
    roots: u32,
    marks: FxHashMap<(u64, Tid, Fd), Mark>,
    known: FxHashMap<(Option<StackId>, Option<PyStackId>), Fingerprint>,
    /// Of the findings, in their order.
    found: Vec<Option<Mark>>,
}

impl Ledger {
    /// Knows nothing yet.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// Takes note of an event that was committed. To be called for each, in order.
    pub fn note(&mut self, world: &World, event: &Event, changes: &[Change], stacks: &dyn Stacks) {
        match &event.kind {
            EventKind::Start(start) if !self.lives_on(world, start.pid) => self.begin(world, start.pid, start.parent),
            EventKind::Fork(fork) => {
                let parent = world.task(event.tid).map(|t| t.pid);
                if parent != Some(fork.child_pid) {
                    self.begin(world, fork.child_pid, parent);
                }
            }
            _ => {}
        }
        for change in changes {
            if let Change::Began(id) = change
                && let Some(life) = world.life(*id)
                && is_own(life)
            {
                self.mark(world, life, stacks);
            }
        }
    }

    /// Takes note of the next finding as it is made, before the life that it is about is forgotten: `opening` is the
    /// moment, the task and the number with which that began.
    pub fn found(&mut self, opening: Option<(u64, Tid, Fd)>) {
        let mark = opening.and_then(|at| self.marks.get(&at).cloned());
        self.found.push(mark);
    }

    /// Forgets the findings that it has taken note of but for these, by their indices in order.
    pub fn keep_found(&mut self, left: &[usize]) {
        self.found = left.iter().map(|i| self.found.get(*i).cloned().flatten()).collect();
    }

    /// Of how many findings it has taken note.
    pub fn findings(&self) -> usize {
        self.found.len()
    }

    /// The life that the nth finding is about, from 0, if it is known.
    pub fn of_finding(&self, n: usize) -> Option<&Mark> {
        self.found.get(n)?.as_ref()
    }

    /// Which life this is; `None` for a copy that a fork made.
    pub fn of_life(&self, life: &Life) -> Option<&Mark> {
        self.marks.get(&key(life))
    }

    /// The place of a process in the tree, if it is alive.
    pub fn place(&self, pid: Pid) -> Option<&Arc<str>> {
        self.processes.get(&pid).map(|p| &p.place)
    }

    /// The fingerprint of the stacks of `site`.
    pub fn fingerprint(&mut self, site: &Site, stacks: &dyn Stacks) -> Fingerprint {
        let key = (site.stack, site.py);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let native = site.stack.map(|id| stacks.module_frames(id)).unwrap_or_default();
        let python = site.py.map(|id| stacks.python_lines(id));
        let new = Fingerprint::of(&native, python.as_deref());
        if self.known.len() >= FINGERPRINTS {
            self.known.clear();
        }
        self.known.insert(key, new);
        new
    }

    /// Whether this is another thread of a process that is counted already.
    fn lives_on(&self, world: &World, pid: Pid) -> bool {
        self.processes.contains_key(&pid) && world.process(pid).is_some_and(|p| p.tasks > 1)
    }

    fn begin(&mut self, world: &World, pid: Pid, parent: Option<Pid>) {
        let place = match parent.and_then(|p| self.processes.get_mut(&p)) {
            Some(parent) => {
                parent.made = parent.made.saturating_add(1);
                below(&parent.place, parent.made)
            }
            None => {
                self.roots = self.roots.saturating_add(1);
                (self.roots - 1).to_string().into()
            }
        };
        self.processes.insert(pid, Process { place, made: 0, counts: FxHashMap::default() });
        if self.processes.len() > 64 + 2 * world.processes().size_hint().0 {
            self.processes.retain(|pid, _| world.process(*pid).is_some_and(|p| p.tasks > 0));
        }
    }

    fn mark(&mut self, world: &World, life: &Life, stacks: &dyn Stacks) {
        let opening = self.fingerprint(&life.began.site, stacks);
        if !self.processes.contains_key(&life.began.pid) {
            self.begin(world, life.began.pid, None);
        }
        let Some(process) = self.processes.get_mut(&life.began.pid) else { return };
        let full = process.counts.len() >= PLACES;
        let ordinal = match process.counts.get_mut(&opening) {
            Some(n) => {
                *n = n.saturating_add(1);
                *n
            }
            None if full => 0,
            None => *process.counts.entry(opening).or_insert(1),
        };
        let place = Arc::clone(&process.place);
        self.marks.insert(key(life), Mark { life: life.id, opening, ordinal, place });
        if self.marks.len() > 1024 + 2 * world.lives().size_hint().0 {
            self.marks.retain(|_, m| world.life(m.life).is_some());
        }
    }
}

/// Whether a life is one of its own, and no copy of a table made it.
pub(crate) fn is_own(life: &Life) -> bool {
    !matches!(life.origin, Origin::Inherited(_) | Origin::Unshared(_))
}

fn key(life: &Life) -> (u64, Tid, Fd) {
    (life.began.at, life.began.tid, life.fd)
}

fn below(parent: &str, n: u32) -> Arc<str> {
    let mut place = format!("{parent}.{n}");
    if place.bytes().filter(|b| *b == b'.').count() > DEPTH {
        // Every generation of a daemon that replaces itself by forking is one deeper.
        if let Some((_, last)) = place.trim_start_matches("~.").split_once('.') {
            place = format!("~.{last}");
        }
    }
    place.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{CallInfo, Effect, ExitStatus, Fork, Found, NewFile, Program, Start};
    use proptest::prelude::*;

    /// Stack n is one frame at n in libc; Python stack n is line n of a.py.
    struct Paper;

    impl Stacks for Paper {
        fn module_frames(&self, id: StackId) -> Vec<ModuleFrame> {
            vec![ModuleFrame { module: "libc.so.6".into(), build_id: None, offset: u64::from(id.0) }]
        }

        fn python_lines(&self, id: PyStackId) -> Vec<PythonLine> {
            vec![PythonLine { file: "a.py".into(), function: "f".into(), line: Some(id.0) }]
        }
    }

    struct Run {
        world: World,
        ledger: Ledger,
        at: u64,
    }

    impl Run {
        fn new(pid: i32) -> Run {
            let mut run = Run { world: World::new(), ledger: Ledger::new(), at: 0 };
            run.start(pid, None);
            run
        }

        fn event(&mut self, tid: i32, kind: EventKind) -> Vec<Change> {
            self.at += 7;
            let event = Event { at: self.at, tid: Tid(tid), kind };
            let transitions = self.world.consequences(&event);
            let changes = self.world.commit(&event, transitions);
            self.ledger.note(&self.world, &event, &changes, &Paper);
            changes
        }

        fn start(&mut self, pid: i32, parent: Option<i32>) {
            let start = Start {
                pid: Pid(pid),
                parent: parent.map(Pid),
                program: Program::default(),
                table: Found::Own(vec![]),
            };
            self.event(pid, EventKind::Start(start));
        }

        fn fork(&mut self, parent: i32, child: i32, pid: i32) {
            let fork = Fork {
                child: Tid(child),
                child_pid: Pid(pid),
                shares_files: false,
                shares_memory: false,
                site: Site::default(),
                held: vec![],
                plumbing: vec![],
            };
            self.event(parent, EventKind::Fork(fork));
        }

        fn open(&mut self, tid: i32, fd: i32, stack: u32) -> Mark {
            let site = Site { stack: Some(StackId(stack)), ..Site::default() };
            let info = CallInfo { name: "openat", args: [0; 6], ret: Some(fd.into()) };
            let file = NewFile::from_link(b"/x".to_vec(), 0);
            let effects = vec![Effect::Open { fd: Fd(fd), cloexec: true, file }];
            self.event(tid, EventKind::Call(crate::event::Call { info, effects, site }));
            let life = self.world.open_life(Tid(tid), Fd(fd)).unwrap();
            self.ledger.of_life(life).unwrap().clone()
        }
    }

    #[test]
    fn lives_are_counted_by_place_and_process() {
        let mut run = Run::new(100);
        let what = |m: Mark| (m.place.to_string(), m.opening.native, m.ordinal);
        let (a, b) = (what(run.open(100, 3, 1)), what(run.open(100, 4, 2)));
        assert_eq!((a.0.as_str(), a.2), ("0", 1));
        assert!(a.1 != b.1 && b.2 == 1);
        assert_eq!(what(run.open(100, 5, 1)), (a.0.clone(), a.1, 2));
        run.fork(100, 101, 100);
        assert_eq!(what(run.open(101, 6, 1)), (a.0, a.1, 3), "a thread is its process");
        run.fork(100, 200, 200);
        run.fork(101, 201, 201);
        run.fork(201, 300, 300);
        assert_eq!(what(run.open(300, 7, 1)), ("0.2.1".into(), a.1, 1));
        run.event(300, EventKind::Exit { status: ExitStatus::Code(0) });
        run.fork(200, 300, 300);
        assert_eq!(what(run.open(300, 7, 1)), ("0.1.1".into(), a.1, 1), "a number that comes again is another process");
        run.start(7, None);
        run.start(8, Some(7));
        assert_eq!((run.open(7, 1, 1).place.as_ref(), run.open(8, 1, 1).place.as_ref()), ("1", "1.1"));
    }

    #[test]
    fn copies_are_no_lives_of_their_own() {
        let mut run = Run::new(1);
        run.open(1, 3, 1);
        run.fork(1, 2, 2);
        assert!(run.ledger.of_life(run.world.open_life(Tid(2), Fd(3)).unwrap()).is_none());
        assert_eq!(run.open(2, 4, 1).ordinal, 1);
    }

    #[test]
    fn what_is_kept_does_not_grow_with_the_events() {
        let mut run = Run::new(1);
        let mut parent = 1;
        for n in 2..5000 {
            run.fork(parent, n, n);
            let last = run.open(n, 3, n as u32);
            assert!(last.place.len() < 8 * DEPTH && last.place.ends_with(".1"), "{}", last.place);
            run.event(
                n,
                EventKind::Call(crate::event::Call {
                    info: CallInfo { name: "close", args: [3, 0, 0, 0, 0, 0], ret: Some(0) },
                    effects: vec![Effect::Close { fd: Fd(3) }],
                    site: Site::default(),
                }),
            );
            run.event(parent, EventKind::Exit { status: ExitStatus::Code(0) });
            parent = n;
        }
        assert!(run.ledger.processes.len() < 3000, "{}", run.ledger.processes.len());
        assert!(run.ledger.marks.len() < 3000, "{}", run.ledger.marks.len());
    }

    proptest! {
        /// The same steps with other pids give the same marks.
        #[test]
        fn pids_do_not_matter(steps in proptest::collection::vec((0..3u8, 0..8usize, 0..4u32), 1..60), shift in 1..1000i32) {
            let play = |shift: i32| {
                let mut run = Run::new(shift);
                let (mut alive, mut next, mut marks) = (vec![shift], shift, vec![]);
                for (what, who, stack) in &steps {
                    let who = alive[who % alive.len()];
                    if *what == 0 {
                        next += shift;
                        run.fork(who, next, next);
                        alive.push(next);
                    } else {
                        let m = run.open(who, 3, *stack);
                        marks.push((m.place.to_string(), m.opening, m.ordinal));
                    }
                }
                marks
            };
            prop_assert_eq!(play(1), play(shift));
        }
    }
}

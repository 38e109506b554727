//! Event scripts: what each call and each kind of task does to tables, lives and objects.

use super::*;
use crate::base::{Fd, Pid, Tid};
use crate::event::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A world and a clock, driven by words.
struct Script {
    world: World,
    at: u64,
}

const MAIN: Tid = Tid(100);

impl Script {
    fn new() -> Script {
        let mut s = Script { world: World::new(), at: 0 };
        let tty = |fd| Present {
            fd: Fd(fd),
            cloexec: false,
            file: file("/dev/tty"),
            same_as: (fd > 0).then_some((MAIN, Fd(0))),
        };
        s.event(MAIN, start(MAIN, (0..3).map(tty).collect()));
        s
    }

    fn event(&mut self, tid: Tid, kind: EventKind) -> Vec<Change> {
        self.at += 1;
        let event = Event { at: self.at, tid, kind };
        let t = self.world.consequences(&event);
        self.world.commit(&event, t)
    }

    fn does(&mut self, tid: Tid, effect: Effect) -> Vec<Change> {
        let info = CallInfo { name: "close", args: [0; 6], ret: Some(0) };
        self.event(tid, EventKind::Call(Call { info, effects: vec![effect], site: Site::default() }))
    }

    fn open(&mut self, tid: Tid, fd: i32, path: &str, cloexec: bool) {
        self.does(tid, Effect::Open { fd: Fd(fd), cloexec, file: file(path) });
    }

    fn fork(&mut self, parent: Tid, child: i32, pid: i32, shares_files: bool) {
        let fork = Fork {
            child: Tid(child),
            child_pid: Pid(pid),
            shares_files,
            shares_memory: false,
            site: Site::default(),
            held: vec![],
            plumbing: vec![],
        };
        self.event(parent, EventKind::Fork(fork));
    }

    fn exec(&mut self, tid: Tid, former: Tid) {
        self.event(tid, EventKind::Exec { former, program: Program::default() });
    }

    /// number -> object id, cloexec
    fn table(&self, tid: Tid) -> BTreeMap<i32, (u32, bool)> {
        let table = self.world.task(tid).expect("a living task").table;
        let open = self.world.table(table).expect("its table").open();
        open.map(|(fd, l)| (fd.0, (self.world.life(l).unwrap().file.0, self.world.life(l).unwrap().cloexec))).collect()
    }
}

fn start(tid: Tid, present: Vec<Present>) -> EventKind {
    EventKind::Start(Start { pid: Pid(tid.0), parent: None, program: Program::default(), table: Found::Own(present) })
}

fn file(path: &str) -> NewFile {
    NewFile::from_link(path.as_bytes().to_vec(), 0)
}

fn alias(from: i32, to: i32, cloexec: bool) -> Effect {
    Effect::Alias { from: Fd(from), to: Fd(to), cloexec }
}

#[test]
fn present_descriptors_share_objects_as_the_kernel_says() {
    let s = Script::new();
    assert_eq!(s.table(MAIN), BTreeMap::from([(0, (1, false)), (1, (1, false)), (2, (1, false))]));
    assert_eq!(s.world.file(crate::base::FileId(1)).unwrap().holders, 3);
}

#[test]
fn a_number_has_lives_and_an_object_has_holders() {
    let mut s = Script::new();
    s.open(MAIN, 3, "/a", true);
    s.does(MAIN, alias(3, 7, false));
    s.does(MAIN, Effect::Close { fd: Fd(3) });
    s.open(MAIN, 3, "/b", true);
    let table = s.table(MAIN);
    assert_eq!((table[&3], table[&7]), ((3, true), (2, false)));
    let task = s.world.task(MAIN).unwrap().table;
    let lives: Vec<_> = s.world.lineage(task, Fd(3)).map(|l| (l.file.0, l.end.is_some())).collect();
    assert_eq!(lives, [(3, false), (2, true)]);
    assert_eq!(s.world.file(crate::base::FileId(2)).unwrap().holders, 1);
}

#[test]
fn dup2_over_an_open_number_ends_its_life() {
    let mut s = Script::new();
    s.open(MAIN, 3, "/a", false);
    let changes = s.does(MAIN, alias(3, 1, false));
    let [Change::Ended(old), Change::Began(new)] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!(s.world.life(*old).unwrap().end.as_ref().unwrap().how, Ended::Replaced);
    assert_eq!(s.world.life(*new).unwrap().file, s.world.open_life(MAIN, Fd(3)).unwrap().file);
}

#[test]
fn fork_copies_and_clone_files_shares() {
    let mut s = Script::new();
    s.open(MAIN, 3, "/a", false);
    s.fork(MAIN, 200, 200, false);
    s.fork(MAIN, 101, 100, true);
    s.does(Tid(200), Effect::Close { fd: Fd(3) });
    assert!(s.table(MAIN).contains_key(&3), "a child's close is its own");
    s.does(Tid(101), Effect::Close { fd: Fd(3) });
    assert!(!s.table(MAIN).contains_key(&3), "a thread's close is everyone's");
}

#[test]
fn a_childs_lineage_goes_back_to_its_parent_up_to_the_fork() {
    let mut s = Script::new();
    s.open(MAIN, 3, "/first", false);
    s.does(MAIN, Effect::Close { fd: Fd(3) });
    s.open(MAIN, 3, "/second", false);
    s.fork(MAIN, 200, 200, false);
    s.does(MAIN, Effect::Close { fd: Fd(3) });
    s.open(MAIN, 3, "/later", false);
    s.does(Tid(200), Effect::Close { fd: Fd(3) });
    let table = s.world.task(Tid(200)).unwrap().table;
    let path = |l: &Life| String::from_utf8_lossy(&s.world.file(l.file).unwrap().file.path).into_owned();
    let lives: Vec<_> = s.world.lineage(table, Fd(3)).map(|l| (path(l), l.origin != Origin::Opened)).collect();
    assert_eq!(lives, [("/second".into(), true), ("/second".into(), false), ("/first".into(), false)]);
}

#[test]
fn exec_sweeps_close_on_exec_and_ends_the_window() {
    let mut s = Script::new();
    s.open(MAIN, 3, "/a", true);
    s.open(MAIN, 4, "/b", false);
    s.fork(MAIN, 200, 200, false);
    assert!(s.world.window(Tid(200)).is_some());
    s.exec(Tid(200), Tid(200));
    assert_eq!(s.table(Tid(200)).keys().copied().collect::<Vec<_>>(), [0, 1, 2, 4]);
    assert!(s.world.window(Tid(200)).is_none());
    assert_eq!(s.table(MAIN).len(), 5);
}

#[test]
fn exec_in_a_thread_takes_over_the_leader() {
    let mut s = Script::new();
    s.open(MAIN, 3, "/a", true);
    s.fork(MAIN, 101, 100, true);
    s.fork(MAIN, 102, 100, true);
    s.exec(MAIN, Tid(101));
    assert_eq!(s.world.tasks().map(|t| t.0).collect::<Vec<_>>(), [MAIN]);
    assert_eq!(s.table(MAIN).keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(s.world.process(Pid(100)).unwrap().tasks, 1);
}

#[test]
fn exec_with_a_shared_table_leaves_the_others_alone() {
    let mut s = Script::new();
    s.open(MAIN, 3, "/a", true);
    s.fork(MAIN, 200, 200, true);
    s.exec(Tid(200), Tid(200));
    assert!(s.table(MAIN).contains_key(&3));
    assert!(!s.table(Tid(200)).contains_key(&3));
}

#[test]
fn close_range_closes_marks_and_unshares() {
    let mut s = Script::new();
    for fd in 3..7 {
        s.open(MAIN, fd, "/a", false);
    }
    s.does(MAIN, Effect::CloseRange { first: 5, last: u32::MAX, mark: false });
    s.does(MAIN, Effect::CloseRange { first: 4, last: 4, mark: true });
    let t = s.table(MAIN);
    assert_eq!(t.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!((t[&3].1, t[&4].1), (false, true));
    s.fork(MAIN, 101, 100, true);
    s.does(Tid(101), Effect::Unshare);
    s.does(Tid(101), Effect::CloseRange { first: 0, last: u32::MAX, mark: false });
    assert_eq!((s.table(MAIN).len(), s.table(Tid(101)).len()), (5, 0));
}

#[test]
fn the_last_task_takes_the_table_with_it() {
    let mut s = Script::new();
    s.open(MAIN, 3, "/a", false);
    let life = s.world.open_life(MAIN, Fd(3)).unwrap().id;
    s.fork(MAIN, 101, 100, true);
    s.event(MAIN, EventKind::Exit { status: ExitStatus::Code(0) });
    assert!(s.world.life(life).unwrap().end.is_none());
    s.event(Tid(101), EventKind::Exit { status: ExitStatus::Code(0) });
    assert_eq!(s.world.life(life).unwrap().end.as_ref().unwrap().how, Ended::TableGone);
}

#[test]
fn dup_of_a_number_that_another_thread_has_just_closed_keeps_its_object() {
    let mut s = Script::new();
    s.open(MAIN, 3, "/a", false);
    let object = s.world.open_life(MAIN, Fd(3)).unwrap().file;
    s.does(MAIN, Effect::Close { fd: Fd(3) });
    s.does(MAIN, alias(3, 9, false));
    assert_eq!(s.world.open_life(MAIN, Fd(9)).unwrap().file, object);
}

#[test]
fn consequences_change_nothing_and_foresee_the_end() {
    let mut s = Script::new();
    s.open(MAIN, 3, "/a", false);
    let info = CallInfo { name: "close", args: [3, 0, 0, 0, 0, 0], ret: None };
    let call = Call { info, effects: vec![Effect::Close { fd: Fd(3) }], site: Site::default() };
    let event = Event { at: 99, tid: MAIN, kind: EventKind::Call(call) };
    let life = s.world.open_life(MAIN, Fd(3)).unwrap().id;
    assert_eq!(s.world.consequences(&event), [Transition::End { life, how: Ended::Closed }]);
    assert!(s.table(MAIN).contains_key(&3));
}

#[test]
fn memory_is_flat_in_events_and_processes() {
    let mut s = Script::new();
    for i in 0..20_000 {
        s.open(MAIN, 3, "/a", false);
        s.does(MAIN, Effect::Close { fd: Fd(3) });
        if i % 4 == 0 {
            let pid = 1000 + i;
            s.fork(MAIN, pid, pid, false);
            s.exec(Tid(pid), Tid(pid));
            s.event(Tid(pid), EventKind::Exit { status: ExitStatus::Code(0) });
        }
    }
    assert!(s.world.lives().count() < 5_000, "{} lives are remembered", s.world.lives().count());
    assert!(s.world.processes().count() < 2_000);
    assert!(s.world.forgotten() > 0);
}

/// What a table should be, by the simplest means: a map.
type Simple = BTreeMap<i32, (u32, bool)>;

proptest! {
    #[test]
    fn any_script_agrees_with_a_map(ops in prop::collection::vec((0..7u8, 0..12i32, 0..12i32, any::<bool>()), 1..200)) {
        let mut s = Script::new();
        let mut simple: Simple = BTreeMap::from([(0, (1, false)), (1, (1, false)), (2, (1, false))]);
        let mut next = 2u32;
        for (op, a, b, flag) in ops {
            match op {
                0 => {
                    s.open(MAIN, a, "/x", flag);
                    simple.insert(a, (next, flag));
                    next += 1;
                }
                1 => {
                    s.does(MAIN, Effect::Close { fd: Fd(a) });
                    simple.remove(&a);
                }
                2 if a != b && simple.contains_key(&a) => {
                    s.does(MAIN, alias(a, b, flag));
                    simple.insert(b, (simple[&a].0, flag));
                }
                3 => {
                    s.does(MAIN, Effect::Cloexec { fd: Fd(a), on: flag });
                    if let Some(e) = simple.get_mut(&a) {
                        e.1 = flag;
                    }
                }
                4 => {
                    s.does(MAIN, Effect::CloseRange { first: a as u32, last: b as u32, mark: flag });
                    if a <= b && flag {
                        simple.range_mut(a..=b).for_each(|(_, v)| v.1 = true);
                    } else if a <= b {
                        simple.retain(|k, _| !(a..=b).contains(k));
                    }
                }
                5 => {
                    s.exec(MAIN, MAIN);
                    simple.retain(|_, v| !v.1);
                }
                _ => {
                    s.fork(MAIN, 500, 500, false);
                    prop_assert_eq!(s.table(Tid(500)), simple.clone());
                    s.event(Tid(500), EventKind::Exit { status: ExitStatus::Signal(9) });
                }
            }
            prop_assert_eq!(s.table(MAIN), simple.clone());
            let holders: u32 = s.world.lives().filter(|l| l.end.is_none()).count() as u32;
            let counted: u32 = (1..next).filter_map(|f| s.world.file(crate::base::FileId(f))).map(|f| f.holders).sum();
            prop_assert_eq!(holders, counted);
        }
    }
}

#[test]
fn ended_lives_are_bounded_over_all_numbers_and_tables() {
    let mut s = Script::new();
    for round in 0..30 {
        for fd in 10..1_010 {
            s.open(MAIN, fd, "/f", false);
        }
        for fd in 10..1_010 {
            s.does(MAIN, Effect::Close { fd: Fd(fd) });
        }
        if round == 0 {
            s.fork(MAIN, 200, 200, false);
        }
    }
    assert_eq!(s.world.forgotten(), 30_000 - 16_384);
    assert_eq!(s.world.lives().filter(|l| l.end.is_some()).count(), 16_384);
    // What is open is never forgotten, nor is the latest of a number that others outnumber.
    for _ in 0..20_000 {
        s.open(MAIN, 3, "/f", false);
        s.does(MAIN, Effect::Close { fd: Fd(3) });
    }
    assert!(s.table(Tid(200)).len() == 3 && s.world.ever_lived(MAIN, Fd(1_009)));
}

#[test]
fn what_is_received_is_of_the_object_that_was_sent() {
    let pipe = |access| NewFile::from_link(b"pipe:[7]".to_vec(), access as u32);
    let (r, w) = (pipe(libc::O_RDONLY), pipe(libc::O_WRONLY));
    let receive = |fd, file: &NewFile, from| Effect::Receive { fd: Fd(fd), cloexec: false, file: file.clone(), from };
    let mut s = Script::new();
    s.fork(MAIN, 200, 200, false);
    for (fd, file) in [(5, &r), (6, &w)] {
        s.does(MAIN, Effect::Open { fd: Fd(fd), cloexec: false, file: file.clone() });
    }
    let object = |s: &Script, tid, fd| s.world.open_life(tid, Fd(fd)).map(|l| l.file);
    let (reads, writes) = (object(&s, MAIN, 5), object(&s, MAIN, 6));
    // Who holds it was asked for.
    s.does(Tid(200), receive(8, &r, Some((MAIN, Fd(5)))));
    assert_eq!(object(&s, Tid(200), 8), reads);
    // Nobody holds it: the text tells which pipe, and the access mode which end.
    s.does(MAIN, Effect::Close { fd: Fd(6) });
    s.does(Tid(200), receive(9, &w, None));
    assert_eq!(object(&s, Tid(200), 9), writes);
    assert_eq!(s.world.file(writes.unwrap()).map(|f| f.holders), Some(1));
    // Somebody holds one that reads so, and the kernel says that it is not the same: one opened anew by /proc.
    s.does(Tid(200), receive(10, &r, None));
    assert!(![None, reads].contains(&object(&s, Tid(200), 10)));
    // A path is no name for good.
    s.open(MAIN, 7, "/f", false);
    let was = object(&s, MAIN, 7);
    s.does(MAIN, Effect::Close { fd: Fd(7) });
    s.does(Tid(200), receive(11, &file("/f"), None));
    assert!(![None, was].contains(&object(&s, Tid(200), 11)));
}

/// A shell with a long command line may fork ten thousand times.
#[test]
fn a_fork_does_not_copy_the_command_line() {
    let mut s = Script::new();
    s.fork(MAIN, 200, 200, false);
    let program = |w: &World, pid| w.process(Pid(pid)).unwrap().program.clone();
    assert!(std::sync::Arc::ptr_eq(&program(&s.world, 100), &program(&s.world, 200)));
}

/// An access mode is for good (open(2), fcntl(2)): what was received with another is no copy of what the number is known as.
/// Somebody has replaced that, whose call has yet to be told.
#[test]
fn a_number_known_with_another_access_mode_is_another_object() {
    let mut s = Script::new();
    let with = |flags: i32| NewFile { flags: flags as u32, ..file("/tmp/x") };
    s.does(MAIN, Effect::Open { fd: Fd(8), cloexec: false, file: with(libc::O_RDWR | libc::O_APPEND) });
    for (fd, flags) in [(5, libc::O_RDWR), (6, libc::O_WRONLY)] {
        let from = Some((MAIN, Fd(8)));
        s.does(MAIN, Effect::Receive { fd: Fd(fd), cloexec: false, file: with(flags), from });
    }
    let table = s.table(MAIN);
    assert_eq!(table[&5], table[&8]);
    assert_ne!(table[&6], table[&8]);
}

#[test]
fn two_numbers_of_one_call_can_be_one_object_that_nobody_holds() {
    let mut s = Script::new();
    let receive = |fd, from| Effect::Receive { fd: Fd(fd), cloexec: false, file: file("/tmp/x"), from };
    let info = CallInfo { name: "recvmsg", args: [0; 6], ret: Some(1) };
    let effects = vec![receive(5, None), receive(6, None), receive(7, Some((MAIN, Fd(5))))];
    s.event(MAIN, EventKind::Call(Call { info, effects, site: Site::default() }));
    let table = s.table(MAIN);
    assert_eq!(table[&5], table[&7]);
    assert_ne!(table[&5], table[&6]);
    assert_eq!(s.world.file(crate::base::FileId(table[&5].0)).unwrap().holders, 2);
}

/// A pipe can be opened once more through `/proc/self/fd`, and has the same name then.
#[test]
fn two_objects_of_one_name_that_come_with_one_call_are_two() {
    let mut s = Script::new();
    s.open(MAIN, 5, "pipe:[7]", false);
    let sent = s.table(MAIN)[&5];
    s.does(MAIN, Effect::Close { fd: Fd(5) });
    let receive = |fd| Effect::Receive { fd: Fd(fd), cloexec: false, file: file("pipe:[7]"), from: None };
    let info = CallInfo { name: "recvmsg", args: [0; 6], ret: Some(1) };
    s.event(MAIN, EventKind::Call(Call { info, effects: vec![receive(5), receive(6)], site: Site::default() }));
    let table = s.table(MAIN);
    assert_eq!(table[&5], sent);
    assert_ne!(table[&5], table[&6]);
}

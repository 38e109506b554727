//! Orders of reports that the kernel does not promise, brought about: a child's first stop before the event that announces
//! it, and reports of several tasks in whatever order.
//!
//! The target makes random calls in threads and processes that share tables. At every stop the numbers that are open in
//! its table must be those of the model, but for those that a call in flight may be changing.

use super::*;
use crate::base::Fd;
use crate::event::{Effect, EventKind};
use crate::kernel::fault::{self, Faults};
use crate::kernel::{Caught, Command, Launched};
use nix::errno::Errno;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Who decides which report comes first.
struct Orders {
    dice: u64,
    random: bool,
    children_first: bool,
    /// How often the order was another than the kernel's.
    changed: Rc<Cell<u32>>,
}

impl Faults for Orders {
    fn first(&mut self, reports: &[(i32, i32)]) -> usize {
        if !self.random || reports.len() < 2 {
            return 0;
        }
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = (self.dice >> 33) as usize % reports.len();
        self.changed.set(self.changed.get() + u32::from(pick > 0));
        pick
    }

    fn children_first(&self) -> bool {
        self.children_first
    }

    fn child_came_first(&mut self) {
        self.changed.set(self.changed.get() + 1);
    }

    fn status(&mut self, _: i32, status: i32) -> i32 {
        status
    }

    fn request(&mut self, _: i32) -> Option<Errno> {
        None
    }

    fn memory(&mut self, _: i32, got: &mut [u8]) -> usize {
        got.len()
    }

    fn proc(&mut self) -> Option<io::Error> {
        None
    }

    fn text(&mut self, length: usize) -> usize {
        length
    }
}

/// Compares what is open.
#[derive(Default)]
struct Books {
    compared: u32,
    differences: Vec<String>,
    /// Who is about to close or mark what, and has by the model.
    ahead: FxHashMap<Tid, Vec<Fd>>,
    /// A task is gone: who is asked about next is perhaps not at a stop.
    going: bool,
}

impl Frontend for Books {
    fn wants_breaks(&self) -> bool {
        false
    }

    fn on_event(&mut self, seen: &Seen<'_>, _: &mut dyn crate::render::Names) {
        let (tid, kind) = (seen.event.tid, &seen.event.kind);
        self.going = match kind {
            EventKind::Reconciled { .. } => self.going,
            kind => matches!(kind, EventKind::Exit { .. }),
        };
        match kind {
            EventKind::Reconciled { raced: false, corrections } => {
                self.differences.push(format!("{tid}: only the kernel knew: {corrections:?}"));
            }
            EventKind::Reconciled { .. } => {}
            EventKind::Call(call) if call.info.ret.is_none() => {
                let numbers = call.effects.iter().filter_map(|e| match e {
                    Effect::Close { fd } | Effect::Cloexec { fd, .. } => Some(*fd),
                    _ => None,
                });
                self.ahead.insert(tid, numbers.collect());
            }
            _ => drop(self.ahead.remove(&tid)),
        }
    }

    fn on_stop(&mut self, tid: Tid, world: &World, flights: &Flights) {
        let Some(id) = world.task(tid).map(|t| t.table).filter(|_| !self.going) else { return };
        let Ok(open) = procfs::open_numbers(tid) else { return };
        let open: BTreeSet<Fd> = open.into_iter().collect();
        let known: BTreeSet<Fd> = world.table(id).into_iter().flat_map(|t| t.open()).map(|o| o.0).collect();
        let ahead = self.ahead.get(&tid).cloned().unwrap_or_default();
        let differ = open.symmetric_difference(&known).filter(|fd| {
            let pidfd = procfs::link(tid, **fd).is_some_and(|l| l == b"anon_inode:[pidfd]");
            !ahead.contains(fd) && !flights.is_touched(id, **fd, known.contains(fd)) && !pidfd
        });
        let differ: Vec<Fd> = differ.copied().collect();
        // Another thread's exec, or a signal, ends a task that stands still, too, and may give its tid to another.
        let again = || procfs::open_numbers(tid).is_ok_and(|o| o.into_iter().collect::<BTreeSet<_>>() == open);
        if !differ.is_empty() && procfs::state(tid) == Some('t') && procfs::has_table(tid) && again() {
            self.differences.push(format!("{tid}: {differ:?} are open in one of model and kernel"));
        }
        self.compared += 1;
    }

    fn on_break(&mut self, _: View<'_>) -> Decision {
        Decision::default()
    }
}

fn watched(program: &Path, seed: u64, orders: Orders) -> Books {
    let changed = Rc::clone(&orders.changed);
    let children_first = orders.children_first;
    fault::install(Some(Box::new(orders)));
    let mut argv = vec![OsString::from(program)];
    let home = program.with_extension(format!("home{seed}"));
    std::fs::create_dir_all(&home).expect("a folder");
    for (name, value) in [("-s", seed.to_string()), ("-c", "600".into()), ("-p", "3".into()), ("-t", "3".into())] {
        argv.extend([name.into(), value.into()]);
    }
    argv.extend(["-d".into(), home.into()]);
    let command = Command { argv, own_group: true, seccomp: true };
    let launched = Launched::start(&command, &Caught::new()).expect("the target starts");
    let mut session = Session::new(launched, Policy::default(), false);
    let mut books = Books::default();
    let outcome = session.run(&mut books).expect("the kernel grants what it granted before");
    fault::install(None);
    assert_eq!(outcome.status, ExitStatus::Code(0), "seed {seed}");
    assert!(changed.get() > if children_first { 0 } else { 100 }, "seed {seed}: {} orders changed", changed.get());
    books
}

/// Not a test by itself: the sessions, in a process where nobody else waits for children.
#[test]
#[ignore = "run by the tests of orders"]
fn in_orders() {
    let Some(program) = std::env::var_os("FDWATCH_TEST_TARGET").map(PathBuf::from) else { return };
    let random = std::env::var_os("FDWATCH_TEST_RANDOM").is_some();
    let mut compared = 0;
    for seed in 1..=3 {
        let program = program.clone();
        let run = move || {
            let orders = Orders { dice: seed, random, children_first: !random, changed: Rc::default() };
            let books = watched(&program, seed, orders);
            (books.differences, books.compared)
        };
        let (differences, count) = std::thread::spawn(run).join().expect("no panic");
        assert_eq!(differences, [""; 0], "seed {seed}");
        compared += count;
    }
    assert!(compared > 500, "{compared} stops compared");
    println!("in the orders wanted, {compared} stops");
}

fn ordered(random: bool) {
    let dir = tempfile::tempdir().expect("a folder");
    let program = dir.path().join("random_calls");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/targets/random_calls.c");
    let mut cc = std::process::Command::new("cc");
    cc.args(["-O1", "-g", "-pthread", "-o"]).arg(&program).arg(source);
    if !cc.output().is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: orders of reports: no C compiler");
        return;
    }
    let mut own = std::process::Command::new("timeout");
    own.arg("120").arg(std::env::current_exe().expect("this program"));
    own.args(["session::orders::in_orders", "--exact", "--ignored", "--nocapture"]);
    own.env("FDWATCH_TEST_TARGET", &program).stdin(std::process::Stdio::null());
    if random {
        own.env("FDWATCH_TEST_RANDOM", "1");
    }
    let done = own.output().expect("this program");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && out.contains("in the orders wanted"), "{}\n{out}\n{err}", done.status);
}

#[test]
fn a_childs_first_stop_before_the_event_that_announces_it() {
    ordered(false);
}

#[test]
fn reports_of_several_tasks_in_any_order() {
    ordered(true);
}

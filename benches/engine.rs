//! The price of one event, part by part: `cargo bench --bench engine`. Guards decoding, the model, following a stack whose
//! rules are known, and interning, each without the kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a bench may fail loudly
#![allow(missing_docs)]

#[path = "../tests/stack_support/mod.rs"]
mod stack_support;

use divan::{Bencher, black_box};
use fdwatch::base::{AddressSpace, Arch, Fd, Pid, RawCall, ReadMemory, Regs, Tid};
use fdwatch::event::{Call, CallInfo, Effect, Event, EventKind, Found, Inode, NewFile, Program, Site, Start};
use fdwatch::model::World;
use fdwatch::stack::{SpaceId, Stacks};
use fdwatch::syscall::{Made, ReadTask, Table};
use stack_support::{Tracee, compile, is_close};
use std::fs::File;
use std::io;

fn main() {
    divan::main();
}

/// A task whose memory holds nothing and whose every descriptor is one file.
struct Paper;

impl ReadMemory for Paper {
    fn read(&self, _: u64, _: &mut [u8]) -> usize {
        0
    }
}

impl ReadTask for Paper {
    fn link(&self, _: Fd) -> Option<Vec<u8>> {
        Some(b"/dev/null".to_vec())
    }

    fn flags(&self, _: Fd) -> Option<u32> {
        None
    }

    fn leads_to(&self, _: Option<Fd>, _: &[u8]) -> Option<(Vec<u8>, Option<Inode>)> {
        None
    }

    fn pidfd(&self, _: Fd) -> Option<fdwatch::base::Pid> {
        None
    }
}

fn call(nr: u32, args: [u64; 6]) -> RawCall {
    RawCall { arch: Arch::X86_64, nr, args }
}

#[divan::bench]
fn decode_open(bencher: Bencher<'_, '_>) {
    let (table, call) = (Table::new(), call(257, [0, 0, 0o2_000_000, 0, 0, 0]));
    bencher.bench_local(|| {
        let row = table.row(black_box(&call)).unwrap();
        (row.decode)(&Made { call, ret: Some(3), task: &Paper })
    });
}

#[divan::bench]
fn decode_close(bencher: Bencher<'_, '_>) {
    let (table, call) = (Table::new(), call(3, [3, 0, 0, 0, 0, 0]));
    bencher.bench_local(|| {
        let row = table.row(black_box(&call)).unwrap();
        (row.decode)(&Made { call, ret: None, task: &Paper })
    });
}

/// An open and a close, decided and committed, in a table with so many other descriptors.
#[divan::bench(args = [3, 1_000, 100_000])]
fn model_open_and_close(bencher: Bencher<'_, '_>, others: i32) {
    let tid = Tid(1);
    let file = || NewFile::from_link(b"/dev/null".to_vec(), 0);
    let (mut world, mut at) = (World::new(), 0);
    let mut does = move |kind: EventKind| {
        at += 1;
        let event = Event { at, tid, kind };
        let transitions = world.consequences(&event);
        world.commit(&event, transitions).len()
    };
    let made = |name: &'static str, effect: Effect| {
        let info = CallInfo { name, args: [0; 6], ret: Some(0) };
        EventKind::Call(Call { info, effects: vec![effect], site: Site::default() })
    };
    let table = Found::Own(Vec::new());
    does(EventKind::Start(Start { pid: Pid(1), parent: None, program: Program::default(), table }));
    for fd in 0..others {
        does(made("open", Effect::Open { fd: Fd(fd), cloexec: true, file: file() }));
    }
    bencher.bench_local(|| {
        let fd = Fd(others);
        does(made("open", Effect::Open { fd, cloexec: true, file: file() })) + does(made("close", Effect::Close { fd }))
    });
}

/// What was read of a process once, to be read again without it.
struct Recorded {
    base: u64,
    bytes: Vec<u8>,
    maps: Vec<u8>,
}

impl ReadMemory for Recorded {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let Some(from) = addr.checked_sub(self.base).and_then(|o| self.bytes.get(o as usize..)) else { return 0 };
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        n
    }
}

impl AddressSpace for Recorded {
    fn maps(&self) -> io::Result<Vec<u8>> {
        Ok(self.maps.clone())
    }

    fn open_mapped(&self, _: u64, _: u64, path: &[u8], _: (u32, u32), _: u64) -> io::Result<File> {
        use std::os::unix::ffi::OsStrExt;
        File::open(std::ffi::OsStr::from_bytes(path))
    }
}

/// A stopped process at so many calls of a function, recorded; `None` without a C compiler.
fn recorded(depth: u32, dir: &std::path::Path) -> Option<(Recorded, Regs)> {
    let program = compile("deep", "O2", &["-O2", "-fno-optimize-sibling-calls"], dir)?;
    let mut tracee = Tracee::start(&program, &[&depth.to_string(), "1"]);
    let entry = tracee.run_to(|e| is_close(e, -1)).unwrap();
    let (space, base) = (tracee.space(), entry.regs.rsp);
    let mut bytes = vec![0; 1 << 20];
    let n = (1..=256).rev().map(|pages| pages << 12).find(|n| space.read(base, &mut bytes[..*n]) == *n).unwrap_or(0);
    bytes.truncate(n);
    Some((Recorded { base, bytes, maps: space.maps().unwrap() }, entry.regs))
}

/// A stack that was seen before: followed by known rules and found again.
#[divan::bench(args = [20, 60, 200])]
fn unwind_warm(bencher: Bencher<'_, '_>, depth: u32) {
    let dir = tempfile::tempdir().unwrap();
    let Some((space, regs)) = recorded(depth, dir.path()) else { return };
    let mut stacks = Stacks::new();
    let id = stacks.capture(SpaceId(0), &regs, &space);
    assert!(stacks.frames(id).len() >= depth as usize, "{:?}", stacks.end(id));
    bencher.bench_local(|| stacks.capture(SpaceId(0), black_box(&regs), &space));
}

/// Stacks of one frame that were seen before, among as many as are kept: their address is no code, so nothing is followed.
#[divan::bench(args = [1_000, 60_000])]
fn intern_known(bencher: Bencher<'_, '_>, kept: u64) {
    let space = Recorded { base: 0, bytes: Vec::new(), maps: Vec::new() };
    let mut stacks = Stacks::new();
    let regs = |n: u64| Regs { rip: 0x10_0000 + n % kept, rsp: 0x7000_0000, ..Regs::default() };
    for n in 0..kept {
        stacks.capture(SpaceId(0), &regs(n), &space);
    }
    let mut n = 0;
    bencher.bench_local(|| {
        n += 7;
        stacks.capture(SpaceId(0), &regs(n), &space)
    });
}

//! How long a capture, a cause and a name take, on stopped processes: `cargo bench --bench capture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

#[path = "../tests/stack_support/mod.rs"]
mod stack_support;

use fdwatch::stack::{Frame, FrameKind, SpaceId, Stacks};
use stack_support::{Tracee, compile, is_close};
use std::time::Instant;

fn captures() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("deep", "O2", &["-O2", "-fno-optimize-sibling-calls"], dir.path()) else { return };
    for depth in [5, 20, 60, 200] {
        let mut tracee = Tracee::start(&program, &[&depth.to_string(), "1"]);
        let entry = tracee.run_to(|e| is_close(e, -1)).unwrap();
        let (mut stacks, space) = (Stacks::new(), tracee.space());
        let cold = Instant::now();
        let id = stacks.capture(SpaceId(0), &entry.regs, &space);
        let cold = cold.elapsed();
        const ROUNDS: u32 = 20_000;
        let mut buf = vec![0; 16 << 10];
        let read = Instant::now();
        for _ in 0..ROUNDS {
            fdwatch::base::ReadMemory::read(&space, entry.regs.rsp, &mut buf);
        }
        let read = read.elapsed() / ROUNDS;
        let warm = Instant::now();
        for _ in 0..ROUNDS {
            assert_eq!(stacks.capture(SpaceId(0), &entry.regs, &space), id);
        }
        let warm = warm.elapsed() / ROUNDS;
        let other = Instant::now();
        for n in 1..100 {
            stacks.capture(SpaceId(n), &entry.regs, &space);
        }
        let other = other.elapsed() / 99;
        let frames = stacks.frames(id).len();
        println!(
            "D={depth}: {frames} frames, {:?}; cold {cold:?}, warm {warm:?} (of it reading {read:?}), new process {other:?}",
            stacks.end(id)
        );
    }
}

/// Resident memory of this process in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// The interpreter that `PYTHON` names: the cause of a close and the names of 1,000 addresses, at first sight.
fn python() {
    let python = std::env::var("PYTHON").unwrap_or("python3".into());
    let script = "import os\nf = open('/dev/null')\nos.close(-77) if os.getpid() else 0";
    let mut tracee = Tracee::start(std::path::Path::new(&python), &["-S", "-E", "-c", script]);
    let entry = tracee.run_to(|e| is_close(e, -77)).unwrap();
    let (mut stacks, space) = (Stacks::new(), tracee.space());
    println!("resident at start {} MiB", resident());
    let begin = Instant::now();
    let id = stacks.capture(SpaceId(0), &entry.regs, &space);
    println!("capture {:?}, resident {} MiB", begin.elapsed(), resident());
    let begin = Instant::now();
    let verdict = stacks.cause(id);
    println!("cause {:?}, resident {} MiB: {verdict:?}", begin.elapsed(), resident());
    let begin = Instant::now();
    let named = stacks.explain(id);
    println!("explain {} frames {:?}, resident {} MiB", named.len(), begin.elapsed(), resident());
    let frames = stacks.frames(id).to_vec();
    let eval = frames.get(verdict.frame.unwrap_or(3)).copied().unwrap();
    let mut stacks = Stacks::new();
    stacks.capture(SpaceId(0), &entry.regs, &space);
    let begin = Instant::now();
    let mut with_line = 0;
    for n in 0..1000 {
        let frame = Frame { module: eval.module, offset: 0x70000 + n * 1993, kind: FrameKind::Exact };
        with_line += usize::from(stacks.explain_frame(frame).iter().any(|n| n.line.is_some()));
    }
    println!("1000 addresses {:?}, {with_line} with lines, resident {} MiB", begin.elapsed(), resident());
}

fn main() {
    // `cargo test --all-targets` starts benchmarks, too, and wants them to be quick.
    if std::env::args().any(|a| a == "--bench") {
        captures();
        python();
    }
}

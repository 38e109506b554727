//! How long a capture takes: `cargo test --release --test stack_speed -- --ignored --nocapture`.

mod stack_support;

use fdwatch::stack::{SpaceId, Stacks};
use stack_support::{Tracee, compile, is_close};
use std::time::Instant;

#[test]
#[ignore = "measures, proves nothing"]
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

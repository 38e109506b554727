//! Kills fdwatch at random moments and looks at what it watched: `cargo run --release --example kill_loop -- 200`.
//!
//! What was attached to must go on untraced and lose nothing (`tests/targets/toil.c` keeps count); what was started must
//! end with fdwatch. Nothing may stay stopped. The arguments are the number of kills for each mode, and a seed.

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// No step takes this long.
const LIMIT: Duration = Duration::from_secs(60);

/// The process group that is to be killed when a step takes too long, and how many steps there were.
static GROUP: AtomicI32 = AtomicI32::new(0);
static STEPS: AtomicU64 = AtomicU64::new(0);

/// Numbers that look random and are the same each time (Numerical Recipes' constants).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// Some moment of the next `most`: the stimulus, not a way to be in step.
    fn linger(&mut self, most: Duration) {
        let until = Instant::now() + Duration::from_micros(self.below(most.as_micros() as u64));
        while Instant::now() < until {
            std::thread::yield_now();
        }
    }
}

/// A task: its state and tracer.
fn tasks(group: i32) -> Vec<(i32, char, i32)> {
    let mut out = Vec::new();
    for process in numbers("/proc") {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // pid (comm) state ppid pgrp …; comm may hold anything (proc_pid_stat(5)).
        let pgrp = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2)?.parse().ok());
        if pgrp != Some(group) {
            continue;
        }
        for task in numbers(&format!("/proc/{process}/task")) {
            let status = std::fs::read_to_string(format!("/proc/{process}/task/{task}/status")).unwrap_or_default();
            let field = |name: &str| status.lines().find_map(|l| Some(l.strip_prefix(name)?.trim()));
            let state = field("State:").and_then(|s| s.chars().next());
            let tracer = field("TracerPid:").and_then(|t| t.parse().ok());
            if let (Some(state), Some(tracer)) = (state, tracer) {
                out.push((task, state, tracer));
            }
        }
    }
    out
}

fn numbers(dir: &str) -> Vec<i32> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// Beside this example, as cargo builds them.
fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let built = own.parent().and_then(|d| d.parent()).context("no folder")?.join(name);
    ensure!(built.exists(), "{} does not exist: cargo build first", built.display());
    Ok(built)
}

fn toil() -> Result<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let made = Command::new("make").args(["-s", "-C"]).arg(root.join("tests/targets")).status()?;
    ensure!(made.success(), "make failed");
    Ok(root.join("target/targets/toil"))
}

fn start(command: &mut Command) -> Result<(Child, BufReader<std::process::ChildStdout>)> {
    let mut child = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    GROUP.store(child.id() as i32, Ordering::Relaxed);
    STEPS.fetch_add(1, Ordering::Relaxed);
    let out = BufReader::new(child.stdout.take().context("piped")?);
    Ok((child, out))
}

fn rounds(out: &mut impl BufRead, n: usize) -> Result<()> {
    let mut line = String::new();
    for _ in 0..n {
        line.clear();
        ensure!(out.read_line(&mut line)? > 0, "the target has ended");
        ensure!(line.starts_with("round "), "the target says: {}", line.trim_end());
    }
    Ok(())
}

fn killed(child: &mut Child) -> Result<()> {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL)?;
    child.wait()?;
    Ok(())
}

/// Whether the target was traced when fdwatch was killed.
fn attached(seed: u64) -> Result<bool> {
    let mut dice = Dice(seed);
    let (mut target, mut out) = start(&mut Command::new(toil()?))?;
    let pid = target.id() as i32;
    rounds(&mut out, 2)?;
    let mut command = Command::new(beside("fdwatch")?);
    command.arg("attach").args(seed.is_multiple_of(2).then_some("--children")).arg(pid.to_string());
    let mut watcher = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let by = watcher.id() as i32;
    if seed.is_multiple_of(3) {
        // Early, while it attaches; otherwise somewhere in the watching.
        dice.linger(Duration::from_millis(15));
    } else {
        while tasks(pid).iter().any(|t| t.2 != by) && watcher.try_wait()?.is_none() {
            rounds(&mut out, 1)?;
        }
        dice.linger(Duration::from_millis(60));
    }
    let traced = tasks(pid).iter().any(|t| t.2 == by);
    killed(&mut watcher)?;
    for (task, state, tracer) in tasks(pid) {
        ensure!(tracer != by, "task {task} is traced by a dead process");
        ensure!(!matches!(state, 't' | 'T'), "task {task} was left stopped");
    }
    rounds(&mut out, 5)?;
    drop(target.stdin.take());
    let mut last = String::new();
    for line in out.lines() {
        last = line?;
    }
    let status = target.wait()?;
    ensure!(last == "all is well" && status.success(), "the target says \"{last}\", and {status}");
    Ok(traced)
}

/// Whether the target ran when fdwatch was killed.
fn started(seed: u64) -> Result<bool> {
    let mut dice = Dice(seed);
    let mut command = Command::new(beside("fdwatch")?);
    command.arg("audit").args(seed.is_multiple_of(2).then_some("--no-seccomp")).arg("--").arg(toil()?);
    let (mut watcher, mut out) = start(command.stderr(Stdio::null()))?;
    let group = watcher.id() as i32;
    if seed.is_multiple_of(3) {
        // Early, while it starts.
        dice.linger(Duration::from_millis(4));
    } else {
        rounds(&mut out, 1 + dice.below(4) as usize)?;
        dice.linger(Duration::from_millis(30));
    }
    let ran = tasks(group).len() > 1;
    killed(&mut watcher)?;
    // To the end of the output: nobody has it any more.
    for line in out.lines() {
        line?;
    }
    let began = Instant::now();
    loop {
        let left: Vec<_> = tasks(group).into_iter().filter(|t| !matches!(t.1, 'Z' | 'X')).collect();
        if left.is_empty() {
            return Ok(ran);
        }
        ensure!(began.elapsed() < LIMIT, "left behind: {left:?}");
        std::thread::yield_now();
    }
}

fn watchdog() {
    let mut before = 0;
    loop {
        std::thread::sleep(LIMIT);
        let now = STEPS.load(Ordering::Relaxed);
        if now == before {
            let group = GROUP.load(Ordering::Relaxed);
            eprintln!("longer than {LIMIT:?}: {:?}", tasks(group));
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            std::process::exit(1);
        }
        before = now;
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let kills: u64 = args.next().unwrap_or_else(|| "10".into()).parse().context("how many kills?")?;
    let seed: u64 = args.next().unwrap_or_else(|| "1".into()).parse().context("which seed?")?;
    std::thread::spawn(watchdog);
    type Mode = (&'static str, fn(u64) -> Result<bool>);
    let modes: [Mode; 2] = [("attach", attached), ("run", started)];
    for (name, mode) in modes {
        let mut caught = 0;
        for n in seed..seed + kills {
            let done = mode(n);
            if let Err(e) = done {
                let _ = killpg(Pid::from_raw(GROUP.load(Ordering::Relaxed)), Signal::SIGKILL);
                bail!("{name}, seed {n}: {e:#}");
            }
            caught += u64::from(done?);
        }
        println!(
            "{name}: {kills} kills, {caught} of them while the target was watched; nothing was left stopped or lost"
        );
        ensure!(kills < 10 || caught * 2 > kills, "too few kills came while there was something to lose");
    }
    Ok(())
}

//! How long the names of 1,000 addresses take from a cold start, beside llvm-symbolizer: `cargo bench --bench names`.
//!
//! Each round runs both, one after the other, in a process of its own, on the same addresses of one file: libpython as
//! `python3` loads it, or what `FDWATCH_NAMES_OF` names. What counts is the ratio of a round.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

use fdwatch::base::{AddressSpace, ReadMemory, Regs};
use fdwatch::stack::{Frame, FrameKind, SpaceId, Stacks};
use object::{Object, ObjectSection};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ADDRESSES: u64 = 1000;
const ROUNDS: usize = 15;

/// A process that has mapped one file and nothing else.
struct Mapped(PathBuf);

impl ReadMemory for Mapped {
    fn read(&self, _: u64, _: &mut [u8]) -> usize {
        0
    }
}

impl AddressSpace for Mapped {
    fn maps(&self) -> std::io::Result<Vec<u8>> {
        let m = std::fs::metadata(&self.0)?;
        Ok(format!("10000000-{:x} r-xp 0 1:1 {} {}\n", 0x1000_0000 + m.len(), m.ino(), self.0.display()).into())
    }

    fn open_mapped(&self, _: u64, _: u64, _: &[u8], _: (u32, u32), _: u64) -> std::io::Result<File> {
        File::open(&self.0)
    }
}

/// Names the addresses that standard input holds, one a line, and prints what it found, and its peak memory.
fn name(path: &Path) {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    let mut stacks = Stacks::new();
    let regs = Regs { rip: 0x1000_0000, cs: 0x33, ..Regs::default() };
    let id = stacks.capture(SpaceId(0), &regs, &Mapped(path.to_owned()));
    let module = stacks.frames(id)[0].module;
    let mut out = String::new();
    for line in text.lines() {
        let offset = u64::from_str_radix(line.trim_start_matches("0x"), 16).unwrap();
        let named = stacks.explain_frame(Frame { module, offset, kind: FrameKind::Exact });
        let names: Vec<_> = named.iter().map(|n| n.function.clone().unwrap_or_default()).collect();
        out.push_str(&format!("{}\t{}\n", names.join("<"), named[0].line.unwrap_or(0)));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|l| l.starts_with("VmHWM")).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    println!("{peak}\n{out}");
}

/// CPU time of the children that have ended, in clock ticks (proc_pid_stat(5), cutime and cstime).
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(13).take(2);
    fields.map(|n| n.parse::<u64>().unwrap()).sum()
}

fn run(command: &mut Command, input: &str, ticks: &mut u64) -> (Duration, String) {
    let before = cpu();
    let begin = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let out = child.wait_with_output().unwrap();
    let took = begin.elapsed();
    writer.join().unwrap().unwrap();
    *ticks += cpu() - before;
    (took, String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The library that `python3` has its code in.
fn library() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("FDWATCH_NAMES_OF") {
        return Some(path.into());
    }
    let ask = "import re; m = open('/proc/self/maps').read(); l = re.findall(r'/\\S*python3\\.\\S*', m); \
               print(([f for f in l if 'libpython' in f] or l)[0])";
    let out = Command::new("python3").args(["-c", ask]).output().ok()?;
    Some(PathBuf::from(String::from_utf8(out.stdout).ok()?.trim()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare() {
    let Some(path) = library() else { return println!("skipped: no python3") };
    let bytes = std::fs::read(&path).unwrap();
    let object = object::File::parse(&*bytes).unwrap();
    let text = object.section_by_name(".text").unwrap();
    let step = text.size() / ADDRESSES;
    let input: String = (0..ADDRESSES).map(|n| format!("{:#x}\n", text.address() + n * step)).collect();
    let mut symbolizer = Command::new("llvm-symbolizer");
    symbolizer.arg(format!("--obj={}", path.display())).args(["--inlines", "--functions"]);
    let mut us = Command::new(std::env::current_exe().unwrap());
    us.arg("--name").arg(&path);
    let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut peak, mut found, mut lines) = (0u64, String::new(), 0);
    let (mut our_cpu, mut their_cpu) = (0, 0);
    for _ in 0..ROUNDS {
        let (our, out) = run(&mut us, &input, &mut our_cpu);
        let (their, names) = run(&mut symbolizer, &input, &mut their_cpu);
        ours.push(our.as_secs_f64());
        theirs.push(their.as_secs_f64());
        ratios.push(our.as_secs_f64() / their.as_secs_f64());
        let (first, rest) = out.split_once('\n').unwrap();
        peak = peak.max(first.parse().unwrap());
        lines = rest.lines().filter(|l| l.split('\t').nth(1).is_some_and(|n| n != "0")).count();
        found = rest.to_owned();
        assert!(names.lines().count() >= ADDRESSES as usize, "llvm-symbolizer gave up");
        if ratios.len() == ROUNDS {
            // Its answers: function and place by turns, an empty line behind each address.
            let theirs: Vec<String> = names
                .split("\n\n")
                .map(|block| block.lines().step_by(2).collect::<Vec<_>>().join("<"))
                .filter(|block| !block.is_empty())
                .collect();
            let same = found.lines().zip(&theirs).filter(|(a, b)| a.split('\t').next() == Some(b.as_str())).count();
            println!("{same} of {} answers name the same functions, inlined ones included", theirs.len());
        }
    }
    println!("{}: {ADDRESSES} addresses, {lines} with lines", path.display());
    println!("fdwatch {:.3} s, llvm-symbolizer {:.3} s (medians)", median(ours), median(theirs));
    println!("ratio {:.2} (median of {ROUNDS} rounds), peak memory {:.1} MiB", median(ratios), peak as f64 / 1024.0);
    println!(
        "CPU time of all rounds: {our_cpu} against {their_cpu} ticks, ratio {:.2}",
        our_cpu as f64 / their_cpu as f64
    );
    assert!(found.lines().count() >= ADDRESSES as usize);
}

fn main() {
    let args: Vec<_> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--name") => name(Path::new(&args[2])),
        // `cargo test --all-targets` starts benchmarks, too, and wants them to be quick.
        _ if args.iter().any(|a| a == "--bench") => compare(),
        _ => {}
    }
}

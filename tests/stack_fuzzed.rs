//! What fuzzers begin with, and inputs that they once found something with (`fuzz/`, docs/testing.md): none must end in a
//! panic, or go on for long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

mod fuzzed;

use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static PANICKED: AtomicBool = AtomicBool::new(false);

/// fdwatch catches a panic of a library, which costs it names; here it is a failure all the same.
fn notice_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICKED.store(true, Ordering::SeqCst);
            before(info);
        }));
    });
}

fn all(target: &str, run: fn(&[u8])) {
    notice_panics();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzzed").join(target);
    let inputs: Vec<_> = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).collect();
    assert!(inputs.len() >= 4, "{}: too few inputs", dir.display());
    for entry in inputs {
        let path = entry.unwrap().path();
        let begin = Instant::now();
        run(&std::fs::read(&path).unwrap());
        assert!(begin.elapsed() < Duration::from_secs(20), "{}: {:?}", path.display(), begin.elapsed());
        assert!(!PANICKED.load(Ordering::SeqCst), "{}: a panic", path.display());
    }
}

#[test]
fn maps() {
    all("maps", fuzzed::maps);
}

#[test]
fn elf() {
    all("elf", fuzzed::elf);
}

#[test]
fn unwind() {
    all("unwind", fuzzed::unwind);
}

#[test]
fn names() {
    all("names", fuzzed::names);
}

#[test]
fn go() {
    all("go", fuzzed::go);
}

/// The made table is understood: a change of one byte of it, which fuzzers begin with, matters.
#[test]
fn the_seed_of_go_has_names() {
    assert_eq!(fuzzed::functions(".gopclntab", &fuzzed::go_table(0xffff_fff1)), ["main.f", "runtime.main"]);
}

/// Abbreviations: 1 a unit, 2 a function, both with children and addresses; 3 an inlined call with children and nothing
/// else; 4 a unit whose addresses a list gives.
const ABBREVIATIONS: &[u8] = &[
    1, 0x11, 1, 0x11, 0x01, 0x12, 0x07, 0, 0, // low_pc addr, high_pc data8
    2, 0x2e, 1, 0x11, 0x01, 0x12, 0x07, 0, 0, //
    3, 0x1d, 1, 0, 0, //
    4, 0x11, 0, 0x11, 0x01, 0x55, 0x17, 0, 0, // low_pc addr, ranges sec_offset
    0,
];

/// A unit of DWARF 4 with these entries.
fn unit(entries: &[u8]) -> Vec<u8> {
    let mut out = (entries.len() as u32 + 7).to_le_bytes().to_vec();
    out.extend([4, 0, 0, 0, 0, 0, 8]);
    out.extend(entries);
    out
}

fn entry(code: u8, low: u64, high: u64) -> Vec<u8> {
    [&[code][..], &low.to_le_bytes(), &high.to_le_bytes()].concat()
}

/// Whoever follows calls inlined into one another by recursion would run out of stack, and with fdwatch the target would
/// die.
#[test]
fn calls_inlined_a_million_deep() {
    let mut entries = entry(1, 0x1000, 0x1000);
    entries.extend(entry(2, 0x1000, 0x1000));
    entries.extend(std::iter::repeat_n(3, 1_000_000));
    let info = unit(&entries);
    let file = fuzzed::elf_of(&[(".debug_info", &info, 0), (".debug_abbrev", ABBREVIATIONS, 0)]);
    let cut_short = fuzzed::file(&file);
    assert_eq!(cut_short, 1, "the report must say that the file was not read to its end");
}

/// 20,000 units that share 20,000 ranges: what a file of less than a megabyte says is gigabytes.
#[test]
fn units_that_share_many_ranges() {
    let mut entries = vec![4];
    entries.extend(0u64.to_le_bytes());
    entries.extend(0u32.to_le_bytes());
    let info = unit(&entries).repeat(20_000);
    let range: Vec<u8> = [0x1000u64, 0x2000].iter().flat_map(|n| n.to_le_bytes()).collect();
    let mut ranges = range.repeat(20_000);
    ranges.extend([0; 16]);
    let sections = [(".debug_info", &*info, 0), (".debug_abbrev", ABBREVIATIONS, 0), (".debug_ranges", &*ranges, 0)];
    let begin = Instant::now();
    assert_eq!(fuzzed::file(&fuzzed::elf_of(&sections)), 1, "the report must say so");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 1 << 20, "{peak} KiB");
}

/// Rows of functions that all have one name, of a megabyte: 20 GB are to be searched for its end.
#[test]
fn a_go_table_whose_names_do_not_end() {
    const COUNT: u32 = 20_000;
    let mut t = 0xffff_fff1u32.to_le_bytes().to_vec();
    t.extend([0, 0, 1, 8]);
    let names = 72 + u64::from(COUNT) * 64;
    for field in [u64::from(COUNT), 0, 0x1000, names, 72, 72, 72, 72] {
        t.extend(field.to_le_bytes());
    }
    for i in 0..COUNT {
        t.extend(i.to_le_bytes());
        t.extend((COUNT * 8 + 4).to_le_bytes());
    }
    t.extend(COUNT.to_le_bytes());
    t.resize(names as usize, 0);
    t.resize(t.len() + (1 << 20), b'x');
    let begin = Instant::now();
    assert_eq!(fuzzed::file(&fuzzed::elf_of(&[(".gopclntab", &t, 0)])), 1, "the report must say so");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

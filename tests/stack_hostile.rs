//! Whatever the process and its files hold, capturing and explaining cost detail only: no panic, no hang.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

use fdwatch::base::{AddressSpace, ReadMemory, Regs};
use fdwatch::stack::{SpaceId, StackEnd, Stacks};
use proptest::prelude::*;
use std::fs::File;
use std::io::{Error, ErrorKind, Write};
use std::time::{Duration, Instant};

/// A process that consists of one file, mapped at 0x400000, and a stack of chosen words that repeats for ever.
struct Made {
    maps: Vec<u8>,
    file: Option<File>,
    stack: Vec<u64>,
}

impl ReadMemory for Made {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        for (i, b) in buf.iter_mut().enumerate() {
            let at = addr.wrapping_add(i as u64);
            let word = self.stack.get((at / 8) as usize % self.stack.len().max(1)).copied().unwrap_or(0);
            *b = word.to_le_bytes()[(at % 8) as usize];
        }
        buf.len()
    }
}

impl AddressSpace for Made {
    fn maps(&self) -> std::io::Result<Vec<u8>> {
        Ok(self.maps.clone())
    }

    fn open_mapped(&self, _: u64, _: u64, _: &[u8], _: (u32, u32), _: u64) -> std::io::Result<File> {
        self.file.as_ref().map_or(Err(Error::from(ErrorKind::NotFound)), File::try_clone)
    }
}

const MAPS: &[u8] = b"400000-2400000 r-xp 00000000 08:01 7 /made\n7fff0000-7fff1000 r-xp 00000000 00:00 0 [vdso]\n";

fn file_of(bytes: &[u8]) -> Option<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Some(file)
}

/// Everything that can be asked about a stack.
fn ask_all(made: &Made, regs: &Regs) {
    let begin = Instant::now();
    let mut stacks = Stacks::new();
    for _ in 0..3 {
        let id = stacks.capture(SpaceId(1), regs, made);
        assert!(stacks.frames(id).len() <= fdwatch::stack::MAX_FRAMES);
        stacks.cause(id);
        assert!(stacks.explain(id).len() >= stacks.frames(id).len());
    }
    stacks.coverage();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

fn regs(v: &[u64], cs: u64) -> Regs {
    let at = |i: usize| v[i % v.len()];
    Regs { rip: at(0), rsp: at(1), rbp: at(2), rbx: at(3), rax: at(4), r12: at(5), cs, ..Regs::default() }
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(1 << 63),
        0x40_0000u64..0x40_4000,
        0x7fff_0000u64..0x7fff_1000,
        any::<u64>(),
        (0u64..4096).prop_map(|n| n * 8),
    ]
}

/// Few for every day; `PROPTEST_CASES=20000` for a long run.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nonsense_everywhere(
        maps in proptest::collection::vec(any::<u8>(), 0..400),
        file in proptest::collection::vec(any::<u8>(), 0..2000),
        stack in proptest::collection::vec(word(), 1..64),
        r in proptest::collection::vec(word(), 6),
        cs in prop_oneof![Just(0x33u64), Just(0x23)],
        sane_maps: bool,
    ) {
        let maps = if sane_maps { MAPS.to_vec() } else { maps };
        ask_all(&Made { maps, file: file_of(&file), stack }, &regs(&r, cs));
    }

    /// Bytes of a real program, some of them changed: gets much further than noise does.
    #[test]
    fn a_damaged_program(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..60),
        in_headers in proptest::collection::vec((0usize..1024, any::<u8>()), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        stack in proptest::collection::vec(word(), 1..64),
        r in proptest::collection::vec(word(), 6),
    ) {
        let Some(mut bytes) = victim() else { return Ok(()) };
        for (at, b) in changes {
            let at = at.index(bytes.len());
            bytes[at] = b;
        }
        for (at, b) in in_headers {
            bytes[at] = b;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        ask_all(&Made { maps: MAPS.to_vec(), file: file_of(&bytes), stack }, &regs(&r, 0x33));
    }
}

/// A small program with DWARF, linked at 0x400000.
fn victim() -> Option<Vec<u8>> {
    static BYTES: std::sync::OnceLock<Option<Vec<u8>>> = std::sync::OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("victim");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/targets/stack/small.c");
        let flags = ["-O1", "-g", "-nostdlib", "-static", "-no-pie", "-fno-pie"];
        match std::process::Command::new("cc").args(flags).arg("-o").arg(&out).arg(source).status() {
            Ok(status) if status.success() => std::fs::read(&out).ok(),
            other => {
                println!("skipped: cc: {other:?}");
                None
            }
        }
    };
    BYTES.get_or_init(make).clone()
}

/// The most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A hole costs nothing on the disk, and would cost its size in memory.
#[test]
fn a_symbol_table_in_a_hole_is_not_read() {
    use object::{Object, ObjectSymbol};
    let Some(mut bytes) = victim() else { return };
    let entry = object::File::parse(&*bytes).unwrap().symbol_by_name("_start").unwrap().address();
    // Section headers (ELF-64 Object File Format, "Sections"): sh_type at 4, sh_size at 32.
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let mut headers = (0..usize::from(bytes[60])).map(|i| word(40) as usize + i * 64);
    let table = headers.find(|at| bytes[at + 4..at + 8] == [2, 0, 0, 0]).expect("a symbol table");
    let claimed = 24u64 * (50 << 20);
    bytes[table + 32..table + 40].copy_from_slice(&claimed.to_le_bytes());
    let file = file_of(&bytes);
    file.as_ref().unwrap().set_len(2 * claimed).unwrap();
    let before = peak();
    let made = Made { maps: MAPS.to_vec(), file, stack: vec![0] };
    let regs = regs(&[entry, 0x7fff_0000, 0, 0, 0, 0], 0x33);
    ask_all(&made, &regs);
    let mut stacks = Stacks::new();
    let id = stacks.capture(SpaceId(0), &regs, &made);
    let named = stacks.explain(id);
    // It is the symbols alone that are lost.
    let first = named.first().unwrap();
    assert_eq!(first.function.as_deref(), Some("_start"), "{first}");
    assert!(first.file.as_deref().is_some_and(|f| f.ends_with("small.c")) && first.line.is_some(), "{first}");
    stacks.cause(id);
    // The kernel counts in batches for each thread, so that a peak may seem to sink.
    let more = peak().saturating_sub(before);
    assert!(more < claimed / 2, "{} MiB", more >> 20);
    assert_eq!(stacks.coverage().cut_short, [b"/made"], "it is said");
}

#[test]
fn a_stack_that_leads_to_itself_ends() {
    // Anonymous code, and frame pointers that form a ring.
    let made = Made { maps: b"1000-2000 r-xp 0 00:00 0\n".to_vec(), file: None, stack: vec![0x1100, 0x1100] };
    let mut stacks = Stacks::new();
    let id = stacks.capture(SpaceId(0), &regs(&[0x1100, 0x1100, 0x1100], 0x33), &made);
    assert!(matches!(stacks.end(id), StackEnd::Truncated(_)));
    assert!(stacks.frames(id).len() < 4);
}

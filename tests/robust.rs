//! Damaged programs, and ends at bad moments: the finding is told all the same, nothing panics, nobody is left.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, audit, fdwatch, has, run, skip, start, target};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use object::{Object, ObjectSection};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const TWICE: &str = r#"
#include <fcntl.h>
#include <unistd.h>

__attribute__((noinline)) static int twice(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    close(fd);
    return close(fd);
}

int main(int argc, char **argv)
{
    if (argc > 1 && unlink(argv[0]) != 0)
        return 2;
    return twice("/dev/null") == -1 ? 7 : 1;
}
"#;

/// The same for i386, without a library, which compilers for x86-64 rarely have.
const TWICE_I386: &str = r#"
static int call(int number, int a, int b, int c)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

__attribute__((noinline)) static int twice(const char *path)
{
    int fd = call(5, (int)path, 02000000, 0);
    call(6, fd, 0, 0);
    return call(6, fd, 0, 0);
}

void _start(void)
{
    call(1, twice("/dev/null") == -9 ? 7 : 1, 0, 0);
}
"#;

/// A program that closes a number twice and ends with 7; `None` if the compiler cannot make it so.
fn twice(dir: &Path, name: &str, flags: &[&str]) -> Option<PathBuf> {
    let source = dir.join("twice.c");
    std::fs::write(&source, TWICE).expect("a file");
    let out = dir.join(name);
    let done = run(Command::new("cc").arg("-O1").args(flags).arg("-o").arg(&out).arg(&source));
    (done.code() == 0).then_some(out)
}

fn is_told(what: &str, done: &Done) {
    assert!(!done.stderr.contains("panicked"), "{what}: {}", done.stderr);
    assert_eq!(done.errors(), 1, "{what}: {}", done.stderr);
    assert!(done.stderr.starts_with("error[double-close]"), "{what}: {}", done.stderr);
    assert!(done.stderr.contains("closed fd 3 twice"), "{what}: {}", done.stderr);
    assert!(done.stderr.contains("target exited 7"), "{what}: {}", done.stderr);
    assert_eq!(done.code(), 99, "{what}: {}", done.stderr);
}

fn told(what: &str, program: &Path) -> Done {
    let done = audit(&[], &[program]);
    is_told(what, &done);
    let native = audit(&["--fail-on", "never"], &[program]);
    assert_eq!(native.code(), 7, "{what}: the target's own status");
    done
}

#[test]
fn programs_of_many_makes_are_told_of() {
    if !has("cc") {
        return skip("makes", "no C compiler");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let kinds: [(&str, &[&str]); 11] = [
        ("plain", &["-g"]),
        ("without-lines", &[]),
        ("static", &["-g", "-static"]),
        ("static-pie", &["-g", "-static-pie"]),
        ("not-pie", &["-g", "-no-pie"]),
        ("compressed", &["-g", "-gz"]),
        ("compressed-gnu", &["-g", "-gz=zlib-gnu"]),
        ("compressed-zstd", &["-g", "-gz=zstd"]),
        ("old-dwarf", &["-gdwarf-2", "-gstrict-dwarf"]),
        ("split-dwarf", &["-g", "-gsplit-dwarf"]),
        ("no-unwind-tables", &["-g", "-fno-asynchronous-unwind-tables", "-fomit-frame-pointer"]),
    ];
    for (name, flags) in kinds {
        let Some(program) = twice(dir.path(), name, flags) else {
            skip("makes", &format!("the compiler makes no {name} program"));
            continue;
        };
        let done = told(name, &program);
        if matches!(name, "plain" | "static" | "compressed" | "not-pie") {
            assert!(done.stderr.contains("twice.c:"), "{name}: the line is known: {}", done.stderr);
        }
    }
    if has("strip") {
        let program = twice(dir.path(), "stripped", &["-g"]).expect("it compiled before");
        assert_eq!(run(Command::new("strip").arg(&program)).code(), 0);
        told("stripped", &program);
    } else {
        skip("makes", "no strip");
    }
}

#[test]
fn an_i386_program_is_told_of() {
    if !has("cc") {
        return skip("i386", "no C compiler");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (source, program) = (dir.path().join("twice.c"), dir.path().join("twice"));
    std::fs::write(&source, TWICE_I386).expect("a file");
    for frames in ["-fomit-frame-pointer", "-fno-omit-frame-pointer"] {
        let flags = ["-m32", "-O1", "-g", "-nostdlib", "-static", "-ffreestanding", "-fno-pic", "-no-pie"];
        let mut cc = Command::new("cc");
        cc.args(flags).args(["-fno-stack-protector", frames, "-o"]).arg(&program).arg(&source);
        if run(&mut cc).code() != 0 {
            return skip("i386", "the compiler makes no i386 program");
        }
        if run(&mut Command::new(&program)).code() != 7 {
            return skip("i386", "this kernel runs no i386 program");
        }
        let done = told("i386", &program);
        assert!(done.stderr.contains("twice.c:"), "the line is known: {}", done.stderr);
        is_told("i386, all calls", &audit(&["--no-seccomp"], &[&program]));
    }
}

#[test]
fn a_program_that_removes_itself_is_told_of() {
    if !has("cc") {
        return skip("removed", "no C compiler");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let program = twice(dir.path(), "fleeting", &["-g"]).expect("it compiles");
    let done = audit(&[], &[program.as_os_str(), "unlink".as_ref()]);
    is_told("removed", &done);
    assert!(!program.exists());
}

/// Numbers that look random and are the same each time (Numerical Recipes' constants).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A copy of `good` in which bytes of one section are overwritten; `false` if it has no such section.
fn damage(good: &Path, bad: &Path, section: &str, hits: Option<u64>, dice: &mut Dice) -> bool {
    let mut bytes = std::fs::read(good).expect("a program");
    let range = {
        let file = object::File::parse(&*bytes).expect("an ELF file");
        file.section_by_name(section).and_then(|s| s.file_range())
    };
    let Some((at, size)) = range.filter(|r| r.1 > 0) else { return false };
    for i in 0..hits.unwrap_or(size) {
        let place = if hits.is_some() { dice.below(size) } else { i };
        bytes[(at + place) as usize] = dice.below(256) as u8;
    }
    std::fs::write(bad, bytes).expect("a program");
    std::fs::set_permissions(bad, std::fs::metadata(good).expect("a program").permissions()).expect("its mode");
    true
}

#[test]
fn damaged_tables_cost_detail_only() {
    if !has("cc") {
        return skip("damaged tables", "no C compiler");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let good = twice(dir.path(), "good", &["-g"]).expect("it compiles");
    let bad = dir.path().join("bad");
    let mut dice = Dice(1);
    let sections = [
        ".debug_info",
        ".debug_abbrev",
        ".debug_line",
        ".debug_line_str",
        ".debug_str",
        ".debug_aranges",
        ".debug_rnglists",
        ".eh_frame",
        ".eh_frame_hdr",
        ".symtab",
        ".strtab",
        ".note.gnu.build-id",
    ];
    for section in sections {
        // Some bytes, in three ways, and all.
        for hits in [Some(1), Some(4), Some(20), None] {
            if !damage(&good, &bad, section, hits, &mut dice) {
                skip("damaged tables", &format!("no {section}"));
                break;
            }
            is_told(&format!("{section}, {hits:?} bytes"), &audit(&[], &[&bad]));
        }
    }
}

/// The section table of a program, and its debug file, may be cut off: the kernel needs neither.
#[test]
fn files_that_are_cut_off_cost_detail_only() {
    if !has("cc") {
        return skip("cut files", "no C compiler");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let good = twice(dir.path(), "good", &["-g"]).expect("it compiles");
    let bytes = std::fs::read(&good).expect("a program");
    let first = {
        let file = object::File::parse(&*bytes).expect("an ELF file");
        // All that is mapped lies before what is not.
        let debug = file.sections().filter(|s| s.name().is_ok_and(|n| n.starts_with(".debug") || n == ".comment"));
        debug.filter_map(|s| s.file_range()).map(|r| r.0).min().expect("debug sections") as usize
    };
    let cut = dir.path().join("cut");
    for length in [first, (first + bytes.len()) / 2, bytes.len() - 64, bytes.len() - 1] {
        std::fs::copy(&good, &cut).expect("a copy");
        std::fs::File::options().write(true).open(&cut).expect("a file").set_len(length as u64).expect("a length");
        is_told(&format!("cut to {length} of {}", bytes.len()), &audit(&[], &[&cut]));
    }
    if !has("objcopy") {
        return skip("cut files", "no objcopy");
    }
    let objcopy = |args: &[&str]| assert_eq!(run(Command::new("objcopy").args(args).current_dir(dir.path())).code(), 0);
    objcopy(&["--only-keep-debug", "good", "good.debug"]);
    objcopy(&["--strip-debug", "--add-gnu-debuglink=good.debug", "good", "linked"]);
    let linked = dir.path().join("linked");
    is_told("with a debug file", &audit(&[], &[&linked]));
    let debug = std::fs::read(dir.path().join("good.debug")).expect("a debug file");
    for length in [0, 10, 64, 100, debug.len() / 2, debug.len() - 1] {
        std::fs::write(dir.path().join("good.debug"), &debug[..length]).expect("a debug file");
        is_told(&format!("debug file cut to {length}"), &audit(&[], &[&linked]));
    }
}

/// The processes whose environment has this entry. One that has ended has none.
fn tree(mark: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let marked = entries.filter(|e| {
        let environment = std::fs::read(e.path().join("environ")).unwrap_or_default();
        environment.split(|b| *b == 0).any(|entry| entry == mark.as_bytes())
    });
    marked.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Every task of the target holds the output that is read to its end, so afterwards none may be there.
fn busy(mark: &str, seed: u64) -> Option<(common::Running, PathBuf)> {
    let program = target("busy")?;
    let mut command = Command::new(fdwatch());
    command.arg("audit");
    if seed.is_multiple_of(3) {
        command.arg("--no-seccomp");
    }
    command.args(["--", "env", mark]).arg(&program);
    Some((start(&mut command), program))
}

fn linger(dice: &mut Dice, most: u64) {
    for _ in 0..dice.below(most) {
        std::thread::yield_now();
    }
}

const ITERATIONS: u64 = 40;

#[test]
fn a_target_killed_at_any_moment_ends_as_such() {
    for seed in 0..ITERATIONS {
        let mark = format!("FDWATCH_TEST_TREE=target-{}-{seed}", std::process::id());
        let Some((mut watched, _)) = busy(&mark, seed) else { return skip("killed targets", "no C compiler") };
        let mut dice = Dice(seed);
        let group = watched.line().and_then(|l| l.strip_prefix("group ")?.parse::<i32>().ok()).expect("a group");
        for _ in 0..dice.below(5) {
            assert!(watched.line().is_some());
        }
        linger(&mut dice, 3000);
        killpg(Pid::from_raw(group), Signal::SIGKILL).expect("a group");
        let done = watched.end();
        assert_eq!(done.status.signal(), Some(9), "{seed}: {done:?}");
        assert!(!done.stderr.contains("panicked") && done.stderr.contains("target "), "{seed}: {done:?}");
        assert_eq!(done.errors(), 0, "{seed}: {done:?}");
        assert_eq!(tree(&mark), [""; 0], "{seed}: left behind");
    }
}

#[test]
fn fdwatch_killed_at_any_moment_leaves_nobody() {
    for seed in 0..ITERATIONS {
        let mark = format!("FDWATCH_TEST_TREE=fdwatch-{}-{seed}", std::process::id());
        let Some((mut watched, _)) = busy(&mark, seed) else { return skip("killed fdwatch", "no C compiler") };
        let mut dice = Dice(1000 + seed);
        if seed % 2 == 0 {
            for _ in 0..=dice.below(5) {
                assert!(watched.line().is_some());
            }
            linger(&mut dice, 3000);
        } else {
            // Somewhere in the start.
            linger(&mut dice, 20_000);
        }
        let pid = watched.pid();
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("fdwatch");
        // Ends only when nobody has the output any more, stopped or not.
        let done = watched.end();
        assert_eq!(done.status.signal(), Some(9), "{seed}: {done:?}");
        assert_eq!(tree(&mark), [""; 0], "{seed}: left behind");
    }
}

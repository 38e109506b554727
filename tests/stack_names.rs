//! The names of functions, from every kind of debug information that a real program may have, as `bt` shows them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail loudly

mod common;
mod fuzzed;
mod stack_support;

use common::{fdwatch, has, run, skip, target};
use stack_support::compile;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A frame as `bt full` shows it: the function (`??` without a name), and the last component of its file with the line.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Shown {
    function: String,
    place: Option<String>,
    module: String,
}

/// What `fdwatch run` shows of the stack at the close of `/dev/null` in `command`, up to the C library's start.
fn frames<S: AsRef<OsStr>>(command: &[S], prepare: impl FnOnce(&mut Command)) -> Vec<Shown> {
    let mut fdwatch = Command::new(fdwatch());
    fdwatch.args(["run", "--path", "/dev/null", "-ex", "bt full", "-ex", "continue"]);
    prepare(&mut fdwatch);
    let done = run(fdwatch.arg("--").args(command));
    assert_eq!(done.code(), 0, "{done:#?}");
    let shown = parse(&done.stderr);
    assert!(!shown.is_empty(), "no stack: {done:#?}");
    shown
}

fn parse(text: &str) -> Vec<Shown> {
    let lines = text.lines().map(|l| l.strip_prefix('>').unwrap_or(l).trim_start()).filter(|l| l.starts_with('#'));
    let native = lines.filter_map(|line| {
        let (_, rest) = line.split_once(' ')?;
        let (rest, module) = rest.trim_start().rsplit_once(" from ")?;
        let (function, place) = match rest.rsplit_once(" at ") {
            Some((function, place)) => (function, place.rsplit('/').next().map(str::to_owned)),
            None => (rest, None),
        };
        Some(Shown { function: function.trim().to_owned(), place, module: module.to_owned() })
    });
    native.collect()
}

/// The frames of `named.c`: with places where `lines`, the inlined call only there.
fn whole(lines: bool) -> Vec<(String, Option<String>)> {
    let source = include_str!("targets/stack/named.c");
    let line = |text: &str| format!("named.c:{}", 1 + source.lines().position(|l| l.contains(text)).unwrap());
    let all = [
        ("inner_call (inlined)", line("void inner_call")),
        ("local_call", line("void local_call")),
        ("outer_call", line("void outer_call")),
        ("main", line("  outer_call(fd);")),
    ];
    let kept = all.into_iter().filter(|(name, _)| lines || !name.contains("inlined"));
    kept.map(|(name, place)| (name.to_owned(), lines.then_some(place))).collect()
}

/// The frames of the program itself.
fn own(shown: &[Shown]) -> Vec<(String, Option<String>)> {
    let ours = shown.iter().filter(|s| s.module.contains("named") && s.function != "_start");
    ours.map(|s| (s.function.clone(), s.place.clone())).collect()
}

#[track_caller]
fn assert_named(program: &Path, lines: bool) {
    let shown = frames(&[program], |_| ());
    assert_eq!(own(&shown), whole(lines), "{shown:#?}");
}

/// No name of the program's own is known: all that is shown is where its frames are.
#[track_caller]
fn assert_unnamed(shown: &[Shown]) {
    let ours: Vec<_> = shown.iter().filter(|s| s.module.contains("named")).collect();
    assert!(ours.len() >= 3 && ours.iter().all(|s| s.function == "??" && s.module.contains("+0x")), "{shown:#?}");
}

/// Runs a tool; false, with the reason printed, where it is missing.
fn tool(test: &str, program: &str, args: &[&OsStr]) -> bool {
    if !has(program) {
        skip(test, &format!("no {program}"));
        return false;
    }
    let done = run(Command::new(program).args(args));
    assert_eq!(done.code(), 0, "{program} {args:?}: {done:#?}");
    true
}

macro_rules! args {
    ($($arg:expr),* $(,)?) => { &[$(OsStr::new(&$arg)),*] };
}

/// `path` with `suffix` behind its name.
fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Moves the debug information of `program` into the file `debug`.
fn separate(test: &str, program: &Path, debug: &Path) -> bool {
    tool(test, "objcopy", args!["--only-keep-debug", program, debug]) && tool(test, "strip", args![program])
}

/// Writes the name of `debug`, and its checksum, into `program`.
fn link(test: &str, program: &Path, debug: &Path) -> bool {
    let option = format!("--add-gnu-debuglink={}", debug.display());
    tool(test, "objcopy", args![option, program])
}

const NO_ID: &str = "-Wl,--build-id=none";

#[test]
fn dwarf_4_and_5_and_compressed() {
    let dir = tempfile::tempdir().unwrap();
    for (label, flags) in [
        ("4", &["-O2", "-gdwarf-4"][..]),
        ("5", &["-O2", "-gdwarf-5"]),
        ("5-64", &["-O2", "-gdwarf-5", "-gdwarf64"]),
        ("zlib", &["-O2", "-g", "-gz=zlib"]),
        ("zstd", &["-O2", "-g", "-gz=zstd"]),
        // In sections that are called `.zdebug_…`, as before 2015.
        ("zlib-gnu", &["-O2", "-g", "-gz=zlib-gnu"]),
    ] {
        let Some(program) = compile("named", label, flags, dir.path()) else { continue };
        assert_named(&program, true);
    }
}

#[test]
fn a_stripped_twin_has_no_names() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("named", "stripped", &["-O2", "-s"], dir.path()) else { return };
    assert_unnamed(&frames(&[&program], |_| ()));
}

#[test]
fn symbols_without_debug_information() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("named", "symbols", &["-O2"], dir.path()) else { return };
    assert_named(&program, false);
}

#[test]
fn split_dwarf() {
    let dir = tempfile::tempdir().unwrap();
    for (label, flags) in [("4", "-gdwarf-4"), ("5", "-gdwarf-5")] {
        let Some(program) = compile("named", label, &["-O2", flags, "-gsplit-dwarf"], dir.path()) else { continue };
        assert_named(&program, true);
        // Moved away from where it was built: beside the program the parts are found, too.
        let moved = tempfile::tempdir().unwrap();
        let parts = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
        let parts: Vec<_> = parts.filter(|p| p.extension() == Some("dwo".as_ref())).collect();
        assert!(!parts.is_empty(), "cc wrote no .dwo file");
        let there = moved.path().join(program.file_name().unwrap());
        std::fs::copy(&program, &there).unwrap();
        parts.iter().for_each(|p| std::fs::rename(p, moved.path().join(p.file_name().unwrap())).unwrap());
        assert_named(&there, true);
        // Without them the line of each frame is known, and the function by its symbol, but not what was inlined.
        for entry in std::fs::read_dir(moved.path()).unwrap().map(|e| e.unwrap().path()) {
            if entry.extension() == Some("dwo".as_ref()) {
                std::fs::remove_file(entry).unwrap();
            }
        }
        let shown = frames(&[&there], |_| ());
        let names: Vec<_> = own(&shown).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["local_call", "outer_call", "main"], "{shown:#?}");
    }
}

/// A `.dwo` file of another build, and a large one, where the program's own should be: it is not believed, and what it takes
/// to see that is little.
#[test]
fn a_part_of_another_build_is_not_read() {
    const TEST: &str = "a_part_of_another_build_is_not_read";
    // More than is read of all wrong ones of a module.
    const LARGE: u64 = 260 << 20;
    let Some(peak) = target("peak") else { return skip(TEST, "the target was not built") };
    let dir = tempfile::tempdir().unwrap();
    let compiled = |more: &[&str]| {
        let flags = [more, &["-gdwarf-5", "-gsplit-dwarf"]].concat();
        let program = compile("named", "wrong", &flags, dir.path())?;
        let all = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
        let part = all.into_iter().find(|p| p.extension() == Some("dwo".as_ref())).expect("a .dwo file");
        Some((program, part))
    };
    let Some((_, theirs)) = compiled(&["-O1"]) else { return };
    let kept = dir.path().join("kept");
    std::fs::rename(&theirs, &kept).unwrap();
    let Some((program, own)) = compiled(&["-O2"]) else { return };
    let content = dir.path().join("content");
    std::fs::File::create(&content).unwrap().set_len(LARGE).unwrap();
    // What tells the number is read, if that is not too much; nothing else is.
    for (section, refused) in [(".debug_str.dwo", false), (".debug_info.dwo", true)] {
        let update = format!("{section}={}", content.display());
        if !tool(TEST, "objcopy", args!["--update-section", update, kept, own]) {
            return;
        }
        let out = dir.path().join("peak");
        let mut command = Command::new(&peak);
        command.arg(&out).arg(fdwatch()).args([
            "run",
            "--path",
            "/dev/null",
            "-ex",
            "bt full",
            "-ex",
            "continue",
            "--",
        ]);
        let done = run(command.arg(&program));
        let names: Vec<_> = own_names(&parse(&done.stderr));
        assert_eq!(names, ["local_call", "outer_call", "main"], "{done:#?}");
        assert_eq!(done.stderr.contains("debug information is damaged"), refused, "{section}: {done:#?}");
        let most: u64 = std::fs::read_to_string(&out).expect("the peak").trim().parse().expect("a number");
        assert!(
            most < LARGE >> 11,
            "{section}: {most} KiB for a file of {} KiB that is not the program's",
            LARGE >> 10
        );
    }
}

fn own_names(shown: &[Shown]) -> Vec<String> {
    own(shown).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn split_dwarf_in_a_package() {
    const TEST: &str = "split_dwarf_in_a_package";
    let dir = tempfile::tempdir().unwrap();
    // binutils' dwp knows DWARF 4 alone, LLVM's both.
    for (label, flags, packer) in [("dwp4", "-gdwarf-4", "dwp"), ("dwp5", "-gdwarf-5", "llvm-dwp")] {
        let Some(program) = compile("named", label, &["-O2", flags, "-gsplit-dwarf"], dir.path()) else { continue };
        if !tool(TEST, packer, args!["-e", program, "-o", with(&program, ".dwp")]) {
            continue;
        }
        for entry in std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()) {
            if entry.extension() == Some("dwo".as_ref()) {
                std::fs::remove_file(entry).unwrap();
            }
        }
        assert_named(&program, true);
    }
}

#[test]
fn a_debug_link_in_the_same_folder_or_below() {
    const TEST: &str = "a_debug_link_in_the_same_folder_or_below";
    let dir = tempfile::tempdir().unwrap();
    // By checksum alone, and by build id.
    for (label, id) in [("crc", NO_ID), ("id", "-Wl,--build-id")] {
        let Some(program) = compile("named", label, &["-O2", "-g", id], dir.path()) else { return };
        let debug = with(&program, ".debug");
        if !separate(TEST, &program, &debug) || !link(TEST, &program, &debug) {
            return;
        }
        assert_named(&program, true);
        let below = dir.path().join(".debug").join(debug.file_name().unwrap());
        std::fs::create_dir_all(below.parent().unwrap()).unwrap();
        std::fs::rename(&debug, &below).unwrap();
        assert_named(&program, true);
        // Another file of that name is not believed.
        let mut other = std::fs::OpenOptions::new().append(true).open(&below).unwrap();
        other.write_all(b"x").unwrap();
        drop(other);
        match id {
            NO_ID => assert_unnamed(&frames(&[&program], |_| ())),
            // What has the build id is the file, whatever a later tool did to it (dwz).
            _ => assert_named(&program, true),
        }
        let Some(twin) = compile("named", "twin", &["-O1", "-g", id], dir.path()) else { return };
        std::fs::rename(&twin, &below).unwrap();
        assert_unnamed(&frames(&[&program], |_| ()));
        // Nor is one that blocks whoever opens it.
        std::fs::remove_file(&below).unwrap();
        nix::unistd::mkfifo(&below, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_unnamed(&frames(&[&program], |_| ()));
    }
}

/// A command that mounts `dir` over `/usr/lib/debug`, for itself alone, and executes `program`.
fn below_global(test: &str, dir: &Path, program: &Path) -> Option<Vec<String>> {
    let works = "mount --bind /tmp /usr/lib/debug";
    let can = has("unshare") && run(Command::new("unshare").args(["-Urm", "sh", "-c", works])).code() == 0;
    if !can {
        skip(test, "unshare -Urm cannot mount over /usr/lib/debug");
        return None;
    }
    let script = "mount --bind \"$1\" /usr/lib/debug && exec \"$2\"";
    let paths = [dir, program].map(|p| p.display().to_string());
    Some(["unshare", "-Urm", "sh", "-c", script, "sh"].map(str::to_owned).into_iter().chain(paths).collect())
}

/// The build id of a file, in hexadecimal digits.
fn build_id(file: &Path) -> String {
    use object::Object;
    let bytes = std::fs::read(file).unwrap();
    let id = object::File::parse(&*bytes).unwrap().build_id().unwrap().expect("a build id").to_vec();
    id.iter().map(|b| format!("{b:02x}")).collect()
}

/// Both global rules, seen only in the mount namespace of the target: fdwatch's own `/usr/lib/debug` has no such file.
#[test]
fn global_folders_are_those_of_the_target() {
    const TEST: &str = "global_folders_are_those_of_the_target";
    let (dir, global) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (label, id) in [("link", NO_ID), ("build", "-Wl,--build-id")] {
        let Some(program) = compile("named", label, &["-O2", "-g", id], dir.path()) else { return };
        let debug = with(&program, ".debug");
        let place = match id {
            NO_ID => global.path().join(debug.strip_prefix("/").unwrap()),
            _ => {
                let id = build_id(&program);
                global.path().join(".build-id").join(&id[..2]).join(format!("{}.debug", &id[2..]))
            }
        };
        if !separate(TEST, &program, &debug) || (id == NO_ID && !link(TEST, &program, &debug)) {
            return;
        }
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::rename(&debug, &place).unwrap();
        let Some(command) = below_global(TEST, global.path(), &program) else { return };
        let shown = frames(&command, |_| ());
        assert_eq!(own(&shown), whole(true), "{shown:#?}");
        assert_unnamed(&frames(&[&program], |_| ()));
    }
}

/// A program that sees another root finds its debug files below that.
#[test]
fn a_target_with_a_root_of_its_own() {
    const TEST: &str = "a_target_with_a_root_of_its_own";
    let dir = tempfile::tempdir().unwrap();
    let flags = ["-O2", "-g", "-static", NO_ID];
    let Some(program) = compile("named", "static", &flags, dir.path()) else { return };
    let debug = with(&program, ".debug");
    if !separate(TEST, &program, &debug) || !link(TEST, &program, &debug) {
        return;
    }
    let below = dir.path().join("usr/lib/debug").join(debug.file_name().unwrap());
    std::fs::create_dir_all(below.parent().unwrap()).unwrap();
    std::fs::create_dir_all(dir.path().join("dev")).unwrap();
    std::fs::rename(&debug, &below).unwrap();
    let script = "mount --rbind /dev \"$1/dev\" && exec chroot \"$1\" /named-static";
    let command = ["unshare", "-Urm", "sh", "-c", script, "sh", &dir.path().display().to_string()].map(str::to_owned);
    if !has("unshare") || run(Command::new(&command[0]).args(&command[1..])).code() != 0 {
        return skip(TEST, "unshare -Urm and chroot do not work here");
    }
    // From outside its /dev/null has a longer path.
    let shown = frames(&command, |c| {
        c.args(["--path", "*/dev/null"]);
    });
    assert_eq!(own(&shown)[1..5], whole(true)[..], "{shown:#?}");
}

#[test]
fn a_symbol_table_packed_into_the_program() {
    const TEST: &str = "a_symbol_table_packed_into_the_program";
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("named", "mini", &["-O2", "-g"], dir.path()) else { return };
    let mini = dir.path().join("mini");
    // As distributions do: what is left is a symbol table, compressed by xz.
    let made = tool(TEST, "objcopy", args!["--only-keep-debug", program, mini])
        && tool(
            TEST,
            "objcopy",
            args![
                "-S",
                "--keep-symbol=local_call",
                "--keep-symbol=outer_call",
                "--keep-symbol=main",
                "--keep-symbol=_start",
                mini
            ],
        )
        && tool(TEST, "strip", args![program]);
    if !made {
        return;
    }
    assert_unnamed(&frames(&[&program], |_| ()));
    for check in ["crc64", "crc32", "none"] {
        let (packed, option) = (with(&mini, ".xz"), format!("--check={check}"));
        if !tool(TEST, "xz", args!["-k", "-f", option, mini]) {
            return;
        }
        let out = dir.path().join(format!("named-{check}"));
        let section = format!(".gnu_debugdata={}", packed.display());
        assert!(tool(TEST, "objcopy", args!["--add-section", section, program, out]));
        assert_named(&out, false);
    }
    // Damaged, it costs the names and nothing else.
    let bytes = std::fs::read(dir.path().join("named-crc64")).unwrap();
    let at = bytes.windows(6).rposition(|w| w == b"\xfd7zXZ\0").unwrap();
    let damaged = dir.path().join("named-damaged");
    for byte in [at + 30, at + 60] {
        let mut bytes = bytes.clone();
        bytes[byte] ^= 0xff;
        std::fs::write(&damaged, &bytes).unwrap();
        let mode = std::fs::metadata(&program).unwrap().permissions();
        std::fs::set_permissions(&damaged, mode).unwrap();
        assert!(!frames(&[&damaged], |_| ()).is_empty());
    }
}

#[test]
fn what_dwz_moved_into_a_common_file() {
    const TEST: &str = "what_dwz_moved_into_a_common_file";
    let dir = tempfile::tempdir().unwrap();
    let programs: Vec<_> =
        ["dwz1", "dwz2"].iter().filter_map(|l| compile("named", l, &["-O2", "-g", "-gdwarf-4"], dir.path())).collect();
    let [first, second] = &programs[..] else { return };
    let common = dir.path().join("common.debug");
    if !tool(TEST, "dwz", args!["-m", common, first, second]) {
        return;
    }
    assert!(common.exists(), "dwz found nothing in common");
    assert_named(first, true);
    // Without the common file lines may be lost, functions are known by their symbols.
    std::fs::remove_file(&common).unwrap();
    let shown = frames(&[second], |_| ());
    let names: Vec<_> = own(&shown).into_iter().map(|(name, _)| name).filter(|n| n.ends_with("_call")).collect();
    assert_eq!(names, ["local_call", "outer_call"], "{shown:#?}");
}

#[test]
fn only_what_is_mangled_is_demangled() {
    const TEST: &str = "only_what_is_mangled_is_demangled";
    let dir = tempfile::tempdir().unwrap();
    let (c, cpp) = (dir.path().join("c.c"), dir.path().join("cpp.cc"));
    std::fs::write(&c, "#include <unistd.h>\nint h(int fd) { int r = close(fd); return r + 1; }\n").unwrap();
    let text = "#include <fcntl.h>\nextern \"C\" int h(int);\nnamespace space { template<class T> struct Thing {\n  \
        __attribute__((noinline)) int end(T fd) { return h(fd) + 1; } }; }\n\
        int main() { return space::Thing<int>().end(open(\"/dev/null\", O_RDONLY)) == 99; }\n";
    std::fs::write(&cpp, text).unwrap();
    for (label, debug) in [("symbols", "-g0"), ("dwarf", "-g")] {
        let (object, out) = (dir.path().join("h.o"), dir.path().join(format!("named-{label}")));
        if !tool(TEST, "cc", args!["-O1", debug, "-c", "-o", object, c])
            || !tool(TEST, "g++", args!["-O1", debug, "-o", out, cpp, object])
        {
            return;
        }
        let names: Vec<_> = own(&frames(&[&out], |_| ())).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["h", "space::Thing<int>::end(int)", "main"], "{label}");
    }
    let (rust, out) = (dir.path().join("r.rs"), dir.path().join("named-rust"));
    std::fs::write(
        &rust,
        "fn main() { inner::ends(std::fs::File::open(\"/dev/null\").unwrap()); }\nmod inner {\n    \
        #[inline(never)]\n    pub fn ends(f: std::fs::File) { drop(f); std::hint::black_box(()); }\n}\n",
    )
    .unwrap();
    for mangling in ["v0", "legacy"] {
        let option = format!("-Csymbol-mangling-version={mangling}");
        // The older one is not offered by every compiler.
        let built = has("rustc")
            && run(Command::new("rustc")
                .args([&option, "-Zunstable-options"])
                .arg("-o")
                .arg(&out)
                .arg(&rust)
                .env("RUSTC_BOOTSTRAP", "1"))
            .code()
                == 0;
        if !built {
            skip(TEST, &format!("no rustc that can mangle as {mangling}"));
            continue;
        }
        let names: Vec<_> = own(&frames(&[&out], |_| ())).into_iter().map(|(name, _)| name).collect();
        let ours: Vec<_> = names.iter().filter(|n| n.starts_with("r::") || n.starts_with("named_rust::")).collect();
        let ends: Vec<_> = ours.iter().map(|n| n.split_once("::").unwrap().1).collect();
        assert!(ends.starts_with(&["inner::ends", "main"]), "{mangling}: {names:#?}");
    }
}

/// A name that is near is not the name: code behind the end of a function, or behind a label without a size, has none.
#[test]
fn no_name_is_better_than_a_wrong_one() {
    const TEST: &str = "no_name_is_better_than_a_wrong_one";
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("asm.c");
    let text = "#include <fcntl.h>\n#include <unistd.h>\nint bare(int);\n\
        __asm__(\".text\\n.type sized, @function\\nsized: nop\\n.size sized, .-sized\\n\"\n\
        \"nop\\n.cfi_startproc\\n.globl bare\\nbare: nop\\nsub $8, %rsp\\n.cfi_adjust_cfa_offset 8\\n\"\n\
        \"call closer\\nadd $8, %rsp\\n.cfi_adjust_cfa_offset -8\\nret\\n.cfi_endproc\\n\");\n\
        int closer(int fd) { int r = close(fd); return r + 1; }\n\
        int main(void) { return bare(open(\"/dev/null\", O_RDONLY)) == 99; }\n";
    std::fs::write(&source, text).unwrap();
    let out = dir.path().join("named-asm");
    if !tool(TEST, "cc", args!["-O1", "-o", out, source]) {
        return;
    }
    let shown = frames(&[&out], |_| ());
    let names: Vec<_> = own(&shown).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["closer", "??", "main"], "{shown:#?}");
    assert!(shown.iter().any(|s| s.function == "??" && s.module.contains("named-asm+0x")), "{shown:#?}");
}

/// A web server for one file by its build id, as debuginfod(8) gives it; counts who asks.
fn serve(file: PathBuf, id: String) -> (u16, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 2048];
            let n = stream.read(&mut request).unwrap_or(0);
            let line = String::from_utf8_lossy(&request[..n]).lines().next().unwrap_or_default().to_owned();
            let wanted = line.contains(&format!("/buildid/{id}/debuginfo"));
            let body = if wanted { std::fs::read(&file).unwrap_or_default() } else { Vec::new() };
            let status = if wanted { "200 OK" } else { "404 Not Found" };
            count.fetch_add(usize::from(wanted), std::sync::atomic::Ordering::SeqCst);
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    (port, asked)
}

#[test]
fn debug_files_from_a_server_only_when_asked_for() {
    const TEST: &str = "debug_files_from_a_server_only_when_asked_for";
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("named", "server", &["-O2", "-g", "-Wl,--build-id"], dir.path()) else { return };
    let id = build_id(&program);
    let debug = dir.path().join("elsewhere");
    if !separate(TEST, &program, &debug) {
        return;
    }
    if !has("debuginfod-find") {
        return skip(TEST, "no debuginfod-find");
    }
    let (port, asked) = serve(debug, id);
    let asked = || asked.load(std::sync::atomic::Ordering::SeqCst);
    let cache = dir.path().join("cache");
    let set = |urls: &str, option: bool| {
        let (urls, cache) = (urls.to_owned(), cache.clone());
        move |c: &mut Command| {
            c.env("DEBUGINFOD_URLS", urls).env("DEBUGINFOD_CACHE_PATH", cache).env_remove("http_proxy");
            c.args(option.then_some("--debuginfod"));
        }
    };
    let here = format!("http://127.0.0.1:{port}");
    assert_unnamed(&frames(&[&program], set(&here, false)));
    assert_eq!(asked(), 0, "a server was asked though nobody wanted it");
    let shown = frames(&[&program], set(&here, true));
    assert_eq!(own(&shown), whole(true), "{shown:#?}");
    assert_eq!(asked(), 1);
    // What was got is kept, and nobody is asked for it again.
    let shown = frames(&[&program], set("http://127.0.0.1:1", true));
    assert_eq!(own(&shown), whole(true), "{shown:#?}");
    assert_eq!(asked(), 1);
    // To ask for servers and name none is a mistake, and said before anything is started.
    let mut fdwatch = Command::new(fdwatch());
    let done = run(fdwatch.args(["audit", "--debuginfod", "--"]).arg(&program).env_remove("DEBUGINFOD_URLS"));
    assert_eq!(done.code(), 125, "{done:#?}");
    assert!(done.stderr.contains("DEBUGINFOD_URLS"), "{done:#?}");
}

/// A client that never ends, gives what is no file, or another file, costs the names and a limited time.
#[test]
fn a_server_that_does_not_answer_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["-O2", "-s", "-Wl,--build-id"];
    let Some(program) = compile("named", "hang", &flags, dir.path()) else { return };
    let client = dir.path().join("debuginfod-find");
    for script in ["exec sleep 1000", "echo /nowhere/to/be/found", "echo /bin/sh", "kill -9 $$", "yes"] {
        std::fs::write(&client, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&client, mode).unwrap();
        let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
        let shown = frames(&[&program], |c| {
            c.arg("--debuginfod").env("PATH", path).env("DEBUGINFOD_URLS", "http://127.0.0.1:1");
            c.env("DEBUGINFOD_MAXTIME", "1").env("DEBUGINFOD_CACHE_PATH", dir.path().join("none"));
        });
        assert_unnamed(&shown);
    }
}

/// `--perf-basic-prof` makes node write down the code that it makes; so its functions have names on the native stack.
#[test]
fn a_perf_map_of_node() {
    if !has("node") {
        return skip("a_perf_map_of_node", "no node");
    }
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("close.js");
    let text = "const fs = require('fs');\nfunction theCloser(fd) { fs.closeSync(fd); }\n\
        function theCaller() { theCloser(fs.openSync('/dev/null')); }\ntheCaller();\n";
    std::fs::write(&script, text).unwrap();
    let script = script.display().to_string();
    // It leaves a log where it is started.
    let shown = frames(&["node", "--perf-basic-prof", "--interpreted-frames-native-stack", &script], |c| {
        c.current_dir(dir.path());
    });
    let names: Vec<_> = shown.iter().filter(|s| s.module.contains("[jit]")).map(|s| s.function.as_str()).collect();
    let at = |name: &str| names.iter().position(|n| n.contains(name)).unwrap_or_else(|| panic!("{name}: {shown:#?}"));
    assert!(at("theCloser") < at("theCaller"), "{shown:#?}");
}

/// CPython from 3.12 on writes a perf map with `-X perf`. In a pid namespace it is called by the number that the process
/// has there, and it lies in the `/tmp` that the process sees.
#[test]
fn a_perf_map_in_another_namespace() {
    const TEST: &str = "a_perf_map_in_another_namespace";
    let script = "import os\ndef the_closer(fd):\n    os.close(fd)\n\
        the_closer(os.open('/dev/null', os.O_RDONLY))\n";
    let works = "import sys; sys.activate_stack_trampoline('perf')";
    let python = common::pythons().into_iter().find(|p| run(Command::new(p).args(["-c", works])).code() == 0);
    let Some(python) = python else { return skip(TEST, "no Python that writes perf maps") };
    let python = python.display().to_string();
    let named = |shown: &[Shown]| {
        let jit: Vec<_> = shown.iter().filter(|s| s.module.contains("[jit]")).collect();
        assert!(jit.iter().any(|s| s.function.starts_with("py::the_closer")), "{shown:#?}");
    };
    named(&frames(&[&python, "-X", "perf", "-c", script], |_| ()));
    let inside = "mount -t tmpfs none /tmp && exec \"$0\" -X perf -c \"$1\"";
    let command = ["unshare", "-Urmpf", "--mount-proc", "sh", "-c", inside, &python, script];
    if !has("unshare") || run(Command::new(command[0]).args(&command[1..])).code() != 0 {
        return skip(TEST, "unshare -Urmpf does not work here");
    }
    named(&frames(&command, |_| ()));
}

/// Since Go 1.26 the table does not say where the code begins, and where the system's linker made the program the code of
/// the C library comes first. An older Go's table is changed to be one of these.
#[test]
fn a_go_table_that_does_not_say_where_the_code_begins() {
    use object::{Object, ObjectSection, ObjectSymbol};
    const TEST: &str = "a_go_table_that_does_not_say_where_the_code_begins";
    let dir = tempfile::tempdir().unwrap();
    for (label, flags, external) in [
        ("internal", &["build", "-ldflags=-w"][..], false),
        ("external", &["build", "-ldflags=-w -linkmode=external"], true),
    ] {
        let Some(program) = stack_support::build("go", "calls.go", label, flags, dir.path()) else { continue };
        let mut bytes = std::fs::read(&program).unwrap();
        let (field, target, table, module) = {
            let elf = object::File::parse(&*bytes).unwrap();
            let table = elf.section_by_name(".gopclntab").unwrap();
            if ![0xf0, 0xf1].contains(&table.data().unwrap()[0]) {
                return skip(TEST, "a table before Go 1.18");
            }
            let symbol = |name: &str| elf.symbols().find(|s| s.name() == Ok(name)).unwrap();
            let module = symbol("runtime.firstmoduledata");
            let data = elf.section_by_index(module.section_index().unwrap()).unwrap();
            let module = data.data_range(module.address(), 64 * 8).unwrap().unwrap().to_vec();
            let field = table.file_range().unwrap().0 as usize + 8 + 16;
            (field, symbol("main.targetClose").address(), table.address(), module)
        };
        let right = ("main.targetClose".to_owned(), true);
        let ask = |path: &Path, bytes: &[u8]| {
            std::fs::write(path, bytes).unwrap();
            let mut out = fuzzed::named(bytes, &[target]);
            out.pop().map(|(function, file)| (function, file.is_some_and(|f| f.ends_with("calls.go")))).unwrap()
        };
        assert_eq!(ask(&program, &bytes), right, "{label}");
        bytes[field..field + 8].fill(0);
        assert_eq!(ask(&program, &bytes), right, "{label}: with symbols");
        let bare = with(&program, ".bare");
        let strip: [&OsStr; 4] = ["-s".as_ref(), "-o".as_ref(), bare.as_os_str(), program.as_os_str()];
        if !tool(TEST, "strip", &strip) {
            return;
        }
        let stripped = ask(&bare, &std::fs::read(&bare).unwrap());
        let expected = if external { (String::new(), false) } else { right.clone() };
        assert_eq!(stripped, expected, "{label}: a wrong name is worse than none");

        // As 1.26 has it: the description of the module in a section of its own. Of another table's it says nothing.
        let words = with(&program, ".words");
        for (first, expected) in [(table, &right), (table + 32, &expected)] {
            let mut module = module.clone();
            module[..8].copy_from_slice(&first.to_le_bytes());
            std::fs::write(&words, &module).unwrap();
            let (made, add) = (with(&program, ".made"), format!(".go.module={}", words.display()));
            let add: [&OsStr; 4] = ["--add-section".as_ref(), add.as_ref(), bare.as_os_str(), made.as_os_str()];
            if !tool(TEST, "objcopy", &add) {
                return;
            }
            assert_eq!(ask(&made, &std::fs::read(&made).unwrap()), *expected, "{label}: {first:x}");
        }
    }
}

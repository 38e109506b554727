//! Python's frames wherever Python code can run: threads, coroutines, finalizers, children, other interpreters.
//!
//! `tests/pythons/cases.py` says of each place what the interpreter itself takes for its stack (`sys._getframe`); here
//! it is stopped there, and our reader must see the same. The native stack must hold as many evaluation loops as there
//! are entries among the Python frames: that is what merges the two.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pythons;
mod stack_support;

use fdwatch::base::{Pid, Regs, Tid};
use fdwatch::stack::lang::python::{PyStack, Pythons, Task};
use fdwatch::stack::{SpaceId, StackEnd, Stacks, Stretch};
use pythons::interpreters;
use serde_json::Value;
use stack_support::{Space, Tracee, names};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

const IOCTL: u64 = 16;
const EXECVE: u64 = 59;
const SPAWNS: [u64; 4] = [56, 57, 58, 435]; // clone, fork, vfork, clone3
const NUMBER: u64 = 1_000_000;
/// Places inside another interpreter.
const INSIDE: u64 = 43;
const INSIDE_BY_THREAD: u64 = 44;
/// As many frames as our reader shows.
const SHOWN: usize = 256;

/// A stop at a marked place.
struct Seen {
    key: u64,
    stack: Result<PyStack, String>,
    /// Evaluation loops on the native stack; `None` where its functions have no names.
    loops: Option<usize>,
    native: Vec<String>,
}

#[derive(Default)]
struct Run {
    seen: Vec<Seen>,
    /// What was wrong about children between fork and exec, and how many were looked at.
    children: Vec<String>,
    looked: usize,
}

fn group_of(tid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("Tgid:")).and_then(|n| n.trim().parse().ok())
}

fn parent_of(tid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("PPid:")).and_then(|n| n.trim().parse().ok())
}

fn task<'a>(pid: i32, tid: i32, regs: &Regs, space: &'a Space) -> Task<'a> {
    Task { pid: Pid(pid), tid: Tid(tid), fs_base: Some(regs.fs_base), space, stack: Stretch::default() }
}

/// Runs a program to its end; `loops` says whether native stacks are looked at, too.
fn run(program: &Path, args: &[&str], loops: bool) -> Run {
    let (mut out, mut pythons, mut stacks) = (Run::default(), Pythons::new(), Stacks::new());
    let mut tracee = Tracee::start(program, args);
    // What each process's frames were when it last made a child, until the child executes something.
    let mut spawning: HashMap<i32, PyStack> = HashMap::new();
    let mut born: BTreeSet<i32> = BTreeSet::new();
    let mut old: BTreeSet<i32> = BTreeSet::from([tracee.pid.as_raw()]);
    while let Some(entry) = tracee.run_to(|_| true) {
        let tid = tracee.tid.as_raw();
        let Some(pid) = group_of(tid) else { continue };
        let space = Space(tracee.tid);
        let at = task(pid, tid, &entry.regs, &space);
        if old.insert(pid) {
            let parent = parent_of(pid).unwrap_or(0);
            pythons.fork(Pid(parent), Pid(pid));
            if let (Some(want), true) = (spawning.get(&parent), born.insert(pid)) {
                // The first thing that a child of subprocess does is C code: its Python frames are its parent's.
                let innermost = want.frames.first().map(|f| f.function.to_string()).unwrap_or_default();
                let got = pythons.trace(&at);
                if innermost.contains("_execute_child") {
                    out.looked += 1;
                    if got.as_ref() != Ok(want) {
                        out.children.push(format!("{got:?} instead of {want:?}"));
                    }
                }
            }
        }
        if SPAWNS.contains(&entry.nr)
            && let Ok(stack) = pythons.trace(&at)
        {
            spawning.insert(pid, stack);
        }
        if entry.nr == EXECVE {
            pythons.forget(Pid(pid));
        }
        if entry.nr == IOCTL && entry.args[0] >= NUMBER && entry.args[0] < NUMBER + 1000 {
            let stack = pythons.trace(&at).map_err(|e| e.to_string());
            let mut seen = Seen { key: entry.args[0] - NUMBER, stack, loops: None, native: Vec::new() };
            if loops {
                let id = stacks.capture(SpaceId(pid as u32), &entry.regs, &space);
                seen.native = names(&mut stacks, id);
                let eval = |n: &&String| n.starts_with("_PyEval_EvalFrameDefault");
                // Of a stack that is too deep only a part is there.
                let whole = stacks.end(id) == StackEnd::Complete;
                seen.loops = whole.then(|| seen.native.iter().filter(eval).count());
            }
            out.seen.push(seen);
        }
    }
    let coverage = pythons.coverage();
    assert_eq!(coverage.by_py_spy, 0, "{}: py-spy was asked", program.display());
    out
}

type Truth = BTreeMap<u64, Vec<Vec<(String, String, u32)>>>;

fn truth(file: &Path) -> Truth {
    let mut out = Truth::new();
    for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
        let value: Value = serde_json::from_str(line).expect("a line of the target");
        let frames = value[1]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| (f[0].as_str().unwrap().into(), f[1].as_str().unwrap().into(), f[2].as_u64().unwrap() as u32));
        out.entry(value[0].as_u64().unwrap()).or_default().push(frames.collect());
    }
    out
}

/// What is different between what was seen and what was said.
fn differences(run: &Run, mut truth: Truth, minor: u8, check_loops: bool) -> String {
    let mut wrong = String::new();
    for seen in &run.seen {
        let want = truth.get_mut(&seen.key).filter(|l| !l.is_empty()).map(|l| l.remove(0));
        let want = want.unwrap_or_else(|| panic!("place {}: nothing was said", seen.key));
        let stack = match &seen.stack {
            Ok(stack) => stack,
            Err(e) => {
                writeln!(wrong, "place {}: {e}; want {want:?}", seen.key).unwrap();
                continue;
            }
        };
        let got: Vec<_> =
            stack.frames.iter().map(|f| (f.function.to_string(), f.file.to_string(), f.line.unwrap_or(0))).collect();
        let cut = want.len().min(SHOWN);
        // An interpreter does not know who called it: below its own frames are those of the outer one.
        let outer = match seen.key {
            INSIDE => got.iter().position(|f| f.0 == "interpreters"),
            INSIDE_BY_THREAD => got.iter().position(|f| f.0.ends_with("run")),
            _ => None,
        };
        let got = &got[..outer.unwrap_or(got.len())];
        // Said in the report: up to 3.12 such a thread uses the state of another.
        if seen.key == INSIDE_BY_THREAD && minor <= 12 && outer == Some(0) {
            continue;
        }
        if got != &want[..cut] || stack.truncated != (want.len() > SHOWN) {
            writeln!(wrong, "place {}:\n   got {got:?}\n  want {:?}", seen.key, &want[..cut]).unwrap();
        }
        let entries = stack.frames.iter().filter(|f| f.entry).count();
        if let (Some(loops), true) = (seen.loops, check_loops && !stack.truncated)
            && loops != entries
        {
            let frames: Vec<_> = stack.frames.iter().map(|f| (&f.function, f.entry)).collect();
            writeln!(wrong, "place {}: {loops} loops, {entries} entries: {frames:?} {:#?}", seen.key, seen.native)
                .unwrap();
        }
    }
    for (key, rest) in truth.iter().filter(|(_, rest)| !rest.is_empty()) {
        writeln!(wrong, "place {key} was never stopped at: {rest:?}").unwrap();
    }
    for child in &run.children {
        writeln!(wrong, "a child before exec: {child}").unwrap();
    }
    wrong
}

/// Puts the script and what it imports into a folder.
fn folder(python: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("cases.py"), include_str!("pythons/cases.py")).unwrap();
    let module = |key: u32| format!("def work():\n  here({key})\nwork()\n");
    std::fs::write(at("from_source.py"), module(40)).unwrap();
    std::fs::write(at("from_pyc.py"), module(41)).unwrap();
    std::fs::write(at("from_zip.py"), module(42)).unwrap();
    let prepare = "import py_compile, zipfile, os\n\
        py_compile.compile('from_pyc.py', 'from_pyc.pyc'); os.unlink('from_pyc.py')\n\
        zipfile.ZipFile('from.zip', 'w').write('from_zip.py'); os.unlink('from_zip.py')\n";
    let status = Command::new(python).args(["-c", prepare]).current_dir(dir.path()).status().unwrap();
    assert!(status.success(), "{}", python.display());
    dir
}

/// Runs the script under `program` with `args` before it.
fn cases(program: &Path, args: &[&str], dir: &Path, only: &str, loops: bool) -> (Run, Truth) {
    let said = dir.join("truth");
    let _ = std::fs::remove_file(&said);
    let script = dir.join("cases.py");
    let path = format!("PYTHONPATH={}:{}", dir.display(), dir.join("from.zip").display());
    let (only, truth_file) = (format!("ONLY={only}"), format!("TRUTH={}", said.display()));
    let mut all = vec![path.as_str(), &only, &truth_file, "PYTHONWARNINGS=ignore", program.to_str().unwrap()];
    all.extend(args);
    all.push(script.to_str().unwrap());
    let run = run(Path::new("/usr/bin/env"), &all, loops);
    (run, truth(&said))
}

#[test]
fn frames_are_what_the_interpreter_says_wherever_code_runs() {
    let mut wrong = String::new();
    for (minor, python) in interpreters() {
        let dir = folder(&python);
        let (run, truth) = cases(&python, &["-S"], dir.path(), "", true);
        let places: BTreeSet<u64> = run.seen.iter().map(|s| s.key).collect();
        // Without a module for sub-interpreters there are none.
        let missing: Vec<u64> = (1..=53).filter(|k| !places.contains(k)).collect();
        println!(
            "3.{minor} {}: {} stops, {} children, without {missing:?}",
            python.display(),
            run.seen.len(),
            run.looked
        );
        let found = differences(&run, truth, minor, true);
        if !found.is_empty() || run.looked < 3 || missing.len() > 2 {
            writeln!(wrong, "== 3.{minor} {}: {missing:?}\n{found}", python.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A few places suffice where only the way to the interpreter is another.
const FEW: &str = "plain in_thread generators subprocesses";

fn few(how: &str, minor: u8, program: &Path, args: &[&str], dir: &Path) -> String {
    let (run, truth) = cases(program, args, dir, FEW, false);
    let found = differences(&run, truth, minor, false);
    let places = run.seen.len();
    if found.is_empty() && places >= 6 { String::new() } else { format!("3.{minor} {how}: {places} places\n{found}") }
}

#[test]
fn the_interpreter_is_found_in_a_virtual_environment_and_behind_a_shim() {
    let mut wrong = String::new();
    for (minor, python) in interpreters() {
        let dir = folder(&python);
        let venv = dir.path().join("env");
        let make = ["-m", "venv", "--without-pip", venv.to_str().unwrap()];
        if Command::new(&python).args(make).status().is_ok_and(|s| s.success()) {
            wrong += &few("in a venv", minor, &venv.join("bin/python3"), &[], dir.path());
        } else {
            println!("skipped: venv of {}, which has none", python.display());
        }
        let shim = dir.path().join("shim");
        std::fs::write(&shim, format!("#!/usr/bin/env bash\nx=$(true)\nexec {} \"$@\"\n", python.display())).unwrap();
        std::fs::set_permissions(&shim, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        wrong += &few("behind a shim", minor, &shim, &["-S"], dir.path());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The interpreter as a part of another program: in a library, and built in.
#[test]
fn the_interpreter_is_found_in_another_program() {
    let mut wrong = String::new();
    for (minor, python) in interpreters() {
        let dir = folder(&python);
        let prefix = python.parent().unwrap().parent().unwrap();
        // All that the executable links to is libc: it has the interpreter in it. Under another name it is a program
        // like any other.
        let (copy, home) = (dir.path().join("editor"), format!("PYTHONHOME={}", prefix.display()));
        std::fs::copy(&python, &copy).unwrap();
        wrong +=
            &few("under another name", minor, Path::new("/usr/bin/env"), &[&home, copy.to_str().unwrap()], dir.path());
        let (include, library) = (prefix.join(format!("include/python3.{minor}")), prefix.join("lib"));
        let shared = library.join(format!("libpython3.{minor}.so"));
        if !include.join("Python.h").exists() || !shared.exists() {
            println!("skipped: embedding {}, which has no headers or no library here", python.display());
            continue;
        }
        let (source, host) = (dir.path().join("host.c"), dir.path().join("host"));
        // A thread of C that nobody told Python of calls it.
        let text = "#include <Python.h>\n#include <pthread.h>\n#include <stdio.h>\n\
            static void *work(void *p) { PyGILState_STATE s = PyGILState_Ensure();\n\
            FILE *f = fopen(p, \"r\"); PyRun_SimpleFile(f, p); fclose(f); PyGILState_Release(s); return 0; }\n\
            int main(int c, char **v) { Py_Initialize(); pthread_t t; PyThreadState *me = PyEval_SaveThread();\n\
            pthread_create(&t, 0, work, v[1]); pthread_join(t, 0); PyEval_RestoreThread(me); return Py_FinalizeEx(); }\n";
        std::fs::write(&source, text).unwrap();
        let built = Command::new("cc")
            .arg(&source)
            .args(["-o", host.to_str().unwrap(), "-lpthread"])
            .arg(format!("-I{}", include.display()))
            .arg(format!("-L{}", library.display()))
            .arg(format!("-Wl,-rpath,{}", library.display()))
            .arg(format!("-lpython3.{minor}"))
            .status();
        assert!(built.is_ok_and(|s| s.success()), "3.{minor}: the embedding program does not build");
        wrong += &few("in a library", minor, Path::new("/usr/bin/env"), &[&home, host.to_str().unwrap()], dir.path());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

//! Python frames on real interpreters, stopped at the close that matters.
//!
//! Each interpreter at hand runs one generated script with all cases. `os.getppid()`, a system call that nothing else
//! makes here, opens and closes a case; in between every close and every fork is a stop at which the stack is taken.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pythons;

use fdwatch::base::{AddressSpace, Pid, ReadMemory, Tid};
use fdwatch::stack::Stretch;
use fdwatch::stack::lang::python::{Escape, NoPython, PyStack, Pythons, SpawnArgument, Task};
use nix::sys::ptrace;
use nix::unistd::Pid as NixPid;
use pythons::{free_threaded, interpreters};
use std::fmt::Write as _;
use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A live process, read the way `kernel/` does.
struct Live(i32);

impl ReadMemory for Live {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let remote = nix::sys::uio::RemoteIoVec { base: addr as usize, len: buf.len() };
        nix::sys::uio::process_vm_readv(NixPid::from_raw(self.0), &mut [IoSliceMut::new(buf)], &[remote]).unwrap_or(0)
    }
}

impl AddressSpace for Live {
    fn maps(&self) -> std::io::Result<Vec<u8>> {
        std::fs::read(format!("/proc/{}/maps", self.0))
    }
    fn open_mapped(&self, _: u64, _: u64, path: &[u8], _: (u32, u32), _: u64) -> std::io::Result<File> {
        File::open(std::str::from_utf8(path).map_err(std::io::Error::other)?)
    }
}

/// A traced interpreter that dies with the test.
struct Traced {
    child: Child,
    _alive: mpsc::Sender<()>,
}

impl Traced {
    fn start(python: &Path, args: &[&str], env: &[(&str, &str)]) -> Traced {
        let mut command = Command::new(python);
        command.args(args).envs(env.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
        // SAFETY: between fork and exec only ptrace(2) is called, which is async-signal-safe and allocates nothing.
        unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
        let child = command.spawn().unwrap();
        let pid = child.id() as i32;
        wait(pid).expect("the stop after exec");
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(NixPid::from_raw(pid), options).unwrap();
        let (alive, gone) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if gone.recv_timeout(Duration::from_secs(120)) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("the interpreter took longer than two minutes; killing it");
                let _ = nix::sys::signal::kill(NixPid::from_raw(pid), nix::sys::signal::SIGKILL);
            }
        });
        Traced { child, _alive: alive }
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// On to the next system call's entry or exit; `None` at the end of the process.
    fn step(&self) -> Option<libc::user_regs_struct> {
        let pid = NixPid::from_raw(self.pid());
        let mut signal = None;
        loop {
            ptrace::syscall(pid, signal).ok()?;
            let stopped = wait(self.pid())?;
            if stopped == libc::SIGTRAP | 0x80 {
                return ptrace::getregs(pid).ok();
            }
            signal = nix::sys::signal::Signal::try_from(stopped).ok();
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.child.kill();
        while wait(self.pid()).is_some() {
            let _ = ptrace::cont(NixPid::from_raw(self.pid()), None);
        }
    }
}

/// The signal that stopped the process, `None` when it is over.
fn wait(pid: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: waitpid writes to the given int only.
    let got = unsafe { libc::waitpid(pid, &mut status, libc::__WALL) };
    (got == pid && libc::WIFSTOPPED(status)).then(|| libc::WSTOPSIG(status))
}

/// One stop inside a case.
struct Seen {
    call: u64,
    fd: i32,
    stack: PyStack,
    escape: Option<Escape>,
    spawn: Option<SpawnArgument>,
}

const GETPPID: u64 = libc::SYS_getppid as u64;
const CLOSE: u64 = libc::SYS_close as u64;

fn is_spawn(nr: u64) -> bool {
    [libc::SYS_fork, libc::SYS_vfork, libc::SYS_clone, libc::SYS_clone3].contains(&(nr as i64))
}

/// Runs a script and returns the stops of each case. `out` is the file whose number is asked for at a spawn.
fn run(
    python: &Path,
    script: &Path,
    out: &Path,
    pythons: &mut Pythons,
    at_stop: impl FnMut(&Task<'_>, &PyStack),
) -> Vec<Vec<Seen>> {
    run_with(&[], python, script, out, pythons, at_stop)
}

/// The same with variables in the environment.
fn run_with(
    env: &[(&str, &str)],
    python: &Path,
    script: &Path,
    out: &Path,
    pythons: &mut Pythons,
    mut at_stop: impl FnMut(&Task<'_>, &PyStack),
) -> Vec<Vec<Seen>> {
    let traced = Traced::start(python, &["-S", script.to_str().unwrap()], env);
    let pid = traced.pid();
    let live = Live(pid);
    let mut cases: Vec<Vec<Seen>> = Vec::new();
    let (mut inside, mut entry) = (false, true);
    while let Some(regs) = traced.step() {
        let at_entry = entry;
        entry = !entry;
        if !at_entry {
            continue;
        }
        if regs.orig_rax == GETPPID {
            inside = !inside;
            if inside {
                cases.push(Vec::new());
            }
        }
        let mut read = vec![0; 16 << 10];
        let got = live.read(regs.rsp, &mut read);
        let stack = Stretch::new(regs.rsp, &read[..got]);
        let task = Task { pid: Pid(pid), tid: Tid(pid), fs_base: Some(regs.fs_base), space: &live, stack };
        if regs.orig_rax == CLOSE && !inside {
            // Also while the interpreter starts and ends: whatever it answers, it must answer.
            let _ = pythons.escape(&task, regs.rdi as i32);
        }
        if inside && (regs.orig_rax == CLOSE || is_spawn(regs.orig_rax)) {
            let fd = if regs.orig_rax == CLOSE { regs.rdi as i32 } else { number_of(pid, out).unwrap_or(-1) };
            let stack = pythons.trace(&task).unwrap_or_else(|e| panic!("{}: {e}", python.display()));
            let unaided = pythons.trace(&Task { stack: Stretch::default(), ..task });
            assert_eq!(unaided.as_ref(), Ok(&stack), "{}", python.display());
            at_stop(&task, &stack);
            let escape = if regs.orig_rax == CLOSE { pythons.escape(&task, fd).unwrap() } else { None };
            let spawn = if regs.orig_rax == CLOSE { None } else { pythons.spawn_argument(&task, fd).unwrap() };
            cases.last_mut().unwrap().push(Seen { call: regs.orig_rax, fd, stack, escape, spawn });
        }
    }
    assert!(!inside, "{}: the script died in case {}", python.display(), cases.len());
    cases
}

/// The lowest number under which a process has a file open.
fn number_of(pid: i32, file: &Path) -> Option<i32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let same = |e: &std::fs::DirEntry| std::fs::read_link(e.path()).is_ok_and(|t| t == file);
    entries.flatten().filter(same).filter_map(|e| e.file_name().to_str()?.parse().ok()).min()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Expect {
    /// A frame calls fileno() in the marked line.
    Call,
    /// A function of this name returned it, in the marked line.
    Returned(&'static str),
    /// The variable holds it, and the frame is in the marked line.
    Held(&'static str),
    Nothing,
}
use Expect::{Call, Held, Nothing, Returned};

/// Name, code before, code of the case, how often, what is expected; `#!` marks the line to be named.
const CASES: &[(&str, &str, &str, usize, Expect)] = &[
    ("module level", "", "ident(open(p, 'w').fileno()) #!\n", 1, Call),
    ("raw file", "", "ident(open(p, 'wb', 0).fileno()) #!\n", 1, Call),
    ("keyword", "", "ident(0, stdout=open(p, 'w').fileno()) #!\n", 1, Call),
    ("several lines", "", "ident(\n  0,\n  stdout=open(p, 'w').fileno(), #!\n  stderr=None,\n)\n", 1, Call),
    (
        "in a function",
        "def work(p):\n  x = 7\n  return ident(x, stdout=open(p, 'w').fileno()) #!\n",
        "work(p)\n",
        1,
        Call,
    ),
    ("hot loop at module level", "", "for i in range(200):\n  ident(i, stdout=open(p, 'w').fileno()) #!\n", 200, Call),
    (
        "hot loop in a function",
        "def loop(p):\n  for i in range(200):\n    ident(i, stdout=open(p, 'w').fileno()) #!\n",
        "loop(p)\n",
        200,
        Call,
    ),
    // More than 256 names before fileno: its index needs an EXTENDED_ARG.
    ("many names", "@NAMES@", "names(p)\n", 1, Call),
    ("in a method", "class A:\n  def go(self):\n    return ident(open(p).fileno()) #!\n", "A().go()\n", 1, Call),
    ("in a generator", "def gen():\n  yield ident(open(p).fileno()) #!\n", "list(gen())\n", 1, Call),
    (
        "in a coroutine",
        "async def co():\n  ident(open(p).fileno()) #!\n",
        "try: co().send(None)\nexcept StopIteration: pass\n",
        1,
        Call,
    ),
    ("in a comprehension", "", "[ident(open(p).fileno()) for _ in range(3)] #!\n", 3, Call),
    (
        "in a handler",
        "def handle():\n  try: raise KeyError\n  except KeyError:\n    ident(open(p).fileno()) #!\n",
        "handle()\n",
        1,
        Call,
    ),
    (
        "in a generator that is closed",
        "def closed():\n  try: yield\n  finally:\n    ident(open(p).fileno()) #!\n",
        "g = closed(); next(g); g.close()\n",
        1,
        Call,
    ),
    ("called from native code", "", "sorted([1], key=lambda x: ident(open(p).fileno())) #!\n", 1, Call),
    (
        "helper that returns the number",
        "def get(p):\n  f = open(p, 'w')\n  return f.fileno() #!\n",
        "ident(get(p))\n",
        1,
        Returned("get"),
    ),
    (
        "helper that returns a variable",
        "def get2(p):\n  f = open(p, 'w')\n  n = f.fileno()\n  return n #!\n",
        "ident(get2(p))\n",
        1,
        Returned("get2"),
    ),
    (
        "hot helper called from native code",
        "def get3(p):\n  f = open(p, 'w')\n  return f.fileno() #!\n",
        "list(map(get3, [p] * 100))\n",
        100,
        Returned("get3"),
    ),
    (
        "number kept, object replaced",
        "def keep(p):\n  f = open(p, 'w')\n  n = f.fileno()\n  f = None #!\n  return ident(n)\n",
        "keep(p)\n",
        1,
        Held("n"),
    ),
    (
        "number kept, object deleted",
        "def keep2(p):\n  f = open(p, 'w')\n  n = f.fileno()\n  del f #!\n  return ident(n)\n",
        "for i in range(100): keep2(p)\n",
        100,
        Held("n"),
    ),
    ("the same at module level", "", "f = open(p)\nfd = f.fileno()\nf = None #!\nident(fd)\n", 1, Held("fd")),
    ("deleted at module level", "", "g = open(p)\nfd2 = g.fileno()\ndel g #!\nident(fd2)\n", 1, Held("fd2")),
    (
        "an object with a finalizer in Python",
        "class D:\n  def __init__(self): self.n = os.open(p, 0)\n  def fileno(self): return self.n\n  def shut(self): os.close(self.n)\n  def __del__(self): self.shut()\n",
        "ident(D().fileno()) #!\n",
        1,
        Call,
    ),
    (
        "an escape inside a finalizer",
        "class E:\n  def __del__(self):\n    ident(open(p).fileno()) #!\n",
        "E()\n",
        1,
        Call,
    ),
    (
        "an attribute kept",
        "class O: pass\no = O()\n",
        "o.f = open(p)\nn3 = o.f.fileno()\no.f = None #!\nident(n3)\n",
        1,
        Held("n3"),
    ),
    (
        "a closure keeps the number",
        "def outer(p):\n  f = open(p)\n  n = f.fileno()\n  def inner(): return ident(n)\n  f = None #!\n  return inner()\n",
        "outer(p)\n",
        1,
        Held("n"),
    ),
    (
        "assigned to both at once",
        "def two(p):\n  f = open(p)\n  n = f.fileno()\n  f, n = None, None\n  return n\n",
        "two(p)\n",
        0,
        Nothing,
    ),
    ("json", "", "json.load(open(p + '.json'))\n", 0, Nothing),
    ("read", "", "open(p).read()\n", 0, Nothing),
    ("a loop counter", "", "for i in range(10): data = open(p).read()\n", 0, Nothing),
    ("used and closed", "", "f = open(p)\nident(f.fileno())\nf.close()\n", 0, Nothing),
    (
        "an old number, another file",
        "def old(p):\n  with open(p) as f:\n    n = f.fileno()\n    ident(n)\n  open(p).read()\n  ident(n)\n",
        "old(p)\n",
        0,
        Nothing,
    ),
    (
        "rebound in a loop",
        "def again(p):\n  for i in range(5):\n    f = open(p)\n    n = f.fileno()\n    ident(n)\n",
        "again(p)\n",
        0,
        Nothing,
    ),
    (
        "number dies with the function",
        "def both(p):\n  f = open(p)\n  n = f.fileno()\n  ident(n)\n",
        "both(p)\n",
        0,
        Nothing,
    ),
    (
        "a finalizer inside another fileno()",
        "class F:\n  def fileno(self):\n    open(p).read()\n    return 0\n",
        "ident(F().fileno())\n",
        0,
        Nothing,
    ),
];

/// Writes the script; returns the marked line of each case.
fn script(dir: &Path, out: &Path, prelude: &str) -> (PathBuf, Vec<Option<u32>>) {
    let mut text = format!("import os, json{prelude}\np = {out:?}\ndef ident(*a, **k): return a\n");
    std::fs::write(format!("{}.json", out.display()), "[1]").unwrap();
    std::fs::write(out, "").unwrap();
    let mut lines = Vec::new();
    for (_, before, body, _, _) in CASES {
        let from = text.len();
        if *before == "@NAMES@" {
            text.push_str("def names(p):\n  if not p:\n");
            for i in 0..300 {
                writeln!(text, "    name{i}").unwrap();
            }
            text.push_str("  return ident(open(p).fileno()) #!\n");
        } else {
            text.push_str(before);
        }
        text.push_str("os.getppid()\n");
        text.push_str(body);
        text.push_str("os.getppid()\n");
        let mark = text[from..].find("#!").map(|i| from + i);
        lines.push(mark.map(|i| text[..i].matches('\n').count() as u32 + 1));
    }
    let path = dir.join("cases.py");
    std::fs::write(&path, text).unwrap();
    (path, lines)
}

#[test]
fn evidence_of_an_escaped_number_is_found_where_it_is_and_nowhere_else() {
    check_cases("");
}

/// Since 3.12 a trace function replaces the opcodes of every line it is told of.
#[test]
fn evidence_is_found_under_a_debugger() {
    check_cases(", sys; sys.settrace(lambda *a: None)");
}

/// The optional compiler of 3.14 puts an instruction of its own where compiled code begins.
#[test]
fn evidence_is_found_in_compiled_code() {
    for (minor, python) in interpreters().into_iter().filter(|(minor, _)| *minor >= 14) {
        let ask = "import sys; sys.exit(not sys._jit.is_enabled())";
        if !Command::new(&python).env("PYTHON_JIT", "1").args(["-c", ask]).status().unwrap().success() {
            println!("skipped: {}, which has no compiler", python.display());
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        std::fs::write(&out, "").unwrap();
        let path = dir.path().join("hot.py");
        let text = "import os\np = @\ndef ident(*a, **k): return a\n\
            def hot():\n  total = 0\n  for i in range(20000):\n    total += i\n    if i % 5000 == 4999:\n\
            \x20     os.getppid()\n      ident(open(p).fileno())\n      os.getppid()\nhot()\n";
        std::fs::write(&path, text.replace('@', &format!("{out:?}"))).unwrap();
        let mut pythons = Pythons::new();
        let seen = run_with(&[("PYTHON_JIT", "1")], &python, &path, &out, &mut pythons, |_, _| {});
        let found = |s: &Vec<Seen>| s.iter().any(|s| matches!(s.escape, Some(Escape::FilenoCall { frame: 0 })));
        assert!(seen.len() == 4 && seen.iter().all(found), "3.{minor}: {:?}", pythons.coverage());
        assert_eq!(pythons.coverage().undecided, 0);
    }
}

fn check_cases(prelude: &str) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (path, lines) = script(dir.path(), &out, prelude);
    let mut wrong = String::new();
    for (minor, python) in interpreters() {
        let mut pythons = Pythons::new();
        let seen = run(&python, &path, &out, &mut pythons, |_, _| {});
        assert_eq!(seen.len(), CASES.len(), "{}", python.display());
        for (((name, _, _, times, expect), line), stops) in CASES.iter().zip(&lines).zip(&seen) {
            let escapes: Vec<_> = stops.iter().filter_map(|s| Some((s, s.escape.as_ref()?))).collect();
            let known = match expect {
                // Documented: nothing leads to a returned frame up to 3.10.
                Returned(_) if minor <= 10 => 0,
                _ => *times,
            };
            let mut good = escapes.len() == known && stops.iter().all(|s| s.call == CLOSE);
            for (stop, escape) in &escapes {
                let frame = |i: usize| (stop.stack.frames[i].line, &*stop.stack.frames[i].file);
                let at = (*line, path.to_str().unwrap());
                good &= match (expect, escape) {
                    (Call, Escape::FilenoCall { frame: i }) => frame(*i) == at,
                    (Held(want), Escape::Holds { frame: i, name }) => frame(*i) == at && name == want,
                    (Returned(want), Escape::ReturnsFileno { callee }) => {
                        &*callee.function == *want && (callee.line, &*callee.file) == at
                    }
                    _ => false,
                };
                good &= stop.fd >= 3 && !stop.stack.truncated;
            }
            if !good {
                let got: Vec<_> = stops.iter().take(3).map(|s| (&s.escape, &s.stack)).collect();
                let (n, of) = (escapes.len(), stops.len());
                let python = python.display();
                writeln!(wrong, "{python}: {name}: expected {known} times {expect:?} in line {line:?}").unwrap();
                writeln!(wrong, "  got {n} at {of} closes: {got:?}").unwrap();
            }
        }
        let coverage = pythons.coverage();
        assert_eq!((coverage.undecided, coverage.failures, coverage.by_py_spy), (0, 0, 0), "{}", python.display());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The oracle: py-spy's frames of the same stop.
#[cfg(feature = "python")]
#[test]
fn frames_are_those_that_py_spy_sees() {
    use std::time::Instant;
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (path, _) = script(dir.path(), &out, "");
    for (minor, python) in interpreters() {
        let (mut spy, mut pythons, mut again) = (None, Pythons::new(), Pythons::new());
        let (mut created, mut first, mut stops) = (Duration::ZERO, Duration::ZERO, 0u32);
        let (mut theirs, mut ours, mut escapes) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        run(&python, &path, &out, &mut pythons, |task, stack| {
            let spy = spy.get_or_insert_with(|| {
                let start = Instant::now();
                let config = py_spy::Config {
                    blocking: py_spy::config::LockingStrategy::NonBlocking,
                    collect_thread_names: false,
                    ..py_spy::Config::default()
                };
                let spy = py_spy::PythonSpy::new(task.pid.0, &config).unwrap();
                created = start.elapsed();
                let start = Instant::now();
                again.trace(task).unwrap();
                first = start.elapsed();
                spy
            });
            let start = Instant::now();
            let traces = spy.get_stack_traces().unwrap();
            theirs += start.elapsed();
            let start = Instant::now();
            let mine = again.trace(task).unwrap();
            ours += start.elapsed();
            let start = Instant::now();
            again.escape(task, 3).unwrap();
            escapes += start.elapsed();
            assert_eq!(&mine, stack);
            stops += 1;
            let want: Vec<_> = traces[0]
                .frames
                .iter()
                .map(|f| (f.name.as_str(), f.filename.as_str(), f.line as u32, f.is_entry || f.is_shim_entry))
                .collect();
            let got: Vec<_> =
                stack.frames.iter().map(|f| (&*f.function, &*f.file, f.line.unwrap_or(0), f.entry)).collect();
            assert_eq!(got, want, "{}", python.display());
        });
        let mean = |total: Duration| total / stops.max(1);
        eprintln!("3.{minor} {}: {stops} stops", python.display());
        eprintln!("  ours {:?} a trace, {:?} an escape, the first trace {first:?}", mean(ours), mean(escapes));
        eprintln!("  py-spy {:?} a trace, {created:?} to create", mean(theirs));
    }
}

#[test]
fn a_spawning_frame_tells_a_number_from_a_file_object() {
    let raw = |name: &str| Some(SpawnArgument::RawInt { frame: 0, name: name.into() });
    let object = |name: &str| Some(SpawnArgument::FileObject { frame: 0, name: name.into() });
    let cases = [
        ("subprocess.run(['true'], stdout=f)", object("stdout")),
        ("subprocess.run(['true'], stdout=f.fileno())", raw("stdout")),
        ("subprocess.call(['true'], stderr=f.fileno(), close_fds=False)", raw("stderr")),
        ("subprocess.check_output(['true'], stderr=f)", object("stderr")),
        ("subprocess.Popen(['true'], stdin=b).wait()", object("stdin")),
        ("os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)", object("f")),
    ];
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut text = format!("import os, subprocess\nf = open({out:?}, 'w')\n");
    text.push_str("b = open(f.fileno(), 'wb', 0, closefd=False)\n");
    for (code, _) in &cases {
        writeln!(text, "os.getppid()\n{code}\nos.getppid()").unwrap();
    }
    let path = dir.path().join("spawn.py");
    std::fs::write(&path, text).unwrap();
    for (minor, python) in interpreters() {
        let mut pythons = Pythons::new();
        let seen = run(&python, &path, &out, &mut pythons, |_, _| {});
        assert_eq!(seen.len(), cases.len(), "{}", python.display());
        for ((code, want), stops) in cases.iter().zip(&seen) {
            let forks: Vec<_> = stops.iter().filter(|s| s.call != CLOSE).collect();
            assert_eq!(forks.len(), 1, "3.{minor}: {code}: one child");
            let mut got = forks[0].spawn.clone();
            let mut place = None;
            if let Some(SpawnArgument::RawInt { frame, .. } | SpawnArgument::FileObject { frame, .. }) = &mut got {
                place = Some(std::mem::take(frame));
            }
            // posix_spawn without file actions: both f and b hold the number, either explains it.
            if let (Some(SpawnArgument::FileObject { name, .. }), true) = (&mut got, code.contains("posix_spawn")) {
                *name = "f".into();
            }
            assert_eq!(&got, want, "3.{minor} {}: {code}: {:#?}", python.display(), forks[0].stack);
            assert!(place.is_some_and(|i| i < forks[0].stack.frames.len()));
        }
    }
}

#[test]
fn a_process_without_python_is_absent_and_costs_little() {
    let live = Live(std::process::id() as i32);
    let pid = Pid(std::process::id() as i32);
    let task = Task { pid, tid: Tid(pid.0), fs_base: None, space: &live, stack: Stretch::default() };
    let mut pythons = Pythons::new();
    for _ in 0..1000 {
        // The test's own name must not pass for an interpreter's, nor a file that py-spy has mapped meanwhile.
        let got = pythons.trace(&task);
        assert!(matches!(got, Err(NoPython::Absent | NoPython::Unreadable | NoPython::NotYet)), "{got:?}");
    }
}

/// Where the interpreter is said to be where it is not, our reader finds nothing and py-spy, which looks for itself,
/// gives the same stack, without what only our reader tells.
#[cfg(feature = "python")]
#[test]
fn py_spy_takes_over_where_our_reader_fails() {
    use fdwatch::stack::lang::python::Runtime;
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    std::fs::write(&out, "").unwrap();
    let path = dir.path().join("one.py");
    std::fs::write(&path, format!("import os\nos.getppid()\nopen({out:?}).read()\nos.getppid()\n")).unwrap();
    for (minor, python) in interpreters() {
        let (mut astray, mut stops) = (Pythons::new(), 0);
        run(&python, &path, &out, &mut Pythons::new(), |task, stack| {
            astray.hint(task.pid, Runtime { address: 0x10, minor: Some(11) });
            let stack = PyStack { leaves_with: false, activations: Vec::new(), ..stack.clone() };
            assert_eq!(astray.trace(task), Ok(stack), "{}", python.display());
            assert_eq!(astray.escape(task, 3), Err(NoPython::Unreadable));
            stops += 1;
        });
        assert_eq!(astray.coverage().by_py_spy, stops, "3.{minor}");
        assert_ne!(stops, 0);
    }
}

/// The main thread stops at its close; the other's stack is read at that moment, by each of the ways to find it.
#[test]
fn each_task_gets_the_stack_of_its_own_thread() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    std::fs::write(&out, "").unwrap();
    let path = dir.path().join("threads.py");
    let text = "import os, threading\np = @\nup = threading.Event()\n\
        def waiter():\n  up.set()\n  threading.Event().wait()\n\
        threading.Thread(target=waiter, daemon=True).start()\nup.wait()\n\
        def work(): return len((open(p).fileno(),))\n\
        os.getppid()\nwork()\nos.getppid()\nos._exit(0)\n";
    std::fs::write(&path, text.replace('@', &format!("{out:?}"))).unwrap();
    for (minor, python) in interpreters() {
        let mut others = Vec::new();
        let mut second = Pythons::new();
        let seen = run(&python, &path, &out, &mut Pythons::new(), |task, _| {
            let pid = task.pid.0;
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
            let tids = tasks.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
            for tid in tids.filter(|&t| t != pid) {
                others.push(second.trace(&Task { tid: Tid(tid), fs_base: None, ..*task }));
            }
            // The main thread without registers; and a task that is no Python thread, with them.
            others.push(second.trace(&Task { fs_base: None, ..*task }));
            assert_eq!(second.trace(&Task { fs_base: Some(0x1234), ..*task }), Err(NoPython::NoThread));
            // A child made by fork has the same interpreter, and no mappings need be read for it.
            second.fork(task.pid, Pid(1));
            assert!(second.trace(&Task { pid: Pid(1), ..*task }).is_ok());
            second.forget(Pid(1));
        });
        // The last close of the case: 3.8 imports a module at its first open().
        let stop = seen[0].last().unwrap();
        assert_eq!(&*stop.stack.frames[0].function, "work", "{}", python.display());
        assert_eq!(stop.escape, Some(Escape::FilenoCall { frame: 0 }));
        if minor <= 10 {
            // These versions do not record the kernel's thread number.
            assert!(others.iter().all(|o| o == &Err(NoPython::NoThread)), "{others:?}");
            continue;
        }
        let names = |s: &PyStack| s.frames.iter().map(|f| f.function.to_string()).collect::<Vec<_>>().join(" ");
        let theirs = names(others[others.len() - 2].as_ref().unwrap());
        assert!(theirs.contains("waiter Thread.run"), "{}: {theirs}", python.display());
        assert_eq!(others[others.len() - 1].as_ref(), Ok(&stop.stack), "{}", python.display());
    }
}

/// Memory whose reads are counted.
struct Counted<'a>(&'a dyn AddressSpace, std::cell::Cell<(usize, usize)>);

impl ReadMemory for Counted<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let (calls, bytes) = self.1.get();
        self.1.set((calls + 1, bytes + buf.len()));
        self.0.read(addr, buf)
    }
}

impl AddressSpace for Counted<'_> {
    fn maps(&self) -> std::io::Result<Vec<u8>> {
        self.0.maps()
    }
    fn open_mapped(&self, a: u64, b: u64, path: &[u8], dev: (u32, u32), inode: u64) -> std::io::Result<File> {
        self.0.open_mapped(a, b, path, dev, inode)
    }
}

/// However deep a recursion is, only so much of it is read: no more at 4,000 frames than at 400.
#[test]
fn a_deep_stack_costs_no_more_than_a_bounded_one() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    std::fs::write(&out, "").unwrap();
    let path = dir.path().join("deep.py");
    let text = "import os, sys\nsys.setrecursionlimit(10000)\n\
        def down(n):\n  if n: return down(n - 1)\n  os.close(os.open(@, 0))\n\
        down(1)\nfor n in 400, 4000:\n  os.getppid()\n  down(n)\n  os.getppid()\n";
    std::fs::write(&path, text.replace('@', &format!("{out:?}"))).unwrap();
    for (minor, python) in interpreters() {
        let (mut again, mut costs) = (Pythons::new(), Vec::new());
        run(&python, &path, &out, &mut Pythons::new(), |task, stack| {
            assert!(stack.truncated && stack.frames.len() == 256, "{}", python.display());
            again.trace(task).unwrap();
            let counted = Counted(task.space, Default::default());
            again.trace(&Task { space: &counted, ..*task }).unwrap();
            costs.push(counted.1.get());
        });
        println!("3.{minor} {}: reads and bytes {costs:?}", python.display());
        let [(reads, bytes), (more_reads, more_bytes)] = costs[..] else { panic!("two closes") };
        assert!(more_reads <= reads + 8 && more_bytes <= bytes + (64 << 10), "{}: {costs:?}", python.display());
        assert!(reads <= 400 && bytes <= 1 << 20, "{}: {costs:?}", python.display());
    }
}

/// Python called by native code again and again: what lies between its frames is on the native stack, and nothing is read
/// twice.
#[test]
fn what_was_read_of_the_stack_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (out, path) = (dir.path().join("out"), dir.path().join("nested.py"));
    std::fs::write(&out, "").unwrap();
    let text = "import os\nfd = os.open(@, 0)\n\
        def down(n):\n  if n: return list(map(down, [n - 1]))\n  os.close(fd)\n\
        down(1)\nfd = os.open(@, 0)\nos.getppid()\ndown(5)\nos.getppid()\n";
    std::fs::write(&path, text.replace('@', &format!("{out:?}"))).unwrap();
    for (minor, python) in interpreters().into_iter().filter(|(minor, _)| *minor >= 11) {
        let mut again = Pythons::new();
        let cases = run(&python, &path, &out, &mut Pythons::new(), |task, stack| {
            assert_eq!(stack.frames.iter().filter(|f| f.entry).count(), 6, "{}", python.display());
            again.trace(task).unwrap();
            let counted = Counted(task.space, Default::default());
            again.trace(&Task { space: &counted, ..*task }).unwrap();
            let (reads, _) = counted.1.get();
            // The thread and the head of the interpreters, the data stack, and six code objects at most, which are got in
            // one go from a real process.
            assert!(reads <= 2 + 2 + 6, "3.{minor} {}: {reads}", python.display());
        });
        assert_eq!(cases.iter().map(Vec::len).sum::<usize>(), 1);
    }
}

/// A build without the global lock is named as what it is, and py-spy is not asked for what it does not know either.
#[test]
fn a_free_threaded_build_is_named() {
    for (minor, python) in free_threaded() {
        let traced = Traced::start(&python, &["-S", "-c", "import os; os.getppid()"], &[]);
        let live = Live(traced.pid());
        let mut pythons = Pythons::new();
        let mut got = None;
        while let Some(regs) = traced.step() {
            let pid = Pid(traced.pid());
            let task =
                Task { pid, tid: Tid(pid.0), fs_base: Some(regs.fs_base), space: &live, stack: Stretch::default() };
            if regs.orig_rax == GETPPID {
                got = Some(pythons.trace(&task));
            }
        }
        assert_eq!(got, Some(Err(NoPython::FreeThreaded(minor))), "{}", python.display());
        assert!(pythons.coverage().free_threaded.contains(&minor) && pythons.coverage().by_py_spy == 0);
    }
}

/// Memory made of a few words that point into itself, repeated over all addresses: every pointer leads somewhere, and
/// every chain is a ring.
struct Noise(Vec<u8>);

impl ReadMemory for Noise {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        for (i, b) in buf.iter_mut().enumerate() {
            *b = self.0[(addr.wrapping_add(i as u64) % self.0.len() as u64) as usize];
        }
        buf.len()
    }
}

impl AddressSpace for Noise {
    fn maps(&self) -> std::io::Result<Vec<u8>> {
        Ok(self.0.clone())
    }
    fn open_mapped(&self, _: u64, _: u64, _: &[u8], _: (u32, u32), _: u64) -> std::io::Result<File> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 64, failure_persistence: None, ..Default::default() })]
    #[test]
    fn no_memory_is_too_strange(
        words in proptest::collection::vec(
            proptest::prop_oneof![
                0u64..4096,
                proptest::prelude::any::<u64>(),
                proptest::prelude::Just(0x6564_6f63), // "code"
                proptest::prelude::Just(u64::from_le_bytes(*b"xdebugpy")),
            ],
            16..512,
        ),
        minor in proptest::option::of(7u8..16),
        address: u64,
    ) {
        use fdwatch::stack::lang::python::Runtime;
        let noise = Noise(words.iter().flat_map(|w| w.to_le_bytes()).collect());
        // A pid that cannot exist, so that py-spy has nothing to look at.
        let task = Task { pid: Pid(i32::MAX), tid: Tid(i32::MAX), fs_base: None, space: &noise, stack: Stretch::new(address, &noise.0) };
        let mut pythons = Pythons::new();
        pythons.hint(task.pid, Runtime { address, minor });
        let _ = pythons.trace(&task);
        let _ = pythons.escape(&task, 3);
        let _ = pythons.spawn_argument(&task, 3);
        let mut unhinted = Pythons::new();
        let _ = unhinted.trace(&task);
    }
}

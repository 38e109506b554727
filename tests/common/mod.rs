//! What every test on a real process needs: fdwatch as a child, a time limit, and nothing left behind.
#![allow(dead_code, unreachable_pub, missing_docs)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

#[path = "../pythons/mod.rs"]
mod interpreters;

/// No test on a process takes this long, on the slowest of machines.
pub const LIMIT: Duration = Duration::from_secs(120);

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn fdwatch() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_fdwatch"))
}

/// An example of this package, which `cargo test` builds beside the tests.
pub fn example(name: &str) -> PathBuf {
    let dir = fdwatch().parent().expect("a folder").join("examples");
    dir.join(name)
}

/// Says that a test did not run and why, past the capture of its output.
pub fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// The exit status as a shell gives it.
    pub fn code(&self) -> i32 {
        self.status.code().or(self.status.signal().map(|s| 128 + s)).unwrap_or(-1)
    }

    /// How many findings of severity error the report shows.
    pub fn errors(&self) -> usize {
        self.stderr.lines().filter(|l| l.starts_with("error[")).count()
    }
}

/// fdwatch without the settings of whoever runs the tests; `alone`, too, sees the folder in which there are none.
pub fn no_settings(command: &mut Command) {
    static EMPTY: OnceLock<PathBuf> = OnceLock::new();
    let empty = EMPTY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-settings");
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    });
    if !command.get_envs().any(|(name, _)| name == "XDG_CONFIG_HOME") {
        command.env("XDG_CONFIG_HOME", empty);
    }
}

fn is_fdwatch(command: &Command) -> bool {
    command.get_program() == fdwatch().as_os_str()
}

/// Runs a command in a process group of its own, without a terminal, until it ends or the limit is over.
pub fn run(command: &mut Command) -> Done {
    if is_fdwatch(command) {
        no_settings(command);
    }
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let group = child.id() as i32;
    let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let read = |from: &mut dyn Read| {
        let mut text = Vec::new();
        let _ = from.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    let (done, wait) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let stdout = scope.spawn(|| read(&mut out));
        let stderr = scope.spawn(|| read(&mut err));
        // Whoever still holds the pipes' other ends when the limit is over is ended, or the threads would never be.
        let guard = scope.spawn(move || match wait.recv_timeout(LIMIT) {
            Err(RecvTimeoutError::Timeout) => {
                kill_group(group);
                false
            }
            _ => true,
        });
        let (stdout, stderr) = (stdout.join().expect("reads"), stderr.join().expect("reads"));
        let status = child.wait().expect("a child");
        drop(done);
        let in_time = guard.join().expect("waits");
        let left = exists(group);
        kill_group(group);
        let result = Done { status, stdout, stderr };
        assert!(in_time, "{command:?} took longer than {LIMIT:?}: {result:#?}");
        assert!(!left, "{command:?} left a process behind: {result:#?}");
        result
    })
}

/// A command that runs while the test does something else. Dropping it kills it.
pub struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    err: Option<std::thread::JoinHandle<String>>,
    input: Option<ChildStdin>,
    watchdog: Option<mpsc::Sender<()>>,
    late: mpsc::Receiver<()>,
}

/// Starts a command in a process group of its own; it is killed when the limit is over.
pub fn start(command: &mut Command) -> Running {
    if is_fdwatch(command) {
        no_settings(command);
    }
    let mut child = command
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let group = child.id() as i32;
    let (watchdog, wait) = mpsc::channel::<()>();
    let (say_late, late) = mpsc::channel();
    std::thread::spawn(move || {
        if wait.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            let _ = say_late.send(());
            kill_group(group);
        }
    });
    let mut err = child.stderr.take().expect("piped");
    let err = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = err.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let (out, input) = (BufReader::new(child.stdout.take().expect("piped")), child.stdin.take());
    Running { child, out, err: Some(err), input, watchdog: Some(watchdog), late }
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The next line of its output; `None` at the end.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let n = self.out.read_line(&mut line).expect("a line");
        (n > 0).then(|| line.trim_end().to_string())
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal);
    }

    /// Whether it goes on.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Types a line.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it is open");
        let _ = writeln!(input, "{line}").and_then(|()| input.flush());
    }

    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Reads on until everyone who holds its output has ended, and collects it.
    pub fn end(mut self) -> Done {
        let mut rest = Vec::new();
        let _ = self.out.read_to_end(&mut rest);
        let stderr = self.err.take().map(|t| t.join().expect("reads")).unwrap_or_default();
        let status = self.child.wait().expect("a child");
        self.watchdog = None;
        let done = Done { status, stdout: String::from_utf8_lossy(&rest).into_owned(), stderr };
        assert!(self.late.try_recv().is_err(), "longer than {LIMIT:?}: {done:#?}");
        done
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.watchdog.is_some() {
            kill_group(self.pid());
            let _ = self.child.wait();
        }
    }
}

fn kill_group(group: i32) {
    let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
}

/// Whether a process of this group is alive. One that has ended and that nobody has waited for yet (an orphan's first
/// process, until init does) is not.
fn exists(group: i32) -> bool {
    let stats = std::fs::read_dir("/proc").into_iter().flatten().filter_map(|e| {
        let stat = std::fs::read_to_string(e.ok()?.path().join("stat")).ok()?;
        // pid (comm) state ppid pgrp …; comm may hold anything (proc_pid_stat(5)).
        let rest = stat.rsplit_once(") ")?.1;
        let mut fields = rest.split(' ');
        Some((fields.next()?.to_string(), fields.nth(1)?.parse::<i32>().ok()?))
    });
    stats.into_iter().any(|(state, pgrp)| pgrp == group && !matches!(state.as_str(), "Z" | "X"))
}

/// `fdwatch audit [options] -- command`.
pub fn audit<S: AsRef<OsStr>>(options: &[&str], command: &[S]) -> Done {
    run(Command::new(fdwatch()).arg("audit").args(options).arg("--").args(command))
}

/// The command by itself.
pub fn alone<S: AsRef<OsStr>>(command: &[S]) -> Done {
    let mut alone = Command::new(&command[0]);
    no_settings(&mut alone);
    run(alone.args(&command[1..]))
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    which(program).is_some()
}

/// Where a program is, by PATH.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&path).map(|d| d.join(program));
    found.find(|p| nix::unistd::access(p, nix::unistd::AccessFlags::X_OK).is_ok())
}

/// A C program of `tests/targets`, built once; `None` without a C compiler.
pub fn target(name: &str) -> Option<PathBuf> {
    static BUILT: OnceLock<bool> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        if !has("cc") || !has("make") {
            return false;
        }
        let lock = std::fs::File::create(std::env::temp_dir().join("fdwatch-tests-build")).expect("a lock file");
        lock.lock().expect("the lock");
        let make = run(Command::new("make").args(["-s", "-C"]).arg(root().join("tests/targets")));
        assert_eq!(make.code(), 0, "{}", make.stderr);
        true
    });
    built.then(|| root().join("target/targets").join(name))
}

/// Every CPython at hand, the one that `python3` means first. A shim is resolved to the interpreter behind it.
pub fn pythons() -> Vec<PathBuf> {
    static FOUND: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let mut found: Vec<PathBuf> = Vec::new();
            let mut add = |path: &Path| {
                let ask = "import sys; print(sys.executable if sys.version_info >= (3, 8) else '')";
                let Ok(out) = Command::new(path).args(["-c", ask]).stderr(Stdio::null()).output() else { return };
                let text = String::from_utf8_lossy(&out.stdout).trim().to_string();
                let Ok(real) = std::fs::canonicalize(text) else { return };
                if !found.contains(&real) {
                    found.push(real);
                }
            };
            add(Path::new("python3"));
            add(Path::new("/usr/bin/python3"));
            for (_, path) in interpreters::interpreters() {
                add(&path);
            }
            found
        })
        .clone()
}

/// A file or folder below `examples/`.
pub fn script(name: &str) -> String {
    root().join("examples").join(name).to_string_lossy().into_owned()
}

//! A program on a terminal of its own: what it shows is waited for, what is typed is sent, nothing is left behind.
#![allow(unsafe_code, dead_code, unreachable_pub, missing_docs)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

/// Nothing that is waited for takes this long, on the slowest of machines.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Shown {
    raw: Vec<u8>,
    closed: bool,
}

/// A program that leads a session whose terminal is ours.
pub struct Pty {
    master: File,
    path: String,
    pid: i32,
    status: mpsc::Receiver<ExitStatus>,
    shown: Arc<(Mutex<Shown>, Condvar)>,
    /// How much of the text has been looked at.
    at: usize,
    _state: tempfile::TempDir,
}

impl Pty {
    /// Starts `command` on a terminal of 24 lines with `columns`.
    pub fn start_on(columns: u16, command: &mut Command) -> Pty {
        // Closed on exec: other tests start programs at the same time, and theirs must not hold this terminal open.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).expect("a terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let path = ptsname_r(&master).expect("its name");
        let slave = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path).expect(&path);
        let size = ["rows", "24", "cols", &columns.to_string()].map(str::to_string);
        let sized = Command::new("stty").args(size).stdin(slave.try_clone().expect("dup")).status().expect("stty");
        assert!(sized.success());
        let master = File::from(OwnedFd::from(master));
        let state = tempfile::tempdir().expect("a folder");
        command
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .env("INPUTRC", "/dev/null")
            .env("PS1", "sh> ")
            .env("XDG_STATE_HOME", state.path())
            .env("XDG_CONFIG_HOME", state.path())
            .env_remove("PYTHONSTARTUP")
            .env_remove("FDWATCH_LOG")
            .stdin(slave.try_clone().expect("dup"))
            .stdout(slave.try_clone().expect("dup"))
            .stderr(slave);
        // SAFETY: setsid and ioctl are safe between fork and exec (signal-safety(7)) and touch no memory.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        // The command holds the terminal open as long as it lives.
        *command = Command::new("true");
        let pid = child.id() as i32;
        let (send, status) = mpsc::channel();
        std::thread::spawn(move || send.send(child.wait().expect("a child")));
        let shown = Arc::new((Mutex::new(Shown::default()), Condvar::new()));
        let (mut from, to) = (master.try_clone().expect("dup"), shown.clone());
        std::thread::spawn(move || {
            let mut buf = [0; 4096];
            loop {
                let n = from.read(&mut buf).unwrap_or(0);
                let mut shown = to.0.lock().unwrap();
                shown.raw.extend(&buf[..n]);
                shown.closed = n == 0;
                to.1.notify_all();
                if n == 0 {
                    return;
                }
            }
        });
        Pty { master, path, pid, status, shown, at: 0, _state: state }
    }

    pub fn start(command: &mut Command) -> Pty {
        Pty::start_on(80, command)
    }

    /// The first process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The terminal's name.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn send(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal");
    }

    pub fn line(&mut self, text: &str) {
        self.send(&format!("{text}\r"));
    }

    /// Waits until `text` is shown, behind what was waited for before; gives what came before it.
    pub fn expect(&mut self, text: &str) -> String {
        let found = self.wait(|shown, _| shown.find(text));
        let Some(i) = found else { panic!("{text:?} was not shown. The last lines:\n{}", self.tail()) };
        let all = self.text();
        let before = all[self.at..self.at + i].to_string();
        self.at += i + text.len();
        before
    }

    /// Types a command at fdwatch's prompt and gives what it shows; the next prompt is waited for.
    pub fn ask(&mut self, command: &str) -> String {
        self.line(command);
        self.expect(&format!("{command}\n"));
        self.expect("(fdwatch) ")
    }

    /// Waits for what `look` wants to see in the text behind what was waited for.
    fn wait<T>(&self, look: impl Fn(&str, bool) -> Option<T>) -> Option<T> {
        let end = Instant::now() + LIMIT;
        let mut shown = self.shown.0.lock().unwrap();
        loop {
            let text = clean(&shown.raw);
            if let Some(found) = look(text.get(self.at..).unwrap_or_default(), shown.closed) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if shown.closed || left.is_zero() {
                return None;
            }
            shown = self.shown.1.wait_timeout(shown, left).unwrap().0;
        }
    }

    /// All that was shown, without what moves the cursor.
    pub fn text(&self) -> String {
        clean(&self.shown.0.lock().unwrap().raw)
    }

    /// The same with what moves the cursor.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.shown.0.lock().unwrap().raw).into_owned()
    }

    fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Gives the terminal another width, as a window does that is drawn wider (ioctl_tty(2)).
    pub fn resize(&self, columns: u16) {
        let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads a winsize, which lives here.
        let set = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }

    /// How the terminal is set.
    pub fn mode(&self) -> Termios {
        tcgetattr(&self.master).expect("the terminal's mode")
    }

    /// The process group that has the terminal.
    pub fn foreground(&self) -> i32 {
        nix::unistd::tcgetpgrp(&self.master).expect("the foreground").as_raw()
    }

    /// Waits until process group `group` has the terminal: what is typed before goes to who had it before it.
    pub fn expect_owner(&self, group: i32) {
        assert!(poll(|| self.foreground() == group), "{} has it:\n{}", self.foreground(), self.tail());
    }

    /// Waits until a process sleeps, as one does that waits for input: what interrupts it before may be overlooked.
    pub fn expect_asleep(&self, pid: i32) {
        let sleeps = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|s| s.1.starts_with('S'))
        };
        assert!(poll(sleeps), "{pid} does not sleep:\n{}", self.tail());
    }

    pub fn kill(&self) {
        kill(Pid::from_raw(self.pid), Signal::SIGKILL).expect("kill");
    }

    /// Waits until the program and all that it started have ended; gives its exit status, as a shell does, and what was
    /// shown since the last text that was waited for.
    pub fn end(self) -> (i32, String) {
        let Ok(status) = self.status.recv_timeout(LIMIT) else { panic!("it does not end:\n{}", self.tail()) };
        // The terminal is closed when nobody has it open any more.
        let closed = self.wait(|_, closed| closed.then_some(()));
        // Who was killed closes its files before it is gone.
        poll(|| session(self.pid).is_empty());
        let left = session(self.pid);
        assert!(closed.is_some() && left.is_empty(), "left behind: {left:?}\n{}", self.tail());
        let code = status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(-1);
        (code, self.text()[self.at..].to_string())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        for (pid, _) in session(self.pid) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Whether `what` becomes true: for what nobody can be told of.
fn poll(what: impl Fn() -> bool) -> bool {
    let end = Instant::now() + LIMIT;
    while !what() {
        if Instant::now() > end {
            return false;
        }
        // Between two looks at a state that the kernel announces to nobody; what is waited for decides, not the time.
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// The living processes of a session.
fn session(leader: i32) -> Vec<(i32, String)> {
    let of = |e: std::fs::DirEntry| {
        let pid: i32 = e.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(e.path().join("stat")).ok()?;
        // pid (comm) state ppid pgrp session …; comm may hold anything (proc_pid_stat(5)).
        let rest: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let lives = !matches!(rest[0], "Z" | "X");
        (lives && rest[3] == leader.to_string()).then_some((pid, stat))
    };
    std::fs::read_dir("/proc").into_iter().flatten().filter_map(|e| of(e.ok()?)).collect()
}

/// Text without carriage returns, control sequences and bells. What it gives only grows with `raw`.
fn clean(raw: &[u8]) -> String {
    let mut out = Vec::new();
    let mut rest = raw;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            0x1b => match tail {
                [b'[', args @ ..] => {
                    let Some(end) = args.iter().position(|b| (0x40..0x7f).contains(b)) else { break };
                    rest = &args[end + 1..];
                }
                [b'(' | b')', _, after @ ..] | [b'=' | b'>' | b'7' | b'8' | b'M', after @ ..] => rest = after,
                _ => break,
            },
            b'\r' | 7 => {}
            b => out.push(*b),
        }
    }
    // An incomplete character at the end is not there yet.
    match String::from_utf8(out) {
        Ok(text) => text,
        Err(e) => {
            let n = e.utf8_error().valid_up_to();
            let bytes = e.into_bytes();
            if bytes.len() - n < 4 {
                String::from_utf8_lossy(&bytes[..n]).into_owned()
            } else {
                String::from_utf8_lossy(&bytes).into_owned()
            }
        }
    }
}

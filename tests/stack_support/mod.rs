//! A tracer of its own for the tests of the stack layer: small, and independent of fdwatch's.
#![allow(dead_code, unreachable_pub)] // each test binary uses a part

pub mod gdb;

use fdwatch::base::{AddressSpace, ReadMemory, Regs, StackId};
use fdwatch::stack::Stacks;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A stopped process, by its own `/proc` files.
pub struct Space(pub Pid);

impl ReadMemory for Space {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let remote = [nix::sys::uio::RemoteIoVec { base: addr as usize, len: buf.len() }];
        nix::sys::uio::process_vm_readv(self.0, &mut [IoSliceMut::new(buf)], &remote).unwrap_or(0)
    }
}

impl AddressSpace for Space {
    fn maps(&self) -> std::io::Result<Vec<u8>> {
        std::fs::read(format!("/proc/{}/maps", self.0))
    }

    fn open_mapped(&self, start: u64, end: u64, path: &[u8], _: (u32, u32), _: u64) -> std::io::Result<File> {
        File::open(format!("/proc/{}/map_files/{start:x}-{end:x}", self.0))
            .or_else(|_| File::open(OsStr::from_bytes(path)))
    }
}

/// A traced program, killed when dropped or after 60 seconds.
pub struct Tracee {
    pub pid: Pid,
    /// The task that is stopped now.
    pub tid: Pid,
    child: Child,
    _watchdog: mpsc::Sender<()>,
}

/// A stop at the entry of a system call.
pub struct Entry {
    pub regs: Regs,
    pub nr: u64,
    pub args: [u64; 3],
}

impl Tracee {
    /// Starts `program` and stops it after its exec. A shell waits for us to attach before it execs.
    pub fn start(program: &Path, args: &[&str]) -> Tracee {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg("read go; exec \"$@\"").arg("sh").arg(program).args(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("start a shell");
        let pid = Pid::from_raw(child.id() as i32);
        let (watchdog, dropped) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if dropped.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            }
        });
        let options = Options::PTRACE_O_EXITKILL
            | Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK;
        ptrace::seize(pid, options).expect("trace the shell");
        child.stdin.as_mut().expect("a pipe").write_all(b"\n").expect("let the shell go");
        let mut tracee = Tracee { pid, tid: pid, child, _watchdog: watchdog };
        loop {
            match tracee.wait() {
                Some(WaitStatus::PtraceEvent(_, _, 4)) => return tracee,
                Some(status) => tracee.resume(status),
                None => panic!("the program did not start"),
            }
        }
    }

    fn wait(&mut self) -> Option<WaitStatus> {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let status = waitpid(Pid::from_raw(-1), Some(flags)).ok()?;
        self.tid = status.pid()?;
        Some(status)
    }

    fn resume(&self, status: WaitStatus) {
        let signal = match status {
            WaitStatus::Stopped(_, s) => Some(s),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return,
            _ => None,
        };
        let _ = ptrace::syscall(self.tid, signal);
    }

    /// Runs to the next entry of a system call for which `wanted` holds; `None` at the end of the program.
    pub fn run_to(&mut self, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let _ = ptrace::syscall(self.tid, None);
        loop {
            let status = self.wait()?;
            if let WaitStatus::PtraceSyscall(tid) = status
                && let Some(entry) = entry(tid)
                && wanted(&entry)
            {
                return Some(entry);
            }
            self.resume(status);
        }
    }

    pub fn space(&self) -> Space {
        Space(self.tid)
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
        // Each traced thread wants to be waited for, before its leader can be.
        while self.wait().is_some() {}
    }
}

/// At the entry of a call the kernel has put -ENOSYS into rax.
fn entry(tid: Pid) -> Option<Entry> {
    let r = ptrace::getregs(tid).ok()?;
    if r.rax as i64 != -38 {
        return None;
    }
    let regs = regs(&r);
    let args = if regs.is_32bit() { [r.rbx, r.rcx, r.rdx] } else { [r.rdi, r.rsi, r.rdx] };
    Some(Entry { nr: r.orig_rax, args, regs })
}

fn regs(r: &nix::libc::user_regs_struct) -> Regs {
    Regs {
        rax: r.rax,
        rbx: r.rbx,
        rcx: r.rcx,
        rdx: r.rdx,
        rsi: r.rsi,
        rdi: r.rdi,
        rbp: r.rbp,
        rsp: r.rsp,
        r8: r.r8,
        r9: r.r9,
        r10: r.r10,
        r11: r.r11,
        r12: r.r12,
        r13: r.r13,
        r14: r.r14,
        r15: r.r15,
        rip: r.rip,
        orig_rax: r.orig_rax,
        cs: r.cs,
        fs_base: r.fs_base,
    }
}

/// The functions on a stack; those of the C library only as module and offset, because its debug information is large.
pub fn names(stacks: &mut Stacks, id: StackId) -> Vec<String> {
    let mut out = Vec::new();
    for frame in stacks.frames(id).to_vec() {
        let module = frame.module.and_then(|m| stacks.module(m)).map(|m| m.name()).unwrap_or_default();
        if module.starts_with("libc.") {
            out.push(format!("{module}+{:#x}", frame.offset));
        } else {
            out.extend(stacks.explain_frame(frame).iter().map(|n| n.function.clone().unwrap_or_else(|| n.to_string())));
        }
    }
    out
}

/// Whether `entry` is `close(fd)`.
pub fn is_close(entry: &Entry, fd: i32) -> bool {
    let nr = if entry.regs.is_32bit() { 6 } else { 3 };
    entry.nr == nr && entry.args[0] as u32 == fd as u32
}

/// How Go programs are built: by the system's compiler, and by others that `FDWATCH_GOS` names, with a colon between.
pub fn gos() -> Vec<String> {
    let more = std::env::var("FDWATCH_GOS").unwrap_or_default();
    let all = std::iter::once("go").chain(more.split(':').filter(|go| !go.is_empty()));
    all.map(|go| format!("{go} build")).collect()
}

/// Compiles `tests/targets/stack/NAME.c`; `None`, with the reason printed, where that cannot be done.
pub fn compile(name: &str, label: &str, flags: &[&str], dir: &Path) -> Option<PathBuf> {
    build("cc", &format!("{name}.c"), label, &[flags, &["-pthread"]].concat(), dir)
}

/// Compiles a file of `tests/targets/stack` with a compiler that takes `-o OUT FILE`; `None`, with the reason said, where
/// that cannot be done.
pub fn build(compiler: &str, source: &str, label: &str, flags: &[&str], dir: &Path) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/targets/stack").join(source);
    let out = dir.join(format!("{}-{label}", source.split('.').next().unwrap_or(source)));
    // Where the compiler cannot compress so, binutils may.
    if let Some(at) = flags.iter().position(|f| *f == "-gz=zstd")
        && !makes_zstd(compiler)
    {
        let plain: Vec<&str> = flags.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, f)| *f).collect();
        let program = build(compiler, source, label, &plain, dir)?;
        let mut objcopy = Command::new("objcopy");
        return match objcopy.arg("--compress-debug-sections=zstd").arg(&program).output() {
            Ok(done) if done.status.success() => Some(program),
            _ => {
                skip(&format!("{source} {label}"), "neither the compiler nor objcopy knows zstd");
                None
            }
        };
    }
    let mut words = compiler.split(' ');
    let mut command = Command::new(words.next().expect("a program"));
    command
        .args(words)
        .args(flags)
        .arg("-o")
        .arg(&out)
        .arg(path)
        .env("GOCACHE", dir.join("go"))
        .env("GO111MODULE", "off");
    let why = match command.output() {
        Ok(done) if done.status.success() => return Some(out),
        Ok(done) => String::from_utf8_lossy(&done.stderr).into_owned(),
        Err(e) => e.to_string(),
    };
    skip(&format!("{compiler} {flags:?} {source}"), &why);
    None
}

/// Whether the compiler can compress debug sections by zstd.
fn makes_zstd(compiler: &str) -> bool {
    let mut command = Command::new(compiler);
    command.args(["-gz=zstd", "-xc", "-c", "-o", "/dev/null", "/dev/null"]);
    command.output().is_ok_and(|done| done.status.success())
}

/// Says that something was not tested and why, past the capture of the output.
pub fn skip(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {why}");
}

//! Starting the target: fork, seize, filter, exec.
//!
//! The child waits for a byte on a pipe until it has been seized. Stopping it with SIGSTOP instead would leave it in a
//! group-stop that has to be ended first, and the standard library's `Command` waits for the exec while the exec would
//! wait for us.

use super::filter::Filter;
use super::procfs;
use super::signals::Caught;
use super::sys::{self, ChildPlan, ChildStep};
use super::tracer::{Tracer, options};
use crate::base::Tid;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::{CString, OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What to run.
#[derive(Debug)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// Whether it becomes the leader of a process group of its own: needed to move the terminal between it and us.
    pub own_group: bool,
    /// Whether only the calls of the table stop; otherwise all do.
    pub seccomp: bool,
}

/// A target that was started: it has not executed its program yet.
pub struct Launched {
    /// The tracer, which holds it.
    pub tracer: Tracer,
    /// The target.
    pub tid: Tid,
    /// Whether it was denied new privileges: setuid programs run without them.
    pub no_new_privs: bool,
    /// Whether fdwatch lacks CAP_SYS_PTRACE: then the kernel gives no privilege to setuid programs that it traces,
    /// filter or not (execve(2), "Effect on set-user-ID programs"; security/commoncap.c, cap_bprm_creds_from_file).
    pub unprivileged: bool,
}

/// Why the target could not be started. Each message is one line that says what helps.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// There is no such command.
    #[error("{0}: no such command")]
    NotFound(String),
    /// It exists and cannot be executed.
    #[error("{name}: {why}")]
    NotExecutable {
        /// The command.
        name: String,
        /// Why, and what helps.
        why: String,
    },
    /// ptrace was refused.
    #[error("cannot trace: {0}")]
    Refused(String),
    /// Something else failed.
    #[error("cannot start the target: {what}: {errno}")]
    Failed {
        /// What.
        what: &'static str,
        /// Why.
        errno: Errno,
    },
}

impl LaunchError {
    /// fdwatch's exit status for it, as a shell's: 127, 126, or 125 for what is not the command's fault.
    pub fn status(&self) -> u8 {
        match self {
            LaunchError::NotFound(_) => 127,
            LaunchError::NotExecutable { .. } => 126,
            _ => 125,
        }
    }
}

fn shown(name: &OsStr) -> String {
    crate::base::text::escape(name.as_bytes())
}

/// Finds the program that `name` means, as execvp(3) does.
///
/// # Errors
/// If there is none, or none that may be executed.
pub fn find(name: &OsStr) -> Result<PathBuf, LaunchError> {
    if name.as_bytes().contains(&b'/') {
        let path = Path::new(name);
        return match executable(path) {
            Ok(()) => Ok(path.to_path_buf()),
            Err(why) => Err(why.unwrap_or_else(|| LaunchError::NotFound(shown(name)))),
        };
    }
    let search = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
    let mut first_refusal = None;
    if !name.is_empty() {
        for dir in std::env::split_paths(&search) {
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { &dir };
            let path = dir.join(name);
            match executable(&path) {
                Ok(()) => return Ok(path),
                Err(why) => first_refusal = first_refusal.or(why),
            }
        }
    }
    Err(first_refusal.unwrap_or_else(|| LaunchError::NotFound(shown(name))))
}

/// Whether `path` can be executed; `Err(None)` if it does not exist.
fn executable(path: &Path) -> Result<(), Option<LaunchError>> {
    let refuse = |why: &str| Some(LaunchError::NotExecutable { name: shown(path.as_os_str()), why: why.to_string() });
    let meta = match std::fs::metadata(path) {
        Ok(m) => m,
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return Err(refuse("permission denied")),
        Err(_) => return Err(None),
    };
    if meta.is_dir() {
        return Err(refuse("is a directory"));
    }
    // As root access(2) would allow what execve refuses.
    let may = nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok();
    if !may || meta.permissions().mode() & 0o111 == 0 {
        return Err(refuse("not executable: chmod +x it, or name its interpreter"));
    }
    Ok(())
}

fn c_string(text: &OsStr, what: &'static str) -> Result<CString, LaunchError> {
    CString::new(text.as_bytes()).map_err(|_| LaunchError::Failed { what, errno: Errno::EINVAL })
}

fn c_strings<'a>(texts: impl Iterator<Item = &'a OsStr>, what: &'static str) -> Result<Vec<CString>, LaunchError> {
    texts.map(|t| c_string(t, what)).collect()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

impl Launched {
    /// Starts `command` under trace and lets it run up to its first program.
    ///
    /// # Errors
    /// If the command cannot be found or executed, or may not be traced. Then nothing of it is left.
    pub fn start(command: &Command, signals: &Caught) -> Result<Launched, LaunchError> {
        Launched::start_under(command, signals, &Filter::new())
    }

    /// The same with a filter of the caller's choice.
    ///
    /// # Errors
    /// As [`Launched::start`].
    pub fn start_under(command: &Command, signals: &Caught, filter: &Filter) -> Result<Launched, LaunchError> {
        let name = command.argv.first().map(OsString::as_os_str).unwrap_or_default();
        let path = find(name)?;
        let failed = |what| move |errno| LaunchError::Failed { what, errno };
        let io_failed = |what| {
            move |e: std::io::Error| LaunchError::Failed {
                what,
                errno: Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)),
            }
        };
        let c_path = c_string(path.as_os_str(), "the command's path")?;
        let argv = c_strings(command.argv.iter().map(OsString::as_os_str), "an argument with a NUL byte")?;
        // Both ends close on exec (pipe2(2), O_CLOEXEC): none of ours reaches the target.
        let (gate_read, mut gate_write) = std::io::pipe().map_err(io_failed("a pipe"))?;
        let (mut trouble_read, trouble_write) = std::io::pipe().map_err(io_failed("a pipe"))?;
        // A privileged process may install a filter without it, and keeps setuid programs working (seccomp(2)).
        let no_new_privs = command.seccomp && !has_capability(CAP_SYS_ADMIN);
        let plan = ChildPlan {
            path: &c_path,
            argv: &pointers(&argv),
            envp: sys::environment(),
            own_group: command.own_group,
            filter: if command.seccomp { filter.program() } else { &[] },
            no_new_privs,
            gate: gate_read.as_fd(),
            gate_writer: gate_write.as_fd(),
            trouble: trouble_write.as_fd(),
            defaults: &signals.defaults,
            ignored: &signals.ignored,
            mask: &sys::signal_mask(),
        };
        let child = sys::fork_child(&plan).map_err(failed("fork"))?;
        drop((gate_read, trouble_write));
        if command.own_group {
            // In both processes, so that neither has to wait for the other (setpgid(2), credentials(7)).
            let pid = nix::unistd::Pid::from_raw(child);
            let _ = nix::unistd::setpgid(pid, pid);
        }
        let tid = Tid(child);
        let give_up = |error: LaunchError| {
            let _ = sys::kill(child, libc::SIGKILL);
            // Stops that were on their way come first.
            while matches!(sys::wait(child, true), Ok(Some((_, status))) if !status.is_end()) {}
            error
        };
        if let Err(errno) = sys::seize(child, options(command.seccomp)) {
            return Err(give_up(LaunchError::Refused(refusal(tid, errno))));
        }
        sys::pass_signals_to(child);
        let mut tracer = Tracer::new(tid, !command.seccomp);
        gate_write.write_all(&[1]).map_err(io_failed("the gate")).map_err(give_up)?;
        drop(gate_write);
        tracer.run_to_exec(|| is_closed(&trouble_read)).map_err(|e| give_up(LaunchError::Refused(e.to_string())))?;
        if !tracer.has_executed() {
            let mut words = [0u8; 8];
            return Err(match trouble_read.read_exact(&mut words) {
                Ok(()) => {
                    let (step, errno) = words.split_at(4);
                    let word = |b: &[u8]| b.try_into().map(i32::from_ne_bytes).unwrap_or(0);
                    failure(name, &path, word(step), Errno::from_raw(word(errno)))
                }
                Err(_) => LaunchError::Failed { what: "it was killed before its program ran", errno: Errno::EINTR },
            });
        }
        Ok(Launched { tracer, tid, no_new_privs, unprivileged: !has_capability(CAP_SYS_PTRACE) })
    }
}

/// Whether nobody can write into this pipe any more and nothing is left in it: exec has closed the other end.
fn is_closed(pipe: &std::io::PipeReader) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    let polled = poll(&mut fds, PollTimeout::ZERO).is_ok();
    polled && fds.iter().any(|f| f.revents() == Some(PollFlags::POLLHUP))
}

fn failure(name: &OsStr, path: &Path, step: i32, errno: Errno) -> LaunchError {
    if step == ChildStep::Filter as i32 {
        let why = "seccomp refused the filter";
        return LaunchError::Refused(format!("{why} ({errno}): use --no-seccomp, which stops at every call"));
    }
    if step != ChildStep::Exec as i32 {
        return LaunchError::Failed { what: "no_new_privs", errno };
    }
    let why = match errno {
        Errno::ENOENT => match interpreter(path) {
            Some(i) => format!("its interpreter {i} does not exist"),
            None => return LaunchError::NotFound(shown(name)),
        },
        Errno::ENOEXEC => {
            "neither a program nor a script with #!: name its interpreter, as in `fdwatch run -- sh SCRIPT`".to_string()
        }
        Errno::EACCES => "permission denied".to_string(),
        e => e.desc().to_string(),
    };
    LaunchError::NotExecutable { name: shown(name), why }
}

/// The interpreter that a script's first line names.
fn interpreter(path: &Path) -> Option<String> {
    let mut head = [0u8; 256];
    let n = procfs::open_read(path).ok()?.read(&mut head).ok()?;
    let line = head.get(..n)?.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let word = line.split(|b| b.is_ascii_whitespace()).find(|w| !w.is_empty())?;
    Some(crate::base::text::escape(word))
}

// linux/capability.h
const CAP_SYS_PTRACE: u64 = 19;
const CAP_SYS_ADMIN: u64 = 21;

fn has_capability(capability: u64) -> bool {
    let own = Tid(std::process::id() as i32);
    procfs::status_field(own, "CapEff")
        .and_then(|s| u64::from_str_radix(&s, 16).ok())
        .is_some_and(|caps| caps >> capability & 1 == 1)
}

/// Who refused PTRACE_SEIZE, and the one step that helps.
fn refusal(tid: Tid, errno: Errno) -> String {
    if let Some(other) = procfs::tracer_of(tid) {
        return format!("process {other} traces already: a process has one tracer; run fdwatch outside of it");
    }
    match procfs::yama_scope() {
        Some(3) => return "Yama forbids it for good (kernel.yama.ptrace_scope is 3): reboot with another value".into(),
        Some(2) => {
            return "Yama allows it to administrators only (kernel.yama.ptrace_scope is 2): run as root, or \
                    `sysctl kernel.yama.ptrace_scope=1`"
                .into();
        }
        _ => {}
    }
    if procfs::has_seccomp(Tid(std::process::id() as i32)) {
        return format!(
            "a seccomp filter around this process forbids ptrace ({errno}): in a container, start it with \
             --cap-add=SYS_PTRACE"
        );
    }
    format!("ptrace was refused: {errno}")
}

/// Ends this process as the target ended by `signal`; returns only if that is not possible.
pub fn die_by(signal: i32) {
    sys::die_by(signal);
}

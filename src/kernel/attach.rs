//! Watching what is running already: every thread is seized, stopped once, and found with what it has open.
//!
//! No filter can be put into a process from outside, so every call stops. A task is stopped by PTRACE_INTERRUPT, which
//! ends or restarts the call that it is in before it reports: there is no call in the middle at the first stop, and
//! whatever was opened before it stands in `/proc`. The tables are read when all have stopped.

use super::error::Error;
use super::known::Known;
use super::requests::Requests;
use super::sys;
use super::tracer::{OPTIONS_ATTACHED, Tracer};
use super::{procfs, tracer};
use crate::base::text::escape;
use crate::base::{Pid, Tid};
use crate::event::{Found, Start};
use nix::errno::Errno;
use rustc_hash::{FxHashMap, FxHashSet};
use thiserror::Error;

/// A process that was attached to: its tasks stand still until the tracer is asked for the next report.
pub struct Attached {
    /// The tracer, which holds them.
    pub tracer: Tracer,
    /// The process that was asked for.
    pub pid: Pid,
    /// Every task, and how its watching begins; a table is told before those who share it.
    pub tasks: Vec<(Tid, Start)>,
    /// Children that cannot be watched, and why; a sentence each.
    pub refused: Vec<String>,
}

/// Why a process cannot be watched. Each message is one line that says what helps.
#[derive(Debug, Error)]
pub enum AttachError {
    /// It may not be, or there is nothing to watch. Nothing was touched.
    #[error("cannot attach to {pid}: {why}")]
    Refused {
        /// The process.
        pid: Pid,
        /// Why, and what helps.
        why: String,
    },
    /// The kernel refused what it granted before.
    #[error("cannot attach: {0}")]
    Failed(#[from] Error),
}

/// Attaches to every thread of `pid` and, with `children`, to its living descendants.
///
/// # Errors
/// If that is not possible. Then the process goes on as before.
pub fn attach(pid: Pid, children: bool, requests: Requests) -> Result<Attached, AttachError> {
    let refuse = |why: String| AttachError::Refused { pid, why };
    check(pid).map_err(refuse)?;
    let mut tracer = Tracer::without_tasks(true, Some(requests));
    let mut refused: FxHashMap<Pid, String> = FxHashMap::default();
    loop {
        let mut new = false;
        for process in if children { with_descendants(pid) } else { vec![pid] } {
            if refused.contains_key(&process) {
                continue;
            }
            match seize_process(&mut tracer, process)? {
                Ok(some) => new |= some,
                Err(why) if process == pid => {
                    tracer.detach_all(None)?;
                    return Err(refuse(why));
                }
                Err(why) => {
                    refused.insert(process, format!("process {process} is not watched: {why}"));
                }
            }
        }
        let made = tracer.settle()?;
        if !new && made.is_empty() {
            break;
        }
    }
    let tasks = starts(&tracer);
    if tasks.is_empty() {
        return Err(refuse("it has ended".to_string()));
    }
    let mut refused: Vec<_> = refused.into_iter().collect();
    refused.sort();
    Ok(Attached { tracer, pid, tasks, refused: refused.into_iter().map(|r| r.1).collect() })
}

/// Seizes the threads of a process that are not seized yet, until there are no more: whether there were any, or why they
/// may not be.
fn seize_process(tracer: &mut Tracer, pid: Pid) -> Result<Result<bool, String>, Error> {
    let mut any = false;
    loop {
        let mut new = false;
        for tid in procfs::tasks_of(pid) {
            if tracer.knows(tid.0) {
                continue;
            }
            // A task in execve waits for the ends of its siblings to be taken note of, and to seize it waits for the
            // execve (kernel/exec.c, de_thread; cred_guard_mutex).
            tracer.collect()?;
            match sys::seize(tid.0, OPTIONS_ATTACHED) {
                Ok(()) => {
                    tracer.add(tid.0);
                    new = true;
                }
                Err(Errno::ESRCH) => {}
                // Ended, but for its siblings; or made by one that was seized, and traced from birth.
                Err(_) if matches!(procfs::state(tid), None | Some('Z' | 'X')) => {}
                Err(_) if procfs::tracer_of(tid) == Some(own_pid()) => {}
                Err(errno) => return Ok(Err(why_refused(&Facts::about(tid, errno)))),
            }
        }
        if !new {
            return Ok(Ok(any));
        }
        any = true;
    }
}

fn own_pid() -> i32 {
    std::process::id() as i32
}

/// A process and all that descend from it, but for us.
fn with_descendants(pid: Pid) -> Vec<Pid> {
    let parents = procfs::parents();
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        next += 1;
        all.extend(parents.iter().filter(|(p, of)| *of == parent && p.0 != own_pid()).map(|p| p.0));
    }
    all
}

/// What can be said before anything is touched.
fn check(pid: Pid) -> Result<(), String> {
    let tid = Tid(pid.0);
    if pid.0 == own_pid() {
        return Err("that is fdwatch itself".to_string());
    }
    match procfs::process_of(tid) {
        None => return Err("there is no such process (those of a container have other numbers inside of it)".into()),
        Some(process) if process != pid => {
            return Err(format!("it is a thread of process {process}: attach to {process}, which watches all of them"));
        }
        Some(_) => {}
    }
    if procfs::is_kernel_thread(tid) {
        return Err("it is a thread of the kernel's, which has no descriptors".to_string());
    }
    if procfs::tracer_of(Tid(own_pid())) == Some(pid.0) {
        return Err("it traces fdwatch itself: each would wait for the other".to_string());
    }
    let alive = |t: &Tid| !matches!(procfs::state(*t), None | Some('Z' | 'X'));
    if !procfs::tasks_of(pid).iter().any(alive) {
        return Err("it has ended, and its parent has yet to wait for it".to_string());
    }
    match procfs::tracer_of(tid) {
        Some(other) => Err(why_refused(&Facts { tracer: Some(named(other)), ..Facts::default() })),
        None => Ok(()),
    }
}

/// A process as people call it.
fn named(pid: i32) -> String {
    let name = escape(&procfs::comm(Tid(pid)));
    if name.is_empty() { format!("process {pid}") } else { format!("process {pid} ({name})") }
}

/// What bears on a refusal of PTRACE_SEIZE (ptrace(2), "Ptrace access mode checking").
#[derive(Default)]
struct Facts {
    /// The tracer that it has.
    tracer: Option<String>,
    /// Its real user, effective user, saved user; `None` where unknown.
    users: Option<[u32; 3]>,
    own_user: u32,
    yama: Option<u32>,
    /// A seccomp filter is around us.
    filtered: bool,
    errno: Option<Errno>,
}

impl Facts {
    fn about(tid: Tid, errno: Errno) -> Facts {
        let users = procfs::status_field(tid, "Uid").and_then(|line| {
            let mut ids = line.split_whitespace().map(str::parse);
            Some([ids.next()?.ok()?, ids.next()?.ok()?, ids.next()?.ok()?])
        });
        Facts {
            tracer: procfs::tracer_of(tid).map(named),
            users,
            own_user: nix::unistd::getuid().as_raw(),
            yama: procfs::yama_scope(),
            filtered: procfs::has_seccomp(Tid(own_pid())),
            errno: Some(errno),
        }
    }
}

/// Who refused, and the one step that helps.
fn why_refused(facts: &Facts) -> String {
    if let Some(tracer) = &facts.tracer {
        return format!("{tracer} traces it already, and a process has one tracer: end that first");
    }
    let errno = facts.errno.unwrap_or(Errno::EPERM);
    if errno == Errno::EPERM && facts.own_user != 0 {
        if let Some(users) = facts.users
            && users.iter().any(|u| *u != facts.own_user)
        {
            let whose = users.iter().find(|u| **u != facts.own_user).copied().unwrap_or_default();
            return format!("it runs as user {whose}, and you are user {}: run fdwatch as root", facts.own_user);
        }
        match facts.yama {
            Some(3) => {
                return "Yama forbids it for good (kernel.yama.ptrace_scope is 3): reboot with another value".into();
            }
            Some(2) => {
                return "Yama allows it to administrators only (kernel.yama.ptrace_scope is 2): run fdwatch as root, or \
                        `sysctl kernel.yama.ptrace_scope=0`"
                    .into();
            }
            Some(1) => {
                return "Yama allows it for one's own children only (kernel.yama.ptrace_scope is 1): run fdwatch as \
                        root, or `sysctl kernel.yama.ptrace_scope=0`; `fdwatch audit -- CMD` needs neither"
                    .into();
            }
            _ => {}
        }
    }
    if facts.filtered {
        return format!(
            "a seccomp filter around fdwatch forbids ptrace ({errno}): in a container, start it with --cap-add=SYS_PTRACE"
        );
    }
    if errno == Errno::EPERM && facts.own_user != 0 {
        return "it may not be looked into (it has privileges that you lack, or its program is not readable): run fdwatch as root"
            .into();
    }
    if errno == Errno::EPERM {
        return "this needs CAP_SYS_PTRACE in the process's user namespace: in a container, start it with \
                --cap-add=SYS_PTRACE"
            .into();
    }
    format!("ptrace was refused: {errno}")
}

/// How the watching of each task begins, those of a process together.
fn starts(tracer: &tracer::Tracer) -> Vec<(Tid, Start)> {
    let mut tasks: Vec<(Pid, Tid)> =
        tracer.tids().into_iter().filter_map(|tid| Some((procfs::process_of(tid)?, tid))).collect();
    tasks.sort_unstable();
    let processes: FxHashSet<Pid> = tasks.iter().map(|t| t.0).collect();
    let mut known = Known::default();
    let mut out = Vec::with_capacity(tasks.len());
    for (pid, tid) in tasks {
        let parent = procfs::parent_of(tid).filter(|p| processes.contains(p));
        let table = match known.table(tid) {
            Some(other) => Found::SharedWith(other),
            None => Found::Own(known.present(tid)),
        };
        out.push((tid, Start { pid, parent, program: procfs::program(tid), table }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_who_refuses_and_what_helps() {
        let base = || Facts { users: Some([1000; 3]), own_user: 1000, errno: Some(Errno::EPERM), ..Facts::default() };
        for (facts, parts) in [
            (Facts { tracer: Some("process 7 (gdb)".into()), ..base() }, ["process 7 (gdb)", "end that"]),
            (Facts { users: Some([0, 0, 0]), ..base() }, ["user 0", "as root"]),
            (Facts { users: Some([1000, 0, 0]), ..base() }, ["user 0", "as root"]),
            (Facts { yama: Some(1), ..base() }, ["Yama", "ptrace_scope=0"]),
            (Facts { yama: Some(2), ..base() }, ["administrators", "ptrace_scope=0"]),
            (Facts { yama: Some(3), ..base() }, ["Yama", "reboot"]),
            (Facts { yama: Some(0), ..base() }, ["privileges", "as root"]),
            (Facts { filtered: true, ..base() }, ["seccomp", "--cap-add"]),
            (Facts { own_user: 0, yama: Some(1), ..base() }, ["CAP_SYS_PTRACE", "--cap-add"]),
        ] {
            let why = why_refused(&facts);
            assert!(!why.contains('\n') && parts.iter().all(|p| why.contains(p)), "{parts:?}: {why}");
        }
    }
}

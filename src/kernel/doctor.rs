//! What would keep fdwatch from working here, and what to do about it.

use super::procfs;
use crate::base::Tid;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// Nothing is in the way.
    Good,
    /// Something does not work, or shows less.
    Limited,
    /// It does not work at all.
    Broken,
}

/// A check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Of what.
    pub what: &'static str,
    /// How it came out.
    pub health: Health,
    /// What was found. Safe to show.
    pub found: String,
    /// The one step that mends it.
    pub step: Option<String>,
}

fn check(what: &'static str, health: Health, found: impl Into<String>, step: Option<&str>) -> Check {
    Check { what, health, found: found.into(), step: step.map(str::to_string) }
}

/// The oldest kernel on which fdwatch works: PTRACE_GET_SYSCALL_INFO came with 5.3 (ptrace(2)).
const OLDEST: (u32, u32) = (5, 3);

/// CAP_SYS_PTRACE (capabilities(7)).
const CAP_SYS_PTRACE: u32 = 19;

/// What the system says of itself; whether tracing works is for the caller to try.
pub fn checks() -> Vec<Check> {
    let own = Tid(i32::try_from(std::process::id()).unwrap_or(0));
    vec![kernel(), yama(own), seccomp(own), symbols(), debuginfod(), python()]
}

fn kernel() -> Check {
    let release = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = format!("Linux {}", crate::base::text::escape(release.as_bytes()));
    match version >= OLDEST {
        true => check("kernel", Health::Good, found, None),
        false => check("kernel", Health::Broken, found, Some("use Linux 5.3 or later")),
    }
}

fn has_privilege(own: Tid) -> bool {
    let set = procfs::status_field(own, "CapEff").and_then(|m| u64::from_str_radix(&m, 16).ok());
    set.is_some_and(|m| m >> CAP_SYS_PTRACE & 1 == 1)
}

/// Yama's kernel.yama.ptrace_scope (kernel documentation, LSM/Yama).
fn yama(own: Tid) -> Check {
    let privileged = has_privilege(own);
    match procfs::yama_scope() {
        None | Some(0..=2) if privileged => {
            check("ptrace", Health::Good, "CAP_SYS_PTRACE is there: run and attach work", None)
        }
        None | Some(0) => check("ptrace", Health::Good, "processes of your own can be attached to", None),
        Some(1) => check(
            "ptrace",
            Health::Limited,
            "run and audit work; attach only to descendants (Yama, ptrace_scope 1)",
            Some("sudo sysctl kernel.yama.ptrace_scope=0"),
        ),
        Some(2) => check(
            "ptrace",
            Health::Broken,
            "only with CAP_SYS_PTRACE (Yama, ptrace_scope 2)",
            Some("run fdwatch by sudo, or sudo sysctl kernel.yama.ptrace_scope=1"),
        ),
        Some(n) => check(
            "ptrace",
            Health::Broken,
            format!("nobody may trace until the next boot (Yama, ptrace_scope {n})"),
            Some("boot with kernel.yama.ptrace_scope=1 in /etc/sysctl.d"),
        ),
    }
}

fn seccomp(own: Tid) -> Check {
    let tracer = procfs::tracer_of(own);
    match (tracer, procfs::has_seccomp(own)) {
        (Some(tracer), _) => check(
            "confinement",
            Health::Limited,
            format!("fdwatch itself is traced by {tracer}"),
            Some("run it outside of the debugger or tracer"),
        ),
        (None, true) => check(
            "confinement",
            Health::Limited,
            "a seccomp filter is in force here, as in a container: it may refuse ptrace or kcmp",
            Some("docker run --cap-add=SYS_PTRACE --security-opt seccomp=unconfined …"),
        ),
        (None, false) => check("confinement", Health::Good, "no seccomp filter is in force here", None),
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    std::env::var_os("PATH").and_then(|p| std::env::split_paths(&p).map(|d| d.join(program)).find(|p| p.is_file()))
}

fn symbols() -> Check {
    let there = Path::new("/usr/lib/debug/.build-id").is_dir();
    match there {
        true => check("debug files", Health::Good, "some are installed below /usr/lib/debug", None),
        false => check(
            "debug files",
            Health::Limited,
            "none below /usr/lib/debug: libraries show functions without lines",
            Some("install libc6-dbg (Debian), or use --debuginfod"),
        ),
    }
}

fn debuginfod() -> Check {
    let asks = in_path("debuginfod-find").is_some();
    let servers = std::env::var_os("DEBUGINFOD_URLS").is_some_and(|v| !v.is_empty());
    match (asks, servers) {
        (true, true) => check("debuginfod", Health::Good, "debuginfod-find and DEBUGINFOD_URLS are there", None),
        (false, _) => {
            check("debuginfod", Health::Limited, "debuginfod-find is missing", Some("install the package debuginfod"))
        }
        (true, false) => check(
            "debuginfod",
            Health::Limited,
            "DEBUGINFOD_URLS names no server",
            Some("export DEBUGINFOD_URLS=https://debuginfod.elfutils.org"),
        ),
    }
}

fn python() -> Check {
    let Some(path) = in_path("python3") else { return check("Python", Health::Good, "there is no python3", None) };
    let said = Command::new(&path).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text = said.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string()).unwrap_or_default();
    let minor = text.strip_prefix("Python 3.").and_then(|r| r.split('.').next()?.parse::<u32>().ok());
    let found = format!("python3 is {}", crate::base::text::escape(text.as_bytes()));
    match minor {
        Some(8..=14) => check("Python", Health::Good, found, None),
        _ => check(
            "Python",
            Health::Limited,
            format!("{found}: its lines are not shown"),
            Some("use CPython 3.8 to 3.14"),
        ),
    }
}

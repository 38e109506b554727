//! What gdb says of a stack, and what fdwatch says of the same process at the same stop.
#![allow(dead_code, unreachable_pub)] // each test binary uses a part

use super::Space;
use fdwatch::base::Regs;
use fdwatch::stack::{SpaceId, StackEnd, Stacks};
use nix::unistd::Pid;
use object::{Object, ObjectSegment};
use serde::Deserialize;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Slow machines need some seconds for a large program's symbols.
const LIMIT: Duration = Duration::from_secs(120);
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stack_support/frames.py");

/// A program under gdb, which stops it at each `close` of one number.
pub struct Gdb {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    group: Pid,
    _watchdog: mpsc::Sender<()>,
}

#[derive(Deserialize, Debug)]
struct Line {
    error: Option<String>,
    pid: Option<i32>,
    #[serde(default)]
    tid: i32,
    #[serde(default)]
    frames: Vec<(u64, bool, Option<String>)>,
    #[serde(default)]
    why: String,
    #[serde(default)]
    regs: HashMap<String, u64>,
}

/// One frame as either of the two sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Path of the file, and the address as the file numbers it; for code without a file, the address itself.
    pub place: (String, u64),
    pub name: Option<String>,
}

/// One stop.
#[derive(Debug)]
pub struct Stop {
    pub gdb: Vec<Seen>,
    /// Why gdb's list is not longer.
    pub why: String,
    pub ours: Vec<Seen>,
    pub end: StackEnd,
    /// Names of the calls inlined at each of our frames.
    pub inlined: Vec<Vec<String>>,
}

/// Whether gdb is here, with Python in it; says so if not.
pub fn there(test: &str) -> bool {
    let asked = Command::new("gdb").args(["-q", "-nx", "-batch", "-ex", "python print('yes')"]).output();
    let there = asked.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("yes"));
    if !there {
        super::skip(test, "no gdb with Python");
    }
    there
}

impl Gdb {
    /// Starts `program` under gdb with descriptor 9 open, to stop it at each `close(fd)`.
    pub fn start<S: AsRef<OsStr>>(program: &Path, args: &[S], fd: i32) -> Gdb {
        Self::with(program, args, "FDWATCH_FD", &fd.to_string())
    }

    /// The same, to stop it at every `close`.
    pub fn any<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> Gdb {
        Self::with(program, args, "FDWATCH_FD", "any")
    }

    /// The same, to stop it at the instructions of `function` and of all that it calls.
    pub fn step<S: AsRef<OsStr>>(program: &Path, args: &[S], function: &str) -> Gdb {
        Self::with(program, args, "FDWATCH_STEP", function)
    }

    fn with<S: AsRef<OsStr>>(program: &Path, args: &[S], key: &str, value: &str) -> Gdb {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec 9</dev/null; exec gdb -q -nx -batch -x \"$@\"", "sh", SCRIPT, "--args"]);
        command.arg(program).args(args).env(key, value).env_remove("DEBUGINFOD_URLS");
        let child = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("start gdb");
        let group = Pid::from_raw(child.id() as i32);
        let (watchdog, dropped) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if dropped.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = nix::sys::signal::killpg(group, nix::sys::signal::SIGKILL);
            }
        });
        let out = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Gdb { child, out, group, _watchdog: watchdog }
    }

    /// Both views of the next stop; `None` when the program has ended.
    pub fn next(&mut self, stacks: &mut Stacks) -> Option<Stop> {
        let line = loop {
            let line = self.out.next().expect("gdb says when it is done").expect("text");
            // gdb and the program print, too.
            if let Some(json) = line.strip_prefix('@') {
                break serde_json::from_str::<Line>(json).expect("JSON");
            }
        };
        assert!(line.error.is_none(), "gdb: {:?}", line.error);
        let pid = Pid::from_raw(line.pid?);
        let space = Space(pid);
        let id = stacks.capture(SpaceId(pid.as_raw() as u32), &regs(&line.regs), &space);
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
        let mut gdb = Vec::new();
        for (pc, _, name) in line.frames {
            // Where gdb does not know the end of a stack it makes up frames in data, or at 0.
            let Some(place) = place(&maps, pid, pc) else { break };
            gdb.push(Seen { place, name });
        }
        let mut ours = Vec::new();
        let mut inlined = Vec::new();
        for frame in stacks.frames(id).to_vec() {
            let path =
                frame.module.and_then(|m| stacks.module(m)).map(|m| String::from_utf8_lossy(m.path()).into_owned());
            let mut names: Vec<_> = stacks.explain_frame(frame).iter().map(|n| n.function.clone()).collect();
            let name = names.pop().flatten();
            ours.push(Seen { place: (path.unwrap_or_default(), frame.offset), name });
            inlined.push(names.into_iter().flatten().collect());
        }
        let end = stacks.end(id);
        self.child.stdin.as_mut().expect("a pipe").write_all(b"go\n").expect("gdb goes on");
        Some(Stop { gdb, why: line.why, ours, end, inlined })
    }
}

impl Drop for Gdb {
    fn drop(&mut self) {
        self.child.stdin = None;
        let _ = nix::sys::signal::killpg(self.group, nix::sys::signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn regs(r: &HashMap<String, u64>) -> Regs {
    let get = |name: &str| r.get(name).copied().unwrap_or(0);
    Regs {
        rax: get("rax"),
        rbx: get("rbx"),
        rcx: get("rcx"),
        rdx: get("rdx"),
        rsi: get("rsi"),
        rdi: get("rdi"),
        rbp: get("rbp"),
        rsp: get("rsp"),
        r8: get("r8"),
        r9: get("r9"),
        r10: get("r10"),
        r11: get("r11"),
        r12: get("r12"),
        r13: get("r13"),
        r14: get("r14"),
        r15: get("r15"),
        rip: get("rip"),
        cs: get("cs"),
        ..Regs::default()
    }
}

/// Where `pc` lies: by the maps and the file's own program headers, read by other code than fdwatch's.
fn place(maps: &str, pid: Pid, pc: u64) -> Option<(String, u64)> {
    for line in maps.lines() {
        let mut words = line.splitn(6, ' ');
        let (range, perms) = (words.next()?, words.next()?);
        let (start, end) = range.split_once('-')?;
        let hex = |s: &str| u64::from_str_radix(s, 16).expect("hexadecimal");
        let (start, end) = (hex(start), hex(end));
        if !(start..end).contains(&pc) || perms.as_bytes()[2] != b'x' {
            continue;
        }
        let offset = hex(words.next()?);
        let path = words.nth(2).unwrap_or_default().trim().to_string();
        if path == "[vdso]" {
            return Some((path, pc - start));
        }
        let Ok(file) = File::open(format!("/proc/{pid}/map_files/{start:x}-{end:x}")) else {
            return Some((String::new(), pc));
        };
        let cache = object::ReadCache::new(file);
        let elf = object::File::parse(&cache).expect("code is in ELF files");
        let at = pc - start + offset;
        let segment = elf.segments().find(|s| {
            let (from, size) = s.file_range();
            (from & !4095..from + size).contains(&at) && s.flags_executable()
        });
        let segment = segment.expect("code is in a segment");
        return Some((path, at - segment.file_range().0 + segment.address()));
    }
    None
}

trait Executable {
    fn flags_executable(&self) -> bool;
}

impl<'d, S: ObjectSegment<'d>> Executable for S {
    fn flags_executable(&self) -> bool {
        matches!(self.flags(), object::SegmentFlags::Elf { p_flags, .. } if p_flags.0 & object::elf::PF_X.0 != 0)
    }
}

impl Stop {
    /// Both stacks beside each other, for a failure's message.
    pub fn table(&self) -> String {
        let text = |s: Option<&Seen>| {
            let show = |s: &Seen| {
                let file = s.place.0.rsplit('/').next().unwrap_or_default().to_string();
                format!("{file}+{:#x} {}", s.place.1, s.name.as_deref().unwrap_or("?"))
            };
            s.map_or("-".to_string(), show)
        };
        let rows = self.gdb.len().max(self.ours.len());
        let mut out = format!("{:<70} fdwatch\n", "gdb");
        for i in 0..rows {
            let (a, b) = (self.gdb.get(i), self.ours.get(i));
            let same = a.zip(b).is_some_and(|(a, b)| a.place == b.place);
            out += &format!("{} {:<68} {}\n", if same { ' ' } else { '!' }, text(a), text(b));
        }
        out + &format!("gdb: {}; fdwatch: {:?}\n", self.why, self.end)
    }

    /// How many frames agree before the first that does not.
    pub fn agreed(&self) -> usize {
        self.gdb.iter().zip(&self.ours).take_while(|(a, b)| a.place == b.place).count()
    }
}

//! Where a process came from and what it ran before: the model forgets both when a program is executed.

use super::Seen;
use crate::base::{Fd, Pid, TableId, Tid};
use crate::event::{EventKind, Program, Site};
use crate::model::{Life, World};
use std::collections::HashMap;
use std::sync::Arc;

/// Processes that are remembered at once; of what comes later nothing is said.
const MOST: usize = 1 << 15;

/// How a process was created.
#[derive(Clone, Debug)]
pub(super) struct Born {
    /// The table that its own is a copy of.
    pub(super) table: TableId,
    /// When.
    pub(super) at: u64,
    /// The task that made it.
    pub(super) parent: Tid,
    /// Where.
    pub(super) site: Site,
}

/// A program was executed.
pub(super) struct Crossing {
    /// The process.
    pub(super) pid: Pid,
    /// What the process ran before.
    pub(super) before: Arc<Program>,
    /// How the process was created, if it has executed nothing since.
    pub(super) born: Option<Born>,
}

/// The processes that have executed nothing yet, and what each process runs.
#[derive(Default)]
pub(super) struct Descent {
    born: HashMap<Pid, Born>,
    runs: HashMap<Pid, Arc<Program>>,
}

impl Descent {
    /// Takes notice of an event; gives what is to be known of it if it executed a program.
    pub(super) fn see(&mut self, seen: &Seen<'_>) -> Option<Crossing> {
        let pid = seen.world.task(seen.event.tid).map(|t| t.pid);
        let now = |pid: Pid| seen.world.process(pid).map(|p| Arc::clone(&p.program));
        match &seen.event.kind {
            EventKind::Start(start) => self.runs(start.pid, now(start.pid)?),
            EventKind::Fork(fork) => {
                let parent = seen.world.task(seen.event.tid)?;
                if fork.child_pid == parent.pid {
                    return None;
                }
                self.runs(fork.child_pid, now(fork.child_pid)?);
                if self.born.len() < MOST {
                    let table = parent.table;
                    let (at, parent, site) = (seen.event.at, seen.event.tid, fork.site.clone());
                    self.born.insert(fork.child_pid, Born { table, at, parent, site });
                }
            }
            EventKind::Exec { .. } => {
                let pid = pid?;
                let born = self.born.remove(&pid);
                let before = self.runs.get(&pid).cloned();
                self.runs(pid, now(pid)?);
                return before.map(|before| Crossing { pid, before, born });
            }
            EventKind::Exit { .. } => {
                let gone = Pid(seen.event.tid.0);
                if seen.world.process(gone).is_none_or(|p| p.tasks == 0) {
                    self.born.remove(&gone);
                    self.runs.remove(&gone);
                }
            }
            _ => {}
        }
        None
    }

    fn runs(&mut self, pid: Pid, program: Arc<Program>) {
        if self.runs.len() < MOST || self.runs.contains_key(&pid) {
            self.runs.insert(pid, program);
        }
    }
}

impl Crossing {
    /// The lives of `fd` as the program that was executed could have meant them, the latest first: its own table's, then
    /// those that its parent's had when it was copied.
    pub(super) fn lineage<'w>(&self, world: &'w World, table: TableId, fd: Fd) -> Vec<&'w Life> {
        let mut lives: Vec<&Life> = world.lineage(table, fd).collect();
        if let Some(born) = &self.born {
            lives.extend(world.lineage(born.table, fd).filter(|l| l.began.at <= born.at));
        }
        lives
    }

    /// Where the process was created.
    pub(super) fn site(&self) -> Option<&Site> {
        self.born.as_ref().map(|b| &b.site)
    }
}

/// The last part of a program's path.
pub(super) fn base_name(program: &Program) -> &[u8] {
    let name = if program.exe.is_empty() { program.argv.first() } else { Some(&program.exe) };
    let name = name.map(Vec::as_slice).unwrap_or_default();
    name.rsplit(|b| *b == b'/').next().unwrap_or(name)
}

/// Whether a program is a shell: which of its descriptors a command gets is written down in its script.
pub(super) fn is_shell(program: &Program) -> bool {
    const SHELLS: [&[u8]; 12] =
        [b"bash", b"sh", b"dash", b"zsh", b"ksh", b"ksh93", b"mksh", b"ash", b"busybox", b"fish", b"tcsh", b"csh"];
    let name = base_name(program);
    // `bash (deleted)`, `zsh5`.
    SHELLS.iter().any(|s| {
        name == *s || name.strip_prefix(*s).is_some_and(|r| r.first().is_some_and(|c| !c.is_ascii_alphabetic()))
    })
}

//! Deciding: what an event changes.

use super::life::Ended;
use super::world::World;
use crate::base::{Fd, LifeId, TableId, Tid};
use crate::event::{Alteration, Correction, Effect, Event, EventKind, Fork, NewFile, Present, Program, Start};

/// One thing that an event changes. Decided by [`World::consequences`], carried out by [`World::commit`].
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// A life begins with an object of its own.
    Open {
        /** The table. */
        table: TableId,
        /** The number. */
        fd: Fd,
        /** FD_CLOEXEC. */
        cloexec: bool,
        /** The object. */
        file: NewFile,
    },
    /// A life begins with another's object.
    Duplicate {
        /** The table. */
        table: TableId,
        /** The number. */
        fd: Fd,
        /** FD_CLOEXEC. */
        cloexec: bool,
        /** The other life. */
        from: LifeId,
    },
    /// A life ends.
    End {
        /** Which. */
        life: LifeId,
        /** How. */
        how: Ended,
    },
    /// FD_CLOEXEC changes.
    Cloexec {
        /** Of which life. */
        life: LifeId,
        /** Set? */
        on: bool,
    },
    /// A task that nobody announced.
    Start(Start),
    /// A life begins with an object that somebody else holds.
    Receive {
        /** The table. */
        table: TableId,
        /** The number. */
        fd: Fd,
        /** FD_CLOEXEC. */
        cloexec: bool,
        /** The object, where no life of it is known. */
        file: NewFile,
        /// A life of the same object.
        from: Option<LifeId>,
        /// A number that was filled by the same call, with the same object.
        twin: Option<Fd>,
    },
    /// The lives of a range of numbers in the table that the task has by now end, or become close-on-exec.
    Range {
        /** The first number. */
        first: Fd,
        /** The last, included. */
        last: Fd,
        /** Whether they become close-on-exec. */
        mark: bool,
    },
    /// A life was found that nobody saw begin.
    Appear(Present),
    /// Two lives turn out to be of one object.
    Same {
        /** The life that was known less of. */
        life: LifeId,
        /** The other. */
        with: LifeId,
    },
    /// A task begins.
    Fork(Fork),
    /// The task gets a copy of its table.
    Unshare,
    /// A task goes, without a word of its own (exec in another thread, or an end).
    TaskGone {
        /** Which. */
        tid: Tid,
    },
    /// A call is altered.
    Altered {
        /// How.
        how: Alteration,
        /// The lives that it is about.
        lives: Vec<LifeId>,
        /// The path that it names, if it is known.
        path: Vec<u8>,
    },
    /// A process runs another program.
    Exec {
        /** The program. */
        program: Program,
    },
}

/// What has changed, with the ids that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A life began.
    Began(LifeId),
    /// A life ended.
    Ended(LifeId),
    /// FD_CLOEXEC of a life changed.
    Cloexec(LifeId),
}

impl World {
    /// What `event` changes, if it happens. Decides, and changes nothing.
    pub fn consequences(&self, event: &Event) -> Vec<Transition> {
        let tid = event.tid;
        match &event.kind {
            EventKind::Start(start) => vec![Transition::Start(start.clone())],
            EventKind::Call(call) => {
                let Some(task) = self.tasks.get(&tid) else {
                    return Vec::new();
                };
                let mut out = Vec::new();
                for effect in &call.effects {
                    self.of_effect(task.table, effect, &mut out);
                }
                out
            }
            EventKind::Fork(fork) => vec![Transition::Fork(fork.clone())],
            EventKind::Exec { former, program } => self.of_exec(tid, *former, program),
            EventKind::Exit { .. } => self.of_exit(tid),
            EventKind::Reconciled { corrections, .. } => self.of_corrections(tid, corrections),
        }
    }

    fn of_effect(&self, id: TableId, effect: &Effect, out: &mut Vec<Transition>) {
        let Some(table) = self.tables.get(&id) else {
            return;
        };
        let now = |fd: &Fd| table.slots.get(fd).and_then(|s| s.now);
        match effect {
            Effect::Open { fd, cloexec, file } => {
                if let Some(life) = now(fd) {
                    out.push(Transition::End { life, how: Ended::Vanished });
                }
                out.push(Transition::Open { table: id, fd: *fd, cloexec: *cloexec, file: file.clone() });
            }
            Effect::Receive { fd, cloexec, file, from } => {
                if let Some(life) = now(fd) {
                    out.push(Transition::End { life, how: Ended::Vanished });
                }
                let twin = from.filter(|(tid, n)| {
                    let same_call = |t: &Transition| matches!(t, Transition::Receive { fd, .. } if fd == n);
                    self.tasks.get(tid).is_some_and(|t| t.table == id) && out.iter().any(same_call)
                });
                let from = match twin {
                    Some(_) => None,
                    None => {
                        let known = from.and_then(|(tid, fd)| self.latest_as(tid, fd, file)).map(|l| l.id);
                        // What came with it at another number, and is not the same, has been found already.
                        let found = |t: &Transition| match t {
                            Transition::Receive { from: Some(life), .. } => self.lives.get(life).map(|l| l.file),
                            _ => None,
                        };
                        known.or_else(|| self.closed_by_all(file, out.iter().filter_map(found).collect()))
                    }
                };
                let (fd, cloexec, file, twin) = (*fd, *cloexec, file.clone(), twin.map(|t| t.1));
                out.push(Transition::Receive { table: id, fd, cloexec, file, from, twin });
            }
            Effect::Alias { from, to, cloexec } => {
                if let Some(life) = now(to) {
                    out.push(Transition::End { life, how: Ended::Replaced });
                }
                // Another thread may have closed `from` after the kernel copied it and before we were told: the life
                // that ended last is then the one.
                let source = now(from).or_else(|| table.slots.get(from)?.past.back().copied());
                match source {
                    Some(from) => out.push(Transition::Duplicate { table: id, fd: *to, cloexec: *cloexec, from }),
                    None => {
                        let file = NewFile::from_link(Vec::new(), 0);
                        out.push(Transition::Open { table: id, fd: *to, cloexec: *cloexec, file });
                    }
                }
            }
            Effect::Cloexec { fd, on } => {
                if let Some(life) = now(fd) {
                    out.push(Transition::Cloexec { life, on: *on });
                }
            }
            Effect::Close { fd } => {
                if let Some(life) = now(fd) {
                    out.push(Transition::End { life, how: Ended::Closed });
                }
            }
            Effect::CloseRange { first, last, mark } => {
                let lo = Fd(i32::try_from(*first).unwrap_or(i32::MAX));
                let hi = Fd(i32::try_from(*last).unwrap_or(i32::MAX));
                if lo > hi {
                    return;
                }
                // The lives that end are those of a table that there will be only then.
                if out.contains(&Transition::Unshare) {
                    out.push(Transition::Range { first: lo, last: hi, mark: *mark });
                    return;
                }
                for life in table.slots.range(lo..=hi).filter_map(|(_, s)| s.now) {
                    out.push(match mark {
                        true => Transition::Cloexec { life, on: true },
                        false => Transition::End { life, how: Ended::ClosedInRange },
                    });
                }
            }
            Effect::Unshare if table.tasks > 1 => out.push(Transition::Unshare),
            Effect::Altered { how, fds, path } => {
                let lives = fds.iter().filter_map(now).collect();
                out.push(Transition::Altered { how: *how, lives, path: path.clone() });
            }
            Effect::Unshare | Effect::Refused { .. } | Effect::Vain { .. } | Effect::NotExecuted { .. } => {}
        }
    }

    fn of_corrections(&self, tid: Tid, corrections: &[Correction]) -> Vec<Transition> {
        let mut out = Vec::new();
        for correction in corrections {
            match correction {
                Correction::Appeared(present) => {
                    if let Some(life) = self.open_life(tid, present.fd) {
                        out.push(Transition::End { life: life.id, how: Ended::Vanished });
                    }
                    out.push(Transition::Appear(present.clone()));
                }
                Correction::Vanished { fd } => {
                    let life = self.open_life(tid, *fd);
                    out.extend(life.map(|l| Transition::End { life: l.id, how: Ended::Vanished }));
                }
                Correction::Cloexec { fd, on } => {
                    out.extend(self.open_life(tid, *fd).map(|l| Transition::Cloexec { life: l.id, on: *on }));
                }
                Correction::Same { fd, with } => {
                    if let (Some(life), Some(with)) = (self.open_life(tid, *fd), self.open_life(with.0, with.1)) {
                        out.push(Transition::Same { life: life.id, with: with.id });
                    }
                }
            }
        }
        out
    }

    fn of_exec(&self, tid: Tid, former: Tid, program: &Program) -> Vec<Transition> {
        // execve(2): the table is unshared, other threads end, close-on-exec descriptors are closed.
        let mut out = Vec::new();
        let Some(task) = self.tasks.get(&former).or_else(|| self.tasks.get(&tid)) else {
            return out;
        };
        out.extend(
            self.tasks
                .iter()
                .filter(|(t, k)| k.pid == task.pid && **t != tid)
                .map(|(t, _)| Transition::TaskGone { tid: *t }),
        );
        out.push(Transition::Unshare);
        out.push(Transition::Exec { program: program.clone() });
        out
    }

    fn of_exit(&self, tid: Tid) -> Vec<Transition> {
        vec![Transition::TaskGone { tid }]
    }
}

//! `stdio-slot-reused`: an unrelated open took 0, 1 or 2.

use super::{
    About, Confidence, Finding, Role, Rule, Seen, Severity, Step, bound, called, closed, object, opened, standard_name,
};
use crate::base::{Fd, LifeId, TableId, Tid};
use crate::event::{Direction, Effect, EventKind};
use crate::model::{Change, Life, Origin, What};
use std::collections::{HashMap, HashSet};

/// Files that wait at once to be told of.
const MOST_WAITING: usize = 1024;

/// The rule.
///
/// `close(1); open(log)` is how streams have been redirected for fifty years: a number that its own program has just closed
/// is filled on purpose. What can only be read does no harm until somebody reads it as stdin: it is told when a child gets
/// it, or when its program ends with it. So a program's start-up, which reads its libraries at whatever number is free, is
/// left alone.
#[derive(Default)]
pub(super) struct StdioSlotReused {
    /// The standard stream that a task has just closed.
    closed: HashMap<Tid, Fd>,
    waiting: HashMap<LifeId, (TableId, Finding)>,
    told: HashSet<LifeId>,
}

static ABOUT: About = About {
    name: "stdio-slot-reused",
    severity: Severity::Warning,
    summary: "an unrelated open took 0, 1 or 2",
    page: include_str!("pages/stdio-slot-reused.md"),
};

impl Rule for StdioSlotReused {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        let tid = seen.event.tid;
        let mut out = Vec::new();
        let has_just_closed = self.closed.remove(&tid);
        match &seen.event.kind {
            EventKind::Call(call) => {
                for effect in &call.effects {
                    match effect {
                        Effect::Close { fd } if fd.0 < 3 && is_stream(seen, *fd) => drop(self.closed.insert(tid, *fd)),
                        Effect::Open { fd, .. } if fd.0 < 3 && Some(*fd) != has_just_closed => {
                            out.extend(self.reused(seen, *fd));
                        }
                        _ => {}
                    }
                }
            }
            EventKind::Fork(fork) if !fork.shares_files => {
                let table = seen.world.task(tid).map(|t| t.table);
                out.extend(self.take(|t| Some(t) == table));
            }
            _ => {}
        }
        for change in seen.changes {
            if let Change::Ended(life) = change
                && let Some((_, f)) = self.waiting.remove(life)
                && matches!(seen.event.kind, EventKind::Exit { .. })
            {
                out.push(f);
            }
        }
        out
    }

    fn rest(&mut self) -> Vec<Finding> {
        self.take(|_| true)
    }
}

/// Whether what was closed at `fd` was fit to be that stream: libraries that are read at 1 or 2 are not.
fn is_stream(seen: &Seen<'_>, fd: Fd) -> bool {
    seen.changes.iter().any(|c| {
        let Change::Ended(id) = c else { return false };
        let Some(life) = seen.world.life(*id).filter(|l| l.fd == fd) else { return false };
        let reads = seen.world.file(life.file).is_some_and(|f| f.file.direction() == Direction::Read);
        fd.0 == 0 || !reads || !matches!(life.origin, Origin::Opened)
    })
}

impl StdioSlotReused {
    fn take(&mut self, of: impl Fn(TableId) -> bool) -> Vec<Finding> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let mut ids: Vec<LifeId> = self.waiting.iter().filter(|(_, w)| of(w.0)).map(|(id, _)| *id).collect();
        ids.sort();
        ids.iter().filter_map(|id| self.waiting.remove(id)).map(|w| w.1).collect()
    }

    fn reused(&mut self, seen: &Seen<'_>, fd: Fd) -> Option<Finding> {
        let world = seen.world;
        let life = world.open_life(seen.event.tid, fd)?;
        let file = &world.file(life.file)?.file;
        // Terminals, /dev/null and its like are what belongs there.
        if file.path.starts_with(b"/dev/") || world.window(seen.event.tid).is_some() {
            return None;
        }
        let task = world.task(seen.event.tid)?;
        let since = world.process(task.pid)?.since;
        let former = world.lineage(life.table, fd).find(|l| l.id != life.id);
        // The program has put other files there before, one after the other: it knows what it does.
        let own = |l: &Life| matches!(l.origin, Origin::Opened | Origin::Duplicated(_)) && l.began.at > since;
        let writes = fd.0 > 0 && file.direction() != Direction::Read;
        if former.is_some_and(own) && !writes {
            return None;
        }
        bound(&mut self.told);
        if !self.told.insert(former.map_or(life.id, |f| f.id)) {
            return None;
        }
        let stream = standard_name(fd)?;
        let mut steps = Vec::new();
        if let Some(former) = former
            && let Some(end) = &former.end
        {
            steps.push(closed(&end.moment));
        }
        let call = match life.began.what {
            What::Call(info) => info.name,
            _ => "open",
        };
        steps.push(Step { role: Role::Reused, object: object(world, life), ..opened(life) });
        let finding = Finding {
            name: ABOUT.name,
            severity: ABOUT.severity,
            confidence: Confidence::Likely,
            fd,
            tid: seen.event.tid,
            pid: task.pid,
            title: format!(
                "process {} ({}) got fd {fd} from {call}: a {} is its {stream} now",
                task.pid,
                called(world, task.pid),
                file.noun()
            ),
            object: object(world, life)?,
            steps,
            evidence: vec![match fd.0 {
                0 => "whatever reads stdin reads this file".to_string(),
                _ => format!("whatever is written to {stream} goes into this file"),
            }],
            help: "open /dev/null at 0, 1 and 2 before anything else, or move what you open above 2: fcntl(fd, F_DUPFD, 3)"
                .into(),
            count: 1,
            parts: Vec::new(),
        };
        if writes || self.waiting.len() >= MOST_WAITING {
            return Some(finding);
        }
        self.waiting.insert(life.id, (life.table, finding));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn own(found: Vec<Finding>) -> usize {
        found.iter().filter(|f| f.name == "stdio-slot-reused").count()
    }

    #[test]
    fn a_database_as_stderr_is_told_at_once() {
        let mut s = Script::with_stdio();
        s.close(MAIN, 2);
        s.exec(MAIN.0);
        assert_eq!(own(s.open_with(MAIN, 2, "/tmp/db", libc::O_RDWR)), 1);
    }

    #[test]
    fn libraries_that_came_and_went_there_are_no_redirection() {
        let mut s = Script::with_stdio();
        s.close(MAIN, 2);
        s.exec(MAIN.0);
        for _ in 0..2 {
            assert_eq!(own(s.open_with(MAIN, 2, "/lib/libc.so.6", libc::O_RDONLY)), 0);
            s.close(MAIN, 2);
        }
        assert_eq!(own(s.open_with(MAIN, 2, "/tmp/db", libc::O_RDWR)), 1);
    }

    #[test]
    fn close_and_open_is_a_redirection() {
        let mut s = Script::with_stdio();
        s.close(MAIN, 1);
        assert_eq!(own(s.open_with(MAIN, 1, "/tmp/log", libc::O_WRONLY)), 0);
        s.close(MAIN, 0);
        s.open_with(MAIN, 5, "/tmp/b", libc::O_RDONLY);
        assert_eq!(own(s.open_with(MAIN, 0, "/dev/null", libc::O_RDWR)), 0);
    }

    #[test]
    fn what_is_read_at_zero_is_told_when_a_child_gets_it() {
        let started = || {
            let mut s = Script::with_stdio();
            s.close(MAIN, 0);
            s.exec(MAIN.0);
            // ld.so reads its cache, and gives the number back.
            assert_eq!(own(s.open_with(MAIN, 0, "/etc/ld.so.cache", libc::O_RDONLY)), 0);
            s
        };
        let mut s = started();
        assert_eq!(own(s.close(MAIN, 0)), 0);
        assert_eq!(own(s.exit(MAIN.0)), 0);
        assert_eq!(own(started().fork(MAIN, 200)), 1);
        assert_eq!(own(started().exit(MAIN.0)), 1);
        assert_eq!(own(started().rest()), 1);
    }
}

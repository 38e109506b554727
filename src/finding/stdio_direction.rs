//! `stdio-direction`: a program starts with a standard stream that cannot do what it is for.

use super::descent::{Crossing, Descent};
use super::{
    About, Confidence, Finding, Role, Rule, Seen, Severity, bound, object, opened, program_name, root, standard_name,
};
use crate::base::{Fd, LifeId, Pid};
use crate::event::{Direction, Effect, EventKind};
use crate::model::{Life, Origin};
use std::collections::HashSet;

/// The rule. Remembers whom it has blamed, so that one mistake is told once.
#[derive(Default)]
pub(super) struct StdioDirection {
    descent: Descent,
    told: HashSet<LifeId>,
    /// Streams that were filled from a number that had lost its object: `recycled-fd-to-child` tells those.
    recycled: HashSet<(Pid, Fd)>,
}

static ABOUT: About = About {
    name: "stdio-direction",
    severity: Severity::Error,
    summary: "a program starts with a read-only stdout or stderr, or a write-only stdin",
    page: include_str!("pages/stdio-direction.md"),
};

impl Rule for StdioDirection {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        self.note_recycled(seen);
        let Some(crossing) = self.descent.see(seen) else { return Vec::new() };
        let mut out = Vec::new();
        for fd in (0..3).map(Fd) {
            let Some(life) = seen.world.open_life(seen.event.tid, fd) else { continue };
            let first = source(seen, life);
            if self.recycled.remove(&(crossing.pid, fd)) || self.told.contains(&first.id) {
                continue;
            }
            if let Some(f) = finding(seen, &crossing, life, first) {
                bound(&mut self.told);
                self.told.insert(first.id);
                out.push(f);
            }
        }
        out
    }
}

impl StdioDirection {
    fn note_recycled(&mut self, seen: &Seen<'_>) {
        let EventKind::Call(call) = &seen.event.kind else { return };
        if seen.world.window(seen.event.tid).is_none() {
            return;
        }
        let Some(task) = seen.world.task(seen.event.tid) else { return };
        for effect in &call.effects {
            let Effect::Alias { from, to, .. } = effect else { continue };
            if to.0 < 3 && seen.world.lineage(task.table, *from).any(Life::was_lost) {
                bound(&mut self.recycled);
                self.recycled.insert((task.pid, *to));
            }
        }
    }
}

/// The life that a standard stream was made from: what was opened, before any dup and fork.
fn source<'w>(seen: &Seen<'w>, life: &'w Life) -> &'w Life {
    let mut life = root(seen.world, life);
    while let Origin::Duplicated(from) = life.origin {
        match seen.world.life(from) {
            Some(l) if l.id < life.id => life = root(seen.world, l),
            _ => break,
        }
    }
    life
}

fn finding(seen: &Seen<'_>, crossing: &Crossing, life: &Life, first: &Life) -> Option<Finding> {
    let world = seen.world;
    let file = &world.file(life.file)?.file;
    // nohup(1) makes stdin unreadable on purpose, and nothing is lost to where everything is; in a tree that is going to be
    // somebody's root as well.
    if file.path.ends_with(b"/dev/null") || file.flags & libc::O_PATH as u32 != 0 {
        return None;
    }
    // It was given to the first program: its caller's affair.
    if matches!(first.origin, Origin::Present | Origin::Appeared) {
        return None;
    }
    let what = match (life.fd.0, file.direction()) {
        (0, Direction::Write) => "cannot be read from",
        (1 | 2, Direction::Read) => "cannot be written to",
        _ => return None,
    };
    let stream = standard_name(life.fd)?;
    let name = program_name(&world.process(crossing.pid)?.program);
    let mut steps = vec![opened(first)];
    if root(world, life).id != first.id {
        let placed = root(world, life);
        steps.push(super::Step { role: Role::Reused, object: object(world, life), ..opened(placed) });
    }
    steps.push(seen.executed(crossing.site(), format!("{name} starts with it as {stream}")));
    Some(Finding {
        name: ABOUT.name,
        severity: ABOUT.severity,
        confidence: Confidence::Certain,
        fd: life.fd,
        tid: seen.event.tid,
        pid: crossing.pid,
        title: format!(
            "process {} ({name}) starts with a {stream} that {what}: a {}",
            crossing.pid,
            file_noun(file.noun(), file.direction())
        ),
        object: object(world, first)?,
        steps,
        evidence: vec![format!("each read or write of {stream} is going to fail with EBADF")],
        help: match life.fd.0 {
            0 => "hand over the other end of the pipe, or a file that was opened for reading",
            _ => "hand over the other end of the pipe, or a file that was opened for writing",
        }
        .into(),
        count: 1,
        parts: Vec::new(),
    })
}

fn file_noun(noun: &str, direction: Direction) -> String {
    match (noun, direction) {
        ("file", Direction::Read) => "file opened for reading".to_string(),
        ("file", Direction::Write) => "file opened for writing".to_string(),
        _ => noun.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::event::{Cause, Escape};

    fn own(found: &[Finding]) -> Vec<&Finding> {
        found.iter().filter(|f| f.name == "stdio-direction").collect()
    }

    #[test]
    fn the_wrong_end_of_a_pipe_is_told_once() {
        let mut s = Script::with_stdio();
        s.pipe(MAIN, 3, 4);
        for (child, n) in [(200, 1), (201, 0)] {
            s.fork(MAIN, child);
            s.dup2(child, 3, 1);
            assert_eq!(own(&s.exec_as(child, &["/bin/echo"], &[])).len(), n);
        }
        s.fork(MAIN, 202);
        s.dup2(202, 4, 0);
        let found = s.exec_as(202, &["/bin/cat"], &[]);
        assert!(own(&found)[0].title.contains("stdin that cannot be read from"), "{found:?}");
    }

    #[test]
    fn the_right_ends_null_and_what_was_inherited_are_silent() {
        let mut s = Script::with_stdio();
        s.pipe(MAIN, 3, 4);
        s.open_with(MAIN, 5, "/dev/null", libc::O_WRONLY);
        s.open_with(MAIN, 6, "/dev/null", libc::O_RDONLY);
        s.open_with(MAIN, 7, "/tmp/a", libc::O_RDWR);
        s.open_with(MAIN, 8, "/srv/root/dev/null", libc::O_WRONLY);
        let pairs = [(200, 4, 1), (201, 3, 0), (202, 5, 0), (203, 6, 2), (204, 7, 1), (205, 7, 0), (206, 8, 0)];
        for (child, from, to) in pairs {
            s.fork(MAIN, child);
            s.dup2(child, from, to);
            assert!(own(&s.exec_as(child, &["/bin/x"], &[])).is_empty(), "{from} as {to}");
        }
    }

    #[test]
    fn a_recycled_number_is_another_rules() {
        let mut s = Script::with_stdio();
        s.open(MAIN, 3, "/tmp/a");
        s.close_by(MAIN, 3, Cause::Finalizer, Some(Escape::FilenoCall));
        s.pipe(MAIN, 3, 4);
        s.fork(MAIN, 200);
        assert_eq!(s.dup2(200, 3, 1).len(), 1);
        assert!(s.exec_as(200, &["/bin/echo"], &[]).iter().all(|f| f.name != "stdio-direction"));
    }
}

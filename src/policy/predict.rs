//! Predictions: what says, before a child exists or has executed its program, that a descriptor is meant for one.

use super::Why;
use crate::event::{Call, FileKind};
use crate::finding::root;
use crate::model::{Ended, Life, Origin, Transition, What, World};
use glob::Pattern;

/// A program that a child is going to execute, as `--expect-child` names it.
#[derive(Clone, Debug)]
pub struct Expected(Pattern);

impl Expected {
    /// The program that `text` names: a path, or, without a slash, the last component of one. May be a pattern.
    ///
    /// # Errors
    /// If it is no pattern.
    pub fn new(text: &str) -> Result<Expected, glob::PatternError> {
        Pattern::new(text).map(Expected)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        self.0.as_str()
    }

    /// Whether a process that is remembered has executed it.
    pub fn was_executed(&self, world: &World) -> bool {
        let whole = self.text().contains('/');
        let is = |path: &[u8]| {
            let text = String::from_utf8_lossy(path);
            let name = if whole { &text } else { text.rsplit('/').next().unwrap_or(&text) };
            self.0.matches(name)
        };
        // What `/bin/sh` leads to is another path: what was asked for counts, too.
        world.processes().any(|(_, p)| is(&p.program.exe) || p.program.argv.first().is_some_and(|a| is(a)))
    }
}

/// The lives that `transitions` of a call of `tid`'s end, those of close_range(2) one by one.
pub(super) fn ends<'w>(world: &'w World, tid: crate::base::Tid, transitions: &[Transition]) -> Vec<&'w Life> {
    let mut out = Vec::new();
    for transition in transitions {
        match transition {
            Transition::End { life, .. } => out.extend(world.life(*life)),
            Transition::Range { first, last, mark: false, .. } => {
                let table = world.task(tid).and_then(|t| world.table(t.table));
                let open = table.into_iter().flat_map(|t| t.open()).filter(|(fd, _)| (*first..=*last).contains(fd));
                out.extend(open.filter_map(|(_, life)| world.life(life)));
            }
            _ => {}
        }
    }
    out
}

/// Whether a life was made inheritable on purpose, and no program has received it.
pub(super) fn is_for_a_child(world: &World, life: &Life) -> bool {
    let elsewhere = |c: &&Life| c.file == life.file && c.table != life.table;
    (life.was_made_inheritable() || is_plain_copy(world, life))
        && !world.lives().filter(elsewhere).any(|c| was_received(world, c))
}

/// Whether a life is a copy that dup(2) or F_DUPFD made of a descriptor that is close-on-exec: execve leaves it open. That
/// dup2 chose its number is a redirection, which is undone by another; and what was inheritable before, is as it was.
fn is_plain_copy(world: &World, life: &Life) -> bool {
    let Origin::Duplicated(from) = life.origin else { return false };
    let plain = match life.began.what {
        What::Call(info) => !matches!(info.name, "dup2" | "dup3"),
        _ => false,
    };
    plain && !life.cloexec && life.fd.0 > 2 && world.life(from).is_some_and(|l| l.cloexec)
}

/// Whether the process that a fork made `copy` for, or that has moved it to another number, has executed a program that
/// had it.
fn was_received(world: &World, copy: &Life) -> bool {
    let Some(table) = world.table(copy.table) else { return true };
    let pid = world.task(table.made_for).map_or(crate::base::Pid(table.made_for.0), |t| t.pid);
    let executed = world.process(pid).is_none_or(|p| p.window.is_none() && p.since > copy.began.at);
    match &copy.end {
        None => executed,
        Some(end) if end.how == Ended::TableGone => true,
        Some(end) => executed && world.process(pid).is_none_or(|p| p.since < end.moment.at),
    }
}

/// The parent closes what it made inheritable before a child has it.
pub(super) fn inheritable(world: &World, tid: crate::base::Tid, life: &Life) -> Option<Why> {
    let own = !matches!(life.origin, Origin::Inherited(_));
    (own && world.window(tid).is_none() && is_for_a_child(world, life)).then_some(Why::Inheritable)
}

/// A child closes, before it executes its program, what its parent made inheritable and no other child has.
pub(super) fn child_side(world: &World, tid: crate::base::Tid, life: &Life) -> Option<Why> {
    let window = world.window(tid)?;
    let parent = root(world, life);
    if parent.id == life.id || parent.began.at > window.at || !is_for_a_child(world, parent) {
        return None;
    }
    // Put onto the number that the program is to find it at, the old one has done its work.
    let table = world.table(life.table)?;
    let moved = table
        .open()
        .filter_map(|(_, l)| world.life(l))
        .any(|l| l.id != life.id && l.file == life.file && !l.cloexec && matches!(l.origin, Origin::Duplicated(_)));
    (!moved).then_some(Why::ChildSide)
}

/// A child that is to execute `expected` does not run yet, and something is closed that it could have been meant to get:
/// by nobody's order, or what would have been inherited.
pub(super) fn expected(
    world: &World,
    tid: crate::base::Tid,
    life: &Life,
    call: &Call,
    expected: &Expected,
) -> Option<Why> {
    let own = !matches!(life.origin, Origin::Inherited(_) | Origin::Present);
    // The C library, too, reads its tables without O_CLOEXEC.
    let table = world.file(life.file).is_none_or(|f| {
        f.file.kind == FileKind::Path && f.file.flags & libc::O_ACCMODE as u32 == libc::O_RDONLY as u32
    });
    let inherits = own && !life.cloexec && !table && life.fd.0 > 2 && world.window(tid).is_none();
    if !(call.site.cause.is_implicit() || inherits) || expected.was_executed(world) {
        return None;
    }
    Some(Why::Asked(format!("--expect-child {}, which nobody has executed yet", expected.text())))
}

#[cfg(test)]
mod tests {
    use super::super::{Implicit, Policy};
    use super::*;
    use crate::base::{Fd, Tid};
    use crate::event::{Call, CallInfo, Cause, Effect, Event, EventKind, Program, Site};
    use crate::finding::testing::{MAIN, Script};

    fn close(fd: i32, cause: Cause) -> Call {
        let info = CallInfo { name: "close", args: [fd as u64, 0, 0, 0, 0, 0], ret: None };
        Call { info, effects: vec![Effect::Close { fd: Fd(fd) }], site: Site { cause, ..Site::default() } }
    }

    fn why(policy: &Policy, s: &Script, tid: i32, call: Call) -> Option<Why> {
        let e = Event { at: u64::MAX - 1, tid: Tid(tid), kind: EventKind::Call(call) };
        policy.before(&s.world, &e, &s.world.consequences(&e)).map(|b| b.1)
    }

    fn clear(s: &mut Script, tid: i32, fd: i32) {
        for on in [true, false] {
            let info = CallInfo { name: "fcntl", args: [0; 6], ret: Some(0) };
            let effects = vec![Effect::Cloexec { fd: Fd(fd), on }];
            s.event(Tid(tid), EventKind::Call(Call { info, effects, site: Site::default() }));
        }
    }

    fn exec(s: &mut Script, tid: i32, exe: &str) {
        let program = Program { exe: exe.into(), argv: vec![exe.into()], ..Program::default() };
        s.event(Tid(tid), EventKind::Exec { former: Tid(tid), program });
    }

    fn policy() -> Policy {
        Policy { inheritable: true, child_side: true, ..Policy::default() }
    }

    #[test]
    fn what_was_made_inheritable_is_for_a_child_until_one_has_it() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.open(MAIN, 4, "/tmp/b");
        clear(&mut s, MAIN.0, 3);
        assert_eq!(why(&policy(), &s, MAIN.0, close(3, Cause::Explicit)), Some(Why::Inheritable));
        assert_eq!(why(&policy(), &s, MAIN.0, close(4, Cause::Explicit)), None, "nobody has touched its flag");
        assert_eq!(why(&Policy::default(), &s, MAIN.0, close(3, Cause::Explicit)), None, "it can be turned off");
        s.fork(MAIN, 200);
        assert_eq!(why(&policy(), &s, 200, close(3, Cause::Explicit)), Some(Why::ChildSide));
        assert_eq!(why(&policy(), &s, 200, close(4, Cause::Explicit)), None);
        let range = Effect::CloseRange { first: 3, last: u32::MAX, mark: false };
        let all = Call { effects: vec![range], ..close(3, Cause::Explicit) };
        assert_eq!(why(&policy(), &s, 200, all), Some(Why::ChildSide), "close_range, too");
        exec(&mut s, 200, "/bin/echo");
        assert_eq!(why(&policy(), &s, MAIN.0, close(3, Cause::Explicit)), None, "a child has it");
        s.fork(MAIN, 201);
        assert_eq!(why(&policy(), &s, 201, close(3, Cause::Explicit)), None, "it was for the other");
    }

    #[test]
    fn a_plain_copy_of_what_exec_would_close_is_for_a_child() {
        let copy = |s: &mut Script, name: &'static str, from: i32, to: i32| {
            let info = CallInfo { name, args: [from as u64, 0, 0, 0, 0, 0], ret: Some(to.into()) };
            let effects = vec![Effect::Alias { from: Fd(from), to: Fd(to), cloexec: name == "dup3" }];
            s.event(MAIN, EventKind::Call(Call { info, effects, site: Site::default() }));
        };
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        copy(&mut s, "dup", 3, 4);
        copy(&mut s, "dup2", 3, 5);
        copy(&mut s, "dup3", 3, 6);
        copy(&mut s, "dup", 4, 7);
        s.open_with(MAIN, 8, "/tmp/b", libc::O_RDWR);
        copy(&mut s, "dup", 8, 9);
        let asked = |s: &Script, tid| {
            let why = |fd| why(&policy(), s, tid, close(fd, Cause::Explicit)).is_some();
            (3..10).filter(|fd| why(*fd)).collect::<Vec<_>>()
        };
        assert_eq!(
            asked(&s, MAIN.0),
            [4],
            "not the original, a redirection, a copy of a copy, or what was inheritable"
        );
        s.fork(MAIN, 200);
        assert_eq!(asked(&s, 200), [4], "the child's side");
        exec(&mut s, 200, "/bin/echo");
        assert_eq!(asked(&s, MAIN.0), Vec::<i32>::new(), "a child has it");
    }

    #[test]
    fn a_child_that_has_moved_it_may_close_the_old_number() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        clear(&mut s, MAIN.0, 3);
        s.fork(MAIN, 200);
        let info = CallInfo { name: "dup2", args: [3, 1, 0, 0, 0, 0], ret: Some(1) };
        let effects = vec![Effect::Alias { from: Fd(3), to: Fd(1), cloexec: false }];
        s.event(Tid(200), EventKind::Call(Call { info, effects, site: Site::default() }));
        assert_eq!(why(&policy(), &s, 200, close(3, Cause::Explicit)), None);
    }

    #[test]
    fn a_child_is_expected_until_it_runs() {
        let expecting = |text: &str| Policy {
            expected: vec![Expected::new(text).unwrap()],
            implicit: Implicit::Never,
            ..Policy::default()
        };
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        for text in ["/bin/echo", "echo", "/bin/e*"] {
            let said = why(&expecting(text), &s, MAIN.0, close(3, Cause::Finalizer));
            assert!(matches!(said, Some(Why::Asked(how)) if how.contains(text)), "{text}");
        }
        s.fork(MAIN, 200);
        exec(&mut s, 200, "/bin/true");
        assert!(why(&expecting("echo"), &s, MAIN.0, close(3, Cause::Finalizer)).is_some());
        s.fork(MAIN, 201);
        exec(&mut s, 201, "/bin/echo");
        for text in ["/bin/echo", "echo", "/bin/e*"] {
            assert_eq!(why(&expecting(text), &s, MAIN.0, close(3, Cause::Finalizer)), None, "{text}");
        }
    }
}

//! `promised-fd-missing`: arguments or environment promise a number that is not open in the program executed.

use super::descent::{Crossing, Descent, base_name, is_shell};
use super::promise::{By, Promise, jobserver, only_looks, promises, uses_jobserver};
use super::{
    About, Confidence, Finding, Role, Rule, Seen, Severity, Step, bound, closed, object, opened, program_name, root,
    severity,
};
use crate::base::{Fd, LifeId};
use crate::event::Direction;
use crate::model::{Ended, Life};
use std::collections::HashSet;

/// The rule. Remembers which lives it has missed, and where, so that one mistake is told once.
#[derive(Default)]
pub(super) struct PromisedFdMissing {
    descent: Descent,
    /// A note that was told does not stand for an error.
    told: HashSet<(LifeId, Fd, Severity)>,
    /// Ends of a jobserver that make has not given to what it started.
    left_out: HashSet<LifeId>,
}

static ABOUT: About = About {
    name: "promised-fd-missing",
    severity: Severity::Error,
    summary: "arguments or environment promise a number that is not open, or not that object",
    page: include_str!("pages/promised-fd-missing.md"),
};

impl Rule for PromisedFdMissing {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        let Some(crossing) = self.descent.see(seen) else { return Vec::new() };
        let Some(program) = seen.world.process(crossing.pid).map(|p| &p.program) else { return Vec::new() };
        let mut out = Vec::new();
        for promise in promises(program, crossing.pid) {
            let Some((meant, now)) = broken(seen, &crossing, &promise) else { continue };
            if matches!(promise.by, By::Jobserver { .. }) && base_name(&crossing.before).ends_with(b"make") {
                bound(&mut self.left_out);
                self.left_out.insert(meant.id);
            }
            let left_out = self.left_out.contains(&meant.id);
            let Some(f) = finding(seen, &crossing, &promise, meant, now, left_out) else { continue };
            bound(&mut self.told);
            if self.told.insert((meant.id, promise.fd, f.severity)) {
                out.push(f);
            }
        }
        // The two ends of one jobserver are one mistake.
        out.dedup_by(|b, a| a.steps.last().map(|s| &s.note) == b.steps.last().map(|s| &s.note));
        out
    }
}

/// The life that was promised and is over, and what is there instead; `None` where the promise is kept, or nobody ever had
/// that number.
fn broken<'w>(seen: &Seen<'w>, crossing: &Crossing, promise: &Promise) -> Option<(&'w Life, Option<&'w Life>)> {
    let world = seen.world;
    let now = world.open_life(seen.event.tid, promise.fd);
    if now.is_some_and(|life| fits(seen, life, promise.by)) {
        return None;
    }
    let lives = crossing.lineage(world, world.task(seen.event.tid)?.table, promise.fd);
    // What was there since, a library that was read perhaps, was promised to nobody.
    let can_be_meant = |l: &&Life| l.end.is_some() && Some(l.id) != now.map(|n| n.id) && fits(seen, l, promise.by);
    let meant = lives.into_iter().find(can_be_meant)?;
    Some((meant, now))
}

fn finding(
    seen: &Seen<'_>,
    crossing: &Crossing,
    promise: &Promise,
    meant: &Life,
    wrong: Option<&Life>,
    left_out: bool,
) -> Option<Finding> {
    let world = seen.world;
    let program = &world.process(crossing.pid)?.program;
    let fd = promise.fd;
    // A variable that the parent has as well was meant for the parent, or for who is before it.
    if promise.by == By::Variable && crossing.before.env.iter().any(|e| promise.text == crate::base::text::escape(e)) {
        return None;
    }
    // Whatever make starts has its MAKEFLAGS; who does not look is promised nothing, unless its parent has made the
    // promise for it: then the parent's own environment says something else.
    let own_word = jobserver(&crossing.before) != jobserver(program);
    if matches!(promise.by, By::Jobserver { .. })
        && !uses_jobserver(program)
        && (!own_word || uses_jobserver(&crossing.before))
    {
        return None;
    }
    let end = meant.end.as_ref()?;
    let confidence = match promise.by {
        By::Listen => Confidence::Certain,
        By::Path | By::Argument if only_looks(program) => Confidence::Possible,
        // A shell's script exports a variable once, for those that it starts while the number is open.
        By::Variable if is_shell(&crossing.before) => Confidence::Possible,
        // make leaves its own jobserver out on purpose where a recipe's line is not marked with `+`.
        By::Jobserver { .. } if left_out => Confidence::Possible,
        By::Jobserver { .. } | By::Argument | By::Path | By::Variable => Confidence::Likely,
    };
    let mut steps = vec![opened(root(world, meant))];
    // close-on-exec has no place of its own.
    let by_exec = end.how == Ended::ClosedOnExec;
    steps.push(Step { note: by_exec.then(|| "it was not made inheritable".to_string()), ..closed(&end.moment) });
    if let Some(life) = wrong {
        let first = root(world, life);
        steps.push(Step { role: Role::Reused, object: object(world, first), ..opened(first) });
    }
    let name = program_name(program);
    steps.push(seen.executed(crossing.site(), format!("{name} was promised it by {}", promise.text)));
    let what = match wrong {
        Some(life) => format!("is now a {}", world.file(life.file)?.file.noun()),
        None => "is not open in it".to_string(),
    };
    let finding = Finding {
        name: ABOUT.name,
        severity: severity(&ABOUT, confidence),
        confidence,
        fd,
        tid: seen.event.tid,
        pid: crossing.pid,
        title: format!("process {} ({name}) was promised fd {fd} by {}, but {fd} {what}", crossing.pid, promise.text),
        object: object(world, meant)?,
        steps,
        evidence: vec![match promise.by {
            By::Listen => "LISTEN_PID names this very process".to_string(),
            By::Jobserver { .. } if own_word => {
                "the parent made this promise: its own environment has none".to_string()
            }
            By::Jobserver { .. } => format!("{name} asks for the jobserver that MAKEFLAGS names"),
            By::Argument | By::Path => "the number stands in the arguments, and was open before".to_string(),
            By::Variable => "the number stands in the environment, and was open before".to_string(),
        }],
        help: match by_exec {
            true => "make it inheritable in the child: pass_fds, or fcntl(fd, F_SETFD, 0) between fork and exec".into(),
            false => "close it only after the program was executed, or do not promise it".into(),
        },
        count: 1,
        parts: Vec::new(),
    };
    Some(finding)
}

/// Whether an open descriptor can be what was promised.
fn fits(seen: &Seen<'_>, life: &Life, by: By) -> bool {
    let By::Jobserver { write } = by else { return true };
    let Some(file) = seen.world.file(life.file).map(|f| &f.file) else { return true };
    // The ends are those of one pipe, or a FIFO opened for both.
    match file.direction() {
        Direction::Read => !write && file.path.starts_with(b"pipe:"),
        Direction::Write => write && file.path.starts_with(b"pipe:"),
        Direction::Both => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::base::Tid;

    fn own(found: Vec<Finding>) -> Vec<Finding> {
        found.into_iter().filter(|f| f.name == "promised-fd-missing").collect()
    }

    #[test]
    fn a_socket_that_is_close_on_exec_does_not_arrive() {
        let mut s = Script::with_stdio();
        s.open(MAIN, 3, "socket:[7]");
        s.fork(MAIN, 200);
        let found = own(s.exec_as(200, &["/usr/bin/server"], &["LISTEN_FDS=1", "LISTEN_PID=200"]));
        let [f] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((f.severity, f.confidence, f.fd), (Severity::Error, Confidence::Certain, Fd(3)));
        assert!(f.title.contains("LISTEN_FDS=1") && f.title.contains("not open"), "{}", f.title);
        assert_eq!(f.step(Role::Opened).unwrap().moment.pid.0, 100);
    }

    #[test]
    fn a_number_that_the_parent_had_closed_is_blamed_on_the_parent() {
        let mut s = Script::with_stdio();
        s.open_with(MAIN, 5, "/tmp/a", libc::O_RDONLY);
        s.close(MAIN, 5);
        s.fork(MAIN, 200);
        let found = own(s.exec_as(200, &["/bin/cat", "/dev/fd/5"], &[]));
        assert_eq!(found[0].step(Role::Closed).unwrap().moment.pid.0, 100);
    }

    #[test]
    fn who_only_looks_and_what_a_script_exports_are_notes() {
        let told = |shell: &str, argv: &[&str], env: &[&str]| {
            let mut s = Script::with_stdio();
            s.exec_as(MAIN.0, &[shell], &[]);
            s.open_with(MAIN, 7, "/tmp/lock", libc::O_RDONLY);
            s.close(MAIN, 7);
            s.fork(MAIN, 200);
            own(s.exec_as(200, argv, env)).iter().map(|f| (f.severity, f.confidence)).collect::<Vec<_>>()
        };
        let (note, error) = ((Severity::Note, Confidence::Possible), (Severity::Error, Confidence::Likely));
        assert_eq!(told("/bin/bash", &["/bin/true"], &["LOCK_FD=7"]), [note]);
        assert_eq!(told("/usr/bin/make", &["/bin/true"], &["LOCK_FD=7"]), [error]);
        assert_eq!(told("/bin/bash", &["/bin/cat", "/dev/fd/7"], &[]), [error]);
        assert_eq!(told("/bin/bash", &["/bin/x", "--fd=7"], &[]), [error]);
        for looks in ["/usr/bin/test", "/usr/bin/[", "/bin/ls", "/bin/stat", "/bin/readlink", "/bin/echo"] {
            assert_eq!(told("/usr/bin/make", &[looks, "/dev/fd/7"], &[]), [note], "{looks}");
        }
    }

    #[test]
    fn a_note_does_not_stand_for_the_error_after_it() {
        let mut s = Script::with_stdio();
        s.open_with(MAIN, 7, "/tmp/lock", libc::O_RDONLY);
        s.close(MAIN, 7);
        let started =
            [("/usr/bin/test", Some(Severity::Note)), ("/bin/cat", Some(Severity::Error)), ("/bin/tac", None)];
        for (child, (program, told)) in (200..).zip(started) {
            s.fork(MAIN, child);
            let found = own(s.exec_as(child, &[program, "/dev/fd/7"], &[]));
            assert_eq!(found.first().map(|f| f.severity), told, "{program}");
        }
    }

    #[test]
    fn kept_promises_are_silent() {
        let mut s = Script::with_stdio();
        s.open_with(MAIN, 3, "socket:[7]", libc::O_RDWR);
        s.open_with(MAIN, 63, "pipe:[8]", libc::O_RDONLY);
        s.fork(MAIN, 200);
        let env = ["LISTEN_FDS=1", "LISTEN_PID=200"];
        assert!(own(s.exec_as(200, &["/bin/x", "/dev/fd/63", "--fd=63"], &env)).is_empty());
        // Named by its number, which never was open: nobody's descriptor.
        s.fork(MAIN, 201);
        assert!(own(s.exec_as(201, &["/bin/x", "--fd=9", "/dev/fd/10"], &[])).is_empty());
    }

    #[test]
    fn a_jobserver_is_missed_by_who_asks_for_it() {
        let flags = ["MAKEFLAGS= -j2 --jobserver-auth=3,4"];
        let mut s = Script::with_stdio();
        s.pipe(MAIN, 3, 4);
        s.fork(MAIN, 200);
        let found = own(s.exec_as(200, &["/usr/bin/make"], &flags));
        assert_eq!(found.len(), 1, "one for both ends: {found:?}");
        assert_eq!((found[0].severity, found[0].confidence), (Severity::Error, Confidence::Likely));
        // What make starts without `+`, and who does not ask.
        let mut s = Script::with_stdio();
        s.exec_as(MAIN.0, &["/usr/bin/make"], &[]);
        s.pipe(MAIN, 3, 4);
        s.fork(MAIN, 200);
        assert!(own(s.exec_as(200, &["/usr/bin/cc"], &flags)).is_empty());
        s.fork(MAIN, 201);
        let found = own(s.exec_as(201, &["/usr/bin/cargo"], &flags));
        assert!(found.iter().all(|f| f.severity == Severity::Note), "{found:?}");
    }

    #[test]
    fn what_make_leaves_out_is_a_note_also_behind_a_shell() {
        let flags = ["MAKEFLAGS= -j2 --jobserver-auth=3,4"];
        let mut s = Script::with_stdio();
        s.exec_as(MAIN.0, &["/usr/bin/make"], &[]);
        s.pipe(MAIN, 3, 4);
        s.fork(MAIN, 200);
        assert!(own(s.exec_as(200, &["/bin/sh"], &flags)).is_empty());
        s.open(Tid(200), 3, "/lib/libc.so.6");
        s.close(200, 3);
        s.fork(Tid(200), 201);
        let found = own(s.exec_as(201, &["/usr/bin/make"], &flags));
        assert!(found.len() == 1 && found[0].severity == Severity::Note, "{found:?}");
        assert_eq!(found[0].object.file.path, b"pipe:[9]");
    }

    #[test]
    fn a_variable_is_meant_for_who_got_it_first() {
        let started = |before: &[&str]| {
            let mut s = Script::with_stdio();
            s.exec_as(MAIN.0, &["/bin/x"], before);
            s.open(MAIN, 3, "socket:[7]");
            s.fork(MAIN, 200);
            own(s.exec_as(200, &["/usr/bin/node"], &["NODE_CHANNEL_FD=3"])).len()
        };
        assert_eq!((started(&[]), started(&["NODE_CHANNEL_FD=3"])), (1, 0));
    }

    #[test]
    fn a_jobserver_whose_number_is_another_file_now() {
        let mut s = Script::with_stdio();
        s.open_pipe(MAIN, 3, 4);
        s.close(MAIN, 3);
        s.open_with(MAIN, 3, "/tmp/log", libc::O_WRONLY);
        s.fork(MAIN, 200);
        let found = own(s.exec_as(200, &["/bin/tool"], &["MAKEFLAGS= --jobserver-auth=3,4"]));
        let [f] = found.as_slice() else { panic!("{found:?}") };
        assert!(f.title.contains("is now a file"), "{}", f.title);
        assert_eq!(f.step(Role::Reused).unwrap().object.as_ref().unwrap().file.path, b"/tmp/log");
    }
}

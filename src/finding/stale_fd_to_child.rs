//! `stale-fd-to-child`: a child was to be given a number whose intended life was over.

use super::culprit::{DECISIVE, advice, blame, story, told};
use super::{About, Confidence, Finding, Rule, Seen, Severity, bound, called, object, root, standard_name};
use crate::base::LifeId;
use crate::event::{Call, Cause, Effect, EventKind};
use std::collections::HashSet;

/// The rule. Remembers whom it has blamed, so that one mistake is told once.
#[derive(Default)]
pub(super) struct StaleFdToChild {
    told: HashSet<LifeId>,
}

static ABOUT: About = About {
    name: "stale-fd-to-child",
    severity: Severity::Error,
    summary: "a child was to be given a number whose intended life was over",
    page: include_str!("pages/stale-fd-to-child.md"),
};

impl Rule for StaleFdToChild {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        let EventKind::Call(call) = &seen.event.kind else { return Vec::new() };
        let Some(window) = seen.world.window(seen.event.tid) else { return Vec::new() };
        let Some(task) = seen.world.task(seen.event.tid) else { return Vec::new() };
        let mut out = Vec::new();
        for effect in &call.effects {
            let Effect::Refused { fd, to, close: false } = effect else { continue };
            if parks(call) {
                continue;
            }
            let since = seen.world.process(task.pid).map_or(0, |p| p.since);
            let Some(blame) = blame(seen.world, task.table, *fd, task.pid, since) else { continue };
            // What the child opened itself was never handed to it: another rule's.
            if root(seen.world, blame.life).began.at > window.at {
                continue;
            }
            let Some(end) = &blame.life.end else { continue };
            let Some(object) = object(seen.world, blame.life) else { continue };
            bound(&mut self.told);
            if !self.told.insert(blame.life.id) {
                continue;
            }
            let as_what = to.map(|t| match standard_name(t) {
                Some(name) => format!(" as {name}"),
                None => format!(" as fd {t}"),
            });
            let title = format!(
                "child {} of {} was given fd {fd}{}, but {fd} had already been closed",
                task.pid,
                called(seen.world, task.pid),
                as_what.unwrap_or_default(),
            );
            let mut steps = story(seen.world, &blame);
            // After a vfork an execve must follow; after a fork it may.
            let when = if window.fork.shares_memory { "between vfork and execve" } else { "after fork, before execve" };
            steps.push(seen.used(call, None, Some(when.to_string())));
            let cause = end.moment.site.cause;
            out.push(Finding {
                name: ABOUT.name,
                severity: ABOUT.severity,
                confidence: confidence(blame.weight, cause),
                fd: *fd,
                tid: seen.event.tid,
                pid: task.pid,
                title,
                object,
                steps,
                evidence: told(blame.evidence),
                help: advice(cause).to_string(),
                count: 1,
                parts: Vec::new(),
            });
        }
        out
    }
}

/// Whether a shell makes room before a redirection: it moves what may be at the number out of the way, to 10 or above, and
/// knows that there may be nothing.
fn parks(call: &Call) -> bool {
    let [_, command, least, ..] = call.info.args;
    let moves = matches!(command as i32, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC);
    call.info.name.starts_with("fcntl") && moves && least >= 10
}

fn confidence(weight: u32, cause: Cause) -> Confidence {
    let asked = matches!(cause, Cause::Explicit | Cause::With);
    if weight >= DECISIVE || asked { Confidence::Certain } else { Confidence::Likely }
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::super::testing::*;
    use super::*;
    use crate::base::Tid;
    use crate::event::Escape;

    /// `(exec 5>&1)` in dash and zsh: whether 5 is open is what the fcntl is to find out.
    #[test]
    fn a_shell_that_makes_room_for_a_redirection_was_not_given_the_number() {
        let mut s = Script::new();
        s.open(MAIN, 5, "/tmp/a");
        s.close(MAIN, 5);
        s.fork(MAIN, 200);
        assert!(s.refused_dupfd(Tid(200), 5).is_empty());
        assert_eq!(s.refused(200, 5, Some(1)).len(), 1, "what it wanted to move is another thing");
    }

    /// The first acceptance case: the culprit is two lives back and in the other process.
    #[test]
    fn the_finalizer_is_blamed_and_not_the_childs_own_close() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.close_by(MAIN, 3, Cause::Finalizer, Some(Escape::FilenoCall));
        s.pipe(MAIN, 3, 4);
        s.fork(MAIN, 200);
        s.close(200, 3);
        let found = s.refused(200, 3, Some(1));
        let [f] = found.as_slice() else { panic!("one finding, not {found:?}") };
        assert_eq!(f.name, "stale-fd-to-child");
        assert_eq!((f.severity, f.confidence), (Severity::Error, Confidence::Certain));
        assert_eq!(f.object.file.path, b"/tmp/a");
        assert_eq!(f.step(Role::Closed).unwrap().moment.pid.0, 100);
        assert_eq!(f.step(Role::Closed).unwrap().moment.site.cause, Cause::Finalizer);
        assert_eq!(f.step(Role::Reused).unwrap().object.as_ref().unwrap().file.path, b"pipe:[9]");
        assert!(f.title.contains("fd 3 as stdout"), "{}", f.title);
    }

    /// Nothing tells from which object the number escaped; that the spawner's own pipe took it leaves no other reading.
    #[test]
    fn what_the_spawning_call_opened_for_itself_was_not_meant() {
        let stale = |outside: bool, closed_before: bool| {
            let mut s = Script::new();
            let began = s.next();
            s.open(MAIN, 3, "/tmp/a");
            s.close_by(MAIN, 3, Cause::Finalizer, None);
            let pipe = s.next();
            s.pipe(MAIN, 3, 4);
            if outside {
                s.plumbing(3, pipe, &[began]);
            }
            if closed_before {
                s.close(MAIN, 3);
            }
            s.fork(MAIN, 200);
            if !closed_before {
                s.close(200, 3);
            }
            s.refused(200, 3, Some(1)).remove(0)
        };
        let f = stale(true, false);
        assert_eq!((f.confidence, f.object.file.path.as_slice()), (Confidence::Certain, b"/tmp/a".as_slice()));
        assert!(f.evidence[0].contains("no code called close()"), "the heaviest first: {:?}", f.evidence);
        assert!(f.evidence[1].contains("outside the very call that started the child"), "{:?}", f.evidence);
        let f = stale(false, false);
        assert_eq!((f.confidence, f.evidence.len()), (Confidence::Likely, 1), "{:?}", f.evidence);
        // What the spawner had closed itself before it forked may be just what it wanted to hand over.
        let f = stale(true, true);
        assert_eq!((f.confidence, f.evidence.len()), (Confidence::Likely, 1), "{:?}", f.evidence);
    }

    #[test]
    fn what_the_parent_closes_after_the_fork_is_not_to_blame() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.close(MAIN, 3);
        s.pipe(MAIN, 3, 4);
        s.fork(MAIN, 200);
        s.close(200, 3);
        s.close(MAIN, 3);
        assert_eq!(s.refused(200, 3, Some(1))[0].object.file.path, b"/tmp/a");
    }

    #[test]
    fn a_file_that_the_arguments_name_is_rather_meant() {
        let named = |argv: &[&str], env: &[&str]| {
            let mut s = Script::new();
            s.exec_as(MAIN.0, argv, env);
            for path in ["/srv/run/wanted.log", "/srv/run/other.log"] {
                s.open(MAIN, 3, path);
                s.close(MAIN, 3);
            }
            s.fork(MAIN, 200);
            let f = s.refused(200, 3, Some(1)).remove(0);
            (String::from_utf8(f.object.file.path.clone()).unwrap(), f.evidence.join("; "))
        };
        assert_eq!(named(&["job"], &[]), ("/srv/run/other.log".into(), String::new()), "the latest of two equals");
        let says = |what: &str| ("/srv/run/wanted.log".to_string(), what.to_string());
        let arguments = says("the arguments of job name /srv/run/wanted.log");
        for argument in ["/srv/run/wanted.log", "wanted.log", "./run/wanted.log", "--log=/srv/run/wanted.log"] {
            assert_eq!(named(&["job", argument], &[]), arguments, "{argument}");
        }
        let env = "LOG=/srv/run/wanted.log";
        assert_eq!(named(&["job"], &[env]), says("the environment of job names /srv/run/wanted.log, in LOG"));
        for other in ["/srv/run/wanted.log.1", "anted.log", "x=wanted.log", "/wanted.log"] {
            assert_eq!(named(&["job", other], &[]).0, "/srv/run/other.log", "{other}");
        }
    }

    #[test]
    fn an_explicit_close_in_the_parent_is_blamed_too() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.close(MAIN, 3);
        s.fork(MAIN, 200);
        let found = s.refused(200, 3, Some(1));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].step(Role::Closed).unwrap().moment.pid.0, 100);
    }

    #[test]
    fn the_childs_own_close_is_blamed_when_there_is_no_other() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.fork(MAIN, 200);
        s.close(200, 3);
        let found = s.refused(200, 3, Some(1));
        assert_eq!(found[0].step(Role::Closed).unwrap().moment.pid.0, 200);
        assert_eq!(found[0].step(Role::Opened).unwrap().moment.pid.0, 100);
    }

    #[test]
    fn told_once() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.close(MAIN, 3);
        s.fork(MAIN, 200);
        assert_eq!(s.refused(200, 3, Some(1)).len(), 1);
        assert_eq!(s.refused(200, 3, Some(2)).len(), 0);
    }

    #[test]
    fn silent_without_a_former_life_and_outside_the_window() {
        let mut s = Script::new();
        s.fork(MAIN, 200);
        assert!(s.refused(200, 17, Some(1)).is_empty(), "17 never was open");
        s.open(MAIN, 3, "/tmp/a");
        s.close(MAIN, 3);
        let found = s.refused(MAIN.0, 3, Some(1));
        assert!(found.iter().all(|f| f.name != "stale-fd-to-child"), "nobody forked");
    }

    #[test]
    fn what_a_child_opens_and_closes_itself_was_never_handed_to_it() {
        let mut s = Script::new();
        s.fork(MAIN, 200);
        s.open(crate::base::Tid(200), 5, "/tmp/a");
        s.close(200, 5);
        let found = s.refused(200, 5, None);
        assert_eq!(found.iter().map(|f| f.name).collect::<Vec<_>>(), ["use-after-close"]);
    }

    #[test]
    fn what_an_earlier_program_closed_is_not_blamed() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.close(MAIN, 3);
        s.exec(MAIN.0);
        s.fork(MAIN, 200);
        assert!(s.refused(200, 3, Some(1)).is_empty());
    }
}

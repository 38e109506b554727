//! `double-close`: a close of a number already closed.

use super::culprit::{blame_of, story, told};
use super::descent::is_shell;
use super::foreign_close::robbed;
use super::sweep::{Runs, Suspects};
use super::{About, Confidence, Finding, Role, Rule, Seen, Severity, bound, called, is_listing, object, standard_name};
use crate::base::{Fd, FileId};
use crate::event::EventKind;
use std::collections::HashSet;

/// The rule.
///
/// A loop over all numbers (daemons, shells, spawners) closes what is closed already, and its first step looks like a
/// mistake. So a finding waits for the task's next event: a close of the next number from the same place makes it a
/// loop, as one just before has made it.
#[derive(Default)]
pub(super) struct DoubleClose {
    suspects: Suspects<Finding>,
    runs: Runs,
    told: HashSet<FileId>,
}

static ABOUT: About = About {
    name: "double-close",
    severity: Severity::Error,
    summary: "a close of a number already closed",
    page: include_str!("pages/double-close.md"),
};

impl Rule for DoubleClose {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        let tid = seen.event.tid;
        let (closing, in_loop) = self.runs.step(seen);
        let out = self.suspects.judge(seen, in_loop).and_then(|f| self.tell(f));
        if let Some((fd, true)) = closing
            && !in_loop
            && let Some(f) = self.finding(seen, fd)
        {
            self.suspects.wait(tid, f.step(Role::Opened).map_or(0, |o| o.moment.at), f);
        }
        out.into_iter().collect()
    }

    fn rest(&mut self) -> Vec<Finding> {
        let waiting: Vec<_> = self.suspects.drain().collect();
        waiting.into_iter().filter_map(|f| self.tell(f)).collect()
    }
}

impl DoubleClose {
    fn tell(&mut self, f: Finding) -> Option<Finding> {
        bound(&mut self.told);
        // A second double close of the same object is the same mistake.
        self.told.insert(f.object.id).then_some(f)
    }

    fn finding(&self, seen: &Seen<'_>, fd: Fd) -> Option<Finding> {
        let EventKind::Call(call) = &seen.event.kind else { return None };
        // Programs close the standard streams once more when they end, to hear of a write that failed.
        if standard_name(fd).is_some() {
            return None;
        }
        let task = seen.world.task(seen.event.tid)?;
        let since = seen.world.process(task.pid)?.since;
        // Whose file was taken is a victim.
        if robbed(seen.world, task.table, fd, (seen.event.tid, &call.site)).is_some() {
            return None;
        }
        let blame = blame_of(seen.world, task.table, fd, task.pid, since, Some((seen.event.tid, &call.site)))?;
        if seen.is_handed_over(blame.life) {
            return None;
        }
        // Who lists what is open to close all of it finds the listing's own descriptor there, which is gone by then.
        let latest = seen.world.lineage(task.table, fd).next();
        if latest.into_iter().chain([blame.life]).any(|l| is_listing(seen.world, l)) {
            return None;
        }
        let closed = &blame.life.end.as_ref()?.moment.site;
        // A shell's one place closes what its script says, each time that it says so.
        let same_place = closed.stack.is_some() && (closed.stack, closed.py) == (call.site.stack, call.site.py);
        if same_place && is_shell(&seen.world.process(task.pid)?.program) {
            return None;
        }
        let cause = closed.cause;
        let mut steps = story(seen.world, &blame);
        steps.push(seen.used(call, None, Some("closed again".to_string())));
        Some(Finding {
            name: ABOUT.name,
            severity: ABOUT.severity,
            confidence: Confidence::Certain,
            fd,
            tid: seen.event.tid,
            pid: task.pid,
            title: format!("process {} ({}) closed fd {fd} twice", task.pid, called(seen.world, task.pid)),
            object: object(seen.world, blame.life)?,
            steps,
            evidence: told(blame.evidence),
            help: match cause.is_implicit() {
                true => "the object closes its descriptor itself: take the number out with detach(), or do not close it".into(),
                false => "give the descriptor one owner; set the variable to -1 when it is closed. In a program with threads the second close can hit another thread's new file".into(),
            },
            count: 1,
            parts: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::super::testing::*;
    use crate::event::Site;

    #[test]
    fn the_second_close_is_told_at_the_next_event() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.close(MAIN, 3);
        assert!(s.refused_close(MAIN.0, 3).is_empty(), "it may be the start of a loop");
        let found = s.open(MAIN, 3, "/tmp/b");
        let [f] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((f.name, f.object.file.path.as_slice()), ("double-close", b"/tmp/a".as_slice()));
        assert!(f.steps.iter().any(|s| s.role == Role::Used));
    }

    #[test]
    fn it_is_told_at_exit_at_the_latest() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.close(MAIN, 3);
        s.refused_close(MAIN.0, 3);
        assert_eq!(s.exit(MAIN.0).len(), 1);
    }

    #[test]
    fn it_is_told_when_nothing_more_is_seen() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.close(MAIN, 3);
        assert!(s.refused_close(MAIN.0, 3).is_empty());
        assert_eq!(s.rest().len(), 1);
        assert!(s.rest().is_empty());
    }

    #[test]
    fn both_ends_of_a_pipe_are_no_loop() {
        let mut s = Script::new();
        s.pipe(MAIN, 3, 4);
        s.close(MAIN, 3);
        s.refused_close(MAIN.0, 3);
        assert!(s.close(MAIN, 4).is_empty(), "a loop would do that, too");
        assert_eq!(s.open(MAIN, 3, "/tmp/a").len(), 1);
        let mut s = Script::new();
        s.pipe(MAIN, 3, 4);
        s.close(MAIN, 3);
        s.refused_close(MAIN.0, 3);
        s.close(MAIN, 4);
        assert_eq!(s.rest().len(), 1);
    }

    #[test]
    fn a_loop_after_half_a_pipe_was_closed_is_one() {
        for numbers in [(3..9).collect::<Vec<_>>(), (1..5).rev().collect()] {
            let mut s = Script::new();
            s.pipe(MAIN, 3, 4);
            let (gone, left) = if numbers[0] == 3 { (3, 4) } else { (4, 3) };
            s.close(MAIN, gone);
            for fd in numbers {
                let found = if fd == left { s.close(MAIN, fd) } else { s.refused_close(MAIN.0, fd) };
                assert!(found.is_empty(), "fd {fd}: {found:?}");
            }
            assert!(s.exit(MAIN.0).is_empty());
        }
    }

    #[test]
    fn the_descriptor_of_a_listing_of_descriptors_is_nobodys_mistake() {
        for (path, told) in [("/proc/100/fd", 0), ("/proc/100/task/100/fd", 0), ("/srv/fd", 1), ("/proc/100", 1)] {
            let mut s = Script::new();
            s.open(MAIN, 3, path);
            s.close(MAIN, 3);
            s.refused_close(MAIN.0, 3);
            assert_eq!(s.exit(MAIN.0).len(), told, "{path}");
        }
    }

    #[test]
    fn loops_up_and_down_are_no_mistake() {
        for numbers in [(3..40).collect::<Vec<_>>(), (3..40).rev().collect()] {
            let mut s = Script::new();
            for fd in [3, 20, 39] {
                s.open(MAIN, fd, "/tmp/a");
                s.close(MAIN, fd);
            }
            for fd in numbers {
                assert!(s.refused_close(MAIN.0, fd).is_empty(), "fd {fd}");
            }
            assert!(s.exit(MAIN.0).is_empty());
        }
    }

    /// Of the numbers that never were open the one is told that comes before.
    #[test]
    fn a_loop_whose_last_number_alone_was_ever_open_is_no_mistake() {
        let at = |n| Site { stack: Some(crate::base::StackId(n)), ..Site::default() };
        for (before, place, told) in [(4, 7, 0), (2, 7, 0), (5, 7, 1), (4, 8, 1)] {
            let mut s = Script::new();
            s.open(MAIN, 3, "/tmp/a");
            s.close(MAIN, 3);
            s.at(at(place)).vain(MAIN, before);
            s.at(at(7)).refused_close(MAIN.0, 3);
            assert_eq!(s.exit(MAIN.0).len(), told, "{before} {place}");
        }
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.close(MAIN, 3);
        s.at(at(7)).vain(MAIN, 4);
        s.at(at(7)).refused_close(MAIN.0, 3);
        assert!(s.at(at(9)).refused_close(MAIN.0, 3).is_empty());
        assert_eq!(s.exit(MAIN.0).len(), 1, "a close after the loop");
    }

    /// Both in one native stack: in a script nothing else tells a loop from two statements.
    #[test]
    fn two_lines_of_a_script_are_no_loop() {
        let line =
            |n| Site { stack: Some(crate::base::StackId(7)), py: Some(crate::base::PyStackId(n)), ..Site::default() };
        for (next, told) in [(1, 0), (2, 1)] {
            let mut s = Script::new();
            s.open(MAIN, 3, "/tmp/a");
            s.open(MAIN, 4, "/tmp/b");
            s.close(MAIN, 3);
            s.at(line(1)).refused_close(MAIN.0, 3);
            assert_eq!(s.at(line(next)).close(MAIN, 4).len(), told);
        }
    }

    #[test]
    fn a_shells_one_place_and_the_standard_streams_are_left_alone() {
        let here = || Site { stack: Some(crate::base::StackId(7)), ..Site::default() };
        for (program, told) in [("/bin/bash", 0), ("/usr/bin/perl", 1)] {
            let mut s = Script::new();
            s.exec_as(MAIN.0, &[program], &[]);
            s.open(MAIN, 3, "/tmp/a");
            s.at(here()).close(MAIN, 3);
            s.at(here()).refused_close(MAIN.0, 3);
            assert_eq!(s.exit(MAIN.0).len(), told, "{program}");
        }
        // Two lines of Python make the same native stack.
        let line = |n| Site { py: Some(crate::base::PyStackId(n)), ..here() };
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.at(line(1)).close(MAIN, 3);
        s.at(line(2)).refused_close(MAIN.0, 3);
        assert_eq!(s.exit(MAIN.0).len(), 1);
        let mut s = Script::new();
        s.open(MAIN, 2, "/tmp/a");
        s.close(MAIN, 2);
        s.refused_close(MAIN.0, 2);
        assert!(s.exit(MAIN.0).is_empty());
    }

    /// A library closes its number again, after the program has opened and closed a file of its own there.
    #[test]
    fn the_life_of_the_same_shared_object_is_rather_meant() {
        let of = |owner: &str| Site { owner: Some(owner.into()), ..Site::default() };
        for (closer, path) in [("libcourier.so", "/tmp/a"), ("app", "/tmp/log")] {
            let mut s = Script::new();
            s.at(of("libcourier.so")).open(MAIN, 5, "/tmp/a");
            s.at(of("libcourier.so")).close(MAIN, 5);
            s.at(of("app")).open(MAIN, 5, "/tmp/log");
            s.at(of("app")).close(MAIN, 5);
            s.at(of(closer)).refused_close(MAIN.0, 5);
            let found = s.exit(MAIN.0);
            let [f] = found.as_slice() else { panic!("{found:?}") };
            assert_eq!((f.name, f.object.file.path.as_slice()), ("double-close", path.as_bytes()));
            let clause = format!("{closer} had opened it, and {closer} closes the number again");
            assert!(f.evidence.contains(&clause), "{:?}", f.evidence);
        }
    }

    #[test]
    fn a_child_before_exec_and_numbers_never_open_are_left_alone() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.close(MAIN, 3);
        s.fork(MAIN, 200);
        s.refused_close(200, 3);
        assert!(s.exit(200).is_empty());
        s.refused_close(MAIN.0, -1);
        s.refused_close(MAIN.0, 77);
        assert!(s.exit(MAIN.0).is_empty());
    }
}

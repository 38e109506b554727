//! `leak-at-exit`: opened by the program, never closed. Only where it is asked for.

use super::{About, Confidence, Finding, Options, Rule, Seen, Severity, called, closed, object, opened};
use crate::event::EventKind;
use crate::model::{Change, Ended, Origin};

/// The rule.
pub(super) struct LeakAtExit {
    wanted: bool,
}

static ABOUT: About = About {
    name: "leak-at-exit",
    severity: Severity::Warning,
    summary: "opened by the program, never closed (only with --leaks-at-exit)",
    page: include_str!("pages/leak-at-exit.md"),
};

impl LeakAtExit {
    pub(super) fn new(options: &Options) -> LeakAtExit {
        LeakAtExit { wanted: options.leaks_at_exit }
    }
}

impl Rule for LeakAtExit {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn check(&mut self, seen: &Seen<'_>) -> Vec<Finding> {
        let EventKind::Exit { .. } = seen.event.kind else { return Vec::new() };
        if !self.wanted {
            return Vec::new();
        }
        let world = seen.world;
        let mut out = Vec::new();
        for change in seen.changes {
            let Change::Ended(id) = change else { continue };
            let Some(life) = world.life(*id).filter(|l| l.fd.0 > 2) else { continue };
            let Some(end) = life.end.as_ref().filter(|e| e.how == Ended::TableGone) else { continue };
            // What it was given it need not close.
            if !matches!(life.origin, Origin::Opened | Origin::Duplicated(_) | Origin::Received(_)) {
                continue;
            }
            let pid = end.moment.pid;
            let Some(object) = object(world, life) else { continue };
            out.push(Finding {
                name: ABOUT.name,
                severity: ABOUT.severity,
                confidence: Confidence::Certain,
                fd: life.fd,
                tid: seen.event.tid,
                pid,
                title: format!(
                    "process {pid} ({}) ended with fd {} open: the {} that it opened was never closed",
                    called(world, pid),
                    life.fd,
                    object.file.noun()
                ),
                object,
                steps: vec![opened(life), closed(&end.moment)],
                evidence: Vec::new(),
                help: "close it after its last use".into(),
                count: 1,
                parts: Vec::new(),
            });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn leaks(wanted: bool, work: impl Fn(&mut Script)) -> usize {
        let mut s = Script::with_stdio();
        s.obey(&Options { leaks_at_exit: wanted, ..Options::default() });
        work(&mut s);
        s.exit(MAIN.0).iter().filter(|f| f.name == "leak-at-exit").count()
    }

    #[test]
    fn what_was_opened_and_not_closed_is_told_if_asked_for() {
        let two = |s: &mut Script| {
            s.open(MAIN, 3, "/tmp/a");
            s.dup2(MAIN.0, 3, 4);
        };
        assert_eq!(leaks(true, two), 2);
        assert_eq!(leaks(false, two), 0);
    }

    #[test]
    fn stdio_and_what_was_closed_or_inherited_is_none() {
        let closed = |s: &mut Script| {
            s.open(MAIN, 3, "/tmp/a");
            s.close(MAIN, 3);
        };
        assert_eq!(leaks(true, closed), 0);
        let mut s = Script::with_stdio();
        s.obey(&Options { leaks_at_exit: true, ..Options::default() });
        s.open(MAIN, 3, "/tmp/a");
        s.fork(MAIN, 200);
        assert!(s.exit(200).is_empty());
    }
}

//! Commands that decide how the target goes on.

use super::super::{At, Flow, Then};
use super::{About, Command, Group, at_most_one, nothing, number, one, shown};
use crate::base::text::span;
use crate::policy::Why;
use crate::policy::inject::{error_number, time};
use crate::render::call::errno;
use nix::sys::signal::Signal as Sig;
use std::str::FromStr;

pub(super) struct Continue;

fn count(args: &[&str]) -> Result<u32, String> {
    let Some(word) = at_most_one(Continue.about().usage, args)? else { return Ok(1) };
    match number("a count", word)? {
        0 => Err("a count begins at 1".to_string()),
        n => Ok(n),
    }
}

impl Command for Continue {
    fn about(&self) -> &'static About {
        &About {
            names: &["continue", "c"],
            usage: "continue [N]",
            group: Group::Run,
            summary: "go on to the next break, or to the Nth from here",
            help: "The target goes on until the next break. With N the next N-1 breaks are passed over.",
            example: ("continue 3", "passes over two breaks and shows the third"),
            repeats: true,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        count(args).map(drop)
    }
    fn run(&self, args: &[&str], _: &mut At<'_, '_>) -> Result<Flow, String> {
        Ok(Flow::Resume(Then::Continue { ignore: count(args)?.saturating_sub(1) }))
    }
}

pub(super) struct Next;

impl Command for Next {
    fn about(&self) -> &'static About {
        &About {
            names: &["next", "n"],
            usage: "next",
            group: Group::Run,
            summary: "go on to the next event that concerns descriptors",
            help: "The target goes on until any of its tasks opens, copies, closes or hands on a descriptor.",
            example: ("next", "one call at a time: what it opened, closed or copied"),
            repeats: true,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        nothing(self.about().usage, args)
    }
    fn run(&self, _: &[&str], _: &mut At<'_, '_>) -> Result<Flow, String> {
        Ok(Flow::Resume(Then::Next))
    }
}

pub(super) struct Finish;

impl Command for Finish {
    fn about(&self) -> &'static About {
        &About {
            names: &["finish"],
            usage: "finish",
            group: Group::Run,
            summary: "go on until the call at which the target stands returns, and show its result",
            help: "Other tasks go on, too. Works where a call is about to be made.",
            example: ("finish", "whether the close succeeded"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        nothing(self.about().usage, args)
    }
    fn run(&self, _: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        match at.scene.at.call.as_ref().map(|c| c.info.ret) {
            Some(None) if at.is_altered() => {
                Err("the call will not be made: there is no result to wait for".to_string())
            }
            Some(None) => Ok(Flow::Resume(Then::Finish)),
            Some(Some(_)) => Err("the call has returned already".to_string()),
            None => Err("the target is not at a call".to_string()),
        }
    }
}

pub(super) struct Fail;

/// The largest error number that has a name (errno(3)).
const LAST_ERROR: i32 = 133;

fn error(args: &[&str]) -> Result<i32, String> {
    let word = one(Fail.about().usage, args)?;
    if let Ok(n) = word.parse::<i32>() {
        return match n {
            1..=LAST_ERROR => Ok(n),
            _ => Err(format!("there is no error {n}")),
        };
    }
    error_number(word)
}

impl Command for Fail {
    fn about(&self) -> &'static About {
        &About {
            names: &["fail"],
            usage: "fail ERRNO",
            group: Group::WhatIf,
            summary: "the call will not happen, and fails with ERRNO",
            help: "ERRNO is a name or a number of errno(3). The target goes on with continue.\n\
                   Works before a call that ends a descriptor. At calls that make one the prompt opens when they have\n\
                   returned: they fail by --inject CALL:error=ERRNO, on the command line.\n\
                   Every report of this run says that its results were altered.",
            example: ("fail EIO", "then continue: how the program bears a close that fails"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        error(args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let n = error(args)?;
        at.fail(n)?;
        at.say(&format!("the call will not happen, and the program will be told {}", errno(n)));
        Ok(Flow::Stay)
    }
}

pub(super) struct Delay;

impl Command for Delay {
    fn about(&self) -> &'static About {
        &About {
            names: &["delay"],
            usage: "delay TIME",
            group: Group::WhatIf,
            summary: "the call happens TIME later, and other tasks go on meanwhile",
            help: "TIME is a number and s, ms, us or ns, a day at most. It begins with continue. After a call its result is\n\
                   told later. While the prompt is open everything stands still, this task too. The delay ends early when\n\
                   the task is killed or gets SIGINT, SIGTERM, SIGHUP, SIGQUIT or SIGSTOP.\n\
                   Every report of this run says that its results were altered.",
            example: ("delay 500ms", "then continue: another thread gets half a second before this close"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        time(one(self.about().usage, args)?, false).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let ns = time(one(self.about().usage, args)?, false)?;
        let what = if at.delay(ns)? { "its result will be told" } else { "the call will happen" };
        at.say(&format!("{what} {} later, and others go on meanwhile", span(ns)));
        Ok(Flow::Stay)
    }
}

pub(super) struct Keep;

impl Command for Keep {
    fn about(&self) -> &'static About {
        &About {
            names: &["keep"],
            usage: "keep",
            group: Group::WhatIf,
            summary: "let the descriptor live: the close will not happen",
            help: "The close at which the target stands will not happen, and the program is told that it did.\n\
         It shows whether this close was all that was wrong. The target goes on with continue.\n\
         Every report of this run says that its results were altered.",
            example: ("keep", "then continue, to see whether this close was all that was wrong"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        nothing(self.about().usage, args)
    }
    fn run(&self, _: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        at.keep()?;
        let fd = at.scene.at.fd.map(|f| format!("fd {f}")).unwrap_or_else(|| "the descriptor".to_string());
        at.say(&format!("{fd} will stay open, and the program will be told that it was closed"));
        Ok(Flow::Stay)
    }
}

pub(super) struct Signal;

fn signal(args: &[&str]) -> Result<Option<i32>, String> {
    let Some(word) = at_most_one(Signal.about().usage, args)? else { return Ok(None) };
    if let Ok(n) = word.parse::<i32>() {
        // signal(7): 1 to 64 with the real-time ones.
        return match n {
            1..=64 => Ok(Some(n)),
            _ => Err(format!("there is no signal {n}")),
        };
    }
    let upper = word.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    Sig::from_str(&name).map(|s| Some(s as i32)).map_err(|_| format!("\"{}\" is not a signal", shown(word)))
}

impl Command for Signal {
    fn about(&self) -> &'static About {
        &About {
            names: &["signal"],
            usage: "signal [SIG]",
            group: Group::Run,
            summary: "go on with the signal that was withheld, or with SIG",
            help: "After an interrupt the target has not been told of it. This goes on and tells every process that\n\
                   Ctrl-C was meant for, as the terminal would have; another SIG is for the process of this break.\n\
         SIG is a name or a number; continue goes on without a signal.",
            example: ("signal SIGINT", "the target gets the interrupt that opened the prompt"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        signal(args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        if at.scene.at.why != Why::Interrupted {
            return Err("no signal was withheld here: signal works after an interrupt".to_string());
        }
        Ok(Flow::Resume(Then::Signal(signal(args)?)))
    }
}

pub(super) struct Detach;

impl Command for Detach {
    fn about(&self) -> &'static About {
        &About {
            names: &["detach"],
            usage: "detach",
            group: Group::Leave,
            summary: "let the target go on without being watched",
            help: "Every task is let go. What they do from then on is not seen. Where fdwatch put a filter, it stays and lets\n\
                   everything pass, and its end by kill -9 is the target's; not for a target that was attached to, or\n\
                   started with --no-seccomp.",
            example: ("detach", "the target goes on, and fdwatch watches no more"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        nothing(self.about().usage, args)
    }
    fn run(&self, _: &[&str], _: &mut At<'_, '_>) -> Result<Flow, String> {
        Ok(Flow::Resume(Then::Detach))
    }
}

pub(super) struct Gdb;

impl Command for Gdb {
    fn about(&self) -> &'static About {
        &About {
            names: &["gdb"],
            usage: "gdb",
            group: Group::Leave,
            summary: "hand the stopped process over to gdb, and say how it is called there",
            help: "Every task is let go, the process of this break stopped: gdb -p finds it where it stands,\n\
                   and the call of this break is made when it goes on. Works for a target that was attached to, or started\n\
                   with --no-seccomp: with a filter of fdwatch's somebody must answer for it to the end.",
            example: ("gdb", "then gdb -p PID in another terminal"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        nothing(self.about().usage, args)
    }
    fn run(&self, _: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        if !at.scene.can_leave {
            return Err("its seccomp filter needs fdwatch to the end: start it with --no-seccomp".to_string());
        }
        let pid = at.scene.at.pid;
        if at.scene.world.process(pid).is_none_or(|p| p.tasks == 0) {
            return Err(format!("process {pid} has ended: there is nothing to hand over"));
        }
        at.say(&format!("process {pid} stands still until somebody continues it:"));
        at.say(&format!("  gdb -p {pid}, or kill -CONT {pid}"));
        Ok(Flow::Resume(Then::HandOver))
    }
}

pub(super) struct Kill;

impl Command for Kill {
    fn about(&self) -> &'static About {
        &About {
            names: &["kill"],
            usage: "kill",
            group: Group::Leave,
            summary: "kill all of the target",
            help: "Kills every process of the target, after asking.",
            example: ("kill", "ends every process of the target, after asking"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        nothing(self.about().usage, args)
    }
    fn run(&self, _: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let question = format!("Kill the target ({})?", tasks(at));
        kill(at, &question)
    }
}

pub(super) struct Quit;

impl Command for Quit {
    fn about(&self) -> &'static About {
        &About {
            names: &["quit", "q", "exit"],
            usage: "quit",
            group: Group::Leave,
            summary: "leave; a target that fdwatch started is killed",
            help: "Leaves fdwatch and kills the target, after asking. detach leaves and lets it live.\n\
         A target that was attached to is left running, as by detach.",
            example: ("quit", "asks, kills the target, and leaves"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        nothing(self.about().usage, args)
    }
    fn run(&self, _: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        if at.attached {
            return Ok(Flow::Resume(Then::Detach));
        }
        let question = format!("The target ({}) will be killed. Quit anyway?", tasks(at));
        kill(at, &question)
    }
}

fn kill(at: &mut At<'_, '_>, question: &str) -> Result<Flow, String> {
    Ok(if at.confirm(question)? { Flow::Resume(Then::Kill) } else { Flow::Stay })
}

fn tasks(at: &At<'_, '_>) -> String {
    match at.scene.world.tasks().count() {
        1 => "1 task".to_string(),
        n => format!("{n} tasks"),
    }
}

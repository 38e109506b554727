//! Commands that decide how the target goes on.

use super::super::{At, Flow, Then};
use super::{Command, at_most_one, nothing, number, shown};
use crate::policy::Why;
use nix::sys::signal::Signal as Sig;
use std::str::FromStr;

pub(super) struct Continue;

fn count(args: &[&str]) -> Result<u32, String> {
    let Some(word) = at_most_one(Continue.usage(), args)? else { return Ok(1) };
    match number("a count", word)? {
        0 => Err("a count begins at 1".to_string()),
        n => Ok(n),
    }
}

impl Command for Continue {
    fn names(&self) -> &'static [&'static str] {
        &["continue", "c"]
    }
    fn usage(&self) -> &'static str {
        "continue [N]"
    }
    fn summary(&self) -> &'static str {
        "go on to the next break, or to the Nth from here"
    }
    fn help(&self) -> &'static str {
        "The target goes on until the next break. With N the next N-1 breaks are passed over."
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
    fn names(&self) -> &'static [&'static str] {
        &["next", "n"]
    }
    fn usage(&self) -> &'static str {
        "next"
    }
    fn summary(&self) -> &'static str {
        "go on to the next event that concerns descriptors"
    }
    fn help(&self) -> &'static str {
        "The target goes on until any of its tasks opens, copies, closes or hands on a descriptor."
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        nothing(self.usage(), args)
    }
    fn run(&self, _: &[&str], _: &mut At<'_, '_>) -> Result<Flow, String> {
        Ok(Flow::Resume(Then::Next))
    }
}

pub(super) struct Keep;

impl Command for Keep {
    fn names(&self) -> &'static [&'static str] {
        &["keep"]
    }
    fn usage(&self) -> &'static str {
        "keep"
    }
    fn summary(&self) -> &'static str {
        "let the descriptor live: the close will not happen"
    }
    fn help(&self) -> &'static str {
        "The close at which the target stands will not happen, and the program is told that it did.\n\
         It shows whether this close was all that was wrong. The target goes on with continue.\n\
         Every report of this run says that its results were altered."
    }
    fn repeats(&self) -> bool {
        false
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        nothing(self.usage(), args)
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
    let Some(word) = at_most_one(Signal.usage(), args)? else { return Ok(None) };
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
    fn names(&self) -> &'static [&'static str] {
        &["signal"]
    }
    fn usage(&self) -> &'static str {
        "signal [SIG]"
    }
    fn summary(&self) -> &'static str {
        "go on with the signal that was withheld, or with SIG"
    }
    fn help(&self) -> &'static str {
        "After an interrupt the target has not been told of it. This goes on and tells it.\n\
         SIG is a name or a number; continue goes on without a signal."
    }
    fn repeats(&self) -> bool {
        false
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
    fn names(&self) -> &'static [&'static str] {
        &["detach"]
    }
    fn usage(&self) -> &'static str {
        "detach"
    }
    fn summary(&self) -> &'static str {
        "let the target go on without being watched"
    }
    fn help(&self) -> &'static str {
        "Every task is let go. What they do from then on is not seen."
    }
    fn repeats(&self) -> bool {
        false
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        nothing(self.usage(), args)
    }
    fn run(&self, _: &[&str], _: &mut At<'_, '_>) -> Result<Flow, String> {
        Ok(Flow::Resume(Then::Detach))
    }
}

pub(super) struct Kill;

impl Command for Kill {
    fn names(&self) -> &'static [&'static str] {
        &["kill"]
    }
    fn usage(&self) -> &'static str {
        "kill"
    }
    fn summary(&self) -> &'static str {
        "kill all of the target"
    }
    fn help(&self) -> &'static str {
        "Kills every process of the target, after asking."
    }
    fn repeats(&self) -> bool {
        false
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        nothing(self.usage(), args)
    }
    fn run(&self, _: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let question = format!("Kill the target ({})?", tasks(at));
        kill(at, &question)
    }
}

pub(super) struct Quit;

impl Command for Quit {
    fn names(&self) -> &'static [&'static str] {
        &["quit", "q", "exit"]
    }
    fn usage(&self) -> &'static str {
        "quit"
    }
    fn summary(&self) -> &'static str {
        "leave; a target that fdwatch started is killed"
    }
    fn help(&self) -> &'static str {
        "Leaves fdwatch and kills the target, after asking. detach leaves and lets it live.\n\
         A target that was attached to is left running, as by detach."
    }
    fn repeats(&self) -> bool {
        false
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        nothing(self.usage(), args)
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

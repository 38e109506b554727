//! The commands, one file a family. Adding one is a type with [`Command`] and a line in [`COMMANDS`].

mod catch;
mod copies;
mod go;
mod help;
mod holders;
mod info;
mod look;
mod manual;
mod rewind;
mod save;

use super::console::Offer;
use super::{At, Flow};
use crate::base::nearest;
use crate::base::text::escape;
use crate::policy::Policy;
pub(crate) use catch::block_of;
pub use manual::manual;

/// What a command is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Letting the target run.
    Run,
    /// Saying where to break.
    Break,
    /// Changing what happens.
    WhatIf,
    /// Looking at descriptors, processes and findings.
    Look,
    /// Looking at stacks and source.
    Stack,
    /// Ending it.
    Leave,
    /// Learning.
    Help,
}

/// Every group with its heading, in the order of `help`.
pub static GROUPS: &[(Group, &str)] = &[
    (Group::Run, "let it run"),
    (Group::Break, "say where to break"),
    (Group::WhatIf, "change what happens"),
    (Group::Look, "look at descriptors, processes and findings"),
    (Group::Stack, "look at stacks and source"),
    (Group::Leave, "leave"),
    (Group::Help, "learn"),
];

/// All that is to be said of a command: help, completion and docs/commands.md come from here.
#[derive(Debug)]
pub struct About {
    /// Its name, and other names. Only the first may be shortened.
    pub names: &'static [&'static str],
    /// How it is typed: `continue [N]`.
    pub usage: &'static str,
    /// What it is for.
    pub group: Group,
    /// One line for the list.
    pub summary: &'static str,
    /// What it does, in full.
    pub help: &'static str,
    /// A line that could be typed, and what that does.
    pub example: (&'static str, &'static str),
    /// Whether an empty line does it again.
    pub repeats: bool,
}

/// A command of the prompt.
pub trait Command: Sync {
    /// What is to be said of it.
    fn about(&self) -> &'static About;
    /// Whether all that follows its name is one argument, spaces and quotes included.
    fn takes_text(&self) -> bool {
        false
    }
    /// What may follow it.
    fn complete(&self, offer: &Offer) -> Vec<String> {
        let _ = offer;
        Vec::new()
    }
    /// Says what is wrong with its arguments, as far as that can be known before the target runs.
    fn check(&self, args: &[&str]) -> Result<(), String>;
    /// Does it before the target runs, for those that need no target; gives what is to be shown.
    fn prepare(&self, args: &[&str], policy: &mut Policy) -> Option<Result<String, String>> {
        let _ = (args, policy);
        None
    }
    /// Does it. The arguments have been checked.
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String>;
}

impl dyn Command {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.about().names.first().copied().unwrap_or_default()
    }

    /// How it is typed.
    pub fn usage(&self) -> &'static str {
        self.about().usage
    }
}

/// Every command, in the order of `help`.
pub static COMMANDS: &[&dyn Command] = &[
    &go::Continue,
    &go::Next,
    &go::Finish,
    &go::Signal,
    &rewind::Rewind,
    &catch::CATCH,
    &catch::TCATCH,
    &catch::Ignore,
    &catch::Commands,
    &catch::DISABLE,
    &catch::ENABLE,
    &catch::Delete,
    &go::Keep,
    &go::Fail,
    &go::Delay,
    &copies::Dup,
    &info::Info,
    &info::Descriptor,
    &info::History,
    &holders::Who,
    &holders::Tree,
    &holders::Peek,
    &holders::Thread,
    &holders::Proc,
    &look::Backtrace,
    &look::Frame,
    &look::Up,
    &look::Down,
    &look::List,
    &save::Save,
    &help::Explain,
    &help::Help,
    &go::Detach,
    &go::Gdb,
    &go::Kill,
    &go::Quit,
];

/// The command that `word` means: a name of one, or the beginning of the name of only one.
pub fn find(word: &str) -> Result<&'static dyn Command, String> {
    if let Some(c) = COMMANDS.iter().find(|c| c.about().names.contains(&word)) {
        return Ok(*c);
    }
    let name = |c: &&'static dyn Command| c.name();
    let chosen = choose("command", word, COMMANDS.iter().map(name))?;
    COMMANDS.iter().find(|c| name(c) == chosen).copied().ok_or_else(|| format!("unknown command \"{chosen}\""))
}

/// A command and its arguments.
pub(super) type Parsed<'l> = (&'static dyn Command, Vec<&'l str>);

/// The command of a line and its arguments; `None` for an empty line and a comment.
pub(super) fn parse(line: &str) -> Option<Result<Parsed<'_>, String>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with("# ") || line == "#" {
        return None;
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    Some(find(word).map(|command| {
        let rest = rest.trim();
        let args = match command.takes_text() {
            true if rest.is_empty() => Vec::new(),
            true => vec![rest],
            false => rest.split_whitespace().collect(),
        };
        (command, args)
    }))
}

/// The candidate that `word` is or begins; else one line that names those it may mean.
pub(super) fn choose<'c>(
    what: &str,
    word: &str,
    candidates: impl Iterator<Item = &'c str> + Clone,
) -> Result<&'c str, String> {
    if let Some(c) = candidates.clone().find(|c| *c == word) {
        return Ok(c);
    }
    let begun: Vec<&str> = candidates.clone().filter(|c| !word.is_empty() && c.starts_with(word)).collect();
    let shown = shown(word);
    match begun.as_slice() {
        [one] => Ok(one),
        [] => Err(match nearest(word, candidates) {
            Some(n) => format!("unknown {what} \"{shown}\"; did you mean {n}?"),
            None => format!("unknown {what} \"{shown}\"; try help"),
        }),
        many => Err(format!("ambiguous {what} \"{shown}\": {}", many.join(", "))),
    }
}

/// A word that was typed, safe to show and not too long.
pub(super) fn shown(word: &str) -> String {
    crate::render::style::keep_start(&escape(word.as_bytes()), 40)
}

/// No arguments, or an error.
pub(super) fn nothing(usage: &str, args: &[&str]) -> Result<(), String> {
    match args.first() {
        None => Ok(()),
        Some(a) => Err(format!("\"{}\" is one word too many; usage: {usage}", shown(a))),
    }
}

/// At most one argument.
pub(super) fn at_most_one<'s>(usage: &str, args: &[&'s str]) -> Result<Option<&'s str>, String> {
    nothing(usage, args.get(1..).unwrap_or_default())?;
    Ok(args.first().copied())
}

/// Exactly one argument.
pub(super) fn one<'s>(usage: &str, args: &[&'s str]) -> Result<&'s str, String> {
    at_most_one(usage, args)?.ok_or_else(|| format!("an argument is missing; usage: {usage}"))
}

/// A number, or an error that says what it should have been.
pub(super) fn number<T: std::str::FromStr>(what: &str, word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("\"{}\" is not {what}", shown(word)))
}

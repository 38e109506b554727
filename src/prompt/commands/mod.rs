//! The commands, one file a family. Adding one is a type with [`Command`] and a line in [`COMMANDS`].

mod go;
mod help;
mod info;
mod look;
mod rewind;

use super::console::Offer;
use super::{At, Flow};
use crate::base::nearest;
use crate::base::text::escape;

/// A command of the prompt.
pub trait Command: Sync {
    /// Its name, and other names. Only the first may be shortened.
    fn names(&self) -> &'static [&'static str];
    /// How it is typed: `continue [N]`.
    fn usage(&self) -> &'static str;
    /// One line for the list.
    fn summary(&self) -> &'static str;
    /// What it does, in full.
    fn help(&self) -> &'static str;
    /// Whether an empty line does it again.
    fn repeats(&self) -> bool {
        true
    }
    /// What may follow it.
    fn complete(&self, offer: &Offer) -> Vec<String> {
        let _ = offer;
        Vec::new()
    }
    /// Says what is wrong with its arguments, as far as that can be known before the target runs.
    fn check(&self, args: &[&str]) -> Result<(), String>;
    /// Does it. The arguments have been checked.
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String>;
}

/// Every command, in the order of `help`.
pub static COMMANDS: &[&dyn Command] = &[
    &go::Continue,
    &go::Next,
    &go::Keep,
    &go::Signal,
    &rewind::Rewind,
    &look::Backtrace,
    &look::Frame,
    &look::Up,
    &look::Down,
    &look::List,
    &info::Info,
    &info::Descriptor,
    &info::History,
    &help::Explain,
    &help::Help,
    &go::Detach,
    &go::Kill,
    &go::Quit,
];

/// The command that `word` means: a name of one, or the beginning of the name of only one.
pub fn find(word: &str) -> Result<&'static dyn Command, String> {
    if let Some(c) = COMMANDS.iter().find(|c| c.names().contains(&word)) {
        return Ok(*c);
    }
    let name = |c: &&'static dyn Command| c.names().first().copied().unwrap_or_default();
    let chosen = choose("command", word, COMMANDS.iter().map(name))?;
    COMMANDS.iter().find(|c| name(c) == chosen).copied().ok_or_else(|| format!("unknown command \"{chosen}\""))
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

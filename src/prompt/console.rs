//! Where lines come from and text goes to.

use super::{COMMANDS, Scene};
use crate::base::Tid;
use crate::finding::rules;
use crate::render::Style;
use std::io::{self, Write};

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A line; several when they were pasted together.
    Line(String),
    /// Ctrl-D, or the end of a file.
    End,
    /// Ctrl-C.
    Interrupted,
}

/// A place to talk to the user.
pub trait Console {
    /// Reads a line after showing `prompt`; `words` are what may be completed to.
    fn read(&mut self, prompt: &str, words: &Words) -> io::Result<Input>;
    /// Shows text that is safe to show. What cannot be shown is lost.
    fn write(&mut self, text: &str);
    /// `style` with the width that the place has now; a place without one leaves it as it is.
    fn fit(&self, style: Style) -> Style {
        style
    }
}

/// What words may be completed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Of each command its names and what may follow.
    commands: Vec<(&'static str, Vec<String>)>,
}

impl Words {
    /// What there is in this scene.
    pub(super) fn of(scene: &Scene<'_>, tid: Tid) -> Words {
        let table = scene.world.task(tid).and_then(|t| scene.world.table(t.table));
        let open: Vec<_> = table.into_iter().flat_map(|t| t.open()).collect();
        let mut named = Offer {
            fds: open.iter().map(|(fd, _)| fd.to_string()).collect(),
            objects: open.iter().filter_map(|(_, l)| scene.world.life(*l)).map(|l| l.file.to_string()).collect(),
            findings: rules().iter().map(|r| r.about().name.to_string()).collect(),
        };
        named.objects.sort();
        named.objects.dedup();
        let of = |c: &&'static dyn super::Command| (c.name(), c.complete(&named));
        Words { commands: COMMANDS.iter().map(of).collect() }
    }

    /// Where the word at the end of `line` begins, and what it may become.
    pub fn complete(&self, line: &str) -> (usize, Vec<String>) {
        let start = line
            .rfind(char::is_whitespace)
            .map_or(0, |i| i + line.get(i..).and_then(|r| r.chars().next()).map_or(1, char::len_utf8));
        let (before, word) = (line.get(..start).unwrap_or_default(), line.get(start..).unwrap_or_default());
        let all: Vec<String> = match before.split_whitespace().next() {
            None => self.commands.iter().map(|c| c.0.to_string()).collect(),
            Some(command) => {
                let name = super::commands::find(command).ok().map(|c| c.name());
                self.commands.iter().find(|c| Some(c.0) == name).map(|c| c.1.clone()).unwrap_or_default()
            }
        };
        (start, all.into_iter().filter(|w| w.starts_with(word)).collect())
    }
}

/// What commands can offer for completion.
pub struct Offer {
    /// The open numbers.
    pub fds: Vec<String>,
    /// Their objects.
    pub objects: Vec<String>,
    /// The names of findings.
    pub findings: Vec<String>,
}

/// Text to stderr, and nobody to ask.
pub struct Stderr;

impl Console for Stderr {
    fn read(&mut self, _: &str, _: &Words) -> io::Result<Input> {
        Ok(Input::End)
    }

    fn write(&mut self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

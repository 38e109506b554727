//! The prompt: commands in, a decision out.
//!
//! It sees the same model and findings as a report, and knows nothing of ptrace: what is to be done to the target is
//! returned as a [`Decision`], and the caller does it.

pub mod commands;
mod console;
mod tty;

#[cfg(test)]
mod tests;

pub use commands::{COMMANDS, Command};
pub use console::{Console, Input, Stderr, Words};
pub use tty::Terminal;

use crate::base::Tid;
use crate::base::text::escape;
use crate::finding::Finding;
use crate::model::World;
use crate::policy::{Break, Why};
use crate::render::backtrace::{Trace, trace};
use crate::render::banner::banner;
use crate::render::style::Ink;
use crate::render::why::of_break;
use crate::render::{Names, Sources, Style};
use std::collections::VecDeque;

/// What there is to see at a break.
pub struct Scene<'a> {
    /// The model, before the call at which the target stands if that has not been made.
    pub world: &'a World,
    /// What was found so far.
    pub findings: &'a [Finding],
    /// Names of stacks.
    pub names: &'a mut dyn Names,
    /// Source lines.
    pub sources: &'a mut dyn Sources,
    /// The break.
    pub at: &'a Break,
    /// The tasks that stand still: (tid, name, state), as the target and the kernel call them.
    pub tids: &'a [(Tid, String, String)],
    /// How text is to look.
    pub style: Style,
}

/// How the target goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Until the next break.
    Continue {
        /// How many breaks are passed over before the next is shown.
        ignore: u32,
    },
    /// Until the next event that concerns descriptors.
    Next,
    /// Until the next break, with a signal: the one that was withheld, or this.
    Signal(Option<i32>),
    /// Not at all: all of it is killed.
    Kill,
    /// Without being watched.
    Detach,
    /// Not at all: it is killed and started again, to stop at the end that the nth finding (from 0) blames.
    Rewind(usize),
}

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The close does not happen, and the program is told that it did.
    pub keep: bool,
    /// How the target goes on.
    pub then: Then,
}

/// A command from the command line or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptLine {
    /// The command.
    pub text: String,
    /// Where it stands: `-ex 1`, or `FILE:LINE`.
    pub from: String,
}

/// Why a prompt could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The terminal failed.
    #[error("the terminal: {0}")]
    Terminal(#[from] std::io::Error),
}

/// The prompt, over all breaks of a run.
pub struct Prompt {
    script: VecDeque<ScriptLine>,
    /// Lines that were typed together with others.
    pending: VecDeque<String>,
    interactive: bool,
    attached: bool,
    style: Style,
    last: Option<String>,
}

/// What commands see and change.
pub struct At<'s, 'a> {
    /// The scene.
    pub scene: &'s mut Scene<'a>,
    console: &'s mut dyn Console,
    interactive: bool,
    attached: bool,
    keep: bool,
    trace: Option<Trace>,
    frame: Option<usize>,
    /// The file that `list` showed last, and its first line not shown.
    listed: Option<(String, u32)>,
}

/// What happens after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next command.
    Stay,
    /// The target goes on.
    Resume(Then),
}

/// Says what is wrong with a script, before the target starts: one line with the place and the nearest that is right.
pub fn check_script(lines: &[ScriptLine]) -> Result<(), String> {
    for line in lines {
        let Some((word, args)) = words(&line.text) else { continue };
        let checked = commands::find(word).and_then(|c| c.check(&args));
        checked.map_err(|e| format!("{}: {e}", escape(line.from.as_bytes())))?;
    }
    Ok(())
}

/// The words of a command line; `None` for an empty line and a comment.
fn words(line: &str) -> Option<(&str, Vec<&str>)> {
    let line = line.trim();
    if line.starts_with("# ") || line == "#" {
        return None;
    }
    let mut words = line.split_whitespace();
    Some((words.next()?, words.collect()))
}

impl Prompt {
    /// A prompt that first runs `script`. Without `interactive`, the target goes on by itself when that is used up.
    pub fn new(script: Vec<ScriptLine>, interactive: bool, style: Style) -> Prompt {
        Prompt { script: script.into(), pending: VecDeque::new(), interactive, attached: false, style, last: None }
    }

    /// The same for a target that was running before: whoever quits leaves it running.
    pub fn attached(self) -> Prompt {
        Prompt { attached: true, ..self }
    }

    /// Whether breaks are of any use: there is a user, or a script that is not used up.
    pub fn is_live(&self) -> bool {
        self.interactive || !self.script.is_empty()
    }

    /// Shows the break and runs commands until one decides.
    ///
    /// The terminal is taken from the target meanwhile. Without one, output goes to stderr and nobody is asked.
    pub fn ask(&mut self, scene: &mut Scene<'_>, terminal: Option<&mut Terminal>) -> Result<Decision, PromptError> {
        match terminal {
            Some(t) => {
                t.take()?;
                self.style = self.style.with_width(t.columns());
                let decision = self.run(scene, t);
                t.give_back()?;
                decision
            }
            None => {
                let interactive = std::mem::replace(&mut self.interactive, false);
                let decision = self.run(scene, &mut Stderr);
                self.interactive = interactive;
                decision
            }
        }
    }

    /// As [`Prompt::ask`], on any console.
    pub fn run(&mut self, scene: &mut Scene<'_>, console: &mut dyn Console) -> Result<Decision, PromptError> {
        let go = Decision { keep: false, then: Then::Continue { ignore: 0 } };
        if !self.is_live() {
            return Ok(go);
        }
        scene.style = self.style;
        let text = banner(scene.at, scene.world, scene.tids, scene.names, scene.sources, scene.style);
        if self.interactive && scene.at.why == Why::Interrupted {
            // Behind the ^C that the terminal shows.
            console.write("\n");
        }
        console.write(&text);
        let (interactive, attached) = (self.interactive, self.attached);
        let mut at = At { scene, console, interactive, attached, keep: false, trace: None, frame: None, listed: None };
        loop {
            let line = match self.line(&mut at)? {
                Some(line) => line,
                None => return Ok(Decision { keep: at.keep, ..go }),
            };
            match at.command(&line) {
                Ok(Flow::Stay) => {}
                Ok(Flow::Resume(then)) => {
                    if matches!(then, Then::Continue { .. } | Then::Next | Then::Signal(_)) && interactive {
                        at.say("[continuing]");
                    }
                    if matches!(then, Then::Rewind(_)) {
                        at.say("[starting again]");
                    }
                    if then == Then::Detach && interactive {
                        at.say("[detached]");
                    }
                    return Ok(Decision { keep: at.keep, then });
                }
                Err(e) => at.complain(&e),
            }
        }
    }

    /// The next command; `None` when there is none and nobody to ask.
    fn line(&mut self, at: &mut At<'_, '_>) -> Result<Option<String>, PromptError> {
        loop {
            if let Some(line) = self.script.pop_front() {
                if words(&line.text).is_some() {
                    at.echo(&line.text);
                    return Ok(Some(line.text));
                }
                continue;
            }
            if !self.interactive {
                return Ok(None);
            }
            if let Some(line) = self.pending.pop_front() {
                if words(&line).is_some() {
                    at.echo(&line);
                    self.remember(&line);
                    return Ok(Some(line));
                }
                continue;
            }
            let offered = Words::of(at.scene);
            match at.console.read(PROMPT, &offered)? {
                Input::End => return Ok(Some("quit".to_string())),
                Input::Interrupted => continue,
                // A paste comes as one input of several lines: each is a command, also those behind one that resumes.
                Input::Line(text) => {
                    let mut lines = text.split(['\n', '\r']);
                    let first = lines.next().unwrap_or_default().to_string();
                    self.pending.extend(lines.filter(|l| !l.trim().is_empty()).map(str::to_string));
                    if words(&first).is_some() {
                        self.remember(&first);
                        return Ok(Some(first));
                    }
                    if let (true, Some(last)) = (first.trim().is_empty(), &self.last) {
                        return Ok(Some(last.clone()));
                    }
                }
            }
        }
    }

    fn remember(&mut self, line: &str) {
        let command = words(line).and_then(|(word, _)| commands::find(word).ok());
        // A slip of the finger is not repeated, and neither is what must not happen twice by mistake.
        self.last = command.is_some_and(|c| c.repeats()).then(|| line.to_string());
    }
}

/// What stands before the cursor.
const PROMPT: &str = "(fdwatch) ";

impl At<'_, '_> {
    fn command(&mut self, line: &str) -> Result<Flow, String> {
        let Some((word, args)) = words(line) else { return Ok(Flow::Stay) };
        let command = commands::find(word)?;
        command.check(&args)?;
        command.run(&args, self)
    }

    /// Shows text that has its line ends.
    pub fn show(&mut self, text: &str) {
        self.console.write(text);
    }

    /// Shows a line.
    pub fn say(&mut self, line: &str) {
        self.console.write(&format!("{line}\n"));
    }

    fn echo(&mut self, line: &str) {
        self.console.write(&format!("{PROMPT}{}\n", escape(line.as_bytes())));
    }

    fn complain(&mut self, error: &str) {
        let text = self.scene.style.paint(Ink::Error, error);
        self.say(&text);
    }

    /// Asks a question that has an answer of yes or no; a script means what it says.
    pub fn confirm(&mut self, question: &str) -> Result<bool, String> {
        if !self.interactive {
            return Ok(true);
        }
        loop {
            let none = Words::default();
            match self.console.read(&format!("{question} (y or n) "), &none).map_err(|e| e.to_string())? {
                Input::End => {
                    self.say("[assumed y]");
                    return Ok(true);
                }
                Input::Interrupted => return Ok(false),
                Input::Line(l) => match l.trim().to_ascii_lowercase().as_str() {
                    "y" | "yes" => return Ok(true),
                    "n" | "no" => return Ok(false),
                    _ => self.say("Please answer y or n."),
                },
            }
        }
    }

    /// Asks whether what the target did may happen again. A script must have said so.
    fn confirm_again(&mut self, question: &str) -> Result<bool, String> {
        if !self.interactive {
            return Err("a script says `rewind --yes`: what the command did before happens again".to_string());
        }
        let none = Words::default();
        let answer = self.console.read(&format!("{question} (y or n) "), &none).map_err(|e| e.to_string())?;
        // Nobody who is gone has agreed.
        Ok(matches!(answer, Input::Line(l) if matches!(l.trim().to_ascii_lowercase().as_str(), "y" | "yes")))
    }

    /// Marks the close as one that does not happen.
    fn keep(&mut self) -> Result<(), String> {
        if !self.scene.at.can_keep {
            return Err(match self.scene.at.why {
                Why::Interrupted => "the target is not at a call that could be kept from happening".to_string(),
                _ => "this call has been made already: it cannot be kept from happening".to_string(),
            });
        }
        self.keep = true;
        Ok(())
    }

    /// The stack at the break.
    fn trace(&mut self) -> &Trace {
        if self.trace.is_none() {
            let scene = &mut *self.scene;
            let at = scene.at;
            let site = at.call.as_ref().map(|c| c.site.clone()).unwrap_or_default();
            let why = of_break(scene.names, at);
            let mut trace = trace(scene.names, &site, why);
            trace.source = trace.own_source().and_then(|(file, n)| scene.sources.line(file, n));
            self.trace = Some(trace);
        }
        self.trace.get_or_insert_default()
    }

    /// The number of the frame that is looked at.
    fn frame(&mut self) -> usize {
        match self.frame {
            Some(n) => n,
            None => {
                let own = self.trace().own();
                *self.frame.insert(own)
            }
        }
    }
}

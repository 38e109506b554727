//! The prompt: commands in, a decision out.
//!
//! It sees the same model and findings as a report, and knows nothing of ptrace: what is to be done to the target is
//! returned as a [`Decision`], and the caller does it.

pub mod commands;
mod console;
mod transcript;
mod tty;

#[cfg(test)]
mod tests;

pub use commands::{COMMANDS, Command, manual};
pub use console::{Console, Input, Stderr, Words};
pub use transcript::Transcript;
pub use tty::Terminal;

use crate::base::text::escape;
use crate::base::{Pid, Tid};
use crate::finding::Finding;
use crate::model::{What, World};
use crate::policy::{Break, Policy, Why};
use crate::render::backtrace::{Trace, trace};
use crate::render::banner::banner;
use crate::render::style::{Ink, wrap};
use crate::render::why::of_break;
use crate::render::{Live, Names, Sources, Style};
use std::collections::VecDeque;
use std::path::PathBuf;

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
    /// What breaks; commands change it.
    pub policy: &'a mut Policy,
    /// What only the kernel knows.
    pub live: &'a mut dyn Live,
    /// Whether the target can be left for good, so that somebody else can trace it.
    pub can_leave: bool,
    /// How text is to look.
    pub style: Style,
}

/// What has been found at a call's entry is told as if it had been made.
const TOLD: &str = "what this call does is told already, in the finding: catch it before, with catch close";

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
    /// Until the call at which the break was has returned.
    Finish,
    /// Not yet: a report of all so far is wanted, and then the prompt again.
    Report,
    /// Until the next break, with a signal: the one that was withheld, or this.
    Signal(Option<i32>),
    /// Not at all: all of it is killed.
    Kill,
    /// Without being watched.
    Detach,
    /// Not at all: it is killed and started again, to stop at the end that the nth finding (from 0) blames.
    Rewind(usize),
    /// Without being watched, and stopped, so that another debugger can take it over.
    HandOver,
}

impl Default for Then {
    fn default() -> Then {
        Then::Continue { ignore: 0 }
    }
}

/// What the user wants; by default that the target goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Decision {
    /// The close does not happen, and the program is told that it did.
    pub keep: bool,
    /// The call does not happen, and the program is told this error (errno(3)).
    pub fail: Option<i32>,
    /// The task at the break goes on so many nanoseconds later.
    pub delay: Option<u64>,
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
    /// Ctrl-C came while lines were collected.
    given_up: bool,
    /// What the break that was hit wants done.
    at_hit: VecDeque<ScriptLine>,
    /// Breaks were set that are worth stopping for without a user.
    standing: bool,
    /// What was decided at this break before a report was asked for, and the line that asked for it.
    resumed: Option<(Decision, (String, Origin))>,
    report_to: Option<PathBuf>,
    /// What became of that report.
    reported: Option<Result<String, String>>,
    transcript: Option<Transcript>,
    /// What went wrong in a script.
    failure: Option<String>,
}

/// Where a line comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// Somebody typed it.
    Typed,
    /// It stands in a script, here.
    Script(String),
    /// It is one of the commands of a break, named here.
    Break(String),
}

/// What commands see and change.
pub struct At<'s, 'a> {
    /// The scene.
    pub scene: &'s mut Scene<'a>,
    console: &'s mut dyn Console,
    interactive: bool,
    attached: bool,
    /// The task that is looked at, and its process.
    tid: Tid,
    pid: Pid,
    keep: bool,
    delay: Option<u64>,
    fail: Option<i32>,
    /// Of the last command: a question was answered with no.
    declined: bool,
    /// The same: what a script has to agree to beforehand was agreed to.
    agreed: bool,
    report_to: Option<PathBuf>,
    transcript: &'s mut Option<Transcript>,
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
    /// Lines follow, up to `end`, which are the commands of this break.
    Collect(u32),
    /// The target goes on.
    Resume(Then),
}

/// Says what is wrong with a script, before the target starts: one line with the place and the nearest that is right.
pub fn check_script(lines: &[ScriptLine]) -> Result<(), String> {
    let mut block: Option<&ScriptLine> = None;
    for line in lines {
        let at = |e: String| format!("{}: {e}", escape(line.from.as_bytes()));
        if block.is_some() && is_end(&line.text) {
            block = None;
            continue;
        }
        if check(&line.text, block.is_some()).map_err(at)? {
            block = Some(line);
        }
    }
    match block {
        Some(line) => Err(format!("{}: these commands have no end", escape(line.from.as_bytes()))),
        None => Ok(()),
    }
}

/// Checks a line; says whether a block begins with it.
fn check(line: &str, in_block: bool) -> Result<bool, String> {
    let Some(parsed) = commands::parse(line) else { return Ok(false) };
    let (command, args) = parsed?;
    command.check(&args)?;
    let begins = command.name() == "commands";
    if begins && in_block {
        return Err("commands cannot stand among commands".to_string());
    }
    Ok(begins)
}

fn is_end(line: &str) -> bool {
    line.trim() == "end"
}

/// A line that begins a block of commands, and all of the block.
fn with_block(line: &str, block: &[String]) -> Vec<String> {
    [line].into_iter().chain(block.iter().map(String::as_str)).chain(["end"]).map(str::to_string).collect()
}

impl Prompt {
    /// A prompt that first runs `script`. Without `interactive`, the target goes on by itself when that is used up.
    pub fn new(script: Vec<ScriptLine>, interactive: bool, style: Style) -> Prompt {
        Prompt {
            script: script.into(),
            pending: VecDeque::new(),
            interactive,
            attached: false,
            style,
            last: None,
            given_up: false,
            at_hit: VecDeque::new(),
            standing: false,
            resumed: None,
            report_to: None,
            reported: None,
            transcript: None,
            failure: None,
        }
    }

    /// The same for a target that was running before: whoever quits leaves it running.
    pub fn attached(self) -> Prompt {
        Prompt { attached: true, ..self }
    }

    /// The same, writing down what is done.
    pub fn with_transcript(self, transcript: Option<Transcript>) -> Prompt {
        Prompt { transcript, ..self }
    }

    /// Whether breaks are of any use: there is a user, or a script that is not used up, or something to be caught.
    pub fn is_live(&self) -> bool {
        self.interactive || self.standing || !self.script.is_empty()
    }

    /// What went wrong in a script, with the place; the target was ended because of it where there is no user.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The file that a report is wanted in, which [`Then::Report`] has told.
    pub fn report_to(&mut self) -> Option<PathBuf> {
        self.report_to.take()
    }

    /// What became of it, a sentence; shown when the same break is asked about again.
    pub fn reported(&mut self, done: Result<String, String>) {
        self.reported = Some(done);
    }

    /// Does what stands first in the script and needs no target: what is to be caught is so from the start. Gives what
    /// is to be shown.
    ///
    /// # Errors
    /// With the place: what cannot be done.
    pub fn prepare(&mut self, policy: &mut Policy) -> Result<String, String> {
        let mut out = String::new();
        while let Some(line) = self.script.front().cloned() {
            let at = |e: String| format!("{}: {e}", escape(line.from.as_bytes()));
            let Some(parsed) = commands::parse(&line.text) else {
                self.script.pop_front();
                continue;
            };
            let (command, args) = parsed.map_err(at)?;
            let done = match command.name() {
                "commands" => {
                    let number = commands::block_of(&args, policy).map_err(at)?;
                    self.script.pop_front();
                    let mut block = Vec::new();
                    while let Some(next) = self.script.pop_front().filter(|l| !is_end(&l.text)) {
                        block.extend(commands::parse(&next.text).is_some().then_some(next.text));
                    }
                    self.log(&with_block(&line.text, &block));
                    policy.catches.get(number).map_err(at)?.commands = block;
                    continue;
                }
                _ => command.prepare(&args, policy),
            };
            let Some(done) = done else { break };
            self.script.pop_front();
            let text = done.map_err(at)?;
            self.log(std::slice::from_ref(&line.text));
            if let Some(t) = &mut self.transcript {
                t.output(&text);
            }
            out += &text;
        }
        self.standing = !policy.catches.is_empty();
        Ok(out)
    }

    fn log(&mut self, lines: &[String]) {
        if let Some(t) = &mut self.transcript {
            t.command(lines);
        }
    }

    /// Shows the break and runs commands until one decides.
    ///
    /// The terminal is taken from the target meanwhile. Without one, output goes to stderr and nobody is asked.
    pub fn ask(&mut self, scene: &mut Scene<'_>, terminal: Option<&mut Terminal>) -> Result<Decision, PromptError> {
        match terminal {
            Some(t) => {
                t.take()?;
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
        let before = self.resumed.take();
        // What was asked for by the last line of a script is still shown.
        let asked_for = matches!(scene.at.why, Why::Rehearsed(_) | Why::Finished | Why::Stepped);
        if before.is_none() && !asked_for && !self.is_live() {
            return Ok(Decision::default());
        }
        scene.style = console.fit(self.style);
        let (interactive, attached) = (self.interactive, self.attached);
        let mut transcript = self.transcript.take();
        let (tid, pid) = (scene.at.tid, scene.at.pid);
        let Decision { keep, fail, delay, .. } = before.as_ref().map(|b| b.0).unwrap_or_default();
        let mut at = At {
            scene,
            console,
            interactive,
            attached,
            tid,
            pid,
            keep,
            delay,
            fail,
            declined: false,
            agreed: false,
            report_to: None,
            transcript: &mut transcript,
            trace: None,
            frame: None,
            listed: None,
        };
        let done = match before {
            None => {
                self.announce(&mut at);
                self.commands(&mut at)
            }
            Some((_, asked)) => match self.tell_report(&mut at, &asked) {
                Some(decision) => Ok(decision),
                None => self.commands(&mut at),
            },
        };
        self.report_to = at.report_to.take();
        self.standing = !at.scene.policy.catches.is_empty();
        self.transcript = transcript;
        done
    }

    /// Says what became of the report that a line asked for. A decision, if that was an error that ends all.
    fn tell_report(&mut self, at: &mut At<'_, '_>, asked: &(String, Origin)) -> Option<Decision> {
        let (line, origin) = (&asked.0, &asked.1);
        match self.reported.take() {
            Some(Err(e)) => return self.mishap(at, &e, (line, origin)),
            Some(Ok(told)) => at.say(&told),
            None => {}
        }
        at.done(line, &[], origin);
        None
    }

    /// Shows the break, and takes up what is to be done at it.
    fn announce(&mut self, at: &mut At<'_, '_>) {
        let s = &mut *at.scene;
        let text = banner(s.at, s.world, s.tids, s.names, s.sources, s.style);
        if at.interactive && s.at.why == Why::Interrupted {
            // Behind the ^C that the terminal shows.
            at.console.write("\n");
        }
        at.show(&text);
        self.at_hit.clear();
        if let Why::Caught { by, .. } = &at.scene.at.why {
            for c in by {
                let from = format!("the commands of break {}", c.number);
                self.at_hit.extend(c.commands.iter().map(|text| ScriptLine { text: text.clone(), from: from.clone() }));
            }
        }
    }

    /// Runs commands until one decides.
    fn commands(&mut self, at: &mut At<'_, '_>) -> Result<Decision, PromptError> {
        loop {
            let Some((line, origin)) = self.next_line(at, PROMPT)? else {
                return Ok(Decision { keep: at.keep, fail: at.fail, delay: at.delay, then: Then::default() });
            };
            if let Some(t) = at.transcript {
                t.begin();
            }
            at.declined = false;
            at.agreed = false;
            // The terminal may have got another width since the last line.
            at.scene.style = at.console.fit(at.scene.style);
            let e = match at.command(&line) {
                Ok(Flow::Stay) => {
                    at.done(&line, &[], &origin);
                    continue;
                }
                Ok(Flow::Collect(number)) => match self.collect(at, number)? {
                    Ok(block) => {
                        at.done(&line, &block, &origin);
                        continue;
                    }
                    Err(e) => e,
                },
                Ok(Flow::Resume(then)) => {
                    let goes_on = matches!(then, Then::Continue { .. } | Then::Next | Then::Finish | Then::Signal(_));
                    if goes_on && at.interactive {
                        at.say("[continuing]");
                    }
                    if matches!(then, Then::Rewind(_)) {
                        at.say("[starting again]");
                    }
                    if matches!(then, Then::Detach | Then::HandOver) && at.interactive {
                        at.say("[detached]");
                    }
                    let decision = Decision { keep: at.keep, fail: at.fail, delay: at.delay, then };
                    match then {
                        Then::Report => self.resumed = Some((decision, (line, origin))),
                        _ => at.done(&line, &[], &origin),
                    }
                    return Ok(decision);
                }
                Err(e) => e,
            };
            if let Some(decision) = self.mishap(at, &e, (&line, &origin)) {
                return Ok(decision);
            }
        }
    }

    /// Says what went wrong with a line. A decision, where that ends all.
    fn mishap(&mut self, at: &mut At<'_, '_>, e: &str, (line, origin): (&str, &Origin)) -> Option<Decision> {
        let e = match origin {
            Origin::Typed => e.to_string(),
            Origin::Script(from) | Origin::Break(from) => format!("{}: {e}", escape(from.as_bytes())),
        };
        at.complain(&e);
        at.not_done(line);
        if *origin == Origin::Typed {
            return None;
        }
        // The rest of a script means nothing when a part of it was not done.
        self.script.clear();
        self.at_hit.clear();
        if self.interactive {
            return None;
        }
        self.failure = Some(e);
        Some(Decision { keep: at.keep, fail: at.fail, delay: at.delay, then: self.end_of_all() })
    }

    /// How a target goes on after which nobody looks.
    fn end_of_all(&self) -> Then {
        if self.attached { Then::Detach } else { Then::Kill }
    }

    /// Lines up to `end`, which become the commands of a break and are given back.
    fn collect(&mut self, at: &mut At<'_, '_>, number: u32) -> Result<Result<Vec<String>, String>, PromptError> {
        let mut block = Vec::new();
        if self.interactive && self.script.is_empty() && self.pending.is_empty() {
            at.say(&format!("the commands of break {number}, a line each; end ends them"));
        }
        loop {
            let line = match self.next_line(at, BLOCK_PROMPT)? {
                None if std::mem::take(&mut self.given_up) => {
                    return Ok(Err(format!("given up: the commands of break {number} are what they were")));
                }
                None => break,
                Some((line, _)) => line,
            };
            if is_end(&line) {
                break;
            }
            match check(&line, true) {
                Ok(_) => block.push(line),
                Err(e) => at.complain(&e),
            }
        }
        block.retain(|l| commands::parse(l).is_some());
        let set = at.scene.policy.catches.get(number).map(|c| c.commands.clone_from(&block));
        Ok(set.map(|()| block))
    }

    /// The next command, and where it comes from; `None` when there is none and nobody to ask.
    fn next_line(&mut self, at: &mut At<'_, '_>, prompt: &str) -> Result<Option<(String, Origin)>, PromptError> {
        loop {
            let hit = self.at_hit.pop_front().map(|l| (l.text, Origin::Break(l.from)));
            if let Some((text, origin)) =
                hit.or_else(|| self.script.pop_front().map(|l| (l.text, Origin::Script(l.from))))
            {
                if commands::parse(&text).is_some() {
                    at.echo(prompt, &text);
                    return Ok(Some((text, origin)));
                }
                continue;
            }
            if !self.interactive {
                return Ok(None);
            }
            if let Some(line) = self.pending.pop_front() {
                if commands::parse(&line).is_some() {
                    at.echo(prompt, &line);
                    self.remember(&line);
                    return Ok(Some((line, Origin::Typed)));
                }
                continue;
            }
            let offered = Words::of(at.scene, at.tid);
            match at.console.read(prompt, &offered)? {
                Input::End if prompt != PROMPT => return Ok(None),
                Input::End => return Ok(Some(("quit".to_string(), Origin::Typed))),
                // What is being collected is given up.
                Input::Interrupted if prompt != PROMPT => {
                    self.given_up = true;
                    return Ok(None);
                }
                Input::Interrupted => continue,
                // A paste comes as one input of several lines: each is a command, also those behind one that resumes.
                Input::Line(text) => {
                    let mut lines = text.split(['\n', '\r']);
                    let first = lines.next().unwrap_or_default().to_string();
                    self.pending.extend(lines.filter(|l| !l.trim().is_empty()).map(str::to_string));
                    if commands::parse(&first).is_some() {
                        self.remember(&first);
                        return Ok(Some((first, Origin::Typed)));
                    }
                    if let (true, Some(last), PROMPT) = (first.trim().is_empty(), &self.last, prompt) {
                        return Ok(Some((last.clone(), Origin::Typed)));
                    }
                }
            }
        }
    }

    fn remember(&mut self, line: &str) {
        let command = commands::parse(line).and_then(Result::ok).map(|(command, _)| command);
        // A slip of the finger is not repeated, and neither is what must not happen twice by mistake.
        self.last = command.is_some_and(|c| c.about().repeats).then(|| line.to_string());
    }
}

/// What stands before the cursor.
const PROMPT: &str = "(fdwatch) ";
/// The same where lines are collected.
const BLOCK_PROMPT: &str = "> ";

impl At<'_, '_> {
    fn command(&mut self, line: &str) -> Result<Flow, String> {
        let Some(parsed) = commands::parse(line) else { return Ok(Flow::Stay) };
        let (command, args) = parsed?;
        command.check(&args)?;
        command.run(&args, self)
    }

    /// Shows text that has its line ends.
    pub fn show(&mut self, text: &str) {
        self.console.write(text);
        if let Some(t) = self.transcript {
            t.output(text);
        }
    }

    /// Shows a line, broken between words where a user has less room.
    pub fn say(&mut self, line: &str) {
        let line = self.folded(line);
        self.show(&format!("{line}\n"));
    }

    fn folded(&self, line: &str) -> String {
        match self.interactive {
            true => {
                let width = self.scene.style.width;
                line.split('\n').map(|line| wrap(line, 0, 2, width)).collect::<Vec<_>>().join("\n")
            }
            false => line.to_string(),
        }
    }

    fn echo(&mut self, prompt: &str, line: &str) {
        self.console.write(&format!("{prompt}{}\n", escape(line.as_bytes())));
    }

    /// Whether the call at which the target stands will not be made.
    fn is_altered(&self) -> bool {
        self.keep || self.fail.is_some()
    }

    /// A line was done; writes down what does it again. `block` are the lines that followed it.
    fn done(&mut self, line: &str, block: &[String], origin: &Origin) {
        // What the commands of a break did they do again by themselves.
        if self.declined || matches!(origin, Origin::Break(_)) {
            return self.not_done(line);
        }
        let is_block = commands::parse(line).and_then(Result::ok).is_some_and(|(c, _)| c.name() == "commands");
        let lines = match line {
            _ if is_block => with_block(line, block),
            _ if self.agreed => vec![format!("{line} --yes")],
            _ => vec![line.to_string()],
        };
        if let Some(t) = self.transcript {
            t.command(&lines);
        }
    }

    /// A line was not done, or is not to be done again.
    fn not_done(&mut self, line: &str) {
        if let Some(t) = self.transcript {
            t.comment(line);
        }
    }

    /// Marks the call as one that does not happen and fails.
    fn fail(&mut self, errno: i32) -> Result<(), String> {
        match self.scene.at.call.as_ref().map(|c| c.info.ret) {
            Some(None) if self.scene.at.finding.is_some() => Err(self.told()),
            Some(None) => {
                (self.fail, self.keep) = (Some(errno), false);
                Ok(())
            }
            Some(Some(_)) => Err("this call has been made already: fail works before one ends a descriptor; others fail by --inject CALL:error=ERRNO"
                .to_string()),
            None => Err("the target is not at a call that could be made to fail".to_string()),
        }
    }

    /// Lets the call at which the target stands, or its result, wait.
    fn delay(&mut self, ns: u64) -> Result<bool, String> {
        let Some(call) = &self.scene.at.call else {
            return Err("the target is not at a call that could be delayed".to_string());
        };
        if call.info.ret.is_none() && self.scene.at.finding.is_some() {
            return Err(self.told());
        }
        self.delay = Some(ns);
        Ok(call.info.ret.is_some())
    }

    fn complain(&mut self, error: &str) {
        let text = self.scene.style.paint(Ink::Error, &self.folded(error));
        self.show(&format!("{text}\n"));
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
                Input::Interrupted => {
                    self.declined = true;
                    return Ok(false);
                }
                Input::Line(l) => match l.trim().to_ascii_lowercase().as_str() {
                    "y" | "yes" => return Ok(true),
                    "n" | "no" => {
                        self.declined = true;
                        return Ok(false);
                    }
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
        let yes = |l: &str| matches!(l.trim().to_ascii_lowercase().as_str(), "y" | "yes");
        self.agreed = matches!(answer, Input::Line(l) if yes(&l));
        self.declined = !self.agreed;
        Ok(self.agreed)
    }

    /// Why nothing can be done about a finding where the target is at the entry of a call: of this call, or, where the task
    /// is about to end, of the one before.
    fn told(&self) -> String {
        let at = self.scene.at;
        let here = at.call.as_ref().map(|c| c.info.name);
        match at.finding.as_ref().and_then(|f| f.steps.last()).map(|s| s.moment.what) {
            Some(What::Call(info)) if here != Some(info.name) => {
                let kind = if info.name == "close" { "close" } else { "finding" };
                format!("the {} has been made already: catch it before, with catch {kind}", info.name)
            }
            _ => TOLD.to_string(),
        }
    }

    /// Marks the close as one that does not happen.
    fn keep(&mut self) -> Result<(), String> {
        if !self.scene.at.can_keep {
            return Err(match self.scene.at.why {
                Why::Interrupted => "the target is not at a call that could be kept from happening".to_string(),
                _ if self.scene.at.call.as_ref().is_some_and(|c| c.info.ret.is_none())
                    && self.scene.at.finding.is_some() =>
                {
                    self.told()
                }
                _ => "this call has been made already: it cannot be kept from happening".to_string(),
            });
        }
        (self.keep, self.fail) = (true, None);
        Ok(())
    }

    /// The stack of the task that is looked at: where that is the break's own, as it was taken there. Of any other none
    /// was, nor after Ctrl-C: it is taken where the task stands.
    fn trace(&mut self) -> &Trace {
        if self.trace.is_none() {
            let scene = &mut *self.scene;
            let at = scene.at;
            let taken = at.call.as_ref().map(|c| &c.site).filter(|s| self.tid == at.tid && s.stack.is_some());
            let (site, why) = match taken {
                Some(site) => (site.clone(), of_break(scene.names, at)),
                None => (scene.names.standing(self.tid), None),
            };
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

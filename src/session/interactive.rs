//! The front end with a prompt: a user at a terminal, a script, or both.

use super::frontend::{Decision, Frontend, Then, View};
use crate::base::Pid;
use crate::base::text::escape;
use crate::kernel::stop_job;
use crate::model::World;
use crate::prompt::{Prompt, Scene, Terminal};
use crate::render::{FileSources, Style};
use crate::report::Report;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::getpgid;
use std::io::Write;

/// Asks the prompt at each break.
pub struct Interactive {
    prompt: Prompt,
    /// The terminal, shared with the target; `None` without a user.
    terminal: Option<Terminal>,
    /// The target's process group, with which the terminal is shared; `None` where the target has another terminal, or
    /// none, and is left alone.
    target: Option<Pid>,
    sources: FileSources,
    style: Style,
}

impl Interactive {
    /// A front end for the process group `target`, which gets the terminal now.
    ///
    /// # Errors
    /// If the terminal cannot be given away.
    pub fn new(prompt: Prompt, terminal: Option<Terminal>, target: Pid, style: Style) -> std::io::Result<Interactive> {
        let mut new = Interactive { prompt, terminal, target: Some(target), sources: FileSources::new(), style };
        new.give()?;
        Ok(new)
    }

    /// A front end on a terminal that the target does not share.
    pub fn apart(prompt: Prompt, terminal: Terminal, style: Style) -> Interactive {
        Interactive { prompt, terminal: Some(terminal), target: None, sources: FileSources::new(), style }
    }

    /// A front end for a target that was attached to: the terminal is ours alone.
    pub fn attached(prompt: Prompt, terminal: Option<Terminal>, style: Style) -> Interactive {
        Interactive { prompt: prompt.attached(), terminal, target: None, sources: FileSources::new(), style }
    }

    /// The target was started again, as this process group.
    ///
    /// # Errors
    /// If the terminal cannot be given away.
    pub fn started_again(&mut self, target: Pid) -> std::io::Result<()> {
        if self.terminal.as_ref().is_some_and(Terminal::is_apart) {
            return Ok(());
        }
        self.target = Some(target);
        self.give()
    }

    /// What went wrong in a script, if something did.
    pub fn failure(&self) -> Option<&str> {
        self.prompt.failure()
    }

    fn give(&mut self) -> std::io::Result<()> {
        match (&mut self.terminal, self.target) {
            (Some(terminal), Some(target)) => terminal.give_to(target),
            _ => Ok(()),
        }
    }

    /// Gives the target the terminal if it is ours: in the background it is not ours to give. Whether it has it now.
    fn lend(&mut self) -> bool {
        if self.target.is_none() || !self.terminal.as_ref().is_some_and(Terminal::is_ours) {
            return false;
        }
        let given = self.give();
        if let Err(e) = &given {
            tracing::debug!("the terminal could not be given back: {e}");
        }
        given.is_ok()
    }
}

impl Frontend for Interactive {
    fn wants_breaks(&self) -> bool {
        self.prompt.is_live()
    }

    fn takes_interrupts(&self) -> bool {
        self.terminal.is_some()
    }

    fn on_break(&mut self, view: View<'_>) -> Decision {
        if let Some(terminal) = &self.terminal {
            // Whoever runs in the background does not take the terminal from the shell, but waits to be brought back.
            while terminal.is_lost(|group| is_of(view.world, group)) && stop_job() {}
        }
        let mut scene = Scene {
            world: view.world,
            findings: view.findings,
            names: view.names,
            sources: &mut self.sources,
            at: view.at,
            tids: view.tids,
            policy: view.policy,
            live: view.live,
            can_leave: view.can_leave,
            style: self.style,
        };
        let decision = self.prompt.ask(&mut scene, self.terminal.as_mut()).unwrap_or_else(|e| {
            // Nobody can be asked any more: the terminal is gone, and with it the user.
            let _ = writeln!(std::io::stderr(), "fdwatch: {e}");
            Decision { then: if self.target.is_some() { Then::Kill } else { Then::Detach }, ..Decision::default() }
        });
        self.lend();
        decision
    }

    fn on_note(&mut self, note: &str) {
        let _ = writeln!(std::io::stderr(), "fdwatch: {note}");
    }

    fn on_report(&mut self, report: &Report) {
        let Some(path) = self.prompt.report_to() else { return };
        let name = escape(path.as_os_str().as_encoded_bytes());
        let format = if path.extension().is_some_and(|e| e == "json") { "json" } else { "text" };
        let Some(format) = crate::report::format(format) else { return };
        self.prompt.reported(match crate::report::write_whole(&path, &format.write(report)) {
            Ok(()) => Ok(format!("{name}: the report of all so far")),
            Err(e) => Err(format!("{name}: {e}")),
        });
    }

    fn on_suspended(&mut self, signal: i32, world: &World) {
        let (Some(terminal), Some(target)) = (&mut self.terminal, self.target) else { return };
        let waits_for_it = matches!(signal, libc::SIGTTIN | libc::SIGTTOU);
        // A job that was brought to the foreground while it ran got no word: the terminal is here, and it waits for that.
        let stopped = if waits_for_it && terminal.is_ours() {
            false
        } else {
            // The shell that waits for fdwatch must see it stop, and gives the terminal back when the job is to go on.
            if !terminal.is_lost(|group| is_of(world, group)) {
                let _ = terminal.reclaim();
            }
            stop_job()
        };
        let lent = self.lend();
        // Where no shell waits, fdwatch does not stop. What somebody stops outright then stays so until somebody continues it.
        let goes_on = match signal {
            libc::SIGSTOP => stopped,
            _ if waits_for_it => stopped || lent,
            _ => true,
        };
        match goes_on {
            true => drop(killpg(nix::unistd::Pid::from_raw(target.0), Signal::SIGCONT)),
            false => self.on_note(&format!(
                "process {target} was stopped: kill -CONT {target} lets it go on, fdwatch break {target} opens the prompt"
            )),
        }
    }

    fn on_end(&mut self) {
        if let (Some(terminal), Some(target)) = (&mut self.terminal, self.target)
            && !terminal.is_lost(|group| group == target)
        {
            let _ = terminal.reclaim();
        }
    }
}

/// Whether one of the watched processes is of process group `group`.
fn is_of(world: &World, group: Pid) -> bool {
    let group = nix::unistd::Pid::from_raw(group.0);
    world.processes().any(|(pid, _)| getpgid(Some(nix::unistd::Pid::from_raw(pid.0))) == Ok(group))
}

//! `fdwatch attach`.

use super::common::{
    check_transcript, debuginfod, equip, policy, prepare, recording, script, style_of, transcript, verdict,
    write_report,
};
use super::sifting::Sifting;
use crate::FAILED;
use anyhow::{Result, bail};
use fdwatch::base::Pid;
use fdwatch::cli::{self, Breaks};
use fdwatch::kernel::{self, Requests};
use fdwatch::prompt::{Prompt, Terminal, check_script};
use fdwatch::session::{Interactive, Quiet, Session};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

pub(crate) fn attach(args: cli::Attach) -> Result<ExitCode> {
    let script = script(&args.commands, &args.scripts)?;
    check_script(&script).map_err(anyhow::Error::msg)?;
    if args.common.quarantine.is_some() {
        bail!("--quarantine goes with run and audit: what was running before is not altered so");
    }
    if args.batch && script.is_empty() {
        bail!("--batch asks nobody: add -x FILE or -ex CMD");
    }
    let asks = args.prompt || !script.is_empty();
    let names = !args.fds.is_empty() || !args.paths.is_empty() || args.breaks != Breaks::Escaped;
    if !asks && (names || !args.stops.no_break.is_empty() || !args.stops.expect_child.is_empty()) {
        bail!(
            "--fd, --path, --break, --no-break and --expect-child say where to break: add --prompt, -x FILE or -ex CMD"
        );
    }
    let pid = Pid(args.pid);
    let terminal = match args.prompt && !args.batch {
        true => Some(terminal_for_attach(pid)?),
        false => None,
    };
    check_transcript(args.transcript.as_deref(), &args.common, &args.scripts)?;
    prepare(&args.common.out)?;
    let recording = recording(&args.common)?;
    let debuginfod = debuginfod(&args.common)?;
    let sifting = Sifting::new(&args.common.sift, &args.common.out)?;
    let style = style_of(terminal.as_ref(), &args.common.out);
    let mut policy = policy(&args.fds, &args.paths, args.breaks, &args.stops, &args.common)?;
    let transcript = transcript(args.transcript.as_deref())?;
    let mut prompt = Prompt::new(script, terminal.is_some(), style).with_transcript(transcript);
    let prepared = prompt.prepare(&mut policy).map_err(anyhow::Error::msg)?;
    let mut attached = kernel::attach(pid, args.children, Requests::new())?;
    if let Some(time) = args.time {
        attached.tracer.limit(time);
    }
    let tasks = attached.tasks.len();
    let to_stderr = args.common.out.output.is_none() && args.common.out.format != "text";
    if !to_stderr {
        let name = fdwatch::base::text::escape(&kernel::procfs::comm(fdwatch::base::Tid(pid.0)));
        let tasks = if tasks == 1 { "1 task".to_string() } else { format!("{tasks} tasks") };
        let key = if terminal.is_some() { "Ctrl-C opens the prompt" } else { "Ctrl-C leaves it running" };
        // Whoever reads it may be gone: that is no reason to leave.
        let _ = writeln!(std::io::stderr(), "fdwatch: attached to {pid} ({name}), {tasks}; {key}");
    }
    let _ = std::io::stderr().write_all(prepared.as_bytes());
    let mut session = Session::attach(attached, policy);
    equip(&mut session, &args.common, &sifting, debuginfod, recording, &[]);
    let (outcome, failed) = match asks {
        true => {
            let mut frontend = Interactive::attached(prompt, terminal, style);
            (session.run(&mut frontend)?, frontend.failure().is_some())
        }
        false => (session.run(&mut Quiet)?, false),
    };
    let report = write_report(&mut session, &outcome, &[], &args.common, &sifting)?;
    if failed {
        return Ok(ExitCode::from(FAILED));
    }
    Ok(verdict(&report, &args.common.sift, &args.verdict).unwrap_or(ExitCode::SUCCESS))
}

/// The terminal to ask at, which must not be one that stands still with the target.
fn terminal_for_attach(pid: Pid) -> Result<Terminal> {
    let terminal = Terminal::open().ok().filter(|_| std::io::stdin().is_terminal());
    let Some(terminal) = terminal else {
        bail!("no terminal to ask at: leave out --prompt for a report, or use -x FILE or -ex CMD for a script");
    };
    if !terminal.is_ours() {
        bail!("in the background there is nobody to ask: start it without &, or leave out --prompt");
    }
    if terminal.number().is_some_and(|n| kernel::procfs::terminals_shown_by(fdwatch::base::Tid(pid.0)).contains(&n)) {
        bail!(
            "process {pid} shows this very terminal, and would stand still while it is to show the prompt: attach from \
             another terminal, or leave out --prompt"
        );
    }
    Ok(terminal)
}

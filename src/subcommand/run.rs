//! `fdwatch run`.

use super::common::{
    check_transcript, debuginfod, end_as, equip, policy, prepare, recording, script, shown, start, style_of,
    transcript, write_report,
};
use super::reports::side;
use super::sifting::Sifting;
use crate::FAILED;
use anyhow::{Context, Result, bail};
use fdwatch::base::Pid;
use fdwatch::cli;
use fdwatch::identity::Rehearsal;
use fdwatch::kernel::Caught;
use fdwatch::policy::Policy;
use fdwatch::prompt::{Prompt, Terminal, check_script};
use fdwatch::report::diff::Part;
use fdwatch::session::{Frontend, Interactive, Session, rehearsal_of};
use std::io::{IsTerminal, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

pub(crate) fn run(args: cli::Run) -> Result<ExitCode> {
    let armed = args.arm.iter().map(|text| armed(text)).collect::<Result<Vec<_>>>()?;
    let script = script(&args.commands, &args.scripts)?;
    check_script(&script).map_err(anyhow::Error::msg)?;
    // Whoever redirects the target's input may still be at a terminal, but need not: with a script nobody is awaited there.
    let terminal = match (args.batch, std::io::stdin().is_terminal(), script.is_empty()) {
        (true, ..) => None,
        (_, true, _) => Terminal::open().ok(),
        (_, false, true) => Terminal::open().ok().filter(Terminal::is_ours),
        (_, false, false) => None,
    };
    let terminal = match &args.tty {
        Some(path) => {
            let name = fdwatch::base::text::escape(path.as_os_str().as_encoded_bytes());
            Some(Terminal::open_apart(path).with_context(|| format!("--tty {name}"))?)
        }
        None => terminal,
    };
    // What runs in the background must not take the terminal from what runs in the foreground.
    let (terminal, background) = match terminal {
        Some(t) if !t.is_apart() && !t.is_ours() => (None, true),
        t => (t, false),
    };
    if background && script.is_empty() {
        bail!(
            "in the background there is nobody to ask: start it without &, or use `fdwatch audit -- CMD`, or -x FILE"
        );
    }
    if terminal.is_none() && script.is_empty() {
        bail!("no terminal to ask at: use `fdwatch audit -- CMD` for a report, or -x FILE or -ex CMD for a script");
    }
    check_transcript(args.transcript.as_deref(), &args.common, &args.scripts)?;
    prepare(&args.common.out)?;
    let mut to_record = recording(&args.common)?;
    let style = style_of(terminal.as_ref(), &args.common.out);
    let mut policy = policy(&args.fds, &args.paths, args.breaks, &args.stops, &args.common)?;
    let transcript = transcript(args.transcript.as_deref())?;
    let mut prompt = Prompt::new(script, terminal.is_some(), style).with_transcript(transcript);
    let prepared = prompt.prepare(&mut policy).map_err(anyhow::Error::msg)?;
    let mut debug_files = debuginfod(&args.common)?;
    let sifting = Sifting::new(&args.common.sift, &args.common.out)?;
    let shares = terminal.as_ref().is_some_and(|t| !t.is_apart());
    let (caught, input) = (Caught::new(), StandardInput::new());
    let launched = start(&args.argv, &args.common, shares, &caught)?;
    let target = fdwatch::base::Pid(launched.tid.0);
    let _ = std::io::stderr().write_all(prepared.as_bytes());
    if terminal.is_some() {
        let command = shown(&args.argv);
        let _ = writeln!(std::io::stderr(), "fdwatch: watching the closes of {command}; Ctrl-C opens the prompt");
    }
    let mut frontend = match terminal {
        Some(t) if t.is_apart() => Interactive::apart(prompt, t, style),
        t => Interactive::new(prompt, t, target, style).context("the terminal")?,
    };
    let begin = |launched, policy, debug_files, to_record| {
        let mut session = Session::new(launched, policy, args.common.no_seccomp);
        equip(&mut session, &args.common, &sifting, debug_files, to_record, &args.argv);
        session
    };
    let mut session = begin(launched, policy.clone(), debug_files.take(), to_record.take());
    armed.iter().for_each(|rehearsal| session.rehearse(rehearsal.clone(), false));
    let outcome = loop {
        let outcome = session.run(&mut frontend);
        if outcome.is_err() {
            frontend.on_end();
        }
        let outcome = outcome?;
        let Some(rehearsal) = session.again().cloned() else { break outcome };
        if let Some(lost) = input.again() {
            frontend.on_note(&lost);
        }
        let launched = start(&args.argv, &args.common, shares, &caught)?;
        frontend.started_again(Pid(launched.tid.0)).context("the terminal")?;
        let policy = Policy { catches: session.catches_again(), ..policy.clone() };
        let awaited: Vec<Rehearsal> =
            session.awaited().filter(|r| armed.contains(r) && **r != rehearsal).cloned().collect();
        session = begin(launched, policy, debuginfod(&args.common)?, recording(&args.common)?);
        session.rehearse(rehearsal, true);
        awaited.into_iter().for_each(|r| session.rehearse(r, true));
    };
    write_report(&mut session, &outcome, &args.argv, &args.common, &sifting)?;
    if frontend.failure().is_some() {
        return Ok(ExitCode::from(FAILED));
    }
    if outcome.ended_by_user {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(end_as(outcome.status))
}

/// The command's standard input, for a command that is started twice.
struct StandardInput {
    /// Of a file: itself, and where the command begins to read.
    file: Option<(std::fs::File, u64)>,
    /// Whether something can have been read of it that does not come again.
    loses: bool,
}

impl StandardInput {
    fn new() -> StandardInput {
        let own = std::io::stdin().as_fd().try_clone_to_owned().ok().map(std::fs::File::from);
        let meta = own.as_ref().and_then(|f| f.metadata().ok());
        let file = own.filter(|_| meta.as_ref().is_some_and(std::fs::Metadata::is_file));
        let loses = !std::io::stdin().is_terminal() && meta.is_some_and(|m| m.rdev() != NULL_DEVICE);
        StandardInput { file: file.and_then(|mut f| f.stream_position().ok().map(|at| (f, at))), loses }
    }

    /// Goes back to where the command began to read. A sentence, where that is not possible.
    fn again(&self) -> Option<String> {
        match &self.file {
            Some((file, at)) => {
                let mut file = file;
                let failed = file.seek(SeekFrom::Start(*at)).err()?;
                Some(format!("standard input cannot be read again: {failed}"))
            }
            None => {
                self.loses.then(|| "what the command has read of its standard input is not there again".to_string())
            }
        }
    }
}

/// `/dev/null`, from which nothing was ever read (null(4): character device 1, 3).
const NULL_DEVICE: u64 = 1 << 8 | 3;

/// What `--arm` names.
fn armed(text: &std::ffi::OsStr) -> Result<Rehearsal> {
    let side = side(text).context("--arm")?;
    match side.part {
        Part::Finding(n) => rehearsal_of(&side.report, n).map_err(|e| anyhow::anyhow!("--arm {}: {e}", side.name)),
        _ => bail!("--arm {}: say which finding of the report, as in {}#1", side.name, side.name),
    }
}

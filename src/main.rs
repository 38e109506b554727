//! The `fdwatch` program: parse, dispatch, exit status.
// They panic when nobody can be written to.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod sifting;

use anyhow::{Context, Result, bail};
use fdwatch::base::Pid;
use fdwatch::cli::{self, Breaks, Cli, CoLocate, Color, Command, Common, Output, Uses, Verdict};
use fdwatch::config;
use fdwatch::event::ExitStatus;
use fdwatch::finding::Options;
use fdwatch::identity::Rehearsal;
use fdwatch::kernel::{self, Caught, Debuginfod, Filter, LaunchError, Launched, Requests};
use fdwatch::policy::catch::Catches;
use fdwatch::policy::inject::{Injection, Maker};
use fdwatch::policy::suppression::Suppressions;
use fdwatch::policy::{Expected, Implicit, Policy};
use fdwatch::prompt::{Prompt, ScriptLine, Terminal, Transcript, check_script};
use fdwatch::render::Style;
use fdwatch::report::diff::{Part, Story, compare, report_diff, story_diff};
use fdwatch::report::{self, Report};
use fdwatch::session::{Frontend, Interactive, LogError, Outcome, Quiet, Recording, Replay, Session, rehearsal_of};
use fdwatch::syscall::{Arg, Row, makers};
use sifting::Sifting;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// fdwatch itself failed.
const FAILED: u8 = 125;
/// The same of `fdwatch diff`, as diff(1) has it.
const DIFF_FAILED: u8 = 2;

fn main() -> ExitCode {
    let failed = if cli::is_diff(std::env::args_os()) { DIFF_FAILED } else { FAILED };
    let prompts = match cli::parse(std::env::args_os()) {
        Ok(Cli { command: Command::Attach(args) }) => args.asks(),
        _ => true,
    };
    let (args, notes) = match config::with_files(std::env::args_os().collect(), prompts, &judge) {
        Ok(read) => read,
        Err(line) => return fail_with(&line, failed),
    };
    for note in notes {
        let _ = writeln!(std::io::stderr(), "fdwatch: {note}");
    }
    let cli = match cli::parse(args.into_iter()) {
        Ok(cli) => cli,
        Err(Ok(text)) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(Err(line)) => return fail_with(&line, failed),
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(e) => match e.downcast_ref::<LaunchError>() {
            Some(launch) => {
                fail(&launch.to_string());
                ExitCode::from(launch.status())
            }
            None => fail_with(&format!("{e:#}"), failed),
        },
    }
}

fn fail(line: &str) -> ExitCode {
    fail_with(line, FAILED)
}

fn fail_with(line: &str, status: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "fdwatch: {line}");
    ExitCode::from(status)
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Run(run) => self::run(run),
        Command::Audit(audit) => self::audit(audit),
        Command::Replay(replay) => self::replay(&replay),
        Command::Attach(attach) => self::attach(attach),
        Command::Show(args) => show(&args),
        Command::Diff(args) => diff(&args),
        Command::Break(args) => {
            let watcher = kernel::knock(args.pid).map_err(anyhow::Error::msg)?;
            let _ = writeln!(std::io::stderr(), "fdwatch: asked fdwatch {watcher} to open its prompt");
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor => doctor(),
        Command::Trust => {
            let (path, text, keys) = config::trust(&judge).map_err(anyhow::Error::msg)?;
            let name = fdwatch::base::text::escape(path.as_os_str().as_encoded_bytes());
            let mut out = format!("trusted until it changes: {name}\n");
            for line in text.lines() {
                out += &format!("  {}\n", fdwatch::base::text::escape(line.as_bytes()));
            }
            out += &match keys.is_empty() {
                true => "nothing in it needed that\n".to_string(),
                false => format!("heeded from now on: {}\n", keys.join(", ")),
            };
            say(out.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Explain(explain) => {
            let style = Style::for_stream(fdwatch::render::Color::Auto, &std::io::stdout());
            let text = match explain.name {
                Some(name) => fdwatch::render::page::page(&name, style).map_err(anyhow::Error::msg)?,
                None => fdwatch::render::page::index(),
            };
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What is checked before anything is started or read.
fn prepare(out: &Output) -> Result<()> {
    start_log(out)?;
    if let Some(path) = &out.output {
        report::check_writable(path).map_err(anyhow::Error::msg)?;
    }
    Ok(())
}

fn start_log(out: &Output) -> Result<()> {
    use tracing_subscriber::EnvFilter;
    let named = std::env::var("FDWATCH_LOG").ok();
    let directives = named.as_deref().unwrap_or(match out.verbose {
        0 => "warn",
        1 => "fdwatch=info,warn",
        _ => "fdwatch=debug,warn",
    });
    let filter = EnvFilter::try_new(directives).with_context(|| format!("FDWATCH_LOG={directives}"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).without_time();
    let started = match &out.log_file {
        Some(path) => {
            let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
            log.with_ansi(false).with_writer(file).try_init()
        }
        // No colour: tracing-subscriber panics when it is asked for it without its `ansi` feature.
        None => log.with_ansi(false).with_writer(std::io::stderr).try_init(),
    };
    started.map_err(|e| anyhow::anyhow!("the log: {e}"))
}

fn color(color: Color) -> fdwatch::render::Color {
    match color {
        Color::Auto => fdwatch::render::Color::Auto,
        Color::Always => fdwatch::render::Color::Always,
        Color::Never => fdwatch::render::Color::Never,
    }
}

fn audit(args: cli::Audit) -> Result<ExitCode> {
    prepare(&args.common.out)?;
    let recording = recording(&args.common)?;
    let debuginfod = debuginfod(&args.common)?;
    let sifting = Sifting::new(&args.common.sift, &args.common.out)?;
    let policy = Policy { injections: injections(&args.common)?, ..Policy::default() };
    let launched = start(&args.argv, &args.common, false, &Caught::new())?;
    let mut session = Session::new(launched, policy, args.common.no_seccomp);
    fetch(&mut session, debuginfod);
    session.obey(options(&args.common));
    let uses = args.common.uses == Uses::All;
    match args.common.quarantine {
        Some(most) => session.quarantine(usize::from(most), uses),
        None if uses => session.watch_uses(),
        None => {}
    }
    record(&mut session, recording, &args.argv);
    session.suppress(sifting.suppressions.clone());
    sifting.baseline.iter().for_each(|(known, _)| session.know(known.clone()));
    let outcome = session.run(&mut Quiet)?;
    let report = write_report(&mut session, &outcome, &args.argv, &args.common, &sifting)?;
    Ok(verdict(&report, &args.common.sift, &args.verdict).unwrap_or_else(|| end_as(outcome.status)))
}

/// The status of findings that count. What was just written down as known does not.
fn verdict(report: &Report, sift: &cli::Sift, asked: &Verdict) -> Option<ExitCode> {
    let found = report.findings.iter().any(|f| asked.fail_on.includes(f.severity));
    (found && sift.write_baseline.is_none()).then(|| ExitCode::from(asked.error_exitcode))
}

fn replay(args: &cli::Replay) -> Result<ExitCode> {
    prepare(&args.out)?;
    let sifting = Sifting::new(&args.sift, &args.out)?;
    let name = fdwatch::base::text::escape(args.file.as_os_str().as_encoded_bytes());
    let file = std::fs::File::open(&args.file).with_context(|| name.clone())?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        bail!("{name}: it is a directory: expected a file that --record wrote");
    }
    if args.out.output.as_ref().is_some_and(|o| is_same_file(o, &args.file)) {
        bail!("-o names the recording itself, {name}: give the report a file of its own");
    }
    let broken = |e: &LogError| fail(&format!("{name}:{}: {}", e.line, e.what));
    let mut replay = match Replay::read(std::io::BufReader::new(file), sifting.suppressions.clone()) {
        Ok(replay) => replay,
        Err(e) => return Ok(broken(&e)),
    };
    let mut report = replay.report();
    sifting.finish(&mut report, &args.sift, |report| write_out(report, &args.out))?;
    if let Some(e) = replay.damage() {
        return Ok(broken(e));
    }
    if let Some(status) = verdict(&report, &args.sift, &args.verdict) {
        return Ok(status);
    }
    Ok(ExitCode::from(match replay.status() {
        None => 0,
        Some(ExitStatus::Code(code)) => code as u8,
        // Nothing has died now: it is said as a shell says it.
        Some(ExitStatus::Signal(signal)) => 128u8.wrapping_add(signal as u8),
    }))
}

fn show(args: &cli::Show) -> Result<ExitCode> {
    if let Some(path) = &args.output {
        report::check_writable(path).map_err(anyhow::Error::msg)?;
    }
    let mut sifting = Sifting::read(&args.sift, args.output.as_deref(), Suppressions::none())?;
    let mut report = match saved(&args.report)? {
        Saved::Report(report) => report,
        Saved::Log(_) => {
            let name = fdwatch::base::text::escape(args.report.as_os_str().as_encoded_bytes());
            bail!("{name}: it is an event log, not a report: use `fdwatch replay {name}`")
        }
    };
    report.suppress(&mut sifting.suppressions);
    let style = to_stdout(args.color);
    sifting.finish(&mut report, &args.sift, |report| {
        let bytes = match report::format(&args.format) {
            _ if args.output.is_none() && args.format == "text" => report::text(report, style).into_bytes(),
            Some(format) => format.write(report),
            None => bail!("no such format"),
        };
        match &args.output {
            Some(path) => report::write_whole(path, &bytes).with_context(|| path.display().to_string()),
            None => say(&bytes),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn diff(args: &cli::Diff) -> Result<ExitCode> {
    let columns = terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
    let style = to_stdout(args.color).with_width(columns.filter(|c| *c > 0));
    let (a, b) = (side(&args.a)?, side(&args.b)?);
    let names = (a.name.as_str(), b.name.as_str());
    let (text, differs) = match (a.story()?, b.story()?) {
        (Some(x), Some(y)) => (story_diff((names.0, &x), (names.1, &y), style), !x.same(&y)),
        (None, None) => {
            let aligned = compare(&a.report, &b.report)
                .map_err(|(second, what)| anyhow::anyhow!("{}: {what}", if second { names.1 } else { names.0 }))?;
            let text = report_diff((names.0, &a.report), (names.1, &b.report), &aligned, args.all, style);
            (text, !aligned.is_empty())
        }
        (Some(_), None) | (None, Some(_)) => {
            bail!(
                "a report cannot be compared with a finding or a life: give two reports, or REPORT#N or REPORT@N twice"
            )
        }
    };
    say(text.as_bytes())?;
    Ok(ExitCode::from(u8::from(differs)))
}

/// What `fdwatch diff` was given.
struct Side {
    /// As it was given, safe to show.
    name: String,
    report: Report,
    part: Part,
}

impl Side {
    fn story(&self) -> Result<Option<Story>> {
        self.part.of(&self.report).map_err(|e| anyhow::anyhow!("{}: {e}", self.name))
    }
}

fn side(text: &std::ffi::OsStr) -> Result<Side> {
    let name = fdwatch::base::text::escape(text.as_encoded_bytes());
    // A file whose name looks like a part of another is the file.
    let (path, part) = match text.to_str().map(report::diff::part) {
        Some((file, part)) if !Path::new(text).exists() => (Path::new(file), part),
        _ => (Path::new(text), Part::Whole),
    };
    let report = match saved(path)? {
        Saved::Report(report) => *report,
        Saved::Log(bytes) => {
            let broken = |e: &LogError| anyhow::anyhow!("{name}:{}: {}", e.line, e.what);
            let mut replay = Replay::read(bytes.as_slice(), Suppressions::shipped()).map_err(|e| broken(&e))?;
            if let Some(e) = replay.damage() {
                return Err(broken(e));
            }
            replay.report()
        }
    };
    Ok(Side { name, report, part })
}

/// The longest file that is read whole, in bytes.
const LARGEST: u64 = 1 << 30;

/// What a file holds that fdwatch wrote.
enum Saved {
    Report(Box<Report>),
    /// A log, unread.
    Log(Vec<u8>),
}

fn saved(path: &Path) -> Result<Saved> {
    let name = fdwatch::base::text::escape(path.as_os_str().as_encoded_bytes());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(|| name.clone())?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).with_context(|| name.clone())?;
    if bytes.len() as u64 > LARGEST {
        bail!("{name}: it is longer than {} MiB: no report is", LARGEST >> 20);
    }
    if fdwatch::session::is_log(&bytes) {
        return Ok(Saved::Log(bytes));
    }
    let report = Report::read(&bytes).map_err(|e| anyhow::anyhow!("{name}: {e}"))?;
    Ok(Saved::Report(Box::new(report)))
}

fn to_stdout(when: Color) -> Style {
    Style::for_stream(color(when), &std::io::stdout())
}

/// Writes to standard output. Whoever has read enough of it is no failure.
fn say(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("standard output"),
        _ => Ok(()),
    }
}

/// What is in the way, and whether tracing works: that is tried.
fn doctor() -> Result<ExitCode> {
    use kernel::doctor::{Check, Health, checks};
    let style = to_stdout(Color::Auto);
    let mut all = checks();
    let command = kernel::Command { argv: vec!["true".into()], own_group: false, seccomp: true };
    let tried = Launched::start(&command, &Caught::new()).map_err(|e| e.to_string()).and_then(|launched| {
        let mut session = Session::new(launched, Policy::default(), false);
        let outcome = session.run(&mut Quiet).map_err(|e| e.to_string())?;
        match (outcome.status, session.world().lives().count()) {
            (ExitStatus::Code(0), lives) if lives > 0 => Ok(()),
            (status, lives) => Err(format!("true ended with {status:?}, and {lives} lives were seen")),
        }
    });
    let (what, step) = ("a run", None);
    all.push(match tried {
        Ok(()) => Check { what, health: Health::Good, found: "a program was watched to its end".to_string(), step },
        Err(e) => Check { what, health: Health::Broken, found: e, step },
    });
    let broken = all.iter().any(|c| c.health == Health::Broken);
    say(fdwatch::render::page::health(
        &all.iter()
            .map(|c| {
                let mark = match c.health {
                    Health::Good => "ok",
                    Health::Limited => "limited",
                    Health::Broken => "broken",
                };
                (c.what, mark, c.found.as_str(), c.step.as_deref())
            })
            .collect::<Vec<_>>(),
        style,
    )
    .as_bytes())?;
    Ok(ExitCode::from(u8::from(broken)))
}

fn run(args: cli::Run) -> Result<ExitCode> {
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
    let mut policy = policy(&args.fds, &args.paths, args.breaks, &args.stops)?;
    policy.injections = injections(&args.common)?;
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
        fetch(&mut session, debug_files);
        session.obey(options(&args.common));
        let uses = args.common.uses == Uses::All;
        match args.common.quarantine {
            Some(most) => session.quarantine(usize::from(most), uses),
            None if uses => session.watch_uses(),
            None => {}
        }
        record(&mut session, to_record, &args.argv);
        session.suppress(sifting.suppressions.clone());
        sifting.baseline.iter().for_each(|(known, _)| session.know(known.clone()));
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

/// How text reads on the prompt's terminal, or without one on stderr.
fn style_of(terminal: Option<&Terminal>, out: &Output) -> Style {
    match terminal {
        Some(t) => Style::for_stream(color(out.color), t.stream()),
        None => Style::for_stream(color(out.color), &std::io::stderr()),
    }
}

fn attach(args: cli::Attach) -> Result<ExitCode> {
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
    let mut policy = policy(&args.fds, &args.paths, args.breaks, &args.stops)?;
    policy.injections = injections(&args.common)?;
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
    fetch(&mut session, debuginfod);
    session.obey(options(&args.common));
    if args.common.uses == Uses::All {
        session.watch_uses();
    }
    record(&mut session, recording, &[]);
    session.suppress(sifting.suppressions.clone());
    sifting.baseline.iter().for_each(|(known, _)| session.know(known.clone()));
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

fn policy(fds: &[i32], paths: &[glob::Pattern], breaks: Breaks, stops: &cli::Stops) -> Result<Policy> {
    let wants = |kind| !stops.no_break.contains(&kind);
    let expected = stops.expect_child.iter().map(|text| Expected::new(text)).collect::<Result<_, _>>();
    Ok(Policy {
        fds: fds.iter().copied().map(fdwatch::base::Fd).collect(),
        paths: paths.to_vec(),
        implicit: match breaks {
            _ if !wants(cli::Kind::Implicit) => Implicit::Never,
            Breaks::Escaped => Implicit::Escaped,
            Breaks::Implicit => Implicit::All,
            Breaks::None => Implicit::Never,
        },
        expected: expected.context("--expect-child")?,
        inheritable: wants(cli::Kind::Inheritable),
        child_side: wants(cli::Kind::ChildSide),
        findings: wants(cli::Kind::Findings),
        catches: Catches::default(),
        injections: Vec::new(),
    })
}

/// What the user wants of the rules.
fn options(common: &Common) -> Options {
    Options { allow_inherit: common.allow_inherit.clone(), leaks_at_exit: common.leaks_at_exit }
}

/// What is wrong with a setting that is a script or alters calls.
fn judge(key: &str, values: &[&str]) -> Result<(), String> {
    match key {
        "ex" => {
            let nth = |(i, text): (usize, &&str)| ScriptLine { text: text.to_string(), from: format!("{}", i + 1) };
            check_script(&values.iter().enumerate().map(nth).collect::<Vec<_>>())
        }
        "inject" => values.iter().try_for_each(|text| injection(text).map(drop)),
        _ => Ok(()),
    }
}

/// Reads what is asked for with `--inject`; the mistake names it.
fn injection(text: &str) -> Result<Injection, String> {
    let maker = |row: &Row| Maker { name: row.name, number: row.takes(Arg::Fd), path: row.takes(Arg::Path) };
    let makers: Vec<Maker> = makers().map(maker).collect();
    Injection::parse(text, &makers).map_err(|e| format!("{}: {e}", fdwatch::base::text::escape(text.as_bytes())))
}

/// What `--inject` asks for.
fn injections(common: &Common) -> Result<Vec<Injection>> {
    let read = |text: &String| injection(text).map_err(|e| anyhow::anyhow!("--inject {e}"));
    common.injections.iter().map(read).collect()
}

/// What else is written or read must be another file than the transcript; before any of them is opened.
fn check_transcript(path: Option<&Path>, common: &Common, scripts: &[PathBuf]) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let sift = &common.sift;
    let others = [
        ("--record", &common.record),
        ("-o", &common.out.output),
        ("--log-file", &common.out.log_file),
        ("--gen-suppressions", &sift.gen_suppressions),
        ("--write-baseline", &sift.write_baseline),
        ("--baseline", &sift.baseline),
    ];
    let others = others.into_iter().filter_map(|(option, p)| Some((option, p.as_ref()?)));
    let read = scripts.iter().map(|p| ("-x", p)).chain(sift.suppressions.iter().map(|p| ("--suppressions", p)));
    if let Some((option, _)) = others.chain(read).find(|(_, other)| is_same_file(other, path)) {
        let name = fdwatch::base::text::escape(path.as_os_str().as_encoded_bytes());
        bail!("{option} and --transcript name the same file, {name}: give each its own");
    }
    Ok(())
}

fn transcript(path: Option<&Path>) -> Result<Option<Transcript>> {
    let Some(path) = path else { return Ok(None) };
    let name = fdwatch::base::text::escape(path.as_os_str().as_encoded_bytes());
    let file = report::create(path).map_err(anyhow::Error::msg)?;
    Ok(Some(Transcript::new(file, name)))
}

fn shown(argv: &[std::ffi::OsString]) -> String {
    argv.first().map(|a| fdwatch::base::text::escape(a.as_encoded_bytes())).unwrap_or_default()
}

/// Who asks for debug files, if that is wanted.
fn debuginfod(common: &Common) -> Result<Option<Debuginfod>> {
    if !common.debuginfod {
        return Ok(None);
    }
    Debuginfod::new().map(Some).context("--debuginfod: DEBUGINFOD_URLS does not name a server to ask")
}

fn fetch(session: &mut Session, debuginfod: Option<Debuginfod>) {
    if let Some(mut debuginfod) = debuginfod {
        session.fetch_debug_files(Box::new(move |id| debuginfod.find(id)));
    }
}

fn start(argv: &[std::ffi::OsString], common: &Common, own_group: bool, caught: &Caught) -> Result<Launched> {
    let command = kernel::Command { argv: argv.to_vec(), own_group, seccomp: !common.no_seccomp };
    let filter = Filter::with(common.uses == Uses::All, common.quarantine.is_some());
    let mut launched = Launched::start_under(&command, caught, &filter)?;
    if common.co_locate == CoLocate::Auto {
        launched.tracer.co_locate();
    }
    Ok(launched)
}

/// Opens what is to be recorded into, before anything is started.
fn recording(common: &Common) -> Result<Option<Recording>> {
    let Some(path) = &common.record else { return Ok(None) };
    let name = fdwatch::base::text::escape(path.as_os_str().as_encoded_bytes());
    for (option, other) in [("-o", &common.out.output), ("--log-file", &common.out.log_file)] {
        if other.as_ref().is_some_and(|o| is_same_file(o, path)) {
            bail!("--record and {option} name the same file, {name}: give each its own");
        }
    }
    let file = report::create(path).map_err(anyhow::Error::msg)?;
    Ok(Some(Recording { file, name }))
}

/// Whether two names lead to one regular file, or would.
fn is_same_file(a: &Path, b: &Path) -> bool {
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        (Err(_), Err(_)) => std::path::absolute(a).ok() == std::path::absolute(b).ok(),
        _ => false,
    }
}

fn record(session: &mut Session, to: Option<Recording>, argv: &[std::ffi::OsString]) {
    if let Some(to) = to {
        session.record(to, bytes(argv));
    }
}

fn bytes(argv: &[std::ffi::OsString]) -> Vec<Vec<u8>> {
    argv.iter().map(|a| a.as_encoded_bytes().to_vec()).collect()
}

/// The commands of `-ex` and `-x`, in the order files after commands.
fn script(commands: &[String], files: &[PathBuf]) -> Result<Vec<ScriptLine>> {
    let mut lines: Vec<ScriptLine> = commands
        .iter()
        .enumerate()
        .map(|(i, text)| ScriptLine { text: text.clone(), from: format!("-ex {}", i + 1) })
        .collect();
    for path in files {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
        lines.extend(
            text.lines()
                .enumerate()
                .map(|(i, l)| ScriptLine { text: l.to_string(), from: format!("{name}:{}", i + 1) }),
        );
    }
    Ok(lines)
}

/// Ends as the target ended.
fn end_as(status: ExitStatus) -> ExitCode {
    match status {
        ExitStatus::Code(code) => ExitCode::from(code as u8),
        ExitStatus::Signal(signal) => {
            kernel::die_by(signal);
            ExitCode::from(128u8.wrapping_add(signal as u8))
        }
    }
}

fn write_report(
    session: &mut Session,
    outcome: &Outcome,
    argv: &[std::ffi::OsString],
    common: &Common,
    sifting: &Sifting,
) -> Result<Report> {
    session.end_recording(outcome);
    let mut report = session.report(outcome, bytes(argv), common.out.format == "json");
    sifting.finish(&mut report, &common.sift, |report| write_out(report, &common.out))?;
    Ok(report)
}

fn write_out(report: &Report, out: &Output) -> Result<()> {
    let failed = |path: &Path| path.display().to_string();
    match &out.output {
        Some(path) => {
            let format = report::format(&out.format).context("no such format")?;
            report::write_whole(path, &format.write(report)).with_context(|| failed(path))?;
        }
        None if out.format == "text" => {
            let style = Style::for_stream(color(out.color), &std::io::stderr());
            let _ = std::io::stderr().write_all(report::text(report, style).as_bytes());
        }
        None => {
            let format = report::format(&out.format).context("no such format")?;
            let _ = std::io::stderr().write_all(&format.write(report));
        }
    }
    Ok(())
}

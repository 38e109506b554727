//! What several subcommands do: read their options before anything is started, start, and write what was found.

use super::sifting::Sifting;
use anyhow::{Context, Result, bail};
use fdwatch::cli::{self, Breaks, CoLocate, Color, Common, Output, Uses, Verdict};
use fdwatch::event::ExitStatus;
use fdwatch::finding::Options;
use fdwatch::kernel::{self, Caught, Debuginfod, Filter, Launched};
use fdwatch::policy::catch::Catches;
use fdwatch::policy::inject::{Injection, Maker};
use fdwatch::policy::{Expected, Implicit, Policy};
use fdwatch::prompt::{ScriptLine, Terminal, Transcript, check_script};
use fdwatch::render::Style;
use fdwatch::report::{self, Report};
use fdwatch::session::{Outcome, Recording, Session};
use fdwatch::syscall::{Arg, Row, makers};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What is checked before anything is started or read.
pub(crate) fn prepare(out: &Output) -> Result<()> {
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

pub(crate) fn to_stdout(when: Color) -> Style {
    Style::for_stream(color(when), &std::io::stdout())
}

/// Writes to standard output. Whoever has read enough of it is no failure.
pub(crate) fn say(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("standard output"),
        _ => Ok(()),
    }
}

/// How text reads on the prompt's terminal, or without one on stderr.
pub(crate) fn style_of(terminal: Option<&Terminal>, out: &Output) -> Style {
    match terminal {
        Some(t) => Style::for_stream(color(out.color), t.stream()),
        None => Style::for_stream(color(out.color), &std::io::stderr()),
    }
}

pub(crate) fn policy(
    fds: &[i32],
    paths: &[glob::Pattern],
    breaks: Breaks,
    stops: &cli::Stops,
    common: &Common,
) -> Result<Policy> {
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
        injections: injections(common)?,
    })
}

/// What is wrong with a setting that is a script or alters calls.
pub(crate) fn judge(key: &str, values: &[&str]) -> Result<(), String> {
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
pub(crate) fn injections(common: &Common) -> Result<Vec<Injection>> {
    let read = |text: &String| injection(text).map_err(|e| anyhow::anyhow!("--inject {e}"));
    common.injections.iter().map(read).collect()
}

/// What else is written or read must be another file than the transcript; before any of them is opened.
pub(crate) fn check_transcript(path: Option<&Path>, common: &Common, scripts: &[PathBuf]) -> Result<()> {
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

pub(crate) fn transcript(path: Option<&Path>) -> Result<Option<Transcript>> {
    let Some(path) = path else { return Ok(None) };
    let name = fdwatch::base::text::escape(path.as_os_str().as_encoded_bytes());
    let file = report::create(path).map_err(anyhow::Error::msg)?;
    Ok(Some(Transcript::new(file, name)))
}

/// Who asks for debug files, if that is wanted.
pub(crate) fn debuginfod(common: &Common) -> Result<Option<Debuginfod>> {
    if !common.debuginfod {
        return Ok(None);
    }
    Debuginfod::new().map(Some).context("--debuginfod: DEBUGINFOD_URLS does not name a server to ask")
}

/// Gives a session what the command line asks for, before it runs.
pub(crate) fn equip(
    session: &mut Session,
    common: &Common,
    sifting: &Sifting,
    debuginfod: Option<Debuginfod>,
    recording: Option<Recording>,
    argv: &[std::ffi::OsString],
) {
    if let Some(mut debuginfod) = debuginfod {
        session.fetch_debug_files(Box::new(move |id| debuginfod.find(id)));
    }
    session.obey(Options { allow_inherit: common.allow_inherit.clone(), leaks_at_exit: common.leaks_at_exit });
    let uses = common.uses == Uses::All;
    match common.quarantine {
        Some(most) => session.quarantine(usize::from(most), uses),
        None if uses => session.watch_uses(),
        None => {}
    }
    if let Some(to) = recording {
        session.record(to, bytes(argv));
    }
    session.suppress(sifting.suppressions.clone());
    sifting.baseline.iter().for_each(|(known, _)| session.know(known.clone()));
}

pub(crate) fn start(
    argv: &[std::ffi::OsString],
    common: &Common,
    own_group: bool,
    caught: &Caught,
) -> Result<Launched> {
    let command = kernel::Command { argv: argv.to_vec(), own_group, seccomp: !common.no_seccomp };
    let filter = Filter::with(common.uses == Uses::All, common.quarantine.is_some());
    let mut launched = Launched::start_under(&command, caught, &filter)?;
    if common.co_locate == CoLocate::Auto {
        launched.tracer.co_locate();
    }
    Ok(launched)
}

/// Opens what is to be recorded into, before anything is started.
pub(crate) fn recording(common: &Common) -> Result<Option<Recording>> {
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
pub(crate) fn is_same_file(a: &Path, b: &Path) -> bool {
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        (Err(_), Err(_)) => std::path::absolute(a).ok() == std::path::absolute(b).ok(),
        _ => false,
    }
}

fn bytes(argv: &[std::ffi::OsString]) -> Vec<Vec<u8>> {
    argv.iter().map(|a| a.as_encoded_bytes().to_vec()).collect()
}

/// The commands of `-ex` and `-x`, in the order files after commands.
pub(crate) fn script(commands: &[String], files: &[PathBuf]) -> Result<Vec<ScriptLine>> {
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

pub(crate) fn shown(argv: &[std::ffi::OsString]) -> String {
    argv.first().map(|a| fdwatch::base::text::escape(a.as_encoded_bytes())).unwrap_or_default()
}

/// The status of findings that count. What was just written down as known does not.
pub(crate) fn verdict(report: &Report, sift: &cli::Sift, asked: &Verdict) -> Option<ExitCode> {
    let found = report.findings.iter().any(|f| asked.fail_on.includes(f.severity));
    (found && sift.write_baseline.is_none()).then(|| ExitCode::from(asked.error_exitcode))
}

/// Ends as the target ended.
pub(crate) fn end_as(status: ExitStatus) -> ExitCode {
    match status {
        ExitStatus::Code(code) => ExitCode::from(code as u8),
        ExitStatus::Signal(signal) => {
            kernel::die_by(signal);
            ExitCode::from(128u8.wrapping_add(signal as u8))
        }
    }
}

pub(crate) fn write_report(
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

pub(crate) fn write_out(report: &Report, out: &Output) -> Result<()> {
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

//! What works on what fdwatch has written: `fdwatch replay`, `show` and `diff`.

use super::common::{is_same_file, prepare, say, to_stdout, verdict, write_out};
use super::sifting::Sifting;
use crate::fail;
use anyhow::{Context, Result, bail};
use fdwatch::cli::{self};
use fdwatch::event::ExitStatus;
use fdwatch::policy::suppression::Suppressions;
use fdwatch::report::diff::{Part, Story, compare, report_diff, story_diff};
use fdwatch::report::{self, Report};
use fdwatch::session::{LogError, Replay};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn replay(args: &cli::Replay) -> Result<ExitCode> {
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

pub(crate) fn show(args: &cli::Show) -> Result<ExitCode> {
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

pub(crate) fn diff(args: &cli::Diff) -> Result<ExitCode> {
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
pub(crate) struct Side {
    /// As it was given, safe to show.
    pub(crate) name: String,
    pub(crate) report: Report,
    pub(crate) part: Part,
}

impl Side {
    fn story(&self) -> Result<Option<Story>> {
        self.part.of(&self.report).map_err(|e| anyhow::anyhow!("{}: {e}", self.name))
    }
}

pub(crate) fn side(text: &std::ffi::OsStr) -> Result<Side> {
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

//! The `fdwatch` program: parse, dispatch, exit status.
// They panic when nobody can be written to.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod subcommand;

use anyhow::Result;
use fdwatch::cli::{self, Cli, Command};
use fdwatch::config;
use fdwatch::kernel::{self, LaunchError};
use fdwatch::render::Style;
use std::io::Write;
use std::process::ExitCode;
use subcommand::common::{judge, say};
use subcommand::reports;

/// fdwatch itself failed.
pub(crate) const FAILED: u8 = 125;
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

pub(crate) fn fail(line: &str) -> ExitCode {
    fail_with(line, FAILED)
}

fn fail_with(line: &str, status: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "fdwatch: {line}");
    ExitCode::from(status)
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Run(run) => subcommand::run::run(run),
        Command::Audit(audit) => subcommand::audit::audit(audit),
        Command::Replay(replay) => reports::replay(&replay),
        Command::Attach(attach) => subcommand::attach::attach(attach),
        Command::Show(args) => reports::show(&args),
        Command::Diff(args) => reports::diff(&args),
        Command::Break(args) => {
            let watcher = kernel::knock(args.pid).map_err(anyhow::Error::msg)?;
            let _ = writeln!(std::io::stderr(), "fdwatch: asked fdwatch {watcher} to open its prompt");
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor => subcommand::doctor::doctor(),
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

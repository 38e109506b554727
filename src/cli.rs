//! The command line.

use crate::finding::Severity;
use clap::builder::styling::Styles;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Follows file descriptors, and stops at the close that breaks a child.
#[derive(Parser, Debug)]
#[command(name = "fdwatch", version, styles = Styles::plain(), subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Exit status: the target's own; death by a signal is repeated. 99 with findings
(audit, see --error-exitcode), 0 if you ended the target at the prompt, 125 if
fdwatch failed, 126 if the command cannot be executed, 127 if there is none.

Examples:
  fdwatch run -- python3 job.py          stop at the close that loses the output
  fdwatch audit -- make check            a report, and a status for CI
  fdwatch explain stale-fd-to-child      what a finding means")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Start a command and break into a prompt when a descriptor destined for a child is being closed
    Run(Run),
    /// Start a command, ask nothing, and write a report
    Audit(Audit),
    /// Write the report of a recorded run again, without running anything
    Replay(Replay),
    /// Say what a finding means, with an example and the fix
    Explain(Explain),
}

/// Where a report goes, and what fdwatch says of itself.
#[derive(Args, Debug)]
pub struct Output {
    /// Write the report to FILE instead of standard error; whole or not at all
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How the report is written
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
    /// Colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Say what fdwatch itself does, -vv in detail (also: FDWATCH_LOG=debug)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Write fdwatch's own log to FILE instead of standard error
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

/// What `run` and `audit` have in common.
#[derive(Args, Debug)]
pub struct Common {
    /// Where the report goes
    #[command(flatten)]
    pub out: Output,
    /// Record what happens to FILE, for `fdwatch replay`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Stop at every call instead of using a seccomp filter: slow, but the target can be left for good with
    /// `detach`, and can enter seccomp's strict mode
    #[arg(long)]
    pub no_seccomp: bool,
    /// Hold fdwatch and a task that stops often and alone on one CPU: several times faster, and the task does not see it
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub co_locate: CoLocate,
}

/// What makes a status of findings.
#[derive(Args, Debug)]
pub struct Verdict {
    /// The status with which to end if something was found
    #[arg(long, value_name = "N", default_value_t = 99)]
    pub error_exitcode: u8,
    /// What counts as found: findings of this severity and above
    #[arg(long, value_name = "SEVERITY", default_value = "error")]
    pub fail_on: FailOn,
}

/// `fdwatch run`.
#[derive(Args, Debug)]
pub struct Run {
    /// Break before descriptor N is closed
    #[arg(long = "fd", value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    pub fds: Vec<i32>,
    /// Break before a file whose path matches GLOB is closed
    #[arg(long = "path", value_name = "GLOB", value_parser = pattern)]
    pub paths: Vec<glob::Pattern>,
    /// Which closes that no code asked for break
    #[arg(long = "break", value_name = "WHICH", default_value = "escaped")]
    pub breaks: Breaks,
    /// Run CMD at the first break, as if it were typed (repeatable; also written -ex)
    #[arg(long = "ex", value_name = "CMD")]
    pub commands: Vec<String>,
    /// Run the commands of FILE at the first break, one a line
    #[arg(short = 'x', value_name = "FILE")]
    pub scripts: Vec<PathBuf>,
    /// Options that audit has, too
    #[command(flatten)]
    pub common: Common,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub argv: Vec<OsString>,
}

/// `fdwatch audit`.
#[derive(Args, Debug)]
pub struct Audit {
    /// What makes its status
    #[command(flatten)]
    pub verdict: Verdict,
    /// Options that run has, too
    #[command(flatten)]
    pub common: Common,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub argv: Vec<OsString>,
}

/// `fdwatch replay`.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit status: as audit's would have been, but for a target that a signal ended:
128 + its number. 125 if the recording is damaged or cut off; what precedes that
is shown all the same.")]
pub struct Replay {
    /// What makes its status
    #[command(flatten)]
    pub verdict: Verdict,
    /// Where the report goes
    #[command(flatten)]
    pub out: Output,
    /// What --record wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `fdwatch explain`.
#[derive(Args, Debug)]
pub struct Explain {
    /// A finding's name; without one, all are listed
    pub name: Option<String>,
}

/// When fdwatch and a task are held on one CPU.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoLocate {
    /// While it is faster
    Auto,
    /// Never
    Off,
}

/// When to colour.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Which implicit closes break.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Breaks {
    /// Those whose number has left the object that owned it
    Escaped,
    /// All
    Implicit,
    /// None
    None,
}

/// From which severity on `audit` fails.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailOn {
    /// Any finding
    Note,
    /// Warnings and errors
    Warning,
    /// Errors
    Error,
    /// Nothing
    Never,
}

impl FailOn {
    /// Whether a finding of this severity makes `audit` fail.
    pub fn includes(self, severity: Severity) -> bool {
        match self {
            FailOn::Note => true,
            FailOn::Warning => severity >= Severity::Warning,
            FailOn::Error => severity >= Severity::Error,
            FailOn::Never => false,
        }
    }
}

fn pattern(text: &str) -> Result<glob::Pattern, String> {
    glob::Pattern::new(text).map_err(|e| format!("{} at position {}", e.msg, e.pos))
}

/// Parses a command line.
///
/// # Errors
/// With one line that says what is wrong and what to do. `Err(Ok(text))` is help or a version that was asked for.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli, Result<String, String>> {
    let args = gdb_style(args.collect());
    Cli::try_parse_from(args).map_err(|e| {
        use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
        match e.kind() {
            DisplayHelp | DisplayVersion => Ok(e.render().to_string()),
            DisplayHelpOnMissingArgumentOrSubcommand => Err(format!("say what to do\n\n{}", e.render())),
            _ => Err(one_line(&e.render().to_string())),
        }
    })
}

/// clap's words in one line: what is wrong, the tip, and where to read on.
fn one_line(text: &str) -> String {
    let mut what = String::new();
    let mut tip = None;
    let mut missing = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(w) = line.strip_prefix("error: ") {
            what = w.to_string();
        } else if let Some(t) = line.strip_prefix("tip: ") {
            tip.get_or_insert_with(|| t.to_string());
        } else if line.starts_with('<') || line.starts_with("[possible values") {
            missing.push(line.to_string());
        }
    }
    for m in missing {
        what = format!("{what} {m}");
    }
    match tip {
        Some(tip) => format!("{what} ({tip}); see fdwatch --help"),
        None => format!("{what}; see fdwatch --help"),
    }
}

/// gdb's `-ex`, which is no short option and no long one, becomes `--ex`; only before the command.
fn gdb_style(mut args: Vec<OsString>) -> Vec<OsString> {
    use clap::CommandFactory;
    let cli = Cli::command();
    let Some(sub) = args.get(1).and_then(|s| cli.find_subcommand(s)) else { return args };
    let takes_value = |arg: &OsStr| {
        let Some(text) = arg.to_str() else { return false };
        sub.get_arguments().any(|a| {
            let named = text.strip_prefix("--").is_some_and(|l| a.get_long() == Some(l))
                || text
                    .strip_prefix('-')
                    .is_some_and(|s| a.get_short().is_some_and(|c| s.len() == c.len_utf8() && s.starts_with(c)));
            named && a.get_action().takes_values()
        })
    };
    let mut i = 2;
    while let Some(arg) = args.get_mut(i) {
        if arg == "--" || !arg.as_encoded_bytes().starts_with(b"-") {
            break;
        }
        if arg == "-ex" {
            *arg = OsString::from("--ex");
        }
        i += if takes_value(arg) { 2 } else { 1 };
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Cli, Result<String, String>> {
        parse(std::iter::once("fdwatch").chain(args.iter().copied()).map(OsString::from))
    }

    fn wrong(args: &[&str]) -> String {
        match run(args) {
            Err(Err(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_keeps_its_own_options() {
        let cli = run(&["run", "-ex", "bt", "-ex", "continue", "--fd", "3", "gdb", "-ex", "run", "--", "x"]).unwrap();
        let Command::Run(r) = cli.command else { panic!() };
        assert_eq!(r.commands, ["bt", "continue"]);
        assert_eq!(r.argv, ["gdb", "-ex", "run", "--", "x"]);
        assert_eq!(r.fds, [3]);
        let cli = run(&["audit", "--", "prog", "-v"]).unwrap();
        let Command::Audit(a) = cli.command else { panic!() };
        assert_eq!((a.argv, a.common.out.verbose), (vec!["prog".into(), "-v".into()], 0));
    }

    #[test]
    fn mistakes_are_told_in_one_line_that_helps() {
        for (args, part) in [
            (&["run", "--fdd", "3", "x"][..], "--fd"),
            (&["audit", "--format", "xml", "x"], "json"),
            (&["run"], "<CMD>"),
            (&["rum", "x"], "run"),
            (&["run", "--fd", "-3", "x"], "--fd"),
            (&["run", "--path", "a**b[", "x"], "position"),
            (&["replay"], "<FILE>"),
            (&["replay", "a", "b"], "'b'"),
        ] {
            let text = wrong(args);
            assert!(!text.contains('\n'), "{args:?}: {text}");
            assert!(text.contains(part), "{args:?}: {text}");
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}

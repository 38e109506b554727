//! The command line.

use crate::finding::{Inherit, Severity};
use clap::builder::styling::Styles;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// Follows file descriptors, and stops at the close that breaks a child.
#[derive(Parser, Debug)]
#[command(name = "fdwatch", version, styles = Styles::plain(), subcommand_required = true, args_override_self = true)]
#[command(after_help = "\
Exit status: the target's own; death by a signal is repeated. 99 with findings
(audit and attach, see --error-exitcode), 0 if you ended the target at the
prompt, 125 if fdwatch failed, 126 if the command cannot be executed, 127 if
there is none. Of attach: 99 with findings, else 0, whatever becomes of the
process. Of diff: 0 if nothing differs, 1 if something does, 2 if it failed.

Examples:
  fdwatch run -- python3 job.py          stop at the close that loses the output
  fdwatch audit -- make check            a report, and a status for CI
  fdwatch attach --for 30s 4711          look at what is running, and leave it
  fdwatch diff before.json after.json    what a repair has changed
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
    /// Watch a process that is running, write a report, and leave it running
    Attach(Attach),
    /// Write a saved report again, in any format
    Show(Show),
    /// Compare two reports, or two findings or lives in them
    Diff(Diff),
    /// Open the prompt of the fdwatch that watches PID, where Ctrl-C does not reach it
    Break(Knock),
    /// Say what would keep fdwatch from working here, and the step that mends it
    Doctor,
    /// Trust the .fdwatch.toml of this folder, or of the nearest above it, as it is now
    Trust,
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

/// What is known already, and does not count.
#[derive(Args, Debug, Default)]
pub struct Sift {
    /// Leave out, and count, what the entries of FILE cover (repeatable; docs/suppressions.md)
    #[arg(long, value_name = "FILE")]
    pub suppressions: Vec<PathBuf>,
    /// Show what the entries that ship with fdwatch cover, too
    #[arg(long)]
    pub no_default_suppressions: bool,
    /// Write entries for --suppressions that cover what is found, to FILE or behind the report
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub gen_suppressions: Option<PathBuf>,
    /// Leave out, and count, what was found when FILE was written; say what of it is gone
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write what is found to FILE, for --baseline; none of it counts as found then
    #[arg(long, value_name = "FILE")]
    pub write_baseline: Option<PathBuf>,
}

/// What `run` and `audit` have in common.
#[derive(Args, Debug)]
pub struct Common {
    /// Where the report goes
    #[command(flatten)]
    pub out: Output,
    /// What is known already
    #[command(flatten)]
    pub sift: Sift,
    /// Record what happens to FILE, for `fdwatch replay`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Stop at every call instead of using a seccomp filter: slow, but the target can be left for good with
    /// `detach`, and can enter seccomp's strict mode
    #[arg(long)]
    pub no_seccomp: bool,
    /// Alter calls that end a descriptor or make one, in strace's words: openat:path=/tmp/*:error=EMFILE, close:path=/tmp/a:nth=1:keep, close,dup2:error=EIO:when=2+,
    /// close:delay_enter=50ms, delay_exit likewise, alone or with one of the others; if=CONDITION may come last; every report says so
    /// (repeatable)
    #[arg(long = "inject", value_name = "CALLS:HOW")]
    pub injections: Vec<String>,
    /// Hold the numbers of descriptors back after their close, so that a stale use of one is refused (EBADF) and cannot hit
    /// what got the number since: those of the last N closes of each descriptor table; every report says so
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "64",
          value_parser = clap::value_parser!(u16).range(1..=1024), conflicts_with = "no_seccomp")]
    pub quarantine: Option<u16>,
    /// Get debug files that are not installed from the servers of DEBUGINFOD_URLS, by debuginfod-find
    #[arg(long)]
    pub debuginfod: bool,
    /// Programs may inherit descriptor N, or what has a path that matches GLOB, without a promise (repeatable)
    #[arg(long = "allow-inherit", value_name = "N|GLOB", value_parser = Inherit::parse)]
    pub allow_inherit: Vec<Inherit>,
    /// Report what a program opened and did not close before it ended, too
    #[arg(long)]
    pub leaks_at_exit: bool,
    /// Look at calls that only use a descriptor (read, write, send, epoll_ctl and the like), too: slower
    #[arg(long, value_name = "WHICH", default_value = "none")]
    pub uses: Uses,
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

/// What else breaks, and what does not.
#[derive(Args, Debug)]
pub struct Stops {
    /// A child is going to execute PATH: until then, break also before closes that no code asked for, whoever holds the
    /// number, and before those of what a child would inherit, but for files that are only read (repeatable; may be a
    /// pattern, and a name without folders)
    #[arg(long, value_name = "PATH", value_parser = expected)]
    pub expect_child: Vec<String>,
    /// Do not break before closes that take away what was made inheritable (inheritable), not in a child before exec
    /// (child-side), not before those that no code asked for (implicit), not on findings; repeatable
    #[arg(long, value_name = "KIND")]
    pub no_break: Vec<Kind>,
}

/// A kind of break.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Before closes that no code asked for
    Implicit,
    /// Before a close of what was made inheritable and no child has received
    Inheritable,
    /// The same in a child, before it executes its program
    ChildSide,
    /// On findings
    Findings,
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
    /// What else breaks, and what does not
    #[command(flatten)]
    pub stops: Stops,
    /// Break before the close that finding N of an earlier run's report (JSON, or a recording) blames; repeatable
    #[arg(long, value_name = "REPORT#N")]
    pub arm: Vec<OsString>,
    /// Run CMD at the first break, as if it were typed (repeatable; also written -ex)
    #[arg(long = "ex", value_name = "CMD")]
    pub commands: Vec<String>,
    /// Run the commands of FILE at the first break, one a line
    #[arg(short = 'x', value_name = "FILE")]
    pub scripts: Vec<PathBuf>,
    /// Ask at terminal DEV (as `tty` names it there) instead of the target's
    #[arg(long, value_name = "DEV")]
    pub tty: Option<PathBuf>,
    /// Never ask: when the script is used up, the target goes on by itself
    #[arg(long)]
    pub batch: bool,
    /// Write down what is typed and shown, so that -x FILE does it again
    #[arg(long, value_name = "FILE")]
    pub transcript: Option<PathBuf>,
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
    /// What is known already
    #[command(flatten)]
    pub sift: Sift,
    /// What --record wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `fdwatch attach`.
#[derive(Args, Debug)]
#[command(mut_arg("no_seccomp", |a| a.hide(true)), mut_arg("co_locate", |a| a.hide(true)))] // settled in any case
#[command(after_help = "\
Ctrl-C, SIGTERM, SIGHUP, the end of --for and the end of the process end the
watching; the process goes on as it was. With --prompt Ctrl-C opens the prompt.
Every call of the process stops: it is slow while it is watched.")]
pub struct Attach {
    /// Watch the children that it has, too; those that it will have are watched in any case
    #[arg(long)]
    pub children: bool,
    /// Leave after this time: 500ms, 30s, 5m, 2h
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub time: Option<Duration>,
    /// Open a prompt at breaks and on Ctrl-C, as run does; quit leaves the process running
    #[arg(long)]
    pub prompt: bool,
    /// What else breaks, and what does not
    #[command(flatten)]
    pub stops: Stops,
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
    /// Never ask: when the script is used up, the target goes on by itself
    #[arg(long)]
    pub batch: bool,
    /// Write down what is typed and shown, so that -x FILE does it again
    #[arg(long, value_name = "FILE")]
    pub transcript: Option<PathBuf>,
    /// What makes its status
    #[command(flatten)]
    pub verdict: Verdict,
    /// Options that run has, too
    #[command(flatten)]
    pub common: Common,
    /// The process
    #[arg(value_name = "PID", allow_negative_numbers = true, value_parser = pid)]
    pub pid: i32,
}

/// `fdwatch show`.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit status: 0, whatever the report says; 125 if it cannot be read or written.")]
pub struct Show {
    /// Write it to FILE instead of standard output; whole or not at all
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
    /// Colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// What is known already
    #[command(flatten)]
    pub sift: Sift,
    /// What --format json wrote
    #[arg(value_name = "REPORT")]
    pub report: PathBuf,
}

/// `fdwatch diff`.
#[derive(Args, Debug)]
#[command(after_help = "\
A and B are reports that --format json wrote, or logs that --record wrote. To
compare two findings or two lives, of one run or of two:
  REPORT#2      the second finding
  REPORT@17     the life of object #17 (its first, if it had several numbers)
  REPORT@17:4   its life as fd 4

Lives are aligned by where they were opened and which of those they are. Times,
pids, ids of objects, made-up names of temporary files, and what the command was
given as 0, 1 and 2 are no differences.

Exit status, as of diff(1): 0 if nothing differs, 1 if something does, 2 if
fdwatch failed.

Examples:
  fdwatch audit --format json -o before.json -- python3 job.py
  fdwatch diff before.json after.json    what the repair has changed
  fdwatch diff before.json#1 after.json@105
                                         the culprit beside the close that works")]
pub struct Diff {
    /// Show all that differs, not the first of each kind
    #[arg(long)]
    pub all: bool,
    /// Colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// The first
    #[arg(value_name = "A")]
    pub a: OsString,
    /// The second
    #[arg(value_name = "B")]
    pub b: OsString,
}

/// `fdwatch break`.
#[derive(Args, Debug)]
pub struct Knock {
    /// An fdwatch, or a process that it watches
    #[arg(value_name = "PID", allow_negative_numbers = true, value_parser = pid)]
    pub pid: i32,
}

/// What `fdwatch` says by itself.
const SCREEN: &str = "\
fdwatch: a debugger for file descriptors

Output that never arrives, a file that is closed too early or twice, a child
that gets the wrong one: fdwatch stops at the close that does it, before it
happens, and says who opened the descriptor, who closes it and who needed it.

  fdwatch run -- python3 job.py    stop there; then bt (who closes it), keep
                                   (let it live), continue
  fdwatch audit -- make check      ask nothing: a report, and status 99 if
                                   something was found
  fdwatch attach 4711              the same for what is running; Ctrl-C leaves
                                   it as it was
  fdwatch explain                  what can be found, with examples and fixes
  fdwatch doctor                   whether anything here is in its way

At the prompt help lists the commands. More: fdwatch --help, fdwatch run --help.
";

/// `fdwatch explain`.
#[derive(Args, Debug)]
pub struct Explain {
    /// A finding's name; without one, all are listed
    pub name: Option<String>,
}

/// Which uses of a descriptor are looked at.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uses {
    /// Those of calls that are followed in any case: dup, fcntl, accept
    None,
    /// All
    All,
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

fn expected(text: &str) -> Result<String, String> {
    pattern(text).map(|_| text.to_string())
}

fn pattern(text: &str) -> Result<glob::Pattern, String> {
    glob::Pattern::new(text).map_err(|e| format!("{} at position {}", e.msg, e.pos))
}

fn pid(text: &str) -> Result<i32, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("that is not the number of a process, as ps and pgrep give it".to_string()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "say a number and ms, s, m or h: 500ms, 30s, 5m, 2h".to_string();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

impl Attach {
    /// Whether there is somebody to ask, or a script.
    pub fn asks(&self) -> bool {
        self.prompt || !self.commands.is_empty() || !self.scripts.is_empty()
    }
}

/// Whether a command line is one of `fdwatch diff`, whose failures have a status of their own.
pub fn is_diff(mut args: impl Iterator<Item = OsString>) -> bool {
    args.nth(1).is_some_and(|a| a == "diff")
}

/// Parses a command line.
///
/// # Errors
/// With one line that says what is wrong and what to do. `Err(Ok(text))` is help or a version that was asked for.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli, Result<String, String>> {
    let args = gdb_style(args.collect());
    if args.len() < 2 {
        return Err(Ok(SCREEN.to_string()));
    }
    Cli::try_parse_from(args).map_err(|e| {
        use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
        match e.kind() {
            DisplayHelp | DisplayVersion => Ok(e.render().to_string()),
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
            // `--quarantine` has its value behind a =, or none.
            named && a.get_action().takes_values() && !a.is_require_equals_set()
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
            (&["attach"], "<PID>"),
            (&["attach", "sshd"], "pgrep"),
            (&["attach", "-3"], "pgrep"),
            (&["attach", "99999999999"], "pgrep"),
            (&["attach", "--for", "30", "1"], "30s"),
            (&["attach", "--for", "x s", "1"], "30s"),
            (&["attach", "--for", "s", "1"], "30s"),
            (&["attach", "--for", "99999999999999999999h", "1"], "30s"),
            (&["attach", "--for", "9999999999999999999h", "1"], "30s"),
        ] {
            let text = wrong(args);
            assert!(!text.contains('\n'), "{args:?}: {text}");
            assert!(text.contains(part), "{args:?}: {text}");
        }
    }

    #[test]
    fn times_are_read() {
        for (text, millis) in [("500ms", 500), ("0s", 0), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
        }
        assert!(duration("5µs").is_err() && duration("µ").is_err() && duration("").is_err());
        let cli = run(&["attach", "-ex", "bt", "--for", "1s", "7"]).unwrap();
        let Command::Attach(a) = cli.command else { panic!() };
        assert_eq!((a.commands, a.pid), (vec!["bt".to_string()], 7));
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}

//! What is left of a run: findings with all their names, how the target ended, and what could not be seen.

pub mod baseline;
pub mod diff;
mod file;
mod json;
pub mod lives;
pub mod sift;
mod text;

pub use file::{check_writable, create, write_whole};

use crate::base::text::escape;
use crate::base::{Fd, FileId, Pid, Tid};
use crate::finding::{Finding, Severity};
use crate::identity::{Ledger, Stacks};
use crate::model::{self, What, World};
use crate::render::call::{alteration, invocation, some};
use crate::render::place::place;
use crate::render::record::{FindingRecord, LifeRef};
use crate::render::{Names, Sources};
use lives::Lives;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// The schema of [`Report`], in docs/report.schema.json. The number after the slash changes when a reader of the
/// former would misread the new; new fields do not change it.
pub const SCHEMA: &str = "fdwatch-report/1";

/// A report. Text in it is escaped as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The version of fdwatch that wrote it.
    pub version: String,
    /// The command that was watched; empty when it was attached to.
    pub command: Vec<String>,
    /// How the target ended.
    pub target: Target,
    /// How many findings of each severity.
    pub counts: Counts,
    /// What was found, in the order of time.
    pub findings: Vec<FindingRecord>,
    /// Entries of suppressions that were of use, and those of the user's that were not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suppressions: Vec<sift::SuppressionRecord>,
    /// The baseline that was compared with, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<baseline::BaselineRecord>,
    /// The calls that fdwatch made come out differently.
    pub altered: Vec<Altered>,
    /// How many calls more it altered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub altered_unlisted: u64,
    /// What was seen and what was not.
    pub coverage: Coverage,
    /// All lives, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lives: Option<Lives>,
}

/// How the target ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "how")]
pub enum Target {
    /// With this exit status.
    Exited {
        /// 0..=255.
        status: i32,
    },
    /// By a signal.
    Signaled {
        /// Its number.
        signal: i32,
    },
    /// It was killed at the prompt.
    Killed,
    /// It goes on without being watched.
    Detached,
    /// What is known of the run ends before it did, or its first thread had ended before fdwatch attached.
    Unknown,
}

/// How many findings of each severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Errors.
    pub errors: u64,
    /// Warnings.
    pub warnings: u64,
    /// Notes.
    pub notes: u64,
    /// Findings of any severity that the user did not want to see.
    pub suppressed: u64,
    /// Findings of any severity that the baseline knows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub known: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
pub(crate) fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A call that fdwatch made come out differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Altered {
    /// When, since fdwatch started watching.
    pub at_ns: u64,
    /// The process.
    pub pid: Pid,
    /// The task.
    pub tid: Tid,
    /// What was done: `keep`.
    pub how: String,
    /// The call: `close(3)`.
    pub call: String,
    /// The number concerned.
    pub fd: Option<Fd>,
    /// The object concerned.
    pub object: Option<FileId>,
}

impl Altered {
    /// What the model knows of the calls that were altered.
    pub fn all(world: &World) -> Vec<Altered> {
        let of = |a: &model::Altered| {
            let first = a.about.first();
            let fd = first.map(|(_, fd, _)| *fd);
            // Of two objects one may have become known since.
            let object = first.map(|(life, _, file)| world.life(*life).map_or(*file, |l| l.file));
            let call = match &a.moment.what {
                What::Call(info) => invocation(info, some(&a.path)),
                _ => String::new(),
            };
            let (at_ns, pid, tid, how) = (a.moment.at, a.moment.pid, a.moment.tid, alteration(a.how));
            Altered { at_ns, pid, tid, how, call, fd, object }
        };
        world.altered().iter().map(of).collect()
    }
}

/// Which calls stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Those that concern descriptors, by a seccomp filter.
    Seccomp,
    /// All.
    Full,
}

/// What was seen and what was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Which calls stopped.
    pub mode: Mode,
    /// Whether the target ran with no_new_privs: setuid programs got no privilege.
    pub no_new_privs: bool,
    /// How many processes were seen.
    pub processes: u64,
    /// How many ended lives were forgotten to bound memory.
    pub forgotten_lives: u64,
    /// How often a descriptor turned out to be open or closed against expectation.
    pub surprises: u64,
    /// How many native stacks of these findings are incomplete.
    pub incomplete_stacks: u64,
    /// Whatever else limits what this report can tell, a sentence each.
    pub notes: Vec<String>,
}

/// What the caller knows of a run and the model does not. A log keeps it in its last line, but for the command, which
/// is in its first, and what follows from its events.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// The command; empty when it was attached to.
    #[serde(skip)]
    pub command: Vec<Vec<u8>>,
    /// How the target ended.
    pub target: Target,
    /// Which calls stopped.
    pub mode: Mode,
    /// Whether the target ran with no_new_privs.
    pub no_new_privs: bool,
    /// How many processes were seen.
    pub processes: u64,
    /// How many findings the user did not want to see.
    #[serde(skip)]
    pub suppressed: u64,
    /// The calls that were altered.
    pub altered: Vec<Altered>,
    /// How many calls more were altered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub altered_unlisted: u64,
    /// What else limits what the report can tell.
    pub notes: Vec<String>,
    /// The lines of source that the findings show, as they were when watching ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceLine>,
}

/// A line of a source file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLine {
    /// The file, as the debug information or the interpreter names it.
    pub file: String,
    /// Which line, from 1.
    pub line: u32,
    /// What stands on it, without the spaces around it, at most [`SourceLine::LONGEST`] characters.
    pub text: String,
}

impl SourceLine {
    /// The longest line that is kept, in characters.
    pub const LONGEST: usize = 400;

    /// The lines on which the steps of `findings` were taken, each once.
    pub fn of(findings: &[Finding], names: &mut dyn Names, sources: &mut dyn Sources) -> Vec<SourceLine> {
        let mut out: Vec<SourceLine> = Vec::new();
        let mut seen = HashSet::new();
        for step in findings.iter().flat_map(Finding::all_steps) {
            let Some((file, line)) = place(names, &step.moment.site).source else { continue };
            if !seen.insert((file.clone(), line)) {
                continue;
            }
            if let Some(text) = sources.line(&file, line) {
                let text = text.trim().chars().take(SourceLine::LONGEST).collect();
                out.push(SourceLine { file, line, text });
            }
        }
        out
    }
}

/// Lines that were kept.
struct Kept(HashMap<(String, u32), String>);

impl Sources for Kept {
    fn line(&mut self, file: &str, n: u32) -> Option<String> {
        self.0.get(&(file.to_string(), n)).cloned()
    }
}

/// A way to write a report down.
pub trait Format: Sync {
    /// Its name, as `--format` takes it.
    fn name(&self) -> &'static str;
    /// The report in this format, with a line end.
    fn write(&self, report: &Report) -> Vec<u8>;
}

/// Every format.
pub static FORMATS: &[&dyn Format] = &[&text::Text, &json::Json];

/// The format of this name.
pub fn format(name: &str) -> Option<&'static dyn Format> {
    FORMATS.iter().find(|f| f.name() == name).copied()
}

/// The report as text in this style.
pub use text::text;

impl Report {
    /// The report of a run, without its lives.
    pub fn new<N: Names + Stacks>(
        facts: Facts,
        world: &World,
        findings: &[Finding],
        ledger: &mut Ledger,
        names: &mut N,
    ) -> Report {
        let count = |s| findings.iter().filter(|f| f.severity == s).count() as u64;
        let mut sources = Kept(facts.sources.into_iter().map(|s| ((s.file, s.line), s.text)).collect());
        let records: Vec<_> =
            findings.iter().enumerate().map(|(n, f)| record(n, f, ledger, names, &mut sources)).collect();
        let cut = records.iter().flat_map(|f| &f.steps).filter(|s| s.incomplete.is_some()).count();
        Report {
            schema: SCHEMA.to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            command: facts.command.iter().map(|a| escape(a)).collect(),
            target: facts.target,
            counts: Counts {
                errors: count(Severity::Error),
                warnings: count(Severity::Warning),
                notes: count(Severity::Note),
                suppressed: facts.suppressed,
                known: 0,
            },
            findings: records,
            suppressions: Vec::new(),
            baseline: None,
            altered: facts.altered,
            altered_unlisted: facts.altered_unlisted,
            coverage: Coverage {
                mode: facts.mode,
                no_new_privs: facts.no_new_privs,
                processes: facts.processes,
                forgotten_lives: world.forgotten(),
                surprises: world.surprises(),
                incomplete_stacks: cut as u64,
                notes: facts.notes.iter().map(|n| escape(n.as_bytes())).collect(),
            },
            lives: None,
        }
    }

    /// The same with the lives of the run: what `fdwatch diff` compares.
    #[must_use]
    pub fn with_lives<N: Names + Stacks>(mut self, world: &World, ledger: &mut Ledger, names: &mut N) -> Report {
        self.lives = Some(Lives::of(world, ledger, names));
        self
    }

    /// Reads a report that was written as JSON; else one line that says what is wrong.
    pub fn read(bytes: &[u8]) -> Result<Report, String> {
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|e| format!("not a report of fdwatch: {e}"))?;
        if head.schema != SCHEMA {
            return Err(format!("its schema is {}, this fdwatch reads {SCHEMA}", escape(head.schema.as_bytes())));
        }
        serde_json::from_slice(bytes).map_err(|e| format!("not a report of fdwatch: {e}"))
    }
}

/// The nth finding with its names, and what another run can recognise it by.
fn record<N: Names + Stacks>(
    n: usize,
    finding: &Finding,
    ledger: &mut Ledger,
    names: &mut N,
    sources: &mut dyn Sources,
) -> FindingRecord {
    let mut record = identified(finding, ledger, names, sources);
    record.life =
        ledger.of_finding(n).map(|m| LifeRef { id: m.life, process: m.place.to_string(), ordinal: m.ordinal });
    record
}

/// A finding with its names, and the fingerprints of its steps.
fn identified<N: Names + Stacks>(
    finding: &Finding,
    ledger: &mut Ledger,
    names: &mut N,
    sources: &mut dyn Sources,
) -> FindingRecord {
    let mut record = FindingRecord::of(finding, names, sources);
    identify(finding, &mut record, ledger, names);
    for (part, record) in finding.parts.iter().zip(&mut record.parts) {
        identify(part, record, ledger, names);
    }
    record
}

/// The fingerprints of a finding's steps, and the build ids of their frames.
fn identify<N: Names + Stacks>(finding: &Finding, record: &mut FindingRecord, ledger: &mut Ledger, names: &mut N) {
    for (step, record) in finding.steps.iter().zip(&mut record.steps) {
        let site = &step.moment.site;
        record.fingerprint = lives::fingerprint(site, ledger, names);
        let frames = site.stack.map(|id| names.module_frames(id)).unwrap_or_default();
        let mut frames = frames.into_iter();
        let mut build_id = frames.next().and_then(|f| f.build_id);
        // Who ended with a jump has no frame.
        for named in record.native.iter_mut().filter(|n| !n.jumped) {
            named.build_id.clone_from(&build_id);
            if !named.inlined {
                build_id = frames.next().and_then(|f| f.build_id);
            }
        }
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

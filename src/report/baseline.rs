//! What was found before and is known: only what is new counts.
//!
//! A finding is recognised by its name and by where the life was opened, where it ended and where it was needed: by the
//! fingerprints of these stacks, or, in another build, by the names of their functions.

use super::Report;
use crate::base::text::escape;
use crate::finding::Role;
use crate::identity::{Fingerprint, ModuleFrame, PythonLine};
use crate::render::record::{FindingRecord, StepRecord};
use serde::{Deserialize, Serialize};

/// The format. The number changes when a reader of the former would misread the new.
const FORMAT: &str = "fdwatch-baseline/1";

/// The steps by which a finding is recognised. What a number became meanwhile is another in each run.
const TELLING: [Role; 3] = [Role::Opened, Role::Closed, Role::Used];

/// Findings that are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    baseline: String,
    /// In order, each once.
    findings: Vec<Known>,
}

/// A known finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    name: String,
    steps: Vec<KnownStep>,
}

/// Where a step was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KnownStep {
    role: Role,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// The hash of the stack; nothing where none was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    /// The same with the names of functions for addresses and without lines: it survives another build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    functions: Option<String>,
}

/// What a report says of a baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaselineRecord {
    /// The file.
    pub file: String,
    /// What it knows and this run did not find.
    pub gone: Vec<GoneRecord>,
}

/// A known finding that this run did not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneRecord {
    /// The finding's name.
    pub name: String,
    /// Where it was: of the close that was to blame, else of another step.
    pub place: Option<String>,
}

impl Known {
    fn of(finding: &FindingRecord) -> Known {
        let steps = TELLING.iter().filter_map(|role| finding.step(*role)).map(KnownStep::of);
        Known { name: finding.name.clone(), steps: steps.collect() }
    }

    fn is(&self, other: &Known) -> bool {
        let steps = || self.steps.iter().zip(&other.steps);
        self.name == other.name && self.steps.len() == other.steps.len() && steps().all(|(a, b)| a.is(b))
    }

    fn gone(&self) -> GoneRecord {
        let place = |role| self.steps.iter().find(|s| s.role == role).and_then(|s| s.place.as_deref());
        let place = [Role::Closed, Role::Used, Role::Opened].into_iter().find_map(place);
        // A file that somebody has written may hold anything.
        GoneRecord { name: printable(&self.name), place: place.map(printable) }
    }
}

/// Text that is escaped already, or was made up.
fn printable(text: &str) -> String {
    if text.chars().any(char::is_control) { escape(text.as_bytes()) } else { text.to_string() }
}

impl KnownStep {
    fn of(step: &StepRecord) -> KnownStep {
        let functions = step.fingerprint.as_ref().map(|_| functions(step).to_string());
        KnownStep { role: step.role, place: step.place.clone(), fingerprint: step.fingerprint.clone(), functions }
    }

    fn is(&self, other: &KnownStep) -> bool {
        let may_be = |a: &Option<String>, b: &Option<String>| match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                let read = |t: &String| t.parse::<Fingerprint>();
                read(a).is_ok_and(|a| read(b).is_ok_and(|b| a.may_be(&b)))
            }
            _ => false,
        };
        self.role == other.role
            && (may_be(&self.fingerprint, &other.fingerprint) || may_be(&self.functions, &other.functions))
    }
}

/// The hash of the functions of a step's stacks. What has no name counts as its file.
fn functions(step: &StepRecord) -> Fingerprint {
    let physical = step.native.iter().filter(|f| !f.inlined && !f.jumped);
    let native: Vec<_> = physical
        .map(|f| ModuleFrame {
            module: f.function.clone().unwrap_or_else(|| crate::render::place::base(&f.module).to_string()),
            build_id: None,
            offset: 0,
        })
        .collect();
    let line = |f: &crate::render::record::PythonRecord| PythonLine {
        file: f.file.clone(),
        function: f.function.clone(),
        line: None,
    };
    let python: Vec<_> = step.python.iter().map(line).collect();
    Fingerprint::of(&native, (!python.is_empty()).then_some(&python))
}

impl Baseline {
    /// What a report has found.
    pub fn of(report: &Report) -> Baseline {
        let mut findings: Vec<Known> = Vec::new();
        for known in report.findings.iter().map(Known::of) {
            if !findings.iter().any(|k| k.is(&known)) {
                findings.push(known);
            }
        }
        findings.sort_by_cached_key(|k| serde_json::to_string(k).unwrap_or_default());
        Baseline { baseline: FORMAT.to_string(), findings }
    }

    /// Reads what [`Baseline::write`] wrote; else one line with the place that is wrong.
    pub fn read(bytes: &[u8]) -> Result<Baseline, String> {
        let place = |e: serde_json::Error| match e.line() {
            0 => format!("not a baseline of fdwatch: {e}"),
            // serde_json says the place behind the message, too.
            line => format!("{line}:{}: not a baseline of fdwatch: {e}", e.column().max(1)),
        };
        let read: Baseline = serde_json::from_slice(bytes).map_err(place)?;
        if read.baseline != FORMAT {
            return Err(format!("its format is {}, this fdwatch reads {FORMAT}", escape(read.baseline.as_bytes())));
        }
        Ok(read)
    }

    /// As JSON, in an order that does not depend on the run.
    pub fn write(&self) -> Vec<u8> {
        // Writing to memory fails for maps with keys that are no strings only: there are none.
        let mut out = serde_json::to_vec_pretty(self).unwrap_or_default();
        out.push(b'\n');
        out
    }
}

impl Report {
    /// Takes out what `baseline`, the file of this name, knows, counts it, and says what of it is gone.
    pub fn compare_with(&mut self, baseline: &Baseline, file: &str) {
        let mut seen = vec![false; baseline.findings.len()];
        let before = self.findings.len();
        self.findings.retain(|f| {
            let found = Known::of(f);
            let mut is_new = true;
            for (known, seen) in baseline.findings.iter().zip(&mut seen) {
                if known.is(&found) {
                    *seen = true;
                    is_new = false;
                }
            }
            is_new
        });
        self.counts.known += (before - self.findings.len()) as u64;
        self.count();
        let gone = baseline.findings.iter().zip(&seen).filter(|(_, seen)| !**seen).map(|(k, _)| k.gone());
        self.baseline = Some(BaselineRecord { file: file.to_string(), gone: gone.collect() });
    }
}

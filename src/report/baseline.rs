//! What was found before and is known: only what is new counts.
//!
//! A finding is recognised by its name and by where the life was opened, where it ended and where it was needed: by the
//! fingerprints of these stacks, or, in another build, by the names of their functions. A program that was executed counts
//! by its name, and where the stacks do not tell, the number does.

use super::Report;
use crate::base::text::escape;
use crate::base::{Fd, nearest};
use crate::finding::{Finding, Role, left, rules};
use crate::identity::{Fingerprint, Ledger, ModuleFrame, PythonLine, Stacks, same_path};
use crate::render::place::base;
use crate::render::record::{FindingRecord, NativeRecord, StepRecord};
use crate::render::{Names, Sources};
use crate::stack::Library;
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
    /// The number, where it tells findings apart that have the same steps: 0 to 2 of a program that was executed, and any
    /// where no stack was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fd: Option<Fd>,
    /// The path, where no stack was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    steps: Vec<KnownStep>,
}

/// Where a step was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KnownStep {
    role: Role,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// The program that was executed, where it was that: the last component of its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    /// The hash of the stack; nothing where none was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    /// The same with the names of functions for addresses and without lines: it survives another build. Nothing where a
    /// function has no name.
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
        let steps: Vec<_> = TELLING.iter().filter_map(|role| finding.step(*role)).map(KnownStep::of).collect();
        let untold = steps.iter().all(|s| s.fingerprint.is_none());
        let stream = (0..=2).contains(&finding.fd.0) && steps.iter().any(|s| s.program.is_some());
        Known {
            name: finding.name.clone(),
            fd: (untold || stream).then_some(finding.fd),
            path: untold.then(|| finding.object.path.clone()),
            steps,
        }
    }

    fn is(&self, other: &Known) -> bool {
        let steps = || self.steps.iter().zip(&other.steps);
        let path = match (&self.path, &other.path) {
            (Some(a), Some(b)) => same_path(a, b),
            (a, b) => a == b,
        };
        (&self.name, self.fd) == (&other.name, other.fd)
            && path
            && self.steps.len() == other.steps.len()
            && steps().all(|(a, b)| a.is(b))
    }

    /// What is wrong with it, if it can match nothing.
    fn check(&self) -> Result<(), String> {
        let names = || rules().into_iter().map(|r| r.about().name);
        if !names().any(|n| n == self.name) {
            let unknown = format!("no finding is called \"{}\"", escape(self.name.as_bytes()));
            return Err(match nearest(&self.name, names()) {
                Some(n) => format!("{unknown}; did you mean {n}?"),
                None => unknown,
            });
        }
        let hashes = self.steps.iter().flat_map(|s| s.fingerprint.iter().chain(&s.functions));
        hashes.map(|h| (h, h.parse::<Fingerprint>())).try_for_each(|(h, read)| {
            read.map(drop).map_err(|e| format!("{}: \"{}\" is {e}", self.name, escape(h.as_bytes())))
        })
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
    text.chars().map(|c| if c == '\\' { c.to_string() } else { escape(c.to_string().as_bytes()) }).collect()
}

impl KnownStep {
    fn of(step: &StepRecord) -> KnownStep {
        let functions = step.fingerprint.as_ref().and_then(|_| functions(step)).map(|f| f.to_string());
        KnownStep {
            role: step.role,
            place: step.place.clone(),
            program: step.program.as_ref().map(|p| base(p).to_string()),
            fingerprint: step.fingerprint.clone(),
            functions,
        }
    }

    fn is(&self, other: &KnownStep) -> bool {
        let read = |t: &Option<String>| t.as_ref().and_then(|t| t.parse::<Fingerprint>().ok());
        let may_be = |a, b| read(a).zip(read(b)).is_some_and(|(a, b)| a.may_be(&b));
        let untold = self.fingerprint.is_none() && other.fingerprint.is_none();
        (self.role, &self.program) == (other.role, &other.program)
            && (untold || may_be(&self.fingerprint, &other.fingerprint) || may_be(&self.functions, &other.functions))
    }
}

/// The hash of the functions of a step's stacks. What has no name counts as its file in a library that is nobody's own, and
/// in Python's interpreter beside a Python stack; elsewhere it could be any function, and there is no hash.
fn functions(step: &StepRecord) -> Option<Fingerprint> {
    let physical = step.native.iter().filter(|f| !f.inlined && !f.jumped);
    let name = |f: &NativeRecord| match &f.function {
        Some(name) => Some(name.clone()),
        None => {
            let file = base(&f.module);
            let library = Library::of_module(file)?;
            (!library.is_python() || !step.python.is_empty()).then(|| file.to_string())
        }
    };
    let frame = |f| Some(ModuleFrame { module: name(f)?, build_id: None, offset: 0 });
    let native: Vec<_> = physical.map(frame).collect::<Option<_>>()?;
    let line = |f: &crate::render::record::PythonRecord| PythonLine {
        file: f.file.clone(),
        function: f.function.clone(),
        line: None,
    };
    let python: Vec<_> = step.python.iter().map(line).collect();
    Some(Fingerprint::of(&native, (!python.is_empty()).then_some(&python)))
}

/// Source has no part in recognising a finding.
struct NoSources;

impl Sources for NoSources {
    fn line(&mut self, _: &str, _: u32) -> Option<String> {
        None
    }
}

/// A finding, or each that is told with it.
pub(super) fn by_themselves(finding: &FindingRecord) -> &[FindingRecord] {
    match finding.parts.is_empty() {
        true => std::slice::from_ref(finding),
        false => &finding.parts,
    }
}

impl Baseline {
    /// What a report has found.
    pub fn of(report: &Report) -> Baseline {
        let mut findings: Vec<Known> = Vec::new();
        for known in report.findings.iter().flat_map(by_themselves).map(Known::of) {
            if !findings.iter().any(|k| k.is(&known)) {
                findings.push(known);
            }
        }
        findings.sort_by_cached_key(|k| serde_json::to_string(k).unwrap_or_default());
        Baseline { baseline: FORMAT.to_string(), findings }
    }

    /// Whether a finding is known, or all that are told with it.
    pub fn knows<N: Names + Stacks>(&self, finding: &Finding, ledger: &mut Ledger, names: &mut N) -> bool {
        if !self.findings.iter().any(|k| k.name == finding.name) {
            return false;
        }
        let record = super::identified(finding, ledger, names, &mut NoSources);
        by_themselves(&record).iter().map(Known::of).all(|found| self.findings.iter().any(|k| k.is(&found)))
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
        read.findings.iter().try_for_each(Known::check)?;
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
        let mut is_new = |f: &FindingRecord| {
            let found = Known::of(f);
            let mut is_new = true;
            for (known, seen) in baseline.findings.iter().zip(&mut seen) {
                if known.is(&found) {
                    *seen = true;
                    is_new = false;
                }
            }
            is_new
        };
        for finding in std::mem::take(&mut self.findings) {
            let (new, known) = left(finding, &mut is_new);
            self.findings.extend(new);
            self.counts.known += known;
        }
        self.count();
        let gone = baseline.findings.iter().zip(&seen).filter(|(_, seen)| !**seen).map(|(k, _)| k.gone());
        self.baseline = Some(BaselineRecord { file: file.to_string(), gone: gone.collect() });
    }
}

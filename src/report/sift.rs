//! Suppressions and the findings of a report: which are covered, and entries for those that are not.

use super::Report;
use super::baseline::by_themselves;
use crate::base::text::escape;
use crate::finding::{Finding, Role, Severity, left};
use crate::identity::python_file;
use crate::policy::suppression::{Sight, Spellings, Suppressions, entry};
use crate::render::place::base;
use crate::render::record::{FindingRecord, NativeRecord, PythonRecord, StepRecord};
use crate::render::{Names, NativeFrame, PythonFrame};
use serde::{Deserialize, Serialize};

/// An entry that was of use, or one of the user's that was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressionRecord {
    /// The file, or `(shipped)`.
    pub file: String,
    /// The line in it, from 1.
    pub line: u32,
    /// The finding's name, as the entry gives it.
    pub finding: String,
    /// Why it is harmless, as the entry gives it.
    pub reason: String,
    /// How many findings it covered.
    pub count: u64,
}

/// How many frames of a stack a generated entry names.
const FRAMES: usize = 4;
/// The same of a Python stack.
const PYTHON_FRAMES: usize = 4;

/// A finding as it is made, before a record of it exists.
pub struct Fresh<'a> {
    /// The finding.
    pub finding: &'a Finding,
    /// Names for its stacks.
    pub names: &'a mut dyn Names,
}

impl Sight for Fresh<'_> {
    fn name(&self) -> &str {
        self.finding.name
    }

    fn path(&self) -> String {
        escape(&self.finding.object.file.path)
    }

    fn stacks(&mut self, role: Option<Role>) -> Vec<Vec<Spellings>> {
        let mut out = Vec::new();
        for step in self.finding.steps.iter().filter(|s| role.is_none_or(|r| r == s.role)) {
            let site = &step.moment.site;
            if let Some(id) = site.stack {
                let frames = self.names.native(id);
                let spell = |f: &NativeFrame| {
                    native_spellings(f.function.as_ref().map(|n| escape(n.as_bytes())), &f.module, f.offset)
                };
                out.push(frames.iter().rev().map(spell).collect());
            }
            if let Some(id) = site.py {
                let frames = self.names.python(id);
                let spell = |f: &PythonFrame| python_spellings(&escape(f.function.as_bytes()), &f.file);
                out.push(frames.iter().rev().map(spell).collect());
            }
        }
        out
    }
}

impl Sight for &FindingRecord {
    fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> String {
        self.object.path.clone()
    }

    fn stacks(&mut self, role: Option<Role>) -> Vec<Vec<Spellings>> {
        let steps = self.steps.iter().filter(|s| role.is_none_or(|r| r == s.role));
        let stacks = steps.flat_map(|s| {
            let native = |f: &NativeRecord| native_spellings(f.function.clone(), &f.module, f.offset);
            let python = |f: &PythonRecord| python_spellings(&f.function, &f.file);
            [s.native.iter().rev().map(native).collect::<Vec<_>>(), s.python.iter().rev().map(python).collect()]
        });
        stacks.filter(|frames| !frames.is_empty()).collect()
    }
}

/// `function`, and `module+0xoffset`.
fn native_spellings(function: Option<String>, module: &str, offset: u64) -> Spellings {
    let place = (!module.is_empty()).then(|| format!("{}+{offset:#x}", escape(base(module).as_bytes())));
    function.into_iter().chain(place).collect()
}

/// `function`, and `file.py:function`.
fn python_spellings(function: &str, file: &str) -> Spellings {
    vec![function.to_string(), format!("{}:{function}", python_file(file))]
}

impl Report {
    /// Takes out the findings that `suppressions` cover, and counts them.
    pub fn suppress(&mut self, suppressions: &mut Suppressions) {
        let mut suppressed = 0;
        for finding in std::mem::take(&mut self.findings) {
            let count = finding.count;
            let concerned = suppressions.concern(&finding.name);
            let (new, covered) = left(finding, |mut f| !(concerned && suppressions.find(&mut f, count).is_some()));
            self.findings.extend(new);
            suppressed += covered.saturating_mul(count);
        }
        self.counts.suppressed += suppressed;
        self.count();
        self.note_suppressions(suppressions);
    }

    /// Lists the entries, with how often each was of use, behind those that are listed.
    pub(crate) fn note_suppressions(&mut self, suppressions: &Suppressions) {
        self.suppressions.extend(suppressions.used().map(|(e, count)| SuppressionRecord {
            file: e.file.to_string(),
            line: e.line,
            finding: e.finding.text().to_string(),
            reason: escape(e.reason.as_bytes()),
            count,
        }));
    }

    /// Counts the findings that are left.
    pub(super) fn count(&mut self) {
        let of = |s| self.findings.iter().filter(|f| f.severity == s).count() as u64;
        (self.counts.errors, self.counts.warnings, self.counts.notes) =
            (of(Severity::Error), of(Severity::Warning), of(Severity::Note));
    }

    /// Entries that cover the findings of this report, each once, as they stand in a file of suppressions.
    pub fn generated_suppressions(&self) -> String {
        let mut entries: Vec<String> = Vec::new();
        for f in self.findings.iter().flat_map(by_themselves) {
            let telling = [Role::Opened, Role::Closed, Role::Used].into_iter().filter_map(|role| f.step(role));
            let steps: Vec<_> = telling.map(|s| (s.role, frames(s))).filter(|(_, frames)| !frames.is_empty()).collect();
            if steps.is_empty() {
                entries.push(format!("# {}: no stack was taken that an entry could name\n", f.name));
                continue;
            }
            let text = entry(&f.name, &steps);
            if !entries.contains(&text) {
                entries.push(text);
            }
        }
        entries.join("\n")
    }
}

/// The innermost frames of a step, as patterns, the outermost of them first.
fn frames(step: &StepRecord) -> Vec<String> {
    let mut out: Vec<String> = match step.python.is_empty() {
        false => {
            step.python.iter().take(PYTHON_FRAMES).map(|f| format!("{}:{}", python_file(&f.file), f.function)).collect()
        }
        true => {
            let physical = step.native.iter().filter(|f| !f.inlined && !f.jumped && !f.module.is_empty());
            let name = |f: &NativeRecord| native_spellings(f.function.clone(), &f.module, f.offset).into_iter().next();
            // What calls main is on every stack.
            physical.filter_map(name).filter(|n| !n.starts_with("__libc_start_")).take(FRAMES).collect()
        }
    };
    out.reverse();
    out
}

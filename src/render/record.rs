//! Findings with all their names: what is left of them when the target, and fdwatch, are gone.
//!
//! Text is escaped as it is shown (`base::text::escape`), so that a record can be printed as it is.

use super::call::{self, open_flags};
use super::place::{Place, of_frames};
use super::why::why;
use super::{Names, NativeFrame, PythonFrame, Sources};
use crate::base::text::escape;
use crate::base::{Fd, FileId, LifeId, Pid, Tid};
use crate::event::{Cause, Escape, FileKind};
use crate::finding::{Confidence, Finding, Object, Role, Several, Severity, Step, in_short};
use crate::model::{Moment, What};
use serde::{Deserialize, Serialize};

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingRecord {
    /// Its name.
    pub name: String,
    /// How bad.
    pub severity: Severity,
    /// How sure.
    pub confidence: Confidence,
    /// One sentence.
    pub title: String,
    /// The number.
    pub fd: Fd,
    /// The process that was hurt.
    pub pid: Pid,
    /// Its task.
    pub tid: Tid,
    /// The object that was meant.
    pub object: ObjectRecord,
    /// The story.
    pub steps: Vec<StepRecord>,
    /// Why this is so.
    pub evidence: Vec<String>,
    /// What to do.
    pub help: String,
    /// How often it was found in the same places.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub count: u64,
    /// The life that it is about, as another run can find it; `None` where that is not asked for or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<LifeRef>,
    /// Each by itself, the finding's own first, where several are told together; else none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<FindingRecord>,
}

fn once() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants it so
fn is_once(count: &u64) -> bool {
    *count == 1
}

/// Which life a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeRef {
    /// Its id in this run.
    pub id: LifeId,
    /// The process that began it, as its place in the tree of forks: `0.1.3`.
    pub process: String,
    /// It is the nth with its opening fingerprint in its process, from 1; 0 if that is not known.
    pub ordinal: u32,
}

/// An open file description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// Its id in this run.
    pub id: FileId,
    /// What it is, in a word or two.
    pub kind: String,
    /// Its path, or what stands for it.
    pub path: String,
    /// The O_* flags; empty where they say nothing.
    pub flags: String,
    /// How long the life concerned lasted.
    pub lasted_ns: Option<u64>,
}

/// A step of the story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its part.
    pub role: Role,
    /// When, since fdwatch started watching.
    pub at_ns: u64,
    /// The process.
    pub pid: Pid,
    /// The task.
    pub tid: Tid,
    /// `call`, `fork`, `exec`, `exit` or `present`.
    pub what: String,
    /// The call: `dup2(3, 1) = EBADF`.
    pub call: Option<String>,
    /// The name of the call.
    pub call_name: Option<String>,
    /// Why the end came, in a word; of other steps nothing.
    pub cause: Cause,
    /// The same in a clause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The functions that prove it, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proof: Vec<String>,
    /// Evidence that the number had left its object.
    pub escape: Option<String>,
    /// The innermost line that is the user's own.
    pub place: Option<String>,
    /// What stands on that line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The runtime's line, where it is another.
    pub runtime: Option<String>,
    /// The most telling native functions, outermost first.
    pub chain: Vec<String>,
    /// The object, where it is not the finding's own.
    pub object: Option<ObjectRecord>,
    /// What else there is to say.
    pub note: Option<String>,
    /// The program that was executed, where the step is that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The native stack, innermost first.
    pub native: Vec<NativeRecord>,
    /// The Python stack, innermost first.
    pub python: Vec<PythonRecord>,
    /// Why the native stack is incomplete.
    pub incomplete: Option<String>,
    /// The hash of the stack, the same in another run (`identity::Fingerprint`); `None` where it is not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// A native frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeRecord {
    /// The module's path.
    pub module: String,
    /// Its build id, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// The address in the module.
    pub offset: u64,
    /// The function.
    pub function: Option<String>,
    /// The source file.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// Whether it was inlined into the next.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inlined: bool,
    /// Whether the function ended with a jump to the one before, and has no frame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub jumped: bool,
}

/// A Python frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PythonRecord {
    /// The function.
    pub function: String,
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: Option<u32>,
}

impl FindingRecord {
    /// `finding` with the names of its stacks and the lines of source where it happened.
    pub fn of(finding: &Finding, names: &mut dyn Names, sources: &mut dyn Sources) -> FindingRecord {
        let path = finding.object.file.path.as_slice();
        FindingRecord {
            name: finding.name.to_string(),
            severity: finding.severity,
            confidence: finding.confidence,
            title: finding.title.clone(),
            fd: finding.fd,
            pid: finding.pid,
            tid: finding.tid,
            object: ObjectRecord::of(&finding.object),
            steps: finding.steps.iter().map(|s| StepRecord::of(s, path, names, sources)).collect(),
            evidence: finding.evidence.clone(),
            help: finding.help.clone(),
            count: finding.count,
            life: None,
            parts: finding.parts.iter().map(|p| FindingRecord::of(p, names, sources)).collect(),
        }
    }

    /// The step of this role, if the story has one.
    pub fn step(&self, role: Role) -> Option<&StepRecord> {
        self.steps.iter().find(|s| s.role == role)
    }
}

impl Several for FindingRecord {
    fn parts(&mut self) -> &mut Vec<FindingRecord> {
        &mut self.parts
    }

    fn count(&mut self) -> &mut u64 {
        &mut self.count
    }

    fn subject(&self) -> (Fd, String) {
        (self.fd, in_short(&self.object.kind, &self.object.path))
    }

    fn add(&mut self, title: &str, clause: String) {
        self.title += title;
        self.evidence.push(clause);
    }
}

impl ObjectRecord {
    /// `object` as a record.
    pub fn of(object: &Object) -> ObjectRecord {
        let file = &object.file;
        let says = matches!(file.kind, FileKind::Path | FileKind::Memfd) && !file.path.is_empty();
        ObjectRecord {
            id: object.id,
            kind: file.noun().to_string(),
            path: escape(&file.path),
            flags: if says { open_flags(file.flags) } else { String::new() },
            lasted_ns: object.lasted,
        }
    }

    /// `#18 pipe:[19544] (read end)`.
    pub fn text(&self) -> String {
        let end = self.kind.strip_prefix("pipe ").map(|e| format!(" {e}")).unwrap_or_default();
        match self.path.is_empty() {
            true => format!("{} {}", self.id, self.kind),
            false => format!("{} {}{end}", self.id, self.path),
        }
    }
}

impl StepRecord {
    fn of(step: &Step, meant: &[u8], names: &mut dyn Names, sources: &mut dyn Sources) -> StepRecord {
        let Moment { at, pid, tid, what, site } = &step.moment;
        let why = if step.role == Role::Closed { why(names, &step.moment, step.moved) } else { None };
        let native = site.stack.map(|id| names.native(id)).unwrap_or_default();
        let python = site.py.map(|id| names.python(id)).unwrap_or_default();
        let Place { user, runtime, chain, source } = of_frames(&native, &python);
        let path = step.object.as_ref().map_or(meant, |o| &o.file.path);
        let info = match what {
            What::Call(info) => Some(info),
            _ => None,
        };
        StepRecord {
            role: step.role,
            at_ns: *at,
            pid: *pid,
            tid: *tid,
            what: what_word(what).to_string(),
            call: info.map(|i| call::call(i, Some(path))),
            call_name: info.map(|i| escape(i.name.as_bytes())),
            cause: why.as_ref().map_or(site.cause, |w| w.cause),
            escape: site.escape.as_ref().map(escape_words),
            why: why.as_ref().map(|w| w.words.clone()),
            proof: why.map(|w| w.proof).unwrap_or_default(),
            place: user,
            source: source.and_then(|(file, n)| sources.line(&file, n)).map(|text| escape(text.trim().as_bytes())),
            runtime,
            chain,
            object: step.object.as_ref().map(ObjectRecord::of),
            note: step.note.as_deref().map(|n| escape(n.as_bytes())),
            program: step.program.clone(),
            native: native.iter().map(native_record).collect(),
            python: python.iter().map(python_record).collect(),
            incomplete: site.stack.and_then(|id| names.truncated(id)).map(|t| escape(t.as_bytes())),
            fingerprint: None,
        }
    }
}

pub(crate) fn what_word(what: &What) -> &'static str {
    match what {
        What::Call(_) => "call",
        What::Fork => "fork",
        What::Exec => "exec",
        What::Exit => "exit",
        What::Present => "present",
        What::Noticed => "noticed",
    }
}

/// Evidence that a number has left its object, as a clause.
pub(crate) fn escape_words(e: &Escape) -> String {
    match e {
        Escape::FilenoCall => "the calling frame is at fileno() of a temporary".to_string(),
        Escape::ReturnsFileno => "the calling frame returns what fileno() gave".to_string(),
        Escape::Holds(name) => format!("the calling frame still holds the number, as `{}`", escape(name.as_bytes())),
    }
}

fn native_record(f: &NativeFrame) -> NativeRecord {
    let safe = |s: &Option<String>| s.as_ref().map(|s| escape(s.as_bytes()));
    NativeRecord {
        module: escape(f.module.as_bytes()),
        build_id: None,
        offset: f.offset,
        function: safe(&f.function),
        file: safe(&f.file),
        line: f.line,
        inlined: f.inlined,
        jumped: f.jumped,
    }
}

pub(crate) fn python_record(f: &PythonFrame) -> PythonRecord {
    PythonRecord { function: escape(f.function.as_bytes()), file: escape(f.file.as_bytes()), line: f.line }
}

//! The event log: JSON lines, described in docs/log-format.md. What its lines are, and how they are read.
//!
//! Whoever wrote it: reading never panics, and what it keeps is bounded by what it has read.

use crate::base::text::escape;
use crate::base::{PyStackId, StackId, Tid};
use crate::event::{Event, ExitStatus, wire};
use crate::finding::Options;
use crate::report::{Facts, Mode};
use crate::stack::Named;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{BufRead, Read};

/// What the first line of a log says. The number changes when a reader of the former would misread the new; new fields,
/// which it passes over, and new kinds, which it refuses, do not change it.
pub const FORMAT: &str = "fdwatch-log/1";

/// This fdwatch's own, as it writes it into the first line.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The longest line, in bytes: a table of some 300,000 descriptors. A longer one is neither written nor read.
pub(super) const MAX_LINE: usize = 64 << 20;

/// The longest text of others that an error repeats, in characters.
const MAX_QUOTED: usize = 200;

/// Whether a file is an event log, of whatever version.
pub fn is_log(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    #[derive(Deserialize)]
    struct Format {
        log: String,
    }
    serde_json::from_slice::<Format>(line).is_ok_and(|f| f.log.starts_with("fdwatch-log/"))
}

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    /// [`FORMAT`].
    pub(super) log: String,
    /// The version of fdwatch that wrote it.
    pub(super) version: String,
    /// The command; empty when it was attached to.
    #[serde(with = "wire::many_bytes")]
    pub(super) command: Vec<Vec<u8>>,
    /// Which calls stopped.
    pub(super) mode: Mode,
    /// Whether the target ran with no_new_privs.
    pub(super) no_new_privs: bool,
    /// The first task.
    pub(super) main: Tid,
    /// What the user wanted of the rules.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub(super) options: Options,
}

/// A file that frames lie in. Written before the first stack with such a frame.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ModuleLine {
    pub(super) id: u32,
    #[serde(with = "wire::bytes")]
    pub(super) path: Vec<u8>,
    /// In hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) build_id: Option<String>,
}

/// The module, the address in it, and whether that is the very instruction instead of a return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct FrameLine(
    pub(super) Option<u32>,
    pub(super) u64,
    #[serde(default, skip_serializing_if = "wire::is_default")] pub(super) bool,
);

/// A native stack, innermost frame first. Written before the first event that was made there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StackLine {
    pub(super) id: StackId,
    pub(super) frames: Vec<FrameLine>,
    /// Why there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) incomplete: Option<String>,
}

/// A Python frame.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PythonFrameLine {
    pub(super) function: String,
    pub(super) file: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<u32>,
    #[serde(default, skip_serializing_if = "wire::is_default")]
    pub(super) entry: bool,
}

/// A Python stack, innermost frame first. Written before the first event that was made there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PythonLine {
    pub(super) id: PyStackId,
    pub(super) frames: Vec<PythonFrameLine>,
}

/// The names on a native stack. Written when somebody has asked for them, before the event that needs them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NamesLine {
    pub(super) stack: StackId,
    pub(super) frames: Vec<Named>,
}

/// The names at a native frame. Written before the last line, for the stacks of the lives that a report lists: these share
/// most of their frames.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FrameNamesLine {
    pub(super) at: FrameLine,
    pub(super) names: Vec<Named>,
}

/// A function that has no frame, because it ended with a jump: between which two frames it was called. Written before the
/// last line, for the same stacks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct JumpLine {
    pub(super) inner: FrameLine,
    pub(super) outer: FrameLine,
    pub(super) name: Named,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EndLine {
    /// How many events there are.
    pub(super) events: u64,
    /// How the first process ended.
    pub(super) status: ExitStatus,
    /// What a report needs besides.
    pub(super) facts: Facts,
}

/// Any line but the first.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Module(ModuleLine),
    Stack(StackLine),
    Python(PythonLine),
    Names(NamesLine),
    Frame(FrameNamesLine),
    Jump(JumpLine),
    Event(Event),
    End(EndLine),
}

/// The same, to be written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LineOf<'a> {
    Module(ModuleLine),
    Stack(StackLine),
    Python(PythonLine),
    Names(NamesLine),
    Frame(FrameNamesLine),
    Jump(JumpLine),
    Event(&'a Event),
    End(EndLine),
}

/// Why a log cannot be read further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong and what was expected, safe to show.
    pub what: String,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for LogError {}

/// Reads a log line by line.
pub(super) struct Reader<R> {
    input: R,
    /// The number of the line that was read last, or is to be read now.
    line: u64,
    buffer: Vec<u8>,
    /// The version of fdwatch that wrote it, as the first line says.
    version: String,
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line.
    pub(super) fn new(input: R) -> Result<(Reader<R>, Header), LogError> {
        let mut reader = Reader { input, line: 0, buffer: Vec::new(), version: String::new() };
        if !reader.fill()? {
            return Err(reader.error("the file is empty: expected a log that `--record` wrote".to_string()));
        }
        #[derive(Deserialize)]
        struct Format {
            log: String,
            version: Option<String>,
        }
        let foreign = |e| {
            let why = describe(&e);
            format!("not an event log of fdwatch: expected a first line {{\"log\":\"{FORMAT}\", …}} ({why})")
        };
        let format: Format = serde_json::from_slice(&reader.buffer).map_err(|e| reader.error(foreign(e)))?;
        if format.log != FORMAT {
            let by = format.version.map(|v| format!(" ({})", quoted(&v))).unwrap_or_default();
            let what = format!(
                "its format is {}, this fdwatch reads {FORMAT}: replay it with the fdwatch that wrote it{by}",
                quoted(&format.log)
            );
            return Err(reader.error(what));
        }
        let header: Header = serde_json::from_slice(&reader.buffer).map_err(|e| reader.error(reader.damage(&e)))?;
        reader.version.clone_from(&header.version);
        Ok((reader, header))
    }

    /// The next line; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Line>, LogError> {
        if !self.fill()? {
            return Ok(None);
        }
        serde_json::from_slice(&self.buffer).map(Some).map_err(|e| self.error(self.damage(&e)))
    }

    /// An error about the line that was read last.
    pub(super) fn error(&self, what: String) -> LogError {
        LogError { line: self.line, what }
    }

    /// Reads a line into the buffer, with its end; false at the end of the file.
    fn fill(&mut self) -> Result<bool, LogError> {
        self.line += 1;
        self.buffer.clear();
        // One long line is not the rule for those that follow.
        self.buffer.shrink_to(1 << 20);
        let limit = MAX_LINE as u64 + 1;
        match self.input.by_ref().take(limit).read_until(b'\n', &mut self.buffer) {
            Ok(n) if n > MAX_LINE => {
                Err(self.error(format!("the line is longer than {MAX_LINE} bytes: no log has such lines")))
            }
            Ok(n) => Ok(n > 0),
            Err(e) => Err(self.error(format!("it cannot be read: {e}"))),
        }
    }

    fn damage(&self, e: &serde_json::Error) -> String {
        if self.buffer.last() != Some(&b'\n') && e.is_eof() {
            return "the log is cut off in this line: expected the rest of it, and more up to a line \"end\""
                .to_string();
        }
        let why = describe(e);
        let mut what = format!("column {}: not a line of an event log: {why}", e.column());
        // Kinds are added without a new number of the format, and only a version that has them reads them.
        if why.starts_with("unknown variant") && !self.version.is_empty() && self.version != VERSION {
            let by = quoted(&self.version);
            what += &format!(": fdwatch {by} wrote it, this is {VERSION}: replay it with the fdwatch that wrote it");
        }
        what
    }
}

/// What serde says, without its own count of lines.
fn describe(e: &serde_json::Error) -> String {
    let text = e.to_string();
    quoted(text.rsplit_once(" at line ").map_or(text.as_str(), |t| t.0))
}

/// Text of others, safe to show and not too long.
fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    escape(short.as_bytes())
}

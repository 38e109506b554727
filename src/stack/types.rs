//! The values that the layer hands out: frames, names, and how a stack ended.

use super::cause::Sign;
use super::names::Tongue;
use super::runtimes::Library;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The key of one address space, chosen by the caller: a fresh one at the start of a process and at each exec.
///
/// Tasks that share memory (threads, a vforked child until it execs) share the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SpaceId(pub u32);

/// A file (or the vDSO) that frames lie in; valid for the [`Stacks`](super::Stacks) that gave it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ModuleId(pub u32);

/// How the address of a frame was found, which decides which instruction a look-up is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FrameKind {
    /// Where a call will return to. The call itself is the instruction *before* it, and may be the last one of its
    /// function, so look-ups use the address minus one.
    ReturnAddress,
    /// The very instruction that was about to run: the innermost frame, and a frame that a signal interrupted.
    Exact,
}

/// One frame of a native stack: 24 bytes, equal between processes that map the same files at different addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Frame {
    /// The file that the instruction lies in; `None` for memory without a file (code made at run time).
    pub module: Option<ModuleId>,
    /// With a module: the address as the ELF file numbers it (`p_vaddr` + distance), what `objdump` shows; for a file
    /// that is not ELF or could not be opened, the offset in the file. Without a module: the address in the process.
    ///
    /// This is the program counter as found, *not* adjusted; see [`Frame::lookup`].
    pub offset: u64,
    /// Whether `offset` is a return address.
    pub kind: FrameKind,
}

impl Frame {
    /// The address to look up: of the call instruction's last byte for a return address, else `offset` itself.
    pub fn lookup(&self) -> u64 {
        match self.kind {
            FrameKind::ReturnAddress => self.offset.saturating_sub(1),
            FrameKind::Exact => self.offset,
        }
    }
}

/// How far a stack could be followed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StackEnd {
    /// To the outermost frame, where the unwind information or a zero return address says so.
    Complete,
    /// The frames given are right, and there are more that could not be reached.
    Truncated(Why),
}

/// Why a stack was not followed further.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Why {
    /// The program counter lies in no executable mapping: a wild jump, or a frame before it was misread.
    NotMapped,
    /// The code has no unwind information and no frame pointer that looks sane.
    NoUnwindInfo,
    /// The unwind information of the code is damaged or uses what this unwinder does not know.
    BadUnwindInfo,
    /// A register that the next frame depends on was not preserved.
    LostRegister,
    /// A saved word could not be read from the stack.
    UnreadableStack,
    /// The next frame would not lie further out: following it could go round for ever.
    NoProgress,
    /// The stack changed more often than is followed: for signal handlers that have interrupted one another, or between
    /// Go and C.
    TooManySwitches,
    /// The frames lie in more pieces of memory than are read of one stack.
    TooScattered,
    /// More frames than the limit ([`MAX_FRAMES`](super::MAX_FRAMES)).
    TooDeep,
    /// The mappings of the process could not be read; it is gone or hidden.
    NoMaps,
    /// More distinct stacks than are kept; this one has no frames.
    TooManyStacks,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::NotMapped => "the return address is not mapped code",
            Why::NoUnwindInfo => "no unwind information and no frame pointer",
            Why::BadUnwindInfo => "damaged or unknown unwind information",
            Why::LostRegister => "a needed register was not preserved",
            Why::UnreadableStack => "the stack could not be read",
            Why::NoProgress => "the stack does not lead outwards",
            Why::TooManySwitches => {
                "more changes of stack, for nested signal handlers or between Go and C, than are followed"
            }
            Why::TooScattered => "its frames lie in more pieces of memory than are read",
            Why::TooDeep => "more frames than are followed",
            Why::NoMaps => "the memory map could not be read",
            Why::TooManyStacks => "too many different stacks",
        })
    }
}

/// The module of memory without a file.
pub const NO_FILE: &str = "[unknown]";

/// The last component of a module's path as the maps show it, without ` (deleted)`.
pub fn file_name(path: &[u8]) -> String {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let last = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
    String::from_utf8_lossy(last).into_owned()
}

/// One function of a symbolized stack; a [`Frame`] gives several where calls were inlined.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Named {
    /// The last component of the module's path, e.g. `libc.so.6`; [`NO_FILE`] for memory without a file, `[jit]` for
    /// such memory that a perf map tells of.
    pub module: String,
    /// As [`Frame::offset`]: unadjusted.
    pub offset: u64,
    /// The function's name, demangled; `None` where no symbol covers the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The source file as the debug information names it, not checked to exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in `file`, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Whether the function was inlined into the next entry of the list, so has no frame of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inlined: bool,
    /// Whether the function was called from the next entry's and has ended with a jump to the former's, so that it has no
    /// frame of its own: `offset`, `file` and `line` are those of its beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub jumped: bool,
    /// What its address or name says about why a descriptor is closed there.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::cause::known_sign")]
    pub sign: Option<Sign>,
    /// What it belongs to, if it is not the user's own.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::runtimes::known_library")]
    pub library: Option<Library>,
    /// The language of the function.
    #[serde(skip)]
    pub(crate) tongue: Tongue,
}

impl Named {
    /// An address of which only the module is known.
    pub(crate) fn bare(module: String, offset: u64) -> Named {
        Named {
            module,
            offset,
            function: None,
            file: None,
            line: None,
            inlined: false,
            jumped: false,
            sign: None,
            library: None,
            tongue: Tongue::Other,
        }
    }
}

impl fmt::Display for Named {
    /// `function (file:line)`, or `module+0x1234` where there is no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.function {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{}+{:#x}", self.module, self.offset)?,
        }
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, " ({file}:{line})"),
            (Some(file), None) => write!(f, " ({file})"),
            _ => Ok(()),
        }
    }
}

/// What was and was not seen, for a report's statement of its own limits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StackCoverage {
    /// Captures made.
    pub captures: u64,
    /// Distinct stacks kept.
    pub stacks: usize,
    /// Captures that ended early, by reason.
    pub truncated: Vec<(Why, u64)>,
    /// Modules that frames lie in.
    pub modules: usize,
    /// Paths of modules that were asked for names and have no symbols at all.
    pub without_symbols: Vec<Vec<u8>>,
    /// Paths of modules whose debug information or symbols are damaged, or make more work than a file of their size
    /// should: they were not read to their end.
    pub cut_short: Vec<Vec<u8>>,
    /// Paths of modules whose file could not be opened or is not a readable ELF file.
    pub unreadable: Vec<Vec<u8>>,
}

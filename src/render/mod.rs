//! Values to text: what the prompt and the reports show.

pub mod backtrace;
pub mod banner;
pub mod call;
pub mod finding;
pub mod history;
pub mod holders;
#[cfg(test)]
mod hostile;
pub mod live;
pub mod page;
pub mod place;
pub mod record;
mod sources;
pub(crate) mod style;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;
pub mod why;

pub use live::{Live, Seen};
pub use sources::FileSources;
pub use style::{Color, Style};

use crate::base::{Pid, PyStackId, StackId, Tid};
use crate::event::Site;
use crate::finding::Sweep;
use crate::stack::{Library, Sign};
use std::sync::Arc;

/// Gives lines of source files, as they are on disk.
pub trait Sources {
    /// Line `n` (from 1) of `file` without its end; `None` where there is no such line or it cannot be read. Not safe
    /// to show: escape it.
    fn line(&mut self, file: &str, n: u32) -> Option<String>;
}

/// Turns interned stacks into names; the session implements it, and tests do.
pub trait Names {
    /// The frames of a native stack with their names, innermost first.
    fn native(&mut self, id: StackId) -> Arc<[NativeFrame]>;
    /// The same by physical frame: each with the functions that were inlined there before it. Functions that have no frame,
    /// because they ended with a jump, are left out: they belong to two frames.
    fn by_frame(&mut self, id: StackId) -> Vec<Arc<[NativeFrame]>> {
        let native = self.native(id);
        let frames: Vec<NativeFrame> = native.iter().filter(|f| !f.jumped).cloned().collect();
        frames.split_inclusive(|f| !f.inlined).map(Arc::from).collect()
    }
    /// Why the native stack is incomplete; `None` where it is whole.
    fn truncated(&self, id: StackId) -> Option<String>;
    /// The frames of a Python stack, innermost first.
    fn python(&self, id: PyStackId) -> Arc<[PythonFrame]>;
    /// Whether `pid` closed one number after the other from this stack when it had just been forked.
    fn sweep(&self, pid: Pid, id: StackId) -> Option<Sweep>;
    /// The stacks of a task where it stands now, taken on demand: of a site that nobody asked about before. That of no
    /// stacks where there is no such task, or it does not stand still.
    fn standing(&mut self, tid: Tid) -> Site {
        let _ = tid;
        Site::default()
    }
}

/// A native frame with its names. All text is as found: escape it before it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeFrame {
    /// The module's path as in `/proc/PID/maps`, `[vdso]`, or empty where no file is mapped.
    pub module: String,
    /// The address in the module's ELF address space, or the raw address without a module.
    pub offset: u64,
    /// The function, demangled.
    pub function: Option<String>,
    /// The source file.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// Whether the function was inlined into the next frame's.
    pub inlined: bool,
    /// Whether the function ended with a jump to the former frame's: what is known of its place is its beginning.
    pub jumped: bool,
    /// Whether it is a Python interpreter's evaluation loop, beside which Python frames belong.
    pub evaluates_python: bool,
    /// What its address or name says about why a descriptor is closed there.
    pub sign: Option<Sign>,
    /// What it belongs to, if it is not the user's own.
    pub library: Option<Library>,
}

/// A Python frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonFrame {
    /// The function, `<module>` for a module's own code.
    pub function: String,
    /// The file as the interpreter names it.
    pub file: String,
    /// The line, from 1.
    pub line: Option<u32>,
    /// Whether a native evaluation frame begins here: the frames up to and including this one belong to it.
    pub entry: bool,
}

//! Why a close happened, read off the stack: by the address ranges of telling functions, without DWARF.

use super::debugfile;
use super::elf::{self, RawSymbol};
use super::module::{Module, Modules};
use super::pytypes;
use super::runtimes::ROWS;
use super::types::{Frame, ModuleId, StackEnd};
use crate::base::StackId;
use object::ReadCache;
use rustc_hash::FxHashMap;
use std::fmt;

/// Why a descriptor is being closed, as far as the stack tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The program's own code asked for it.
    Explicit,
    /// A finalizer ran because the last reference to an object went away.
    Finalizer,
    /// A garbage collector found the object unreachable.
    Collector,
    /// The interpreter is being taken down.
    Shutdown,
    /// A destructor (C++) or drop (Rust) ran.
    Destructor,
    /// `fclose` or another function of C streams.
    Stream,
    /// `closedir`.
    Directory,
    /// `pclose`.
    Pipe,
    /// The stack was cut off before anything telling, so code further out may have been the reason.
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Explicit => "explicit",
            Cause::Finalizer => "finalizer (reference count)",
            Cause::Collector => "garbage collector",
            Cause::Shutdown => "interpreter shutdown",
            Cause::Destructor => "destructor",
            Cause::Stream => "fclose",
            Cause::Directory => "closedir",
            Cause::Pipe => "pclose",
            Cause::Unknown => "unknown",
        })
    }
}

/// A cause and what proves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The cause.
    pub cause: Cause,
    /// Whose rule it was: `CPython`, `Go`, `V8`, `libc`, `C++`, `Rust`; empty for [`Cause::Explicit`] and
    /// [`Cause::Unknown`].
    pub runtime: &'static str,
    /// The telling function as the rule names it, e.g. `PyObject_CallFinalizerFromDealloc`; empty as above.
    pub symbol: &'static str,
    /// The index in [`Stacks::frames`](super::Stacks::frames) of that function.
    pub frame: Option<usize>,
    /// Whether the user's code runs *inside* the finalizer, nearer to the close (a Python `__del__`).
    pub user_code: bool,
    /// Whether a Python interpreter's evaluation loop is anywhere on the stack.
    pub python: bool,
    /// Whether that interpreter has no symbols for its finalizers: a stripped build whose compiler has put
    /// `PyObject_CallFinalizerFromDealloc` inline (Debian's is one). [`Cause::Explicit`] then means only that nothing
    /// was recognised, and what its Python frame is doing must decide.
    pub finalizers_unnamed: bool,
}

/// What a function's presence on a stack means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Runs the user's code: what lies further out is not the reason for what that code did.
    Code,
    /// Runs a finalizer because a reference count reached zero.
    Count,
    /// A finalizer, or what runs one for whatever reason.
    Finalizer,
    Collector,
    Shutdown,
    Destructor,
    Stream,
    Directory,
    Pipe,
}

/// How a row's name is compared with a symbol.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Match {
    Exact,
    Prefix,
    Test(fn(&[u8]) -> bool),
}

/// One line of the table in `runtimes.rs`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) runtime: &'static str,
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) by: Match,
}

/// A destructor further out than this many frames is not the reason: `~App` may well run the program.
const NEAR: usize = 16;
/// Telling ranges of one module; a large C++ program has 100,000 destructors (24 bytes each).
const MAX_RANGES: usize = 1 << 19;
/// How many ranges before an address are looked at; functions do not nest, aliases repeat a range.
const MAX_BACK: usize = 8;

#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
    row: &'static Row,
}

/// The verdicts given and the ranges they were read from.
#[derive(Default)]
pub(crate) struct Causes {
    ranges: FxHashMap<ModuleId, Box<[Range]>>,
    names: FxHashMap<&'static [u8], &'static Row>,
    verdicts: FxHashMap<StackId, Verdict>,
}

impl Causes {
    pub(crate) fn verdict(&mut self, id: StackId, frames: &[Frame], end: StackEnd, modules: &Modules) -> Verdict {
        if let Some(&known) = self.verdicts.get(&id) {
            return known;
        }
        let mut marks = Vec::new();
        for (i, frame) in frames.iter().enumerate() {
            let Some(id) = frame.module else { continue };
            if let Some(row) = find(self.ranges_of(id, modules), frame.lookup()) {
                marks.push((i, row));
            }
        }
        let mut verdict = decide(&marks, end);
        if verdict.python {
            let loops = marks.iter().filter(|(_, r)| r.role == Role::Code && r.runtime == "CPython");
            let modules_of: Vec<ModuleId> = loops.filter_map(|(i, _)| frames.get(*i)?.module).collect();
            let named =
                |m: &ModuleId| self.ranges.get(m).is_some_and(|r| r.iter().any(|r| r.row.name == "iobase_finalize"));
            verdict.finalizers_unnamed = !modules_of.iter().any(named);
        }
        self.verdicts.insert(id, verdict);
        verdict
    }

    fn ranges_of(&mut self, id: ModuleId, modules: &Modules) -> &[Range] {
        if self.names.is_empty() {
            let exact = ROWS.iter().filter(|r| matches!(r.by, Match::Exact));
            self.names = exact.map(|r| (r.name.as_bytes(), r)).collect();
        }
        let names = &self.names;
        self.ranges.entry(id).or_insert_with(|| modules.get(id).map(|m| scan(m, names)).unwrap_or_default())
    }
}

/// The telling functions of one module, sorted by address.
fn scan(module: &Module, names: &FxHashMap<&'static [u8], &'static Row>) -> Box<[Range]> {
    let mut out = Vec::new();
    let stripped = std::cell::Cell::new(true);
    let python = std::cell::Cell::new(false);
    let mut each = |s: RawSymbol<'_>| {
        if s.name.starts_with(b"PyInit_") || s.name == b"_PyEval_EvalFrameDefault" {
            python.set(true);
        }
        if s.binding == 0 {
            stripped.set(false);
        }
        if s.size == 0 || out.len() >= MAX_RANGES {
            return;
        }
        if let Some(row) = row_for(s.name, names) {
            out.push(Range { start: s.addr, end: s.addr.saturating_add(s.size), row });
        }
    };
    if let Some(file) = module.file() {
        elf::symbols(&ReadCache::new(&file), &mut each);
        // Without local symbols the file is stripped; its debug file may have them.
        if stripped.get()
            && let Some((debug, _)) = module.build_id().and_then(|id| debugfile::by_build_id(id, module.place()))
        {
            elf::symbols(&ReadCache::new(&debug), &mut each);
        }
        if python.get() {
            for (addr, row) in pytypes::functions(&file, module.segments(), elf::relocations(&file)) {
                out.extend(module.cfi().function(addr).map(|(start, end)| Range { start, end, row }));
            }
        }
    }
    out.sort_by_key(|r| r.start);
    out.into()
}

fn row_for(name: &[u8], names: &FxHashMap<&'static [u8], &'static Row>) -> Option<&'static Row> {
    // Go's names have dots of their own, so the whole name comes first. A symbol version begins with @.
    let cut = |sep: u8| name.split(|&b| b == sep).next().unwrap_or(name);
    let exact = names.get(name).or_else(|| names.get(cut(b'.'))).or_else(|| names.get(cut(b'@')));
    if let Some(row) = exact {
        return Some(row);
    }
    (name.starts_with(b"_Z") || name.starts_with(b"_R")).then_some(())?;
    let name = cut(b'.');
    ROWS.iter().find(|row| match row.by {
        Match::Exact => false,
        Match::Prefix => name.starts_with(row.name.as_bytes()),
        Match::Test(test) => test(name),
    })
}

fn find(ranges: &[Range], addr: u64) -> Option<&'static Row> {
    let after = ranges.partition_point(|r| r.start <= addr);
    let before = ranges.get(..after)?;
    before.iter().rev().take(MAX_BACK).find(|r| addr < r.end).map(|r| r.row)
}

/// The verdict from the telling functions of a stack, innermost first, each with its frame's index.
fn decide(marks: &[(usize, &'static Row)], end: StackEnd) -> Verdict {
    let python = marks.iter().any(|(_, r)| r.role == Role::Code && r.runtime == "CPython");
    let says = |cause, (frame, row): (usize, &'static Row), user_code| Verdict {
        cause,
        runtime: row.runtime,
        symbol: row.name,
        frame: Some(frame),
        user_code,
        python,
        finalizers_unnamed: false,
    };
    let is_code = |m: &&(usize, &Row)| m.1.role == Role::Code;
    let first_code = marks.iter().position(|m| is_code(&m)).unwrap_or(marks.len());

    // From the innermost finalizer outwards to the code that was interrupted by it.
    if let Some(at) = marks.iter().position(|(_, r)| matches!(r.role, Role::Count | Role::Finalizer)) {
        let outer: Vec<_> = marks.iter().skip(at).take_while(|m| !is_code(m)).copied().collect();
        let with = |role| outer.iter().find(|(_, r)| r.role == role).copied();
        let user_code = first_code < at;
        let found = match (with(Role::Shutdown), with(Role::Collector), with(Role::Count)) {
            (Some(mark), _, _) => Some((Cause::Shutdown, mark)),
            (None, Some(mark), _) => Some((Cause::Collector, mark)),
            (None, None, Some(mark)) => Some((Cause::Finalizer, mark)),
            // A finalizer that no reference count called: CPython's collector calls them itself.
            (None, None, None) => outer.first().map(|&mark| (Cause::Collector, mark)),
        };
        if let Some((cause, mark)) = found {
            return says(cause, mark, user_code);
        }
    }
    let near_code = marks.iter().take(first_code);
    for (role, cause) in [(Role::Shutdown, Cause::Shutdown), (Role::Collector, Cause::Collector)] {
        if let Some(&mark) = near_code.clone().find(|(_, r)| r.role == role) {
            return says(cause, mark, false);
        }
    }
    let others = [
        (Role::Destructor, Cause::Destructor, NEAR),
        (Role::Pipe, Cause::Pipe, usize::MAX),
        (Role::Directory, Cause::Directory, usize::MAX),
        (Role::Stream, Cause::Stream, usize::MAX),
    ];
    for (role, cause, near) in others {
        if let Some(&mark) = near_code.clone().find(|(i, r)| r.role == role && *i < near) {
            return says(cause, mark, false);
        }
    }
    // Cut off before any code that answers for itself: somebody further out may be the reason.
    let cut = matches!(end, StackEnd::Truncated(_)) && first_code == marks.len();
    let cause = if cut { Cause::Unknown } else { Cause::Explicit };
    Verdict { cause, runtime: "", symbol: "", frame: None, user_code: false, python, finalizers_unnamed: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::types::Why;

    fn verdict(names: &[&str]) -> Verdict {
        let all = ROWS.iter().filter(|r| matches!(r.by, Match::Exact)).map(|r| (r.name.as_bytes(), r)).collect();
        let marks: Vec<_> =
            names.iter().enumerate().filter_map(|(i, n)| Some((i, row_for(n.as_bytes(), &all)?))).collect();
        decide(&marks, StackEnd::Complete)
    }

    const EVAL: &str = "_PyEval_EvalFrameDefault";
    const COUNT: &str = "PyObject_CallFinalizerFromDealloc";

    #[test]
    fn a_reference_count_is_told_from_an_explicit_close() {
        let v = verdict(&["close", "iobase_finalize", "PyObject_CallFinalizer", COUNT, "iobase_dealloc", EVAL]);
        assert_eq!((v.cause, v.symbol, v.frame), (Cause::Finalizer, COUNT, Some(3)));
        assert!(v.python && !v.user_code);
        let v = verdict(&["close", "_io_FileIO_close", EVAL, "PyEval_EvalCode"]);
        assert_eq!((v.cause, v.frame, v.python), (Cause::Explicit, None, true));
    }

    #[test]
    fn what_a_stripped_interpreter_exports_is_enough() {
        let v = verdict(&["close", "?", "PyObject_CallFinalizer", COUNT, "?", EVAL]);
        assert_eq!(v.cause, Cause::Finalizer);
        let v = verdict(&["close", "?", "?", "_PyObject_GC_New", "?", EVAL]);
        assert_eq!(v.cause, Cause::Collector);
    }

    #[test]
    fn the_collector_is_blamed_for_what_it_frees() {
        let v = verdict(&["close", "iobase_finalize", "gc_collect_main", EVAL]);
        assert_eq!(v.cause, Cause::Collector);
        let v = verdict(&["close", "iobase_finalize", COUNT, "dict_dealloc", "gc_collect_main.constprop.0", EVAL]);
        assert_eq!(v.cause, Cause::Collector);
        let v = verdict(&["close", "PyObject_CallFinalizer", EVAL]);
        assert_eq!(v.cause, Cause::Collector);
    }

    #[test]
    fn a_reference_count_inside_code_that_a_collector_called_is_that_codes() {
        let v = verdict(&["close", "iobase_finalize", COUNT, EVAL, "gc_collect_main", EVAL]);
        assert_eq!(v.cause, Cause::Finalizer);
    }

    #[test]
    fn a_user_finalizer_is_seen_as_such() {
        let v = verdict(&["close", EVAL, "slot_tp_finalize", "PyObject_CallFinalizer", COUNT, EVAL]);
        assert_eq!((v.cause, v.user_code), (Cause::Finalizer, true));
    }

    #[test]
    fn shutdown_is_told_from_both() {
        let v = verdict(&["close", "iobase_finalize", COUNT, "finalize_modules", "Py_FinalizeEx", "Py_RunMain"]);
        assert_eq!(v.cause, Cause::Shutdown);
        let v = verdict(&["close", "iobase_finalize", "gc_collect_main", "PyGC_Collect", "Py_FinalizeEx"]);
        assert_eq!(v.cause, Cause::Shutdown);
    }

    #[test]
    fn streams_and_destructors() {
        assert_eq!(verdict(&["close", "_IO_file_close_it", "fclose", "main"]).cause, Cause::Stream);
        assert_eq!(verdict(&["close", "closedir", "main"]).cause, Cause::Directory);
        assert_eq!(verdict(&["close", "_IO_file_close_it", "fclose", "pclose"]).cause, Cause::Pipe);
        assert_eq!(verdict(&["close", "fclose", "_ZN3FooD1Ev", "main"]).cause, Cause::Destructor);
        let mut far = vec!["x"; 40];
        far.push("_ZN3AppD2Ev");
        assert_eq!(verdict(&far).cause, Cause::Explicit);
        assert_eq!(verdict(&["close", "runtime.runfinq"]).cause, Cause::Collector);
    }

    #[test]
    fn a_stack_cut_off_proves_nothing() {
        assert_eq!(decide(&[], StackEnd::Truncated(Why::NotMapped)).cause, Cause::Unknown);
        assert_eq!(decide(&[], StackEnd::Complete).cause, Cause::Explicit);
    }
}

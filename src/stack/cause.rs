//! Why a close happened, read off the stack: by the address ranges of telling functions, without DWARF.

use super::debugfile;
use super::elf::{self, RawSymbol};
use super::gotable::GoTable;
use super::module::{Module, Modules};
use super::names::Tongue;
use super::pytypes;
use super::runtimes::{About, HOMES, Home, Homes, NAMES, ROWS, home_of, in_place, library_of, without_result};
use super::types::{Frame, ModuleId, Named, StackEnd};
use crate::base::StackId;
use object::ReadCache;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Why a descriptor is being closed, as far as the stack tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The program's own code asked for it.
    Explicit,
    /// A block that owns the object was left (Python's `with`).
    With,
    /// A finalizer ran because the last reference to an object went away.
    Finalizer,
    /// A garbage collector found the object unreachable.
    Collector,
    /// The interpreter is being taken down.
    Shutdown,
    /// A destructor (C++) or drop (Rust) ran. Told by names only, so never at the stop ([`Stacks::cause`]).
    ///
    /// [`Stacks::cause`]: super::Stacks::cause
    Destructor,
    /// `fclose` or another function of C streams.
    Stream,
    /// `closedir`.
    Directory,
    /// `pclose`.
    Pipe,
    /// A function that closes all there is, as before an exec.
    Loop,
    /// A shell makes or undoes a redirection.
    Redirection,
    /// The stack was cut off before anything telling, so code further out may have been the reason.
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Explicit => "explicit",
            Cause::With => "end of a with block",
            Cause::Finalizer => "finalizer (reference count)",
            Cause::Collector => "garbage collector",
            Cause::Shutdown => "interpreter shutdown",
            Cause::Destructor => "destructor",
            Cause::Stream => "fclose",
            Cause::Directory => "closedir",
            Cause::Pipe => "pclose",
            Cause::Loop => "close loop",
            Cause::Redirection => "redirection of a shell",
            Cause::Unknown => "unknown",
        })
    }
}

/// A cause and what proves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The cause.
    pub cause: Cause,
    /// Whose rule it was: `CPython`, `Go`, `V8`, `libc`, `C++`, `Rust`; empty where nothing told.
    pub runtime: &'static str,
    /// The telling function as the rule names it, e.g. `PyObject_CallFinalizerFromDealloc`; empty as above.
    pub symbol: &'static str,
    /// The index of that function in the frames that were looked at.
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
    /// Is the user's code. Not in the table: whoever has the names says so.
    Own,
    /// Runs a finalizer because a reference count reached zero.
    Count,
    /// A finalizer, or what runs one for whatever reason.
    Finalizer,
    Collector,
    Shutdown,
    /// A destructor (C++) or drop glue (Rust).
    Destructor,
    /// Ends an object because the code that called it says so: a method `close`.
    Asked,
    /// The same for any object, whose destructor then runs (Rust's `drop`).
    Drop,
    /// Does what was asked for on another thread, or at another time.
    Deferred,
    /// Leaves a block that owns the object.
    With,
    Stream,
    Directory,
    Pipe,
    /// A function that only its own library calls, called by another: who should stand between has ended with a jump to
    /// it, and is not on the stack. In glibc `closedir` does.
    Jump,
    Loop,
    Redirection,
}

/// How a row's name is compared with a function's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Match {
    Exact,
    Prefix,
    Suffix,
    Contains,
}

/// One line of the tables in `runtimes.rs`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) runtime: &'static str,
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) by: Match,
}

impl Row {
    /// What stands for a function of the user's own.
    pub(crate) const fn own() -> Row {
        Row { runtime: "", name: "", role: Role::Own, by: Match::Exact }
    }

    fn matches(&self, name: &str) -> bool {
        match self.by {
            Match::Exact => name == self.name,
            Match::Prefix => name.starts_with(self.name),
            Match::Suffix => name.ends_with(self.name),
            Match::Contains => name.contains(self.name),
        }
    }
}

/// What the table says of a frame, by its address (a stripped file has no name to say it by) or its name.
#[derive(Clone, Copy, Debug)]
pub struct Sign(pub(crate) &'static Row);

impl PartialEq for Sign {
    fn eq(&self, other: &Sign) -> bool {
        (self.0.runtime, self.0.name) == (other.0.runtime, other.0.name)
    }
}

impl Eq for Sign {}

impl Sign {
    pub(crate) fn row(self) -> &'static Row {
        self.0
    }

    /// The row of this runtime and name, as [`fmt::Display`] writes them with a space between.
    fn parse(text: &str) -> Option<Sign> {
        let (runtime, name) = text.split_once(' ')?;
        let all = ROWS.iter().chain(NAMES).chain(pytypes::ROWS);
        all.into_iter().find(|r| (r.runtime, r.name) == (runtime, name)).map(Sign)
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.runtime, self.0.name)
    }
}

impl Serialize for Sign {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Reads a sign; one of another version's table says nothing.
pub(crate) fn known_sign<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Sign>, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(from)?;
    Ok(Sign::parse(&text))
}

/// How many frames of the user's own may lie between a close and the destructor that is the reason: `~App` may well run
/// the program.
pub(crate) const REACH: usize = 3;
/// Telling ranges of one module.
const MAX_RANGES: usize = 1 << 16;
/// How many ranges before an address are looked at; functions do not nest, aliases repeat a range.
const MAX_BACK: usize = 8;

#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
    row: &'static Row,
}

/// What is known of one module.
#[derive(Default)]
struct Known {
    /// The telling functions, sorted by address.
    ranges: Box<[Range]>,
    homes: Homes,
    /// Whether there are more symbols than were looked at.
    cut: bool,
}

/// The verdicts given and what they were read from.
#[derive(Default)]
pub(crate) struct Causes {
    known: FxHashMap<ModuleId, Known>,
    table: Table,
    verdicts: FxHashMap<StackId, Verdict>,
}

/// What is looked for in symbol tables.
struct Table {
    rows: FxHashMap<&'static [u8], &'static Row>,
    homes: FxHashMap<&'static [u8], Homes>,
}

impl Default for Table {
    fn default() -> Self {
        let exact = ROWS.iter().filter(|r| matches!(r.by, Match::Exact));
        let defined = HOMES.iter().flat_map(|h| h.defines);
        Self {
            rows: exact.map(|r| (r.name.as_bytes(), r)).collect(),
            homes: defined.map(|&symbol| (symbol.as_bytes(), Homes::defining(symbol))).collect(),
        }
    }
}

impl Causes {
    pub(crate) fn verdict(&mut self, id: StackId, frames: &[Frame], end: StackEnd, modules: &Modules) -> Verdict {
        if let Some(&known) = self.verdicts.get(&id) {
            return known;
        }
        let mut marks = Vec::new();
        for (i, frame) in frames.iter().enumerate() {
            let jumped = || frames.get(i + 1).is_some_and(|next| next.module != frame.module);
            if let Some(Sign(row)) = self.sign(*frame, modules).filter(|s| s.0.role != Role::Jump || jumped()) {
                marks.push((i, row));
            }
        }
        let mut verdict = decide(&marks, end);
        if verdict.python {
            // The interpreters on the stack, and the function whose symbol shows that theirs are there.
            let loops = marks.iter().filter_map(|(i, row)| Some((frames.get(*i)?.module?, python_home(row)?)));
            let named = |(m, home): (ModuleId, &Home)| {
                let ranges = self.known.get(&m).map(|k| &k.ranges[..]).unwrap_or_default();
                ranges.iter().any(|r| Some(r.row.name) == home.finalizer)
            };
            verdict.finalizers_unnamed = !loops.into_iter().any(named);
        }
        self.verdicts.insert(id, verdict);
        verdict
    }

    /// What the table says of this frame, by its address.
    pub(crate) fn sign(&mut self, frame: Frame, modules: &Modules) -> Option<Sign> {
        find(&self.known_of(frame.module?, modules).ranges, frame.lookup()).map(Sign)
    }

    /// Says of the functions at a frame, the physical one last, what they mean and whose they are.
    pub(crate) fn settle(&mut self, named: &mut [Named], frame: Frame, modules: &Modules) {
        let nothing = Known::default();
        let known = frame.module.map_or(&nothing, |id| self.known_of(id, modules));
        if let Some(physical) = named.last_mut() {
            let row = find(&known.ranges, frame.lookup());
            physical.sign = row.map(Sign);
            // A part of an evaluation loop that no symbol names gets the name that the compiler gives it.
            if let (None, Some(row)) = (&physical.function, row.filter(|row| row.role == Role::Code)) {
                physical.function = Some(format!("{}.cold", row.name));
            }
        }
        for n in named {
            let row = || row_named(n.function.as_deref()?, n.tongue, known.homes).map(Sign);
            n.sign = n.sign.or_else(row);
            let (file, function) = (n.file.as_deref(), n.function.as_deref());
            n.library = library_of(About { module: &n.module, file, function, tongue: n.tongue, homes: known.homes });
        }
    }

    /// Modules whose symbols were not all looked at.
    pub(crate) fn spent(&self) -> impl Iterator<Item = ModuleId> {
        self.known.iter().filter(|(_, k)| k.cut).map(|(&id, _)| id)
    }

    fn known_of(&mut self, id: ModuleId, modules: &Modules) -> &Known {
        let table = &self.table;
        self.known.entry(id).or_insert_with(|| modules.get(id).map(|m| scan(m, table)).unwrap_or_default())
    }
}

/// The runtimes inside a module, and its telling functions.
fn scan(module: &Module, table: &Table) -> Known {
    let mut out: Vec<Range> = Vec::new();
    let mut homes = Homes::default();
    let stripped = std::cell::Cell::new(true);
    let mut each = |s: RawSymbol<'_>| {
        if let Some(&more) = table.homes.get(s.name) {
            homes.add(more);
        }
        if s.binding == 0 {
            stripped.set(false);
        }
        if s.size == 0 || out.len() >= MAX_RANGES {
            return;
        }
        if let Some(row) = row_for(s.name, &table.rows) {
            out.push(Range { start: s.addr, end: s.addr.saturating_add(s.size), row });
        }
    };
    let Some(file) = module.file() else { return Known::default() };
    let mut whole = elf::symbols(&ReadCache::new(&file), &mut each);
    // Without local symbols the file is stripped; its debug file may have them.
    if stripped.get()
        && let Some((debug, _)) = module.build_id().and_then(|id| debugfile::by_build_id(id, module.place()))
    {
        whole &= elf::symbols(&ReadCache::new(&debug), &mut each);
    }
    // A Go program carries the names of its functions when it is stripped, too.
    if stripped.get()
        && let Some(table) = GoTable::read(&file)
    {
        whole &= table.functions(&mut |f| {
            each(RawSymbol { addr: f.start, size: f.end - f.start, name: f.name, binding: 2, function: true });
        });
    }
    // Whether a function is the runtime's or has its name by chance is known when all symbols were seen.
    out.retain(|r| homes.has(r.row.runtime));
    if HOMES.iter().any(|h| h.python && homes.has(h.runtime)) {
        let (relocations, all) = elf::relocations(&file, 0..u64::MAX);
        whole &= all;
        for (addr, row) in pytypes::functions(&file, module.segments(), relocations) {
            out.extend(module.cfi().function(addr).map(|(start, end)| Range { start, end, row }));
        }
    }
    out.sort_by_key(|r| r.start);
    Known { ranges: out.into(), homes, cut: !whole }
}

fn row_for(name: &[u8], names: &FxHashMap<&'static [u8], &'static Row>) -> Option<&'static Row> {
    // Go's names have dots of their own, so the whole name comes first. A symbol version begins with @.
    let cut = |sep: u8| name.split(|&b| b == sep).next().unwrap_or(name);
    let exact = names.get(name).or_else(|| names.get(cut(b'.'))).or_else(|| names.get(cut(b'@')));
    if let Some(row) = exact {
        return Some(row);
    }
    name.starts_with(b"_Z").then_some(())?;
    ROWS.iter().find(|row| match row.by {
        Match::Prefix => name.starts_with(row.name.as_bytes()),
        _ => false,
    })
}

/// What the tables say of a function by its readable name, in a file with these runtimes inside.
pub(crate) fn row_named(name: &str, tongue: Tongue, homes: Homes) -> Option<&'static Row> {
    // What a template returns says nothing of it.
    let name = if tongue == Tongue::Cpp { without_result(name) } else { name };
    // A compiler's suffix (`.constprop.0`, `.cold`) is no part of the name, a Go package's dot is.
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    let there = |r: &&Row| in_place(r, tongue, homes);
    let whole = ROWS.iter().chain(NAMES).filter(there).find(|r| r.matches(name));
    whole.or_else(|| ROWS.iter().filter(there).find(|r| matches!(r.by, Match::Exact) && r.name == stem))
}

/// The runtime of a row that runs Python code.
fn python_home(row: &Row) -> Option<&'static Home> {
    home_of(row).filter(|home| home.python && row.role == Role::Code)
}

fn find(ranges: &[Range], addr: u64) -> Option<&'static Row> {
    let after = ranges.partition_point(|r| r.start <= addr);
    let before = ranges.get(..after)?;
    before.iter().rev().take(MAX_BACK).find(|r| addr < r.end).map(|r| r.row)
}

/// The verdict from the telling functions of a stack, innermost first, each with its frame's index.
pub(crate) fn decide(marks: &[(usize, &'static Row)], end: StackEnd) -> Verdict {
    let python = marks.iter().any(|(_, r)| python_home(r).is_some());
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
        // Who ran it may be among the frames that are missing.
        let cut = matches!(end, StackEnd::Truncated(_)) && at + outer.len() == marks.len();
        let found = match (with(Role::Shutdown), with(Role::Collector), with(Role::Count)) {
            (Some(mark), _, _) => Some((Cause::Shutdown, mark)),
            (None, Some(mark), _) => Some((Cause::Collector, mark)),
            (None, None, Some(mark)) => Some((Cause::Finalizer, mark)),
            // A finalizer that no reference count called: CPython's collector calls them itself.
            (None, None, None) if cut => outer.first().map(|&mark| (Cause::Unknown, mark)),
            (None, None, None) => outer.first().map(|&mark| (Cause::Collector, mark)),
        };
        if let Some((cause, mark)) = found {
            return says(cause, mark, user_code);
        }
    }
    let near_code = marks.get(..first_code).unwrap_or_default();
    for (role, cause) in [(Role::Shutdown, Cause::Shutdown), (Role::Collector, Cause::Collector)] {
        if let Some(&mark) = near_code.iter().find(|(_, r)| r.role == role) {
            return says(cause, mark, false);
        }
    }
    let first = |role| near_code.iter().find(|(_, r)| r.role == role).copied();
    if let Some(mark) = first(Role::Loop) {
        return says(Cause::Loop, mark, false);
    }
    if let Some((cause, mark)) = owner(near_code) {
        return says(cause, mark, false);
    }
    let others = [
        (Role::Pipe, Cause::Pipe),
        (Role::Directory, Cause::Directory),
        (Role::Stream, Cause::Stream),
        (Role::Jump, Cause::Directory),
        (Role::Redirection, Cause::Redirection),
        (Role::Deferred, Cause::Explicit),
    ];
    for (role, cause) in others {
        if let Some(mark) = first(role) {
            return says(cause, mark, false);
        }
    }
    // Cut off before any code that answers for itself: somebody further out may be the reason.
    let answers = first_code < marks.len() || marks.iter().any(|(_, r)| r.role == Role::Own);
    let cut = matches!(end, StackEnd::Truncated(_)) && !answers;
    let cause = if cut { Cause::Unknown } else { Cause::Explicit };
    Verdict { cause, runtime: "", symbol: "", frame: None, user_code: false, python, finalizers_unnamed: false }
}

/// Who ended the object that owned the descriptor: the outermost that says so, because one calls the next. A stream's
/// destructor calls `close` of the buffer inside it, and `drop(x)` the drop glue of what `x` owns.
fn owner(marks: &[(usize, &'static Row)]) -> Option<(Cause, (usize, &'static Row))> {
    let mut own = 0;
    let mut best = None;
    for &mark in marks {
        match mark.1.role {
            Role::Own => own += 1,
            Role::Destructor => best = Some((Cause::Destructor, mark)),
            Role::Drop => best = Some((Cause::Explicit, mark)),
            Role::Asked if own == 0 => best = Some((Cause::Explicit, mark)),
            Role::With if own == 0 => best = Some((Cause::With, mark)),
            _ => {}
        }
        if own > REACH {
            break;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::runtimes::on_paper;
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
    fn streams_and_directories() {
        assert_eq!(verdict(&["close", "_IO_file_close_it", "fclose", "main"]).cause, Cause::Stream);
        assert_eq!(verdict(&["close", "closedir", "main"]).cause, Cause::Directory);
        assert_eq!(verdict(&["close", "_IO_file_close_it", "fclose", "pclose"]).cause, Cause::Pipe);
        assert_eq!(verdict(&["close", "runtime.runfinq"]).cause, Cause::Collector);
        assert_eq!(verdict(&["close", "closefrom", "main"]).cause, Cause::Loop);
        assert_eq!(verdict(&["close", "do_redirections", "main"]).cause, Cause::Redirection);
        assert_eq!(verdict(&["close", "_io_FileIO_close", "iobase_exit", EVAL]).cause, Cause::With);
    }

    #[test]
    fn a_row_counts_only_where_its_runtime_is() {
        let homes = Homes::defining("__libc_start_main");
        for (name, home) in [
            ("finalize_modules", "PyInit__io"),
            ("subtype_dealloc.part.0", "PyInit__io"),
            ("redup", "zsh_main"),
            ("do_redirections", "bash_tilde_expand"),
            ("uv_close", "uv_version_string"),
            ("os_close", "PyInit_posix"),
            ("runtime.runfinq", "runtime.main"),
        ] {
            assert!(row_named(name, Tongue::Other, homes).is_none(), "{name}");
            assert!(row_named(name, Tongue::Other, Homes::defining(home)).is_some(), "{name}");
        }
        assert!(row_named("fclose", Tongue::Other, Homes::default()).is_none());
        assert!(row_named("fclose", Tongue::Other, homes).is_some());
        assert!(row_named("core::ptr::drop_in_place<T>", Tongue::Cpp, homes).is_none());
        assert!(row_named("core::ptr::drop_in_place<T>", Tongue::Rust, homes).is_some());
        assert!(row_named("a::~b", Tongue::Rust, homes).is_none());
        let (close, open) = ("std::basic_ofstream<char>::close()", "std::basic_ofstream<char>& my::shown<int>(int)");
        assert!(row_named(close, Tongue::Cpp, homes).is_some());
        assert!(row_named(open, Tongue::Cpp, homes).is_none());
    }

    /// By readable names, where `+` stands before the user's own.
    fn named(names: &[&str]) -> (Cause, Option<usize>) {
        static OWN: Row = Row::own();
        let mut marks = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let own = name.strip_prefix('+');
            marks.extend(on_paper("a", None, Some(own.unwrap_or(name))).0.map(|r| (i, r)));
            marks.extend(own.map(|_| (i, &OWN)));
        }
        let v = decide(&marks, StackEnd::Complete);
        (v.cause, v.frame)
    }

    #[test]
    fn the_outermost_owner_is_the_reason() {
        let buffer = "std::basic_filebuf<char, std::char_traits<char> >::close()";
        let ofstream = "std::basic_ofstream<char, std::char_traits<char> >::~basic_ofstream()";
        assert_eq!(named(&["fclose", buffer, ofstream, "+main"]), (Cause::Destructor, Some(2)));
        let close = "std::basic_ofstream<char, std::char_traits<char> >::close()";
        assert_eq!(named(&["fclose", buffer, close, "+main"]), (Cause::Explicit, Some(2)));
        assert_eq!(named(&["close", "+Foo::~Foo()", "+main"]), (Cause::Destructor, Some(1)));
        let pointer = "std::unique_ptr<_IO_FILE, Closer>::~unique_ptr()";
        assert_eq!(named(&["fclose", "+Closer::operator()(_IO_FILE*) const", pointer]), (Cause::Destructor, Some(2)));
        assert_eq!(named(&["fclose", "+save", "+main"]), (Cause::Stream, Some(0)));
    }

    #[test]
    fn a_drop_that_was_asked_for_is_explicit() {
        let glue = "core::ptr::drop_in_place<std::fs::File>";
        let owned = "<std::os::fd::owned::OwnedFd as core::ops::drop::Drop>::drop";
        assert_eq!(named(&["close", owned, glue, "+r::f", "+r::main"]), (Cause::Destructor, Some(2)));
        assert_eq!(named(&["close", owned, glue, "core::mem::drop", "+r::f"]), (Cause::Explicit, Some(3)));
        assert_eq!(named(&["close", "+r::by_libc", "+r::main"]), (Cause::Explicit, None));
    }

    #[test]
    fn a_destructor_far_out_runs_the_program() {
        assert_eq!(named(&["close", "+a", "+b", "+c", "+d", "+App::~App()"]), (Cause::Explicit, None));
    }

    #[test]
    fn a_stack_cut_off_proves_nothing() {
        assert_eq!(decide(&[], StackEnd::Truncated(Why::NotMapped)).cause, Cause::Unknown);
        assert_eq!(decide(&[], StackEnd::Complete).cause, Cause::Explicit);
        // Nor does a finalizer whose caller is not on it.
        let finalizer = on_paper("python3", None, Some("iobase_finalize")).0.unwrap();
        let marks = [(0, finalizer)];
        assert_eq!(decide(&marks, StackEnd::Truncated(Why::NotMapped)).cause, Cause::Unknown);
        assert_eq!(decide(&marks, StackEnd::Complete).cause, Cause::Collector);
    }
}

//! Where in a program something happened: the user's own line, the runtime's, and the native functions that tell why.

use super::{Names, NativeFrame, PythonFrame};
use crate::base::text::escape;
use crate::event::Site;
use crate::render::style::{keep_path, keep_start};
use crate::stack::{Role, Row};

/// How many native functions are named in a chain.
const CHAIN: usize = 3;
/// The longest file name shown in a place.
const FILE: usize = 40;

/// Where something happened. All text is safe to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `job.py:2 in <module>`: the innermost line that is the user's own.
    pub user: Option<String>,
    /// The file and line behind it, as found: not safe to show.
    pub source: Option<(String, u32)>,
    /// `subprocess.py _execute_child`: the runtime's line, where it is another.
    pub runtime: Option<String>,
    /// `textiowrapper_dealloc`, `iobase_finalize`, `__close`: the most telling native functions, outermost first.
    pub chain: Vec<String>,
}

impl Place {
    /// The chain as text: `textiowrapper_dealloc < iobase_finalize < __close`; `None` without names.
    pub fn chain_text(&self) -> Option<String> {
        (!self.chain.is_empty()).then(|| self.chain.join(" < "))
    }
}

/// Where `site` is.
pub fn place(names: &mut dyn Names, site: &Site) -> Place {
    let native = site.stack.map(|id| names.native(id));
    let python = site.py.map(|id| names.python(id));
    of_frames(native.as_deref().unwrap_or_default(), python.as_deref().unwrap_or_default())
}

/// Where these two stacks, innermost frame first, are.
pub fn of_frames(native: &[NativeFrame], python: &[PythonFrame]) -> Place {
    let chain = chain(native);
    if python.is_empty() {
        let own = own(native);
        let source = own.and_then(|f| Some((f.file.clone()?, f.line?)));
        return Place { user: own.map(native_place), source, runtime: None, chain };
    }
    let user = python.iter().find(|f| !is_library(&f.file)).or(python.first());
    let runtime = python.first().filter(|f| Some(*f) != user);
    Place {
        user: user.map(python_place),
        source: user.and_then(|f| Some((f.file.clone(), f.line?))),
        runtime: runtime.map(|f| format!("{} {}", file_name(base(&f.file)), escape(f.function.as_bytes()))),
        chain,
    }
}

/// The innermost frame that is the user's own; where there is none, the outermost that tells what the runtime was doing,
/// or else a known line before a bare name.
pub(crate) fn own(native: &[NativeFrame]) -> Option<&NativeFrame> {
    if let Some(own) = (0..native.len()).find(|i| is_own(native, *i)) {
        return native.get(own);
    }
    let told = native.iter().map_while(|f| {
        let row = row(f);
        row.is_none_or(|r| r.role != Role::Code).then_some((f, row))
    });
    if let Some((f, _)) = told.filter(|(f, row)| row.is_some() && f.function.is_some()).last() {
        return Some(f);
    }
    let mut theirs =
        native.iter().enumerate().filter(|(i, f)| !(is_libc(f) || (*i == 0 && is_wrapper(f)))).map(|(_, f)| f);
    let named = theirs.clone().find(|f| f.function.is_some());
    theirs.find(|f| f.file.is_some()).or(named)
}

/// Whether frame `i` is the user's own, as far as names tell: neither a language's runtime's nor a library's that is
/// part of one.
pub(crate) fn is_own(native: &[NativeFrame], i: usize) -> bool {
    let Some(f) = native.get(i) else { return false };
    f.function.is_some()
        && f.library.is_none()
        && !(i == 0 && is_wrapper(f))
        && row(f).is_none_or(|r| r.runtime != "libc")
}

/// What the tables say of a frame.
pub(crate) fn row(f: &NativeFrame) -> Option<&'static Row> {
    f.sign.map(|s| s.row())
}

fn python_place(f: &PythonFrame) -> String {
    format!("{} in {}", at_line(&f.file, f.line), escape(f.function.as_bytes()))
}

pub(crate) fn native_place(f: &NativeFrame) -> String {
    match (&f.file, &f.function) {
        (Some(file), Some(function)) => format!("{} in {}", at_line(file, f.line), escape(brief(function).as_bytes())),
        (Some(file), None) => at_line(file, f.line),
        (None, Some(function)) => format!("{} in {}", escape(brief(function).as_bytes()), file_name(base(&f.module))),
        (None, None) => raw_address(f),
    }
}

/// `job.py:2`, safe to show.
pub(crate) fn at_line(file: &str, line: Option<u32>) -> String {
    match line {
        Some(n) => format!("{}:{n}", file_name(file)),
        None => file_name(file),
    }
}

/// `libc.so.6+0x1234`, safe to show.
pub(crate) fn raw_address(f: &NativeFrame) -> String {
    match f.module.is_empty() {
        true => format!("{:#x}", f.offset),
        false => format!("{}+{:#x}", file_name(base(&f.module)), f.offset),
    }
}

fn file_name(file: &str) -> String {
    let safe = escape(file.as_bytes());
    keep_path(&safe, FILE)
}

/// The last component of a path.
pub(crate) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a Python file belongs to the language's own library.
pub(crate) fn is_library(file: &str) -> bool {
    // `<frozen importlib._bootstrap>`; `<string>` and `<stdin>` are the user's.
    if file.starts_with("<frozen ") {
        return true;
    }
    let installed = file.contains("/site-packages/") || file.contains("/dist-packages/");
    let in_lib = ["/lib/python", "/lib64/python"]
        .iter()
        .any(|p| file.split_once(p).is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit())));
    (in_lib && !installed) || file == "subprocess.py" || file.starts_with("importlib/")
}

/// Whether a frame is the C library's, the dynamic linker's or the kernel's.
pub(crate) fn is_libc(f: &NativeFrame) -> bool {
    f.library.is_some_and(|l| l.is_libc())
}

/// Whether a frame is the wrapper of a system call in a static program without debug information, by its name.
fn is_wrapper(f: &NativeFrame) -> bool {
    let Some(name) = &f.function else { return false };
    let stem = name.trim_start_matches('_').trim_start_matches("libc_");
    let stem = stem.trim_end_matches("_nocancel").trim_end_matches("64");
    f.file.is_none() && crate::syscall::by_name(stem).is_some()
}

/// The most telling functions, outermost first; unresolved frames tell nothing.
fn chain(native: &[NativeFrame]) -> Vec<String> {
    // What lies beyond the evaluation loop is told by the Python frames.
    let end = native.iter().position(|f| f.evaluates_python).unwrap_or(native.len());
    let mut named: Vec<(&NativeFrame, &str)> =
        native.iter().take(end).filter(|f| !f.jumped).filter_map(|f| Some((f, f.function.as_deref()?))).collect();
    // `open_impl` called by `open` is one thing.
    let names: Vec<&str> = named.iter().map(|n| n.1).collect();
    let mut i = 0;
    named.retain(|(_, name)| {
        i += 1;
        name.strip_suffix("_impl").is_none_or(|stem| names.get(i) != Some(&stem))
    });
    let Some(first) = named.first().copied() else { return Vec::new() };
    let mut rest: Vec<(usize, u8, &str)> = named
        .iter()
        .enumerate()
        .skip(1)
        .filter(|(_, (f, _))| !is_libc(f))
        .map(|(i, (_, name))| (i, weight(name), *name))
        .filter(|(_, w, _)| *w > 0)
        .collect();
    // The heaviest; among equals the outermost of those that end an object, the innermost of others.
    rest.sort_by_key(|(i, w, _)| (std::cmp::Reverse(*w), *i));
    rest.truncate(CHAIN - 1);
    rest.sort_by_key(|r| std::cmp::Reverse(r.0));
    rest.into_iter().map(|r| r.2).chain([first.1]).map(|n| escape(brief(n).as_bytes())).collect()
}

/// How much a function's name tells about why; 0 for the plumbing of an interpreter or a runtime.
fn weight(name: &str) -> u8 {
    const PLUMBING: &[&str] = &[
        "_Py_",
        "Py_",
        "_PyEval",
        "PyEval",
        "_PyObject",
        "PyObject",
        "_PyFunction",
        "_PyVectorcall",
        "PyVectorcall",
        "_PyCFunction",
        "_PyStack",
        "_PyType",
        "_PyMethod",
        "PyCFunction",
        "PyRun_",
        "_PyRun_",
        "pymain_",
        "run_mod",
        "run_eval",
        "object_vacall",
        "method_vectorcall",
        "cfunction_",
        "slot_",
        "type_call",
        "wrap_",
        "builtin_exec",
        "vectorcall_",
        "wrapperdescr_",
        "partial_",
        "_start",
        "__libc_start",
        "call_init",
        "_PyTuple",
        "_PyBytes",
    ];
    const ENDS: &[&str] = &["dealloc", "finaliz", "destroy", "destruct", "drop_in_place", "::drop", "~", "__gc"];
    if PLUMBING.iter().any(|p| name.starts_with(p)) {
        0
    } else if ENDS.iter().any(|e| name.contains(e)) {
        2
    } else {
        1
    }
}

/// Whether a function is the plumbing of an interpreter or a runtime.
pub(crate) fn is_plumbing(name: &str) -> bool {
    weight(name) == 0
}

/// A function's name without the parameters and template arguments, where they make it long.
pub(crate) fn brief(name: &str) -> String {
    const LONG: usize = 60;
    if name.len() <= LONG { name.to_string() } else { without_arguments(name) }
}

/// A function's name without what stands between `<` and `>` or `(` and `)`: that can fill a page.
pub(crate) fn without_arguments(name: &str) -> String {
    let mut depth = 0u32;
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '<' | '(' => depth = depth.saturating_add(1),
            '>' | ')' if depth > 0 => depth -= 1,
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    // `<T as Trait>::f` and `operator<` lose too much.
    let out = out.replace("::::", "::");
    let out = out.trim_end_matches(" const").trim_end_matches("::");
    if out.len() < 3 || name.starts_with('<') || name.contains("operator") { cut(name) } else { out.to_string() }
}

/// A name that has no better short form.
fn cut(name: &str) -> String {
    const LONG: usize = 80;
    keep_start(name, LONG)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{native, python, settle};
    use super::*;

    #[test]
    fn the_users_own_line_comes_first_and_the_runtimes_is_named_too() {
        let py = python(&[
            ("_execute_child", "/usr/lib/python3.11/subprocess.py", 1900),
            ("run", "/usr/lib/python3.11/subprocess.py", 548),
            ("<module>", "job.py", 2),
        ]);
        let p = of_frames(&[], &py);
        assert_eq!(p.user.as_deref(), Some("job.py:2 in <module>"));
        assert_eq!(p.runtime.as_deref(), Some("subprocess.py _execute_child"));
        assert_eq!(p.source, Some(("job.py".to_string(), 2)));
    }

    #[test]
    fn what_is_installed_is_not_the_library_but_frozen_code_is() {
        assert!(is_library("/usr/lib/python3.11/os.py"));
        assert!(is_library("/opt/x/lib/python3.13/importlib/__init__.py"));
        assert!(is_library("<frozen importlib._bootstrap>"));
        assert!(!is_library("/usr/lib/python3.11/site-packages/requests/api.py"));
        assert!(!is_library("/home/me/lib/pythonic.py"));
        assert!(!is_library("<stdin>"));
    }

    #[test]
    fn the_chain_names_who_ended_it() {
        let n = native(&[
            ("__close", "/lib/libc.so.6"),
            ("_io_FileIO_close_impl", "/usr/bin/python3"),
            ("_io_FileIO_close", "/usr/bin/python3"),
            ("PyObject_CallMethodNoArgs", "/usr/bin/python3"),
            ("iobase_finalize", "/usr/bin/python3"),
            ("PyObject_CallFinalizerFromDealloc", "/usr/bin/python3"),
            ("textiowrapper_dealloc", "/usr/bin/python3"),
            ("_Py_Dealloc", "/usr/bin/python3"),
            ("_PyEval_EvalFrameDefault", "/usr/bin/python3"),
            ("main", "/usr/bin/python3"),
        ]);
        assert_eq!(
            of_frames(&n, &[]).chain_text().as_deref(),
            Some("textiowrapper_dealloc < iobase_finalize < __close")
        );
        let n = native(&[
            ("__open64", "/lib/libc.so.6"),
            ("_io_FileIO___init___impl", "/usr/bin/python3"),
            ("_io_FileIO___init__", "/usr/bin/python3"),
            ("_PyEval_EvalFrameDefault", "/usr/bin/python3"),
        ]);
        assert_eq!(of_frames(&n, &[]).chain_text().as_deref(), Some("_io_FileIO___init__ < __open64"));
    }

    #[test]
    fn a_c_program_is_placed_by_its_first_own_frame() {
        let mut n =
            native(&[("__close", "/lib/x86_64-linux-gnu/libc.so.6"), ("log_close", "/bin/job"), ("main", "/bin/job")]);
        n[1].file = Some("src/log.c".into());
        n[1].line = Some(40);
        let p = of_frames(&n, &[]);
        assert_eq!(p.user.as_deref(), Some("src/log.c:40 in log_close"));
        assert_eq!(p.chain_text().as_deref(), Some("main < log_close < __close"));
        n[1].file = None;
        assert_eq!(of_frames(&n, &[]).user.as_deref(), Some("log_close in job"));
    }

    #[test]
    fn a_static_or_standard_library_is_nobodys_own() {
        let n = native(&[("__close_nocancel", "/bin/job"), ("log_close", "/bin/job"), ("main", "/bin/job")]);
        assert_eq!(of_frames(&n, &[]).user.as_deref(), Some("log_close in job"));
        let mut n =
            native(&[("close", "/lib/libc.so.6"), ("<std::fs::File as Drop>::drop", "/bin/r"), ("r::main", "/bin/r")]);
        n[1].file = Some("/rustc/abc/library/std/src/fs.rs".into());
        settle(&mut n);
        n[2].file = Some("src/main.rs".into());
        n[2].line = Some(5);
        assert_eq!(of_frames(&n, &[]).user.as_deref(), Some("src/main.rs:5 in r::main"));
        let n = native(&[("", "/lib/libc.so.6"), ("", "/bin/stripped")]);
        assert_eq!(of_frames(&n, &[]), Place::default());
    }

    #[test]
    fn hostile_names_are_escaped_and_long_ones_cut() {
        let py = python(&[("f\x1b[2J", &format!("/{}/a\n.py", "x".repeat(100)), 1)]);
        let user = of_frames(&[], &py).user.unwrap();
        assert!(user.ends_with("/a\\n.py:1 in f\\x1b[2J") && user.starts_with('…'), "{user}");
        let long = format!("std::vector<{}>::push_back(int)", "x".repeat(100));
        assert_eq!(brief(&long), "std::vector::push_back");
        assert_eq!(brief("Foo::~Foo()"), "Foo::~Foo()");
        assert_eq!(without_arguments("core::mem::drop::<std::fs::File>"), "core::mem::drop");
        assert_eq!(without_arguments("<a::B as core::ops::Drop>::drop"), "<a::B as core::ops::Drop>::drop");
        assert_eq!(without_arguments("a::operator<(int)"), "a::operator<(int)");
    }
}

//! What fdwatch knows of runtimes: the functions that give away why a descriptor is being closed, and the code that is
//! nobody's own. To teach fdwatch a runtime, add rows here.
//!
//! A name alone says little: a C program may well have a `finalize_modules` or a `redup` of its own. So a row counts only
//! in a file that has its runtime inside ([`HOMES`]), or in its language ([`Tongue`]), whatever the file is called: an
//! interpreter that was linked into a program is found like the one of a distribution.

use super::cause::{Match, Role, Row};
use super::names::Tongue;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// How a file shows that it has a runtime inside.
#[derive(Debug)]
pub(crate) struct Home {
    /// As in the rows.
    pub(crate) runtime: &'static str,
    /// Symbols as the linker has them: whatever defines one of them is or contains the runtime.
    pub(crate) defines: &'static [&'static str],
    /// Whether it runs Python code, whose frames fdwatch reads besides.
    pub(crate) python: bool,
    /// A function that has a symbol where the runtime's finalizers have symbols.
    pub(crate) finalizer: Option<&'static str>,
}

const fn home(runtime: &'static str, defines: &'static [&'static str]) -> Home {
    Home { runtime, defines, python: false, finalizer: None }
}

/// At most 16. What they define is public and has been there for long; all but Go's is exported.
pub(crate) static HOMES: &[Home] = &[
    // An interpreter, or one of those extension modules of its own that hold something of the rows below.
    Home {
        runtime: "CPython",
        defines: &[
            "_PyEval_EvalFrameDefault",
            "PyEval_EvalFrameEx",
            "PyInit__posixsubprocess",
            "PyInit__socket",
            "PyInit_select",
            "PyInit_mmap",
            "PyInit__io",
            "PyInit_posix",
        ],
        python: true,
        finalizer: Some("iobase_finalize"),
    },
    home("Go", &["runtime.main"]),
    home("V8", &["_ZN2v82V810GetVersionEv"]),
    home("Node", &["node_module_register"]),
    home("libuv", &["uv_version_string"]),
    // glibc and musl, dynamic and static; bionic; uClibc.
    home("libc", &["__libc_start_main", "__libc_init", "__uClibc_main"]),
    home("glib", &["g_spawn_async"]),
    // Both shells export what their loadable modules may need.
    home("bash", &["bash_tilde_expand"]),
    home("zsh", &["zsh_main"]),
];

/// The runtimes that a file has inside, one bit for each of [`HOMES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Homes(u16);

impl Homes {
    /// What a file has inside that defines this symbol.
    pub(crate) fn defining(symbol: &str) -> Homes {
        let bits = HOMES.iter().enumerate().filter(|(_, h)| h.defines.contains(&symbol));
        Homes(bits.fold(0, |all, (i, _)| all | 1 << i))
    }

    pub(crate) fn add(&mut self, more: Homes) {
        self.0 |= more.0;
    }

    /// Whether the runtime is inside. C++ and Rust are in no file and in any: there the language of a function tells.
    pub(crate) fn has(self, runtime: &str) -> bool {
        HOMES.iter().position(|h| h.runtime == runtime).is_none_or(|i| self.0 & 1 << i != 0)
    }
}

/// What is known of a row's runtime besides.
pub(crate) fn home_of(row: &Row) -> Option<&'static Home> {
    HOMES.iter().find(|h| h.runtime == row.runtime)
}

/// Whether a function of this language, in a file with these runtimes inside, can be the row's.
pub(crate) fn in_place(row: &Row, tongue: Tongue, homes: Homes) -> bool {
    let spoken = match row.runtime {
        "Rust" => tongue == Tongue::Rust,
        "C++" => tongue == Tongue::Cpp,
        _ => true,
    };
    spoken && homes.has(row.runtime)
}

const fn exact(runtime: &'static str, name: &'static str, role: Role) -> Row {
    Row { runtime, name, role, by: Match::Exact }
}

const fn mangled(runtime: &'static str, name: &'static str, role: Role) -> Row {
    Row { runtime, name, role, by: Match::Prefix }
}

/// Rows for the symbols of a file, which are asked for at a stop. A name is as the linker has it, without a compiler's suffix (`.part.0`,
/// `.constprop.0`, `.cold`): those are cut off before the comparison.
///
/// CPython: `Objects/object.c`, `Modules/_io/iobase.c`, `Modules/gcmodule.c` (`Python/gc.c` from 3.13),
/// `Python/pylifecycle.c`. A distribution's interpreter has no `.symtab`; the names marked "exported" suffice there.
pub(crate) static ROWS: &[Row] = &[
    // Runs Python code. Exported.
    exact("CPython", "_PyEval_EvalFrameDefault", Role::Code),
    exact("CPython", "_PyEval_Vector", Role::Code),
    exact("CPython", "_TAIL_CALL_ENTRY", Role::Code),
    exact("CPython", "PyEval_EvalCode", Role::Code),
    // A reference count has dropped to zero. Exported.
    exact("CPython", "PyObject_CallFinalizerFromDealloc", Role::Count),
    exact("CPython", "subtype_dealloc", Role::Count),
    // Python 2.
    exact("CPython", "PyEval_EvalFrameEx", Role::Code),
    exact("CPython", "file_dealloc", Role::Count),
    // The methods `__exit__` of files and of os.scandir (Modules/_io/iobase.c, Modules/posixmodule.c).
    exact("CPython", "iobase_exit", Role::With),
    exact("CPython", "ScandirIterator_exit", Role::With),
    // Called by what is above and below. The first is exported.
    exact("CPython", "PyObject_CallFinalizer", Role::Finalizer),
    exact("CPython", "iobase_finalize", Role::Finalizer),
    exact("CPython", "ScandirIterator_finalize", Role::Finalizer),
    exact("CPython", "slot_tp_finalize", Role::Finalizer),
    // The cyclic garbage collector.
    exact("CPython", "PyGC_Collect", Role::Collector),
    exact("CPython", "_PyGC_Collect", Role::Collector),
    exact("CPython", "_PyGC_CollectNoFail", Role::Collector),
    exact("CPython", "_Py_RunGC", Role::Collector),
    exact("CPython", "gc_collect_main", Role::Collector),
    exact("CPython", "gc_collect_with_callback", Role::Collector),
    exact("CPython", "gc_collect_generations", Role::Collector),
    exact("CPython", "gc_collect_region", Role::Collector),
    exact("CPython", "gc_collect_increment", Role::Collector),
    exact("CPython", "gc_collect_internal", Role::Collector),
    exact("CPython", "gc_collect_young", Role::Collector),
    exact("CPython", "gc_collect_full", Role::Collector),
    // Up to 3.11 a collection begins inside an allocation; nothing else that closes does. Exported.
    exact("CPython", "_PyObject_GC_New", Role::Collector),
    exact("CPython", "_PyObject_GC_NewVar", Role::Collector),
    exact("CPython", "_PyObject_GC_Malloc", Role::Collector),
    exact("CPython", "PyType_GenericAlloc", Role::Collector),
    // The interpreter is being taken down. Exported but for the last two.
    exact("CPython", "Py_FinalizeEx", Role::Shutdown),
    exact("CPython", "Py_EndInterpreter", Role::Shutdown),
    exact("CPython", "_PyInterpreterState_Clear", Role::Shutdown),
    exact("CPython", "finalize_modules", Role::Shutdown),
    exact("CPython", "finalize_interp_clear", Role::Shutdown),
    // Go: the goroutine that runs what SetFinalizer and AddCleanup left (runtime/mfinal.go, runtime/mcleanup.go).
    exact("Go", "runtime.runfinq", Role::Collector),
    exact("Go", "runtime.runFinalizers", Role::Collector),
    exact("Go", "runtime.runCleanups", Role::Collector),
    // V8: a collection, as its C++ entry points are mangled (src/heap/heap.h), and what runs JavaScript.
    mangled("V8", "_ZN2v88internal4Heap14CollectGarbageE", Role::Collector),
    mangled("V8", "_ZN2v88internal4Heap24PerformGarbageCollectionE", Role::Collector),
    mangled("V8", "_ZN2v88internal13GlobalHandles", Role::Collector),
    exact("V8", "Builtins_InterpreterEntryTrampoline", Role::Code),
    exact("V8", "Builtins_JSEntry", Role::Code),
    exact("V8", "Builtins_JSEntryTrampoline", Role::Code),
    // Node takes itself down (src/env.cc).
    mangled("Node", "_ZN4node11Environment10RunCleanupE", Role::Shutdown),
    // The C library closes on behalf of a stream.
    exact("libc", "pclose", Role::Pipe),
    exact("libc", "_IO_proc_close", Role::Pipe),
    exact("libc", "closedir", Role::Directory),
    exact("libc", "__close_nocancel", Role::Jump),
    exact("libc", "fclose", Role::Stream),
    exact("libc", "freopen", Role::Stream),
    exact("libc", "_IO_file_close_it", Role::Stream),
    // Closes all there is: glibc and the BSDs, glib (glib/gspawn.c), CPython's child (Modules/_posixsubprocess.c).
    exact("libc", "closefrom", Role::Loop),
    exact("glib", "g_closefrom", Role::Loop),
    exact("glib", "safe_closefrom", Role::Loop),
    exact("glib", "close_func_with_invalid_fds", Role::Loop),
    exact("CPython", "_close_open_fds", Role::Loop),
    exact("CPython", "_close_open_fds_safe", Role::Loop),
    exact("CPython", "_close_open_fds_maybe_unsafe", Role::Loop),
    exact("CPython", "_brute_force_close_fds", Role::Loop),
    // A shell makes or undoes a redirection: bash (redir.c, execute_cmd.c), zsh (Src/utils.c, Src/exec.c). Both export
    // them for their loadable modules.
    exact("bash", "do_redirections", Role::Redirection),
    exact("bash", "undo_partial_redirects", Role::Redirection),
    exact("zsh", "redup", Role::Redirection),
    exact("zsh", "fixfds", Role::Redirection),
];

/// Rows for readable names, asked for only when somebody looks: what one sees of them is often inlined, and has no
/// symbol.
pub(crate) static NAMES: &[Row] = &[
    // Rust: drop glue, and the function `drop`, which is a request.
    Row { runtime: "Rust", name: "core::ptr::drop_in_place", role: Role::Destructor, by: Match::Prefix },
    Row { runtime: "Rust", name: " as core::ops::drop::Drop>::drop", role: Role::Destructor, by: Match::Suffix },
    Row { runtime: "Rust", name: "core::mem::drop", role: Role::Drop, by: Match::Exact },
    Row { runtime: "Rust", name: "core::mem::drop::<", role: Role::Drop, by: Match::Prefix },
    // C++: destructors by the grammar of names; the streams of the standard library.
    Row { runtime: "C++", name: "::~", role: Role::Destructor, by: Match::Contains },
    Row { runtime: "C++", name: "std::basic_ofstream", role: Role::Asked, by: Match::Prefix },
    Row { runtime: "C++", name: "std::basic_ifstream", role: Role::Asked, by: Match::Prefix },
    Row { runtime: "C++", name: "std::basic_fstream", role: Role::Asked, by: Match::Prefix },
    Row { runtime: "C++", name: "std::basic_filebuf", role: Role::Asked, by: Match::Prefix },
    // Go: a method or function that is there to be called.
    Row { runtime: "Go", name: "os.(*File).Close", role: Role::Asked, by: Match::Exact },
    Row { runtime: "Go", name: "net.(*conn).Close", role: Role::Asked, by: Match::Exact },
    Row { runtime: "Go", name: "syscall.Close", role: Role::Asked, by: Match::Exact },
    // Node: a binding that JavaScript calls. libuv: what a binding calls, and its thread that does it later
    // (deps/uv/src/unix/fs.c, threadpool.c).
    Row { runtime: "Node", name: "node::fs::", role: Role::Asked, by: Match::Prefix },
    Row { runtime: "libuv", name: "uv_fs_close", role: Role::Asked, by: Match::Exact },
    Row { runtime: "libuv", name: "uv_close", role: Role::Asked, by: Match::Exact },
    Row { runtime: "libuv", name: "uv__fs_work", role: Role::Deferred, by: Match::Exact },
    // CPython: methods and functions that are there to be called.
    Row { runtime: "CPython", name: "_io_FileIO_close", role: Role::Asked, by: Match::Exact },
    Row { runtime: "CPython", name: "os_close", role: Role::Asked, by: Match::Exact },
    Row { runtime: "CPython", name: "sock_close", role: Role::Asked, by: Match::Exact },
];

/// Python functions that say by their names why they close.
static PYTHON: &[(&str, Role)] = &[("__exit__", Role::With), ("__aexit__", Role::With), ("__del__", Role::Finalizer)];

/// What a Python function's name, without its class, says of a close inside it.
pub(crate) fn python_role(function: &str) -> Option<Role> {
    PYTHON.iter().find(|(name, _)| *name == function).map(|(_, role)| *role)
}

/// Code that is nobody's own: a language's runtime and library, the C library, the loader.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// As a reader calls it, behind "of".
    noun: &'static str,
    /// The last component of the module's path; `*` at the end stands for anything.
    modules: &'static [&'static str],
    /// The runtimes of [`HOMES`] whose file is theirs from end to end.
    whole: &'static [&'static str],
    /// What the source file's path contains.
    files: &'static [Part],
    /// What makes a function theirs.
    functions: &'static [Functions],
}

/// A part of a source file's path.
#[derive(Debug)]
struct Part {
    text: &'static str,
    /// What is before it and behind it, if that matters.
    between: fn(&str, &str) -> bool,
    /// Only in a file with this runtime inside; empty for any.
    home: &'static str,
}

/// Functions by their names, without what stands before the first path; `*` at the end stands for anything.
#[derive(Debug)]
struct Functions {
    /// The language that they must be written in, where another may have such names.
    tongue: Option<Tongue>,
    /// Only in a file with this runtime inside; empty for any.
    home: &'static str,
    names: &'static [&'static str],
}

/// The code that a frame belongs to when it is not the user's.
#[derive(Clone, Copy, Debug)]
pub struct Library(&'static Runtime);

impl Library {
    /// The library whose file a module is by its name alone.
    pub(crate) fn of_module(module: &str) -> Option<Library> {
        let nothing = Homes::default();
        library_of(About { module, file: None, function: None, tongue: Tongue::Other, homes: nothing })
    }

    /// Whether it is Python's interpreter.
    pub(crate) fn is_python(self) -> bool {
        self.0.noun == "the interpreter"
    }

    /// As a reader calls it, behind "of": `the C library`.
    pub fn noun(self) -> &'static str {
        self.0.noun
    }

    /// Whether it is the C library with its loader.
    pub fn is_libc(self) -> bool {
        RUNTIMES.first().is_some_and(|libc| libc.noun == self.0.noun)
    }
}

impl PartialEq for Library {
    fn eq(&self, other: &Library) -> bool {
        self.0.noun == other.0.noun
    }
}

impl Eq for Library {}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.noun)
    }
}

impl Serialize for Library {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Reads a library; one of another version's table says nothing.
pub(crate) fn known_library<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Library>, D::Error> {
    let noun = std::borrow::Cow::<str>::deserialize(from)?;
    Ok(RUNTIMES.iter().find(|r| r.noun == noun).map(Library))
}

const fn any(_: &str, _: &str) -> bool {
    true
}

/// Whether a folder is what Rust calls its own sources by: the commit of the compiler, or its version where that was not
/// built in a repository (Rust, `src/bootstrap/src/lib.rs`, `debuginfo_map_to`).
fn is_compiler(before: &str, behind: &str) -> bool {
    let Some((folder, _)) = behind.split_once('/') else { return false };
    let commit = folder.len() == 40 && folder.bytes().all(|b| b.is_ascii_hexdigit());
    let mut numbers = folder.split_once('-').map_or(folder, |(number, _)| number).split('.');
    let number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    let version = numbers.clone().count() == 3 && numbers.all(number);
    before.is_empty() && (commit || version)
}

/// All of them, the C library first.
static RUNTIMES: &[Runtime] = &[
    Runtime {
        noun: "the C library",
        modules: &[
            "libc.so",
            "libc.so.*",
            "libc-2.*",
            "libc.musl-*",
            "ld-linux*",
            "ld-musl-*",
            "ld-2.*",
            "ld.so",
            "ld.so.*",
            "ld64.so.*",
            "libpthread.so.*",
            "libpthread-2.*",
            "libresolv.so.*",
            "libresolv-2.*",
            "libdl.so.*",
            "libdl-2.*",
            "librt.so.*",
            "librt-2.*",
            "libm.so.*",
            "libm-2.*",
            "libnss_files*",
            "libnss_dns*",
            "libnss_compat*",
            "[vdso]",
            "linux-vdso*",
        ],
        whole: &[],
        // A static program has its C library inside. glibc is built in folders beside these.
        files: &[
            Part { text: "../sysdeps/", between: any, home: "libc" },
            Part { text: "../csu/libc-start", between: any, home: "libc" },
        ],
        // Names that the language keeps for its implementation.
        functions: &[Functions { tongue: None, home: "", names: &["_start", "__libc_start_*"] }],
    },
    Runtime {
        noun: "the interpreter",
        modules: &[
            "python",
            "python2",
            "python2.*",
            "python3",
            "python3.*",
            "libpython2.*",
            "libpython3.*",
            "libpython3.so",
        ],
        whole: &[],
        files: &[],
        // In a program that has it inside.
        functions: &[Functions {
            tongue: None,
            home: "CPython",
            names: &["_Py*", "Py_*", "PyEval_*", "PyObject_*", "PyRun_*", "PyImport_*", "PyVectorcall_*", "pymain_*"],
        }],
    },
    Runtime {
        noun: "the standard library",
        modules: &["libstdc++.so*", "libc++.so*", "libc++abi.so*", "libgcc_s.so*"],
        whole: &[],
        // `/rustc/` and the compiler; `rust-src`; GCC's number or LLVM's `v1`.
        files: &[
            Part { text: "/rustc/", between: is_compiler, home: "" },
            Part { text: "/lib/rustlib/src/rust/", between: any, home: "" },
            Part {
                text: "/include/c++/",
                between: |_, behind| behind.starts_with(|c: char| c.is_ascii_digit() || c == 'v'),
                home: "",
            },
        ],
        functions: &[
            Functions { tongue: Some(Tongue::Rust), home: "", names: &["std::*", "core::*", "alloc::*", "__rust*"] },
            Functions {
                tongue: Some(Tongue::Cpp),
                home: "",
                names: &["std::*", "__gnu_cxx::*", "operator new*", "operator delete*"],
            },
            Functions { tongue: None, home: "", names: &["__cxa_*"] },
        ],
    },
    Runtime {
        noun: "Go's library",
        modules: &[],
        whole: &[],
        files: &[],
        // Packages of the standard library, by the first part of their paths.
        functions: &[Functions {
            tongue: None,
            home: "Go",
            names: &[
                "runtime.*",
                "runtime/*",
                "syscall.*",
                "syscall/*",
                "internal/*",
                "vendor/*",
                "os.*",
                "os/*",
                "io.*",
                "io/*",
                "bufio.*",
                "net.*",
                "net/*",
                "sync.*",
                "sync/*",
                "fmt.*",
                "log.*",
                "log/*",
                "bytes.*",
                "strings.*",
                "sort.*",
                "slices.*",
                "maps.*",
                "iter.*",
                "unique.*",
                "weak.*",
                "reflect.*",
                "strconv.*",
                "errors.*",
                "context.*",
                "time.*",
                "math.*",
                "math/*",
                "path.*",
                "path/*",
                "regexp.*",
                "regexp/*",
                "encoding/*",
                "compress/*",
                "archive/*",
                "container/*",
                "crypto.*",
                "crypto/*",
                "database/*",
                "debug/*",
                "embed.*",
                "expvar.*",
                "flag.*",
                "go/*",
                "hash.*",
                "hash/*",
                "html.*",
                "html/*",
                "image.*",
                "image/*",
                "index/*",
                "mime.*",
                "mime/*",
                "plugin.*",
                "testing.*",
                "testing/*",
                "text/*",
                "unicode.*",
                "unicode/*",
                "type:.*",
                "type..*",
                "_rt0_*",
                "_cgo_*",
                "x_cgo_*",
                "crosscall*",
            ],
        }],
    },
    Runtime {
        noun: "Node",
        modules: &["libnode.so.*", "libuv.so.*"],
        whole: &["Node"],
        files: &[],
        // In a program that has them inside.
        functions: &[
            Functions { tongue: Some(Tongue::Cpp), home: "V8", names: &["v8::*"] },
            Functions { tongue: None, home: "V8", names: &["Builtins_*"] },
            Functions { tongue: None, home: "libuv", names: &["uv__*", "uv_*"] },
        ],
    },
];

/// What is known of a frame: the module's path or the last component of it, the source file, the function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) module: &'a str,
    pub(crate) file: Option<&'a str>,
    pub(crate) function: Option<&'a str>,
    pub(crate) tongue: Tongue,
    /// The runtimes inside the module.
    pub(crate) homes: Homes,
}

/// The library that a frame belongs to; `None` where it is the user's own, as far as is known.
pub(crate) fn library_of(frame: About<'_>) -> Option<Library> {
    let module = frame.module.rsplit('/').next().unwrap_or(frame.module);
    let function = frame.function.map(bare);
    let fits = |patterns: &[&str], text: &str| {
        patterns.iter().any(|p| p.strip_suffix('*').map_or(*p == text, |prefix| text.starts_with(prefix)))
    };
    let at_home = |home: &str| home.is_empty() || frame.homes.has(home);
    let inside = |part: &Part, file: &str| {
        at_home(part.home) && file.split_once(part.text).is_some_and(|(before, behind)| (part.between)(before, behind))
    };
    let spoken = |f: &Functions| f.tongue.is_none_or(|t| t == frame.tongue) && at_home(f.home);
    let theirs = |r: &&Runtime| {
        fits(r.modules, module)
            || r.whole.iter().any(|home| frame.homes.has(home))
            || frame.file.is_some_and(|f| r.files.iter().any(|part| inside(part, f)))
            || function.is_some_and(|name| r.functions.iter().any(|f| spoken(f) && fits(f.names, name)))
    };
    RUNTIMES.iter().find(theirs).map(Library)
}

/// A function's name from its first path on: `<&dyn core::fmt::Debug as …` is of `core`, and so is, with the type that a
/// C++ template returns, `void std::f<int>()`; but `std::vector<int> f<int>()` is not.
fn bare(name: &str) -> &str {
    // Of `<T as Trait>::f` it is `T` that counts.
    let name = if name.starts_with('<') { name.split(" as ").next().unwrap_or(name) } else { name };
    if name.starts_with(['<', '&', '*']) {
        let name = name.trim_start_matches(['<', '&', '*']);
        return ["dyn ", "mut ", "const "].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
    }
    without_result(name)
}

/// The name of a C++ function without the type of its result, which templates have: `my::f<int>()` of
/// `std::vector<int> my::f<int>()`.
pub(crate) fn without_result(name: &str) -> &str {
    name.get(after_result(name)..).unwrap_or(name)
}

/// Where the name of a C++ function begins, behind the type of its result: after the last space before its arguments that
/// stands in no brackets.
fn after_result(name: &str) -> usize {
    let bytes = name.as_bytes();
    let (mut start, mut at) = (0, 0);
    while let Some((&byte, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) {
        let before = bytes.get(start..at).unwrap_or_default();
        match byte {
            // An operator's name may hold any of the signs below, and a space before the type that it converts to.
            b'o' if begins_operator(before, bytes.get(at..).unwrap_or_default()) => break,
            b' ' if rest.starts_with(b"[clone") => break,
            b' ' => (start, at) = (at + 1, at + 1),
            b'(' | b'<' | b'[' | b'{' => {
                let end = behind_brackets(bytes, at);
                let next = bytes.get(end..).unwrap_or_default();
                // Those of the arguments, unless something lies in this (`f(int)::{lambda()#1}`, `(anonymous namespace)::f`).
                let typed = before.ends_with(b"decltype")
                    || before.is_empty() && bytes.get(..start).is_some_and(|b| b.ends_with(b"decltype "));
                if byte == b'(' && !next.starts_with(b"::") && !typed {
                    break;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    start
}

/// Whether a name goes on with the word `operator`, after this part of it.
fn begins_operator(before: &[u8], rest: &[u8]) -> bool {
    let more = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    (before.is_empty() || before.ends_with(b"::"))
        && rest.strip_prefix(b"operator").is_some_and(|rest| !rest.first().is_some_and(more))
}

/// One past the bracket that closes the one at `at`; the end of the name where nothing does. Inside of round ones, a `<`
/// or `>` may be a comparison.
fn behind_brackets(name: &[u8], at: usize) -> usize {
    let mut open: Vec<u8> = Vec::new();
    for (i, &byte) in name.iter().enumerate().skip(at) {
        match byte {
            b'(' | b'<' | b'[' | b'{' => open.push(byte),
            b'>' => {
                let arrow = i.checked_sub(1).and_then(|i| name.get(i)) == Some(&b'-');
                if open.last() == Some(&b'<') && !arrow {
                    open.pop();
                }
            }
            b')' | b']' | b'}' => while open.pop() == Some(b'<') {},
            _ => continue,
        }
        if open.is_empty() {
            return i + 1;
        }
    }
    name.len()
}

/// The row of a readable name, and the library, of a frame that a test writes down: in a file that has what its name
/// says, in the language that the function looks like.
#[cfg(test)]
pub(crate) fn on_paper(
    module: &str,
    file: Option<&str>,
    name: Option<&str>,
) -> (Option<&'static Row>, Option<Library>) {
    let base = module.rsplit('/').next().unwrap_or(module);
    let mut homes = Homes::default();
    let inside: &[&str] = match base {
        _ if base.starts_with("python") => &["PyInit__io"],
        "node" => &["node_module_register", "uv_version_string", "_ZN2v82V810GetVersionEv"],
        "bash" => &["bash_tilde_expand"],
        "zsh" => &["zsh_main"],
        _ => &["__libc_start_main", "runtime.main"],
    };
    inside.iter().for_each(|symbol| homes.add(Homes::defining(symbol)));
    let tongue = match name {
        Some(n) if n.contains('~') || n.contains("std::basic") || n.contains("unique_ptr") => Tongue::Cpp,
        Some(n) if n.contains("::") => Tongue::Rust,
        _ => Tongue::Other,
    };
    let row = name.and_then(|n| super::cause::row_named(n, tongue, homes));
    (row, library_of(About { module, file, function: name, tongue, homes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noun(module: &str, file: Option<&str>, function: &str, tongue: Tongue, symbol: &str) -> Option<&'static str> {
        let homes = Homes::defining(symbol);
        library_of(About { module, file, function: Some(function), tongue, homes }).map(Library::noun)
    }

    #[test]
    fn what_is_nobodys_own_is_known_by_module_file_or_function() {
        let (rust, cpp, c) = (Tongue::Rust, Tongue::Cpp, Tongue::Other);
        assert_eq!(noun("/lib/x86_64-linux-gnu/libc.so.6", None, "f", c, ""), Some("the C library"));
        let file = Some("./io/../sysdeps/unix/close.c");
        assert_eq!(noun("/bin/a", file, "close", c, "__libc_start_main"), Some("the C library"));
        let call = "<&dyn core::ops::Fn<()> as core::ops::FnOnce>::call";
        assert_eq!(noun("/bin/a", None, call, rust, ""), Some("the standard library"));
        let invoke = "void std::__invoke<main::{lambda()#1}>(int)";
        assert_eq!(noun("/bin/a", None, invoke, cpp, ""), Some("the standard library"));
        for theirs in [
            "my::Vec<int> std::copy<my::Vec<int> >(my::Vec<int>)",
            "my::Vec<int>& std::operator<< <my::T>(my::Vec<int>&, my::T)",
            "my::T std::function<my::T (int)>::operator()(int) const",
            "std::function<void (int)>::operator()(int) const",
            "std::sort(int*)::{lambda(int)#1}::operator()(int) const",
            "decltype(auto) std::get<0, my::T>(my::T&)",
            "void std::f<((my::a)<(my::b)), (my::a->*x)>(int) [clone .cold]",
            "operator new(unsigned long)",
        ] {
            assert_eq!(noun("/bin/a", None, theirs, cpp, ""), Some("the standard library"), "{theirs}");
        }
        let packaged = Some("/rustc/1.75.0/library/std/src/fs.rs");
        assert_eq!(noun("/bin/a", packaged, "f", rust, ""), Some("the standard library"));
        let commit = Some("/rustc/90b35a6239c3d8bdabc530a6a0816f7ff89a0aaf/library/std/src/fs.rs");
        assert_eq!(noun("/bin/a", commit, "f", rust, ""), Some("the standard library"));
        let close = "internal/poll.(*FD).Close";
        assert_eq!(noun("/bin/a", None, close, c, "runtime.main"), Some("Go's library"));
        assert_eq!(noun("/usr/bin/node", None, "worker", c, "node_module_register"), Some("Node"));
        assert_eq!(noun("/opt/blender", None, "_PyEval_Vector", c, "PyInit_posix"), Some("the interpreter"));
    }

    /// Each name, file and module looks like a runtime's, and is not.
    #[test]
    fn what_a_user_may_call_his_own_stays_his() {
        let (rust, cpp, c) = (Tongue::Rust, Tongue::Cpp, Tongue::Other);
        for (module, file, function, tongue, symbol) in [
            ("/bin/a", None, "main.main", c, "runtime.main"),
            ("/bin/a", None, "<my::Foo as core::ops::drop::Drop>::drop", rust, ""),
            ("/bin/a", None, "void my::f<std::string>(std::string)", cpp, ""),
            ("/bin/a", None, "log_close", c, ""),
            ("/opt/node-addon.node", None, "close_it", c, ""),
            // A program called node that is no Node, a tool called ld-something.
            ("/opt/chain/node", None, "main", c, ""),
            ("/usr/bin/ld-check", None, "main", c, ""),
            ("/opt/libc.solver", None, "main", c, ""),
            // Namespaces of C++ that Rust has crates of, and the other way round.
            ("/bin/a", None, "core::Engine::stop()", cpp, ""),
            ("/bin/a", None, "alloc::release(int)", cpp, ""),
            ("/bin/a", None, "v8::Motor::stop()", cpp, ""),
            ("/bin/a", None, "__gnu_cxx::f", rust, ""),
            // What a C compiler makes of functions that Go has packages of.
            ("/bin/a", None, "os.part.0", c, ""),
            ("/bin/a", None, "sync.constprop.0", c, ""),
            ("/bin/a", None, "uv_index", c, ""),
            ("/bin/a", None, "_PyLike", c, ""),
            // A Go program below ~/go/src, and a module with a folder "internal".
            ("/bin/a", Some("/home/me/go/src/job/main.go"), "job/internal/db.Close", c, "runtime.main"),
            ("/bin/a", Some("src/sysdeps/unix.c"), "shut", c, "__libc_start_main"),
            ("/bin/a", Some("/home/me/rustc/x.rs"), "x::f", rust, ""),
            ("/bin/a", Some("/home/me/rustc/build/m.c"), "main", c, ""),
            ("/bin/a", Some("/rustc/build/m.c"), "main", c, ""),
            ("/bin/a", Some("/rustc/90b35a6239c3d8bdabc530a6a0816f7ff89a0aaf0/m.c"), "main", c, ""),
            ("/bin/a", Some("/a/rustc/90b35a6239c3d8bdabc530a6a0816f7ff89a0aaf/m.c"), "main", c, ""),
            // Templates that return what the library has, and conversions to it.
            ("/bin/a", None, "std::vector<int> drain<int>(int)", cpp, ""),
            ("/bin/a", None, "std::vector<int, std::allocator<int> > my::drain<int>(int)", cpp, ""),
            ("/bin/a", None, "std::function<void (int)> my::f<int>(std::vector<int>)", cpp, ""),
            ("/bin/a", None, "std::enable_if<((1)<(2)), int>::type my::f<int>()", cpp, ""),
            ("/bin/a", None, "decltype(auto) my::f<std::string>(std::string)", cpp, ""),
            ("/bin/a", None, "decltype ((std::declval<int>)()) my::f<int>(int)", cpp, ""),
            ("/bin/a", None, "std::string (anonymous namespace)::f<int>(int)", cpp, ""),
            ("/bin/a", None, "P::operator std::vector<int, std::allocator<int> >()", cpp, ""),
            ("/bin/a", None, "operator std::vector", cpp, ""),
            ("/bin/a", None, "P<int>::operator std::string const&() const", cpp, ""),
            ("/bin/a", None, "std::ostream& my::operator<< <char>(std::ostream&, char)", cpp, ""),
            ("/bin/a", None, "main::{lambda(std::string)#1}::operator()(std::string) const", cpp, ""),
            ("/bin/a", None, "my::f(std::string) [clone .cold]", cpp, ""),
        ] {
            assert_eq!(noun(module, file, function, tongue, symbol), None, "{module} {file:?} {function}");
        }
    }

    #[test]
    fn every_row_has_a_home_or_a_language() {
        for row in ROWS.iter().chain(NAMES) {
            let known = home_of(row).is_some() || ["Rust", "C++"].contains(&row.runtime);
            assert!(known, "{row:?}");
            assert!(row.runtime == "Rust" || row.runtime == "C++" || !in_place(row, Tongue::Cpp, Homes::default()));
        }
        assert!(HOMES.len() <= 16);
    }

    #[test]
    fn no_exact_name_is_listed_twice() {
        let exact = ROWS.iter().chain(NAMES).filter(|r| matches!(r.by, Match::Exact));
        let mut names: Vec<_> = exact.map(|r| r.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}

//! What fdwatch knows of runtimes: the functions that give away why a descriptor is being closed, and the code that is
//! nobody's own. To teach fdwatch a runtime, add rows here.

use super::cause::{Match, Role, Row};

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
    pub(crate) noun: &'static str,
    /// The last component of the module's path; `*` at the end stands for anything.
    modules: &'static [&'static str],
    /// Parts of the source file's path.
    files: &'static [&'static str],
    /// Functions, without what stands before the first path; `*` as above.
    functions: &'static [&'static str],
}

impl Runtime {
    /// Whether it is the C library with its loader.
    pub(crate) fn is_libc(&self) -> bool {
        RUNTIMES.first().is_some_and(|libc| std::ptr::eq(libc, self))
    }
}

/// All of them, the C library first.
static RUNTIMES: &[Runtime] = &[
    Runtime {
        noun: "the C library",
        modules: &[
            "libc.so*",
            "libc-2.*",
            "libc.musl*",
            "ld-linux*",
            "ld-musl*",
            "ld-*",
            "ld.so*",
            "libpthread*",
            "libresolv*",
            "libnss_*",
            "[vdso]",
            "linux-vdso*",
        ],
        // A static program has its C library inside; its sources lie there.
        files: &["sysdeps/", "/csu/libc-start"],
        functions: &["_start", "__libc_start_*"],
    },
    Runtime {
        noun: "the interpreter",
        modules: &["python", "python2*", "python3*", "libpython*"],
        files: &[],
        functions: &[],
    },
    Runtime {
        noun: "the standard library",
        modules: &["libstdc++.so*", "libc++.so*", "libc++abi.so*", "libgcc_s.so*"],
        files: &["/rustc/", "/rustlib/src/", "/include/c++/"],
        functions: &["std::*", "core::*", "alloc::*", "__gnu_cxx::*", "__cxa_*", "operator new*", "operator delete*"],
    },
    Runtime {
        noun: "Go's library",
        modules: &[],
        files: &["/go/src/", "/lib/go-", "/go-1."],
        functions: &[
            "runtime.*",
            "runtime/*",
            "syscall.*",
            "internal/*",
            "os.*",
            "os/*",
            "io.*",
            "bufio.*",
            "net.*",
            "sync.*",
        ],
    },
    Runtime {
        noun: "Node",
        modules: &["node", "nodejs", "libnode.so*", "libuv.so*"],
        files: &["/deps/uv/src/", "/deps/v8/src/"],
        functions: &["v8::*", "node::*", "Builtins_*", "uv__*", "uv_*"],
    },
];

/// The runtime that a frame belongs to, by its module's path, its source file and its function, as far as they are
/// known.
pub(crate) fn runtime_of(module: &str, file: Option<&str>, function: Option<&str>) -> Option<&'static Runtime> {
    let module = module.rsplit('/').next().unwrap_or(module);
    let function = function.map(bare);
    let fits = |patterns: &[&str], text: &str| {
        patterns.iter().any(|p| p.strip_suffix('*').map_or(*p == text, |prefix| text.starts_with(prefix)))
    };
    RUNTIMES.iter().find(|r| {
        fits(r.modules, module)
            || file.is_some_and(|f| r.files.iter().any(|part| f.contains(part)))
            || function.is_some_and(|f| fits(r.functions, f))
    })
}

/// A function's name from its first path on: `<&dyn core::fmt::Debug as …` is of `core`, and so is, with the type that a
/// C++ template returns, `void std::f<int>()`.
fn bare(name: &str) -> &str {
    // Of `<T as Trait>::f` it is `T` that counts.
    let name = if name.starts_with('<') { name.split(" as ").next().unwrap_or(name) } else { name };
    let name = name.trim_start_matches(['<', '&', '*']);
    let name = ["dyn ", "mut ", "const "].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
    let head = name.split(['(', '<']).next().unwrap_or(name);
    let space = if head.starts_with("operator") { None } else { head.rfind(' ') };
    name.get(space.map_or(0, |at| at + 1)..).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nobodys_own_is_known_by_module_file_or_function() {
        let of = |module, file, function| runtime_of(module, file, function).map(|r| r.noun);
        assert_eq!(of("/lib/x86_64-linux-gnu/libc.so.6", None, None), Some("the C library"));
        assert_eq!(of("/bin/a", Some("../sysdeps/unix/close.c"), Some("close")), Some("the C library"));
        assert_eq!(
            of("/bin/a", None, Some("<&dyn core::ops::Fn<()> as core::ops::FnOnce>::call")),
            Some("the standard library")
        );
        assert_eq!(
            of("/bin/a", None, Some("void std::__invoke<main::{lambda()#1}>(int)")),
            Some("the standard library")
        );
        assert_eq!(of("/bin/a", None, Some("internal/poll.(*FD).Close")), Some("Go's library"));
        assert_eq!(of("/usr/bin/node", None, Some("worker")), Some("Node"));
        for own in [
            "main.main",
            "<my::Foo as core::ops::drop::Drop>::drop",
            "void my::f<std::string>(std::string)",
            "log_close",
        ] {
            assert_eq!(of("/bin/a", None, Some(own)), None, "{own}");
        }
        assert_eq!(of("/opt/node-addon.node", None, Some("close_it")), None);
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

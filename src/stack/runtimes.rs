//! The table of functions that give away why a descriptor is being closed. To teach fdwatch a runtime, add rows here.

use super::cause::{Match, Role, Row};

const fn exact(runtime: &'static str, name: &'static str, role: Role) -> Row {
    Row { runtime, name, role, by: Match::Exact }
}

/// All rows. A name is a symbol of the file itself, as the linker has it, without a compiler's suffix (`.part.0`,
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
    // V8: a collection, as its C++ entry points are mangled (src/heap/heap.h).
    Row { runtime: "V8", name: "_ZN2v88internal4Heap14CollectGarbageE", role: Role::Collector, by: Match::Prefix },
    Row { runtime: "V8", name: "_ZN2v88internal13GlobalHandles", role: Role::Collector, by: Match::Prefix },
    // The C library closes on behalf of a stream.
    exact("libc", "pclose", Role::Pipe),
    exact("libc", "_IO_proc_close", Role::Pipe),
    exact("libc", "closedir", Role::Directory),
    exact("libc", "fclose", Role::Stream),
    exact("libc", "freopen", Role::Stream),
    exact("libc", "_IO_file_close_it", Role::Stream),
    // Destructors that nobody calls by name.
    Row { runtime: "C++", name: "destructor", role: Role::Destructor, by: Match::Test(cpp_destructor) },
    Row { runtime: "Rust", name: "drop_in_place", role: Role::Destructor, by: Match::Test(rust_drop) },
];

/// `_ZN…D0Ev`, `D1Ev`, `D2Ev`: deleting, complete and base object destructors (Itanium C++ ABI §5.1.4.3).
fn cpp_destructor(name: &[u8]) -> bool {
    name.starts_with(b"_ZN") && [b"D0Ev", b"D1Ev", b"D2Ev"].iter().any(|end| name.ends_with(*end))
}

/// `core::ptr::drop_in_place::<T>` in both manglings.
fn rust_drop(name: &[u8]) -> bool {
    name.starts_with(b"_ZN4core3ptr") && name.windows(13).any(|w| w == b"drop_in_place")
        || name.starts_with(b"_R") && name.windows(15).any(|w| w == b"13drop_in_place")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destructors_are_known_by_their_mangling() {
        assert!(cpp_destructor(b"_ZN3FooD1Ev"));
        assert!(!cpp_destructor(b"_ZN3Foo5closeEv"));
        assert!(!cpp_destructor(b"D1Ev"));
        assert!(rust_drop(b"_ZN4core3ptr35drop_in_place$LT$std..fs..File$GT$17h0123456789abcdefE"));
        assert!(rust_drop(b"_RINvNtC3std3ptr13drop_in_placeNtNtC3std2fs4FileE"));
        assert!(!rust_drop(b"drop_in_place"));
    }

    #[test]
    fn no_exact_name_is_listed_twice() {
        let mut names: Vec<_> = ROWS.iter().filter(|r| matches!(r.by, Match::Exact)).map(|r| r.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}

//! Names that a test writes down.

use super::{Names, NativeFrame, PythonFrame, Sources};
use crate::base::{Pid, PyStackId, StackId, Tid};
use crate::event::Site;
use crate::finding::Sweep;
use crate::stack::{Sign, on_paper};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Default)]
pub(crate) struct PaperNames {
    pub(crate) native: HashMap<StackId, Arc<[NativeFrame]>>,
    pub(crate) python: HashMap<PyStackId, Arc<[PythonFrame]>>,
    pub(crate) truncated: HashMap<StackId, String>,
    pub(crate) sweeps: HashMap<StackId, Sweep>,
    pub(crate) standing: HashMap<Tid, Site>,
}

impl Names for PaperNames {
    fn native(&mut self, id: StackId) -> Arc<[NativeFrame]> {
        self.native.get(&id).cloned().unwrap_or_default()
    }

    fn truncated(&self, id: StackId) -> Option<String> {
        self.truncated.get(&id).cloned()
    }

    fn python(&self, id: PyStackId) -> Arc<[PythonFrame]> {
        self.python.get(&id).cloned().unwrap_or_default()
    }

    fn sweep(&self, _: Pid, id: StackId) -> Option<Sweep> {
        self.sweeps.get(&id).copied()
    }

    fn standing(&mut self, tid: Tid) -> Site {
        self.standing.get(&tid).cloned().unwrap_or_default()
    }
}

/// Source lines that a test writes down.
#[derive(Default)]
pub(crate) struct PaperSources(pub(crate) HashMap<(String, u32), String>);

impl Sources for PaperSources {
    fn line(&mut self, file: &str, n: u32) -> Option<String> {
        self.0.get(&(file.to_string(), n)).cloned()
    }
}

/// Frames of (function, module), innermost first; CPython's evaluation loop is marked.
pub(crate) fn native(frames: &[(&str, &str)]) -> Vec<NativeFrame> {
    let mut frames: Vec<NativeFrame> = frames
        .iter()
        .enumerate()
        .map(|(i, (function, module))| NativeFrame {
            module: module.to_string(),
            offset: 0x1000 + i as u64,
            function: (!function.is_empty()).then(|| function.to_string()),
            file: None,
            line: None,
            inlined: false,
            jumped: false,
            evaluates_python: *function == "_PyEval_EvalFrameDefault",
            sign: None,
            library: None,
        })
        .collect();
    settle(&mut frames);
    frames
}

/// Says what the frames mean and whose they are.
pub(crate) fn settle(frames: &mut [NativeFrame]) {
    for f in frames {
        let (row, library) = on_paper(&f.module, f.file.as_deref(), f.function.as_deref());
        (f.sign, f.library) = (row.map(Sign), library);
    }
}

/// Frames of (function, file, line), innermost first; the outermost is an entry.
pub(crate) fn python(frames: &[(&str, &str, u32)]) -> Vec<PythonFrame> {
    let last = frames.len().saturating_sub(1);
    let frame = |(i, (function, file, line)): (usize, &(&str, &str, u32))| PythonFrame {
        function: function.to_string(),
        file: file.to_string(),
        line: Some(*line),
        entry: i == last,
    };
    frames.iter().enumerate().map(frame).collect()
}

/// The opening and closing stacks of `run(stdout=open(...).fileno())` on CPython: stacks 1 (open), 2 (finalizer close)
/// and 3 (the runtime's pipe), Python stacks alike.
pub(crate) fn cpython() -> PaperNames {
    let mut names = PaperNames::default();
    let py = "/usr/bin/python3.11";
    let libc = "/lib/x86_64-linux-gnu/libc.so.6";
    let eval = ("_PyEval_EvalFrameDefault", py);
    let outer = [eval, ("PyEval_EvalCode", py), ("pymain_run_python", py), ("main", py), ("__libc_start_main", libc)];
    let with_outer = |inner: &[(&str, &str)]| native(&[inner, &outer].concat()).into();
    names.native.insert(
        StackId(1),
        with_outer(&[("__open64", libc), ("_io_FileIO___init___impl", py), ("_io_FileIO___init__", py)]),
    );
    names.native.insert(
        StackId(2),
        with_outer(&[
            ("__close", libc),
            ("_io_FileIO_close", py),
            ("PyObject_CallMethodNoArgs", py),
            ("iobase_finalize", py),
            ("PyObject_CallFinalizerFromDealloc", py),
            ("textiowrapper_dealloc", py),
            ("_Py_Dealloc", py),
        ]),
    );
    names.native.insert(StackId(3), with_outer(&[("__pipe2", libc), ("os_pipe_impl", py), ("os_pipe", py)]));
    names.python.insert(PyStackId(1), python(&[("<module>", "job.py", 2)]).into());
    let child = "/usr/lib/python3.11/subprocess.py";
    names.python.insert(
        PyStackId(3),
        python(&[("_execute_child", child, 1900), ("__init__", child, 1000), ("<module>", "job.py", 2)]).into(),
    );
    names
}

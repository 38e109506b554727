//! Names for the stacks of a session.

use super::TaskState;
use super::sites::{Sites, Where};
use crate::base::{Pid, PyStackId, StackId, Tid};
use crate::event::Site;
use crate::finding::{Sweep, Sweeps};
use crate::identity::{self, ModuleFrame, PythonLine};
use crate::kernel::Tracer;
use crate::model::World;
use crate::render::{Names, NativeFrame, PythonFrame};
use crate::stack::Named;
use rustc_hash::FxHashMap;
use std::sync::Arc;

pub(super) struct SessionNames<'a> {
    pub(super) sites: &'a mut Sites,
    pub(super) sweeps: &'a Sweeps,
}

impl Names for SessionNames<'_> {
    fn native(&mut self, id: StackId) -> Arc<[NativeFrame]> {
        self.sites.native(id)
    }

    fn truncated(&self, id: StackId) -> Option<String> {
        self.sites.truncated(id)
    }

    fn python(&self, id: PyStackId) -> Arc<[PythonFrame]> {
        self.sites.python(id)
    }

    fn sweep(&self, pid: Pid, id: StackId) -> Option<Sweep> {
        self.sweeps.of(pid, id)
    }
}

/// Names while every task stands still: of each its stack can be taken.
pub(super) struct NamesAtBreak<'a> {
    pub(super) names: SessionNames<'a>,
    pub(super) tracer: &'a Tracer,
    pub(super) tasks: &'a FxHashMap<Tid, TaskState>,
    pub(super) world: &'a World,
}

impl Names for NamesAtBreak<'_> {
    fn native(&mut self, id: StackId) -> Arc<[NativeFrame]> {
        self.names.native(id)
    }

    fn truncated(&self, id: StackId) -> Option<String> {
        self.names.truncated(id)
    }

    fn python(&self, id: PyStackId) -> Arc<[PythonFrame]> {
        self.names.python(id)
    }

    fn sweep(&self, pid: Pid, id: StackId) -> Option<Sweep> {
        self.names.sweep(pid, id)
    }

    fn standing(&mut self, tid: Tid) -> Site {
        let (Some(state), Some(task)) = (self.tasks.get(&tid), self.world.task(tid)) else { return Site::default() };
        match self.tracer.standing(tid) {
            Ok(Some((regs, memory))) => {
                self.names.sites.standing(&Where { pid: task.pid, tid, space: state.space, regs, memory })
            }
            Ok(None) => Site::default(),
            Err(error) => {
                tracing::debug!(%error, tid = tid.0, "no stack");
                Site::default()
            }
        }
    }
}

/// Names that are asked for to decide about a finding, and the stacks that they were asked for.
pub(super) struct Asked<'a> {
    pub(super) sites: &'a mut Sites,
    pub(super) stacks: Vec<StackId>,
}

impl Names for Asked<'_> {
    fn native(&mut self, id: StackId) -> Arc<[NativeFrame]> {
        self.stacks.push(id);
        self.sites.native(id)
    }

    fn truncated(&self, id: StackId) -> Option<String> {
        self.sites.truncated(id)
    }

    fn python(&self, id: PyStackId) -> Arc<[PythonFrame]> {
        self.sites.python(id)
    }

    fn sweep(&self, _: Pid, _: StackId) -> Option<Sweep> {
        None
    }
}

impl identity::Stacks for SessionNames<'_> {
    fn module_frames(&self, id: StackId) -> Vec<ModuleFrame> {
        self.sites.module_frames(id)
    }

    fn python_lines(&self, id: PyStackId) -> Vec<PythonLine> {
        self.sites.python_lines(id)
    }
}

impl identity::Stacks for Sites {
    fn module_frames(&self, id: StackId) -> Vec<ModuleFrame> {
        let stacks = self.stacks();
        let frame = |f: &crate::stack::Frame| {
            let module = f.module.and_then(|m| stacks.module(m));
            ModuleFrame {
                module: module.map_or_else(|| identity::UNKNOWN_CODE.to_string(), |m| m.name()),
                build_id: module.and_then(|m| m.build_id()).map(hex),
                offset: f.offset,
            }
        };
        stacks.frames(id).iter().map(frame).collect()
    }

    fn python_lines(&self, id: PyStackId) -> Vec<PythonLine> {
        self.python(id).iter().map(python_line).collect()
    }
}

pub(super) fn python_line(f: &PythonFrame) -> PythonLine {
    PythonLine { file: f.file.clone(), function: f.function.clone(), line: f.line }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    // For every frame of a new stack: formatting each byte took a tenth of fdwatch's time.
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('?');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

/// A native frame as it is shown.
pub(super) fn native_frame(n: &Named) -> NativeFrame {
    NativeFrame {
        module: n.module.clone(),
        offset: n.offset,
        function: n.function.clone(),
        file: n.file.clone(),
        line: n.line,
        inlined: n.inlined,
        jumped: n.jumped,
        evaluates_python: !n.inlined && !n.jumped && n.function.as_deref().is_some_and(evaluates_python),
        sign: n.sign,
        library: n.library,
    }
}

/// CPython's evaluation loop; compilers split cold parts off under the same name.
fn evaluates_python(function: &str) -> bool {
    function.strip_prefix("_PyEval_EvalFrameDefault").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A Python frame as it is shown.
pub(super) fn python_frame(function: &str, file: &str, line: Option<u32>, entry: bool) -> PythonFrame {
    PythonFrame { function: function.to_string(), file: file.to_string(), line, entry }
}

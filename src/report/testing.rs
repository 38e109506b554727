//! Marks for paper stacks.

use crate::base::{PyStackId, StackId};
use crate::identity::{ModuleFrame, PythonLine, Stacks};
use crate::render::place::base;
use crate::render::testing::PaperNames;

impl Stacks for PaperNames {
    fn module_frames(&self, id: StackId) -> Vec<ModuleFrame> {
        let frames = self.native.get(&id).cloned().unwrap_or_default();
        let physical = frames.iter().filter(|f| !f.inlined);
        physical
            .map(|f| ModuleFrame { module: base(&f.module).to_string(), build_id: None, offset: f.offset })
            .collect()
    }

    fn python_lines(&self, id: PyStackId) -> Vec<PythonLine> {
        let frames = self.python.get(&id).cloned().unwrap_or_default();
        frames.iter().map(|f| PythonLine { file: f.file.clone(), function: f.function.clone(), line: f.line }).collect()
    }
}

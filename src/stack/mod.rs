//! Native stacks: followed at the stop, named when somebody looks.
//!
//! ```text
//! registers + memory --capture--> frames, interned (StackId) --explain--> functions, files, lines
//!                                        `----------cause----------> finalizer, collector, destructor …
//! ```
//!
//! Capturing is the hot half: one bulk read of the stack, a table of unwinding rules that is filled once per
//! instruction address and shared by all processes, no allocation for a stack that was seen before. It reads ELF files
//! piece by piece and never maps them. Explaining is the cold half and uses DWARF.
//!
//! Nothing here calls ptrace or reads `/proc`: a process is what [`AddressSpace`] says it is. Whatever that says, and
//! whatever the files hold, the worst outcome is a stack with less detail.

mod activation;
mod cause;
mod cfi;
mod debugfile;
mod dwarf;
mod elf;
mod explain;
mod goswitch;
mod gotable;
mod intern;
mod jump;
pub mod lang;
mod maps;
mod module;
mod names;
mod perfmap;
mod pyparts;
mod pytypes;
mod rule;
mod runtimes;
mod sections;
mod space;
mod symtab;
mod types;
mod unwind;
mod window;

pub(crate) use activation::{Key, Keys};
pub use cause::{Cause, Sign, Verdict};
pub(crate) use cause::{REACH, Role, Row, decide};
pub use debugfile::Fetch;
pub use module::Module;
pub use runtimes::Library;
#[cfg(test)]
pub(crate) use runtimes::on_paper;
pub(crate) use runtimes::{python_role, without_result};
pub use types::{Frame, FrameKind, ModuleId, NO_FILE, Named, SpaceId, StackCoverage, StackEnd, Why, file_name};
pub use unwind::MAX_FRAMES;
pub use window::Stretch;

use crate::base::{AddressSpace, Regs, StackId};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Explained stacks kept whole; all are forgotten when there are more.
const MAX_EXPLAINED: usize = 1 << 12;

/// The stacks of one session: everything seen, and what is needed to see more.
pub struct Stacks {
    spaces: FxHashMap<SpaceId, space::Space>,
    modules: module::Modules,
    unwinder: unwind::Unwinder,
    interner: intern::Interner,
    explainer: explain::Explainer,
    explained: FxHashMap<StackId, Arc<[Named]>>,
    causes: cause::Causes,
    captures: u64,
    truncated: BTreeMap<Why, u64>,
}

impl Default for Stacks {
    fn default() -> Self {
        Self::new()
    }
}

impl Stacks {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self {
            spaces: FxHashMap::default(),
            modules: module::Modules::default(),
            unwinder: unwind::Unwinder::new(),
            interner: intern::Interner::new(),
            explainer: explain::Explainer::default(),
            explained: FxHashMap::default(),
            causes: cause::Causes::default(),
            captures: 0,
            truncated: BTreeMap::new(),
        }
    }

    /// Follows the stack of a stopped task and returns its number; equal stacks get equal numbers.
    ///
    /// `space` names the task's address space: a fresh number for each program start and exec. The maps are read
    /// from `mem` at the first capture and again when a stack leads to code that they do not show. Never fails: what
    /// could not be followed is said by [`Stacks::end`].
    pub fn capture(&mut self, space: SpaceId, regs: &Regs, mem: &dyn AddressSpace) -> StackId {
        self.captures += 1;
        let view = self.spaces.entry(space).or_default();
        let has_maps = view.ensure(mem);
        let (mut end, mut pc) = self.unwinder.walk(regs, view, &mut self.modules, mem);
        let loader = self.unwinder.in_loader(&self.modules);
        if view.refresh(loader, self.unwinder.others(&self.modules), mem) {
            (end, pc) = self.unwinder.walk(regs, view, &mut self.modules, mem);
        }
        if let StackEnd::Truncated(why) = end {
            if why != Why::TooDeep && has_maps && view.retry(pc, mem) {
                (end, _) = self.unwinder.walk(regs, view, &mut self.modules, mem);
            }
            if !has_maps {
                end = StackEnd::Truncated(Why::NoMaps);
            }
            if let StackEnd::Truncated(why) = end {
                *self.truncated.entry(why).or_default() += 1;
            }
        }
        let id = self.interner.intern(&self.unwinder.frames, end);
        if id == intern::Interner::OVERFLOW {
            *self.truncated.entry(Why::TooManyStacks).or_default() += 1;
        }
        id
    }

    /// What was read of the stack that was captured last, from the stack pointer on: who reads more of the same task at the
    /// same stop need not read it again.
    pub(crate) fn stretch(&self) -> Stretch<'_> {
        self.unwinder.stretch()
    }

    /// The activations of functions on the stack that was captured last, outermost first; `None` where the capture did not
    /// reach the outermost.
    pub(crate) fn activations(&self, captured: StackId) -> Option<Keys> {
        let complete = self.interner.end(captured) == StackEnd::Complete;
        complete.then(|| activation::native(&self.unwinder.frames, &self.unwinder.cfas))
    }

    /// Lets `child` begin with what is known of `parent`'s mappings, as fork copies them.
    pub fn fork_space(&mut self, parent: SpaceId, child: SpaceId) {
        if let Some(view) = self.spaces.get(&parent) {
            let view = view.clone();
            self.spaces.insert(child, view);
        }
    }

    /// Forgets the mappings of an address space that is gone. Stacks captured in it stay.
    pub fn drop_space(&mut self, space: SpaceId) {
        self.spaces.remove(&space);
    }

    /// The frames of a stack, innermost first; none for a number that this session did not give.
    pub fn frames(&self, id: StackId) -> &[Frame] {
        self.interner.frames(id)
    }

    /// Whether the stack was followed to its outermost frame, and if not, why.
    pub fn end(&self, id: StackId) -> StackEnd {
        self.interner.end(id)
    }

    /// The module with that number; `None` for a number that this session did not give.
    pub fn module(&self, id: ModuleId) -> Option<&Module> {
        self.modules.get(id)
    }

    /// What the stack says about why the innermost call was made. Decided once for each distinct stack, without DWARF.
    pub fn cause(&mut self, id: StackId) -> Verdict {
        self.causes.verdict(id, self.interner.frames(id), self.interner.end(id), &self.modules)
    }

    /// Whether a Python interpreter's evaluation loop is on the stack.
    pub fn has_python(&mut self, id: StackId) -> bool {
        self.cause(id).python
    }

    /// The functions on a stack, innermost first, inlined ones included, and those that ended with a jump, where that can
    /// be told. Slow at first sight (reads debug information),
    /// then cached.
    pub fn explain(&mut self, id: StackId) -> Arc<[Named]> {
        if let Some(known) = self.explained.get(&id) {
            return Arc::clone(known);
        }
        let mut out = Vec::new();
        let mut inner: Option<Frame> = None;
        for frame in self.interner.frames(id).to_vec() {
            let skipped = inner.and_then(|inner| self.skipped(inner, frame, out.last()));
            out.extend(skipped);
            out.extend_from_slice(&self.explain_frame(frame));
            inner = Some(frame);
        }
        if self.explained.len() >= MAX_EXPLAINED {
            self.explained.clear();
        }
        let out: Arc<[Named]> = out.into();
        self.explained.insert(id, Arc::clone(&out));
        out
    }

    /// The function between two frames that has ended with a jump to the inner one, if one can be told.
    fn skipped(&mut self, inner: Frame, frame: Frame, called: Option<&Named>) -> Option<Named> {
        let at = jump::skipped(inner, frame, self.modules.get(frame.module?)?)?;
        let named = self.explainer.frame(at, &self.modules, &mut self.causes);
        let physical = named.last()?;
        let stem = |n: &Named| n.function.as_deref().map(|f| f.split(".cold").next().unwrap_or(f).to_string());
        let name = stem(physical)?;
        // A stub of the linker is a way to the function that was called, and a part that was split off is the function.
        let same = called.is_some_and(|c| c.module == physical.module && stem(c).as_ref() == Some(&name));
        if same || name.ends_with("@plt") {
            return None;
        }
        Some(Named { jumped: true, inlined: false, ..physical.clone() })
    }

    /// Asks `fetch` for the debug file with a build id where none is installed. What it gives is looked at, and not
    /// believed without that build id.
    pub fn fetch_with(&mut self, fetch: Box<Fetch>) {
        self.explainer.fetch_with(fetch);
    }

    /// The functions at one frame: those inlined there first, the physical one last; at least one entry. Cached.
    pub fn explain_frame(&mut self, frame: Frame) -> Arc<[Named]> {
        self.explainer.frame(frame, &self.modules, &mut self.causes)
    }

    /// What was seen and what was not, for a report.
    pub fn coverage(&self) -> StackCoverage {
        let path = |m: &Module| m.path().to_vec();
        let mut without_symbols: Vec<_> =
            self.explainer.without_symbols().filter_map(|id| self.modules.get(id)).map(path).collect();
        without_symbols.sort();
        let spent: BTreeSet<ModuleId> = self.explainer.spent().chain(self.causes.spent()).collect();
        let mut cut_short: Vec<_> = spent.into_iter().filter_map(|id| self.modules.get(id)).map(path).collect();
        cut_short.sort();
        StackCoverage {
            captures: self.captures,
            stacks: self.interner.len(),
            truncated: self.truncated.iter().map(|(&why, &n)| (why, n)).collect(),
            modules: self.modules.iter().count(),
            without_symbols,
            cut_short,
            unreadable: self.modules.iter().filter(|m| !m.is_readable()).map(path).collect(),
        }
    }
}

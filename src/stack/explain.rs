//! From frames to functions, files and lines: slow, only when somebody looks, and once.

use super::cause::Causes;
use super::debugfile::{self, Fetch};
use super::dwarf::{self, Dwarf};
use super::gotable::GoTable;
use super::module::{Module, Modules};
use super::names::{Tongue, readable};
use super::perfmap::PerfMap;
use super::sections::Sections;
use super::symtab::SymbolTable;
use super::types::{Frame, ModuleId, NO_FILE, Named};
use object::ReadCache;
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Modules whose debug information is kept open; the longest unused is dropped.
const MAX_LOADERS: usize = 8;
/// And how much they may hold together, in bytes, before they are fewer; the last one used always stays.
const MAX_HELD: u64 = dwarf::MAX_SECTIONS;
/// Go programs whose tables are kept; the longest unused is dropped.
const MAX_GO: usize = 4;
/// Explained addresses kept; all are forgotten when there are more.
const MAX_EXPLAINED: usize = 1 << 16;

/// The symbolizer's memory.
#[derive(Default)]
pub(crate) struct Explainer {
    tables: FxHashMap<ModuleId, Arc<SymbolTable>>,
    /// In order of use, the last used at the end. `None`: there is no DWARF.
    loaders: VecDeque<(ModuleId, Option<Dwarf>)>,
    known: FxHashMap<Frame, Arc<[Named]>>,
    perf_maps: FxHashMap<ModuleId, PerfMap>,
    /// In order of use, the last used at the end. `None`: no Go program.
    go: VecDeque<(ModuleId, Option<GoTable>)>,
    /// Modules whose debug information or symbols were not read to their end.
    spent: BTreeSet<ModuleId>,
    fetch: Option<Box<Fetch>>,
}

impl Explainer {
    /// Asks `fetch` for debug files that are not installed.
    pub(crate) fn fetch_with(&mut self, fetch: Box<Fetch>) {
        self.fetch = Some(fetch);
    }

    /// Modules whose debug information or symbols were not read to their end, because they are damaged or make too much
    /// work.
    pub(crate) fn spent(&self) -> impl Iterator<Item = ModuleId> {
        self.spent.iter().copied()
    }

    /// The functions at one frame: inlined ones first, innermost first, the physical one last. Never empty.
    /// What they mean is said by `causes`.
    pub(crate) fn frame(&mut self, frame: Frame, modules: &Modules, causes: &mut Causes) -> Arc<[Named]> {
        if let Some(known) = self.known.get(&frame) {
            return Arc::clone(known);
        }
        let mut named = match frame.module.and_then(|id| Some((id, modules.get(id)?))) {
            // Not remembered: other code may lie there when it is asked for again.
            Some((id, module)) if module.is_perf_map() => return self.made(frame, id, module),
            Some((id, module)) => self.look_up(frame, id, module),
            None => vec![Named::bare(NO_FILE.to_owned(), frame.offset)],
        };
        causes.settle(&mut named, frame, modules);
        let named: Arc<[Named]> = named.into();
        if self.known.len() >= MAX_EXPLAINED {
            self.known.clear();
        }
        self.known.insert(frame, Arc::clone(&named));
        named
    }

    /// Modules that were looked at and have no symbols.
    pub(crate) fn without_symbols(&self) -> impl Iterator<Item = ModuleId> {
        self.tables.iter().filter(|(_, t)| t.is_empty()).map(|(&id, _)| id)
    }

    /// A frame of code that was made at run time.
    fn made(&mut self, frame: Frame, id: ModuleId, module: &Module) -> Arc<[Named]> {
        let map = self.perf_maps.entry(id).or_default();
        if let Some(file) = module.file() {
            map.update(&file);
        }
        Arc::new([Named { function: map.find(frame.lookup()), ..Named::bare(module.name(), frame.offset) }])
    }

    fn look_up(&mut self, frame: Frame, id: ModuleId, module: &Module) -> Vec<Named> {
        let base = Named::bare(module.name(), frame.offset);
        let mut out: Vec<Named> = Vec::new();
        if let Some(dwarf) = self.dwarf(id, module) {
            let lines = dwarf.lines(frame.lookup()).into_iter();
            let named = |l: dwarf::Line| Named {
                function: l.function,
                file: l.file,
                line: l.line,
                tongue: l.tongue,
                ..base.clone()
            };
            out.extend(lines.map(named));
            if dwarf.is_spent() {
                self.spent.insert(id);
            }
        }
        // All but the physical call are inlined into the next.
        let inlined = out.len().saturating_sub(1);
        out.iter_mut().take(inlined).for_each(|n| n.inlined = true);
        if out.is_empty() {
            out.push(base);
        }
        if let Some(physical) = out.last_mut()
            && physical.function.is_none()
        {
            let fetch = self.fetch.as_deref_mut();
            let table = self.tables.entry(id).or_insert_with(|| Arc::new(symbols(module, fetch)));
            if table.is_cut() {
                self.spent.insert(id);
            }
            let raw = table.find(frame.lookup());
            physical.function = raw.map(readable);
            physical.tongue = raw.map_or(physical.tongue, |raw| Tongue::of(raw, None));
        }
        if let [only] = &mut out[..]
            && only.file.is_none()
            && let Some(table) = self.go_table(id, module)
            && let Some(function) = table.find(frame.lookup())
        {
            only.function.get_or_insert_with(|| readable(function.name));
            if let Some((file, line)) = table.line(&function, frame.lookup()) {
                (only.file, only.line) = (Some(file), Some(line));
            }
        }
        out
    }

    /// The table that a Go program carries.
    fn go_table(&mut self, id: ModuleId, module: &Module) -> Option<&GoTable> {
        let at = self.go.iter().position(|(other, _)| *other == id);
        let entry = match at.and_then(|at| self.go.remove(at)) {
            Some(entry) => entry,
            None => (id, module.go_table()),
        };
        if self.go.iter().filter(|(_, t)| t.is_some()).count() >= MAX_GO
            && let Some(oldest) = self.go.iter().position(|(_, t)| t.is_some())
        {
            self.go.remove(oldest);
        }
        self.go.push_back(entry);
        self.go.back().and_then(|(_, table)| table.as_ref())
    }

    fn dwarf(&mut self, id: ModuleId, module: &Module) -> Option<&Dwarf> {
        let at = self.loaders.iter().position(|(other, _)| *other == id);
        let entry = match at.and_then(|at| self.loaders.remove(at)) {
            Some(entry) => entry,
            None => {
                let opened = open(module, self.fetch.as_deref_mut());
                if opened.as_ref().is_some_and(Option::is_none) {
                    self.spent.insert(id);
                }
                (id, opened.flatten())
            }
        };
        self.loaders.push_back(entry);
        // What has no DWARF costs nothing to remember.
        let loaded = |(i, (_, l)): (usize, &(ModuleId, Option<Dwarf>))| Some((i, l.as_ref()?.size()));
        let sizes: Vec<(usize, u64)> = self.loaders.iter().enumerate().filter_map(loaded).collect();
        for at in too_many(&sizes) {
            self.loaders.remove(at);
        }
        self.loaders.back().and_then(|(_, l)| l.as_ref())
    }
}

/// Which of the loaders go, by their places, the last first; with each the bytes that it holds, the longest unused first.
fn too_many(sizes: &[(usize, u64)]) -> Vec<usize> {
    let mut held = 0u64;
    let mut stay = 0;
    for (_, size) in sizes.iter().rev() {
        held = held.saturating_add(*size);
        if stay > 0 && (stay == MAX_LOADERS || held > MAX_HELD) {
            break;
        }
        stay += 1;
    }
    sizes.iter().rev().skip(stay).map(|(at, _)| *at).collect()
}

/// Opens the debug information of a module, in its own file or a separate one. `Some(None)`: there is some, and it cannot
/// be read.
fn open(module: &Module, mut fetch: Option<&mut Fetch>) -> Option<Option<Dwarf>> {
    let own = module.file()?;
    let own_path = PathBuf::from(OsStr::from_bytes(module.path()));
    let (file, path) = if debugfile::has_dwarf(&own) {
        (own, own_path.clone())
    } else {
        debugfile::separate_with(module, &debugfile::has_dwarf, fetch.as_deref_mut())?
    };
    let supplement = debugfile::supplement(&file, &path, module.place(), fetch);
    let dwarf = Dwarf::open(&file, &path, &own_path, supplement.as_ref(), module.place());
    if dwarf.is_none() {
        tracing::debug!(path = %path.display(), "the debug information cannot be read");
    }
    Some(dwarf)
}

/// All symbols of a module: its own tables, those of its debug file, those packed into it.
fn symbols(module: &Module, fetch: Option<&mut Fetch>) -> SymbolTable {
    let mut table = SymbolTable::default();
    if let Some(bytes) = module.memory() {
        table.read(bytes);
    } else if let Some(file) = module.file() {
        let full = has_symtab(&file);
        table.read(&ReadCache::new(&file));
        if !full {
            // What is packed into the file is at hand: a server is asked only where that is missing.
            let packed = debugfile::minidebug(&file);
            let fetch = fetch.filter(|_| packed.is_none());
            if let Some((debug, _)) = debugfile::separate_with(module, &has_symtab, fetch) {
                table.read(&ReadCache::new(&debug));
            } else if let Some(bytes) = packed {
                table.read(&*bytes);
            }
        }
    }
    table.finish();
    table
}

/// Whether the file has a full symbol table with symbols in it.
fn has_symtab(file: &File) -> bool {
    let sections = Sections::of(&ReadCache::new(file)).unwrap_or_default();
    let mut tables = sections.iter().filter(|s| s.kind == object::elf::SHT_SYMTAB.0);
    // The first entry, of 24 or 16 bytes, is no symbol (elf(5), Elf64_Sym and Elf32_Sym).
    let one = if sections.word() == 8 { 24 } else { 16 };
    tables.any(|s| s.range().is_some_and(|(_, size)| size > one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_information_is_held_of_few_modules_and_not_too_much() {
        assert!(too_many(&[]).is_empty());
        assert!(too_many(&[(3, MAX_HELD * 2)]).is_empty(), "the last one stays");
        assert_eq!(too_many(&[(0, 1), (2, MAX_HELD), (5, 1)]), [2, 0]);
        assert_eq!(too_many(&[(0, MAX_HELD), (2, 1), (5, 1)]), [0]);
        let ten: Vec<_> = (0..10).map(|i| (i, 1)).collect();
        assert_eq!(too_many(&ten), [1, 0]);
    }
}

//! From frames to functions, files and lines: slow, only when somebody looks, and once.

use super::debugfile;
use super::elf;
use super::module::{Module, Modules};
use super::names::readable;
use super::symtab::SymbolTable;
use super::types::{Frame, ModuleId, NO_FILE, Named};
use addr2line::Loader;
use object::ReadCache;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Modules whose debug information is kept open; the longest unused is dropped.
const MAX_LOADERS: usize = 8;
/// Explained addresses kept; all are forgotten when there are more.
const MAX_EXPLAINED: usize = 1 << 16;
/// Larger files in a place where they may change under us are not copied, and give no lines.
const MAX_COPY: u64 = 1 << 30;
/// Inlined calls at one address.
const MAX_INLINED: usize = 64;

/// The symbolizer's memory.
#[derive(Default)]
pub(crate) struct Explainer {
    tables: FxHashMap<ModuleId, Arc<SymbolTable>>,
    /// In order of use, the last used at the end. `None`: there is no DWARF.
    loaders: VecDeque<(ModuleId, Option<Loader>)>,
    known: FxHashMap<Frame, Arc<[Named]>>,
}

impl Explainer {
    /// The functions at one frame: inlined ones first, innermost first, the physical one last. Never empty.
    pub(crate) fn frame(&mut self, frame: Frame, modules: &Modules) -> Arc<[Named]> {
        if let Some(known) = self.known.get(&frame) {
            return Arc::clone(known);
        }
        let named: Arc<[Named]> = match frame.module.and_then(|id| Some((id, modules.get(id)?))) {
            Some((id, module)) => self.look_up(frame, id, module).into(),
            None => Arc::new([unnamed(NO_FILE.to_owned(), frame.offset)]),
        };
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

    fn look_up(&mut self, frame: Frame, id: ModuleId, module: &Module) -> Vec<Named> {
        let base = unnamed(module.name(), frame.offset);
        let mut out = match self.loader(id, module) {
            Some(loader) => lines(loader, frame.lookup(), &base),
            None => Vec::new(),
        };
        if out.is_empty() {
            out.push(base);
        }
        if let Some(physical) = out.last_mut()
            && physical.function.is_none()
        {
            let table = self.tables.entry(id).or_insert_with(|| Arc::new(symbols(module)));
            physical.function = table.find(frame.lookup()).map(readable);
        }
        out
    }

    fn loader(&mut self, id: ModuleId, module: &Module) -> Option<&Loader> {
        let at = self.loaders.iter().position(|(other, _)| *other == id);
        let entry = match at.and_then(|at| self.loaders.remove(at)) {
            Some(entry) => entry,
            None => (id, open(module)),
        };
        // What has no DWARF costs nothing to remember.
        let full = self.loaders.iter().filter(|(_, l)| l.is_some()).count() >= MAX_LOADERS;
        if full && let Some(oldest) = self.loaders.iter().position(|(_, l)| l.is_some()) {
            self.loaders.remove(oldest);
        }
        self.loaders.push_back(entry);
        self.loaders.back().and_then(|(_, l)| l.as_ref())
    }
}

fn unnamed(module: String, offset: u64) -> Named {
    Named { module, offset, function: None, file: None, line: None, inlined: false, jumped: false, sign: None }
}

/// What DWARF says about `addr`; empty when it says nothing.
fn lines(loader: &Loader, addr: u64, base: &Named) -> Vec<Named> {
    let found = catch_unwind(AssertUnwindSafe(|| {
        let mut out = Vec::new();
        let mut frames = loader.find_frames(addr).ok()?;
        while let Ok(Some(frame)) = frames.next() {
            let mut named = base.clone();
            named.inlined = true;
            named.function = frame.function.as_ref().and_then(|f| Some(readable(f.raw_name().ok()?.as_bytes())));
            if let Some(at) = frame.location {
                named.file = at.file.map(str::to_owned);
                named.line = at.line.filter(|&n| n > 0);
            }
            out.push(named);
            if out.len() >= MAX_INLINED {
                break;
            }
        }
        Some(out)
    }));
    let mut out = found.ok().flatten().unwrap_or_default();
    if let Some(physical) = out.last_mut() {
        physical.inlined = false;
    }
    out
}

/// Opens the debug information of a module, in its own file or a separate one.
fn open(module: &Module) -> Option<Loader> {
    let own = module.file()?;
    let own_path = PathBuf::from(OsStr::from_bytes(module.path()));
    let (file, path) = if debugfile::has_dwarf(&own) {
        (own, own_path)
    } else {
        debugfile::separate(module).filter(|(file, _)| debugfile::has_dwarf(file))?
    };
    let supplement = debugfile::supplement(&file, &path);
    let file = steady(file, &path)?;
    // By descriptor, because the path may name another file by now. The loader keeps a mapping, not the descriptor.
    let by_fd = format!("/proc/self/fd/{}", file.as_raw_fd());
    let loaded = catch_unwind(|| Loader::new_with_sup(&by_fd, supplement.as_ref()).map_err(|e| e.to_string()));
    match loaded {
        Ok(Ok(loader)) => Some(loader),
        Ok(Err(e)) => {
            tracing::debug!(path = %path.display(), "no debug information: {e}");
            None
        }
        Err(_) => None,
    }
}

/// A file that nobody can shorten while it is mapped: reading past its new end would kill us with SIGBUS, and with us
/// the program that we trace.
///
/// Package managers replace files and never rewrite them, so what they own is used as it is; anything else (the user's
/// build, which may run again while the prompt is open) is copied to a file without a name.
fn steady(file: File, path: &Path) -> Option<File> {
    const OWNED: [&str; 6] = ["/usr/", "/lib/", "/lib64/", "/bin/", "/nix/store/", "/gnu/store/"];
    let path = path.as_os_str().as_encoded_bytes();
    let local = path.starts_with(b"/usr/local/");
    if !local && OWNED.iter().any(|dir| path.starts_with(dir.as_bytes())) {
        return Some(file);
    }
    (file.metadata().ok()?.len() <= MAX_COPY).then_some(())?;
    let mut copy = tempfile::tempfile().ok()?;
    let mut from = debugfile::open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))?;
    std::io::copy(&mut from, &mut copy).ok()?;
    Some(copy)
}

/// All symbols of a module: its own tables, those of its debug file, those packed into it.
fn symbols(module: &Module) -> SymbolTable {
    let mut table = SymbolTable::default();
    if let Some(bytes) = module.memory() {
        elf::symbols(bytes, &mut |s| table.add(s));
    } else if let Some(file) = module.file() {
        let full = has_symtab(&file);
        elf::symbols(&ReadCache::new(&file), &mut |s| table.add(s));
        if !full {
            if let Some((debug, _)) = debugfile::separate(module) {
                elf::symbols(&ReadCache::new(&debug), &mut |s| table.add(s));
            } else if let Some(bytes) = debugfile::minidebug(&file) {
                elf::symbols(&*bytes, &mut |s| table.add(s));
            }
        }
    }
    table.finish();
    table
}

fn has_symtab(file: &File) -> bool {
    use object::Object;
    let cache = ReadCache::new(file);
    object::File::parse(&cache).is_ok_and(|o| {
        o.symbol_table().is_some_and(|t| {
            use object::ObjectSymbolTable;
            t.symbols().next().is_some()
        })
    })
}

//! The files that code lies in, each parsed once for all processes.

use super::cfi::Cfi;
use super::debugfile::Place;
use super::elf::Image;
use super::gotable::{GoStart, GoTable};
use super::maps::Mapping;
use super::types::{ModuleId, file_name};
use crate::base::{AddressSpace, Root};
use rustc_hash::{FxHashMap, FxHasher};
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// Files kept open for later symbolizing, so that a deleted program can still be explained. The oldest is closed first;
/// it is then opened again by path, if that is still the same file.
const MAX_OPEN: usize = 64;
/// Mount namespaces and roots kept open; in any more only our own debug files are looked for.
const MAX_ROOTS: usize = 64;
/// The vDSO is two to four pages.
const MAX_VDSO: u64 = 64 << 10;

/// Tells files apart, also a file that was written anew in place or got a used inode number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FileKey {
    dev: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileKey {
    pub(crate) fn of(file: &File) -> std::io::Result<Self> {
        let m = file.metadata()?;
        Ok(Self { dev: m.dev(), inode: m.ino(), size: m.size(), modified: (m.mtime(), m.mtime_nsec()) })
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Key {
    File(FileKey),
    /// By a hash of its bytes: there is one for each mode of the processor.
    Vdso(u64),
    /// A file that could not be opened.
    Closed((u32, u32), u64, Vec<u8>),
    /// A perf map, by device, inode and process.
    PerfMap(u64, u64, i32),
}

/// The "path" of code that a process made at run time and wrote a perf map for.
const JIT: &[u8] = b"[jit]";

/// A file that frames lie in, or the vDSO.
#[derive(Debug)]
pub struct Module {
    path: Vec<u8>,
    build_id: Option<Vec<u8>>,
    key: Key,
    image: Image,
    cfi: Cfi,
    /// Read on first need.
    go: OnceCell<Box<[GoStart]>>,
    /// Kept where it takes the place of unwind information.
    go_table: OnceCell<Option<GoTable>>,
    file: Option<File>,
    /// The vDSO's bytes; no file holds them.
    memory: Option<Box<[u8]>>,
    readable: bool,
    place: Place,
}

impl Module {
    /// The path as in the maps of the process that showed the file first: absolute in that process's root, with
    /// ` (deleted)` behind it when the file had no name any more; `[vdso]` for the vDSO, `[jit]` for code made at run
    /// time that has a perf map. Not necessarily UTF-8.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The GNU build id (note `NT_GNU_BUILD_ID`), usually 20 bytes; `None` where the linker wrote none.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// Whether the file could be opened and is ELF for x86. If not, offsets of its frames count from the file's start.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// The last component of the path, without ` (deleted)`.
    pub fn name(&self) -> String {
        file_name(&self.path)
    }

    /// Whether the file is a perf map, which names code and holds none.
    pub(crate) fn is_perf_map(&self) -> bool {
        matches!(self.key, Key::PerfMap(..))
    }

    pub(crate) fn cfi(&self) -> &Cfi {
        &self.cfi
    }

    /// The function of Go's at `addr` that a stack begins with, if it is one.
    pub(crate) fn go_start(&self, addr: u64) -> Option<&GoStart> {
        self.image.go.then_some(())?;
        let read = || self.go_table().map(|t| t.starts()).unwrap_or_default().into();
        self.go.get_or_init(read).iter().find(|f| (f.start..f.end).contains(&addr))
    }

    /// The table that a Go program carries.
    pub(crate) fn go_table(&self) -> Option<GoTable> {
        self.file().and_then(|file| GoTable::read(&file))
    }

    /// How far the stack pointer is below the return address at `addr`, in bytes, as Go's table of functions says.
    pub(crate) fn go_depth(&self, addr: u64) -> Option<u64> {
        self.image.go.then_some(())?;
        self.go_table.get_or_init(|| self.go_table()).as_ref()?.depth(addr)
    }

    pub(crate) fn segments(&self) -> &[super::elf::Segment] {
        &self.image.segments
    }

    /// Whether an address lies in the first instructions of the file, where the kernel or the loader enters it.
    pub(crate) fn is_entry(&self, addr: u64) -> bool {
        /// Longer than every `_start`: glibc's loader has 0x42 bytes, with `_dl_start_user`.
        const START: u64 = 0x60;
        self.image.entry != 0 && addr.checked_sub(self.image.entry).is_some_and(|into| into < START)
    }

    /// Where the paths of the process begin that showed the file first.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn is_loader(&self) -> bool {
        self.image.is_loader
    }

    pub(crate) fn memory(&self) -> Option<&[u8]> {
        self.memory.as_deref()
    }

    /// The file itself: the one opened at first sight, else the one at the path if it is still the same.
    pub(crate) fn file(&self) -> Option<File> {
        if let Some(file) = &self.file {
            return file.try_clone().ok();
        }
        let Key::File(key) = &self.key else { return None };
        let file = self.place.open(std::ffi::OsStr::from_bytes(&self.path).as_ref())?;
        (FileKey::of(&file).ok()? == *key).then_some(file)
    }
}

/// All modules of a session.
#[derive(Default)]
pub(crate) struct Modules {
    list: Vec<Module>,
    by_key: FxHashMap<Key, ModuleId>,
    open: VecDeque<ModuleId>,
    roots: Vec<Arc<Root>>,
}

impl Modules {
    pub(crate) fn get(&self, id: ModuleId) -> Option<&Module> {
        self.list.get(id.0 as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Module> {
        self.list.iter()
    }

    /// The module behind a mapping and its bias (see [`Image::bias`]); `None` for memory without a file.
    pub(crate) fn resolve(&mut self, map: &Mapping, mem: &dyn AddressSpace) -> Option<(ModuleId, u64)> {
        if map.is_vdso() {
            let size = (map.end - map.start).min(MAX_VDSO);
            let mut bytes = vec![0; size as usize];
            let got = mem.read(map.start, &mut bytes);
            bytes.truncate(got);
            let mut hasher = FxHasher::default();
            bytes.hash(&mut hasher);
            let id = self.find_or_add(Key::Vdso(hasher.finish()), &map.path, mem, |m| {
                m.take_image(Image::of_bytes(&bytes));
                m.memory = Some(bytes.into());
            })?;
            return Some((id, self.bias(id, map)));
        }
        if !map.has_file() {
            return Some((self.perf_map(mem)?, 0));
        }
        let opened = mem
            .open_mapped(map.start, map.end, &map.path, map.dev, map.inode)
            .and_then(|file| Ok((FileKey::of(&file)?, file)));
        let id = match opened {
            Ok((key, file)) => {
                let id = self.find_or_add(Key::File(key), &map.path, mem, |m| {
                    m.take_image(Image::of_file(&file));
                    m.file = m.readable.then_some(file);
                })?;
                self.limit_open(id);
                id
            }
            Err(e) => {
                tracing::debug!(path = %String::from_utf8_lossy(&map.path), "cannot open a mapped file: {e}");
                self.find_or_add(Key::Closed(map.dev, map.inode, map.path.clone()), &map.path, mem, |_| ())?
            }
        };
        Some((id, self.bias(id, map)))
    }

    fn bias(&self, id: ModuleId, map: &Mapping) -> u64 {
        let image = self.get(id).map(|m| &m.image);
        // Without segments count from the start of the file.
        image.and_then(|i| i.bias(map.start, map.offset)).unwrap_or(map.offset.wrapping_sub(map.start))
    }

    /// Code without a file, of a process that writes down what it makes (perf-PID.map, see [`super::perfmap`]).
    fn perf_map(&mut self, mem: &dyn AddressSpace) -> Option<ModuleId> {
        let pid = mem.inner_pid()?;
        let file = self.place(mem).open(&super::perfmap::path(pid))?;
        let m = file.metadata().ok()?;
        let id = self.find_or_add(Key::PerfMap(m.dev(), m.ino(), pid), JIT, mem, |m| {
            m.readable = true;
            m.file = Some(file);
        })?;
        self.limit_open(id);
        Some(id)
    }

    /// Where the paths of a process begin.
    fn place(&mut self, mem: &dyn AddressSpace) -> Place {
        let Some(root) = mem.root() else { return Place::default() };
        let key = |r: &Root| r.dir.metadata().ok().map(|m| (r.namespace, m.dev(), m.ino()));
        let known = self.roots.iter().find(|other| key(other) == key(&root)).map(Arc::clone);
        if let Some(root) = known {
            return Place::Below(root);
        }
        if self.roots.len() >= MAX_ROOTS {
            return Place::Nowhere;
        }
        let root = Arc::new(root);
        self.roots.push(Arc::clone(&root));
        Place::Below(root)
    }

    fn find_or_add(
        &mut self,
        key: Key,
        path: &[u8],
        mem: &dyn AddressSpace,
        fill: impl FnOnce(&mut Module),
    ) -> Option<ModuleId> {
        if let Some(&id) = self.by_key.get(&key) {
            return Some(id);
        }
        let place = self.place(mem);
        let id = ModuleId(u32::try_from(self.list.len()).ok()?);
        let mut module = Module {
            path: place.inside(path).to_vec(),
            build_id: None,
            key: key.clone(),
            image: Image::default(),
            cfi: Cfi::default(),
            go: OnceCell::new(),
            go_table: OnceCell::new(),
            file: None,
            memory: None,
            readable: false,
            place,
        };
        fill(&mut module);
        self.list.push(module);
        self.by_key.insert(key, id);
        Some(id)
    }

    fn limit_open(&mut self, id: ModuleId) {
        if self.get(id).is_some_and(|m| m.file.is_some()) && !self.open.contains(&id) {
            self.open.push_back(id);
        }
        while self.open.len() > MAX_OPEN {
            let oldest = self.open.pop_front();
            if let Some(m) = oldest.and_then(|id| self.list.get_mut(id.0 as usize)) {
                m.file = None;
            }
        }
    }
}

impl Module {
    fn take_image(&mut self, image: Result<Image, super::elf::ElfError>) {
        match image {
            Ok(mut image) => {
                self.cfi = Cfi::new(&mut image);
                self.build_id = image.build_id.take();
                self.image = image;
                self.readable = true;
            }
            Err(e) => tracing::debug!(path = %String::from_utf8_lossy(&self.path), "no code information: {e}"),
        }
    }
}

//! Functions, lines and inlined calls from DWARF, whatever the files hold.
//!
//! The sections that are needed are read into memory, not mapped: a mapped file that somebody shortens (a build that runs
//! again while the prompt is open) would kill fdwatch with SIGBUS, and with it the program that it traces.
//!
//! What a file says decides how much work it makes: ranges that a thousand units share, calls inlined a million deep. So
//! everything is read through [`Bounded`], which ends the reading when it has gone on for too long, or too deep.

use super::debugfile::Place;
use super::names::{Tongue, readable};
use super::sections;
use addr2line::{Context, LookupContinuation, LookupResult, SplitDwarfLoad};
use gimli::{DwarfPackage, EndianSlice, LittleEndian, Reader, ReaderOffsetId, SectionId};
use object::{CompressedFileRange, CompressionFormat, ReadCache, ReadRef};
use self_cell::self_cell;
use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use typed_arena::Arena;

/// Sections of one module together, unpacked, in bytes, in whatever files they are. A file that would make it more is not read,
/// and a `.dwo` file counts when its number was found to be right, else for [`MAX_WRONG`].
pub(crate) const MAX_SECTIONS: u64 = 1 << 30;
/// Those of them that are compressed: a small file can unpack to much.
const MAX_PACKED: u64 = 512 << 20;
/// `.dwo` files that are looked at for one module, whether they are the right ones or not.
const MAX_DWO: usize = 1 << 14;
/// What is read of those that turn out to be of another build, for one module, in bytes. Of each it is the units and their
/// abbreviations: a few megabytes.
const MAX_WRONG: u64 = 256 << 20;
/// Inlined calls at one address.
const MAX_INLINED: usize = 64;

/// How often a byte may be read on average, over all look-ups. Asked for every function that they have (6,800 to 68,000
/// look-ups), libpython 3.11, glibc's debug file and a debug build of fdwatch came to 0.7, 0.6 and 0.6.
const READS_PER_BYTE: u64 = 6;
/// And how much on top of it for each look-up, which reads names again.
const READS_PER_LOOKUP: u64 = 64 << 10;
/// How much stack the reading may take, in bytes: calls inlined into one another are read by recursion.
const MAX_STACK: usize = 512 << 10;

/// What sections a look-up needs. Locations of variables and macros, half of all debug information, are none of them.
const WANTED: [SectionId; 12] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugAranges,
    SectionId::DebugCuIndex,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
    SectionId::DebugTuIndex,
];

/// Those that the index of a `.dwp` file counts besides: without them it does not give a unit.
const PACKAGED: [SectionId; 5] = [
    SectionId::DebugLoc,
    SectionId::DebugLocLists,
    SectionId::DebugMacinfo,
    SectionId::DebugMacro,
    SectionId::DebugTypes,
];

/// Those that tell a `.dwo` file's number.
const NUMBERED: [SectionId; 2] = [SectionId::DebugAbbrev, SectionId::DebugInfo];

/// What kind of file sections are read from, which decides their names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    /// A `.dwo` file.
    Part,
    /// A `.dwp` file.
    Package,
}

/// A call at an address, as the debug information tells it.
pub(crate) struct Line {
    /// As the linker knows the function, where that is given, else as the source does.
    pub(crate) function: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
    pub(crate) tongue: Tongue,
}

/// The debug information of one module.
pub(crate) struct Dwarf {
    cell: Loaded,
    place: Place,
    /// The directory that the module's file lies in.
    beside: PathBuf,
}

/// The bytes, and what is left of the reader's patience.
struct Files {
    main: Sections,
    /// What `dwz` moved out of several files into one.
    supplement: Sections,
    /// The `.dwp` file.
    package: Option<Sections>,
    /// The `.dwo` files, as they are wanted.
    parts: Arena<Sections>,
    /// Bytes of sections that may still be read.
    room: Cell<u64>,
    /// `.dwo` files that may still be looked at, and bytes that may still be read of wrong ones.
    tries: Cell<usize>,
    wrong: Cell<u64>,
    limits: Limits,
}

struct Lookup<'a> {
    context: Context<Bounded<'a>>,
    package: Option<DwarfPackage<Bounded<'a>>>,
}

self_cell!(
    struct Loaded {
        owner: Files,
        #[not_covariant]
        dependent: Lookup,
    }
);

impl Dwarf {
    /// Reads what is needed of `file`, which lies at `path`, for a module whose own file is `module`.
    ///
    /// `supplement` is the file of `.gnu_debugaltlink`, if there is one.
    pub(crate) fn open(
        file: &File,
        path: &Path,
        module: &Path,
        supplement: Option<&File>,
        place: &Place,
    ) -> Option<Self> {
        let mut room = MAX_SECTIONS;
        let mut read = |file: &File, kind| {
            let sections = Sections::read(file, kind, room)?;
            room = room.saturating_sub(sections.size());
            Some(sections)
        };
        let main = read(file, Kind::Whole)?;
        let supplement = supplement.and_then(|file| read(file, Kind::Whole)).unwrap_or_default();
        let package = package(path, module, place).and_then(|file| read(&file, Kind::Package));
        let size = main.size() + supplement.size() + package.as_ref().map_or(0, Sections::size);
        let limits = Limits::new(size * READS_PER_BYTE);
        let files = Files {
            main,
            supplement,
            package,
            parts: Arena::new(),
            room: Cell::new(room),
            tries: Cell::new(MAX_DWO),
            wrong: Cell::new(MAX_WRONG),
            limits,
        };
        files.limits.begin();
        let cell =
            catch_unwind(AssertUnwindSafe(|| Loaded::try_new(files, |files| Lookup::new(files)).ok())).ok()??;
        let beside = module.parent().unwrap_or(Path::new("/")).to_owned();
        Some(Self { cell, place: place.clone(), beside })
    }

    /// The calls at `addr`, the innermost inlined one first, the physical one last; none where nothing is said.
    pub(crate) fn lines(&self, addr: u64) -> Vec<Line> {
        // The last address of all cannot lie in a range that ends behind it, and addr2line adds one to it.
        if addr == u64::MAX {
            return Vec::new();
        }
        let found = catch_unwind(AssertUnwindSafe(|| {
            self.cell.with_dependent(|files, lookup| {
                files.limits.begin();
                lookup.lines(addr, files, &|load| self.part(load))
            })
        }));
        found.unwrap_or_default()
    }

    /// Whether the reading was ended, because it went on for too long or too deep.
    pub(crate) fn is_spent(&self) -> bool {
        self.cell.borrow_owner().limits.spent.get()
    }

    /// What it holds in memory of the files, in bytes.
    pub(crate) fn size(&self) -> u64 {
        MAX_SECTIONS.saturating_sub(self.cell.borrow_owner().room.get())
    }

    /// The `.dwo` file that a unit names: at the path where the compiler put it, else beside the module.
    fn part(&self, load: &SplitDwarfLoad<Bounded<'_>>) -> Vec<File> {
        let path = |r: &Bounded<'_>| PathBuf::from(OsStr::from_bytes(r.inner.slice()));
        let Some(name) = load.path.as_ref().map(path) else { return Vec::new() };
        let dir = load.comp_dir.as_ref().map(path).unwrap_or_default();
        let last = name.file_name().map(|n| self.beside.join(n));
        let paths = [Some(self.beside.join(dir).join(&name)), last];
        paths.into_iter().flatten().filter_map(|path| self.place.open(&path)).collect()
    }
}

/// The `.dwp` file of a module or of its debug file: their names with `.dwp` behind.
fn package(path: &Path, module: &Path, place: &Place) -> Option<File> {
    let mut tried = None;
    for path in [path, module] {
        if tried.replace(path) == Some(path) {
            continue;
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".dwp");
        if let Some(file) = place.open(Path::new(&name)) {
            return Some(file);
        }
    }
    None
}

impl<'a> Lookup<'a> {
    fn new(files: &'a Files) -> gimli::Result<Self> {
        let load = |sections: &'a Sections| move |id| gimli::Result::Ok(sections.get(id, &files.limits));
        let mut dwarf = gimli::Dwarf::load(load(&files.main))?;
        if !files.supplement.0.is_empty() {
            dwarf.load_sup(load(&files.supplement))?;
        }
        dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
        let empty = Bounded::new(&[], &files.limits);
        let package = files.package.as_ref().and_then(|p| DwarfPackage::load(load(p), empty).ok());
        Ok(Self { context: Context::from_dwarf(dwarf)?, package })
    }

    fn lines(
        &self,
        addr: u64,
        files: &'a Files,
        part: &dyn Fn(&SplitDwarfLoad<Bounded<'a>>) -> Vec<File>,
    ) -> Vec<Line> {
        let mut found = self.context.find_frames(addr);
        let frames = loop {
            match found {
                LookupResult::Output(frames) => break frames,
                LookupResult::Load { load, continuation } => {
                    let dwarf = self.packed(&load).or_else(|| unpacked(&load, files, part(&load)));
                    found = continuation.resume(dwarf);
                }
            }
        };
        let Ok(mut frames) = frames else { return Vec::new() };
        let mut out = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref().and_then(|f| Some((f.raw_name().ok()?, f.language)));
            let at = frame.location;
            out.push(Line {
                tongue: name.as_ref().map_or(Tongue::Other, |(raw, language)| Tongue::of(raw.as_bytes(), *language)),
                function: name.map(|(raw, _)| readable(raw.as_bytes())),
                file: at.as_ref().and_then(|at| at.file).map(str::to_owned),
                line: at.and_then(|at| at.line).filter(|&n| n > 0),
            });
            if out.len() >= MAX_INLINED {
                break;
            }
        }
        out
    }

    /// The unit of the `.dwp` file.
    fn packed(&self, load: &SplitDwarfLoad<Bounded<'a>>) -> Option<Arc<gimli::Dwarf<Bounded<'a>>>> {
        self.package.as_ref()?.find_cu(load.dwo_id, &load.parent).ok()?.map(Arc::new)
    }
}

/// The unit of a `.dwo` file, if one of `candidates` has the wanted number.
#[allow(clippy::arc_with_non_send_sync)] // what addr2line wants
fn unpacked<'a>(
    load: &SplitDwarfLoad<Bounded<'a>>,
    files: &'a Files,
    candidates: Vec<File>,
) -> Option<Arc<gimli::Dwarf<Bounded<'a>>>> {
    candidates.into_iter().find_map(|file| {
        // One that cannot be looked at any more may have been the right one.
        let Some(right) = files.is_wanted(&file, load.dwo_id) else {
            files.limits.spent.set(true);
            return None;
        };
        right.then_some(())?;
        let Some(sections) = Sections::read(&file, Kind::Part, files.room.get()) else {
            files.limits.spent.set(true);
            return None;
        };
        files.room.set(files.room.get().saturating_sub(sections.size()));
        let sections = &*files.parts.alloc(sections);
        files.limits.extend(sections.size() * READS_PER_BYTE);
        let mut dwarf = gimli::Dwarf::load(|id| gimli::Result::Ok(sections.get(id, &files.limits))).ok()?;
        dwarf.make_dwo(&load.parent);
        Some(Arc::new(dwarf))
    })
}

impl Files {
    /// Whether a `.dwo` file is the wanted one; `None` if there were too many wrong ones to look at it.
    fn is_wanted(&self, file: &File, wanted: gimli::DwoId) -> Option<bool> {
        self.tries.set(self.tries.get().checked_sub(1)?);
        // Taken before anything is read, and given back for the right one, which counts elsewhere.
        let size = Sections::size_of(file, Kind::Part, &NUMBERED);
        let left = self.wrong.get().checked_sub(size)?;
        self.wrong.set(left);
        let right = has_number(file, wanted, size);
        if right {
            self.wrong.set(left.saturating_add(size));
        }
        Some(right)
    }
}

/// Whether a `.dwo` file is the wanted one. Only what says so is read of it, no more than `room` bytes, and given back.
fn has_number(file: &File, wanted: gimli::DwoId, room: u64) -> bool {
    let Some(sections) = Sections::read_some(file, Kind::Part, &NUMBERED, room) else { return false };
    let limits = Limits::new(sections.size() * READS_PER_BYTE);
    limits.begin();
    // GNU's split DWARF 4 has the number in the skeleton's and the unit's entry, DWARF 5 in the header.
    let number = || {
        let dwarf = gimli::Dwarf::load(|id| gimli::Result::Ok(sections.get(id, &limits))).ok()?;
        let header = dwarf.units().next().ok()??;
        dwarf.unit(header).ok()?.dwo_id
    };
    number() == Some(wanted)
}

/// The sections of one file.
#[derive(Default)]
struct Sections(Vec<(SectionId, Box<[u8]>)>);

impl Sections {
    /// Reads them. `None` if there are none, or they have more than `room` bytes.
    fn read(file: &File, kind: Kind, room: u64) -> Option<Self> {
        let more = if kind == Kind::Package { &PACKAGED[..] } else { &[] };
        let wanted: Vec<SectionId> = WANTED.iter().chain(more).copied().collect();
        Self::read_some(file, kind, &wanted, room)
    }

    /// Those that are `wanted`.
    fn read_some(file: &File, kind: Kind, wanted: &[SectionId], room: u64) -> Option<Self> {
        let cache = ReadCache::new(file);
        let all = sections::Sections::of(&cache)?;
        let (mut out, mut total, mut packed) = (Vec::new(), 0u64, 0u64);
        for (id, range) in Self::there(&all, &cache, kind, wanted) {
            total = total.saturating_add(range.uncompressed_size);
            let bytes = if range.format == CompressionFormat::None {
                (total <= room).then_some(())?;
                read_at(file, range.offset, range.uncompressed_size)
            } else {
                packed = packed.saturating_add(range.uncompressed_size);
                (packed <= MAX_PACKED && total <= room).then_some(())?;
                range.data(&cache).and_then(|data| data.decompress()).ok().map(|bytes| bytes.into_owned().into())
            };
            out.extend(bytes.map(|bytes| (id, bytes)));
        }
        (!out.is_empty()).then_some(Self(out))
    }

    /// What the headers say of them, in bytes.
    fn size_of(file: &File, kind: Kind, wanted: &[SectionId]) -> u64 {
        let cache = ReadCache::new(file);
        let Some(all) = sections::Sections::of(&cache) else { return 0 };
        Self::there(&all, &cache, kind, wanted).fold(0, |n, (_, range)| n.saturating_add(range.uncompressed_size))
    }

    fn there<'o, 'd, R: ReadRef<'d>>(
        all: &'o sections::Sections,
        data: R,
        kind: Kind,
        wanted: &'o [SectionId],
    ) -> impl Iterator<Item = (SectionId, CompressedFileRange)> {
        wanted.iter().filter_map(move |&id| {
            let name = if kind == Kind::Whole { Some(id.name()) } else { id.dwo_name() };
            Some((id, all.packed(all.find_packed(name?)?, data)?))
        })
    }

    fn get<'a>(&'a self, id: SectionId, limits: &'a Limits) -> Bounded<'a> {
        let bytes = self.0.iter().find(|(other, _)| *other == id).map_or(&[][..], |(_, bytes)| bytes);
        Bounded::new(bytes, limits)
    }

    fn size(&self) -> u64 {
        self.0.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }
}

/// A part of a file; `None` where the file is shorter than that.
fn read_at(file: &File, offset: u64, size: u64) -> Option<Box<[u8]>> {
    // A header can claim any size: no memory is taken for what is not there.
    (offset.checked_add(size)? <= file.metadata().ok()?.len()).then_some(())?;
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes.into())
}

/// What is left for the readers of one module.
struct Limits {
    /// Bytes that may still be read.
    left: Cell<u64>,
    /// Where the stack was when the reading began.
    stack: Cell<usize>,
    spent: Cell<bool>,
}

impl Limits {
    fn new(left: u64) -> Limits {
        Limits { left: Cell::new(left), stack: Cell::new(0), spent: Cell::new(false) }
    }

    /// A look-up begins here: at this depth of the stack.
    fn begin(&self) {
        let here = 0u8;
        self.stack.set(std::ptr::from_ref(&here).addr());
        self.extend(READS_PER_LOOKUP);
    }

    fn extend(&self, more: u64) {
        self.left.set(self.left.get().saturating_add(more));
    }

    #[inline]
    fn charge(&self, bytes: usize) -> bool {
        let here = 0u8;
        let depth = self.stack.get().abs_diff(std::ptr::from_ref(&here).addr());
        match self.left.get().checked_sub(bytes as u64) {
            Some(left) if depth <= MAX_STACK => {
                self.left.set(left);
                true
            }
            _ => {
                self.spent.set(true);
                false
            }
        }
    }
}

/// Bytes to read that come to an end when they have been read for too long.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    inner: EndianSlice<'a, LittleEndian>,
    limits: &'a Limits,
}

impl<'a> Bounded<'a> {
    fn new(bytes: &'a [u8], limits: &'a Limits) -> Self {
        Self { inner: EndianSlice::new(bytes, LittleEndian), limits }
    }

    #[inline]
    fn charge(&self, bytes: usize) -> gimli::Result<()> {
        if self.limits.charge(bytes) { Ok(()) } else { Err(gimli::Error::UnexpectedEof(self.inner.offset_id())) }
    }
}

impl std::fmt::Debug for Bounded<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Reader for Bounded<'_> {
    type Endian = LittleEndian;
    type Offset = usize;

    #[inline]
    fn endian(&self) -> LittleEndian {
        LittleEndian
    }

    #[inline]
    fn len(&self) -> usize {
        self.inner.len()
    }

    #[inline]
    fn empty(&mut self) {
        self.inner.empty();
    }

    #[inline]
    fn truncate(&mut self, len: usize) -> gimli::Result<()> {
        self.inner.truncate(len)
    }

    #[inline]
    fn offset_from(&self, base: &Self) -> usize {
        self.inner.offset_from(base.inner)
    }

    #[inline]
    fn offset_id(&self) -> ReaderOffsetId {
        self.inner.offset_id()
    }

    #[inline]
    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        self.inner.lookup_offset_id(id)
    }

    #[inline]
    fn find(&self, byte: u8) -> gimli::Result<usize> {
        let at = Reader::find(&self.inner, byte)?;
        self.charge(at)?;
        Ok(at)
    }

    #[inline]
    fn skip(&mut self, len: usize) -> gimli::Result<()> {
        self.charge(1)?;
        self.inner.skip(len)
    }

    #[inline]
    fn split(&mut self, len: usize) -> gimli::Result<Self> {
        self.charge(1)?;
        Ok(Self { inner: self.inner.split(len)?, limits: self.limits })
    }

    fn to_slice(&self) -> gimli::Result<Cow<'_, [u8]>> {
        self.charge(self.len())?;
        self.inner.to_slice()
    }

    fn to_string(&self) -> gimli::Result<Cow<'_, str>> {
        self.charge(self.len())?;
        Reader::to_string(&self.inner)
    }

    fn to_string_lossy(&self) -> gimli::Result<Cow<'_, str>> {
        self.charge(self.len())?;
        Reader::to_string_lossy(&self.inner)
    }

    #[inline]
    fn read_slice(&mut self, buf: &mut [u8]) -> gimli::Result<()> {
        self.charge(buf.len())?;
        Reader::read_slice(&mut self.inner, buf)
    }

    #[inline]
    fn read_u8(&mut self) -> gimli::Result<u8> {
        self.charge(1)?;
        self.inner.read_u8()
    }

    // What follows would be right as the trait has it, byte by byte; in one go it takes half the time.

    #[inline]
    fn read_null_terminated_slice(&mut self) -> gimli::Result<Self> {
        let inner = self.inner.read_null_terminated_slice()?;
        self.charge(inner.len() + 1)?;
        Ok(Self { inner, limits: self.limits })
    }

    #[inline]
    fn skip_leb128(&mut self) -> gimli::Result<()> {
        self.charge(1)?;
        self.inner.skip_leb128()
    }

    #[inline]
    fn read_uleb128(&mut self) -> gimli::Result<u64> {
        self.charge(1)?;
        self.inner.read_uleb128()
    }

    #[inline]
    fn read_uleb128_u32(&mut self) -> gimli::Result<u32> {
        self.charge(1)?;
        self.inner.read_uleb128_u32()
    }

    #[inline]
    fn read_uleb128_u16(&mut self) -> gimli::Result<u16> {
        self.charge(1)?;
        self.inner.read_uleb128_u16()
    }

    #[inline]
    fn read_sleb128(&mut self) -> gimli::Result<i64> {
        self.charge(1)?;
        self.inner.read_sleb128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_parts_count_too() {
        let files = Files {
            main: Sections::default(),
            supplement: Sections::default(),
            package: None,
            parts: Arena::new(),
            room: Cell::new(MAX_SECTIONS),
            tries: Cell::new(2),
            wrong: Cell::new(MAX_WRONG),
            limits: Limits::new(0),
        };
        let file = tempfile::tempfile().unwrap();
        let tried: Vec<_> = (0..3).map(|_| files.is_wanted(&file, gimli::DwoId(1))).collect();
        assert_eq!(tried, [Some(false), Some(false), None]);
    }
}

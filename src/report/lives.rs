//! The lives of a run as a report keeps them: to be compared with those of another run, or recognised in one.
//!
//! Stacks share most of their frames, and lives their stacks and objects, so each is written once and meant by its index.

use crate::base::text::escape;
use crate::base::{Fd, FileId, LifeId, Pid, PyStackId, StackId, Tid};
use crate::event::{CallName, Cause, Site};
use crate::finding::{Copies, Moved, Object, Sweep};
use crate::identity::{Fingerprint, Ledger, Mark, ModuleFrame, Stacks};
use crate::model::{Ended, Life, Moment, Origin, What, World};
use crate::render::call::call;
use crate::render::record::{ObjectRecord, PythonRecord, escape_words, what_word};
use crate::render::why::{Why, why};
use crate::render::{Names, NativeFrame};
use crate::report::is_zero;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

/// How many lives a report lists: those that began first, of those that are remembered to the end.
pub const MOST: usize = 16_384;

/// How many stacks of these are given names; of more there are addresses only, which take no debug information to find.
const NAMED: usize = 2048;
/// How many bytes of names are looked through for them. No program's are near it; a log that was made up could have a
/// frame with a name of megabytes in thousands of stacks.
const NAMES: usize = 256 << 20;

/// The lives of a run, and what they refer to. Text in it is escaped as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lives {
    /// In the order in which they began. Copies that a fork made are not among them.
    pub list: Vec<LifeRecord>,
    /// How many more there were than are listed ([`MOST`]); those that were forgotten are not counted here.
    pub unlisted: u64,
    /// How many of their native stacks were given no names, as more than 2,048 are not; an end with one of these has no reason.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unnamed: u64,
    /// The objects that they refer to, in the order of their ids.
    pub objects: Vec<ObjectRecord>,
    /// The stacks.
    pub stacks: Vec<StackRecord>,
    /// The native frames of the stacks.
    pub frames: Vec<FrameRecord>,
    /// The Python frames of the stacks.
    pub python: Vec<PythonRecord>,
    /// The files that native frames lie in.
    pub modules: Vec<ModuleRecord>,
    /// Why the ends came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whys: Vec<WhyRecord>,
}

/// A life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeRecord {
    /// Its id in this run.
    pub id: LifeId,
    /// The number.
    pub fd: Fd,
    /// The object's id.
    pub object: FileId,
    /// FD_CLOEXEC at its end.
    pub cloexec: bool,
    /// `opened`, `duplicated`, `received`, `present` or `appeared`.
    pub origin: String,
    /// The life that it was made from, where that is known.
    pub from: Option<LifeId>,
    /// The process that began it, as its place in the tree ([`Mark::place`]).
    pub process: String,
    /// It is the nth with its opening fingerprint in its process ([`Mark::ordinal`]).
    pub ordinal: u32,
    /// How it began.
    pub began: MomentRecord,
    /// How it ended; null if it was still open at the end.
    pub ended: Option<EndRecord>,
}

/// When, who and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MomentRecord {
    /// Since fdwatch started watching.
    pub at_ns: u64,
    /// The process.
    pub pid: Pid,
    /// The task.
    pub tid: Tid,
    /// `call`, `fork`, `exec`, `exit`, `present` or `noticed`.
    pub what: String,
    /// The name of the call.
    pub call_name: Option<String>,
    /// The stack, as an index.
    pub stack: u32,
}

/// The end of a life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    /// `closed`, `replaced`, `closed-in-range`, `closed-on-exec`, `table-gone` or `vanished`.
    pub how: String,
    /// What was told at the time about why: by the stack, without names, or by exec and exit themselves.
    pub cause: Cause,
    /// The verdict over the stack with its names, as an index; `None` where the stack has none, as it is one too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<u32>,
    /// Evidence that the number had left its object.
    pub escape: Option<String>,
    /// The call: `close(3) = 0`.
    pub call: Option<String>,
    /// When, who and where.
    pub moment: MomentRecord,
}

/// Why an end came.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WhyRecord {
    /// In a word. Names tell more than what was told at the time.
    pub cause: Cause,
    /// In a clause: `by reference count, no close() call`.
    pub words: String,
    /// The functions that prove it, innermost first.
    pub proof: Vec<String>,
}

/// A stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRecord {
    /// Its hash, the same in another run ([`Fingerprint`]).
    pub fingerprint: String,
    /// The native frames, innermost first, as indexes.
    pub native: Vec<u32>,
    /// The Python frames, innermost first, as indexes; null where none were looked for, or there was no time.
    pub python: Option<Vec<u32>>,
    /// Why the native stack is incomplete.
    pub incomplete: Option<String>,
}

/// A native frame: one return address, with the functions that were inlined there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FrameRecord {
    /// The file, as an index; null for code without a file.
    pub module: Option<u32>,
    /// The address as the file numbers it.
    pub offset: u64,
    /// The functions, those that were inlined into the next first.
    pub functions: Vec<FunctionRecord>,
}

/// A function at a frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FunctionRecord {
    /// Its name.
    pub function: Option<String>,
    /// The source file.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
}

/// A file that frames lie in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModuleRecord {
    /// The last component of its path.
    pub name: String,
    /// Its GNU build id, in hexadecimal.
    pub build_id: Option<String>,
}

/// The lives that a report lists, and how many more there are.
pub fn listed<'w>(world: &'w World, ledger: &Ledger) -> (Vec<(&'w Life, Mark)>, u64) {
    let own = |l: &'w Life| Some((l, ledger.of_life(l)?.clone()));
    let mut lives: Vec<_> = world.lives().filter_map(own).collect();
    lives.sort_by_key(|(l, _)| l.id);
    let more = lives.len().saturating_sub(MOST);
    lives.truncate(MOST);
    (lives, more as u64)
}

/// The native stacks of lives that are [`listed`] whose names a report shows, each once, and how many more there are.
pub fn named(lives: &[(&Life, Mark)]) -> (Vec<StackId>, u64) {
    let moments = lives.iter().flat_map(|(l, _)| [Some(&l.began), l.end.as_ref().map(|e| &e.moment)]).flatten();
    let mut known = FxHashSet::default();
    let mut stacks = moments.filter_map(|m| m.site.stack).filter(|id| known.insert(*id));
    let named = stacks.by_ref().take(NAMED).collect();
    (named, stacks.count() as u64)
}

impl Lives {
    /// The lives that are remembered.
    pub fn of<N: Names + Stacks>(world: &World, ledger: &mut Ledger, names: &mut N) -> Lives {
        let (lives, unlisted) = listed(world, ledger);
        let (named, unnamed) = named(&lives);
        let mut tables = Tables { named: named.into_iter().collect(), ..Tables::default() };
        let mut objects: FxHashMap<FileId, ObjectRecord> = FxHashMap::default();
        let mut list = Vec::with_capacity(lives.len());
        let copies = Copies::new(world);
        for (life, mark) in lives {
            if let Some(f) = world.file(life.file) {
                let object = || ObjectRecord::of(&Object { id: f.id, file: f.file.clone(), lasted: None });
                objects.entry(f.id).or_insert_with(object);
            }
            let (origin, from) = origin(life.origin);
            list.push(LifeRecord {
                id: life.id,
                fd: life.fd,
                object: life.file,
                cloexec: life.cloexec,
                origin: origin.to_string(),
                from,
                process: mark.place.to_string(),
                ordinal: mark.ordinal,
                began: tables.moment(&life.began, ledger, names),
                ended: life.end.as_ref().map(|e| EndRecord {
                    how: how(e.how).to_string(),
                    cause: match e.moment.what {
                        What::Exec => Cause::Exec,
                        What::Exit => Cause::Exit,
                        _ => e.moment.site.cause,
                    },
                    why: tables.why(&e.moment, copies.moved(life), names),
                    escape: e.moment.site.escape.as_ref().map(escape_words),
                    call: match &e.moment.what {
                        What::Call(info) => Some(call(info, None)),
                        _ => None,
                    },
                    moment: tables.moment(&e.moment, ledger, names),
                }),
            });
        }
        let mut objects: Vec<_> = objects.into_values().collect();
        objects.sort_by_key(|o| o.id);
        let Tables { stacks, frames, python, modules, whys, .. } = tables;
        let (frames, python, modules, whys) = (frames.list, python.list, modules.list, whys.list);
        Lives { list, unlisted, unnamed, objects, stacks, frames, python, modules, whys }
    }

    /// The object of this id.
    pub fn object(&self, id: FileId) -> Option<&ObjectRecord> {
        self.objects.binary_search_by_key(&id, |o| o.id).ok().and_then(|i| self.objects.get(i))
    }

    /// Why an end came; `None` where its stack was given no names.
    pub fn why(&self, end: &EndRecord) -> Option<&WhyRecord> {
        self.whys.get(end.why? as usize)
    }

    /// The stack of this index.
    pub fn stack(&self, index: u32) -> Option<&StackRecord> {
        self.stacks.get(index as usize)
    }
}

fn origin(origin: Origin) -> (&'static str, Option<LifeId>) {
    match origin {
        Origin::Opened => ("opened", None),
        Origin::Duplicated(from) => ("duplicated", Some(from)),
        Origin::Inherited(from) => ("inherited", Some(from)),
        Origin::Unshared(from) => ("unshared", Some(from)),
        Origin::Received(from) => ("received", from),
        Origin::Present => ("present", None),
        Origin::Appeared => ("appeared", None),
    }
}

fn how(how: Ended) -> &'static str {
    match how {
        Ended::Closed => "closed",
        Ended::Replaced => "replaced",
        Ended::ClosedInRange => "closed-in-range",
        Ended::ClosedOnExec => "closed-on-exec",
        Ended::TableGone => "table-gone",
        Ended::Vanished => "vanished",
    }
}

/// Values, each once.
struct Once<T> {
    list: Vec<T>,
    index: FxHashMap<T, u32>,
}

impl<T> Default for Once<T> {
    fn default() -> Once<T> {
        Once { list: Vec::new(), index: FxHashMap::default() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Once<T> {
    fn of(&mut self, value: T) -> u32 {
        if let Some(known) = self.index.get(&value) {
            return *known;
        }
        // The list is bounded by the lives and their stacks, far below.
        let new = self.list.len() as u32;
        self.list.push(value.clone());
        self.index.insert(value, new);
        new
    }
}

#[derive(Default)]
struct Tables {
    /// The stacks to be given names.
    named: FxHashSet<StackId>,
    /// How many bytes of names were looked through.
    names: usize,
    stacks: Vec<StackRecord>,
    known: FxHashMap<(Option<StackId>, Option<PyStackId>), u32>,
    frames: Once<FrameRecord>,
    python: Once<PythonRecord>,
    modules: Once<ModuleRecord>,
    whys: Once<WhyRecord>,
    /// The verdicts so far: ends share their stacks.
    told: FxHashMap<Ending, Option<u32>>,
}

/// All that a verdict is made from.
type Ending = (&'static str, Option<CallName>, Option<StackId>, Option<PyStackId>, Cause, Option<Moved>, Option<Sweep>);

impl Tables {
    fn why<N: Names>(&mut self, moment: &Moment, moved: Option<Moved>, names: &mut N) -> Option<u32> {
        let site = &moment.site;
        if site.stack.is_some_and(|id| !self.named.contains(&id)) {
            return None;
        }
        let call = match &moment.what {
            What::Call(info) => Some(info.name),
            _ => None,
        };
        let sweep = site.stack.and_then(|id| names.sweep(moment.pid, id));
        let key = (what_word(&moment.what), call, site.stack, site.py, site.cause, moved, sweep);
        if let Some(known) = self.told.get(&key) {
            return *known;
        }
        let record = |why: Why| WhyRecord { cause: why.cause, words: why.words, proof: why.proof };
        let told = why(names, moment, moved).map(record).map(|w| self.whys.of(w));
        self.told.insert(key, told);
        told
    }

    fn moment<N: Names + Stacks>(&mut self, moment: &Moment, ledger: &mut Ledger, names: &mut N) -> MomentRecord {
        MomentRecord {
            at_ns: moment.at,
            pid: moment.pid,
            tid: moment.tid,
            what: what_word(&moment.what).to_string(),
            call_name: match &moment.what {
                What::Call(info) => Some(escape(info.name.as_bytes())),
                _ => None,
            },
            stack: self.stack(&moment.site, ledger, names),
        }
    }

    fn stack<N: Names + Stacks>(&mut self, site: &Site, ledger: &mut Ledger, names: &mut N) -> u32 {
        let key = (site.stack, site.py);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let fingerprint = ledger.fingerprint(site, names);
        let native = match site.stack {
            Some(id) => {
                let frames = names.module_frames(id);
                let named = if self.named.contains(&id) { names.by_frame(id) } else { Vec::new() };
                let mut named = named.into_iter();
                frames.iter().map(|f| self.frame(f, &named.next().unwrap_or_default())).collect()
            }
            None => Vec::new(),
        };
        let python = site.py.map(|id| {
            let frames = names.python(id);
            frames.iter().map(|f| self.python.of(crate::render::record::python_record(f))).collect()
        });
        let incomplete = site.stack.and_then(|id| names.truncated(id)).map(|t| escape(t.as_bytes()));
        let new = self.stacks.len() as u32;
        self.stacks.push(StackRecord { fingerprint: fingerprint.to_string(), native, python, incomplete });
        self.known.insert(key, new);
        new
    }

    fn frame(&mut self, frame: &ModuleFrame, named: &[NativeFrame]) -> u32 {
        let safe = |s: &Option<String>| s.as_ref().map(|s| escape(s.as_bytes()));
        let module = (frame.module != crate::identity::UNKNOWN_CODE && !frame.module.is_empty()).then(|| {
            self.modules.of(ModuleRecord { name: escape(frame.module.as_bytes()), build_id: frame.build_id.clone() })
        });
        let text = |s: &Option<String>| s.as_ref().map_or(0, String::len);
        self.names = named.iter().fold(self.names, |sum, f| sum.saturating_add(text(&f.function) + text(&f.file)));
        let named = if self.names <= NAMES { named } else { &[] };
        let functions = named
            .iter()
            .map(|f| FunctionRecord { function: safe(&f.function), file: safe(&f.file), line: f.line })
            .filter(|f| f.function.is_some() || f.file.is_some())
            .collect();
        self.frames.of(FrameRecord { module, offset: frame.offset, functions })
    }
}

/// The fingerprint of a site, as a report shows it; `None` where no stack was taken.
pub(super) fn fingerprint<N: Stacks>(site: &Site, ledger: &mut Ledger, stacks: &N) -> Option<String> {
    let taken = site.stack.is_some() || site.py.is_some();
    taken.then(|| ledger.fingerprint(site, stacks)).as_ref().map(Fingerprint::to_string)
}

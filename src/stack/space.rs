//! Which code is mapped where in one process, read when first needed and again when it proves out of date.

use super::maps::{self, Mapping};
use super::module::Modules;
use super::types::ModuleId;
use crate::base::AddressSpace;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// What is known about the code at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In a module; the number is what to add (wrapping) for the address as the file numbers it.
    Module(ModuleId, u64),
    /// Executable memory without a file.
    Anonymous,
}

#[derive(Clone)]
struct Range {
    start: u64,
    end: u64,
    place: Option<Place>,
}

/// Executable mappings in order, shared between a process and its forked children until one of them changes.
#[derive(Clone, Default)]
struct View {
    ranges: Vec<Range>,
    mappings: Arc<Vec<Mapping>>,
}

/// What of a program's start was seen.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Start {
    /// Nothing yet.
    #[default]
    Unseen,
    /// The loader at work alone, and nobody asking it for more since.
    Seen,
    /// It began unseen, or something was loaded since.
    Over,
}

/// One address space.
#[derive(Clone, Default)]
pub(crate) struct Space {
    view: Arc<View>,
    read: bool,
    /// The loader was at work since the maps were read last.
    stale: bool,
    /// How far it is known what was there from the start.
    start: Start,
    /// What a program is started with is never unloaded.
    lasting: FxHashSet<ModuleId>,
    /// Failures by page of the program counter, and when to try the maps again for it.
    failures: FxHashMap<u64, u32>,
    /// Re-reads in a row that showed nothing new, and captures since the last.
    idle: u32,
    since: u32,
}

/// Pages remembered for failing; the memory is cleared when full.
const MAX_FAILURES: usize = 1024;
/// Re-reads without news before they are spaced out.
const PATIENCE: u32 = 32;

impl Space {
    /// Reads the maps if they were never read; whether there are any.
    pub(crate) fn ensure(&mut self, mem: &dyn AddressSpace) -> bool {
        self.since = self.since.saturating_add(1);
        if !self.read {
            self.reload(mem);
        }
        self.read
    }

    /// Whether `pc` lies in executable memory, as far as is known.
    pub(crate) fn is_code(&self, pc: u64) -> bool {
        self.position(pc).is_some()
    }

    /// Whether the code at two addresses lies in two files; not so if either has none.
    pub(crate) fn in_two_files(&self, a: u64, b: u64) -> bool {
        let of = |pc| self.position(pc).and_then(|i| self.view.mappings.get(i)).filter(|m| m.has_file());
        of(a).zip(of(b)).is_some_and(|(a, b)| (a.dev, a.inode) != (b.dev, b.inode))
    }

    fn position(&self, pc: u64) -> Option<usize> {
        let after = self.view.ranges.partition_point(|r| r.start <= pc);
        let i = after.checked_sub(1)?;
        self.view.ranges.get(i).filter(|r| pc < r.end).map(|_| i)
    }

    /// What lies at `pc`. `hint` is where the last look-up was found, and is updated.
    #[inline]
    pub(crate) fn find(
        &mut self,
        pc: u64,
        hint: &mut usize,
        modules: &mut Modules,
        mem: &dyn AddressSpace,
    ) -> Option<Place> {
        let known = self.view.ranges.get(*hint).filter(|r| r.start <= pc && pc < r.end);
        let range = match known {
            Some(range) => range,
            None => {
                *hint = self.position(pc)?;
                self.view.ranges.get(*hint)?
            }
        };
        match range.place {
            Some(place) => Some(place),
            None => self.resolve(*hint, modules, mem),
        }
    }

    #[cold]
    fn resolve(&mut self, i: usize, modules: &mut Modules, mem: &dyn AddressSpace) -> Option<Place> {
        let mapping = self.view.mappings.get(i)?;
        let place = match modules.resolve(mapping, mem) {
            Some((id, bias)) => Place::Module(id, bias),
            None => Place::Anonymous,
        };
        Arc::make_mut(&mut self.view).ranges.get_mut(i)?.place = Some(place);
        Some(place)
    }

    /// Reads the maps again after a stack could not be followed at `pc`, if that may help; whether they changed.
    ///
    /// Each page that fails is given the 1st, 2nd, 4th, 8th … chance, so that code mapped later is found while code
    /// that stays unknown costs next to nothing; a stack full of nonsense is held back by the count of vain readings.
    #[cold]
    pub(crate) fn retry(&mut self, pc: u64, mem: &dyn AddressSpace) -> bool {
        if self.failures.len() >= MAX_FAILURES {
            self.failures.clear();
        }
        let count = self.failures.entry(pc >> 12).or_default();
        *count = count.saturating_add(1);
        if !count.is_power_of_two() || (self.idle > PATIENCE && self.since < self.idle) {
            return false;
        }
        self.reload(mem)
    }

    /// Reads the maps again if the loader may have changed them since; whether it did. `loader` says whether the loader is
    /// at work now, `others` what else the stack leads through.
    ///
    /// A library that takes the place of one that was unloaded shows in no failure: the stack would be followed by the
    /// other's unwind information, and named by its symbols. But loading one takes an `open` and a `close` by the loader
    /// itself, and at both a stack is captured.
    ///
    /// What was there before the program ran stays to its end; only what was loaded later can be unloaded (dlopen(3)).
    pub(crate) fn refresh(
        &mut self,
        loader: bool,
        others: impl Iterator<Item = ModuleId>,
        mem: &dyn AddressSpace,
    ) -> bool {
        let mut others = others.peekable();
        let alone = loader && others.peek().is_none();
        if self.start == Start::Unseen {
            self.start = if alone { Start::Seen } else { Start::Over };
        }
        let mut due = false;
        match self.start {
            // Who asks it for more was there before.
            Start::Seen => self.lasting.extend(others),
            _ => due = self.stale && others.any(|id| !self.lasting.contains(&id)),
        }
        if loader && !alone {
            self.start = Start::Over;
        }
        self.stale = loader || (self.stale && !due);
        if !due {
            return false;
        }
        // Such a reading is not in vain when it shows nothing new.
        let (idle, since) = (self.idle, self.since);
        let news = self.reload(mem);
        if !news {
            (self.idle, self.since) = (idle, since);
        }
        news
    }

    fn reload(&mut self, mem: &dyn AddressSpace) -> bool {
        self.since = 0;
        let Ok(text) = mem.maps() else { return false };
        let mappings = maps::executable(&text);
        if self.read && *self.view.mappings == mappings {
            self.idle = self.idle.saturating_add(1);
            return false;
        }
        self.idle = 0;
        // What stayed where it was keeps its module.
        let old: FxHashMap<u64, (&Mapping, Option<Place>)> =
            self.view.mappings.iter().zip(&self.view.ranges).map(|(m, r)| (m.start, (m, r.place))).collect();
        let ranges = mappings
            .iter()
            .map(|m| Range {
                start: m.start,
                end: m.end,
                place: old.get(&m.start).filter(|(was, _)| *was == m).and_then(|(_, place)| *place),
            })
            .collect();
        self.view = Arc::new(View { ranges, mappings: Arc::new(mappings) });
        self.read = true;
        true
    }
}

//! Each distinct stack once, under a small number.

use super::types::{Frame, StackEnd, Why};
use crate::base::StackId;
use rustc_hash::{FxHashMap, FxHasher};
use std::hash::{Hash, Hasher};

/// All frames kept together are at most this many (24 bytes each): 12 MiB. A program that makes ever new stacks (code
/// that writes code, a recursion that opens at each depth) must not make fdwatch grow with its events.
const MAX_FRAMES_KEPT: usize = 512 << 10;
/// And no more stacks than this, which a program with short ones would reach first.
const MAX_STACKS: usize = 64 << 10;

struct Entry {
    start: u32,
    len: u32,
    end: StackEnd,
    /// Another entry with the same hash.
    next: Option<u32>,
}

/// The stacks seen so far. A look-up of a known stack allocates nothing.
pub(crate) struct Interner {
    frames: Vec<Frame>,
    entries: Vec<Entry>,
    first: FxHashMap<u64, u32>,
}

impl Interner {
    /// An interner that holds one stack: [`Interner::OVERFLOW`].
    pub(crate) fn new() -> Self {
        let overflow = Entry { start: 0, len: 0, end: StackEnd::Truncated(Why::TooManyStacks), next: None };
        Self { frames: Vec::new(), entries: vec![overflow], first: FxHashMap::default() }
    }

    /// Stands for every stack that came when the interner was full.
    pub(crate) const OVERFLOW: StackId = StackId(0);

    /// The number of the stack `frames`, innermost first, that ended with `end`.
    pub(crate) fn intern(&mut self, frames: &[Frame], end: StackEnd) -> StackId {
        let mut hasher = FxHasher::default();
        frames.hash(&mut hasher);
        end.hash(&mut hasher);
        self.intern_hashed(hasher.finish(), frames, end)
    }

    fn intern_hashed(&mut self, hash: u64, frames: &[Frame], end: StackEnd) -> StackId {
        let mut at = self.first.get(&hash).copied();
        let next = at;
        while let Some(i) = at {
            let Some(entry) = self.entries.get(i as usize) else { break };
            if entry.end == end && self.slice(entry) == frames {
                return StackId(i);
            }
            at = entry.next;
        }
        let (Ok(start), Ok(len), Ok(id)) =
            (u32::try_from(self.frames.len()), u32::try_from(frames.len()), u32::try_from(self.entries.len()))
        else {
            return Self::OVERFLOW;
        };
        if self.frames.len() + frames.len() > MAX_FRAMES_KEPT || self.entries.len() > MAX_STACKS {
            return Self::OVERFLOW;
        }
        self.frames.extend_from_slice(frames);
        self.entries.push(Entry { start, len, end, next });
        self.first.insert(hash, id);
        StackId(id)
    }

    fn slice(&self, entry: &Entry) -> &[Frame] {
        let start = entry.start as usize;
        self.frames.get(start..start + entry.len as usize).unwrap_or_default()
    }

    /// The frames of a stack, none for a number that was never given out.
    pub(crate) fn frames(&self, id: StackId) -> &[Frame] {
        self.entries.get(id.0 as usize).map(|e| self.slice(e)).unwrap_or_default()
    }

    pub(crate) fn end(&self, id: StackId) -> StackEnd {
        self.entries.get(id.0 as usize).map_or(StackEnd::Truncated(Why::TooManyStacks), |e| e.end)
    }

    /// How many distinct stacks are kept.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::types::{FrameKind, ModuleId};

    fn frame(offset: u64) -> Frame {
        Frame { module: Some(ModuleId(0)), offset, kind: FrameKind::ReturnAddress }
    }

    #[test]
    fn equal_stacks_share_a_number_and_others_do_not() {
        let mut i = Interner::new();
        let a = i.intern(&[frame(1), frame(2)], StackEnd::Complete);
        let b = i.intern(&[frame(1)], StackEnd::Complete);
        let c = i.intern(&[frame(1), frame(2)], StackEnd::Truncated(Why::NoMaps));
        assert_eq!(i.intern(&[frame(1), frame(2)], StackEnd::Complete), a);
        assert!(a != b && b != c && a != c);
        assert_eq!(i.frames(a), [frame(1), frame(2)]);
        assert_eq!((i.end(a), i.end(c)), (StackEnd::Complete, StackEnd::Truncated(Why::NoMaps)));
        assert_eq!(i.len(), 3);
    }

    #[test]
    fn a_collision_of_hashes_is_not_equality() {
        let mut i = Interner::new();
        let ids: Vec<_> = (0..5).map(|n| i.intern_hashed(7, &[frame(n)], StackEnd::Complete)).collect();
        for (n, &id) in ids.iter().enumerate() {
            assert_eq!(i.frames(id), [frame(n as u64)]);
            assert_eq!(i.intern_hashed(7, &[frame(n as u64)], StackEnd::Complete), id);
        }
    }

    #[test]
    fn ever_new_stacks_are_kept_up_to_a_bound() {
        for depth in [1, 40] {
            let mut i = Interner::new();
            let stack = |n: u64| (0..depth).map(|d| frame(n << 8 | d)).collect::<Vec<_>>();
            let first = i.intern(&stack(0), StackEnd::Complete);
            let full = (1..).take_while(|n| i.intern(&stack(*n), StackEnd::Complete) != Interner::OVERFLOW).count();
            assert!((10_000..=MAX_STACKS).contains(&full), "{full} stacks of {depth}");
            assert!(i.frames.len() <= MAX_FRAMES_KEPT);
            assert_eq!(i.intern(&stack(0), StackEnd::Complete), first, "what is known stays known");
            assert_eq!(i.end(Interner::OVERFLOW), StackEnd::Truncated(Why::TooManyStacks));
        }
    }

    #[test]
    fn an_unknown_number_has_no_frames() {
        let i = Interner::new();
        assert!(i.frames(StackId(99)).is_empty());
        assert_eq!(i.end(StackId(99)), StackEnd::Truncated(Why::TooManyStacks));
    }

    #[test]
    fn a_frame_stays_small() {
        assert_eq!(std::mem::size_of::<Frame>(), 24);
    }
}

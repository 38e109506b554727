//! The tracee's stack, read in large pieces into buffers that are used again.

use crate::base::ReadMemory;

/// First and smallest piece, in bytes; most stacks lie within it.
const SMALLEST: usize = 16 << 10;
/// Largest first piece.
const LARGEST: usize = 128 << 10;
/// Size of every further piece.
const FURTHER: usize = 32 << 10;
/// Further pieces for one stack: a hostile stack may ask for a new one with every word.
const MAX_FURTHER: u32 = 64;
/// Further pieces that are kept at once. Go's stack and C's take turns, and each turn also reads what Go knows of the
/// goroutine.
const SIDES: usize = 4;

/// Bytes of a task's stack that have been read at this stop.
#[derive(Clone, Copy, Default)]
pub struct Stretch<'a> {
    base: u64,
    bytes: &'a [u8],
}

impl<'a> Stretch<'a> {
    /// `bytes` were read from `base` on.
    pub fn new(base: u64, bytes: &'a [u8]) -> Stretch<'a> {
        Stretch { base, bytes }
    }

    /// The `n` bytes at `addr`, if all of them are among those that were read.
    pub fn get(self, addr: u64, n: usize) -> Option<&'a [u8]> {
        let at = usize::try_from(addr.checked_sub(self.base)?).ok()?;
        self.bytes.get(at..at.checked_add(n)?)
    }
}

/// Buffers for one unwinder; `begin` starts a new stack.
pub(crate) struct Window {
    main: Chunk,
    /// What lies outside `main`, the piece used last first: the far end of a deep stack, or the other stack that a signal
    /// handler ran on.
    sides: [Chunk; SIDES],
    further: u32,
    /// Whether one more piece was asked for than are read.
    spent: bool,
    /// How much to read first, grown when stacks turn out deeper and shrunk when that was long ago.
    want: usize,
    since_grown: u32,
}

struct Chunk {
    base: u64,
    len: usize,
    bytes: Vec<u8>,
}

impl Chunk {
    fn fill(&mut self, mem: &dyn ReadMemory, base: u64, len: usize) {
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
        self.base = base;
        let room = self.bytes.get_mut(..len).unwrap_or_default();
        self.len = mem.read(base, room).min(len);
    }

    #[inline]
    fn word<const N: usize>(&self, addr: u64) -> Option<[u8; N]> {
        let at = usize::try_from(addr.wrapping_sub(self.base)).ok()?;
        let end = at.checked_add(N).filter(|&end| end <= self.len)?;
        self.bytes.get(at..end)?.try_into().ok()
    }
}

impl Window {
    pub(crate) fn new() -> Self {
        let chunk = || Chunk { base: 0, len: 0, bytes: Vec::new() };
        let sides = std::array::from_fn(|_| chunk());
        Self { main: chunk(), sides, further: 0, spent: false, want: SMALLEST, since_grown: 0 }
    }

    /// Forgets the last stack and reads the first piece of one that begins at `sp`.
    pub(crate) fn begin(&mut self, mem: &dyn ReadMemory, sp: u64) {
        if self.further > 0 && self.want < LARGEST {
            self.want *= 2;
            self.since_grown = 0;
        } else {
            self.since_grown += 1;
            if self.since_grown >= 1024 {
                self.since_grown = 0;
                self.want = (self.want / 2).max(SMALLEST);
            }
        }
        self.further = 0;
        self.spent = false;
        self.sides.iter_mut().for_each(|side| side.len = 0);
        let want = self.want;
        self.main.fill(mem, sp, want);
    }

    /// The first piece of the stack that was read last.
    pub(crate) fn stretch(&self) -> Stretch<'_> {
        Stretch::new(self.main.base, self.main.bytes.get(..self.main.len).unwrap_or_default())
    }

    /// The little-endian word of 8 bytes at `addr`.
    #[inline]
    pub(crate) fn word(&mut self, mem: &dyn ReadMemory, addr: u64) -> Option<u64> {
        match self.main.word(addr) {
            Some(b) => Some(u64::from_le_bytes(b)),
            None => self.elsewhere(mem, addr).map(u64::from_le_bytes),
        }
    }

    /// The little-endian word of 4 bytes at `addr`.
    #[inline]
    pub(crate) fn half(&mut self, mem: &dyn ReadMemory, addr: u64) -> Option<u64> {
        let b = match self.main.word(addr) {
            Some(b) => b,
            None => self.elsewhere(mem, addr)?,
        };
        Some(u64::from(u32::from_le_bytes(b)))
    }

    #[cold]
    fn elsewhere<const N: usize>(&mut self, mem: &dyn ReadMemory, addr: u64) -> Option<[u8; N]> {
        let held = self.sides.iter().enumerate().find_map(|(i, side)| Some((i, side.word(addr)?)));
        if let Some((i, b)) = held {
            if let Some(used) = self.sides.get_mut(..=i) {
                used.rotate_right(1);
            }
            return Some(b);
        }
        if self.further >= MAX_FURTHER {
            self.spent = true;
            return None;
        }
        self.further += 1;
        // What could not be read stays the last, and is the first to go.
        let last = self.sides.last_mut()?;
        last.fill(mem, addr, FURTHER);
        let b = last.word(addr)?;
        self.sides.rotate_right(1);
        Some(b)
    }

    /// Whether more was asked for since [`Window::begin`] than is read of one stack.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Count(Cell<u32>);
    impl ReadMemory for Count {
        fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
            self.0.set(self.0.get() + 1);
            for (i, b) in buf.iter_mut().enumerate() {
                *b = (addr.wrapping_add(i as u64) / 8) as u8;
            }
            buf.len()
        }
    }

    #[test]
    fn one_read_serves_a_shallow_stack_and_few_a_deep_one() {
        let (mem, mut w) = (Count(Cell::new(0)), Window::new());
        w.begin(&mem, 0x1000);
        for at in (0x1000..0x1000 + SMALLEST as u64).step_by(8) {
            assert_eq!(w.word(&mem, at).map(|v| v as u8), Some((at / 8) as u8));
        }
        assert_eq!(mem.0.get(), 1);
        assert!(w.word(&mem, 0x1000 + SMALLEST as u64).is_some());
        assert_eq!(mem.0.get(), 2);
    }

    #[test]
    fn a_hostile_stack_cannot_ask_for_ever() {
        let (mem, mut w) = (Count(Cell::new(0)), Window::new());
        w.begin(&mem, 0x1000);
        for n in 0..10_000u64 {
            w.word(&mem, n << 32);
            assert_eq!(w.is_spent(), n >= u64::from(MAX_FURTHER), "{n}");
        }
        assert_eq!(mem.0.get(), MAX_FURTHER + 1);
        w.begin(&mem, 0x1000);
        assert!(!w.is_spent());
    }

    #[test]
    fn stacks_that_take_turns_are_read_once() {
        let (mem, mut w) = (Count(Cell::new(0)), Window::new());
        w.begin(&mem, 0x1000);
        for turn in 0..1000u64 {
            for piece in 1..=SIDES as u64 {
                assert!(w.word(&mem, (piece << 32) + turn * 8).is_some());
            }
        }
        assert_eq!(mem.0.get(), 1 + SIDES as u32);
        // The piece that was used longest ago makes room.
        w.word(&mem, 9 << 32);
        w.word(&mem, 2 << 32);
        assert_eq!(mem.0.get(), 2 + SIDES as u32);
        w.word(&mem, 1 << 32);
        assert_eq!(mem.0.get(), 3 + SIDES as u32);
    }

    #[test]
    fn addresses_at_the_end_of_the_world_are_no_trouble() {
        let (mem, mut w) = (Count(Cell::new(0)), Window::new());
        w.begin(&mem, u64::MAX - 7);
        w.word(&mem, u64::MAX - 3);
        w.word(&mem, u64::MAX);
        w.half(&mem, 0);
    }
}

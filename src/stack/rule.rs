//! How to get from one frame to its caller, as a small value that is executed apart from where it was found.

use super::types::Why;
use super::window::Window;
use crate::base::{ReadMemory, Regs};
use gimli::{EndianSlice, EvaluationResult, LittleEndian, Value};

/// Number of registers followed: the 16 general ones and the return address (DWARF columns 0–16 of the x86-64 psABI).
pub(crate) const REGISTERS: usize = 17;

/// How a processor mode numbers its registers in DWARF, and what a call preserves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Size of a word in bytes, 8 or 4.
    pub(crate) word: u64,
    pub(crate) sp: u8,
    pub(crate) fp: u8,
    pub(crate) ra: u8,
    /// The registers that a [`Plain`] rule restores; the first is the return address.
    pub(crate) slots: [u8; SLOTS],
}

const SLOTS: usize = 7;

/// x86-64 psABI, figure "DWARF Register Number Mapping".
pub(crate) static X86_64: Machine = Machine { word: 8, sp: 7, fp: 6, ra: 16, slots: [16, 3, 6, 12, 13, 14, 15] };
/// i386 psABI; two slots of [`Plain`] stay unused and repeat the last register.
pub(crate) static I386: Machine = Machine { word: 4, sp: 4, fp: 5, ra: 8, slots: [8, 3, 5, 6, 7, 7, 7] };

impl Machine {
    pub(crate) fn of(regs: &Regs) -> &'static Machine {
        if regs.is_32bit() { &I386 } else { &X86_64 }
    }

    /// A sum of addresses as the processor makes it.
    pub(crate) fn wrapped(&self, addr: u64) -> u64 {
        addr & self.mask()
    }

    fn mask(&self) -> u64 {
        if self.word == 4 { u64::from(u32::MAX) } else { u64::MAX }
    }
}

/// Registers of one frame by DWARF number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registers {
    value: [u64; REGISTERS],
    known: u32,
}

impl Registers {
    pub(crate) fn new(r: &Regs) -> Self {
        let value = if r.is_32bit() {
            [r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.rip, 0, 0, 0, 0, 0, 0, 0, 0]
                .map(|v| v & I386.mask())
        } else {
            [
                r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14,
                r.r15, r.rip,
            ]
        };
        Self { value, known: u32::MAX }
    }

    #[inline]
    pub(crate) fn get(&self, reg: u8) -> Option<u64> {
        let known = self.known >> reg.min(31) & 1 == 1;
        self.value.get(usize::from(reg)).copied().filter(|_| known)
    }

    #[inline]
    pub(crate) fn set(&mut self, reg: u8, value: Option<u64>) {
        if let Some(place) = self.value.get_mut(usize::from(reg)) {
            match value {
                Some(v) => {
                    *place = v;
                    self.known |= 1 << reg;
                }
                None => self.known &= !(1 << reg),
            }
        }
    }
}

/// What the unwind information says at one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Nothing usable, and why.
    Missing(Why),
    /// The frame has no caller.
    Outermost,
    /// No unwind information, but where the file is entered: nobody calls that.
    Entry,
    /// It was called on another stack (Go's `systemstack`).
    Switch,
    /// What nearly all code needs.
    Plain(Plain),
    /// The same, by Go's table of functions and not by unwind information: the end of a signal handler looks like a function
    /// there.
    Table(Plain),
    /// Anything else; the number is the caller's index of a [`Full`].
    Full(u32),
}

/// A rule without allocation: the CFA from one register, registers saved at fixed distances from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) base: u8,
    /// Whether the CFA is the *word at* `base + offset` (a realigned stack) instead of the sum itself.
    pub(crate) load: bool,
    pub(crate) offset: i32,
    /// For each of [`Machine::slots`] its distance from the CFA, or [`KEPT`].
    pub(crate) saved: [i32; SLOTS],
}

/// A register that the frame has left alone.
pub(crate) const KEPT: i32 = i32::MIN;

impl Plain {
    /// Code that keeps a frame pointer and says nothing else about itself.
    pub(crate) fn frame_pointer(m: &Machine) -> Self {
        let word = m.word as i32;
        let mut saved = [KEPT; SLOTS];
        for (place, &reg) in saved.iter_mut().zip(&m.slots) {
            if reg == m.ra {
                *place = -word;
            } else if reg == m.fp {
                *place = -2 * word;
            }
        }
        Self { base: m.fp, load: false, offset: 2 * word, saved }
    }

    /// Code that has put nothing onto the stack.
    pub(crate) fn no_frame(m: &Machine) -> Self {
        let word = m.word as i32;
        // The first slot is the return address.
        Self { base: m.sp, load: false, offset: word, saved: [-word, KEPT, KEPT, KEPT, KEPT, KEPT, KEPT] }
    }
}

/// A rule for any unwind information: signal trampolines, hand-written assembly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) cfa: Where,
    pub(crate) registers: Vec<(u8, Where)>,
    /// The frame was made by the kernel for a signal: its caller was interrupted, it made no call.
    pub(crate) signal: bool,
}

/// Where a value of the calling frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    Kept,
    Lost,
    /// In memory, this far from the CFA.
    AtCfa(i64),
    /// The CFA plus this.
    Cfa(i64),
    /// A register plus this.
    Sum(u8, i64),
    /// In memory at a register plus this.
    AtSum(u8, i64),
    Constant(u64),
    /// A DWARF expression that gives the value.
    Value(Box<[u8]>),
    /// A DWARF expression that gives the address of the value.
    Address(Box<[u8]>),
}

/// A stack and the process it lies in, for the execution of rules.
pub(crate) struct Memory<'a> {
    pub(crate) window: &'a mut Window,
    pub(crate) mem: &'a dyn ReadMemory,
}

impl Memory<'_> {
    #[inline]
    pub(crate) fn load(&mut self, m: &Machine, addr: u64) -> Option<u64> {
        if m.word == 8 { self.window.word(self.mem, addr) } else { self.window.half(self.mem, addr) }
    }
}

impl Plain {
    /// Turns `regs` into the caller's and returns the CFA, the caller's stack pointer.
    #[inline]
    pub(crate) fn step(&self, m: &Machine, regs: &mut Registers, mem: &mut Memory<'_>) -> Result<u64, Why> {
        let base = regs.get(self.base).ok_or(Why::LostRegister)?;
        let sum = base.wrapping_add_signed(i64::from(self.offset)) & m.mask();
        let cfa = if self.load { mem.load(m, sum).ok_or(Why::UnreadableStack)? } else { sum };
        for (&reg, &saved) in m.slots.iter().zip(&self.saved) {
            if saved != KEPT {
                let value = mem.load(m, cfa.wrapping_add_signed(i64::from(saved)) & m.mask());
                regs.set(reg, value);
            }
        }
        regs.set(m.sp, Some(cfa));
        regs.get(m.ra).map(|_| cfa).ok_or(Why::UnreadableStack)
    }
}

impl Full {
    /// As [`Plain::step`].
    pub(crate) fn step(&self, m: &Machine, regs: &mut Registers, mem: &mut Memory<'_>) -> Result<u64, Why> {
        let old = *regs;
        let cfa = self.cfa.value(m, &old, 0, mem)?.ok_or(Why::LostRegister)?;
        regs.set(m.sp, Some(cfa));
        for (reg, place) in &self.registers {
            // A register that cannot be had is lost, which matters only if somebody asks for it.
            match place {
                Where::Kept => regs.set(*reg, old.get(*reg)),
                place => regs.set(*reg, place.value(m, &old, cfa, mem).ok().flatten()),
            }
        }
        regs.get(m.ra).map(|_| cfa).ok_or(Why::UnreadableStack)
    }
}

impl Where {
    /// `Ok(None)` for a value that was not preserved.
    fn value(&self, m: &Machine, regs: &Registers, cfa: u64, mem: &mut Memory<'_>) -> Result<Option<u64>, Why> {
        let at = |mem: &mut Memory<'_>, addr: u64| match mem.load(m, addr & m.mask()) {
            Some(v) => Ok(Some(v)),
            None => Err(Why::UnreadableStack),
        };
        let sum = |reg: u8, off: i64| regs.get(reg).map(|v| v.wrapping_add_signed(off) & m.mask());
        match self {
            Where::Kept | Where::Lost => Ok(None),
            Where::AtCfa(off) => at(mem, cfa.wrapping_add_signed(*off)),
            Where::Cfa(off) => Ok(Some(cfa.wrapping_add_signed(*off) & m.mask())),
            Where::Sum(reg, off) => Ok(sum(*reg, *off)),
            Where::AtSum(reg, off) => at(mem, sum(*reg, *off).ok_or(Why::LostRegister)?),
            Where::Constant(v) => Ok(Some(v & m.mask())),
            Where::Value(code) => evaluate(code, m, regs, cfa, mem).map(Some),
            Where::Address(code) => {
                let addr = evaluate(code, m, regs, cfa, mem)?;
                at(mem, addr)
            }
        }
    }
}

/// Operations of one expression: real ones need fewer than 20, a hostile one may loop.
const MAX_OPERATIONS: u32 = 1000;

/// Runs a DWARF expression whose stack begins with the CFA, as DWARF 5 §6.4.2 says for register rules.
fn evaluate(code: &[u8], m: &Machine, regs: &Registers, cfa: u64, mem: &mut Memory<'_>) -> Result<u64, Why> {
    let encoding = gimli::Encoding { address_size: m.word as u8, format: gimli::Format::Dwarf32, version: 4 };
    let bad = |_| Why::BadUnwindInfo;
    let mut run = gimli::Evaluation::new(EndianSlice::new(code, LittleEndian), encoding);
    run.set_initial_value(cfa);
    run.set_max_iterations(MAX_OPERATIONS);
    let mut state = run.evaluate().map_err(bad)?;
    loop {
        state = match state {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresMemory { address, size, .. } => {
                let size = u32::from(size).min(8);
                let word = if size == 4 || m.word == 4 {
                    mem.window.half(mem.mem, address)
                } else {
                    mem.window.word(mem.mem, address)
                };
                let keep = 1u64.checked_shl(size * 8).map_or(u64::MAX, |bit| bit - 1);
                let word = word.ok_or(Why::UnreadableStack)? & keep;
                run.resume_with_memory(Value::Generic(word)).map_err(bad)?
            }
            EvaluationResult::RequiresRegister { register, .. } => {
                let reg = u8::try_from(register.0).map_err(|_| Why::LostRegister)?;
                let value = regs.get(reg).ok_or(Why::LostRegister)?;
                run.resume_with_register(Value::Generic(value)).map_err(bad)?
            }
            EvaluationResult::RequiresCallFrameCfa => run.resume_with_call_frame_cfa(cfa).map_err(bad)?,
            _ => return Err(Why::BadUnwindInfo),
        };
    }
    match run.as_result() {
        [gimli::Piece { location: gimli::Location::Address { address }, .. }] => Ok(address & m.mask()),
        _ => Err(Why::BadUnwindInfo),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory whose word at `a` is `a + 1`, up to a border.
    struct Words(u64);
    impl ReadMemory for Words {
        fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
            let n = self.0.saturating_sub(addr).min(buf.len() as u64) as usize;
            for (i, b) in buf[..n].iter_mut().enumerate() {
                let at = addr + i as u64;
                *b = ((at & !7) + 1).to_le_bytes()[at as usize & 7];
            }
            n
        }
    }

    fn with<T>(words: &Words, f: impl FnOnce(&mut Memory<'_>) -> T) -> T {
        let mut window = Window::new();
        window.begin(words, 0x1000);
        f(&mut Memory { window: &mut window, mem: words })
    }

    fn regs() -> Registers {
        Registers::new(&Regs { rsp: 0x1000, rbp: 0x1100, rip: 0x40, cs: 0x33, ..Regs::default() })
    }

    #[test]
    fn a_plain_rule_restores_what_was_saved() {
        let mut r = regs();
        let fp = Plain::frame_pointer(&X86_64);
        let cfa = with(&Words(1 << 40), |mem| fp.step(&X86_64, &mut r, mem));
        assert_eq!(cfa, Ok(0x1110));
        assert_eq!((r.get(6), r.get(7), r.get(16)), (Some(0x1101), Some(0x1110), Some(0x1109)));
    }

    #[test]
    fn hostile_registers_overflow_without_harm() {
        for value in [0, 1, 7, u64::MAX, u64::MAX - 7, 1 << 63, i64::MAX as u64] {
            let all = Regs { rsp: value, rbp: value, rip: value, cs: 0x33, ..Regs::default() };
            for offset in [0, 8, i32::MAX, i32::MIN] {
                for load in [false, true] {
                    let rule = Plain { base: 7, load, offset, saved: [i32::MAX; SLOTS] };
                    let mut r = Registers::new(&all);
                    let got = with(&Words(0x2000), |mem| rule.step(&X86_64, &mut r, mem));
                    assert!(got.is_err() || r.get(16).is_some());
                }
            }
        }
    }

    #[test]
    fn a_lost_register_is_reported_not_guessed() {
        let mut r = regs();
        r.set(6, None);
        let fp = Plain::frame_pointer(&X86_64);
        assert_eq!(with(&Words(1 << 40), |mem| fp.step(&X86_64, &mut r, mem)), Err(Why::LostRegister));
    }

    #[test]
    fn an_unreadable_return_address_ends_the_stack() {
        let mut r = regs();
        let fp = Plain::frame_pointer(&X86_64);
        assert_eq!(with(&Words(0x1108), |mem| fp.step(&X86_64, &mut r, mem)), Err(Why::UnreadableStack));
    }

    #[test]
    fn thirty_two_bit_sums_wrap_at_thirty_two_bits() {
        let mut r = Registers::new(&Regs { rbp: 0xffff_fff8, cs: 0x23, ..Regs::default() });
        let rule = Plain { base: I386.fp, load: false, offset: 16, saved: [KEPT; SLOTS] };
        assert_eq!(with(&Words(1 << 40), |mem| rule.step(&I386, &mut r, mem)), Ok(8));
    }

    #[test]
    fn expressions_run_and_endless_ones_stop() {
        // DW_OP_breg7 16, DW_OP_deref
        let code = [0x77, 16, 0x06];
        let got = with(&Words(1 << 40), |mem| evaluate(&code, &X86_64, &regs(), 0, mem));
        assert_eq!(got, Ok(0x1011));
        // DW_OP_skip -3: for ever
        let got = with(&Words(1 << 40), |mem| evaluate(&[0x2f, 0xfd, 0xff], &X86_64, &regs(), 0, mem));
        assert_eq!(got, Err(Why::BadUnwindInfo));
    }

    #[test]
    fn rules_stay_small() {
        assert!(std::mem::size_of::<Rule>() <= 40);
    }
}

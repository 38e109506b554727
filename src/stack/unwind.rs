//! From registers and a stack to frames.

use super::goswitch::{self, GoSwitches};
use super::module::{Module, Modules};
use super::rule::{Full, Machine, Memory, Plain, Registers, Rule, Where};
use super::space::{Place, Space};
use super::types::{Frame, FrameKind, ModuleId, StackEnd, Why};
use super::window::{Stretch, Window};
use crate::base::{AddressSpace, ReadMemory, Regs};
use gimli::UnwindContext;
use rustc_hash::FxHashMap;

/// Frames of one stack; what lies further out is cut off.
pub const MAX_FRAMES: usize = 256;

/// Rules kept; all are forgotten when there are more.
const MAX_RULES: usize = 1 << 17;
/// Signal handlers that interrupt one another in one capture, and Go's calls on another stack. Each may lie on another
/// stack, so that nothing else would end a walk that goes round between two.
const MAX_SWITCHES: u32 = 32;
/// A frame larger than this is not believed when only a frame pointer says so, in bytes.
const MAX_FRAME: u64 = 8 << 20;

/// The unwinder's buffers and its memory of rules.
pub(crate) struct Unwinder {
    rules: FxHashMap<(ModuleId, u64), Rule>,
    full: Vec<Full>,
    go: GoSwitches,
    ctx: Box<UnwindContext<usize>>,
    window: Window,
    pub(crate) frames: Vec<Frame>,
    /// The canonical frame address of each frame but the outermost, which has none: what is just above its return address.
    pub(crate) cfas: Vec<u64>,
}

/// What to do at one program counter.
enum Step {
    Rule(Rule),
    /// Code without a file: a frame pointer or the kernel's signal return may still lead on.
    Unknown,
}

impl Unwinder {
    pub(crate) fn new() -> Self {
        Self {
            rules: FxHashMap::default(),
            full: Vec::new(),
            go: GoSwitches::default(),
            ctx: Box::default(),
            window: Window::new(),
            frames: Vec::with_capacity(MAX_FRAMES),
            cfas: Vec::with_capacity(MAX_FRAMES),
        }
    }

    /// The first piece of the stack that was walked last.
    pub(crate) fn stretch(&self) -> Stretch<'_> {
        self.window.stretch()
    }

    /// Fills `self.frames`. When the stack could not be followed to its end, also the program counter where it stopped.
    pub(crate) fn walk(
        &mut self,
        regs: &Regs,
        space: &mut Space,
        modules: &mut Modules,
        mem: &dyn AddressSpace,
    ) -> (StackEnd, u64) {
        self.frames.clear();
        self.cfas.clear();
        if self.rules.len() >= MAX_RULES || self.full.len() >= MAX_RULES || self.go.is_large(MAX_RULES) {
            self.rules.clear();
            self.go = GoSwitches::default();
            self.full.clear();
        }
        let m = Machine::of(regs);
        let mut regs = Registers::new(regs);
        let mut pc = regs.get(m.ra).unwrap_or(0);
        let mut sp = regs.get(m.sp).unwrap_or(0);
        self.window.begin(mem, sp);
        let mut exact = true;
        let mut switches = 0;
        let mut hint = 0;
        loop {
            let truncated = |why| (StackEnd::Truncated(why), pc);
            if self.frames.len() >= MAX_FRAMES {
                return truncated(Why::TooDeep);
            }
            let look = if exact { pc } else { pc.saturating_sub(1) };
            let kind = if exact { FrameKind::Exact } else { FrameKind::ReturnAddress };
            let place = space.find(look, &mut hint, modules, mem);
            let frame = match place {
                Some(Place::Module(id, bias)) => Frame { module: Some(id), offset: pc.wrapping_add(bias), kind },
                Some(Place::Anonymous) => Frame { module: None, offset: pc, kind },
                // The innermost frame is a fact; a return address without code is none.
                None if self.frames.is_empty() => Frame { module: None, offset: pc, kind },
                None => return truncated(Why::NotMapped),
            };
            self.frames.push(frame);
            let step = match place {
                Some(Place::Module(id, bias)) => match self.rule(id, look.wrapping_add(bias), m, modules) {
                    Rule::Missing(Why::NoUnwindInfo) => Step::Unknown,
                    rule => Step::Rule(rule),
                },
                Some(Place::Anonymous) => Step::Unknown,
                None => return truncated(Why::NotMapped),
            };
            let mut memory = Memory { window: &mut self.window, mem };
            let (mut signal, mut switched) = (false, false);
            let cfa = match step {
                Step::Rule(Rule::Outermost) => return (StackEnd::Complete, pc),
                Step::Rule(Rule::Entry) => match direct_call(pc, sp, exact, m, &mut regs, &mut memory) {
                    Some(sp) => Ok(sp),
                    None => return (StackEnd::Complete, pc),
                },
                Step::Rule(Rule::Switch) => {
                    switched = true;
                    let code = Code { space, modules, mem };
                    self.go.step(look, sp, m, &mut regs, &mut memory, code).ok_or(Why::NoUnwindInfo)
                }
                Step::Rule(Rule::Missing(why)) => return truncated(why),
                Step::Rule(Rule::Plain(plain)) => plain.step(m, &mut regs, &mut memory),
                Step::Rule(Rule::Table(plain)) => match signal_return(pc, m, &mut regs, &mut memory) {
                    Some(sp) => {
                        signal = true;
                        Ok(sp)
                    }
                    None => plain.step(m, &mut regs, &mut memory),
                },
                Step::Rule(Rule::Full(i)) => match self.full.get(i as usize) {
                    Some(full) => {
                        signal = full.signal;
                        full.step(m, &mut regs, &mut memory)
                    }
                    None => return truncated(Why::BadUnwindInfo),
                },
                Step::Unknown => match signal_return(pc, m, &mut regs, &mut memory) {
                    Some(sp) => {
                        signal = true;
                        Ok(sp)
                    }
                    None => match direct_call(pc, sp, exact, m, &mut regs, &mut memory) {
                        Some(sp) => Ok(sp),
                        None if goroutine_ends(pc, m, &regs, memory.mem) => return (StackEnd::Complete, pc),
                        None => frame_pointer(m, pc, sp, &mut regs, &mut memory, &mut Code { space, modules, mem }),
                    },
                },
            };
            let cfa = match cfa {
                Ok(cfa) => cfa,
                // What was not read for that may look like anything.
                Err(_) if self.window.is_spent() => return truncated(Why::TooScattered),
                Err(why) => return truncated(why),
            };
            if signal {
                // The trampoline is entered by a return, at its first instruction: the byte before is not its own.
                if let Some(frame) = self.frames.last_mut() {
                    frame.kind = FrameKind::Exact;
                }
            }
            if signal || switched {
                switches += 1;
                if switches > MAX_SWITCHES {
                    return truncated(Why::TooManySwitches);
                }
            } else if cfa < sp || (cfa == sp && self.frames.len() > 1) {
                // Only the innermost frame may have no stack of its own: glibc's vfork keeps its return address in a
                // register, because the child would overwrite it.
                return truncated(Why::NoProgress);
            }
            self.cfas.push(cfa);
            sp = cfa;
            exact = signal;
            match regs.get(m.ra) {
                Some(0) => return (StackEnd::Complete, pc),
                Some(next) => pc = next,
                None if self.window.is_spent() => return truncated(Why::TooScattered),
                None => return truncated(Why::UnreadableStack),
            }
        }
    }

    /// Whether the loader is what was stopped.
    pub(crate) fn in_loader(&self, modules: &Modules) -> bool {
        self.frames.first().is_some_and(|frame| is_loader(frame, modules))
    }

    /// The files that the stack leads through, but for the loader; neighbours are told once.
    pub(crate) fn others<'a>(&'a self, modules: &'a Modules) -> impl Iterator<Item = ModuleId> + 'a {
        let mut last = None;
        self.frames.iter().filter_map(move |frame| {
            let module = frame.module.filter(|id| last != Some(*id))?;
            last = Some(module);
            (!is_loader(frame, modules)).then_some(module)
        })
    }

    #[inline]
    fn rule(&mut self, id: ModuleId, addr: u64, m: &Machine, modules: &Modules) -> Rule {
        if let Some(&rule) = self.rules.get(&(id, addr)) {
            return rule;
        }
        self.new_rule(id, addr, m, modules)
    }

    #[cold]
    fn new_rule(&mut self, id: ModuleId, addr: u64, m: &Machine, modules: &Modules) -> Rule {
        let Some(module) = modules.get(id) else { return Rule::Missing(Why::NoUnwindInfo) };
        let mut debug_frame = || super::debugfile::debug_frame(module);
        let mut rule = module.cfi().rule(addr, m, &mut self.ctx, &mut self.full, &mut debug_frame);
        // Where the entry point has no unwind information to say so (glibc's loader), it is the outermost frame all the
        // same.
        if matches!(rule, Rule::Missing(Why::NoUnwindInfo)) && module.is_entry(addr) {
            rule = Rule::Entry;
        }
        if matches!(rule, Rule::Missing(Why::NoUnwindInfo))
            && let Some(plain) = goswitch::by_table(addr, m, module)
        {
            rule = Rule::Table(plain);
        }
        // Go's unwind information knows a caller of everything.
        rule = match module.go_start(addr) {
            Some(start) => goswitch::rule(start, addr, rule, m, module),
            None => rule,
        };
        self.rules.insert((id, addr), rule);
        rule
    }
}

fn is_loader(frame: &Frame, modules: &Modules) -> bool {
    frame.module.and_then(|id| modules.get(id)).is_some_and(Module::is_loader)
}

/// One frame by the word at the stack pointer, if that is the return address of a direct call of the code at `pc`.
///
/// Only for code that was stopped there itself (`exact`): functions without unwind information and frame that the others
/// cannot do without (`__x86.get_pc_thunk.*` of i386, system calls in Go). Their frame pointer is their caller's, which
/// would leave out one frame.
#[cold]
fn direct_call(pc: u64, sp: u64, exact: bool, m: &Machine, regs: &mut Registers, mem: &mut Memory<'_>) -> Option<u64> {
    /// Such functions are short, in bytes.
    const SHORT: u64 = 256;
    exact.then_some(())?;
    let ra = mem.load(m, sp)?;
    let mut code = [0; 5];
    (mem.mem.read(ra.wrapping_sub(5), &mut code) == code.len()).then_some(())?;
    let [0xe8, distance @ ..] = code else { return None };
    let target = m.wrapped(ra.wrapping_add_signed(i32::from_le_bytes(distance).into()));
    (pc.checked_sub(target)? < SHORT).then_some(())?;
    Plain::no_frame(m).step(m, regs, mem).ok()
}

/// What is known about code, and the process to learn more from.
pub(crate) struct Code<'a> {
    pub(crate) space: &'a mut Space,
    pub(crate) modules: &'a mut Modules,
    pub(crate) mem: &'a dyn AddressSpace,
}

/// One frame by way of the frame pointer, if what it leads to looks like a frame.
fn frame_pointer(
    m: &Machine,
    pc: u64,
    sp: u64,
    regs: &mut Registers,
    mem: &mut Memory<'_>,
    code: &mut Code<'_>,
) -> Result<u64, Why> {
    let fp = regs.get(m.fp).ok_or(Why::NoUnwindInfo)?;
    let near = fp >= sp && fp - sp < MAX_FRAME && fp % m.word == 0;
    near.then_some(()).ok_or(Why::NoUnwindInfo)?;
    let mut next = *regs;
    let cfa = Plain::frame_pointer(m).step(m, &mut next, mem).map_err(|_| Why::NoUnwindInfo)?;
    let ra = next.get(m.ra).unwrap_or(0);
    let outer = next.get(m.fp).unwrap_or(0);
    // The frame pointer of a caller that keeps none may hold anything; then the return address must prove itself.
    // A return address of 0 proves nothing: a frame pointer that is none often leads to zeros.
    let sane = ra > 0
        && code.space.is_code(ra - 1)
        && (outer > fp || after_call(ra, mem))
        && !calls_elsewhere(ra, pc, m, code)
        || goroutine_ends(ra, m, &next, mem.mem);
    sane.then_some(()).ok_or(Why::NoUnwindInfo)?;
    *regs = next;
    Ok(cfa)
}

/// Whether the instruction before `ra` can be a call: `call rel32`, or `call r/m` (opcode FF /2) of 2 to 7 bytes.
#[cold]
fn after_call(ra: u64, mem: &Memory<'_>) -> bool {
    let mut code = [0; 7];
    if mem.mem.read(ra.wrapping_sub(7), &mut code) != code.len() {
        return false;
    }
    let indirect = |pair: &[u8]| matches!(pair, [0xff, modrm] if modrm >> 3 & 7 == 2);
    code.get(2) == Some(&0xe8) || code.windows(2).any(indirect)
}

/// Whether the instruction before `ra` calls a function of another file than `pc` is in, or one that has unwind
/// information as `pc` has not; and not by way of the PLT.
///
/// Then the frame pointer is that of a frame further out, and would leave out those between: a C library without unwind
/// information and frame pointers (musl), called by code that has both.
#[cold]
fn calls_elsewhere(ra: u64, pc: u64, m: &Machine, code: &mut Code<'_>) -> bool {
    let Code { space, modules, mem } = code;
    let mut call = [0; 5];
    if mem.read(ra.wrapping_sub(5), &mut call) != call.len() {
        return false;
    }
    let [0xe8, distance @ ..] = call else { return false };
    let target = m.wrapped(ra.wrapping_add_signed(i32::from_le_bytes(distance).into()));
    let has_information = match space.find(target, &mut 0, modules, *mem) {
        Some(Place::Module(id, bias)) => {
            modules.get(id).is_some_and(|module| module.cfi().function(target.wrapping_add(bias)).is_some())
        }
        _ => false,
    };
    if !has_information && !space.in_two_files(target, pc) {
        return false;
    }
    let mut stub = [0; 16];
    let read = mem.read(target, &mut stub);
    let stub = stub.get(..read).unwrap_or_default();
    // endbr64 or endbr32, then `jmp *` (opcode FF /4) with or without a prefix, or a lazy entry's push.
    let stub = stub.strip_prefix(&[0xf3, 0x0f, 0x1e]).and_then(|s| s.get(1..)).unwrap_or(stub);
    let stub = stub.strip_prefix(&[0xf2]).unwrap_or(stub);
    !matches!(stub, [0xff, modrm, ..] if modrm >> 3 & 7 == 4) && !matches!(stub, [0x68, ..])
}

/// Whether `pc` is where a goroutine ends, in `runtime.goexit`: a nop, the call of `goexit1`, a nop. Go makes the stack of a
/// goroutine as if `goexit` had called it from its first instruction (Go, `runtime/proc.go`, `newproc1`), and starts it
/// without a frame pointer.
#[cold]
fn goroutine_ends(pc: u64, m: &Machine, regs: &Registers, mem: &dyn ReadMemory) -> bool {
    let mut code = [0; 7];
    m.word == 8
        && regs.get(m.fp) == Some(0)
        && mem.read(pc.wrapping_sub(1), &mut code) == code.len()
        && matches!(code, [0x90, 0xe8, _, _, _, _, 0x90])
}

/// `mov $15, %rax; syscall` and `mov $173, %eax; int $0x80`: rt_sigreturn, as C libraries without unwind information for it
/// (musl, Go) write it.
const SIGRETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05];
const SIGRETURN_32: [u8; 7] = [0xb8, 0xad, 0x00, 0x00, 0x00, 0xcd, 0x80];

/// If `pc` is at a signal return, sets the registers that the signal interrupted and returns their stack pointer.
///
/// The kernel leaves a `struct ucontext` at the stack pointer, with the registers from byte 40 on in the order of
/// `struct sigcontext`. For i386 it is the rest of a `struct rt_sigframe`: the handler's three arguments, 128 bytes of
/// `siginfo`, and the `ucontext` with the registers from byte 20 on, four of segments first (Linux,
/// `arch/x86/include/uapi/asm/sigcontext.h`, `arch/x86/include/asm/sigframe.h`).
#[cold]
fn signal_return(pc: u64, m: &Machine, regs: &mut Registers, mem: &mut Memory<'_>) -> Option<u64> {
    // By position in the structure: r8–r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip; by DWARF number here.
    const ORDER: [u8; 17] = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16];
    // edi, esi, ebp, esp, ebx, edx, ecx, eax, two words that are no registers of ours, eip.
    const ORDER_32: [u8; 11] = [7, 6, 5, 4, 3, 2, 1, 0, NONE, NONE, 8];
    const NONE: u8 = u8::MAX;
    let (pattern, order, first): (&[u8], &[u8], i64) =
        if m.word == 8 { (&SIGRETURN, &ORDER, 40) } else { (&SIGRETURN_32, &ORDER_32, 12 + 128 + 20 + 4 * 4) };
    let mut code = [0; SIGRETURN.len()];
    let code = code.get_mut(..pattern.len())?;
    if mem.mem.read(pc, code) != pattern.len() || code != pattern {
        return None;
    }
    let at = |i: usize| Where::AtSum(m.sp, first + i as i64 * m.word as i64);
    let sp = order.iter().position(|&reg| reg == m.sp)?;
    let places = order.iter().enumerate().filter(|(_, reg)| **reg != NONE);
    let registers = places.map(|(i, &reg)| (reg, at(i))).collect();
    let full = Full { cfa: at(sp), registers, signal: true };
    full.step(m, regs, mem).ok()
}

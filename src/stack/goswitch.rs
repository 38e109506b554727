//! From one of Go's stacks to the other: a goroutine has its own, and what needs more room, C above all, is called on the
//! thread's. Go's unwind information knows nothing of that.
//!
//! Each step here is taken only where a return address is found that follows a call of the very function that is left.

use super::gotable::{GoRole, GoStart};
use super::jump;
use super::module::Module;
use super::rule::{Machine, Memory, Plain, Registers, Rule};
use super::space::Place;
use super::types::ModuleId;
use super::unwind::Code;
use rustc_hash::FxHashMap;

/// The steps' memory.
#[derive(Default)]
pub(crate) struct GoSwitches {
    /// How deep the frames are of what calls such functions, by return address; see [`GoTable::depth`].
    ///
    /// [`GoTable::depth`]: super::gotable::GoTable::depth
    depths: FxHashMap<(ModuleId, u64), Option<u64>>,
}

/// What to do at `addr` in one of these functions, where the unwind information says `rule`.
pub(crate) fn rule(start: &GoStart, addr: u64, rule: Rule, m: &Machine, module: &Module) -> Rule {
    match start.role {
        GoRole::First => Rule::Outermost,
        // What the compiler makes to call such a function from Go has its name, and is a function like any other.
        GoRole::CallsC | GoRole::CalledByC if calls_namesake(start, addr, module) => rule,
        GoRole::System | GoRole::CallsC | GoRole::CalledByC => Rule::Switch,
        GoRole::Between => between(addr, m, module).map_or(rule, Rule::Plain),
    }
}

fn calls_namesake(start: &GoStart, addr: u64, module: &Module) -> bool {
    let called = jump::target(addr.wrapping_add(1), module).and_then(|to| module.go_start(to));
    called.is_some_and(|other| other.role == start.role && other.start != start.start)
}

/// `crosscall2` has saved C's frame pointer below its return address.
fn between(addr: u64, m: &Machine, module: &Module) -> Option<Plain> {
    let mut plain = by_table(addr, m, module).filter(|_| m.word == 8)?;
    let fp = m.slots.iter().position(|s| *s == m.fp)?;
    *plain.saved.get_mut(fp)? = -2 * i32::try_from(m.word).ok()?;
    Some(plain)
}

/// What Go's table knows of every one of its functions: how deep its frame is, at each instruction.
pub(crate) fn by_table(addr: u64, m: &Machine, module: &Module) -> Option<Plain> {
    let depth = i32::try_from(module.go_depth(addr)?).ok()?;
    Some(Plain { offset: depth.checked_add(i32::try_from(m.word).ok()?)?, ..Plain::no_frame(m) })
}

/// Where a return address may lie, and the frame pointer of the caller then.
type Candidate = (u64, Option<u64>);

impl GoSwitches {
    pub(crate) fn is_large(&self, max: usize) -> bool {
        self.depths.len() >= max
    }

    /// One frame out of such a function at `pc`: its canonical frame address, on the other stack. `sp` is that of the frame
    /// that it has called.
    #[cold]
    pub(crate) fn step(
        &mut self,
        pc: u64,
        sp: u64,
        m: &Machine,
        regs: &mut Registers,
        mem: &mut Memory<'_>,
        code: Code<'_>,
    ) -> Option<u64> {
        // On 32 bits nothing leads back: there is no frame pointer.
        (m.word == 8).then_some(())?;
        let Code { space, modules, mem: process } = code;
        let mut place = |at: u64, modules: &mut _| match space.find(at, &mut 0, modules, process)? {
            Place::Module(id, bias) => Some((id, bias)),
            Place::Anonymous => None,
        };
        let (id, bias) = place(pc, modules)?;
        let GoStart { start, role, .. } = *modules.get(id)?.go_start(pc.wrapping_add(bias))?;
        let candidates = match role {
            GoRole::System => of_systemstack(sp, m, mem)?,
            GoRole::CallsC => of_asmcgocall(sp, m, mem),
            GoRole::CalledByC => of_cgocallback(sp, m, mem)?,
            GoRole::First | GoRole::Between => Vec::new(),
        };
        let mut called = |at: u64, mem: &mut Memory<'_>| {
            let ra = mem.load(m, at)?;
            // Few words are near the code, and of these few come after such a call.
            (place(ra, modules)? == (id, bias)).then_some(())?;
            let mut call = [0; 5];
            (process.read(ra.wrapping_sub(5), &mut call) == call.len()).then_some(())?;
            let [0xe8, distance @ ..] = call else { return None };
            let target = ra.wrapping_add_signed(i32::from_le_bytes(distance).into()).wrapping_add(bias);
            (target == start).then_some(ra)
        };
        let found: Vec<(u64, Candidate)> =
            candidates.into_iter().filter_map(|candidate| Some((called(candidate.0, mem)?, candidate))).collect();
        let module = modules.get(id)?;
        let mut depth = |ra: u64| {
            let read = || module.go_table().and_then(|t| t.depth(ra.wrapping_add(bias)));
            *self.depths.entry((id, ra.wrapping_add(bias))).or_insert_with(read)
        };
        let (ra, (at, fp)) = found.into_iter().find_map(|(ra, (at, fp))| match role {
            // That long below a frame pointer is what the caller has of its own.
            GoRole::System => {
                let below = fp.and_then(|fp| fp.checked_sub(at))?;
                (depth(ra) == Some(below)).then_some((ra, (at, fp)))
            }
            GoRole::CallsC => Some((ra, (at, depth(ra).map(|depth| at.wrapping_add(depth))))),
            _ => Some((ra, (at, fp))),
        })?;
        let cfa = at.wrapping_add(m.word);
        regs.set(m.sp, Some(cfa));
        regs.set(m.fp, fp);
        regs.set(m.ra, Some(ra));
        Some(cfa)
    }
}

/// What stands above it on the thread's stack is left from other calls. The frame pointer leads to the goroutine's stack:
/// since Go 1.21 to the frame of `systemstack` itself, before that to its caller's, where the return address lies as far
/// below as the caller's frame is deep (Go, `runtime/asm_amd64.s`).
fn of_systemstack(sp: u64, m: &Machine, mem: &mut Memory<'_>) -> Option<Vec<Candidate>> {
    /// No function that calls it has a larger frame, in words.
    const DEEP: u64 = 512;
    let fp = saved_below(sp, m, mem)?;
    let newer = (fp.wrapping_add(m.word), mem.load(m, fp));
    let older = (1..=DEEP).map(|words| (fp.wrapping_sub(words * m.word), Some(fp)));
    Some(std::iter::once(newer).chain(older).collect())
}

/// On the stack that C is called on lie the goroutine and how far its stack pointer was from its stack's end, because that
/// stack may be moved meanwhile; or no goroutine and the stack pointer itself, if it was the thread's stack before. A
/// goroutine begins with the limits of its stack (Go, `runtime/runtime2.go`). The stack pointer is at the return address,
/// since Go 1.21 at the frame pointer below it. No frame pointer is taken: where the stack was moved, those that C has kept
/// lead to the old place.
fn of_asmcgocall(sp: u64, m: &Machine, mem: &mut Memory<'_>) -> Vec<Candidate> {
    // In words from the stack pointer: where the goroutine is, and the distance. Since Go 1.22, and before that.
    const PLACES: [(u64, u64); 2] = [(1, 0), (6, 5)];
    let mut out = Vec::new();
    for (goroutine, distance) in PLACES {
        let mut word = |at: u64| mem.load(m, sp.wrapping_add(at * m.word));
        let (Some(goroutine), Some(distance)) = (word(goroutine), word(distance)) else { continue };
        let old = match goroutine {
            0 => Some(distance),
            _ => mem.load(m, goroutine.wrapping_add(m.word)).map(|end| end.wrapping_sub(distance)),
        };
        let Some(old) = old else { continue };
        out.extend([(old, None), (old.wrapping_add(m.word), None)]);
    }
    out
}

/// The frame pointer was not changed with the stack: it leads to the frame on C's.
fn of_cgocallback(sp: u64, m: &Machine, mem: &mut Memory<'_>) -> Option<Vec<Candidate>> {
    let fp = saved_below(sp, m, mem)?;
    Some(vec![(fp.wrapping_add(m.word), mem.load(m, fp))])
}

/// The frame pointer that what was called has put just below its return address. Go's unwind information does not say so.
fn saved_below(sp: u64, m: &Machine, mem: &mut Memory<'_>) -> Option<u64> {
    mem.load(m, sp.checked_sub(2 * m.word)?)
}

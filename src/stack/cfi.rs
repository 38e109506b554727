//! From an address in a file to the [`Rule`] for it: `.eh_frame` first, then `.debug_frame`.

use super::elf::{Image, Section};
use super::rule::{Full, KEPT, Machine, Plain, Rule, Where};
use super::types::Why;
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EndianSlice, LittleEndian, Operation, Register, RegisterRule, UnwindContext,
    UnwindOffset, UnwindSection, UnwindTableRow,
};
use rustc_hash::FxHashMap;
use std::cell::OnceCell;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// More functions with unwind information than this are not indexed (24 bytes each).
const MAX_FUNCTIONS: usize = 1 << 20;
/// Longer expressions are taken for damage.
const MAX_EXPRESSION: usize = 1 << 10;

/// Where the entry for one function is.
#[derive(Clone, Copy, Debug)]
struct Function {
    start: u64,
    end: u64,
    /// Of the entry in its section.
    entry: usize,
}

/// The unwind information of one file.
#[derive(Debug, Default)]
pub(crate) struct Cfi {
    word: u8,
    bases: BaseAddresses,
    eh_frame: Option<Section>,
    eh_frame_hdr: Option<Section>,
    /// Made on first use where there is no usable `.eh_frame_hdr`.
    eh_index: OnceCell<Vec<Function>>,
    /// `.debug_frame` and its index, read on first need.
    debug: OnceCell<Option<(Section, Vec<Function>)>>,
}

impl Cfi {
    pub(crate) fn new(image: &mut Image) -> Self {
        let (eh_frame, eh_frame_hdr) = (image.eh_frame.take(), image.eh_frame_hdr.take());
        let mut bases = BaseAddresses::default().set_text(image.text).set_got(image.got);
        if let Some(s) = &eh_frame {
            bases = bases.set_eh_frame(s.addr);
        }
        if let Some(s) = &eh_frame_hdr {
            bases = bases.set_eh_frame_hdr(s.addr);
        }
        Self { word: image.word, bases, eh_frame, eh_frame_hdr, ..Self::default() }
    }

    /// The rule at `addr` (as the file numbers it). A [`Full`] rule is put into `full`, and [`Rule::Full`] holds its
    /// index there. `debug_frame` reads that section; it is called at most once in the life of `self`.
    pub(crate) fn rule(
        &self,
        addr: u64,
        m: &Machine,
        ctx: &mut UnwindContext<usize>,
        full: &mut Vec<Full>,
        debug_frame: &mut dyn FnMut() -> Option<Section>,
    ) -> Rule {
        if u64::from(self.word) != m.word {
            return Rule::Missing(Why::NoUnwindInfo);
        }
        let mut found = Rule::Missing(Why::NoUnwindInfo);
        if let Some(s) = &self.eh_frame {
            let mut section = gimli::EhFrame::new(&s.bytes, LittleEndian);
            section.set_address_size(self.word);
            let entry = match self.in_header(addr) {
                Some(entry) => entry,
                None => in_index(self.eh_index.get_or_init(|| index(&section, &self.bases)), addr),
            };
            if let Some(entry) = entry {
                found = self.row(&section, entry, addr, m, ctx, full);
            }
        }
        if !matches!(found, Rule::Missing(_)) {
            return found;
        }
        let debug = self.debug.get_or_init(|| {
            let s = debug_frame()?;
            let mut section = gimli::DebugFrame::new(&s.bytes, LittleEndian);
            section.set_address_size(self.word);
            let index = index(&section, &self.bases);
            Some((s, index))
        });
        if let Some((s, index)) = debug
            && let Some(entry) = in_index(index, addr)
        {
            let mut section = gimli::DebugFrame::new(&s.bytes, LittleEndian);
            section.set_address_size(self.word);
            found = self.row(&section, entry, addr, m, ctx, full);
        }
        found
    }

    /// The function that `addr` lies in by `.eh_frame`: its first address and one past its last.
    pub(crate) fn function(&self, addr: u64) -> Option<(u64, u64)> {
        let s = self.eh_frame.as_ref()?;
        let mut section = gimli::EhFrame::new(&s.bytes, LittleEndian);
        section.set_address_size(self.word);
        let entry = match self.in_header(addr) {
            Some(entry) => entry,
            None => in_index(self.eh_index.get_or_init(|| index(&section, &self.bases)), addr),
        };
        let fde = section.fde_from_offset(&self.bases, entry?.into(), gimli::EhFrame::cie_from_offset).ok()?;
        fde.contains(addr).then(|| (fde.initial_address(), fde.end_address()))
    }

    /// Looks `addr` up in the sorted table of `.eh_frame_hdr` (Linux Standard Base Core 5.0, §10.6.2).
    ///
    /// `None` when there is no table of the kind that all linkers write; `Some(None)` when it has nothing for `addr`.
    fn in_header(&self, addr: u64) -> Option<Option<usize>> {
        let (hdr, eh) = (self.eh_frame_hdr.as_ref()?, self.eh_frame.as_ref()?);
        // version 1; the count as 4 unsigned bytes; rows of two signed 4-byte distances from this header
        let [1, pointer, 0x03, 0x3b] = *hdr.bytes.first_chunk::<4>()? else { return None };
        (pointer & 0x0f == 0x0b || pointer & 0x0f == 0x03).then_some(())?;
        let count = u32::from_le_bytes(hdr.bytes.get(8..12)?.try_into().ok()?) as usize;
        let rows = hdr.bytes.get(12..12usize.checked_add(count.checked_mul(8)?)?)?;
        let (rows, _) = rows.as_chunks::<8>();
        if rows.is_empty() {
            return None;
        }
        let half = |b: &[u8]| b.first_chunk::<4>().map(|b| i64::from(i32::from_le_bytes(*b)));
        let at = |distance: i64| hdr.addr.wrapping_add_signed(distance);
        let after = rows.partition_point(|row| half(row).is_some_and(|d| at(d) <= addr));
        let row = after.checked_sub(1).and_then(|i| rows.get(i));
        let entry = row.and_then(|row| half(row.get(4..)?)).map(at);
        Some(entry.and_then(|e| usize::try_from(e.checked_sub(eh.addr)?).ok()))
    }

    fn row<'a, S: UnwindSection<Slice<'a>>>(
        &self,
        section: &S,
        entry: usize,
        addr: u64,
        m: &Machine,
        ctx: &mut UnwindContext<usize>,
        full: &mut Vec<Full>,
    ) -> Rule
    where
        S::Offset: UnwindOffset<usize>,
    {
        let Ok(fde) = section.fde_from_offset(&self.bases, S::Offset::from(entry), S::cie_from_offset) else {
            return Rule::Missing(Why::BadUnwindInfo);
        };
        if !fde.contains(addr) {
            return Rule::Missing(Why::NoUnwindInfo);
        }
        if fde.cie().return_address_register() != Register(m.ra.into()) {
            return Rule::Missing(Why::BadUnwindInfo);
        }
        let signal = fde.is_signal_trampoline();
        let encoding = fde.cie().encoding();
        match fde.unwind_info_for_address(section, &self.bases, ctx, addr) {
            Ok(row) => compile(row, section, m, encoding, signal, full).unwrap_or(Rule::Missing(Why::BadUnwindInfo)),
            Err(_) => Rule::Missing(Why::BadUnwindInfo),
        }
    }
}

fn in_index(index: &[Function], addr: u64) -> Option<usize> {
    let after = index.partition_point(|f| f.start <= addr);
    index.get(after.checked_sub(1)?).filter(|f| addr < f.end).map(|f| f.entry)
}

/// All functions of a section, sorted. Stops at the first damage and keeps what came before it.
fn index<'a, S: UnwindSection<Slice<'a>>>(section: &S, bases: &BaseAddresses) -> Vec<Function> {
    let mut out = Vec::new();
    let mut cies = FxHashMap::default();
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(|section, bases, offset| {
            let key: usize = UnwindOffset::into(offset);
            if let Some(cie) = cies.get(&key) {
                return Ok(gimli::CommonInformationEntry::clone(cie));
            }
            let cie = section.cie_from_offset(bases, offset)?;
            cies.insert(key, cie.clone());
            Ok(cie)
        });
        let Ok(fde) = fde else { continue };
        // A function that the linker threw away is left behind at address 0.
        if fde.initial_address() != 0 && fde.len() > 0 {
            out.push(Function { start: fde.initial_address(), end: fde.end_address(), entry: fde.offset() });
        }
        if out.len() >= MAX_FUNCTIONS {
            break;
        }
    }
    out.sort_by_key(|f| f.start);
    out.shrink_to_fit();
    out
}

/// Turns a row of the unwind table into a rule; `None` for what this unwinder does not know.
fn compile<'a, S: UnwindSection<Slice<'a>>>(
    row: &UnwindTableRow<usize>,
    section: &S,
    m: &Machine,
    encoding: gimli::Encoding,
    signal: bool,
    full: &mut Vec<Full>,
) -> Option<Rule> {
    let code = |e: &gimli::UnwindExpression<usize>| {
        let slice = e.get(section).ok()?;
        (slice.0.len() <= MAX_EXPRESSION).then_some(slice.0.slice())
    };
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => Where::Sum(u8::try_from(register.0).ok()?, *offset),
        CfaRule::Expression(e) => simple(code(e)?, encoding).unwrap_or(Where::Value(code(e)?.into())),
    };
    if matches!(row.register(Register(m.ra.into())), None | Some(RegisterRule::Undefined)) {
        return Some(Rule::Outermost);
    }
    let mut registers = Vec::new();
    for (register, rule) in row.registers() {
        let Ok(reg) = u8::try_from(register.0) else { continue };
        if usize::from(reg) >= super::rule::REGISTERS {
            continue;
        }
        let place = match rule {
            RegisterRule::Undefined => Where::Lost,
            RegisterRule::SameValue => Where::Kept,
            RegisterRule::Offset(off) => Where::AtCfa(*off),
            RegisterRule::ValOffset(off) => Where::Cfa(*off),
            RegisterRule::Register(r) => Where::Sum(u8::try_from(r.0).ok()?, 0),
            RegisterRule::Expression(e) => match simple(code(e)?, encoding) {
                Some(Where::Sum(reg, off)) => Where::AtSum(reg, off),
                _ => Where::Address(code(e)?.into()),
            },
            RegisterRule::ValExpression(e) => simple(code(e)?, encoding).unwrap_or(Where::Value(code(e)?.into())),
            RegisterRule::Constant(v) => Where::Constant(*v),
            _ => return None,
        };
        registers.push((reg, place));
    }
    if let Some(plain) = (!signal).then(|| plain(&cfa, &registers, m)).flatten() {
        return Some(Rule::Plain(plain));
    }
    let index = u32::try_from(full.len()).ok()?;
    full.push(Full { cfa, registers, signal });
    Some(Rule::Full(index))
}

/// Recognises the two expressions that compilers write by the thousand: a register plus a constant, and the word there.
fn simple(code: &[u8], encoding: gimli::Encoding) -> Option<Where> {
    let mut ops = gimli::Expression(EndianSlice::new(code, LittleEndian)).operations(encoding);
    let Operation::RegisterOffset { register, offset, .. } = ops.next().ok()?? else { return None };
    let reg = u8::try_from(register.0).ok()?;
    match (ops.next().ok()?, ops.next().ok()?) {
        (None, _) => Some(Where::Sum(reg, offset)),
        (Some(Operation::Deref { size, .. }), None) if size == encoding.address_size => Some(Where::AtSum(reg, offset)),
        _ => None,
    }
}

fn plain(cfa: &Where, registers: &[(u8, Where)], m: &Machine) -> Option<Plain> {
    let (base, offset, load) = match *cfa {
        Where::Sum(base, offset) => (base, offset, false),
        Where::AtSum(base, offset) => (base, offset, true),
        _ => return None,
    };
    let mut out = Plain { base, load, offset: i32::try_from(offset).ok()?, saved: [KEPT; 7] };
    for (reg, place) in registers {
        let slot = m.slots.iter().position(|s| s == reg);
        match place {
            Where::Kept => {}
            Where::AtCfa(off) => *out.saved.get_mut(slot?)? = i32::try_from(*off).ok().filter(|&o| o != KEPT)?,
            _ => return None,
        }
    }
    Some(out)
}

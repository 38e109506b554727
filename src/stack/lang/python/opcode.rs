//! Bytecode, as far as it takes to recognise a call of `fileno()` and what became of its result.
//!
//! From 3.11 on the interpreter rewrites its code while it runs: an instruction may be *specialised* (another opcode
//! for the same thing) and is followed by inline cache entries, which hold anything at all. So code is always decoded
//! from its start, by two tables per version: specialised opcode → base opcode, and base opcode → number of cache
//! entries. They were printed from each version's own `opcode` module and `pycore_opcode.h`.

use std::sync::LazyLock;

/// What an instruction is to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    /// LOAD_ATTR or LOAD_METHOD of `names[i]`.
    LoadAttr(u32),
    /// LOAD_FAST and its kin, of slot `i`.
    LoadFast(u32),
    /// LOAD_NAME or LOAD_GLOBAL of `names[i]`.
    LoadName(u32),
    /// LOAD_DEREF of slot `i` (3.11 and later) or of cell `i` (before).
    LoadDeref(u32),
    /// PRECALL, which only 3.11 has.
    Precall(u32),
    /// A call with so many positional arguments and none by name.
    Call(u32),
    StoreFast(u32),
    /// STORE_NAME of `names[i]`.
    StoreName(u32),
    /// STORE_GLOBAL of `names[i]`.
    StoreGlobal(u32),
    StoreDeref(u32),
    StoreAttr(u32),
    DeleteFast(u32),
    DeleteName(u32),
    DeleteGlobal(u32),
    DeleteDeref(u32),
    DeleteAttr(u32),
    /// One instruction that stores into the first slot and loads the second (3.13).
    StoreFastLoadFast(u32, u32),
    /// One instruction that stores into two slots, the first one first (3.13).
    StoreFastStoreFast(u32, u32),
    /// One instruction that loads two slots (3.13).
    LoadFastLoadFast(u32, u32),
    ReturnValue,
    Other,
}

/// A decoded instruction; the prefixes that extend its argument belong to it, and so do its cache entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Instruction {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) op: Op,
}

/// The opcodes of one version.
struct Set {
    extended_arg: u8,
    base: [u8; 256],
    caches: [u8; 256],
    named: &'static [(u8, Kind)],
    /// LOAD_ATTR's argument is the name's index shifted left by one (3.12 and later).
    attr_shift: u32,
    /// LOAD_GLOBAL's likewise (3.11 and later).
    global_shift: u32,
    /// Stands for an instruction that is kept elsewhere: decoding cannot go on.
    opaque: &'static [u8],
}

#[derive(Clone, Copy)]
enum Kind {
    LoadAttr,
    LoadMethod,
    LoadFast,
    LoadName,
    LoadGlobal,
    LoadDeref,
    Precall,
    Call,
    StoreFast,
    StoreName,
    StoreGlobal,
    StoreDeref,
    StoreAttr,
    DeleteFast,
    DeleteName,
    DeleteGlobal,
    DeleteDeref,
    DeleteAttr,
    StoreLoad,
    StoreStore,
    LoadLoad,
    Return,
}
use Kind as K;

const NAMED_OLD: &[(u8, Kind)] = &[
    (106, K::LoadAttr),
    (160, K::LoadMethod),
    (124, K::LoadFast),
    (101, K::LoadName),
    (116, K::LoadGlobal),
    (136, K::LoadDeref),
    (131, K::Call), // CALL_FUNCTION
    (161, K::Call), // CALL_METHOD
    (125, K::StoreFast),
    (90, K::StoreName),
    (97, K::StoreGlobal),
    (137, K::StoreDeref),
    (95, K::StoreAttr),
    (126, K::DeleteFast),
    (91, K::DeleteName),
    (98, K::DeleteGlobal),
    (138, K::DeleteDeref),
    (96, K::DeleteAttr),
    (83, K::Return),
];

const NAMED_11: &[(u8, Kind)] = &[
    (106, K::LoadAttr),
    (160, K::LoadMethod),
    (124, K::LoadFast),
    (101, K::LoadName),
    (116, K::LoadGlobal),
    (137, K::LoadDeref),
    (166, K::Precall),
    (171, K::Call),
    (125, K::StoreFast),
    (90, K::StoreName),
    (97, K::StoreGlobal),
    (138, K::StoreDeref),
    (95, K::StoreAttr),
    (126, K::DeleteFast),
    (91, K::DeleteName),
    (98, K::DeleteGlobal),
    (139, K::DeleteDeref),
    (96, K::DeleteAttr),
    (83, K::Return),
];

const NAMED_12: &[(u8, Kind)] = &[
    (106, K::LoadAttr),
    (124, K::LoadFast),
    (127, K::LoadFast), // LOAD_FAST_CHECK
    (101, K::LoadName),
    (116, K::LoadGlobal),
    (137, K::LoadDeref),
    (171, K::Call),
    (125, K::StoreFast),
    (90, K::StoreName),
    (97, K::StoreGlobal),
    (138, K::StoreDeref),
    (95, K::StoreAttr),
    (126, K::DeleteFast),
    (91, K::DeleteName),
    (98, K::DeleteGlobal),
    (139, K::DeleteDeref),
    (96, K::DeleteAttr),
    (83, K::Return),
];

const NAMED_13: &[(u8, Kind)] = &[
    (82, K::LoadAttr),
    (85, K::LoadFast),
    (87, K::LoadFast), // LOAD_FAST_CHECK
    (88, K::LoadLoad),
    (92, K::LoadName),
    (91, K::LoadGlobal),
    (84, K::LoadDeref),
    (53, K::Call),
    (110, K::StoreFast),
    (111, K::StoreLoad),
    (112, K::StoreStore),
    (114, K::StoreName),
    (113, K::StoreGlobal),
    (109, K::StoreDeref),
    (108, K::StoreAttr),
    (65, K::DeleteFast),
    (67, K::DeleteName),
    (66, K::DeleteGlobal),
    (64, K::DeleteDeref),
    (63, K::DeleteAttr),
    (36, K::Return),
];

const NAMED_14: &[(u8, Kind)] = &[
    (80, K::LoadAttr),
    (84, K::LoadFast),
    (86, K::LoadFast), // LOAD_FAST_BORROW
    (88, K::LoadFast), // LOAD_FAST_CHECK
    (89, K::LoadLoad),
    (87, K::LoadLoad), // LOAD_FAST_BORROW_LOAD_FAST_BORROW
    (93, K::LoadName),
    (92, K::LoadGlobal),
    (83, K::LoadDeref),
    (52, K::Call),
    (112, K::StoreFast),
    (113, K::StoreLoad),
    (114, K::StoreStore),
    (116, K::StoreName),
    (115, K::StoreGlobal),
    (111, K::StoreDeref),
    (110, K::StoreAttr),
    (63, K::DeleteFast),
    (65, K::DeleteName),
    (64, K::DeleteGlobal),
    (62, K::DeleteDeref),
    (61, K::DeleteAttr),
    (35, K::Return),
];

type Specialised = &'static [(u8, &'static [u8])];

const SPECIAL_11: Specialised = &[
    (122, &[3, 4, 5, 6, 7, 8, 13, 14, 16]),
    (25, &[17, 18, 19, 20, 21]),
    (171, &[22, 23, 24]),
    (107, &[26, 27, 28, 29]),
    (144, &[34]),
    (140, &[38]),
    (106, &[39, 40, 41, 42, 43]),
    (100, &[44]),
    (124, &[45, 46]),
    (116, &[47, 48, 55]),
    (160, &[56, 57, 58, 59, 62, 63]),
    (166, &[64, 65, 66, 67, 72, 73, 76, 77, 78, 79, 80, 81, 113, 121, 127, 141, 143]),
    (151, &[150]),
    (95, &[153, 154, 158, 159]),
    (125, &[161, 167]),
    (60, &[168, 169, 170]),
    (92, &[177, 178, 179, 180]),
];

const SPECIAL_12: Specialised = &[
    (122, &[6, 7, 8, 10, 13, 14, 16, 18]),
    (25, &[19, 20, 21, 22]),
    (171, &[23, 24, 28, 29, 34, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 56]),
    (107, &[57, 58, 59]),
    (93, &[62, 63, 64, 65]),
    (106, &[70, 72, 73, 76, 77, 78, 79, 80, 81, 82]),
    (100, &[84]),
    (124, &[86, 88]),
    (116, &[111, 112]),
    (141, &[66, 67]),
    (123, &[168]),
    (95, &[113, 148, 153]),
    (125, &[154, 158]),
    (60, &[159, 160]),
    (92, &[161, 166, 167]),
    // INSTRUMENTED_ forms (coverage, debuggers).
    (141, &[237]),
    (93, &[248]),
    (171, &[241]),
    (83, &[242]),
];

const SPECIAL_13: Specialised = &[
    (149, &[207]),
    (40, &[214, 215, 216, 217, 218, 219]),
    (45, &[154, 151, 156, 153, 150, 155, 152, 3]),
    (5, &[157, 158, 159, 160, 161]),
    (39, &[212, 213]),
    (104, &[208]),
    (117, &[222, 221, 220]),
    (108, &[209, 210, 211]),
    (91, &[204, 203]),
    (93, &[205, 206]),
    (82, &[193, 197, 202, 201, 191, 200, 192, 196, 195, 194, 199, 198]),
    (58, &[182, 183, 184]),
    (59, &[186, 185]),
    (72, &[188, 190, 189, 187]),
    (53, &[163, 177, 181, 179, 180, 165, 168, 166, 167, 170, 169, 171, 175, 173, 174, 172, 162, 178, 164, 176]),
    // INSTRUMENTED_ forms (coverage, debuggers).
    (36, &[239]),
    (93, &[242]),
    (72, &[243]),
    (53, &[244]),
    (77, &[249]),
    (100, &[250]),
    (97, &[251]),
    (98, &[252]),
    (99, &[253]),
];

const SPECIAL_14: Specialised = &[
    (128, &[196]),
    (82, &[191, 190]),
    (39, &[203, 204, 205, 206, 207, 208]),
    (44, &[134, 130, 142, 133, 129, 141, 131, 137, 138, 140, 139, 135, 136, 132, 3]),
    (38, &[201, 202]),
    (106, &[197]),
    (119, &[211, 210, 209]),
    (110, &[198, 199, 200]),
    (92, &[193, 192]),
    (96, &[194, 195]),
    (80, &[180, 184, 189, 188, 177, 178, 187, 179, 183, 182, 181, 186, 185]),
    (56, &[166, 167, 168]),
    (57, &[170, 169]),
    (75, &[176, 175]),
    (70, &[172, 174, 173, 171]),
    (52, &[144, 161, 165, 163, 164, 146, 149, 147, 148, 154, 150, 155, 159, 157, 158, 156, 143, 162, 145, 160]),
    (55, &[151, 153, 152]),
    // INSTRUMENTED_ forms (coverage, debuggers).
    (70, &[237]),
    (103, &[241]),
    (100, &[242]),
    (101, &[243]),
    (102, &[244]),
    (35, &[246]),
    (96, &[249]),
    (52, &[250]),
    (55, &[251]),
    (75, &[253]),
];

const CACHES_11: &[(u8, u8)] =
    &[(25, 4), (60, 1), (92, 1), (95, 4), (106, 4), (107, 2), (116, 5), (122, 1), (160, 10), (166, 1), (171, 4)];
const CACHES_12: &[(u8, u8)] = &[
    (25, 1),
    (60, 1),
    (92, 1),
    (93, 1),
    (95, 4),
    (106, 9),
    (107, 1),
    (116, 4),
    (122, 1),
    (123, 1),
    (141, 1),
    (171, 3),
];
const CACHES_13: &[(u8, u8)] = &[
    (91, 4),
    (45, 1),
    (117, 1),
    (58, 1),
    (59, 1),
    (5, 1),
    (72, 1),
    (93, 1),
    (82, 9),
    (108, 4),
    (53, 3),
    (39, 1),
    (104, 1),
    (77, 1),
    (40, 3),
    (100, 1),
    (97, 1),
    (98, 1),
    (99, 1),
];

const CACHES_14: &[(u8, u8)] = &[
    (92, 4),
    (44, 5),
    (119, 1),
    (56, 1),
    (57, 1),
    (70, 1),
    (96, 1),
    (80, 9),
    (110, 4),
    (52, 3),
    (55, 3),
    (38, 1),
    (106, 1),
    (75, 1),
    (39, 3),
    (103, 1),
    (100, 1),
    (101, 1),
    (102, 1),
];

fn set(
    extended_arg: u8,
    named: &'static [(u8, Kind)],
    special: Specialised,
    caches: &[(u8, u8)],
    shifts: (u32, u32),
    opaque: &'static [u8],
) -> Set {
    let mut base: [u8; 256] = std::array::from_fn(|i| i as u8);
    for &(to, from) in special {
        for &f in from {
            if let Some(slot) = base.get_mut(usize::from(f)) {
                *slot = to;
            }
        }
    }
    let mut counts = [0; 256];
    for &(op, n) in caches {
        if let Some(slot) = counts.get_mut(usize::from(op)) {
            *slot = n;
        }
    }
    Set { extended_arg, base, caches: counts, named, attr_shift: shifts.0, global_shift: shifts.1, opaque }
}

static OLD: LazyLock<Set> = LazyLock::new(|| set(144, NAMED_OLD, &[], &[], (0, 0), &[]));
static V11: LazyLock<Set> = LazyLock::new(|| set(144, NAMED_11, SPECIAL_11, CACHES_11, (0, 1), &[]));
// INSTRUMENTED_INSTRUCTION, INSTRUMENTED_LINE; and from 3.13 on ENTER_EXECUTOR (the optional compiler).
static V12: LazyLock<Set> = LazyLock::new(|| set(144, NAMED_12, SPECIAL_12, CACHES_12, (1, 1), &[253, 254]));
static V13: LazyLock<Set> = LazyLock::new(|| set(71, NAMED_13, SPECIAL_13, CACHES_13, (1, 1), &[70, 247, 254]));
static V14: LazyLock<Set> = LazyLock::new(|| set(69, NAMED_14, SPECIAL_14, CACHES_14, (1, 1), &[255, 238, 254]));

/// INSTRUMENTED_LINE and INSTRUMENTED_INSTRUCTION, which lie over an opcode that is kept elsewhere.
pub(super) fn covers(minor: u8) -> Option<(u8, u8)> {
    match minor {
        12 => Some((254, 253)),
        13 => Some((254, 247)),
        14 => Some((254, 238)),
        _ => None,
    }
}

/// ENTER_EXECUTOR, which lies over an instruction that is kept elsewhere, where it is known where.
pub(super) fn enters(minor: u8) -> Option<u8> {
    (minor == 14).then_some(255)
}

/// How many bytes tell that a `with` block is being left: four instructions.
pub(super) const LEAVING: usize = 8;

/// Whether the last instruction of `code` calls `__exit__` of a `with` block, in 3.8 to 3.10.
///
/// 3.8 has an instruction for it (WITH_CLEANUP_START, 81), 3.9 and 3.10 have one where an exception ends the block
/// (WITH_EXCEPT_START, 49). Else these compile a call of what lies on the stack with None three times (LOAD_CONST, DUP_TOP
/// twice, CALL_FUNCTION 3), as they compile no call that is written out: that has LOAD_CONST three times. The numbers mean
/// nothing else in any of the three.
pub(super) fn leaves_with(code: &[u8]) -> bool {
    matches!(code, [.., 81 | 49, _] | [100, _, 4, _, 4, _, 131, 3])
}

/// Decodes `code` from its start up to and including the instruction that `upto` lies in, or all of it.
///
/// `None` for a version whose opcodes are not known, and where an instruction stands for another that is not visible.
pub(super) fn decode(minor: u8, code: &[u8], upto: Option<usize>) -> Option<Vec<Instruction>> {
    let set: &Set = match minor {
        8..=10 => &OLD,
        11 => &V11,
        12 => &V12,
        13 => &V13,
        14 => &V14,
        _ => return None,
    };
    let mut out = Vec::new();
    let (mut at, mut start, mut high) = (0usize, 0usize, 0u32);
    while let Some(&[raw, low]) = code.get(at..at + 2) {
        if set.opaque.contains(&raw) {
            return None;
        }
        let base = set.base.get(usize::from(raw)).copied()?;
        let arg = high << 8 | u32::from(low);
        at += 2;
        if base == set.extended_arg {
            high = arg;
            continue;
        }
        high = 0;
        at += 2 * usize::from(set.caches.get(usize::from(base)).copied()?);
        let op = set.named.iter().find(|(n, _)| *n == base).map_or(Op::Other, |&(_, kind)| match kind {
            K::LoadAttr => Op::LoadAttr(arg >> set.attr_shift),
            K::LoadMethod => Op::LoadAttr(arg),
            K::LoadFast => Op::LoadFast(arg),
            K::LoadName => Op::LoadName(arg),
            K::LoadGlobal => Op::LoadName(arg >> set.global_shift),
            K::LoadDeref => Op::LoadDeref(arg),
            K::Precall => Op::Precall(arg),
            K::Call => Op::Call(arg),
            K::StoreFast => Op::StoreFast(arg),
            K::StoreName => Op::StoreName(arg),
            K::StoreGlobal => Op::StoreGlobal(arg),
            K::StoreDeref => Op::StoreDeref(arg),
            K::StoreAttr => Op::StoreAttr(arg),
            K::DeleteFast => Op::DeleteFast(arg),
            K::DeleteName => Op::DeleteName(arg),
            K::DeleteGlobal => Op::DeleteGlobal(arg),
            K::DeleteDeref => Op::DeleteDeref(arg),
            K::DeleteAttr => Op::DeleteAttr(arg),
            K::StoreLoad => Op::StoreFastLoadFast(arg >> 4, arg & 15),
            K::StoreStore => Op::StoreFastStoreFast(arg >> 4, arg & 15),
            K::LoadLoad => Op::LoadFastLoadFast(arg >> 4, arg & 15),
            K::Return => Op::ReturnValue,
        });
        out.push(Instruction { start, end: at, op });
        start = at;
        if upto.is_some_and(|u| u < at) {
            break;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `dis` of 3.8, 3.9 and 3.10 shows of a block that ends, of one that an exception ends, and of calls.
    #[test]
    fn the_end_of_a_with_block_is_told_from_a_call_with_three_nones() {
        let by_call = [100, 0, 4, 0, 4, 0, 131, 3];
        for leaves in [&by_call[..], &[87, 0, 53, 0, 81, 0], &[81, 0], &[110, 12, 49, 0]] {
            assert!(leaves_with(leaves), "{leaves:?}");
        }
        let written = [100, 0, 100, 0, 100, 0, 131, 3];
        for not in [&written[..], &[100, 0, 4, 0, 4, 0, 131, 2], &by_call[..6], &[131, 3], &[81, 0, 83, 0], &[]] {
            assert!(!leaves_with(not), "{not:?}");
        }
    }
}

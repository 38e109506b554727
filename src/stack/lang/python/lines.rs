//! From an offset in a code object to a source line: the three encodings that CPython has used since 3.8.
//!
//! All are pure functions over the table's bytes and total: a torn or hostile table gives some line or none.

use super::layout::Lines;

/// The line of the instruction at byte `at`, `None` where the compiler gave it none.
pub(super) fn line(encoding: Lines, table: &[u8], first: i32, at: i64) -> Option<u32> {
    let line = match encoding {
        Lines::Lnotab => lnotab(table, first, at),
        Lines::Linetable => linetable(table, first, at)?,
        Lines::Locations => locations(table, first, at)?,
    };
    u32::try_from(line).ok()
}

/// Pairs of (bytes of code, signed lines): the line changes *at* the summed offset (Objects/lnotab_notes.txt, 3.9).
fn lnotab(table: &[u8], first: i32, at: i64) -> i64 {
    let (mut line, mut addr) = (i64::from(first), 0i64);
    for pair in table.chunks_exact(2) {
        if let &[code, delta] = pair {
            addr += i64::from(code);
            if addr > at {
                break;
            }
            line += i64::from(delta.cast_signed());
        }
    }
    line
}

/// Pairs of (bytes of code, signed lines): the pair describes the range that *ends* at the summed offset; -128 is a
/// range without a line (Objects/lnotab_notes.txt, 3.10).
fn linetable(table: &[u8], first: i32, at: i64) -> Option<i64> {
    let (mut line, mut end) = (i64::from(first), 0i64);
    // A frame that has not started is at its first line.
    if at < 0 {
        return Some(line);
    }
    for pair in table.chunks_exact(2) {
        if let &[code, delta] = pair {
            let none = delta == 0x80;
            if !none {
                line += i64::from(delta.cast_signed());
            }
            end += i64::from(code);
            if end > at {
                return (!none).then_some(line);
            }
        }
    }
    None
}

/// One entry per range: a byte 1kkkklll with kind k and length l+1 code units, then what the kind brings along
/// (Objects/locations.md, 3.11).
fn locations(table: &[u8], first: i32, at: i64) -> Option<i64> {
    let mut rest = table.iter().copied();
    let (mut line, mut end) = (i64::from(first), 0i64);
    if at < 0 {
        return Some(line);
    }
    while let Some(head) = rest.next() {
        let kind = head >> 3 & 15;
        let mut some = true;
        match kind {
            // No location; with varint line and columns; line only; the one-line forms 10..=12; short forms.
            15 => some = false,
            14 => {
                line = line.wrapping_add(signed(&mut rest)?);
                for _ in 0..3 {
                    varint(&mut rest)?;
                }
            }
            13 => line = line.wrapping_add(signed(&mut rest)?),
            10..=12 => {
                line += i64::from(kind - 10);
                rest.next()?;
                rest.next()?;
            }
            _ => {
                rest.next()?;
            }
        }
        end += (i64::from(head & 7) + 1) * 2;
        if end > at {
            return some.then_some(line);
        }
    }
    None
}

fn varint(rest: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let mut value = 0i64;
    for shift in (0..60).step_by(6) {
        let b = rest.next()?;
        value |= i64::from(b & 63) << shift;
        if b & 64 == 0 {
            return Some(value);
        }
    }
    None
}

fn signed(rest: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let v = varint(rest)?;
    Some(if v & 1 == 1 { -(v >> 1) } else { v >> 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lnotab_pair_changes_the_line_at_its_end() {
        // The tables are what `python3.9 -c` printed for a two-line function with a backward jump in lines.
        let table = [0, 1, 8, 1, 4, 0xff];
        for (at, want) in [(0, 11), (6, 11), (8, 12), (12, 11), (400, 11)] {
            assert_eq!(line(Lines::Lnotab, &table, 10, at), Some(want), "at {at}");
        }
    }

    #[test]
    fn a_linetable_pair_describes_the_range_before_its_end() {
        let table = [4, 1, 2, 0x80, 6, 1];
        for (at, want) in [(0, Some(11)), (4, None), (6, Some(12)), (400, None), (-2, Some(10))] {
            assert_eq!(line(Lines::Linetable, &table, 10, at), want, "at {at}");
        }
    }

    #[test]
    fn every_kind_of_location_moves_on_by_its_own_length() {
        // Short form (2 units), long form +3, one-line form +1, none.
        let table = [0x80 | 1, 0x11, 0x80 | 14 << 3, 6, 0, 1, 1, 0x80 | 11 << 3, 0, 4, 0x80 | 15 << 3];
        for (at, want) in [(0, Some(7)), (2, Some(7)), (4, Some(10)), (6, Some(11)), (8, None), (10, None)] {
            assert_eq!(line(Lines::Locations, &table, 7, at), want, "at {at}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_table_is_too_strange(table: Vec<u8>, first: i32, at: i32) {
            for e in [Lines::Lnotab, Lines::Linetable, Lines::Locations] {
                line(e, &table, first, i64::from(at));
            }
        }
    }
}

//! Symbol tables, with a check of sizes: a wrong name is worse than none.

use super::elf::{self, MAX_NAMES, RawSymbol};
use object::ReadRef;

/// More symbols than this are not kept (24 bytes each, and their names).
const MAX_SYMBOLS: usize = 4 << 20;
/// How many symbols that begin before an address are looked at: those that nest or share a start.
const MAX_BACK: usize = 64;

#[derive(Clone, Copy)]
struct Symbol {
    addr: u64,
    /// One past the last byte. A symbol without a size (a label in assembly) names its first byte alone: what follows
    /// may be a function that the table does not tell of.
    end: u64,
    name: u32,
    len: u16,
    /// Of names for the same address the one with the highest is shown.
    rank: u8,
}

/// The code symbols of one module, from all its tables.
#[derive(Default)]
pub(crate) struct SymbolTable {
    symbols: Vec<Symbol>,
    names: Vec<u8>,
    /// Whether there were more than are kept.
    cut: bool,
}

impl SymbolTable {
    pub(crate) fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    pub(crate) fn add(&mut self, raw: RawSymbol<'_>) {
        let (Ok(name), Ok(len)) = (u32::try_from(self.names.len()), u16::try_from(raw.name.len())) else { return };
        if self.symbols.len() >= MAX_SYMBOLS || self.names.len() + raw.name.len() > MAX_NAMES {
            self.cut = true;
            return;
        }
        self.names.extend_from_slice(raw.name);
        let end = raw.addr.saturating_add(raw.size.max(1));
        self.symbols.push(Symbol { addr: raw.addr, end, name, len, rank: rank(&raw) });
    }

    /// Whether there were more than are kept or were read.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Takes the symbols of a file.
    pub(crate) fn read<'d, R: ReadRef<'d>>(&mut self, data: R) {
        let whole = elf::symbols(data, &mut |s| self.add(s));
        self.cut |= !whole;
    }

    /// Sorts; to be called once, after the last `add`.
    pub(crate) fn finish(&mut self) {
        self.symbols.sort_by_key(|s| (s.addr, s.rank));
        self.symbols.shrink_to_fit();
        self.names.shrink_to_fit();
    }

    /// The name of the innermost symbol that covers `addr`.
    pub(crate) fn find(&self, addr: u64) -> Option<&[u8]> {
        let after = self.symbols.partition_point(|s| s.addr <= addr);
        let before = self.symbols.get(..after)?;
        let s = before.iter().rev().take(MAX_BACK).find(|s| addr < s.end)?;
        let start = s.name as usize;
        self.names.get(start..start + usize::from(s.len))
    }
}

/// Which of several names for one function a reader knows: `close` rather than `__close` or `__libc_close`.
fn rank(raw: &RawSymbol<'_>) -> u8 {
    let underscores = raw.name.iter().take_while(|&&b| b == b'_').count().min(3) as u8;
    let mangled = raw.name.starts_with(b"_Z") || raw.name.starts_with(b"_R");
    let plain = if mangled { 3 } else { 3 - underscores };
    u8::from(raw.function) << 7 | u8::from(raw.size > 0) << 6 | plain << 3 | raw.binding
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(symbols: &[(u64, u64, &str)]) -> SymbolTable {
        let mut t = SymbolTable::default();
        for &(addr, size, name) in symbols {
            t.add(RawSymbol { addr, size, name: name.as_bytes(), binding: 2, function: size > 0 });
        }
        t.finish();
        t
    }

    fn find(t: &SymbolTable, addr: u64) -> Option<&str> {
        t.find(addr).map(|n| std::str::from_utf8(n).unwrap())
    }

    #[test]
    fn an_address_past_the_end_of_a_symbol_has_no_name() {
        let t = table(&[(100, 10, "f"), (200, 10, "g")]);
        assert_eq!(find(&t, 99), None);
        assert_eq!(find(&t, 100), Some("f"));
        assert_eq!(find(&t, 109), Some("f"));
        assert_eq!(find(&t, 110), None);
        assert_eq!(find(&t, u64::MAX), None);
    }

    #[test]
    fn a_symbol_without_size_names_nothing_behind_it() {
        let t = table(&[(100, 0, "label"), (150, 10, "g"), (155, 0, "in_g")]);
        assert_eq!(find(&t, 100), Some("label"));
        assert_eq!(find(&t, 101), None);
        assert_eq!(find(&t, 156), Some("g"));
        assert_eq!(find(&t, 160), None);
    }

    #[test]
    fn of_two_names_the_readable_one_is_shown() {
        let t = table(&[(100, 10, "__close"), (100, 10, "close"), (100, 10, "__libc_close"), (100, 0, "label")]);
        assert_eq!(find(&t, 105), Some("close"));
    }

    #[test]
    fn the_inner_of_nested_symbols_wins_and_the_outer_comes_back() {
        let t = table(&[(100, 100, "outer"), (120, 10, "inner")]);
        assert_eq!(find(&t, 125), Some("inner"));
        assert_eq!(find(&t, 135), Some("outer"));
    }
}

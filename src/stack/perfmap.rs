//! Perf maps: the names that a just-in-time compiler gives to the code it makes.
//!
//! The format is a line for each piece of code, `START SIZE name`, both numbers hexadecimal, the name up to the end of the
//! line (Linux, tools/perf/Documentation/jit-interface.txt). It is only ever added to: what is said later about an address
//! holds. node writes it with `--perf-basic-prof`, CPython from 3.12 on with `-X perf`.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A longer file is read up to here, in bytes.
const MAX_READ: u64 = 256 << 20;
/// Pieces of code that are kept.
const MAX_PIECES: usize = 1 << 20;
/// Longer names are cut off, in bytes.
const MAX_NAME: usize = 1 << 10;

/// Where the process that calls itself `pid` writes its map.
pub(crate) fn path(pid: i32) -> PathBuf {
    PathBuf::from(format!("/tmp/perf-{pid}.map"))
}

/// The code that a map tells of.
#[derive(Default)]
pub(crate) struct PerfMap {
    /// By start: one past the end, and the name. They do not overlap.
    pieces: BTreeMap<u64, (u64, Box<[u8]>)>,
    /// How far the file was read.
    read: u64,
}

impl PerfMap {
    /// Reads what the file has got since it was last read.
    pub(crate) fn update(&mut self, file: &File) {
        let len = file.metadata().map_or(0, |m| m.len()).min(MAX_READ);
        if len < self.read {
            *self = Self::default();
        }
        let mut bytes = vec![0; usize::try_from(len - self.read).unwrap_or(0)];
        if bytes.is_empty() || file.read_exact_at(&mut bytes, self.read).is_err() {
            return;
        }
        // The last line may not have been written to its end.
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        let lines = bytes.get(..whole).unwrap_or_default().split(|&b| b == b'\n');
        lines.filter_map(line).for_each(|(start, size, name)| self.add(start, size, name));
    }

    fn add(&mut self, start: u64, size: u64, name: &[u8]) {
        let end = start.saturating_add(size);
        if start == end {
            return;
        }
        // What was there before is gone.
        while let Some((&old, _)) = self.pieces.range(..end).next_back().filter(|(_, (old_end, _))| *old_end > start) {
            self.pieces.remove(&old);
        }
        if self.pieces.len() < MAX_PIECES {
            self.pieces.insert(start, (end, name.get(..MAX_NAME).unwrap_or(name).into()));
        }
    }

    /// The name of the code that covers `addr`.
    pub(crate) fn find(&self, addr: u64) -> Option<String> {
        let (_, (end, name)) = self.pieces.range(..=addr).next_back()?;
        (addr < *end).then(|| String::from_utf8_lossy(name).into_owned())
    }
}

fn line(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut words = line.splitn(3, |&b| b == b' ');
    let (start, size) = (hex(words.next()?)?, hex(words.next()?)?);
    let name = words.next()?.trim_ascii();
    (!name.is_empty()).then_some((start, size, name))
}

fn hex(text: &[u8]) -> Option<u64> {
    let text = text.strip_prefix(b"0x").unwrap_or(text);
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_hexdigit);
    digits.then(|| u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_said_last_about_an_address_holds() {
        let mut file = tempfile::tempfile().unwrap();
        let mut map = PerfMap::default();
        file.write_all(b"1000 100 old one\n0x1100 10 py::f:/a b.py\nnonsense\n2000 0 empty\n3000 10 cut").unwrap();
        map.update(&file);
        assert_eq!(map.find(0x10ff).as_deref(), Some("old one"));
        assert_eq!(map.find(0x1100).as_deref(), Some("py::f:/a b.py"));
        assert_eq!(map.find(0x1110), None);
        assert_eq!(map.find(0x2000), None);
        assert_eq!(map.find(0x3000), None);
        file.write_all(b" off\n10f0 20 new\nffffffffffffffff ffffffffffffffff end\n").unwrap();
        map.update(&file);
        assert_eq!(map.find(0x3000).as_deref(), Some("cut off"));
        assert_eq!(map.find(0x1100).as_deref(), Some("new"));
        assert_eq!(map.find(0x1000), None, "the old code was overwritten");
    }
}

//! The text of `/proc/PID/maps`, as proc_pid_maps(5) describes it, reduced to what can hold code.

/// An executable mapping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    /// One past the last byte.
    pub(crate) end: u64,
    /// Where in the file `start` lies, in bytes.
    pub(crate) offset: u64,
    /// Major and minor device number; both 0 for memory without a file.
    pub(crate) dev: (u32, u32),
    pub(crate) inode: u64,
    /// The path with the kernel's `\012` turned back into a newline; a ` (deleted)` at its end is kept, because a file
    /// may be called that. Empty for anonymous memory; `[vdso]` for the vDSO.
    pub(crate) path: Vec<u8>,
}

impl Mapping {
    pub(crate) fn is_vdso(&self) -> bool {
        self.inode == 0 && self.path == b"[vdso]"
    }

    pub(crate) fn has_file(&self) -> bool {
        self.inode != 0
    }
}

/// More lines than any real process has; `vm.max_map_count` is 65,530 by default.
const MAX_LINES: usize = 1 << 20;

/// Picks the executable mappings out of `text`, sorted by address and without overlaps.
///
/// A line that makes no sense is passed over: it costs the frames in that mapping, nothing else.
pub(crate) fn executable(text: &[u8]) -> Vec<Mapping> {
    let mut out: Vec<Mapping> = text.split(|&b| b == b'\n').take(MAX_LINES).filter_map(line).collect();
    out.sort_by_key(|m| m.start);
    let mut end = 0;
    out.retain(|m| {
        let fits = m.start >= end;
        if fits {
            end = m.end;
        }
        fits
    });
    out
}

fn line(line: &[u8]) -> Option<Mapping> {
    let (range, rest) = word(line)?;
    let (perms, rest) = word(rest)?;
    if perms.get(2) != Some(&b'x') {
        return None;
    }
    let (offset, rest) = word(rest)?;
    let (dev, rest) = word(rest)?;
    // The inode is the last field of a line without a path; the kernel may or may not put a space behind it.
    let (inode, path) = word(rest).unwrap_or((rest, b""));
    let (start, end) = pair(range, b'-')?;
    let (major, minor) = pair(dev, b':')?;
    let start_to_end = start < end;
    start_to_end.then_some(())?;
    Some(Mapping {
        start,
        end,
        offset: hex(offset)?,
        dev: (u32::try_from(major).ok()?, u32::try_from(minor).ok()?),
        inode: std::str::from_utf8(inode).ok()?.parse().ok()?,
        path: newlines(path.trim_ascii_start()),
    })
}

/// The text before the first space, and what follows it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let n = text.iter().position(|&b| b == b' ')?;
    Some((text.get(..n)?, text.get(n + 1..)?))
}

fn pair(text: &[u8], sep: u8) -> Option<(u64, u64)> {
    let n = text.iter().position(|&b| b == sep)?;
    Some((hex(text.get(..n)?)?, hex(text.get(n + 1..)?)?))
}

fn hex(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_hexdigit);
    digits.then(|| u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()).flatten()
}

/// Undoes the kernel's escape of a newline in a path. It escapes nothing else, not even the backslash, so a path that
/// really holds the four characters `\012` is misread here; the file is then found by device and inode all the same.
fn newlines(mut path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    while let Some((&b, rest)) = path.split_first() {
        match path.strip_prefix(b"\\012") {
            Some(after) => {
                out.push(b'\n');
                path = after;
            }
            None => {
                out.push(b);
                path = rest;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executable_mappings_are_kept_and_in_order() {
        let text = b"7f0000002000-7f0000003000 r-xp 00001000 fe:01 42    /lib/b.so\n\
            00400000-00401000 r--p 00000000 08:02 7     /bin/a\n\
            00401000-00402000 r-xp 00001000 08:02 7     /bin/a\n";
        let m = executable(text);
        assert_eq!(m.iter().map(|m| m.start).collect::<Vec<_>>(), [0x40_1000, 0x7f00_0000_2000]);
        assert_eq!((m[0].dev, m[0].inode, m[0].offset), ((8, 2), 7, 0x1000));
        assert_eq!(m[1].dev, (0xfe, 1));
    }

    #[test]
    fn odd_paths_survive() {
        let text = b"1000-2000 r-xp 00000000 08:02 7                          /a b/c (deleted)\n\
            2000-3000 r-xp 00000000 08:02 8                          /with\\012newline\n\
            3000-4000 rwxp 00000000 00:00 0 \n\
            4000-5000 rwxp 00000000 00:00 0\n\
            5000-6000 r-xp 00000000 00:00 0                          [vdso]\n\
            6000-7000 r-xp 00000000 00:05 9                          /memfd:jit (deleted)\n";
        let m = executable(text);
        assert_eq!(m[0].path, b"/a b/c (deleted)");
        assert_eq!(m[1].path, b"/with\nnewline");
        assert_eq!((m[2].path.len(), m[2].has_file()), (0, false));
        assert!(!m[3].has_file());
        assert!(m[4].is_vdso());
        assert!(m[5].has_file());
    }

    #[test]
    fn lines_without_sense_are_passed_over() {
        for text in [
            &b"zz-1 r-xp 0 0:0 1 /x"[..],
            b"2000-1000 r-xp 0 0:0 1 /x",
            b"1000-2000 r-x",
            b"1000-2000 r-xp 0 0:0 notanumber /x",
            b"10000000000000000-2 r-xp 0 0:0 1 /x",
            b"\xff\xfe",
            b"",
        ] {
            assert_eq!(executable(text), [], "{text:?}");
        }
    }

    #[test]
    fn overlapping_mappings_never_both_stay() {
        let m = executable(b"1000-3000 r-xp 0 0:0 1 /x\n2000-4000 r-xp 0 0:0 2 /y\n");
        assert_eq!(m.len(), 1);
    }
}

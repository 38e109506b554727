//! The words that every layer shares: identifiers, registers, and the way to another process's memory.
//!
//! Nothing here has an effect; the folder may be used by all others and uses none of them.

mod ids;
mod nearest;
mod regs;
pub mod text;

pub use ids::{Fd, FileId, LifeId, Pid, PyStackId, StackId, TableId, Tid};
pub use nearest::nearest;
pub use regs::{Arch, RawCall, Regs};

/// Reading another address space, or a recorded one.
///
/// The decoder and the unwinder see a tracee only through this trait, so both run unchanged on a live process, on
/// bytes recorded in a test, and on whatever a fuzzer makes up.
pub trait ReadMemory {
    /// Copies bytes from `addr` into `buf` and returns how many of them are valid, counted from the start.
    ///
    /// Fewer than `buf.len()` means that the rest is not mapped or not readable; 0 that nothing is. It never fails
    /// otherwise: a vanished process reads as unmapped memory.
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize;

    /// Reads a little-endian word of 8 bytes, `None` where it is not wholly readable.
    fn word(&self, addr: u64) -> Option<u64> {
        let mut b = [0; 8];
        (self.read(addr, &mut b) == 8).then(|| u64::from_le_bytes(b))
    }

    /// Reads a little-endian `u32`, `None` where it is not wholly readable.
    fn half(&self, addr: u64) -> Option<u32> {
        let mut b = [0; 4];
        (self.read(addr, &mut b) == 4).then(|| u32::from_le_bytes(b))
    }

    /// Reads `each` bytes at every one of `addrs`, one after the other into `buf`; returns how many places were read
    /// wholly, counted from the first. What `buf` has no room for is not read.
    fn gather(&self, addrs: &[u64], each: usize, buf: &mut [u8]) -> usize {
        let room = buf.len() / each.max(1);
        let mut places = addrs.iter().zip(buf.chunks_exact_mut(each.max(1)));
        places.position(|(addr, part)| self.read(*addr, part) != each).unwrap_or(addrs.len().min(room))
    }

    /// Reads a NUL-terminated string of at most `max` bytes; the NUL is not part of the result.
    ///
    /// `None` where the first byte is unreadable or no NUL comes within `max` bytes or before unreadable memory.
    fn c_string(&self, addr: u64, max: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut at = addr;
        while out.len() < max {
            // Up to the next page border at most: what lies behind it may be unmapped.
            let room = 4096 - (at as usize & 4095);
            let mut buf = [0u8; 256];
            let want = room.min(buf.len()).min(max - out.len());
            let got = self.read(at, buf.get_mut(..want)?);
            let part = buf.get(..got)?;
            if let Some(n) = part.iter().position(|&b| b == 0) {
                out.extend_from_slice(part.get(..n)?);
                return Some(out);
            }
            if got < want {
                return None;
            }
            out.extend_from_slice(part);
            at = at.checked_add(got as u64)?;
        }
        None
    }
}

/// A process as the stack layer needs it: its memory, its mappings, and the files behind them.
///
/// Implemented in `kernel/` over `/proc/PID`, and in tests over recorded data.
pub trait AddressSpace: ReadMemory {
    /// The text of `/proc/PID/maps` (proc_pid_maps(5)); an error when the process is gone or hidden.
    fn maps(&self) -> std::io::Result<Vec<u8>>;

    /// Opens the file mapped at `start..end`, whose path in the maps is `path`, read-only and close-on-exec.
    ///
    /// It must give the very file that is mapped, also when it was deleted, replaced or lies in another mount
    /// namespace (`/proc/PID/map_files/START-END` where permitted, else `/proc/PID/root/PATH` checked by device and
    /// inode).
    fn open_mapped(
        &self,
        start: u64,
        end: u64,
        path: &[u8],
        dev: (u32, u32),
        inode: u64,
    ) -> std::io::Result<std::fs::File>;

    /// The root directory of the process; `None` where its paths mean the same files as this process's own, or it cannot
    /// be opened.
    fn root(&self) -> Option<Root> {
        None
    }

    /// The number that the process has for itself, in the innermost pid namespace (pid_namespaces(7)); `None` when it is
    /// gone or not a process.
    fn inner_pid(&self) -> Option<i32> {
        None
    }
}

/// The root directory of a process in another mount namespace, or below another root (mount_namespaces(7), chroot(2)).
#[derive(Debug)]
pub struct Root {
    /// The directory.
    pub dir: std::fs::File,
    /// Its path from the root of the mount namespace: `/` but after chroot(2). The kernel's paths of mapped files begin
    /// with it.
    pub path: Vec<u8>,
    /// The mount namespace's number, as `/proc/PID/ns/mnt` shows it.
    pub namespace: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(u64, Vec<u8>);
    impl ReadMemory for Bytes {
        fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
            let Some(off) = addr.checked_sub(self.0) else {
                return 0;
            };
            let src = self.1.get(off as usize..).unwrap_or_default();
            let n = src.len().min(buf.len());
            buf[..n].copy_from_slice(&src[..n]);
            n
        }
    }

    #[test]
    fn a_string_across_a_page_border_is_read_whole() {
        let mut v = vec![b'a'; 300];
        v.push(0);
        assert_eq!(Bytes(4000, v).c_string(4000, 4096), Some(vec![b'a'; 300]));
    }

    #[test]
    fn a_string_without_end_is_no_string() {
        assert_eq!(Bytes(4000, vec![b'a'; 300]).c_string(4000, 4096), None);
        assert_eq!(Bytes(4000, vec![b'a'; 300]).c_string(4000, 200), None);
        assert_eq!(Bytes(4000, vec![]).c_string(4000, 200), None);
    }

    #[test]
    fn a_word_needs_all_its_bytes() {
        assert_eq!(Bytes(0, vec![1; 7]).word(0), None);
        assert_eq!(Bytes(0, vec![1, 0, 0, 0, 0, 0, 0, 0]).word(0), Some(1));
    }
}

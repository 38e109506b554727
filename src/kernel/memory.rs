//! A process as the decoder and the unwinder see it.

use super::{procfs, sys};
use crate::base::{AddressSpace, Fd, Pid, ReadMemory, Root, Tid};
use crate::event::Inode;
use crate::syscall::ReadTask;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

/// A page of memory, in bytes; no x86 page is smaller.
const PAGE: usize = 4096;

/// The memory, mappings and descriptors of a stopped task's process.
#[derive(Clone, Copy, Debug)]
pub struct Memory(pub Tid);

impl ReadMemory for Memory {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let got = sys::read_memory(self.0.0, addr, buf);
        if got > 0 || buf.is_empty() {
            return got;
        }
        // One remote range is read wholly or not at all (process_vm_readv(2)): what lies before the first unmapped
        // page is got page by page, by halving. Where the first page cannot be read, that is all.
        let first = PAGE - (addr as usize & (PAGE - 1));
        let failed = |part: &mut [u8]| sys::read_memory(self.0.0, addr, part) != part.len();
        if first >= buf.len() || buf.get_mut(..first).is_none_or(failed) {
            return 0;
        }
        let (mut lo, mut hi) = (first, buf.len());
        while hi - lo > 1 {
            let mid = lo + (hi - lo) / 2;
            let Some(part) = buf.get_mut(..mid) else { break };
            if sys::read_memory(self.0.0, addr, part) == mid { lo = mid } else { hi = mid }
        }
        lo
    }

    fn gather(&self, addrs: &[u64], each: usize, buf: &mut [u8]) -> usize {
        sys::read_places(self.0.0, addrs, each, buf).checked_div(each).unwrap_or(0)
    }
}

impl ReadTask for Memory {
    fn link(&self, fd: Fd) -> Option<Vec<u8>> {
        procfs::link(self.0, fd)
    }

    fn flags(&self, fd: Fd) -> Option<u32> {
        procfs::flags(self.0, fd)
    }

    fn leads_to(&self, dir: Option<Fd>, path: &[u8]) -> Option<(Vec<u8>, Option<Inode>)> {
        procfs::leads_to(self.0, dir, path)
    }

    fn pidfd(&self, fd: Fd) -> Option<Pid> {
        procfs::pid_of_pidfd(self.0, fd)
    }
}

impl AddressSpace for Memory {
    fn maps(&self) -> io::Result<Vec<u8>> {
        procfs::read(format!("/proc/{}/maps", self.0))
    }

    fn open_mapped(&self, start: u64, end: u64, path: &[u8], dev: (u32, u32), inode: u64) -> io::Result<File> {
        // map_files wants CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE, and is the only sure way to a deleted file.
        if let Ok(f) = procfs::open_read(format!("/proc/{}/map_files/{start:x}-{end:x}", self.0).as_ref()) {
            return Ok(f);
        }
        let is_it = |f: &File| {
            f.metadata().is_ok_and(|m| m.ino() == inode && (libc::major(m.dev()), libc::minor(m.dev())) == dev)
        };
        let exe = procfs::open_read(format!("/proc/{}/exe", self.0).as_ref());
        if let Some(f) = exe.ok().filter(is_it) {
            return Ok(f);
        }
        let inside = procfs::under_root(self.0, path);
        let f = procfs::open_read(&inside)?;
        // A file system may show another device number in maps than stat(2) gives (btrfs, overlayfs): there the inode
        // alone must do.
        if is_it(&f) || f.metadata().is_ok_and(|m| m.ino() == inode) {
            return Ok(f);
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "the mapped file was replaced"))
    }

    fn root(&self) -> Option<Root> {
        procfs::foreign_root(self.0)
    }

    fn inner_pid(&self) -> Option<i32> {
        procfs::inner_pid(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_before_unmapped_memory_is_read() {
        // The last mapped page before a hole: the end of this process's stack mapping.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let stack = maps.lines().find(|l| l.ends_with("[stack]")).unwrap();
        let end = u64::from_str_radix(stack.split(['-', ' ']).nth(1).unwrap(), 16).unwrap();
        let me = Memory(Tid(std::process::id() as i32));
        let mut buf = [0u8; 8192];
        assert_eq!(me.read(end - 100, &mut buf), 100);
        assert_eq!(me.read(end, &mut buf), 0);
    }
}

//! What only the kernel knows, for whoever looks.

use crate::base::{Fd, Tid};
use crate::kernel::look;
use crate::render::{Live, Seen};

/// The kernel.
pub(super) struct Kernel;

impl Live for Kernel {
    fn position(&mut self, tid: Tid, fd: Fd) -> Option<u64> {
        look::position(tid, fd)
    }

    fn counter(&mut self, tid: Tid, fd: Fd) -> Option<u64> {
        look::counter(tid, fd)
    }

    fn socket(&mut self, tid: Tid, inode: u64) -> Option<String> {
        look::socket(tid, inode)
    }

    fn content(&mut self, tid: Tid, fd: Fd, max: usize) -> Result<Seen, String> {
        let c = look::content(tid, fd, max)?;
        Ok(Seen { start: c.start, position: c.position, size: c.size, bytes: c.bytes })
    }
}

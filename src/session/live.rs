//! What only the kernel knows, for whoever looks.

use crate::base::{Fd, Tid};
use crate::kernel::look;
use crate::render::{Live, Seen};

/// The kernel.
#[derive(Default)]
pub(super) struct Kernel {
    /// The sockets of the namespace of the task that was asked about last.
    sockets: Option<(Tid, look::Sockets)>,
}

impl Live for Kernel {
    fn position(&mut self, tid: Tid, fd: Fd) -> Option<u64> {
        look::position(tid, fd)
    }

    fn counter(&mut self, tid: Tid, fd: Fd) -> Option<u64> {
        look::counter(tid, fd)
    }

    fn socket(&mut self, tid: Tid, inode: u64) -> Option<String> {
        if self.sockets.as_ref().is_none_or(|(of, _)| *of != tid) {
            self.sockets = Some((tid, look::Sockets::of(tid)));
        }
        self.sockets.as_ref()?.1.get(inode).map(str::to_string)
    }

    fn content(&mut self, tid: Tid, fd: Fd, max: usize) -> Result<Seen, String> {
        let c = look::content(tid, fd, max)?;
        Ok(Seen { start: c.start, position: c.position, size: c.size, bytes: c.bytes })
    }
}

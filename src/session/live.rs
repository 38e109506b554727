//! What only the kernel knows, for whoever looks.

use crate::base::{Fd, FileId, TableId, Tid};
use crate::kernel::copies::Copies;
use crate::kernel::look;
use crate::render::{Live, Seen};
use std::collections::BTreeMap;

/// The kernel, and what is held of it.
pub(super) struct Kernel<'c> {
    copies: &'c mut Copies,
    /// The sockets of the namespace of the task that was asked about last.
    sockets: Option<(Tid, look::Sockets)>,
    quarantine: BTreeMap<TableId, Vec<Fd>>,
}

impl<'c> Kernel<'c> {
    pub(super) fn new(copies: &'c mut Copies, quarantine: BTreeMap<TableId, Vec<Fd>>) -> Kernel<'c> {
        Kernel { copies, sockets: None, quarantine }
    }
}

fn seen(c: look::Content) -> Seen {
    Seen { start: c.start, position: c.position, size: c.size, bytes: c.bytes }
}

impl Live for Kernel<'_> {
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
        look::content(tid, fd, max).map(seen)
    }

    fn hold(&mut self, tid: Tid, fd: Fd, of: FileId) -> Result<(), String> {
        self.copies.hold(tid, fd, of)
    }

    fn held(&self) -> Vec<FileId> {
        self.copies.all()
    }

    fn quarantined(&self, table: TableId) -> &[Fd] {
        self.quarantine.get(&table).map_or(&[], Vec::as_slice)
    }

    fn let_go(&mut self, of: FileId) -> bool {
        self.copies.let_go(of)
    }

    fn content_of(&mut self, of: FileId, max: usize) -> Result<Seen, String> {
        self.copies.content(of, max).map(seen)
    }
}

//! For tests only: somebody who changes what the kernel answers.
//!
//! `sys.rs` and `procfs.rs` ask here before they hand an answer on. Nothing of this is in a program that is built to be
//! used.

use nix::errno::Errno;
use std::cell::RefCell;
use std::io;

/// What comes between the kernel and this folder. Whatever is not overridden passes as it is.
pub(crate) trait Faults {
    /// A task has reported `status`; what is said instead.
    fn status(&mut self, tid: i32, status: i32) -> i32;
    /// A ptrace request on `tid` is about to be made; the answer in place of the kernel's, if there is one.
    fn request(&mut self, tid: i32) -> Option<Errno>;
    /// The memory of `tid` has been read to `got`; how much of it is handed on, changed or not.
    fn memory(&mut self, tid: i32, got: &mut [u8]) -> usize;
    /// A file, link or folder below `/proc` is about to be read; the error in place of what it holds, if there is one.
    fn proc(&mut self) -> Option<io::Error>;
    /// A file or link below `/proc` has been read; how much of it is handed on.
    fn text(&mut self, length: usize) -> usize;
}

thread_local! {
    static INSTALLED: RefCell<Option<Box<dyn Faults>>> = const { RefCell::new(None) };
}

/// Installs `faults` for this thread, in place of what was; gives that back.
pub(crate) fn install(faults: Option<Box<dyn Faults>>) -> Option<Box<dyn Faults>> {
    INSTALLED.replace(faults)
}

/// Waits until this process has no child any more.
pub(crate) fn reap() {
    while !matches!(super::sys::wait(-1, true), Err(Errno::ECHILD)) {}
}

fn ask<T>(otherwise: T, question: impl FnOnce(&mut dyn Faults) -> T) -> T {
    INSTALLED.with_borrow_mut(|f| match f {
        Some(f) => question(f.as_mut()),
        None => otherwise,
    })
}

pub(super) fn status(tid: i32, status: i32) -> i32 {
    ask(status, |f| f.status(tid, status))
}

pub(super) fn request(tid: i32) -> Result<(), Errno> {
    ask(None, |f| f.request(tid)).map_or(Ok(()), Err)
}

pub(super) fn memory(tid: i32, got: &mut [u8]) -> usize {
    ask(got.len(), |f| f.memory(tid, got))
}

pub(super) fn proc() -> io::Result<()> {
    ask(None, |f| f.proc()).map_or(Ok(()), Err)
}

pub(super) fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = bytes.len();
    bytes.truncate(ask(length, |f| f.text(length)));
    bytes
}

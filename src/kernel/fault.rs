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
    /// Which of these reports, of as many tasks, comes first: all that the kernel has at the moment.
    fn first(&mut self, reports: &[(i32, i32)]) -> usize {
        let _ = reports;
        0
    }
    /// Whether the first stop of a child is to come before the event that announces it.
    fn children_first(&self) -> bool {
        false
    }
    /// A child's first stop has come before the event that announces it.
    fn child_came_first(&mut self) {}
    /// A ptrace request on `tid` is about to be made; the answer in place of the kernel's, if there is one.
    fn request(&mut self, tid: i32) -> Option<Errno>;
    /// The memory of `tid` has been read to `got`; how much of it is handed on, changed or not.
    fn memory(&mut self, tid: i32, got: &mut [u8]) -> usize;
    /// A file, link or folder below `/proc` is about to be read; the error in place of what it holds, if there is one.
    fn proc(&mut self) -> Option<io::Error>;
    /// A file or link below `/proc` has been read; how much of it is handed on.
    fn text(&mut self, length: usize) -> usize;
}

/// A task and its wait status.
type Report = (i32, i32);

thread_local! {
    static REPORTS: RefCell<Vec<Report>> = const { RefCell::new(Vec::new()) };
    /// Who has reported at all.
    static SEEN: RefCell<Vec<i32>> = const { RefCell::new(Vec::new()) };
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

/// Waits by way of `kernel` (a tid, and whether to block), and gives the reports in the order that the test wants. Those of
/// one task keep theirs.
pub(super) fn wait(
    tid: i32,
    block: bool,
    kernel: impl Fn(i32, bool) -> Result<Option<Report>, Errno>,
) -> Result<Option<Report>, Errno> {
    if INSTALLED.with_borrow(Option::is_none) {
        return kernel(tid, block);
    }
    let mut kept = REPORTS.take();
    let got = ordered(tid, block, &mut kept, kernel);
    REPORTS.replace(kept);
    if let Ok(Some((tid, status))) = got {
        SEEN.with_borrow_mut(|seen| {
            seen.retain(|t| *t != tid);
            if libc::WIFSTOPPED(status) {
                seen.push(tid);
            }
        });
    }
    got
}

fn ordered(
    tid: i32,
    block: bool,
    kept: &mut Vec<Report>,
    kernel: impl Fn(i32, bool) -> Result<Option<Report>, Errno>,
) -> Result<Option<Report>, Errno> {
    let of = |r: &Report| tid == -1 || r.0 == tid;
    if !kept.iter().any(of) {
        match kernel(tid, block)? {
            None => return Ok(None),
            Some(report) => kept.push(report),
        }
    }
    if tid == -1 {
        while let Ok(Some(report)) = kernel(-1, false) {
            kept.push(report);
        }
    }
    let mut heads: Vec<Report> = Vec::new();
    for report in kept.iter().filter(|r| of(r)) {
        if !heads.iter().any(|h| h.0 == report.0) {
            heads.push(*report);
        }
    }
    let pick = ask(0, |f| f.first(&heads)).min(heads.len().saturating_sub(1));
    let Some(first) = heads.get(pick).copied() else { return Ok(None) };
    if tid == -1
        && let Some(child) = unseen_child(first)
        && !kept.iter().any(|r| r.0 == child)
        && let Ok(Some(report)) = kernel(child, true)
    {
        ask((), |f| f.child_came_first());
        return Ok(Some(report));
    }
    if let Some(at) = kept.iter().position(|r| *r == first) {
        kept.remove(at);
    }
    Ok(Some(first))
}

/// The child that a report announces, if it is to report before that, and has not.
fn unseen_child((tid, status): Report) -> Option<i32> {
    let makes = [libc::PTRACE_EVENT_FORK, libc::PTRACE_EVENT_VFORK, libc::PTRACE_EVENT_CLONE].contains(&(status >> 16));
    if !makes || !ask(false, |f| f.children_first()) {
        return None;
    }
    let child = i32::try_from(super::sys::event_message(tid).ok()?).ok()?;
    SEEN.with_borrow(|seen| !seen.contains(&child)).then_some(child)
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

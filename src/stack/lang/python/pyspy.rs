//! The fallback: py-spy reads what our tables do not understand.
//!
//! It opens the process by itself (through `/proc` and `process_vm_readv`, never stopping it) and takes 2 to 82 ms to
//! do so, because it parses every symbol of the interpreter; so it is asked last, and backs off when it fails. It was
//! written for processes that run on while it looks, and a strange one could make it panic: a panic is caught here,
//! counted as a failure, and makes it start anew later.

use super::{NoPython, PyFrame, PyStack, Task};
use py_spy::config::{Config, LockingStrategy};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// py-spy for one process.
pub(super) struct Spy {
    inner: Option<py_spy::PythonSpy>,
    failures: u32,
    wait: u32,
}

impl std::fmt::Debug for Spy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spy").field("open", &self.inner.is_some()).field("failures", &self.failures).finish()
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs what might panic; `None` if it did.
///
/// The hook is wrapped once and for good, and silent only for this thread and only in here: another thread's panic is
/// still reported.
fn quietly<T>(f: impl FnOnce() -> T) -> Option<T> {
    static WRAPPED: Once = Once::new();
    WRAPPED.call_once(|| {
        let hook = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                hook(info);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    QUIET.set(false);
    result.ok()
}

impl Spy {
    pub(super) fn new() -> Spy {
        Spy { inner: None, failures: 0, wait: 0 }
    }

    /// The stack of one task.
    pub(super) fn trace(&mut self, task: &Task<'_>) -> Result<PyStack, NoPython> {
        if self.wait > 0 {
            self.wait -= 1;
            return Err(NoPython::BackingOff);
        }
        let result = self.attempt(task);
        if matches!(result, Err(NoPython::Unreadable)) {
            self.failures += 1;
            self.wait = 1 << self.failures.min(12);
        }
        result
    }

    fn attempt(&mut self, task: &Task<'_>) -> Result<PyStack, NoPython> {
        let inner = self.inner.take();
        let pid = task.pid.0;
        let (spy, traces) = quietly(move || {
            let mut spy = match inner {
                Some(spy) => spy,
                None => {
                    let config = Config {
                        blocking: LockingStrategy::NonBlocking,
                        collect_thread_names: false,
                        ..Config::default()
                    };
                    py_spy::PythonSpy::new(pid, &config).ok()?
                }
            };
            let traces = spy.get_stack_traces().ok()?;
            Some((spy, traces))
        })
        .flatten()
        .ok_or(NoPython::Unreadable)?;
        self.inner = Some(spy);
        let only = traces.len() == 1;
        let trace = traces
            .into_iter()
            .find(|t| {
                only || t.os_thread_id == u64::try_from(task.tid.0).ok()
                    || task.fs_base.is_some_and(|fs| fs == t.thread_id)
            })
            .ok_or(NoPython::NoThread)?;
        let frames = trace
            .frames
            .into_iter()
            .map(|f| PyFrame {
                entry: f.is_entry || f.is_shim_entry,
                function: f.name.into(),
                file: f.filename.into(),
                line: u32::try_from(f.line).ok().filter(|&l| l != 0),
            })
            .collect();
        Ok(PyStack { frames, truncated: false, leaves_with: false, activations: Vec::new() })
    }
}

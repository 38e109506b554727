//! The only folder that calls ptrace, waits, or reads `/proc` and other processes' memory.
//!
//! Above it a task is a value: [`Stopped`] can be looked at, changed and resumed; resuming consumes it. Orders of
//! events that the kernel does not promise are settled here: a task is always announced before its first stop.

mod attach;
pub mod copies;
mod debuginfod;
pub mod doctor;
pub mod errand;
mod error;
#[cfg(test)]
pub(crate) mod fault;
mod filter;
mod knock;
mod known;
mod launch;
pub mod look;
mod memory;
mod order;
mod park;
mod place;
pub mod procfs;
mod requests;
mod signals;
mod stop;
mod sys;
mod tracer;

pub use attach::{AttachError, Attached, attach};
pub use debuginfod::Debuginfod;
pub use error::Error;
pub use filter::Filter;
pub use knock::{KNOCK, knock, knocked_for};
pub use launch::{Command, LaunchError, Launched, die_by, find};
pub use memory::Memory;
pub use requests::{Request, Requests};
pub use signals::{Caught, stop_job};
pub use stop::{ForkKind, Stop};
pub use tracer::{Entering, Next, Resume, Stopped, Tracer};

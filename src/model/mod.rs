//! Which descriptors are open, what they are, how they came to be and how they ended.
//!
//! The model is pure: no I/O, no clock, no ptrace. [`World::consequences`] decides what an event changes,
//! [`World::commit`] is the only thing that changes it. So a break can be shown before a close happens, by asking for
//! the consequences of a call that is only about to be made.

mod altered;
mod commit;
mod decide;
mod flight;
mod life;
mod world;

#[cfg(test)]
mod tests;

pub use altered::Altered;
pub use decide::{Change, Transition};
pub use flight::{Doubt, Flights};
pub use life::{End, Ended, Life, Moment, OpenFile, Origin, What};
pub use world::{FdTable, Process, Task, Window, World};

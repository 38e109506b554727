//! fdwatch: a debugger for file descriptors on Linux.
//!
//! It runs a program under ptrace, follows every descriptor from the call that made it to the one that ended it, and
//! stops **before** the close that takes a descriptor away from a child that needs it.
//!
//! ```text
//!  kernel ─ptrace stop→ tracer ─call→ decode ─event→ model ─change→ findings ─finding→ policy ─break→ prompt
//!                         │                            │                                  └────────→ report
//!                         └─ registers + memory → unwind → stack id → names (only when somebody looks)
//! ```
//!
//! Data flows one way, and nothing points back. A folder is a layer:
//!
//! - [`base`]: identifiers, registers, reading another process's memory. [`event`]: what happened, in the model's terms.
//! - [`syscall`]: the table of system calls. [`model`]: tables, lives, objects. [`finding`]: the rules. [`policy`]: when
//!   to break. These are pure: no I/O, no clock, no ptrace, and can be driven by a test.
//! - [`stack`]: return addresses now, names later; why a close came; Python's frames.
//! - [`kernel`]: the only folder that calls ptrace, waits, or reads `/proc`.
//! - [`render`], [`prompt`], [`report`]: values to text, commands to decisions.
//! - [`session`]: the conductor. [`cli`]: the command line; [`config`]: settings from files.
//!
//! To watch a program from one's own code: start it with [`kernel::Launched::start`], hand it to a
//! [`session::Session`], and implement [`session::Frontend`]; `examples/closes.rs` does it in fifty lines.
//!
//! x86-64 Linux only: the unwinder and the system call tables know no other machine.

// They panic when nobody can be written to.
#![warn(clippy::print_stderr, clippy::print_stdout)]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("fdwatch runs on x86-64 Linux only: its unwinder and its system call tables know no other machine");

pub mod base;
pub mod cli;
pub mod config;
pub mod event;
pub mod finding;
pub mod identity;
pub mod kernel;
pub mod model;
pub mod policy;
pub mod prompt;
pub mod render;
pub mod report;
pub mod session;
pub mod stack;
pub mod syscall;

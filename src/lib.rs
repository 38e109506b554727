//! fdwatch: a debugger for file descriptors on Linux.
pub mod base;
pub mod cli;
pub mod event;
pub mod finding;
pub mod kernel;
pub mod model;
pub mod policy;
pub mod prompt;
pub mod render;
pub mod report;
pub mod session;
pub mod stack;
pub mod syscall;

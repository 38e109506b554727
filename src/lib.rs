//! fdwatch: a debugger for file descriptors on Linux.
pub mod base;
pub mod event;
pub mod model;
pub mod syscall;

//! fdwatch: a debugger for file descriptors on Linux.
pub mod base;

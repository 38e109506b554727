//! Languages whose frames live in memory and not on the native stack.
pub mod python;

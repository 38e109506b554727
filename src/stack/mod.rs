//! Stacks: captured now, explained later.
pub mod lang;

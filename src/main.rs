//! The `fdwatch` program.
fn main() {}

//! What each subcommand does, by the library.

pub(crate) mod attach;
pub(crate) mod audit;
pub(crate) mod common;
pub(crate) mod doctor;
pub(crate) mod reports;
pub(crate) mod run;
mod sifting;

//! Calls that only ask about a descriptor, and get an answer also about one that is open with O_PATH (open(2)). They stop
//! only where numbers are held back by such (`--quarantine`), so that a program that asks is told that they are not open.

use super::{Arg, Made, Need, Row, When, dup};
use crate::event::Effect;

fn nothing(_: &Made<'_>) -> Vec<Effect> {
    Vec::new()
}

const fn asks(name: &'static str, nr64: u32, args: &'static [Arg]) -> Row {
    let when = When::Arguments(|_| Need::Nothing);
    Row { name, nr64: Some(nr64), nr32: None, only: None, when, args, decode: nothing }
}

const FOLDER: &[Arg] = &[Arg::DirFd, Arg::Path];

/// Outside of the families. Where a row of them has the same number, this is the one that counts.
pub(super) static ROWS: &[Row] = &[
    asks("fstat", 5, &[Arg::Fd]),
    asks("fchdir", 81, &[Arg::Fd]),
    asks("fstatfs", 138, &[Arg::Fd]),
    asks("newfstatat", 262, FOLDER),
    asks("readlinkat", 267, FOLDER),
    asks("faccessat", 269, FOLDER),
    asks("statx", 332, FOLDER),
    asks("faccessat2", 439, FOLDER),
    dup::FCNTL_WITH_QUESTIONS,
];

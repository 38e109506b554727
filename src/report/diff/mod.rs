//! What differs between two runs: pure, and ignorant of numbers that no two runs share.
//!
//! [`compare`] aligns the lives of two reports by where they were opened and which of those they are; [`Story`] is one
//! finding or one life, to be laid beside another. Times, pids, ids and made-up names of files are no differences.

mod align;
mod frames;
mod story;
#[cfg(test)]
mod tests;
mod text;

pub use align::{Aligned, Difference, Divergence, Pair, compare};
pub use frames::{Frame, Row, align};
pub use story::{Step, Story};
pub use text::{report_diff, story_diff};

use super::Report;
use crate::base::text::escape;
use crate::base::{Fd, FileId};

/// What is to be compared: a report, or something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The nth finding, from 1: `REPORT#2`.
    Finding(usize),
    /// The first life of an object, or that which has this number: `REPORT@17`, `REPORT@17:3`.
    Life(FileId, Option<Fd>),
}

/// Splits `REPORT#N`, `REPORT@OBJECT` and `REPORT@OBJECT:FD` into the file's name and the part.
pub fn part(text: &str) -> (&str, Part) {
    let split =
        text.rfind(['#', '@']).and_then(|at| Some((text.get(..at)?, text.get(at..at + 1)?, text.get(at + 1..)?)));
    match split {
        Some((file, "#", n)) if !file.is_empty() => match digits(n) {
            Some(n) => (file, Part::Finding(n as usize)),
            None => (text, Part::Whole),
        },
        Some((file, "@", which)) if !file.is_empty() => {
            let (object, fd) = match which.split_once(':') {
                Some((object, fd)) => (digits(object), digits(fd).and_then(|n| i32::try_from(n).ok()).map(Some)),
                None => (digits(which), Some(None)),
            };
            match (object, fd) {
                (Some(object), Some(fd)) => (file, Part::Life(FileId(object), fd.map(Fd))),
                _ => (text, Part::Whole),
            }
        }
        _ => (text, Part::Whole),
    }
}

fn digits(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

impl Part {
    /// What this is of `report`; `None` for the whole.
    ///
    /// # Errors
    /// With one line if there is no such finding or life.
    pub fn of(self, report: &Report) -> Result<Option<Story>, String> {
        match self {
            Part::Whole => Ok(None),
            Part::Finding(n) => match n.checked_sub(1).and_then(|i| report.findings.get(i)) {
                Some(f) => Ok(Some(Story::of_finding(f))),
                None => Err(match report.findings.len() {
                    0 => format!("there is no finding #{n}: nothing was found"),
                    1 => format!("there is no finding #{n}: there is one, #1"),
                    most => format!("there is no finding #{n}: there are {most}, from #1"),
                }),
            },
            Part::Life(object, fd) => {
                let Some(lives) = &report.lives else { return Err(NO_LIVES.to_string()) };
                let mut of_object = lives.list.iter().filter(|l| l.object == object).peekable();
                if of_object.peek().is_none() {
                    return Err(format!("there is no object {object}, or it was forgotten"));
                }
                match of_object.find(|l| fd.is_none_or(|fd| l.fd == fd)) {
                    Some(life) => Ok(Some(Story::of_life(lives, life))),
                    None => {
                        let mut fds: Vec<_> =
                            lives.list.iter().filter(|l| l.object == object).map(|l| l.fd.to_string()).collect();
                        fds.dedup();
                        let fd = fd.map(|f| f.to_string()).unwrap_or_default();
                        Err(format!("{object} was never fd {}: it was fd {}", escape(fd.as_bytes()), fds.join(", ")))
                    }
                }
            }
        }
    }
}

/// Why a report cannot be compared.
pub const NO_LIVES: &str = "it holds no lives: write it with --format json, or give the log that --record wrote";

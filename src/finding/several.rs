//! Findings that are told together: what a program inherits is one, of however many descriptors.
//!
//! Each keeps its own story, by which it is known or suppressed; what is left is told.

use super::Finding;
use crate::base::Fd;
use crate::base::text::escape;

/// How many descriptors a finding names beside its own.
const MOST_NAMED: usize = 8;

/// So many are told together; what comes later is a finding of its own.
const MOST: usize = 1024;

/// A finding that may be of several.
pub trait Several: Clone {
    /// Each by itself, the finding's own first; none where it is not of several.
    fn parts(&mut self) -> &mut Vec<Self>;
    /// How often it was found.
    fn count(&mut self) -> &mut u64;
    /// Its number, and its object in a few words, safe to show.
    fn subject(&self) -> (Fd, String);
    /// Says more: the end of the title and a clause of evidence.
    fn add(&mut self, title: &str, clause: String);
}

/// One finding of several that are told by themselves, in their order; of very many more than one.
pub fn together<T: Several>(parts: &[T]) -> Vec<T> {
    parts.chunks(MOST).filter_map(one).collect()
}

fn one<T: Several>(parts: &[T]) -> Option<T> {
    let (first, others) = parts.split_first()?;
    let mut finding = first.clone();
    if !others.is_empty() {
        let named = others.iter().take(MOST_NAMED).map(Several::subject);
        let named: Vec<_> = named.map(|(fd, what)| format!("fd {fd}, {what}")).collect();
        let rest = others.len() - named.len();
        let more = if rest > 0 { format!("; and {rest} more") } else { String::new() };
        finding.add(&format!(", and {} more", others.len()), format!("with it goes {}{more}", named.join("; ")));
        *finding.parts() = parts.to_vec();
    }
    Some(finding)
}

/// What is left of a finding without those of its parts that are not `new`, and how many these are.
pub fn left<T: Several>(mut finding: T, mut new: impl FnMut(&T) -> bool) -> (Option<T>, u64) {
    let mut parts = std::mem::take(finding.parts());
    if parts.is_empty() {
        return match new(&finding) {
            true => (Some(finding), 0),
            false => (None, 1),
        };
    }
    let all = parts.len();
    parts.retain(|part| new(part));
    let gone = all - parts.len();
    if gone == 0 {
        *finding.parts() = parts;
        return (Some(finding), 0);
    }
    let mut left = one(&parts);
    if let Some(left) = &mut left {
        *left.count() = *finding.count();
    }
    (left, gone as u64)
}

/// `a file (/tmp/a)`, of a kind and a path that are safe to show.
pub(crate) fn in_short(noun: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => format!("a {noun} ({path})"),
        false => format!("a {noun}"),
    }
}

impl Several for Finding {
    fn parts(&mut self) -> &mut Vec<Finding> {
        &mut self.parts
    }

    fn count(&mut self) -> &mut u64 {
        &mut self.count
    }

    fn subject(&self) -> (Fd, String) {
        let file = &self.object.file;
        (self.fd, in_short(file.noun(), &escape(&file.path)))
    }

    fn add(&mut self, title: &str, clause: String) {
        self.title += title;
        self.evidence.push(clause);
    }
}

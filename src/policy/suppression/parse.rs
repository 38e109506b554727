//! Reading a file of suppressions. A mistake is told with its place and what was expected.

use super::{Chain, Pattern, ROLES, Suppression, Where, nearest_key};
use crate::base::text::escape;
use crate::finding::rules;
use std::fmt;
use std::sync::Arc;

/// A mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The file, safe to show.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The character in the line, from 1.
    pub column: u32,
    /// What is there, and what was expected; safe to show.
    pub what: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.what)
    }
}

/// A word that is wrong, not longer than fits a line.
fn shown(word: &str) -> String {
    let short: String = word.chars().take(40).collect();
    escape(short.as_bytes())
}

/// A line of a file, to point into.
#[derive(Clone, Copy)]
struct At<'t> {
    file: &'t str,
    line: u32,
    text: &'t str,
}

impl<'t> At<'t> {
    /// A mistake at this byte of the line.
    fn wrong(&self, byte: usize, what: String) -> Malformed {
        let column = self.text.get(..byte).unwrap_or(self.text).chars().count() as u32 + 1;
        Malformed { file: self.file.to_string(), line: self.line, column, what }
    }

    /// The first word, where it begins, the rest without the spaces around it, and where that begins.
    fn split(&self) -> (&'t str, usize, &'t str, usize) {
        let begin = self.text.len() - self.text.trim_start().len();
        let line = self.text.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let bare = rest.trim_start();
        (word, begin, bare, begin + line.len() - bare.len())
    }
}

/// An entry that is being read.
struct Open<'t> {
    at: At<'t>,
    entry: Suppression,
}

impl Open<'_> {
    fn close(self) -> Result<Suppression, Malformed> {
        let missing = if self.entry.reason.is_empty() {
            "this entry has no reason: expected a line `reason TEXT` that says why it is harmless"
        } else if self.entry.conditions.is_empty() {
            "this entry says nothing of where: expected a line `closed FUNCTION`, or opened, reused, used, stack or path"
        } else {
            return Ok(self.entry);
        };
        Err(self.at.wrong(0, missing.to_string()))
    }
}

/// The entries of a file, in its order.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Suppression>, Malformed> {
    let name: Arc<str> = file.into();
    let mut entries = Vec::new();
    let mut open: Option<Open<'_>> = None;
    for (line, text) in (1..).zip(text.lines()) {
        let at = At { file, line, text };
        if text.trim().is_empty() || text.trim_start().starts_with('#') {
            continue;
        }
        if let Some(bad) = text.find(|c: char| c.is_control() && c != '\t' && c != '\r') {
            return Err(at.wrong(bad, "a control character: expected text".to_string()));
        }
        if text.starts_with([' ', '\t']) {
            let Some(open) = &mut open else {
                let what = "an indented line before any entry: expected `suppress FINDING`";
                return Err(at.wrong(at.split().1, what.to_string()));
            };
            condition(at, &mut open.entry)?;
        } else {
            if let Some(done) = open.take() {
                entries.push(done.close()?);
            }
            let finding = head(at)?;
            let entry =
                Suppression { file: Arc::clone(&name), line, finding, reason: String::new(), conditions: Vec::new() };
            open = Some(Open { at, entry });
        }
    }
    if let Some(done) = open {
        entries.push(done.close()?);
    }
    Ok(entries)
}

/// `suppress FINDING`.
fn head(at: At<'_>) -> Result<Pattern, Malformed> {
    let (word, begin, finding, place) = at.split();
    if word != "suppress" {
        let what = format!("\"{}\": expected `suppress FINDING`, or an indented line of the entry above", shown(word));
        return Err(at.wrong(begin, what));
    }
    if finding.is_empty() {
        return Err(
            at.wrong(at.text.len(), "expected the name of a finding, as in `suppress double-close`".to_string())
        );
    }
    if let Some(end) = finding.find(char::is_whitespace) {
        let what = "expected the end of the line behind the finding: conditions have lines of their own".to_string();
        return Err(at.wrong(place + end + 1, what));
    }
    let names: Vec<&str> = rules().iter().map(|r| r.about().name).collect();
    let pattern = Pattern::new(finding);
    if !names.iter().any(|n| pattern.matches(n)) {
        let known = match crate::base::nearest(finding, names.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => "`fdwatch explain` lists those that there are".to_string(),
        };
        let what = format!("\"{}\": expected the name of a finding, or a pattern of one; {known}", shown(finding));
        return Err(at.wrong(place, what));
    }
    Ok(pattern)
}

/// A line below the first.
fn condition(at: At<'_>, entry: &mut Suppression) -> Result<(), Malformed> {
    let (word, begin, value, place) = at.split();
    let role = ROLES.into_iter().find(|r| r.word() == word);
    if !matches!(word, "reason" | "path" | "stack") && role.is_none() {
        let near = nearest_key(word).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        let what =
            format!("\"{}\": expected reason, path, stack, or a step: opened, closed, reused, used{near}", shown(word));
        return Err(at.wrong(begin, what));
    }
    if value.is_empty() {
        let what = match word {
            "reason" => "expected why it is harmless",
            "path" => "expected a path, in which * stands for anything",
            _ => "expected a function, or several: OUTER < INNER",
        };
        return Err(at.wrong(at.text.trim_end().len(), what.to_string()));
    }
    match word {
        "reason" if entry.reason.is_empty() => entry.reason = value.to_string(),
        "reason" => return Err(at.wrong(begin, "a second reason: expected one in an entry".to_string())),
        "path" => entry.conditions.push(Where::Path(Pattern::new(value))),
        _ => {
            let chain = Chain::new(value).map_err(|byte| {
                at.wrong((place + byte).min(at.text.len()), "expected a function on both sides of <".to_string())
            })?;
            entry.conditions.push(Where::Stack(role, chain));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wrong(text: &str) -> (u32, u32, String) {
        let e = parse("f", text).unwrap_err();
        (e.line, e.column, e.what)
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_what_was_expected() {
        let good = "suppress double-close\n  reason x\n";
        for (text, line, column, expected) in [
            ("supress double-close\n", 1, 1, "expected `suppress FINDING`"),
            ("# x\n\n  closed f\n", 3, 3, "an indented line before any entry"),
            ("suppress\n", 1, 9, "the name of a finding"),
            ("suppress duble-close\n", 1, 10, "did you mean double-close?"),
            ("suppress double-close closed f\n", 1, 23, "the end of the line"),
            (&format!("{good}  clsed f\n"), 3, 3, "did you mean closed?"),
            (&format!("{good}\tfd 3\n"), 3, 2, "expected reason, path, stack, or a step"),
            (&format!("{good}  closed\n"), 3, 9, "a function"),
            (&format!("{good}  closed a <  < b\n"), 3, 14, "both sides of <"),
            (&format!("{good}  closed a <\n"), 3, 10, "both sides of <"),
            (&format!("{good}  reason y\n  closed f\n"), 3, 3, "a second reason"),
            (&format!("\n{good}"), 2, 1, "says nothing of where"),
            ("suppress double-close\n  closed f\n", 1, 1, "has no reason"),
            ("suppress double-close\n  closed é\u{7}\n", 2, 11, "a control character"),
        ] {
            let (l, c, what) = wrong(text);
            assert!(l == line && c == column && what.contains(expected), "{text:?}: {l}:{c}: {what}");
        }
    }

    #[test]
    fn entries_are_read_with_their_places() {
        let text = "# known\nsuppress double-close\r\n  reason  two words \n  closed  a < b\n\n  # so\n  path /x*\n\n\
                    suppress *\n\treason x\n\tstack f\n";
        let entries = parse("f", text).unwrap();
        assert_eq!(
            entries.iter().map(|e| (e.line, e.reason.as_str())).collect::<Vec<_>>(),
            [(2, "two words"), (9, "x")]
        );
        assert_eq!(entries[0].conditions.len(), 2);
        assert_eq!(parse("f", "").unwrap(), []);
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "(suppress|reason|closed|path|double-close|<|\\*|é|\u{0}|[ \t\r\n])*") {
            if let Err(e) = parse("f", &text) {
                let line = text.lines().nth(e.line as usize - 1).unwrap_or_default();
                prop_assert!(e.column as usize <= line.chars().count() + 1, "{e}: {text:?}");
                prop_assert_eq!(e.to_string().lines().count(), 1);
            }
        }
    }
}

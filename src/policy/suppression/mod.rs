//! What is known and harmless: findings that are counted and not shown.
//!
//! An entry is keyed on the finding's name and on functions, or offsets in modules, of its stacks; never on numbers, pids
//! or addresses, which are others in each run. The format of the files is in docs/suppressions.md.

mod parse;
mod pattern;

pub use parse::Malformed;
pub use pattern::{Chain, Pattern};

use crate::base::nearest;
use crate::finding::Role;
use std::fmt::Write;
use std::sync::Arc;

/// What ships with fdwatch, each entry with its reason.
const SHIPPED: &str = include_str!("default.supp");

/// How the shipped entries are called where a file's name would stand.
pub const SHIPPED_NAME: &str = "(shipped)";

/// A frame in each of the ways in which a pattern may name it.
pub type Spellings = Vec<String>;

/// A finding as an entry sees it. Asking for its stacks may take a while: it is done only for findings of the entry's name.
pub trait Sight {
    /// The finding's name.
    fn name(&self) -> &str;
    /// The path of the object that was meant.
    fn path(&self) -> String;
    /// The stacks of the steps of this role, or of all; native and Python apart, the outermost frame first.
    fn stacks(&mut self, role: Option<Role>) -> Vec<Vec<Spellings>>;
}

/// Where a pattern looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// At the stack of a step; of any without a role.
    Stack(Option<Role>, Chain),
    /// At the path of the object.
    Path(Pattern),
}

/// A known harmless finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// The file that it stands in, safe to show.
    pub file: Arc<str>,
    /// The line of its first word, from 1.
    pub line: u32,
    /// The finding's name.
    pub finding: Pattern,
    /// Why it is harmless.
    pub reason: String,
    /// All of these must be so.
    conditions: Vec<Where>,
}

impl Suppression {
    fn covers(&self, sight: &mut dyn Sight) -> bool {
        self.finding.matches(sight.name())
            && self.conditions.iter().all(|c| match c {
                Where::Path(pattern) => pattern.matches(&sight.path()),
                Where::Stack(role, chain) => sight.stacks(*role).iter().any(|frames| chain.matches(frames)),
            })
    }
}

/// Entries, and how often each was of use.
#[derive(Clone, Debug, Default)]
pub struct Suppressions {
    entries: Vec<(Suppression, u64)>,
}

impl Suppressions {
    /// None.
    pub fn none() -> Suppressions {
        Suppressions::default()
    }

    /// Those that ship with fdwatch.
    pub fn shipped() -> Suppressions {
        let mut new = Suppressions::none();
        // That it can be read is tested below.
        if let Err(e) = new.add(SHIPPED_NAME, SHIPPED) {
            tracing::error!("{e}");
        }
        new
    }

    /// Adds the entries of a file; they come before those that are there.
    ///
    /// # Errors
    /// With the place of the first mistake, and what was expected.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), Malformed> {
        let mut entries: Vec<_> = parse::parse(file, text)?.into_iter().map(|e| (e, 0)).collect();
        entries.append(&mut self.entries);
        self.entries = entries;
        Ok(())
    }

    /// Whether an entry is for findings of this name.
    pub fn concern(&self, finding: &str) -> bool {
        self.entries.iter().any(|(e, _)| e.finding.matches(finding))
    }

    /// The entries, by number, that cover a finding of this name and path if its stacks are as they want them.
    pub fn possible(&self, finding: &str, path: &str) -> Box<[usize]> {
        let may = |e: &Suppression| {
            let mut paths = e.conditions.iter().filter_map(|c| match c {
                Where::Path(pattern) => Some(pattern),
                Where::Stack(..) => None,
            });
            e.finding.matches(finding) && paths.all(|p| p.matches(path))
        };
        self.entries.iter().enumerate().filter(|(_, (e, _))| may(e)).map(|(i, _)| i).collect()
    }

    /// The first entry that covers a finding, if one does: it was of use as often as the finding came.
    pub fn find(&mut self, sight: &mut dyn Sight, times: u64) -> Option<&Suppression> {
        let (entry, used) = self.entries.iter_mut().find(|(e, _)| e.covers(sight))?;
        *used = used.saturating_add(times);
        Some(entry)
    }

    /// Each entry with how often it covered something. Those that ship with fdwatch are left out where they did not.
    pub fn used(&self) -> impl Iterator<Item = (&Suppression, u64)> {
        self.entries.iter().filter(|(e, n)| *n > 0 || &*e.file != SHIPPED_NAME).map(|(e, n)| (e, *n))
    }
}

/// An entry as it stands in a file: a reason to be replaced, and conditions on the stacks of steps.
pub fn entry(finding: &str, steps: &[(Role, Vec<String>)]) -> String {
    let mut out = format!("suppress {finding}\n  reason  generated: say here why this is harmless\n");
    for (role, frames) in steps {
        let _ = writeln!(out, "  {:<7} {}", role.word(), frames.join(" < "));
    }
    out
}

/// The roles that an entry can name.
const ROLES: [Role; 4] = [Role::Opened, Role::Closed, Role::Reused, Role::Used];

/// The first words of an entry's lines that are no roles.
const WORDS: [&str; 3] = ["reason", "stack", "path"];

/// The key that `word` may have been meant for.
fn nearest_key(word: &str) -> Option<&'static str> {
    nearest(word, WORDS.into_iter().chain(ROLES.iter().map(|r| r.word())))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Paper(&'static str, Vec<(Role, Vec<&'static str>)>);

    impl Sight for Paper {
        fn name(&self) -> &str {
            self.0
        }
        fn path(&self) -> String {
            "/tmp/out".into()
        }
        fn stacks(&mut self, role: Option<Role>) -> Vec<Vec<Spellings>> {
            let of = self.1.iter().filter(|(r, _)| role.is_none_or(|role| role == *r));
            of.map(|(_, frames)| frames.iter().map(|f| vec![(*f).to_string()]).collect()).collect()
        }
    }

    fn covered(text: &str) -> bool {
        let mut s = Suppressions::none();
        s.add("f", text).unwrap();
        let steps = vec![(Role::Opened, vec!["main", "open_log"]), (Role::Closed, vec!["main", "run", "fclose"])];
        s.find(&mut Paper("double-close", steps), 1).is_some()
    }

    #[test]
    fn what_ships_can_be_read_and_has_reasons() {
        let mut s = Suppressions::none();
        s.add(SHIPPED_NAME, SHIPPED).unwrap();
        assert!(!s.entries.is_empty());
        assert!(s.entries.iter().all(|(e, _)| e.reason.len() > 20 && !e.conditions.is_empty()));
        assert_eq!(s.used().count(), 0, "shipped entries that are of no use are nobody's business");
    }

    #[test]
    fn every_condition_must_hold_of_the_step_that_it_names() {
        for (text, expected) in [
            ("suppress double-close\n  reason x\n  closed fclose\n", true),
            ("suppress double-close\n  reason x\n  opened fclose\n", false),
            ("suppress double-close\n  reason x\n  stack fclose\n", true),
            ("suppress use-after-close\n  reason x\n  closed fclose\n", false),
            ("suppress *\n  reason x\n  closed fclose\n", true),
            ("suppress double-*\n  reason x\n  closed main < fclose\n  opened open_*\n", true),
            ("suppress double-close\n  reason x\n  closed fclose < main\n", false),
            ("suppress double-close\n  reason x\n  closed fclose\n  opened main < close\n", false),
            ("suppress double-close\n  reason x\n  closed fclose\n  path /tmp/*\n", true),
            ("suppress double-close\n  reason x\n  closed fclose\n  path /var/*\n", false),
        ] {
            assert_eq!(covered(text), expected, "{text}");
        }
    }

    #[test]
    fn use_is_counted_and_a_later_file_goes_first() {
        let mut s = Suppressions::none();
        s.add(
            "a",
            "suppress double-close\n reason x\n stack main\n\nsuppress use-after-close\n reason x\n stack main\n",
        )
        .unwrap();
        s.add("b", "suppress double-close\n reason x\n stack main\n").unwrap();
        let mut sight = Paper("double-close", vec![(Role::Used, vec!["main"])]);
        assert_eq!(s.find(&mut sight, 1).map(|e| e.file.to_string()), Some("b".into()));
        s.find(&mut sight, 1);
        let used: Vec<_> = s.used().map(|(e, n)| (e.file.to_string(), e.line, n)).collect();
        assert_eq!(used, [("b".into(), 1, 2), ("a".into(), 1, 0), ("a".into(), 5, 0)]);
        assert!(s.concern("use-after-close") && !s.concern("stale-fd-to-child"));
    }

    #[test]
    fn what_is_generated_can_be_read_and_covers_what_it_was_made_from() {
        let text = entry("double-close", &[(Role::Closed, vec!["main".into(), "run".into(), "fclose".into()])]);
        assert!(covered(&text), "{text}");
    }
}

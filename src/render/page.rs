//! The page of a finding: what it means, an example, the fix, and how to silence it.

use super::style::{Ink, Style, columns, wrap};
use crate::base::nearest;
use crate::base::text::escape;
use crate::finding::rules;

/// The page of the finding `name`, lines with their ends; else one line that names the nearest.
pub fn page(name: &str, style: Style) -> Result<String, String> {
    let rules = rules();
    if let Some(rule) = rules.iter().find(|r| r.about().name == name) {
        let heading = |line: &str| match line.starts_with(' ') || line.is_empty() {
            true => line.to_string(),
            false => style.paint(Ink::Strong, line),
        };
        let silence = silence(name);
        return Ok(rule.about().page.lines().chain(silence.lines()).map(|l| heading(l) + "\n").collect());
    }
    let names = rules.iter().map(|r| r.about().name);
    let hint = match nearest(name, names) {
        Some(n) => format!("did you mean {n}?"),
        None => format!("there are {}", rules.iter().map(|r| r.about().name).collect::<Vec<_>>().join(", ")),
    };
    Err(format!("no finding is called \"{}\"; {hint}", escape(name.as_bytes())))
}

/// How to silence a finding that is known to be harmless: the same for all, but for the name.
fn silence(name: &str) -> String {
    format!(
        "\nSilence\n  Where it is harmless, an entry in a file for --suppressions says so, and why;\n  \
         --gen-suppressions writes it. FUNCTION is on the stack of any step.\n\nsuppress {name}\n  \
         reason  why it does no harm here\n  stack   FUNCTION\n\n  --baseline FILE lets all pass that was found \
         before.\n"
    )
}

/// All findings with a line about each, lines with their ends.
pub fn index() -> String {
    rules()
        .iter()
        .map(|r| format!("{:<22} {:<8} {}\n", r.about().name, r.about().severity.to_string(), r.about().summary))
        .collect()
}

/// How checks came out, as (of what, how, what was found, the step that mends it).
pub fn health(checks: &[(&str, &str, &str, Option<&str>)], style: Style) -> String {
    let mut out = String::new();
    for (what, mark, found, step) in checks {
        let ink = match *mark {
            "ok" => Ink::Place,
            "limited" => Ink::Warning,
            _ => Ink::Error,
        };
        let mark = style.paint(ink, &format!("{mark:<8}"));
        out += &format!("{mark} {what:<12} {}\n", wrap(found, 22, 22, style.width));
        if let Some(step) = step {
            // What is to be copied stays whole: a URL that does not fit behind begins further left.
            let indent = style.width.saturating_sub(columns(step) + 6).min(22);
            out += &format!("{:indent$}{} {step}\n", "", style.paint(Ink::Label, "mend:"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_has_a_page_and_a_line() {
        for rule in rules() {
            let page = page(rule.about().name, Style::plain()).unwrap();
            assert!(page.starts_with(rule.about().name), "{page}");
            assert!(page.lines().all(|l| l.len() <= 80), "{}", rule.about().name);
            assert!(index().contains(rule.about().name));
            for part in ["\nWhy it bites\n", "\nExample\n", "\nFix\n", "\nSilence\n"] {
                assert!(page.contains(part), "{}: {part}", rule.about().name);
            }
            // The entry that it shows is one, as it stands there.
            let entry: String = page
                .lines()
                .skip_while(|l| !l.starts_with("suppress "))
                .take(3)
                .map(|l| l.to_string() + "\n")
                .collect();
            let mut known = crate::policy::suppression::Suppressions::none();
            known.add("page", &entry).unwrap_or_else(|e| panic!("{}: {e:?}: {entry}", rule.about().name));
        }
        assert!(index().lines().all(|l| !l.is_empty()));
    }

    #[test]
    fn an_unknown_name_names_the_nearest() {
        let e = page("stale-fd-to-chil\x1b", Style::plain()).unwrap_err();
        assert_eq!(e, "no finding is called \"stale-fd-to-chil\\x1b\"; did you mean stale-fd-to-child?");
        assert!(page("zzz", Style::plain()).unwrap_err().contains("there are stale-fd-to-child, "));
    }
}

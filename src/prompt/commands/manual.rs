//! The page of all commands, docs/commands.md: made from the table, so that it is never behind it.

use super::{COMMANDS, GROUPS};
use crate::policy::catch::EVENTS;
use crate::policy::condition::{FIELDS, Field, Word};

/// The page, as Markdown.
pub fn manual() -> String {
    let mut out = "\
# Commands of the prompt

This page is made from the table of commands in `src/prompt/commands/`; `cargo test --test manual` compares the two, and with
`FDWATCH_BLESS=1` writes it anew. At the prompt `help` lists the commands and `help COMMAND` shows one.

Commands may be shortened as long as it is clear which is meant, an empty line does the last one again, Tab completes. A line
that begins with `# ` is a comment. Ctrl-D is `quit`.
"
    .to_string();
    for (group, title) in GROUPS {
        let mut chars = title.chars();
        let title: String = chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect();
        out += &format!("\n## {title}\n");
        for about in COMMANDS.iter().map(|c| c.about()).filter(|a| a.group == *group) {
            let also = match about.names {
                [_, others @ ..] if !others.is_empty() => {
                    let names: Vec<String> = others.iter().map(|n| format!("`{n}`")).collect();
                    format!(" Also {}.", names.join(", "))
                }
                _ => String::new(),
            };
            let mut summary = about.summary.chars();
            let summary: String = summary.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(summary).collect();
            out += &format!("\n### `{}`\n\n{summary}.{also}\n\n", about.usage);
            // What is lined up stays lined up.
            match about.help.lines().any(|l| l.contains("   ")) {
                true => out += &format!("```\n{}\n```\n", about.help),
                false => out += &format!("{}\n", about.help),
            }
            let (line, does) = about.example;
            out += &format!("\nExample: `{line}`: {does}.\n");
        }
    }
    out += "\n## Events\n\n| event | when |\n|---|---|\n";
    for (_, name, when) in EVENTS {
        out += &format!("| `{name}` | {when} |\n");
    }
    out += "\n## Conditions\n\n\
            `== != < >` compare, `=~` matches, `&& || !` and parentheses join. A number is compared with a number; text stands\n\
            in double quotes, in which `\\\" \\\\ \\n \\t \\r \\x1b \\u{202e}` stand for what they say; `=~ \"…\"` takes a pattern as\n\
            shells have it, over the whole text, and `=~ /…/` a regular expression, anywhere in it. What an event does not\n\
            have equals nothing. A condition is checked before the target starts, and shown as fdwatch has read it.\n\n\
            | field | compared with | what it is |\n|---|---|---|\n";
    for (name, field, what) in FIELDS {
        let with = match field {
            Field::Number(_) => "number".to_string(),
            Field::Text(_) => "text".to_string(),
            Field::Word(Word::Finding) => "the name of a finding".to_string(),
            Field::Word(w) => w.words().join(" "),
            Field::Flag(_) => "stands alone".to_string(),
        };
        out += &format!("| `{name}` | {with} | {what} |\n");
    }
    out
}

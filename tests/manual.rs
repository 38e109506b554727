//! docs/commands.md and docs/fdwatch.1 are what the table of commands and the command line say.
#![allow(clippy::expect_used)] // a test may fail loudly

use clap::CommandFactory;
use clap_mangen::Man;
use fdwatch::cli::Cli;
use fdwatch::policy::catch::EVENTS;
use fdwatch::policy::condition::FIELDS;
use fdwatch::prompt::COMMANDS;
use fdwatch::prompt::commands::GROUPS;
use roff::{Inline, Roff, bold, italic, roman};
use std::path::Path;

fn is_as_made(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("FDWATCH_BLESS").is_some() {
        std::fs::write(&path, made).expect(name);
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let first = made.lines().zip(there.lines()).find(|(a, b)| a != b);
    assert!(
        made == there,
        "docs/{name} is not what the program says (first difference: {first:?}); \
         FDWATCH_BLESS=1 cargo test --test manual writes it anew"
    );
}

#[test]
fn the_page_of_commands_is_made_from_the_table() {
    is_as_made("commands.md", &fdwatch::prompt::manual());
}

#[test]
fn the_manual_page_is_made_from_the_command_line_and_the_table() {
    is_as_made("fdwatch.1", &page());
}

/// What one of the library's sections says, under a heading of its own.
fn section(heading: Option<&str>, write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).expect("a section");
    let text = String::from_utf8(out).expect("text");
    let Some(heading) = heading else { return text };
    let start = text.find(".SH ").expect("a heading");
    let end = text[start..].find('\n').expect("an end") + start;
    // What comes before the first heading are definitions, which one page needs once.
    format!(".SH \"{heading}\"{}", &text[end..])
}

/// Entries of a list: a term, and what is to be said of it.
fn list(heading: &str, entries: impl Iterator<Item = (Vec<Inline>, Vec<Vec<Inline>>)>) -> String {
    let mut out = Roff::new();
    out.control("SH", [heading]);
    for (term, paragraphs) in entries {
        out.control("TP", []);
        out.text(term);
        for (n, paragraph) in paragraphs.into_iter().enumerate() {
            if n > 0 {
                out.control("IP", []);
            }
            out.text(paragraph);
        }
    }
    out.to_roff()
}

fn page() -> String {
    let mut cli = Cli::command().version(None);
    cli.build();
    let whole = Man::new(cli.clone()).manual("User Commands").source("fdwatch").date("");
    let mut out = section(None, |w| whole.render_title(w));
    out += &section(Some("NAME"), |w| whole.render_name_section(w));
    out += &section(Some("SYNOPSIS"), |w| whole.render_synopsis_section(w));
    out += &section(Some("DESCRIPTION"), |w| whole.render_description_section(w));
    for sub in cli.get_subcommands().filter(|c| c.get_name() != "help") {
        let name = format!("fdwatch {}", sub.get_name());
        let man = Man::new(sub.clone().bin_name(&name));
        out += &section(Some(&name.to_uppercase()), |w| man.render_description_section(w));
        out += &section(Some("Synopsis"), |w| man.render_synopsis_section(w)).replacen(".SH", ".SS", 1);
        out += &section(Some("Options"), |w| man.render_options_section(w)).replacen(".SH", ".SS", 1);
    }
    for (group, title) in GROUPS {
        let of_group = COMMANDS.iter().map(|c| c.about()).filter(|a| a.group == *group);
        out += &list(
            &format!("COMMANDS OF THE PROMPT: {}", title.to_uppercase()),
            of_group.map(|a| {
                let (line, does) = a.example;
                let help = a.help.lines().map(str::trim).collect::<Vec<_>>().join(" ");
                let example = vec![roman("Example: "), bold(line), roman(format!(": {does}."))];
                (vec![bold(a.usage)], vec![vec![roman(help)], example])
            }),
        );
    }
    out += &list("EVENTS", EVENTS.iter().map(|(_, name, when)| (vec![bold(*name)], vec![vec![roman(*when)]])));
    out += &list("CONDITIONS", FIELDS.iter().map(|(name, _, what)| (vec![italic(*name)], vec![vec![roman(*what)]])));
    out += &section(Some("EXIT STATUS AND EXAMPLES"), |w| whole.render_extra_section(w));
    out
}

//! Commands that explain.

use super::super::{At, Flow};
use super::{About, COMMANDS, Command, GROUPS, Group, at_most_one, find};
use crate::finding::rules;
use crate::prompt::console::Offer;
use crate::render::Style;
use crate::render::page::{index, page};
use crate::render::style::{Ink, columns, wrap};

/// The column in which summaries begin, less three.
const USAGE: usize = 28;

pub(super) struct Help;

impl Command for Help {
    fn about(&self) -> &'static About {
        &About {
            names: &["help", "h", "?"],
            usage: "help [COMMAND]",
            group: Group::Help,
            summary: "what there is to type",
            help: "Without an argument the list of commands, with one the help of that command.\n\
         Commands may be shortened as long as it is clear which is meant; an empty line does the last one again.",
            example: ("help catch", "the help of catch"),
            repeats: true,
        }
    }
    fn complete(&self, _: &Offer) -> Vec<String> {
        COMMANDS.iter().map(|c| c.name().to_string()).collect()
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        at_most_one(self.about().usage, args)?.map_or(Ok(()), |w| find(w).map(drop))
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let style = at.scene.style;
        match at_most_one(self.about().usage, args)? {
            None => {
                for (group, title) in GROUPS {
                    at.say(&style.paint(Ink::Label, title));
                    for about in COMMANDS.iter().map(|c| c.about()).filter(|a| a.group == *group) {
                        let indent = USAGE + 3;
                        let summary = wrap(about.summary, indent, indent, style.width);
                        match columns(about.usage) > USAGE {
                            true => at.say(&format!("  {}\n{:indent$}{summary}", about.usage, "")),
                            false => at.say(&format!("  {:<USAGE$} {summary}", about.usage)),
                        }
                    }
                }
                at.say("help COMMAND says more. Commands may be shortened; an empty line repeats.");
            }
            Some(word) => {
                let about = find(word)?.about();
                let also = match about.names {
                    [_] | [] => String::new(),
                    [_, others @ ..] => format!("   (also {})", others.join(", ")),
                };
                at.say(&format!("{}{also}", style.paint(Ink::Label, about.usage)));
                about.help.lines().for_each(|l| at.say(&format!("  {l}")));
                let (line, does) = about.example;
                at.say(&format!("  {} {line}", style.paint(Ink::Label, "example")));
                at.say(&format!("          {}", wrap(does, 10, 10, style.width)));
            }
        }
        Ok(Flow::Stay)
    }
}

pub(super) struct Explain;

impl Command for Explain {
    fn about(&self) -> &'static About {
        &About {
            names: &["explain"],
            usage: "explain [FINDING]",
            group: Group::Help,
            summary: "what a finding means, with an example and the fix",
            help: "Shows the page of a finding: what it means, an example, the fix. Without a name: that of this break.",
            example: ("explain double-close", "what a double close is, with an example and the fix"),
            repeats: true,
        }
    }
    fn complete(&self, offer: &Offer) -> Vec<String> {
        offer.findings.clone()
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        match at_most_one(self.about().usage, args)? {
            Some(name) => page(&full(name), Style::plain()).map(drop),
            None => Ok(()),
        }
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let given = at_most_one(self.about().usage, args)?.map(full);
        let found = at.scene.at.finding.as_ref().map(|f| f.name.to_string());
        // Before a close nothing is found yet; what it leads to is a hand-off of a number that is over.
        let expected = at.scene.at.can_keep.then(|| "stale-fd-to-child".to_string());
        match given.or(found).or(expected) {
            Some(name) => {
                let text = page(&name, at.scene.style)?;
                at.show(&text);
            }
            None => at.show(&index()),
        }
        Ok(Flow::Stay)
    }
}

/// The finding that `word` is the beginning of, if it is of one only.
fn full(word: &str) -> String {
    let rules = rules();
    let mut begun = rules.iter().map(|r| r.about().name).filter(|n| n.starts_with(word));
    match (begun.next(), begun.next()) {
        (Some(one), None) => one.to_string(),
        _ => word.to_string(),
    }
}

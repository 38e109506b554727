//! Commands that explain.

use super::super::{At, Flow};
use super::{COMMANDS, Command, at_most_one, find};
use crate::finding::rules;
use crate::prompt::console::Offer;
use crate::render::Style;
use crate::render::page::{index, page};
use crate::render::style::Ink;

pub(super) struct Help;

impl Command for Help {
    fn names(&self) -> &'static [&'static str] {
        &["help", "h", "?"]
    }
    fn usage(&self) -> &'static str {
        "help [COMMAND]"
    }
    fn summary(&self) -> &'static str {
        "what there is to type"
    }
    fn help(&self) -> &'static str {
        "Without an argument the list of commands, with one the help of that command.\n\
         Commands may be shortened as long as it is clear which is meant; an empty line does the last one again."
    }
    fn complete(&self, _: &Offer) -> Vec<String> {
        COMMANDS.iter().filter_map(|c| c.names().first()).map(|n| (*n).to_string()).collect()
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        at_most_one(self.usage(), args)?.map_or(Ok(()), |w| find(w).map(drop))
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let style = at.scene.style;
        match at_most_one(self.usage(), args)? {
            None => {
                for c in COMMANDS {
                    let usage = style.paint(Ink::Label, &format!("{:<34}", c.usage()));
                    at.say(&format!("{usage} {}", c.summary()));
                }
                at.say("help COMMAND says more. Commands may be shortened; an empty line repeats the last.");
            }
            Some(word) => {
                let c = find(word)?;
                let also = match c.names() {
                    [_] | [] => String::new(),
                    [_, others @ ..] => format!("   (also {})", others.join(", ")),
                };
                at.say(&format!("{}{also}", style.paint(Ink::Label, c.usage())));
                c.help().lines().for_each(|l| at.say(&format!("  {l}")));
            }
        }
        Ok(Flow::Stay)
    }
}

pub(super) struct Explain;

impl Command for Explain {
    fn names(&self) -> &'static [&'static str] {
        &["explain"]
    }
    fn usage(&self) -> &'static str {
        "explain [FINDING]"
    }
    fn summary(&self) -> &'static str {
        "what a finding means, with an example and the fix"
    }
    fn help(&self) -> &'static str {
        "Shows the page of a finding: what it means, an example, the fix. Without a name: that of this break."
    }
    fn complete(&self, offer: &Offer) -> Vec<String> {
        offer.findings.clone()
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        match at_most_one(self.usage(), args)? {
            Some(name) => page(&full(name), Style::plain()).map(drop),
            None => Ok(()),
        }
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let given = at_most_one(self.usage(), args)?.map(full);
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

//! Commands that write down what is known.

use super::super::{At, Flow, Then};
use super::{About, Command, Group, one};
use std::path::PathBuf;

pub(super) struct Save;

impl Command for Save {
    fn about(&self) -> &'static About {
        &About {
            names: &["save"],
            usage: "save FILE",
            group: Group::Look,
            summary: "write a report of all so far",
            help: "A report of everything up to here, as JSON if FILE ends with .json, else as text. fdwatch show and\n\
                   fdwatch diff read the JSON. The target does not go on.",
            example: ("save before.json", "then continue, and compare: fdwatch diff before.json after.json"),
            repeats: false,
        }
    }
    fn takes_text(&self) -> bool {
        true
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        one(self.about().usage, args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        at.report_to = Some(PathBuf::from(one(self.about().usage, args)?));
        Ok(Flow::Resume(Then::Report))
    }
}

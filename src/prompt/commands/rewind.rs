//! Going back, by going again.

use super::super::{At, Flow, Then};
use super::{About, Command, Group, number, shown};
use crate::finding::Role;

pub(super) struct Rewind;

/// The finding that is named, from 1, and whether the answer is given already.
fn read(args: &[&str]) -> Result<(Option<usize>, bool), String> {
    let (mut which, mut yes) = (None, false);
    for arg in args {
        match *arg {
            "--yes" | "-y" if !yes => yes = true,
            word if which.is_none() && !word.starts_with('-') => match number("the number of a finding", word)? {
                0 => return Err("findings are counted from 1".to_string()),
                n => which = Some(n),
            },
            word => return Err(format!("\"{}\" is one word too many; usage: {}", shown(word), Rewind.about().usage)),
        }
    }
    Ok((which, yes))
}

impl Command for Rewind {
    fn about(&self) -> &'static About {
        &About {
            names: &["rewind"],
            usage: "rewind [N] [--yes]",
            group: Group::Run,
            summary: "run again, up to the close that is to blame",
            help: "Kills the target, starts the same command again (arguments, environment, working directory), and stops\n\
                   before the close that is to blame for finding N; without N, for that of this break, else for the last\n\
                   one. All that the command does happens again: files are written again, messages are sent again. So it\n\
                   asks first; a script says --yes. What it has read of a pipe or terminal as its standard input is not\n\
                   there again; a file is read from where it began. The life is recognised by where it was opened, its\n\
                   path, its process and which of those it is. If the second run goes another way, that is said, and it\n\
                   stops nowhere else instead.",
            example: (
                "rewind 1 --yes",
                "starts again without asking, and stops before the close that finding 1 blames",
            ),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        read(args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let (which, yes) = read(args)?;
        if at.attached {
            return Err("what was attached to cannot be started again".to_string());
        }
        let all = at.scene.findings;
        let n = match (which, &at.scene.at.finding) {
            (Some(n), _) => n,
            // That of this break is among the newest; several may have come at once.
            (None, Some(f)) => all.iter().rposition(|g| g.name == f.name && g.title == f.title).map_or(0, |i| i + 1),
            (None, None) => all.len(),
        };
        let Some(finding) = n.checked_sub(1).and_then(|i| all.get(i)) else {
            return Err(match all.len() {
                0 => "nothing was found yet: there is no culprit to go back to".to_string(),
                1 => format!("there is no finding {n}: there is 1 (info findings)"),
                more => format!("there is no finding {n}: there are {more} (info findings)"),
            });
        };
        if finding.step(Role::Closed).is_none() || finding.step(Role::Opened).is_none() {
            return Err(format!("finding {n} ({}) blames no close that could be stopped at", finding.name));
        }
        let question = "The target will be killed and started again: all that it does happens again. Go on?";
        Ok(if yes || at.confirm_again(question)? { Flow::Resume(Then::Rewind(n - 1)) } else { Flow::Stay })
    }
}

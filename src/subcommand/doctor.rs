//! `fdwatch doctor`.

use super::common::{say, to_stdout};
use anyhow::Result;
use fdwatch::cli::Color;
use fdwatch::event::ExitStatus;
use fdwatch::kernel::{self, Caught, Launched};
use fdwatch::policy::Policy;
use fdwatch::session::{Quiet, Session};
use std::process::ExitCode;

/// What is in the way, and whether tracing works: that is tried.
pub(crate) fn doctor() -> Result<ExitCode> {
    use kernel::doctor::{Check, Health, checks};
    let style = to_stdout(Color::Auto);
    let mut all = checks();
    let command = kernel::Command { argv: vec!["true".into()], own_group: false, seccomp: true };
    let tried = Launched::start(&command, &Caught::new()).map_err(|e| e.to_string()).and_then(|launched| {
        let mut session = Session::new(launched, Policy::default(), false);
        let outcome = session.run(&mut Quiet).map_err(|e| e.to_string())?;
        match (outcome.status, session.world().lives().count()) {
            (ExitStatus::Code(0), lives) if lives > 0 => Ok(()),
            (status, lives) => Err(format!("true ended with {status:?}, and {lives} lives were seen")),
        }
    });
    let (what, step) = ("a run", None);
    all.push(match tried {
        Ok(()) => Check { what, health: Health::Good, found: "a program was watched to its end".to_string(), step },
        Err(e) => Check { what, health: Health::Broken, found: e, step },
    });
    let broken = all.iter().any(|c| c.health == Health::Broken);
    say(fdwatch::render::page::health(
        &all.iter()
            .map(|c| {
                let mark = match c.health {
                    Health::Good => "ok",
                    Health::Limited => "limited",
                    Health::Broken => "broken",
                };
                (c.what, mark, c.found.as_str(), c.step.as_deref())
            })
            .collect::<Vec<_>>(),
        style,
    )
    .as_bytes())?;
    Ok(ExitCode::from(u8::from(broken)))
}

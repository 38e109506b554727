//! Commands that say where to break.

use super::super::{At, Flow};
use super::{About, Command, Group, number, one, shown};
use crate::policy::catch::{Catch, EVENTS, Trap};
use crate::policy::condition::FIELDS;
use crate::policy::{Implicit, Policy};
use crate::prompt::console::Offer;

/// `catch` and `tcatch`.
pub(super) struct Set {
    once: bool,
    about: &'static About,
}

pub(super) static CATCH: Set = Set {
    once: false,
    about: &About {
        names: &["catch", "break", "b"],
        usage: "catch EVENT [if CONDITION]",
        group: Group::Break,
        summary: "break at an event, under a condition",
        help: "Events: close, open, dup, receive, cloexec, fork, exec, finding.\n\
               A condition compares fields with == != < > =~ and joins them with && || ! and parentheses:\n\
               fd, path, kind, pid, comm, thread, call, finding, why, cause, frame, depth, nth; implicit, child and\n\
               inherits stand alone. Text stands in quotes; =~ takes a pattern as shells have it, \"/tmp/*\", or\n\
               a regular expression, /[.]log$/. In a script, catches that come first are set before the target starts.",
        example: (
            "catch close if path =~ \"/tmp/*\" && implicit",
            "breaks before a file below /tmp is closed that no code asked to close",
        ),
        repeats: false,
    },
};

pub(super) static TCATCH: Set = Set {
    once: true,
    about: &About {
        names: &["tcatch", "tbreak"],
        usage: "tcatch EVENT [if CONDITION]",
        group: Group::Break,
        summary: "the same, once",
        help: "As catch, and deleted when it is hit.",
        example: ("tcatch exec if comm == \"sh\"", "breaks once, when a shell has executed a program"),
        repeats: false,
    },
};

fn trap(args: &[&str]) -> Result<Trap, String> {
    Trap::parse(args.first().copied().unwrap_or_default()).map_err(|e| e.to_string())
}

impl Command for Set {
    fn about(&self) -> &'static About {
        self.about
    }
    fn takes_text(&self) -> bool {
        true
    }
    fn complete(&self, _: &Offer) -> Vec<String> {
        EVENTS.iter().map(|e| e.1).chain(["if"]).chain(FIELDS.iter().map(|f| f.0)).map(str::to_string).collect()
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        trap(args).map(drop)
    }
    fn prepare(&self, args: &[&str], policy: &mut Policy) -> Option<Result<String, String>> {
        Some(trap(args).map(|trap| {
            let text = trap.to_string();
            let number = policy.catches.add(trap, self.once);
            format!("break {number}: {text}{}\n", if self.once { " (once)" } else { "" })
        }))
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        prepared(self, args, at)
    }
}

/// What needs no target is done at the prompt as it is before the start.
fn prepared(command: &dyn Command, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
    let text = command.prepare(args, at.scene.policy).unwrap_or_else(|| Ok(String::new()))?;
    at.show(&text);
    Ok(Flow::Stay)
}

fn which(word: &str) -> Result<u32, String> {
    number("the number of a break (info breaks)", word)
}

pub(super) struct Ignore;

fn ignored(args: &[&str]) -> Result<(u32, u32), String> {
    match args {
        [n, count] => Ok((which(n)?, number("a count", count)?)),
        _ => Err(format!("two numbers are needed; usage: {}", Ignore.about().usage)),
    }
}

impl Command for Ignore {
    fn about(&self) -> &'static About {
        &About {
            names: &["ignore"],
            usage: "ignore N COUNT",
            group: Group::Break,
            summary: "pass over the next COUNT hits of break N",
            help: "Hits that are passed over are counted in info breaks.",
            example: ("ignore 1 20", "break 1 is shown at its 21st hit from here"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        ignored(args).map(drop)
    }
    fn prepare(&self, args: &[&str], policy: &mut Policy) -> Option<Result<String, String>> {
        Some(ignored(args).and_then(|(n, count)| {
            policy.catches.get(n)?.ignore = count;
            Ok(format!("the next {count} hits of break {n} are passed over\n"))
        }))
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        prepared(self, args, at)
    }
}

pub(super) struct Commands;

impl Command for Commands {
    fn about(&self) -> &'static About {
        &About {
            names: &["commands"],
            usage: "commands [N] … end",
            group: Group::Break,
            summary: "what is done at each hit of break N",
            help: "The lines that follow, up to one that says end, are run at each hit of break N, as if they were typed.\n\
                   Without N: the break that was set last. No lines at all take them away. A continue among them goes on\n\
                   without asking.",
            example: ("commands 1", "then bt, continue and end, a line each: a stack at every hit"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        match args {
            [] => Ok(()),
            args => which(one(self.about().usage, args)?).map(drop),
        }
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        block_of(args, at.scene.policy).map(Flow::Collect)
    }
}

/// The break whose commands follow.
pub(crate) fn block_of(args: &[&str], policy: &mut Policy) -> Result<u32, String> {
    match args.first() {
        Some(n) => policy.catches.get(which(n)?).map(|c| c.number),
        None => policy.catches.list().last().map(|c| c.number).ok_or_else(|| "no break was set: see catch".to_string()),
    }
}

/// `enable` and `disable`.
pub(super) struct Switch {
    on: bool,
    about: &'static About,
}

pub(super) static ENABLE: Switch = Switch {
    on: true,
    about: &About {
        names: &["enable"],
        usage: "enable [N…]",
        group: Group::Break,
        summary: "look at breaks again",
        help: "Without a number: all of them.",
        example: ("enable 2", "break 2 is hit again"),
        repeats: false,
    },
};

pub(super) static DISABLE: Switch = Switch {
    on: false,
    about: &About {
        names: &["disable"],
        usage: "disable [N…]",
        group: Group::Break,
        summary: "do not look at breaks for now",
        help: "Without a number: all of them.",
        example: ("disable 1 2", "breaks 1 and 2 are not hit until they are enabled"),
        repeats: false,
    },
};

impl Command for Switch {
    fn about(&self) -> &'static About {
        self.about
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        args.iter().try_for_each(|a| which(a).map(drop))
    }
    fn prepare(&self, args: &[&str], policy: &mut Policy) -> Option<Result<String, String>> {
        let mut all: Vec<u32> = policy.catches.list().iter().map(|c| c.number).collect();
        if !args.is_empty() {
            all = match args.iter().map(|a| which(a)).collect() {
                Ok(numbers) => numbers,
                Err(e) => return Some(Err(e)),
            };
        }
        let set = |n: u32| policy.catches.get(n).map(|c| c.enabled = self.on);
        Some(all.into_iter().try_for_each(set).map(|()| String::new()))
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        prepared(self, args, at)
    }
}

pub(super) struct Delete;

impl Command for Delete {
    fn about(&self) -> &'static About {
        &About {
            names: &["delete"],
            usage: "delete [N…]",
            group: Group::Break,
            summary: "delete breaks",
            help: "Without a number: all that were set by catch. What --fd, --path and --break ask for stays.",
            example: ("delete 1", "break 1 is no more; its number does not come again"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        args.iter().try_for_each(|a| which(a).map(drop))
    }
    fn prepare(&self, args: &[&str], policy: &mut Policy) -> Option<Result<String, String>> {
        Some(match args {
            [] => policy.catches.delete(None).map(|()| String::new()),
            some => some.iter().try_for_each(|a| policy.catches.delete(Some(which(a)?))).map(|()| String::new()),
        })
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        if args.is_empty() && !at.scene.policy.catches.list().is_empty() && !at.confirm("Delete all breaks?")? {
            return Ok(Flow::Stay);
        }
        prepared(self, args, at)
    }
}

/// `info breaks`.
pub(super) fn list(policy: &Policy) -> String {
    let mut out = String::new();
    for c in policy.catches.list() {
        let (number, text) = (c.number, &c.trap);
        out += &format!("{number:<3} catch {text}\n{}", details(c));
    }
    let mut also: Vec<String> = policy.injections.iter().map(|i| format!("--inject, at {}", i.waits_for())).collect();
    also.extend(policy.fds.iter().map(|fd| format!("--fd {fd}")));
    also.extend(policy.paths.iter().map(|p| format!("--path {}", shown(p.as_str()))));
    also.push(match policy.implicit {
        Implicit::Escaped => "closes that no code asked for, of numbers still held (--break escaped)".to_string(),
        Implicit::All => "all closes that no code asked for (--break implicit)".to_string(),
        Implicit::Never => "no close by itself (--break none)".to_string(),
    });
    if policy.findings {
        also.push("findings of severity error".to_string());
    }
    for a in also {
        out += &format!("also {a}\n");
    }
    out
}

fn details(c: &Catch) -> String {
    let mut words = Vec::new();
    if !c.enabled {
        words.push("disabled".to_string());
    }
    if c.once {
        words.push("once".to_string());
    }
    match c.hits {
        0 => {}
        1 => words.push("hit once".to_string()),
        n => words.push(format!("hit {n} times")),
    }
    if c.ignore > 0 {
        words.push(format!("the next {} are passed over", c.ignore));
    }
    let mut out = if words.is_empty() { String::new() } else { format!("    {}\n", words.join(", ")) };
    for line in &c.commands {
        out += &format!("      {}\n", shown(line));
    }
    out
}

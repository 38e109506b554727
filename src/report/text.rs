//! The report as text, for people.

use super::{Format, Mode, Report, Target};
use crate::event::Alteration;
use crate::render::finding::record;
use crate::render::style::{Ink, Style};
use nix::sys::signal::Signal;
use std::fmt::Write;

pub(super) struct Text;

impl Format for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn write(&self, report: &Report) -> Vec<u8> {
        text(report, Style::plain()).into_bytes()
    }
}

/// The report as text in this style: the findings, then what they are worth.
pub fn text(report: &Report, style: Style) -> String {
    let mut out = String::new();
    for f in &report.findings {
        out += &record(f, style);
    }
    let mut say = |line: &str| {
        let _ = writeln!(out, "{} {line}", style.paint(Ink::Strong, "fdwatch:"));
    };
    let c = &report.counts;
    let notes = if c.notes > 0 { format!(", {}", count(c.notes, "note")) } else { String::new() };
    let known = match &report.baseline {
        Some(_) => format!(", {} known", c.known),
        None => String::new(),
    };
    say(&format!(
        "{}, {}{notes}, {} suppressed{known}; target {}",
        count(c.errors, "error"),
        count(c.warnings, "warning"),
        c.suppressed,
        ended(report)
    ));
    let gone = report.baseline.iter().flat_map(|b| &b.gone);
    some_of(gone, "gone that the baseline knows", &mut say, |g| match &g.place {
        Some(place) => format!("gone: {} ({place}): renew the baseline", g.name),
        None => format!("gone: {}: renew the baseline", g.name),
    });
    let unused = report.suppressions.iter().filter(|s| s.count == 0);
    some_of(unused, "unused suppressions", &mut say, |s| {
        format!("unused suppression: {}:{} ({})", s.file, s.line, s.finding)
    });
    let altered = report.altered.len() as u64 + report.altered_unlisted;
    if altered > 0 {
        say(&format!("results altered by {}", count(altered, "injection")));
        // One wish has altered so many calls: the others are not to be lost among them.
        let quarantine = crate::render::call::alteration(Alteration::Quarantine);
        let (held, rest): (Vec<_>, Vec<_>) = report.altered.iter().partition(|a| a.how == quarantine);
        if !held.is_empty() {
            say(&format!("  {quarantine} of {}", count(held.len() as u64, "close")));
        }
        some_of(rest.into_iter(), "altered calls", &mut say, |a| {
            let object = a.object.map(|o| format!(" {o}")).unwrap_or_default();
            let fd = a.fd.map(|f| format!(", fd {f}{object}")).unwrap_or_default();
            format!("  {} of {} by [{}]{fd}", a.how, a.call, a.tid)
        });
    }
    let v = &report.coverage;
    let mode = match v.mode {
        Mode::Seccomp => "calls that concern descriptors (seccomp)",
        Mode::Full => "all calls",
    };
    let privs = if v.no_new_privs { "; no_new_privs was set: setuid programs got no privilege" } else { "" };
    say(&format!("watched {mode} of {}{privs}", many(v.processes, "process", "processes")));
    if v.forgotten_lives > 0 {
        say(&format!("{} forgotten to bound memory", many(v.forgotten_lives, "ended life was", "ended lives were")));
    }
    if v.surprises > 0 {
        let times = many(v.surprises, "time", "times");
        say(&format!("{times} a descriptor was open or closed against expectation: something was not seen"));
    }
    if v.incomplete_stacks > 0 {
        say(&format!("{} incomplete", many(v.incomplete_stacks, "stack is", "stacks are")));
    }
    v.notes.iter().for_each(|n| say(n));
    out
}

/// Says the first of `list`, a line each, and how many more there are.
fn some_of<'r, T: 'r>(
    list: impl Iterator<Item = &'r T>,
    what: &str,
    say: &mut dyn FnMut(&str),
    line: impl Fn(&T) -> String,
) {
    let mut list = list;
    list.by_ref().take(MOST).for_each(|one| say(&line(one)));
    match list.count() {
        0 => {}
        n => say(&format!("and {n} more {what}: --format json lists all")),
    }
}

/// How many lines of one kind stand below the findings.
const MOST: usize = 20;

fn count(n: u64, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

fn many(n: u64, one: &str, several: &str) -> String {
    match n {
        1 => format!("1 {one}"),
        n => format!("{n} {several}"),
    }
}

pub(super) fn ended(report: &Report) -> String {
    match report.target {
        Target::Exited { status } => format!("exited {status}"),
        Target::Signaled { signal } => match Signal::try_from(signal) {
            Ok(s) => format!("was killed by {s}"),
            Err(_) => format!("was killed by signal {signal}"),
        },
        Target::Killed => "was killed at the prompt".to_string(),
        Target::Unknown => "ended after what is known".to_string(),
        Target::Detached if report.command.is_empty() => "goes on without being watched".to_string(),
        Target::Detached => "was left to itself at the prompt".to_string(),
    }
}

//! Commands that show stacks and source.

use super::super::{At, Flow};
use super::{About, Command, Group, at_most_one, choose, nothing, number};
use crate::base::text::escape;
use crate::finding::{Copies, Moved, Role};
use crate::model::Moment;
use crate::prompt::console::Offer;
use crate::render::backtrace::{Form, trace};
use crate::render::style::Ink;
use crate::render::why::why;

pub(super) struct Backtrace;

const FORMS: &[(&str, Form)] = &[("py", Form::Python), ("native", Form::Native), ("full", Form::Full)];
const ROLES: &[(&str, Role)] =
    &[("opened", Role::Opened), ("closed", Role::Closed), ("reused", Role::Reused), ("used", Role::Used)];

fn which(args: &[&str]) -> Result<(Form, Option<Role>), String> {
    let words = FORMS.iter().map(|f| f.0).chain(ROLES.iter().map(|r| r.0));
    let (mut form, mut role) = (None, None);
    for arg in args {
        let word = choose("kind of stack", arg, words.clone())?;
        let as_form = FORMS.iter().find(|f| f.0 == word).map(|f| f.1);
        let as_role = ROLES.iter().find(|r| r.0 == word).map(|r| r.1);
        if (as_form.is_some() && form.is_some()) || (as_role.is_some() && role.is_some()) {
            return Err(format!("\"{word}\" is one word too many; usage: {}", Backtrace.about().usage));
        }
        form = form.or(as_form);
        role = role.or(as_role);
    }
    Ok((form.unwrap_or_default(), role))
}

/// The moment of this part of the story of the break.
fn moment(at: &At<'_, '_>, role: Role) -> Result<(Moment, Option<Moved>), String> {
    let scene = &*at.scene;
    let told = scene.at.finding.as_ref().and_then(|f| f.step(role)).map(|s| (s.moment.clone(), s.moved));
    let life = scene.at.life.and_then(|l| scene.world.life(l));
    let lived = match role {
        Role::Opened => life.map(|l| (l.began.clone(), None)),
        Role::Closed => {
            let moved = life.and_then(|l| Copies::new(scene.world).moved(l));
            life.and_then(|l| l.end.as_ref()).map(|e| (e.moment.clone(), moved))
        }
        Role::Reused | Role::Used => None,
    };
    told.or(lived).ok_or_else(|| format!("this break has no such stack: nothing was {} yet", role.word()))
}

impl Command for Backtrace {
    fn about(&self) -> &'static About {
        &About {
            names: &["bt", "backtrace", "where"],
            usage: "bt [py|native|full] [opened|closed]",
            group: Group::Stack,
            summary: "the stack of the task that is looked at, or that of an earlier step",
            help: "Native and Python frames in one; the frames of the interpreter itself are folded.\n\
         py      Python frames only\n\
         native  native frames only\n\
         full    everything, with modules and offsets\n\
         opened, closed, reused, used: the stack of that step, in place of the current one",
            example: ("bt py", "the Python frames alone"),
            repeats: true,
        }
    }
    fn complete(&self, _: &Offer) -> Vec<String> {
        FORMS.iter().map(|f| f.0).chain(ROLES.iter().map(|r| r.0)).map(str::to_string).collect()
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        which(args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let (form, role) = which(args)?;
        let style = at.scene.style;
        let text = match role {
            None => {
                let frame = at.frame();
                at.trace().text(form, Some(frame), style)
            }
            Some(role) => {
                let (moment, moved) = moment(at, role)?;
                let scene = &mut *at.scene;
                let why = if role == Role::Closed { why(scene.names, &moment, moved) } else { None };
                let mut stack = trace(scene.names, &moment.site, why);
                stack.source = stack.own_source().and_then(|(file, n)| scene.sources.line(file, n));
                let stack = stack.text(form, None, style);
                format!("{} [{}]\n{stack}", style.paint(Ink::Label, role.word()), moment.tid)
            }
        };
        at.show(&text);
        Ok(Flow::Stay)
    }
}

pub(super) struct Frame;

fn frame_number(args: &[&str]) -> Result<Option<usize>, String> {
    at_most_one(Frame.about().usage, args)?.map(|w| number("the number of a frame", w)).transpose()
}

fn show_frame(at: &mut At<'_, '_>, n: usize) -> Result<Flow, String> {
    let style = at.scene.style;
    let count = at.trace().frames.len();
    let Some(line) = at.trace().line(n, style) else {
        return Err(match count {
            0 => "no stack was taken here".to_string(),
            1 => "there is only frame 0".to_string(),
            _ => format!("there is no frame {n}: they go from 0 to {}", count - 1),
        });
    };
    at.frame = Some(n);
    at.listed = None;
    at.say(&line);
    let text = source(at).and_then(|(file, n)| Some((n, at.scene.sources.line(&file, n)?)));
    if let Some((n, text)) = text {
        at.say(&format!("{n:>6}  {}", escape(text.trim_end().as_bytes())));
    }
    Ok(Flow::Stay)
}

fn source(at: &mut At<'_, '_>) -> Option<(String, u32)> {
    let n = at.frame();
    at.trace().frames.get(n)?.source().map(|(f, l)| (f.to_string(), l))
}

impl Command for Frame {
    fn about(&self) -> &'static About {
        &About {
            names: &["frame", "f"],
            usage: "frame [N]",
            group: Group::Stack,
            summary: "look at frame N of the stack",
            help: "Selects frame N as bt numbers them, and shows its line. Without N: shows the selected one.",
            example: ("frame 8", "looks at frame 8, as bt numbers it"),
            repeats: true,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        frame_number(args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let n = match frame_number(args)? {
            Some(n) => n,
            None => at.frame(),
        };
        show_frame(at, n)
    }
}

pub(super) struct Up;

fn steps(usage: &str, args: &[&str]) -> Result<usize, String> {
    at_most_one(usage, args)?.map_or(Ok(1), |w| number("a count", w))
}

impl Command for Up {
    fn about(&self) -> &'static About {
        &About {
            names: &["up"],
            usage: "up [N]",
            group: Group::Stack,
            summary: "look at the frame that called this one",
            help: "Selects the caller of the selected frame, or the Nth caller.",
            example: ("up 2", "looks at the caller of the caller"),
            repeats: true,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        steps(self.about().usage, args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let last = at.trace().frames.len().saturating_sub(1);
        let now = at.frame();
        if now >= last {
            return Err("this is the outermost frame".to_string());
        }
        let n = now.saturating_add(steps(self.about().usage, args)?).min(last);
        show_frame(at, n)
    }
}

pub(super) struct Down;

impl Command for Down {
    fn about(&self) -> &'static About {
        &About {
            names: &["down"],
            usage: "down [N]",
            group: Group::Stack,
            summary: "look at the frame that this one called",
            help: "Selects the frame that the selected one called, or the Nth.",
            example: ("down", "looks at the frame that this one called"),
            repeats: true,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        steps(self.about().usage, args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let now = at.frame();
        if now == 0 {
            return Err("this is the innermost frame".to_string());
        }
        let n = now.saturating_sub(steps(self.about().usage, args)?);
        show_frame(at, n)
    }
}

pub(super) struct List;

/// How many lines are shown at a time, and how many of them stand before the frame's own.
const LINES: u32 = 10;
const BEFORE: u32 = 4;

impl Command for List {
    fn about(&self) -> &'static About {
        &About {
            names: &["list", "l"],
            usage: "list",
            group: Group::Stack,
            summary: "the source around the line of the selected frame",
            help: "Shows ten lines around the line of the selected frame; again, the ten after them.",
            example: ("list", "the lines around that of the selected frame"),
            repeats: true,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        nothing(self.about().usage, args)
    }
    fn run(&self, _: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let (file, own) = source(at).ok_or("no source line is known for this frame: try up, or frame N")?;
        let from = match &at.listed {
            Some((f, next)) if *f == file => *next,
            _ => own.saturating_sub(BEFORE).max(1),
        };
        let mut next = from;
        while next < from.saturating_add(LINES) {
            let Some(text) = at.scene.sources.line(&file, next) else { break };
            let mark = if next == own { '>' } else { ' ' };
            at.say(&format!("{mark}{next:>5}  {}", escape(text.trim_end().as_bytes())));
            next = next.saturating_add(1);
        }
        let name = escape(file.as_bytes());
        if next == from {
            at.listed = None;
            return Err(match at.scene.sources.line(&file, 1) {
                Some(_) => format!("{name} has no line {from}"),
                None => format!("{name} cannot be read"),
            });
        }
        at.listed = Some((file, next));
        Ok(Flow::Stay)
    }
}

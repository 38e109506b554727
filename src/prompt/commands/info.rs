//! Commands that show descriptors, processes and findings.

use super::super::{At, Flow};
use super::{About, Command, Group, choose, nothing, number, one};
use crate::base::{Fd, FileId, Tid};
use crate::event::{Call, Cause, Site};
use crate::model::{Life, What};
use crate::policy::catch::{Kind, Lookup, Occurrence, holds};
use crate::policy::condition::{Condition, FIELDS, Field, Flag, Number, Word};
use crate::prompt::console::Offer;
use crate::render::call::open_flags;
use crate::render::style::{Ink, wrap};
use crate::render::{Names, history, holders, live, table};

pub(super) struct Info;

const LISTS: &[&str] = &["fds", "procs", "children", "threads", "breaks", "findings"];

/// What `info` is asked for.
struct Asked {
    list: &'static str,
    full: bool,
    condition: Option<Condition>,
}

fn asked(args: &[&str]) -> Result<Asked, String> {
    let text = args.first().copied().unwrap_or_default();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if word.is_empty() {
        return Err(format!("of what? {}", LISTS.join(", ")));
    }
    let list = choose("list", word, LISTS.iter().copied())
        .map_err(|e| e.replace("try help", &format!("there are {}", LISTS.join(", "))))?;
    let mut rest = rest.trim();
    if list != "fds" {
        nothing(Info.about().usage, &rest.split_whitespace().collect::<Vec<_>>())?;
        return Ok(Asked { list, full: false, condition: None });
    }
    let full = rest.strip_prefix("full").filter(|r| !r.starts_with(char::is_alphanumeric));
    rest = full.unwrap_or(rest).trim();
    let condition = match rest.strip_prefix("if").filter(|r| !r.starts_with(char::is_alphanumeric)) {
        Some(condition) => Some(answerable(condition)?),
        None => {
            nothing(Info.about().usage, &rest.split_whitespace().collect::<Vec<_>>())?;
            None
        }
    };
    Ok(Asked { list, full: full.is_some(), condition })
}

/// A condition about what is open, which has no end yet and is no event.
fn answerable(text: &str) -> Result<Condition, String> {
    let condition = Condition::parse(text).map_err(|e| format!("the condition, {e}"))?;
    let of_an_event = |f| {
        matches!(
            f,
            Field::Number(Number::Nth)
                | Field::Word(Word::Finding | Word::Why | Word::Cause)
                | Field::Flag(Flag::Implicit)
        )
    };
    match FIELDS.iter().find(|(_, field, _)| of_an_event(*field) && condition.asks(&|f| f == *field)) {
        Some((name, ..)) => Err(format!("the condition: an open descriptor has no {name}; catch can ask for that")),
        None => Ok(condition),
    }
}

/// Answers about the open descriptors: their stacks are those that opened them.
struct Openings<'n> {
    names: &'n mut dyn Names,
    tids: &'n [(Tid, String, String)],
}

impl Lookup for Openings<'_> {
    fn functions(&mut self, site: &Site) -> Vec<String> {
        let native = site.stack.map(|id| self.names.native(id)).unwrap_or_default();
        let python = site.py.map(|id| self.names.python(id)).unwrap_or_default();
        let native = native.iter().map(|f| f.function.clone().unwrap_or_default());
        native.chain(python.iter().map(|f| f.function.clone())).collect()
    }
    fn cause(&mut self, _: &Occurrence<'_>) -> Cause {
        Cause::Unknown
    }
    fn comm(&mut self, tid: Tid) -> String {
        self.tids.iter().find(|t| t.0 == tid).map(|t| t.1.clone()).unwrap_or_default()
    }
}

/// The open descriptors of a task, as asked for.
fn descriptors(at: &mut At<'_, '_>, asked: &Asked) -> String {
    let (tid, pid) = (at.tid, at.pid);
    let s = &mut *at.scene;
    let world = s.world;
    let mut chosen = std::collections::BTreeSet::new();
    if let Some(condition) = &asked.condition {
        let table = world.task(tid).and_then(|t| world.table(t.table));
        for (fd, id) in table.into_iter().flat_map(|t| t.open()) {
            let life = world.life(id);
            let site = life.map(|l| l.began.site.clone()).unwrap_or_default();
            let call = match life.map(|l| &l.began.what) {
                Some(What::Call(info)) => Some(Call { info: *info, effects: Vec::new(), site: site.clone() }),
                _ => None,
            };
            let (call, site, fd) = (call.as_ref(), &site, Some(fd));
            let of = Occurrence { kind: Kind::Open, world, tid, pid, call, site, fd, life, finding: None, why: "none" };
            if holds(condition, &of, &mut Openings { names: s.names, tids: s.tids }) {
                chosen.insert(id);
            }
        }
    }
    let live = &mut *s.live;
    let held = live.held();
    let mut details = |life: &Life| {
        let mut words = Vec::new();
        if let (true, Some(opened)) = (asked.full, world.file(life.file)) {
            words.extend(Some(open_flags(opened.file.flags & !(libc::O_CLOEXEC as u32))).filter(|w| !w.is_empty()));
            words.extend(live::now(live, tid, life.fd, &opened.file));
            words.extend(holders::others(world, life));
        }
        // It is not what the program would have made of it.
        words.extend(table::alterations(world, life).into_iter().map(|a| format!("altered: {a}")));
        if held.contains(&life.file) {
            words.push(format!("fdwatch holds a copy: dup off {} lets go", life.file));
        }
        (!words.is_empty()).then(|| words.join("; "))
    };
    let mut wanted = |life: &Life| asked.condition.is_none() || chosen.contains(&life.id);
    table::fds(world, tid, s.names, s.style, &mut wanted, &mut details)
}

/// The numbers that are held back after their close in the table that is looked at, if there are some.
fn held_back(at: &At<'_, '_>) -> String {
    let table = at.scene.world.task(at.tid).map(|t| t.table);
    let held = table.map_or(&[][..], |t| at.scene.live.quarantined(t));
    if held.is_empty() {
        return String::new();
    }
    let numbers: Vec<String> = held.iter().map(Fd::to_string).collect();
    let text = format!("held back after their close (--quarantine): {}", numbers.join(", "));
    format!("{}\n", wrap(&text, 0, 2, at.scene.style.width))
}

impl Command for Info {
    fn about(&self) -> &'static About {
        &About {
            names: &["info"],
            usage: "info fds [full] [if CONDITION]|procs|children|threads|breaks|findings",
            group: Group::Look,
            summary: "lists of what there is",
            help: "fds       the open descriptors of the task at the break, or of that which thread or proc chose;\n\
                   \x20         with full also flags, offset, peer, and who else holds them; with if CONDITION only some\n\
                   procs     the processes, the living and the ended\n\
                   children  those that the process at the break has made, or that which thread or proc chose\n\
                   threads   the tasks that stand still\n\
                   breaks    what was set by catch, how often it was hit, and what breaks besides\n\
                   findings  what was found so far",
            example: (
                "info fds full if kind == pipe && inherits",
                "the pipes that a program would inherit, and who holds them",
            ),
            repeats: true,
        }
    }
    fn takes_text(&self) -> bool {
        true
    }
    fn complete(&self, _: &Offer) -> Vec<String> {
        LISTS.iter().map(|l| (*l).to_string()).collect()
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        asked(args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let asked = asked(args)?;
        if asked.list == "fds" {
            let mut text = descriptors(at, &asked);
            if asked.condition.is_none() {
                text += &held_back(at);
                text += &super::copies::left(at);
            }
            at.show(&text);
            return Ok(Flow::Stay);
        }
        let (tid, pid) = (at.tid, at.pid);
        let s = &mut *at.scene;
        let text = match asked.list {
            "procs" => table::procs(s.world, pid, s.style),
            "children" => table::children(s.world, pid, s.style),
            "threads" => table::threads(s.world, s.tids, tid, s.style),
            "breaks" => super::catch::list(s.policy),
            _ => table::findings(s.findings, s.names, s.style),
        };
        at.show(&text);
        Ok(Flow::Stay)
    }
}

pub(super) struct Descriptor;

fn descriptor(args: &[&str]) -> Result<Fd, String> {
    let n: i32 = number("a descriptor", one(Descriptor.about().usage, args)?)?;
    if n < 0 { Err("a descriptor is not negative".to_string()) } else { Ok(Fd(n)) }
}

impl Command for Descriptor {
    fn about(&self) -> &'static About {
        &About {
            names: &["fd"],
            usage: "fd N",
            group: Group::Look,
            summary: "all that is known of descriptor N now",
            help: "What descriptor N is in the table of the task at the break, where it came from and who else holds its object.",
            example: ("fd 3", "what number 3 is now, or was last"),
            repeats: true,
        }
    }
    fn complete(&self, offer: &Offer) -> Vec<String> {
        offer.fds.clone()
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        descriptor(args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let fd = descriptor(args)?;
        let tid = at.tid;
        let held = super::holders::last_file(at, fd).filter(|of| at.scene.live.held().contains(of));
        let s = &mut *at.scene;
        let mut text = table::fd(s.world, tid, fd, s.names, s.style);
        let life = s.world.open_life(tid, fd);
        if let Some((life, object)) = life.and_then(|l| Some((l, s.world.file(l.file)?))) {
            let mut words: Vec<String> = live::now(s.live, tid, fd, &object.file).into_iter().collect();
            words.extend(holders::others(s.world, life).into_iter().filter(|w| w.starts_with("other end")));
            for word in words {
                text += &format!("  {}{word}\n", s.style.paint(Ink::Label, "now      "));
            }
        }
        if let Some(of) = held {
            let label = s.style.paint(Ink::Label, "copy     ");
            text += &format!("  {label}fdwatch holds one of {of}: dup off {of} lets go\n");
        }
        at.show(&text);
        Ok(Flow::Stay)
    }
}

pub(super) struct History;

enum Whose {
    Number(Fd),
    Object(FileId),
    /// What the break is about.
    Break,
}

fn whose(args: &[&str]) -> Result<Whose, String> {
    if args.is_empty() {
        return Ok(Whose::Break);
    }
    let word = one(History.about().usage, args)?;
    match word.strip_prefix('#') {
        Some(id) => Ok(Whose::Object(FileId(number("an object: #17", id)?))),
        None => {
            let n: i32 = number("a descriptor (3) or an object (#17)", word)?;
            if n < 0 { Err("a descriptor is not negative".to_string()) } else { Ok(Whose::Number(Fd(n))) }
        }
    }
}

/// How many lives of a number are shown without `all`.
const SHOWN_LIVES: usize = 6;

/// The arguments before `all`, and whether it was there.
fn without_all<'a, 'b>(args: &'a [&'b str]) -> (&'a [&'b str], bool) {
    match args.split_last() {
        Some((&"all", rest)) => (rest, true),
        _ => (args, false),
    }
}

impl Command for History {
    fn about(&self) -> &'static About {
        &About {
            names: &["hist", "history"],
            usage: "hist [N|#ID] [all]",
            group: Group::Look,
            summary: "what became of descriptor N, or of an object",
            help: "With a number: its last lives in this table and in those it was copied from; with `all`, every one.\n\
         With an object (#17): everything that happened to it, across dup, fork and exec.\n\
         Without either: the number that this break is about.",
            example: ("hist #17", "the whole story of object #17"),
            repeats: true,
        }
    }
    fn complete(&self, offer: &Offer) -> Vec<String> {
        offer.fds.iter().chain(&offer.objects).cloned().collect()
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        whose(without_all(args).0).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let (args, all) = without_all(args);
        let last = (!all).then_some(SHOWN_LIVES);
        let tid = at.tid;
        let s = &mut *at.scene;
        let about = s.at.fd.or(s.at.finding.as_ref().map(|f| f.fd));
        let whose = match (whose(args)?, about) {
            (Whose::Break, Some(fd)) => Whose::Number(fd),
            (Whose::Break, None) => return Err(format!("which? usage: {}", self.about().usage)),
            (w, _) => w,
        };
        // Of a task that has ended the table is gone; the object of what was found there is remembered.
        let whose = match (whose, &s.at.object) {
            (Whose::Number(fd), Some(o)) if s.world.task(tid).is_none() && Some(fd) == about => Whose::Object(o.id),
            (w, _) => w,
        };
        let text = match whose {
            Whose::Object(id) => history::of_object(s.world, id, s.findings, s.names, s.style),
            Whose::Number(fd) => history::of_number(s.world, (tid, fd), last, s.findings, s.names, s.style),
            Whose::Break => String::new(),
        };
        at.show(&text);
        Ok(Flow::Stay)
    }
}

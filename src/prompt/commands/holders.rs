//! Commands that show who holds what, and what is in it.

use super::super::{At, Flow};
use super::{About, Command, Group, at_most_one, nothing, number, one};
use crate::base::{Fd, FileId, Pid, Tid};
use crate::model::Life;
use crate::prompt::console::Offer;
use crate::render::{holders, live};

pub(super) struct Who;

/// `#17` or `3`.
pub(super) enum Named {
    Object(FileId),
    Number(Fd),
}

pub(super) fn named(word: &str) -> Result<Named, String> {
    match word.strip_prefix('#') {
        Some(id) => Ok(Named::Object(FileId(number("an object: #17", id)?))),
        None => fd(word).map(Named::Number),
    }
}

pub(super) fn fd(word: &str) -> Result<Fd, String> {
    let n: i32 = number("a descriptor (3) or an object (#17)", word)?;
    if n < 0 { Err("a descriptor is not negative".to_string()) } else { Ok(Fd(n)) }
}

/// The object that is meant; without a word that of the break.
fn offered(offer: &Offer) -> Vec<String> {
    offer.fds.iter().chain(&offer.objects).cloned().collect()
}

fn one_object(usage: &str, args: &[&str]) -> Result<(), String> {
    at_most_one(usage, args)?.map_or(Ok(()), |w| named(w).map(drop))
}

fn object(args: &[&str], usage: &str, at: &At<'_, '_>) -> Result<FileId, String> {
    match at_most_one(usage, args)?.map(named).transpose()? {
        Some(Named::Object(id)) => Ok(id),
        Some(Named::Number(fd)) => {
            let life = at.scene.world.open_life(at.tid, fd);
            life.map(|l| l.file).ok_or_else(|| format!("fd {fd} is not open here: hist {fd} tells what it was"))
        }
        None => at.scene.at.object.as_ref().map(|o| o.id).ok_or_else(|| format!("of what? usage: {usage}")),
    }
}

impl Command for Who {
    fn about(&self) -> &'static About {
        &About {
            names: &["who"],
            usage: "who [N|#ID]",
            group: Group::Look,
            summary: "every holder of an object, and how it came by it",
            help: "Every open descriptor of the object, in whatever process: its number, how it came there (opened, dup,\n\
                   fork, received over a socket), when and where. Of a pipe also those who hold the other end.\n\
                   Without an argument: the object of this break.",
            example: ("who #17", "which processes hold object #17 still, and since when"),
            repeats: true,
        }
    }
    fn complete(&self, offer: &Offer) -> Vec<String> {
        offered(offer)
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        one_object(self.about().usage, args)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let id = object(args, self.about().usage, at)?;
        let s = &mut *at.scene;
        let text = holders::who(s.world, id, s.names, s.style);
        at.show(&text);
        Ok(Flow::Stay)
    }
}

pub(super) struct Tree;

impl Command for Tree {
    fn about(&self) -> &'static About {
        &About {
            names: &["tree"],
            usage: "tree [N|#ID]",
            group: Group::Look,
            summary: "the processes as a tree, and what they hold of an object",
            help: "Who made whom. With a descriptor or an object: under which numbers each process holds it.",
            example: ("tree #17", "the tree of processes, with the numbers under which they hold object #17"),
            repeats: true,
        }
    }
    fn complete(&self, offer: &Offer) -> Vec<String> {
        offered(offer)
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        one_object(self.about().usage, args)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let of = match args {
            [] => None,
            some => Some(object(some, self.about().usage, at)?),
        };
        let text = holders::tree(at.scene.world, at.scene.at.pid, of, at.scene.style);
        at.show(&text);
        Ok(Flow::Stay)
    }
}

pub(super) struct Peek;

/// How many bytes `peek` shows without a count, and at most.
const PEEKED: usize = 64;
const MOST: usize = 4096;

fn peeked(args: &[&str]) -> Result<(Option<Named>, usize), String> {
    let of = args.first().map(|w| named(w)).transpose()?;
    let bytes = match args.get(1) {
        Some(w) => number("a number of bytes", w)?,
        None => PEEKED,
    };
    nothing(Peek.about().usage, args.get(2..).unwrap_or_default())?;
    match bytes {
        0 => Err("a number of bytes begins at 1".to_string()),
        n if n > MOST => Err(format!("at most {MOST} bytes are shown")),
        n => Ok((of, n)),
    }
}

/// Number `fd` is not open; what it was last may be held.
fn not_open(at: &At<'_, '_>, fd: Fd) -> String {
    let last = last_file(at, fd).filter(|of| at.scene.live.held().contains(of));
    let held = last.map(|of| format!(": peek {of} shows the copy that dup made")).unwrap_or_default();
    format!("fd {fd} is not open here{held}")
}

/// The object that number `fd` of the task that is looked at is, or was last.
pub(super) fn last_file(at: &At<'_, '_>, fd: Fd) -> Option<FileId> {
    let world = at.scene.world;
    let open = world.open_life(at.tid, fd);
    let last = || world.lineage(world.task(at.tid)?.table, fd).find(|l| l.end.is_some());
    open.or_else(last).map(|l| l.file)
}

/// The content of an object: by the copy of it, or by whoever has it open.
fn content(at: &mut At<'_, '_>, of: FileId, bytes: usize) -> Result<live::Seen, String> {
    let (world, live) = (at.scene.world, &mut *at.scene.live);
    if live.held().contains(&of) {
        return live.content_of(of, bytes);
    }
    let open = |l: &&Life| l.file == of && l.end.is_none();
    let holders =
        world.lives().filter(open).filter_map(|l| Some((world.tasks().find(|t| t.1.table == l.table)?.0, l.fd)));
    match holders.min() {
        Some((tid, fd)) => live.content(tid, fd, bytes),
        None => Err("it is open nowhere: at a break before its close dup holds a copy".to_string()),
    }
}

impl Command for Peek {
    fn about(&self) -> &'static About {
        &About {
            names: &["peek"],
            usage: "peek [N|#ID [BYTES]]",
            group: Group::Look,
            summary: "the content of a file around its offset, or what waits in a pipe",
            help: "Nothing is taken out of the pipe and no offset moves. Of sockets and devices nothing can be shown.\n\
                   Of an object that is closed there is something to see if dup holds a copy of it.\n\
                   Without N: the descriptor of this break.",
            example: ("peek 3 256", "256 bytes around the offset of descriptor 3"),
            repeats: true,
        }
    }
    fn complete(&self, offer: &Offer) -> Vec<String> {
        offered(offer)
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        peeked(args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let (of, bytes) = peeked(args)?;
        let of = of.or(at.scene.at.fd.map(Named::Number));
        let seen = match of.ok_or_else(|| format!("at what? usage: {}", self.about().usage))? {
            Named::Number(fd) => match at.scene.world.open_life(at.tid, fd) {
                Some(_) => at.scene.live.content(at.tid, fd, bytes).map_err(|e| format!("fd {fd}: {e}"))?,
                None => return Err(not_open(at, fd)),
            },
            Named::Object(id) => content(at, id, bytes).map_err(|e| format!("object {id}: {e}"))?,
        };
        let text = live::dump(&seen, at.scene.style);
        at.show(&text);
        Ok(Flow::Stay)
    }
}

pub(super) struct Thread;

fn task(what: &str, usage: &str, args: &[&str]) -> Result<i32, String> {
    number(what, one(usage, args)?)
}

/// Looks at another task from now on, until the target goes on.
fn turn_to(at: &mut At<'_, '_>, tid: Tid, pid: Pid) -> Flow {
    (at.tid, at.pid) = (tid, pid);
    // The stack is that of the task that is looked at.
    (at.trace, at.frame, at.listed) = (None, None, None);
    let name = at.scene.tids.iter().find(|t| t.0 == tid).map(|t| crate::base::text::escape(t.1.as_bytes()));
    at.say(&format!("looking at thread {tid} of process {pid}, {}", name.unwrap_or_default()));
    Flow::Stay
}

impl Command for Thread {
    fn about(&self) -> &'static About {
        &About {
            names: &["thread"],
            usage: "thread TID",
            group: Group::Look,
            summary: "look at another task: info fds, fd, hist, who and peek are then about its table, bt about its stack",
            help: "The task is one of info threads. Its stack is taken where it stands; `bt closed` and its like stay about the break.",
            example: ("thread 4711", "info fds shows what task 4711 has open"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        task("a task (info threads)", self.about().usage, args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let tid = Tid(task("a task (info threads)", self.about().usage, args)?);
        let pid = at.scene.world.task(tid).map(|t| t.pid);
        let pid = pid.ok_or_else(|| format!("there is no task {tid}: info threads lists them"))?;
        Ok(turn_to(at, tid, pid))
    }
}

pub(super) struct Proc;

impl Command for Proc {
    fn about(&self) -> &'static About {
        &About {
            names: &["proc"],
            usage: "proc PID",
            group: Group::Look,
            summary: "look at another process, as thread does",
            help: "The process is one of info procs that has not ended.",
            example: ("proc 4711", "info fds shows what process 4711 has open"),
            repeats: false,
        }
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        task("a process (info procs)", self.about().usage, args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let pid = Pid(task("a process (info procs)", self.about().usage, args)?);
        let tid = at.scene.world.tasks().filter(|(_, t)| t.pid == pid).map(|(tid, _)| tid).min();
        let tid = tid.ok_or_else(|| format!("no process {pid} is running: info procs lists them"))?;
        Ok(turn_to(at, tid, pid))
    }
}

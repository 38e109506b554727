//! Commands that show descriptors, processes and findings.

use super::super::{At, Flow};
use super::{Command, choose, nothing, number, one};
use crate::base::{Fd, FileId};
use crate::prompt::console::Offer;
use crate::render::{history, table};

pub(super) struct Info;

const LISTS: &[&str] = &["fds", "procs", "threads", "findings"];

fn list(args: &[&str]) -> Result<&'static str, String> {
    let word = args.first().copied().ok_or_else(|| format!("of what? {}", LISTS.join(", ")))?;
    nothing(Info.usage(), args.get(1..).unwrap_or_default())?;
    choose("list", word, LISTS.iter().copied())
        .map_err(|e| e.replace("try help", &format!("there are {}", LISTS.join(", "))))
}

impl Command for Info {
    fn names(&self) -> &'static [&'static str] {
        &["info"]
    }
    fn usage(&self) -> &'static str {
        "info fds|procs|threads|findings"
    }
    fn summary(&self) -> &'static str {
        "lists of what there is"
    }
    fn help(&self) -> &'static str {
        "fds       the open descriptors of the table of the task at the break\n\
         procs     the processes, the living and the ended\n\
         threads   the tasks that stand still\n\
         findings  what was found so far"
    }
    fn complete(&self, _: &Offer) -> Vec<String> {
        LISTS.iter().map(|l| (*l).to_string()).collect()
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        list(args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let s = &mut *at.scene;
        let text = match list(args)? {
            "fds" => table::fds(s.world, s.at.tid, s.names, s.style),
            "procs" => table::procs(s.world, s.at.pid, s.style),
            "threads" => table::threads(s.world, s.tids, s.at.tid, s.style),
            _ => table::findings(s.findings, s.names, s.style),
        };
        at.show(&text);
        Ok(Flow::Stay)
    }
}

pub(super) struct Descriptor;

fn descriptor(args: &[&str]) -> Result<Fd, String> {
    let n: i32 = number("a descriptor", one(Descriptor.usage(), args)?)?;
    if n < 0 { Err("a descriptor is not negative".to_string()) } else { Ok(Fd(n)) }
}

impl Command for Descriptor {
    fn names(&self) -> &'static [&'static str] {
        &["fd"]
    }
    fn usage(&self) -> &'static str {
        "fd N"
    }
    fn summary(&self) -> &'static str {
        "all that is known of descriptor N now"
    }
    fn help(&self) -> &'static str {
        "What descriptor N is in the table of the task at the break, where it came from and who else holds its object."
    }
    fn complete(&self, offer: &Offer) -> Vec<String> {
        offer.fds.clone()
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        descriptor(args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let fd = descriptor(args)?;
        let s = &mut *at.scene;
        let text = table::fd(s.world, s.at.tid, fd, s.names, s.style);
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
    let word = one(History.usage(), args)?;
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
    fn names(&self) -> &'static [&'static str] {
        &["hist", "history"]
    }
    fn usage(&self) -> &'static str {
        "hist [N|#ID] [all]"
    }
    fn summary(&self) -> &'static str {
        "what became of descriptor N, or of an object"
    }
    fn help(&self) -> &'static str {
        "With a number: its last lives in this table and in those it was copied from; with `all`, every one.\n\
         With an object (#17): everything that happened to it, across dup, fork and exec.\n\
         Without either: the number that this break is about."
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
        let s = &mut *at.scene;
        let about = s.at.fd.or(s.at.finding.as_ref().map(|f| f.fd));
        let whose = match (whose(args)?, about) {
            (Whose::Break, Some(fd)) => Whose::Number(fd),
            (Whose::Break, None) => return Err(format!("which? usage: {}", self.usage())),
            (w, _) => w,
        };
        let text = match whose {
            Whose::Object(id) => history::of_object(s.world, id, s.findings, s.names, s.style),
            Whose::Number(fd) => history::of_number(s.world, (s.at.tid, fd), last, s.findings, s.names, s.style),
            Whose::Break => String::new(),
        };
        at.show(&text);
        Ok(Flow::Stay)
    }
}

//! Who holds an object, in whatever process.

use super::Names;
use super::call::{file, open_file};
use super::place::place;
use super::style::{Ink, Style, columns, keep_start};
use super::table::{program, table};
use crate::base::{FileId, Pid};
use crate::event::FileKind;
use crate::model::{Life, Origin, World};
use std::collections::{BTreeMap, BTreeSet};

/// The processes that have a table, by their pids; a table that outlives its process belongs to none.
fn owners(world: &World, life: &Life) -> Vec<Pid> {
    let pids: BTreeSet<Pid> = world.tasks().filter(|(_, t)| t.table == life.table).map(|(_, t)| t.pid).collect();
    pids.into_iter().collect()
}

fn open_lives(world: &World, id: FileId) -> Vec<&Life> {
    let mut lives: Vec<&Life> = world.lives().filter(|l| l.file == id && l.end.is_none()).collect();
    lives.sort_by_key(|l| (l.table, l.fd));
    lives
}

/// The objects that are the other end of pipe `id`.
fn other_ends(world: &World, id: FileId) -> Vec<FileId> {
    let Some(this) = world.file(id) else { return Vec::new() };
    let wanted = match this.file.kind {
        FileKind::PipeRead => FileKind::PipeWrite,
        FileKind::PipeWrite => FileKind::PipeRead,
        _ => return Vec::new(),
    };
    let is_other =
        |l: &&Life| world.file(l.file).is_some_and(|f| f.file.kind == wanted && f.file.path == this.file.path);
    let ids: BTreeSet<FileId> = world.lives().filter(|l| l.end.is_none()).filter(is_other).map(|l| l.file).collect();
    ids.into_iter().collect()
}

/// Every open descriptor of object `id`: in which process, how it came there, when and where.
pub fn who(world: &World, id: FileId, names: &mut dyn Names, style: Style) -> String {
    let Some(object) = world.file(id) else { return format!("no object {id} is remembered\n") };
    let mut out = format!("{}\n", open_file(object));
    let holders = rows(world, id, names);
    out += &match holders.is_empty() {
        true => format!("nobody holds it any more: hist {id} tells who did\n"),
        false => table(HEAD, &holders, 6, style),
    };
    let ends = other_ends(world, id);
    let is_pipe = matches!(object.file.kind, FileKind::PipeRead | FileKind::PipeWrite);
    if is_pipe && ends.is_empty() {
        out += "nobody who is followed holds the other end\n";
    }
    for other in ends {
        let Some(object) = world.file(other) else { continue };
        out += &format!("the other end, {}\n", open_file(object));
        out += &table(HEAD, &rows(world, other, names), 6, style);
    }
    out
}

const HEAD: &[&str] = &["PID", "FD", "CLOEXEC", "PROGRAM", "HOW", "SINCE", "WHERE"];

fn rows(world: &World, id: FileId, names: &mut dyn Names) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for life in open_lives(world, id) {
        for pid in owners(world, life) {
            let what = world.process(pid).map(|p| program(&p.program)).unwrap_or_default();
            let base = what.split(' ').next().and_then(|p| p.rsplit('/').next()).unwrap_or_default();
            rows.push(vec![
                pid.to_string(),
                life.fd.to_string(),
                if life.cloexec { "yes" } else { "no" }.to_string(),
                keep_start(base, 15),
                how(world, life),
                format!("+{:.3}", life.began.at as f64 / 1e9),
                place(names, &life.began.site).user.unwrap_or_default(),
            ]);
        }
    }
    rows
}

/// How a descriptor came to be.
fn how(world: &World, life: &Life) -> String {
    let number = |id| world.life(id).map(|l| l.fd.to_string());
    let task = |id| world.life(id).map(|l| l.began.pid.to_string());
    match life.origin {
        Origin::Opened => "opened".to_string(),
        Origin::Duplicated(from) => format!("dup of {}", number(from).unwrap_or_else(|| "?".to_string())),
        Origin::Inherited(_) => format!("fork of {}", life.began.pid),
        Origin::Unshared(_) => "unshared".to_string(),
        Origin::Received(Some(from)) => format!("from {}", task(from).unwrap_or_else(|| "?".to_string())),
        Origin::Received(None) => "received".to_string(),
        Origin::Present => "start".to_string(),
        Origin::Appeared => "unseen".to_string(),
    }
}

/// Who else has a descriptor of the object of `life`, and who the other end of its pipe, in a few words.
pub fn others(world: &World, life: &Life) -> Vec<String> {
    let list = |id: FileId| -> Vec<String> {
        let mut all = Vec::new();
        for l in open_lives(world, id).into_iter().filter(|l| l.id != life.id) {
            match l.table == life.table {
                true => all.push(l.fd.to_string()),
                false => all.extend(owners(world, l).iter().map(|pid| format!("{} in {pid}", l.fd))),
            }
        }
        all
    };
    let mut out = Vec::new();
    let shared = list(life.file);
    if !shared.is_empty() {
        out.push(format!("also {}", some(&shared)));
    }
    for end in other_ends(world, life.file) {
        out.push(format!("other end {}", some(&list(end))));
    }
    out
}

/// The first few of a list.
fn some(all: &[String]) -> String {
    const SHOWN: usize = 6;
    match all.len().checked_sub(SHOWN).filter(|n| *n > 0) {
        Some(more) => format!("{} and {more} more", all.get(..SHOWN).unwrap_or_default().join(", ")),
        None => all.join(", "),
    }
}

/// How deep a tree is drawn.
const DEEPEST: usize = 40;

/// The processes, who made whom; with the numbers under which each holds `of`.
pub fn tree(world: &World, at: Pid, of: Option<FileId>, style: Style) -> String {
    let mut children: BTreeMap<Option<Pid>, Vec<Pid>> = BTreeMap::new();
    let known: BTreeSet<Pid> = world.processes().map(|(pid, _)| pid).collect();
    for (pid, p) in world.processes() {
        children.entry(p.parent.filter(|p| known.contains(p) && *p != pid)).or_default().push(pid);
    }
    children.values_mut().for_each(|c| c.sort());
    // Of those that have ended only they who have living descendants.
    let mut out = of.and_then(|id| world.file(id)).map(|f| format!("{}\n", file(&f.file))).unwrap_or_default();
    let mut todo: Vec<(Pid, usize)> = roots(&children).into_iter().rev().map(|p| (p, 0)).collect();
    let mut hidden = 0;
    while let Some((pid, depth)) = todo.pop() {
        let below = children.get(&Some(pid)).cloned().unwrap_or_default();
        let Some(p) = world.process(pid) else { continue };
        if p.tasks == 0 && pid != at && !lives_below(world, &children, pid) {
            hidden += 1;
            continue;
        }
        let state = match (p.tasks, &p.window) {
            (0, _) => " (ended)",
            (_, Some(_)) => " (forked)",
            _ => "",
        };
        let held: Vec<String> = of
            .map(|id| open_lives(world, id))
            .unwrap_or_default()
            .into_iter()
            .filter(|l| owners(world, l).contains(&pid))
            .map(|l| format!("fd {}{}", l.fd, if l.cloexec { " (cloexec)" } else { "" }))
            .collect();
        let held = if held.is_empty() { String::new() } else { format!("  <- {}", held.join(", ")) };
        let mark = if pid == at { ">" } else { " " };
        let head = format!("{mark} {}{pid}{state} ", "  ".repeat(depth.min(DEEPEST)));
        let room = style.width.saturating_sub(columns(&head) + columns(&held)).max(10);
        out += &format!("{head}{}{}\n", keep_start(&program(&p.program), room), style.paint(Ink::Strong, &held));
        todo.extend(below.into_iter().rev().map(|p| (p, depth + 1)));
    }
    if hidden > 0 {
        out += &format!("  and {hidden} that ended, with all that they made (info procs)\n");
    }
    out
}

fn roots(children: &BTreeMap<Option<Pid>, Vec<Pid>>) -> Vec<Pid> {
    children.get(&None).cloned().unwrap_or_default()
}

/// Whether a process that `pid` made, or one that that made, is alive.
fn lives_below(world: &World, children: &BTreeMap<Option<Pid>, Vec<Pid>>, pid: Pid) -> bool {
    let (mut todo, mut seen) = (vec![pid], BTreeSet::new());
    while let Some(pid) = todo.pop() {
        // Pids come again: who made whom may then go round in a circle.
        if !seen.insert(pid) {
            continue;
        }
        for child in children.get(&Some(pid)).into_iter().flatten() {
            if world.process(*child).is_some_and(|p| p.tasks > 0) {
                return true;
            }
            todo.push(*child);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::testing::{MAIN, Script};
    use crate::render::testing::cpython;

    fn world() -> Script {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.dup2(100, 3, 7);
        s.pipe(MAIN, 4, 5);
        s.fork(MAIN, 200);
        s.close(200, 4);
        s
    }

    #[test]
    fn every_holder_is_named_with_its_way() {
        let s = world();
        let expected = "\
#1 /tmp/a
PID  FD  CLOEXEC  PROGRAM  HOW          SINCE   WHERE
100  3   yes      job      opened       +0.000
100  7   no       job      dup of 3     +0.000
200  3   yes      job      fork of 100  +0.000
200  7   no       job      fork of 100  +0.000
";
        assert_eq!(who(&s.world, FileId(1), &mut cpython(), Style::plain()), expected);
        let pipe = s.world.open_life(MAIN, crate::base::Fd(4)).unwrap();
        let text = who(&s.world, pipe.file, &mut cpython(), Style::plain());
        assert!(text.contains("the other end, #3 pipe:[9] (write end)\n"), "{text}");
        assert_eq!(others(&s.world, pipe), ["other end 5, 5 in 200"]);
        assert_eq!(who(&s.world, FileId(99), &mut cpython(), Style::plain()), "no object #99 is remembered\n");
    }

    #[test]
    fn the_tree_shows_who_holds_an_object() {
        let mut s = world();
        s.fork(crate::base::Tid(200), 300);
        s.exit(200);
        let expected = "\
/tmp/a
> 100 job  <- fd 3 (cloexec), fd 7
    200 (ended) job
      300 (forked) job  <- fd 3 (cloexec), fd 7
";
        assert_eq!(tree(&s.world, MAIN_PID, Some(FileId(1)), Style::plain()), expected);
        s.exit(300);
        let text = tree(&s.world, MAIN_PID, None, Style::plain());
        assert_eq!(text, "> 100 job\n  and 1 that ended, with all that they made (info procs)\n");
    }

    const MAIN_PID: Pid = Pid(100);
}

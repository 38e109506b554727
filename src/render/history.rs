//! What became of a number, or of an object, in the order of time.

use super::Names;
use super::call::{self, file};
use super::place::place;
use super::style::{Ink, Style, columns, visible, wrap};
use super::table::program;
use super::why::why;
use crate::base::{Fd, FileId, LifeId, TableId, Tid};
use crate::event::{Alteration, Site};
use crate::finding::{Copies, Finding, Moved};
use crate::model::{Altered, End, Ended, Life, Moment, Origin, What, World};
use std::collections::{BTreeMap, HashSet};

/// The column at which places begin.
const PLACE_AT: usize = 62;

/// One line of a history.
struct Entry {
    at: u64,
    /// Among entries of the same moment: ends before beginnings.
    order: u32,
    who: String,
    what: String,
    site: Site,
    /// Of an end: its moment and what the lives say, to be put into words.
    end: Option<(Moment, Option<Moved>)>,
    notes: Vec<String>,
    /// The life whose end this is.
    end_of: Option<LifeId>,
}

/// The lives of number `fd` as task `tid` knows them: the last `last`, or all that are remembered.
pub fn of_number(
    world: &World,
    (tid, fd): (Tid, Fd),
    last: Option<usize>,
    findings: &[Finding],
    names: &mut dyn Names,
    style: Style,
) -> String {
    let Some(task) = world.task(tid) else { return format!("task {tid} is gone\n") };
    let mut lives: Vec<&Life> = world.lineage(task.table, fd).collect();
    if lives.is_empty() {
        return format!("fd {fd} was never open here\n");
    }
    let before = lives.len().saturating_sub(last.unwrap_or(usize::MAX));
    lives.truncate(lives.len() - before);
    let mut out = String::new();
    if before > 0 {
        let noun = if before == 1 { "life" } else { "lives" };
        out += &style.paint(Ink::Dim, &format!("  … {before} earlier {noun} (hist {fd} all shows them)"));
        out.push('\n');
    }
    out + &text(entries(world, &lives, true), findings, names, style)
}

/// Everything that happened to object `id`, across dup, fork and exec.
pub fn of_object(world: &World, id: FileId, findings: &[Finding], names: &mut dyn Names, style: Style) -> String {
    let mut lives: Vec<&Life> = world.lives().filter(|l| l.file == id).collect();
    if lives.is_empty() {
        return format!("no object {id} is remembered\n");
    }
    lives.sort_by_key(|l| l.id);
    let entries = entries(world, &lives, false);
    text(entries, findings, names, style)
}

fn entries(world: &World, lives: &[&Life], show_object: bool) -> Vec<Entry> {
    let mut out = Vec::new();
    let moves = Copies::new(world);
    // What one event does to several numbers is one line: the copies of a fork, what execve closes.
    let mut copies: BTreeMap<(u64, TableId), Vec<&Life>> = BTreeMap::new();
    let mut mass: BTreeMap<(u64, TableId), Vec<(&Life, &End)>> = BTreeMap::new();
    for life in lives {
        match life.origin {
            Origin::Inherited(_) | Origin::Unshared(_) => {
                copies.entry((life.began.at, life.table)).or_default().push(life);
            }
            _ => out.push(beginning(world, life, show_object)),
        }
        if let Some(end) = &life.end {
            match end.how {
                Ended::ClosedOnExec | Ended::TableGone | Ended::ClosedInRange => {
                    mass.entry((end.moment.at, life.table)).or_default().push((life, end));
                }
                _ => out.push(ending(&moves, life, end)),
            }
        }
    }
    let about = |a: &&Altered| a.about.iter().any(|(l, ..)| lives.iter().any(|life| life.id == *l));
    out.extend(world.altered().iter().filter(about).map(alteration));
    out.extend(copies.into_iter().filter_map(|((_, table), group)| copied(world, table, &group)));
    out.extend(mass.into_iter().filter_map(|((_, table), group)| ended_together(world, table, &group, lives)));
    out.sort_by_key(|e| (e.at, e.order));
    out
}

fn beginning(world: &World, life: &Life, show_object: bool) -> Entry {
    let opened = world.file(life.file);
    let path = opened.map(|f| f.file.path.as_slice());
    let mut what = match &life.began.what {
        What::Call(info) => call::call(info, path),
        _ if life.origin == Origin::Appeared => format!("{} appeared: it was opened unseen", life.fd),
        _ => format!("{} open when fdwatch began to look", life.fd),
    };
    let mut notes = Vec::new();
    if let Origin::Duplicated(_) = life.origin {
        what += if life.cloexec { " (CLOEXEC)" } else { " (no CLOEXEC)" };
        notes.push(format!("also held as {}", life.fd));
    }
    if show_object {
        // The call shows the path already.
        let with_path = opened.filter(|_| !what.contains('"'));
        notes = vec![with_path.map(call::open_file).unwrap_or_else(|| life.file.to_string())];
    } else if let (Origin::Opened, Some(f)) = (life.origin, opened) {
        // The call names no path, or hides which end this is.
        if !what.contains('"') {
            notes.push(format!("{} is {}", life.fd, file(&f.file)));
        }
    }
    if let Origin::Received(from) = life.origin {
        let of = from.and_then(|l| world.life(l)).map(|l| format!(", which was {} of [{}]", l.fd, holder(world, l)));
        notes.push(format!("received as {}{}", life.fd, of.unwrap_or_default()));
    }
    entry(&life.began, what, notes, 2)
}

/// What fdwatch did to a call. A delayed one has a line of its own besides, if it ended the life or began another.
fn alteration(altered: &Altered) -> Entry {
    let what = match &altered.moment.what {
        What::Call(info) => call::invocation(info, call::some(&altered.path)),
        _ => String::new(),
    };
    let happened = match altered.how {
        Alteration::Keep | Alteration::Fail(_) | Alteration::Return(_) => ": it did not happen",
        Alteration::Delay(_) | Alteration::DelayResult(_) => "",
        Alteration::Quarantine => ": the number does not become free",
    };
    let note = format!("altered by fdwatch, {}{happened}", call::alteration(altered.how));
    entry(&altered.moment, what, vec![note], 0)
}

/// The task whose table a life is in.
fn holder(world: &World, life: &Life) -> Tid {
    world.table(life.table).map_or(life.began.tid, |t| t.made_for)
}

fn entry(moment: &Moment, what: String, notes: Vec<String>, order: u32) -> Entry {
    let who = format!("[{}]", moment.tid);
    Entry { at: moment.at, order, who, what, site: moment.site.clone(), end: None, notes, end_of: None }
}

fn ending(copies: &Copies<'_>, life: &Life, end: &End) -> Entry {
    let mut what = match &end.moment.what {
        What::Call(info) => call::call(info, None),
        _ => String::new(),
    };
    let mut notes = Vec::new();
    match end.how {
        Ended::Replaced => notes.push(format!("put another file in place of {}", life.fd)),
        Ended::Vanished => {
            what = format!("{} vanished: it was closed unseen", life.fd);
        }
        _ => {}
    }
    let told = Some((end.moment.clone(), copies.moved(life)));
    Entry { end_of: Some(life.id), end: told, ..entry(&end.moment, what, notes, 1) }
}

fn copied(world: &World, table: TableId, group: &[&Life]) -> Option<Entry> {
    let first = group.first()?;
    let child = world.table(table).map_or(first.began.tid, |t| t.made_for);
    let list = numbers(group.iter().map(|l| l.fd));
    let (who, what) = match first.origin {
        Origin::Inherited(_) => (format!("[{}>{child}]", first.began.tid), format!("fork copy: {list}")),
        _ => (format!("[{}]", first.began.tid), format!("own copy of the table: {list}")),
    };
    Some(Entry { who, ..entry(&first.began, what, Vec::new(), 3) })
}

fn ended_together(world: &World, table: TableId, group: &[(&Life, &End)], all: &[&Life]) -> Option<Entry> {
    let (first, end) = group.first()?;
    let list = numbers(group.iter().map(|g| g.0.fd));
    let moment = &end.moment;
    let what = match (end.how, &moment.what) {
        (Ended::ClosedOnExec, _) => {
            let over = |l: &&&Life| {
                l.table == table && l.began.at < moment.at && l.end.as_ref().is_none_or(|e| e.moment.at > moment.at)
            };
            let kept = numbers(all.iter().filter(over).map(|l| l.fd));
            let process = world.process(moment.pid).filter(|p| p.since == moment.at);
            let by =
                process.map(|p| format!(" execve {}", program(&p.program))).unwrap_or_else(|| " execve".to_string());
            match kept.is_empty() {
                true => format!("close-on-exec dropped {list} at{by}"),
                false => format!("close-on-exec dropped {list}; {kept} survives{by}"),
            }
        }
        (Ended::ClosedInRange, What::Call(info)) => format!("{} closed {list}", call::call(info, None)),
        _ => format!("the last task ended, and {list} with it"),
    };
    // Of exec and exit the line says so itself.
    let told = (end.how == Ended::ClosedInRange).then(|| (moment.clone(), None));
    Some(Entry { end_of: Some(first.id), end: told, ..entry(moment, what, Vec::new(), 1) })
}

fn numbers(fds: impl Iterator<Item = Fd>) -> String {
    let mut fds: Vec<Fd> = fds.collect();
    fds.sort();
    fds.dedup();
    fds.iter().map(|f| f.to_string()).collect::<Vec<_>>().join(", ")
}

fn text(entries: Vec<Entry>, findings: &[Finding], names: &mut dyn Names, style: Style) -> String {
    let mut out = String::new();
    let mut told = HashSet::new();
    let who_width = entries.iter().map(|e| columns(&e.who)).max().unwrap_or(0);
    for e in entries {
        let seconds = format!("+{:.6}", e.at as f64 / 1e9);
        let mut line = format!("  {seconds} {:<who_width$} {}", e.who, e.what);
        let (ends, mut notes) = (e.end.is_some(), e.notes);
        notes.extend(e.end.and_then(|(moment, moved)| why(names, &moment, moved)).map(|w| w.words));
        let notes = notes.join(", ");
        if let Some(p) = place(names, &e.site).user {
            let pad = PLACE_AT.saturating_sub(columns(&line)).max(2);
            let beside = columns(&line) + pad + columns(&p) + 2 + columns(&notes) <= style.width;
            line += &if beside { " ".repeat(pad) } else { "\n      at ".to_string() };
            line += &style.paint(Ink::Place, &p);
        }
        if !notes.is_empty() {
            let last = line.rsplit('\n').next().map_or(0, visible);
            // An object stays beside its call; the words of an end are many.
            line += &match !ends || last + 2 + columns(&notes) <= style.width {
                true => format!("  {notes}"),
                false => format!("\n      {}", wrap(&notes, 6, 6, style.width)),
            };
        }
        let blamed = |f: &&Finding| {
            e.end_of.is_some() && f.step(crate::finding::Role::Closed).is_some_and(|s| s.moment.at == e.at)
        };
        for f in findings.iter().filter(blamed) {
            if told.insert((f.name, e.at)) {
                line += &format!("  {}", style.paint(Ink::Error, &format!("<- {}", f.name)));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PyStackId, StackId};
    use crate::event::{Cause, Escape};
    use crate::finding::testing::{MAIN, Script};
    use crate::render::testing::cpython;

    #[test]
    fn an_object_is_followed_over_dup_fork_and_exec() {
        let mut s = Script::new();
        let site = Site { stack: Some(StackId(1)), py: Some(PyStackId(1)), ..Site::default() };
        s.at(site).open(MAIN, 3, "/tmp/a");
        s.dup2(100, 3, 7);
        s.fork(MAIN, 200);
        s.exec(200);
        s.exit(100);
        let text = of_object(&s.world, FileId(1), &[], &mut cpython(), Style::plain());
        let expected = "  \
  +0.000002 [100]     openat(AT_FDCWD, \"/tmp/a\", O_WRONLY|O_CREAT|O_CLOEXEC) = 3
      at job.py:2 in <module>
  +0.000003 [100]     dup2(3, 7) = 7 (no CLOEXEC)  also held as 7
  +0.000004 [100>200] fork copy: 3, 7
  +0.000005 [200]     close-on-exec dropped 3; 7 survives execve
  +0.000006 [100]     the last task ended, and 3, 7 with it
";
        assert_eq!(text.replace("execve \n", "execve\n"), expected);
    }

    #[test]
    fn a_number_has_its_lives_with_the_culprit_marked() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.close_by(MAIN, 3, Cause::Finalizer, Some(Escape::FilenoCall));
        s.pipe(MAIN, 3, 4);
        s.fork(MAIN, 200);
        s.close(200, 3);
        let found = s.refused(200, 3, Some(1));
        let text = of_number(&s.world, (Tid(200), Fd(3)), None, &found, &mut cpython(), Style::plain());
        let expected = "  \
  +0.000002 [100]     openat(AT_FDCWD, \"/tmp/a\", O_WRONLY|O_CREAT|O_CLOEXEC) = 3  #1
  +0.000003 [100]     close(3) = 0  by reference count, no close() call  <- stale-fd-to-child
  +0.000004 [100]     pipe2(0x7ffc00001000, O_CLOEXEC) = 0  #2 pipe:[9] (read end)
  +0.000005 [100>200] fork copy: 3
  +0.000006 [200]     close(3) = 0  explicit
";
        assert_eq!(text, expected);
        let last = of_number(&s.world, (Tid(200), Fd(3)), Some(1), &found, &mut cpython(), Style::plain());
        assert!(last.starts_with("  … 2 earlier lives (hist 3 all shows them)\n"), "{last}");
        assert_eq!(
            of_number(&s.world, (MAIN, Fd(9)), None, &[], &mut cpython(), Style::plain()),
            "fd 9 was never open here\n"
        );
        assert_eq!(
            of_object(&s.world, FileId(99), &[], &mut cpython(), Style::plain()),
            "no object #99 is remembered\n"
        );
    }

    #[test]
    fn what_fdwatch_did_to_a_call_stands_where_it_happened() {
        use crate::event::{Call, CallInfo, Effect, EventKind};
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        for how in [Alteration::Keep, Alteration::Delay(1_500_000)] {
            let info = CallInfo { name: "close", args: [3, 0, 0, 0, 0, 0], ret: None };
            let effects = vec![Effect::Altered { how, fds: vec![Fd(3)], path: vec![] }];
            s.event(MAIN, EventKind::Call(Call { info, effects, site: Site::default() }));
        }
        let told = crate::render::table::fd(&s.world, MAIN, Fd(3), &mut cpython(), Style::plain());
        assert!(
            told.ends_with("\n  altered  keep of close(3) by [100]\n  altered  delay 1500us of close(3) by [100]\n")
        );
        s.close(MAIN, 3);
        let expected = "  \
  +0.000002 [100] openat(AT_FDCWD, \"/tmp/a\", O_WRONLY|O_CREAT|O_CLOEXEC) = 3
  +0.000003 [100] close(3)  altered by fdwatch, keep: it did not happen
  +0.000004 [100] close(3)  altered by fdwatch, delay 1500us
  +0.000005 [100] close(3) = 0  explicit
";
        let text = of_object(&s.world, FileId(1), &[], &mut cpython(), Style::plain());
        assert_eq!(text, expected);
        assert_eq!(s.world.altered_unlisted(), 0);
        for _ in 0..5000 {
            let info = CallInfo { name: "close", args: [3, 0, 0, 0, 0, 0], ret: None };
            let effects = vec![Effect::Altered { how: Alteration::Keep, fds: vec![], path: vec![] }];
            s.event(MAIN, EventKind::Call(Call { info, effects, site: Site::default() }));
        }
        assert_eq!(s.world.altered().len() as u64 + s.world.altered_unlisted(), 5002, "memory is bounded");
        assert!(s.world.altered_unlisted() > 0);
    }
}

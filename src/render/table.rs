//! Lists: descriptors, processes, threads, findings.

use super::call::file;
use super::place::place;
use super::style::{Ink, Style, columns, keep_name, wrap};
use super::why::why;
use super::{Names, style};
use crate::base::text::escape;
use crate::base::{Fd, Pid, Tid};
use crate::event::Program;
use crate::finding::{Copies, Finding, Role};
use crate::model::{Altered, Life, Origin, Process, What, World};

/// A place of this many columns has room in a list.
const PLACE: usize = 28;

/// Rows under a heading, each line at most `style.width` columns: the column `flexible` gives way.
pub(super) fn table(head: &[&str], rows: &[Vec<String>], flexible: usize, style: Style) -> String {
    const GAP: usize = 2;
    let mut widths: Vec<usize> = head.iter().map(|h| columns(h)).collect();
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(columns(cell));
        }
    }
    let total: usize = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
    let over = total.saturating_sub(style.width);
    if let Some(w) = widths.get_mut(flexible) {
        *w = w.saturating_sub(over).max(8);
    }
    let mut out = String::new();
    let heading: Vec<String> = head.iter().map(|h| (*h).to_string()).collect();
    for (i, row) in [&heading].into_iter().chain(rows).enumerate() {
        let mut line = String::new();
        for (c, (cell, w)) in row.iter().zip(&widths).enumerate() {
            let cell = if c == flexible { keep_name(cell, *w) } else { cell.clone() };
            line.push_str(&cell);
            line.push_str(&" ".repeat((w + GAP).saturating_sub(columns(&cell))));
        }
        let line = line.trim_end();
        out.push_str(&if i == 0 { style.paint(Ink::Label, line) } else { line.to_string() });
        out.push('\n');
    }
    out
}

/// The open descriptors of the task's table that `wanted` lets through; with `details` also what there is to say of each
/// besides.
pub fn fds(
    world: &World,
    tid: Tid,
    names: &mut dyn Names,
    style: Style,
    wanted: &mut dyn FnMut(&Life) -> bool,
    details: &mut dyn FnMut(&Life) -> Option<String>,
) -> String {
    let open = world.task(tid).and_then(|t| world.table(t.table));
    let (mut rows, mut below) = (Vec::new(), Vec::new());
    let lives: Vec<&Life> = open.into_iter().flat_map(|t| t.open()).filter_map(|(_, id)| world.life(id)).collect();
    let all = lives.len();
    for life in lives.into_iter().filter(|l| wanted(l)) {
        let what = world.file(life.file);
        rows.push(vec![
            life.fd.to_string(),
            life.file.to_string(),
            if life.cloexec { "yes" } else { "no" }.to_string(),
            what.map(|f| file(&f.file)).unwrap_or_default(),
            origin(world, life, names),
        ]);
        below.push(details(life));
    }
    if rows.is_empty() {
        return match all {
            0 => "no descriptor is open\n".to_string(),
            n => format!("none of the {n} open descriptors is so\n"),
        };
    }
    let text = table(&["FD", "OBJECT", "CLOEXEC", "FILE", "SINCE"], &rows, 3, style);
    let mut out = String::new();
    for (i, line) in text.lines().enumerate() {
        out += &format!("{line}\n");
        if let Some(Some(more)) = i.checked_sub(1).and_then(|i| below.get(i)) {
            out += &format!("      {}\n", wrap(more, 6, 6, style.width));
        }
    }
    out
}

/// How a life began, in a few words.
fn origin(world: &World, life: &Life, names: &mut dyn Names) -> String {
    let at = place(names, &life.began.site).user.map(|p| keep_name(p.split(" in ").next().unwrap_or(&p), PLACE));
    match life.origin {
        Origin::Opened => at.unwrap_or_else(|| "opened".to_string()),
        Origin::Duplicated(from) => {
            let of = world.life(from).map(|l| format!("dup of {}", l.fd)).unwrap_or_else(|| "dup".to_string());
            at.map_or(of.clone(), |a| format!("{of}, {a}"))
        }
        Origin::Inherited(_) => "inherited".to_string(),
        Origin::Unshared(_) => "unshared".to_string(),
        Origin::Present => "start".to_string(),
        Origin::Received(_) => "received".to_string(),
        Origin::Appeared => "unseen".to_string(),
    }
}

/// All that is known of number `fd` in the task's table, now and before.
pub fn fd(world: &World, tid: Tid, fd: Fd, names: &mut dyn Names, style: Style) -> String {
    let mut out = String::new();
    match world.open_life(tid, fd) {
        Some(life) => {
            let what = world.file(life.file);
            let text = what.map(super::call::open_file).unwrap_or_else(|| life.file.to_string());
            out += &format!("fd {fd} {text}\n");
            let mut line = |label: &str, text: &str| {
                out += &format!("  {}{text}\n", style.paint(Ink::Label, &format!("{label:<9}")));
            };
            if let Some(f) = what {
                line("kind", f.file.noun());
                // FD_CLOEXEC is the number's own, and has a line of its own: a copy of what was opened with it may have none.
                line("flags", &super::call::open_flags(f.file.flags & !(libc::O_CLOEXEC as u32)));
            }
            line("cloexec", if life.cloexec { "yes" } else { "no: a program that is executed gets it" });
            line("since", &format!("[{}] {}", life.began.tid, origin(world, life, names)));
            let held: Vec<String> = world
                .lives()
                .filter(|l| l.file == life.file && l.end.is_none() && l.id != life.id)
                .map(|l| match l.table == life.table {
                    true => format!("{}", l.fd),
                    false => format!("{} in [{}]", l.fd, world.table(l.table).map_or(l.began.tid, |t| t.made_for)),
                })
                .collect();
            if !held.is_empty() {
                let mut held = held;
                held.sort();
                line("also", &held.join(", "));
            }
            for text in alterations(world, life) {
                line("altered", &text);
            }
        }
        None => {
            out += &format!("fd {fd} is not open\n");
            let last = world.task(tid).and_then(|t| world.lineage(t.table, fd).find(|l| l.end.is_some()));
            if let Some((life, end)) = last.and_then(|l| Some((l, l.end.as_ref()?))) {
                let mut line = |label: &str, text: &str| {
                    let text = wrap(text, 11, 11, style.width);
                    out += &format!("  {}{text}\n", style.paint(Ink::Label, &format!("{label:<9}")));
                };
                let was = world.file(life.file).map(super::call::open_file).unwrap_or_else(|| life.file.to_string());
                line("was", &was);
                let at = place(names, &end.moment.site).user.map(|p| format!(" {p}")).unwrap_or_default();
                line("closed", &format!("[{}]{at}", end.moment.tid));
                if let Some(why) = why(names, &end.moment, Copies::new(world).moved(life)) {
                    line("cause", &why.words);
                    if !why.proof.is_empty() {
                        line("proof", &why.proof.join(" < "));
                    }
                }
                for text in alterations(world, life) {
                    line("altered", &text);
                }
            }
        }
    }
    let past = world.task(tid).map_or(0, |t| world.lineage(t.table, fd).filter(|l| l.end.is_some()).count());
    if past > 0 {
        let lives = if past == 1 { "life" } else { "lives" };
        out += &format!("  {}{past} earlier {lives}: hist {fd}\n", style.paint(Ink::Label, "before   "));
    }
    out
}

/// How many alterations of one descriptor are shown.
const ALTERATIONS: usize = 8;

/// What fdwatch did to calls that were about this life: `keep of close(3) by [100]`.
pub fn alterations(world: &World, life: &Life) -> Vec<String> {
    let text = |a: &Altered| {
        let what = match &a.moment.what {
            What::Call(info) => super::call::invocation(info, super::call::some(&a.path)),
            _ => "what it did".to_string(),
        };
        format!("{} of {what} by [{}]", super::call::alteration(a.how), a.moment.tid)
    };
    let mut all: Vec<String> = world.altered_of(life.id).map(text).collect();
    let before = all.len().saturating_sub(ALTERATIONS);
    if before > 0 {
        all.drain(..before);
        all.insert(0, format!("{before} times before: hist {} all", life.fd));
    }
    all
}

/// How many ended processes are listed.
const ENDED: usize = 20;

/// The processes, the living first.
pub fn procs(world: &World, at: Pid, style: Style) -> String {
    processes(world, at, style, |_| true)
}

/// The processes that `of` has made, the living and the ended.
pub fn children(world: &World, of: Pid, style: Style) -> String {
    if !world.processes().any(|(_, p)| p.parent == Some(of)) {
        return format!("process {of} has made none\n");
    }
    processes(world, of, style, |p| p.parent == Some(of))
}

fn processes(world: &World, at: Pid, style: Style, which: impl Fn(&Process) -> bool) -> String {
    let mut all: Vec<_> = world.processes().filter(|(_, p)| which(p)).collect();
    all.sort_by_key(|(pid, p)| (p.tasks == 0, *pid));
    let living = all.iter().filter(|(pid, p)| p.tasks > 0 || *pid == at).count();
    // Of those that have ended the last are of interest: a shell's script makes hundreds.
    let left_out = all.len().saturating_sub(living + ENDED);
    let rows: Vec<Vec<String>> = all
        .into_iter()
        .enumerate()
        .filter(|(i, (pid, p))| p.tasks > 0 || *pid == at || *i >= living + left_out)
        .map(|(_, (pid, p))| {
            let open = world.tasks().find(|(_, t)| t.pid == pid).and_then(|(_, t)| world.table(t.table));
            let state = match (p.tasks, &p.window) {
                (0, _) => "ended",
                (_, Some(_)) => "forked",
                _ => "runs",
            };
            vec![
                if pid == at { ">" } else { "" }.to_string(),
                pid.to_string(),
                p.parent.map(|p| p.to_string()).unwrap_or_default(),
                state.to_string(),
                p.tasks.to_string(),
                open.map(|t| t.open().count().to_string()).unwrap_or_default(),
                program(&p.program),
            ]
        })
        .collect();
    let mut out = table(&["", "PID", "PARENT", "STATE", "TASKS", "FDS", "PROGRAM"], &rows, 6, style);
    if left_out > 0 {
        out += &format!("and {left_out} more that ended before\n");
    }
    out
}

/// A program as its command line, shortened.
pub(crate) fn program(p: &Program) -> String {
    const LONG: usize = 200;
    let argv: Vec<String> = p.argv.iter().map(|a| escape(a)).collect();
    let text = if argv.is_empty() { escape(&p.exe) } else { argv.join(" ") };
    style::keep_start(&text, LONG)
}

/// The tasks that stand still, as (tid, name, state).
pub fn threads(world: &World, tids: &[(Tid, String, String)], at: Tid, style: Style) -> String {
    let rows: Vec<Vec<String>> = tids
        .iter()
        .map(|(tid, comm, state)| {
            vec![
                if *tid == at { ">" } else { "" }.to_string(),
                tid.to_string(),
                world.task(*tid).map(|t| t.pid.to_string()).unwrap_or_default(),
                escape(state.as_bytes()),
                escape(comm.as_bytes()),
            ]
        })
        .collect();
    table(&["", "TID", "PID", "STATE", "NAME"], &rows, 4, style)
}

/// The findings so far.
pub fn findings(findings: &[Finding], names: &mut dyn Names, style: Style) -> String {
    if findings.is_empty() {
        return "nothing was found so far\n".to_string();
    }
    let rows: Vec<Vec<String>> = findings
        .iter()
        .enumerate()
        .map(|(i, f)| {
            let culprit = f.step(Role::Closed).or(f.steps.last());
            vec![
                (i + 1).to_string(),
                f.severity.to_string(),
                f.name.to_string(),
                format!("fd {} {}", f.fd, f.object.id),
                f.pid.to_string(),
                culprit.and_then(|s| place(names, &s.moment.site).user).unwrap_or_default(),
            ]
        })
        .collect();
    table(&["N", "SEVERITY", "NAME", "FD", "PID", "CULPRIT"], &rows, 5, style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PyStackId, StackId};
    use crate::event::{Cause, Site};
    use crate::finding::testing::{MAIN, Script};
    use crate::render::testing::cpython;

    fn world() -> (Script, Vec<Finding>) {
        let mut s = Script::new();
        let site =
            Site { stack: Some(StackId(1)), py: Some(PyStackId(1)), cause: Cause::Explicit, escape: None, owner: None };
        s.at(site).open(MAIN, 3, "/tmp/a");
        s.dup2(100, 3, 7);
        s.open(MAIN, 5, &format!("/tmp/{}/end\x1b", "long/".repeat(30)));
        s.close(MAIN, 3);
        s.fork(MAIN, 200);
        let found = s.refused(200, 3, Some(1));
        (s, found)
    }

    #[test]
    fn descriptors_in_a_table_that_fits() {
        let (s, _) = world();
        let text = fds(&s.world, MAIN, &mut cpython(), Style::plain(), &mut |_| true, &mut |_| None);
        let expected = "\
FD  OBJECT  CLOEXEC  FILE                                               SINCE
5   #2      yes      …/long/long/long/long/long/long/long//end\\x1b      opened
7   #1      no       /tmp/a                                             dup of 3
";
        assert_eq!(text, expected);
        assert!(text.lines().all(|l| columns(l) <= 80), "{text}");
        let some =
            fds(&s.world, MAIN, &mut cpython(), Style::plain(), &mut |l| l.fd == Fd(7), &mut |_| Some("x".into()));
        assert!(some.ends_with("\n7   #1      no       /tmp/a    dup of 3\n      x\n"), "{some}");
    }

    #[test]
    fn one_number_with_all_who_hold_its_object() {
        let (s, _) = world();
        let expected = "\
fd 7 #1 /tmp/a
  kind     file
  flags    O_WRONLY|O_CREAT
  cloexec  no: a program that is executed gets it
  since    [100] dup of 3
  also     7 in [200]
";
        assert_eq!(fd(&s.world, MAIN, Fd(7), &mut cpython(), Style::plain()), expected);
        let gone = fd(&s.world, MAIN, Fd(3), &mut cpython(), Style::plain());
        let expected = "\
fd 3 is not open
  was      #1 /tmp/a
  closed   [100]
  cause    explicit, after a copy to fd 7
  before   1 earlier life: hist 3
";
        assert_eq!(gone, expected);
    }

    #[test]
    fn processes_threads_and_findings() {
        let (s, found) = world();
        let p = procs(&s.world, Pid(100), Style::plain());
        let expected = "   PID  PARENT  STATE   TASKS  FDS  PROGRAM\n>  100          runs    1      2    job\n   200  100     forked  1      2    job\n";
        assert_eq!(p, expected);
        let tids = [(MAIN, "job\x1b".to_string(), "close".to_string())];
        let t = threads(&s.world, &tids, MAIN, Style::plain());
        assert_eq!(t, "   TID  PID  STATE  NAME\n>  100  100  close  job\\x1b\n");
        let f = findings(&found, &mut cpython(), Style::plain());
        assert_eq!(
            f,
            "N  SEVERITY  NAME               FD       PID  CULPRIT\n1  error     stale-fd-to-child  fd 3 #1  200\n"
        );
        assert_eq!(findings(&[], &mut cpython(), Style::plain()), "nothing was found so far\n");
    }
}

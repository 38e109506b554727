//! Differences as text, for people.

use super::frames::{Frame, Row, align};
use super::story::{Step, Story, path_of};
use super::{Aligned, Difference, Pair};
use crate::render::place::base;
use crate::render::style::{Ink, Style, columns, keep_path, keep_start, wrap};
use crate::report::lives::{LifeRecord, Lives};
use crate::report::{Report, text::ended};
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt::Write;

/// Wide enough for two stacks side by side.
const SIDE_BY_SIDE: usize = 100;
/// How many lives a section shows.
const SHOWN: usize = 10;
/// How many frames that both stacks have are shown beside those that differ.
const CONTEXT: usize = 1;
/// The longest path shown.
const PATH: usize = 60;

/// Two reports with their names, compared. Empty if nothing differs; `all` shows all that does.
pub fn report_diff(a: (&str, &Report), b: (&str, &Report), aligned: &Aligned, all: bool, style: Style) -> String {
    let mut uncompared = String::new();
    for (side, report) in [("A", a.1), ("B", b.1)] {
        let missing = report.coverage.forgotten_lives + report.lives.as_ref().map_or(0, |l| l.unlisted);
        if missing > 0 {
            let _ = writeln!(
                uncompared,
                "{missing} more lives of {side} were forgotten or not listed: they are not compared"
            );
        }
        let unnamed = report.lives.as_ref().map_or(0, |l| l.unnamed);
        if unnamed > 0 {
            let _ = writeln!(
                uncompared,
                "{unnamed} more stacks of {side} were given no names: why lives ended there is not known"
            );
        }
    }
    if aligned.is_empty() {
        return uncompared;
    }
    let (Some(left), Some(right)) = (&a.1.lives, &b.1.lives) else { return String::new() };
    let mut out = String::new();
    for (side, (name, report)) in [("A", a), ("B", b)] {
        let words: Vec<&str> = report.command.iter().map(|w| base(w)).collect();
        let command = if words.is_empty() { "attached".to_string() } else { words.join(" ") };
        let found = match report.findings.len() {
            0 => "nothing found".to_string(),
            1 => format!("found {}", report.findings.first().map(|f| f.name.as_str()).unwrap_or_default()),
            n => format!("{n} findings"),
        };
        let room = style.width.saturating_sub(columns(name) + columns(&found) + 8);
        let command = keep_start(&command, room.max(20));
        let _ = writeln!(out, "{} {name}: {command}: {found}", style.paint(Ink::Strong, side));
    }
    let (diverged, moved) = (aligned.diverged().count(), aligned.moved().count());
    let same = aligned.pairs.len() - diverged - moved;
    let many = |n: usize| if n == 1 { "1 life".to_string() } else { format!("{n} lives") };
    let _ = writeln!(
        out,
        "{} alike, {diverged} went otherwise, {} gone, {} new, {moved} moved",
        many(same),
        aligned.gone.len(),
        aligned.new.len()
    );
    out += &uncompared;
    if let Some((x, y)) = aligned.targets {
        let said = |target, report: &Report| ended(&Report { target, ..head(report) });
        title(&mut out, style, "target");
        let _ = writeln!(out, "A {}", said(x, a.1));
        let _ = writeln!(out, "B {}", said(y, b.1));
    }
    if let Some(first) = aligned.first {
        title(&mut out, style, "first divergence");
        let story = |lives: &Lives, at: Option<usize>| {
            at.and_then(|i| lives.list.get(i)).map(|l| (Story::of_life(lives, l), l.process.clone()))
        };
        match (story(left, first.a), story(right, first.b)) {
            (Some((x, p)), Some((y, q))) => {
                heads(&mut out, (&x, &p), (&y, &q), style);
                beside(&mut out, &x, &y, style);
            }
            (one, other) => {
                for (side, story) in [("A", one), ("B", other)] {
                    if let Some((story, process)) = story {
                        alone(&mut out, side, &story, &process, style);
                    }
                }
            }
        }
    }
    for (label, side, report, indexes) in [
        ("findings gone (only in A)", "A", a.1, &aligned.findings_gone),
        ("findings new (only in B)", "B", b.1, &aligned.findings_new),
    ] {
        if !indexes.is_empty() {
            title(&mut out, style, label);
            for f in indexes.iter().filter_map(|i| report.findings.get(*i)) {
                let text = format!("{side} {}[{}]: {}", f.severity, f.name, f.title);
                let _ = writeln!(out, "{}", wrap(&text, 0, 2, style.width));
            }
        }
    }
    let most = if all { usize::MAX } else { SHOWN };
    let first = aligned.first.map(|f| (f.a, f.b));
    let rest: Vec<&Pair> = aligned.diverged().filter(|p| Some((Some(p.a), Some(p.b))) != first).collect();
    section(&mut out, style, "also went otherwise", rest.len(), most, |out| {
        for p in rest.iter().take(most) {
            pair(out, left, right, p);
        }
    });
    for (label, side, lives, others, indexes) in
        [("gone (only in A)", "A", left, right, &aligned.gone), ("new (only in B)", "B", right, left, &aligned.new)]
    {
        let rows = by_process(lives, others, indexes, all);
        section(&mut out, style, label, rows.len(), most, |out| {
            for (life, more) in rows.iter().take(most) {
                one(out, side, lives, life, *more, style);
            }
        });
    }
    let groups = groups(aligned);
    section(&mut out, style, "moved", groups.len(), most, |out| {
        for (differences, pairs) in groups.iter().take(most) {
            group(out, left, right, differences, pairs);
        }
    });
    out
}

/// A report without what is long.
fn head(report: &Report) -> Report {
    Report {
        schema: String::new(),
        version: String::new(),
        command: report.command.clone(),
        target: report.target,
        counts: report.counts,
        suppressions: Vec::new(),
        baseline: None,
        findings: Vec::new(),
        altered: Vec::new(),
        altered_unlisted: 0,
        coverage: report.coverage.clone(),
        lives: None,
    }
}

/// Two findings or lives with their names, compared. Empty if nothing differs.
pub fn story_diff(a: (&str, &Story), b: (&str, &Story), style: Style) -> String {
    if a.1.same(b.1) {
        return String::new();
    }
    let mut out = String::new();
    for (side, (name, story)) in [("A", a), ("B", b)] {
        let finding = if story.finding.is_empty() { String::new() } else { format!(" {}", story.finding) };
        let path = keep_path(&story.path, PATH);
        let _ = writeln!(out, "{} {name}:{finding} {} {path}", style.paint(Ink::Strong, side), story.what);
    }
    beside(&mut out, a.1, b.1, style);
    out
}

fn title(out: &mut String, style: Style, text: &str) {
    let _ = writeln!(out, "\n{}", style.paint(Ink::Label, text));
}

fn section(out: &mut String, style: Style, label: &str, n: usize, most: usize, show: impl FnOnce(&mut String)) {
    if n == 0 {
        return;
    }
    title(out, style, label);
    show(out);
    if n > most {
        let _ = writeln!(out, "… {} more (--all shows them)", n - most);
    }
}

/// What two lives are.
fn heads(out: &mut String, (a, p): (&Story, &str), (b, q): (&Story, &str), style: Style) {
    for (side, story, process) in [("A", a, p), ("B", b, q)] {
        let side = style.paint(Ink::Strong, side);
        let _ = writeln!(out, "{side} {} of process {process}: {}", story.what, keep_path(&story.path, PATH));
    }
}

/// The steps of two stories, each with its stacks side by side. Steps that are alike take a line.
fn beside(out: &mut String, a: &Story, b: &Story, style: Style) {
    for pair in a.beside(b) {
        match pair {
            (Some(x), Some(y)) if x.same(y) => {
                let place = place(x).map(|p| format!(", {p}")).unwrap_or_default();
                let _ = writeln!(out, "  {:<7} {}{place} in both", x.role, x.how);
            }
            (Some(x), Some(y)) => {
                match x.how == y.how {
                    true => {
                        let _ = writeln!(out, "  {:<7} {}", x.role, x.how);
                    }
                    false => {
                        let _ = writeln!(out, "  {:<7} {} {}", x.role, style.paint(Ink::Error, "-"), x.how);
                        let _ = writeln!(out, "  {:<7} {} {}", "", style.paint(Ink::Place, "+"), y.how);
                    }
                }
                if let (Some(p), Some(q)) = (&x.python, &y.python) {
                    stacks(out, "python", p, q, style);
                }
                stacks(out, "native", &x.native, &y.native, style);
            }
            (Some(x), None) => only(out, "-", Ink::Error, x, style),
            (None, Some(y)) => only(out, "+", Ink::Place, y, style),
            (None, None) => {}
        }
    }
}

fn only(out: &mut String, sign: &str, ink: Ink, step: &Step, style: Style) {
    let place = place(step).map(|p| format!(", {p}")).unwrap_or_default();
    let _ = writeln!(out, "  {:<7} {} {}{place}", step.role, style.paint(ink, sign), step.how);
}

/// The innermost frame that says where: Python's, else one that is not the C library's.
fn place(step: &Step) -> Option<String> {
    let python = step.python.iter().flatten();
    let user = python.clone().find(|f| !matches!(f, Frame::Python(p) if crate::render::place::is_library(&p.file)));
    if let Some(f) = user.or(python.clone().next()) {
        return Some(f.text());
    }
    let libc = |f: &&Frame| matches!(f, Frame::Native { module, .. } if module.starts_with("libc") || module.starts_with("ld-"));
    step.native.iter().find(|f| !libc(f)).or(step.native.first()).map(Frame::text)
}

/// Two stacks, what they have in common folded. Nothing where they are alike.
fn stacks(out: &mut String, label: &str, a: &[Frame], b: &[Frame], style: Style) {
    let rows = align(a, b);
    let differs = |r: &Row| !matches!(r, Row::Both(..));
    if !rows.iter().any(differs) {
        let _ = writeln!(out, "    {label}: {} alike", frames(rows.len()));
        return;
    }
    let _ = writeln!(out, "    {label}");
    let near = |i: usize| {
        let around = rows.get(i.saturating_sub(CONTEXT)..(i + CONTEXT + 1).min(rows.len())).unwrap_or_default();
        around.iter().any(differs)
    };
    let mut i = 0;
    while let Some(row) = rows.get(i) {
        if !near(i) {
            let folded = rows.iter().enumerate().skip(i).take_while(|(k, _)| !near(*k)).count();
            let _ = writeln!(out, "        {}", style.paint(Ink::Dim, &format!("… {} alike", frames(folded))));
            i += folded;
            continue;
        }
        if !differs(row) {
            if let Row::Both(k, _) = row {
                let text = a.get(*k).map(Frame::text).unwrap_or_default();
                let _ = writeln!(out, "        {}", keep_start(&text, style.width.saturating_sub(8)));
            }
            i += 1;
            continue;
        }
        let run: Vec<&Row> = rows.iter().skip(i).take_while(|r| differs(r)).collect();
        let of = |frames: &'_ [Frame], side: fn(&Row) -> Option<usize>| -> Vec<Frame> {
            run.iter().filter_map(|r| frames.get(side(r)?).cloned()).collect()
        };
        let left = of(a, |r| if let Row::Left(k) = r { Some(*k) } else { None });
        let right = of(b, |r| if let Row::Right(k) = r { Some(*k) } else { None });
        let texts = |frames: &[Frame], others: &[Frame]| -> Vec<String> {
            let alike = |f: &Frame| others.iter().any(|o| o.text() == f.text());
            frames.iter().map(|f| if alike(f) { f.exact() } else { f.text() }).collect()
        };
        let (left, right) = (texts(&left, &right), texts(&right, &left));
        i += run.len();
        columns_of(out, &left, &right, style);
    }
}

/// Frames of one stack only: side by side where there is room, else one side below the other.
fn columns_of(out: &mut String, left: &[String], right: &[String], style: Style) {
    if style.width < SIDE_BY_SIDE {
        let room = style.width.saturating_sub(8);
        for (sign, ink, texts) in [("-", Ink::Error, left), ("+", Ink::Place, right)] {
            for text in texts {
                let _ = writeln!(out, "      {}", style.paint(ink, &format!("{sign} {}", keep_start(text, room))));
            }
        }
        return;
    }
    let room = (style.width - 13) / 2;
    for n in 0..left.len().max(right.len()) {
        let cell = |texts: &[String], sign: &str| match texts.get(n) {
            Some(t) => format!("{sign} {}", keep_start(t, room)),
            None => String::new(),
        };
        let (l, r) = (cell(left, "-"), cell(right, "+"));
        let pad = " ".repeat((room + 2).saturating_sub(columns(&l)));
        let line = format!("      {}{pad} | {}", style.paint(Ink::Error, &l), style.paint(Ink::Place, &r));
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn frames(n: usize) -> String {
    if n == 1 { "1 frame".to_string() } else { format!("{n} frames") }
}

/// A life that is in one report only.
fn alone(out: &mut String, side: &str, story: &Story, process: &str, style: Style) {
    let head = style.paint(Ink::Strong, side);
    let path = keep_path(&story.path, PATH);
    let _ = writeln!(out, "{head} only: {} of process {process}: {path}", story.what);
    for step in &story.steps {
        let place = place(step).map(|p| format!(", {p}")).unwrap_or_default();
        let _ = writeln!(out, "  {:<7} {}{place}", step.role, step.how);
    }
}

/// Lives of one report only, those of a process that began none in the other as its first and their number.
fn by_process<'l>(lives: &'l Lives, others: &Lives, indexes: &[usize], all: bool) -> Vec<(&'l LifeRecord, usize)> {
    let known: FxHashSet<&str> = others.list.iter().map(|l| l.process.as_str()).collect();
    let mut rows: Vec<(&LifeRecord, usize)> = Vec::new();
    let mut index: FxHashMap<&str, usize> = FxHashMap::default();
    for life in indexes.iter().filter_map(|i| lives.list.get(*i)) {
        let process = life.process.as_str();
        if all || known.contains(process) {
            rows.push((life, 0));
        } else if let Some((_, more)) = index.get(process).and_then(|i| rows.get_mut(*i)) {
            *more += 1;
        } else {
            index.insert(process, rows.len());
            rows.push((life, 0));
        }
    }
    rows
}

/// The same in one line.
fn one(out: &mut String, side: &str, lives: &Lives, life: &LifeRecord, more: usize, style: Style) {
    let story = Story::of_life(lives, life);
    let opened = story.steps.first();
    let place = opened.and_then(place).map(|p| format!(", {p}")).unwrap_or_default();
    let how = opened.map(|s| s.how.as_str()).unwrap_or_default();
    let room = style.width.saturating_sub(columns(&place) + columns(how) + columns(&story.what) + 6).max(24);
    let _ = writeln!(out, "{side} {} {}  {how}{place}", story.what, keep_path(&story.path, room));
    if more > 0 {
        let _ = writeln!(out, "  and {more} more of process {}, which began none in the other run", life.process);
    }
}

fn pair(out: &mut String, left: &Lives, right: &Lives, p: &Pair) {
    let (Some(x), Some(y)) = (left.list.get(p.a), right.list.get(p.b)) else { return };
    let path = keep_path(&path_of(left, x), PATH);
    let _ = writeln!(out, "  {path} (A {}, B {})", x.object, y.object);
    for d in p.differences.iter().filter(|d| d.is_divergence()) {
        sides(out, d);
    }
}

fn sides(out: &mut String, d: &Difference) {
    let (a, b) = d.sides();
    let _ = writeln!(out, "    {}", d.label());
    let _ = writeln!(out, "      - {a}");
    let _ = writeln!(out, "      + {b}");
}

/// Moved lives that differ in the same: often all that a changed line opens.
fn groups(aligned: &Aligned) -> Vec<(Vec<Difference>, Vec<&Pair>)> {
    let mut out: Vec<(Vec<Difference>, Vec<&Pair>)> = Vec::new();
    let mut index: FxHashMap<&[Difference], usize> = FxHashMap::default();
    for p in aligned.moved() {
        match index.get(p.differences.as_slice()).and_then(|i| out.get_mut(*i)) {
            Some((_, pairs)) => pairs.push(p),
            None => {
                index.insert(&p.differences, out.len());
                out.push((p.differences.clone(), vec![p]));
            }
        }
    }
    out
}

fn group(out: &mut String, left: &Lives, right: &Lives, differences: &[Difference], pairs: &[&Pair]) {
    let Some(p) = pairs.first() else { return };
    let (Some(x), Some(y)) = (left.list.get(p.a), right.list.get(p.b)) else { return };
    let path = keep_path(&path_of(left, x), PATH);
    let more = match pairs.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    let _ = writeln!(out, "  {path} (A {}, B {}){more}", x.object, y.object);
    for d in differences {
        sides(out, d);
    }
}

//! The lives of two reports, aligned.

use super::NO_LIVES;
use super::frames::{Frame, parting};
use super::story::{cause_of, ended, opened, path_of, same_cause};
use crate::base::LifeId;
use crate::identity::{Fingerprint, general_path, same_new_path, same_path};
use crate::render::record::{FindingRecord, ObjectRecord};
use crate::report::lives::{LifeRecord, Lives, StackRecord};
use crate::report::{Report, Target};
use rustc_hash::{FxHashMap, FxHasher};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

/// Two lives that are the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The index in the first report.
    pub a: usize,
    /// The index in the second.
    pub b: usize,
    /// In what they differ; empty if in nothing.
    pub differences: Vec<Difference>,
}

/// In what two lives differ that are the same one, the first's side and the second's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Difference {
    /// They ended in another way, or for another reason, or one did not end.
    End(String, String),
    /// They ended in the same way, elsewhere: the innermost frames that are not in both stacks.
    ClosedAt(String, String),
    /// They began elsewhere: the innermost frames that are not in both stacks.
    OpenedAt(String, String),
    /// In another way.
    OpenedBy(String, String),
    /// In another process.
    Process(String, String),
    /// Another number.
    Number(String, String),
    /// Another file, or otherwise opened.
    Object(String, String),
}

impl Difference {
    /// Whether the life itself went otherwise, and did not just happen elsewhere.
    pub fn is_divergence(&self) -> bool {
        matches!(self, Difference::End(..) | Difference::ClosedAt(..))
    }

    /// The two sides, the first's and the second's.
    pub fn sides(&self) -> (&str, &str) {
        let (Difference::End(a, b)
        | Difference::ClosedAt(a, b)
        | Difference::OpenedAt(a, b)
        | Difference::OpenedBy(a, b)
        | Difference::Process(a, b)
        | Difference::Number(a, b)
        | Difference::Object(a, b)) = self;
        (a, b)
    }

    /// What it is about.
    pub fn label(&self) -> &'static str {
        match self {
            Difference::End(..) => "ended otherwise",
            Difference::ClosedAt(..) => "closed elsewhere",
            Difference::OpenedAt(..) => "opened elsewhere",
            Difference::OpenedBy(..) => "opened otherwise",
            Difference::Process(..) => "in another process",
            Difference::Number(..) => "another number",
            Difference::Object(..) => "another file",
        }
    }

    /// The same, seen from the other side.
    #[must_use]
    pub fn mirrored(&self) -> Difference {
        let (a, b) = self.sides();
        let (a, b) = (b.to_string(), a.to_string());
        match self {
            Difference::End(..) => Difference::End(a, b),
            Difference::ClosedAt(..) => Difference::ClosedAt(a, b),
            Difference::OpenedAt(..) => Difference::OpenedAt(a, b),
            Difference::OpenedBy(..) => Difference::OpenedBy(a, b),
            Difference::Process(..) => Difference::Process(a, b),
            Difference::Number(..) => Difference::Number(a, b),
            Difference::Object(..) => Difference::Object(a, b),
        }
    }
}

/// Where two runs begin to differ: indexes of lives, of either run or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Of the first.
    pub a: Option<usize>,
    /// Of the second.
    pub b: Option<usize>,
}

/// Two reports, aligned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aligned {
    /// Where they part.
    pub first: Option<Divergence>,
    /// Lives that are in both, in the first's order.
    pub pairs: Vec<Pair>,
    /// Lives of the first only.
    pub gone: Vec<usize>,
    /// Lives of the second only.
    pub new: Vec<usize>,
    /// Findings of the first only, as indexes.
    pub findings_gone: Vec<usize>,
    /// Findings of the second only.
    pub findings_new: Vec<usize>,
    /// How the targets ended, if not alike.
    pub targets: Option<(Target, Target)>,
}

impl Aligned {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.pairs.iter().all(|p| p.differences.is_empty())
            && self.gone.is_empty()
            && self.new.is_empty()
            && self.findings_gone.is_empty()
            && self.findings_new.is_empty()
            && self.targets.is_none()
    }

    /// Lives that are in both and went otherwise.
    pub fn diverged(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().filter(|p| p.differences.iter().any(Difference::is_divergence))
    }

    /// Lives that are in both and went alike, but elsewhere: in another line, process or number, or with another file.
    pub fn moved(&self) -> impl Iterator<Item = &Pair> {
        let moved = |p: &&Pair| !p.differences.is_empty() && !p.differences.iter().any(Difference::is_divergence);
        self.pairs.iter().filter(moved)
    }

    /// The same, seen from the other side.
    #[must_use]
    pub fn mirrored(&self) -> Aligned {
        let pair =
            |p: &Pair| Pair { a: p.b, b: p.a, differences: p.differences.iter().map(Difference::mirrored).collect() };
        let mut pairs: Vec<Pair> = self.pairs.iter().map(pair).collect();
        pairs.sort_by_key(|p| p.a);
        Aligned {
            first: self.first.map(|f| Divergence { a: f.b, b: f.a }),
            pairs,
            gone: self.new.clone(),
            new: self.gone.clone(),
            findings_gone: self.findings_new.clone(),
            findings_new: self.findings_gone.clone(),
            targets: self.targets.map(|(a, b)| (b, a)),
        }
    }
}

/// A life with what it is recognised by.
struct Entry<'r> {
    lives: &'r Lives,
    life: &'r LifeRecord,
    object: Option<&'r ObjectRecord>,
    stack: Option<&'r StackRecord>,
    opening: Option<Fingerprint>,
    /// The path as another run may have it.
    path: String,
    /// A hash of the functions of the opening stack, without addresses and lines; `None` where there are no names.
    functions: Option<u64>,
}

impl<'r> Entry<'r> {
    fn new(lives: &'r Lives, life: &'r LifeRecord, functions: &[Option<u64>]) -> Entry<'r> {
        let object = lives.object(life.object);
        let stack = lives.stack(life.began.stack);
        let functions = functions.get(life.began.stack as usize).copied().flatten();
        let path = object.map(|o| if o.path.is_empty() { o.kind.clone() } else { general_path(&o.path) });
        Entry {
            lives,
            life,
            object,
            stack,
            opening: stack.and_then(|s| s.fingerprint.parse().ok()),
            path: path.unwrap_or_default(),
            functions,
        }
    }

    /// Whether a call made it, with a stack.
    fn is_placed(&self) -> bool {
        self.life.began.what == "call" && self.stack.is_some_and(|s| !s.native.is_empty() || s.python.is_some())
    }

    fn call(&self) -> &str {
        self.life.began.call_name.as_deref().unwrap_or_default()
    }

    fn kind(&self) -> &str {
        self.object.map(|o| o.kind.as_str()).unwrap_or_default()
    }
}

fn functions(lives: &Lives, stack: &StackRecord) -> Option<u64> {
    let native = stack.native.iter().filter_map(|i| lives.frames.get(*i as usize));
    let names: Vec<&String> = native.flat_map(|f| &f.functions).filter_map(|f| f.function.as_ref()).collect();
    let python = stack.python.iter().flatten().filter_map(|i| lives.python.get(*i as usize));
    let python: Vec<_> = python.map(|f| (crate::identity::python_file(&f.file), &f.function)).collect();
    let mut hasher = FxHasher::default();
    (&names, &python).hash(&mut hasher);
    (!names.is_empty()).then(|| hasher.finish())
}

/// By what lives are recognised, the surest first; of those that a step calls the same, the nth is the nth. `None` where
/// a step says nothing of a life.
const STEPS: &[fn(&Entry<'_>) -> Option<String>] = &[
    // What was there before has no stack, but keeps its number.
    |e| (!e.is_placed()).then(|| format!("{}|{}|{}", e.life.process, e.life.origin, e.life.fd)),
    |e| Some(format!("{}|{}|{}|{}", e.life.process, of(e)?, e.life.ordinal, e.path)),
    |e| Some(format!("{}|{}|{}", e.life.process, of(e)?, e.path)),
    |e| Some(format!("{}|{}|{}", e.life.process, of(e)?, e.life.ordinal)),
    |e| Some(format!("{}|{}", e.life.process, of(e)?)),
    // Another line of Python, or one that was not looked at, with the same file.
    |e| Some(format!("{}|{:x}|{}", e.life.process, of(e)?.native, e.path)),
    // Another build of the program.
    |e| Some(format!("{}|{:x}|{}", e.life.process, named(e)?, e.path)),
    |e| Some(format!("{}|{:x}", e.life.process, named(e)?)),
    // The same line of a library, called from elsewhere.
    |e| Some(format!("{}|{}|{}|{}", e.life.process, e.call(), innermost(e)?, e.path)),
    // The same file, opened elsewhere.
    |e| e.path.starts_with('/').then(|| format!("{}|{}|{}|{}", e.life.process, e.call(), e.kind(), e.path)),
    // All that is left where a stack cannot be read.
    |e| (e.opening.is_none()).then(|| format!("{}|{}|{}|{}", e.life.process, e.call(), e.kind(), e.path)),
    // The same place in another process.
    |e| Some(format!("{}|{}", of(e)?, e.path)),
];

fn of(e: &Entry<'_>) -> Option<Fingerprint> {
    e.opening.filter(|_| e.is_placed())
}

/// The innermost Python frame.
fn innermost(e: &Entry<'_>) -> Option<String> {
    let first = e.stack?.python.as_ref()?.first()?;
    let frame = e.lives.python.get(*first as usize)?;
    Some(format!("{} {} {:?}", crate::identity::python_file(&frame.file), frame.function, frame.line))
}

fn named(e: &Entry<'_>) -> Option<u64> {
    e.functions.filter(|_| e.is_placed())
}

/// Aligns two reports.
///
/// # Errors
/// With one line if a report holds no lives; true for the second.
pub fn compare(a: &Report, b: &Report) -> Result<Aligned, (bool, String)> {
    let left = a.lives.as_ref().ok_or_else(|| (false, NO_LIVES.to_string()))?;
    let right = b.lives.as_ref().ok_or_else(|| (true, NO_LIVES.to_string()))?;
    let (left, right) = (entries(left), entries(right));
    let twins = twins(&left, &right);
    let mut pairs = Vec::new();
    let mut gone = Vec::new();
    let mut taken = vec![false; right.len()];
    for (i, twin) in twins.iter().enumerate() {
        match (twin.and_then(|j| Some((j, right.get(j)?))), left.get(i)) {
            (Some((j, y)), Some(x)) => {
                if let Some(t) = taken.get_mut(j) {
                    *t = true;
                }
                pairs.push(Pair { a: i, b: j, differences: differences(x, y) });
            }
            _ => gone.push(i),
        }
    }
    let new: Vec<usize> = taken.iter().enumerate().filter(|(_, t)| !**t).map(|(j, _)| j).collect();
    let (findings_gone, findings_new) = findings(a, b, &left, &right, &twins);
    let mut aligned = Aligned {
        first: None,
        pairs,
        gone,
        new,
        findings_gone,
        findings_new,
        targets: (a.target != b.target).then_some((a.target, b.target)),
    };
    aligned.first = first(&aligned, &left, &right);
    Ok(aligned)
}

fn entries(lives: &Lives) -> Vec<Entry<'_>> {
    let functions: Vec<Option<u64>> = lives.stacks.iter().map(|s| functions(lives, s)).collect();
    lives.list.iter().map(|l| Entry::new(lives, l, &functions)).collect()
}

/// For each life of the first, the one of the second that is the same.
fn twins(left: &[Entry<'_>], right: &[Entry<'_>]) -> Vec<Option<usize>> {
    let mut twins = vec![None; left.len()];
    let mut free: Vec<bool> = vec![true; right.len()];
    for step in STEPS {
        let mut waiting: FxHashMap<String, VecDeque<usize>> = FxHashMap::default();
        for (j, e) in right.iter().enumerate() {
            if free.get(j) == Some(&true)
                && let Some(key) = step(e)
            {
                waiting.entry(key).or_default().push_back(j);
            }
        }
        if waiting.is_empty() {
            continue;
        }
        for (twin, e) in twins.iter_mut().zip(left) {
            if twin.is_none()
                && let Some(j) = step(e).and_then(|key| waiting.get_mut(&key)?.pop_front())
            {
                *twin = Some(j);
                if let Some(f) = free.get_mut(j) {
                    *f = false;
                }
            }
        }
    }
    twins
}

fn differences(x: &Entry<'_>, y: &Entry<'_>) -> Vec<Difference> {
    let mut out = Vec::new();
    let mut differ = |make: fn(String, String) -> Difference, a: String, b: String| {
        if a != b {
            out.push(make(a, b));
        }
    };
    let end = |e: &Entry<'_>| match &e.life.ended {
        Some(end) => ended(e.lives, end),
        None => "still open at the end".to_string(),
    };
    let alike = match (&x.life.ended, &y.life.ended) {
        (Some(e), Some(f)) => e.how == f.how && same_cause(cause_of(x.lives, e), cause_of(y.lives, f)),
        (e, f) => e.is_none() && f.is_none(),
    };
    let began = parted((x.lives, x.stack), (y.lives, y.stack));
    if !alike {
        differ(Difference::End, end(x), end(y));
    } else if let (Some(e), Some(f)) = (&x.life.ended, &y.life.ended) {
        let ends = parted((x.lives, x.lives.stack(e.moment.stack)), (y.lives, y.lives.stack(f.moment.stack)));
        // Two programs that open a file in different lines close it in different lines, too.
        if let Some((a, b)) = ends.filter(|ends| began.as_ref() != Some(ends)) {
            differ(Difference::ClosedAt, a, b);
        }
    }
    if let Some((a, b)) = began {
        differ(Difference::OpenedAt, a, b);
    }
    differ(Difference::OpenedBy, opened(x.life), opened(y.life));
    differ(Difference::Process, x.life.process.clone(), y.life.process.clone());
    differ(Difference::Number, x.life.fd.to_string(), y.life.fd.to_string());
    let object = |e: &Entry<'_>| {
        // Of what the program was given, whoever else has it may change these at any time (fcntl(2), F_SETFL).
        let changes = |f: &&str| ["O_NONBLOCK", "O_APPEND", "O_ASYNC", "O_DIRECT", "O_NOATIME"].contains(f);
        let flags = e.object.map(|o| o.flags.as_str()).unwrap_or_default().split('|');
        let flags: Vec<&str> = flags.filter(|f| e.life.origin != "present" || !changes(f)).collect();
        let flags = flags.join("|");
        let cloexec = if e.life.cloexec { "close-on-exec" } else { "kept over exec" };
        (e.kind().to_string(), flags, cloexec)
    };
    let (a, b) = (path_of(x.lives, x.life), path_of(y.lives, y.life));
    let created = |e: &Entry<'_>| e.object.is_some_and(|o| o.flags.split('|').any(|f| f == "O_EXCL"));
    // What the program was given as its standard streams is the starter's.
    let given = |e: &Entry<'_>| e.life.origin == "present" && (0..=2).contains(&e.life.fd.0);
    if given(x) && given(y) {
        return out;
    }
    let same = if created(x) && created(y) { same_new_path } else { same_path };
    if !same(&a, &b) {
        differ(Difference::Object, a, b);
    } else if object(x) != object(y) {
        let shown =
            |(kind, flags, cloexec): (String, String, &str)| format!("{kind} {flags} {cloexec}").replace("  ", " ");
        differ(Difference::Object, shown(object(x)), shown(object(y)));
    }
    out
}

/// Where two stacks part, if they are not of the same place. The Python half says it better.
fn parted(
    (lives, x): (&Lives, Option<&StackRecord>),
    (others, y): (&Lives, Option<&StackRecord>),
) -> Option<(String, String)> {
    let (x, y) = (x?, y?);
    if let (Ok(f), Ok(g)) = (x.fingerprint.parse::<Fingerprint>(), y.fingerprint.parse::<Fingerprint>())
        && f.may_be(&g)
    {
        return None;
    }
    let python = match (Frame::python_of(lives, x), Frame::python_of(others, y)) {
        (Some(a), Some(b)) => parting(&a, &b),
        _ => None,
    };
    python.or_else(|| parting(&Frame::native_of(lives, x), &Frame::native_of(others, y)))
}

/// The findings that are in one report only. One is the same if it is about the same life; one whose life is not listed,
/// if its stacks are the same.
fn findings(
    a: &Report,
    b: &Report,
    left: &[Entry<'_>],
    right: &[Entry<'_>],
    twins: &[Option<usize>],
) -> (Vec<usize>, Vec<usize>) {
    let of = |entries: &[Entry<'_>]| -> FxHashMap<LifeId, usize> {
        entries.iter().enumerate().map(|(i, e)| (e.life.id, i)).collect()
    };
    let (left, right) = (of(left), of(right));
    let mut twinned = vec![false; right.len()];
    for j in twins.iter().flatten() {
        if let Some(t) = twinned.get_mut(*j) {
            *t = true;
        }
    }
    let stacks = |f: &FindingRecord| {
        let of: Vec<_> = f.steps.iter().map(|s| s.fingerprint.clone().unwrap_or_default()).collect();
        format!("{}|{}", f.name, of.join("|"))
    };
    let life = |of: &FxHashMap<LifeId, usize>, f: &FindingRecord| of.get(&f.life.as_ref()?.id).copied();
    let key = |f: &FindingRecord, twin: Option<usize>| match twin {
        Some(j) => format!("{}|life {j}", f.name),
        None => stacks(f),
    };
    let mut waiting: FxHashMap<String, VecDeque<usize>> = FxHashMap::default();
    for (j, f) in b.findings.iter().enumerate() {
        let twin = life(&right, f).filter(|j| twinned.get(*j) == Some(&true));
        waiting.entry(key(f, twin)).or_default().push_back(j);
    }
    let mut gone = Vec::new();
    for (i, f) in a.findings.iter().enumerate() {
        let twin = life(&left, f).and_then(|i| twins.get(i).copied().flatten());
        if waiting.get_mut(&key(f, twin)).and_then(VecDeque::pop_front).is_none() {
            gone.push(i);
        }
    }
    let mut new: Vec<usize> = waiting.into_values().flatten().collect();
    new.sort_unstable();
    (gone, new)
}

/// Where the runs part: at the first life that is in both and went otherwise; else at the first that is in one only; else
/// at the first that moved. The order is that of both runs, and the same from either side.
fn first(aligned: &Aligned, left: &[Entry<'_>], right: &[Entry<'_>]) -> Option<Divergence> {
    let rank = |p: &&Pair| {
        // What decides between lives that crossed does not know which side it is on.
        let what = |e: Option<&Entry<'_>>| e.map(|e| (e.opening, e.path.clone()));
        let (x, y) = (what(left.get(p.a)), what(right.get(p.b)));
        (p.a + p.b, p.a.min(p.b), x.clone().min(y.clone()), x.max(y))
    };
    let earliest = |pairs: &mut dyn Iterator<Item = &Pair>| {
        pairs.min_by_key(rank).map(|p| Divergence { a: Some(p.a), b: Some(p.b) })
    };
    if let Some(found) = earliest(&mut aligned.diverged()) {
        return Some(found);
    }
    // What is in one run only comes after the last life before it that is in both.
    let (mut after_a, mut after_b) = (vec![None; left.len()], vec![None; right.len()]);
    for p in &aligned.pairs {
        if let (Some(a), Some(b)) = (after_a.get_mut(p.a), after_b.get_mut(p.b)) {
            (*a, *b) = (Some(p.b + 1), Some(p.a + 1));
        }
    }
    let earliest_of = |twins: &[Option<usize>]| {
        let mut anchor = 0;
        let mut best: Option<(usize, usize)> = None;
        for (i, twin) in twins.iter().enumerate() {
            match twin {
                Some(after) => anchor = *after,
                None if best.is_none_or(|(at, _)| i + anchor < at) => best = Some((i + anchor, i)),
                None => {}
            }
        }
        best
    };
    match (earliest_of(&after_a), earliest_of(&after_b)) {
        (Some((x, i)), Some((y, j))) if x == y => Some(Divergence { a: Some(i), b: Some(j) }),
        (Some((x, i)), new) if new.is_none_or(|(y, _)| x < y) => Some(Divergence { a: Some(i), b: None }),
        (_, Some((_, j))) => Some(Divergence { a: None, b: Some(j) }),
        _ => earliest(&mut aligned.moved()),
    }
}

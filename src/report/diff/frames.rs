//! Two stacks side by side.

use crate::identity::UNKNOWN_CODE;
use crate::render::place::{base, without_arguments};
use crate::render::record::{NativeRecord, PythonRecord};
use crate::report::lives::{Lives, StackRecord};

/// Longer stretches that differ are not aligned frame by frame.
const MOST: usize = 256;

/// A frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Of machine code; a function that was inlined is a frame of its own.
    Native {
        /// The file.
        module: String,
        /// Its build id.
        build_id: Option<String>,
        /// The address in it.
        offset: u64,
        /// The function.
        function: Option<String>,
        /// The source file.
        file: Option<String>,
        /// The line, from 1.
        line: Option<u32>,
    },
    /// Of Python.
    Python(PythonRecord),
}

impl Frame {
    pub(super) fn of_native(f: &NativeRecord) -> Frame {
        Frame::Native {
            module: base(&f.module).to_string(),
            build_id: f.build_id.clone(),
            offset: f.offset,
            function: f.function.clone(),
            file: f.file.clone(),
            line: f.line,
        }
    }

    /// The native frames of a stack, innermost first.
    pub(super) fn native_of(lives: &Lives, stack: &StackRecord) -> Vec<Frame> {
        let mut out = Vec::new();
        for frame in stack.native.iter().filter_map(|i| lives.frames.get(*i as usize)) {
            let module = frame.module.and_then(|m| lives.modules.get(m as usize));
            let native = |function: Option<String>, file: Option<String>, line| Frame::Native {
                module: module.map_or_else(|| UNKNOWN_CODE.to_string(), |m| m.name.clone()),
                build_id: module.and_then(|m| m.build_id.clone()),
                offset: frame.offset,
                function,
                file,
                line,
            };
            match frame.functions.is_empty() {
                true => out.push(native(None, None, None)),
                false => {
                    out.extend(frame.functions.iter().map(|f| native(f.function.clone(), f.file.clone(), f.line)));
                }
            }
        }
        out
    }

    /// The Python frames of a stack, innermost first; `None` where none were taken.
    pub(super) fn python_of(lives: &Lives, stack: &StackRecord) -> Option<Vec<Frame>> {
        let frames = stack.python.as_ref()?;
        Some(frames.iter().filter_map(|i| lives.python.get(*i as usize)).cloned().map(Frame::Python).collect())
    }

    /// Whether two frames are at the same place. In two builds of a program that is the same function; addresses and lines
    /// say nothing then.
    pub fn same(&self, other: &Frame) -> bool {
        match (self, other) {
            (Frame::Python(a), Frame::Python(b)) => {
                let file = crate::identity::python_file;
                (file(&a.file), &a.function, a.line) == (file(&b.file), &b.function, b.line)
            }
            (
                Frame::Native { module: m, build_id: i, offset: o, function: f, .. },
                Frame::Native { module: n, build_id: j, offset: p, function: g, .. },
            ) => {
                let nowhere = m == UNKNOWN_CODE && n == UNKNOWN_CODE;
                match (i, j) {
                    _ if nowhere => f == g,
                    (Some(i), Some(j)) if i == j => o == p && f == g,
                    // Another build may have another name, too: job.old, job.new.
                    _ if f.is_some() && f == g => true,
                    (None, None) => m == n && o == p && f == g,
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// The frame in a few words, safe to show.
    pub fn text(&self) -> String {
        match self {
            Frame::Python(f) => match f.line {
                Some(n) => format!("{}:{n} in {}", base(&f.file), f.function),
                None => format!("{} in {}", base(&f.file), f.function),
            },
            Frame::Native { module, offset, function, file, line, .. } => match (function, file) {
                (Some(name), Some(file)) => {
                    let line = line.map(|n| format!(":{n}")).unwrap_or_default();
                    format!("{} at {}{line}", without_arguments(name), base(file))
                }
                (Some(name), None) => format!("{} in {module}", without_arguments(name)),
                (None, _) if module == UNKNOWN_CODE => "code without a file".to_string(),
                (None, _) => format!("{module}+{offset:#x}"),
            },
        }
    }
}

impl Frame {
    /// The same with its address, for two that are one function and have no lines.
    pub fn exact(&self) -> String {
        match self {
            Frame::Native { offset, function: Some(_), .. } => format!("{} ({offset:#x})", self.text()),
            _ => self.text(),
        }
    }
}

/// A line of two stacks side by side, frames as indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// In both.
    Both(usize, usize),
    /// In the first only.
    Left(usize),
    /// In the second only.
    Right(usize),
}

/// Lays two stacks side by side: what they have in common, as much of it as there is, is in one row.
pub fn align(a: &[Frame], b: &[Frame]) -> Vec<Row> {
    let same = |(x, y): &(&Frame, &Frame)| x.same(y);
    let head = a.iter().zip(b).take_while(same).count();
    let (rest_a, rest_b) = (a.get(head..).unwrap_or_default(), b.get(head..).unwrap_or_default());
    let tail = rest_a.iter().rev().zip(rest_b.iter().rev()).take_while(same).count();
    let middle_a = rest_a.get(..rest_a.len() - tail).unwrap_or_default();
    let middle_b = rest_b.get(..rest_b.len() - tail).unwrap_or_default();
    let mut rows: Vec<Row> = (0..head).map(|i| Row::Both(i, i)).collect();
    rows.extend(middle(middle_a, middle_b).into_iter().map(|row| match row {
        Row::Both(i, j) => Row::Both(head + i, head + j),
        Row::Left(i) => Row::Left(head + i),
        Row::Right(j) => Row::Right(head + j),
    }));
    rows.extend((0..tail).map(|i| Row::Both(a.len() - tail + i, b.len() - tail + i)));
    rows
}

/// The longest common subsequence, by dynamic programming.
fn middle(a: &[Frame], b: &[Frame]) -> Vec<Row> {
    let (n, m) = (a.len(), b.len());
    let apart = || (0..n).map(Row::Left).chain((0..m).map(Row::Right)).collect();
    if n > MOST || m > MOST {
        return apart();
    }
    // best[i][j] is the length for a[i..] and b[j..].
    let width = m + 1;
    let mut best = vec![0u32; (n + 1) * width];
    let at = |best: &[u32], i: usize, j: usize| best.get(i * width + j).copied().unwrap_or(0);
    for (i, x) in a.iter().enumerate().rev() {
        for (j, y) in b.iter().enumerate().rev() {
            let value = match x.same(y) {
                true => at(&best, i + 1, j + 1) + 1,
                false => at(&best, i + 1, j).max(at(&best, i, j + 1)),
            };
            if let Some(cell) = best.get_mut(i * width + j) {
                *cell = value;
            }
        }
    }
    let (mut i, mut j, mut rows) = (0, 0, Vec::new());
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x.same(y) {
            rows.push(Row::Both(i, j));
            (i, j) = (i + 1, j + 1);
        } else if at(&best, i + 1, j) >= at(&best, i, j + 1) {
            rows.push(Row::Left(i));
            i += 1;
        } else {
            rows.push(Row::Right(j));
            j += 1;
        }
    }
    rows.extend((i..n).map(Row::Left));
    rows.extend((j..m).map(Row::Right));
    rows
}

/// Where two stacks part: the innermost frame in which they differ, of each side; `None` if they do not.
pub(super) fn parting(a: &[Frame], b: &[Frame]) -> Option<(String, String)> {
    let head = a.iter().zip(b).take_while(|(x, y)| x.same(y)).count();
    let (x, y) = (a.get(head), b.get(head));
    let text = |frame: Option<&Frame>| frame.map_or_else(|| "nothing further out".to_string(), Frame::text);
    match (x, y) {
        (Some(x), Some(y)) if x.text() == y.text() => Some((x.exact(), y.exact())),
        (None, None) => None,
        _ => Some((text(x), text(y))),
    }
}

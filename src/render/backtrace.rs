//! Stacks as text, native and Python frames in one.

use super::place::{at_line, base, brief, is_libc, is_library, own, raw_address};
use super::style::{Ink, Style, keep_start};
use super::why::Why;
use super::{Names, NativeFrame, PythonFrame};
use crate::base::text::escape;
use crate::event::Site;
use std::fmt::Write;

/// So many frames of a runtime in a row, or more, are one line.
const LONG_RUN: usize = 3;

/// Which frames are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Form {
    /// Native and Python frames; an interpreter's own are folded.
    #[default]
    Merged,
    /// Python frames only.
    Python,
    /// Native frames only.
    Native,
    /// Everything, with modules and offsets.
    Full,
}

/// A frame of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Machine code.
    Native(NativeFrame),
    /// Python code.
    Python(PythonFrame),
}

impl Frame {
    /// Its file and line, as found: not safe to show.
    pub fn source(&self) -> Option<(&str, u32)> {
        match self {
            Frame::Native(f) => Some((f.file.as_deref()?, f.line?)),
            Frame::Python(f) => Some((&f.file, f.line?)),
        }
    }
}

/// A stack, innermost frame first. A frame has the same number in every form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The frames.
    pub frames: Vec<Frame>,
    /// Why some are missing.
    pub incomplete: Option<String>,
    /// Why the end came that was made here.
    pub why: Option<Why>,
    /// The source line of the user's own frame, as found: not safe to show.
    pub source: Option<String>,
}

/// The stack at `site`; `why` says of an end why it came.
pub fn trace(names: &mut dyn Names, site: &Site, why: Option<Why>) -> Trace {
    let native = site.stack.map(|id| names.native(id)).unwrap_or_default();
    let python = site.py.map(|id| names.python(id)).unwrap_or_default();
    let incomplete = site.stack.and_then(|id| names.truncated(id));
    Trace { frames: merge(&native, &python), incomplete, why, source: None }
}

/// Puts the Python frames that each evaluation frame runs behind it.
pub fn merge(native: &[NativeFrame], python: &[PythonFrame]) -> Vec<Frame> {
    let mut out = Vec::with_capacity(native.len() + python.len());
    let mut left = python.iter();
    for f in native {
        out.push(Frame::Native(f.clone()));
        if f.evaluates_python {
            for p in left.by_ref() {
                out.push(Frame::Python(p.clone()));
                if p.entry {
                    break;
                }
            }
        }
    }
    // The native stack ended before its evaluation frames: nothing is dropped.
    out.extend(left.cloned().map(Frame::Python));
    out
}

impl Trace {
    /// The number of the frame that a user would look at first: the innermost of their own.
    pub fn own(&self) -> usize {
        let python = |f: &Frame| matches!(f, Frame::Python(p) if !is_library(&p.file));
        if let Some(n) = self.frames.iter().position(python) {
            return n;
        }
        let native: Vec<(usize, NativeFrame)> = self
            .frames
            .iter()
            .enumerate()
            .filter_map(|(i, f)| match f {
                Frame::Native(n) => Some((i, n.clone())),
                Frame::Python(_) => None,
            })
            .collect();
        let frames: Vec<NativeFrame> = native.iter().map(|(_, f)| f.clone()).collect();
        let own = own(&frames).and_then(|own| frames.iter().position(|f| std::ptr::eq(f, own)));
        own.and_then(|n| native.get(n)).map_or(0, |(i, _)| *i)
    }

    /// The file and line of that frame, as found: not safe to show.
    pub fn own_source(&self) -> Option<(&str, u32)> {
        self.frames.get(self.own())?.source()
    }

    /// The frames that prove why the end came, by their numbers.
    fn proof(&self) -> Vec<usize> {
        let Some(why) = &self.why else { return Vec::new() };
        let (mut native, mut python) = (0usize, 0usize);
        let mut out = Vec::new();
        for (i, frame) in self.frames.iter().enumerate() {
            let proves = match frame {
                Frame::Native(_) => {
                    native += 1;
                    why.native.contains(&(native - 1))
                }
                Frame::Python(_) => {
                    python += 1;
                    why.python == Some(python - 1)
                }
            };
            if proves {
                out.push(i);
            }
        }
        out
    }

    /// The stack as text, the frame `selected` marked; lines with their ends.
    pub fn text(&self, form: Form, selected: Option<usize>, style: Style) -> String {
        let mut out = String::new();
        let proof = self.proof();
        let own = self.own();
        let folds = if form == Form::Merged { self.folds(selected, &proof) } else { Vec::new() };
        let mut folded = Folded::default();
        for (i, frame) in self.frames.iter().enumerate() {
            match (form, frame) {
                (Form::Native, Frame::Python(_)) | (Form::Python, Frame::Native(_)) => continue,
                _ => {}
            }
            if let Some(noun) = folds.get(i).copied().flatten() {
                folded.add(noun);
                continue;
            }
            folded.write(&mut out, style);
            let mark = match (selected == Some(i), proof.contains(&i)) {
                (true, _) => '>',
                (false, true) => '*',
                (false, false) => ' ',
            };
            let _ = writeln!(out, "{mark} #{i:<3} {}", line(frame, form == Form::Full, style));
            if let (Some(source), true) = (&self.source, i == own && form == Form::Merged) {
                let text = escape(source.trim().as_bytes());
                let _ =
                    writeln!(out, "         {}", style.paint(Ink::Dim, &keep_start(&text, style.width.max(40) - 9)));
            }
        }
        folded.write(&mut out, style);
        if let (Some(why), false) = (&self.why, out.is_empty() || form == Form::Python) {
            let mark = if proof.iter().any(|i| selected != Some(*i)) { '*' } else { ' ' };
            let _ = writeln!(out, "{mark} cause: {}", why.words);
        }
        if out.is_empty() {
            out.push_str(match form {
                Form::Python => "  no Python frames here\n",
                _ => "  no stack was taken here\n",
            });
        }
        if let (Some(why), true) = (&self.incomplete, form != Form::Python) {
            let _ =
                writeln!(out, "  {}", style.paint(Ink::Warning, &format!("incomplete: {}", escape(why.as_bytes()))));
        }
        out
    }

    /// One frame as text, without a line end; `None` past the last.
    pub fn line(&self, n: usize, style: Style) -> Option<String> {
        self.frames.get(n).map(|f| format!("#{n:<3} {}", line(f, false, style)))
    }
}

impl Trace {
    /// Whose frames each that is not shown is of. What proves something, the selected frame and the innermost stay; so do
    /// short runs, but those of an interpreter, which say how the program runs and not what it does.
    fn folds(&self, selected: Option<usize>, proof: &[usize]) -> Vec<Option<&'static str>> {
        let interpreters: Vec<&str> = self
            .frames
            .iter()
            .filter_map(|f| match f {
                Frame::Native(n) if n.evaluates_python => Some(n.module.as_str()),
                _ => None,
            })
            .collect();
        let last_python = self.frames.iter().rposition(|f| matches!(f, Frame::Python(_)));
        let mut out: Vec<Option<&'static str>> = vec![None; self.frames.len()];
        let mut run = Vec::new();
        for (i, frame) in self.frames.iter().enumerate() {
            let stays = selected == Some(i) || proof.contains(&i);
            let noun = match frame {
                Frame::Native(_) if stays => None,
                Frame::Native(n) if is_internal(n, &interpreters, last_python.is_some_and(|l| i > l)) => {
                    set(&mut out, i, INTERPRETER);
                    None
                }
                Frame::Native(n) if i > 0 && interpreters.is_empty() => n.library.map(|l| l.noun()),
                _ => None,
            };
            match noun {
                Some(noun) => run.push((i, noun)),
                None => settle(&mut out, &mut run),
            }
        }
        settle(&mut out, &mut run);
        out
    }
}

/// What an interpreter's frames are called.
const INTERPRETER: &str = "the interpreter";

fn set(out: &mut [Option<&'static str>], i: usize, noun: &'static str) {
    if let Some(slot) = out.get_mut(i) {
        *slot = Some(noun);
    }
}

/// Ends a run of frames that may be folded: it is, if it is long.
fn settle(out: &mut [Option<&'static str>], run: &mut Vec<(usize, &'static str)>) {
    if run.len() >= LONG_RUN {
        run.iter().for_each(|(i, noun)| set(out, *i, noun));
    }
    run.clear();
}

/// Frames that are not shown, one after the other.
#[derive(Default)]
struct Folded {
    count: usize,
    nouns: Vec<&'static str>,
}

impl Folded {
    fn add(&mut self, noun: &'static str) {
        self.count += 1;
        if !self.nouns.contains(&noun) {
            self.nouns.push(noun);
        }
    }

    fn write(&mut self, out: &mut String, style: Style) {
        if self.count > 0 {
            let s = if self.count == 1 { "" } else { "s" };
            let text = format!("… {} frame{s} of {} (bt full shows them)", self.count, self.nouns.join(" and "));
            let _ = writeln!(out, "       {}", style.paint(Ink::Dim, &text));
            *self = Folded::default();
        }
    }
}

/// Whether a frame is an interpreter's plumbing: it says how the program runs, not what it does.
fn is_internal(f: &NativeFrame, interpreters: &[&str], outermost: bool) -> bool {
    if interpreters.is_empty() {
        return false;
    }
    let own = interpreters.contains(&f.module.as_str());
    let plumbing = f.function.as_deref().is_none_or(super::place::is_plumbing);
    f.evaluates_python || (own && plumbing) || (outermost && (own || is_libc(f)))
}

fn line(frame: &Frame, full: bool, style: Style) -> String {
    match frame {
        Frame::Python(f) => {
            let place = match f.line {
                Some(n) => format!("{}:{n}", escape(f.file.as_bytes())),
                None => escape(f.file.as_bytes()),
            };
            format!("{} in {}", style.paint(Ink::Place, &place), escape(f.function.as_bytes()))
        }
        Frame::Native(f) => {
            let name = f.function.as_deref().map(|n| escape(if full { n.to_string() } else { brief(n) }.as_bytes()));
            let mut out = name.unwrap_or_else(|| "??".to_string());
            if f.inlined {
                out.push_str(" (inlined)");
            }
            if f.jumped {
                out.push_str(" (jumped on)");
            }
            if let Some(file) = &f.file {
                let _ = write!(out, " at {}", style.paint(Ink::Place, &at_line(file, f.line)));
            }
            if full || f.function.is_none() {
                let _ = write!(out, " from {}", raw_address(f));
            } else if f.file.is_none() {
                let _ = write!(out, " from {}", escape(base(&f.module).as_bytes()));
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cpython, native, python};
    use super::*;
    use crate::base::{PyStackId, StackId};

    fn at(stack: u32, py: u32) -> Trace {
        let site = Site { stack: Some(StackId(stack)), py: Some(PyStackId(py)), ..Site::default() };
        trace(&mut cpython(), &site, None)
    }

    #[test]
    fn the_interpreter_is_folded_and_the_users_line_is_in_its_place() {
        let t = at(2, 1);
        let expected = "  \
  #0   __close from libc.so.6
  #1   _io_FileIO_close from python3.11
       … 1 frame of the interpreter (bt full shows them)
  #3   iobase_finalize from python3.11
       … 1 frame of the interpreter (bt full shows them)
  #5   textiowrapper_dealloc from python3.11
       … 2 frames of the interpreter (bt full shows them)
> #8   job.py:2 in <module>
       … 4 frames of the interpreter (bt full shows them)
";
        assert_eq!(t.own(), 8);
        assert_eq!(t.text(Form::Merged, Some(8), Style::plain()), expected);
        assert_eq!(t.text(Form::Python, None, Style::plain()), "  #8   job.py:2 in <module>\n");
        assert_eq!(t.text(Form::Native, None, Style::plain()).lines().count(), 12);
        assert!(t.text(Form::Full, None, Style::plain()).starts_with("  #0   __close from libc.so.6+0x1000\n"));
    }

    #[test]
    fn colour_changes_nothing_else() {
        let t = at(2, 1);
        for form in [Form::Merged, Form::Full, Form::Python, Form::Native] {
            let coloured = t.text(form, Some(8), Style::colored());
            let plain = t.text(form, Some(8), Style::plain());
            assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
            // What is marked is a frame of Python.
            assert_eq!(coloured == plain, form == Form::Native, "{coloured}");
        }
    }

    #[test]
    fn long_runs_of_a_runtime_are_one_line_and_what_proves_something_stays() {
        let frames = native(&[
            ("__close", "/lib/libc.so.6"),
            ("core::ptr::drop_in_place<std::fs::File>", "/bin/r"),
            ("r::left", "/bin/r"),
            ("std::a", "/bin/r"),
            ("std::b", "/bin/r"),
            ("std::c", "/bin/r"),
            ("main", "/bin/r"),
            ("__libc_start_main", "/lib/libc.so.6"),
            ("_start", "/bin/r"),
        ]);
        let why = Why {
            cause: crate::event::Cause::Destructor,
            words: "by drop of std::fs::File".into(),
            native: vec![1],
            python: None,
            proof: vec![],
        };
        let source = Some("    left();\x1b".to_string());
        let t = Trace { frames: merge(&frames, &[]), why: Some(why), source, ..Trace::default() };
        assert_eq!(t.own(), 2);
        let expected = "  \
  #0   __close from libc.so.6
* #1   core::ptr::drop_in_place<std::fs::File> from r
> #2   r::left from r
         left();\\x1b
       … 3 frames of the standard library (bt full shows them)
  #6   main from r
  #7   __libc_start_main from libc.so.6
  #8   _start from r
* cause: by drop of std::fs::File
";
        assert_eq!(t.text(Form::Merged, Some(2), Style::plain()), expected);
        assert!(!t.text(Form::Full, Some(2), Style::plain()).contains('…'));
    }

    #[test]
    fn each_evaluation_takes_its_frames_up_to_an_entry() {
        let n =
            native(&[("_PyEval_EvalFrameDefault", "p"), ("c", "p"), ("_PyEval_EvalFrameDefault", "p"), ("main", "p")]);
        let mut p = python(&[("a", "a.py", 1), ("b", "b.py", 2), ("m", "m.py", 3)]);
        p[1].entry = true;
        let names: Vec<String> = merge(&n, &p)
            .into_iter()
            .map(|f| match f {
                Frame::Native(n) => n.function.unwrap(),
                Frame::Python(p) => p.function,
            })
            .collect();
        let eval = "_PyEval_EvalFrameDefault";
        assert_eq!(names, [eval, "a", "b", "c", eval, "m", "main"]);
        assert_eq!(merge(&[], &p).len(), 3, "without native frames nothing is lost");
    }

    #[test]
    fn a_cut_stack_says_why_and_an_empty_one_that_it_is() {
        let t = Trace { incomplete: Some("no unwind table for a.so\x1b".into()), ..Trace::default() };
        let expected = "  no stack was taken here\n  incomplete: no unwind table for a.so\\x1b\n";
        assert_eq!(t.text(Form::Merged, None, Style::plain()), expected);
        assert_eq!(t.text(Form::Python, None, Style::plain()), "  no Python frames here\n");
        assert_eq!(t.own(), 0);
    }

    #[test]
    fn an_unknown_function_shows_its_address() {
        let frames = merge(&native(&[("", "/opt/x.so"), ("", "")]), &[]);
        let text = Trace { frames, ..Trace::default() }.text(Form::Merged, None, Style::plain());
        assert_eq!(text, "  #0   ?? from x.so+0x1000\n  #1   ?? from 0x1001\n");
    }
}

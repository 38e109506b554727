//! Stacks as text, native and Python frames in one.

use super::place::{at_line, base, is_libc, is_library, own, raw_address, short};
use super::style::{Ink, Style};
use super::{Names, NativeFrame, PythonFrame};
use crate::base::text::escape;
use crate::event::Site;
use std::fmt::Write;

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
}

/// The stack at `site`.
pub fn trace(names: &mut dyn Names, site: &Site) -> Trace {
    let native = site.stack.map(|id| names.native(id)).unwrap_or_default();
    let python = site.py.map(|id| names.python(id)).unwrap_or_default();
    Trace { frames: merge(&native, &python), incomplete: site.stack.and_then(|id| names.truncated(id)) }
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
        let native = self.frames.iter().filter_map(|f| match f {
            Frame::Native(n) => Some(n),
            Frame::Python(_) => None,
        });
        let own = own(native);
        self.frames
            .iter()
            .position(|f| matches!(f, Frame::Native(n) if own.is_some_and(|o| std::ptr::eq(o, n))))
            .unwrap_or(0)
    }

    /// The stack as text, the frame `selected` marked; lines with their ends.
    pub fn text(&self, form: Form, selected: Option<usize>, style: Style) -> String {
        let mut out = String::new();
        let mut folded = 0;
        let interpreters: Vec<&str> = self
            .frames
            .iter()
            .filter_map(|f| match f {
                Frame::Native(n) if n.evaluates_python => Some(n.module.as_str()),
                _ => None,
            })
            .collect();
        let last_python = self.frames.iter().rposition(|f| matches!(f, Frame::Python(_)));
        for (i, frame) in self.frames.iter().enumerate() {
            let shown = match (form, frame) {
                (Form::Full, _) | (Form::Native, Frame::Native(_)) | (Form::Python, Frame::Python(_)) => true,
                (Form::Native, Frame::Python(_)) | (Form::Python, Frame::Native(_)) => continue,
                (Form::Merged, Frame::Python(_)) => true,
                (Form::Merged, Frame::Native(n)) => {
                    selected == Some(i) || !is_internal(n, &interpreters, last_python.is_some_and(|l| i > l))
                }
            };
            if !shown {
                folded += 1;
                continue;
            }
            fold(&mut out, &mut folded, style);
            let mark = if selected == Some(i) { '>' } else { ' ' };
            let _ = writeln!(out, "{mark} #{i:<3} {}", line(frame, form == Form::Full, style));
        }
        fold(&mut out, &mut folded, style);
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

fn fold(out: &mut String, folded: &mut usize, style: Style) {
    if *folded > 0 {
        let s = if *folded == 1 { "" } else { "s" };
        let text = format!("… {folded} frame{s} of the interpreter (bt full shows them)");
        let _ = writeln!(out, "       {}", style.paint(Ink::Dim, &text));
        *folded = 0;
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
            let name = f.function.as_deref().map(|n| escape(if full { n } else { short(n) }.as_bytes()));
            let mut out = name.unwrap_or_else(|| "??".to_string());
            if f.inlined {
                out.push_str(" (inlined)");
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
        trace(&mut cpython(), &site)
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
        let t = Trace { frames: vec![], incomplete: Some("no unwind table for a.so\x1b".into()) };
        let expected = "  no stack was taken here\n  incomplete: no unwind table for a.so\\x1b\n";
        assert_eq!(t.text(Form::Merged, None, Style::plain()), expected);
        assert_eq!(t.text(Form::Python, None, Style::plain()), "  no Python frames here\n");
        assert_eq!(t.own(), 0);
    }

    #[test]
    fn an_unknown_function_shows_its_address() {
        let frames = merge(&native(&[("", "/opt/x.so"), ("", "")]), &[]);
        let text = Trace { frames, incomplete: None }.text(Form::Merged, None, Style::plain());
        assert_eq!(text, "  #0   ?? from x.so+0x1000\n  #1   ?? from 0x1001\n");
    }
}

//! Writing the event log while the target runs.
//!
//! The log is a stream: what cannot be written any more ends the recording, never the target. Memory does not grow with
//! the number of events: what is remembered is which stacks have been described.

use super::log::{
    EndLine, FrameLine, FrameNamesLine, Header, JumpLine, LineOf, MAX_LINE, ModuleLine, NamesLine, PythonFrameLine,
    PythonLine, StackLine,
};
use super::names::hex;
use super::sites::Sites;
use crate::base::text::escape;
use crate::base::{PyStackId, StackId};
use crate::event::{Event, ExitStatus};
use crate::finding::Finding;
use crate::report::Facts;
use crate::stack::FrameKind;
use rustc_hash::FxHashSet;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, Write};

/// A file to record into, and what it is called.
#[derive(Debug)]
pub struct Recording {
    /// Opened for writing, close-on-exec.
    pub file: File,
    /// Its name, safe to show.
    pub name: String,
}

/// Numbers that have come once.
#[derive(Default)]
struct Known(Vec<bool>);

impl Known {
    /// Whether `n` comes for the first time.
    fn is_new(&mut self, n: u32) -> bool {
        let n = n as usize;
        if self.0.len() <= n {
            self.0.resize(n + 1, false);
        }
        self.0.get_mut(n).is_some_and(|known| !std::mem::replace(known, true))
    }
}

/// Writes a log.
pub(super) struct Recorder {
    /// `None` after a failure.
    out: Option<BufWriter<File>>,
    name: String,
    failure: Option<String>,
    events: u64,
    scratch: Vec<u8>,
    modules: Known,
    stacks: Known,
    named: Known,
    frames: FxHashSet<FrameLine>,
    jumps: FxHashSet<(FrameLine, FrameLine)>,
    pythons: Known,
}

impl Recorder {
    pub(super) fn new(to: Recording, header: &Header) -> Recorder {
        let mut new = Recorder {
            out: Some(BufWriter::with_capacity(64 << 10, to.file)),
            name: to.name,
            failure: None,
            events: 0,
            scratch: Vec::new(),
            modules: Known::default(),
            stacks: Known::default(),
            named: Known::default(),
            frames: FxHashSet::default(),
            jumps: FxHashSet::default(),
            pythons: Known::default(),
        };
        new.line(header);
        new
    }

    /// An event that was committed; `asked` are the stacks whose names that took.
    pub(super) fn event(&mut self, event: &Event, asked: &[StackId], sites: &mut Sites) {
        if let Some(site) = event.site() {
            if let Some(id) = site.stack {
                self.stack(id, sites);
            }
            if let Some(id) = site.py {
                self.python(id, sites);
            }
        }
        self.asked(asked, sites);
        self.line(&LineOf::Event(event));
        self.events += 1;
    }

    /// Names that were asked for to decide about a finding.
    pub(super) fn asked(&mut self, asked: &[StackId], sites: &mut Sites) {
        for id in asked {
            self.names(*id, sites);
        }
    }

    /// Lets what was recorded so far be seen.
    pub(super) fn flush(&mut self) {
        if let Some(Err(e)) = self.out.as_mut().map(Write::flush) {
            self.fail(&e);
        }
    }

    /// The end: names for the stacks of what was found and for the frames of `others`, and what a report needs besides.
    pub(super) fn end(
        &mut self,
        status: ExitStatus,
        facts: Facts,
        findings: &[Finding],
        others: &[StackId],
        sites: &mut Sites,
    ) {
        for id in findings.iter().flat_map(Finding::all_steps).filter_map(|s| s.moment.site.stack) {
            self.names(id, sites);
        }
        for id in others {
            self.frames(*id, sites);
        }
        self.line(&LineOf::End(EndLine { events: self.events, status, facts }));
        self.flush();
    }

    /// Why the log is not whole; a sentence.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn stack(&mut self, id: StackId, sites: &Sites) {
        if self.out.is_none() || !self.stacks.is_new(id.0) {
            return;
        }
        let stacks = sites.stacks();
        let mut frames = Vec::new();
        for frame in stacks.frames(id) {
            let module = frame.module.and_then(|m| Some((m.0, stacks.module(m)?)));
            if let Some((id, module)) = module
                && self.modules.is_new(id)
            {
                let build_id = module.build_id().map(hex);
                self.line(&LineOf::Module(ModuleLine { id, path: module.path().to_vec(), build_id }));
            }
            frames.push(FrameLine(module.map(|m| m.0), frame.offset, frame.kind == FrameKind::Exact));
        }
        self.line(&LineOf::Stack(StackLine { id, frames, incomplete: sites.truncated(id) }));
    }

    fn python(&mut self, id: PyStackId, sites: &Sites) {
        if self.out.is_none() || !self.pythons.is_new(id.0) {
            return;
        }
        let frames = sites.python(id);
        let frames = frames.iter().map(|f| PythonFrameLine {
            function: f.function.clone(),
            file: f.file.clone(),
            line: f.line,
            entry: f.entry,
        });
        self.line(&LineOf::Python(PythonLine { id, frames: frames.collect() }));
    }

    fn names(&mut self, id: StackId, sites: &mut Sites) {
        self.stack(id, sites);
        if self.out.is_none() || !self.named.is_new(id.0) {
            return;
        }
        let frames = sites.named(id).to_vec();
        self.line(&LineOf::Names(NamesLine { stack: id, frames }));
    }

    /// The names at the frames of a stack that were not described yet, and what jumped between two of them.
    fn frames(&mut self, id: StackId, sites: &mut Sites) {
        self.stack(id, sites);
        if self.out.is_none() {
            return;
        }
        let mut at = Vec::new();
        for frame in sites.stacks().frames(id).to_vec() {
            let module = frame.module.filter(|m| sites.stacks().module(*m).is_some());
            let line = FrameLine(module.map(|m| m.0), frame.offset, frame.kind == FrameKind::Exact);
            at.push(line);
            if self.frames.insert(line) {
                let names = sites.named_frame(frame).to_vec();
                self.line(&LineOf::Frame(FrameNamesLine { at: line, names }));
            }
        }
        let named = sites.named(id);
        let mut passed = 0usize;
        for name in named.iter() {
            let around = (at.get(passed.wrapping_sub(1)), at.get(passed));
            if let (true, (Some(&inner), Some(&outer))) = (name.jumped, around)
                && self.jumps.insert((inner, outer))
            {
                self.line(&LineOf::Jump(JumpLine { inner, outer, name: name.clone() }));
            }
            passed += usize::from(!name.inlined && !name.jumped);
        }
    }

    fn line(&mut self, line: &impl Serialize) {
        let Some(out) = &mut self.out else { return };
        self.scratch.clear();
        let written = serde_json::to_writer(&mut self.scratch, line).map_err(io::Error::from).and_then(|()| {
            if self.scratch.len() >= MAX_LINE {
                return Err(io::Error::other("an event is too long for a log"));
            }
            self.scratch.push(b'\n');
            out.write_all(&self.scratch)
        });
        if let Err(e) = written {
            self.fail(&e);
        }
    }

    fn fail(&mut self, e: &io::Error) {
        // What is left in the buffer cannot be written either, and must not be tried again.
        if let Some(out) = self.out.take() {
            let _ = out.into_parts();
        }
        let e = escape(e.to_string().as_bytes());
        let what = format!("the recording {} stopped after {} events: {e}", self.name, self.events);
        let _ = writeln!(io::stderr(), "fdwatch: {what}; the target goes on");
        self.failure = Some(what);
    }
}

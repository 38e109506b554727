//! A session without a process: a log goes through the same model, rules and suppressions, and gives the same report.
//!
//! The log may be damaged or made up. What precedes the damage is kept, and what it can cost is bounded: a hostile log
//! is refused where a small file would become a large world.

use super::log::{
    EndLine, FrameLine, FrameNamesLine, Header, JumpLine, Line, LogError, ModuleLine, NamesLine, PythonLine, Reader,
    StackLine,
};
use super::names::{native_frame, python_frame, python_line};
use super::pipeline::{Pipeline, note_found};
use crate::base::{Pid, PyStackId, StackId};
use crate::event::{Effect, Event, EventKind, ExitStatus};
use crate::finding::{Finding, Sweep, Sweeps};
use crate::identity::{self, Ledger, ModuleFrame};
use crate::model::World;
use crate::policy::suppression::Suppressions;
use crate::render::{Names, NativeFrame, PythonFrame};
use crate::report::{Altered, Facts, Report, Target};
use crate::stack::{MAX_FRAMES, NO_FILE, Named, file_name};
use rustc_hash::FxHashMap;
use std::io::BufRead;
use std::sync::Arc;

/// What a log may come to.
#[derive(Clone, Copy)]
struct Bounds {
    /// How many lives the model may remember at once. One takes some 400 bytes.
    lives: usize,
    /// How long all findings together may be, with the stacks they show, in bytes.
    found: usize,
}

/// More than a program comes to that has run.
const BOUNDS: Bounds = Bounds { lives: 4 << 20, found: 512 << 20 };

/// The longest that a stack with all its names may be, in bytes.
const MAX_STACK: usize = 8 << 20;

/// A log that was replayed, as far as it goes.
pub struct Replay {
    header: Header,
    world: World,
    pipeline: Pipeline,
    ledger: Ledger,
    stacks: Recorded,
    events: u64,
    processes: u64,
    /// What the findings weigh, see [`Bounds::found`].
    weight: usize,
    bounds: Bounds,
    end: Option<EndLine>,
    damage: Option<LogError>,
}

/// What the log says of stacks.
#[derive(Default)]
struct Recorded {
    modules: FxHashMap<u32, Module>,
    /// The names at single frames.
    frames: FxHashMap<FrameLine, Arc<[NativeFrame]>>,
    /// The functions that jumped between two frames.
    jumps: FxHashMap<(FrameLine, FrameLine), NativeFrame>,
    native: FxHashMap<StackId, Stack>,
    python: FxHashMap<PyStackId, Python>,
}

struct Module {
    name: String,
    build_id: Option<String>,
}

struct Stack {
    /// As addresses.
    bare: Box<[FrameLine]>,
    /// With names, if they were asked for.
    named: Option<Arc<[NativeFrame]>>,
    incomplete: Option<String>,
    weight: usize,
}

struct Python {
    frames: Arc<[PythonFrame]>,
    weight: usize,
}

impl Replay {
    /// Replays a log to its end, or to where it is damaged, and takes out what `suppressions` cover.
    ///
    /// # Errors
    /// If it is no log of this version: then there is nothing to show.
    pub fn read(input: impl BufRead, suppressions: Suppressions) -> Result<Replay, LogError> {
        Self::read_within(BOUNDS, input, suppressions)
    }

    fn read_within(bounds: Bounds, input: impl BufRead, suppressions: Suppressions) -> Result<Replay, LogError> {
        let (mut reader, header) = Reader::new(input)?;
        let options = header.options.clone();
        let mut replay = Replay {
            header,
            world: World::new(),
            // What is suppressed is taken out when the log has said all the names that there are.
            pipeline: Pipeline::unsifted(&options, suppressions),
            ledger: Ledger::new(),
            stacks: Recorded::default(),
            events: 0,
            processes: 0,
            weight: 0,
            bounds,
            end: None,
            damage: None,
        };
        replay.damage = replay.read_lines(&mut reader).err();
        let left = replay.pipeline.sift(&mut RecordedNames { stacks: &mut replay.stacks, sweeps: &Sweeps::default() });
        replay.ledger.keep_found(&left);
        Ok(replay)
    }

    fn read_lines<R: BufRead>(&mut self, reader: &mut Reader<R>) -> Result<(), LogError> {
        while let Some(line) = reader.next()? {
            if self.end.is_some() {
                return Err(reader.error("the log goes on after its line \"end\": expected nothing more".to_string()));
            }
            let taken = match line {
                Line::Module(line) => self.stacks.add_module(line),
                Line::Stack(line) => self.stacks.add_stack(line),
                Line::Python(line) => self.stacks.add_python(line),
                Line::Names(line) => self.stacks.add_names(line),
                Line::Frame(line) => self.stacks.add_frame(line),
                Line::Jump(line) => self.stacks.add_jump(line),
                Line::Event(event) => self.event(&event),
                Line::End(end) => self.end(end),
            };
            taken.map_err(|what| reader.error(what))?;
        }
        if self.end.is_none() {
            let what = "the log ends before its line \"end\": it was cut off, or is still being written";
            return Err(reader.error(what.to_string()));
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), String> {
        if let Some(site) = event.site() {
            if let Some(id) = site.stack.filter(|id| !self.stacks.native.contains_key(id)) {
                return Err(format!("{id} is not known: expected a line \"stack\" for it before this one"));
            }
            if let Some(id) = site.py.filter(|id| !self.stacks.python.contains_key(id)) {
                return Err(format!("{id} is not known: expected a line \"python\" for it before this one"));
            }
        }
        self.processes += u64::from(match &event.kind {
            EventKind::Start(start) => self.world.process(start.pid).is_none_or(|p| p.tasks == 0),
            EventKind::Fork(fork) => self.world.task(event.tid).is_none_or(|t| t.pid != fork.child_pid),
            // A call empties one range, and a range can be as large as the table.
            EventKind::Call(call) => {
                let ranges = call.effects.iter().filter(|e| matches!(e, Effect::CloseRange { .. })).count();
                if ranges > 2 {
                    return Err(format!("a call with {ranges} effects \"close_range\": expected at most 2"));
                }
                false
            }
            _ => false,
        });
        self.events += 1;
        let transitions = self.world.consequences(event);
        let mut names = RecordedNames { stacks: &mut self.stacks, sweeps: &Sweeps::default() };
        let done = self.pipeline.commit(&mut self.world, event, transitions, &mut names);
        self.ledger.note(&self.world, event, &done.changes, &self.stacks);
        self.weigh(done.first)?;
        if self.world.lives().size_hint().0 > self.bounds.lives {
            let most = self.bounds.lives;
            return Err(format!("more than {most} descriptors at once: expected the log of a program that has run"));
        }
        Ok(())
    }

    /// Whether what was found from the index `first` on can be shown with the rest.
    fn weigh(&mut self, first: usize) -> Result<(), String> {
        for finding in self.pipeline.findings.get(first..).unwrap_or_default() {
            self.weight = self.weight.saturating_add(self.stacks.weight(finding));
        }
        if self.weight > self.bounds.found {
            self.pipeline.findings.truncate(first);
            return Err("more was found than can be shown: expected the log of a program that has run".to_string());
        }
        note_found(&mut self.ledger, &self.pipeline.findings);
        Ok(())
    }

    fn end(&mut self, end: EndLine) -> Result<(), String> {
        if end.events != self.events {
            return Err(format!(
                "{} events are in the log, and it says {}: lines are missing",
                self.events, end.events
            ));
        }
        let detached = end.facts.target == Target::Detached;
        self.end = Some(end);
        if detached {
            let first = self.pipeline.findings.len();
            self.pipeline.rest(&mut RecordedNames { stacks: &mut self.stacks, sweeps: &Sweeps::default() });
            self.weigh(first)?;
        }
        Ok(())
    }

    /// Why the log could not be read to its end, if so.
    pub fn damage(&self) -> Option<&LogError> {
        self.damage.as_ref()
    }

    /// What was found and is not suppressed.
    pub fn findings(&self) -> &[Finding] {
        &self.pipeline.findings
    }

    /// The status with which the target ended, if the session ended with it: not if the user killed it from the prompt,
    /// or attached to it, and not if the log does not say so.
    pub fn status(&self) -> Option<ExitStatus> {
        let end = self.end.as_ref()?;
        let attached = self.header.command.is_empty();
        (!attached && end.facts.target != Target::Killed).then_some(end.status)
    }

    /// The report, with the lives.
    pub fn report(&mut self) -> Report {
        let command = self.header.command.clone();
        let suppressed = self.pipeline.suppressed;
        let mut facts = match &self.end {
            Some(end) => Facts { command, suppressed, ..end.facts.clone() },
            None => Facts {
                command,
                target: Target::Unknown,
                mode: self.header.mode,
                no_new_privs: self.header.no_new_privs,
                processes: self.processes,
                suppressed,
                altered: Altered::all(&self.world),
                altered_unlisted: self.world.altered_unlisted(),
                notes: Vec::new(),
                sources: Vec::new(),
            },
        };
        if let Some(damage) = &self.damage {
            facts.notes.push(format!("incomplete: the log cannot be read beyond line {}", damage.line));
        }
        let mut names = RecordedNames { stacks: &mut self.stacks, sweeps: &self.pipeline.sweeps };
        let report = Report::new(facts, &self.world, &self.pipeline.findings, &mut self.ledger, &mut names);
        let mut report = report.with_lives(&self.world, &mut self.ledger, &mut names);
        report.note_suppressions(&self.pipeline.suppressions);
        report
    }
}

impl Recorded {
    fn add_module(&mut self, line: ModuleLine) -> Result<(), String> {
        let ModuleLine { id, path, build_id } = line;
        if build_id.as_ref().is_some_and(|b| b.is_empty() || !b.bytes().all(|c| c.is_ascii_hexdigit())) {
            return Err(format!("the build id of module {id} is no hexadecimal number"));
        }
        // As a session names it.
        let name = file_name(&path);
        match self.modules.insert(id, Module { name, build_id }) {
            None => Ok(()),
            Some(_) => Err(format!("module {id} comes twice: expected each once")),
        }
    }

    fn add_stack(&mut self, line: StackLine) -> Result<(), String> {
        if line.frames.len() > MAX_FRAMES {
            return Err(format!("a stack with {} frames: expected at most {MAX_FRAMES}", line.frames.len()));
        }
        let mut weight = line.incomplete.as_ref().map_or(0, String::len);
        for FrameLine(module, ..) in &line.frames {
            weight += size_of::<NativeFrame>();
            if let Some(m) = module {
                let Some(module) = self.modules.get(m) else {
                    return Err(format!("module {m} is not known: expected a line \"module\" before this one"));
                };
                weight += module.name.len();
            }
        }
        let stack = Stack { bare: line.frames.into(), named: None, incomplete: line.incomplete, weight };
        match self.native.insert(line.id, stack) {
            None => Ok(()),
            Some(_) => Err(format!("{} comes twice: expected each once", line.id)),
        }
    }

    fn add_python(&mut self, line: PythonLine) -> Result<(), String> {
        let weight = line.frames.iter().map(|f| size_of::<PythonFrame>() + f.function.len() + f.file.len()).sum();
        if weight > MAX_STACK {
            return Err(format!("a stack of {weight} bytes: expected at most {MAX_STACK}"));
        }
        let frames = line.frames.into_iter().map(|f| python_frame(&f.function, &f.file, f.line, f.entry)).collect();
        match self.python.insert(line.id, Python { frames, weight }) {
            None => Ok(()),
            Some(_) => Err(format!("{} comes twice: expected each once", line.id)),
        }
    }

    fn add_names(&mut self, line: NamesLine) -> Result<(), String> {
        let Some(stack) = self.native.get_mut(&line.stack) else {
            return Err(format!("{} is not known: expected a line \"stack\" before this one", line.stack));
        };
        if stack.named.is_some() {
            return Err(format!("the names of {} come twice: expected them once", line.stack));
        }
        let frames: Vec<NativeFrame> = line.frames.iter().map(native_frame).collect();
        stack.weight = weigh(&frames)? + stack.incomplete.as_ref().map_or(0, String::len);
        stack.named = Some(frames.into());
        Ok(())
    }

    fn add_frame(&mut self, line: FrameNamesLine) -> Result<(), String> {
        let FrameNamesLine { at, names } = line;
        if let Some(m) = at.0.filter(|m| !self.modules.contains_key(m)) {
            return Err(format!("module {m} is not known: expected a line \"module\" before this one"));
        }
        let names: Vec<NativeFrame> = names.iter().map(native_frame).collect();
        weigh(&names)?;
        match self.frames.insert(at, names.into()) {
            None => Ok(()),
            Some(_) => Err("the names of a frame come twice: expected them once".to_string()),
        }
    }

    fn add_jump(&mut self, line: JumpLine) -> Result<(), String> {
        let JumpLine { inner, outer, name } = line;
        let name = native_frame(&name);
        weigh(std::slice::from_ref(&name))?;
        match self.jumps.insert((inner, outer), name) {
            None => Ok(()),
            Some(_) => Err("what jumped between two frames comes twice: expected it once".to_string()),
        }
    }

    /// The names on a stack that were told by frame.
    fn of_frames(&self, stack: &Stack) -> Arc<[NativeFrame]> {
        let mut out = Vec::with_capacity(stack.bare.len());
        let mut inner = None;
        let mut weight = 0;
        for at in &stack.bare {
            let jumped = inner.and_then(|inner| self.jumps.get(&(inner, *at)));
            let known = self.frames.get(at).map(|f| &f[..]).unwrap_or_default();
            weight += jumped.into_iter().chain(known).map(weight_of).sum::<usize>();
            match known.is_empty() || weight > MAX_STACK {
                true => out.push(self.bare(*at)),
                false => out.extend(jumped.into_iter().chain(known).cloned()),
            }
            inner = Some(*at);
        }
        out.into()
    }

    /// A frame without a name.
    fn bare(&self, FrameLine(module, offset, _): FrameLine) -> NativeFrame {
        let module = match module {
            Some(m) => self.modules.get(&m).map(|m| m.name.clone()).unwrap_or_default(),
            None => NO_FILE.to_string(),
        };
        native_frame(&Named::bare(module, offset))
    }

    /// What a finding takes in a report.
    fn weight(&self, finding: &Finding) -> usize {
        let mut sum = size_of::<Finding>() + finding.title.len() + finding.help.len() + finding.object.file.path.len();
        sum += finding.evidence.iter().map(String::len).sum::<usize>();
        sum += finding.parts.iter().map(|p| self.weight(p)).sum::<usize>();
        for step in &finding.steps {
            let site = &step.moment.site;
            sum += size_of_val(step) + step.note.as_ref().map_or(0, String::len);
            sum += step.object.as_ref().map_or(0, |o| o.file.path.len());
            sum += site.stack.and_then(|id| self.native.get(&id)).map_or(0, |s| s.weight);
            sum += site.py.and_then(|id| self.python.get(&id)).map_or(0, |s| s.weight);
        }
        sum
    }
}

fn weigh(frames: &[NativeFrame]) -> Result<usize, String> {
    match frames.iter().map(weight_of).sum() {
        weight if weight > MAX_STACK => Err(format!("a stack of {weight} bytes: expected at most {MAX_STACK}")),
        weight => Ok(weight),
    }
}

fn weight_of(f: &NativeFrame) -> usize {
    let text = |s: &Option<String>| s.as_ref().map_or(0, String::len);
    size_of_val(f) + f.module.len() + text(&f.function) + text(&f.file)
}

struct RecordedNames<'a> {
    stacks: &'a mut Recorded,
    sweeps: &'a Sweeps,
}

impl Names for RecordedNames<'_> {
    fn native(&mut self, id: StackId) -> Arc<[NativeFrame]> {
        match self.stacks.native.get(&id) {
            Some(Stack { named: Some(frames), .. }) => Arc::clone(frames),
            Some(stack) => self.stacks.of_frames(stack),
            None => Arc::default(),
        }
    }

    fn by_frame(&mut self, id: StackId) -> Vec<Arc<[NativeFrame]>> {
        let Some(stack) = self.stacks.native.get(&id) else { return Vec::new() };
        // Of a log that was cut off there are the names of whole stacks only.
        let whole = stack.named.iter().flat_map(|frames| frames.iter()).filter(|f| !f.jumped).cloned();
        let whole: Vec<NativeFrame> = whole.collect();
        let mut whole = whole.split_inclusive(|f| !f.inlined);
        let of = |at: &FrameLine| {
            let of_stack = whole.next().map(Arc::from).unwrap_or_default();
            self.stacks.frames.get(at).cloned().unwrap_or(of_stack)
        };
        stack.bare.iter().map(of).collect()
    }

    fn truncated(&self, id: StackId) -> Option<String> {
        self.stacks.native.get(&id)?.incomplete.clone()
    }

    fn python(&self, id: PyStackId) -> Arc<[PythonFrame]> {
        self.stacks.python.get(&id).map(|s| Arc::clone(&s.frames)).unwrap_or_default()
    }

    fn sweep(&self, pid: Pid, id: StackId) -> Option<Sweep> {
        self.sweeps.of(pid, id)
    }
}

impl identity::Stacks for RecordedNames<'_> {
    fn module_frames(&self, id: StackId) -> Vec<ModuleFrame> {
        self.stacks.module_frames(id)
    }

    fn python_lines(&self, id: PyStackId) -> Vec<identity::PythonLine> {
        self.stacks.python_lines(id)
    }
}

impl identity::Stacks for Recorded {
    fn module_frames(&self, id: StackId) -> Vec<ModuleFrame> {
        let frame = |FrameLine(module, offset, _): &FrameLine| {
            let module = module.and_then(|m| self.modules.get(&m));
            ModuleFrame {
                module: module.map_or_else(|| identity::UNKNOWN_CODE.to_string(), |m| m.name.clone()),
                build_id: module.and_then(|m| m.build_id.clone()),
                offset: *offset,
            }
        };
        self.native.get(&id).map(|s| s.bare.iter().map(frame).collect()).unwrap_or_default()
    }

    fn python_lines(&self, id: PyStackId) -> Vec<identity::PythonLine> {
        self.python.get(&id).map(|s| s.frames.iter().map(python_line).collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        r#"{"log":"fdwatch-log/1","version":"9","command":[],"mode":"full","no_new_privs":false,"main":1}"#;

    /// A log of a task with `n` descriptors, then these events of it.
    fn log(n: u32, events: impl Iterator<Item = String>) -> String {
        let file = r#"{"kind":"path","path":"/","flags":0}"#;
        let own: Vec<String> = (0..n).map(|fd| format!(r#"{{"fd":{fd},"cloexec":false,"file":{file}}}"#)).collect();
        let program = r#"{"exe":"a","argv":[]}"#;
        let start = format!(r#"{{"start":{{"pid":1,"program":{program},"table":{{"own":[{}]}}}}}}"#, own.join(","));
        let mut log = format!("{HEADER}\n{{\"stack\":{{\"id\":1,\"frames\":[{}]}}}}\n", ["[null,1]"; 200].join(","));
        for (at, kind) in std::iter::once(start).chain(events).enumerate() {
            log += &format!("{{\"event\":{{\"at\":{at},\"tid\":1,\"kind\":{kind}}}}}\n");
        }
        log
    }

    /// A small log cannot become a large world.
    #[test]
    fn forks_that_multiply_descriptors_are_stopped() {
        let forks = (2..5000).map(|n| {
            format!(r#"{{"fork":{{"child":{n},"child_pid":{n},"shares_files":false,"shares_memory":false}}}}"#)
        });
        let bounds = Bounds { lives: 10_000, ..BOUNDS };
        let replay = Replay::read_within(bounds, log(100, forks).as_bytes(), Suppressions::shipped()).unwrap();
        let damage = replay.damage().unwrap();
        assert!(damage.what.contains("descriptors at once"), "{damage}");
        assert_eq!(replay.world.lives().count(), 10_100, "what precedes is kept");
    }

    /// Nor a large report.
    #[test]
    fn findings_that_multiply_stacks_are_stopped() {
        let call = |name: &str, info: &str, effect: &str| {
            // Not the same stack, or it would be a loop.
            let site = if info.is_empty() { r#"{"cause":"explicit"}"# } else { r#"{"stack":1}"# };
            format!(
                r#"{{"call":{{"info":{{"name":"{name}","args":[9,0,0,0,0,0]{info}}},"effects":[{effect}],"site":{site}}}}}"#
            )
        };
        let open = r#"{"open":{"fd":9,"cloexec":false,"file":{"kind":"path","path":"/x","flags":0}}}"#;
        let rounds = |name: fn(u32) -> String| {
            (0..500).flat_map(move |n| {
                [
                    call("open", "", open),
                    call("close", "", r#"{"close":{"fd":9}}"#),
                    call(&name(n), r#","ret":-9"#, r#"{"refused":{"fd":9,"to":null,"close":true}}"#),
                ]
            })
        };
        let same = Replay::read(log(0, rounds(|_| "close".to_string())).as_bytes(), Suppressions::none()).unwrap();
        let counts: Vec<u64> = same.findings().iter().map(|f| f.count).collect();
        assert_eq!(counts, [499], "each round but the last, which waits for what follows");
        let log = log(0, rounds(|n| format!("close{n}")));
        let whole = Replay::read(log.as_bytes(), Suppressions::none()).unwrap();
        assert_eq!(whole.findings().len(), 499);
        let bounds = Bounds { found: 1 << 20, ..BOUNDS };
        let mut replay = Replay::read_within(bounds, log.as_bytes(), Suppressions::shipped()).unwrap();
        let damage = replay.damage().unwrap();
        assert!(damage.what.contains("more was found"), "{damage}");
        assert!((1..100).contains(&replay.findings().len()), "{}", replay.findings().len());
        assert_eq!(replay.report().findings.len(), replay.findings().len());
    }
}

//! Reports that are made up, compared.

use super::*;
use crate::base::{FileId, LifeId, Pid, Tid};
use crate::event::Cause;
use crate::identity::{Fingerprint, ModuleFrame, PythonLine};
use crate::render::Style;
use crate::render::record::{ObjectRecord, PythonRecord};
use crate::report::lives::{
    EndRecord, FrameRecord, FunctionRecord, LifeRecord, Lives, ModuleRecord, MomentRecord, StackRecord,
};
use crate::report::{Counts, Coverage, Mode, SCHEMA, Target};
use proptest::prelude::*;

/// A native frame: module, build id, offset, function.
type Native = (&'static str, Option<&'static str>, u64, &'static str);
/// A Python frame: file, function, line.
type Python = (&'static str, &'static str, u32);

const LIBC: Native = ("libc.so.6", Some("aa"), 0x10, "__open64");
const CLOSE: Native = ("libc.so.6", Some("aa"), 0x20, "__close");
const FILEIO: Native = ("python3.11", Some("bb"), 0x30, "_io_FileIO___init__");
const DEALLOC: Native = ("python3.11", Some("bb"), 0x40, "textiowrapper_dealloc");
const EXIT: Native = ("python3.11", Some("bb"), 0x50, "iobase_exit");
const EVAL: Native = ("python3.11", Some("bb"), 0x60, "_PyEval_EvalFrameDefault");
const MAIN: Native = ("python3.11", Some("bb"), 0x70, "main");

/// A report that is written down life by life.
struct Paper {
    report: Report,
    counts: std::collections::HashMap<(String, String), u32>,
}

impl Paper {
    fn new() -> Paper {
        let report = Report {
            suppressions: vec![],
            baseline: None,
            schema: SCHEMA.to_string(),
            version: "9".to_string(),
            command: vec!["/usr/bin/python3".to_string(), "/x/job.py".to_string()],
            target: Target::Exited { status: 0 },
            counts: Counts::default(),
            findings: Vec::new(),
            altered: Vec::new(),
            altered_unlisted: 0,
            coverage: Coverage {
                mode: Mode::Seccomp,
                no_new_privs: false,
                processes: 1,
                forgotten_lives: 0,
                surprises: 0,
                incomplete_stacks: 0,
                notes: Vec::new(),
            },
            lives: Some(Lives::default()),
        };
        Paper { report, counts: std::collections::HashMap::new() }
    }

    fn lives(&mut self) -> &mut Lives {
        self.report.lives.as_mut().unwrap()
    }

    fn stack(&mut self, native: &[Native], python: Option<&[Python]>) -> u32 {
        let frames: Vec<ModuleFrame> = native
            .iter()
            .map(|f| ModuleFrame { module: f.0.into(), build_id: f.1.map(str::to_string), offset: f.2 })
            .collect();
        let lines: Option<Vec<PythonLine>> = python.map(|p| {
            p.iter().map(|f| PythonLine { file: f.0.into(), function: f.1.into(), line: Some(f.2) }).collect()
        });
        let fingerprint = Fingerprint::of(&frames, lines.as_deref()).to_string();
        let lives = self.lives();
        let mut record = StackRecord { fingerprint, native: vec![], python: None, incomplete: None };
        for f in native {
            record.native.push(lives.frames.len() as u32);
            let module = ModuleRecord { name: f.0.into(), build_id: f.1.map(str::to_string) };
            let known = lives.modules.iter().position(|m| *m == module);
            let module = known.unwrap_or_else(|| {
                lives.modules.push(module);
                lives.modules.len() - 1
            });
            let function = FunctionRecord { function: Some(f.3.to_string()), file: None, line: None };
            let functions = if f.3.is_empty() { vec![] } else { vec![function] };
            lives.frames.push(FrameRecord { module: Some(module as u32), offset: f.2, functions });
        }
        if let Some(p) = python {
            let first = lives.python.len() as u32;
            record.python = Some((first..first + p.len() as u32).collect());
            lives.python.extend(p.iter().map(|f| PythonRecord {
                function: f.1.into(),
                file: f.0.into(),
                line: Some(f.2),
            }));
        }
        lives.stacks.push(record);
        lives.stacks.len() as u32 - 1
    }

    fn moment(stack: u32, call: &str) -> MomentRecord {
        let (pid, tid) = (Pid(9), Tid(9));
        MomentRecord { at_ns: 5, pid, tid, what: "call".into(), call_name: Some(call.into()), stack }
    }

    /// A life of `fd` in `process`, opened and closed at these stacks.
    fn life(&mut self, process: &str, fd: i32, path: &str, opened: u32, closed: Option<(u32, Cause)>) {
        let n = self.lives().list.len() as u32;
        let fingerprint = self.lives().stacks[opened as usize].fingerprint.clone();
        let ordinal = self.counts.entry((process.to_string(), fingerprint)).or_default();
        *ordinal += 1;
        let ordinal = *ordinal;
        let object = ObjectRecord {
            id: FileId(n + 1),
            kind: "file".into(),
            path: path.into(),
            flags: "O_RDONLY".into(),
            lasted_ns: None,
        };
        let ended = closed.map(|(stack, cause)| EndRecord {
            how: "closed".into(),
            cause,
            why: None,
            escape: None,
            call: Some(format!("close({fd})")),
            moment: Self::moment(stack, "close"),
        });
        self.lives().objects.push(object);
        self.lives().list.push(LifeRecord {
            id: LifeId(n),
            fd: Fd(fd),
            object: FileId(n + 1),
            cloexec: true,
            origin: "opened".into(),
            from: None,
            process: process.into(),
            ordinal,
            began: Self::moment(opened, "openat"),
            ended,
        });
    }
}

/// The same run with other ids, pids and times.
fn elsewhere(report: &Report) -> Report {
    let mut other = report.clone();
    let lives = other.lives.as_mut().unwrap();
    let moment = |m: &mut MomentRecord| {
        (m.at_ns, m.pid, m.tid) = (m.at_ns * 3 + 1, Pid(m.pid.0 + 1000), Tid(m.tid.0 + 1000));
    };
    lives.objects.iter_mut().for_each(|o| o.id.0 += 7);
    for l in &mut lives.list {
        (l.id.0, l.object.0) = (l.id.0 + 3, l.object.0 + 7);
        moment(&mut l.began);
        if let Some(e) = &mut l.ended {
            moment(&mut e.moment);
        }
    }
    other
}

/// The stacks of [`made_up`]: two builds of one program, a Python program with and without its Python half, a place
/// without names.
fn vocabulary(paper: &mut Paper) {
    for (build, line) in [("c1", 0x100), ("c2", 0x104)] {
        for f in ["load", "save"] {
            let at = line + f.len() as u64 + u64::from(f == "save");
            paper.stack(&[LIBC, ("job", Some(build), at, f), ("job", Some(build), 0x200, "main")], None);
        }
    }
    for line in [2, 3] {
        paper.stack(&[LIBC, FILEIO, EVAL, MAIN], Some(&[("/x/job.py", "<module>", line)]));
    }
    paper.stack(&[LIBC, FILEIO, EVAL, MAIN], None);
    paper.stack(&[("stripped", None, 0x77, "")], None);
}

prop_compose! {
    fn made_up()(
        lives in proptest::collection::vec((0..3usize, 3..6i32, 0..5usize, 0..8u32, 0..5u32, 0..3usize), 0..25),
        status in 0..2i32,
    ) -> Report {
        let mut paper = Paper::new();
        vocabulary(&mut paper);
        paper.report.target = Target::Exited { status };
        for (process, fd, path, opened, closed, cause) in lives {
            let process = ["0", "0.1", "0.2"][process];
            let path = ["/etc/passwd", "/tmp/tmpabcdefg1/x", "/data/a", "/data/b", "pipe:[12]"][path];
            let cause = [Cause::Explicit, Cause::Finalizer, Cause::Unknown][cause];
            paper.life(process, fd, path, opened, (closed > 0).then_some((closed + 3, cause)));
        }
        paper.report
    }
}

proptest! {
    #[test]
    fn a_report_does_not_differ_from_itself(a in made_up()) {
        let aligned = compare(&a, &a).unwrap();
        prop_assert!(aligned.is_empty() && aligned.first.is_none(), "{aligned:?}");
        prop_assert_eq!(report_diff(("a", &a), ("a", &a), &aligned, true, Style::plain()), "");
    }

    #[test]
    fn ids_pids_and_times_are_no_differences(a in made_up()) {
        let b = elsewhere(&a);
        let aligned = compare(&a, &b).unwrap();
        prop_assert!(aligned.is_empty(), "{aligned:?}");
        for (x, y) in a.lives.as_ref().unwrap().list.iter().zip(&b.lives.as_ref().unwrap().list) {
            let (x, y) = (Story::of_life(a.lives.as_ref().unwrap(), x), Story::of_life(b.lives.as_ref().unwrap(), y));
            prop_assert!(x.same(&y));
        }
    }

    #[test]
    fn from_the_other_side_it_is_the_mirror_image(a in made_up(), b in made_up()) {
        let (there, back) = (compare(&a, &b).unwrap(), compare(&b, &a).unwrap());
        prop_assert_eq!(&there.mirrored(), &back);
        prop_assert_eq!(there.is_empty(), back.is_empty());
        prop_assert_eq!(there.is_empty(), there.first.is_none() && there.targets.is_none());
    }

    /// Each life is in just one place, and text is found for whatever differs.
    #[test]
    fn every_life_is_accounted_for(a in made_up(), b in made_up()) {
        let aligned = compare(&a, &b).unwrap();
        let (n, m) = (a.lives.as_ref().unwrap().list.len(), b.lives.as_ref().unwrap().list.len());
        let mut left: Vec<usize> = aligned.pairs.iter().map(|p| p.a).chain(aligned.gone.iter().copied()).collect();
        let mut right: Vec<usize> = aligned.pairs.iter().map(|p| p.b).chain(aligned.new.iter().copied()).collect();
        left.sort_unstable();
        right.sort_unstable();
        prop_assert_eq!(left, (0..n).collect::<Vec<_>>());
        prop_assert_eq!(right, (0..m).collect::<Vec<_>>());
        for style in [Style::plain(), Style::colored().with_width(Some(140))] {
            for all in [false, true] {
                let text = report_diff(("a", &a), ("b", &b), &aligned, all, style);
                prop_assert_eq!(text.is_empty(), aligned.is_empty());
            }
        }
    }

    #[test]
    fn a_life_that_is_taken_out_is_gone(a in made_up(), at in any::<proptest::sample::Index>()) {
        let lives = &a.lives.as_ref().unwrap().list;
        prop_assume!(!lives.is_empty());
        let at = at.index(lives.len());
        let mut b = a.clone();
        b.lives.as_mut().unwrap().list.remove(at);
        let aligned = compare(&a, &b).unwrap();
        prop_assert_eq!((aligned.gone.len(), aligned.new.len()), (1, 0));
    }

    /// Indexes that lead nowhere, and text of others.
    #[test]
    fn what_is_damaged_is_compared_as_far_as_it_goes(a in made_up(), stacks in 0..3usize, frames in 0..3usize) {
        let mut b = a.clone();
        let lives = b.lives.as_mut().unwrap();
        lives.stacks.truncate(stacks);
        lives.frames.truncate(frames);
        lives.modules.clear();
        lives.python.clear();
        lives.stacks.iter_mut().for_each(|s| s.fingerprint = "?".into());
        let aligned = compare(&a, &b).unwrap();
        let _ = report_diff(("a", &a), ("b", &b), &aligned, true, Style::plain());
        prop_assert!(compare(&b, &b).unwrap().is_empty());
    }
}

/// The broken program and its repaired twin.
fn twins() -> (Report, Report) {
    let make = |file: &'static str, line: u32, cause: Cause, repaired: bool| {
        let mut paper = Paper::new();
        paper.report.command = vec!["/usr/bin/python3".to_string(), format!("/x/{file}")];
        let at = |line| [(file, "main", line), (file, "<module>", 30)];
        let import = paper
            .stack(&[LIBC, EVAL, MAIN], Some(&[("<frozen importlib>", "get_data", 7), (file, "<module>", line - 1)]));
        let opened = paper.stack(&[LIBC, FILEIO, EVAL, MAIN], Some(&at(line)));
        let why = if repaired { EXIT } else { DEALLOC };
        let closed = paper.stack(&[CLOSE, FILEIO, why, EVAL, MAIN], Some(&at(line)));
        let alias = paper.stack(&[("libc.so.6", Some("aa"), 0x90, "dup2"), MAIN], None);
        paper.life("0", 3, "/usr/lib/python3.11/os.py", import, Some((import, Cause::Explicit)));
        paper.life("0", 3, "/tmp/tmp8ek49pr2/output", opened, Some((closed, cause)));
        if repaired {
            paper.life("0.1", 1, "/tmp/tmp8ek49pr2/output", alias, None);
        }
        paper.report
    };
    (make("broken.py", 20, Cause::Finalizer, false), make("fixed.py", 24, Cause::Explicit, true))
}

#[test]
fn the_story_of_a_repair_is_told() {
    let (a, b) = twins();
    let aligned = compare(&a, &b).unwrap();
    let text = report_diff(("a.json", &a), ("b.json", &b), &aligned, false, Style::plain());
    let expected = "\
A a.json: python3 broken.py: nothing found
B b.json: python3 fixed.py: nothing found
0 lives alike, 1 went otherwise, 0 gone, 1 new, 1 moved

first divergence
A fd 3 #2 of process 0: /tmp/tmp8ek49pr2/output
B fd 3 #2 of process 0: /tmp/tmp8ek49pr2/output
  opened  openat()
    python
      - broken.py:20 in main
      - broken.py:30 in <module>
      + fixed.py:24 in main
      + fixed.py:30 in <module>
    native: 4 frames alike
  closed  - close() by reference count, no close() call
          + close()
    python
      - broken.py:20 in main
      - broken.py:30 in <module>
      + fixed.py:24 in main
      + fixed.py:30 in <module>
    native
        … 1 frame alike
        _io_FileIO___init__ in python3.11
      - textiowrapper_dealloc in python3.11
      + iobase_exit in python3.11
        _PyEval_EvalFrameDefault in python3.11
        … 1 frame alike

new (only in B)
B fd 1 #3 /tmp/tmp8ek49pr2/output  openat(), main in python3.11

moved
  /usr/lib/python3.11/os.py (A #1, B #1)
    opened elsewhere
      - broken.py:19 in <module>
      + fixed.py:23 in <module>
";
    assert_eq!(text, expected);
}

#[test]
fn wide_terminals_show_both_sides() {
    let (a, b) = twins();
    let story = |r: &Report| Part::Life(FileId(2), None).of(r).unwrap().unwrap();
    let text = story_diff(("a@2", &story(&a)), ("b@2", &story(&b)), Style::plain().with_width(Some(100)));
    let expected = "
      - textiowrapper_dealloc in python3.11         | + iobase_exit in python3.11
";
    assert!(text.contains(expected), "{text}");
    assert!(text.starts_with("A a@2: fd 3 #2 /tmp/tmp8ek49pr2/output\n"), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
}

#[test]
fn another_build_is_not_another_place() {
    let make = |build: &'static str, shift: u64| {
        let mut paper = Paper::new();
        let opened = paper
            .stack(&[LIBC, ("job", Some(build), 0x100 + shift, "load"), ("job", Some(build), 0x200, "main")], None);
        paper.life("0", 3, "/data/a", opened, None);
        paper.report
    };
    assert!(compare(&make("c1", 0), &make("c2", 8)).unwrap().is_empty());
    let aligned = compare(&make("c1", 0), &make("c1", 8)).unwrap();
    assert_eq!(aligned.moved().count(), 1, "in one build another address is another place: {aligned:?}");
}

#[test]
fn a_python_stack_that_was_not_taken_is_no_difference() {
    let make = |python: Option<&[Python]>| {
        let mut paper = Paper::new();
        let stack = paper.stack(&[LIBC, FILEIO, EVAL, MAIN], python);
        paper.life("0", 3, "/data/a", stack, Some((stack, Cause::Explicit)));
        paper.report
    };
    let (with, without) = (make(Some(&[("job.py", "f", 2)])), make(None));
    assert!(compare(&with, &without).unwrap().is_empty());
    assert!(!compare(&with, &make(Some(&[("job.py", "f", 3)]))).unwrap().is_empty());
}

#[test]
fn parts_are_named_behind_the_file() {
    let life = |n, fd| Part::Life(FileId(n), fd);
    for (text, file, what) in [
        ("a.json", "a.json", Part::Whole),
        ("a.json#2", "a.json", Part::Finding(2)),
        ("a#1.json@17", "a#1.json", life(17, None)),
        ("a@17:4", "a", life(17, Some(Fd(4)))),
        ("a@17:", "a@17:", Part::Whole),
        ("a@17:-1", "a@17:-1", Part::Whole),
        ("a@x", "a@x", Part::Whole),
        ("a#", "a#", Part::Whole),
        ("#1", "#1", Part::Whole),
        ("a@99999999999", "a@99999999999", Part::Whole),
        ("é@1", "é", life(1, None)),
    ] {
        assert_eq!(part(text), (file, what));
    }
}

#[test]
fn what_is_not_there_is_said() {
    let (a, _) = twins();
    let says = |part: Part| part.of(&a).unwrap_err();
    assert_eq!(says(Part::Finding(1)), "there is no finding #1: nothing was found");
    assert_eq!(says(Part::Life(FileId(77), None)), "there is no object #77, or it was forgotten");
    assert_eq!(says(Part::Life(FileId(2), Some(Fd(9)))), "#2 was never fd 9: it was fd 3");
    let mut old = a.clone();
    old.lives = None;
    assert_eq!(compare(&a, &old).unwrap_err(), (true, NO_LIVES.to_string()));
}

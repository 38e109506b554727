//! A kernel that answers wrongly: at every stop of a scripted run something is not as ptrace(2) and proc(5) promise.
//!
//! Every session must end, without a panic, and leave no process and no descriptor behind. Where only what is read was
//! wrong, the target must not notice.

use super::*;
use crate::kernel::fault::{self, Faults};
use crate::kernel::{Caught, Command, Launched};
use crate::policy::Implicit;
use crate::prompt::{Prompt, ScriptLine};
use crate::render::Style;
use nix::errno::Errno;
use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What goes wrong at a stop.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// Nothing.
    Nothing,
    /// The report is this instead.
    Status(i32),
    /// The request of this number after the stop is answered with ESRCH, although the task is there.
    Denied(u32),
    /// The task is killed before the request of this number.
    Killed(u32),
    /// Of what is read of memory there is nothing, the first half, or nonsense.
    NoMemory,
    HalfMemory,
    Nonsense,
    /// `/proc` answers with this error, or with the first part of what it has, in percent.
    NoProc(i32),
    PartOfProc(usize),
}

/// A stop by an event that there is not, and two statuses that are none.
const STATUSES: [i32; 3] = [99 << 16 | libc::SIGTRAP << 8 | 0x7f, 0xffff, -1];

fn kinds() -> Vec<Kind> {
    let mut all: Vec<Kind> = STATUSES.into_iter().map(Kind::Status).collect();
    all.extend((0..4).map(Kind::Denied));
    all.extend((0..3).map(Kind::Killed));
    all.extend([Kind::NoMemory, Kind::HalfMemory, Kind::Nonsense]);
    all.extend([libc::ENOENT, libc::EACCES].map(Kind::NoProc));
    all.extend([0, 50].map(Kind::PartOfProc));
    all
}

impl Kind {
    /// Whether it can happen at a stop at which this was asked.
    fn can(self, asked: &Asked) -> bool {
        match self {
            Kind::Nothing => false,
            Kind::Status(_) => true,
            Kind::Denied(n) | Kind::Killed(n) => asked.requests > n,
            Kind::NoMemory | Kind::HalfMemory | Kind::Nonsense => asked.memory,
            Kind::NoProc(_) | Kind::PartOfProc(_) => asked.proc,
        }
    }

    /// Whether the target itself has nothing to do with it.
    fn is_reading(self) -> bool {
        !matches!(self, Kind::Status(_) | Kind::Killed(_))
    }
}

/// What the kernel was asked at a stop.
#[derive(Clone, Copy, Default, Debug)]
struct Asked {
    requests: u32,
    memory: bool,
    proc: bool,
}

/// How far a session has come, and whether what was planned happened.
#[derive(Default)]
struct Progress {
    stops: Vec<Asked>,
    fired: bool,
}

struct At {
    stop: u32,
    kind: Kind,
    seen: Rc<RefCell<Progress>>,
    dice: u64,
}

impl At {
    /// Whether the stop is the one; then it counts.
    fn here(&self) -> bool {
        self.seen.borrow().stops.len() == self.stop as usize + 1
    }

    fn fires(&self) {
        self.seen.borrow_mut().fired = true;
    }

    /// Takes down that something is asked; the number of requests before.
    fn asks(&self, what: impl FnOnce(&mut Asked)) -> u32 {
        let mut seen = self.seen.borrow_mut();
        let Some(asked) = seen.stops.last_mut() else { return 0 };
        let before = asked.requests;
        what(asked);
        before
    }
}

impl Faults for At {
    fn status(&mut self, _: i32, status: i32) -> i32 {
        self.seen.borrow_mut().stops.push(Asked::default());
        match self.kind {
            Kind::Status(other) if self.here() => {
                self.fires();
                other
            }
            _ => status,
        }
    }

    fn request(&mut self, tid: i32) -> Option<Errno> {
        let number = self.asks(|a| a.requests += 1);
        match self.kind {
            _ if !self.here() => None,
            Kind::Denied(n) if n == number => {
                self.fires();
                Some(Errno::ESRCH)
            }
            Kind::Killed(n) if n == number => {
                self.fires();
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(tid), nix::sys::signal::Signal::SIGKILL);
                None
            }
            _ => None,
        }
    }

    fn memory(&mut self, _: i32, got: &mut [u8]) -> usize {
        self.asks(|a| a.memory = true);
        if !self.here() {
            return got.len();
        }
        let kept = match self.kind {
            Kind::NoMemory => 0,
            Kind::HalfMemory => got.len() / 2,
            Kind::Nonsense => {
                for byte in got.iter_mut() {
                    self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    *byte = (self.dice >> 56) as u8;
                }
                got.len()
            }
            _ => return got.len(),
        };
        self.fires();
        kept
    }

    fn proc(&mut self) -> Option<io::Error> {
        self.asks(|a| a.proc = true);
        match self.kind {
            Kind::NoProc(errno) if self.here() => {
                self.fires();
                Some(io::Error::from_raw_os_error(errno))
            }
            _ => None,
        }
    }

    fn text(&mut self, length: usize) -> usize {
        match self.kind {
            Kind::PartOfProc(percent) if self.here() => {
                self.fires();
                length * percent / 100
            }
            _ => length,
        }
    }
}

/// Who watches, and how.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    Audit,
    AllCalls,
    /// Every event is shown, and every second close is kept from happening.
    Steps,
    /// The prompt itself, with a script.
    Script,
}

struct Steps(u32);

impl Frontend for Steps {
    fn wants_breaks(&self) -> bool {
        true
    }

    fn on_break(&mut self, view: View<'_>) -> Decision {
        self.0 += 1;
        if let Some(stack) = view.at.call.as_ref().and_then(|c| c.site.stack) {
            let _ = view.names.native(stack);
        }
        Decision { then: Then::Next, ..Decision::default() }
    }
}

/// How a session ended, for who checks it.
#[derive(Debug)]
struct Ended {
    stops: Vec<Asked>,
    fired: bool,
    /// The target's status; `None` if it was not started, or fdwatch gave up.
    status: Option<ExitStatus>,
    notes: Vec<String>,
    error: Option<String>,
}

fn session(program: &Path, way: Way, stop: u32, kind: Kind) -> Ended {
    let seen = Rc::new(RefCell::new(Progress::default()));
    let faults = At { stop, kind, seen: Rc::clone(&seen), dice: u64::from(stop) };
    fault::install(Some(Box::new(faults)));
    let command = Command { argv: vec![OsString::from(program)], own_group: false, seccomp: way != Way::AllCalls };
    let ended = match Launched::start(&command, &Caught::new()) {
        Ok(launched) => watch(launched, way),
        Err(e) => Err(e.to_string()),
    };
    fault::install(None);
    let Progress { stops, fired } = seen.take();
    match ended {
        Ok((status, notes)) => Ended { stops, fired, status: Some(status), notes, error: None },
        Err(e) => Ended { stops, fired, status: None, notes: Vec::new(), error: Some(e) },
    }
}

fn watch(launched: Launched, way: Way) -> Result<(ExitStatus, Vec<String>), String> {
    let target = Pid(launched.tid.0);
    let policy = Policy { implicit: Implicit::All, ..Policy::default() };
    let mut session = Session::new(launched, policy, way == Way::AllCalls);
    let lines = ["next", "bt", "info fds", "history 3", "info threads"];
    let script = lines.iter().cycle().take(600);
    let script = script.enumerate().map(|(i, l)| ScriptLine { text: (*l).to_string(), from: format!("line {i}") });
    let outcome = match way {
        Way::Audit | Way::AllCalls => session.run(&mut Quiet),
        Way::Steps => {
            session.step = true;
            session.run(&mut Steps(0))
        }
        Way::Script => {
            let prompt = Prompt::new(script.collect(), false, Style::plain());
            session.step = true;
            let mut frontend = Interactive::new(prompt, None, target, Style::plain()).map_err(|e| e.to_string())?;
            session.run(&mut frontend)
        }
    };
    let outcome = outcome.map_err(|e| e.to_string())?;
    let report = session.report(&outcome, vec![b"target".to_vec()], true);
    let _ = crate::report::text(&report, Style::plain());
    Ok((outcome.status, report.coverage.notes))
}

/// The processes whose environment names this test's target.
fn left(mark: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let marked = entries.filter(|e| {
        let cmdline = std::fs::read(e.path().join("cmdline")).unwrap_or_default();
        cmdline.starts_with(mark.as_bytes())
    });
    let shown = |dir: PathBuf| {
        let status = std::fs::read_to_string(dir.join("status")).unwrap_or_default();
        let wanted = ["Name", "State", "Pid", "PPid", "TracerPid"];
        let fields = status.lines().filter(|l| wanted.iter().any(|w| l.starts_with(&format!("{w}:"))));
        fields.collect::<Vec<_>>().join(" ").replace('\t', " ")
    };
    marked.map(|e| shown(e.path())).collect()
}

/// No session takes this long, on the slowest of machines: a watched run takes a twentieth of a second.
const LIMIT: u64 = 30;

/// Ends this process, and with it everything it traces, when a session takes too long; says which.
fn guard(mark: String, label: &'static Mutex<String>, since: &'static AtomicU64) {
    let began = std::time::Instant::now();
    std::thread::spawn(move || {
        let mut last = (u64::MAX, 0);
        loop {
            // Between two looks: what hangs announces nothing.
            std::thread::sleep(Duration::from_millis(500));
            let number = since.load(Ordering::Relaxed);
            let now = began.elapsed().as_secs();
            if last.0 != number {
                last = (number, now);
            } else if now - last.1 > LIMIT {
                let label = label.lock().map(|l| l.clone()).unwrap_or_default();
                eprintln!("hangs: {label}: {:#?}", left(&mark));
                std::process::abort();
            }
        }
    });
}

/// Runs one session on a thread of its own, so that whatever it still traces at its end dies with that.
fn run_one(program: &Path, way: Way, stop: u32, kind: Kind) -> Result<Ended, String> {
    let program = program.to_path_buf();
    let ended = std::thread::spawn(move || session(&program, way, stop, kind)).join();
    // What was stopped when the session gave up has been killed, and is waited for here.
    fault::reap();
    ended.map_err(|_| "panicked".to_string())
}

fn open_numbers() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |d| d.count())
}

/// Not a test by itself: all sessions of one way, one after another, in a process where nobody else waits for children.
#[test]
#[ignore = "run by the tests of a hostile kernel"]
fn every_stop() {
    static LABEL: Mutex<String> = Mutex::new(String::new());
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let Some(program) = std::env::var_os("FDWATCH_TEST_TARGET").map(PathBuf::from) else { return };
    let way = match std::env::var("FDWATCH_TEST_WAY").as_deref() {
        Ok("all calls") => Way::AllCalls,
        Ok("steps") => Way::Steps,
        Ok("script") => Way::Script,
        _ => Way::Audit,
    };
    let stride: usize = std::env::var("FDWATCH_TEST_STRIDE").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mark = program.to_str().expect("a path in UTF-8").to_string();
    guard(mark.clone(), &LABEL, &NUMBER);
    // What is asked at which stop differs a little from run to run.
    let runs: Vec<Ended> = (0..3).map(|_| run_one(&program, way, 0, Kind::Nothing).expect("no panic")).collect();
    for run in &runs {
        assert_eq!(run.status, Some(ExitStatus::Code(0)), "without faults: {run:?}");
    }
    let stops = runs.iter().map(|r| r.stops.len()).max().unwrap_or(0);
    let numbers = open_numbers();
    let (mut sessions, mut fired, mut told) = (0, 0, [0; 2]);
    let began = Instant::now();
    for (i, kind) in kinds().into_iter().enumerate() {
        for stop in (i % stride..stops).step_by(stride) {
            if !runs.iter().filter_map(|r| r.stops.get(stop)).any(|asked| kind.can(asked)) {
                continue;
            }
            let label = format!("{way:?}, {kind:?} at stop {stop} of {stops}");
            LABEL.lock().expect("a label").clone_from(&label);
            NUMBER.fetch_add(1, Ordering::Relaxed);
            let ended = run_one(&program, way, stop as u32, kind).unwrap_or_else(|e| panic!("{label}: {e}"));
            assert_eq!(left(&mark), [""; 0], "{label}: left behind");
            assert_eq!(open_numbers(), numbers, "{label}: descriptors of our own");
            sessions += 1;
            if !ended.fired {
                continue;
            }
            fired += 1;
            let says = |what: &str| ended.notes.iter().any(|n| n.contains(what));
            match kind {
                _ if kind.is_reading() => {
                    assert_eq!(ended.status, Some(ExitStatus::Code(0)), "{label}: the target noticed: {ended:?}");
                    told[0] += u32::from(says("of the kernel w"));
                }
                Kind::Status(_) => {
                    // 3: the script missed a signal, whose stop it was. 9: nobody said how it ended.
                    let known = [ExitStatus::Code(0), ExitStatus::Code(3), ExitStatus::Signal(9)].map(Some);
                    assert!(known.contains(&ended.status), "{label}: {ended:?}");
                    told[1] += u32::from(says("of an unknown kind"));
                }
                _ => assert!(ended.error.is_none() || stop < 5, "{label}: {ended:?}"),
            }
        }
    }
    assert!(sessions > 0 && fired * 2 > sessions, "{fired} of {sessions} had a fault");
    assert!(told[0] > 0 && told[1] > 0, "the report says so: {told:?}");
    let took = began.elapsed();
    println!("{way:?}: {stops} stops, {sessions} sessions, {fired} with a fault, told {told:?}, {took:?}");
}

fn everywhere(way: &str, stride: usize) {
    let dir = tempfile::tempdir().expect("a folder");
    let program = dir.path().join("scripted");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/targets/scripted.c");
    let mut built = false;
    // Without a dynamic linker's opens there are fewer stops, and more of them are the script's.
    for link in ["-static", "-rdynamic"] {
        let mut cc = std::process::Command::new("cc");
        cc.args(["-O1", "-g", "-pthread", link, "-o"]).arg(&program).arg(source);
        built = built || cc.output().is_ok_and(|o| o.status.success());
    }
    if !built {
        eprintln!("skipped: a hostile kernel: no C compiler");
        return;
    }
    let mut own = std::process::Command::new(std::env::current_exe().expect("this program"));
    own.args(["session::hostile::every_stop", "--exact", "--ignored", "--nocapture"]);
    own.env("FDWATCH_TEST_TARGET", &program).env("FDWATCH_TEST_WAY", way);
    own.env("FDWATCH_TEST_STRIDE", stride.to_string()).stdin(std::process::Stdio::null());
    let done = own.output().expect("this program");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let last =
        |text: &str| text.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
    assert!(done.status.success(), "{way}: {}\n{}\n{}", done.status, last(&out), last(&err));
    assert!(out.contains(" with a fault, "), "{way}: it ran: {out}");
}

/// Every how manieth stop has its turn where there are too many for a test of every day; FDWATCH_TEST_STRIDE says
/// otherwise, and 1 takes all.
fn stride(usual: usize) -> usize {
    std::env::var("FDWATCH_TEST_STRIDE").ok().and_then(|s| s.parse().ok()).unwrap_or(usual)
}

#[test]
fn an_audit_ends_whatever_goes_wrong() {
    everywhere("audit", stride(1));
}

#[test]
fn an_audit_of_all_calls_ends_whatever_goes_wrong() {
    everywhere("all calls", stride(31));
}

#[test]
fn a_break_at_every_event_ends_whatever_goes_wrong() {
    everywhere("steps", stride(5));
}

#[test]
fn a_script_ends_whatever_goes_wrong() {
    everywhere("script", stride(7));
}

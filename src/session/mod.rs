//! The conductor: next stop → decode → consequences → findings → policy → front end → resume.
//!
//! The only place where the kernel, the model, the stacks and what the user sees meet.

mod activations;
mod alter;
mod attach;
mod catch;
mod claim;
mod frontend;
mod interactive;
mod live;
mod log;
mod names;
mod pipeline;
mod placement;
mod quarantine;
mod received;
mod reconcile;
mod record;
mod rehearse;
mod replay;
mod sites;
mod stops;
mod supervised;
mod tasks;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod orders;

pub use frontend::{Decision, Frontend, Quiet, Then, View};
pub use interactive::Interactive;
pub use log::{FORMAT as LOG_FORMAT, LogError, is_log};
pub use record::Recording;
pub use rehearse::rehearsal_of;
pub use replay::Replay;

use crate::base::{Fd, FileId, Pid, Tid};
use crate::event::{Alteration, Effect, Event, EventKind, ExitStatus};
use crate::finding::{Finding, Options, Seen};
use crate::identity::{Followed, Ledger, Rehearsal};
use crate::kernel::{Error, KNOCK, Launched, Next, Resume, Stop, Stopped, Tracer, procfs};
use crate::model::{Change, Flights, Transition, World};
use crate::policy::suppression::Suppressions;
use crate::policy::{Break, Policy};
use crate::render::FileSources;
use crate::report::baseline::Baseline;
use crate::report::{self, Altered, Facts, Mode, Report, SourceLine, Target};
use crate::syscall::Table;
use claim::Unclaimed;
use log::Header;
use pipeline::{Committed, Pipeline};
use record::Recorder;
use rustc_hash::{FxHashMap, FxHashSet};
use sites::Sites;
use std::time::Instant;

/// How the whole ended.
#[derive(Debug)]
pub struct Outcome {
    /// How the target's first process ended.
    pub status: ExitStatus,
    /// Whether the user ended it from the prompt.
    pub ended_by_user: bool,
}

/// What was seen, and what limits it.
#[derive(Clone, Debug, Default)]
struct Limits {
    /// Whether setuid programs ran without privilege (no_new_privs).
    no_new_privs: bool,
    /// Whether they did because fdwatch has no privilege itself.
    unprivileged: bool,
    /// Whether every call stopped instead of those of the table only.
    all_calls: bool,
    /// Calls of the x32 table, which is not followed.
    x32_calls: u64,
    /// Whether the user left the target to itself before its end.
    detached: bool,
    /// Processes that were followed.
    processes: u64,
    /// Tables of the kernel's that could not be read.
    unread_tables: u64,
    /// Requests to trace that were refused because fdwatch traces.
    refused_tracing: u64,
    /// Tasks that were refused seccomp's strict mode because of our filter.
    refused_strict: u64,
    /// io_uring(7) rings that were made.
    rings: u64,
}

/// What a task is at.
#[derive(Debug)]
struct TaskState {
    space: crate::stack::SpaceId,
    /// The call that it has entered and whose exit is awaited.
    pending: Option<crate::base::RawCall>,
    /// When it entered that, in nanoseconds since watching began.
    entered_at: u64,
    /// Closes in vain that were told since a close of something.
    vain: usize,
    /// So many calls more may show whether one that was refused was the first step of a loop over all numbers.
    doubtful: u8,
    /// What was decided about the call at whose entry it stands, while that is delayed.
    decided: Option<Decided>,
    /// It wanted to be traced by its parent and was refused, so it stops itself for nobody.
    untraced: bool,
    /// The entry of the call that it is in was looked at before a filter was asked.
    entered: bool,
    /// The number of a call that was committed at its entry, where its exit is a stop, too.
    early: Option<Fd>,
    /// The result of the call that it is in is to be told so many nanoseconds later.
    late: Option<u64>,
    /// What it does for us in the place of a call of its own.
    errand: Option<Box<quarantine::Running>>,
}

/// What is to be done when a delay is over.
#[derive(Clone, Copy, Debug)]
struct Decided {
    /// What the user decided, if anybody was asked.
    decision: Option<Decision>,
    /// What the program is told instead of the call's being made, if the command line says so.
    instead: Option<crate::policy::inject::Instead>,
    /// The life that the call is about, if it is about one.
    life: Option<crate::base::LifeId>,
}

impl TaskState {
    fn new(space: crate::stack::SpaceId) -> TaskState {
        TaskState {
            space,
            pending: None,
            entered_at: 0,
            vain: 0,
            doubtful: 0,
            decided: None,
            untraced: false,
            entered: false,
            early: None,
            late: None,
            errand: None,
        }
    }

    fn has_errand(&self) -> bool {
        self.errand.is_some()
    }
}

/// One target being watched, from its first program to its last task's end.
pub struct Session {
    tracer: Tracer,
    table: Table,
    world: World,
    pipeline: Pipeline,
    /// What the user wanted of the rules.
    options: Options,
    ledger: Ledger,
    /// What was found in another run, and is no reason to break.
    known: Option<Baseline>,
    recorder: Option<Recorder>,
    policy: Policy,
    sites: Sites,
    /// What the user wants to look at after its end.
    copies: crate::kernel::copies::Copies,
    /// Numbers that are held back after their close, if that is wanted.
    quarantine: Option<quarantine::Quarantine>,
    tasks: FxHashMap<Tid, TaskState>,
    flights: Flights,
    unclaimed: Vec<Unclaimed>,
    /// Something was open, once, that hands out descriptors when it is read.
    deliveries: bool,
    /// Processes whose calls somebody else may answer.
    supervised: FxHashSet<Pid>,
    /// What is open that shows where tasks may run.
    shown: FxHashSet<FileId>,
    main: Tid,
    began: Instant,
    status: Option<ExitStatus>,
    limits: Limits,
    breaks: u32,
    /// Breaks that the user does not want to see.
    ignore: u32,
    /// The user wants to see the next event.
    step: bool,
    /// The task whose call is to be shown when it returns.
    finishing: Option<Tid>,
    /// That call, where its entry was all that had to be looked at.
    finish_call: Option<crate::event::Call>,
    /// Nothing is looked at any more.
    relay: bool,
    ended_by_user: bool,
    /// The interrupt that was withheld from a task.
    withheld: Option<i32>,
    /// Processes that one Ctrl-C has yet to reach, although it was answered already.
    echoes: Vec<Pid>,
    /// Whether they get it, because the answer was that it is to be delivered.
    deliver_echoes: bool,
    /// When a process last got a signal that asks it to end, from somebody else than us.
    requests: FxHashMap<(Pid, i32), u64>,
    /// The target was running before; `None` if it was started by us.
    attached: Option<attach::Attachment>,
    /// Lives that another run has shown to matter.
    followed: Vec<Followed>,
    /// Nothing but these is stopped at before a call, until the first is reached or this run went another way.
    straight: bool,
    /// Where this run went another way than the one that was rehearsed, a sentence each.
    divergences: Vec<String>,
    /// What the user wants to be stopped at when the command is started again.
    again: Option<Rehearsal>,
    /// The lines of source that the report shows, once they were read.
    source_lines: Option<Vec<SourceLine>>,
}

impl Session {
    /// Takes over a target that is about to execute its first program.
    pub fn new(launched: Launched, policy: Policy, all_calls: bool) -> Session {
        let mut session = Session::over(launched.tracer, launched.tid, policy, all_calls);
        session.limits.no_new_privs = launched.no_new_privs;
        session.limits.unprivileged = launched.unprivileged;
        session
    }

    fn over(tracer: Tracer, main: Tid, policy: Policy, all_calls: bool) -> Session {
        Session {
            tracer,
            table: Table::new(),
            world: World::new(),
            pipeline: Pipeline::new(&Options::default(), Suppressions::shipped()),
            options: Options::default(),
            ledger: Ledger::new(),
            known: None,
            recorder: None,
            policy,
            sites: Sites::new(),
            copies: crate::kernel::copies::Copies::default(),
            quarantine: None,
            tasks: FxHashMap::default(),
            flights: Flights::default(),
            unclaimed: Vec::new(),
            deliveries: false,
            supervised: FxHashSet::default(),
            shown: FxHashSet::default(),
            main,
            began: Instant::now(),
            status: None,
            limits: Limits { all_calls, processes: 1, ..Limits::default() },
            breaks: 0,
            ignore: 0,
            step: false,
            finishing: None,
            finish_call: None,
            relay: false,
            ended_by_user: false,
            withheld: None,
            echoes: Vec::new(),
            deliver_echoes: false,
            requests: FxHashMap::default(),
            attached: None,
            followed: Vec::new(),
            straight: false,
            divergences: Vec::new(),
            again: None,
            source_lines: None,
        }
    }

    /// Asks `fetch` for the debug file with a build id, where none is installed.
    pub fn fetch_debug_files(&mut self, fetch: Box<crate::stack::Fetch>) {
        self.sites.fetch_with(fetch);
    }

    /// Lets the rules be as the user wants them; to be called before [`Session::record`] and [`Session::run`].
    pub fn obey(&mut self, options: Options) {
        let suppressions = std::mem::replace(&mut self.pipeline.suppressions, Suppressions::none());
        self.pipeline = Pipeline::new(&options, suppressions);
        self.options = options;
    }

    /// Looks at calls that only use a descriptor, too: the target has to run under [`crate::kernel::Filter::with`] uses, or
    /// with every call stopping.
    pub fn watch_uses(&mut self) {
        self.table = Table::with(true, false);
    }

    /// Leaves out, from now on, what these cover, in place of what ships with fdwatch; to be called before
    /// [`Session::run`].
    pub fn suppress(&mut self, suppressions: Suppressions) {
        self.pipeline.suppressions = suppressions;
    }

    /// Does not break at what this knows; to be called before [`Session::run`].
    pub fn know(&mut self, baseline: Baseline) {
        self.known = Some(baseline);
    }

    /// Records what happens from now on; to be called before [`Session::run`].
    pub fn record(&mut self, to: Recording, command: Vec<Vec<u8>>) {
        let header = Header {
            log: LOG_FORMAT.to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            command,
            mode: self.mode(),
            no_new_privs: self.limits.no_new_privs,
            main: self.main,
            options: self.options.clone(),
        };
        self.recorder = Some(Recorder::new(to, &header));
    }

    /// Ends a recording: without this a log is recognised as incomplete.
    pub fn end_recording(&mut self, outcome: &Outcome) {
        if let Some(mut recorder) = self.recorder.take() {
            let facts = self.facts(outcome, Vec::new());
            let (lives, _) = report::lives::listed(&self.world, &self.ledger);
            let (stacks, _) = report::lives::named(&lives);
            recorder.end(outcome.status, facts, &self.pipeline.findings, &stacks, &mut self.sites);
            self.recorder = Some(recorder);
        }
    }

    fn mode(&self) -> Mode {
        if self.limits.all_calls { Mode::Full } else { Mode::Seccomp }
    }

    /// What is known of the target's descriptors.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What was found so far.
    pub fn findings(&self) -> &[Finding] {
        &self.pipeline.findings
    }

    /// What a report needs to know of the run besides the model.
    pub fn facts(&mut self, outcome: &Outcome, command: Vec<Vec<u8>>) -> Facts {
        let target = match outcome.status {
            _ if outcome.ended_by_user => Target::Killed,
            _ if self.limits.detached => Target::Detached,
            _ if self.attached.is_some() && self.status.is_none() => Target::Unknown,
            ExitStatus::Code(status) => Target::Exited { status },
            ExitStatus::Signal(signal) => Target::Signaled { signal },
        };
        Facts {
            command,
            target,
            mode: self.mode(),
            no_new_privs: self.limits.no_new_privs,
            processes: self.limits.processes,
            suppressed: self.pipeline.suppressed,
            altered: Altered::all(&self.world),
            altered_unlisted: self.world.altered_unlisted(),
            notes: self.notes(),
            sources: self.source_lines(),
        }
    }

    /// The lines that the findings show: read once, so that a recording and the report have the same.
    fn source_lines(&mut self) -> Vec<SourceLine> {
        let (findings, mut names) =
            (&self.pipeline.findings, names::SessionNames { sites: &mut self.sites, sweeps: &self.pipeline.sweeps });
        let read = || SourceLine::of(findings, &mut names, &mut FileSources::new());
        self.source_lines.get_or_insert_with(read).clone()
    }

    /// What limits what can be told, a sentence each; nothing that is as it should be.
    fn notes(&self) -> Vec<String> {
        let mut notes = self.attachment_notes();
        notes.extend(self.divergences.iter().cloned());
        notes.extend(self.quarantine_notes());
        if self.copies.made() > 0 {
            notes.push(
                "fdwatch held open what it had copied by dup: its last end came later than by itself".to_string(),
            );
        }
        for expected in self.policy.expected.iter().filter(|e| !e.was_executed(&self.world)) {
            let what = crate::base::text::escape(expected.text().as_bytes());
            notes.push(format!("nobody was seen to execute {what}, which --expect-child names"));
        }
        if self.limits.unprivileged && !self.limits.no_new_privs {
            notes.push("setuid programs got no privilege: fdwatch has no CAP_SYS_PTRACE".to_string());
        }
        let mut say = |n: u64, one: &str, more: &str| match n {
            0 => {}
            1 => notes.push(format!("1 {one}")),
            n => notes.push(format!("{n} {more}")),
        };
        say(
            self.limits.x32_calls,
            "call of the x32 table was not followed",
            "calls of the x32 table were not followed",
        );
        say(
            self.limits.unread_tables,
            "descriptor table could not be compared with the kernel's",
            "descriptor tables could not be compared with the kernel's",
        );
        say(
            self.limits.rings,
            "io_uring ring was made: what it opens and closes is told at the next fork, exec or break",
            "io_uring rings were made: what they open and close is told at the next fork, exec or break",
        );
        say(
            self.limits.refused_tracing,
            "request to trace was refused (EPERM): a task has one tracer, and here fdwatch is it",
            "requests to trace were refused (EPERM): a task has one tracer, and here fdwatch is it",
        );
        say(
            self.limits.refused_strict,
            "task was refused seccomp's strict mode (EINVAL), because it is under fdwatch's filter: use --no-seccomp",
            "tasks were refused seccomp's strict mode (EINVAL), because they are under fdwatch's filter: use --no-seccomp",
        );
        say(self.tracer.unknown_stops(), "stop was of an unknown kind", "stops were of an unknown kind");
        say(
            self.tracer.missing_answers(),
            "answer of the kernel was missing: a call may not have been followed",
            "answers of the kernel were missing: calls may not have been followed",
        );
        say(
            self.sites.python_skipped(),
            "Python stack was not taken, to keep the target fast",
            "Python stacks were not taken, to keep the target fast",
        );
        say(
            self.sites.activations_forgotten(),
            "life's calls of functions were forgotten, which tell whether what starts a child had opened it for itself",
            "lives' calls of functions were forgotten, which tell whether what starts a child had opened them for itself",
        );
        say(
            self.sites.python_lost(),
            "Python stack was not kept: too many different ones",
            "Python stacks were not kept: too many different ones",
        );
        let python = self.sites.python_coverage();
        say(python.failures, "Python stack could not be read", "Python stacks could not be read");
        say(
            python.by_py_spy,
            "Python stack was read by py-spy, without evidence of escaped numbers",
            "Python stacks were read by py-spy, without evidence of escaped numbers",
        );
        say(
            python.undecided,
            "close ran in Python code whose bytecode is not understood",
            "closes ran in Python code whose bytecode is not understood",
        );
        let stacks = self.sites.coverage();
        say(
            stacks.cut_short.len() as u64,
            "file's debug information is damaged: its functions and lines may be missing",
            "files' debug information is damaged: their functions and lines may be missing",
        );
        say(
            self.pipeline.findings_lost(),
            "finding was not kept: there were too many different ones",
            "findings were not kept: there were too many different ones",
        );
        for (why, n) in stacks.truncated {
            let one = format!("native stack is incomplete: {why}");
            say(n, &one, &format!("native stacks are incomplete: {why}"));
        }
        notes.extend(self.recorder.as_ref().and_then(Recorder::failure).map(str::to_string));
        if python.interpreters_shared {
            notes.push(
                "Python up to 3.12 ran several interpreters: frames in one that another thread had made are not seen"
                    .to_string(),
            );
        }
        let versions = python.unsupported.iter().map(|minor| format!("Python 3.{minor}"));
        let without_lock = python.free_threaded.iter().map(|minor| format!("free-threaded Python 3.{minor}"));
        let lines = if python.by_py_spy == 0 { "no Python lines, " } else { "" };
        for which in versions.chain(without_lock) {
            notes.push(format!("{which} is not understood: {lines}no evidence of escaped numbers"));
        }
        notes
    }

    /// The report, with the lives if they are asked for: their stacks are given names then, which takes a while.
    pub fn report(&mut self, outcome: &Outcome, command: Vec<Vec<u8>>, lives: bool) -> Report {
        let facts = self.facts(outcome, command);
        let mut names = names::SessionNames { sites: &mut self.sites, sweeps: &self.pipeline.sweeps };
        let mut report = Report::new(facts, &self.world, &self.pipeline.findings, &mut self.ledger, &mut names);
        report.note_suppressions(&self.pipeline.suppressions);
        match lives {
            true => report.with_lives(&self.world, &mut self.ledger, &mut names),
            false => report,
        }
    }

    /// Runs the target to the end of its last task. One that was attached to: to that, or until somebody wants watching
    /// to end ([`crate::kernel::Requests`]).
    ///
    /// # Errors
    /// If the kernel refuses what it granted before. The target is then killed as this process ends
    /// (PTRACE_O_EXITKILL); one that was attached to goes on by itself.
    pub fn run(&mut self, frontend: &mut dyn Frontend) -> Result<Outcome, Error> {
        self.begin(frontend);
        while !self.has_left() {
            match self.tracer.next()? {
                Next::End => break,
                Next::Asked(request) => self.on_request(request, frontend)?,
                Next::Reached(tid) => self.on_reached(tid, frontend),
                Next::Gone(tid, stop) => self.on_gone(tid, stop, frontend)?,
                Next::Adopted(tid) => self.on_adopted(tid, frontend),
                Next::Stopped(task, Stop::Seccomp | Stop::Syscall) if self.relay && self.has_errand(task.tid()) => {
                    self.on_errand(task, frontend)?;
                }
                Next::Stopped(task, stop) if self.relay => match stop {
                    Stop::Signal(KNOCK) if task.signal_is_passed_on() => self.tracer.resume(task, Resume::Go)?,
                    Stop::Signal(sig) => self.tracer.resume(task, Resume::Deliver(sig))?,
                    Stop::Group(sig) => self.on_group_stop(task, sig, frontend)?,
                    Stop::Seccomp => self.on_entry_unwatched(task)?,
                    _ => self.tracer.resume(task, Resume::Go)?,
                },
                Next::Stopped(task, stop) => {
                    let tid = task.tid();
                    tracing::trace!(%tid, ?stop, "stop");
                    let now = self.now();
                    self.flights.stopped(tid, now);
                    self.on_stop(task, stop, frontend)?;
                    if self.world.shares_table(tid) {
                        let now = self.now();
                        self.flights.resumed(&self.world, tid, now);
                    }
                }
            }
        }
        if self.limits.detached {
            self.last_findings();
        }
        self.rehearsals_are_over(frontend);
        frontend.on_end();
        self.copies.clear();
        let status = self.status.unwrap_or(ExitStatus::Signal(libc::SIGKILL));
        Ok(Outcome { status, ended_by_user: self.ended_by_user })
    }

    fn on_stop(&mut self, task: Stopped, stop: Stop, frontend: &mut dyn Frontend) -> Result<(), Error> {
        if !self.tasks.contains_key(&task.tid()) && stop != Stop::Exec {
            self.on_adopted(task.tid(), frontend);
        }
        match stop {
            Stop::Seccomp | Stop::Syscall if self.has_errand(task.tid()) => self.on_errand(task, frontend),
            Stop::Seccomp => self.on_entry(task, frontend),
            Stop::Syscall => self.on_call(task, frontend),
            Stop::Fork(_) => self.on_fork(task, frontend),
            Stop::Exec => self.on_exec(task, frontend),
            Stop::Signal(sig) => self.on_signal(task, sig, frontend),
            Stop::Group(sig) => self.on_group_stop(task, sig, frontend),
            _ => self.tracer.resume(task, Resume::Go),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Commits what was decided and lets the rules look at it. Returns the index of the first new finding.
    fn commit(&mut self, event: &Event, transitions: Vec<Transition>, frontend: &mut dyn Frontend) -> usize {
        let mut names = names::Asked { sites: &mut self.sites, stacks: Vec::new() };
        let Committed { changes, first } = self.pipeline.commit(&mut self.world, event, transitions, &mut names);
        let asked = names.stacks;
        if let Some(recorder) = &mut self.recorder {
            recorder.event(event, &asked, &mut self.sites);
            if first < self.pipeline.findings.len() {
                recorder.flush();
            }
        }
        if let (EventKind::Call(call), Some(state)) = (&event.kind, self.tasks.get_mut(&event.tid)) {
            // Of a loop the next step shows it, but for one that ends the other end of a pipe: then that after it.
            let refused = call.effects.iter().any(|e| matches!(e, Effect::Refused { .. }));
            state.doubtful = if refused { 2 } else { state.doubtful.saturating_sub(1) };
        }
        self.note_opened(event, &changes);
        self.ledger.note(&self.world, event, &changes, &self.sites);
        pipeline::note_found(&mut self.ledger, &self.pipeline.findings);
        self.follow_rehearsed(&changes, frontend);
        self.follow_deliveries(event, &changes);
        self.follow_shown(&changes);
        let seen = Seen { world: &self.world, event, changes: &changes };
        frontend.on_event(&seen, &mut names::SessionNames { sites: &mut self.sites, sweeps: &self.pipeline.sweeps });
        first
    }

    /// Remembers which calls of functions went on where lives began.
    fn note_opened(&mut self, event: &Event, changes: &[Change]) {
        let EventKind::Call(call) = &event.kind else { return };
        let began = changes.iter().filter_map(|c| match c {
            Change::Began(life) => self.world.life(*life).map(|l| l.fd),
            _ => None,
        });
        if call.site.stack.is_some() {
            self.sites.opened(self.pid_of(event.tid), event.tid, began, event.at);
        }
    }

    fn pid_of(&self, tid: Tid) -> Pid {
        self.world.task(tid).map_or(Pid(tid.0), |t| t.pid)
    }

    /// Numbers a break and asks the front end about it, unless the user wants to ignore it.
    fn show(
        &mut self,
        make: impl FnOnce(&World, u32) -> Break,
        frontend: &mut dyn Frontend,
    ) -> Result<Decision, Error> {
        // Of what was reported before the end was decided, nothing is shown.
        if self.ended_by_user || self.relay {
            return Ok(Decision::default());
        }
        if self.ignore > 0 {
            self.ignore -= 1;
            return Ok(Decision::default());
        }
        self.tracer.hold()?;
        self.reconcile_all(frontend);
        self.step = false;
        self.finishing = None;
        self.finish_call = None;
        self.breaks += 1;
        let at = make(&self.world, self.breaks);
        let tids = self.tracer.tids().into_iter().map(named).collect::<Vec<_>>();
        let mut decision = self.ask(&at, &tids, frontend);
        let leaves = matches!(decision.then, Then::Kill | Then::Detach | Then::HandOver | Then::Rewind(_));
        // What nobody can look at any more must not hold up the target.
        if leaves || !frontend.wants_breaks() {
            self.copies.clear();
        }
        if decision.then == Then::HandOver {
            // It stops as soon as it is let go, and whoever takes it over finds it so.
            self.tracer.send(at.pid, libc::SIGSTOP);
            decision.then = Then::Detach;
        }
        if let (Some(ns), Some(call)) = (decision.delay, at.call.as_ref().filter(|c| c.info.ret.is_some())) {
            let how = Alteration::DelayResult(ns);
            // What was found may be about another number.
            let own = || crate::syscall::by_name(call.info.name).and_then(|row| row.number(call.info.args));
            let fd = if at.finding.is_some() { own() } else { at.fd };
            self.tell_done(at.tid, call, how, fd.into_iter().collect(), frontend);
        }
        match decision.then {
            Then::Continue { ignore } => self.ignore = ignore,
            Then::Next => self.step = true,
            Then::Finish => self.finishing = Some(at.tid),
            Then::Signal(_) | Then::Report | Then::HandOver => {}
            Then::Rewind(n) if self.attached.is_none() => {
                self.again = self.rehearsal(n);
                match self.again {
                    Some(_) => {
                        self.ended_by_user = true;
                        self.tracer.kill_all();
                    }
                    None => frontend.on_note("which life it is about is not remembered: the target goes on"),
                }
            }
            // What was running before is not ours to start again.
            Then::Rewind(_) => {}
            Then::Kill => {
                self.ended_by_user = true;
                self.tracer.kill_all();
            }
            // With a seccomp filter the kernel needs somebody to answer for the calls that the filter marks, to the end;
            // see Tracer::detach_all.
            Then::Detach => {
                self.relay = true;
                self.limits.detached = true;
                self.tracer.leave_placement();
                self.tracer.end_delays();
            }
        }
        Ok(decision)
    }
}

impl Session {
    /// Asks the front end until it lets the target go on: meanwhile it may want a report of all so far.
    fn ask(&mut self, at: &Break, tids: &[(Tid, String, String)], frontend: &mut dyn Frontend) -> Decision {
        loop {
            let quarantine = self.held_back();
            let mut names = names::NamesAtBreak {
                names: names::SessionNames { sites: &mut self.sites, sweeps: &self.pipeline.sweeps },
                tracer: &self.tracer,
                tasks: &self.tasks,
                world: &self.world,
            };
            let view = View {
                world: &self.world,
                findings: &self.pipeline.findings,
                names: &mut names,
                at,
                tids,
                policy: &mut self.policy,
                live: &mut live::Kernel::new(&mut self.copies, quarantine),
                can_leave: self.limits.all_calls,
            };
            let decision = frontend.on_break(view);
            if decision.then != Then::Report {
                return decision;
            }
            let status = self.status.unwrap_or(ExitStatus::Code(0));
            let mut report = self.report(&Outcome { status, ended_by_user: false }, Vec::new(), true);
            report.target = Target::Unknown;
            // What is found from here on has lines, too.
            self.source_lines = None;
            frontend.on_report(&report);
        }
    }
}

/// A task with its name and its state in a word (proc_pid_stat(5)).
fn named(tid: Tid) -> (Tid, String, String) {
    let state = match procfs::state(tid) {
        Some('t' | 'T') => "stopped",
        Some('D') => "in the kernel",
        Some('Z' | 'X') | None => "gone",
        Some(_) => "running",
    };
    (tid, String::from_utf8_lossy(&procfs::comm(tid)).into_owned(), state.to_string())
}

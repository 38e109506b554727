//! The conductor: next stop → decode → consequences → findings → policy → front end → resume.
//!
//! The only place where the kernel, the model, the stacks and what the user sees meet.

mod frontend;
mod interactive;
mod names;
mod sites;
mod stops;

pub use frontend::{Decision, Frontend, Quiet, Then, View};
pub use interactive::Interactive;

use crate::base::{Pid, Tid};
use crate::event::{CallInfo, Event, ExitStatus};
use crate::finding::{Finding, Rule, Seen, rules};
use crate::kernel::{Error, Launched, Next, Resume, Stop, Tracer, procfs};
use crate::model::{Change, Transition, World};
use crate::policy::{Break, Policy, suppression};
use crate::syscall::Table;
use rustc_hash::FxHashMap;
use sites::Sites;
use std::time::Instant;

/// A call whose result fdwatch changed.
#[derive(Clone, Debug)]
pub struct Altered {
    /// Nanoseconds since fdwatch started watching.
    pub at: u64,
    /// The task.
    pub tid: Tid,
    /// The call, with the result that the task was given.
    pub call: CallInfo,
    /// The path of the object that was kept.
    pub path: Vec<u8>,
    /// What was done: `keep`.
    pub how: &'static str,
}

/// How the whole ended.
#[derive(Debug)]
pub struct Outcome {
    /// How the target's first process ended.
    pub status: ExitStatus,
    /// Whether the user ended it from the prompt.
    pub ended_by_user: bool,
}

/// What was not seen, or not as well as could be.
#[derive(Clone, Debug, Default)]
pub struct Unseen {
    /// Whether setuid programs ran without privilege (no_new_privs).
    pub no_new_privs: bool,
    /// Whether every call stopped instead of those of the table only.
    pub all_calls: bool,
    /// Calls of the x32 table, which is not followed.
    pub x32_calls: u64,
    /// Stops that ptrace(2) does not describe.
    pub unknown_stops: u64,
    /// Slots that were filled or empty against expectation.
    pub surprises: u64,
    /// Ended lives that were forgotten to bound memory.
    pub forgotten: u64,
    /// Python stacks that were not taken to keep the target fast.
    pub python_skipped: u64,
    /// Whether the user left the target to itself before its end.
    pub detached: bool,
}

/// What a task is at.
#[derive(Debug)]
struct TaskState {
    space: crate::stack::SpaceId,
    /// The call that it has entered and whose exit is awaited.
    pending: Option<crate::base::RawCall>,
}

/// One target being watched, from its first program to its last task's end.
pub struct Session {
    tracer: Tracer,
    table: Table,
    world: World,
    rules: Vec<Box<dyn Rule>>,
    policy: Policy,
    sites: Sites,
    tasks: FxHashMap<Tid, TaskState>,
    main: Tid,
    began: Instant,
    status: Option<ExitStatus>,
    findings: Vec<Finding>,
    suppressed: u32,
    altered: Vec<Altered>,
    unseen: Unseen,
    breaks: u32,
    /// Breaks that the user does not want to see.
    ignore: u32,
    /// The user wants to see the next event.
    step: bool,
    /// Nothing is looked at any more.
    relay: bool,
    ended_by_user: bool,
    /// The interrupt that was withheld from a task.
    withheld: Option<i32>,
    /// Processes that one Ctrl-C has yet to reach, although it was answered already.
    echoes: Vec<Pid>,
}

impl Session {
    /// Takes over a target that is about to execute its first program.
    pub fn new(launched: Launched, policy: Policy, all_calls: bool) -> Session {
        Session {
            tracer: launched.tracer,
            table: Table::new(),
            world: World::new(),
            rules: rules(),
            policy,
            sites: Sites::new(),
            tasks: FxHashMap::default(),
            main: launched.tid,
            began: Instant::now(),
            status: None,
            findings: Vec::new(),
            suppressed: 0,
            altered: Vec::new(),
            unseen: Unseen { no_new_privs: launched.no_new_privs, all_calls, ..Unseen::default() },
            breaks: 0,
            ignore: 0,
            step: false,
            relay: false,
            ended_by_user: false,
            withheld: None,
            echoes: Vec::new(),
        }
    }

    /// What is known of the target's descriptors.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What was found so far.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many findings are known to be harmless and were left out.
    pub fn suppressed(&self) -> u32 {
        self.suppressed
    }

    /// The calls whose results were changed.
    pub fn altered(&self) -> &[Altered] {
        &self.altered
    }

    /// What was not seen.
    pub fn unseen(&self) -> Unseen {
        Unseen {
            unknown_stops: self.tracer.unknown_stops(),
            surprises: self.world.surprises(),
            forgotten: self.world.forgotten(),
            python_skipped: self.sites.python_skipped(),
            ..self.unseen.clone()
        }
    }

    /// Names for the stacks of this session.
    pub fn names(&mut self) -> impl crate::render::Names + '_ {
        names::SessionNames { sites: &mut self.sites }
    }

    /// World and names together, for a report.
    pub fn parts(&mut self) -> (&World, &[Finding], impl crate::render::Names + '_) {
        (&self.world, &self.findings, names::SessionNames { sites: &mut self.sites })
    }

    /// What the stacks leave out.
    pub fn stack_coverage(&self) -> crate::stack::StackCoverage {
        self.sites.coverage()
    }

    /// What the Python stacks leave out.
    pub fn python_coverage(&self) -> &crate::stack::lang::python::Coverage {
        self.sites.python_coverage()
    }

    /// Runs the target to the end of its last task.
    ///
    /// # Errors
    /// If the kernel refuses what it granted before. The target is then killed as this process ends
    /// (PTRACE_O_EXITKILL).
    pub fn run(&mut self, frontend: &mut dyn Frontend) -> Result<Outcome, Error> {
        loop {
            match self.tracer.next()? {
                Next::End => break,
                Next::Gone(tid, stop) => self.on_gone(tid, stop, frontend),
                Next::Stopped(task, stop) if self.relay => {
                    let how = match stop {
                        Stop::Signal(sig) => Resume::Deliver(sig),
                        Stop::Group(_) => Resume::Listen,
                        _ => Resume::Go,
                    };
                    self.tracer.resume(task, how)?;
                }
                Next::Stopped(task, stop) => match stop {
                    Stop::Seccomp => self.on_entry(task, frontend)?,
                    Stop::Syscall => self.on_call(task, frontend)?,
                    Stop::Fork(_) => self.on_fork(task, frontend)?,
                    Stop::Exec => self.on_exec(task, frontend)?,
                    Stop::Signal(sig) => self.on_signal(task, sig, frontend)?,
                    Stop::Group(sig) => self.on_group_stop(task, sig, frontend)?,
                    _ => self.tracer.resume(task, Resume::Go)?,
                },
            }
        }
        frontend.on_end();
        let status = self.status.unwrap_or(ExitStatus::Signal(libc::SIGKILL));
        Ok(Outcome { status, ended_by_user: self.ended_by_user })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Commits what was decided and lets the rules look at it. Returns the index of the first new finding.
    fn commit(&mut self, event: &Event, transitions: Vec<Transition>, frontend: &mut dyn Frontend) -> usize {
        let changes: Vec<Change> = self.world.commit(event, transitions);
        let first = self.findings.len();
        let seen = Seen { world: &self.world, event, changes: &changes };
        for finding in self.rules.iter_mut().flat_map(|r| r.check(&seen)) {
            match suppression::find(&finding, |stack| self.sites.functions(stack)) {
                Some(known) => {
                    tracing::info!(name = finding.name, reason = known.reason, "suppressed");
                    self.suppressed += 1;
                }
                None => self.findings.push(finding),
            }
        }
        frontend.on_event(&seen, &mut names::SessionNames { sites: &mut self.sites });
        for f in self.findings.get(first..).unwrap_or_default() {
            tracing::info!(name = f.name, title = f.title, "finding");
        }
        first
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
        if self.ignore > 0 {
            self.ignore -= 1;
            return Ok(Decision { keep: false, then: Then::Continue { ignore: 0 } });
        }
        self.tracer.hold()?;
        self.step = false;
        self.breaks += 1;
        let at = make(&self.world, self.breaks);
        let tids = self.tracer.tids().into_iter().map(named).collect::<Vec<_>>();
        let mut names = names::SessionNames { sites: &mut self.sites };
        let view = View {
            world: &self.world,
            findings: &self.findings,
            names: &mut names,
            at: &at,
            tids: &tids,
            altered: &self.altered,
        };
        let decision = frontend.on_break(view);
        match decision.then {
            Then::Continue { ignore } => self.ignore = ignore,
            Then::Next => self.step = true,
            Then::Signal(_) => {}
            Then::Kill => {
                self.ended_by_user = true;
                self.tracer.kill_all();
            }
            Then::Detach => {
                self.relay = true;
                self.unseen.detached = true;
            }
        }
        Ok(decision)
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

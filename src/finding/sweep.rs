//! Who closes all there is: a pure look at events, for causes and not for findings.
//!
//! A child closes what it got before it executes a program: one number after the other in a loop, or a range. Of the
//! loop only the numbers that were open end a life, perhaps one; so the closes of what was not open count, too.

use super::Seen;
use crate::base::{Fd, Pid, PyStackId, StackId, Tid};
use crate::event::{Effect, EventKind, Site};
use crate::model::Change;
use std::collections::{HashMap, HashSet};

/// So many numbers in direct succession from one place are a loop, whether they were open or not.
pub const NUMBERS: usize = 3;
/// Places that are remembered; what comes later is told as explicit closes.
const MAX_PLACES: usize = 1 << 14;

/// What each task closed last: a close of the next number from the same place is a step of a loop.
#[derive(Default)]
pub(super) struct Runs {
    last: HashMap<Tid, (Fd, Place)>,
}

/// A place in the code: two lines of a script have one native stack.
pub(super) type Place = (Option<StackId>, Option<PyStackId>);

impl Runs {
    /// The number that the event closes, if it does, with whether that was refused; and whether it is a step of a loop.
    pub(super) fn step(&mut self, seen: &Seen<'_>) -> (Option<(Fd, bool)>, bool) {
        let tid = seen.event.tid;
        let closing = match &seen.event.kind {
            EventKind::Call(call) => call.effects.iter().find_map(|e| {
                let (fd, refused) = match e {
                    Effect::Close { fd } => (*fd, Some(false)),
                    Effect::Refused { fd, close: true, .. } => (*fd, Some(true)),
                    // A step like the others, and nobody's mistake.
                    Effect::Vain { fd } => (*fd, None),
                    _ => return None,
                };
                Some((fd, (call.site.stack, call.site.py), refused))
            }),
            _ => None,
        };
        let former = self.last.remove(&tid);
        let Some((fd, place, refused)) = closing else { return (None, false) };
        self.last.insert(tid, (fd, place));
        let in_loop = former.is_some_and(|(before, from)| from == place && before.0.abs_diff(fd.0) == 1);
        (refused.map(|refused| (fd, refused)), in_loop)
    }
}

/// Whether the event ends a life that was begun by the call at `at`.
fn ends_twin(seen: &Seen<'_>, at: u64) -> bool {
    let twin = |c: &Change| match c {
        Change::Ended(id) => seen.world.life(*id).is_some_and(|l| l.began.at == at),
        _ => false,
    };
    seen.changes.iter().any(twin)
}

/// Refused closes that are a mistake, or the first step of a loop over all numbers: each waits for what its task does next.
///
/// A close of the next number from the same place makes it a loop. The two ends of a pipe have adjacent numbers, though, and
/// who closes both is in no loop: where the next close ends the other end, the one after it decides.
pub(super) struct Suspects<F> {
    waiting: HashMap<Tid, Suspect<F>>,
}

struct Suspect<F> {
    what: F,
    /// When the life that was closed twice began.
    began: u64,
    /// Whether the other end has been closed since.
    twin_ended: bool,
}

impl<F> Default for Suspects<F> {
    fn default() -> Self {
        Suspects { waiting: HashMap::new() }
    }
}

impl<F> Suspects<F> {
    /// `what` waits; the life that it is about began at `began`.
    pub(super) fn wait(&mut self, tid: Tid, began: u64, what: F) {
        self.waiting.insert(tid, Suspect { what, began, twin_ended: false });
    }

    /// What the event, a step of a loop or not, has shown to be a mistake.
    pub(super) fn judge(&mut self, seen: &Seen<'_>, in_loop: bool) -> Option<F> {
        let tid = seen.event.tid;
        let suspect = self.waiting.remove(&tid)?;
        if !in_loop {
            return Some(suspect.what);
        }
        if !suspect.twin_ended && ends_twin(seen, suspect.began) {
            self.waiting.insert(tid, Suspect { twin_ended: true, ..suspect });
        }
        None
    }

    /// All that waits, in the order of the tasks.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = F> {
        let mut waiting: Vec<_> = self.waiting.drain().collect();
        waiting.sort_by_key(|w| w.0);
        waiting.into_iter().map(|w| w.1.what)
    }
}

/// What came after a child had closed all there was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sweep {
    /// Nothing of note yet.
    AfterFork,
    /// It executed a program.
    BeforeExec,
}

/// A run of closes by one task.
struct Run {
    site: Site,
    numbers: Vec<Fd>,
}

/// The processes that closed all there was, and from where.
#[derive(Default)]
pub struct Sweeps {
    runs: HashMap<Tid, Run>,
    places: HashMap<(Pid, StackId), Sweep>,
    /// Those with a place in `places` that have executed nothing yet.
    forked: HashSet<Pid>,
}

impl Sweeps {
    /// Takes notice of an event.
    pub fn see(&mut self, seen: &Seen<'_>) {
        let tid = seen.event.tid;
        let call = match &seen.event.kind {
            EventKind::Call(call) => call,
            EventKind::Exec { former, .. } => {
                self.runs.remove(former);
                self.end(seen, tid);
                return;
            }
            EventKind::Exit { .. } => {
                self.runs.remove(&tid);
                return;
            }
            _ => return,
        };
        let closed = call.effects.iter().find_map(|e| match e {
            Effect::Close { fd } | Effect::Refused { fd, close: true, .. } | Effect::Vain { fd } => Some(*fd),
            _ => None,
        });
        let range = call.effects.iter().any(|e| matches!(e, Effect::CloseRange { mark: false, .. }));
        if closed.is_none() && !range || seen.world.window(tid).is_none() {
            if !self.runs.is_empty() {
                self.runs.remove(&tid);
            }
            return;
        }
        if let Some(fd) = closed {
            let run = self.runs.entry(tid).or_insert_with(|| Run { site: call.site.clone(), numbers: Vec::new() });
            if (run.site.stack, run.site.py) != (call.site.stack, call.site.py) {
                *run = Run { site: call.site.clone(), numbers: Vec::new() };
            }
            if run.numbers.len() < NUMBERS && !run.numbers.contains(&fd) {
                run.numbers.push(fd);
            }
            if run.numbers.len() < NUMBERS {
                return;
            }
        }
        if let (Some(stack), Some(task), true) = (call.site.stack, seen.world.task(tid), self.places.len() < MAX_PLACES)
        {
            self.places.entry((task.pid, stack)).or_insert(Sweep::AfterFork);
            self.forked.insert(task.pid);
        }
    }

    fn end(&mut self, seen: &Seen<'_>, tid: Tid) {
        let Some(task) = seen.world.task(tid) else { return };
        if self.forked.remove(&task.pid) {
            let of = self.places.iter_mut().filter(|((pid, _), _)| *pid == task.pid);
            of.for_each(|(_, sweep)| *sweep = Sweep::BeforeExec);
        }
    }

    /// Whether `pid` closed all there was from this stack.
    pub fn of(&self, pid: Pid, stack: StackId) -> Option<Sweep> {
        self.places.get(&(pid, stack)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MAIN, Script};
    use super::*;
    use crate::event::{Call, CallInfo, Event, Program};

    /// Process 200 is forked and closes these numbers from stack 7.
    fn closes(s: &mut Script, numbers: &[i32]) -> Sweeps {
        let mut sweeps = Sweeps::default();
        s.fork(MAIN, 200);
        for &n in numbers {
            let fd = Fd(n);
            let open = s.world.open_life(Tid(200), fd).is_some();
            let effect = if open { Effect::Close { fd } } else { Effect::Vain { fd } };
            let info = CallInfo { name: "close", args: [n as u64, 0, 0, 0, 0, 0], ret: Some(0) };
            let site = Site { stack: Some(StackId(7)), ..Site::default() };
            let kind = EventKind::Call(Call { info, effects: vec![effect], site });
            sweeps.see(&Seen { world: &s.world, event: &Event { at: 9, tid: Tid(200), kind }, changes: &[] });
        }
        sweeps
    }

    #[test]
    fn a_loop_in_a_child_is_one_although_it_finds_a_single_number_open() {
        let mut s = Script::new();
        s.open(MAIN, 4, "/tmp/a");
        let mut sweeps = closes(&mut s, &[3, 4, 5]);
        assert_eq!(sweeps.of(Pid(200), StackId(7)), Some(Sweep::AfterFork));
        assert_eq!(sweeps.of(Pid(100), StackId(7)), None);
        let kind = EventKind::Exec { former: Tid(200), program: Program::default() };
        sweeps.see(&Seen { world: &s.world, event: &Event { at: 10, tid: Tid(200), kind }, changes: &[] });
        assert_eq!(sweeps.of(Pid(200), StackId(7)), Some(Sweep::BeforeExec));
    }

    #[test]
    fn two_closes_or_the_same_number_again_are_none() {
        let mut s = Script::new();
        assert_eq!(closes(&mut s, &[3, 4, 4, 3]).of(Pid(200), StackId(7)), None);
    }
}

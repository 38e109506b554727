//! Calls that are being made while others change the same table.
//!
//! The order in which tasks report what they did is not the order in which the kernel did it. In a table of one task that
//! makes no difference. In a shared one it decides what a number is afterwards: one thread closes 7 while another makes 7
//! a copy of 5, and whoever came second has won. Nothing that is reported tells who that was, so such a number is *in
//! doubt*, until nobody is at it any more and the kernel's own table can be asked.
//!
//! A task cannot begin such a call without a stop of its own, so the calls in flight are known to the last one, and every
//! number that none of them can touch is what the model says it is.

use super::world::World;
use crate::base::{Fd, TableId, Tid};
use crate::event::Effect;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;

/// What a call may do to its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Touch {
    /// It empties or marks these numbers, both included.
    Numbers(Fd, Fd),
    /// It puts something else at this number, or fills it.
    Puts(Fd),
    /// It fills a number that is empty, whichever.
    Fill,
}

impl Touch {
    fn of(effect: &Effect) -> Option<Touch> {
        Some(match effect {
            Effect::Open { fd, .. } | Effect::Receive { fd, .. } | Effect::Alias { to: fd, .. } => Touch::Puts(*fd),
            Effect::Close { fd } | Effect::Cloexec { fd, .. } => Touch::Numbers(*fd, *fd),
            // The kernel refuses it (EINVAL).
            Effect::CloseRange { first, last, .. } if first > last => return None,
            Effect::CloseRange { first, last, .. } => {
                let number = |n: u32| Fd(i32::try_from(n).unwrap_or(i32::MAX));
                Touch::Numbers(number(*first), number(*last))
            }
            Effect::Unshare
            | Effect::Refused { .. }
            | Effect::Vain { .. }
            | Effect::NotExecuted { .. }
            | Effect::Altered { .. } => return None,
        })
    }

    /// The numbers that it names, the first and the last.
    fn range(self) -> Option<(Fd, Fd)> {
        match self {
            Touch::Numbers(first, last) => Some((first, last)),
            Touch::Puts(fd) => Some((fd, fd)),
            Touch::Fill => None,
        }
    }

    fn meets(self, other: Touch) -> bool {
        self.range().zip(other.range()).is_some_and(|((a, b), (c, d))| a <= d && c <= b)
    }
}

#[derive(Debug)]
struct Flight {
    table: TableId,
    since: u64,
    touches: Vec<Touch>,
    /// It was committed at its entry, and nobody will tell when the kernel has carried it out.
    committed: bool,
}

/// A change that was made while a call was in flight in the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Recent {
    table: TableId,
    tid: Tid,
    touch: Touch,
    /// It filled a number that was empty.
    fills: bool,
}

/// How many different ones are remembered; beyond that everything is in doubt.
const RECENT: usize = 4096;

/// The numbers of a table that the model cannot be sure of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// These.
    pub numbers: BTreeSet<Fd>,
    /// Any number may have been filled, or any of a range emptied.
    pub all: bool,
    /// Of a copy of a table: what ended in the original at this time or later may be in the copy. In nanoseconds since
    /// fdwatch started watching.
    pub since: Option<u64>,
}

impl Doubt {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty() && !self.all
    }

    fn add(&mut self, touch: Touch) {
        match touch.range() {
            Some((a, b)) if a == b => {
                self.numbers.insert(a);
            }
            _ => self.all = true,
        }
    }
}

/// What was asked and could not be decided is asked again when a call that is at it is over, or else after ever more stops:
/// with a thousand threads there are a thousand numbers in doubt at times.
#[derive(Debug, Default)]
struct Patience {
    stirred: bool,
    left: u32,
    next: u32,
}

/// After so many stops what is in doubt is asked again in any case.
const PATIENCE: u32 = 1024;

/// The calls in flight in tables that more than one task has, and the numbers in doubt.
#[derive(Debug, Default)]
pub struct Flights {
    calls: FxHashMap<Tid, Flight>,
    /// What was changed while a call was in flight in the same table, and when last: a call may be in flight for ever.
    recent: FxHashMap<Recent, u64>,
    doubts: FxHashMap<TableId, Doubt>,
    /// How long what cannot be decided yet is let be.
    patience: FxHashMap<TableId, Patience>,
    /// When tasks that share a table stopped last.
    stops: FxHashMap<Tid, u64>,
    /// Until when a call on a number that was committed at its entry may have been carried out, at the latest.
    over: FxHashMap<TableId, FxHashMap<Fd, u64>>,
}

impl Flights {
    /// Whether nothing is in flight and nothing in doubt.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.doubts.is_empty()
    }

    /// A task is about to make a call, of which its arguments tell `effects`; none means that it may fill any number.
    /// `committed`: its effects are committed now, not when it is over.
    pub fn enter(&mut self, world: &World, tid: Tid, effects: &[Effect], committed: bool, at: u64) {
        self.calls.remove(&tid);
        let Some(table) = world.task(tid).filter(|_| self.has_rivals(world, tid)).map(|t| t.table) else { return };
        let mut touches: Vec<Touch> = here(effects).filter_map(Touch::of).collect();
        if touches.is_empty() {
            touches.push(Touch::Fill);
        }
        self.calls.insert(tid, Flight { table, since: at, touches, committed });
        if committed {
            self.committed(world, tid, effects, at);
        }
    }

    /// The effects of a call are committed. Whatever somebody else may have changed meanwhile is in doubt from now on.
    pub fn committed(&mut self, world: &World, tid: Tid, effects: &[Effect], at: u64) {
        // Who shared the table when the call began may be gone by now.
        let began = self.calls.get(&tid).map(|f| f.table);
        let Some(table) = began.or_else(|| shared(world, tid)) else { return };
        let since = self.calls.get(&tid).map_or(at, |f| f.since);
        let others: Vec<Tid> =
            self.calls.iter().filter(|(t, f)| **t != tid && f.table == table).map(|(t, _)| *t).collect();
        for effect in here(effects) {
            let Some(touch) = Touch::of(effect) else { continue };
            let fills = matches!(effect, Effect::Open { .. } | Effect::Receive { .. });
            let mut met = false;
            // Two may be about to empty a number that was filled just now: which one has been there is not known.
            let at_it = |t: &&Tid| self.calls.get(*t).is_some_and(|f| f.touches.iter().any(|t| t.meets(touch)));
            let several = others.iter().filter(at_it).count() > 1;
            for other in &others {
                let Some(flight) = self.calls.get_mut(other) else { continue };
                let meets = flight.touches.iter().any(|t| t.meets(touch));
                // What fills a number finds it empty: the close of it that was told before is over, unless somebody else
                // has emptied it meanwhile.
                let emptied = |(r, at): (&Recent, &u64)| {
                    r.table == table && r.tid != *other && *at >= flight.since && !r.fills && r.touch.meets(touch)
                };
                if meets && flight.committed && fills && !several && !self.recent.iter().any(emptied) {
                    flight.touches.retain(|t| !t.meets(touch));
                } else {
                    met |= meets;
                }
            }
            let crossed = self
                .recent
                .iter()
                .any(|(r, at)| r.table == table && r.tid != tid && *at >= since && r.touch.meets(touch));
            // A copy is what its source was when it was made.
            if met || crossed || self.is_uncertain_source(world, tid, since, effect) {
                self.doubts.entry(table).or_default().add(touch);
                self.patience.entry(table).or_default().stirred = true;
            }
            if !others.is_empty() {
                self.remember(Recent { table, tid, touch, fills }, at);
            }
        }
    }

    /// Whether a call has copied a number that others may have been changing, or that is not known to be open.
    fn is_uncertain_source(&self, world: &World, tid: Tid, since: u64, effect: &Effect) -> bool {
        let (owner, from) = match effect {
            Effect::Alias { from, .. } => (tid, *from),
            Effect::Receive { from: Some(from), .. } => *from,
            _ => return false,
        };
        let Some(table) = world.task(owner).map(|t| t.table) else { return false };
        let source = Touch::Puts(from);
        world.open_life(owner, from).is_none()
            || self.doubts.get(&table).is_some_and(|d| d.all || d.numbers.contains(&from))
            || self
                .calls
                .iter()
                .any(|(t, f)| *t != tid && f.table == table && f.touches.iter().any(|t| t.meets(source)))
            || self
                .recent
                .iter()
                .any(|(r, at)| r.table == table && r.tid != tid && *at >= since && r.touch.meets(source))
    }

    /// When the call began that a task is in, if others share its table.
    pub fn since(&self, tid: Tid) -> Option<u64> {
        self.calls.get(&tid).map(|f| f.since)
    }

    /// Whether somebody else may have emptied `fd` while the task was in the call that it is in.
    pub fn may_have_emptied(&self, tid: Tid, fd: Fd) -> bool {
        let Some(Flight { table, since, .. }) = self.calls.get(&tid) else { return false };
        let touch = Touch::Puts(fd);
        let doubted = self.doubts.get(table).is_some_and(|d| d.all || d.numbers.contains(&fd));
        let in_flight =
            |(t, f): (&Tid, &Flight)| *t != tid && f.table == *table && f.touches.iter().any(|t| t.meets(touch));
        let met = |(r, at): (&Recent, &u64)| {
            r.table == *table && r.tid != tid && *at >= *since && !r.fills && r.touch.meets(touch)
        };
        doubted || self.calls.iter().any(in_flight) || self.recent.iter().any(met)
    }

    /// The call of a task is over, or never came to be.
    pub fn leave(&mut self, tid: Tid) {
        let Some(flight) = self.calls.remove(&tid) else { return };
        let meets = |touch: &Touch, doubt: &Doubt| match touch.range() {
            Some((a, b)) if !doubt.all => doubt.numbers.range(a..=b).next().is_some(),
            _ => true,
        };
        if self.doubts.get(&flight.table).is_some_and(|d| flight.touches.iter().any(|t| meets(t, d))) {
            self.patience.entry(flight.table).or_default().stirred = true;
        }
        let oldest = self.calls.values().filter(|f| f.table == flight.table).map(|f| f.since).min().unwrap_or(u64::MAX);
        // What came before the oldest of those that are left was kept for this one, if it was older.
        if flight.since < oldest {
            self.recent.retain(|r, at| r.table != flight.table || *at >= oldest);
        }
    }

    fn remember(&mut self, change: Recent, at: u64) {
        self.recent.insert(change, at);
        if self.recent.len() > RECENT {
            for table in self.recent.drain().map(|(r, _)| r.table) {
                self.doubts.entry(table).or_default().all = true;
                self.patience.entry(table).or_default().stirred = true;
            }
        }
    }

    /// `former` has executed a program, and has the number `tid` from now on.
    pub fn executed(&mut self, former: Tid, tid: Tid) {
        self.leave(former);
        if former != tid {
            self.stops.remove(&former);
        }
    }

    /// A task goes on from a stop.
    pub fn resumed(&mut self, world: &World, tid: Tid, at: u64) {
        if shared(world, tid).is_some() {
            self.stops.insert(tid, at);
        }
    }

    /// A task has stopped, or sleeps: a call of it that was committed at its entry is over. When, since then, nobody knows:
    /// a call that others began meanwhile, and have yet to tell, may have come before it.
    pub fn stopped(&mut self, tid: Tid, at: u64) {
        let Some(Flight { table, touches, committed: true, .. }) = self.calls.get(&tid) else { return };
        let table = *table;
        for touch in touches.clone() {
            self.remember(Recent { table, tid, touch, fills: false }, at);
            if let Some((fd, last)) = touch.range()
                && fd == last
            {
                self.over.entry(table).or_default().insert(fd, at);
            }
        }
        self.leave(tid);
    }

    /// The call of a task is over, and what it did will not be told.
    pub fn lost(&mut self, world: &World, tid: Tid) {
        if let Some(flight) = self.calls.get(&tid)
            && world.table(flight.table).is_some_and(|t| t.tasks() > 0)
        {
            let doubt = self.doubts.entry(flight.table).or_default();
            flight.touches.iter().for_each(|t| doubt.add(*t));
            self.patience.entry(flight.table).or_default().stirred = true;
        }
        self.leave(tid);
    }

    /// A task is gone, perhaps in the middle of a call.
    pub fn gone(&mut self, world: &World, tid: Tid) {
        self.lost(world, tid);
        self.stops.remove(&tid);
        self.doubts.retain(|table, _| world.table(*table).is_some_and(|t| t.tasks() > 0));
        self.patience.retain(|table, _| self.doubts.contains_key(table));
        self.over.retain(|table, _| world.table(*table).is_some_and(|t| t.tasks() > 1));
    }

    /// The tasks whose calls were committed at their entry and are not known to be over, in the tables with doubts.
    pub fn unconfirmed(&self, table: TableId) -> Vec<Tid> {
        self.calls.iter().filter(|(_, f)| f.table == table && f.committed).map(|(t, _)| *t).collect()
    }

    /// Whether a call in flight may be changing `fd` of `table` just now; it may be emptied, replaced, marked, or, being
    /// empty, be filled.
    pub fn is_touched(&self, table: TableId, fd: Fd, is_open: bool) -> bool {
        self.at(table).any(|t| t.range().map_or(!is_open, |(a, b)| (a..=b).contains(&fd)))
    }

    /// What the calls in flight in a table may do.
    fn at(&self, table: TableId) -> impl Iterator<Item = Touch> {
        self.calls.values().filter(move |f| f.table == table).flat_map(|f| f.touches.iter().copied())
    }

    /// Whether calls in flight may have put something else at `fd` of `table`, which is open: by one call, or by one that
    /// empties it and another that fills it.
    pub fn is_being_replaced(&self, table: TableId, fd: Fd) -> bool {
        let at = Touch::Puts(fd);
        let emptied = || self.at(table).any(|t| t.meets(at));
        self.at(table).any(|t| t == at || t == Touch::Fill && emptied())
    }

    /// Whether what the model says of `fd` of `table` may be wrong at this moment.
    pub fn is_in_doubt(&self, table: TableId, fd: Fd, is_open: bool) -> bool {
        let doubted = self.doubts.get(&table).is_some_and(|d| d.all || d.numbers.contains(&fd));
        doubted || self.is_touched(table, fd, is_open)
    }

    /// Takes what is in doubt of a table, to be asked of the kernel; `None`, too, if it could not be decided a short while
    /// ago. What cannot be decided yet has to be given back.
    pub fn take(&mut self, table: TableId) -> Option<Doubt> {
        if !self.doubts.contains_key(&table) {
            return None;
        }
        let patience = self.patience.entry(table).or_default();
        if std::mem::take(&mut patience.stirred) {
            *patience = Patience::default();
        } else if patience.left > 0 {
            patience.left -= 1;
            return None;
        }
        patience.next = (2 * patience.next).clamp(1, PATIENCE);
        patience.left = patience.next;
        self.doubts.remove(&table)
    }

    /// Takes out of `doubt` the numbers that no call in flight is at: these can be decided.
    pub fn decidable(&self, world: &World, table: TableId, doubt: &mut Doubt) -> BTreeSet<Fd> {
        let mut busy: BTreeSet<Fd> = BTreeSet::new();
        let mut filled = false;
        for touch in self.calls.values().filter(|f| f.table == table).flat_map(|f| &f.touches) {
            match touch.range() {
                Some((a, b)) => busy.extend(doubt.numbers.range(a..=b)),
                None => filled = true,
            }
        }
        let open = |fd: &Fd| world.table(table).is_some_and(|t| t.is_open(*fd));
        let (ready, waiting) =
            std::mem::take(&mut doubt.numbers).into_iter().partition(|fd| !busy.contains(fd) && (!filled || open(fd)));
        doubt.numbers = waiting;
        ready
    }

    /// Gives back what is still in doubt.
    pub fn put_back(&mut self, table: TableId, doubt: Doubt) {
        if !doubt.is_empty() {
            let kept = self.doubts.entry(table).or_default();
            kept.all |= doubt.all;
            kept.numbers.extend(doubt.numbers);
        }
    }

    /// What was given back is to be asked at the next stop already.
    pub fn ask_again(&mut self, table: TableId) {
        self.patience.entry(table).or_default().stirred = true;
    }

    /// Whether others have the table of `tid`, too, had it when the call that it is in began, or have left it in doubt when
    /// they went.
    pub fn has_rivals(&self, world: &World, tid: Tid) -> bool {
        let doubted = || world.task(tid).is_some_and(|t| self.doubts.contains_key(&t.table));
        world.shares_table(tid) || self.calls.contains_key(&tid) || doubted()
    }

    /// Of which numbers a copy that `tid` has just made of its table may have another object than the model: what is in
    /// doubt, what a call in flight may be replacing, and what has changed since the last stop of `tid`, because the copy
    /// is from a moment after that. What was filled or emptied meanwhile is open in the one and not in the other.
    pub fn snapshot(&self, world: &World, tid: Tid) -> Doubt {
        if !self.has_rivals(world, tid) {
            return Doubt::default();
        }
        let Some(table) = world.task(tid).map(|t| t.table) else { return Doubt::default() };
        let mut doubt = self.doubts.get(&table).cloned().unwrap_or_default();
        let since = self.stops.get(&tid).copied().unwrap_or(0);
        doubt.numbers.extend(world.changed_since(table, since));
        // A call that was told before may have been carried out after the copy was made.
        let over = self.over.get(&table).into_iter().flatten();
        doubt.numbers.extend(over.filter(|(_, at)| **at >= since).map(|(fd, _)| *fd));
        doubt.since = Some(since);
        for flight in self.calls.values().filter(|f| f.table == table) {
            flight.touches.iter().filter(|t| **t != Touch::Fill).for_each(|t| doubt.add(*t));
        }
        doubt
    }
}

/// The effects on the table that the task has now: what follows an unshare is done to the copy.
fn here(effects: &[Effect]) -> impl Iterator<Item = &Effect> {
    effects.iter().take_while(|e| **e != Effect::Unshare)
}

/// The table of a task, if others have it, too.
fn shared(world: &World, tid: Tid) -> Option<TableId> {
    let table = world.task(tid)?.table;
    (world.table(table)?.tasks() > 1).then_some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Pid;
    use crate::event::{Event, EventKind, Fork, Found, NewFile, Present, Program, Site, Start};

    const A: Tid = Tid(1);
    const B: Tid = Tid(2);
    const C: Tid = Tid(3);

    /// Two threads with one table, in which 5 is open.
    fn world() -> World {
        let mut w = World::new();
        let five = Present { fd: Fd(5), cloexec: false, file: NewFile::from_link(vec![], 0), same_as: None };
        let start = Start { pid: Pid(1), parent: None, program: Program::default(), table: Found::Own(vec![five]) };
        let fork = Fork {
            child: B,
            child_pid: Pid(1),
            shares_files: true,
            shares_memory: false,
            site: Site::default(),
            held: vec![],
            plumbing: vec![],
        };
        for kind in [EventKind::Start(start), EventKind::Fork(fork)] {
            let event = Event { at: 0, tid: A, kind };
            let t = w.consequences(&event);
            w.commit(&event, t);
        }
        w
    }

    fn table(w: &World) -> TableId {
        w.task(A).unwrap().table
    }

    fn close(fd: i32) -> [Effect; 1] {
        [Effect::Close { fd: Fd(fd) }]
    }

    fn open(fd: i32) -> [Effect; 1] {
        [Effect::Open { fd: Fd(fd), cloexec: false, file: NewFile::from_link(vec![], 0) }]
    }

    fn dup2(from: i32, to: i32) -> [Effect; 1] {
        [Effect::Alias { from: Fd(from), to: Fd(to), cloexec: false }]
    }

    fn doubts(f: &Flights, w: &World) -> Vec<i32> {
        f.doubts.get(&table(w)).map(|d| d.numbers.iter().map(|n| n.0).collect()).unwrap_or_default()
    }

    #[test]
    fn a_dup2_over_a_number_that_another_thread_is_closing_is_in_doubt() {
        let (w, mut f) = (world(), Flights::default());
        f.enter(&w, A, &close(7), true, 1);
        f.enter(&w, B, &dup2(5, 7), false, 2);
        f.committed(&w, B, &dup2(5, 7), 3);
        f.leave(B);
        assert_eq!(doubts(&f, &w), [7]);
        assert!(f.is_touched(table(&w), Fd(7), true), "the close may still come");
        f.stopped(A, 4);
        assert!(!f.is_touched(table(&w), Fd(7), true));
        assert!(f.take(table(&w)).is_some_and(|d| d.numbers.contains(&Fd(7))));
        assert!(f.is_idle() && f.recent.is_empty());
    }

    #[test]
    fn a_number_that_is_reused_while_its_close_is_being_carried_out_is_certain() {
        let (w, mut f) = (world(), Flights::default());
        f.enter(&w, A, &close(7), true, 1);
        f.enter(&w, B, &[], false, 2);
        f.committed(&w, B, &open(7), 3);
        f.leave(B);
        assert!(doubts(&f, &w).is_empty());
        assert!(!f.is_touched(table(&w), Fd(7), true), "the close is over, or the number would not have been free");
    }

    #[test]
    fn a_number_that_a_third_hand_emptied_says_nothing_of_a_close_that_was_told_before() {
        let (w, mut f) = (world(), Flights::default());
        f.enter(&w, A, &close(7), true, 1);
        f.enter(&w, B, &close(7), false, 2);
        f.committed(&w, B, &close(7), 3);
        f.leave(B);
        f.take(table(&w));
        f.enter(&w, B, &[], false, 4);
        f.committed(&w, B, &open(7), 5);
        f.leave(B);
        assert_eq!(doubts(&f, &w), [7], "A's close may still come, and meet what B opened");
    }

    #[test]
    fn a_number_that_two_were_about_to_empty_may_be_emptied_once_more() {
        let (mut w, mut f) = (world(), Flights::default());
        let fork = Fork {
            child: C,
            child_pid: Pid(1),
            shares_files: true,
            shares_memory: false,
            site: Site::default(),
            held: vec![],
            plumbing: vec![],
        };
        let event = Event { at: 0, tid: A, kind: EventKind::Fork(fork) };
        let t = w.consequences(&event);
        w.commit(&event, t);
        f.enter(&w, A, &close(7), true, 1);
        f.enter(&w, C, &[Effect::CloseRange { first: 6, last: 8, mark: false }], false, 2);
        f.enter(&w, B, &[], false, 3);
        f.committed(&w, B, &open(7), 4);
        f.leave(B);
        assert_eq!(doubts(&f, &w), [7], "either has made room for it, and the other is still to come");
    }

    #[test]
    fn a_close_may_be_carried_out_after_a_call_that_began_and_is_told_later() {
        let (w, mut f) = (world(), Flights::default());
        f.enter(&w, A, &close(7), true, 1);
        f.enter(&w, B, &dup2(5, 7), false, 2);
        f.stopped(A, 3);
        f.committed(&w, B, &dup2(5, 7), 4);
        f.leave(B);
        assert_eq!(doubts(&f, &w), [7]);
        f.take(table(&w));
        f.enter(&w, A, &close(7), true, 5);
        f.stopped(A, 6);
        f.enter(&w, B, &dup2(5, 7), false, 7);
        f.committed(&w, B, &dup2(5, 7), 8);
        f.leave(B);
        assert!(f.is_idle() && f.recent.is_empty(), "the close was over when dup2 began");
    }

    #[test]
    fn a_call_of_which_nothing_will_be_told_leaves_doubt() {
        let (w, mut f) = (world(), Flights::default());
        f.enter(&w, A, &dup2(5, 7), false, 1);
        f.lost(&w, A);
        assert_eq!(doubts(&f, &w), [7]);
        f.enter(&w, B, &[], false, 2);
        f.lost(&w, B);
        assert!(f.take(table(&w)).unwrap().all);
    }

    #[test]
    fn a_close_that_comes_between_an_open_and_its_report_is_in_doubt() {
        let (w, mut f) = (world(), Flights::default());
        f.enter(&w, B, &[], false, 1);
        f.enter(&w, A, &close(7), false, 2);
        f.committed(&w, A, &close(7), 3);
        f.leave(A);
        f.committed(&w, B, &open(7), 4);
        f.leave(B);
        assert_eq!(doubts(&f, &w), [7]);
    }

    #[test]
    fn only_who_puts_something_there_replaces_an_open_number() {
        let (w, mut f) = (world(), Flights::default());
        let id = table(&w);
        f.enter(&w, A, &close(7), true, 1);
        assert!(f.is_touched(id, Fd(7), true) && !f.is_being_replaced(id, Fd(7)), "empty, or what it was");
        f.enter(&w, B, &[], false, 2);
        assert!(f.is_being_replaced(id, Fd(7)), "B may fill what A has emptied");
        assert!(!f.is_being_replaced(id, Fd(5)), "nobody empties it");
        f.enter(&w, B, &dup2(5, 9), false, 3);
        assert!(f.is_being_replaced(id, Fd(9)) && !f.is_being_replaced(id, Fd(7)));
    }

    #[test]
    fn what_one_thread_does_alone_is_certain() {
        let (w, mut f) = (world(), Flights::default());
        f.enter(&w, A, &dup2(5, 7), false, 1);
        f.committed(&w, A, &dup2(5, 7), 2);
        f.leave(A);
        f.enter(&w, A, &close(7), true, 3);
        f.stopped(A, 4);
        assert!(f.is_idle());
    }

    #[test]
    fn a_task_that_dies_in_a_call_leaves_doubt() {
        let (mut w, mut f) = (world(), Flights::default());
        f.enter(&w, B, &dup2(5, 7), false, 1);
        let event = Event { at: 2, tid: B, kind: EventKind::Exit { status: crate::event::ExitStatus::Signal(9) } };
        let t = w.consequences(&event);
        w.commit(&event, t);
        f.gone(&w, B);
        assert_eq!(doubts(&f, &w), [7]);
        assert!(!f.is_touched(table(&w), Fd(7), true));
    }

    #[test]
    fn a_copy_of_what_another_thread_is_making_is_in_doubt() {
        let (w, mut f) = (world(), Flights::default());
        f.enter(&w, A, &[], false, 1);
        f.enter(&w, B, &dup2(6, 7), false, 2);
        // 6 is not known to be open: the call of A has made it, and is told later.
        f.committed(&w, B, &dup2(6, 7), 3);
        f.leave(B);
        assert_eq!(doubts(&f, &w), [7]);
    }

    #[test]
    fn what_was_changed_by_a_thread_that_is_gone_is_in_doubt_when_the_last_one_tells() {
        let (mut w, mut f) = (world(), Flights::default());
        f.enter(&w, A, &[], false, 1);
        f.enter(&w, B, &dup2(5, 7), false, 2);
        f.committed(&w, B, &dup2(5, 7), 3);
        f.leave(B);
        f.take(table(&w));
        let event = Event { at: 4, tid: B, kind: EventKind::Exit { status: crate::event::ExitStatus::Signal(9) } };
        let t = w.consequences(&event);
        w.commit(&event, t);
        f.gone(&w, B);
        f.committed(&w, A, &open(7), 5);
        assert_eq!(doubts(&f, &w), [7]);
    }

    #[test]
    fn what_the_dead_left_in_doubt_is_no_mystery_to_who_is_left() {
        let (mut w, mut f) = (world(), Flights::default());
        f.enter(&w, A, &close(5), true, 1);
        f.enter(&w, B, &[], false, 2);
        let event = Event { at: 3, tid: B, kind: EventKind::Exit { status: crate::event::ExitStatus::Signal(9) } };
        let t = w.consequences(&event);
        w.commit(&event, t);
        f.gone(&w, B);
        f.stopped(A, 4);
        assert!(!w.shares_table(A) && f.has_rivals(&w, A) && f.snapshot(&w, A).all);
        f.take(table(&w));
        assert!(!f.has_rivals(&w, A) && f.snapshot(&w, A).is_empty());
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_none() {
        let (w, mut f) = (world(), Flights::default());
        f.enter(&w, A, &[Effect::CloseRange { first: 9, last: 3, mark: false }], false, 1);
        f.enter(&w, B, &close(7), true, 2);
        let mut doubt = Doubt { numbers: [Fd(5), Fd(7)].into(), ..Doubt::default() };
        assert_eq!(f.decidable(&w, table(&w), &mut doubt), [Fd(5)].into());
        assert_eq!(doubt.numbers, [Fd(7)].into(), "somebody is at it");
        f.leave(A);
    }

    #[test]
    fn ranges_meet() {
        let (w, mut f) = (world(), Flights::default());
        let range = [Effect::CloseRange { first: 3, last: u32::MAX, mark: false }];
        f.enter(&w, A, &range, false, 1);
        f.enter(&w, B, &[], false, 2);
        f.committed(&w, B, &open(9), 3);
        f.leave(B);
        assert_eq!(doubts(&f, &w), [9]);
        f.committed(&w, A, &range, 4);
        f.leave(A);
        assert!(f.take(table(&w)).unwrap().all);
    }
}

//! Which calls of functions are going on in each task, and in which of them the lives of a number began.
//!
//! The code that starts a child opens pipes of its own, and those take the numbers that just became free. What a number was
//! before was opened outside the call that starts the child, its own pipe inside. The names of the functions do not tell that
//! (a helper may be called twice): what tells it is whether it is the same call, by where its frame lies and where it returns
//! to. And a frame that was seen to be gone in between is not the same any more, though the next one may look like it.

use crate::base::{Fd, Pid, Tid};
use crate::event::{Frames, Plumbing};
use crate::stack::{Key, Keys};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::rc::Rc;

/// So many lives of one number are remembered.
const LIVES: usize = 8;
/// And so many calls of functions in all, of all processes: what began first is forgotten first. At 16 bytes each these are
/// four megabytes at most.
const CALLS: usize = 1 << 18;
/// What is remembered of a life besides weighs as much as so many of them.
const LIFE: usize = 8;

/// What goes on, outermost first: what a frame looks like, and which one it is.
type Chain = Rc<[(Key, u64)]>;

#[derive(Clone, Default)]
struct Going {
    native: Option<Chain>,
    python: Option<Chain>,
    /// So many of the native ones, from the outermost on, reach to the innermost that is no system library's.
    own: usize,
}

struct Opening {
    at: u64,
    tid: Tid,
    inside: Going,
    /// Counts the lives that are remembered.
    nth: u64,
}

impl Opening {
    fn weight(&self) -> usize {
        let length = |chain: &Option<Chain>| chain.as_ref().map_or(0, |c| c.len());
        LIFE + length(&self.inside.native) + length(&self.inside.python)
    }
}

/// What goes on in each task, and what lives began in.
pub(super) struct Activations {
    tasks: FxHashMap<Tid, Going>,
    /// By number, the oldest life first.
    numbers: FxHashMap<Pid, FxHashMap<Fd, VecDeque<Opening>>>,
    /// The lives that are remembered, the oldest first; some are forgotten already.
    order: VecDeque<(Pid, Fd, u64)>,
    /// How many they are, and what they weigh.
    lives: usize,
    weight: usize,
    /// What they may weigh.
    most: usize,
    /// Lives that were forgotten because of it.
    forgotten: u64,
    next: u64,
}

impl Default for Activations {
    fn default() -> Activations {
        Activations {
            tasks: FxHashMap::default(),
            numbers: FxHashMap::default(),
            order: VecDeque::new(),
            lives: 0,
            weight: 0,
            most: CALLS,
            forgotten: 0,
            next: 0,
        }
    }
}

impl Activations {
    /// A task was looked at, and these calls go on in it; of what was not seen whole nothing is said.
    ///
    /// `own` of the native ones, from the outermost on, reach to the innermost that is no system library's.
    pub(super) fn see(&mut self, tid: Tid, native: Option<Keys>, python: Option<Keys>, own: usize) {
        let now = self.tasks.entry(tid).or_default();
        now.own = own;
        for (chain, keys) in [(&mut now.native, native), (&mut now.python, python)] {
            let Some(keys) = keys else {
                *chain = None;
                continue;
            };
            let before = chain.take().unwrap_or_default();
            let same = before.iter().zip(&keys).take_while(|(b, key)| b.0 == **key).count();
            let fresh = keys.iter().skip(same).map(|key| {
                self.next += 1;
                (*key, self.next)
            });
            *chain = Some(before.iter().take(same).copied().chain(fresh).collect());
        }
    }

    /// A life began on `fd`, by the call that `tid` was just looked at in.
    pub(super) fn opened(&mut self, pid: Pid, tid: Tid, fd: Fd, at: u64) {
        let Some(inside) = self.tasks.get(&tid).cloned() else { return };
        self.next += 1;
        let new = Opening { at, tid, inside, nth: self.next };
        self.lives += 1;
        self.weight += new.weight();
        self.order.push_back((pid, fd, new.nth));
        let lives = self.numbers.entry(pid).or_default().entry(fd).or_default();
        let least = (lives.len() >= LIVES).then(|| lives.pop_front()).flatten();
        lives.push_back(new);
        least.into_iter().for_each(|l| self.is_gone(&l));
        while self.weight > self.most {
            let Some((pid, fd, nth)) = self.order.pop_front() else { break };
            self.forget_life(pid, fd, nth);
        }
        // What a number had too many of is in the order still.
        if self.order.len() > 2 * self.lives + 64 {
            let numbers = &self.numbers;
            self.order.retain(|(pid, fd, nth)| {
                let lives = numbers.get(pid).and_then(|n| n.get(fd));
                lives.is_some_and(|l| l.front().is_some_and(|first| first.nth <= *nth))
            });
        }
    }

    fn is_gone(&mut self, life: &Opening) {
        self.lives -= 1;
        self.weight -= life.weight();
    }

    /// Forgets the oldest life of a number, if it is this.
    fn forget_life(&mut self, pid: Pid, fd: Fd, nth: u64) {
        let Some(numbers) = self.numbers.get_mut(&pid) else { return };
        let Some(lives) = numbers.get_mut(&fd) else { return };
        if lives.front().is_none_or(|l| l.nth != nth) {
            return;
        }
        let Some(life) = lives.pop_front() else { return };
        if lives.is_empty() {
            numbers.remove(&fd);
        }
        self.forgotten += 1;
        self.is_gone(&life);
    }

    /// How many lives were forgotten to bound memory, other than because their number had too many.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The numbers that were something else before `tid`, which is making a child, took them for itself.
    pub(super) fn plumbing(&self, pid: Pid, tid: Tid) -> Vec<Plumbing> {
        let Some(now) = self.tasks.get(&tid) else { return Vec::new() };
        let numbers = self.numbers.get(&pid).into_iter().flatten();
        let mut out: Vec<Plumbing> = numbers.filter_map(|(fd, lives)| plumbing(now, tid, *fd, lives)).collect();
        out.sort_unstable_by_key(|p| p.fd);
        out
    }

    /// A process is gone or has executed another program.
    pub(super) fn forget(&mut self, pid: Pid) {
        for life in self.numbers.remove(&pid).into_iter().flat_map(|n| n.into_values()).flatten() {
            self.is_gone(&life);
        }
    }

    /// A task is gone, or runs another program.
    pub(super) fn forget_task(&mut self, tid: Tid) {
        self.tasks.remove(&tid);
    }
}

fn plumbing(now: &Going, tid: Tid, fd: Fd, lives: &VecDeque<Opening>) -> Option<Plumbing> {
    let mut lives = lives.iter().rev();
    let latest = lives.next().filter(|l| l.tid == tid)?;
    let chains = |going: &Going, by| match by {
        Frames::Native => going.native.clone(),
        Frames::Python => going.python.clone(),
    };
    // Python's frames say more: up to a hundred of them are one native frame.
    [Frames::Python, Frames::Native].into_iter().find_map(|by| {
        let own = if by == Frames::Native { now.own } else { usize::MAX };
        let now = chains(now, by)?;
        // What the latest shares with the spawning code are the very same calls, that which makes the child among them: what
        // its callers opened may be what they hand to it.
        let depth = shared(&chains(&latest.inside, by)?, &now, |a, b| a == b);
        if depth == 0 || depth < own.min(now.len()) {
            return None;
        }
        // Of a former one it is enough that it looks so: what was seen to be gone in between may have been a coroutine that
        // another one interrupted.
        let is_outside = |l: &&Opening| match l.tid == tid {
            true => chains(&l.inside, by).is_some_and(|inside| shared(&inside, &now, |a, b| a.0 == b.0) < depth),
            false => true,
        };
        let outside: Vec<u64> = lives.clone().filter(is_outside).map(|l| l.at).collect();
        (!outside.is_empty()).then_some(Plumbing { fd, at: latest.at, outside, by })
    })
}

/// How many of the outermost calls are the same.
fn shared(a: &Chain, b: &Chain, same: impl Fn(&(Key, u64), &(Key, u64)) -> bool) -> usize {
    a.iter().zip(b.iter()).take_while(|(a, b)| same(a, b)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Pid = Pid(1);
    const T: Tid = Tid(1);
    const MAIN: u64 = 1;
    const SPAWN: u64 = 2;

    /// Who opened number 3, one after the other, and then forked: when which of the lives were opened outside.
    fn told(script: &[&[u64]]) -> Option<(u64, Vec<u64>)> {
        let mut a = Activations::default();
        for (at, keys) in (0..).zip(script) {
            a.see(T, Some(keys.to_vec()), None, keys.len() - 1);
            if at + 1 < script.len() as u64 {
                a.opened(P, T, Fd(3), at);
            }
        }
        a.plumbing(P, T).pop().map(|p| (p.at, p.outside))
    }

    #[test]
    fn what_the_spawning_call_opened_took_the_number_of_what_was_opened_outside() {
        assert_eq!(told(&[&[MAIN, 10], &[MAIN, SPAWN, 11], &[MAIN, SPAWN, 12]]), Some((1, vec![0])));
        // Two of its own.
        let two = [&[MAIN, 10][..], &[MAIN, SPAWN, 11], &[MAIN, SPAWN, 11], &[MAIN, SPAWN, 12]];
        assert_eq!(told(&two), Some((2, vec![0])));
    }

    #[test]
    fn two_lives_of_the_same_caller_tell_nothing() {
        assert_eq!(told(&[&[MAIN, 10], &[MAIN, 11], &[MAIN, SPAWN, 12]]), None, "both before it");
        assert_eq!(told(&[&[MAIN, SPAWN, 10], &[MAIN, SPAWN, 11], &[MAIN, SPAWN, 12]]), None, "both in it");
        assert_eq!(told(&[&[MAIN, 10]]), None);
        let callers = [&[MAIN, 10][..], &[MAIN, 5, 11], &[MAIN, 5, SPAWN, 12]];
        assert_eq!(told(&callers), None, "the caller of what spawns may have opened what it hands over");
    }

    /// `for file in files: spawn(file)`: the frame of each call lies where that of the one before lay.
    #[test]
    fn a_call_that_was_seen_to_be_over_is_not_the_one_that_spawns() {
        let mut a = Activations::default();
        a.see(T, Some(vec![MAIN, 10]), None, 1);
        a.opened(P, T, Fd(3), 0);
        a.see(T, Some(vec![MAIN, SPAWN, 11]), None, 2);
        a.opened(P, T, Fd(3), 1);
        a.see(T, Some(vec![MAIN, 12]), None, 1);
        a.see(T, Some(vec![MAIN, SPAWN, 13]), None, 2);
        assert!(a.plumbing(P, T).is_empty(), "the call that opened it is over");
        // And in the other direction: that one was opened in an earlier call does not make it one from outside.
        a.opened(P, T, Fd(3), 2);
        a.see(T, Some(vec![MAIN, SPAWN, 14]), None, 2);
        assert_eq!(a.plumbing(P, T).pop().map(|p| p.outside), Some(vec![0]));
    }

    #[test]
    fn another_threads_is_from_outside_and_what_was_not_seen_whole_tells_nothing() {
        let mut a = Activations::default();
        let other = Tid(2);
        a.see(other, Some(vec![7, 10]), None, 1);
        a.opened(P, other, Fd(3), 0);
        a.see(T, Some(vec![MAIN, SPAWN, 11]), None, 2);
        a.opened(P, T, Fd(3), 1);
        a.see(T, Some(vec![MAIN, SPAWN, 12]), None, 2);
        assert_eq!(a.plumbing(P, T).pop().map(|p| (p.outside, p.by)), Some((vec![0], Frames::Native)));
        a.see(T, None, None, 0);
        assert!(a.plumbing(P, T).is_empty());
    }

    /// However many numbers a process uses, and however deep it calls.
    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let mut a = Activations { most: 100 * (LIFE + 2), ..Activations::default() };
        a.see(T, Some(vec![MAIN, 10]), None, 1);
        for fd in 0..1000 {
            a.opened(P, T, Fd(fd), 0);
            assert!(a.weight <= a.most, "{}", a.weight);
        }
        assert_eq!((a.lives, a.forgotten(), a.numbers[&P].len()), (100, 900, 100));
        a.see(T, Some(vec![MAIN, SPAWN, 11]), None, 2);
        for fd in [0, 999] {
            a.opened(P, T, Fd(fd), 1);
        }
        a.see(T, Some(vec![MAIN, SPAWN, 12]), None, 2);
        assert_eq!(a.plumbing(P, T).iter().map(|p| p.fd.0).collect::<Vec<_>>(), [999], "of 0 the first is not known");
        let weight = a.weight;
        for at in 0..100_000 {
            a.opened(P, T, Fd(5), at);
        }
        assert!(a.order.len() <= 2 * a.lives + 65 && a.weight <= weight.max(a.most), "{}", a.order.len());
        a.forget(P);
        assert_eq!((a.lives, a.weight), (0, 0));
    }

    /// From CPython 3.11 on one native frame runs all of Python's.
    #[test]
    fn pythons_frames_tell_what_native_ones_do_not() {
        let mut a = Activations::default();
        a.see(T, Some(vec![MAIN, 10]), Some(vec![20]), 1);
        a.opened(P, T, Fd(3), 0);
        a.see(T, Some(vec![MAIN, 11]), Some(vec![20, 21]), 1);
        a.opened(P, T, Fd(3), 1);
        a.see(T, Some(vec![MAIN, 12]), Some(vec![20, 21]), 1);
        assert_eq!(a.plumbing(P, T).pop().map(|p| (p.outside, p.by)), Some((vec![0], Frames::Python)));
        a.forget(P);
        assert!(a.plumbing(P, T).is_empty());
        a.forget_task(T);
        assert!(a.tasks.is_empty());
    }
}

//! A life that another run has shown to matter: it is waited for in this run, up to the end that was to blame.
//!
//! It is recognised by where it was opened, which of those it is, and in which process ([`Mark`]). Then its path and its
//! end must be those of the rehearsal, too; where they are not, this run goes another way, which is said, and nothing is
//! taken for it that only looks like it.

use super::{Fingerprint, Mark, same_path};
use crate::base::LifeId;

/// A life of another run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// How it is called: `stale-fd-to-child on fd 3 /tmp/out`; safe to show.
    pub name: String,
    /// Where it was opened, for people; safe to show.
    pub place: Option<String>,
    /// Of the stack that opened it.
    pub opening: Fingerprint,
    /// Which of those its process opened, from 1.
    pub ordinal: u32,
    /// The process, as its place in the tree.
    pub process: String,
    /// The path, escaped.
    pub path: String,
    /// Of the stack that ended it.
    pub ending: Fingerprint,
}

/// How far a run is with it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// It was not opened yet.
    Awaited,
    /// It is this life.
    Open(LifeId),
    /// Its end came as it was to come.
    Reached,
    /// The run went another way.
    Diverged,
}

/// A rehearsed life, followed in a run.
#[derive(Clone, Debug)]
pub struct Followed {
    rehearsal: Rehearsal,
    state: State,
}

impl Followed {
    /// Waits for it.
    pub fn new(rehearsal: Rehearsal) -> Followed {
        Followed { rehearsal, state: State::Awaited }
    }

    /// What it is followed for.
    pub fn rehearsal(&self) -> &Rehearsal {
        &self.rehearsal
    }

    /// Whether its end may still come.
    pub fn is_awaited(&self) -> bool {
        matches!(self.state, State::Awaited | State::Open(_))
    }

    /// Whether `life`, or what it is a copy of, is the one.
    pub fn is(&self, life: LifeId) -> bool {
        self.state == State::Open(life)
    }

    /// A life has begun, with this path. A sentence if the run goes another way.
    pub fn begun(&mut self, mark: &Mark, path: &str) -> Option<String> {
        let r = &self.rehearsal;
        let same = mark.ordinal == r.ordinal && *mark.place == *r.process && mark.opening.may_be(&r.opening);
        if self.state != State::Awaited || !same {
            return None;
        }
        if !same_path(path, &r.path) {
            return Some(self.diverge(&format!("the place that opened {} opens {path} now", r.path)));
        }
        self.state = State::Open(mark.life);
        None
    }

    /// Whether an end of the life with this stack is the one that was to blame.
    pub fn ends(&self, ending: &Fingerprint) -> bool {
        self.rehearsal.ending.may_be(ending)
    }

    /// Its end is shown.
    pub fn reached(&mut self) {
        self.state = State::Reached;
    }

    /// The life has ended otherwise: a sentence.
    pub fn ended(&mut self, how: &str) -> Option<String> {
        let State::Open(_) = self.state else { return None };
        Some(
            self.diverge(&format!(
                "{} was opened, and ended in another place or another way: {how}",
                self.rehearsal.path
            )),
        )
    }

    /// The run is over. A sentence if it went another way.
    pub fn over(&mut self) -> Option<String> {
        let r = &self.rehearsal;
        let at = r.place.as_ref().map(|p| format!(" at {p}")).unwrap_or_default();
        match self.state {
            State::Awaited => {
                let nth = if r.ordinal > 1 { format!(" {} times", r.ordinal) } else { String::new() };
                Some(self.diverge(&format!("{} was not opened{at}{nth} by process {}", r.path, r.process)))
            }
            State::Open(_) => Some(self.diverge(&format!("{} was opened{at}, and nobody closed it there", r.path))),
            State::Reached | State::Diverged => None,
        }
    }

    fn diverge(&mut self, what: &str) -> String {
        self.state = State::Diverged;
        format!("this run goes another way than the one that was rehearsed ({}): {what}", self.rehearsal.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(n: u64) -> Fingerprint {
        Fingerprint { native: n, python: Some(n) }
    }

    fn followed() -> Followed {
        Followed::new(Rehearsal {
            name: "stale-fd-to-child on fd 3".into(),
            place: Some("job.py:2".into()),
            opening: print(1),
            ordinal: 2,
            process: "0.1".into(),
            path: "/tmp/out".into(),
            ending: print(9),
        })
    }

    fn mark(opening: u64, ordinal: u32, place: &str) -> Mark {
        Mark { life: LifeId(7), opening: print(opening), ordinal, place: place.into() }
    }

    #[test]
    fn only_the_life_itself_is_followed_to_its_end() {
        let mut f = followed();
        for other in [mark(2, 2, "0.1"), mark(1, 1, "0.1"), mark(1, 2, "0")] {
            assert_eq!(f.begun(&other, "/tmp/out"), None);
            assert!(f.is_awaited() && !f.is(LifeId(7)), "{other:?}");
        }
        assert_eq!(f.begun(&mark(1, 2, "0.1"), "/tmp/out"), None);
        assert!(f.is(LifeId(7)) && f.ends(&print(9)) && !f.ends(&print(8)));
        f.reached();
        assert!(!f.is_awaited() && f.over().is_none());
    }

    #[test]
    fn a_run_that_goes_another_way_says_so_once() {
        let mut f = followed();
        let said = f.begun(&mark(1, 2, "0.1"), "/etc/passwd").unwrap();
        assert!(said.contains("opens /etc/passwd now") && said.contains("stale-fd-to-child on fd 3"), "{said}");
        assert!(f.over().is_none() && !f.is_awaited());
        let mut f = followed();
        f.begun(&mark(1, 2, "0.1"), "/tmp/out");
        assert!(f.ended("close(3)").unwrap().contains("close(3)"));
        assert!(f.ended("close(3)").is_none() && f.over().is_none());
        assert!(followed().over().unwrap().contains("was not opened at job.py:2 2 times by process 0.1"));
        let mut f = followed();
        f.begun(&mark(1, 2, "0.1"), "/tmp/out");
        assert!(f.over().unwrap().contains("nobody closed it there"));
    }
}

//! What the lives themselves say about an end: a redirection that was made or undone.
//!
//! Shells (and whoever does as they do) keep a copy of a number elsewhere, put a file in its place, and put the copy back
//! later: fcntl(1, F_DUPFD, 10) = 10, dup2(3, 1), close(3) … dup2(10, 1), close(10). A stripped shell has no names that
//! would say so; which life was copied from which does.

use crate::base::{Fd, LifeId};
use crate::model::{Ended, Life, Origin, World};
use std::collections::HashMap;

/// What became of the number of a life that is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Moved {
    /// dup2 put back what the number was before, from a copy that was kept at this one.
    Undone {
        /// Where the copy was.
        from: Fd,
    },
    /// It was the copy that was kept of this number, which has been put back.
    Kept {
        /// The number.
        of: Fd,
    },
    /// It lives on at this number, to which it had been copied.
    LivesOn {
        /// The number.
        at: Fd,
    },
}

/// Among more lives than this nothing is looked for: each finding looks once.
const MAX_LIVES: usize = 1 << 16;

/// The copies that were made in a world, by what they were made from.
pub struct Copies<'w> {
    world: &'w World,
    of: HashMap<LifeId, Vec<&'w Life>>,
}

impl<'w> Copies<'w> {
    /// Looks at all lives once.
    pub fn new(world: &'w World) -> Copies<'w> {
        let mut of: HashMap<LifeId, Vec<&Life>> = HashMap::new();
        let lives = world.lives();
        let few = lives.size_hint().0 <= MAX_LIVES;
        for life in lives.take(if few { MAX_LIVES } else { 0 }) {
            if let Origin::Duplicated(from) = life.origin {
                of.entry(from).or_default().push(life);
            }
        }
        Copies { world, of }
    }

    /// What the lives say about the end of `life`; `None` where they say nothing, or it is not over.
    pub fn moved(&self, life: &Life) -> Option<Moved> {
        let end = life.end.as_ref()?;
        let at = end.moment.at;
        let copies =
            || self.of.get(&life.id).into_iter().flatten().filter(|c| c.table == life.table && c.began.at <= at);
        match end.how {
            Ended::Replaced => {
                let lineage: Vec<&Life> = self.world.lineage(life.table, life.fd).collect();
                let this = lineage.iter().position(|l| l.id == life.id)?;
                let next = lineage.get(this.checked_sub(1)?)?;
                let before = lineage.get(this + 1)?;
                let Origin::Duplicated(copy) = next.origin else { return None };
                let copy = self.world.life(copy)?;
                (next.file == before.file && copy.fd != life.fd).then_some(Moved::Undone { from: copy.fd })
            }
            Ended::Closed => {
                if let Origin::Duplicated(from) = life.origin
                    && let Some(kept) = self.world.life(from)
                    && copies().any(|c| c.fd == kept.fd && c.id != kept.id)
                {
                    return Some(Moved::Kept { of: kept.fd });
                }
                let lives_on = copies().find(|c| c.end.as_ref().is_none_or(|e| e.moment.at > at))?;
                Some(Moved::LivesOn { at: lives_on.fd })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MAIN, Script};
    use super::*;

    fn told(s: &Script) -> Vec<(i32, Option<Moved>)> {
        let copies = Copies::new(&s.world);
        let mut ended: Vec<&Life> = s.world.lives().filter(|l| l.end.is_some()).collect();
        ended.sort_by_key(|l| l.end.as_ref().map(|e| e.moment.at));
        ended.into_iter().map(|l| (l.fd.0, copies.moved(l))).collect()
    }

    #[test]
    fn a_redirection_of_a_shell_is_made_and_undone() {
        let mut s = Script::new();
        s.open(MAIN, 1, "/dev/pts/0");
        s.open(MAIN, 3, "/tmp/out");
        s.dup2(100, 1, 10);
        s.dup2(100, 3, 1);
        s.close(MAIN, 3);
        s.dup2(100, 10, 1);
        s.close(MAIN, 10);
        let expected = [
            (1, None),
            (3, Some(Moved::LivesOn { at: Fd(1) })),
            (1, Some(Moved::Undone { from: Fd(10) })),
            (10, Some(Moved::Kept { of: Fd(1) })),
        ];
        assert_eq!(told(&s), expected);
    }

    #[test]
    fn what_nobody_copied_is_not_told() {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        s.open(MAIN, 4, "/tmp/b");
        s.dup2(100, 4, 3);
        s.close(MAIN, 4);
        s.close(MAIN, 3);
        assert_eq!(told(&s), [(3, None), (4, Some(Moved::LivesOn { at: Fd(3) })), (3, None)]);
    }
}

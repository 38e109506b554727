//! Whether a descriptor that crosses an exec was meant to.

use super::descent::{Crossing, is_shell};
use super::promise::mentions;
use super::{Seen, bound, root};
use crate::base::LifeId;
use crate::model::{Change, Life, Origin, What, World};
use std::collections::HashSet;

/// The lives that were made inheritable on purpose.
#[derive(Default)]
pub(super) struct Meant {
    inheritable: HashSet<LifeId>,
}

impl Meant {
    /// Takes notice of an event.
    pub(super) fn see(&mut self, seen: &Seen<'_>) {
        for change in seen.changes {
            let Change::Cloexec(id) = change else { continue };
            if seen.world.life(*id).is_some_and(|l| l.cloexec) {
                self.inheritable.remove(id);
            } else {
                bound(&mut self.inheritable);
                self.inheritable.insert(*id);
            }
        }
    }

    /// Whether `life`, which has crossed an exec, was meant to: it was there before fdwatch looked, came to its number on
    /// purpose, is named to the program, or is what a shell's script hands on.
    pub(super) fn covers(&self, seen: &Seen<'_>, crossing: &Crossing, life: &Life) -> bool {
        let Some(program) = seen.world.process(crossing.pid).map(|p| &p.program) else { return true };
        is_shell(&crossing.before)
            || mentions(program, life.fd)
            || is_placed(crossing, root(seen.world, life))
            || chain(seen.world, life).any(|l| self.inheritable.contains(&l.id))
    }
}

/// Whether a life was there before fdwatch looked, or came to its number on purpose.
fn is_placed(crossing: &Crossing, root: &Life) -> bool {
    let chosen = match root.began.what {
        What::Call(info) => matches!(info.name, "dup2" | "dup3"),
        _ => false,
    };
    let unseen = matches!(root.origin, Origin::Present | Origin::Appeared | Origin::Inherited(_) | Origin::Unshared(_));
    // What a child opens before it executes a program is for that program.
    let for_it = crossing.born.as_ref().is_some_and(|b| root.began.at > b.at);
    chosen || unseen || for_it
}

/// A life and those that it was inherited from.
pub(super) fn chain<'w>(world: &'w World, life: &'w Life) -> impl Iterator<Item = &'w Life> {
    std::iter::successors(Some(life), |l| match l.origin {
        Origin::Inherited(from) | Origin::Unshared(from) => world.life(from).filter(|f| f.id < l.id),
        _ => None,
    })
}

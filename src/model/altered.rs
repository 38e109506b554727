//! What fdwatch did to the target's calls.

use super::life::Moment;
use super::world::World;
use crate::base::{Fd, FileId, LifeId};
use crate::event::Alteration;

/// How many altered calls are remembered one by one. The first are: what came later happened in a world that was no longer
/// the program's own.
const LISTED: usize = 4096;

/// How many of the descriptors of one call are remembered.
const LIVES: usize = 64;

/// A call that fdwatch made come out differently.
#[derive(Clone, Debug)]
pub struct Altered {
    /// The call, when, who and where.
    pub moment: Moment,
    /// How.
    pub how: Alteration,
    /// The descriptors that it is about, the first few of them: their lives, numbers and objects.
    pub about: Vec<(LifeId, Fd, FileId)>,
    /// The path that the call names, where that is known; else empty.
    pub path: Vec<u8>,
}

impl World {
    /// The calls that were altered, in the order of time, the first few thousand of them.
    pub fn altered(&self) -> &[Altered] {
        &self.altered
    }

    /// How many calls more were altered.
    pub fn altered_unlisted(&self) -> u64 {
        self.altered_unlisted
    }

    /// The alterations of calls that were about this life.
    pub fn altered_of(&self, life: LifeId) -> impl Iterator<Item = &Altered> {
        self.altered.iter().filter(move |a| a.about.iter().any(|(l, ..)| *l == life))
    }

    pub(super) fn note_alteration(&mut self, moment: Moment, how: Alteration, lives: Vec<LifeId>, path: Vec<u8>) {
        if self.altered.len() >= LISTED {
            self.altered_unlisted += 1;
            return;
        }
        let about = lives.iter().filter_map(|l| self.life(*l)).take(LIVES).map(|l| (l.id, l.fd, l.file)).collect();
        self.altered.push(Altered { moment, how, about, path });
    }
}

//! The same mistake, made in the same places a thousand times, is one finding with a count.

use super::{Finding, Role};
use crate::base::{PyStackId, StackId};
use crate::model::What;
use std::collections::{HashMap, HashSet};

/// So many different findings are kept; what comes later is counted.
const MOST: usize = 4096;

/// A step, as it is the same each time.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    role: Role,
    call: Option<&'static str>,
    stack: Option<StackId>,
    py: Option<PyStackId>,
    note: Option<String>,
}

/// What makes two findings one: the name, the places, and the number where no stack tells one place from another.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    name: &'static str,
    places: Vec<Place>,
    otherwise: Option<String>,
    /// What else is to tell them apart.
    apart: Box<[usize]>,
}

impl Key {
    fn of(f: &Finding, apart: Box<[usize]>) -> Key {
        let place = |s: &super::Step| Place {
            role: s.role,
            call: match s.moment.what {
                What::Call(info) => Some(info.name),
                _ => None,
            },
            stack: s.moment.site.stack,
            py: s.moment.site.py,
            note: s.note.clone(),
        };
        let mut seen: HashSet<Place> = f.steps.iter().map(place).collect();
        let others = f.all_steps().map(place).filter(|p| seen.insert(p.clone()));
        let untold = f.steps.iter().all(|s| s.moment.site.stack.is_none());
        Key {
            name: f.name,
            // Of several the number does not matter, but where they were.
            places: f.steps.iter().map(place).chain(others).collect(),
            otherwise: untold.then(|| format!("{} {}", f.fd, f.title)),
            apart,
        }
    }
}

/// What became of a finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Folded {
    /// There was none like it.
    New,
    /// It is the one with this index, once more.
    Again(usize),
    /// There are too many already.
    Lost,
}

/// Which findings are the same.
pub struct Folds {
    known: HashMap<Key, usize>,
    most: usize,
    lost: u64,
}

impl Default for Folds {
    fn default() -> Folds {
        Folds { known: HashMap::new(), most: MOST, lost: 0 }
    }
}

impl Folds {
    /// For findings of which some are yet to be taken out, and the rest to be folded once more: more of them are kept.
    pub fn coarse() -> Folds {
        Folds { most: 4 * MOST, ..Folds::default() }
    }

    /// What `finding` is, which will have the index `next` if it is new.
    pub fn fold(&mut self, finding: &Finding, next: usize) -> Folded {
        self.fold_apart(finding, Box::default(), next)
    }

    /// The same, where findings with another `apart` are others.
    pub fn fold_apart(&mut self, finding: &Finding, apart: Box<[usize]>, next: usize) -> Folded {
        let key = Key::of(finding, apart);
        match self.known.get(&key) {
            Some(index) => Folded::Again(*index),
            None if next >= self.most => {
                self.lost += 1;
                Folded::Lost
            }
            None => {
                self.known.insert(key, next);
                Folded::New
            }
        }
    }

    /// How many were not kept.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::event::Site;

    fn twice(s: &mut Script, stack: u32) -> Finding {
        let at = |n| Site { stack: Some(StackId(n)), ..Site::default() };
        s.open(MAIN, 3, "/tmp/a");
        s.at(at(stack)).close(MAIN, 3);
        s.at(at(stack + 1)).refused_close(MAIN.0, 3);
        s.open(MAIN, 9, "/tmp/b").remove(0)
    }

    #[test]
    fn the_same_places_are_one_and_others_are_not() {
        let mut s = Script::new();
        let mut folds = Folds::default();
        let first = twice(&mut s, 10);
        assert_eq!(folds.fold(&first, 0), Folded::New);
        s.close(MAIN, 9);
        let again = twice(&mut s, 10);
        assert_ne!(first.object.id, again.object.id);
        assert_eq!(folds.fold(&again, 1), Folded::Again(0));
        s.close(MAIN, 9);
        assert_eq!(folds.fold(&twice(&mut s, 20), 1), Folded::New);
        assert_eq!(folds.fold(&again, MOST), Folded::Again(0));
        s.close(MAIN, 9);
        assert_eq!(folds.fold(&twice(&mut s, 30), MOST), Folded::Lost);
        assert_eq!(folds.lost(), 1);
    }
}

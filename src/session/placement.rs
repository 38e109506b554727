//! Where the target can read on which CPUs its tasks may run, nothing may be held on one.

use super::Session;
use crate::base::{FileId, LifeId};
use crate::kernel::procfs;
use crate::model::Change;

impl Session {
    /// Tells the tracer when the target has a file open that shows masks, and when it has none any more: what is open is
    /// read when the target wants, and reading is no stop.
    pub(super) fn follow_shown(&mut self, changes: &[Change]) {
        let mut concerned = false;
        for change in changes {
            let (Change::Began(life) | Change::Ended(life)) = change else { continue };
            if let Some(file) = self.shows_placement(*life) {
                self.shown.insert(file);
                concerned = true;
            }
        }
        if concerned {
            self.shown.retain(|f| self.world.file(*f).is_some_and(|f| f.holders > 0));
            self.tracer.shows_placement(!self.shown.is_empty());
        }
    }

    fn shows_placement(&self, life: LifeId) -> Option<FileId> {
        let file = self.world.life(life)?.file;
        procfs::shows_placement(&self.world.file(file)?.file.path).then_some(file)
    }
}

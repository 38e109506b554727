//! Whose objects come with messages, and what is opened and closed without a word.

use super::Session;
use crate::base::Tid;
use crate::event::{Effect, FileKind};

/// Of so many descriptors of one call is it asked who else holds them.
const ASKED: usize = 256;

impl Session {
    /// Fills in of what came over a socket who else holds it, as far as the kernel can tell (kcmp(2)).
    ///
    /// A sender that has closed its own copy is not asked for here: where the text of the link names one object for good
    /// (`pipe:[5]`, `socket:[7]`), the model finds its ended life. Of other objects nothing is claimed then, and two
    /// descriptors of one such object in one message look like two objects.
    pub(super) fn find_senders(&mut self, tid: Tid, effects: &mut [Effect]) {
        let received = effects.iter_mut().filter_map(|e| match e {
            Effect::Receive { fd, file, from, .. } if from.is_none() => Some((*fd, &*file, from)),
            _ => None,
        });
        for (fd, file, from) in received.take(ASKED) {
            *from = self.holder(tid, fd, file);
        }
        for effect in effects.iter() {
            let Effect::Open { file, .. } = effect else { continue };
            match file.kind {
                FileKind::IoUring => self.limits.rings += 1,
                FileKind::Fanotify => self.limits.fanotify += 1,
                _ => {}
            }
        }
    }
}

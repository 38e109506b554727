//! Which activation of a function a frame is: not only which function, but which call of it.

use super::types::Frame;
use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};

/// One activation, as far as a stack tells: where its frame lies and where it will return to, within those that it was
/// called from. A later call from the same place may have the same.
pub(crate) type Key = u64;

/// The activations of one stack, outermost first.
pub(crate) type Keys = Vec<Key>;

/// Adds the activation whose frame lies at `frame` and returns to `back`.
pub(crate) fn add(keys: &mut Keys, frame: u64, back: impl Hash) {
    let mut hasher = FxHasher::default();
    (keys.last(), frame, back).hash(&mut hasher);
    keys.push(hasher.finish());
}

/// The activations of `frames`, innermost first, with the canonical frame address of each but the outermost.
///
/// The canonical frame address names a frame (DWARF 5, 6.4): it is the same from a function's first instruction to its last.
/// A frame's return address is the address in the frame outside of it.
pub(super) fn native(frames: &[Frame], cfas: &[u64]) -> Keys {
    let mut keys = Keys::with_capacity(frames.len());
    for (i, _) in frames.iter().enumerate().rev() {
        let back = frames.get(i + 1).map(|outer| (outer.module, outer.offset));
        add(&mut keys, cfas.get(i).copied().unwrap_or(0), back);
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::types::{FrameKind, ModuleId};

    /// The key of each frame, innermost last, of frames given as (canonical frame address, address), innermost first.
    fn keys(frames: &[(u64, u64)]) -> Keys {
        let list: Vec<Frame> = frames
            .iter()
            .map(|f| Frame { module: Some(ModuleId(0)), offset: f.1, kind: FrameKind::ReturnAddress })
            .collect();
        let cfas: Vec<u64> = frames.iter().map(|f| f.0).collect();
        native(&list, &cfas)
    }

    fn shared(a: &Keys, b: &Keys) -> usize {
        a.iter().zip(b).take_while(|(a, b)| a == b).count()
    }

    #[test]
    fn an_activation_is_the_same_wherever_its_function_is_just_now() {
        // pipe < spawn < main and fork < spawn < main: main is at its call of spawn both times, spawn is elsewhere.
        let pipe = keys(&[(0x100, 1), (0x200, 0x51), (0x300, 0x91)]);
        let fork = keys(&[(0x100, 2), (0x200, 0x52), (0x300, 0x91)]);
        assert_eq!(shared(&pipe, &fork), 2, "main's and spawn's; what spawn called returns elsewhere");
        // open < main, at another place of main.
        assert_eq!(shared(&keys(&[(0x200, 3), (0x300, 0x81)]), &fork), 1);
    }

    #[test]
    fn the_same_function_called_from_elsewhere_or_deeper_is_another_activation() {
        let fork = keys(&[(0x100, 2), (0x200, 0x52), (0x300, 0x91)]);
        // spawn called from another line of main, its frame in the same place.
        assert_eq!(shared(&keys(&[(0x100, 2), (0x200, 0x52), (0x300, 0x95)]), &fork), 1);
        // spawn called from the same line, its frame elsewhere.
        assert_eq!(shared(&keys(&[(0xf0, 2), (0x1f0, 0x52), (0x300, 0x91)]), &fork), 1);
        assert_eq!(shared(&keys(&[]), &fork), 0);
    }
}

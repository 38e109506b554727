//! Functions that are not on the stack because they ended with a jump to the one that is (tail calls).
//!
//! An optimised `void done(int fd) { close(fd); }` jumps to `close`, and leaves no frame. But the call before it went to
//! `done`, and where it was a direct one its target stands in the code: a near call with a 32-bit displacement is five
//! bytes, the first of them 0xE8 (Intel SDM, volume 2, CALL).

use super::module::Module;
use super::types::{Frame, FrameKind};
use std::os::unix::fs::FileExt;

/// A near direct call: its opcode and its length, in bytes.
const CALL: u8 = 0xe8;
const LENGTH: u64 = 5;

/// The first address of the function that the call went to which will return to `frame`, if that was not the one in which
/// `inner`, the next frame inwards, is.
pub(crate) fn skipped(inner: Frame, frame: Frame, module: &Module) -> Option<Frame> {
    if frame.kind != FrameKind::ReturnAddress {
        return None;
    }
    let target = target(frame.offset, module)?;
    // A function begins there: so these bytes are the call that they look like.
    let (start, end) = module.cfi().function(target)?;
    let same = inner.module == frame.module && (start..end).contains(&inner.lookup());
    (start == target && !same).then_some(Frame { module: frame.module, offset: target, kind: FrameKind::Exact })
}

/// Where the call before this address goes, if it is a direct one.
pub(crate) fn target(after: u64, module: &Module) -> Option<u64> {
    let at = after.checked_sub(LENGTH)?;
    let inside = |s: &&super::elf::Segment| s.executable && s.vaddr <= at && after <= s.vaddr.saturating_add(s.size);
    let segment = module.segments().iter().find(inside)?;
    let mut bytes = [0; LENGTH as usize];
    module.file()?.read_exact_at(&mut bytes, segment.offset.checked_add(at - segment.vaddr)?).ok()?;
    displaced(after, bytes)
}

fn displaced(after: u64, [opcode, rest @ ..]: [u8; LENGTH as usize]) -> Option<u64> {
    (opcode == CALL).then(|| after.wrapping_add_signed(i64::from(i32::from_le_bytes(rest))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_call_goes_where_its_displacement_says() {
        assert_eq!(displaced(0x1005, [0xe8, 0x10, 0, 0, 0]), Some(0x1015));
        assert_eq!(displaced(0x1005, [0xe8, 0xfb, 0xff, 0xff, 0xff]), Some(0x1000));
        assert_eq!(displaced(2, [0xe8, 0xfb, 0xff, 0xff, 0xff]), Some(u64::MAX - 2), "and never panics");
        assert_eq!(displaced(0x1005, [0x15, 0x10, 0, 0, 0]), None);
    }
}

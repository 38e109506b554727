//! close(2), close_range(2).

use super::{Arg, Made, Row, When};
use crate::event::Effect;

// linux/close_range.h
const CLOSE_RANGE_UNSHARE: u32 = 1 << 1;
const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;

fn close(m: &Made<'_>) -> Vec<Effect> {
    let fd = m.fd(0);
    if m.failed_with(libc::EBADF) {
        return vec![Effect::Refused { fd, to: None, close: true }];
    }
    // close(2): the slot is emptied early, also when EINTR or EIO is returned.
    vec![Effect::Close { fd }]
}

fn close_range(m: &Made<'_>) -> Vec<Effect> {
    if m.ret.is_some_and(|r| r < 0) {
        return Vec::new();
    }
    let flags = m.int(2) as u32;
    let mut effects = Vec::new();
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        effects.push(Effect::Unshare);
    }
    let (first, last) = (m.int(0) as u32, m.int(1) as u32);
    effects.push(Effect::CloseRange { first, last, mark: flags & CLOSE_RANGE_CLOEXEC != 0 });
    effects
}

pub(super) static ROWS: &[Row] = &[
    Row { name: "close", nr64: Some(3), nr32: Some(6), only: None, when: When::Entry, args: &[Arg::Fd], decode: close },
    Row {
        name: "close_range",
        nr64: Some(436),
        nr32: Some(436),
        only: None,
        when: When::Exit,
        args: &[Arg::Fd, Arg::Fd, Arg::Flags],
        decode: close_range,
    },
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Paper, decode};
    use super::*;
    use crate::base::Fd;

    #[test]
    fn close_empties_the_slot_whatever_it_returns_but_ebadf() {
        let t = Paper::default();
        let closed = vec![Effect::Close { fd: Fd(5) }];
        for ret in [None, Some(0), Some(-4), Some(-5)] {
            assert_eq!(decode("close", [5, 0, 0, 0, 0, 0], ret, &t), closed, "ret {ret:?}");
        }
        let refused = vec![Effect::Refused { fd: Fd(5), to: None, close: true }];
        assert_eq!(decode("close", [5, 0, 0, 0, 0, 0], Some(-9), &t), refused);
    }

    #[test]
    fn close_range_takes_unsigned_numbers_and_its_flags() {
        let t = Paper::default();
        let all = [3, u64::from(u32::MAX), 0, 0, 0, 0];
        let expected = vec![Effect::CloseRange { first: 3, last: u32::MAX, mark: false }];
        assert_eq!(decode("close_range", all, Some(0), &t), expected);
        let e = decode("close_range", [3, 9, 6, 0, 0, 0], Some(0), &t);
        assert_eq!(e, vec![Effect::Unshare, Effect::CloseRange { first: 3, last: 9, mark: true }]);
        assert_eq!(decode("close_range", [9, 3, 0, 0, 0, 0], Some(-22), &t), vec![]);
    }
}

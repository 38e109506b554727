//! Descriptors without a path: eventfd(2), epoll_create(2), timerfd_create(2), signalfd(2), memfd_create(2),
//! inotify_init(2).

use super::{Arg, Made, Row, When};
use crate::base::Fd;
use crate::event::{Effect, FileKind};

/// EFD_CLOEXEC, EPOLL_CLOEXEC, TFD_CLOEXEC, SFD_CLOEXEC and IN_CLOEXEC are all O_CLOEXEC.
const CLOEXEC: i32 = libc::O_CLOEXEC;
const RDWR: u32 = libc::O_RDWR as u32;

fn opens(m: &Made<'_>, flags: i32, kind: FileKind) -> Vec<Effect> {
    m.opens(RDWR, flags & CLOEXEC != 0, kind)
}

fn signalfd(m: &Made<'_>, flags: i32) -> Vec<Effect> {
    let fd = m.fd(0);
    // signalfd(2): -1 makes a new descriptor, any other changes the mask of that one.
    if fd == Fd(-1) {
        return opens(m, flags, FileKind::Signalfd);
    }
    if m.failed_with(libc::EBADF) {
        return vec![Effect::Refused { fd, to: None, close: false }];
    }
    Vec::new()
}

macro_rules! row {
    ($name:literal, $nr64:expr, $nr32:expr, [$($arg:ident),*], $decode:expr) => {
        Row {
            name: $name,
            nr64: $nr64,
            nr32: $nr32,
            only: None,
            when: When::Exit,
            args: &[$(Arg::$arg),*],
            decode: $decode,
        }
    };
}

pub(super) static ROWS: &[Row] = &[
    row!("eventfd", Some(284), Some(323), [Int], |m| opens(m, 0, FileKind::Eventfd)),
    row!("eventfd2", Some(290), Some(328), [Int, Flags], |m| opens(m, m.int(1), FileKind::Eventfd)),
    row!("epoll_create", Some(213), Some(254), [Int], |m| opens(m, 0, FileKind::Epoll)),
    row!("epoll_create1", Some(291), Some(329), [Flags], |m| opens(m, m.int(0), FileKind::Epoll)),
    row!("timerfd_create", Some(283), Some(322), [Int, Flags], |m| { opens(m, m.int(1), FileKind::Timerfd) }),
    row!("signalfd", Some(282), Some(321), [Int, Pointer], |m| { signalfd(m, 0) }),
    row!("signalfd4", Some(289), Some(327), [Int, Pointer, Int, Flags], |m| signalfd(m, m.int(3))),
    // MFD_CLOEXEC is 1 (linux/memfd.h), unlike all others.
    row!("memfd_create", Some(319), Some(356), [Pointer, Flags], |m| m.opens(RDWR, m.int(1) & 1 != 0, FileKind::Memfd)),
    row!("inotify_init", Some(253), Some(291), [], |m| opens(m, 0, FileKind::Inotify)),
    row!("inotify_init1", Some(294), Some(332), [Flags], |m| opens(m, m.int(0), FileKind::Inotify)),
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Paper, decode};
    use super::*;

    #[test]
    fn signalfd_on_an_old_descriptor_makes_none() {
        let t = Paper::default();
        let fresh = decode("signalfd4", [u64::from(u32::MAX), 0, 8, CLOEXEC as u64, 0, 0], Some(6), &t);
        assert!(matches!(fresh.as_slice(), [Effect::Open { fd: Fd(6), cloexec: true, .. }]), "{fresh:?}");
        assert_eq!(decode("signalfd4", [6, 0, 8, 0, 0, 0], Some(6), &t), vec![]);
        let refused = vec![Effect::Refused { fd: Fd(6), to: None, close: false }];
        assert_eq!(decode("signalfd4", [6, 0, 8, 0, 0, 0], Some(-9), &t), refused);
    }

    #[test]
    fn memfd_has_a_cloexec_of_its_own() {
        let made = |flags| decode("memfd_create", [0, flags, 0, 0, 0, 0], Some(5), &Paper::default());
        assert!(matches!(made(1).as_slice(), [Effect::Open { cloexec: true, .. }]));
        assert!(matches!(made(CLOEXEC as u64).as_slice(), [Effect::Open { cloexec: false, .. }]));
    }
}

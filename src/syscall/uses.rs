//! Calls that use a descriptor and change no table. They stop only where they are asked for (`--uses all`): a program makes
//! many of them, and nothing but a number that is not open is news.

use super::{Arg, Made, Row, When};
use crate::event::Effect;

const FD: &[Arg] = &[Arg::Fd];

/// The call was refused because its first argument is not open.
fn first(m: &Made<'_>) -> Vec<Effect> {
    m.refused(m.fd(0))
}

/// epoll_ctl(2): EBADF is said of either number.
fn epoll(m: &Made<'_>) -> Vec<Effect> {
    match m.refused(m.fd(0)) {
        refused if refused.is_empty() => m.refused(m.fd(2)),
        refused => refused,
    }
}

const fn uses(name: &'static str, nr64: u32, nr32: Option<u32>) -> Row {
    Row { name, nr64: Some(nr64), nr32, only: None, when: When::Use, args: FD, decode: first }
}

/// Outside of the families: neither the usual filter nor the usual table has them.
pub(super) static ROWS: &[Row] = &[
    uses("read", 0, Some(3)),
    uses("write", 1, Some(4)),
    uses("fstat", 5, Some(108)),
    uses("lseek", 8, Some(19)),
    uses("pread64", 17, Some(180)),
    uses("pwrite64", 18, Some(181)),
    uses("readv", 19, Some(145)),
    uses("writev", 20, Some(146)),
    uses("connect", 42, Some(362)),
    uses("sendto", 44, Some(369)),
    uses("recvfrom", 45, Some(371)),
    uses("sendmsg", 46, Some(370)),
    uses("shutdown", 48, Some(373)),
    uses("bind", 49, Some(361)),
    uses("listen", 50, Some(363)),
    uses("setsockopt", 54, Some(366)),
    uses("flock", 73, Some(143)),
    uses("fsync", 74, Some(118)),
    uses("fdatasync", 75, Some(148)),
    uses("ftruncate", 77, Some(93)),
    uses("getdents64", 217, Some(220)),
    uses("epoll_wait", 232, Some(256)),
    Row { args: &[Arg::Fd, Arg::Int, Arg::Fd], decode: epoll, ..uses("epoll_ctl", 233, Some(255)) },
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Paper, decode};
    use super::super::{Table, rows};
    use super::*;
    use crate::base::{Arch, Fd, RawCall};

    #[test]
    fn a_number_that_is_not_open_is_news_and_nothing_else() {
        let t = Paper { links: vec![(4, "/x"), (5, "anon_inode:[eventpoll]")], ..Paper::default() };
        let refused = |fd| vec![Effect::Refused { fd: Fd(fd), to: None, close: false }];
        assert_eq!(decode("write", [3, 0, 0, 0, 0, 0], Some(-9), &t), refused(3));
        assert_eq!(decode("write", [4, 0, 0, 0, 0, 0], Some(-9), &t), vec![], "open for the other direction");
        assert_eq!(decode("write", [3, 0, 0, 0, 0, 0], Some(7), &t), vec![]);
        assert_eq!(decode("epoll_ctl", [5, 1, 3, 0, 0, 0], Some(-9), &t), refused(3));
        assert_eq!(decode("epoll_ctl", [3, 1, 4, 0, 0, 0], Some(-9), &t), refused(3));
    }

    #[test]
    fn they_are_there_only_when_asked_for_and_take_no_others_place() {
        let read = RawCall { arch: Arch::X86_64, nr: 0, args: [0; 6] };
        assert!(Table::new().row(&read).is_none());
        assert_eq!(Table::with(true, false).row(&read).map(|r| r.name), Some("read"));
        for row in ROWS {
            let taken = |r: &Row| (r.nr64.is_some() && r.nr64 == row.nr64) || (r.nr32.is_some() && r.nr32 == row.nr32);
            assert!(!rows().any(taken), "{}", row.name);
        }
    }
}

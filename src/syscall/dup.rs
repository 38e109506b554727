//! dup(2), dup2(2), dup3(2), and the commands of fcntl(2) that touch a table.

use super::{Arg, Made, Need, Row, When};
use crate::base::Fd;
use crate::event::Effect;

fn aliased(m: &Made<'_>, to: Option<Fd>, cloexec: bool) -> Vec<Effect> {
    let from = m.fd(0);
    if m.failed_with(libc::EBADF) {
        // dup2(2) also gives EBADF for a new number out of range; the old one is then not to blame.
        if to.is_some_and(|t| t.0 < 0) {
            return Vec::new();
        }
        return vec![Effect::Refused { fd: from, to, close: false }];
    }
    let to = match m.ret {
        Some(_) => m.new_fd(),
        None => to,
    };
    match to {
        // dup2(2): equal numbers change nothing, not even FD_CLOEXEC. dup3 refuses them.
        Some(to) if to != from && to.0 >= 0 => vec![Effect::Alias { from, to, cloexec }],
        _ => Vec::new(),
    }
}

fn fcntl(m: &Made<'_>) -> Vec<Effect> {
    match m.int(1) {
        libc::F_DUPFD => aliased(m, None, false),
        libc::F_DUPFD_CLOEXEC => aliased(m, None, true),
        libc::F_SETFD => {
            let fd = m.fd(0);
            if m.failed_with(libc::EBADF) {
                return vec![Effect::Refused { fd, to: None, close: false }];
            }
            vec![Effect::Cloexec { fd, on: m.int(2) & libc::FD_CLOEXEC != 0 }]
        }
        _ => Vec::new(),
    }
}

fn needs_fcntl(m: &Made<'_>) -> Need {
    match m.int(1) {
        // fcntl(2): on a descriptor that is open F_SETFD has nothing to fail at, with O_PATH neither.
        libc::F_SETFD => Need::Entry,
        libc::F_GETFD | libc::F_GETFL => Need::Nothing,
        _ => Need::Exit,
    }
}

const COMMANDS: Option<(usize, &[u32])> =
    Some((1, &[libc::F_DUPFD as u32, libc::F_DUPFD_CLOEXEC as u32, libc::F_SETFD as u32]));

/// With the commands that ask, which an open file description of O_PATH allows, too.
pub(super) const FCNTL_WITH_QUESTIONS: Row = Row {
    name: "fcntl",
    nr64: Some(72),
    nr32: Some(55),
    only: Some((
        1,
        &[
            libc::F_DUPFD as u32,
            libc::F_DUPFD_CLOEXEC as u32,
            libc::F_SETFD as u32,
            libc::F_GETFD as u32,
            libc::F_GETFL as u32,
        ],
    )),
    when: When::Arguments(needs_fcntl),
    args: &[Arg::Fd, Arg::Fcntl, Arg::Int],
    decode: fcntl,
};

pub(super) static ROWS: &[Row] = &[
    Row {
        name: "dup",
        nr64: Some(32),
        nr32: Some(41),
        only: None,
        when: When::Exit,
        args: &[Arg::Fd],
        decode: |m| aliased(m, None, false),
    },
    Row {
        name: "dup2",
        nr64: Some(33),
        nr32: Some(63),
        only: None,
        when: When::Exit,
        args: &[Arg::Fd, Arg::Fd],
        decode: |m| aliased(m, Some(m.fd(1)), false),
    },
    Row {
        name: "dup3",
        nr64: Some(292),
        nr32: Some(330),
        only: None,
        when: When::Exit,
        args: &[Arg::Fd, Arg::Fd, Arg::OpenFlags],
        decode: |m| aliased(m, Some(m.fd(1)), m.int(2) & libc::O_CLOEXEC != 0),
    },
    Row {
        name: "fcntl",
        nr64: Some(72),
        nr32: Some(55),
        only: COMMANDS,
        when: When::Arguments(needs_fcntl),
        args: &[Arg::Fd, Arg::Fcntl, Arg::Int],
        decode: fcntl,
    },
    Row {
        name: "fcntl64",
        nr64: None,
        nr32: Some(221),
        only: COMMANDS,
        when: When::Arguments(needs_fcntl),
        args: &[Arg::Fd, Arg::Fcntl, Arg::Int],
        decode: fcntl,
    },
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Paper, decode, need_as};
    use super::*;
    use crate::base::Arch;

    #[test]
    fn dup2_onto_itself_changes_nothing() {
        assert_eq!(decode("dup2", [3, 3, 0, 0, 0, 0], Some(3), &Paper::default()), vec![]);
    }

    #[test]
    fn a_refused_dup2_names_the_number_it_wanted() {
        let e = decode("dup2", [3, 1, 0, 0, 0, 0], Some(-9), &Paper::default());
        assert_eq!(e, vec![Effect::Refused { fd: Fd(3), to: Some(Fd(1)), close: false }]);
        let out_of_range = decode("dup2", [3, u64::from(u32::MAX), 0, 0, 0, 0], Some(-9), &Paper::default());
        assert_eq!(out_of_range, vec![]);
    }

    #[test]
    fn at_entry_dup2_says_what_it_will_do_and_dup_cannot() {
        let t = Paper::default();
        let alias = vec![Effect::Alias { from: Fd(3), to: Fd(1), cloexec: false }];
        assert_eq!(decode("dup2", [3, 1, 0, 0, 0, 0], None, &t), alias);
        assert_eq!(decode("dup", [3, 0, 0, 0, 0, 0], None, &t), vec![]);
    }

    #[test]
    fn only_f_setfd_is_done_with_at_its_entry() {
        let need = |command: i32| need_as(Arch::X86_64, "fcntl", [4, command as u64, 0, 0, 0, 0], &Paper::default());
        assert_eq!(need(libc::F_SETFD), Need::Entry);
        assert_eq!(need(libc::F_DUPFD), Need::Exit);
        let at_entry = decode("fcntl", [4, libc::F_SETFD as u64, 1, 0, 0, 0], None, &Paper::default());
        assert_eq!(at_entry, vec![Effect::Cloexec { fd: Fd(4), on: true }]);
        let refused = decode("fcntl", [4, libc::F_SETFD as u64, 1, 0, 0, 0], Some(-9), &Paper::default());
        assert_eq!(refused, vec![Effect::Refused { fd: Fd(4), to: None, close: false }]);
    }

    #[test]
    fn fcntl_sets_and_clears_cloexec() {
        let t = Paper::default();
        let set = |arg| decode("fcntl", [4, libc::F_SETFD as u64, arg, 0, 0, 0], Some(0), &t);
        assert_eq!(set(1), vec![Effect::Cloexec { fd: Fd(4), on: true }]);
        assert_eq!(set(0), vec![Effect::Cloexec { fd: Fd(4), on: false }]);
        let e = decode("fcntl", [4, libc::F_DUPFD_CLOEXEC as u64, 10, 0, 0, 0], Some(11), &t);
        assert_eq!(e, vec![Effect::Alias { from: Fd(4), to: Fd(11), cloexec: true }]);
    }
}

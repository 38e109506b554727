//! Descriptors without a path: eventfd(2), epoll_create(2), timerfd_create(2), signalfd(2), memfd_create(2),
//! memfd_secret(2), inotify_init(2), fanotify_init(2), userfaultfd(2), perf_event_open(2), bpf(2), io_uring_setup(2),
//! landlock_create_ruleset(2).

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

fn io_uring(m: &Made<'_>) -> Vec<Effect> {
    // struct io_uring_params: sq_entries, cq_entries, flags. With IORING_SETUP_REGISTERED_FD_ONLY the result is an index
    // among the ring's own registered descriptors (io_uring_setup(2)).
    const REGISTERED_FD_ONLY: u32 = 1 << 15;
    let flags = m.addr(1).checked_add(8).and_then(|a| m.task.half(a)).unwrap_or(0);
    if flags & REGISTERED_FD_ONLY != 0 {
        return Vec::new();
    }
    m.opens(RDWR, true, FileKind::IoUring)
}

fn landlock(m: &Made<'_>) -> Vec<Effect> {
    // With a flag it answers what the kernel can do and makes nothing (landlock_create_ruleset(2)).
    if m.int(2) != 0 {
        return Vec::new();
    }
    m.opens(RDWR, true, FileKind::Landlock)
}

/// The commands of bpf(2) that return a descriptor (enum bpf_cmd, linux/bpf.h): BPF_MAP_CREATE, BPF_PROG_LOAD, BPF_OBJ_GET,
/// BPF_PROG_GET_FD_BY_ID, BPF_MAP_GET_FD_BY_ID, BPF_RAW_TRACEPOINT_OPEN, BPF_BTF_LOAD, BPF_BTF_GET_FD_BY_ID, BPF_LINK_CREATE,
/// BPF_LINK_GET_FD_BY_ID, BPF_ENABLE_STATS, BPF_ITER_CREATE, BPF_TOKEN_CREATE.
const BPF_MAKES: &[u32] = &[0, 5, 7, 13, 14, 17, 18, 19, 28, 30, 32, 33, 36];

/// What tells events only (fs/notify/inotify/inotify_user.c, do_inotify_init; fs/userfaultfd.c, new_userfaultfd).
fn read_only(m: &Made<'_>, flags: i32, kind: FileKind) -> Vec<Effect> {
    m.opens(libc::O_RDONLY as u32, flags & CLOEXEC != 0, kind)
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
    row!("inotify_init", Some(253), Some(291), [], |m| read_only(m, 0, FileKind::Inotify)),
    row!("inotify_init1", Some(294), Some(332), [Flags], |m| read_only(m, m.int(0), FileKind::Inotify)),
    // FAN_CLOEXEC is 1, PERF_FLAG_FD_CLOEXEC is 8 (linux/fanotify.h, linux/perf_event.h).
    row!("fanotify_init", Some(300), Some(338), [Flags, OpenFlags], |m| {
        m.opens(RDWR, m.int(0) & 1 != 0, FileKind::Fanotify)
    }),
    row!("perf_event_open", Some(298), Some(336), [Pointer, Int, Int, Int, Flags], |m| {
        m.opens(RDWR, m.int(4) & 8 != 0, FileKind::PerfEvent)
    }),
    row!("userfaultfd", Some(323), Some(374), [Flags], |m| read_only(m, m.int(0), FileKind::Userfaultfd)),
    row!("memfd_secret", Some(447), Some(447), [Flags], |m| opens(m, m.int(0), FileKind::Memfd)),
    // These set FD_CLOEXEC whether asked for or not: bpf(2), io_uring_setup(2), landlock_create_ruleset(2).
    row!("io_uring_setup", Some(425), Some(425), [Int, Pointer], io_uring),
    Row {
        only: Some((2, &[0])),
        ..Row::exit("landlock_create_ruleset", Some(444), Some(444), &[Arg::Pointer, Arg::Int, Arg::Flags], landlock)
    },
    Row {
        only: Some((0, BPF_MAKES)),
        ..Row::exit("bpf", Some(321), Some(357), &[Arg::Int, Arg::Pointer, Arg::Int], |m| {
            m.opens(RDWR, true, FileKind::Bpf)
        })
    },
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
    fn what_returns_no_descriptor_opens_none() {
        let t = Paper::default();
        let opened = |e: &[Effect]| matches!(e, [Effect::Open { fd: Fd(3), cloexec: true, .. }]);
        assert!(opened(&decode("landlock_create_ruleset", [0x10, 8, 0, 0, 0, 0], Some(3), &t)));
        assert_eq!(decode("landlock_create_ruleset", [0, 0, 1, 0, 0, 0], Some(3), &t), vec![], "a version");

        let params = |flags: u32| {
            let bytes: Vec<u8> = [4u32, 8, flags].iter().flat_map(|w| w.to_le_bytes()).collect();
            Paper { at: 0x100, bytes, ..Paper::default() }
        };
        assert!(opened(&decode("io_uring_setup", [4, 0x100, 0, 0, 0, 0], Some(3), &params(0))));
        assert_eq!(decode("io_uring_setup", [4, 0x100, 0, 0, 0, 0], Some(3), &params(1 << 15)), vec![], "an index");
        assert!(opened(&decode("io_uring_setup", [4, 0x900, 0, 0, 0, 0], Some(3), &params(0))), "unreadable");
        assert_eq!(decode("io_uring_setup", [4, u64::MAX, 0, 0, 0, 0], Some(-14), &params(0)), vec![]);

        assert!(opened(&decode("bpf", [5, 0x10, 64, 0, 0, 0], Some(3), &t)));
        let table = crate::syscall::Table::new();
        let bpf = |command| {
            table.row(&crate::base::RawCall {
                arch: crate::base::Arch::X86_64,
                nr: 321,
                args: [command, 0, 0, 0, 0, 0],
            })
        };
        assert!(bpf(5).is_some());
        assert!(bpf(1).is_none(), "BPF_MAP_LOOKUP_ELEM");
    }

    #[test]
    fn each_has_its_own_bit_for_cloexec() {
        let cloexec = |name, args| match decode(name, args, Some(3), &Paper::default()).as_slice() {
            [Effect::Open { fd: Fd(3), cloexec, .. }] => *cloexec,
            other => panic!("{other:?}"),
        };
        let set = CLOEXEC as u64;
        for (name, at, bit) in
            [("fanotify_init", 0, 1), ("perf_event_open", 4, 8), ("userfaultfd", 0, set), ("memfd_secret", 0, set)]
        {
            let mut args = [0; 6];
            assert!(!cloexec(name, args), "{name}");
            args[at] = bit;
            assert!(cloexec(name, args), "{name}");
        }
    }

    #[test]
    fn memfd_has_a_cloexec_of_its_own() {
        let made = |flags| decode("memfd_create", [0, flags, 0, 0, 0, 0], Some(5), &Paper::default());
        assert!(matches!(made(1).as_slice(), [Effect::Open { cloexec: true, .. }]));
        assert!(matches!(made(CLOEXEC as u64).as_slice(), [Effect::Open { cloexec: false, .. }]));
    }
}

//! open(2), creat(2), openat(2), openat2(2), open_by_handle_at(2), mq_open(2).

use super::{Arg, Made, Row, When};
use crate::event::{Effect, FileKind};

const O_CLOEXEC: u32 = libc::O_CLOEXEC as u32;

/// The longest path that the kernel takes (PATH_MAX, limits.h), the NUL included.
const PATH_MAX: usize = 4096;

fn opened(m: &Made<'_>, flags: u32, path: usize) -> Vec<Effect> {
    let Some(fd) = m.new_fd() else {
        return Vec::new();
    };
    let file = m.object(fd, flags, FileKind::Path, || m.task.c_string(m.addr(path), PATH_MAX).unwrap_or_default());
    vec![Effect::Open { fd, cloexec: flags & O_CLOEXEC != 0, file }]
}

fn openat2(m: &Made<'_>) -> Vec<Effect> {
    // struct open_how begins with a u64 of flags (openat2(2)).
    let flags = m.task.word(m.addr(2)).unwrap_or(0);
    opened(m, flags as u32, 1)
}

pub(super) static ROWS: &[Row] = &[
    Row {
        name: "open",
        nr64: Some(2),
        nr32: Some(5),
        only: None,
        when: When::Exit,
        args: &[Arg::Path, Arg::OpenFlags],
        decode: |m| opened(m, m.int(1) as u32, 0),
    },
    Row {
        name: "creat",
        nr64: Some(85),
        nr32: Some(8),
        only: None,
        when: When::Exit,
        args: &[Arg::Path],
        // creat(2): the same as open with these flags.
        decode: |m| opened(m, (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u32, 0),
    },
    Row {
        name: "openat",
        nr64: Some(257),
        nr32: Some(295),
        only: None,
        when: When::Exit,
        args: &[Arg::DirFd, Arg::Path, Arg::OpenFlags],
        decode: |m| opened(m, m.int(2) as u32, 1),
    },
    Row {
        name: "openat2",
        nr64: Some(437),
        nr32: Some(437),
        only: None,
        when: When::Exit,
        args: &[Arg::DirFd, Arg::Path],
        decode: openat2,
    },
    Row::exit("open_by_handle_at", Some(304), Some(342), &[Arg::DirFd, Arg::Pointer, Arg::OpenFlags], |m| {
        let flags = m.int(2) as u32;
        m.opens(flags & !O_CLOEXEC, flags & O_CLOEXEC != 0, FileKind::Path)
    }),
    // The kernel sets FD_CLOEXEC whether it is asked for or not (mq_open(3), "NOTES").
    Row::exit("mq_open", Some(240), Some(277), &[Arg::Path, Arg::OpenFlags], |m| {
        m.opens(m.int(1) as u32 & !O_CLOEXEC, true, FileKind::MessageQueue)
    }),
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Paper, decode};
    use super::*;
    use crate::base::Fd;

    #[test]
    fn the_link_is_preferred_to_the_argument() {
        let mut task = Paper { at: 0x1000, bytes: b"../a\0".to_vec(), links: vec![(3, "/tmp/a")], ..Paper::default() };
        let path = |e: Vec<Effect>| match e.as_slice() {
            [Effect::Open { fd: Fd(3), cloexec: true, file }] => file.path.clone(),
            other => panic!("{other:?}"),
        };
        let args = [libc::AT_FDCWD as u64, 0x1000, u64::from(O_CLOEXEC), 0, 0, 0];
        assert_eq!(path(decode("openat", args, Some(3), &task)), b"/tmp/a");
        task.links.clear();
        assert_eq!(path(decode("openat", args, Some(3), &task)), b"../a");
    }

    #[test]
    fn a_failed_open_does_nothing() {
        assert_eq!(decode("open", [0; 6], Some(-2), &Paper::default()), vec![]);
        assert_eq!(decode("open", [0; 6], None, &Paper::default()), vec![]);
    }

    #[test]
    fn a_message_queue_is_always_close_on_exec() {
        let task = Paper { links: vec![(3, "/q")], ..Paper::default() };
        match decode("mq_open", [0x10, libc::O_WRONLY as u64, 0, 0, 0, 0], Some(3), &task).as_slice() {
            [Effect::Open { fd: Fd(3), cloexec: true, file }] => {
                assert_eq!((file.kind, file.path.as_slice()), (FileKind::MessageQueue, &b"/q"[..]));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(decode("mq_open", [0x10, 0, 0, 0, 0, 0], Some(-2), &task), vec![]);
    }

    #[test]
    fn a_handle_opens_with_its_flags() {
        let open = |flags: u32, ret| {
            decode("open_by_handle_at", [3, 0x10, u64::from(flags), 0, 0, 0], Some(ret), &Paper::default())
        };
        assert!(matches!(open(O_CLOEXEC, 4).as_slice(), [Effect::Open { fd: Fd(4), cloexec: true, .. }]));
        assert!(matches!(open(0, 4).as_slice(), [Effect::Open { cloexec: false, .. }]));
        assert_eq!(open(0, -116), vec![]);
    }

    #[test]
    fn openat2_reads_its_flags_from_memory() {
        let how = u64::from(O_CLOEXEC).to_le_bytes().to_vec();
        let task = Paper { at: 0x2000, bytes: how, links: vec![(7, "/x")], ..Paper::default() };
        let e = decode("openat2", [0, 0, 0x2000, 24, 0, 0], Some(7), &task);
        assert!(matches!(e.as_slice(), [Effect::Open { fd: Fd(7), cloexec: true, .. }]), "{e:?}");
    }
}

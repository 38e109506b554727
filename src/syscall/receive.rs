//! Descriptors that come with a message: recvmsg(2), recvmmsg(2), and getsockopt(2) with SO_PEERPIDFD.
//!
//! What the kernel has written is read from the task's memory, which the task or another thread may have changed since:
//! lengths are checked, work is bounded, and a number is believed only if it is open.

use super::{Arg, Made, Need, Row, When};
use crate::base::{Arch, Fd};
use crate::event::{Effect, FileKind, NewFile};
use std::collections::BTreeSet;

const O_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const RDWR: u32 = libc::O_RDWR as u32;

const SOL_SOCKET: u32 = libc::SOL_SOCKET as u32;
const SCM_RIGHTS: u32 = libc::SCM_RIGHTS as u32;
/// A pidfd of the sender (linux/socket.h, since Linux 6.5).
const SCM_PIDFD: u32 = 4;
/// A pidfd of the peer (asm-generic/socket.h, since Linux 6.5).
const SO_PEERPIDFD: u32 = 77;
const MSG_CMSG_CLOEXEC: u32 = libc::MSG_CMSG_CLOEXEC as u32;

/// As much of the control data of one message is looked at, in bytes. Descriptors need 1 KiB at most: SCM_MAX_FD is 253
/// (unix(7)).
const CONTROL_MAX: u64 = 64 << 10;
/// As many messages of one recvmmsg, as the kernel takes (UIO_MAXIOV, linux/uio.h).
const MESSAGES_MAX: u64 = 1024;
/// As many descriptors of one call are believed.
const DESCRIPTORS_MAX: usize = 4096;

/// Where the fields of a `struct msghdr` and a `struct cmsghdr` are (recvmsg(2), cmsg(3), net/compat.h), in bytes.
struct Layout {
    /// The size of a `size_t`, to which cmsgs are aligned.
    word: usize,
    /// `msg_control` in a msghdr, with `msg_controllen` behind it.
    control: u64,
    /// The size of a mmsghdr.
    each: u64,
    /// The size of a cmsghdr: `cmsg_len`, `cmsg_level`, `cmsg_type`.
    header: usize,
}

const LAYOUT_64: Layout = Layout { word: 8, control: 32, each: 64, header: 16 };
const LAYOUT_32: Layout = Layout { word: 4, control: 16, each: 32, header: 12 };

fn layout(m: &Made<'_>) -> &'static Layout {
    match m.call.arch {
        Arch::I386 => &LAYOUT_32,
        _ => &LAYOUT_64,
    }
}

/// `msg_control` and `msg_controllen`, which lie side by side in a msghdr, from the bytes there.
fn control_in(l: &Layout, bytes: &[u8]) -> Option<(u64, u64)> {
    let word = |b: &[u8]| {
        let mut w = [0; 8];
        w.get_mut(..l.word)?.copy_from_slice(b);
        Some(u64::from_le_bytes(w))
    };
    Some((word(bytes.get(..l.word)?)?, word(bytes.get(l.word..2 * l.word)?)?))
}

/// `msg_control` and `msg_controllen` of the msghdr at `at`; `None` if they cannot be read.
fn control(m: &Made<'_>, at: u64) -> Option<(u64, u64)> {
    let l = layout(m);
    let mut bytes = [0; 16];
    let bytes = bytes.get_mut(..2 * l.word)?;
    let got = m.task.read(at.checked_add(l.control)?, bytes);
    control_in(l, bytes.get(..got)?)
}

/// Whether there is room for a descriptor. What cannot be read may have some: the kernel may wait for the page.
fn has_room(l: &Layout, control: Option<(u64, u64)>) -> bool {
    control.is_none_or(|(to, length)| to != 0 && length >= l.header as u64 + 4)
}

/// Whether the message at `at` has room for a descriptor.
pub(super) fn needs_message(m: &Made<'_>, at: u64) -> bool {
    has_room(layout(m), control(m, at))
}

/// Whether one of the `n` messages of the mmsghdrs at `at` has room for a descriptor.
pub(super) fn needs_messages(m: &Made<'_>, at: u64, n: u32) -> bool {
    let l = layout(m);
    let n = u64::from(n).min(MESSAGES_MAX);
    let mut bytes = vec![0; (n * l.each) as usize];
    let got = m.task.read(at, &mut bytes);
    bytes.truncate(got);
    (0..n).any(|i| has_room(l, bytes.get((i * l.each + l.control) as usize..).and_then(|b| control_in(l, b))))
}

/// The msghdrs of the first `n` of the mmsghdrs at `at`.
fn headers(m: &Made<'_>, at: u64, n: u64) -> impl Iterator<Item = u64> {
    let each = layout(m).each;
    (0..n.min(MESSAGES_MAX)).map_while(move |i| at.checked_add(i * each))
}

/// What came with one message into the socket `fd`.
pub(super) fn message(m: &Made<'_>, fd: Fd, at: u64, flags: u32) -> Vec<Effect> {
    match m.ret {
        Some(0..) => Received::new(flags).message(m, at).effects,
        _ => m.refused(fd),
    }
}

/// What came with the messages of a recvmmsg into the socket `fd`.
pub(super) fn messages(m: &Made<'_>, fd: Fd, at: u64, flags: u32) -> Vec<Effect> {
    match m.ret.and_then(|n| u64::try_from(n).ok()) {
        Some(n) => headers(m, at, n).fold(Received::new(flags), |all, h| all.message(m, h)).effects,
        None => m.refused(fd),
    }
}

/// What was found so far in the messages of one call.
struct Received {
    cloexec: bool,
    numbers: BTreeSet<i32>,
    effects: Vec<Effect>,
}

impl Received {
    fn new(flags: u32) -> Received {
        Received { cloexec: flags & MSG_CMSG_CLOEXEC != 0, numbers: BTreeSet::new(), effects: Vec::new() }
    }

    /// Adds what the msghdr at `at` tells. After the call `msg_controllen` is what the kernel has written, whole cmsgs but
    /// for the last, which may be cut (scm_detach_fds and put_cmsg in net/core/scm.c, and net/compat.c): its `cmsg_len`
    /// then counts the descriptors that were installed.
    fn message(mut self, m: &Made<'_>, at: u64) -> Received {
        let l = layout(m);
        let Some((to, length)) = control(m, at) else { return self };
        if to == 0 || length < l.header as u64 + 4 {
            return self;
        }
        let mut bytes = vec![0; length.min(CONTROL_MAX) as usize];
        let got = m.task.read(to, &mut bytes);
        bytes.truncate(got);
        let mut rest = bytes.as_slice();
        while let Some((header, _)) = rest.split_at_checked(l.header) {
            let word = |at: usize| header.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
            // The upper half of a length that can be true is zero.
            if l.word == 8 && word(4) != 0 {
                break;
            }
            let length = word(0) as usize;
            let Some(data) = rest.get(l.header..length) else { break };
            match (word(l.word), word(l.word + 4)) {
                (SOL_SOCKET, SCM_RIGHTS) => numbers(data).for_each(|n| self.right(m, n)),
                (SOL_SOCKET, SCM_PIDFD) => numbers(data).take(1).for_each(|n| self.pidfd(m, n)),
                _ => {}
            }
            let Some(next) = rest.get(length.next_multiple_of(l.word)..) else { break };
            rest = next;
        }
        self
    }

    /// Whether `n` is a number that has not been seen in this call.
    fn is_new(&mut self, n: i32) -> bool {
        n >= 0 && self.numbers.len() < DESCRIPTORS_MAX && self.numbers.insert(n)
    }

    fn right(&mut self, m: &Made<'_>, n: i32) {
        let fd = Fd(n);
        // One that is not open was closed by another thread, or never was what memory says.
        let Some(link) = self.is_new(n).then(|| m.task.link(fd)).flatten() else { return };
        let file = NewFile::from_link(link, m.task.flags(fd).unwrap_or(RDWR) & !O_CLOEXEC);
        self.effects.push(Effect::Receive { fd, cloexec: self.cloexec, file, from: None });
    }

    fn pidfd(&mut self, m: &Made<'_>, n: i32) {
        if self.is_new(n) {
            self.effects.extend(pidfd(m, Fd(n)));
        }
    }
}

/// The ints in the data of a cmsg.
fn numbers(data: &[u8]) -> impl Iterator<Item = i32> {
    data.chunks_exact(4).filter_map(|b| b.try_into().ok()).map(i32::from_le_bytes)
}

/// A pidfd that the kernel has made: always close-on-exec (pidfd_prepare in kernel/fork.c).
fn pidfd(m: &Made<'_>, fd: Fd) -> Option<Effect> {
    let link = m.task.link(fd)?;
    let file = NewFile::from_link(link, RDWR);
    (file.kind == FileKind::Pidfd).then_some(Effect::Open { fd, cloexec: true, file })
}

pub(super) fn is_peer(level: u32, option: u32) -> bool {
    (level, option) == (SOL_SOCKET, SO_PEERPIDFD)
}

/// getsockopt(2): SO_PEERPIDFD makes a pidfd and writes its number to `to`.
pub(super) fn peer(m: &Made<'_>, level: u32, option: u32, to: u64) -> Vec<Effect> {
    if m.ret != Some(0) || !is_peer(level, option) {
        return Vec::new();
    }
    m.task.half(to).and_then(|fd| pidfd(m, Fd(fd as i32))).into_iter().collect()
}

const MESSAGES: &[Arg] = &[Arg::Fd, Arg::Pointer, Arg::Int, Arg::Flags, Arg::Pointer];
const MESSAGES_NEED: When = When::Arguments(|m| exit_if(needs_messages(m, m.addr(1), m.int(2) as u32)));

fn exit_if(needed: bool) -> Need {
    if needed { Need::Exit } else { Need::Nothing }
}

pub(super) static ROWS: &[Row] = &[
    Row {
        when: When::Arguments(|m| exit_if(needs_message(m, m.addr(1)))),
        ..Row::exit("recvmsg", Some(47), Some(372), &[Arg::Fd, Arg::Pointer, Arg::Flags], |m| {
            message(m, m.fd(0), m.addr(1), m.int(2) as u32)
        })
    },
    Row {
        when: MESSAGES_NEED,
        ..Row::exit("recvmmsg", Some(299), Some(337), MESSAGES, |m| messages(m, m.fd(0), m.addr(1), m.int(3) as u32))
    },
    Row {
        when: MESSAGES_NEED,
        ..Row::exit("recvmmsg_time64", None, Some(417), MESSAGES, |m| messages(m, m.fd(0), m.addr(1), m.int(3) as u32))
    },
    Row {
        only: Some((2, &[SO_PEERPIDFD])),
        when: When::Arguments(|m| exit_if(is_peer(m.int(1) as u32, m.int(2) as u32))),
        ..Row::exit(
            "getsockopt",
            Some(55),
            Some(365),
            &[Arg::Fd, Arg::Int, Arg::Int, Arg::Pointer, Arg::Pointer],
            |m| peer(m, m.int(1) as u32, m.int(2) as u32, m.addr(3)),
        )
    },
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Paper, decode_as, need_as};
    use super::*;

    /// Memory with msghdrs at 0x1000 and the control data of the first at 0x2000.
    struct Mail {
        arch: Arch,
        bytes: Vec<u8>,
    }

    impl Mail {
        fn new(arch: Arch) -> Mail {
            Mail { arch, bytes: vec![0; 0x3000] }
        }

        fn l(&self) -> &'static Layout {
            if self.arch == Arch::I386 { &LAYOUT_32 } else { &LAYOUT_64 }
        }

        fn put(&mut self, at: u64, value: u64, size: usize) {
            self.bytes[at as usize..][..size].copy_from_slice(&value.to_le_bytes()[..size]);
        }

        fn header(&mut self, i: u64, control: u64, length: u64) {
            let (l, at) = (self.l(), i * self.l().each);
            self.put(at + l.control, control, l.word);
            self.put(at + l.control + l.word as u64, length, l.word);
        }

        /// One cmsg at `at` in the control data; where the next one goes.
        fn cmsg(&mut self, at: u64, level: u32, kind: u32, data: &[i32]) -> u64 {
            let l = self.l();
            let (base, len) = (0x1000 + at, l.header + 4 * data.len());
            self.put(base, len as u64, l.word);
            self.put(base + l.word as u64, level.into(), 4);
            self.put(base + l.word as u64 + 4, kind.into(), 4);
            for (i, n) in data.iter().enumerate() {
                self.put(base + (l.header + 4 * i) as u64, *n as u32 as u64, 4);
            }
            at + len.next_multiple_of(l.word) as u64
        }

        fn task(&self) -> Paper {
            let links =
                vec![(5, "pipe:[7]"), (6, "socket:[8]"), (7, "/tmp/x"), (8, "anon_inode:[pidfd]"), (9, "/dev/null")];
            Paper { at: 0x1000, bytes: self.bytes.clone(), links, ..Paper::default() }
        }

        fn received(&self, flags: u32, ret: i64) -> Vec<(i32, bool, FileKind)> {
            let args = [3, 0x1000, u64::from(flags), 0, 0, 0];
            shown(&decode_as(self.arch, "recvmsg", args, Some(ret), &self.task()))
        }
    }

    fn shown(effects: &[Effect]) -> Vec<(i32, bool, FileKind)> {
        let one = |e: &Effect| match e {
            Effect::Receive { fd, cloexec, file, from: None } | Effect::Open { fd, cloexec, file } => {
                (fd.0, *cloexec, file.kind)
            }
            other => panic!("{other:?}"),
        };
        effects.iter().map(one).collect()
    }

    const BOTH: [Arch; 2] = [Arch::X86_64, Arch::I386];

    #[test]
    fn every_descriptor_of_every_cmsg_is_received() {
        for arch in BOTH {
            let mut mail = Mail::new(arch);
            let end = mail.cmsg(0, SOL_SOCKET, libc::SCM_CREDENTIALS as u32, &[1, 2, 3]);
            let end = mail.cmsg(end, SOL_SOCKET, SCM_RIGHTS, &[5, 6, 7]);
            let end = mail.cmsg(end, SOL_SOCKET, SCM_PIDFD, &[8]);
            mail.header(0, 0x2000, end);
            let all = |cloexec| {
                vec![
                    (5, cloexec, FileKind::PipeRead),
                    (6, cloexec, FileKind::Socket),
                    (7, cloexec, FileKind::Path),
                    (8, true, FileKind::Pidfd),
                ]
            };
            // Without flags from /proc a pipe's end is taken for one that is open for both.
            assert_eq!(mail.received(0, 1), all(false), "{arch:?}");
            assert_eq!(mail.received(MSG_CMSG_CLOEXEC, 0), all(true), "{arch:?}");
            assert_eq!(mail.received(0, -11), vec![], "{arch:?}");
            let args = [3, 0x1000, 0, 0, 0, 0];
            let refused = vec![Effect::Refused { fd: Fd(3), to: None, close: false }];
            assert_eq!(decode_as(arch, "recvmsg", args, Some(-9), &mail.task()), refused);
            assert_eq!(decode_as(arch, "recvmsg", args, None, &mail.task()), vec![], "nothing is known before");
        }
    }

    #[test]
    fn a_cut_cmsg_tells_how_many_were_installed() {
        for arch in BOTH {
            // Room for a header and two ints and a bit: the kernel installs two and says so in the length.
            let mut mail = Mail::new(arch);
            mail.cmsg(0, SOL_SOCKET, SCM_RIGHTS, &[5, 6]);
            mail.header(0, 0x2000, mail.l().header as u64 + 8 + 2);
            assert_eq!(mail.received(0, 1).len(), 2, "{arch:?}");
            // A length beyond what was written is none of the kernel's.
            mail.header(0, 0x2000, mail.l().header as u64 + 6);
            assert_eq!(mail.received(0, 1), vec![], "{arch:?}");
        }
    }

    #[test]
    fn hostile_memory_is_not_believed() {
        for arch in BOTH {
            for length in [0u64, 1, 11, 15, 0xffff_ffff, 0x1_0000_0804, u64::MAX] {
                let mut mail = Mail::new(arch);
                mail.cmsg(0, SOL_SOCKET, SCM_RIGHTS, &[5]);
                let word = mail.l().word;
                mail.put(0x1000, length, word);
                mail.header(0, 0x2000, 0x800);
                assert_eq!(mail.received(0, 1), vec![], "{arch:?} with a cmsg of {length:#x}");
            }
            // Numbers that are not open, that are none, and that come twice.
            let mut mail = Mail::new(arch);
            mail.cmsg(0, SOL_SOCKET, SCM_RIGHTS, &[-1, 77, 7, i32::MAX, 7, i32::MIN]);
            mail.header(0, 0x2000, 0x800);
            assert_eq!(mail.received(0, 1), vec![(7, false, FileKind::Path)], "{arch:?}");
            // A pidfd that is none.
            let mut mail = Mail::new(arch);
            mail.cmsg(0, SOL_SOCKET, SCM_PIDFD, &[7]);
            mail.header(0, 0x2000, 0x800);
            assert_eq!(mail.received(0, 1), vec![], "{arch:?}");
            for (to, length) in [(0x2000, u64::MAX), (u64::MAX - 3, 64), (0x900, 64), (0x3ff8, 64)] {
                let mut mail = Mail::new(arch);
                mail.header(0, to, length);
                assert_eq!(mail.received(0, 1), vec![], "{arch:?} {to:#x} {length:#x}");
            }
            let nowhere = decode_as(arch, "recvmsg", [3, u64::MAX - 7, 0, 0, 0, 0], Some(1), &Paper::default());
            assert_eq!(nowhere, vec![]);
        }
    }

    #[test]
    fn several_messages_are_read_as_far_as_they_came() {
        for arch in BOTH {
            let mut mail = Mail::new(arch);
            let first = mail.cmsg(0, SOL_SOCKET, SCM_RIGHTS, &[5]);
            let second = mail.cmsg(first, SOL_SOCKET, SCM_RIGHTS, &[6, 9]);
            mail.header(0, 0x2000, first);
            mail.header(1, 0x2000 + first, second - first);
            let call = |ret| {
                let args = [3, 0x1000, 4, u64::from(MSG_CMSG_CLOEXEC), 0, 0];
                shown(&decode_as(arch, "recvmmsg", args, Some(ret), &mail.task()))
            };
            assert_eq!(call(1).len(), 1, "{arch:?}");
            let three = vec![(5, true, FileKind::PipeRead), (6, true, FileKind::Socket), (9, true, FileKind::Path)];
            assert_eq!(call(2), three, "{arch:?}");
            assert_eq!(call(i64::MAX), three, "{arch:?}");
            assert_eq!(call(-4), vec![], "{arch:?}");
        }
    }

    #[test]
    fn without_room_for_a_descriptor_no_exit_is_needed() {
        for arch in BOTH {
            let mut mail = Mail::new(arch);
            let header = mail.l().header as u64;
            let need = |mail: &Mail, at: u64| need_as(arch, "recvmsg", [3, at, 0, 0, 0, 0], &mail.task());
            for (to, length, expected) in [
                (0, 0, Need::Nothing),
                (0, 256, Need::Nothing),
                (0x2000, header + 3, Need::Nothing),
                (0x2000, header + 4, Need::Exit),
            ] {
                mail.header(0, to, length);
                assert_eq!(need(&mail, 0x1000), expected, "{arch:?} {to:#x} {length}");
            }
            assert_eq!(need(&mail, 0x9000), Need::Exit, "unreadable now");
            let many = |mail: &Mail, n| need_as(arch, "recvmmsg", [3, 0x1000, n, 0, 0, 0], &mail.task());
            mail.header(0, 0, 0);
            mail.header(3, 0x2000, 64);
            assert_eq!(many(&mail, 3), Need::Nothing);
            assert_eq!(many(&mail, 4), Need::Exit);
            let cut = need_as(arch, "recvmmsg", [3, 0x1000, 1024, 0, 0, 0], &mail.task());
            assert_eq!(cut, Need::Exit, "the last ones are unreadable now");
            assert_eq!(need_as(arch, "recvmmsg", [3, u64::MAX, 1, 0, 0, 0], &mail.task()), Need::Exit);
        }
    }

    #[test]
    fn socketcall_hands_its_arguments_on() {
        let mut mail = Mail::new(Arch::I386);
        let end = mail.cmsg(0, SOL_SOCKET, SCM_RIGHTS, &[5]);
        mail.header(0, 0x2000, end);
        for (i, word) in [3u64, 0x1000, u64::from(MSG_CMSG_CLOEXEC)].into_iter().enumerate() {
            mail.put(0x800 + 4 * i as u64, word, 4);
        }
        let e = decode_as(Arch::I386, "socketcall", [17, 0x1800, 0, 0, 0, 0], Some(1), &mail.task());
        assert_eq!(shown(&e), vec![(5, true, FileKind::PipeRead)]);
        assert_eq!(need_as(Arch::I386, "socketcall", [17, 0x1800, 0, 0, 0, 0], &mail.task()), Need::Exit);
        mail.header(0, 0, 0);
        assert_eq!(need_as(Arch::I386, "socketcall", [17, 0x1800, 0, 0, 0, 0], &mail.task()), Need::Nothing);
    }

    #[test]
    fn the_pidfd_of_a_peer_is_read_where_it_was_written() {
        let mut mail = Mail::new(Arch::X86_64);
        mail.put(0x100, 8, 4);
        let args = [3, SOL_SOCKET.into(), SO_PEERPIDFD.into(), 0x1100, 0, 0];
        let e = decode_as(Arch::X86_64, "getsockopt", args, Some(0), &mail.task());
        assert_eq!(shown(&e), vec![(8, true, FileKind::Pidfd)]);
        assert_eq!(decode_as(Arch::X86_64, "getsockopt", args, Some(-61), &mail.task()), vec![]);
        let other_level = [3, 6, SO_PEERPIDFD.into(), 0x1100, 0, 0];
        assert_eq!(decode_as(Arch::X86_64, "getsockopt", other_level, Some(0), &mail.task()), vec![]);
        assert_eq!(need_as(Arch::X86_64, "getsockopt", other_level, &mail.task()), Need::Nothing);
    }
}

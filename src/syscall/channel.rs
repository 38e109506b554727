//! pipe(2), socket(2), socketpair(2), accept(2), and i386's socketcall(2).

use super::receive::{message, messages, needs_message, needs_messages, peer};
use super::{Arg, Made, Need, Row, When};
use crate::base::Fd;
use crate::event::{Effect, FileKind};

const O_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const SOCK_CLOEXEC: u32 = libc::SOCK_CLOEXEC as u32;
const RDWR: u32 = libc::O_RDWR as u32;

/// The two descriptors that the kernel wrote to `addr` (`int[2]`).
fn pair(m: &Made<'_>, addr: u64) -> Option<(Fd, Fd)> {
    if m.ret != Some(0) {
        return None;
    }
    let (a, b) = (m.task.half(addr)? as i32, m.task.half(addr.checked_add(4)?)? as i32);
    (a >= 0 && b >= 0).then_some((Fd(a), Fd(b)))
}

fn pipe(m: &Made<'_>, flags: u32) -> Vec<Effect> {
    let Some((r, w)) = pair(m, m.addr(0)) else {
        return Vec::new();
    };
    let status = flags & !O_CLOEXEC;
    let open = |fd, access: i32, kind| {
        let file = m.object(fd, status | access as u32, kind, || b"pipe".to_vec());
        Effect::Open { fd, cloexec: flags & O_CLOEXEC != 0, file }
    };
    vec![open(r, libc::O_RDONLY, FileKind::PipeRead), open(w, libc::O_WRONLY, FileKind::PipeWrite)]
}

fn socket(m: &Made<'_>, kind: u32) -> Vec<Effect> {
    m.opens(RDWR, kind & SOCK_CLOEXEC != 0, FileKind::Socket)
}

fn socketpair(m: &Made<'_>, kind: u32, addr: u64) -> Vec<Effect> {
    let Some((a, b)) = pair(m, addr) else {
        return Vec::new();
    };
    let open = |fd| Effect::Open {
        fd,
        cloexec: kind & SOCK_CLOEXEC != 0,
        file: m.object(fd, RDWR, FileKind::Socket, || b"socket".to_vec()),
    };
    vec![open(a), open(b)]
}

fn accept(m: &Made<'_>, fd: Fd, flags: u32) -> Vec<Effect> {
    if m.failed_with(libc::EBADF) {
        return vec![Effect::Refused { fd, to: None, close: false }];
    }
    socket(m, flags)
}

/// Argument `i` of a socketcall(2); 0 where it cannot be read.
fn inner(m: &Made<'_>, i: u64) -> u32 {
    m.addr(1).checked_add(4 * i).and_then(|a| m.task.half(a)).unwrap_or(0)
}

/// socketcall(2): the calls that make descriptors, by the numbers of linux/net.h, with arguments in memory.
fn socketcall(m: &Made<'_>) -> Vec<Effect> {
    let arg = |i| inner(m, i);
    match m.int(0) {
        1 => socket(m, arg(1)),
        5 => accept(m, Fd(arg(0) as i32), 0),
        8 => socketpair(m, arg(1), u64::from(arg(3))),
        15 => peer(m, arg(1), arg(2), u64::from(arg(3))),
        17 => message(m, Fd(arg(0) as i32), u64::from(arg(1)), arg(2)),
        18 => accept(m, Fd(arg(0) as i32), arg(3)),
        19 => messages(m, Fd(arg(0) as i32), u64::from(arg(1)), arg(3)),
        _ => Vec::new(),
    }
}

fn needs_socketcall(m: &Made<'_>) -> Need {
    let arg = |i| inner(m, i);
    let needed = match m.int(0) {
        15 => super::receive::is_peer(arg(1), arg(2)),
        17 => needs_message(m, u64::from(arg(1))),
        19 => needs_messages(m, u64::from(arg(1)), arg(2)),
        _ => true,
    };
    if needed { Need::Exit } else { Need::Nothing }
}

pub(super) static ROWS: &[Row] = &[
    Row {
        name: "pipe",
        nr64: Some(22),
        nr32: Some(42),
        only: None,
        when: When::Exit,
        args: &[Arg::Pointer],
        decode: |m| pipe(m, 0),
    },
    Row {
        name: "pipe2",
        nr64: Some(293),
        nr32: Some(331),
        only: None,
        when: When::Exit,
        args: &[Arg::Pointer, Arg::OpenFlags],
        decode: |m| pipe(m, m.int(1) as u32),
    },
    Row {
        name: "socket",
        nr64: Some(41),
        nr32: Some(359),
        only: None,
        when: When::Exit,
        args: &[Arg::Int, Arg::Flags, Arg::Int],
        decode: |m| socket(m, m.int(1) as u32),
    },
    Row {
        name: "socketpair",
        nr64: Some(53),
        nr32: Some(360),
        only: None,
        when: When::Exit,
        args: &[Arg::Int, Arg::Flags, Arg::Int, Arg::Pointer],
        decode: |m| socketpair(m, m.int(1) as u32, m.addr(3)),
    },
    Row {
        name: "accept",
        nr64: Some(43),
        nr32: None,
        only: None,
        when: When::Exit,
        args: &[Arg::Fd, Arg::Pointer, Arg::Pointer],
        decode: |m| accept(m, m.fd(0), 0),
    },
    Row {
        name: "accept4",
        nr64: Some(288),
        nr32: Some(364),
        only: None,
        when: When::Exit,
        args: &[Arg::Fd, Arg::Pointer, Arg::Pointer, Arg::Flags],
        decode: |m| accept(m, m.fd(0), m.int(3) as u32),
    },
    Row {
        name: "socketcall",
        nr64: None,
        nr32: Some(102),
        only: Some((0, &[1, 5, 8, 15, 17, 18, 19])),
        when: When::Arguments(needs_socketcall),
        args: &[Arg::Int, Arg::Pointer],
        decode: socketcall,
    },
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Paper, decode};
    use super::*;

    #[test]
    fn a_pipe_has_two_ends() {
        let bytes = [3i32.to_le_bytes(), 4i32.to_le_bytes()].concat();
        let task = Paper { at: 0x100, bytes, links: vec![(3, "pipe:[9]"), (4, "pipe:[9]")], ..Paper::default() };
        let e = decode("pipe2", [0x100, u64::from(O_CLOEXEC), 0, 0, 0, 0], Some(0), &task);
        match e.as_slice() {
            [
                Effect::Open { fd: Fd(3), cloexec: true, file: r },
                Effect::Open { fd: Fd(4), cloexec: true, file: w },
            ] => {
                assert_eq!((r.kind, w.kind), (FileKind::PipeRead, FileKind::PipeWrite));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(decode("pipe2", [0x100, 0, 0, 0, 0, 0], Some(-24), &task), vec![]);
    }

    #[test]
    fn an_unreadable_pair_is_left_out() {
        assert_eq!(decode("pipe", [0x900, 0, 0, 0, 0, 0], Some(0), &Paper::default()), vec![]);
        assert_eq!(decode("pipe", [u64::MAX - 2, 0, 0, 0, 0, 0], Some(0), &Paper::default()), vec![]);
    }

    #[test]
    fn socketcall_is_decoded_from_memory() {
        let args: Vec<u8> = [1u32, SOCK_CLOEXEC | 1, 0].iter().flat_map(|w| w.to_le_bytes()).collect();
        let task = Paper { at: 0x40, bytes: args, ..Paper::default() };
        let e = decode("socketcall", [1, 0x40, 0, 0, 0, 0], Some(5), &task);
        assert!(matches!(e.as_slice(), [Effect::Open { fd: Fd(5), cloexec: true, .. }]), "{e:?}");
    }
}

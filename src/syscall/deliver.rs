//! Descriptors that are read: read(2), readv(2) and preadv2(2) of fanotify(7) and userfaultfd(2).
//!
//! Stopping at every read of every program would be far too dear. These rows are not in the filter; they matter only
//! where the number that is read is of a kind that hands out descriptors, see [`FileKind::hands_out`].

use super::{Arg, Made, Row};
use crate::base::{Arch, Fd, RawCall};
use crate::event::{Effect, FileKind, NewFile};

const O_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const RDWR: u32 = libc::O_RDWR as u32;

/// As much of what was read is looked at, in bytes: a thousand events and more.
const READ_MAX: u64 = 64 << 10;

/// The most places that a call may name (linux/uio.h, UIO_MAXIOV).
const IOV_MAX: u64 = 1024;

// linux/fanotify.h: struct fanotify_event_metadata is event_len, vers, reserved, metadata_len, mask, fd, pid.
const METADATA: usize = 24;
const METADATA_LEN: usize = 6;
const METADATA_FD: usize = 16;
/// FAN_EVENT_INFO_TYPE_PIDFD: a struct fanotify_event_info_header of type, pad and length, then the pidfd.
const INFO_PIDFD: u8 = 4;

// linux/userfaultfd.h: struct uffd_msg is event, seven reserved bytes, and a union that begins with the number.
const UFFD_MSG: usize = 32;
const UFFD_FORK: u8 = 0x13;
const UFFD_FD: usize = 8;

/// Where the bytes went: places and lengths.
type Places = Vec<(u64, u64)>;

fn read(m: &Made<'_>) -> Vec<Effect> {
    delivered(m, |m| vec![(m.addr(1), READ_MAX)])
}

fn readv(m: &Made<'_>) -> Vec<Effect> {
    delivered(m, places)
}

/// The array of `struct iovec` (readv(2)): a pointer and a length, each a word.
fn places(m: &Made<'_>) -> Places {
    let wide = m.call.arch != Arch::I386;
    let word = |addr: u64| if wide { m.task.word(addr) } else { m.task.half(addr).map(u64::from) };
    let size = if wide { 8 } else { 4 };
    let count = u64::try_from(m.int(2)).unwrap_or(0).min(IOV_MAX);
    let place = |i: u64| {
        let at = m.addr(1).checked_add(2 * size * i)?;
        Some((word(at)?, word(at.checked_add(size)?)?))
    };
    (0..count).map_while(place).collect()
}

fn delivered(m: &Made<'_>, places: fn(&Made<'_>) -> Places) -> Vec<Effect> {
    let Some(length @ 1..) = m.ret.and_then(|n| u64::try_from(n).ok()) else { return Vec::new() };
    let kind = m.task.link(m.fd(0)).map(|l| NewFile::from_link(l, 0).kind);
    let parse = match kind {
        Some(FileKind::Fanotify) => fanotify,
        Some(FileKind::Userfaultfd) => userfaultfd,
        _ => return Vec::new(),
    };
    let mut bytes = vec![0; length.min(READ_MAX) as usize];
    let mut filled = 0;
    // Each place is filled before the next (fs/read_write.c, do_loop_readv_writev), so all is one stream.
    for (addr, room) in places(m) {
        let rest = bytes.get_mut(filled..).unwrap_or_default();
        let want = rest.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let got = m.task.read(addr, rest.get_mut(..want).unwrap_or_default());
        filled += got;
        if got < want || filled == bytes.len() {
            break;
        }
    }
    bytes.truncate(filled);
    let mut numbers = Vec::new();
    parse(&bytes, &mut numbers);
    let mut seen = std::collections::BTreeSet::new();
    numbers.retain(|n| *n >= 0 && seen.insert(*n));
    numbers.into_iter().filter_map(|n| opened(m, Fd(n))).collect()
}

/// What is at `fd`, if something is: memory may have been written since.
fn opened(m: &Made<'_>, fd: Fd) -> Option<Effect> {
    let link = m.task.link(fd)?;
    let flags = m.task.flags(fd).unwrap_or(RDWR);
    Some(Effect::Open { fd, cloexec: flags & O_CLOEXEC != 0, file: NewFile::from_link(link, flags & !O_CLOEXEC) })
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?)))
}

fn word(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The numbers in the events of fanotify(7): one each, and one more with FAN_REPORT_PIDFD.
fn fanotify(mut bytes: &[u8], numbers: &mut Vec<i32>) {
    while let Some(length) = word(bytes, 0).and_then(|n| usize::try_from(n).ok()).filter(|n| *n >= METADATA)
        && let Some((event, rest)) = bytes.split_at_checked(length)
    {
        numbers.extend(word(event, METADATA_FD));
        let infos = half(event, METADATA_LEN).filter(|n| *n >= METADATA);
        let mut info = infos.and_then(|n| event.get(n..)).unwrap_or_default();
        while let Some(length) = half(info, 2).filter(|n| *n >= 4)
            && let Some((this, next)) = info.split_at_checked(length)
        {
            if this.first() == Some(&INFO_PIDFD) {
                numbers.extend(word(this, 4));
            }
            info = next;
        }
        bytes = rest;
    }
}

/// The numbers in the messages of userfaultfd(2): a new userfaultfd for each process that was forked.
fn userfaultfd(bytes: &[u8], numbers: &mut Vec<i32>) {
    let forks = bytes.chunks_exact(UFFD_MSG).filter(|m| m.first() == Some(&UFFD_FORK));
    numbers.extend(forks.filter_map(|m| word(m, UFFD_FD)));
}

pub(super) static ROWS: &[Row] = &[
    Row::exit("read", Some(0), Some(3), &[Arg::Fd, Arg::Pointer, Arg::Int], read),
    Row::exit("readv", Some(19), Some(145), &[Arg::Fd, Arg::Pointer, Arg::Int], readv),
    Row::exit("preadv2", Some(327), Some(378), &[Arg::Fd, Arg::Pointer, Arg::Int], readv),
];

/// The row of a call that matters only if its first argument is of a kind that hands out descriptors.
pub fn delivery(call: &RawCall) -> Option<&'static Row> {
    ROWS.iter().find(|r| match call.arch {
        Arch::X86_64 => r.nr64 == Some(call.nr),
        Arch::I386 => r.nr32 == Some(call.nr),
        Arch::X32 => false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Paper, decode, decode_as};
    use super::*;

    fn event(fd: i32, infos: &[u8]) -> Vec<u8> {
        let mut e = Vec::new();
        e.extend((METADATA as u32 + infos.len() as u32).to_le_bytes());
        e.extend([3, 0]);
        e.extend((METADATA as u16).to_le_bytes());
        e.extend(0x20u64.to_le_bytes());
        e.extend(fd.to_le_bytes());
        e.extend(77i32.to_le_bytes());
        e.extend(infos);
        e
    }

    fn task(bytes: Vec<u8>) -> Paper {
        let links = vec![
            (3, "anon_inode:[fanotify]"),
            (4, "anon_inode:[userfaultfd]"),
            (5, "/tmp/a"),
            (6, "/tmp/b"),
            (7, "anon_inode:[pidfd]"),
            (8, "anon_inode:[userfaultfd]"),
            (9, "/tmp/c"),
        ];
        Paper { at: 0x1000, bytes, links, flags: vec![(5, O_CLOEXEC), (6, 0)], ..Paper::default() }
    }

    fn numbers(fd: u64, ret: i64, bytes: Vec<u8>) -> Vec<(i32, bool)> {
        let e = decode("read", [fd, 0x1000, 4096, 0, 0, 0], Some(ret), &task(bytes));
        let one = |e: &Effect| match e {
            Effect::Open { fd, cloexec, .. } => (fd.0, *cloexec),
            other => panic!("{other:?}"),
        };
        e.iter().map(one).collect()
    }

    #[test]
    fn each_event_of_fanotify_has_a_descriptor() {
        let pidfd = [&[INFO_PIDFD, 0, 8, 0][..], &7i32.to_le_bytes()].concat();
        let all = [event(5, &[]), event(-1, &[]), event(6, &pidfd)].concat();
        let length = all.len() as i64;
        assert_eq!(numbers(3, length, all.clone()), vec![(5, true), (6, false), (7, false)]);
        assert_eq!(numbers(3, 24, all.clone()), vec![(5, true)], "no more than was read");
        assert_eq!(numbers(3, -11, all.clone()), vec![]);
        assert_eq!(numbers(3, 0, all.clone()), vec![]);
        assert_eq!(numbers(9, length, all), vec![], "a file that reads like events");
    }

    #[test]
    fn what_was_read_into_several_places_is_one_stream() {
        let events = [event(5, &[]), event(6, &[])].concat();
        for (arch, word) in [(Arch::X86_64, 8), (Arch::I386, 4)] {
            // An event and a half, an empty place, and more room than was filled.
            let vector = [(0x1000u64, 36u64), (0x1100, 0), (0x1200, 4096)];
            let mut bytes = events[..36].to_vec();
            bytes.resize(0x200, 0);
            bytes.extend(&events[36..]);
            bytes.resize(0x300, 0);
            bytes.extend(vector.iter().flat_map(|(a, n)| [*a, *n]).flat_map(|w| w.to_le_bytes()[..word].to_vec()));
            let read = |count: u64, ret| {
                let e = decode_as(arch, "readv", [3, 0x1300, count, 0, 0, 0], Some(ret), &task(bytes.clone()));
                e.iter().filter(|e| matches!(e, Effect::Open { .. })).count()
            };
            assert_eq!((read(3, 48), read(1, 24), read(2, 48), read(3, -11)), (2, 1, 1, 0), "{arch:?}");
            assert_eq!(read(u64::MAX, 48), 0, "{arch:?}: no such number of places");
        }
    }

    #[test]
    fn a_fork_event_has_a_userfaultfd() {
        let mut message = vec![0; 64];
        message[32] = UFFD_FORK;
        message[40..44].copy_from_slice(&8i32.to_le_bytes());
        assert_eq!(numbers(4, 64, message.clone()), vec![(8, false)]);
        assert_eq!(numbers(4, 63, message), vec![], "a message that was not read whole");
    }

    #[test]
    fn garbage_is_read_to_its_end() {
        for garbage in
            [vec![0xff; 512], vec![0; 512], vec![24; 512], event(50, &[]), event(5, &[4, 0, 0, 0, 5, 0, 0, 0])]
        {
            let length = garbage.len() as i64;
            let found = numbers(3, length, garbage);
            assert!(found.iter().all(|n| *n == (5, true)), "{found:?}");
        }
        assert_eq!(numbers(3, i64::MAX, vec![]), vec![]);
    }
}

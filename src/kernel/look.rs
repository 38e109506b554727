//! What a descriptor is at now: its position, its peers, what waits in it. Nothing here changes anything.

use super::{procfs, sys};
use crate::base::{Fd, Tid};
use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

/// The position of the open file description, in bytes; 0 for what has none (proc_pid_fdinfo(5), pos).
pub fn position(tid: Tid, fd: Fd) -> Option<u64> {
    procfs::fdinfo(tid, fd, "pos", 10)
}

/// The counter of an eventfd (proc_pid_fdinfo(5), eventfd-count).
pub fn counter(tid: Tid, fd: Fd) -> Option<u64> {
    procfs::fdinfo(tid, fd, "eventfd-count", 16)
}

/// What was seen of an object's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The offset of the first byte; in a pipe 0, where the next read begins.
    pub start: u64,
    /// The position of the open file description; `None` for a pipe.
    pub position: Option<u64>,
    /// How long the file is; `None` for a pipe.
    pub size: Option<u64>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// File systems in which reading a file is an act: messages are taken out, code runs.
const ACTIVE: [&str; 9] =
    ["proc", "sysfs", "tracefs", "debugfs", "configfs", "securityfs", "cgroup", "cgroup2", "efivarfs"];

fn refused<T>(what: &str) -> Result<T, String> {
    Err(format!("{what}: it cannot be looked at without doing something to it"))
}

/// Whether what `/proc` shows of a descriptor is a path, of a file that a file system serves.
pub(super) fn is_on_a_mount(link: &[u8]) -> bool {
    link.starts_with(b"/") && !link.starts_with(b"/memfd:")
}

/// At most `max` bytes around the position of a regular file, or of what waits in a pipe, which stays there (tee(2)).
///
/// # Errors
/// A sentence: what it is cannot be looked at without taking something out of it, or the kernel refuses.
pub fn content(tid: Tid, fd: Fd, max: usize) -> Result<Content, String> {
    may_be_read(tid, fd)?;
    read(tid, fd, max)
}

/// Whether reading the file is no act.
///
/// # Errors
/// A sentence: it is.
pub(super) fn may_be_read(tid: Tid, fd: Fd) -> Result<(), String> {
    let link = procfs::link(tid, fd).ok_or("it is not open any more")?;
    // What is asked of the file system may never be answered: who serves it may be the one that stands still.
    if is_on_a_mount(&link) {
        match procfs::filesystem(tid, fd) {
            Some(kind) if ACTIVE.iter().any(|a| kind == *a || kind.starts_with("fuse")) => {
                return refused(&format!("a file of {kind}"));
            }
            Some(_) => {}
            None => return refused("a file of no mount that the program sees"),
        }
    }
    Ok(())
}

/// [`content`], of what may be read.
///
/// # Errors
/// A sentence.
pub(super) fn read(tid: Tid, fd: Fd, max: usize) -> Result<Content, String> {
    let path = format!("/proc/{tid}/fd/{fd}");
    let text = |e: io::Error| format!("it cannot be looked at: {e}");
    let link = procfs::link(tid, fd).ok_or("it is not open any more")?;
    let kind = std::fs::metadata(&path).map_err(text)?.file_type();
    // Opening a FIFO of the file system once more wakes who waits for a reader (fifo(7)).
    if !(kind.is_file() || kind.is_fifo() && link.starts_with(b"pipe:[")) {
        return refused("only regular files and pipes can be looked at");
    }
    let file = procfs::open_read(Path::new(&path)).map_err(text)?;
    if kind.is_file() {
        let size = file.metadata().map_err(text)?.len();
        let position = position(tid, fd).unwrap_or(0);
        let start = position.min(size).saturating_sub((max / 2) as u64);
        let mut bytes = vec![0; max];
        let n = file.read_at(&mut bytes, start).map_err(text)?;
        bytes.truncate(n);
        return Ok(Content { start, position: Some(position), size: Some(size), bytes });
    }
    let (mut own, to) = io::pipe().map_err(text)?;
    let n = match sys::tee(&file, &to, max) {
        Ok(n) => n,
        // Nothing waits.
        Err(nix::errno::Errno::EAGAIN) => 0,
        Err(e) => return Err(text(e.into())),
    };
    let mut bytes = vec![0; n];
    own.read_exact(&mut bytes).map_err(text)?;
    Ok(Content { start: 0, position: None, size: None, bytes })
}

/// What the sockets of a network namespace are, by inode.
#[derive(Debug, Default)]
pub struct Sockets(HashMap<u64, Option<String>>);

impl Sockets {
    /// Those that the task's namespace has now.
    pub fn of(tid: Tid) -> Sockets {
        let mut found = HashMap::new();
        for family in ["tcp", "tcp6", "udp", "udp6"] {
            let text = procfs::read(format!("/proc/{tid}/net/{family}")).unwrap_or_default();
            found.extend(String::from_utf8_lossy(&text).lines().filter_map(|l| internet(family, l)));
        }
        let text = procfs::read(format!("/proc/{tid}/net/unix")).unwrap_or_default();
        for (inode, name) in String::from_utf8_lossy(&text).lines().filter_map(unix) {
            // A name may have a newline in it, and what follows read like a line of another socket.
            found.entry(inode).and_modify(|known| *known = None).or_insert(Some(name));
        }
        Sockets(found)
    }

    /// The addresses of a socket: `tcp 127.0.0.1:80 to 127.0.0.1:4711`, `unix /run/x`; `None` where it is of a family that
    /// `/proc` does not list. Not safe to show.
    pub fn get(&self, inode: u64) -> Option<&str> {
        self.0.get(&inode)?.as_deref()
    }
}

/// A line `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …` (proc_pid_net(5)).
fn internet(family: &str, line: &str) -> Option<(u64, Option<String>)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, peer) = (address(fields.get(1)?)?, address(fields.get(2)?)?);
    let name = family.trim_end_matches('6');
    let text = match peer.ends_with(":0") {
        true => format!("{name} {local}"),
        false => format!("{name} {local} to {peer}"),
    };
    Some((fields.get(9)?.parse().ok()?, Some(text)))
}

/// A line `Num: RefCount Protocol Flags Type St Inode Path` (proc_pid_net(5), unix). The numbers have fixed widths
/// (net/unix/af_unix.c, unix_seq_show); what has not is a piece of a name.
fn unix(line: &str) -> Option<(u64, String)> {
    let mut rest = line;
    for (width, end) in [(16, ": "), (8, " "), (8, " "), (8, " "), (4, " "), (2, " ")] {
        let (field, after) = rest.split_at_checked(width)?;
        if !field.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        rest = after.strip_prefix(end)?;
    }
    let (inode, path) = match rest.trim_start().split_once(' ') {
        Some((inode, path)) => (inode, Some(path)),
        None => (rest.trim_start(), None),
    };
    Some((inode.parse().ok()?, path.map_or("unix, without a name".to_string(), |p| format!("unix {p}"))))
}

/// `0100007F:1F90` as `127.0.0.1:8080`: words of 32 bits in the machine's order, the port in hexadecimal.
fn address(text: &str) -> Option<String> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<u32> = (0..host.len() / 8)
        .map(|i| u32::from_str_radix(host.get(i * 8..i * 8 + 8).unwrap_or_default(), 16).map(u32::from_be))
        .collect::<Result<_, _>>()
        .ok()?;
    let ip: IpAddr = match words.as_slice() {
        [one] => Ipv4Addr::from(*one).into(),
        [a, b, c, d] => {
            let all = u128::from(*a) << 96 | u128::from(*b) << 64 | u128::from(*c) << 32 | u128::from(*d);
            Ipv6Addr::from(all).into()
        }
        _ => return None,
    };
    Some(match ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom, Write};
    use std::os::fd::AsRawFd;

    fn own() -> Tid {
        Tid(std::process::id() as i32)
    }

    #[test]
    fn addresses_are_read_in_the_machines_order() {
        assert_eq!(address("0100007F:1F90").as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(address("00000000000000000000000001000000:0016").as_deref(), Some("[::1]:22"));
        assert_eq!(address("x:1"), None);
    }

    #[test]
    fn a_file_is_seen_around_its_position_which_does_not_move() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        file.seek(SeekFrom::Start(6)).unwrap();
        let fd = Fd(file.as_raw_fd());
        let seen = content(own(), fd, 4).unwrap();
        assert_eq!(seen, Content { start: 4, position: Some(6), size: Some(10), bytes: b"4567".to_vec() });
        assert_eq!(position(own(), fd), Some(6));
    }

    #[test]
    fn what_waits_in_a_pipe_stays_there() {
        let (mut read, mut write) = io::pipe().unwrap();
        write.write_all(b"hello").unwrap();
        for fd in [read.as_raw_fd(), write.as_raw_fd()] {
            assert_eq!(content(own(), Fd(fd), 3).unwrap().bytes, b"hel");
        }
        let mut buf = [0; 5];
        read.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"hello");
        assert_eq!(content(own(), Fd(read.as_raw_fd()), 3).unwrap().bytes, b"");
    }

    #[test]
    fn a_name_cannot_pass_for_another_socket() {
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 10000 /run/a b";
        assert_eq!(unix(line), Some((10000, "unix /run/a b".to_string())));
        let unnamed = "0000000000000000: 00000003 00000000 00000000 0001 03 123456";
        assert_eq!(unix(unnamed), Some((123_456, "unix, without a name".to_string())));
        assert_eq!(unix("0: 2 0 10000 0001 01 77 @docker"), None, "a piece of a name");
        let dir = tempfile::tempdir().unwrap();
        let (a, _b) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let inode = a_inode(&a);
        assert_eq!(Sockets::of(own()).get(inode), Some("unix, without a name"));
        let forged = format!("x\n0000000000000000: 00000002 00000000 00010000 0001 01 {inode} @docker");
        let Ok(_c) = std::os::unix::net::UnixDatagram::bind(dir.path().join(forged)) else { return };
        assert_eq!(Sockets::of(own()).get(inode), None, "two say that they are this one");
    }

    fn a_inode(socket: &impl AsRawFd) -> u64 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino()
    }

    #[test]
    fn what_would_be_changed_by_a_look_is_left_alone() {
        let own_status = std::fs::File::open("/proc/self/status").unwrap();
        let told = content(own(), Fd(own_status.as_raw_fd()), 4).unwrap_err();
        assert!(told.contains("a file of proc"), "{told}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fifo = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        assert!(content(own(), Fd(fifo.as_raw_fd()), 4).is_err());
    }

    #[test]
    fn a_sockets_addresses_are_found_and_a_device_is_left_alone() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = a_inode(&socket);
        let expected = format!("tcp {}", socket.local_addr().unwrap());
        assert_eq!(Sockets::of(own()).get(inode), Some(expected.as_str()));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(content(own(), Fd(null.as_raw_fd()), 3).is_err());
    }
}

//! What an open file description is, as far as `/proc/PID/fd` and the call that made it tell.

use super::wire;
use serde::{Deserialize, Serialize};

/// A new open file description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewFile {
    /// What it is.
    pub kind: FileKind,
    /// Its path, or the text that `/proc/PID/fd/N` links to (`pipe:[123]`), or what the call named; may be any bytes.
    #[serde(with = "wire::bytes")]
    pub path: Vec<u8>,
    /// The O_* status and access flags (open(2)), as far as they are known.
    pub flags: u32,
}

/// What an open file description is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // they are called what they are
pub enum FileKind {
    /// Anything with a path: a regular file, a directory, a device.
    Path,
    PipeRead,
    PipeWrite,
    Socket,
    Eventfd,
    Epoll,
    Timerfd,
    Signalfd,
    Memfd,
    Inotify,
    Fanotify,
    Userfaultfd,
    Pidfd,
    IoUring,
    PerfEvent,
    Bpf,
    Landlock,
    MessageQueue,
    /// What decides another process's system calls (seccomp_unotify(2)).
    SeccompListener,
    /// What a mount is made with (fsopen(2)).
    FsContext,
    /// A namespace (namespaces(7)).
    Namespace,
    /// An anonymous inode or anything else of the kernel's.
    Other,
}

/// Which way data can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It can only be read.
    Read,
    /// It can only be written.
    Write,
    /// Both, or it is not known.
    Both,
}

impl FileKind {
    /// Whether read(2) of it may make descriptors: fanotify(7), and userfaultfd(2) with UFFD_FEATURE_EVENT_FORK.
    pub fn hands_out(self) -> bool {
        matches!(self, FileKind::Fanotify | FileKind::Userfaultfd)
    }

    /// The word of conditions for it (`kind == pipe`).
    pub fn word(self) -> &'static str {
        self.names().0
    }

    /// Its word and what people call it.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            FileKind::Path => ("file", "file"),
            FileKind::PipeRead => ("pipe", "pipe (read end)"),
            FileKind::PipeWrite => ("pipe", "pipe (write end)"),
            FileKind::Socket => ("socket", "socket"),
            FileKind::Eventfd => ("eventfd", "eventfd"),
            FileKind::Epoll => ("epoll", "epoll"),
            FileKind::Timerfd => ("timerfd", "timerfd"),
            FileKind::Signalfd => ("signalfd", "signalfd"),
            FileKind::Memfd => ("memfd", "memfd"),
            FileKind::Inotify => ("inotify", "inotify"),
            FileKind::Fanotify => ("fanotify", "fanotify"),
            FileKind::Userfaultfd => ("userfaultfd", "userfaultfd"),
            FileKind::Pidfd => ("pidfd", "pidfd"),
            FileKind::IoUring => ("io_uring", "io_uring"),
            FileKind::PerfEvent => ("perf", "perf event"),
            FileKind::Bpf => ("bpf", "bpf"),
            FileKind::Landlock => ("landlock", "landlock ruleset"),
            FileKind::MessageQueue => ("mqueue", "message queue"),
            FileKind::SeccompListener => ("seccomp", "seccomp listener"),
            FileKind::FsContext => ("fscontext", "filesystem context"),
            FileKind::Namespace => ("namespace", "namespace"),
            FileKind::Other => ("other", "other"),
        }
    }
}

impl NewFile {
    /// The object behind the link text of `/proc/PID/fd/N` (proc_pid_fd(5)), opened with `flags`.
    pub fn from_link(link: Vec<u8>, flags: u32) -> NewFile {
        let write = flags & libc::O_ACCMODE as u32 == libc::O_WRONLY as u32;
        let kind = if link.starts_with(b"pipe:[") {
            if write { FileKind::PipeWrite } else { FileKind::PipeRead }
        } else if link.starts_with(b"socket:[") {
            FileKind::Socket
        } else if let Some(rest) = link.strip_prefix(b"anon_inode:") {
            match rest {
                b"[eventfd]" => FileKind::Eventfd,
                b"[eventpoll]" => FileKind::Epoll,
                b"[timerfd]" => FileKind::Timerfd,
                b"[signalfd]" => FileKind::Signalfd,
                b"inotify" => FileKind::Inotify,
                b"[fanotify]" => FileKind::Fanotify,
                b"[userfaultfd]" => FileKind::Userfaultfd,
                b"[pidfd]" => FileKind::Pidfd,
                b"[io_uring]" => FileKind::IoUring,
                b"[perf_event]" => FileKind::PerfEvent,
                b"[landlock-ruleset]" => FileKind::Landlock,
                b"seccomp notify" => FileKind::SeccompListener,
                b"[fscontext]" => FileKind::FsContext,
                b"btf" => FileKind::Bpf,
                r if r.starts_with(b"bpf-") || r.starts_with(b"bpf_") => FileKind::Bpf,
                _ => FileKind::Other,
            }
        } else if link.starts_with(b"/memfd:") {
            FileKind::Memfd
        } else if link.starts_with(b"/") {
            FileKind::Path
        } else if is_namespace(&link) {
            FileKind::Namespace
        } else {
            FileKind::Other
        };
        NewFile { kind, path: link, flags }
    }

    /// Whether its link reads as that of `other`: it may be the same object. A file that was removed meanwhile has
    /// ` (deleted)` behind its path (proc_pid_fd(5)).
    pub fn reads_as(&self, other: &NewFile) -> bool {
        fn bare(path: &[u8]) -> &[u8] {
            path.strip_suffix(b" (deleted)").unwrap_or(path)
        }
        // The two ends of a pipe have one text; of other objects a call may know more than the text says.
        let is_pipe = |kind| matches!(kind, FileKind::PipeRead | FileKind::PipeWrite);
        (self.kind == other.kind || !is_pipe(self.kind)) && bare(&self.path) == bare(&other.path)
    }

    /// Whether no other object ever has the same link: an inode's number stands for one pipe or socket (pipe(7),
    /// proc_pid_fd(5)), but for the two ends of a pipe.
    pub fn is_named_for_good(&self) -> bool {
        let text = match self.kind {
            FileKind::PipeRead | FileKind::PipeWrite => "pipe:[",
            FileKind::Socket => "socket:[",
            _ => return false,
        };
        self.path.starts_with(text.as_bytes())
    }

    /// Whether it was opened to be written, too (open(2)).
    pub fn is_writable(&self) -> bool {
        let access = (self.flags as i32) & libc::O_ACCMODE;
        matches!(access, libc::O_WRONLY | libc::O_RDWR) && self.flags as i32 & libc::O_PATH == 0
    }

    /// Whether `/proc` may show it as `shown`, now or later: what is another file under the same name is told by its flags,
    /// and by a text of another kind than the call's.
    pub fn may_show_as(&self, shown: &NewFile) -> bool {
        let untold = match shown.kind {
            FileKind::Other => true,
            FileKind::Path => matches!(self.kind, FileKind::MessageQueue | FileKind::Memfd),
            _ => false,
        };
        self.reads_as(shown) && self.lasting_flags() == shown.lasting_flags() && (self.kind == shown.kind || untold)
    }

    /// Its flags that neither open(2) drops nor fcntl(2) changes.
    pub fn lasting_flags(&self) -> u32 {
        const LASTING: i32 =
            libc::O_ACCMODE | libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_SYNC | libc::O_DSYNC;
        self.flags & LASTING as u32
    }

    /// Which way data can go through it.
    pub fn direction(&self) -> Direction {
        match self.kind {
            FileKind::PipeRead => Direction::Read,
            FileKind::PipeWrite => Direction::Write,
            FileKind::Path => match self.flags & libc::O_ACCMODE as u32 {
                f if f == libc::O_RDONLY as u32 => Direction::Read,
                f if f == libc::O_WRONLY as u32 => Direction::Write,
                _ => Direction::Both,
            },
            _ => Direction::Both,
        }
    }

    /// What it is, for people.
    pub fn noun(&self) -> &'static str {
        self.kind.names().1
    }
}

/// Whether a link's text is that of a namespace (namespaces(7), "The /proc/pid/ns/ directory").
fn is_namespace(link: &[u8]) -> bool {
    const KINDS: [&[u8]; 8] = [b"cgroup", b"ipc", b"mnt", b"net", b"pid", b"time", b"user", b"uts"];
    link.iter()
        .position(|b| *b == b':')
        .and_then(|i| link.split_at_checked(i))
        .is_some_and(|(kind, rest)| KINDS.contains(&kind) && rest.starts_with(b":["))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_under_the_same_name_is_told() {
        let file = |kind, path: &str, flags: i32| NewFile { kind, path: path.as_bytes().to_vec(), flags: flags as u32 };
        let shown = |path: &str, flags: i32| NewFile::from_link(path.as_bytes().to_vec(), flags as u32);
        let opened = file(FileKind::Path, "/tmp/a", libc::O_RDWR | libc::O_CREAT);
        assert!(opened.may_show_as(&shown("/tmp/a (deleted)", libc::O_RDWR | libc::O_APPEND)));
        assert!(!opened.may_show_as(&shown("/tmp/a", libc::O_RDONLY)));
        assert!(file(FileKind::MessageQueue, "/q", libc::O_RDWR).may_show_as(&shown("/q", libc::O_RDWR)));
        let raced = file(FileKind::Pidfd, "socket:[7]", libc::O_RDWR);
        assert!(!raced.may_show_as(&shown("socket:[7]", libc::O_RDWR)), "the number was closed and filled again");
    }

    #[test]
    fn links_tell_what_an_object_is() {
        let kind = |s: &str, f: i32| NewFile::from_link(s.as_bytes().to_vec(), f as u32).kind;
        assert_eq!(kind("pipe:[12]", libc::O_WRONLY), FileKind::PipeWrite);
        assert_eq!(kind("pipe:[12]", libc::O_RDONLY), FileKind::PipeRead);
        assert_eq!(kind("socket:[1]", libc::O_RDWR), FileKind::Socket);
        assert_eq!(kind("anon_inode:[eventfd]", libc::O_RDWR), FileKind::Eventfd);
        assert_eq!(kind("anon_inode:inotify", 0), FileKind::Inotify);
        assert_eq!(kind("/memfd:x (deleted)", libc::O_RDWR), FileKind::Memfd);
        assert_eq!(kind("/tmp/pipe:[12]", 0), FileKind::Path);
        assert_eq!(kind("net:[4026531840]", 0), FileKind::Namespace);
        assert_eq!(kind("anon_inode:[pidfd]", libc::O_RDWR), FileKind::Pidfd);
        assert_eq!(kind("anon_inode:[io_uring]", libc::O_RDWR), FileKind::IoUring);
        assert_eq!(kind("anon_inode:bpf-map", libc::O_RDWR), FileKind::Bpf);
        assert_eq!(kind("anon_inode:seccomp notify", libc::O_RDWR), FileKind::SeccompListener);
        assert_eq!(kind("anon_inode:sync_file", 0), FileKind::Other);
        assert_eq!(kind("what:[1]", 0), FileKind::Other);
    }
}

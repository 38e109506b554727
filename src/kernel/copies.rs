//! Open file descriptions of the target that fdwatch holds, too, so that they can be looked at after their end.
//!
//! A copy is fdwatch's alone: pidfd_getfd(2) makes it close-on-exec, and the target's calls know nothing of it. But as long
//! as it is held the kernel does not end the description, and who waits for that waits.

use super::look::{self, Content};
use super::{procfs, sys};
use crate::base::{Fd, FileId, Pid, Tid};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

/// So many are held at most.
pub const MOST: usize = 16;

#[derive(Debug)]
struct Held {
    fd: OwnedFd,
    /// Why its content cannot be looked at, if it cannot. The mounts that say so are those that the target sees.
    look: Result<(), String>,
}

/// What is held, by object.
#[derive(Debug, Default)]
pub struct Copies {
    held: BTreeMap<FileId, Held>,
    made: u64,
}

impl Copies {
    /// Holds the open file description to which `fd` refers in the task's table, and which is the object `of`.
    ///
    /// # Errors
    /// A sentence: there are too many, the kernel refuses, or letting go of it could last for ever.
    pub fn hold(&mut self, tid: Tid, fd: Fd, of: FileId) -> Result<(), String> {
        if self.held.contains_key(&of) {
            return Err(format!("a copy of object {of} is held already"));
        }
        if self.held.len() >= MOST {
            return Err(format!("{MOST} copies are held already: dup off #ID lets go of one"));
        }
        let link = procfs::link(tid, fd).ok_or_else(|| refusal(Errno::EBADF))?;
        if look::is_on_a_mount(&link) {
            // To close such a file is a request to who serves it (fuse_flush in fs/fuse/file.c), who may stand still.
            match procfs::filesystem(tid, fd) {
                Some(kind) if kind.starts_with("fuse") => {
                    return Err(format!("a file of {kind}: to let go of it, fdwatch would wait for who serves it"));
                }
                Some(_) => {}
                None => return Err("a file of no mount that the program sees: it may be served by it".to_string()),
            }
        }
        let copy = take(tid, fd).map_err(refusal)?;
        self.held.insert(of, Held { fd: copy, look: look::may_be_read(tid, fd) });
        self.made = self.made.saturating_add(1);
        Ok(())
    }

    /// The objects of which a copy is held, in ascending order.
    pub fn all(&self) -> Vec<FileId> {
        self.held.keys().copied().collect()
    }

    /// How many were made.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Lets go of the copy of an object. Whether there was one.
    pub fn let_go(&mut self, of: FileId) -> bool {
        self.held.remove(&of).map(|held| end(held.fd)).is_some()
    }

    /// Lets go of all.
    pub fn clear(&mut self) {
        std::mem::take(&mut self.held).into_values().for_each(|held| end(held.fd));
    }

    /// As [`look::content`], of a copy.
    ///
    /// # Errors
    /// A sentence.
    pub fn content(&self, of: FileId, max: usize) -> Result<Content, String> {
        let held = self.held.get(&of).ok_or_else(|| format!("no copy of object {of} is held"))?;
        held.look.clone()?;
        look::read(Tid(own()), Fd(held.fd.as_raw_fd()), max)
    }
}

/// Closes a copy. Whoever closes a socket last may have to wait until all is sent, or for as long as the program wanted
/// (socket(7), SO_LINGER): the target is not to wait for that together with us.
fn end(copy: OwnedFd) {
    if sys::lingers(&copy) {
        // Without a thread it is closed here.
        let _ = std::thread::Builder::new().spawn(move || drop(copy));
    }
}

fn own() -> i32 {
    std::process::id() as i32
}

/// A copy of our own of the task's descriptor.
fn take(tid: Tid, fd: Fd) -> Result<OwnedFd, Errno> {
    let pidfd = match sys::pidfd_open(tid.0, sys::PIDFD_THREAD) {
        // Of Linux 6.9; before that only the first task of a process can be named, which may have a table of its own.
        Err(Errno::EINVAL) => {
            let Pid(first) = procfs::process_of(tid).ok_or(Errno::ESRCH)?;
            if first != tid.0 && !sys::compare(sys::KCMP_FILES, (tid.0, 0), (first, 0))?.is_eq() {
                return Err(Errno::EINVAL);
            }
            sys::pidfd_open(first, 0)?
        }
        other => other?,
    };
    sys::pidfd_getfd(&pidfd, fd.0)
}

/// Why there is no copy (pidfd_open(2), pidfd_getfd(2), ERRORS).
fn refusal(errno: Errno) -> String {
    let why = match errno {
        Errno::EBADF | Errno::ESRCH => "it is not open any more",
        Errno::EPERM => {
            "the kernel refuses it: it wants CAP_SYS_PTRACE here, or a container's filter forbids pidfd_getfd(2)"
        }
        Errno::ENOSYS => "this kernel has no pidfd_getfd(2), which came with Linux 5.6",
        Errno::EMFILE | Errno::ENFILE => "fdwatch may have no more descriptors open",
        Errno::EINVAL => "this kernel cannot name a thread that has a table of its own, which came with Linux 6.9",
        other => return format!("the kernel refuses a copy: {}", other.desc()),
    };
    format!("no copy: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::unix::fs::FileTypeExt;

    fn number(file: &impl AsRawFd) -> Fd {
        Fd(file.as_raw_fd())
    }

    #[test]
    fn a_copy_shows_what_is_closed_and_never_crosses_an_exec() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        file.seek(SeekFrom::Start(6)).unwrap();
        let mut copies = Copies::default();
        copies.hold(Tid(own()), number(&file), FileId(7)).unwrap();
        assert!(copies.hold(Tid(own()), number(&file), FileId(7)).unwrap_err().contains("held already"));
        file.seek(SeekFrom::Start(5)).unwrap();
        drop(file);
        let seen = copies.content(FileId(7), 4).unwrap();
        assert_eq!(seen, Content { start: 3, position: Some(5), size: Some(10), bytes: b"3456".to_vec() });
        let copy = number(&copies.held.get(&FileId(7)).unwrap().fd);
        assert_ne!(procfs::flags(Tid(own()), copy).unwrap() & libc::O_CLOEXEC as u32, 0);
        assert!(copies.let_go(FileId(7)) && !copies.let_go(FileId(7)));
        assert!(copies.content(FileId(7), 4).is_err());
        assert_eq!((copies.all(), copies.made()), (vec![], 1));
    }

    #[test]
    fn they_are_bounded_and_let_go_of_at_once() {
        let mut copies = Copies::default();
        let (mut read, write) = std::io::pipe().unwrap();
        for n in 0..MOST {
            copies.hold(Tid(own()), number(&write), FileId(n as u32)).unwrap();
        }
        let told = copies.hold(Tid(own()), number(&write), FileId(99)).unwrap_err();
        assert_eq!(told, "16 copies are held already: dup off #ID lets go of one");
        drop(write);
        copies.clear();
        // Its end comes now.
        assert_eq!(read.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn a_thread_with_a_table_of_its_own_is_asked_for_its_own() {
        let file = tempfile::tempfile().unwrap();
        let fd = number(&file);
        let thread = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
            nix::unistd::close(fd.0).unwrap();
            // In this table the number is now another file's.
            let mut others = Vec::new();
            while others.last().map(number) != Some(fd) {
                others.push(std::fs::File::open("/dev/null").unwrap());
            }
            let copy = take(Tid(nix::unistd::gettid().as_raw()), fd);
            copy.map(|copy| std::fs::File::from(copy).metadata().unwrap().file_type().is_char_device())
        });
        // The error is that of kernels before Linux 6.9.
        assert!([Ok(true), Err(Errno::EINVAL)].contains(&thread.join().unwrap()));
        assert!(file.metadata().unwrap().is_file());
    }

    #[test]
    fn refusals_say_what_is_missing() {
        assert!(refusal(Errno::EPERM).contains("CAP_SYS_PTRACE"));
        assert!(refusal(Errno::ENOSYS).contains("Linux 5.6"));
        assert_eq!(take(Tid(own()), Fd(9999)).map(drop), Err(Errno::EBADF));
    }
}

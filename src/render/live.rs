//! What only the kernel knows of an open descriptor: where it stands, whom it is connected to, what waits in it.

use super::style::{Ink, Style};
use crate::base::text::escape;
use crate::base::{Fd, FileId, TableId, Tid};
use crate::event::{FileKind, NewFile};

/// Answers about descriptors that are open now; the session implements it, and tests do.
pub trait Live {
    /// The position of the open file description.
    fn position(&mut self, tid: Tid, fd: Fd) -> Option<u64>;
    /// The counter of an eventfd.
    fn counter(&mut self, tid: Tid, fd: Fd) -> Option<u64>;
    /// The addresses of the socket with this inode; not safe to show.
    fn socket(&mut self, tid: Tid, inode: u64) -> Option<String>;
    /// At most `max` bytes of the content, without taking them.
    ///
    /// # Errors
    /// A sentence that says why not.
    fn content(&mut self, tid: Tid, fd: Fd, max: usize) -> Result<Seen, String>;
    /// Holds a copy of the open file description to which `fd` refers in the task's table, the object `of`.
    ///
    /// # Errors
    /// A sentence that says why not.
    fn hold(&mut self, tid: Tid, fd: Fd, of: FileId) -> Result<(), String>;
    /// The objects of which a copy is held, in ascending order.
    fn held(&self) -> Vec<FileId>;
    /// The numbers of a table that are held back after their close, in the order of that.
    fn quarantined(&self, table: TableId) -> &[Fd];
    /// Lets go of the copy of an object. Whether there was one.
    fn let_go(&mut self, of: FileId) -> bool;
    /// At most `max` bytes of the content of an object of which a copy is held, without taking them.
    ///
    /// # Errors
    /// A sentence that says why not.
    fn content_of(&mut self, of: FileId, max: usize) -> Result<Seen, String>;
}

/// What does not happen as long as somebody holds a copy of it.
pub fn held_back(file: &NewFile) -> &'static str {
    match file.kind {
        FileKind::PipeWrite => "who reads from the pipe is told of no end of file",
        FileKind::PipeRead => "who writes to the pipe is not told that nobody reads",
        FileKind::Socket => "the other side is told of no end, and its address stays taken",
        FileKind::Path | FileKind::Memfd => "a lock of flock(2) on it stays, and so does the space of a deleted file",
        _ => "the kernel does not end it",
    }
}

/// Content that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The offset of the first byte.
    pub start: u64,
    /// The position, for a file.
    pub position: Option<u64>,
    /// The length, for a file.
    pub size: Option<u64>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What there is to say of `fd` at this moment, in a few words; safe to show.
pub fn now(live: &mut dyn Live, tid: Tid, fd: Fd, file: &NewFile) -> Option<String> {
    match file.kind {
        // Of a terminal or a null device it says nothing.
        FileKind::Path if file.path.starts_with(b"/dev/") && !file.path.starts_with(b"/dev/shm/") => None,
        FileKind::Path | FileKind::Memfd => live.position(tid, fd).map(|n| format!("at {n}")),
        FileKind::Eventfd => live.counter(tid, fd).map(|n| format!("counter {n}")),
        FileKind::Socket => {
            let inode = file.path.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
            let inode = std::str::from_utf8(inode).ok()?.parse().ok()?;
            live.socket(tid, inode).map(|s| escape(s.as_bytes()))
        }
        _ => None,
    }
}

/// How many bytes stand in a line.
const WIDTH: usize = 16;

/// Content as offsets, bytes and text; `>` marks the line in which the position is.
pub fn dump(seen: &Seen, style: Style) -> String {
    let mut out = match (seen.position, seen.size) {
        (Some(at), Some(size)) => format!("position {at} of {size} bytes\n"),
        _ if seen.bytes.is_empty() => "nothing waits in it\n".to_string(),
        _ => format!("{} bytes that wait in it, and still do\n", seen.bytes.len()),
    };
    for (i, line) in seen.bytes.chunks(WIDTH).enumerate() {
        let from = seen.start + (i * WIDTH) as u64;
        let is_at = seen.position.is_some_and(|p| (from..from + line.len() as u64).contains(&p));
        let hex: String = line.iter().map(|b| format!("{b:02x} ")).collect();
        let text: String =
            line.iter().map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' }).collect();
        let mark = if is_at { ">" } else { " " };
        let offset = style.paint(Ink::Label, &format!("{from:08x}"));
        out += &format!("{mark} {offset}  {hex:<48} {text}\n");
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A kernel that a test writes down.
    pub(crate) struct Paper;

    impl Live for Paper {
        fn quarantined(&self, _: TableId) -> &[Fd] {
            &[]
        }
        fn position(&mut self, _: Tid, fd: Fd) -> Option<u64> {
            (fd == Fd(3)).then_some(12)
        }
        fn counter(&mut self, _: Tid, _: Fd) -> Option<u64> {
            None
        }
        fn socket(&mut self, _: Tid, _: u64) -> Option<String> {
            Some("unix /run/\x1bx".to_string())
        }
        fn content(&mut self, _: Tid, fd: Fd, max: usize) -> Result<Seen, String> {
            match fd {
                Fd(3) => Ok(Seen { start: 8, position: Some(12), size: Some(40), bytes: vec![b'a'; max.min(20)] }),
                _ => Err("it cannot be looked at".to_string()),
            }
        }
        fn hold(&mut self, _: Tid, _: Fd, _: FileId) -> Result<(), String> {
            Err("no copy: it is written on paper".to_string())
        }
        fn held(&self) -> Vec<FileId> {
            Vec::new()
        }
        fn let_go(&mut self, _: FileId) -> bool {
            false
        }
        fn content_of(&mut self, of: FileId, _: usize) -> Result<Seen, String> {
            Err(format!("no copy of object {of} is held"))
        }
    }

    #[test]
    fn content_is_shown_with_the_position_marked() {
        let seen = Seen { start: 0, position: Some(17), size: Some(18), bytes: b"hello\x1b wide world.".to_vec() };
        let expected = "\
position 17 of 18 bytes
  00000000  68 65 6c 6c 6f 1b 20 77 69 64 65 20 77 6f 72 6c  hello. wide worl
> 00000010  64 2e                                            d.
";
        assert_eq!(dump(&seen, Style::plain()), expected);
    }

    #[test]
    fn what_a_socket_says_is_escaped() {
        let file = NewFile::from_link(b"socket:[12]".to_vec(), 2);
        assert_eq!(now(&mut Paper, Tid(1), Fd(4), &file).as_deref(), Some("unix /run/\\x1bx"));
    }
}

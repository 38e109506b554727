//! The table of system calls: which ones stop, when, and what they do to a descriptor table.
//!
//! One [`Row`] a call, in one file per family. The seccomp filter, the names in reports and the documentation follow
//! from the rows; nothing else in the crate lists system calls. Numbers come from the kernel's
//! `arch/x86/entry/syscalls/syscall_64.tbl` and `syscall_32.tbl`.

mod anon;
mod channel;
mod close;
mod deliver;
mod dup;
mod guard;
mod ioctl;
mod mount;
mod open;
mod place;
mod process;
mod questions;
mod receive;
mod uses;

pub use deliver::delivery;
pub use ioctl::request_name;

pub use guard::{InTheWay, in_the_way};

use crate::base::{Arch, Fd, Pid, RawCall, ReadMemory};
use crate::event::{Effect, FileKind, Inode, NewFile};

/// When a call must be looked at.
#[derive(Clone, Copy)]
pub enum When {
    /// The entry tells all: the slot is emptied whatever the result (close(2), "Dealing with error returns").
    Entry,
    /// The result is needed.
    Exit,
    /// The result is needed, and no table changes whatever it is.
    Use,
    /// The arguments tell.
    Arguments(fn(&Made<'_>) -> Need),
    /// It tells nothing of descriptors, but asks or says on which CPUs tasks may run: what fdwatch has changed of that
    /// must be undone first.
    Placement,
    /// It ends the task, and tells nothing of descriptors: what waits for what the task does next waits no longer.
    Last,
}

/// Which side of one call must be looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// Its entry tells all, if the number that it names is open.
    Entry,
    /// Its result is needed.
    Exit,
    /// Its result is needed, and changes no table.
    Use,
    /// With these arguments it does nothing to a table.
    Nothing,
    /// Nothing of a table, but everything has to run where it may.
    Placement,
    /// Nothing of a table, and nothing comes after it.
    Last,
}

/// One system call.
pub struct Row {
    /// The name in both tables.
    pub name: &'static str,
    /// The number for [`Arch::X86_64`].
    pub nr64: Option<u32>,
    /// The number for [`Arch::I386`].
    pub nr32: Option<u32>,
    /// If set, the call matters only when this argument (index, low 32 bits) has one of these values.
    pub only: Option<(usize, &'static [u32])>,
    /// When it must be looked at.
    pub when: When,
    /// How arguments read, for reports.
    pub args: &'static [Arg],
    /// What the call does to the table: with `ret` `None` what it is about to do as far as the arguments say, with a
    /// result what it did.
    pub decode: fn(&Made<'_>) -> Vec<Effect>,
}

impl Row {
    /// A call whose result is needed, whatever its arguments.
    const fn exit(
        name: &'static str,
        nr64: Option<u32>,
        nr32: Option<u32>,
        args: &'static [Arg],
        decode: fn(&Made<'_>) -> Vec<Effect>,
    ) -> Row {
        Row { name, nr64, nr32, only: None, when: When::Exit, args, decode }
    }

    /// Which side of `call`, which is about to be made, must be looked at.
    pub fn need(&self, call: &Made<'_>) -> Need {
        match self.when {
            When::Entry => Need::Entry,
            When::Exit => Need::Exit,
            When::Use => Need::Use,
            When::Arguments(tell) => tell(call),
            When::Placement => Need::Placement,
            When::Last => Need::Last,
        }
    }
}

/// How an argument is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arg {
    /// A descriptor.
    Fd,
    /// A directory descriptor, or AT_FDCWD.
    DirFd,
    /// The path of the object that the call opened.
    Path,
    /// A signed number.
    Int,
    /// Flags, in hexadecimal.
    Flags,
    /// O_* flags.
    OpenFlags,
    /// A command of fcntl(2).
    Fcntl,
    /// A request of ioctl(2).
    Request,
    /// An address.
    Pointer,
}

/// A call to be decoded.
pub struct Made<'a> {
    /// As entered.
    pub call: RawCall,
    /// The result, if it is over.
    pub ret: Option<i64>,
    /// The task's memory and descriptors.
    pub task: &'a dyn ReadTask,
}

/// A stopped task as the decoder needs it.
pub trait ReadTask: ReadMemory {
    /// What `/proc/PID/fd/FD` links to; `None` when it is not open (any more) or cannot be read.
    fn link(&self, fd: Fd) -> Option<Vec<u8>>;

    /// The O_* flags of `fd`, with O_CLOEXEC where execve closes it (proc_pid_fdinfo(5), "flags"); `None` when it is not
    /// open or cannot be read.
    fn flags(&self, fd: Fd) -> Option<u32>;

    /// The file that `path` leads the task to, as `/proc` names it; a relative path begins at the descriptor `dir`, without
    /// one in the current folder (path_resolution(7)), and an empty one is `dir` itself. With it which file that is, as far
    /// as the kernel says it. `None` where that cannot be known.
    fn leads_to(&self, dir: Option<Fd>, path: &[u8]) -> Option<(Vec<u8>, Option<Inode>)>;

    /// The process that the pidfd `fd` refers to (proc_pid_fdinfo(5), "Pid"), in our own pid namespace; `None` when it is
    /// no pidfd, or the process is gone.
    fn pidfd(&self, fd: Fd) -> Option<Pid>;
}

impl Made<'_> {
    /// Argument `i` as the kernel's `int`; an index past the end is 0.
    pub(crate) fn int(&self, i: usize) -> i32 {
        self.call.args.get(i).copied().unwrap_or(0) as i32
    }

    /// Argument `i` as an address.
    pub(crate) fn addr(&self, i: usize) -> u64 {
        self.call.args.get(i).copied().unwrap_or(0)
    }

    /// Argument `i` as a descriptor.
    pub(crate) fn fd(&self, i: usize) -> Fd {
        Fd(self.int(i))
    }

    /// The descriptor that the call returned; `None` before the result, and when it failed.
    pub(crate) fn new_fd(&self) -> Option<Fd> {
        let ret = self.ret?;
        (0..=i64::from(i32::MAX)).contains(&ret).then_some(Fd(ret as i32))
    }

    /// The call was refused because `fd` is not open, if it was; else nothing.
    ///
    /// One that is open with O_PATH is refused with the same error by most calls (open(2)), and is nobody's mistake.
    pub(crate) fn refused(&self, fd: Fd) -> Vec<Effect> {
        match self.failed_with(libc::EBADF) && self.task.link(fd).is_none() {
            true => vec![Effect::Refused { fd, to: None, close: false }],
            false => Vec::new(),
        }
    }

    /// Whether the call failed with `errno`.
    pub(crate) fn failed_with(&self, errno: i32) -> bool {
        self.ret == Some(-i64::from(errno))
    }

    /// The object at `fd`: what `/proc` says, else `kind` and `path`.
    pub(crate) fn object(&self, fd: Fd, flags: u32, kind: FileKind, path: impl FnOnce() -> Vec<u8>) -> NewFile {
        match self.task.link(fd) {
            Some(link) => {
                let mut file = NewFile::from_link(link, flags);
                // What the call makes is known better from the call than from the text of a link.
                if kind != FileKind::Path {
                    file.kind = kind;
                }
                file
            }
            None => NewFile { kind, path: path(), flags },
        }
    }

    /// The usual result of a call that makes one descriptor.
    pub(crate) fn opens(&self, flags: u32, cloexec: bool, kind: FileKind) -> Vec<Effect> {
        let Some(fd) = self.new_fd() else {
            return Vec::new();
        };
        vec![Effect::Open { fd, cloexec, file: self.object(fd, flags, kind, Vec::new) }]
    }
}

/// A task of which nothing can be read.
struct Unread;

impl ReadMemory for Unread {
    fn read(&self, _: u64, _: &mut [u8]) -> usize {
        0
    }
}

impl ReadTask for Unread {
    fn link(&self, _: Fd) -> Option<Vec<u8>> {
        None
    }

    fn flags(&self, _: Fd) -> Option<u32> {
        None
    }

    fn leads_to(&self, _: Option<Fd>, _: &[u8]) -> Option<(Vec<u8>, Option<Inode>)> {
        None
    }

    fn pidfd(&self, _: Fd) -> Option<Pid> {
        None
    }
}

/// Whether a call that is being made may put another object at `fd`, which is open: its arguments alone say so.
pub fn replaces(row: &Row, call: RawCall, fd: Fd) -> bool {
    let effects = (row.decode)(&Made { call, ret: None, task: &Unread });
    effects.iter().any(|e| matches!(e, Effect::Alias { to, .. } if *to == fd))
}

/// All rows, by family.
pub static FAMILIES: &[&[Row]] = &[
    open::ROWS,
    close::ROWS,
    dup::ROWS,
    channel::ROWS,
    receive::ROWS,
    anon::ROWS,
    process::ROWS,
    mount::ROWS,
    ioctl::ROWS,
    place::ROWS,
    guard::ROWS,
];

/// All rows.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    FAMILIES.iter().flat_map(|f| f.iter())
}

/// All rows; with `uses` those of the calls that only use a descriptor, and with `questions` those of the calls that ask about
/// one. Of several with the same number the last counts.
pub fn rows_with(uses: bool, questions: bool) -> impl Iterator<Item = &'static Row> {
    let asked: &[Row] = if questions { questions::ROWS } else { &[] };
    let used: &[Row] = if uses { uses::ROWS } else { &[] };
    // A filter takes the first.
    let is_replaced = move |row: &&Row| asked.iter().any(|other| other.nr64 == row.nr64);
    rows().filter(move |row| !is_replaced(row)).chain(asked).chain(used)
}

/// The calls that make a descriptor from nothing, from a path or from another one, or that receive one, as far as they do:
/// whether fcntl(2) and recvmsg(2) do the arguments say ([`Need::Exit`]).
pub fn makers() -> impl Iterator<Item = &'static Row> + Clone {
    let families = [open::ROWS, dup::ROWS, channel::ROWS, anon::ROWS];
    let by_arguments = ["fcntl", "fcntl64", "recvmsg", "recvmmsg", "recvmmsg_time64"];
    let rows = families.into_iter().flatten().filter(|row| matches!(row.when, When::Exit));
    rows.chain([dup::ROWS, receive::ROWS].into_iter().flatten().filter(move |row| by_arguments.contains(&row.name)))
}

impl Row {
    /// Whether it takes a descriptor, or a path.
    pub fn takes(&self, arg: Arg) -> bool {
        self.args.contains(&arg)
    }

    /// The descriptor that a call with these arguments takes first.
    pub fn number(&self, args: [u64; 6]) -> Option<Fd> {
        self.args.iter().zip(args).find(|(arg, _)| **arg == Arg::Fd).map(|(_, v)| Fd(v as i32))
    }

    /// The path that a call with these arguments names: the address of its text, and the descriptor of the folder in which it begins unless it
    /// is absolute; `None` for the current one (path_resolution(7)).
    pub fn path(&self, args: [u64; 6]) -> Option<(u64, Option<Fd>)> {
        let at = self.args.iter().position(|arg| *arg == Arg::Path)?;
        let folder = at.checked_sub(1).filter(|i| self.args.get(*i) == Some(&Arg::DirFd));
        let folder = folder.and_then(|i| args.get(i)).map(|fd| *fd as i32);
        Some((*args.get(at)?, folder.filter(|fd| *fd != libc::AT_FDCWD).map(Fd)))
    }
}

/// The rows, found by number in constant time.
pub struct Table {
    by64: Vec<Option<&'static Row>>,
    by32: Vec<Option<&'static Row>>,
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// Indexes all rows.
    pub fn new() -> Table {
        Table::of(|| Box::new(rows()))
    }

    /// The same with what else is asked for, as [`rows_with`].
    pub fn with(uses: bool, questions: bool) -> Table {
        Table::of(|| Box::new(rows_with(uses, questions)))
    }

    fn of(rows: impl Fn() -> Box<dyn Iterator<Item = &'static Row>>) -> Table {
        let index = |number: fn(&Row) -> Option<u32>| {
            let mut by = Vec::new();
            for row in rows() {
                if let Some(nr) = number(row) {
                    let nr = nr as usize;
                    if by.len() <= nr {
                        by.resize(nr + 1, None);
                    }
                    if let Some(slot) = by.get_mut(nr) {
                        *slot = Some(row);
                    }
                }
            }
            by
        };
        Table { by64: index(|r| r.nr64), by32: index(|r| r.nr32) }
    }

    /// Whether the filter stops this call: those that matter, and those of x32, which are counted.
    pub fn is_marked(&self, call: &RawCall) -> bool {
        call.arch == Arch::X32 || self.row(call).is_some()
    }

    /// The row of a call that matters; `None` for all others, and for x32.
    pub fn row(&self, call: &RawCall) -> Option<&'static Row> {
        let by = match call.arch {
            Arch::X86_64 => &self.by64,
            Arch::I386 => &self.by32,
            Arch::X32 => return None,
        };
        let row = (*by.get(call.nr as usize)?)?;
        match row.only {
            Some((i, values)) => values.contains(&(call.args.get(i).copied().unwrap_or(0) as u32)).then_some(row),
            None => Some(row),
        }
    }
}

/// The row of this name.
pub fn by_name(name: &str) -> Option<&'static Row> {
    rows().chain(deliver::ROWS).chain(uses::ROWS).find(|r| r.name == name)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A task whose memory and descriptors a test writes down.
    #[derive(Default)]
    pub(crate) struct Paper {
        pub(crate) at: u64,
        pub(crate) bytes: Vec<u8>,
        pub(crate) links: Vec<(i32, &'static str)>,
        pub(crate) flags: Vec<(i32, u32)>,
        pub(crate) pidfds: Vec<(i32, i32)>,
        pub(crate) paths: Vec<(Option<i32>, &'static str, &'static str)>,
    }

    impl ReadMemory for Paper {
        fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
            let Some(off) = addr.checked_sub(self.at) else {
                return 0;
            };
            let src = self.bytes.get(off as usize..).unwrap_or_default();
            let n = src.len().min(buf.len());
            buf[..n].copy_from_slice(&src[..n]);
            n
        }
    }

    impl ReadTask for Paper {
        fn link(&self, fd: Fd) -> Option<Vec<u8>> {
            self.links.iter().find(|l| l.0 == fd.0).map(|l| l.1.as_bytes().to_vec())
        }

        fn flags(&self, fd: Fd) -> Option<u32> {
            self.flags.iter().find(|l| l.0 == fd.0).map(|l| l.1)
        }

        fn leads_to(&self, dir: Option<Fd>, path: &[u8]) -> Option<(Vec<u8>, Option<Inode>)> {
            let known = self.paths.iter().find(|p| p.0 == dir.map(|d| d.0) && p.1.as_bytes() == path);
            known.map(|p| (p.2.as_bytes().to_vec(), Some(Inode { dev: (8, 1), ino: p.2.len() as u64 })))
        }

        fn pidfd(&self, fd: Fd) -> Option<Pid> {
            self.pidfds.iter().find(|l| l.0 == fd.0).map(|l| Pid(l.1))
        }
    }

    pub(crate) fn decode(name: &str, args: [u64; 6], ret: Option<i64>, task: &Paper) -> Vec<Effect> {
        let row = by_name(name).expect("a row of this name");
        let arch = if row.nr64.is_some() { Arch::X86_64 } else { Arch::I386 };
        decode_as(arch, name, args, ret, task)
    }

    pub(crate) fn decode_as(arch: Arch, name: &str, args: [u64; 6], ret: Option<i64>, task: &Paper) -> Vec<Effect> {
        let row = by_name(name).expect("a row of this name");
        let nr = match arch {
            Arch::I386 => row.nr32,
            _ => row.nr64,
        };
        let call = RawCall { arch, nr: nr.expect("a number"), args };
        (row.decode)(&Made { call, ret, task })
    }

    pub(crate) fn need_as(arch: Arch, name: &str, args: [u64; 6], task: &Paper) -> Need {
        let row = by_name(name).expect("a row of this name");
        row.need(&Made { call: RawCall { arch, nr: 0, args }, ret: None, task })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_taken_twice() {
        for number in [|r: &Row| r.nr64, |r: &Row| r.nr32] {
            let mut seen = std::collections::HashMap::new();
            for row in rows() {
                if let Some(nr) = number(row) {
                    assert_eq!(seen.insert(nr, row.name), None, "{} has the number of another row", row.name);
                }
            }
        }
    }

    #[test]
    fn the_table_finds_by_number_and_argument() {
        let t = Table::new();
        let call = |arch, nr, arg1| RawCall { arch, nr, args: [0, arg1, 0, 0, 0, 0] };
        assert_eq!(t.row(&call(Arch::X86_64, 3, 0)).map(|r| r.name), Some("close"));
        assert_eq!(t.row(&call(Arch::I386, 6, 0)).map(|r| r.name), Some("close"));
        assert!(t.row(&call(Arch::X32, 3, 0)).is_none());
        assert!(t.row(&call(Arch::X86_64, u32::MAX, 0)).is_none());
        assert_eq!(t.row(&call(Arch::X86_64, 72, libc::F_DUPFD as u64)).map(|r| r.name), Some("fcntl"));
        assert!(t.row(&call(Arch::X86_64, 72, libc::F_GETFD as u64)).is_none());
        // The kernel looks at an int: garbage in the upper half does not hide a command.
        assert!(t.row(&call(Arch::X86_64, 72, 0xdead_0000_0000_0000 | libc::F_SETFD as u64)).is_some());
    }

    #[test]
    fn no_decoder_fails_on_any_arguments() {
        let garbage = testing::Paper { at: 0, bytes: vec![0xff; 4096], ..Default::default() };
        let zeros = testing::Paper { at: 0, bytes: vec![0; 4096], ..Default::default() };
        let none = testing::Paper::default();
        for (row, task) in rows().chain(deliver::ROWS).flat_map(|r| [(r, &garbage), (r, &zeros), (r, &none)]) {
            for arg in [0, 1, u64::MAX, 0x7fff_ffff, 0x8000_0000, i64::MAX as u64] {
                for ret in [None, Some(0), Some(-1), Some(-9), Some(i64::MIN), Some(i64::MAX), Some(3)] {
                    for (arch, nr) in [(Arch::X86_64, row.nr64), (Arch::I386, row.nr32)] {
                        let Some(nr) = nr else { continue };
                        let mut args = [arg; 6];
                        if let Some((i, values)) = row.only {
                            for value in values {
                                args[i] = u64::from(*value);
                                let made = Made { call: RawCall { arch, nr, args }, ret, task };
                                row.need(&made);
                                (row.decode)(&made);
                            }
                        }
                        let made = Made { call: RawCall { arch, nr, args: [arg; 6] }, ret, task };
                        row.need(&made);
                        (row.decode)(&made);
                    }
                }
            }
        }
    }
}

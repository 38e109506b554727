//! Descriptors of file systems and mounts: fsopen(2), fsmount(2), fspick(2), open_tree(2).

use super::{Arg, Made, Row};
use crate::event::{Effect, FileKind};

const O_CLOEXEC: i32 = libc::O_CLOEXEC;
const O_PATH: u32 = libc::O_PATH as u32;

/// FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC and FSPICK_CLOEXEC are all 1; OPEN_TREE_CLOEXEC is O_CLOEXEC (linux/mount.h).
const CLOEXEC: i32 = 1;

/// A context in which a file system is configured.
fn context(m: &Made<'_>, flags: usize) -> Vec<Effect> {
    m.opens(libc::O_RDWR as u32, m.int(flags) & CLOEXEC != 0, FileKind::FsContext)
}

fn tree(m: &Made<'_>) -> Vec<Effect> {
    m.opens(O_PATH, m.int(2) & O_CLOEXEC != 0, FileKind::Path)
}

pub(super) static ROWS: &[Row] = &[
    Row::exit("fsopen", Some(430), Some(430), &[Arg::Pointer, Arg::Flags], |m| context(m, 1)),
    Row::exit("fsmount", Some(432), Some(432), &[Arg::Fd, Arg::Flags, Arg::Flags], |m| {
        m.opens(O_PATH, m.int(1) & CLOEXEC != 0, FileKind::Path)
    }),
    Row::exit("fspick", Some(433), Some(433), &[Arg::DirFd, Arg::Pointer, Arg::Flags], |m| context(m, 2)),
    Row::exit("open_tree", Some(428), Some(428), &[Arg::DirFd, Arg::Path, Arg::Flags], tree),
    Row::exit(
        "open_tree_attr",
        Some(467),
        Some(467),
        &[Arg::DirFd, Arg::Path, Arg::Flags, Arg::Pointer, Arg::Int],
        tree,
    ),
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Paper, decode};
    use super::*;
    use crate::base::Fd;

    #[test]
    fn each_has_its_flag_at_its_place() {
        let cloexec = |name, args| match decode(name, args, Some(5), &Paper::default()).as_slice() {
            [Effect::Open { fd: Fd(5), cloexec, .. }] => *cloexec,
            other => panic!("{other:?}"),
        };
        let set = O_CLOEXEC as u64;
        for (name, at, bit) in
            [("fsopen", 1, 1), ("fsmount", 1, 1), ("fspick", 2, 1), ("open_tree", 2, set), ("open_tree_attr", 2, set)]
        {
            let mut args = [0; 6];
            assert!(!cloexec(name, args), "{name}");
            args[at] = bit;
            assert!(cloexec(name, args), "{name}");
            assert_eq!(decode(name, args, Some(-1), &Paper::default()), vec![]);
        }
    }
}

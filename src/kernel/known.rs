//! Which descriptors of the kernel's tables are of one open file description.

use super::procfs;
use crate::base::{Fd, Tid};
use crate::event::{NewFile, Present};
use rustc_hash::FxHashMap;
use std::cmp::Ordering;

/// The tables and open file descriptions that were found, each by one who has it.
///
/// kcmp(2) gives an order, so looking one up among n takes log n questions; open file descriptions are asked about only
/// if they look alike.
#[derive(Default)]
pub(super) struct Known {
    tables: Vec<Tid>,
    files: FxHashMap<Look, Vec<(Tid, Fd)>>,
}

/// How an open file description looks: path and flags.
type Look = (Vec<u8>, u32);

impl Known {
    /// Who has the same table; it is remembered otherwise.
    pub(super) fn table(&mut self, tid: Tid) -> Option<Tid> {
        search(&mut self.tables, tid, procfs::compare_tables)
    }

    /// What a task has open.
    pub(super) fn present(&mut self, tid: Tid) -> Vec<Present> {
        let fds = procfs::open_numbers(tid).unwrap_or_default();
        let mut out = Vec::with_capacity(fds.len());
        for fd in fds {
            let Some((file, cloexec)) = procfs::descriptor(tid, fd) else { continue };
            let same_as = self.file(tid, fd, &file);
            out.push(Present { fd, cloexec, file, same_as });
        }
        out
    }

    /// Who has the same open file description; it is remembered otherwise.
    fn file(&mut self, tid: Tid, fd: Fd, file: &NewFile) -> Option<(Tid, Fd)> {
        let alike = self.files.entry((file.path.clone(), file.flags)).or_default();
        search(alike, (tid, fd), |a, b| procfs::compare_files(a.0, a.1, b.0, b.1))
    }
}

/// Looks for the equal of `new` in a list that is in order; puts it there if it has none and can be compared.
fn search<T: Copy>(list: &mut Vec<T>, new: T, order: impl Fn(T, T) -> Option<Ordering>) -> Option<T> {
    let (mut low, mut high) = (0, list.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let at = *list.get(middle)?;
        match order(at, new)? {
            Ordering::Equal => return Some(at),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    list.insert(low, new);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_are_found_and_others_kept_in_order() {
        let mut list = Vec::new();
        let order = |a: i32, b: i32| Some((a / 10).cmp(&(b / 10)));
        for n in [50, 20, 90, 70, 10] {
            assert_eq!(search(&mut list, n, order), None);
        }
        assert_eq!(list, [10, 20, 50, 70, 90]);
        assert_eq!(search(&mut list, 23, order), Some(20));
        assert_eq!(search(&mut list, 99, order), Some(90));
        assert_eq!(search(&mut list, 1, |_, _| None), None, "what cannot be compared has no equal");
        assert_eq!(list.len(), 5);
    }

    #[test]
    fn copies_of_one_open_file_are_known_as_such() {
        let me = Tid(std::process::id() as i32);
        let file = std::fs::File::open("/dev/null").unwrap();
        let copy = file.try_clone().unwrap();
        let other = std::fs::File::open("/dev/null").unwrap();
        let fd = |f: &std::fs::File| Fd(std::os::fd::AsRawFd::as_raw_fd(f));
        if procfs::compare_files(me, fd(&file), me, fd(&file)).is_none() {
            eprintln!("skipped: kcmp is not allowed here");
            return;
        }
        let mut known = Known::default();
        assert_eq!(known.table(me), None);
        assert_eq!(known.table(me), Some(me));
        let present = known.present(me);
        let same = |f: Fd| present.iter().find(|p| p.fd == f).unwrap().same_as;
        let (first, second) = (fd(&file).min(fd(&copy)), fd(&file).max(fd(&copy)));
        assert_eq!(same(second), same(first).or(Some((me, first))));
        assert_ne!(same(fd(&other)), Some((me, first)));
    }
}

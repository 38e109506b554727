//! `close(-77)` below Rust: generics, a trait object, a closure in an iterator, `Drop`, unwinding, a thread.
use std::collections::BTreeMap;
use std::hint::black_box;

unsafe extern "C" {
    fn close(fd: i32) -> i32;
}

#[inline(never)]
fn target_close() {
    black_box(unsafe { close(black_box(-77)) });
}

trait Visit<T> {
    fn visit(&self, item: &T) -> usize;
}

struct Shelf<T>(Vec<T>);

impl<T: std::fmt::Debug> Visit<T> for Shelf<T> {
    #[inline(never)]
    fn visit(&self, item: &T) -> usize {
        let all: BTreeMap<usize, String> = self.0.iter().map(|i| format!("{i:?}")).enumerate().collect();
        target_close();
        black_box(all.len() + format!("{item:?}").len())
    }
}

struct Guard(u8);

impl Drop for Guard {
    #[inline(never)]
    fn drop(&mut self) {
        target_close();
        black_box(self.0);
    }
}

#[inline(never)]
fn each<T, F: FnMut(&T) -> usize>(items: &[T], f: F) -> usize {
    black_box(items.iter().map(f).sum::<usize>())
}

#[inline(never)]
fn unwinds(n: u8) -> u8 {
    let guard = Guard(n);
    if black_box(n) > 0 {
        std::panic::resume_unwind(Box::new(n));
    }
    guard.0
}

fn main() {
    let shelf: Box<dyn Visit<(u8, char)>> = Box::new(Shelf(vec![(1, 'a')]));
    let n = each(&[(2, 'b')], |item| black_box(shelf.visit(black_box(item))));
    drop(black_box(Guard(n as u8)));
    black_box(std::panic::catch_unwind(|| unwinds(black_box(3))).is_err());
    std::thread::spawn(move || black_box(target_close())).join().unwrap();
}

//! Ends by drop and by request. Each function opens a file of its own name in the folder of the first argument.

use std::fs::File;
use std::os::fd::IntoRawFd;

unsafe extern "C" {
    fn close(fd: i32) -> i32;
}

fn make(name: &str) -> File {
    let dir = std::env::args().nth(1).expect("a folder");
    File::create(format!("{dir}/{name}")).expect("a file")
}

struct Log {
    _file: File,
}

#[inline(never)]
fn left() {
    let _f = make("left");
}

#[inline(never)]
fn field_left() {
    let _log = Log { _file: make("field_left") };
}

#[inline(never)]
fn dropped() {
    let f = make("dropped");
    drop(f);
}

#[inline(never)]
fn by_libc() {
    let fd = make("by_libc").into_raw_fd();
    unsafe { close(fd) };
}

fn main() {
    left();
    field_left();
    dropped();
    by_libc();
    // Or the last call would be a jump, and `main` not on the stack.
    std::process::exit(0);
}

// Why: File::from_raw_fd(other.as_raw_fd()) makes a second owner of one number (zed issue 48850, bat issue 2673).
// `repaired` clones the descriptor.
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

fn main() {
    let repaired = std::env::args().nth(1).as_deref() == Some("repaired");
    let file = File::open("/dev/null").expect("there");
    let second = match repaired {
        true => file.try_clone().expect("a clone"),
        // SAFETY: none, and that is the point.
        false => unsafe { File::from_raw_fd(file.as_raw_fd()) },
    };
    println!("{:?}", second.metadata().is_ok());
}

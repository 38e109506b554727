//! Lines of source files.

use super::Sources;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// The largest file that is read.
const MAX_SIZE: u64 = 4 << 20;
/// How many files are kept.
const MAX_FILES: usize = 32;

/// Source files as they are now, read when first asked for.
#[derive(Default)]
pub struct FileSources {
    files: HashMap<String, Option<Vec<String>>>,
}

impl FileSources {
    /// Nothing read yet.
    pub fn new() -> FileSources {
        FileSources::default()
    }
}

impl Sources for FileSources {
    fn line(&mut self, file: &str, n: u32) -> Option<String> {
        if !self.files.contains_key(file) {
            if self.files.len() >= MAX_FILES {
                self.files.clear();
            }
            self.files.insert(file.to_string(), read(file));
        }
        let lines = self.files.get(file)?.as_ref()?;
        lines.get(usize::try_from(n).ok()?.checked_sub(1)?).cloned()
    }
}

/// The lines of a regular file of reasonable size. The name is the target's: it may be a FIFO or a device, which must
/// neither be waited for nor be read.
fn read(file: &str) -> Option<Vec<String>> {
    let open = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(file).ok()?;
    let meta = open.metadata().ok()?;
    if !meta.is_file() || meta.len() > MAX_SIZE {
        return None;
    }
    let mut bytes = Vec::new();
    open.take(MAX_SIZE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).lines().map(str::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_lines_and_what_is_no_file_gives_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.py");
        std::fs::write(&path, b"one\ntwo\xff\n").unwrap();
        let mut s = FileSources::new();
        let name = path.to_str().unwrap();
        assert_eq!(s.line(name, 1).as_deref(), Some("one"));
        assert_eq!(s.line(name, 0), None);
        assert_eq!(s.line(name, 9), None);
        assert_eq!(s.line("/dev/zero", 1), None);
        assert_eq!(s.line("<stdin>", 1), None);
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(s.line(fifo.to_str().unwrap(), 1), None, "and without waiting for a writer");
    }
}

//! The CPython interpreters of this machine.
#![allow(dead_code, unreachable_pub)] // each test binary uses a part

use std::path::{Path, PathBuf};

/// Where interpreters are looked for: the system's folders, pyenv's, those below `/opt` (`.ci/python-3.14` makes one),
/// and what `FDWATCH_PYTHONS` names, folders with a colon between.
fn folders() -> Vec<PathBuf> {
    let mut out = vec![PathBuf::from("/usr/bin"), PathBuf::from("/usr/local/bin")];
    let mut below = |dir: PathBuf, inner: &[&str]| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        out.extend(entries.flat_map(|e| inner.iter().map(move |i| e.path().join(i))));
    };
    if let Some(home) = std::env::var_os("HOME") {
        below(Path::new(&home).join(".pyenv/versions"), &["bin"]);
    }
    below(PathBuf::from("/opt"), &["bin", "usr/bin"]);
    out.extend(std::env::var_os("FDWATCH_PYTHONS").iter().flat_map(std::env::split_paths));
    out
}

fn find(minors: std::ops::RangeInclusive<u8>, suffix: &str) -> Vec<(u8, PathBuf)> {
    let mut out: Vec<(u8, PathBuf)> = Vec::new();
    for dir in folders() {
        for minor in minors.clone() {
            // A shim that is a script (pyenv's) is not an interpreter.
            let Ok(path) = std::fs::canonicalize(dir.join(format!("python3.{minor}{suffix}"))) else { continue };
            // Without a suffix it may be another name of one that has it.
            let other = suffix.is_empty() && path.with_file_name(format!("python3.{minor}t")).exists();
            if !other
                && !out.iter().any(|(_, p)| *p == path)
                && std::fs::read(&path).is_ok_and(|b| b.starts_with(b"\x7fELF"))
            {
                out.push((minor, path));
            }
        }
    }
    out.sort();
    out
}

/// Those that fdwatch understands, with their minor versions, 3.8 to 3.14; says so if there is none.
pub fn interpreters() -> Vec<(u8, PathBuf)> {
    let out = find(8..=14, "");
    if out.is_empty() {
        println!("skipped: no Python 3.8 to 3.14 found");
    }
    for minor in (9..=14).filter(|m| !out.iter().any(|(have, _)| have == m)) {
        println!("skipped: Python 3.{minor}, which is not here");
    }
    out
}

/// Those that were built without the global lock, which fdwatch does not understand.
pub fn free_threaded() -> Vec<(u8, PathBuf)> {
    let out = find(13..=15, "t");
    if out.is_empty() {
        println!("skipped: no free-threaded Python found");
    }
    out
}

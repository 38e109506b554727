//! Output files: written whole or not at all.

use crate::base::text::escape;
use nix::sys::stat::fstat;
use nix::unistd::{AccessFlags, eaccess};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path`.
///
/// A regular file is replaced at once by the whole of `bytes`, or is left as it was. To a device or a FIFO they are
/// written as they are. Our own standard output or error (`/dev/stdout`) is the target's, too: what that wrote stays.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let existing = fs::metadata(path).ok();
    if let Some(own) = existing.as_ref().and_then(own_stream) {
        let mut file = File::from(own?);
        file.write_all(bytes)?;
        return file.flush();
    }
    if existing.as_ref().is_some_and(|m| !m.is_file()) {
        let mut file = File::options().write(true).open(path)?;
        file.write_all(bytes)?;
        return file.flush();
    }
    // Behind a symbolic link the file is replaced, not the link.
    let real = if existing.is_some() { fs::canonicalize(path)? } else { path.to_path_buf() };
    // An unseen file has the mode that open would give it; the umask is applied when it is made.
    let mode = existing.map_or_else(|| Permissions::from_mode(0o666), |m| m.permissions());
    let mut temp = tempfile::Builder::new().prefix(".fdwatch-").permissions(mode.clone()).tempfile_in(dir(&real))?;
    temp.write_all(bytes)?;
    if real.exists() {
        temp.as_file().set_permissions(mode)?;
    }
    temp.as_file().sync_all()?;
    temp.persist(&real).map_err(|e| e.error)?;
    Ok(())
}

/// Opens `path` to be written while things happen; an error is one line. What was in it is gone, unless it is our own
/// standard output or error.
pub fn create(path: &Path) -> Result<File, String> {
    let failed = |e: io::Error| format!("cannot write {}: {e}", escape(path.as_os_str().as_bytes()));
    match fs::metadata(path).ok().as_ref().and_then(own_stream) {
        Some(own) => Ok(File::from(own.map_err(failed)?)),
        None => File::create(path).map_err(failed),
    }
}

/// Says whether `path` can be written, before it is too late: one line.
pub fn check_writable(path: &Path) -> Result<(), String> {
    let name = escape(path.as_os_str().as_bytes());
    let failed = |e: nix::errno::Errno| format!("cannot write {name}: {}", e.desc());
    match fs::metadata(path) {
        Ok(m) if m.is_dir() => Err(format!("cannot write {name}: it is a directory")),
        Ok(m) if own_stream(&m).is_some() => Ok(()),
        Ok(m) if m.is_file() => {
            eaccess(path, AccessFlags::W_OK).map_err(failed)?;
            let real = fs::canonicalize(path).map_err(|e| format!("cannot write {name}: {e}"))?;
            directory(&name, &dir(&real))
        }
        Ok(_) => eaccess(path, AccessFlags::W_OK).map_err(failed),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if path.file_name().is_none() {
                return Err(format!("cannot write {name}: it names no file"));
            }
            if fs::symlink_metadata(path).is_ok() {
                return Err(format!("cannot write {name}: it is a link that leads nowhere"));
            }
            directory(&name, &dir(path))
        }
        Err(e) => Err(format!("cannot write {name}: {e}")),
    }
}

/// Our standard output or error, if `file` is that.
fn own_stream(file: &fs::Metadata) -> Option<io::Result<OwnedFd>> {
    let is = |own: BorrowedFd<'_>| {
        fstat(own).is_ok_and(|s| (s.st_dev, s.st_ino) == (file.dev(), file.ino())).then(|| own.try_clone_to_owned())
    };
    is(io::stdout().as_fd()).or_else(|| is(io::stderr().as_fd()))
}

/// Whether a file can be made in `dir`.
fn directory(name: &str, dir: &Path) -> Result<(), String> {
    let shown = escape(dir.as_os_str().as_bytes());
    match fs::metadata(dir) {
        Ok(m) if m.is_dir() => eaccess(dir, AccessFlags::W_OK | AccessFlags::X_OK)
            .map_err(|e| format!("cannot write {name}: its directory {shown}: {}", e.desc())),
        Ok(_) => Err(format!("cannot write {name}: {shown} is not a directory")),
        Err(e) => Err(format!("cannot write {name}: its directory {shown}: {e}")),
    }
}

fn dir(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_through_its_link() {
        let d = tempfile::tempdir().unwrap();
        let (file, link) = (d.path().join("a"), d.path().join("l"));
        write_whole(&file, b"one").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o600, 0o600);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        symlink(&file, &link).unwrap();
        check_writable(&link).unwrap();
        write_whole(&link, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(d.path()).unwrap().count(), 2, "nothing is left over");
    }

    #[test]
    fn devices_and_fifos_are_written_as_they_are() {
        write_whole(Path::new("/dev/null"), b"x").unwrap();
        check_writable(Path::new("/dev/null")).unwrap();
        let d = tempfile::tempdir().unwrap();
        let fifo = d.path().join("f");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        check_writable(&fifo).unwrap();
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || fs::read(fifo).unwrap()
        });
        write_whole(&fifo, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
    }

    #[test]
    fn what_cannot_be_written_is_said_in_one_line() {
        let d = tempfile::tempdir().unwrap();
        let no = |p: PathBuf| check_writable(&p).unwrap_err();
        assert!(no(d.path().to_path_buf()).ends_with("it is a directory"));
        assert!(no(d.path().join("no/such")).contains("its directory"));
        fs::write(d.path().join("plain"), "").unwrap();
        assert!(no(d.path().join("plain/x")).starts_with("cannot write"));
        symlink("nowhere", d.path().join("dangling")).unwrap();
        assert!(no(d.path().join("dangling")).ends_with("leads nowhere"));
        assert!(no(d.path().join("bad\n\x1b/x")).lines().count() == 1);
        check_writable(&d.path().join("new")).unwrap();
        check_writable(Path::new("here")).unwrap();
    }
}

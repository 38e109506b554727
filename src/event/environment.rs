//! Which variables of an environment say that a program is given a descriptor, or name a file.

/// The longest entry that is looked at, in bytes: the rest of a long MAKEFLAGS promises nothing that is not said before.
const LONGEST: usize = 4096;

/// Whether an entry `NAME=value` of an environment may promise a descriptor by its number: sd_listen_fds(3), the jobserver
/// of make ("POSIX Jobserver Interaction" in its manual), which cargo passes on under a name of its own, and any
/// `…_FD=N` or `…FD=N` such as NODE_CHANNEL_FD and BASH_XTRACEFD.
pub fn may_promise(entry: &[u8]) -> bool {
    if entry.len() > LONGEST {
        return false;
    }
    let Some((name, value)) = entry.iter().position(|b| *b == b'=').map(|i| entry.split_at(i)) else { return false };
    let value = value.get(1..).unwrap_or_default();
    match name {
        b"LISTEN_FDS" | b"LISTEN_PID" | b"MAKEFLAGS" | b"CARGO_MAKEFLAGS" => true,
        _ if name.ends_with(b"FD") || name.ends_with(b"_FDS") => {
            !value.is_empty() && value.iter().all(|b| b.is_ascii_digit() || matches!(b, b',' | b':' | b' '))
        }
        _ => false,
    }
}

/// The longest path that is looked at, in bytes.
const PATH: usize = 256;

/// Whether an entry `NAME=value` of an environment may name a file that a program works with: one absolute path, and none of
/// those that environ(7) gives to every process.
pub fn may_name(entry: &[u8]) -> bool {
    const EVERYBODYS: [&[u8]; 9] = [b"HOME", b"PWD", b"OLDPWD", b"SHELL", b"PATH", b"MAIL", b"TMPDIR", b"EDITOR", b"_"];
    if entry.len() > PATH {
        return false;
    }
    let Some((name, value)) = entry.iter().position(|b| *b == b'=').map(|i| entry.split_at(i)) else { return false };
    let is_everybodys = EVERYBODYS.contains(&name) || name.starts_with(b"XDG_") || name.is_empty();
    !is_everybodys && value.starts_with(b"=/") && value.len() > 2 && !value.contains(&b':')
}

#[cfg(test)]
mod tests {
    use super::{may_name, may_promise};

    #[test]
    fn one_absolute_path_may_name_a_file() {
        assert!(may_name(b"LOG=/srv/run/a.log"));
        for no in ["LOG=a.log", "LOG=/", "LOG=/a:/b", "HOME=/root", "XDG_RUNTIME_DIR=/run/user/0", "=/a", "LOG", ""] {
            assert!(!may_name(no.as_bytes()), "{no}");
        }
        assert!(!may_name(&[b"A=/".as_slice(), &[b'x'; 300]].concat()));
    }

    #[test]
    fn numbers_and_known_names_may_be_promises() {
        for yes in ["LISTEN_FDS=2", "LISTEN_PID=7", "MAKEFLAGS= -j --jobserver-auth=3,4", "NODE_CHANNEL_FD=3", "XFD=9"]
        {
            assert!(may_promise(yes.as_bytes()), "{yes}");
        }
        for no in ["PATH=/bin", "LISTEN_FDS", "MY_FD=secret", "MY_FD=", "SECRET=3", ""] {
            assert!(!may_promise(no.as_bytes()), "{no}");
        }
        assert!(!may_promise(&[b"MAKEFLAGS=".as_slice(), &[b'x'; 5000]].concat()));
    }
}

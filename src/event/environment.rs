//! Which variables of an environment say that a program is given a descriptor.

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

#[cfg(test)]
mod tests {
    use super::may_promise;

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

//! Paths that are the same file's to a person, although no two runs have the same: of temporary files, pipes, processes.

/// The directories below which names are made up.
const TEMPORARY: &[&str] = &["tmp", "shm"];
/// Made-up parts of a name are at least this long (mkstemp(3): six characters).
const MADE_UP: usize = 6;

/// `path` with `*` for what another run would have otherwise: the inode of a pipe or a socket, the process in
/// `/proc/PID`, and below a temporary directory the digits of a name and what looks like mkstemp's letters.
///
/// What it cannot tell from a name that was chosen it leaves alone: [`same_path`], which sees two, knows better.
pub fn general_path(path: &str) -> String {
    if let Some(kind) = without_number(path) {
        return format!("{kind}[*]");
    }
    let mut out = Vec::new();
    let mut temporary = false;
    let mut before = "";
    for part in path.split('/') {
        out.push(match part {
            _ if before == "proc" && out.len() == 2 && is_number(part) => "*".to_string(),
            _ if temporary => general_name(part),
            _ => part.to_string(),
        });
        temporary |= TEMPORARY.contains(&part);
        before = part;
    }
    out.join("/")
}

/// The same for files that their call created (O_CREAT with O_EXCL, open(2)): whoever does that below a temporary
/// directory makes up names until one is free, so that the last component says nothing but by its length.
pub fn same_new_path(a: &str, b: &str) -> bool {
    let split = |path: &'_ str| path.rfind('/').map(|at| at + 1);
    let halves = split(a).and_then(|at| a.split_at_checked(at)).zip(split(b).and_then(|at| b.split_at_checked(at)));
    let made_up = halves.is_some_and(|((dir, name), (other, twin))| {
        let temporary = dir.split('/').any(|part| TEMPORARY.contains(&part));
        temporary && name.len() == twin.len() && same_path(dir, other)
    });
    made_up || same_path(a, b)
}

/// Whether two paths are the same but for what no two runs have the same.
pub fn same_path(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    if let (Some(a), Some(b)) = (without_number(a), without_number(b)) {
        return a == b;
    }
    let (mut left, mut right) = (a.split('/'), b.split('/'));
    let (mut temporary, mut before, mut n) = (false, "", 0);
    loop {
        let (x, y) = match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(x), Some(y)) => (x, y),
            _ => return false,
        };
        let same = x == y
            || (before == "proc" && n == 2 && is_number(x) && is_number(y))
            || (temporary && (general_name(x) == general_name(y) || made_up_alike(x, y)));
        if !same {
            return false;
        }
        temporary |= TEMPORARY.contains(&x);
        before = x;
        n += 1;
    }
}

/// `pipe` of `pipe:[123]`, as `/proc/PID/fd` shows what has no path (proc_pid_fd(5)).
fn without_number(path: &str) -> Option<&str> {
    let (kind, number) = path.strip_suffix(']')?.split_once(":[")?;
    (is_number(number) && !kind.contains('/')).then_some(kind)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A name with `*` for rows of digits, and for what looks like made-up letters: at least [`MADE_UP`] of them behind the
/// last mark that separates, with a digit or both cases among them; or `tmp` with eight more (Python's tempfile).
fn general_name(name: &str) -> String {
    if name.strip_prefix("tmp").is_some_and(is_pythons) {
        return "tmp*".to_string();
    }
    if is_pythons(name) && name.bytes().any(|b| !b.is_ascii_lowercase()) {
        return "*".to_string();
    }
    let cut = name.rfind(|c: char| !c.is_ascii_alphanumeric()).map_or(0, |i| i + 1);
    // A mark may be of several bytes.
    if let Some((stem, tail)) = name.split_at_checked(cut)
        && tail.len() >= MADE_UP
        && tail.bytes().all(is_made)
        && (tail.bytes().any(|b| b.is_ascii_digit()) || has_capitals_inside(tail))
    {
        return format!("{stem}*");
    }
    let mut out = String::new();
    for c in name.chars() {
        match c.is_ascii_digit() {
            true if out.ends_with('*') => {}
            true => out.push('*'),
            false => out.push(c),
        }
    }
    out
}

/// Whether a name is one of Python's tempfile, without what stands before: eight of `a-z0-9_`.
fn is_pythons(name: &str) -> bool {
    name.len() == 8 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn has_capitals_inside(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_lowercase()) && text.bytes().skip(1).any(|b| b.is_ascii_uppercase())
}

fn is_made(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

/// Whether two names of one length are the same but for a row of letters, digits and `_` that was made up: it is long
/// enough, and something else than a small letter is in it in one of the two.
fn made_up_alike(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let differ = |(x, y): (&u8, &u8)| x != y;
    let Some(first) = a.iter().zip(b).position(differ) else { return true };
    let last = a.iter().zip(b).rposition(differ).unwrap_or(first);
    // The ends of the row may be equal by chance.
    let one = |c: Option<&u8>| c.is_some_and(|c| is_made(*c) || *c == b'_');
    let made = |at: &usize| one(a.get(*at)) && one(b.get(*at));
    let from = (0..first).rev().take_while(made).last().unwrap_or(first);
    let to = (last + 1..a.len()).take_while(made).last().unwrap_or(last);
    let telling = |t: &[u8]| t.get(from..=to).is_some_and(|s| s.iter().any(|c| !c.is_ascii_lowercase()));
    (from..=to).all(|at| made(&at)) && to - from + 1 >= MADE_UP && (telling(a) || telling(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_runs_make_up_is_the_same() {
        for (a, b) in [
            ("pipe:[123]", "pipe:[99]"),
            ("socket:[1]", "socket:[2]"),
            ("/tmp/tmp8ek49pr2/output", "/tmp/tmpqxyvr3ot/output"),
            ("/tmp/tmpabcdefgh/output", "/tmp/tmpqx_vr3ot/output"),
            ("/tmp/job.Xa31Bc", "/tmp/job.kPqRsT"),
            ("/tmp/_6z1f148", "/tmp/wzyfhika"),
            ("/tmp/sh-thd.123456", "/tmp/sh-thd.99"),
            ("/proc/12/maps", "/proc/4711/maps"),
            ("/dev/shm/sem.abcdeF", "/dev/shm/sem.abqdqq"),
        ] {
            assert!(same_path(a, b) && same_path(b, a), "{a} {b}");
        }
    }

    #[test]
    fn what_was_chosen_is_not() {
        for (a, b) in [
            ("pipe:[123]", "socket:[123]"),
            ("/etc/passwd", "/etc/shadow"),
            ("/home/a1/x", "/home/a2/x"),
            ("/data/tmpfile.123456", "/data/tmpfile.123457"),
            ("/tmp/out", "/tmp/err"),
            ("/tmp/output", "/tmp/inputs"),
            ("/tmp/a/b", "/tmp/a"),
            ("/proc/12/maps", "/proc/12/stat"),
            ("/srv/proc/12", "/srv/proc/13"),
        ] {
            assert!(!same_path(a, b) && !same_path(b, a), "{a} {b}");
        }
        assert_eq!(general_path("/tmp/output"), "/tmp/output");
        assert_eq!(general_path("/home/x/abc123"), "/home/x/abc123");
    }

    #[test]
    fn a_new_file_of_a_temporary_directory_has_any_name() {
        assert!(same_new_path("/tmp/qwertzui", "/tmp/asdfghjk") && !same_path("/tmp/qwertzui", "/tmp/asdfghjk"));
        assert!(same_new_path("/tmp/tmp8ek49pr2/abc", "/tmp/tmpqxyvr3ot/xyz"));
        assert!(!same_new_path("/tmp/a", "/tmp/ab") && !same_new_path("/etc/a", "/etc/b") && !same_new_path("a", "b"));
    }

    #[test]
    fn the_general_form_has_stars() {
        for (path, general) in [
            ("pipe:[123]", "pipe[*]"),
            ("anon_inode:[eventfd]", "anon_inode:[eventfd]"),
            ("/tmp/tmp8ek49pr2/output", "/tmp/tmp*/output"),
            ("/tmp/job.Xa31Bc", "/tmp/job.*"),
            ("/tmp/run12/log3.txt", "/tmp/run*/log*.txt"),
            ("/proc/12/fd/3", "/proc/*/fd/3"),
            ("", ""),
        ] {
            assert_eq!(general_path(path), general);
        }
    }

    proptest! {
        #[test]
        fn a_path_is_the_same_as_itself_and_the_order_does_not_matter(a in "(/(tmp|proc|[a-zA-Z0-9_é.-]{0,9})){0,4}", b in "(/(tmp|proc|[a-zA-Z0-9_é.-]{0,9})){0,4}") {
            prop_assert!(same_path(&a, &a));
            prop_assert_eq!(same_path(&a, &b), same_path(&b, &a));
            let _ = general_path(&a);
        }
    }
}

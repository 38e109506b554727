//! The hash of a stack.

use std::fmt;
use std::str::FromStr;

/// What stands for code without a file (made at run time, or from memory that has no name).
pub const UNKNOWN_CODE: &str = "[unknown]";

/// A native frame as another run can find it again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModuleFrame {
    /// The last component of the module's path, `[vdso]`, or [`UNKNOWN_CODE`].
    pub module: String,
    /// The module's GNU build id in hexadecimal; `None` where the linker wrote none.
    pub build_id: Option<String>,
    /// The address as the ELF file numbers it. Means nothing without a file.
    pub offset: u64,
}

/// A Python frame as another run can find it again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PythonLine {
    /// The file, with any directories.
    pub file: String,
    /// The function.
    pub function: String,
    /// The line, from 1.
    pub line: Option<u32>,
}

/// The hash of a stack: equal for the same place in the same program, whatever the run, the process, the folder and the
/// addresses were.
///
/// As text `1:NATIVE:PYTHON`, each half 16 hexadecimal digits; `-` for a Python half where no Python stack was taken. The
/// number in front changes when the same stack would get another hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint {
    /// Of the native stack; that of no frames where none was taken.
    pub native: u64,
    /// Of the Python stack, if one was taken.
    pub python: Option<u64>,
}

/// A text that is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FingerprintError;

/// 64-bit FNV-1a: easily written again by whoever wants to compare.
struct Fnv(u64);

impl Fnv {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;

    fn new() -> Fnv {
        Fnv(Self::BASIS)
    }

    fn add(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(Self::PRIME);
        }
    }
}

impl Fingerprint {
    /// The fingerprint of these frames, innermost first.
    ///
    /// A module is its build id, or its file name where it has none. Code without a file lies elsewhere in each run: a row
    /// of such frames counts as one, without its address.
    pub fn of(native: &[ModuleFrame], python: Option<&[PythonLine]>) -> Fingerprint {
        let mut hash = Fnv::new();
        let mut unknown = false;
        for frame in native {
            let is_unknown = frame.module.is_empty() || frame.module == UNKNOWN_CODE;
            if !(is_unknown && unknown) {
                let (id, offset) = match &frame.build_id {
                    _ if is_unknown => (UNKNOWN_CODE, 0),
                    Some(id) => (id.as_str(), frame.offset),
                    None => (frame.module.as_str(), frame.offset),
                };
                hash.add(id.as_bytes());
                hash.add(&[0]);
                hash.add(&offset.to_le_bytes());
            }
            unknown = is_unknown;
        }
        let python = python.map(|frames| {
            let mut hash = Fnv::new();
            for frame in frames {
                hash.add(python_file(&frame.file).as_bytes());
                hash.add(&[0]);
                hash.add(frame.function.as_bytes());
                hash.add(&[0]);
                hash.add(&frame.line.unwrap_or(0).to_le_bytes());
            }
            hash.0
        });
        Fingerprint { native: hash.0, python }
    }

    /// Whether two fingerprints may be of one place: they are equal, or Python was not looked at in one of them.
    pub fn may_be(&self, other: &Fingerprint) -> bool {
        self.native == other.native
            && match (self.python, other.python) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            }
    }
}

/// A Python file without its directories; with the package where the name says nothing without.
pub fn python_file(file: &str) -> &str {
    let start = |text: &str| text.rfind('/').map_or(0, |i| i + 1);
    let name = file.get(start(file)..).unwrap_or(file);
    if !matches!(name, "__init__.py" | "__main__.py") {
        return name;
    }
    let Some(package) = file.len().checked_sub(name.len() + 1).and_then(|end| file.get(..end)) else { return name };
    file.get(start(package)..).unwrap_or(name)
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1:{:016x}:", self.native)?;
        match self.python {
            Some(p) => write!(f, "{p:016x}"),
            None => f.write_str("-"),
        }
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Fingerprint, FingerprintError> {
        let half = |t: &str| match t.len() {
            16 if t.bytes().all(|b| b.is_ascii_hexdigit()) => u64::from_str_radix(t, 16).map_err(|_| FingerprintError),
            _ => Err(FingerprintError),
        };
        let (native, python) = text.strip_prefix("1:").and_then(|rest| rest.split_once(':')).ok_or(FingerprintError)?;
        let python = match python {
            "-" => None,
            hex => Some(half(hex)?),
        };
        Ok(Fingerprint { native: half(native)?, python })
    }
}

impl fmt::Display for FingerprintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a fingerprint: expected 1:, 16 hexadecimal digits, a colon, 16 more or a -")
    }
}

impl std::error::Error for FingerprintError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(module: &str, build_id: Option<&str>, offset: u64) -> ModuleFrame {
        ModuleFrame { module: module.to_string(), build_id: build_id.map(str::to_string), offset }
    }

    fn native(frames: &[ModuleFrame]) -> Fingerprint {
        Fingerprint::of(frames, None)
    }

    fn line(file: &str, function: &str, line: u32) -> PythonLine {
        PythonLine { file: file.to_string(), function: function.to_string(), line: Some(line) }
    }

    fn python(frames: &[(&str, &str, u32)]) -> Option<u64> {
        let frames: Vec<_> = frames.iter().map(|f| line(f.0, f.1, f.2)).collect();
        Fingerprint::of(&[], Some(&frames)).python
    }

    /// The hash stands in reports: it must never change unnoticed.
    #[test]
    fn the_hash_is_what_the_documentation_says() {
        assert_eq!(native(&[]).to_string(), "1:cbf29ce484222325:-");
        let f = Fingerprint::of(
            &[frame("libc.so.6", Some("58254c"), 0xfd617), frame("job", None, 0x119e)],
            Some(&[line("/x/job.py", "<module>", 2)]),
        );
        assert_eq!(f.to_string(), "1:af1431b09785710e:a463dfd1e0548351");
        assert_eq!(f.to_string().parse(), Ok(f));
        for bad in ["", "1:", "1:12:-", "2:cbf29ce484222325:-", "1:cbf29ce484222325", "1:cbf29ce48422232+:-"] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(FingerprintError), "{bad}");
        }
    }

    #[test]
    fn a_build_id_stands_for_its_file_and_a_name_for_one_without() {
        assert_eq!(native(&[frame("a", Some("12"), 1)]), native(&[frame("b", Some("12"), 1)]));
        assert_ne!(native(&[frame("a", Some("12"), 1)]), native(&[frame("a", Some("13"), 1)]));
        assert_ne!(native(&[frame("a", None, 1)]), native(&[frame("b", None, 1)]));
        assert_ne!(native(&[frame("a", None, 1)]), native(&[frame("a", None, 2)]));
    }

    #[test]
    fn code_without_a_file_has_no_address() {
        let at = |n| frame(UNKNOWN_CODE, None, n);
        let libc = frame("libc.so.6", Some("1"), 5);
        assert_eq!(native(&[libc.clone(), at(1)]), native(&[libc.clone(), at(2), at(3)]));
        assert_ne!(native(&[libc.clone(), at(1), libc.clone()]), native(&[libc.clone(), libc]));
    }

    #[test]
    fn python_files_are_named_without_their_folder() {
        assert_eq!(python(&[("/a/job.py", "f", 2)]), python(&[("/b/c/job.py", "f", 2)]));
        assert_ne!(python(&[("job.py", "f", 2)]), python(&[("job.py", "f", 3)]));
        assert_ne!(python(&[("job.py", "f", 2)]), python(&[("job.py", "g", 2)]));
        assert_ne!(python(&[("a/__init__.py", "f", 2)]), python(&[("b/__init__.py", "f", 2)]));
        assert_eq!(python(&[("x/a/__init__.py", "f", 2)]), python(&[("y/a/__init__.py", "f", 2)]));
        for (file, short) in
            [("__init__.py", "__init__.py"), ("/__main__.py", "/__main__.py"), ("a/", ""), ("<stdin>", "<stdin>")]
        {
            assert_eq!(python_file(file), short);
        }
    }

    #[test]
    fn what_was_not_looked_at_may_be_anything() {
        let (a, b) = (Fingerprint { native: 1, python: Some(2) }, Fingerprint { native: 1, python: None });
        assert!(a.may_be(&b) && b.may_be(&a) && a.may_be(&a));
        assert!(!a.may_be(&Fingerprint { native: 1, python: Some(3) }));
        assert!(!a.may_be(&Fingerprint { native: 2, python: None }));
    }

    proptest! {
        #[test]
        fn another_frame_is_another_hash(
            offsets in proptest::collection::vec(any::<u64>(), 1..20),
            at in any::<proptest::sample::Index>(),
            change in 1..u64::MAX,
        ) {
            let frames: Vec<_> = offsets.iter().map(|o| frame("a", Some("00"), *o)).collect();
            let mut other = frames.clone();
            let i = at.index(other.len());
            other[i].offset ^= change;
            prop_assert_ne!(native(&frames), native(&other));
            prop_assert_ne!(native(&frames), native(&frames[1..]));
        }

        #[test]
        fn it_reads_what_it_writes(native: u64, python: Option<u64>) {
            let f = Fingerprint { native, python };
            prop_assert_eq!(f.to_string().parse(), Ok(f));
        }
    }
}

//! Names as a reader expects them.

use std::fmt::{self, Write};

/// Demangled names are cut off here, in bytes: a mangled name of 1 kB can stand for gigabytes.
const MAX_NAME: usize = 8 << 10;

/// The language of a function, as far as it matters for what a name means: a namespace `core` of C++ is not Rust's crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Tongue {
    Rust,
    Cpp,
    #[default]
    Other,
}

impl Tongue {
    /// By a name as the linker has it. `language` is that of the debug information (DW_AT_language), for names that are not
    /// mangled.
    pub(crate) fn of(raw: &[u8], language: Option<gimli::DwLang>) -> Tongue {
        let rust = |name: &[u8]| std::str::from_utf8(name).is_ok_and(|n| rustc_demangle::try_demangle(n).is_ok());
        match raw {
            [b'_', b'R', ..] if rust(raw) => Tongue::Rust,
            [b'_', b'Z', b'N', ..] if rust(raw) => Tongue::Rust,
            [b'_', b'Z', ..] => Tongue::Cpp,
            _ => match language {
                Some(gimli::DW_LANG_Rust) => Tongue::Rust,
                Some(
                    gimli::DW_LANG_C_plus_plus
                    | gimli::DW_LANG_C_plus_plus_03
                    | gimli::DW_LANG_C_plus_plus_11
                    | gimli::DW_LANG_C_plus_plus_14
                    | gimli::DW_LANG_C_plus_plus_17
                    | gimli::DW_LANG_C_plus_plus_20,
                ) => Tongue::Cpp,
                _ => Tongue::Other,
            },
        }
    }
}

/// Demangles Rust (`_R`, legacy `_ZN…E` with a hash) and C++ (`_Z`); all other names are given back as they are, except
/// for a symbol version (`close@@GLIBC_2.2.5`), which is cut off.
///
/// A demangler let loose on C names invents types: `h` would become `unsigned char`.
pub(crate) fn readable(raw: &[u8]) -> String {
    let raw = String::from_utf8_lossy(raw);
    let name = match raw.find('@') {
        Some(at) if at > 0 => raw.get(..at).unwrap_or(&raw),
        _ => &raw,
    };
    if (name.starts_with("_R") || name.starts_with("_ZN"))
        && let Ok(rust) = rustc_demangle::try_demangle(name)
    {
        return limited(|out| write!(out, "{rust:#}")).unwrap_or_else(|| name.to_owned());
    }
    if name.starts_with("_Z")
        && let Ok(symbol) = cpp_demangle::Symbol::new(name)
    {
        let options = cpp_demangle::DemangleOptions::default();
        let cpp = limited(|out| symbol.structured_demangle(out, &options).map_err(|_| fmt::Error));
        return cpp.unwrap_or_else(|| name.to_owned());
    }
    name.to_owned()
}

/// What `write` writes, or `None` if it fails or is longer than [`MAX_NAME`].
fn limited(write: impl FnOnce(&mut Limited) -> fmt::Result) -> Option<String> {
    let mut out = Limited(String::new());
    write(&mut out).ok()?;
    Some(out.0)
}

struct Limited(String);

impl Write for Limited {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if self.0.len() + s.len() > MAX_NAME {
            return Err(fmt::Error);
        }
        self.0.push_str(s);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mangled_names_are_demangled() {
        for plain in ["h", "re", "close", "main", "_start", "i", "_init", "__libc_start_main", "Z3foov", ""] {
            assert_eq!(readable(plain.as_bytes()), plain);
        }
    }

    #[test]
    fn rust_and_cpp_are_told_apart() {
        assert_eq!(readable(b"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE"), "core::fmt::Formatter::pad");
        assert_eq!(readable(b"_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(readable(b"_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(readable(b"_Z3barPc"), "bar(char*)");
    }

    #[test]
    fn the_language_is_told_by_the_mangling_or_else_by_the_debug_information() {
        assert_eq!(Tongue::of(b"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", None), Tongue::Rust);
        assert_eq!(Tongue::of(b"_ZN4core6Engine4stopEv", None), Tongue::Cpp);
        assert_eq!(Tongue::of(b"_RNvC6_123foo3bar", None), Tongue::Rust);
        assert_eq!(Tongue::of(b"_Reader", None), Tongue::Other);
        assert_eq!(Tongue::of(b"main", Some(gimli::DW_LANG_C_plus_plus_14)), Tongue::Cpp);
        assert_eq!(Tongue::of(b"main", None), Tongue::Other);
    }

    #[test]
    fn versions_are_cut_off() {
        assert_eq!(readable(b"close@@GLIBC_2.2.5"), "close");
        assert_eq!(readable(b"@odd"), "@odd");
    }

    #[test]
    fn broken_mangling_is_shown_as_it_is() {
        assert_eq!(readable(b"_ZN999999x"), "_ZN999999x");
        assert_eq!(readable(b"_R\xff"), "_R\u{fffd}");
        let bomb = format!("_Z1f{}", "St4pairI".repeat(500));
        assert!(readable(bomb.as_bytes()).len() <= MAX_NAME.max(bomb.len()));
    }
}

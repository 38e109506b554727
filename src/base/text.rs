//! Text that comes from a target, made safe to show.

use std::fmt::Write;

/// `bytes` as text that a terminal shows and never obeys.
///
/// Control characters, invalid UTF-8, the backslash, and characters that reorder or hide text (Unicode's bidirectional
/// controls, zero-width characters) become escapes: `\n`, `\t`, `\x1b`, `\u{202e}`.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                '\\' => out.push_str("\\\\"),
                c if c.is_ascii_control() => {
                    let _ = write!(out, "\\x{:02x}", c as u32);
                }
                c if c.is_control() || is_invisible(c) => {
                    let _ = write!(out, "\\u{{{:x}}}", c as u32);
                }
                c => out.push(c),
            }
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out
}

/// Characters of Unicode's category Cf that reorder or hide text, and the separators that some terminals obey.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}' | '\u{61c}')
}

/// A duration in nanoseconds as people write it: `1.0 µs`, `0.20 ms`, `1.50 s`.
pub fn duration(ns: u64) -> String {
    let ns = ns as f64;
    match ns {
        n if n < 1e4 => format!("{:.1} µs", n / 1e3),
        n if n < 1e6 => format!("{:.2} ms", n / 1e6),
        n if n < 1e9 => format!("{:.1} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

/// A span of time in nanoseconds as it was typed: `500ms`, `1s`, `30us`.
pub fn span(ns: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    match units.iter().find(|(n, _)| ns > 0 && ns.is_multiple_of(*n)) {
        Some((n, unit)) => format!("{}{unit}", ns / n),
        None => format!("{ns}ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_that_it_would_obey() {
        assert_eq!(escape(b"/tmp/a"), "/tmp/a");
        assert_eq!(escape(b"a\x1b[31m\nb\xff\\"), "a\\x1b[31m\\nb\\xff\\\\");
        assert_eq!(escape("x\u{202e}y\u{9b}".as_bytes()), "x\\u{202e}y\\u{9b}");
        assert_eq!(escape("größe 漢".as_bytes()), "größe 漢");
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(1_000), "1.0 µs");
        assert_eq!(duration(200_000), "0.20 ms");
        assert_eq!(duration(12_340_000), "12.3 ms");
        assert_eq!(duration(1_500_000_000), "1.50 s");
        for (ns, text) in [(0, "0ns"), (7, "7ns"), (1_500, "1500ns"), (30_000, "30us"), (2_000_000_000, "2s")] {
            assert_eq!(span(ns), text);
        }
    }
}

//! Colour, and the width of a line.

use anstyle::{AnsiColor, Style as Ansi};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How text is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether there is colour.
    pub color: bool,
    /// How many columns a line may have, where it can be helped.
    pub width: usize,
}

/// When there is colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Color {
    /// On a terminal, unless the environment says otherwise (NO_COLOR).
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    Error,
    Warning,
    Note,
    Label,
    Place,
    Dim,
    Strong,
}

/// The width that text has where nobody says.
const COLUMNS: usize = 80;
/// Narrower than this no line is made: the terminal breaks it.
const NARROWEST: usize = 40;
/// Prose is not wider than this on the widest of terminals.
const PROSE: usize = 100;

impl Default for Style {
    fn default() -> Style {
        Style::plain()
    }
}

impl Style {
    /// No colour, 80 columns.
    pub fn plain() -> Style {
        Style { color: false, width: COLUMNS }
    }

    /// With colour, 80 columns.
    pub fn colored() -> Style {
        Style { color: true, width: COLUMNS }
    }

    /// What `color` means for `stream`; NO_COLOR, CLICOLOR and TERM have their say when it is automatic.
    pub fn for_stream(color: Color, stream: &impl anstream::stream::RawStream) -> Style {
        let on = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never,
        };
        Style { color: on, width: COLUMNS }
    }

    /// The same for a terminal of `columns`; the usual width where that is not known.
    #[must_use]
    pub fn with_width(self, columns: Option<usize>) -> Style {
        Style { width: columns.unwrap_or(COLUMNS).max(NARROWEST), ..self }
    }

    pub(crate) fn paint(self, ink: Ink, text: &str) -> String {
        if !self.color {
            return text.to_string();
        }
        let fg = |c: AnsiColor| Ansi::new().fg_color(Some(c.into()));
        let ansi = match ink {
            Ink::Error => fg(AnsiColor::Red).bold(),
            Ink::Warning => fg(AnsiColor::Yellow).bold(),
            Ink::Note => fg(AnsiColor::Cyan).bold(),
            Ink::Label => fg(AnsiColor::Blue).bold(),
            Ink::Place => fg(AnsiColor::Green),
            Ink::Dim => Ansi::new().dimmed(),
            Ink::Strong => Ansi::new().bold(),
        };
        format!("{ansi}{text}{ansi:#}")
    }
}

/// How many columns `text` takes on a terminal.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// How many columns `text` takes, where it may hold colours of ours.
pub(crate) fn visible(text: &str) -> usize {
    columns(&anstream::adapter::strip_str(text).to_string())
}

/// `text` in at most `max` columns, its beginning given up for an ellipsis: the end of a path tells most.
pub(crate) fn keep_end(text: &str, max: usize) -> String {
    cut(text, max, true)
}

/// `path` in at most `max` columns, as many of its last components as fit behind an ellipsis.
pub(crate) fn keep_path(path: &str, max: usize) -> String {
    let path = path.replace("/./", "/");
    if columns(&path) <= max {
        return path;
    }
    let tails = path.match_indices('/').filter_map(|(i, _)| path.get(i..));
    let fitting = tails.into_iter().find(|t| columns(t) < max);
    fitting.map_or_else(|| keep_end(&path, max), |t| format!("…{t}"))
}

/// What is open in at most `max` columns: of a path as many of its last components as fit, and of a name that is too long its
/// beginning and its end: `…/2024-01-rep…-final.csv`, `pipe:[12…(write end)`.
pub(crate) fn keep_name(text: &str, max: usize) -> String {
    if columns(text) <= max {
        return text.to_string();
    }
    let mut tails = text.match_indices('/').filter_map(|(i, _)| text.get(i..));
    match tails.clone().find(|tail| columns(tail) < max) {
        Some(tail) if columns(tail) > 1 => format!("…{tail}"),
        _ if max < 8 => keep_end(text, max),
        _ => {
            let name = tails.next_back().filter(|name| columns(name) > 1).map_or((text, ""), |name| (name, "…"));
            let room = max.saturating_sub(columns(name.1));
            let end = keep_end(name.0, room.div_ceil(2));
            let start = keep_start(name.0, room.saturating_sub(columns(&end)) + 1);
            format!("{}{}{end}", name.1, start.trim_end_matches('…'))
        }
    }
}

/// `text` in at most `max` columns, its end given up for an ellipsis.
pub(crate) fn keep_start(text: &str, max: usize) -> String {
    cut(text, max, false)
}

fn cut(text: &str, max: usize, end: bool) -> String {
    if columns(text) <= max {
        return text.to_string();
    }
    let mut room = max.saturating_sub(1);
    let mut fits = |c: &char| {
        let w = c.width().unwrap_or(0);
        let fits = w <= room;
        room = room.saturating_sub(w);
        fits
    };
    if end {
        let mut kept: Vec<char> = text.chars().rev().take_while(&mut fits).collect();
        kept.reverse();
        format!("…{}", kept.into_iter().collect::<String>())
    } else {
        format!("{}…", text.chars().take_while(&mut fits).collect::<String>())
    }
}

/// `text` broken at spaces into lines of at most `width` columns, the later ones indented by `indent` spaces. A word
/// that is longer stays whole.
pub(crate) fn wrap(text: &str, first: usize, indent: usize, width: usize) -> String {
    let width = width.min(PROSE);
    let mut out = String::new();
    let mut at = first;
    for (i, word) in text.split(' ').enumerate() {
        let w = columns(word);
        if i > 0 {
            if at + 1 + w > width && at > indent {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                at = indent;
            } else {
                out.push(' ');
                at += 1;
            }
        }
        out.push_str(word);
        at += w;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_at_the_end_that_tells_less() {
        assert_eq!(keep_end("/usr/lib/x/y.so", 8), "…/x/y.so");
        assert_eq!(keep_start("textiowrapper", 5), "text…");
        assert_eq!(keep_end("漢漢漢漢", 5), "…漢漢");
        assert_eq!(keep_end("abc", 3), "abc");
        assert_eq!(keep_end("abc", 0), "…");
    }

    #[test]
    fn paths_are_cut_between_components() {
        let path = "/tmp/build.20240122/Python-3.11.7/./Modules/_io/fileio.c";
        assert_eq!(keep_path(path, 40), "…/Python-3.11.7/Modules/_io/fileio.c");
        assert_eq!(keep_path("/a/./b/./c.c", 40), "/a/b/c.c");
        assert_eq!(keep_path("/a/verylongname.c", 8), "…gname.c");
    }

    #[test]
    fn names_keep_what_tells_them_apart() {
        assert_eq!(keep_name("/usr/lib/x/gconv.cache", 18), "…/x/gconv.cache");
        assert_eq!(keep_name("/tmp/report-of-monday-final.csv", 18), "…/report-…inal.csv");
        assert_eq!(keep_name("pipe:[76122740] (write end)", 20), "pipe:[7612…rite end)");
        assert_eq!(keep_name("/tmp/", 5), "/tmp/");
        for max in 0..40 {
            for text in ["/漢漢漢/漢漢漢漢漢漢漢漢漢", "pipe:[76122740] (write end)", "/a/b/", "socket:[1]"]
            {
                let cut = keep_name(text, max);
                assert!(columns(&cut) <= max.max(1), "{text} in {max}: {cut}");
            }
        }
    }

    #[test]
    fn the_width_is_the_terminals_where_that_is_known() {
        let of = |n| Style::plain().with_width(n).width;
        assert_eq!((of(Some(132)), of(Some(3)), of(None)), (132, 40, 80));
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("one two three", 2, 2, 9), "one two\n  three");
        assert_eq!(wrap("verylongword x", 2, 2, 6), "verylongword\n  x");
    }

    #[test]
    fn colour_only_when_asked_for() {
        assert_eq!(Style::plain().paint(Ink::Error, "x"), "x");
        assert_eq!(Style::colored().paint(Ink::Strong, "x"), "\u{1b}[1mx\u{1b}[0m");
        assert!(!Style::for_stream(Color::Never, &std::io::stderr()).color);
    }
}

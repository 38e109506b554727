//! Patterns of suppressions: text in which `*` stands for anything, and rows of frames.

use super::Spellings;

/// Text in which each `*` stands for any run of characters, none too. Nothing else is special, and there is nothing to
/// escape: a `*` that is meant is matched, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern that is written so.
    pub fn new(text: &str) -> Pattern {
        Pattern(text.to_string())
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether it is all of `text`. Takes at most their lengths' product.
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == text };
        let Some(mut text) = text.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = rest.split('*').collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            // The first place will do: what comes later finds at least as much left.
            match text.split_once(part) {
                Some((_, after)) => text = after,
                None => return false,
            }
        }
        text.ends_with(last)
    }
}

/// Frames that lead to each other, the outermost first; others may be between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain(Vec<Pattern>);

impl Chain {
    /// The frames of `a < b < c`; `None` where one is missing, with the byte at which it is.
    pub fn new(text: &str) -> Result<Chain, usize> {
        let mut frames = Vec::new();
        let mut at = 0;
        for part in text.split(" < ") {
            // What stands at the end, or the beginning, has lost a space.
            let bare = part.trim();
            if bare.is_empty() || bare == "<" || bare.starts_with("< ") || bare.ends_with(" <") {
                return Err(at);
            }
            frames.push(Pattern::new(bare));
            at += part.len() + 3;
        }
        Ok(Chain(frames))
    }

    /// Whether these frames, the outermost first, are on a stack in this order.
    pub fn matches(&self, stack: &[Spellings]) -> bool {
        let mut frames = stack.iter();
        self.0.iter().all(|p| frames.any(|spellings| spellings.iter().any(|s| p.matches(s))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("close", "close", true),
            ("close", "fclose", false),
            ("*close", "fclose", true),
            ("*", "", true),
            ("**", "x", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("aa*aa", "aaa", false),
            ("operator[]", "operator[]", true),
            ("f(char*, int)", "f(char*, int)", true),
            ("libc.so.6+0x*", "libc.so.6+0xfd617", true),
            ("*é*", "caffè é", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn frames_lead_to_each_other() {
        let stack: Vec<Spellings> = ["main", "run", "run", "close"].iter().map(|f| vec![(*f).to_string()]).collect();
        for (chain, expected) in [
            ("main < close", true),
            ("main < run < run < close", true),
            ("run < run < run", false),
            ("close < main", false),
            ("*", true),
        ] {
            assert_eq!(Chain::new(chain).unwrap().matches(&stack), expected, "{chain}");
        }
        assert!(!Chain::new("*").unwrap().matches(&[]), "a frame must be there");
        assert_eq!(Chain::new("operator< <int> < f").map(|c| c.0.len()), Ok(2));
        assert_eq!((Chain::new(""), Chain::new("a < "), Chain::new("a <")), (Err(0), Err(4), Err(0)));
    }

    proptest! {
        #[test]
        fn whatever_is_left_out_a_star_fills(text in "[ab*]{0,12}", from in 0usize..12, len in 0usize..12) {
            let from = from.min(text.len());
            let to = (from + len).min(text.len());
            let pattern = format!("{}*{}", &text[..from], &text[to..]);
            prop_assert!(Pattern::new(&pattern).matches(&text));
            let bare = text.replace('*', "x");
            prop_assert!(Pattern::new(&text).matches(&bare));
        }
    }
}

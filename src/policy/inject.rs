//! Alterations that were asked for on the command line, in strace's words where it has them: `close:error=EIO:when=2+`.

use super::catch::{Kind, Lookup, Occurrence, Trap, holds};
use super::condition::{Condition, Field, Like, Number, Order, Text, Word, all_of};
use crate::base::nearest;
use crate::base::text::escape;
use nix::errno::Errno;

/// The calls that are looked at before they are made because they end a descriptor.
const CALLS: &[&str] = &["close", "close_range", "dup2", "dup3"];

/// The largest error number that has a name (errno(3)).
const LAST_ERROR: i32 = 133;

/// How a call is altered; but for a delay it does not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// The program is told that it succeeded.
    Keep,
    /// The program is told this error.
    Error(i32),
    /// The program is told this result.
    Value(i64),
    /// It does happen, so many nanoseconds later.
    Delay(u64),
}

/// At which of the calls that match: `first`, `first..last`, `first+`, `first+step`, as strace(1) has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct When {
    first: u64,
    last: u64,
    step: u64,
}

impl When {
    fn parse(text: &str) -> Option<When> {
        let number = |t: &str| t.parse::<u64>().ok().filter(|n| *n > 0);
        let (range, step) = match text.split_once('+') {
            Some((range, "")) => (range, Some(1)),
            Some((range, step)) => (range, Some(number(step)?)),
            None => (text, None),
        };
        let (first, last) = match range.split_once("..") {
            Some((first, last)) => (number(first)?, Some(number(last)?)),
            None => (number(range)?, None),
        };
        let last = last.unwrap_or(if step.is_some() { u64::MAX } else { first });
        (first <= last).then_some(When { first, last, step: step.unwrap_or(1) })
    }

    fn includes(self, n: u64) -> bool {
        (self.first..=self.last).contains(&n) && (n - self.first).is_multiple_of(self.step)
    }
}

/// An alteration.
#[derive(Clone, PartialEq, Debug)]
pub struct Injection {
    calls: Vec<&'static str>,
    condition: Option<Condition>,
    when: When,
    how: How,
    matched: u64,
}

/// The longest delay, in nanoseconds: a day.
const LONGEST: u64 = 86_400_000_000_000;

/// A time as strace(1) has it: a number and `s`, `ms`, `us` or `ns`; in nanoseconds, from 1 to a day's. Without a unit it is
/// microseconds if `bare`, and else a mistake.
///
/// # Errors
/// What would be right.
pub fn time(text: &str, bare: bool) -> Result<u64, String> {
    let wrong = || {
        let shown: String = escape(text.as_bytes()).chars().take(40).collect();
        format!("\"{shown}\" is no time: say a number and s, ms, us or ns, a day at most: 500ms")
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let ns = match unit {
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" => 1_000,
        "ns" => 1,
        "" if bare => 1_000,
        _ => return Err(wrong()),
    };
    let time = number.parse::<u64>().ok().and_then(|n| n.checked_mul(ns));
    time.filter(|t| (1..=LONGEST).contains(t)).ok_or_else(wrong)
}

/// The number of an error by its name, in whatever case.
///
/// # Errors
/// With the nearest name.
pub fn error_number(word: &str) -> Result<i32, String> {
    let upper = word.to_ascii_uppercase();
    let wanted = match upper.as_str() {
        "EWOULDBLOCK" => "EAGAIN",
        "ENOTSUP" => "EOPNOTSUPP",
        name => name,
    };
    let named = |n: i32| (Errno::from_raw(n) != Errno::UnknownErrno).then(|| format!("{:?}", Errno::from_raw(n)));
    let names: Vec<String> = (1..=LAST_ERROR).filter_map(named).collect();
    (1..=LAST_ERROR).find(|n| named(*n).as_deref() == Some(wanted)).ok_or_else(|| {
        let shown: String = escape(word.as_bytes()).chars().take(40).collect();
        match nearest(&upper, names.iter().map(String::as_str)) {
            Some(n) => format!("no error is called \"{shown}\"; did you mean {n}?"),
            None => format!("no error is called \"{shown}\": see errno(3)"),
        }
    })
}

/// A condition, if all that it asks is known before a call.
fn answerable(condition: Condition) -> Result<Condition, String> {
    const UNKNOWN: [(Field, &str); 3] = [
        (Field::Number(Number::Nth), "when=N says at which of the calls that match"),
        (
            Field::Word(Word::Finding),
            "nothing is found before a call is made; when=N says at which of those that match",
        ),
        (Field::Word(Word::Why), "an alteration comes before any break; when=N says at which of those that match"),
    ];
    match UNKNOWN.iter().find(|(field, _)| condition.asks(&|f| f == *field)) {
        Some((field, instead)) => Err(format!("the condition asks for {}: {instead}", field.name())),
        None => Ok(condition),
    }
}

impl Injection {
    /// Reads `close:path=/tmp/a:nth=1:keep`.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Injection, String> {
        let mut parts = text.split(':').peekable();
        let names = parts.next().unwrap_or_default();
        let mut calls = Vec::new();
        for name in names.split(',') {
            let call = CALLS.iter().find(|c| **c == name).ok_or_else(|| {
                let meant =
                    nearest(name, CALLS.iter().copied()).map(|n| format!("did you mean {n}? ")).unwrap_or_default();
                format!(
                    "\"{}\" cannot be altered; {meant}Only calls that end a descriptor can: {}",
                    escape(name.as_bytes()),
                    CALLS.join(", ")
                )
            })?;
            calls.push(*call);
        }
        let (mut how, mut when, mut conditions) = (None, None, Vec::new());
        while let Some(part) = parts.next() {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                "keep" if !part.contains('=') => how = Some(How::Keep),
                "error" | "fail" => {
                    how = Some(How::Error(match value.parse::<i32>() {
                        Ok(n @ 1..=LAST_ERROR) => n,
                        Ok(n) => return Err(format!("there is no error {n}")),
                        Err(_) => error_number(value)?,
                    }));
                }
                "retval" => {
                    let n = value.parse::<i64>().ok().filter(|n| *n >= 0);
                    how = Some(How::Value(
                        n.ok_or("retval wants a number that is not negative; for an error say error=EIO")?,
                    ));
                }
                "delay" | "delay_enter" => how = Some(How::Delay(time(value, true)?)),
                "when" | "nth" => {
                    let wrong = || {
                        format!(
                            "{key} wants a number, or strace's FIRST..LAST or FIRST+STEP, not \"{}\"",
                            escape(value.as_bytes())
                        )
                    };
                    when = Some(When::parse(value).ok_or_else(wrong)?);
                }
                "path" => {
                    conditions.push(Condition::Text(Text::Path, Like::glob(value).map_err(|e| format!("path: {e}"))?))
                }
                "fd" => {
                    let n = value
                        .parse::<i64>()
                        .map_err(|_| format!("fd wants a number, not \"{}\"", escape(value.as_bytes())))?;
                    conditions.push(Condition::Number(Number::Fd, Order::Equal, n));
                }
                "if" => {
                    // All that is left: colons may stand in text.
                    let mut rest = value.to_string();
                    for part in parts.by_ref() {
                        rest = format!("{rest}:{part}");
                    }
                    let condition = Condition::parse(&rest).map_err(|e| format!("the condition, {e}"))?;
                    conditions.push(answerable(condition)?);
                }
                other => {
                    const KEYS: &[&str] =
                        &["keep", "error", "retval", "delay_enter", "when", "nth", "path", "fd", "if"];
                    let shown = escape(other.as_bytes());
                    return Err(match nearest(other, KEYS.iter().copied()) {
                        Some(n) => format!("\"{shown}\" is nothing to say here; did you mean {n}?"),
                        None => format!("\"{shown}\" is nothing to say here; there are {}", KEYS.join(", ")),
                    });
                }
            }
        }
        let how = how.ok_or("say what is to happen: keep, error=EIO, retval=0 or delay_enter=500ms")?;
        let when = when.unwrap_or(When { first: 1, last: u64::MAX, step: 1 });
        Ok(Injection { calls, condition: all_of(conditions), when, how, matched: 0 })
    }

    /// Whether it needs a stack to decide.
    pub fn needs_stack(&self) -> bool {
        self.condition.as_ref().is_some_and(Condition::needs_stack)
    }

    /// How this end is altered, if it is. Counts those that match.
    pub fn of(&mut self, at: &Occurrence<'_>, lookup: &mut dyn Lookup) -> Option<How> {
        let name = at.call?.info.name;
        if at.kind != Kind::Close || !self.calls.contains(&name) {
            return None;
        }
        if !self.condition.as_ref().is_none_or(|c| holds(c, at, lookup)) {
            return None;
        }
        self.matched = self.matched.saturating_add(1);
        self.when.includes(self.matched).then_some(self.how)
    }

    /// What it waits for, as a catch would say it. Safe to show.
    pub fn waits_for(&self) -> String {
        let trap = Trap { kind: Kind::Close, condition: self.condition.clone() };
        format!("{} by {}", trap, self.calls.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stracess_words_and_ours_are_read() {
        let i = Injection::parse("close:path=/tmp/a:nth=1:keep").unwrap();
        assert_eq!((i.how, i.when), (How::Keep, When { first: 1, last: 1, step: 1 }));
        assert_eq!(i.waits_for(), "close if path =~ \"/tmp/a\" by close");
        let i = Injection::parse("close,dup2:error=EIO:when=2..9+3:if=path == \"a:b\" && fd > 3").unwrap();
        assert_eq!((i.calls.as_slice(), i.how), (&["close", "dup2"][..], How::Error(5)));
        let hits: Vec<u64> = (1..20).filter(|n| i.when.includes(*n)).collect();
        assert_eq!(hits, [2, 5, 8]);
        assert_eq!(Injection::parse("close:retval=7:when=3+").unwrap().when.last, u64::MAX);
    }

    #[test]
    fn times_are_straces() {
        for (text, ns) in [("7ns", 7), ("20us", 20_000), ("3ms", 3_000_000), ("2s", 2_000_000_000)] {
            assert_eq!((time(text, false), time(text, true)), (Ok(ns), Ok(ns)), "{text}");
        }
        assert_eq!(time("1500", true), Ok(1_500_000), "strace's microseconds");
        for text in ["1500", "", "s", "0s", "-1s", "1.5s", "86401s", "99999999999999999999s", "1 s", "5µs"] {
            assert!(time(text, false).is_err(), "{text}");
        }
        assert_eq!(Injection::parse("close:delay_enter=10").unwrap().how, How::Delay(10_000));
    }

    #[test]
    fn mistakes_say_what_was_meant() {
        for (text, expected) in [
            (
                "clos:keep",
                "\"clos\" cannot be altered; did you mean close? Only calls that end a descriptor can: close, close_range, dup2, dup3",
            ),
            ("close", "say what is to happen: keep, error=EIO, retval=0 or delay_enter=500ms"),
            ("close:delay=5m", "\"5m\" is no time: say a number and s, ms, us or ns, a day at most: 500ms"),
            ("close:eror=EIO", "\"eror\" is nothing to say here; did you mean error?"),
            ("close:error=EIOO", "no error is called \"EIOO\"; did you mean EIO?"),
            ("close:keep:when=0", "when wants a number, or strace's FIRST..LAST or FIRST+STEP, not \"0\""),
            ("close:keep:fd=x", "fd wants a number, not \"x\""),
            ("close:keep:if=nth == 2", "the condition asks for nth: when=N says at which of the calls that match"),
            (
                "close:keep:if=fd == 3 || !(finding == double-close)",
                "the condition asks for finding: nothing is found before a call is made; when=N says at which of those that match",
            ),
            (
                "close:keep:if=why == asked",
                "the condition asks for why: an alteration comes before any break; when=N says at which of those that match",
            ),
            ("close:keep:if=fdd == 3", "the condition, column 1: unknown field \"fdd\"; did you mean fd?"),
        ] {
            assert_eq!(Injection::parse(text).unwrap_err(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail(text in any::<String>(), tail in "[a-z:=0-9.+*\"]{0,30}") {
            let _ = Injection::parse(&text);
            let _ = Injection::parse(&format!("close:{tail}"));
        }
    }
}

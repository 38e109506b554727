//! Alterations that were asked for on the command line, in strace's words where it has them: `close:error=EIO:when=2+`.

use super::catch::{Kind, Lookup, Occurrence, Trap, holds};
use super::condition::{Condition, Field, Like, Number, Order, ParseError, Text, Word, all_of};
use crate::base::text::escape;
use crate::base::{Fd, nearest};
use nix::errno::Errno;

/// The calls that end a descriptor.
const ENDS: &[&str] = &["close", "close_range", "dup2", "dup3"];

/// A call that makes a descriptor, and what it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Maker {
    /// Its name.
    pub name: &'static str,
    /// Whether it takes a descriptor.
    pub number: bool,
    /// Whether it names a path.
    pub path: bool,
}

/// The largest error number that has a name (errno(3)).
const LAST_ERROR: i32 = 133;

/// What the program is told instead of a call's being made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instead {
    /// That it succeeded.
    Keep,
    /// This error.
    Error(i32),
    /// This result.
    Value(i64),
}

/// How a call is altered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct How {
    /// It waits first, so many nanoseconds.
    pub delay: Option<u64>,
    /// Its result is told so many nanoseconds later.
    pub delay_result: Option<u64>,
    /// Then it is not made, and the program is told this; without that it is made.
    pub instead: Option<Instead>,
}

impl How {
    /// What both want: where both say the same kind of thing, what this one says.
    pub fn or(self, other: How) -> How {
        How {
            delay: self.delay.or(other.delay),
            delay_result: self.delay_result.or(other.delay_result),
            instead: self.instead.or(other.instead),
        }
    }
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
    /// Of calls that end a descriptor, what that must be like.
    condition: Option<Condition>,
    /// Of calls that make one, the path and the descriptor that they take.
    path: Option<Like>,
    fd: Option<i64>,
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

/// The calls that are named, with commas between.
fn calls(names: &str, makers: &[Maker]) -> Result<Vec<&'static str>, ParseError> {
    let mut column = 1;
    let mut calls = Vec::new();
    for name in names.split(',') {
        let mut all = ENDS.iter().copied().chain(makers.iter().map(|m| m.name));
        let call = all.clone().find(|c| *c == name).ok_or_else(|| {
            let meant = nearest(name, &mut all).map(|n| format!("did you mean {n}? ")).unwrap_or_default();
            let what = format!(
                "\"{}\" cannot be altered; {meant}Only calls that end a descriptor can ({}), and calls that make one (openat, \
                 socket, pipe2, dup, accept4 ...)",
                escape(name.as_bytes()),
                ENDS.join(", ")
            );
            ParseError { column, what }
        })?;
        calls.push(call);
        column += name.chars().count() + 1;
    }
    Ok(calls)
}

/// What may be said after the calls.
const KEYS: &[&str] = &["keep", "error", "retval", "delay_enter", "delay_exit", "when", "nth", "path", "fd", "if"];

/// What was said after the calls.
#[derive(Default)]
struct Said {
    /// Those of the calls that make a descriptor.
    makers: Vec<Maker>,
    path: Option<Like>,
    fd: Option<i64>,
    how: How,
    when: Option<When>,
    conditions: Vec<Condition>,
}

impl Said {
    /// Takes one part, `key=value` or `key`.
    ///
    /// # Errors
    /// What is wrong with the value, or with the key; columns are those within the value or the key.
    fn take(&mut self, key: &str, value: Option<&str>) -> Result<(), Mistake> {
        let of_key = |what: String| Mistake::Key(what);
        let value = match (key, value) {
            ("keep", Some(_)) => return Err(of_key("keep takes no value".to_string())),
            ("keep", None) => "",
            (_, Some(value)) => value,
            (other, None) if KEYS.contains(&other) => {
                return Err(of_key(format!("{other} wants a value: {other}=...")));
            }
            _ => "",
        };
        if let Some(why) = self.ill_suited(key) {
            return Err(of_key(why));
        }
        let shown = || escape(value.as_bytes());
        match key {
            "keep" => self.instead(Instead::Keep)?,
            "error" | "fail" => {
                let number = match value.parse::<i32>() {
                    Ok(n @ 1..=LAST_ERROR) => n,
                    Ok(n) => return Err(Mistake::value(format!("there is no error {n}"))),
                    Err(_) => error_number(value).map_err(Mistake::value)?,
                };
                self.instead(Instead::Error(number))?;
            }
            "retval" => {
                let n = value.parse::<i64>().ok().filter(|n| *n >= 0);
                let wrong = "retval wants a number that is not negative; for an error say error=EIO";
                self.instead(Instead::Value(n.ok_or_else(|| Mistake::value(wrong.to_string()))?))?;
            }
            "delay" | "delay_enter" => {
                once(key, &mut self.how.delay, time(value, true).map_err(Mistake::value)?)?;
            }
            "delay_exit" => once(key, &mut self.how.delay_result, time(value, true).map_err(Mistake::value)?)?,
            "when" | "nth" => {
                let wrong =
                    || format!("{key} wants a number, or strace's FIRST..LAST or FIRST+STEP, not \"{}\"", shown());
                once(key, &mut self.when, When::parse(value).ok_or_else(|| Mistake::value(wrong()))?)?;
            }
            "path" => {
                let like = Like::glob(value).map_err(|e| Mistake::value(format!("path: {e}")))?;
                once(key, &mut self.path, like.clone())?;
                self.conditions.push(Condition::Text(Text::Path, like));
            }
            "fd" => {
                let wrong = |_| Mistake::value(format!("fd wants a number, not \"{}\"", shown()));
                let n = value.parse::<i64>().map_err(wrong)?;
                once(key, &mut self.fd, n)?;
                self.conditions.push(Condition::Number(Number::Fd, Order::Equal, n));
            }
            "if" => {
                let condition = Condition::parse(value).map_err(|e| Mistake::Value(e.column, e.what))?;
                self.conditions.push(answerable(condition).map_err(Mistake::value)?);
            }
            other => {
                let shown = escape(other.as_bytes());
                return Err(of_key(match nearest(other, KEYS.iter().copied()) {
                    Some(n) => format!("\"{shown}\" is nothing to say here; did you mean {n}?"),
                    None => format!("\"{shown}\" is nothing to say here; there are {}", KEYS.join(", ")),
                }));
            }
        }
        Ok(())
    }

    /// Why a key does not go with the calls that were named, if it does not.
    fn ill_suited(&self, key: &str) -> Option<String> {
        let first = self.makers.first().map(|m| m.name);
        let (name, why) = match key {
            "keep" | "retval" => {
                (first?, "it makes a descriptor, and the program would go on with a number that nobody made")
            }
            "if" => (first?, "a condition is about a descriptor that ends; there are path=, fd= and when="),
            "path" => (self.without(|m| m.path)?, "it names none"),
            "fd" => (self.without(|m| m.number)?, "it takes none"),
            _ => return None,
        };
        Some(format!("{key} does not go with {name}: {why}"))
    }

    /// The first of the calls that makes a descriptor and takes no such thing.
    fn without(&self, takes: fn(&Maker) -> bool) -> Option<&'static str> {
        self.makers.iter().find(|m| !takes(m)).map(|m| m.name)
    }

    fn instead(&mut self, instead: Instead) -> Result<(), Mistake> {
        let exclude =
            "keep, error and retval exclude one another, and only delay_enter and delay_exit go with them: say one";
        match self.how.instead.replace(instead) {
            None => Ok(()),
            Some(_) => Err(Mistake::Key(exclude.to_string())),
        }
    }
}

/// Where a mistake is, and what.
enum Mistake {
    Key(String),
    /// With the column within the value, from 1.
    Value(usize, String),
}

impl Mistake {
    fn value(what: String) -> Mistake {
        Mistake::Value(1, what)
    }
}

fn once<T>(key: &str, slot: &mut Option<T>, value: T) -> Result<(), Mistake> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Mistake::Key(format!("{key} is said for the second time"))),
    }
}

impl Injection {
    /// Reads `close:path=/tmp/a:nth=1:delay_enter=10ms:keep`. `makers` are the calls that make descriptors and can be
    /// altered.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str, makers: &[Maker]) -> Result<Injection, ParseError> {
        let (names, mut rest) = text.split_once(':').map_or((text, None), |(names, rest)| (names, Some(rest)));
        let calls = calls(names, makers)?;
        let mut column = names.chars().count() + 2;
        let named = calls.iter().filter(|name| !ENDS.contains(name));
        let makers = named.filter_map(|name| makers.iter().find(|m| m.name == *name)).copied().collect();
        let mut said = Said { makers, ..Said::default() };
        while let Some(left) = rest {
            // A condition takes all that is left: colons may stand in text.
            let (part, after) = match left.split_once(':') {
                Some((part, after)) if !left.starts_with("if=") => (part, Some(after)),
                _ => (left, None),
            };
            let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
            said.take(key, value).map_err(|mistake| match mistake {
                Mistake::Key(what) => ParseError { column, what },
                Mistake::Value(at, what) => ParseError { column: column + key.chars().count() + at, what },
            })?;
            column += part.chars().count() + 1;
            rest = after;
        }
        let Said { how, when, conditions, path, fd, .. } = said;
        if how == How::default() {
            let what = "say what is to happen: keep, error=EIO, retval=0 or delay_enter=500ms".to_string();
            return Err(ParseError { column: text.chars().count() + 1, what });
        }
        let when = when.unwrap_or(When { first: 1, last: u64::MAX, step: 1 });
        Ok(Injection { calls, condition: all_of(conditions), path, fd, when, how, matched: 0 })
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
        self.count()
    }

    /// How a call is altered that is about to make a descriptor, if it is. Counts those that match. It takes the descriptor
    /// `fd`, and names the file that `path` gives.
    pub fn of_maker(&mut self, name: &str, fd: Option<Fd>, path: &mut dyn FnMut() -> Option<Vec<u8>>) -> Option<How> {
        if ENDS.contains(&name) || !self.calls.contains(&name) {
            return None;
        }
        if self.fd.is_some_and(|wanted| fd.map(|fd| i64::from(fd.0)) != Some(wanted)) {
            return None;
        }
        if let Some(wanted) = &self.path
            && !path().is_some_and(|path| wanted.fits(&String::from_utf8_lossy(&path)))
        {
            return None;
        }
        self.count()
    }

    fn count(&mut self) -> Option<How> {
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

    fn parse(text: &str) -> Result<Injection, ParseError> {
        let maker = |name, number, path| Maker { name, number, path };
        let paths = ["open", "openat"].map(|name| maker(name, false, true));
        let numbers = ["dup", "accept4"].map(|name| maker(name, true, false));
        let others = ["socket", "pipe2"].map(|name| maker(name, false, false));
        Injection::parse(text, &[paths, numbers, others].concat())
    }

    fn instead(instead: Instead) -> How {
        How { instead: Some(instead), ..How::default() }
    }

    #[test]
    fn stracess_words_and_ours_are_read() {
        let i = parse("close:path=/tmp/a:nth=1:keep").unwrap();
        assert_eq!((i.how, i.when), (instead(Instead::Keep), When { first: 1, last: 1, step: 1 }));
        assert_eq!(i.waits_for(), "close if path =~ \"/tmp/a\" by close");
        let i = parse("close,dup2:error=EIO:when=2..9+3:if=path == \"a:b\" && fd > 3").unwrap();
        assert_eq!((i.calls.as_slice(), i.how), (&["close", "dup2"][..], instead(Instead::Error(5))));
        let hits: Vec<u64> = (1..20).filter(|n| i.when.includes(*n)).collect();
        assert_eq!(hits, [2, 5, 8]);
        assert_eq!(parse("close:retval=7:when=3+").unwrap().when.last, u64::MAX);
    }

    #[test]
    fn calls_that_make_descriptors_are_told_by_what_they_take() {
        let mut open = parse("open,openat:path=/tmp/*:when=2:error=ENOENT").unwrap();
        let mut of = |name: &str, path: &[u8]| open.of_maker(name, None, &mut || Some(path.to_vec()));
        assert_eq!(of("openat", b"/tmp/a"), None, "the first");
        assert_eq!(of("openat", b"/etc/a").or(of("close", b"/tmp/a")), None, "others do not count");
        assert_eq!(of("open", b"/tmp/b"), Some(instead(Instead::Error(2))));
        let mut dup = parse("dup,accept4:fd=3:delay_enter=1s").unwrap();
        let mut of = |fd| dup.of_maker("dup", Some(Fd(fd)), &mut || None).and_then(|how| how.delay);
        assert_eq!((of(4), of(3)), (None, Some(1_000_000_000)));
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
        let how = parse("close:delay_exit=3ms:error=EIO:delay_enter=1").unwrap().how;
        assert_eq!((how.delay, how.delay_result, how.instead), (Some(1_000), Some(3_000_000), Some(Instead::Error(5))));
        for text in ["close:delay_enter=10:error=EIO", "close:error=EIO:delay_enter=10"] {
            let how = parse(text).unwrap().how;
            assert_eq!(how, How { delay: Some(10_000), ..instead(Instead::Error(5)) });
        }
        let (delay, keep) = (How { delay: Some(1), ..How::default() }, instead(Instead::Keep));
        assert_eq!(delay.or(keep).or(instead(Instead::Error(5))), How { delay: Some(1), ..keep });
    }

    #[test]
    fn mistakes_say_what_was_meant() {
        let only = "Only calls that end a descriptor can (close, close_range, dup2, dup3), and calls that make one \
                    (openat, socket, pipe2, dup, accept4 ...)";
        let number = "it makes a descriptor, and the program would go on with a number that nobody made";
        let exclude =
            "keep, error and retval exclude one another, and only delay_enter and delay_exit go with them: say one";
        let nth = "when=N says at which of those that match";
        for (text, column, expected) in [
            ("clos:keep", 1, format!("\"clos\" cannot be altered; did you mean close? {only}")),
            ("close,ptrac:keep", 7, format!("\"ptrac\" cannot be altered; {only}")),
            ("dup:keep", 5, format!("keep does not go with dup: {number}")),
            ("close,open:retval=3", 12, format!("retval does not go with open: {number}")),
            ("socket:path=/x:error=EIO", 8, "path does not go with socket: it names none".to_string()),
            ("open,pipe2:fd=3:error=EIO", 12, "fd does not go with open: it takes none".to_string()),
            (
                "open:error=EIO:if=fd == 3",
                16,
                "if does not go with open: a condition is about a descriptor that ends; there are path=, fd= and when="
                    .to_string(),
            ),
            ("close", 6, "say what is to happen: keep, error=EIO, retval=0 or delay_enter=500ms".to_string()),
            (
                "close:delay=5m",
                13,
                "\"5m\" is no time: say a number and s, ms, us or ns, a day at most: 500ms".to_string(),
            ),
            ("close:eror=EIO", 7, "\"eror\" is nothing to say here; did you mean error?".to_string()),
            ("close:error=EIOO", 13, "no error is called \"EIOO\"; did you mean EIO?".to_string()),
            ("close:error", 7, "error wants a value: error=...".to_string()),
            ("close:keep=1", 7, "keep takes no value".to_string()),
            ("close:keep:error=EIO", 12, exclude.to_string()),
            ("close:retval=1:keep", 16, exclude.to_string()),
            ("close:delay=1:delay_enter=2", 15, "delay_enter is said for the second time".to_string()),
            ("close:keep:when=1:nth=2", 19, "nth is said for the second time".to_string()),
            (
                "close:path=/é:when=0",
                20,
                "when wants a number, or strace's FIRST..LAST or FIRST+STEP, not \"0\"".to_string(),
            ),
            ("close:keep:fd=x", 15, "fd wants a number, not \"x\"".to_string()),
            (
                "close:keep:if=nth == 2",
                15,
                "the condition asks for nth: when=N says at which of the calls that match".to_string(),
            ),
            (
                "close:keep:if=fd == 3 || !(finding == double-close)",
                15,
                format!("the condition asks for finding: nothing is found before a call is made; {nth}"),
            ),
            (
                "close:keep:if=why == asked",
                15,
                format!("the condition asks for why: an alteration comes before any break; {nth}"),
            ),
            ("close:keep:if=fd == 3 || fdd == 3", 26, "unknown field \"fdd\"; did you mean fd?".to_string()),
        ] {
            assert_eq!(parse(text).unwrap_err(), ParseError { column, what: expected }, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail(text in any::<String>(), tail in "[a-z:=0-9.+*\"]{0,30}") {
            let _ = parse(&text);
            let _ = parse(&format!("close:{tail}"));
        }
    }
}

//! Breaks that the user sets: at which events, under which condition, how often. Pure: who asks knows the world.

use super::condition::{Condition, Facts, Flag, Known, Like, Number, ParseError, Text, Word};
use crate::base::{Fd, Pid, PyStackId, StackId, Tid, nearest};
use crate::event::{Call, Cause, Site};
use crate::model::{Life, World};
use rustc_hash::FxHashMap;
use std::fmt;
use std::sync::Arc;

/// The kinds of event that can be caught.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// A descriptor is about to end by a call: close, close_range, dup2 over it.
    Close,
    /// A call has made a new object.
    Open,
    /// A call has made another descriptor of an object.
    Dup,
    /// A descriptor has come over a socket or from another process.
    Receive,
    /// FD_CLOEXEC is about to be set or cleared.
    Cloexec,
    /// A process was made.
    Fork,
    /// A program was executed.
    Exec,
    /// A rule has found something.
    Finding,
}

/// Every kind, its name, and when it comes.
pub static EVENTS: &[(Kind, &str, &str)] = &[
    (Kind::Close, "close", "before a descriptor ends by a call: close, close_range, dup2 over it"),
    (Kind::Open, "open", "after a call has made a new object"),
    (Kind::Dup, "dup", "after a call has made another descriptor of an object"),
    (Kind::Receive, "receive", "after a descriptor came over a socket or from another process"),
    (Kind::Cloexec, "cloexec", "before FD_CLOEXEC is set or cleared"),
    (Kind::Fork, "fork", "after a process was made"),
    (Kind::Exec, "exec", "after a program was executed"),
    (Kind::Finding, "finding", "when a rule has found something, of whatever severity"),
];

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        EVENTS.iter().find(|e| e.0 == self).map_or("?", |e| e.1)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is to be caught: an event, and a condition if there is one.
#[derive(Clone, PartialEq, Debug)]
pub struct Trap {
    /// The event.
    pub kind: Kind,
    /// The condition.
    pub condition: Option<Condition>,
}

impl Trap {
    /// Reads `close if fd == 3`.
    ///
    /// # Errors
    /// With the column, counted in `text`.
    pub fn parse(text: &str) -> Result<Trap, ParseError> {
        let error = |column: usize, what: String| ParseError { column: column + 1, what };
        let indent = text.chars().take_while(|c| c.is_whitespace()).count();
        let trimmed = text.trim();
        let (word, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        let names = || EVENTS.iter().map(|e| e.1);
        let list = || names().collect::<Vec<_>>().join(", ");
        if word.is_empty() {
            return Err(error(indent, format!("catch what? {}", list())));
        }
        let Some((kind, ..)) = EVENTS.iter().find(|e| e.1 == word) else {
            let meant = match nearest(word, names()) {
                Some(n) => format!("did you mean {n}?"),
                None => format!("there are {}", list()),
            };
            let shown: String = crate::base::text::escape(word.as_bytes()).chars().take(40).collect();
            return Err(error(indent, format!("no event is called \"{shown}\"; {meant}")));
        };
        let before = indent + word.chars().count();
        let gap = rest.chars().take_while(|c| c.is_whitespace()).count() + 1;
        let rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(Trap { kind: *kind, condition: None });
        }
        let Some(condition) = rest.strip_prefix("if").filter(|c| !c.starts_with(char::is_alphanumeric)) else {
            return Err(error(before + gap, format!("expected if, as in catch {word} if fd == 3")));
        };
        let condition = Condition::parse(condition)
            .map_err(|e| ParseError { column: e.column + before + gap + 2, what: e.what })?;
        Ok(Trap { kind: *kind, condition: Some(condition) })
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.condition {
            Some(c) => write!(f, "{} if {c}", self.kind),
            None => write!(f, "{}", self.kind),
        }
    }
}

/// A break that the user set.
#[derive(Clone, Debug)]
pub struct Catch {
    /// Its number, from 1; never used again.
    pub number: u32,
    /// What it catches.
    pub trap: Trap,
    /// Whether it is deleted when it is hit.
    pub once: bool,
    /// Whether it is looked at.
    pub enabled: bool,
    /// How many hits are passed over from now on.
    pub ignore: u32,
    /// How many hits there were, those passed over included.
    pub hits: u64,
    /// What is done at a hit.
    pub commands: Vec<String>,
    /// How many events matched but for `nth`.
    matched: i64,
}

/// A catch that was hit.
#[derive(Clone, PartialEq, Debug)]
pub struct Caught {
    /// Its number.
    pub number: u32,
    /// At what.
    pub kind: Kind,
    /// What it catches, in the canonical form. Safe to show.
    pub text: String,
    /// What is to be done.
    pub commands: Vec<String>,
}

/// An event, as catches are asked about it.
#[derive(Clone, Copy)]
pub struct Occurrence<'a> {
    /// What happens.
    pub kind: Kind,
    /// The world; before the event where the event is only about to happen.
    pub world: &'a World,
    /// The task.
    pub tid: Tid,
    /// Its process.
    pub pid: Pid,
    /// The call, if it is one.
    pub call: Option<&'a Call>,
    /// Where.
    pub site: &'a Site,
    /// The number.
    pub fd: Option<Fd>,
    /// The life that it concerns.
    pub life: Option<&'a Life>,
    /// The finding's name.
    pub finding: Option<&'static str>,
    /// What would break here anyway, a word of `why`.
    pub why: &'static str,
}

/// What takes looking up.
pub trait Lookup {
    /// The names of the functions on the stacks of `site`, native and Python; an empty name where there is none.
    fn functions(&mut self, site: &Site) -> Vec<String>;
    /// Why the end comes.
    fn cause(&mut self, of: &Occurrence<'_>) -> Cause;
    /// The task's name.
    fn comm(&mut self, tid: Tid) -> String;
}

/// Answers about stacks are remembered for this many of them.
const REMEMBERED: usize = 4096;

type Stacks = (Option<StackId>, Option<PyStackId>);

/// What was answered about a stack.
#[derive(Clone, Debug, Default)]
struct Answers {
    frames: Vec<(Arc<str>, Sort, bool)>,
    depth: Option<i64>,
    causes: Vec<(&'static str, Cause)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sort {
    Is,
    Glob,
    Regex,
}

/// All catches, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub struct Catches {
    all: Vec<Catch>,
    last: u32,
    memory: FxHashMap<Stacks, Answers>,
}

impl Catches {
    /// Sets one; gives its number.
    pub fn add(&mut self, trap: Trap, once: bool) -> u32 {
        self.last = self.last.saturating_add(1);
        let (number, enabled) = (self.last, true);
        self.all.push(Catch { number, trap, once, enabled, ignore: 0, hits: 0, commands: Vec::new(), matched: 0 });
        number
    }

    /// The same for another run, in which nothing was hit yet.
    #[must_use]
    pub fn again(&self) -> Catches {
        let fresh = |c: &Catch| Catch { hits: 0, matched: 0, ..c.clone() };
        Catches { all: self.all.iter().map(fresh).collect(), last: self.last, memory: FxHashMap::default() }
    }

    /// Those that there are.
    pub fn list(&self) -> &[Catch] {
        &self.all
    }

    /// The one of this number.
    ///
    /// # Errors
    /// A sentence that says which there are.
    pub fn get(&mut self, number: u32) -> Result<&mut Catch, String> {
        let numbers: Vec<String> = self.all.iter().map(|c| c.number.to_string()).collect();
        self.all.iter_mut().find(|c| c.number == number).ok_or_else(|| match numbers.as_slice() {
            [] => format!("there is no break {number}: none was set"),
            [one] => format!("there is no break {number}: there is only {one}"),
            all => format!("there is no break {number}: there are {}", all.join(", ")),
        })
    }

    /// Deletes the one of this number, or all.
    ///
    /// # Errors
    /// As [`Catches::get`].
    pub fn delete(&mut self, number: Option<u32>) -> Result<(), String> {
        match number {
            Some(n) => {
                self.get(n)?;
                self.all.retain(|c| c.number != n);
            }
            None => self.all.clear(),
        }
        Ok(())
    }

    /// Whether there is any that is looked at.
    pub fn is_empty(&self) -> bool {
        !self.all.iter().any(|c| c.enabled)
    }

    /// Whether any of this kind is looked at.
    pub fn wants(&self, kind: Kind) -> bool {
        self.all.iter().any(|c| c.enabled && c.trap.kind == kind)
    }

    /// Whether any of this kind needs a stack to decide.
    pub fn needs_stack(&self, kind: Kind) -> bool {
        let needs = |c: &Catch| c.trap.condition.as_ref().is_some_and(Condition::needs_stack);
        self.all.iter().any(|c| c.enabled && c.trap.kind == kind && needs(c))
    }

    /// Those that break at this event. Counts the hits, and deletes what was set for one.
    pub fn hit(&mut self, at: &Occurrence<'_>, lookup: &mut dyn Lookup) -> Vec<Caught> {
        let mut caught = Vec::new();
        for catch in self.all.iter_mut().filter(|c| c.enabled && c.trap.kind == at.kind) {
            let mut facts = OfEvent { at, lookup, memory: &mut self.memory, nth: Known::NotYet };
            let holds = match &catch.trap.condition {
                None => true,
                Some(c) => match c.holds(&mut facts) {
                    Some(false) => false,
                    // Of those that match but for `nth`, this is the next.
                    first => {
                        catch.matched = catch.matched.saturating_add(1);
                        facts.nth = Known::Is(catch.matched);
                        first.or_else(|| c.holds(&mut facts)).unwrap_or(false)
                    }
                },
            };
            if !holds {
                continue;
            }
            catch.hits += 1;
            if catch.ignore > 0 {
                catch.ignore -= 1;
                continue;
            }
            caught.push(Caught {
                number: catch.number,
                kind: at.kind,
                text: catch.trap.to_string(),
                commands: catch.commands.clone(),
            });
            if catch.once {
                catch.enabled = false;
            }
        }
        self.all.retain(|c| !(c.once && !c.enabled && caught.iter().any(|h| h.number == c.number)));
        caught
    }
}

/// Whether `condition` holds of `at`, of which nobody keeps count: `nth` is absent.
pub fn holds(condition: &Condition, at: &Occurrence<'_>, lookup: &mut dyn Lookup) -> bool {
    let mut memory = FxHashMap::default();
    let mut facts = OfEvent { at, lookup, memory: &mut memory, nth: Known::Absent };
    condition.holds(&mut facts).unwrap_or(false)
}

/// The word of `cause`.
pub fn cause_word(cause: Cause) -> &'static str {
    match cause {
        Cause::Unknown => "unknown",
        Cause::Explicit => "explicit",
        Cause::With => "with",
        Cause::Finalizer => "finalizer",
        Cause::Collector => "collector",
        Cause::Shutdown => "shutdown",
        Cause::Destructor => "destructor",
        Cause::Stream => "stream",
        Cause::Directory => "directory",
        Cause::Pipe => "pipe",
        Cause::Loop => "loop",
        Cause::Redirection => "redirection",
        Cause::Exec => "exec",
        Cause::Exit => "exit",
    }
}

struct OfEvent<'o, 'a> {
    at: &'o Occurrence<'a>,
    lookup: &'o mut dyn Lookup,
    memory: &'o mut FxHashMap<Stacks, Answers>,
    nth: Known,
}

impl OfEvent<'_, '_> {
    /// What is remembered of the event's stack; `None` where it has none.
    fn answers(&mut self) -> Option<&mut Answers> {
        let key = (self.at.site.stack, self.at.site.py);
        if key == (None, None) {
            return None;
        }
        if self.memory.len() >= REMEMBERED && !self.memory.contains_key(&key) {
            self.memory.clear();
        }
        Some(self.memory.entry(key).or_default())
    }
}

impl Facts for OfEvent<'_, '_> {
    fn number(&mut self, field: Number) -> Known {
        match field {
            Number::Fd => self.at.fd.map_or(Known::Absent, |fd| Known::Is(fd.0.into())),
            Number::Pid => Known::Is(self.at.pid.0.into()),
            Number::Thread => Known::Is(self.at.tid.0.into()),
            Number::Nth => self.nth,
            Number::Depth => {
                if let Some(n) = self.answers().and_then(|a| a.depth) {
                    return Known::Is(n);
                }
                let n = self.lookup.functions(self.at.site).len() as i64;
                match self.answers() {
                    Some(answers) => answers.depth = Some(n),
                    None => return Known::Absent,
                }
                Known::Is(n)
            }
        }
    }

    fn text(&mut self, field: Text, like: &Like) -> bool {
        match field {
            Text::Path => {
                let path = self.at.life.and_then(|l| self.at.world.file(l.file)).map(|f| &f.file.path);
                path.is_some_and(|p| like.fits(&String::from_utf8_lossy(p)))
            }
            Text::Comm => like.fits(&self.lookup.comm(self.at.tid)),
            Text::Call => self.at.call.is_some_and(|c| like.fits(c.info.name)),
            Text::Frame => {
                let sort = match like {
                    Like::Is(_) | Like::IsNot(_) => Sort::Is,
                    Like::Glob(..) => Sort::Glob,
                    Like::Regex(..) => Sort::Regex,
                };
                let Some(answers) = self.answers() else { return false };
                if let Some((.., b)) = answers.frames.iter().find(|(t, s, _)| t == like.text() && *s == sort) {
                    return *b;
                }
                let is = self.lookup.functions(self.at.site).iter().any(|f| !f.is_empty() && like.fits(f));
                if let Some(answers) = self.answers() {
                    answers.frames.push((like.text().clone(), sort, is));
                }
                is
            }
        }
    }

    fn word(&mut self, field: Word) -> Option<&'static str> {
        match field {
            Word::Kind => {
                let file = self.at.life.and_then(|l| self.at.world.file(l.file))?;
                Some(file.file.kind.word())
            }
            Word::Finding => self.at.finding,
            Word::Why => Some(self.at.why),
            Word::Cause => {
                let name = self.at.call?.info.name;
                // Whether a child's closes are a loop shows only as it goes on.
                let settled = self.at.world.window(self.at.tid).is_none();
                let known = self.answers().and_then(|a| a.causes.iter().find(|c| c.0 == name).map(|c| c.1));
                if let (Some(cause), true) = (known, settled) {
                    return Some(cause_word(cause));
                }
                let cause = self.lookup.cause(self.at);
                if let (Some(answers), true) = (self.answers(), settled) {
                    answers.causes.push((name, cause));
                }
                Some(cause_word(cause))
            }
        }
    }

    fn flag(&mut self, field: Flag) -> bool {
        match field {
            Flag::Implicit => self.at.kind == Kind::Close && self.at.site.cause.is_implicit(),
            Flag::Child => self.at.world.window(self.at.tid).is_some(),
            Flag::Inherits => self.at.life.is_some_and(|l| !l.cloexec),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{CallInfo, Effect};
    use crate::finding::testing::{MAIN, Script};

    /// Counts how often it is asked for names.
    #[derive(Default)]
    struct Counting(usize);

    impl Lookup for Counting {
        fn functions(&mut self, _: &Site) -> Vec<String> {
            self.0 += 1;
            vec!["close".into(), String::new(), "main".into()]
        }
        fn cause(&mut self, _: &Occurrence<'_>) -> Cause {
            self.0 += 1;
            Cause::Stream
        }
        fn comm(&mut self, _: Tid) -> String {
            "job".into()
        }
    }

    /// Hits of closes of fd 3, `n` in succession, at stack 1.
    fn closes(catches: &mut Catches, n: usize, lookup: &mut Counting) -> Vec<usize> {
        let mut s = Script::new();
        s.open(MAIN, 3, "/tmp/a");
        let info = CallInfo { name: "close", args: [3, 0, 0, 0, 0, 0], ret: None };
        let site = Site { stack: Some(StackId(1)), ..Site::default() };
        let call = Call { info, effects: vec![Effect::Close { fd: Fd(3) }], site: site.clone() };
        let mut close = || {
            let at = Occurrence {
                kind: Kind::Close,
                world: &s.world,
                tid: MAIN,
                pid: Pid(100),
                call: Some(&call),
                site: &site,
                fd: Some(Fd(3)),
                life: s.world.open_life(MAIN, Fd(3)),
                finding: None,
                why: "none",
            };
            catches.hit(&at, lookup).len()
        };
        (0..n).map(|_| close()).collect()
    }

    fn set(text: &str, once: bool) -> Catches {
        let mut c = Catches::default();
        c.add(Trap::parse(text).unwrap(), once);
        c
    }

    #[test]
    fn traps_are_read_and_shown() {
        for (text, shown) in [
            (" close", "close"),
            ("close  if fd==3", "close if fd == 3"),
            ("open if(path=~\"/tmp/*\")", "open if path =~ \"/tmp/*\""),
        ] {
            let trap = Trap::parse(text).unwrap();
            assert_eq!(trap.to_string(), shown);
            assert_eq!(Trap::parse(shown), Ok(trap));
        }
        for (text, expected) in [
            ("", "column 1: catch what? close, open, dup, receive, cloexec, fork, exec, finding"),
            ("clos", "column 1: no event is called \"clos\"; did you mean close?"),
            ("close fd==3", "column 7: expected if, as in catch close if fd == 3"),
            ("close if", "column 9: expected a field, as fd, path or implicit"),
            ("  close  if fdd == 3", "column 13: unknown field \"fdd\"; did you mean fd?"),
        ] {
            assert_eq!(Trap::parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn names_are_asked_for_once_a_stack() {
        let (mut c, mut l) =
            (set("close if frame == main && cause == stream && depth > 2", false), Counting::default());
        c.add(Trap::parse("close if frame == \"main\" && cause != loop").unwrap(), false);
        assert_eq!(closes(&mut c, 5, &mut l), [2; 5]);
        assert_eq!(l.0, 3, "one look each for frame, cause and depth");
    }

    #[test]
    fn nth_ignore_once_and_disable_count() {
        let mut l = Counting::default();
        let of = |c: &mut Catches, l: &mut Counting| closes(c, 4, l);
        assert_eq!(of(&mut set("close if fd == 3 && nth == 2", false), &mut l), [0, 1, 0, 0]);
        assert_eq!(of(&mut set("close if fd == 4 && nth == 1", false), &mut l), [0; 4]);
        assert_eq!(of(&mut set("close if kind == file && comm == job", true), &mut l), [1, 0, 0, 0]);
        let mut c = set("close", false);
        c.get(1).unwrap().ignore = 2;
        assert_eq!(of(&mut c, &mut l), [0, 0, 1, 1]);
        assert_eq!(c.list()[0].hits, 4);
        c.get(1).unwrap().enabled = false;
        assert!(c.is_empty() && !c.wants(Kind::Close));
        assert_eq!(of(&mut c, &mut l), [0; 4]);
        assert_eq!(c.get(7).unwrap_err(), "there is no break 7: there is only 1");
        c.delete(Some(1)).unwrap();
        assert_eq!(c.add(Trap::parse("exec").unwrap(), false), 2, "numbers do not come again");
    }
}

//! The language of conditions: `fd == 3 && path =~ "/tmp/*" && !implicit`.
//!
//! A condition is a value: parsed with positions in its errors, shown in a canonical form that parses to the same value,
//! and evaluated over whatever implements [`Facts`]. Nothing here has an effect.

mod parse;
#[cfg(test)]
pub(crate) mod tests;

pub use parse::ParseError;

use crate::base::text::escape;
use std::fmt;
use std::sync::Arc;

/// What an event has as a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Number {
    /// The descriptor.
    Fd,
    /// The process.
    Pid,
    /// The task.
    Thread,
    /// How many frames its stack has.
    Depth,
    /// Which event it is of those that match but for this, counted from 1.
    Nth,
}

/// What an event has as text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Text {
    /// The object's path, or what `/proc/PID/fd/N` links to.
    Path,
    /// The task's name.
    Comm,
    /// The system call.
    Call,
    /// A function on its stack: any of them.
    Frame,
}

/// What an event has of a list of words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Word {
    /// What kind of object it is.
    Kind,
    /// The finding.
    Finding,
    /// What would break here without a catch.
    Why,
    /// Why the end comes, as the stack tells.
    Cause,
}

/// What an event is or is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Flag {
    /// No code asked for this close.
    Implicit,
    /// The process is between fork and exec.
    Child,
    /// A program that is executed would get the descriptor.
    Inherits,
}

/// A field of the language.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Field {
    /// One that is compared with a number.
    Number(Number),
    /// One that is compared with text.
    Text(Text),
    /// One that is compared with words.
    Word(Word),
    /// One that stands alone.
    Flag(Flag),
}

/// Every field: its name, what it is, and a line for the manual.
pub static FIELDS: &[(&str, Field, &str)] = &[
    ("fd", Field::Number(Number::Fd), "the number of the descriptor"),
    ("path", Field::Text(Text::Path), "the object's path, or what /proc/PID/fd/N links to"),
    ("kind", Field::Word(Word::Kind), "what the object is: file, pipe, socket, eventfd, …"),
    ("pid", Field::Number(Number::Pid), "the process"),
    ("comm", Field::Text(Text::Comm), "the task's name, at most 15 bytes (proc_pid_comm(5))"),
    ("thread", Field::Number(Number::Thread), "the task"),
    ("call", Field::Text(Text::Call), "the system call: close, dup2, openat, …"),
    ("finding", Field::Word(Word::Finding), "the name of what was found"),
    ("why", Field::Word(Word::Why), "what would break here anyway: implicit, asked, found, none"),
    ("cause", Field::Word(Word::Cause), "why the end comes: explicit, finalizer, loop, …"),
    ("implicit", Field::Flag(Flag::Implicit), "no code asked for this close"),
    ("frame", Field::Text(Text::Frame), "a function on the stack, native or Python: any of them"),
    ("depth", Field::Number(Number::Depth), "how many frames the stack has"),
    ("nth", Field::Number(Number::Nth), "which event it is of those that match otherwise, from 1"),
    ("child", Field::Flag(Flag::Child), "the process is between fork and exec"),
    ("inherits", Field::Flag(Flag::Inherits), "a program that is executed would get the descriptor"),
];

/// The words of `kind`.
pub static KINDS: &[&str] = &[
    "file",
    "pipe",
    "socket",
    "eventfd",
    "epoll",
    "timerfd",
    "signalfd",
    "memfd",
    "inotify",
    "fanotify",
    "userfaultfd",
    "pidfd",
    "io_uring",
    "perf",
    "bpf",
    "landlock",
    "mqueue",
    "seccomp",
    "fscontext",
    "namespace",
    "other",
];
/// The words of `why`.
pub static WHYS: &[&str] = &["implicit", "asked", "found", "none"];
/// The words of `cause`.
pub static CAUSES: &[&str] = &[
    "unknown",
    "explicit",
    "with",
    "finalizer",
    "collector",
    "shutdown",
    "destructor",
    "stream",
    "directory",
    "pipe",
    "loop",
    "redirection",
    "exec",
    "exit",
];

impl Field {
    /// Its name.
    pub fn name(self) -> &'static str {
        FIELDS.iter().find(|f| f.1 == self).map_or("?", |f| f.0)
    }
}

impl Word {
    /// The words that it may be.
    pub fn words(self) -> Vec<&'static str> {
        match self {
            Word::Kind => KINDS.to_vec(),
            Word::Why => WHYS.to_vec(),
            Word::Cause => CAUSES.to_vec(),
            Word::Finding => crate::finding::rules().iter().map(|r| r.about().name).collect(),
        }
    }
}

/// How numbers are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // they are called what they are
pub enum Order {
    Equal,
    Unequal,
    Less,
    Greater,
}

impl Order {
    fn sign(self) -> &'static str {
        match self {
            Order::Equal => "==",
            Order::Unequal => "!=",
            Order::Less => "<",
            Order::Greater => ">",
        }
    }
}

/// What text is to be like.
#[derive(Clone, Debug)]
pub enum Like {
    /// The very text.
    Is(Arc<str>),
    /// Anything else.
    IsNot(Arc<str>),
    /// A pattern as shells have it, over the whole text; `*` also stands for slashes.
    Glob(Arc<str>, glob::Pattern),
    /// A regular expression, anywhere in the text.
    Regex(Arc<str>, regex::Regex),
}

impl PartialEq for Like {
    fn eq(&self, other: &Like) -> bool {
        match (self, other) {
            (Like::Is(a), Like::Is(b))
            | (Like::IsNot(a), Like::IsNot(b))
            | (Like::Glob(a, _), Like::Glob(b, _))
            | (Like::Regex(a, _), Like::Regex(b, _)) => a == b,
            _ => false,
        }
    }
}

impl Like {
    /// A glob.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn glob(text: &str) -> Result<Like, String> {
        let pattern = glob::Pattern::new(text).map_err(|e| format!("{} at its position {}", e.msg, e.pos))?;
        Ok(Like::Glob(text.into(), pattern))
    }

    /// A regular expression.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn regex(text: &str) -> Result<Like, String> {
        let compiled = regex::Regex::new(text).map_err(|e| {
            let all = e.to_string();
            let last = all.lines().rev().find_map(|l| l.trim().strip_prefix("error: ")).map(str::to_string);
            last.unwrap_or_else(|| all.lines().collect::<Vec<_>>().join(" "))
        })?;
        Ok(Like::Regex(text.into(), compiled))
    }

    /// Whether one text is like it; [`Like::IsNot`] is the opposite of [`Like::Is`].
    pub fn fits(&self, text: &str) -> bool {
        match self {
            Like::Is(t) => **t == *text,
            Like::IsNot(t) => **t != *text,
            Like::Glob(_, p) => p.matches(text),
            Like::Regex(_, r) => r.is_match(text),
        }
    }

    /// Its text, without the quotes.
    pub fn text(&self) -> &Arc<str> {
        match self {
            Like::Is(t) | Like::IsNot(t) | Like::Glob(t, _) | Like::Regex(t, _) => t,
        }
    }
}

/// A condition.
#[derive(Clone, PartialEq, Debug)]
pub enum Condition {
    /// One of these, of which there are two or more, none of them an `Or` itself.
    Or(Vec<Condition>),
    /// All of these, of which there are two or more, none of them an `And` itself.
    And(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// A number.
    Number(Number, Order, i64),
    /// A text.
    Text(Text, Like),
    /// A word, or every other word.
    Word(Word, bool, &'static str),
    /// A flag.
    Flag(Flag),
}

/// A number that an event has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// This.
    Is(i64),
    /// None: it equals nothing, and is unequal to everything.
    Absent,
    /// It is not known yet.
    NotYet,
}

/// What a condition is evaluated over.
pub trait Facts {
    /// A number.
    fn number(&mut self, field: Number) -> Known;
    /// Whether a text, or any of several, is like this. What is absent is like nothing.
    fn text(&mut self, field: Text, like: &Like) -> bool;
    /// A word; `None` where there is none.
    fn word(&mut self, field: Word) -> Option<&'static str>;
    /// A flag.
    fn flag(&mut self, field: Flag) -> bool;
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// Where it is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Condition, ParseError> {
        parse::parse(text)
    }

    /// Whether it holds; `None` where that hangs on what is not known yet.
    pub fn holds(&self, facts: &mut dyn Facts) -> Option<bool> {
        match self {
            Condition::Or(all) => settle(all, true, facts),
            Condition::And(all) => settle(all, false, facts),
            Condition::Not(one) => one.holds(facts).map(|b| !b),
            Condition::Number(field, order, n) => match (facts.number(*field), order) {
                (Known::NotYet, _) => None,
                (Known::Absent, order) => Some(*order == Order::Unequal),
                (Known::Is(is), Order::Equal) => Some(is == *n),
                (Known::Is(is), Order::Unequal) => Some(is != *n),
                (Known::Is(is), Order::Less) => Some(is < *n),
                (Known::Is(is), Order::Greater) => Some(is > *n),
            },
            // Of several none must be it.
            Condition::Text(field, Like::IsNot(t)) => Some(!facts.text(*field, &Like::Is(t.clone()))),
            Condition::Text(field, like) => Some(facts.text(*field, like)),
            Condition::Word(field, is, word) => Some((facts.word(*field) == Some(*word)) == *is),
            Condition::Flag(field) => Some(facts.flag(*field)),
        }
    }

    /// Whether it asks for a field of these.
    pub fn asks(&self, which: &dyn Fn(Field) -> bool) -> bool {
        match self {
            Condition::Or(all) | Condition::And(all) => all.iter().any(|c| c.asks(which)),
            Condition::Not(one) => one.asks(which),
            Condition::Number(f, ..) => which(Field::Number(*f)),
            Condition::Text(f, _) => which(Field::Text(*f)),
            Condition::Word(f, ..) => which(Field::Word(*f)),
            Condition::Flag(f) => which(Field::Flag(*f)),
        }
    }

    /// Whether it needs a stack.
    pub fn needs_stack(&self) -> bool {
        self.asks(&|f| {
            matches!(
                f,
                Field::Text(Text::Frame)
                    | Field::Number(Number::Depth)
                    | Field::Word(Word::Cause | Word::Why)
                    | Field::Flag(Flag::Implicit)
            )
        })
    }
}

/// Kleene's or (`decides` true) and and (false): one that decides is enough, whatever is not known.
fn settle(all: &[Condition], decides: bool, facts: &mut dyn Facts) -> Option<bool> {
    let mut known = true;
    for one in all {
        match one.holds(facts) {
            Some(b) if b == decides => return Some(decides),
            Some(_) => {}
            None => known = false,
        }
    }
    known.then_some(!decides)
}

/// All of these, flattened.
pub(crate) fn all_of(conditions: Vec<Condition>) -> Option<Condition> {
    let mut flat = Vec::new();
    for c in conditions {
        match c {
            Condition::And(inner) => flat.extend(inner),
            c => flat.push(c),
        }
    }
    if flat.len() > 1 { Some(Condition::And(flat)) } else { flat.pop() }
}

/// One of these, flattened.
pub(crate) fn any_of(conditions: Vec<Condition>) -> Option<Condition> {
    let mut flat = Vec::new();
    for c in conditions {
        match c {
            Condition::Or(inner) => flat.extend(inner),
            c => flat.push(c),
        }
    }
    if flat.len() > 1 { Some(Condition::Or(flat)) } else { flat.pop() }
}

/// In quotes, safe to show.
fn quoted(text: &str) -> String {
    // What `escape` makes of a text, the parser makes into the text again.
    format!("\"{}\"", escape(text.as_bytes()).replace('"', "\\\""))
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, all: &[Condition], sign: &str, loose: fn(&Condition) -> bool| {
            for (i, one) in all.iter().enumerate() {
                if i > 0 {
                    write!(f, " {sign} ")?;
                }
                match loose(one) {
                    true => write!(f, "({one})")?,
                    false => write!(f, "{one}")?,
                }
            }
            Ok(())
        };
        match self {
            Condition::Or(all) => list(f, all, "||", |c| matches!(c, Condition::Or(_))),
            Condition::And(all) => list(f, all, "&&", |c| matches!(c, Condition::Or(_) | Condition::And(_))),
            Condition::Not(one) => match **one {
                Condition::Flag(_) | Condition::Not(_) => write!(f, "!{one}"),
                _ => write!(f, "!({one})"),
            },
            Condition::Number(field, order, n) => write!(f, "{} {} {n}", Field::Number(*field).name(), order.sign()),
            Condition::Text(field, like) => {
                let name = Field::Text(*field).name();
                match like {
                    Like::Is(t) => write!(f, "{name} == {}", quoted(t)),
                    Like::IsNot(t) => write!(f, "{name} != {}", quoted(t)),
                    Like::Glob(t, _) => write!(f, "{name} =~ {}", quoted(t)),
                    Like::Regex(t, _) => write!(f, "{name} =~ /{}/", t.replace('/', "\\/")),
                }
            }
            Condition::Word(field, is, word) => {
                let sign = if *is { "==" } else { "!=" };
                write!(f, "{} {sign} {word}", Field::Word(*field).name())
            }
            Condition::Flag(field) => f.write_str(Field::Flag(*field).name()),
        }
    }
}

//! Text to conditions, by recursive descent.

use super::{Condition, FIELDS, Field, Like, Order, all_of, any_of};
use crate::base::nearest;
use crate::base::text::escape;

/// How deep parentheses and `!` may be nested: what is deeper than this nobody has written by hand.
const DEEPEST: usize = 64;

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {what}")]
pub struct ParseError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What, and what would be right. Safe to show.
    pub what: String,
}

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Word(String),
    Number(i64),
    Quoted(String),
    Regex(String),
    Sign(&'static str),
}

const SIGNS: &[&str] = &["||", "&&", "==", "!=", "=~", "<", ">", "!", "(", ")"];

struct Parser {
    /// With the column at which each begins.
    tokens: Vec<(usize, Token)>,
    at: usize,
    end: usize,
    depth: usize,
}

pub(super) fn parse(text: &str) -> Result<Condition, ParseError> {
    let chars: Vec<char> = text.chars().collect();
    let tokens = tokens(&chars)?;
    let mut p = Parser { tokens, at: 0, end: chars.len() + 1, depth: 0 };
    let condition = p.or()?;
    match p.peek() {
        None => Ok(condition),
        Some((at, Token::Sign(")"))) => Err(error(*at, "this ) closes nothing")),
        Some((at, _)) => Err(error(*at, "expected && or || here")),
    }
}

fn error(column: usize, what: impl Into<String>) -> ParseError {
    ParseError { column, what: what.into() }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn tokens(chars: &[char]) -> Result<Vec<(usize, Token)>, ParseError> {
    let mut out: Vec<(usize, Token)> = Vec::new();
    let mut i = 0;
    while let Some(&c) = chars.get(i) {
        let column = i + 1;
        let rest = chars.get(i..).unwrap_or_default();
        let begins = |sign: &str| sign.chars().zip(rest).filter(|(a, b)| a == *b).count() == sign.len();
        if c.is_whitespace() {
            i += 1;
        } else if c == '"' {
            let (text, len) = quoted(rest, column)?;
            out.push((column, Token::Quoted(text)));
            i += len;
        } else if c == '/' && out.last().is_some_and(|t| t.1 == Token::Sign("=~")) {
            let (text, len) = regex(rest, column)?;
            out.push((column, Token::Regex(text)));
            i += len;
        } else if let Some(sign) = SIGNS.iter().find(|s| begins(s)) {
            out.push((column, Token::Sign(sign)));
            i += sign.len();
        } else if is_word(c) {
            let word: String = rest.iter().take_while(|c| is_word(**c)).collect();
            i += word.len();
            let numeric = word.strip_prefix('-').unwrap_or(&word).bytes().all(|b| b.is_ascii_digit());
            out.push((
                column,
                match word.parse() {
                    Ok(n) => Token::Number(n),
                    Err(_) if numeric && word != "-" => return Err(error(column, format!("{word} is too large"))),
                    Err(_) => Token::Word(word),
                },
            ));
        } else {
            let hint = match c {
                '=' => "; to compare, write ==",
                '&' => "; and is &&",
                '|' => "; or is ||",
                '\'' => "; text stands in \"double quotes\"",
                '/' | '*' => "; text stands in \"quotes\"",
                _ => "",
            };
            return Err(error(column, format!("\"{}\" means nothing here{hint}", shown(&c.to_string()))));
        }
    }
    Ok(out)
}

/// A quoted text at the beginning of `chars`, and how many characters it takes.
fn quoted(chars: &[char], column: usize) -> Result<(String, usize), ParseError> {
    let mut out = String::new();
    let mut i = 1;
    loop {
        let Some(&c) = chars.get(i) else { return Err(error(column, "this \" has no partner")) };
        i += 1;
        match c {
            '"' => return Ok((out, i)),
            '\\' => {
                let at = column + i - 1;
                let Some(&e) = chars.get(i) else { return Err(error(column, "this \" has no partner")) };
                i += 1;
                let hex = |from: usize, n: usize| -> Option<char> {
                    let digits: String = chars.get(from..from.checked_add(n)?)?.iter().collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)
                };
                match e {
                    '"' | '\\' => out.push(e),
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    'x' => {
                        out.push(
                            hex(i, 2)
                                .filter(char::is_ascii)
                                .ok_or_else(|| error(at, "\\x wants two digits, as \\x1b"))?,
                        );
                        i += 2;
                    }
                    'u' => {
                        let len = chars.get(i..).unwrap_or_default().iter().position(|c| *c == '}').unwrap_or(0);
                        let c = (chars.get(i) == Some(&'{')).then(|| hex(i + 1, len.saturating_sub(1))).flatten();
                        out.push(c.ok_or_else(|| error(at, "\\u wants a character, as \\u{202e}"))?);
                        i += len + 1;
                    }
                    _ => return Err(error(at, "after \\ comes one of \" \\ n t r x u")),
                }
            }
            c => out.push(c),
        }
    }
}

/// A regular expression between slashes, and how many characters it takes.
fn regex(chars: &[char], column: usize) -> Result<(String, usize), ParseError> {
    let mut out = String::new();
    let mut i = 1;
    loop {
        let Some(&c) = chars.get(i) else { return Err(error(column, "this / has no partner")) };
        match (c, chars.get(i + 1)) {
            ('/', _) => return Ok((out, i + 1)),
            ('\\', Some('/')) => {
                out.push('/');
                i += 2;
            }
            ('\\', Some(next)) => {
                out.extend([c, *next]);
                i += 2;
            }
            _ => {
                out.push(c);
                i += 1;
            }
        }
    }
}

fn shown(word: &str) -> String {
    escape(word.as_bytes()).chars().take(40).collect()
}

impl Parser {
    fn peek(&self) -> Option<&(usize, Token)> {
        self.tokens.get(self.at)
    }

    fn column(&self) -> usize {
        self.peek().map_or(self.end, |t| t.0)
    }

    fn take(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Some((_, Token::Sign(s))) if *s == sign);
        self.at += usize::from(is);
        is
    }

    fn or(&mut self) -> Result<Condition, ParseError> {
        let mut all = vec![self.and()?];
        while self.take("||") {
            all.push(self.and()?);
        }
        any_of(all).ok_or_else(|| self.wanted())
    }

    fn and(&mut self) -> Result<Condition, ParseError> {
        let mut all = vec![self.not()?];
        while self.take("&&") {
            all.push(self.not()?);
        }
        all_of(all).ok_or_else(|| self.wanted())
    }

    fn not(&mut self) -> Result<Condition, ParseError> {
        let column = self.column();
        if self.depth >= DEEPEST {
            return Err(error(column, format!("nested deeper than {DEEPEST}")));
        }
        self.depth += 1;
        let done = if self.take("!") {
            Ok(Condition::Not(Box::new(self.not()?)))
        } else if self.take("(") {
            let inner = self.or()?;
            match self.take(")") {
                true => Ok(inner),
                false if self.peek().is_none() => Err(error(column, "this ( has no partner")),
                false => Err(error(self.column(), "expected && or || or ) here")),
            }
        } else {
            self.test()
        };
        self.depth -= 1;
        done
    }

    fn wanted(&self) -> ParseError {
        error(self.column(), "expected a field, as fd, path or implicit")
    }

    fn test(&mut self) -> Result<Condition, ParseError> {
        let Some((column, Token::Word(name))) = self.peek().cloned() else { return Err(self.wanted()) };
        let Some((_, field, _)) = FIELDS.iter().find(|f| f.0 == name) else {
            let meant = match nearest(&name, FIELDS.iter().map(|f| f.0)) {
                Some(n) => format!("did you mean {n}?"),
                None => format!("there are {}", FIELDS.iter().map(|f| f.0).collect::<Vec<_>>().join(", ")),
            };
            return Err(error(column, format!("unknown field \"{}\"; {meant}", shown(&name))));
        };
        self.at += 1;
        if let Field::Flag(flag) = field {
            return match self.peek() {
                Some((at, Token::Sign("==" | "!=" | "=~" | "<" | ">"))) => {
                    Err(error(*at, format!("{name} is true or false by itself: write {name} or !{name}")))
                }
                _ => Ok(Condition::Flag(*flag)),
            };
        }
        let at = self.column();
        let Some((_, Token::Sign(sign @ ("==" | "!=" | "=~" | "<" | ">")))) = self.peek().cloned() else {
            let hint = if self.peek().is_none() { ", as in " } else { " here, as in " };
            return Err(error(at, format!("expected ==, !=, =~, < or >{hint}{}", example(*field))));
        };
        self.at += 1;
        let value_at = self.column();
        let value = self.peek().map(|t| t.1.clone());
        self.at += usize::from(value.is_some());
        let condition = match field {
            Field::Number(f) => {
                let order = match sign {
                    "==" => Order::Equal,
                    "!=" => Order::Unequal,
                    "<" => Order::Less,
                    ">" => Order::Greater,
                    _ => return Err(error(at, format!("{name} is a number: compare it with ==, !=, < or >"))),
                };
                match value {
                    Some(Token::Number(n)) => Condition::Number(*f, order, n),
                    _ => {
                        return Err(error(
                            value_at,
                            format!("{name} is compared with a number, as in {}", example(*field)),
                        ));
                    }
                }
            }
            Field::Text(f) => {
                let like = match (sign, value) {
                    ("=~", Some(Token::Regex(t))) if escape(t.replace('\\', "").as_bytes()) != t.replace('\\', "") => {
                        return Err(error(value_at, "write what cannot be seen as \\n, \\x1b or \\x{202e}"));
                    }
                    ("=~", Some(Token::Regex(t))) => Like::regex(&t).map_err(|e| error(value_at, shown_all(&e)))?,
                    ("=~", Some(Token::Quoted(t))) => Like::glob(&t).map_err(|e| error(value_at, shown_all(&e)))?,
                    ("=~", Some(Token::Word(t))) => Like::glob(&t).map_err(|e| error(value_at, shown_all(&e)))?,
                    ("==", Some(Token::Quoted(t) | Token::Word(t))) => Like::Is(t.into()),
                    ("!=", Some(Token::Quoted(t) | Token::Word(t))) => Like::IsNot(t.into()),
                    ("==" | "!=" | "=~", Some(Token::Number(n))) => {
                        return Err(error(value_at, format!("{name} is text: write \"{n}\"")));
                    }
                    ("==" | "!=" | "=~", _) => {
                        return Err(error(value_at, format!("expected text, as in {}", example(*field))));
                    }
                    _ => return Err(error(at, format!("{name} is text: compare it with ==, != or =~"))),
                };
                Condition::Text(*f, like)
            }
            Field::Word(f) => {
                let is = match sign {
                    "==" => true,
                    "!=" => false,
                    _ => return Err(error(at, format!("{name} is a word: compare it with == or !="))),
                };
                let words = f.words();
                let Some(Token::Word(given) | Token::Quoted(given)) = value else {
                    return Err(error(value_at, format!("{name} is one of {}", words.join(", "))));
                };
                let Some(word) = words.iter().find(|w| **w == given) else {
                    let meant = match nearest(&given, words.iter().copied()) {
                        Some(n) => format!("did you mean {n}?"),
                        None => format!("there are {}", words.join(", ")),
                    };
                    return Err(error(value_at, format!("no {name} is called \"{}\"; {meant}", shown(&given))));
                };
                Condition::Word(*f, is, word)
            }
            Field::Flag(f) => Condition::Flag(*f),
        };
        Ok(condition)
    }
}

fn shown_all(text: &str) -> String {
    escape(text.as_bytes())
}

/// A test of this field that is right.
fn example(field: Field) -> String {
    let name = field.name();
    match field {
        Field::Number(_) => format!("{name} == 3"),
        Field::Text(super::Text::Path) => format!("{name} =~ \"/tmp/*\""),
        Field::Text(_) => format!("{name} == \"close\""),
        Field::Word(w) => format!("{name} == {}", w.words().first().copied().unwrap_or_default()),
        Field::Flag(_) => name.to_string(),
    }
}

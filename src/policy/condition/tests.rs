use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// Facts that a test writes down.
#[derive(Default)]
pub(crate) struct Paper {
    pub(crate) numbers: HashMap<Number, i64>,
    pub(crate) texts: HashMap<Text, Vec<&'static str>>,
    pub(crate) words: HashMap<Word, &'static str>,
    pub(crate) flags: Vec<Flag>,
    pub(crate) later: bool,
}

impl Facts for Paper {
    fn number(&mut self, field: Number) -> Known {
        match self.numbers.get(&field) {
            Some(n) => Known::Is(*n),
            None if field == Number::Nth && self.later => Known::NotYet,
            None => Known::Absent,
        }
    }
    fn text(&mut self, field: Text, like: &Like) -> bool {
        self.texts.get(&field).into_iter().flatten().any(|t| like.fits(t))
    }
    fn word(&mut self, field: Word) -> Option<&'static str> {
        self.words.get(&field).copied()
    }
    fn flag(&mut self, field: Flag) -> bool {
        self.flags.contains(&field)
    }
}

fn facts() -> Paper {
    Paper {
        numbers: [(Number::Fd, 3), (Number::Pid, 100)].into(),
        texts: [(Text::Path, vec!["/tmp/a/b"]), (Text::Frame, vec!["close", "main"])].into(),
        words: [(Word::Kind, "file"), (Word::Cause, "finalizer")].into(),
        flags: vec![Flag::Implicit],
        later: false,
    }
}

fn parsed(text: &str) -> Condition {
    Condition::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn conditions_hold_or_do_not() {
    for (text, expected) in [
        ("fd==3 && path=~\"/tmp/*\" && implicit", true),
        ("fd > 3 || pid < 101", true),
        ("fd != 3", false),
        ("!(fd == 3) || kind == pipe", false),
        ("path =~ /a.b$/", true),
        ("path =~ /^b/", false),
        ("path == \"/tmp/a\"", false),
        ("frame == main && frame != other", true),
        ("frame != main", false),
        ("cause == finalizer && kind != pipe", true),
        ("child || inherits", false),
        ("thread == 1", false),
        ("thread != 1", true),
        ("comm != \"x\" && !(comm =~ \"*\")", true),
        ("fd == 4 || fd == 3 && implicit", true),
        ("(fd == 4 || fd == 3) && child", false),
    ] {
        assert_eq!(parsed(text).holds(&mut facts()), Some(expected), "{text}");
    }
}

#[test]
fn what_is_not_known_yet_decides_only_where_the_rest_does_not() {
    let of = |text| parsed(text).holds(&mut Paper { later: true, ..facts() });
    assert_eq!(of("nth == 2"), None);
    assert_eq!(of("fd == 3 && nth == 2"), None);
    assert_eq!(of("fd == 4 && nth == 2"), Some(false));
    assert_eq!(of("fd == 3 || !(nth == 2)"), Some(true));
}

#[test]
fn mistakes_say_where_they_are_and_what_was_meant() {
    for (text, expected) in [
        ("", "column 1: expected a field, as fd, path or implicit"),
        ("fd==3 && pth==\"/a\"", "column 10: unknown field \"pth\"; did you mean path?"),
        ("fd", "column 3: expected ==, !=, =~, < or >, as in fd == 3"),
        ("fd = 3", "column 4: \"=\" means nothing here; to compare, write =="),
        ("fd == \"3\"", "column 7: fd is compared with a number, as in fd == 3"),
        ("fd =~ 3", "column 4: fd is a number: compare it with ==, !=, < or >"),
        ("fd == 99999999999999999999", "column 7: 99999999999999999999 is too large"),
        ("path == 3", "column 9: path is text: write \"3\""),
        ("path == /tmp", "column 9: \"/\" means nothing here; text stands in \"quotes\""),
        ("path =~ \"[\"", "column 9: invalid range pattern at its position 0"),
        ("path =~ /(/", "column 9: unclosed group"),
        ("path =~ /a", "column 9: this / has no partner"),
        ("path == \"/tmp", "column 9: this \" has no partner"),
        ("path == \"\\q\"", "column 10: after \\ comes one of \" \\ n t r x u"),
        ("kind == pip", "column 9: no kind is called \"pip\"; did you mean pipe?"),
        ("cause =~ \"x\"", "column 7: cause is a word: compare it with == or !="),
        ("implicit == 1", "column 10: implicit is true or false by itself: write implicit or !implicit"),
        ("(fd == 3", "column 1: this ( has no partner"),
        ("fd == 3)", "column 8: this ) closes nothing"),
        ("fd == 3 path", "column 9: expected && or || here"),
        ("fd == 3 & fd == 4", "column 9: \"&\" means nothing here; and is &&"),
        ("finding == duble-close", "column 12: no finding is called \"duble-close\"; did you mean double-close?"),
    ] {
        assert_eq!(Condition::parse(text).unwrap_err().to_string(), expected, "{text}");
    }
    assert!(Condition::parse(&"!".repeat(5000)).unwrap_err().what.starts_with("nested deeper"));
    assert!(Condition::parse(&"(".repeat(5000)).is_err());
}

#[test]
fn the_canonical_form_has_no_parentheses_too_many() {
    for (text, expected) in [
        ("((fd==3))&&(path=~\"/tmp/*\"&&implicit)", "fd == 3 && path =~ \"/tmp/*\" && implicit"),
        ("(fd==3||child)&&!implicit", "(fd == 3 || child) && !implicit"),
        ("!fd==3", "!(fd == 3)"),
        ("comm==python3", "comm == \"python3\""),
        ("kind==\"pipe\"", "kind == pipe"),
        ("path=~/a\\/b/", "path =~ /a\\/b/"),
        ("path==\"\\x1b\\u{202e}\\\"\\\\\"", "path == \"\\x1b\\u{202e}\\\"\\\\\""),
    ] {
        assert_eq!(parsed(text).to_string(), expected);
    }
}

/// Any condition, as the parser builds them.
pub(crate) fn any_condition() -> impl Strategy<Value = Condition> {
    let numbers = [Number::Fd, Number::Pid, Number::Thread, Number::Depth, Number::Nth];
    let texts = [Text::Path, Text::Comm, Text::Call, Text::Frame];
    let words = [Word::Kind, Word::Finding, Word::Why, Word::Cause];
    let flags = [Flag::Implicit, Flag::Child, Flag::Inherits];
    let orders = [Order::Equal, Order::Unequal, Order::Less, Order::Greater];
    let like = prop_oneof![
        any::<String>().prop_map(|t| Like::Is(t.into())),
        any::<String>().prop_map(|t| Like::IsNot(t.into())),
        "[ -~]{0,8}".prop_filter_map("no glob", |t| Like::glob(&t).ok()),
        "[ -.0-\\[\\]-~/漢]{0,8}".prop_filter_map("no regex", |t| Like::regex(&t).ok()),
    ];
    let leaf = prop_oneof![
        (proptest::sample::select(numbers.to_vec()), proptest::sample::select(orders.to_vec()), any::<i64>())
            .prop_map(|(f, o, n)| Condition::Number(f, o, n)),
        (proptest::sample::select(texts.to_vec()), like).prop_map(|(f, l)| Condition::Text(f, l)),
        (proptest::sample::select(words.to_vec()), any::<bool>(), any::<proptest::sample::Index>()).prop_map(
            |(f, is, i)| {
                let words = f.words();
                Condition::Word(f, is, words[i.index(words.len())])
            }
        ),
        proptest::sample::select(flags.to_vec()).prop_map(Condition::Flag),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|v| all_of(v).unwrap()),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|v| any_of(v).unwrap()),
            inner.prop_map(|c| Condition::Not(Box::new(c))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_shown_is_read_as_the_same(c in any_condition()) {
        let text = c.to_string();
        prop_assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
        prop_assert_eq!(Condition::parse(&text), Ok(c), "{}", text);
    }

    #[test]
    fn no_text_makes_it_fail(text in any::<String>(), noise in "[fdpath!&|=~<>()\"/\\\\ 0-9ux{}*\\[-]{0,40}") {
        for text in [text, noise] {
            match Condition::parse(&text) {
                Ok(c) => prop_assert_eq!(Condition::parse(&c.to_string()), Ok(c)),
                Err(e) => prop_assert!(e.column >= 1 && e.column <= text.chars().count() + 1, "{text:?}: {e}"),
            }
        }
    }
}

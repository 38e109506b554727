//! Reports of a scripted run.

use super::baseline::Baseline;
use super::*;
use crate::base::{PyStackId, StackId};
use crate::event::{Cause, Escape, Site};
use crate::finding::Role;
use crate::finding::testing::{MAIN, Script};
use crate::policy::suppression::Suppressions;
use crate::render::Style;
use crate::render::testing::cpython;

fn facts() -> Facts {
    Facts {
        command: vec![b"python3".to_vec(), b"job\x1b.py".to_vec()],
        target: Target::Exited { status: 1 },
        mode: Mode::Seccomp,
        no_new_privs: true,
        processes: 2,
        suppressed: 0,
        altered: vec![],
        altered_unlisted: 0,
        notes: vec![],
        sources: vec![SourceLine {
            file: "job.py".into(),
            line: 2,
            text: "run(x, stdout=open(p).fileno())\x1b".into(),
        }],
    }
}

fn report(facts: Facts) -> Report {
    let mut s = Script::new();
    let site = |n, cause, escape| Site { stack: Some(StackId(n)), py: Some(PyStackId(1)), cause, escape, owner: None };
    s.at(site(1, Cause::Explicit, None)).open(MAIN, 3, "/tmp/a\x1b");
    s.at(site(2, Cause::Finalizer, Some(Escape::FilenoCall))).close(MAIN, 3);
    s.fork(MAIN, 200);
    let found = s.refused(200, 3, Some(1));
    let (mut ledger, mut names) = (Ledger::new(), cpython());
    // As if nothing had been forgotten meanwhile.
    for (event, changes) in &s.events {
        ledger.note(&s.world, event, changes, &names);
    }
    for f in &found {
        ledger.found(f.step(Role::Opened).map(|s| (s.moment.at, s.moment.tid, f.fd)));
    }
    Report::new(facts, &s.world, &found, &mut ledger, &mut names).with_lives(&s.world, &mut ledger, &mut names)
}

#[test]
fn text_ends_with_the_summary_and_what_was_not_seen() {
    let text = text(&report(facts()), Style::plain());
    assert!(text.starts_with("error[stale-fd-to-child]: child 200"), "{text}");
    let closed = "  closed  [100] job.py:2 in <module>, by reference count, no close() call\n          \
                  run(x, stdout=open(p).fileno())\\x1b\n";
    assert!(text.contains(closed), "{text}");
    let expected = "
fdwatch: 1 error, 0 warnings, 0 suppressed; target exited 1
fdwatch: watched calls that concern descriptors (seccomp) of 2 processes; no_new_privs was set: setuid programs got no privilege
";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn altered_results_are_never_hidden() {
    let altered = Altered {
        at_ns: 5,
        pid: Pid(100),
        tid: Tid(100),
        how: "keep".into(),
        call: "close(3)".into(),
        fd: Some(Fd(3)),
        object: Some(FileId(1)),
    };
    let r = report(Facts {
        altered: vec![altered],
        notes: vec!["an io_uring was seen: closes through it are not visible\n".into()],
        target: Target::Signaled { signal: 9 },
        mode: Mode::Full,
        no_new_privs: false,
        ..facts()
    });
    let text = text(&r, Style::plain());
    let expected = "
fdwatch: 1 error, 0 warnings, 0 suppressed; target was killed by SIGKILL
fdwatch: results altered by 1 injection
fdwatch:   keep of close(3) by [100], fd 3 #1
fdwatch: watched all calls of 2 processes
fdwatch: an io_uring was seen: closes through it are not visible\\n
";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn json_is_read_back_and_renders_the_same() {
    let r = report(facts());
    let json = format("json").unwrap().write(&r);
    assert_eq!(json.last(), Some(&b'\n'));
    let back = Report::read(&json).unwrap();
    assert_eq!(back, r);
    assert_eq!(text(&back, Style::plain()), text(&r, Style::plain()));
    assert!(!json.contains(&0x1b));
    assert!(format("yaml").is_none());
}

/// Of the stacks of lives only so many are given names, and the report says how many were not.
#[test]
fn stacks_without_names_are_counted() {
    let lives_of = |count: u32| {
        let mut s = Script::new();
        let at = |n| Site { stack: Some(StackId(n)), py: None, cause: Cause::Explicit, escape: None, owner: None };
        for n in 0..count {
            // Of each number not so many lives are remembered.
            let fd = 3 + n as i32 / 100;
            s.at(at(2 * n)).open(MAIN, fd, "/tmp/a");
            s.at(at(2 * n + 1)).close(MAIN, fd);
        }
        let (mut ledger, mut names) = (Ledger::new(), cpython());
        for (event, changes) in &s.events {
            ledger.note(&s.world, event, changes, &names);
        }
        let report = Report::new(facts(), &s.world, &[], &mut ledger, &mut names);
        report.with_lives(&s.world, &mut ledger, &mut names)
    };
    let whys =
        |r: &Report| r.lives.as_ref().unwrap().list.iter().filter(|l| l.ended.as_ref().unwrap().why.is_some()).count();
    let few = lives_of(1024);
    assert_eq!((few.lives.as_ref().unwrap().unnamed, whys(&few)), (0, 1024));
    let many = lives_of(1030);
    assert_eq!((many.lives.as_ref().unwrap().unnamed, whys(&many)), (12, 1024));
    let json = format("json").unwrap();
    assert!(String::from_utf8(json.write(&many)).unwrap().contains("\"unnamed\": 12"));
    assert!(!String::from_utf8(json.write(&few)).unwrap().contains("unnamed"));
    let (a, b) = (("a", &few), ("b", &many));
    let aligned = diff::compare(&few, &many).unwrap();
    let said = diff::report_diff(a, b, &aligned, false, Style::plain());
    assert!(said.contains("12 more stacks of B were given no names"), "{said}");
}

#[test]
fn what_is_no_report_is_refused_in_one_line() {
    assert!(Report::read(b"{}").unwrap_err().starts_with("not a report of fdwatch"));
    let other = Report::read(b"{\"schema\":\"fdwatch-report/9\"}").unwrap_err();
    assert_eq!(other, "its schema is fdwatch-report/9, this fdwatch reads fdwatch-report/1");
}

/// The schema names every key that a report has, and requires no other.
#[test]
fn the_schema_and_the_report_agree() {
    let schema: serde_json::Value = serde_json::from_str(include_str!("../../docs/report.schema.json")).unwrap();
    let altered = Altered {
        at_ns: 5,
        pid: Pid(1),
        tid: Tid(1),
        how: "keep".into(),
        call: "close(3)".into(),
        fd: None,
        object: None,
    };
    for target in [Target::Exited { status: 0 }, Target::Signaled { signal: 9 }, Target::Killed, Target::Detached] {
        let mut r = report(Facts { altered: vec![altered.clone()], target, ..facts() });
        let mut known = Suppressions::none();
        known.add("f", "suppress stale-*\n reason x\n stack no_such_function\n").unwrap();
        r.suppress(&mut known);
        let baseline = Baseline::of(&r);
        r.compare_with(&baseline, "b");
        assert_eq!((r.counts.errors, r.counts.known), (0, 1));
        r.compare_with(&baseline, "b");
        assert_eq!(r.baseline.as_ref().map(|b| b.gone.len()), Some(1), "what is not found any more is gone");
        assert_eq!(Baseline::read(&baseline.write()), Ok(baseline));
        let value = serde_json::to_value(&r).unwrap();
        agree(&schema, &schema, &value, "report");
    }
}

/// Checks what the schema of a report uses: $ref, type, enum, const, properties, required, items.
fn agree(root: &serde_json::Value, schema: &serde_json::Value, value: &serde_json::Value, at: &str) {
    use serde_json::Value;
    if let Some(r) = schema.get("$ref").and_then(Value::as_str) {
        let name = r.strip_prefix("#/$defs/").unwrap();
        return agree(root, &root["$defs"][name], value, at);
    }
    if let Some(options) = schema.get("enum").and_then(Value::as_array) {
        assert!(options.contains(value), "{at}: {value} is not in {options:?}");
    }
    if let Some(c) = schema.get("const") {
        assert_eq!(c, value, "{at}");
    }
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    match &schema["type"] {
        Value::String(t) => assert_eq!(t, is, "{at}"),
        Value::Array(ts) => assert!(ts.iter().any(|t| t == is), "{at}: {is}"),
        _ if value.is_null() => assert!(schema.get("anyOf").is_some(), "{at}"),
        _ => {}
    }
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
        match any.iter().find(|s| s.get("$ref").is_some()) {
            Some(s) if !value.is_null() => return agree(root, s, value, at),
            _ => {}
        }
    }
    if let Value::Array(items) = value {
        items.iter().for_each(|v| agree(root, &schema["items"], v, at));
    }
    if let Value::Object(map) = value {
        for (k, v) in map {
            let s = &schema["properties"][k];
            assert!(s.is_object(), "{at}.{k} is not in the schema");
            agree(root, s, v, &format!("{at}.{k}"));
        }
        for k in schema["required"].as_array().into_iter().flatten() {
            assert!(map.contains_key(k.as_str().unwrap()), "{at}.{k} is missing");
        }
    }
}

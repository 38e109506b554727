//! What fdwatch says when it is asked for what it cannot do: one line, the right status, and nothing is started.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, fdwatch, has, run, skip, target};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// In a folder of its own, where the target would leave `started`.
fn refused(dir: &Path, args: &[&str]) -> Done {
    let done = run(Command::new(fdwatch()).args(args).current_dir(dir));
    assert!(!dir.join("started").exists(), "{args:?}: the target was started");
    assert_eq!(done.stdout, "", "{args:?}");
    assert!(done.stderr.starts_with("fdwatch: "), "{args:?}: {}", done.stderr);
    assert_eq!(done.stderr.lines().count(), 1, "{args:?}: {}", done.stderr);
    done
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode");
}

#[test]
fn a_wrong_command_line_starts_nothing() {
    let dir = folder();
    write(&dir.path().join("script"), "continue\n", 0o644);
    for (args, part) in [
        (&["--nosuch"][..], "--nosuch"),
        (&["audt", "touch", "started"], "'audit'"),
        (&["audit"], "<CMD>"),
        (&["run"], "<CMD>"),
        (&["audit", "--"], "<CMD>"),
        (&["audit", "--nosuch", "touch", "started"], "--nosuch"),
        (&["audit", "--fd", "3", "touch", "started"], "--fd"),
        (&["run", "--fd", "-1", "touch", "started"], "--fd"),
        (&["run", "--fd", "x", "touch", "started"], "'x'"),
        (&["run", "--path", "a[", "touch", "started"], "position 1"),
        (&["run", "--path", "a**b", "touch", "started"], "position"),
        (&["run", "--break", "some", "touch", "started"], "escaped"),
        (&["run", "-ex", "bogus", "touch", "started"], "bogus"),
        (&["run", "-x", "no/such/script", "touch", "started"], "no/such/script"),
        (&["run", "touch", "started"], "no terminal"),
        (&["audit", "--error-exitcode", "300", "touch", "started"], "300"),
        (&["audit", "--error-exitcode", "-1", "touch", "started"], "-1"),
        (&["audit", "--error-exitcode", "x", "touch", "started"], "'x'"),
        (&["audit", "--fail-on", "bug", "touch", "started"], "warning"),
        (&["audit", "--format", "xml", "touch", "started"], "json"),
        (&["audit", "--color", "maybe", "touch", "started"], "never"),
        (&["audit", "--record"], "--record"),
        (&["audit", "--record", "same", "-o", "same", "touch", "started"], "--record and -o name the same file"),
        (
            &["run", "--record", "same", "--transcript", "./same", "-ex", "bt", "touch", "started"],
            "--record and --transcript name the same file",
        ),
        (
            &["run", "-x", "script", "--transcript", "script", "touch", "started"],
            "-x and --transcript name the same file",
        ),
        (&["run", "--record", "same", "--log-file", "./same", "-ex", "c", "touch", "started"], "give each its own"),
        (&["replay"], "<FILE>"),
        (&["replay", "a", "b"], "'b'"),
        (&["replay", "no/such"], "no/such: No such file"),
        (&["replay", "no/such", "--fail-on", "bug"], "warning"),
        (&["replay", "no/such", "-o", "no/dir/report"], "cannot write"),
        (&["explain", "doubleclose"], "did you mean double-close"),
        (&["explain", "nosuch"], "double-close"),
        (&["explain", "a\nb\x1b[31m"], "\\n"),
    ] {
        let done = refused(dir.path(), args);
        assert_eq!(done.code(), 125, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(part), "{args:?}: {}", done.stderr);
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("script")).expect("a script"), "continue\n");
}

#[test]
fn without_a_word_it_says_what_there_is() {
    let done = run(&mut Command::new(fdwatch()));
    assert_eq!((done.code(), done.stderr.as_str()), (0, ""));
    assert!(done.stdout.contains("fdwatch run -- ") && done.stdout.contains("fdwatch doctor"), "{}", done.stdout);
    assert!(done.stdout.lines().all(|l| l.chars().count() <= 80), "{}", done.stdout);
    for flag in ["--help", "--version"] {
        let done = run(Command::new(fdwatch()).arg(flag));
        assert_eq!((done.code(), done.stderr.as_str()), (0, ""), "{flag}");
        assert!(!done.stdout.is_empty(), "{flag}");
    }
}

#[test]
fn a_command_that_cannot_run_is_told_apart() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    write(&at("plain"), "x", 0o644);
    write(&at("empty"), "", 0o755);
    write(&at("no_interpreter"), "touch started\n", 0o755);
    write(&at("lost"), "#! /no/such/interpreter -x\n", 0o755);
    write(&at("cut"), "\x7fELF\x02\x01\x01", 0o755);
    std::fs::create_dir(at("folder")).expect("a folder");
    for (command, status, part) in [
        ("no-such-command", 127, "no-such-command: no such command"),
        ("./no/such", 127, "no such command"),
        ("", 127, "no such command"),
        ("./plain", 126, "chmod +x"),
        ("./folder", 126, "is a directory"),
        ("/", 126, "is a directory"),
        ("./no_interpreter", 126, "name its interpreter"),
        ("./empty", 126, "name its interpreter"),
        ("./cut", 126, ""),
        ("./lost", 126, "its interpreter /no/such/interpreter does not exist"),
    ] {
        for options in [&["audit"][..], &["audit", "--no-seccomp"], &["run", "-ex", "continue"]] {
            let args: Vec<&str> = options.iter().copied().chain(["--", command]).collect();
            let done = refused(dir.path(), &args);
            assert_eq!(done.code(), status, "{args:?}: {}", done.stderr);
            assert!(done.stderr.contains(part), "{args:?}: {}", done.stderr);
        }
    }
    // On the way through PATH a file that may not be executed is passed over for one that may.
    std::fs::create_dir(at("other")).expect("a folder");
    write(&at("other/plain"), "#!/bin/sh\necho the other\n", 0o755);
    let path = format!("{}:{}", dir.path().display(), at("other").display());
    let done = run(Command::new(fdwatch()).args(["audit", "--", "plain"]).env("PATH", &path));
    assert_eq!((done.code(), done.stdout.as_str()), (0, "the other\n"), "{}", done.stderr);
}

#[test]
fn a_file_that_cannot_be_written_is_told_before_the_start() {
    let dir = folder();
    std::fs::create_dir(dir.path().join("folder")).expect("a folder");
    write(&dir.path().join("plain"), "x", 0o644);
    std::os::unix::fs::symlink("nowhere/x", dir.path().join("dangling")).expect("a link");
    for name in ["no/dir/report", "folder", "plain/report", "dangling", "/", ""] {
        let done = refused(dir.path(), &["audit", "-o", name, "--", "touch", "started"]);
        assert_eq!(done.code(), 125, "{name}: {}", done.stderr);
        let done = refused(dir.path(), &["audit", "--record", name, "--", "touch", "started"]);
        assert_eq!(done.code(), 125, "{name}: {}", done.stderr);
        let done =
            refused(dir.path(), &["audit", "--log-file", if name.is_empty() { "/" } else { name }, "touch", "started"]);
        assert_eq!(done.code(), 125, "{name}: {}", done.stderr);
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("plain")).expect("a file"), "x", "it was not touched");
}

#[test]
fn without_privilege_a_protected_file_is_told_before_the_start() {
    if !nix::unistd::geteuid().is_root() || !has("setpriv") {
        return skip("protected files", "not root, or no setpriv");
    }
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    std::fs::copy(fdwatch(), at("fdwatch")).expect("a copy");
    write(&at("read_only"), "x", 0o444);
    for name in ["read_only", "new"] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(at("fdwatch"));
        let done = run(command.args(["audit", "-o", name, "--", "touch", "started"]).current_dir(dir.path()));
        assert_eq!((done.code(), done.stderr.lines().count()), (125, 1), "{name}: {}", done.stderr);
        assert!(done.stderr.contains("Permission denied"), "{name}: {}", done.stderr);
    }
}

#[test]
fn a_wrong_log_filter_is_told() {
    let dir = folder();
    for value in ["fdwatch=loud", "a=b=c", "[", "fdwatch=debug,x=="] {
        let mut command = Command::new(fdwatch());
        command.args(["audit", "--", "touch", "started"]).env("FDWATCH_LOG", value).current_dir(dir.path());
        let done = run(&mut command);
        assert!(!dir.path().join("started").exists(), "{value}: the target was started");
        assert_eq!((done.code(), done.stderr.lines().count()), (125, 1), "{value}: {}", done.stderr);
        assert!(done.stderr.starts_with(&format!("fdwatch: FDWATCH_LOG={value}: ")), "{}", done.stderr);
    }
    let log = dir.path().join("log");
    let mut command = Command::new(fdwatch());
    command.args(["audit", "-vv", "--log-file"]).arg(&log).args(["--", "echo", "x"]);
    let done = run(&mut command);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "x\n"));
    assert!(log.exists());
}

#[test]
fn a_report_goes_where_it_was_sent_and_nowhere_else() {
    let Some(program) = target("double_close") else { return skip("reports", "no C compiler") };
    let dir = folder();
    let report = dir.path().join("report");
    let native = common::alone(&[&program]);
    let audit = |options: &[&str]| {
        run(Command::new(fdwatch()).arg("audit").args(options).arg(&program).current_dir(dir.path()))
    };
    let done = audit(&["-o", "report"]);
    assert_eq!((done.code(), done.stderr.as_str(), &done.stdout), (99, "", &native.stdout));
    let text = std::fs::read_to_string(&report).expect("a report");
    assert!(text.starts_with("error[double-close]") && text.ends_with('\n') && !text.contains('\x1b'), "{text}");
    assert_eq!(text.matches("error[").count(), 3);

    let done = audit(&["--format", "json", "-o", "report"]);
    assert_eq!((done.code(), done.stderr.as_str(), &done.stdout), (99, "", &native.stdout));
    let json = std::fs::read(&report).expect("a report");
    let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let schema = std::fs::read(common::root().join("docs/report.schema.json")).expect("the schema");
    let schema: serde_json::Value = serde_json::from_slice(&schema).expect("JSON");
    conforms(&schema, &schema, &value, "report");
    assert_eq!(value["schema"], "fdwatch-report/1");
    assert_eq!(value["findings"][0]["name"], "double-close");
    assert_eq!(value["counts"]["errors"], 3);
    assert_eq!(value["target"], serde_json::json!({"how": "exited", "status": 0}));
    assert_eq!(value["coverage"]["mode"], "seccomp");
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).expect("the folder").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(left, ["report"], "nothing else is left");

    let done = audit(&["--format", "json"]);
    assert!(serde_json::from_str::<serde_json::Value>(&done.stderr).is_ok(), "{}", done.stderr);
    let done = audit(&["-o", "/dev/stdout"]);
    assert!(done.stdout.starts_with(&native.stdout) && done.stdout.contains("error[double-close]"), "{done:?}");
    assert_eq!((done.code(), done.stderr.as_str()), (99, ""));
}

/// The part of JSON Schema that the report's uses.
fn conforms(root: &serde_json::Value, schema: &serde_json::Value, value: &serde_json::Value, at: &str) {
    use serde_json::Value;
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("no {name}"));
        conforms(root, target, value, at);
    }
    if let Some(constant) = schema.get("const") {
        assert_eq!(constant, value, "{at}");
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: {value}");
    }
    if let Some(any) = schema["anyOf"].as_array()
        && !(value.is_null() && any.iter().any(|s| s["type"] == "null"))
    {
        any.iter().filter(|s| s["type"] != "null").for_each(|s| conforms(root, s, value, at));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(t) => vec![t],
        Value::Array(ts) => ts.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let is = |t: &str| match t {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    };
    assert!(types.is_empty() || types.iter().any(|t| is(t)), "{at}: {value} is none of {types:?}");
    if value.is_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(value.get(name).is_some(), "{at} has no {name}");
        }
    }
    for (name, part) in value.as_object().into_iter().flatten() {
        if let Some(s) = schema["properties"].get(name) {
            conforms(root, s, part, &format!("{at}.{name}"));
        }
    }
    for (i, part) in value.as_array().into_iter().flatten().enumerate() {
        conforms(root, &schema["items"], part, &format!("{at}[{i}]"));
    }
}

/// `fdwatch audit -o /dev/stdout CMD >file`: the file is the target's first.
#[test]
fn a_report_to_standard_output_leaves_what_the_target_wrote() {
    let Some(program) = target("double_close") else { return skip("reports", "no C compiler") };
    let native = common::alone(&[&program]);
    for (number, redirection) in [(1, ">all"), (1, ">>all"), (2, "2>all >&2")] {
        let dir = folder();
        let stream = if number == 1 { "/dev/stdout" } else { "/dev/stderr" };
        let script = format!("\"$@\" {redirection}");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script, "sh"]).arg(fdwatch()).args(["audit", "-o", stream]).arg(&program);
        let done = run(shell.current_dir(dir.path()));
        assert_eq!(done.code(), 99, "{}", done.stderr);
        let all = std::fs::read_to_string(dir.path().join("all")).expect("the file");
        let report = all.strip_prefix(&native.stdout).unwrap_or_else(|| panic!("{redirection}: lost output: {all}"));
        assert!(report.starts_with("error[double-close]"), "{redirection}: {report}");
    }
}

#[test]
fn colour_is_as_asked() {
    let Some(program) = target("double_close") else { return skip("colour", "no C compiler") };
    let coloured = |options: &[&str], no_color: Option<&str>| {
        let mut command = Command::new(fdwatch());
        command.arg("audit").args(options).arg(&program).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        let done = run(&mut command);
        assert!(!done.stdout.contains('\x1b'));
        done.stderr.contains('\x1b')
    };
    assert!(!coloured(&[], None), "standard error is no terminal");
    assert!(!coloured(&["--color", "never"], None));
    assert!(coloured(&["--color", "always"], None));
    assert!(coloured(&["--color", "always"], Some("1")), "what was asked for by name counts");
    assert!(!coloured(&[], Some("1")));
    assert!(!coloured(&["--color", "always", "--format", "json"], None));
}

//! Why ends come: one verdict each, on real programs of every runtime that fdwatch knows, with the frames that prove it.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{Done, audit, fdwatch, has, pythons, root, run, script, skip};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A break before an end.
#[derive(Debug)]
struct End {
    /// The file's own name, which is that of the function that opened it.
    name: String,
    cause: String,
    /// What `bt` showed.
    bt: String,
    /// The line of the break that names a place.
    place: String,
}

/// A break at the end of each file in `dir`, with these commands at each.
fn breaks(dir: &Path, commands: &[&str], program: &[&str]) -> Done {
    let mut c = Command::new(fdwatch());
    c.args(["run", "--path", &format!("{}/*", dir.display())]);
    for command in std::iter::repeat_n(commands, 24).flatten() {
        c.args(["-ex", command]);
    }
    run(c.arg("--").args(program))
}

fn ends(dir: &Path, program: &[&str]) -> Vec<End> {
    let done = breaks(dir, &["bt", "continue"], program);
    let blocks = done.stderr.split("\nbreak ").map(|b| b.strip_prefix("break ").unwrap_or(b));
    let found: Vec<End> = blocks.filter_map(|block| end(dir, block)).collect();
    assert!(!found.is_empty(), "{done:#?}");
    found
}

fn end(dir: &Path, block: &str) -> Option<End> {
    let (head, rest) = block.split_once('\n')?;
    let name = head.split_once(&format!("{}/", dir.display()))?.1.to_string();
    let (banner, bt) = rest.split_once("(fdwatch) bt\n")?;
    let bt = bt.split("(fdwatch) ").next()?.to_string();
    let cause = banner.split_once("  cause   ")?.1.split("\n  call").next()?;
    let cause = cause.split_whitespace().collect::<Vec<_>>().join(" ");
    let after = banner.split_once("  call    ")?.1;
    let place = after.lines().nth(1)?.trim().to_string();
    Some(End { name, cause, bt, place })
}

/// Compares causes, in the order of `expected`; a file may end more often, as another does in between.
#[track_caller]
fn check(found: &[End], expected: &[(&str, &str)]) {
    for (name, cause) in expected {
        let end = found.iter().find(|e| e.name == *name);
        let end = end.unwrap_or_else(|| panic!("{name} was not seen to end: {found:#?}"));
        assert_eq!(end.cause, *cause, "{name}: {end:#?}");
    }
}

/// Compares causes as a report gives them of each life, and the report with that of a replay. Gives the functions that prove
/// each, innermost first.
#[track_caller]
fn check_report(dir: &Path, program: &[&str], expected: &[(&str, &str)]) -> Vec<Vec<String>> {
    let work = tempfile::tempdir().unwrap();
    let [log, live, again] = ["log", "live", "again"].map(|name| text(&work.path().join(name)));
    let mut c = Command::new(fdwatch());
    run(c.args(["audit", "--record", &log, "--format", "json", "-o", &live, "--"]).args(program));
    let replayed = run(Command::new(fdwatch()).args(["replay", &log, "--format", "json", "-o", &again]));
    let [live, again] = [live, again].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let differ = again.lines().zip(live.lines()).find(|(a, l)| a != l);
    assert_eq!((differ, again.len()), (None, live.len()), "{replayed:#?}");
    let report = fdwatch::report::Report::read(live.as_bytes()).expect("a report");
    let lives = report.lives.expect("lives");
    let why = |name: &str| {
        let path = format!("{}/{name}", dir.display());
        let of = |l: &&fdwatch::report::lives::LifeRecord| lives.object(l.object).is_some_and(|o| o.path == path);
        let ended = lives.list.iter().filter(of).find_map(|l| lives.why(l.ended.as_ref()?));
        ended.unwrap_or_else(|| panic!("{name} has no end with a verdict: {live}"))
    };
    for (name, words) in expected {
        assert_eq!(why(name).words, *words, "{name} in the report: {:#?}", why(name));
    }
    expected.iter().map(|(name, _)| why(name).proof.clone()).collect()
}

fn one<'e>(found: &'e [End], name: &str) -> &'e End {
    found.iter().find(|e| e.name == name).unwrap()
}

fn source(name: &str) -> PathBuf {
    root().join("tests/targets/causes").join(name)
}

/// Builds a program of `tests/targets/causes`; `None`, with the reason printed, where that cannot be done.
fn build(test: &str, name: &str, compiler: &str, flags: &[&str], out: &Path) -> Option<String> {
    if !has(compiler) {
        skip(test, &format!("no {compiler}"));
        return None;
    }
    let mut c = Command::new(compiler);
    // Go keeps what it has built of its library; without modules it needs no network.
    let cache = root().join("target/targets/go-cache");
    c.env("GOCACHE", cache).env("GO111MODULE", "off").env("GOFLAGS", "").env("CGO_ENABLED", "0");
    let done = run(c.args(flags).arg("-o").arg(out).arg(source(name)));
    assert_eq!(done.code(), 0, "{compiler} {flags:?}: {}", done.stderr);
    Some(out.to_string_lossy().into_owned())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn cpp_destructors_and_streams() {
    let dir = tempfile::tempdir().unwrap();
    let (bin, files) = (dir.path().join("causes"), dir.path().join("files"));
    std::fs::create_dir(&files).unwrap();
    let test = "cpp_destructors_and_streams";
    let Some(program) = build(test, "causes.cpp", "g++", &["-g", "-O1"], &bin) else { return };
    let found = ends(&files, &[&program, &text(&files)]);
    let expected = [
        ("stream_left", "by a destructor, std::basic_ofstream::~basic_ofstream"),
        ("stream_closed", "explicit, by std::basic_ofstream::close"),
        ("owner_left", "by a destructor, Owner::~Owner"),
        ("pointer_left", "by a destructor, std::unique_ptr::~unique_ptr"),
        ("file_closed", "by fclose"),
        ("plainly", "explicit"),
        ("at_exit", "by a destructor, std::basic_ofstream::~basic_ofstream"),
    ];
    check(&found, &expected);
    let proof = check_report(&files, &[&program, &text(&files)], &expected);
    assert_eq!(proof[2].last().map(String::as_str), Some("Owner::~Owner"), "{proof:#?}");
    // The user's line, not the library's, and the frames that prove it.
    let left = one(&found, "stream_left");
    assert!(left.place.contains("causes.cpp:"), "{left:#?}");
    assert!(left.bt.lines().any(|l| l.starts_with("* #") && l.contains("~basic_ofstream")), "{left:#?}");
    assert!(left.bt.lines().any(|l| l.starts_with("> #") && l.contains("stream_left at ")), "{left:#?}");
    assert!(left.bt.contains(" frames of the C library (bt full shows them)"), "{left:#?}");
}

/// `closedir` of glibc ends with a jump: it is not on the stack.
#[test]
fn a_directory_is_closed_by_closedir() {
    let dir = tempfile::tempdir().unwrap();
    let test = "a_directory_is_closed_by_closedir";
    let bin = dir.path().join("causes");
    let Some(program) = build(test, "causes.cpp", "g++", &["-g", "-O1"], &bin) else { return };
    let files = dir.path().join("files/directory");
    std::fs::create_dir_all(&files).unwrap();
    let found = ends(&dir.path().join("files"), &[&program, &text(&dir.path().join("files"))]);
    check(&found, &[("directory", "by closedir")]);
    let command = [program.as_str(), &text(&dir.path().join("files"))];
    let proof = check_report(&dir.path().join("files"), &command, &[("directory", "by closedir")]);
    assert!(proof[0].iter().any(|f| f.contains("close")), "{proof:#?}");
    assert!(one(&found, "directory").place.contains("causes.cpp:"), "{found:#?}");
}

/// A name proves something only where its runtime is.
#[test]
fn functions_of_the_users_own_that_are_called_like_a_runtimes() {
    let dir = tempfile::tempdir().unwrap();
    let (bin, files) = (dir.path().join("python3-like"), dir.path().join("files"));
    std::fs::create_dir(&files).unwrap();
    let test = "functions_of_the_users_own_that_are_called_like_a_runtimes";
    // With lines, and with symbols alone: there a destructor that is inlined in a function of C++ would leave no trace.
    for flags in [&["-g", "-O1"][..], &["-O1"]] {
        let Some(program) = build(test, "namesakes.cpp", "g++", flags, &bin) else { return };
        let found = ends(&files, &[&program, &text(&files)]);
        let names = [
            "finalize_modules",
            "gc_collect_main",
            "subtype_dealloc",
            "iobase_exit",
            "_close_open_fds",
            "redup",
            "do_redirections",
            "safe_closefrom",
            "uv_close",
            "drop_in_place",
        ];
        for name in names {
            let end = one(&found, name);
            let hidden = name == "drop_in_place" && flags.len() == 1;
            let hidden =
                hidden && end.cause == "explicit, or by a destructor that is inlined in core::ptr::drop_in_place";
            assert!(end.cause == "explicit" || hidden, "{name}: {end:#?}");
            assert!(end.place.contains(name) || end.place.contains("close(opened("), "{name}: {end:#?}");
            assert!(!end.bt.lines().any(|l| l.starts_with("* #")), "{name}: {end:#?}");
        }
    }
}

#[test]
fn without_names_no_destructor_is_made_up() {
    let dir = tempfile::tempdir().unwrap();
    let (bin, files) = (dir.path().join("causes"), dir.path().join("files"));
    std::fs::create_dir(&files).unwrap();
    let test = "without_names_no_destructor_is_made_up";
    let Some(program) = build(test, "causes.cpp", "g++", &["-O2", "-s"], &bin) else { return };
    let found = ends(&files, &[&program, &text(&files)]);
    // What the library exports still tells.
    check(&found, &[("stream_left", "by a destructor, std::basic_ofstream::~basic_ofstream")]);
    check(&found, &[("file_closed", "by fclose"), ("pointer_left", "by fclose")]);
    for name in ["owner_left", "plainly"] {
        let cause = &one(&found, name).cause;
        assert!(cause.starts_with("explicit, by causes+0x") && cause.ends_with("whose file has no names"), "{cause}");
    }
    // With symbols, but without the lines that would name what was inlined, both stay possible.
    let Some(program) = build(test, "causes.cpp", "g++", &["-O2"], &bin) else { return };
    let found = ends(&files, &[&program, &text(&files)]);
    let cause = &one(&found, "owner_left").cause;
    assert!(
        cause.contains("~Owner") || cause.starts_with("explicit, or by a destructor that is inlined in "),
        "{cause}"
    );
}

#[test]
fn rust_drops() {
    let dir = tempfile::tempdir().unwrap();
    let (bin, files) = (dir.path().join("causes"), dir.path().join("files"));
    std::fs::create_dir(&files).unwrap();
    for flags in [&["-g", "--edition=2021"][..], &["-g", "-O", "--edition=2021"]] {
        let Some(program) = build("rust_drops", "causes.rs", "rustc", flags, &bin) else { return };
        let found = ends(&files, &[&program, &text(&files)]);
        // Optimised, the last thing that a function does is a jump. That it was there is told by who called it, and what
        // it did there is not: so nothing is made up.
        let or = |cause: &str, function: &str| match flags.contains(&"-O") {
            true => format!("explicit, or by a destructor that is inlined in causes::{function}"),
            false => cause.to_string(),
        };
        for (name, cause) in [
            ("left", "by drop of std::fs::File"),
            ("field_left", "by drop of causes::Log"),
            ("dropped", "explicit, by core::mem::drop"),
            ("by_libc", "explicit"),
        ] {
            let end = one(&found, name);
            let jumped = end.bt.contains(&format!("causes::{name} (jumped on) "));
            assert!(!jumped || flags.contains(&"-O"), "{end:#?}");
            assert!(end.cause == cause || jumped && end.cause == or(cause, name), "{name}: {end:#?}");
            assert!(end.bt.contains(&format!("causes::{name} ")), "{name}: {end:#?}");
        }
        // Who jumped has no frame, and is in the report's verdict and in the replay's all the same.
        let told: Vec<_> = ["left", "field_left"].map(|name| (name, one(&found, name).cause.as_str())).into();
        check_report(&files, &[&program, &text(&files)], &told);
        let left = one(&found, "left");
        assert!(left.place.contains("causes.rs:"), "{left:#?}");
        assert!(left.bt.contains(" frames of the standard library (bt full shows them)"), "{left:#?}");
    }
}

#[test]
fn go_collects_what_nobody_closed() {
    // Other versions than the system's: programs, with a colon between.
    let more = std::env::var("FDWATCH_GOS").unwrap_or_default();
    for go in std::iter::once("go").chain(more.split(':').filter(|go| !go.is_empty())) {
        println!("{go}");
        go_collects(go);
    }
}

fn go_collects(go: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (bin, files) = (dir.path().join("causes"), dir.path().join("files"));
    std::fs::create_dir(&files).unwrap();
    // A Go program has the names of its functions, and its lines, when it is stripped as most are; but not what was inlined.
    for flags in [&["build"][..], &["build", "-ldflags=-s -w"], &["build", "-ldflags=-s -w", "-buildmode=pie"]] {
        let Some(program) = build("go_collects_what_nobody_closed", "causes.go", go, flags, &bin) else { return };
        let found = ends(&files, &[&program, &text(&files)]);
        let whole = flags.len() == 1;
        // Newer versions inline it into the function that the defer statement becomes.
        let inlined = !whole && one(&found, "deferred").bt.contains("main.deferred.deferwrap");
        let expected = [
            ("closed", if whole { "explicit, by os.(*File).Close" } else { "explicit, by syscall.Close" }),
            ("deferred", if inlined { "explicit, by syscall.Close" } else { "explicit, by os.(*File).Close" }),
            ("plainly", "explicit, by syscall.Close"),
            ("lost", "by the garbage collector, no close() call"),
        ];
        check(&found, &expected);
        let proof = check_report(&files, &[&program, &text(&files)], &expected);
        assert!(proof[3].iter().any(|f| f.starts_with("runtime.run")), "{proof:#?}");
        let closed = one(&found, "closed");
        let place =
            if whole { closed.place.ends_with("f.Close()") } else { closed.place.starts_with("main.closed in ") };
        assert!(place, "{flags:?}: {closed:#?}");
        assert!(closed.bt.contains(" frames of Go's library (bt full shows them)"), "{closed:#?}");
        let plainly = one(&found, "plainly");
        assert!(plainly.place.contains("causes.go:") && plainly.place.ends_with("syscall.Close(fd)"), "{plainly:#?}");
        let lost = one(&found, "lost");
        assert!(lost.bt.lines().any(|l| l.contains("runtime.run")), "{lost:#?}");
    }
}

#[test]
fn node_collects_a_file_handle() {
    if !has("node") {
        return skip("node_collects_a_file_handle", "no node");
    }
    let dir = tempfile::tempdir().unwrap();
    let found = ends(dir.path(), &["node", "--expose-gc", &text(&source("causes.js")), &text(dir.path())]);
    if one(&found, "sync").cause.ends_with("has no names") {
        return skip("node_collects_a_file_handle", "node has no symbols");
    }
    let expected = [
        ("sync", "explicit, by node::fs::Close"),
        ("later", "explicit, asked for earlier: a worker thread does it"),
        ("awaited", "explicit, asked for earlier: a worker thread does it"),
        ("lost", "by the garbage collector, no close() call"),
    ];
    check(&found, &expected);
    let lost = one(&found, "lost");
    assert!(lost.bt.lines().any(|l| l.starts_with("* #") && l.contains("~FileHandle")), "{lost:#?}");
    assert!(lost.bt.contains(" frames of Node"), "{lost:#?}");
}

#[test]
fn cpython_ends_of_every_kind() {
    let pythons = pythons();
    if pythons.is_empty() {
        return skip("cpython_ends_of_every_kind", "no python3");
    }
    for python in pythons {
        println!("{}", python.display());
        let dir = tempfile::tempdir().unwrap();
        let found = ends(dir.path(), &[&text(&python), &text(&source("causes.py")), &text(dir.path())]);
        let expected = [
            ("block", "explicit, at the end of a with block"),
            ("raised", "explicit, at the end of a with block"),
            ("own_block", "explicit, at the end of a with block"),
            ("closing", "explicit, at the end of a with block"),
            ("count", "by reference count, no close() call"),
            ("deleted", "by reference count, through __del__()"),
            ("cycle", "by the garbage collector, no close() call"),
            ("shutdown", "at interpreter shutdown"),
        ];
        check(&found, &expected);
        let command = [text(&python), text(&source("causes.py")), text(dir.path())];
        check_report(dir.path(), &command.each_ref().map(String::as_str), &expected);
        for name in ["method", "function"] {
            let end = one(&found, name);
            assert!(end.cause == "explicit" || end.cause.starts_with("explicit, by "), "{end:#?}");
        }
        // The user's line wins over contextlib's, which stays at hand.
        let closing = one(&found, "closing");
        assert!(closing.place.contains("causes.py:"), "{closing:#?}");
    }
}

#[test]
fn shells_undo_redirections() {
    // dash is stripped and exports nothing: there it is the lives alone that tell.
    for (shell, told) in [("bash", true), ("dash", false), ("zsh", true)] {
        if !has(shell) {
            skip("shells_undo_redirections", &format!("no {shell}"));
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("end"), "").unwrap();
        let mut c = Command::new(fdwatch());
        c.args(["run", "--path", &format!("{}/end", dir.path().display()), "-ex", "hist 1"]);
        // Shells keep the copy at the first number from 10 on that is free.
        for n in 10..40 {
            c.args(["-ex", &format!("hist {n}")]);
        }
        let done = run(c.arg("--").args([shell, &text(&source("causes.sh")), &text(dir.path())]));
        let story = done.stderr.replace("\n      ", " ");
        let line = |what: &str| story.lines().find(|l| l.contains(what)).unwrap_or_else(|| panic!("{what}: {done:#?}"));
        let undone = line("by a redirection's end: dup2 put back what ");
        let kept = undone.split("put back what ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(undone.contains(&format!("dup2({kept}, 1) = ")), "{shell}: {undone}");
        let closed = line(&format!("close({kept})"));
        assert!(closed.ends_with("by a redirection's end: it was the copy kept of fd 1"), "{shell}: {closed}");
        assert_eq!(undone.contains(&format!(" in {shell}")), told, "{shell}: {undone}");
    }
}

/// What `fdwatch` says of number 7 in the child of `sweep.c`: before the exec and after it.
fn swept(how: &str) -> Option<(Done, [String; 2])> {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("sweep");
    let built = build("sweeps", "sweep.c", "cc", &["-g", "-O1"], &bin)?;
    let path = |name: &str| text(&dir.path().join(name));
    let mut c = Command::new(fdwatch());
    c.args(["run", "--path", &path("e*")]);
    for _ in 0..2 {
        c.args(["-ex", "hist 7", "-ex", "fd 7", "-ex", "fd 3", "-ex", "continue"]);
    }
    let read = format!(": < {}", path("e2"));
    std::fs::write(dir.path().join("e2"), "").unwrap();
    let done = run(c.arg("--").args([&built, how, &path("before"), &path("e1"), "/bin/sh", "-c", &read]));
    if done.code() == 77 {
        skip("sweeps", "no close_range");
        return None;
    }
    let story = done.stderr.replace("\n      ", " ");
    let mut blocks = story.split("\nbreak ").map(|b| b.strip_prefix("break ").unwrap_or(b).to_string());
    let mut of = |name: &str| blocks.find(|b| b.lines().next().is_some_and(|l| l.ends_with(name))).unwrap_or_default();
    let both = [of("/e1"), of("/e2")];
    Some((done, both))
}

#[test]
fn a_child_that_closes_all_there_is() {
    for (how, after, before) in [
        ("loop", "by a close loop after fork", "by a close loop before exec"),
        ("range", "by close_range after fork", "by close_range before exec"),
        ("one", "explicit", "explicit"),
    ] {
        let Some((done, [forked, executed])) = swept(how) else { continue };
        for (block, words) in [(&forked, after), (&executed, before)] {
            let line = block.lines().find(|l| l.contains(if how == "range" { "close_range(" } else { "close(7)" }));
            let line = line.unwrap_or_else(|| panic!("{how}: {done:#?}"));
            assert!(line.ends_with(words), "{how}: {words}: {block}");
            let cause = block.lines().find(|l| l.starts_with("  cause    "));
            assert_eq!(cause, Some(format!("  cause    {words}").as_str()), "{how}: {block}");
        }
    }
}

/// Number 40 ends by exec, 41 with the child that has it, and the last task of a table takes the rest with it.
#[test]
fn exec_and_exit_end_what_nobody_closed() {
    let dir = tempfile::tempdir().unwrap();
    let test = "exec_and_exit_end_what_nobody_closed";
    let Some(program) = build(test, "ends.c", "cc", &["-g", "-O1"], &dir.path().join("ends")) else { return };
    let [exec, exit, last] = ["exec", "exit", "last"].map(|name| text(&dir.path().join(name)));
    let command = [&program, &exec, &exit, &last].map(String::as_str);
    let mut c = Command::new(fdwatch());
    c.args(["run", "--path", &last, "-ex", "fd 40", "-ex", "continue", "-ex", "continue", "--"]);
    let done = run(c.args(command));
    assert_eq!(done.code(), 0, "{done:#?}");
    let cause = done.stderr.lines().find(|l| l.starts_with("  cause    "));
    assert_eq!(cause, Some("  cause    by exec, as FD_CLOEXEC was set"), "{done:#?}");
    let done = audit(&["--format", "json"], &command.map(OsStr::new));
    let report: serde_json::Value = serde_json::from_str(&done.stderr).expect("a report");
    let lives = report["lives"]["list"].as_array().expect("lives");
    let end = |fd: u64| {
        let mut of = lives.iter().filter(|l| l["fd"] == fd).map(|l| (&l["ended"], &l["began"]["pid"]));
        let (ended, began) = of.next().unwrap_or_else(|| panic!("{fd} had no life: {lives:#?}"));
        assert_eq!(of.next(), None, "{fd} had one life");
        (ended["how"].clone(), ended["cause"].clone(), ended["moment"]["what"].clone(), began.clone())
    };
    let (how, cause, what, parent) = end(40);
    assert_eq!((how, cause, what), ("closed-on-exec".into(), "exec".into(), "exec".into()));
    let (how, cause, what, child) = end(41);
    assert_eq!((how, cause, what), ("table-gone".into(), "exit".into(), "exit".into()));
    assert_ne!(parent, child, "41 was opened by the child");
    assert_eq!((end(42).0, end(42).1), ("closed".into(), "explicit".into()));
    assert_eq!((end(1).0, end(1).1), ("table-gone".into(), "exit".into()), "what the first process was given");
}

#[test]
fn a_report_says_the_cause_its_proof_and_the_line() {
    let Some(python) = pythons().into_iter().next() else {
        return skip("a_report_says_the_cause_its_proof_and_the_line", "no python3");
    };
    let path = script("python/symptom_a_bare_call.py");
    let done = audit(&["--format", "json"], &[python.as_os_str(), path.as_ref()]);
    let report: serde_json::Value = serde_json::from_str(&done.stderr).expect("a report");
    let steps = report["findings"][0]["steps"].as_array().expect("steps");
    let closed = steps.iter().find(|s| s["role"] == "closed").expect("an end");
    assert_eq!(closed["cause"], "finalizer", "{closed:#}");
    assert_eq!(closed["why"], "by reference count, no close() call", "{closed:#}");
    assert!(closed["source"].as_str().is_some_and(|s| s.contains("fileno()")), "{closed:#}");
    // By name, or by address where the interpreter has no symbols: the finalizer and who called it.
    let proof: Vec<&str> = closed["proof"].as_array().expect("proof").iter().filter_map(|p| p.as_str()).collect();
    let stripped = |p: &&str| p.contains("python") && p.contains("+0x");
    assert!(proof.len() >= 2, "{closed:#}");
    assert!(proof.iter().all(stripped) || proof.contains(&"PyObject_CallFinalizerFromDealloc"), "{closed:#}");
    assert!(closed["escape"].is_string(), "{closed:#}");
    let done = audit(&[], &[python.as_os_str(), path.as_ref()]);
    let lines: Vec<&str> = done.stderr.lines().collect();
    let at = lines.iter().position(|l| l.starts_with("  closed ")).expect("an end");
    assert!(lines[at + 1].starts_with("          run_quietly("), "{}", done.stderr);
    // The user's line first, also where it failed.
    let used = lines.iter().find(|l| l.starts_with("  used ")).expect("a use");
    assert!(used.contains("symptom_a_bare_call.py:16 in run_quietly, in subprocess.py "), "{used}");
}

//! The transcripts of docs/tutorial.md are what really happens.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use common::{fdwatch, has, root, run, skip};
use std::process::Command;

/// What a command of the page shows.
fn shown(line: &str) -> String {
    let folder = fdwatch().parent().expect("a folder").to_path_buf();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut c = Command::new("bash");
    c.args(["-c", &format!("{{ {line}; }} 2>&1")]).current_dir(root());
    c.env("PATH", format!("{}:{path}", folder.display())).env("NO_COLOR", "1").env("XDG_CONFIG_HOME", "/nonexistent");
    // Where the sources are is everybody's own affair.
    run(&mut c).stdout.replace(&format!("{}/", root().display()), "")
}

/// What does not change from run to run, or from one build of Python to the next.
fn lasting(text: &str) -> Vec<String> {
    let line = |l: &str| {
        let words: Vec<String> = l.split_whitespace().map(word).collect();
        words.join(" ")
    };
    let lines = text.lines().map(line);
    lines.filter(|l| !l.is_empty() && !l.starts_with("native:") && !l.starts_with("flags")).collect()
}

fn word(w: &str) -> String {
    let w = match w.split_once("/tmp/tmp") {
        // A made-up name, and what stands behind it.
        Some((before, after)) => {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
            format!("{before}/tmp/T{rest}")
        }
        None => w.to_string(),
    };
    let mut out = String::new();
    for c in w.chars() {
        match c.is_ascii_digit() {
            true if out.ends_with('N') => {}
            true => out.push('N'),
            false => out.push(c),
        }
    }
    // 0.2 ms or 240 µs.
    if out == "µs" { "ms".to_string() } else { out.replace("N.N", "N") }
}

#[test]
fn the_tutorial_tells_what_happens() {
    let version = run(Command::new("bash").args(["-c", "python3 --version"])).stdout;
    let minor: Option<u32> = version.strip_prefix("Python 3.").and_then(|v| v.split('.').next()?.parse().ok());
    if !has("bash") || !minor.is_some_and(|m| (10..=12).contains(&m)) {
        return skip("the tutorial", "no bash, or python3 is not CPython 3.10 to 3.12");
    }
    let file = root().join("docs/tutorial.md");
    let page = std::fs::read_to_string(&file).expect("docs/tutorial.md");
    let bless = std::env::var_os("FDWATCH_BLESS").is_some();
    let mut parts = page.split("```console\n$ ");
    let mut anew = parts.next().unwrap_or_default().to_string();
    let mut wrong = Vec::new();
    for part in parts {
        let (block, rest) = part.split_once("```").expect("the end of a block");
        let (command, told) = block.split_once('\n').expect("a command");
        let output = shown(command);
        anew += &format!("```console\n$ {command}\n{output}```{rest}");
        if lasting(told) != lasting(&output) {
            wrong.push(format!("$ {command}\ntold:\n{told}\nshown:\n{output}"));
        }
    }
    if bless {
        std::fs::write(&file, anew).expect("docs/tutorial.md");
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

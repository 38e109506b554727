//! The layers of `docs/internals.md`, checked: who may use whom, and where effects and `unsafe` may stand.
#![allow(clippy::expect_used, clippy::panic)] // a test may fail loudly

use std::path::{Path, PathBuf};

/// Each layer and those that it may use besides itself.
const LAYERS: [(&str, &[&str]); 15] = [
    ("base", &[]),
    ("event", &["base"]),
    ("syscall", &["base", "event"]),
    ("model", &["base", "event"]),
    ("identity", &["base", "event", "model"]),
    ("finding", &["base", "event", "model"]),
    ("policy", &["base", "event", "model", "finding"]),
    ("stack", &["base"]),
    ("kernel", &["base", "event", "syscall"]),
    ("render", &["base", "event", "model", "finding", "policy", "stack", "syscall"]),
    ("prompt", &["base", "event", "model", "finding", "policy", "stack", "syscall", "render"]),
    ("report", &["base", "event", "model", "identity", "finding", "policy", "stack", "syscall", "render"]),
    ("cli", &["base", "finding"]),
    ("config", &["base"]),
    (
        "session",
        &[
            "base", "event", "syscall", "model", "identity", "finding", "policy", "stack", "kernel", "render",
            "prompt", "report",
        ],
    ),
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            out.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    out
}

/// The lines of a file that are code, with their numbers; tests beside the code are left out.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(path).expect("a source file");
    let lines = text.lines().enumerate().map(|(i, l)| (i + 1, l.to_string()));
    lines
        .take_while(|(_, l)| !l.starts_with("#[cfg(test)]"))
        .filter(|(_, l)| !l.trim_start().starts_with("//"))
        .collect()
}

fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|s| s == "tests" || s == "testing" || s == "hostile")
}

#[test]
fn a_layer_uses_only_those_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (layer, below) in LAYERS {
        let file = src.join(format!("{layer}.rs"));
        let files = if file.exists() { vec![file] } else { sources(&src.join(layer)) };
        for path in files.iter().filter(|p| !is_test(p)) {
            for (n, line) in code(path) {
                for used in line.split("crate::").skip(1) {
                    let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    let is_layer = LAYERS.iter().any(|l| l.0 == used);
                    if is_layer && used != layer && !below.contains(&used.as_str()) {
                        wrong.push(format!("{}:{n}: {layer} uses {used}", path.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_in_one_file() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&src) {
        let allowed = path.ends_with("kernel/sys.rs");
        let used = code(&path).iter().any(|(_, l)| l.contains("unsafe {") || l.contains("allow(unsafe_code)"));
        assert!(allowed || !used, "{} has unsafe code", path.display());
    }
}

#[test]
fn only_the_kernel_layer_traces_and_waits() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&src) {
        if is_test(&path) || path.components().any(|c| c.as_os_str() == "kernel") {
            continue;
        }
        for (n, line) in code(&path) {
            let effect = ["ptrace::", "waitpid(", "wait4(", "process_vm_readv(", "\"/proc/"];
            // A file of our own by its number is no other process's business.
            let line = line.replace("/proc/self/fd/", "");
            let found = effect.iter().find(|e| line.contains(**e));
            assert!(found.is_none(), "{}:{n}: {}", path.display(), line.trim());
        }
    }
}

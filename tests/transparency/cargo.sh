# A crate without dependencies: built, tested, run.
cargo new -q --vcs none tiny && cd tiny
cat >src/main.rs <<'R'
use std::process::{Command, Stdio};
fn main() {
    let out = Command::new("echo").arg("from a child").output().unwrap();
    print!("{}", String::from_utf8_lossy(&out.stdout));
    let handles: Vec<_> = (0..8).map(|i| std::thread::spawn(move || {
        let name = format!("t{i}");
        (0..50).map(|n| { std::fs::write(&name, n.to_string()).unwrap(); std::fs::read(&name).unwrap().len() }).sum::<usize>()
    })).collect();
    println!("{}", handles.into_iter().map(|h| h.join().unwrap()).sum::<usize>());
    println!("{}", Command::new("sh").args(["-c", "exit 3"]).stdin(Stdio::null()).status().unwrap());
}
#[test]
fn tested() { assert_eq!(Command::new("true").status().unwrap().code(), Some(0)); }
R
cargo build -q --offline; echo "build: $?"
cargo run -q --offline; echo "run: $?"
cargo test -q --offline 2>&1 | sed 's/finished in .*/finished/'

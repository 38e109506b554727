//! docs/commands.md is what the table of commands says.
#![allow(clippy::expect_used)] // a test may fail loudly

use std::path::Path;

#[test]
fn the_page_of_commands_is_made_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let made = fdwatch::prompt::manual();
    if std::env::var_os("FDWATCH_BLESS").is_some() {
        std::fs::write(&path, &made).expect("docs/commands.md");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let first = made.lines().zip(there.lines()).find(|(a, b)| a != b);
    assert!(
        made == there,
        "docs/commands.md is not what the commands say (first difference: {first:?}); \
         FDWATCH_BLESS=1 cargo test --test manual writes it anew"
    );
}

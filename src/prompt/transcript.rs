//! What was done at the prompt, so that it can be done again: commands as they are, what they showed as comments.

use std::fs::File;
use std::io::Write;

/// A transcript that is being written.
#[derive(Debug)]
pub struct Transcript {
    /// `None` after a failure.
    file: Option<File>,
    name: String,
    /// What was shown of a line that has not ended.
    part: String,
}

impl Transcript {
    /// Writes to `file`, whose `name` is safe to show.
    pub fn new(file: File, name: String) -> Transcript {
        Transcript { file: Some(file), name, part: String::new() }
    }

    /// A command.
    pub(super) fn command(&mut self, line: &str) {
        self.end_line();
        self.put(&format!("{}\n", line.replace(['\n', '\r'], " ")));
    }

    /// What was shown.
    pub(super) fn output(&mut self, text: &str) {
        let text = anstream::adapter::strip_str(text).to_string();
        for piece in text.split_inclusive('\n') {
            self.part.push_str(piece);
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.part);
        let line = line.trim_end();
        if !line.is_empty() {
            self.put(&format!("# {line}\n"));
        }
    }

    fn put(&mut self, text: &str) {
        let Some(file) = &mut self.file else { return };
        if let Err(e) = file.write_all(text.as_bytes()) {
            self.file = None;
            let _ = writeln!(std::io::stderr(), "fdwatch: {}: {e}; the transcript ends here", self.name);
        }
    }
}

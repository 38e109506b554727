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
    /// What was shown since a command was read: it stands behind the command, which stands there if it was done.
    held: Option<String>,
}

impl Transcript {
    /// Writes to `file`, whose `name` is safe to show.
    pub fn new(file: File, name: String) -> Transcript {
        Transcript { file: Some(file), name, part: String::new(), held: None }
    }

    /// A command was read: what becomes of it is not known yet.
    pub(super) fn begin(&mut self) {
        self.held.get_or_insert_default();
    }

    /// It was done: these lines do it again.
    pub(super) fn command(&mut self, lines: &[String]) {
        self.end_line();
        for line in lines {
            self.put(&format!("{}\n", line.replace(['\n', '\r'], " ")));
        }
        self.release();
    }

    /// It was not done, or is done again by other means.
    pub(super) fn comment(&mut self, line: &str) {
        self.end_line();
        self.put(&format!("# {}\n", line.replace(['\n', '\r'], " ")));
        self.release();
    }

    fn release(&mut self) {
        if let Some(text) = self.held.take() {
            self.output(&text);
        }
    }

    /// What was shown.
    pub(super) fn output(&mut self, text: &str) {
        if let Some(held) = &mut self.held {
            held.push_str(text);
            return;
        }
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

//! The terminal: who owns it when, and a line editor on it.

use super::console::{Console, Input, Words};
use crate::base::Pid;
use crate::render::Style;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg};
use nix::sys::termios::{
    InputFlags, LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use nix::unistd::{getpgrp, tcgetpgrp, tcsetpgrp};
use rustyline::completion::Completer;
use rustyline::config::Behavior;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use terminal_size::{Height, Width};

/// How many lines are remembered.
const HISTORY: usize = 1000;

/// The controlling terminal.
///
/// It belongs to the target while that runs: [`Terminal::give_to`] when it starts, [`Terminal::take`] and
/// [`Terminal::give_back`] around a prompt, [`Terminal::reclaim`] when it is over.
pub struct Terminal {
    file: File,
    own: Termios,
    held: Option<Held>,
    editor: Option<Editor<Completion, FileHistory>>,
    history: Option<PathBuf>,
    /// Whether it is not the one that controls us: then nobody shares it, and it edits its lines itself.
    apart: bool,
}

/// How the terminal was when it was taken.
struct Held {
    mode: Termios,
    group: nix::unistd::Pid,
    size: Option<(Width, Height)>,
}

impl Terminal {
    /// Opens another terminal than the controlling one, which the target does not share.
    ///
    /// # Errors
    /// If it cannot be opened, or is no terminal.
    pub fn open_apart(path: &Path) -> io::Result<Terminal> {
        let file = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)?;
        let own = sane(tcgetattr(&file)?);
        Ok(Terminal { file, own, held: None, editor: None, history: None, apart: true })
    }

    /// Whether it is another than the controlling terminal.
    pub fn is_apart(&self) -> bool {
        self.apart
    }

    /// Opens /dev/tty; an error when there is no controlling terminal.
    pub fn open() -> io::Result<Terminal> {
        let file = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/tty")?;
        let own = sane(tcgetattr(&file)?);
        Ok(Terminal { file, own, held: None, editor: None, history: history_file(), apart: false })
    }

    /// Whether this process is in the foreground: it may read, and Ctrl-C goes to it.
    pub fn is_ours(&self) -> bool {
        tcgetpgrp(&self.file) == Ok(getpgrp())
    }

    /// Whether somebody else has it by now, as the shell that we are a job of, in the background: neither we, nor one of
    /// the groups that `shares` says it is shared with, nor a group that is gone.
    pub fn is_lost(&self, shares: impl FnOnce(Pid) -> bool) -> bool {
        if self.apart {
            return false;
        }
        let Ok(group) = tcgetpgrp(&self.file) else { return false };
        group != getpgrp() && killpg(group, None) != Err(Errno::ESRCH) && !shares(Pid(group.as_raw()))
    }

    /// The N of `/dev/pts/N`, where it is a pseudo-terminal.
    pub fn number(&self) -> Option<u32> {
        nix::unistd::ttyname(std::io::stdin()).ok()?.to_str()?.strip_prefix("/dev/pts/")?.parse().ok()
    }

    /// How many columns it has now; `None` where it does not say.
    pub fn columns(&self) -> Option<usize> {
        let (width, _) = self.size()?;
        (width.0 > 0).then(|| usize::from(width.0))
    }

    fn size(&self) -> Option<(Width, Height)> {
        terminal_size::terminal_size_of(&self.file)
    }

    /// Makes process group `pgid` the one in the foreground: it may read, and Ctrl-C goes to it.
    pub fn give_to(&mut self, pgid: Pid) -> io::Result<()> {
        self.quietly(|t| tcsetpgrp(&t.file, nix::unistd::Pid::from_raw(pgid.0)))
    }

    /// Takes the terminal from whoever has it, and remembers how they had it.
    pub fn take(&mut self) -> io::Result<()> {
        if self.apart {
            // Whoever used it last may have left it in another mode.
            return Ok(tcsetattr(&self.file, SetArg::TCSANOW, &self.own)?);
        }
        if self.held.is_some() {
            return Ok(());
        }
        let theirs = Held { mode: tcgetattr(&self.file)?, group: tcgetpgrp(&self.file)?, size: self.size() };
        let mode = if self.edits() { without_quit(self.own.clone()) } else { self.own.clone() };
        self.quietly(|t| {
            tcsetpgrp(&t.file, getpgrp())?;
            tcsetattr(&t.file, SetArg::TCSANOW, &mode)
        })?;
        // The cursor of a full-screen program is anywhere: what stands below it would stand between our lines. It draws that
        // anew when it gets the terminal back (ECMA-48, ED).
        if draws(&theirs.mode) && self.edits() {
            self.file.write_all(b"\r\n\x1b[0m\x1b[J")?;
        }
        self.held = Some(theirs);
        Ok(())
    }

    /// Gives the terminal back as it was taken. What was typed and not read yet stays for the target. Whoever gets it
    /// back is told of another size, as the kernel tells the group in the foreground alone (SIGWINCH, ioctl_tty(2)); and so is
    /// who reads single keys, of the same size: what stands on the screen is not what it drew, and a full-screen program, or
    /// a line editor, draws it anew. Who does not care for the size is not disturbed (signal(7): ignored by default).
    pub fn give_back(&mut self) -> io::Result<()> {
        let Some(Held { mode, group, size }) = self.held.take() else { return Ok(()) };
        let draws = draws(&mode);
        self.quietly(|t| {
            tcsetattr(&t.file, SetArg::TCSANOW, &mode)?;
            match tcsetpgrp(&t.file, group) {
                // The group is gone: whoever comes next takes the terminal for itself.
                Err(Errno::ESRCH | Errno::EPERM | Errno::EINVAL) => Ok(()),
                r => r,
            }
        })?;
        // Read with the terminal given back: of what changes from here on the kernel tells the group itself.
        if group != getpgrp() && (self.size() != size || draws) {
            // It may be gone: then there is nobody to be told.
            let _ = killpg(group, Signal::SIGWINCH);
        }
        Ok(())
    }

    /// Takes the terminal for good, when the target is over.
    pub fn reclaim(&mut self) -> io::Result<()> {
        if self.apart {
            return Ok(());
        }
        self.held = None;
        self.quietly(|t| {
            tcsetpgrp(&t.file, getpgrp())?;
            tcsetattr(&t.file, SetArg::TCSANOW, &t.own)
        })
    }

    /// The terminal as a stream, to ask it about colour.
    pub fn stream(&self) -> &File {
        &self.file
    }

    /// Does something that the kernel answers with SIGTTOU when it is done from the background (tcsetpgrp(3)): with
    /// the signal blocked it is simply done.
    fn quietly(&mut self, what: impl FnOnce(&mut Terminal) -> nix::Result<()>) -> io::Result<()> {
        let mut ttou = SigSet::empty();
        ttou.add(Signal::SIGTTOU);
        let old = ttou.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let done = what(self);
        old.thread_set_mask()?;
        Ok(done?)
    }

    /// Whether lines are edited here; otherwise the terminal does it.
    fn edits(&self) -> bool {
        !self.apart && !is_simple(std::env::var("TERM").ok().as_deref())
    }

    /// The line editor; `None` where the terminal is too simple for one.
    fn editor(&mut self) -> Option<&mut Editor<Completion, FileHistory>> {
        if self.editor.is_none() && self.edits() {
            let config = Config::builder()
                .behavior(Behavior::PreferTerm)
                .completion_type(CompletionType::List)
                .max_history_size(HISTORY)
                .ok()?
                .history_ignore_dups(true)
                .ok()?
                .build();
            let history = FileHistory::with_config(&config);
            let mut editor = Editor::with_history(config, history).ok()?;
            editor.set_helper(Some(Completion::default()));
            if let Some(path) = &self.history {
                // There is none yet, or it cannot be read: then this session begins one.
                let _ = editor.load_history(path);
            }
            self.editor = Some(editor);
        }
        self.editor.as_mut()
    }

    /// A line as the terminal itself edits it. Nothing behind the line is read.
    fn plain(&mut self, prompt: &str) -> io::Result<Input> {
        self.file.write_all(prompt.as_bytes())?;
        let mut buf = [0; 4096];
        match self.file.read(&mut buf) {
            Ok(0) => Ok(Input::End),
            Ok(n) => {
                let text = String::from_utf8_lossy(buf.get(..n).unwrap_or_default());
                Ok(Input::Line(text.trim_end_matches('\n').to_string()))
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Input::Interrupted),
            Err(e) => Err(e),
        }
    }
}

impl Console for Terminal {
    fn read(&mut self, prompt: &str, words: &Words) -> io::Result<Input> {
        let path = self.history.clone();
        let Some(editor) = self.editor() else { return self.plain(prompt) };
        if let Some(helper) = editor.helper_mut() {
            helper.words = words.clone();
        }
        match editor.readline(prompt) {
            Ok(line) => {
                let is_answer = *words == Words::default();
                if !is_answer && !line.trim().is_empty() {
                    let _ = editor.add_history_entry(line.as_str());
                    if let Some(path) = path {
                        let _ = editor.append_history(&path);
                    }
                }
                Ok(Input::Line(line))
            }
            Err(ReadlineError::Eof) => Ok(Input::End),
            Err(ReadlineError::Interrupted) => Ok(Input::Interrupted),
            Err(ReadlineError::Io(e)) => Err(e),
            Err(e) => Err(io::Error::other(e.to_string())),
        }
    }

    fn write(&mut self, text: &str) {
        let _ = self.file.write_all(text.as_bytes());
    }

    fn fit(&self, style: Style) -> Style {
        style.with_width(self.columns())
    }
}

/// A mode in which lines can be read and written, whatever was left behind.
fn sane(mut mode: Termios) -> Termios {
    mode.input_flags |= InputFlags::ICRNL;
    mode.output_flags |= OutputFlags::OPOST | OutputFlags::ONLCR;
    mode.local_flags |= LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN;
    mode
}

/// The same with no key that quits. The editor takes that for an interrupt and forgets what was typed behind it; without
/// it, the key means nothing to it.
fn without_quit(mut mode: Termios) -> Termios {
    let index = |c: SpecialCharacterIndices| c as usize;
    let interrupt = mode.control_chars.get(index(SpecialCharacterIndices::VINTR)).copied();
    // Both keys are looked up: the same for both adds no other.
    if let (Some(quit), Some(interrupt)) =
        (mode.control_chars.get_mut(index(SpecialCharacterIndices::VQUIT)), interrupt)
    {
        *quit = interrupt;
    }
    mode
}

/// Whether who set this mode reads single keys, as what fills the screen does, and line editors.
fn draws(mode: &Termios) -> bool {
    !mode.local_flags.contains(LocalFlags::ICANON)
}

/// Whether the editor would refuse the terminal and turn to stdin and stdout, which are the target's.
fn is_simple(term: Option<&str>) -> bool {
    matches!(term.map(str::to_ascii_lowercase).as_deref(), Some("dumb" | "cons25" | "emacs" | ""))
}

/// Where typed lines are kept (XDG base directory specification); `None` where there is no place.
fn history_file() -> Option<PathBuf> {
    let absolute = |p: PathBuf| p.is_absolute().then_some(p);
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).and_then(absolute);
    let state = state.or_else(|| Some(absolute(std::env::var_os("HOME")?.into())?.join(".local/state")))?;
    let dir = state.join("fdwatch");
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    Some(dir.join("history"))
}

/// Completes words.
#[derive(Default)]
struct Completion {
    words: Words,
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.words.complete(line.get(..pos).unwrap_or_default()))
    }
}

impl Hinter for Completion {
    type Hint = String;
}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;
    use rexpect::session::{Options, spawn_with_options};
    use std::process::Command;

    #[test]
    fn simple_terminals_are_known() {
        assert!(is_simple(Some("dumb")) && is_simple(Some("")));
        assert!(!is_simple(Some("xterm-256color")) && !is_simple(None));
    }

    /// Not a test by itself: what runs on the terminal of the tests below. Reads four lines as four prompts would, the
    /// terminal given back in between, and then one as a target would.
    #[test]
    #[ignore = "run by the tests of the terminal"]
    fn on_a_terminal() {
        let Ok(mut t) = Terminal::open() else { return };
        let words = Words::default();
        for _ in 0..4 {
            t.take().unwrap();
            let got = t.read("(p) ", &words).unwrap();
            t.give_back().unwrap();
            t.write(&format!("<{got:?}>\n"));
        }
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        t.reclaim().unwrap();
        t.write(&format!("<target {line:?}>\n"));
    }

    /// Not a test by itself either: gives the terminal to a process group of its own, takes it and gives it back.
    #[test]
    #[ignore = "run by the tests of the terminal"]
    fn owner_of_a_terminal() {
        use std::os::unix::process::CommandExt;
        let Ok(mut t) = Terminal::open() else { return };
        let mut child = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let group = nix::unistd::Pid::from_raw(child.id() as i32);
        t.give_to(Pid(group.as_raw())).unwrap();
        let mut raw = tcgetattr(&t.file).unwrap();
        raw.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON);
        t.quietly(|t| tcsetattr(&t.file, SetArg::TCSANOW, &raw)).unwrap();
        assert_eq!(tcgetpgrp(&t.file).unwrap(), group);
        t.take().unwrap();
        t.take().unwrap();
        assert_eq!(tcgetpgrp(&t.file).unwrap(), getpgrp());
        assert!(tcgetattr(&t.file).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON));
        t.give_back().unwrap();
        assert_eq!(tcgetpgrp(&t.file).unwrap(), group);
        assert!(!tcgetattr(&t.file).unwrap().local_flags.intersects(LocalFlags::ECHO | LocalFlags::ICANON));
        t.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        t.give_back().expect("a group that is gone is no error");
        t.reclaim().unwrap();
        assert_eq!(tcgetpgrp(&t.file).unwrap(), getpgrp());
        t.write("<all is well>\n");
    }

    #[test]
    fn the_terminal_is_given_taken_and_given_back() {
        let mut p = spawn_test("prompt::tty::tests::owner_of_a_terminal", "xterm");
        p.exp_string("<all is well>").unwrap();
    }

    fn spawn(term: &str) -> rexpect::session::PtySession {
        spawn_test("prompt::tty::tests::on_a_terminal", term)
    }

    fn spawn_test(name: &str, term: &str) -> rexpect::session::PtySession {
        let mut c = Command::new(std::env::current_exe().unwrap());
        c.args([name, "--exact", "--ignored", "--nocapture"]).env("TERM", term).env("XDG_STATE_HOME", "/nonexistent");
        spawn_with_options(c, Options::new().timeout_ms(Some(20_000))).unwrap()
    }

    #[test]
    fn lines_typed_ahead_reach_the_next_prompt() {
        for term in ["xterm", "dumb"] {
            let mut p = spawn(term);
            p.exp_string("(p) ").unwrap();
            // One write: the editor reads it all with the first line.
            p.send("bt\ncontinue\nfd 3\n").unwrap();
            p.flush().unwrap();
            for line in ["bt", "continue", "fd 3"] {
                p.exp_string(&format!("<Line(\"{line}\")>")).unwrap();
            }
            p.exp_string("(p) ").unwrap();
            p.send_line("last").unwrap();
            p.exp_string("<Line(\"last\")>").unwrap();
            p.send_line("to the target").unwrap();
            p.exp_string("<target \"to the target\\n\">").unwrap();
        }
    }

    #[test]
    fn a_bracketed_paste_is_one_input_and_ctrl_c_and_ctrl_d_are_told_apart() {
        let mut p = spawn("xterm");
        p.exp_string("(p) ").unwrap();
        p.send("\x1b[200~bt\rcontinue\x1b[201~\r").unwrap();
        p.flush().unwrap();
        p.exp_string("<Line(\"bt\\ncontinue\")>").unwrap();
        p.exp_string("(p) ").unwrap();
        p.send_control('c').unwrap();
        p.exp_string("<Interrupted>").unwrap();
        p.exp_string("(p) ").unwrap();
        p.send_control('d').unwrap();
        p.exp_string("<End>").unwrap();
    }
}

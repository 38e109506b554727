//! Settings from files: the user's own, and a project's up the tree. They become options that stand before those of the
//! command line, so that the command line wins.
//!
//! A repository is not always a friend: a project's file may say how things look and where to break. What runs commands,
//! changes what the target sees, asks the network or hides findings counts only when the user trusts the very text of the file.

use crate::base::nearest;
use crate::base::text::escape;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A setting.
struct Key {
    name: &'static str,
    /// The subcommands that have it as an option of the same name.
    commands: &'static [&'static str],
    kind: Kind,
    /// What a project's file may say without being trusted.
    trust: Trust,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Anything.
    Needless,
    /// Anything but this.
    For(&'static str),
    /// Nothing.
    Needed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One of these.
    Word(&'static [&'static str]),
    Number,
    Flag,
    /// Text, or a list of texts.
    Texts,
    /// Patterns of paths, likewise.
    Patterns,
    /// A descriptor, or a list.
    Numbers,
}

const WATCH: &[&str] = &["run", "audit", "attach"];
const PROMPT: &[&str] = &["run", "attach"];
const VERDICT: &[&str] = &["audit", "attach", "replay"];
const COLOR: &[&str] = &["run", "audit", "attach", "replay", "show", "diff"];

const KEYS: &[Key] = &[
    Key { name: "color", commands: COLOR, kind: Kind::Word(&["auto", "always", "never"]), trust: Trust::Needless },
    Key {
        name: "break",
        commands: PROMPT,
        kind: Kind::Word(&["escaped", "implicit", "none"]),
        trust: Trust::For("none"),
    },
    Key { name: "fd", commands: PROMPT, kind: Kind::Numbers, trust: Trust::Needless },
    Key { name: "path", commands: PROMPT, kind: Kind::Patterns, trust: Trust::Needless },
    Key { name: "co-locate", commands: WATCH, kind: Kind::Word(&["auto", "off"]), trust: Trust::Needless },
    Key { name: "ex", commands: PROMPT, kind: Kind::Texts, trust: Trust::Needed },
    Key { name: "inject", commands: WATCH, kind: Kind::Texts, trust: Trust::Needed },
    Key { name: "debuginfod", commands: WATCH, kind: Kind::Flag, trust: Trust::Needed },
    Key { name: "no-seccomp", commands: WATCH, kind: Kind::Flag, trust: Trust::Needed },
    Key {
        name: "fail-on",
        commands: VERDICT,
        kind: Kind::Word(&["note", "warning", "error", "never"]),
        trust: Trust::Needed,
    },
    Key { name: "error-exitcode", commands: VERDICT, kind: Kind::Number, trust: Trust::Needed },
];

/// The name of a project's file.
pub const PROJECT: &str = ".fdwatch.toml";

/// Files are not longer than this.
const LONGEST: u64 = 64 << 10;

/// A setting as options: `--path`, `/tmp/*`.
type Options = Vec<(&'static str, Option<String>)>;

/// What a file says.
#[derive(Debug, Default)]
struct Settings {
    given: Vec<(usize, Options)>,
}

/// Says what is wrong with the values of a key that only those who heed it can judge: a script, alterations.
pub type Judge<'a> = &'a dyn Fn(&str, &[&str]) -> Result<(), String>;

/// Reads the text of a file; what `judge` refuses is refused with the line.
fn read(text: &str, judge: Judge<'_>) -> Result<Settings, String> {
    let line = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count() + 1;
    let table: BTreeMap<String, toml::Spanned<toml::Value>> = toml::from_str(text).map_err(|e: toml::de::Error| {
        let line = e.span().map(|s| format!("line {}: ", line(s.start))).unwrap_or_default();
        format!("{line}{}", escape(e.message().as_bytes()))
    })?;
    let mut settings = Settings::default();
    for (name, value) in &table {
        let shown = escape(name.as_bytes());
        let Some((i, key)) = KEYS.iter().enumerate().find(|(_, k)| k.name == name) else {
            let names = || KEYS.iter().map(|k| k.name);
            return Err(match nearest(name, names()) {
                Some(n) => format!("unknown key \"{shown}\"; did you mean {n}?"),
                None => format!("unknown key \"{shown}\"; there are {}", names().collect::<Vec<_>>().join(", ")),
            });
        };
        let options = options(key, value.get_ref()).map_err(|e| format!("{shown}: {e}"))?;
        let values: Vec<&str> = options.iter().filter_map(|(_, value)| value.as_deref()).collect();
        judge(name, &values).map_err(|e| format!("line {}: {shown}: {e}", line(value.span().start)))?;
        settings.given.push((i, options));
    }
    settings.given.sort_by_key(|g| g.0);
    Ok(settings)
}

fn options(key: &Key, value: &toml::Value) -> Result<Options, String> {
    let one = |text: String| (key.name, Some(text));
    let list = |value: &toml::Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    Ok(match key.kind {
        Kind::Word(words) => {
            let given = value.as_str().ok_or_else(|| format!("one of {} is wanted, in quotes", words.join(", ")))?;
            let word = words.iter().find(|w| **w == given).ok_or_else(|| {
                let shown = escape(given.as_bytes());
                match nearest(given, words.iter().copied()) {
                    Some(n) => format!("\"{shown}\" is none of its values; did you mean {n}?"),
                    None => format!("\"{shown}\" is none of its values: {}", words.join(", ")),
                }
            })?;
            vec![one((*word).to_string())]
        }
        Kind::Number => {
            let n = value.as_integer().filter(|n| (0..=255).contains(n)).ok_or("a number from 0 to 255 is wanted")?;
            vec![one(n.to_string())]
        }
        Kind::Flag => match value.as_bool().ok_or("true or false is wanted")? {
            true => vec![(key.name, None)],
            false => Vec::new(),
        },
        Kind::Texts => {
            let text = |v: &toml::Value| v.as_str().map(|s| one(s.to_string()));
            list(value).iter().map(text).collect::<Option<_>>().ok_or("text in quotes is wanted, or a list of such")?
        }
        Kind::Patterns => {
            let pattern = |v: &toml::Value| {
                let text = v.as_str().ok_or("a pattern in quotes is wanted, or a list of such")?;
                let wrong =
                    |e: glob::PatternError| format!("\"{}\": {} at position {}", escape(text.as_bytes()), e.msg, e.pos);
                glob::Pattern::new(text).map(|_| one(text.to_string())).map_err(wrong)
            };
            list(value).iter().map(pattern).collect::<Result<_, String>>()?
        }
        Kind::Numbers => {
            let number =
                |v: &toml::Value| Some(one(i32::try_from(v.as_integer()?).ok().filter(|n| *n >= 0)?.to_string()));
            list(value).iter().map(number).collect::<Option<_>>().ok_or("a descriptor is wanted, or a list of such")?
        }
    })
}

/// Where the user's settings are (XDG base directory specification); `None` where there is no place.
fn folder() -> Option<PathBuf> {
    let absolute = |p: PathBuf| p.is_absolute().then_some(p);
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).and_then(absolute);
    let config = config.or_else(|| Some(absolute(std::env::var_os("HOME")?.into())?.join(".config")))?;
    Some(config.join("fdwatch"))
}

/// The project's file that counts in this folder: the nearest up the tree.
fn project() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().map(|d| d.join(PROJECT)).find(|p| p.is_file())
}

fn text_of(path: &Path) -> Result<Option<String>, String> {
    let said = |e: std::io::Error| format!("{}: {e}", escape(path.as_os_str().as_bytes()));
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        // HOME is somebody else's, as with setpriv(1) and some uses of sudo(8): what is there is not this user's.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return Ok(None),
        Err(e) => return Err(said(e)),
        Ok(m) if m.len() > LONGEST => return Err(format!("{}: it is too long", escape(path.as_os_str().as_bytes()))),
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(said)
}

/// Where the text of a trusted file is kept, to compare it.
fn kept(path: &Path) -> Option<PathBuf> {
    let name: String = path.as_os_str().as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    // A name may have 255 bytes; of a longer one the end tells the files apart, and their texts are compared anyway.
    let end = name.get(name.len().saturating_sub(240)..)?.to_string();
    Some(folder()?.join("trusted").join(end))
}

fn is_trusted(path: &Path, text: &str) -> bool {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    kept(&path).and_then(|k| std::fs::read_to_string(k).ok()).is_some_and(|k| k == text)
}

/// Trusts the project's file as it is now. Gives its path, its text, and what it says that needs trust.
///
/// # Errors
/// A sentence: there is none, or it is wrong, or the trust cannot be kept.
pub fn trust(judge: Judge<'_>) -> Result<(PathBuf, String, Vec<&'static str>), String> {
    let path = project().ok_or(format!("there is no {PROJECT} in this folder or above it"))?;
    let path = std::fs::canonicalize(&path).unwrap_or(path);
    let name = escape(path.as_os_str().as_bytes());
    let text = text_of(&path)?.ok_or(format!("{name} is gone"))?;
    let settings = read(&text, judge).map_err(|e| format!("{name}: {e}"))?;
    let to = kept(&path).ok_or("there is no folder to keep the trust in: set HOME")?;
    let said = |e: std::io::Error| format!("{}: {e}", escape(to.as_os_str().as_bytes()));
    std::fs::create_dir_all(to.parent().unwrap_or(Path::new("/"))).map_err(said)?;
    std::fs::write(&to, &text).map_err(said)?;
    Ok((path, text, settings.risky().collect()))
}

impl Settings {
    /// The keys that need trust in a project's file.
    fn risky(&self) -> impl Iterator<Item = &'static str> {
        let keys = self.given.iter().filter_map(|(i, options)| Some((KEYS.get(*i)?, options)));
        keys.filter(|(k, options)| k.needs_trust(options)).map(|(k, _)| k.name)
    }
}

impl Key {
    /// Whether a project's file has to be trusted that says this.
    fn needs_trust(&self, options: &Options) -> bool {
        match self.trust {
            Trust::Needless => false,
            Trust::For(word) => options.iter().any(|(_, value)| value.as_deref() == Some(word)),
            Trust::Needed => true,
        }
    }

    /// Whether what a later file says comes to what an earlier one says, and does not replace it.
    fn adds_up(&self) -> bool {
        matches!(self.kind, Kind::Texts | Kind::Patterns | Kind::Numbers)
    }

    /// Whether it says where to break.
    fn is_break(&self) -> bool {
        matches!(self.name, "break" | "fd" | "path")
    }
}

/// What the files say, each with whether it is trusted, as options of `command`, for one that opens a prompt or not.
fn arguments(command: &str, files: Vec<(Settings, bool)>, prompts: bool) -> Vec<OsString> {
    let mut all: Vec<(&Key, Options)> = Vec::new();
    for (settings, trusted) in files {
        for (i, options) in settings.given {
            let Some(key) = KEYS.get(i).filter(|k| k.commands.contains(&command)) else { continue };
            if !trusted && key.needs_trust(&options) {
                continue;
            }
            if !key.adds_up() {
                all.retain(|(k, _)| k.name != key.name);
            }
            all.push((key, options));
        }
    }
    // Who asks for no prompt has not asked to be stopped, and attach refuses to be told where.
    let prompts = prompts || all.iter().any(|(k, _)| k.name == "ex");
    let counts = |k: &Key| prompts || !k.is_break();
    let options = all.into_iter().filter(|(k, _)| counts(k)).flat_map(|(_, options)| options);
    let written = options.map(|(name, value)| match value {
        Some(value) => format!("--{name}={value}"),
        None => format!("--{name}"),
    });
    written.map(OsString::from).collect()
}

/// The command line with the settings of the files before its own, and what the user should know about these. Where to
/// break counts only for one that `prompts`.
///
/// # Errors
/// With the file: what is wrong there.
pub fn with_files(
    args: Vec<OsString>,
    prompts: bool,
    judge: Judge<'_>,
) -> Result<(Vec<OsString>, Vec<String>), String> {
    let mut notes = Vec::new();
    let Some(command) = args.get(1).and_then(|a| a.to_str()).filter(|c| KEYS.iter().any(|k| k.commands.contains(c)))
    else {
        return Ok((args, notes));
    };
    let mut files = Vec::new();
    let own = folder().map(|f| f.join("config.toml"));
    for (path, is_own) in own.into_iter().map(|p| (p, true)).chain(project().into_iter().map(|p| (p, false))) {
        let name = escape(path.as_os_str().as_bytes());
        let Some(text) = text_of(&path)? else { continue };
        let settings = read(&text, judge).map_err(|e| format!("{name}: {e}"))?;
        let trusted = is_own || is_trusted(&path, &text);
        if !trusted {
            let held: Vec<&str> = settings.risky().collect();
            if !held.is_empty() {
                notes
                    .push(format!("{name}: {} not heeded, as you do not trust it: see fdwatch trust", held.join(", ")));
            }
        }
        files.push((settings, trusted));
    }
    let added = arguments(command, files, prompts);
    let mut all = args;
    let at = 2.min(all.len());
    all.splice(at..at, added);
    Ok((all, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        super::read(text, &|_, _| Ok(()))
    }

    #[test]
    fn settings_become_options_of_the_commands_that_have_them() {
        let text = "color = \"never\"\npath = [\"/tmp/*\", \"a\"]\nfd = 3\nex = \"bt\"\ndebuginfod = true\nfail-on = \"note\"\n";
        let strings = |all: Vec<OsString>| all.into_iter().map(|a| a.into_string().unwrap()).collect::<Vec<_>>();
        let of = |command, trusted| strings(arguments(command, vec![(read(text).unwrap(), trusted)], true));
        assert_eq!(
            of("run", true),
            ["--color=never", "--fd=3", "--path=/tmp/*", "--path=a", "--ex=bt", "--debuginfod"]
        );
        assert_eq!(of("run", false), ["--color=never", "--fd=3", "--path=/tmp/*", "--path=a"]);
        assert_eq!(of("audit", true), ["--color=never", "--debuginfod", "--fail-on=note"]);
        assert_eq!(of("explain", true), Vec::<String>::new());
        assert_eq!(read(text).unwrap().risky().collect::<Vec<_>>(), ["ex", "debuginfod", "fail-on"]);
        // Where to break, for a command that opens no prompt.
        let without = |text| strings(arguments("attach", vec![(read(text).unwrap(), true)], false));
        assert_eq!(without("color = \"never\"\npath = \"/a\"\nbreak = \"implicit\"\nfd = [3]"), ["--color=never"]);
        assert_eq!(without("fd = 3\nex = \"bt\""), ["--fd=3", "--ex=bt"]);
    }

    #[test]
    fn a_later_file_replaces_and_lists_add_up() {
        let of = |own: &str, project: &str, trusted| {
            let files = vec![(read(own).unwrap(), true), (read(project).unwrap(), trusted)];
            arguments("run", files, true).into_iter().map(|a| a.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(of("debuginfod = true\nfd = 3", "debuginfod = false\nfd = 4", true), ["--fd=3", "--fd=4"]);
        assert_eq!(of("debuginfod = true", "debuginfod = false", false), ["--debuginfod"]);
        assert_eq!(of("debuginfod = false", "debuginfod = true", true), ["--debuginfod"]);
        assert_eq!(of("", "break = \"none\"", false), Vec::<String>::new());
        assert_eq!(of("", "break = \"none\"", true), ["--break=none"]);
        assert_eq!(of("break = \"none\"", "break = \"implicit\"", false), ["--break=implicit"]);
        assert_eq!(read("break = \"none\"\ncolor = \"never\"").unwrap().risky().collect::<Vec<_>>(), ["break"]);
        assert_eq!(read("break = \"implicit\"").unwrap().risky().count(), 0);
    }

    #[test]
    fn mistakes_name_the_nearest() {
        for (text, expected) in [
            ("colour = \"never\"", "unknown key \"colour\"; did you mean color?"),
            ("color = \"nevr\"", "color: \"nevr\" is none of its values; did you mean never?"),
            ("color = 3", "color: one of auto, always, never is wanted, in quotes"),
            ("fd = -1", "fd: a descriptor is wanted, or a list of such"),
            ("fd = [3, 2147483648]", "fd: a descriptor is wanted, or a list of such"),
            (
                "path = [\"/a\", \"/***\"]",
                "path: \"/***\": wildcards are either regular `*` or recursive `**` at position 3",
            ),
            ("path = 3", "path: a pattern in quotes is wanted, or a list of such"),
            ("error-exitcode = 300", "error-exitcode: a number from 0 to 255 is wanted"),
            ("no-seccomp = 1", "no-seccomp: true or false is wanted"),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
        assert!(read("\ncolor = ").unwrap_err().starts_with("line 2: "));
    }
}

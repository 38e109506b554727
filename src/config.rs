//! Settings from files: the user's own, and a project's up the tree. They become options that stand before those of the
//! command line, so that the command line wins.
//!
//! A repository is not always a friend: a project's file may say how things look and where to break. What runs commands,
//! changes what the target sees, asks the network or hides findings counts only when the user trusts the very text of the file.

use crate::base::nearest;
use crate::base::text::escape;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A setting.
struct Key {
    name: &'static str,
    /// The subcommands that have it as an option of the same name.
    commands: &'static [&'static str],
    kind: Kind,
    /// Whether a project's file may say it without being trusted.
    harmless: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One of these.
    Word(&'static [&'static str]),
    Number,
    Flag,
    /// Text, or a list of texts.
    Texts,
    /// A number, or a list.
    Numbers,
}

const WATCH: &[&str] = &["run", "audit", "attach"];
const PROMPT: &[&str] = &["run", "attach"];
const VERDICT: &[&str] = &["audit", "attach", "replay"];
const COLOR: &[&str] = &["run", "audit", "attach", "replay", "show", "diff"];

const KEYS: &[Key] = &[
    Key { name: "color", commands: COLOR, kind: Kind::Word(&["auto", "always", "never"]), harmless: true },
    Key { name: "break", commands: PROMPT, kind: Kind::Word(&["escaped", "implicit", "none"]), harmless: true },
    Key { name: "fd", commands: PROMPT, kind: Kind::Numbers, harmless: true },
    Key { name: "path", commands: PROMPT, kind: Kind::Texts, harmless: true },
    Key { name: "co-locate", commands: WATCH, kind: Kind::Word(&["auto", "off"]), harmless: true },
    Key { name: "ex", commands: PROMPT, kind: Kind::Texts, harmless: false },
    Key { name: "inject", commands: WATCH, kind: Kind::Texts, harmless: false },
    Key { name: "debuginfod", commands: WATCH, kind: Kind::Flag, harmless: false },
    Key { name: "no-seccomp", commands: WATCH, kind: Kind::Flag, harmless: false },
    Key {
        name: "fail-on",
        commands: VERDICT,
        kind: Kind::Word(&["note", "warning", "error", "never"]),
        harmless: false,
    },
    Key { name: "error-exitcode", commands: VERDICT, kind: Kind::Number, harmless: false },
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

/// Reads the text of a file.
fn read(text: &str) -> Result<Settings, String> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        let line = e.span().map(|s| text.get(..s.start).unwrap_or_default().matches('\n').count() + 1);
        format!("{}{}", line.map(|n| format!("line {n}: ")).unwrap_or_default(), escape(e.message().as_bytes()))
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
        settings.given.push((i, options(key, value).map_err(|e| format!("{shown}: {e}"))?));
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
        Kind::Numbers => {
            let number = |v: &toml::Value| v.as_integer().filter(|n| *n >= 0).map(|n| one(n.to_string()));
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
pub fn trust() -> Result<(PathBuf, String, Vec<&'static str>), String> {
    let path = project().ok_or(format!("there is no {PROJECT} in this folder or above it"))?;
    let path = std::fs::canonicalize(&path).unwrap_or(path);
    let name = escape(path.as_os_str().as_bytes());
    let text = text_of(&path)?.ok_or(format!("{name} is gone"))?;
    let settings = read(&text).map_err(|e| format!("{name}: {e}"))?;
    let to = kept(&path).ok_or("there is no folder to keep the trust in: set HOME")?;
    let said = |e: std::io::Error| format!("{}: {e}", escape(to.as_os_str().as_bytes()));
    std::fs::create_dir_all(to.parent().unwrap_or(Path::new("/"))).map_err(said)?;
    std::fs::write(&to, &text).map_err(said)?;
    Ok((path, text, settings.risky().collect()))
}

impl Settings {
    /// The keys that need trust in a project's file.
    fn risky(&self) -> impl Iterator<Item = &'static str> {
        self.given.iter().filter_map(|(i, _)| KEYS.get(*i)).filter(|k| !k.harmless).map(|k| k.name)
    }

    /// As options of `command`.
    fn arguments(&self, command: &str, trusted: bool) -> Vec<OsString> {
        let mut out = Vec::new();
        for (i, options) in &self.given {
            let counts = KEYS.get(*i).is_some_and(|k| k.commands.contains(&command) && (k.harmless || trusted));
            for (name, value) in options.iter().filter(|_| counts) {
                out.push(OsString::from(match value {
                    Some(value) => format!("--{name}={value}"),
                    None => format!("--{name}"),
                }));
            }
        }
        out
    }
}

/// The command line with the settings of the files before its own, and what the user should know about these.
///
/// # Errors
/// With the file: what is wrong there.
pub fn with_files(args: Vec<OsString>) -> Result<(Vec<OsString>, Vec<String>), String> {
    let mut notes = Vec::new();
    let Some(command) = args.get(1).and_then(|a| a.to_str()).filter(|c| KEYS.iter().any(|k| k.commands.contains(c)))
    else {
        return Ok((args, notes));
    };
    let mut added = Vec::new();
    let own = folder().map(|f| f.join("config.toml"));
    for (path, is_own) in own.into_iter().map(|p| (p, true)).chain(project().into_iter().map(|p| (p, false))) {
        let name = escape(path.as_os_str().as_bytes());
        let Some(text) = text_of(&path)? else { continue };
        let settings = read(&text).map_err(|e| format!("{name}: {e}"))?;
        let trusted = is_own || is_trusted(&path, &text);
        let arguments = settings.arguments(command, trusted);
        if !trusted {
            let held: Vec<&str> = settings.risky().collect();
            if !held.is_empty() {
                notes
                    .push(format!("{name}: {} not heeded, as you do not trust it: see fdwatch trust", held.join(", ")));
            }
        }
        added.extend(arguments);
    }
    let mut all = args;
    let at = 2.min(all.len());
    all.splice(at..at, added);
    Ok((all, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_options_of_the_commands_that_have_them() {
        let s = read("color = \"never\"\npath = [\"/tmp/*\", \"a\"]\nfd = 3\nex = \"bt\"\ndebuginfod = true\nfail-on = \"note\"\n").unwrap();
        let of = |command, trusted| {
            s.arguments(command, trusted).into_iter().map(|a| a.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(
            of("run", true),
            ["--color=never", "--fd=3", "--path=/tmp/*", "--path=a", "--ex=bt", "--debuginfod"]
        );
        assert_eq!(of("run", false), ["--color=never", "--fd=3", "--path=/tmp/*", "--path=a"]);
        assert_eq!(of("audit", true), ["--color=never", "--debuginfod", "--fail-on=note"]);
        assert_eq!(of("explain", true), Vec::<String>::new());
        assert_eq!(s.risky().collect::<Vec<_>>(), ["ex", "debuginfod", "fail-on"]);
    }

    #[test]
    fn mistakes_name_the_nearest() {
        for (text, expected) in [
            ("colour = \"never\"", "unknown key \"colour\"; did you mean color?"),
            ("color = \"nevr\"", "color: \"nevr\" is none of its values; did you mean never?"),
            ("color = 3", "color: one of auto, always, never is wanted, in quotes"),
            ("fd = -1", "fd: a descriptor is wanted, or a list of such"),
            ("error-exitcode = 300", "error-exitcode: a number from 0 to 255 is wanted"),
            ("no-seccomp = 1", "no-seccomp: true or false is wanted"),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
        assert!(read("\ncolor = ").unwrap_err().starts_with("line 2: "));
    }
}

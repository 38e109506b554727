//! What the user wants of the rules.

use crate::base::Fd;
use crate::event::NewFile;
use glob::Pattern;
use serde::{Deserialize, Serialize};

/// What programs may inherit although nothing promises it to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inherit {
    /// This number.
    Number(Fd),
    /// What has a path that matches this glob.
    Path(String),
}

impl Inherit {
    /// Reads what `--allow-inherit` takes: a number or a glob.
    ///
    /// # Errors
    /// With the position at which the glob is wrong.
    pub fn parse(text: &str) -> Result<Inherit, String> {
        if let Ok(n) = text.parse::<u32>() {
            let n = i32::try_from(n).map_err(|_| "there is no such descriptor".to_string())?;
            return Ok(Inherit::Number(Fd(n)));
        }
        match Pattern::new(text) {
            Ok(_) => Ok(Inherit::Path(text.to_string())),
            Err(e) => Err(format!("{} at position {}", e.msg, e.pos)),
        }
    }

    /// Whether it covers `file` at `fd`.
    pub(super) fn covers(&self, fd: Fd, file: &NewFile) -> bool {
        match self {
            Inherit::Number(n) => *n == fd,
            Inherit::Path(glob) => Pattern::new(glob).is_ok_and(|g| g.matches(&String::from_utf8_lossy(&file.path))),
        }
    }
}

/// What the user wants of the rules. A recording keeps it, so that a replay finds the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// `--allow-inherit`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_inherit: Vec<Inherit>,
    /// `--leaks-at-exit`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaks_at_exit: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_globs() {
        let file = NewFile::from_link(b"/var/run/app.lock".to_vec(), 0);
        let covers = |text: &str, fd| Inherit::parse(text).unwrap().covers(Fd(fd), &file);
        assert!(covers("7", 7) && !covers("7", 8));
        assert!(covers("*.lock", 7) && !covers("/etc/*", 7));
        assert!(Inherit::parse("a[").unwrap_err().contains("position"));
        assert!(Inherit::parse("4294967295").is_err());
    }
}

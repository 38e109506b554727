//! The files of what is known: suppressions and baselines, read before anything is started, written at the end.

use anyhow::{Context, Result, bail};
use fdwatch::cli::{self, Output};
use fdwatch::policy::suppression::Suppressions;
use fdwatch::report::baseline::Baseline;
use fdwatch::report::{self, Report};
use std::io::{Read, Write};
use std::path::Path;

/// The longest file of what is known, in bytes.
const LARGEST_KNOWN: u64 = 16 << 20;

/// What is known already, read before anything is started.
pub(crate) struct Sifting {
    pub(crate) suppressions: Suppressions,
    /// With the name of its file.
    pub(crate) baseline: Option<(Baseline, String)>,
}

impl Sifting {
    pub(crate) fn new(args: &cli::Sift, out: &Output) -> Result<Sifting> {
        let shipped = match args.no_default_suppressions {
            true => Suppressions::none(),
            false => Suppressions::shipped(),
        };
        Sifting::read(args, out.output.as_deref(), shipped)
    }

    /// Reads the files that `args` name, and says whether those can be written that it wants written.
    pub(crate) fn read(args: &cli::Sift, output: Option<&Path>, mut suppressions: Suppressions) -> Result<Sifting> {
        for path in args.suppressions.iter().rev() {
            let (name, bytes) = known_file(path)?;
            let text = std::str::from_utf8(&bytes).map_err(|e| {
                let before = String::from_utf8_lossy(bytes.get(..e.valid_up_to()).unwrap_or_default()).into_owned();
                let column = before.lines().last().filter(|_| !before.ends_with('\n')).map_or(0, |l| l.chars().count());
                let line = before.matches('\n').count() + 1;
                anyhow::anyhow!("{name}:{line}:{}: expected text in UTF-8", column + 1)
            })?;
            suppressions.add(&name, text).map_err(|e| anyhow::anyhow!("{e}"))?;
        }
        let baseline = match &args.baseline {
            Some(path) => {
                let (name, bytes) = known_file(path)?;
                let baseline = Baseline::read(&bytes).map_err(|e| {
                    let colon = if e.starts_with(|c: char| c.is_ascii_digit()) { ":" } else { ": " };
                    anyhow::anyhow!("{name}{colon}{e}")
                })?;
                Some((baseline, name))
            }
            None => None,
        };
        let generated = args.gen_suppressions.as_deref().filter(|p| p.as_os_str() != "-");
        let written =
            [("-o", output), ("--gen-suppressions", generated), ("--write-baseline", args.write_baseline.as_deref())];
        let named: Vec<_> = written.into_iter().filter_map(|(option, path)| Some((option, path?))).collect();
        for (n, (option, path)) in named.iter().enumerate() {
            report::check_writable(path).map_err(anyhow::Error::msg)?;
            if let Some((other, _)) = named.iter().take(n).find(|(_, p)| super::common::is_same_file(p, path)) {
                bail!("{other} and {option} name the same file: give each its own");
            }
        }
        Ok(Sifting { suppressions, baseline })
    }

    /// Writes the report, without what is known, and what else was asked for.
    pub(crate) fn finish(
        &self,
        report: &mut Report,
        args: &cli::Sift,
        write: impl FnOnce(&Report) -> Result<()>,
    ) -> Result<()> {
        let found = args.write_baseline.as_ref().map(|path| (path, Baseline::of(report).write()));
        if let Some((baseline, name)) = &self.baseline {
            report.compare_with(baseline, name);
        }
        write(report)?;
        if let Some((path, bytes)) = found {
            report::write_whole(path, &bytes).with_context(|| path.display().to_string())?;
        }
        match &args.gen_suppressions {
            Some(path) if path.as_os_str() != "-" => {
                report::write_whole(path, report.generated_suppressions().as_bytes())
                    .with_context(|| path.display().to_string())?;
            }
            Some(_) => {
                let _ = write!(std::io::stderr(), "\n{}", report.generated_suppressions());
            }
            None => {}
        }
        Ok(())
    }
}

/// A file of what is known, and its name, safe to show.
fn known_file(path: &Path) -> Result<(String, Vec<u8>)> {
    let name = fdwatch::base::text::escape(path.as_os_str().as_encoded_bytes());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(|| name.clone())?;
    file.take(LARGEST_KNOWN + 1).read_to_end(&mut bytes).with_context(|| name.clone())?;
    if bytes.len() as u64 > LARGEST_KNOWN {
        bail!("{name}: it is longer than {} MiB", LARGEST_KNOWN >> 20);
    }
    Ok((name, bytes))
}

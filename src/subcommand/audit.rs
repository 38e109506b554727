//! `fdwatch audit`.

use super::common::{debuginfod, end_as, equip, injections, prepare, recording, start, verdict, write_report};
use super::sifting::Sifting;
use anyhow::Result;
use fdwatch::cli;
use fdwatch::kernel::Caught;
use fdwatch::policy::Policy;
use fdwatch::session::{Quiet, Session};
use std::process::ExitCode;

pub(crate) fn audit(args: cli::Audit) -> Result<ExitCode> {
    prepare(&args.common.out)?;
    let recording = recording(&args.common)?;
    let debuginfod = debuginfod(&args.common)?;
    let sifting = Sifting::new(&args.common.sift, &args.common.out)?;
    let policy = Policy { injections: injections(&args.common)?, ..Policy::default() };
    let launched = start(&args.argv, &args.common, false, &Caught::new())?;
    let mut session = Session::new(launched, policy, args.common.no_seccomp);
    equip(&mut session, &args.common, &sifting, debuginfod, recording, &args.argv);
    let outcome = session.run(&mut Quiet)?;
    let report = write_report(&mut session, &outcome, &args.argv, &args.common, &sifting)?;
    Ok(verdict(&report, &args.common.sift, &args.verdict).unwrap_or_else(|| end_as(outcome.status)))
}

//! Prints every close of a command with its stack: fdwatch as a library.
//!
//! `cargo run --example closes -- ls`

use fdwatch::base::text::escape;
use fdwatch::event::EventKind;
use fdwatch::finding::Seen;
use fdwatch::kernel::{Caught, Command, Launched};
use fdwatch::model::Change;
use fdwatch::policy::Policy;
use fdwatch::render::Names;
use fdwatch::session::{Decision, Frontend, Session, View};

/// A front end that asks nobody and prints what ends.
struct Closes;

impl Frontend for Closes {
    fn wants_breaks(&self) -> bool {
        false
    }

    fn on_event(&mut self, seen: &Seen<'_>, names: &mut dyn Names) {
        let EventKind::Call(call) = &seen.event.kind else { return };
        for change in seen.changes {
            let Change::Ended(id) = change else { continue };
            let Some(life) = seen.world.life(*id) else { continue };
            let path = seen.world.file(life.file).map(|f| escape(&f.file.path)).unwrap_or_default();
            eprintln!("[{}] {} of fd {} {} {path}", seen.event.tid, call.info.name, life.fd, life.file);
            for frame in call.site.stack.iter().flat_map(|s| names.native(*s).to_vec()) {
                let function = frame.function.unwrap_or_else(|| format!("{}+{:#x}", frame.module, frame.offset));
                match (frame.file, frame.line) {
                    (Some(file), Some(line)) => eprintln!("    {function} ({file}:{line})"),
                    _ => eprintln!("    {function}"),
                }
            }
        }
    }

    fn on_break(&mut self, _: View<'_>) -> Decision {
        Decision::default()
    }
}

fn main() -> anyhow::Result<()> {
    let argv = std::env::args_os().skip(1).collect();
    let command = Command { argv, own_group: false, seccomp: true };
    let launched = Launched::start(&command, &Caught::new())?;
    Session::new(launched, Policy::default(), false).run(&mut Closes)?;
    Ok(())
}

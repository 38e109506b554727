//! Compares fdwatch's model with the kernel's own tables after every call of a command, and prints where they differ: which
//! numbers are open, what they are, whether execve closes them, and which are of one open file description (kcmp(2)).
//!
//! `cargo run --example compare -- bash -c 'ls | wc -l'` ends with status 1 if there was a difference.

use fdwatch::base::text::escape;
use fdwatch::base::{Fd, LifeId, Tid};
use fdwatch::event::{Effect, EventKind, ExitStatus};
use fdwatch::finding::Seen;
use fdwatch::kernel::{Caught, Command, Launched, procfs};
use fdwatch::model::World;
use fdwatch::policy::Policy;
use fdwatch::render::Names;
use fdwatch::session::{Decision, Frontend, Session, View};
use std::collections::BTreeMap;

#[derive(Default)]
struct Compare {
    comparisons: u32,
    differences: u32,
}

impl Frontend for Compare {
    fn wants_breaks(&self) -> bool {
        false
    }

    fn on_event(&mut self, seen: &Seen<'_>, _: &mut dyn Names) {
        let tid = seen.event.tid;
        let name = match &seen.event.kind {
            // A close is committed at its entry: the kernel has yet to carry it out.
            EventKind::Call(call) if call.info.ret.is_some() => call.info.name,
            EventKind::Exec { .. } | EventKind::Start(_) => "execve",
            _ => return,
        };
        let Some(table) = seen.world.task(tid).and_then(|t| seen.world.table(t.table)) else { return };
        // Another task could change a shared table while it is read.
        if table.tasks() > 1 {
            return;
        }
        let lives = table.open().filter_map(|(fd, id)| {
            let life = seen.world.life(id)?;
            Some((fd, (life.cloexec, shown(&seen.world.file(life.file)?.file.path))))
        });
        let model: BTreeMap<_, _> = lives.collect();
        let present = procfs::open_descriptors(tid);
        let kernel: BTreeMap<_, _> = present.into_iter().map(|p| (p.fd, (p.cloexec, shown(&p.file.path)))).collect();
        self.comparisons += 1;
        if model != kernel {
            self.differences += 1;
            eprintln!("[{tid}] after {name}:\n  model  {model:?}\n  kernel {kernel:?}");
            return;
        }
        let mut others = vec![tid];
        // What was received is somebody else's, too. Who sends waits for the receiver in the targets that are compared.
        if matches!(&seen.event.kind, EventKind::Call(c) if c.effects.iter().any(|e| matches!(e, Effect::Receive { .. })))
        {
            others.extend(seen.world.tasks().map(|t| t.0).filter(|t| *t != tid));
        }
        for other in others {
            for (fd, n, same) in of_one_path(seen.world, tid, other) {
                if same != procfs::same_file(tid, fd, other, n) {
                    self.differences += 1;
                    let word = if same { "one" } else { "two" };
                    eprintln!("[{tid}] after {name}: fd {fd} and fd {n} of [{other}] are {word} for the model only");
                }
            }
        }
    }

    fn on_break(&mut self, _: View<'_>) -> Decision {
        Decision::default()
    }
}

/// The pairs of numbers of two tasks whose objects have one path, and whether the model says that they are one object.
fn of_one_path(world: &World, a: Tid, b: Tid) -> Vec<(Fd, Fd, bool)> {
    let open = |tid| -> Vec<(Fd, LifeId)> {
        world.task(tid).and_then(|t| world.table(t.table)).into_iter().flat_map(|t| t.open()).collect()
    };
    let file = |life| world.life(life).and_then(|l| world.file(l.file));
    let theirs = open(b);
    let mut out = Vec::new();
    for (fd, life) in open(a) {
        for (n, other) in &theirs {
            if let (Some(x), Some(y)) = (file(life), file(*other))
                && shown(&x.file.path) == shown(&y.file.path)
            {
                out.push((fd, *n, x.id == y.id));
            }
        }
    }
    out
}

/// A file may be removed after it was opened: the kernel then says so behind its path.
fn shown(path: &[u8]) -> String {
    escape(path.strip_suffix(b" (deleted)").unwrap_or(path))
}

fn main() -> anyhow::Result<()> {
    let argv = std::env::args_os().skip(1).collect();
    let seccomp = std::env::var_os("ALL_CALLS").is_none();
    let launched = Launched::start(&Command { argv, own_group: false, seccomp }, &Caught::new())?;
    let mut compare = Compare::default();
    let outcome = Session::new(launched, Policy::default(), !seccomp).run(&mut compare)?;
    eprintln!("{} comparisons, {} differences", compare.comparisons, compare.differences);
    let failed = compare.differences > 0 || outcome.status != ExitStatus::Code(0);
    std::process::exit(i32::from(failed));
}

//! The command that keeps an open file description for later.

use super::super::{At, Flow};
use super::holders::fd;
use super::{About, Command, Group, nothing, number};
use crate::base::{Fd, FileId};
use crate::model::World;
use crate::prompt::console::Offer;
use crate::render::{call, live};

pub(super) struct Dup;

enum Asked {
    /// Of a number, or of that of the break.
    Hold(Option<Fd>),
    /// Of an object, or all.
    LetGo(Option<FileId>),
}

fn asked(args: &[&str]) -> Result<Asked, String> {
    let usage = Dup.about().usage;
    match args {
        ["off", rest @ ..] => {
            nothing(usage, rest.get(1..).unwrap_or_default())?;
            let object = rest.first().map(|word| number("an object: #17", word.strip_prefix('#').unwrap_or(word)));
            object.transpose().map(|id| Asked::LetGo(id.map(FileId)))
        }
        _ => {
            nothing(usage, args.get(1..).unwrap_or_default())?;
            args.first().map(|word| fd(word)).transpose().map(Asked::Hold)
        }
    }
}

/// The object, as it is called: `#17 "/tmp/a"`.
fn named(world: &World, of: FileId) -> String {
    world.file(of).map_or_else(|| of.to_string(), |f| format!("{of} {}", call::file(&f.file)))
}

/// What is held of objects that are not open any more in the table that is looked at: a line each.
pub(super) fn left(at: &At<'_, '_>) -> String {
    let world = at.scene.world;
    let table = world.task(at.tid).and_then(|t| world.table(t.table));
    let open: Vec<FileId> =
        table.into_iter().flat_map(|t| t.open()).filter_map(|(_, id)| world.life(id)).map(|l| l.file).collect();
    let held = at.scene.live.held().into_iter().filter(|of| !open.contains(of));
    held.map(|of| format!("not open here, fdwatch holds a copy: {}\n", named(world, of))).collect()
}

impl Command for Dup {
    fn about(&self) -> &'static About {
        &About {
            names: &["dup"],
            usage: "dup [N] | dup off [#ID]",
            group: Group::WhatIf,
            summary: "hold a copy of a descriptor, to be looked at after its close; off lets go",
            help: "fdwatch takes a copy of descriptor N, or of that of this break, for itself (pidfd_getfd(2)). After the close\n\
                   peek #ID shows its content and its offset. The target's table is not changed, and no program that is\n\
                   executed gets the copy; at most 16 are held. But the open file description lives as long as the copy:\n\
                   who reads from a pipe is told of no end of file, who is connected to a socket of no end, and a lock\n\
                   of flock(2) stays. off lets go of the copy of an object, or of all. So does whatever leaves the target,\n\
                   and a script that has no further line, unless a catch may still break.\n\
                   Every report of this run says that copies were held.",
            example: ("dup", "at a break on a close; later peek #17 shows what was closed"),
            repeats: false,
        }
    }
    fn complete(&self, offer: &Offer) -> Vec<String> {
        ["off".to_string()].into_iter().chain(offer.fds.iter().chain(&offer.objects).cloned()).collect()
    }
    fn check(&self, args: &[&str]) -> Result<(), String> {
        asked(args).map(drop)
    }
    fn run(&self, args: &[&str], at: &mut At<'_, '_>) -> Result<Flow, String> {
        let world = at.scene.world;
        match asked(args)? {
            Asked::Hold(fd) => {
                let fd = fd.or(at.scene.at.fd).ok_or_else(|| format!("of what? usage: {}", self.about().usage))?;
                let life = world.open_life(at.tid, fd).ok_or_else(|| format!("fd {fd} is not open here"))?;
                let of = life.file;
                at.scene.live.hold(at.tid, fd, of).map_err(|e| format!("fd {fd}: {e}"))?;
                at.say(&format!(
                    "fdwatch holds a copy of {}: peek {of} shows it after its close, too",
                    named(world, of)
                ));
                let held_back = world.file(of).map(|f| live::held_back(&f.file));
                at.say(&format!("until dup off {of}: {}", held_back.unwrap_or("the kernel does not end it")));
            }
            Asked::LetGo(of) => {
                let all = of.map_or_else(|| at.scene.live.held(), |of| vec![of]);
                let gone: Vec<FileId> = all.into_iter().filter(|of| at.scene.live.let_go(*of)).collect();
                if gone.is_empty() {
                    return Err(of.map_or("no copy is held".to_string(), |of| format!("no copy of {of} is held")));
                }
                for of in gone {
                    at.say(&format!("fdwatch has let go of {}", named(world, of)));
                }
            }
        }
        Ok(Flow::Stay)
    }
}

//! In what form did the spawning code hold the descriptor that it hands to a child?
//!
//! `subprocess` turns `stdout=f` into `f.fileno()` at once, and from then on both forms look the same. Its frames still
//! show what it was given: `Popen.__init__` in its parameters, `run`, `call`, `check_output` in their keyword arguments,
//! and the first frame outside the module in its variables. A file object is held by those frames and lives until the
//! child has its copy; a bare number is not owned by anybody there.
//!
//! Numbers of the frame outside count only where there is no frame of `subprocess` at all (`os.posix_spawn`,
//! `os.fork`): with one, its parameters would have shown them, and a loop counter is also a number.

use super::SpawnArgument;
use super::frame::{Frame, Frames};
use super::view::{Value, View};

/// The parameters and keyword arguments that carry a descriptor, here and in `_execute_child`'s callers.
const CARRIERS: [&str; 3] = ["stdin", "stdout", "stderr"];
/// Frames of the module that are looked at, from the inside.
pub(super) const FRAMES: usize = 16;

pub(super) fn argument(view: View<'_>, frames: &Frames, fd: i32) -> Option<SpawnArgument> {
    for (index, frame) in frames.list.iter().enumerate().take(FRAMES) {
        let first = index == 0;
        let inside = &*frame.code.file == "<frozen subprocess>" || frame.code.file.ends_with("/subprocess.py");
        // Popen._execute_child and _get_handles only know numbers, whatever they were given.
        let skip = inside && matches!(short(frame), "_execute_child" | "_posix_spawn" | "_get_handles");
        let judge = |name: &str, value| judge(name, value, index, fd, inside || first);
        if let (false, Some(found)) = (skip, in_frame(view, frame, inside, judge)) {
            return Some(found);
        }
        if !inside {
            break;
        }
    }
    None
}

fn short(frame: &Frame) -> &str {
    let name = &*frame.code.function;
    name.rsplit('.').next().unwrap_or(name)
}

fn judge(name: &str, value: Value, frame: usize, fd: i32, numbers: bool) -> Option<SpawnArgument> {
    match value {
        Value::Int(n) if numbers && n == i64::from(fd) => Some(SpawnArgument::RawInt { frame, name: name.to_owned() }),
        Value::File(Some(n)) if n == fd => Some(SpawnArgument::FileObject { frame, name: name.to_owned() }),
        _ => None,
    }
}

fn in_frame(
    view: View<'_>,
    frame: &Frame,
    inside: bool,
    judge: impl Fn(&str, Value) -> Option<SpawnArgument>,
) -> Option<SpawnArgument> {
    let mut raw = None;
    for (slot, name) in frame.code.variables(view).iter().enumerate() {
        let Ok(slot) = u32::try_from(slot) else { break };
        let value = frame.slot(view, slot);
        if let (Value::Dict(dict), "kwargs" | "popenkwargs") = (value, name.as_str()) {
            for (key, reference) in view.lookup(dict, &CARRIERS) {
                raw = better(raw, judge(key, view.value(reference)));
            }
        }
        // Outside the module any variable may be the one; inside, numbers such as timeouts and sizes are about.
        if !inside || CARRIERS.contains(&name.as_str()) {
            raw = better(raw, judge(name, value));
        }
    }
    if let (None, false, Some(dict)) = (&raw, inside, frame.locals(view.layout)) {
        view.each_entry(dict, |name, reference| {
            // The variables of a module: objects only, because a number there may be anything.
            if let Some(f @ SpawnArgument::FileObject { .. }) = judge(name, view.value(reference)) {
                raw = better(raw.take(), Some(f));
            }
        });
    }
    raw
}

/// A file object that holds the number explains it better than a number does.
fn better(old: Option<SpawnArgument>, new: Option<SpawnArgument>) -> Option<SpawnArgument> {
    match (&old, &new) {
        (Some(SpawnArgument::FileObject { .. }), _) | (Some(_), None | Some(SpawnArgument::RawInt { .. })) => old,
        _ => new,
    }
}

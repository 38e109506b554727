//! Has the number left the object that is being finalized?
//!
//! A file object that dies by reference count closes its descriptor, and nearly always that is what was meant:
//! `json.load(open(p))`. It is a bug waiting to happen only when somebody took the *number* out of the object first.
//! There is one way to do that, `fileno()`, and it shows in the bytecode of the frame that is being executed:
//!
//! 1. **The frame is at the call of `fileno()`** on an object that no variable of the frame holds. The finalizer runs
//!    inside the call: the call's own reference was the last, and what the frame gets back is the number of a closed
//!    file. `f.fileno()` with a variable is not this: `f` keeps the object alive, so what died in there is another.
//! 2. **The frame has returned what `fileno()` gave**, and its locals are being released (`return f.fileno()`). Such a
//!    frame is linked nowhere any more but still lies on the data stack (3.11 and later; see `frame::dying`).
//! 3. **The frame replaces or deletes the variable it had called `fileno()` on**, while another variable still holds
//!    the result and is going to be read. `fd = f.fileno(); f = None; run(stdout=fd)`.
//!
//! Small integers are everywhere, so that *some* variable equals 3 proves nothing: in 3 the variable must be the one
//! into which the code stores the result of `fileno()`, and the instruction being executed the one that ends `f`. That
//! it will be read is decided by looking ahead in the code without following jumps: `for p in paths: f = open(p);
//! fd = f.fileno(); …` rebinds `f` while the old `fd` is dead, and must be silent. What is lost by that caution: a
//! read that only a backward jump reaches, results that went into a list, a tuple or an attribute, and code
//! whose original opcodes cannot be had.

use super::code::Names;
use super::frame::{Frame, Frames};
use super::opcode::{Instruction, Op};
use super::view::{Value, View};
use super::{Escape, PyFrame};

/// What the frames say.
#[derive(Debug)]
pub(super) enum Verdict {
    Escaped(Escape),
    Kept,
    /// The code names `fileno` but cannot be decoded.
    Undecided,
}

/// What the innermost frames, and the frame that is being cleared if there is one, say about `fd`.
pub(super) fn verdict(view: View<'_>, frames: &Frames, dying: Option<&Frame>, fd: i32) -> Verdict {
    // A `__del__` in Python, and what it calls, run between the finalizer and the frame that let go of the object.
    let finalizer = frames.list.iter().take(4).position(|f| f.code.function.ends_with("__del__"));
    let outside = finalizer.and_then(|i| Some((i + 1, frames.list.get(i + 1)?)));
    let evidence = [
        dying.and_then(|f| returned(view, f, fd)),
        frames.list.first().and_then(|f| current(view, f, 0, fd)),
        outside.and_then(|(i, f)| current(view, f, i, fd)),
    ];
    let mut verdict = Verdict::Kept;
    for found in evidence.into_iter().flatten() {
        match found {
            Verdict::Escaped(_) => return found,
            other => verdict = other,
        }
    }
    verdict
}

/// The instructions of a frame's code where it names `fileno`, and which of them is being executed.
struct Body<'a> {
    frame: &'a Frame,
    names: &'a Names,
    fileno: u32,
    code: Vec<Instruction>,
    now: usize,
}

enum Parsed<'a> {
    /// The code cannot let a number escape.
    Harmless,
    Opaque,
    Body(Body<'a>),
}

fn parse<'a>(view: View<'_>, frame: &'a Frame) -> Parsed<'a> {
    let Some(names) = frame.code.names(view) else { return Parsed::Opaque };
    let Some(fileno) = names.fileno else { return Parsed::Harmless };
    let (Some(code), Ok(at)) = (frame.code.instructions(view, None), usize::try_from(frame.at)) else {
        return Parsed::Opaque;
    };
    match code.iter().position(|i| i.start <= at && at < i.end) {
        Some(now) => Parsed::Body(Body { frame, names, fileno, code, now }),
        None => Parsed::Opaque,
    }
}

/// What `fileno()` was called on, as far as the instruction before tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Receiver {
    Fast(u32),
    Name(u32),
    Deref(u32),
    Attr(u32),
    /// The value of an expression: nothing but the evaluation stack holds it.
    Temporary,
}

impl Receiver {
    /// A variable, which keeps the object alive over the call.
    fn is_variable(self) -> bool {
        matches!(self, Receiver::Fast(_) | Receiver::Name(_) | Receiver::Deref(_))
    }
}

/// A variable that a number was stored into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Variable {
    Fast(u32),
    /// In the local namespace of a module or class body.
    Name(u32),
    Global(u32),
    Deref(u32),
}

impl Body<'_> {
    fn op(&self, i: Option<usize>) -> Option<Op> {
        self.code.get(i?).map(|i| i.op)
    }

    /// If the call of `fileno()` ends at instruction `i`, what it was called on.
    fn fileno_call(&self, i: usize) -> Option<Receiver> {
        if !matches!(self.op(Some(i))?, Op::Call(0) | Op::Precall(0)) {
            return None;
        }
        let mut before = i.checked_sub(1)?;
        if self.op(Some(before)) == Some(Op::Precall(0)) {
            before = before.checked_sub(1)?;
        }
        if self.op(Some(before)) != Some(Op::LoadAttr(self.fileno)) {
            return None;
        }
        Some(match self.op(before.checked_sub(1)) {
            Some(Op::LoadFast(s) | Op::StoreFastLoadFast(_, s) | Op::LoadFastLoadFast(_, s)) => Receiver::Fast(s),
            Some(Op::LoadName(n)) => Receiver::Name(n),
            Some(Op::LoadDeref(s)) => Receiver::Deref(s),
            Some(Op::LoadAttr(n)) => Receiver::Attr(n),
            _ => Receiver::Temporary,
        })
    }

    /// Whether the instruction being executed ends what the receiver referred to.
    fn ends(&self, r: Receiver) -> bool {
        match (self.op(Some(self.now)), r) {
            (Some(Op::StoreFast(s) | Op::DeleteFast(s) | Op::StoreFastLoadFast(s, _)), Receiver::Fast(r)) => s == r,
            (Some(Op::StoreFastStoreFast(a, b)), Receiver::Fast(r)) => a == r || b == r,
            (
                Some(Op::StoreName(n) | Op::StoreGlobal(n) | Op::DeleteName(n) | Op::DeleteGlobal(n)),
                Receiver::Name(r),
            ) => n == r,
            (Some(Op::StoreDeref(s) | Op::DeleteDeref(s)), Receiver::Deref(r)) => s == r,
            (Some(Op::StoreAttr(n) | Op::DeleteAttr(n)), Receiver::Attr(r)) => n == r,
            _ => false,
        }
    }

    /// Whether a variable is read after the current instruction before it is written, jumps not followed.
    ///
    /// Names of a module are read from elsewhere: for them the end of the code counts as a read.
    fn read_later(&self, v: Variable) -> bool {
        // The instruction itself: `f, fd = None, …` writes both, `f = None; g(fd)` may be one instruction.
        let here = match self.op(Some(self.now)) {
            Some(Op::StoreFastLoadFast(_, l)) if Variable::Fast(l) == v => return true,
            Some(Op::StoreFastStoreFast(a, b)) => [Some(a), Some(b)],
            _ => [None, None],
        };
        if here.into_iter().flatten().any(|s| Variable::Fast(s) == v) {
            return false;
        }
        for i in self.code.iter().skip(self.now + 1) {
            match (i.op, v) {
                (Op::StoreFastLoadFast(s, l), Variable::Fast(x)) if s == x || l == x => return s != x,
                (Op::StoreFastStoreFast(a, b), Variable::Fast(x)) if a == x || b == x => return false,
                (Op::LoadFastLoadFast(a, b), Variable::Fast(x)) if a == x || b == x => return true,
                (Op::LoadFast(s), Variable::Fast(x)) if s == x => return true,
                (Op::StoreFast(s) | Op::DeleteFast(s), Variable::Fast(x)) if s == x => return false,
                (Op::LoadDeref(s), Variable::Deref(x)) if s == x => return true,
                (Op::StoreDeref(s) | Op::DeleteDeref(s), Variable::Deref(x)) if s == x => return false,
                (Op::LoadName(n), Variable::Name(x) | Variable::Global(x)) if n == x => return true,
                (Op::StoreName(n) | Op::DeleteName(n), Variable::Name(x)) if n == x => return false,
                (Op::StoreGlobal(n) | Op::DeleteGlobal(n), Variable::Global(x)) if n == x => return false,
                _ => {}
            }
        }
        !matches!(v, Variable::Fast(_))
    }

    fn holds(&self, view: View<'_>, v: Variable, fd: i32) -> bool {
        let in_dict = |dict: Option<u64>, n: u32| {
            let name = self.names.list.get(n as usize)?;
            let (_, reference) = *view.lookup(dict?, &[name.as_str()]).first()?;
            Some(view.value(reference))
        };
        let value = match v {
            Variable::Fast(s) => Some(self.frame.slot(view, s)),
            Variable::Deref(s) => Some(self.frame.slot(view, self.frame.code.cell_slot(view, s))),
            Variable::Name(n) => in_dict(self.frame.locals(view.layout), n),
            Variable::Global(n) => in_dict(self.frame.globals(view.layout), n),
        };
        value == Some(Value::Int(i64::from(fd)))
    }

    fn name_of(&self, view: View<'_>, v: Variable) -> String {
        let name = match v {
            Variable::Fast(s) => self.frame.code.variables(view).get(s as usize).cloned(),
            Variable::Deref(s) => self.frame.code.cell_name(view, s),
            Variable::Name(n) | Variable::Global(n) => self.names.list.get(n as usize).cloned(),
        };
        name.unwrap_or_default()
    }

    /// Where results of `fileno()` were stored: what it was called on, and the variable.
    fn stores(&self) -> impl Iterator<Item = (Receiver, Variable)> {
        (0..self.code.len()).filter_map(|i| {
            let variable = match self.op(i.checked_add(1))? {
                Op::StoreFast(s) | Op::StoreFastLoadFast(s, _) | Op::StoreFastStoreFast(s, _) => Variable::Fast(s),
                Op::StoreName(n) => Variable::Name(n),
                Op::StoreGlobal(n) => Variable::Global(n),
                Op::StoreDeref(s) => Variable::Deref(s),
                _ => return None,
            };
            Some((self.fileno_call(i)?, variable))
        })
    }
}

/// Evidence in a frame that is being executed.
fn current(view: View<'_>, frame: &Frame, index: usize, fd: i32) -> Option<Verdict> {
    let body = match parse(view, frame) {
        Parsed::Harmless => return None,
        Parsed::Opaque => return Some(Verdict::Undecided),
        Parsed::Body(b) => b,
    };
    // 3.11: the specialised PRECALL makes the call; then the CALL that follows is the same call.
    if body.fileno_call(body.now).is_some_and(|r| !r.is_variable()) {
        return Some(Verdict::Escaped(Escape::FilenoCall { frame: index }));
    }
    let (_, variable) = body.stores().find(|&(r, v)| body.ends(r) && body.read_later(v) && body.holds(view, v, fd))?;
    Some(Verdict::Escaped(Escape::Holds { frame: index, name: body.name_of(view, variable) }))
}

/// Evidence in a frame that has returned.
fn returned(view: View<'_>, frame: &Frame, fd: i32) -> Option<Verdict> {
    let body = match parse(view, frame) {
        Parsed::Harmless => return None,
        Parsed::Opaque => return Some(Verdict::Undecided),
        Parsed::Body(b) => b,
    };
    if body.op(Some(body.now)) != Some(Op::ReturnValue) {
        return None;
    }
    let before = body.now.checked_sub(1)?;
    let given = match body.op(Some(before))? {
        Op::LoadFast(s) | Op::StoreFastLoadFast(_, s) => {
            let v = Variable::Fast(s);
            body.stores().any(|(_, stored)| stored == v) && body.holds(view, v, fd)
        }
        _ => body.fileno_call(before).is_some(),
    };
    let callee: PyFrame = frame.shown(view.layout);
    given.then_some(Verdict::Escaped(Escape::ReturnsFileno { callee }))
}

//! How a life is recognised in another run, on another machine: by where it was opened, never by a number, a pid or an
//! address.
//!
//! A stack becomes a [`Fingerprint`]: a hash of (module, offset in it) for each native frame, and of (file name, function,
//! line) for each Python frame. A life is then the nth with this opening fingerprint in its process ([`Mark::ordinal`]),
//! and a process is its place in the tree of forks ([`Mark::place`]). All of this is pure; docs/internals.md has the hash.

mod fingerprint;
mod ledger;
mod path;
mod rehearsal;

pub use fingerprint::{Fingerprint, FingerprintError, ModuleFrame, PythonLine, UNKNOWN_CODE, python_file};
pub use ledger::{Ledger, Mark, Stacks};
pub use path::{general_path, same_new_path, same_path};
pub use rehearsal::{Followed, Rehearsal};

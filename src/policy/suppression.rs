//! What is known and harmless: findings that are counted and not shown.
//!
//! An entry is keyed on the finding's name and on a function of the stack that was hurt, never on numbers, pids or
//! addresses: those change from run to run.

use crate::base::StackId;
use crate::finding::{Finding, Role};

/// A known harmless finding.
#[derive(Clone, Copy, Debug)]
pub struct Suppression {
    /// The finding's name.
    pub finding: &'static str,
    /// A function on the stack of the step [`Role::Used`].
    pub function: &'static str,
    /// Why it is harmless.
    pub reason: &'static str,
}

/// What ships with fdwatch, each with its reason.
pub static DEFAULTS: &[Suppression] = &[Suppression {
    finding: "double-close",
    function: "execute_command_internal",
    reason: "bash closes the ends of a pipeline's pipes where it forks and once more where it goes on; it has one thread",
}];

/// The entry that covers `finding`, if one does. `functions` gives the names on a stack.
pub fn find(finding: &Finding, mut functions: impl FnMut(StackId) -> Vec<String>) -> Option<&'static Suppression> {
    let mut candidates = DEFAULTS.iter().filter(|s| s.finding == finding.name).peekable();
    candidates.peek()?;
    let names = functions(finding.step(Role::Used)?.moment.site.stack?);
    candidates.find(|s| names.iter().any(|n| n == s.function))
}

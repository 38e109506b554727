//! What fdwatch itself does to the target's calls when the user asks "what if".

use serde::{Deserialize, Serialize};

/// How a call was made to come out differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alteration {
    /// It did not happen, and the program was told that it did.
    Keep,
    /// It did not happen, and the program was told this error (errno(3)).
    Fail(i32),
    /// It did not happen, and the program was told this result.
    Return(i64),
    /// It happened so many nanoseconds later.
    Delay(u64),
    /// Its result was told so many nanoseconds later.
    DelayResult(u64),
    /// It happened, but its number is held back: it does not become free.
    Quarantine,
}

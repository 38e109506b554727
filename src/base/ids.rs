//! Identifiers, each a type of its own so that one cannot be taken for another.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// A task (thread) as the kernel numbers it in fdwatch's own pid namespace; always positive.
    Tid(i32), ""
);
id!(
    /// A process (thread group): the tid of its leader.
    Pid(i32), ""
);
id!(
    /// A descriptor: a number in a table. Negative only as an argument that a target passed.
    Fd(i32), ""
);
id!(
    /// A descriptor table (the kernel's `files_struct`), shared by tasks made with CLONE_FILES.
    TableId(u32), "table "
);
id!(
    /// An open file description (the kernel's `struct file`), shown as `#17`.
    FileId(u32), "#"
);
id!(
    /// One generation of one number in one table.
    LifeId(u32), "life "
);
id!(
    /// An interned native stack.
    StackId(u32), "stack "
);
id!(
    /// An interned Python stack.
    PyStackId(u32), "python stack "
);

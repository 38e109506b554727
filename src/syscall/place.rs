//! Where tasks may run: sched_getaffinity(2), sched_setaffinity(2). Nothing of descriptors: they stop because fdwatch may
//! hold a task on one CPU, which nobody is to see.

use super::{Arg, Row, When};

macro_rules! row {
    ($name:literal, $nr64:expr, $nr32:expr) => {
        Row {
            name: $name,
            nr64: Some($nr64),
            nr32: Some($nr32),
            only: None,
            when: When::Placement,
            args: &[Arg::Int, Arg::Int, Arg::Pointer],
            decode: |_| Vec::new(),
        }
    };
}

pub(super) static ROWS: &[Row] = &[row!("sched_setaffinity", 203, 241), row!("sched_getaffinity", 204, 242)];

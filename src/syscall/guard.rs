//! Calls that change no table, and that a program which is watched cannot make as it could alone: tracing, and seccomp's
//! strict mode. They are looked at so that the report can say so.

use super::{Arg, Made, Need, Row, When};

// linux/ptrace.h; ATTACH and SEIZE fail with EPERM where the task is traced already, TRACEME where the caller is.
const TRACEME: u32 = 0;
const ATTACH: u32 = 16;
const SEIZE: u32 = 0x4206;

const SECCOMP_MODE_STRICT: i32 = 1;

/// What fdwatch is in the way of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InTheWay {
    /// The task that is to be traced is traced by fdwatch, and a task has one tracer (ptrace(2)).
    Tracing {
        /// It wanted its parent to trace it (PTRACE_TRACEME).
        by_parent: bool,
    },
    /// A task that is under a filter, as ours, cannot enter seccomp's strict mode (kernel/seccomp.c,
    /// seccomp_may_assign_mode).
    StrictMode,
}

/// What of fdwatch's may have made a call fail that was made and returned `call.ret`.
pub fn in_the_way(row: &Row, call: &Made<'_>) -> Option<InTheWay> {
    match row.name {
        "ptrace" if call.failed_with(libc::EPERM) => {
            Some(InTheWay::Tracing { by_parent: call.int(0) as u32 == TRACEME })
        }
        "prctl" if call.failed_with(libc::EINVAL) => Some(InTheWay::StrictMode),
        _ => None,
    }
}

pub(super) static ROWS: &[Row] = &[
    Row {
        only: Some((0, &[TRACEME, ATTACH, SEIZE])),
        ..Row::exit("ptrace", Some(101), Some(26), &[Arg::Int, Arg::Int, Arg::Pointer, Arg::Pointer], |_| Vec::new())
    },
    Row {
        only: Some((0, &[libc::PR_SET_SECCOMP as u32])),
        when: When::Arguments(|m| if m.int(1) == SECCOMP_MODE_STRICT { Need::Exit } else { Need::Nothing }),
        ..Row::exit("prctl", Some(157), Some(172), &[Arg::Int, Arg::Int], |_| Vec::new())
    },
];

#[cfg(test)]
mod tests {
    use super::super::by_name;
    use super::super::testing::{Paper, need_as};
    use super::*;
    use crate::base::{Arch, RawCall};

    #[test]
    fn only_what_failed_because_of_us_counts() {
        let task = Paper::default();
        let told = |name: &str, args: [u64; 6], ret: i64| {
            let row = by_name(name).unwrap();
            in_the_way(row, &Made { call: RawCall { arch: Arch::X86_64, nr: 0, args }, ret: Some(ret), task: &task })
        };
        assert_eq!(told("ptrace", [0; 6], -1), Some(InTheWay::Tracing { by_parent: true }));
        assert_eq!(told("ptrace", [16, 1, 0, 0, 0, 0], -3), None, "no such process");
        assert_eq!(told("ptrace", [16, 1, 0, 0, 0, 0], 0), None, "a process outside");
        assert_eq!(told("prctl", [22, 1, 0, 0, 0, 0], -22), Some(InTheWay::StrictMode));
        assert_eq!(told("prctl", [22, 1, 0, 0, 0, 0], 0), None);
        assert_eq!(need_as(Arch::X86_64, "prctl", [22, 2, 0x10, 0, 0, 0], &task), Need::Nothing, "a filter");
    }
}

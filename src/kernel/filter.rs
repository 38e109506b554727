//! The seccomp program: which calls stop. Derived from the table of system calls.
//!
//! A filter of our own, because the usual builder kills a program that makes an i386 call and always sets
//! no_new_privs. Anything that it does not know is let through: a filter that watches must never forbid.

use crate::syscall::{Row, rows, rows_with};
use libc::sock_filter;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
/// __X32_SYSCALL_BIT (asm/unistd.h).
const X32_BIT: u32 = 0x4000_0000;

// Offsets in struct seccomp_data (linux/seccomp.h).
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// What comes with our stops (seccomp(2), SECCOMP_RET_DATA), so that they are not taken for those that a filter of the
/// target's own asks for. Where both filters ask, the kernel tells of the one that was installed last, the target's
/// (kernel/seccomp.c, seccomp_run_filters).
pub(super) const OURS: u32 = 0xfd57;

const TRACE: u32 = libc::SECCOMP_RET_TRACE | OURS;

type Rows = Box<dyn Iterator<Item = &'static Row>>;

/// A seccomp program that returns SECCOMP_RET_TRACE for the calls of the table and SECCOMP_RET_ALLOW for all others.
#[derive(Clone, Debug)]
pub struct Filter {
    program: Vec<sock_filter>,
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Continues with the next instruction if the accumulator equals `k`, else skips `otherwise`.
fn unless_equal(k: u32, otherwise: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf: otherwise, k }
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn give(action: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, action)
}

impl Filter {
    /// The program for all rows.
    pub fn new() -> Filter {
        Filter::of(|| Box::new(rows()))
    }

    /// The same with what else is asked for, as [`rows_with`].
    pub fn with(uses: bool, questions: bool) -> Filter {
        Filter::of(|| Box::new(rows_with(uses, questions)))
    }

    fn of(rows: impl Fn() -> Rows) -> Filter {
        let mut program = vec![load(ARCH)];
        for (arch, number) in
            [(AUDIT_ARCH_X86_64, (|r| r.nr64) as fn(&Row) -> Option<u32>), (AUDIT_ARCH_I386, |r| r.nr32)]
        {
            let block = Filter::block(rows(), number, arch == AUDIT_ARCH_X86_64);
            // A jump over a block may be longer than the 255 that fit in a conditional one.
            program.push(sock_filter {
                code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
                jt: 1,
                jf: 0,
                k: arch,
            });
            program.push(statement(libc::BPF_JMP | libc::BPF_JA, block.len() as u32));
            program.extend(block);
        }
        program.push(give(libc::SECCOMP_RET_ALLOW));
        Filter { program }
    }

    fn block(rows: Rows, number: fn(&Row) -> Option<u32>, x32: bool) -> Vec<sock_filter> {
        let mut out = vec![load(NR)];
        // Calls of the x32 table, which are counted: all but -1, which is none.
        if x32 {
            out.push(unless_equal(u32::MAX, 1));
            out.push(give(libc::SECCOMP_RET_ALLOW));
            out.push(sock_filter {
                code: (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16,
                jt: 0,
                jf: 1,
                k: X32_BIT,
            });
            out.push(give(TRACE));
        }
        for row in rows {
            let Some(nr) = number(row) else { continue };
            match row.only {
                None => {
                    out.push(unless_equal(nr, 1));
                    out.push(give(TRACE));
                }
                Some((arg, values)) => {
                    // Only the low half: the kernel takes these arguments as int. Little-endian, so it comes first.
                    let mut body = vec![load(ARGS + 8 * arg as u32)];
                    for v in values {
                        body.push(unless_equal(*v, 1));
                        body.push(give(TRACE));
                    }
                    body.push(give(libc::SECCOMP_RET_ALLOW));
                    // Every row is shorter than that, which a test sees to.
                    out.push(unless_equal(nr, u8::try_from(body.len()).unwrap_or(u8::MAX)));
                    out.extend(body);
                }
            }
        }
        out.push(give(libc::SECCOMP_RET_ALLOW));
        out
    }

    /// The instructions.
    pub(super) fn program(&self) -> &[sock_filter] {
        &self.program
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Arch, RawCall};
    use crate::syscall::Table;

    /// What the kernel would return, by the part of classic BPF that the filter uses.
    fn run(filter: &Filter, arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(nr.to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        args.iter().for_each(|a| data.extend(a.to_le_bytes()));
        let (mut pc, mut a) = (0usize, 0u32);
        loop {
            let i = filter.program[pc];
            pc += 1;
            match u32::from(i.code) {
                c if c == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    a = u32::from_le_bytes(data[i.k as usize..][..4].try_into().unwrap());
                }
                c if c == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => {
                    pc += usize::from(if a == i.k { i.jt } else { i.jf });
                }
                c if c == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => {
                    pc += usize::from(if a & i.k != 0 { i.jt } else { i.jf });
                }
                c if c == libc::BPF_JMP | libc::BPF_JA => pc += i.k as usize,
                c if c == libc::BPF_RET | libc::BPF_K => return i.k,
                c => panic!("instruction {c}"),
            }
        }
    }

    #[test]
    fn it_stops_what_the_table_knows_and_nothing_else() {
        let with = |(uses, questions)| (Filter::with(uses, questions), Table::with(uses, questions));
        let all = [(false, false), (true, false), (false, true), (true, true)].map(with);
        let ask = |t: &Table| {
            let fcntl = RawCall { arch: Arch::X86_64, nr: 72, args: [3, libc::F_GETFD as u64, 0, 0, 0, 0] };
            t.row(&fcntl).is_some()
        };
        assert_eq!(all.each_ref().map(|(_, t)| ask(t)), [false, false, true, true]);
        for (f, t) in [(Filter::new(), Table::new())].into_iter().chain(all) {
            stops_what_it_knows(&f, &t);
        }
    }

    fn stops_what_it_knows(f: &Filter, t: &Table) {
        for (audit, arch) in [(AUDIT_ARCH_X86_64, Arch::X86_64), (AUDIT_ARCH_I386, Arch::I386)] {
            for nr in 0..600 {
                for arg in [0u64, 1, 2, 3, 8, 18, 77, 1030, 0x5441, 0x5451, 0xc040_aed4, 1 << 40 | 2] {
                    let args = [arg, arg, arg, 0, 0, 0];
                    let expected = match t.row(&RawCall { arch, nr, args }) {
                        Some(_) => TRACE,
                        None => libc::SECCOMP_RET_ALLOW,
                    };
                    assert_eq!(run(f, audit, nr, args), expected, "{arch:?} {nr} with {arg}");
                }
            }
        }
    }

    #[test]
    fn foreign_tables_are_let_through() {
        let f = Filter::new();
        assert_eq!(run(&f, 0xc000_00b7, 3, [0; 6]), libc::SECCOMP_RET_ALLOW, "aarch64");
        assert_eq!(run(&f, AUDIT_ARCH_X86_64, u32::MAX, [0; 6]), libc::SECCOMP_RET_ALLOW, "no call");
    }

    #[test]
    fn calls_of_the_x32_table_stop_to_be_counted() {
        let f = Filter::new();
        for nr in [0, 1, 3, 519] {
            assert_eq!(run(&f, AUDIT_ARCH_X86_64, X32_BIT | nr, [0; 6]), TRACE, "{nr}");
        }
        assert_eq!(run(&f, AUDIT_ARCH_I386, X32_BIT | 3, [0; 6]), libc::SECCOMP_RET_ALLOW, "i386 has no such bit");
    }

    #[test]
    fn every_row_can_be_jumped_over() {
        for row in rows() {
            let values = row.only.map_or(0, |o| o.1.len());
            assert!(2 + 2 * values <= usize::from(u8::MAX), "{} has too many values for one jump", row.name);
        }
    }

    #[test]
    fn it_is_as_short_as_the_kernel_wants() {
        assert!(Filter::with(true, true).program().len() < 4096, "BPF_MAXINSNS");
    }
}

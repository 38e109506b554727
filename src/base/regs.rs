//! Registers and system calls as the kernel hands them over.

use serde::{Deserialize, Serialize};

/// Which of the kernel's system call tables a call goes through.
///
/// The values come from the `AUDIT_ARCH_*` constants of `linux/audit.h`. A 64-bit program may enter the 32-bit table
/// with `int 0x80`, so this belongs to a call, never to a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum Arch {
    /// `AUDIT_ARCH_X86_64`, bit 30 of the number clear.
    X86_64,
    /// `AUDIT_ARCH_I386`: 32-bit programs, and `int 0x80` in any.
    I386,
    /// `AUDIT_ARCH_X86_64` with `__X32_SYSCALL_BIT` (0x4000_0000) set in the number.
    X32,
}

/// The general registers of a stopped x86-64 task, as in `user_regs_struct` of `sys/user.h`.
///
/// A 32-bit task's registers arrive in the same fields, zero-extended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)] // the names are the processor's
pub struct Regs {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    /// The number of the system call in progress, or -1 outside one.
    pub orig_rax: u64,
    /// 0x23 in 32-bit code, 0x33 in 64-bit code.
    pub cs: u64,
    pub fs_base: u64,
}

impl Regs {
    /// Whether the task runs 32-bit code now (its code segment is `__USER32_CS`).
    pub fn is_32bit(&self) -> bool {
        self.cs == 0x23
    }
}

/// A system call as it was entered: not decoded, nothing read from memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawCall {
    /// The table that the number belongs to.
    pub arch: Arch,
    /// The number, without the x32 bit.
    pub nr: u32,
    /// The six arguments; for i386 the upper halves are zero.
    pub args: [u64; 6],
}

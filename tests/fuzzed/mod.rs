//! What the fuzzers do with their bytes, and `tests/stack_fuzzed.rs` with the inputs that they once found something with.
#![allow(dead_code, unreachable_pub)] // each user takes a part

use fdwatch::base::{AddressSpace, ReadMemory, Regs};
use fdwatch::stack::{Frame, FrameKind, SpaceId, Stacks};
use std::fs::File;
use std::io::{Error, ErrorKind, Write};

/// Where the made file is mapped, and where its code begins in it.
const BASE: u64 = 0x40_0000;
const TEXT: u64 = 0x1000;
const TEXT_SIZE: u64 = 0x1000;

/// A process that consists of one file and a stack that repeats for ever.
struct Made {
    maps: Vec<u8>,
    file: Option<File>,
    stack: Vec<u8>,
}

impl ReadMemory for Made {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let at = |i: usize| addr.wrapping_add(i as u64) as usize % self.stack.len().max(1);
        for (i, b) in buf.iter_mut().enumerate() {
            *b = self.stack.get(at(i)).copied().unwrap_or(0);
        }
        buf.len()
    }
}

impl AddressSpace for Made {
    fn maps(&self) -> std::io::Result<Vec<u8>> {
        Ok(self.maps.clone())
    }

    fn open_mapped(&self, _: u64, _: u64, _: &[u8], _: (u32, u32), _: u64) -> std::io::Result<File> {
        self.file.as_ref().map_or(Err(Error::from(ErrorKind::NotFound)), File::try_clone)
    }
}

impl Made {
    fn of(file: &[u8], stack: &[u8]) -> Self {
        let maps = format!("{BASE:x}-{:x} r-xp 00000000 08:01 7 /nowhere/made\n", BASE + 0x100_0000);
        let mut f = tempfile::tempfile().expect("a temporary file");
        f.write_all(file).expect("its bytes");
        Self { maps: maps.into(), file: Some(f), stack: stack.to_vec() }
    }

    /// Follows, judges and names a stack, and names some addresses more.
    ///
    /// Returns of how many files the debug information was not read to its end.
    fn ask(&self, regs: &Regs, more: &[u64]) -> usize {
        let mut stacks = Stacks::new();
        let id = stacks.capture(SpaceId(1), regs, self);
        assert!(stacks.frames(id).len() <= fdwatch::stack::MAX_FRAMES);
        stacks.cause(id);
        assert!(stacks.explain(id).len() >= stacks.frames(id).len());
        let module = stacks.frames(id).iter().find_map(|f| f.module);
        for &offset in more {
            stacks.explain_frame(Frame { module, offset, kind: FrameKind::Exact });
        }
        stacks.coverage().cut_short.len()
    }
}

/// A file, as it is.
pub fn file(bytes: &[u8]) -> usize {
    let regs = Regs { rip: BASE + TEXT + 1, rsp: 0x7fff_0000, cs: 0x33, ..Regs::default() };
    Made::of(bytes, &[]).ask(&regs, &[TEXT])
}

/// Registers and the rest of `data`.
fn regs(data: &[u8]) -> (Regs, &[u8]) {
    let (head, rest) = data.split_at(data.len().min(16));
    let word = |i: usize| head.get(i * 2..i * 2 + 2).map_or(0, |b| u64::from(u16::from_le_bytes([b[0], b[1]])));
    let code = |n: u64| BASE + TEXT + n % TEXT_SIZE;
    let cs = if word(7) & 1 == 0 { 0x33 } else { 0x23 };
    let regs = Regs {
        rip: code(word(0)),
        rsp: 0x7fff_0000 + word(1),
        rbp: 0x7fff_0000 + word(2),
        rbx: word(3),
        rax: code(word(4)),
        r12: 0x7fff_0000 + word(5),
        r13: u64::MAX - word(6),
        cs,
        ..Regs::default()
    };
    (regs, rest)
}

/// The text of a process's memory map.
pub fn maps(data: &[u8]) {
    let made = Made { maps: data.to_vec(), file: None, stack: data.to_vec() };
    // Program counters that the map itself names are the interesting ones.
    let line = data.split(|b| *b == b'-').next().and_then(|l| std::str::from_utf8(l).ok());
    let rip = line.and_then(|l| u64::from_str_radix(l, 16).ok()).unwrap_or(0x40_0000);
    made.ask(&Regs { rip, rsp: rip, rbp: rip, cs: 0x33, ..Regs::default() }, &[]);
}

/// A whole file that is mapped as code.
pub fn elf(data: &[u8]) {
    let (regs, file) = regs(data);
    let addresses = [TEXT, regs.rip - BASE, 0x40_1000, 0x1139, u64::MAX];
    Made::of(file, file).ask(&regs, &addresses);
}

/// Unwinding information, and the stack that it is used on: a byte says how much of `data` is the stack.
pub fn unwind(data: &[u8]) {
    let (regs, rest) = regs(data);
    let Some((&[split, kind], rest)) = rest.split_first_chunk::<2>() else { return };
    let (stack, table) = rest.split_at(rest.len().min(usize::from(split) * 8));
    // Words that point into the code and into the stack, as a stack has them.
    let words = stack.chunks_exact(8).flat_map(|w| {
        let n = u64::from(u16::from_le_bytes([w[0], w[1]]));
        match w[2] % 4 {
            0 => BASE + TEXT + n % TEXT_SIZE,
            1 => 0x7fff_0000 + n,
            2 => 0,
            _ => u64::from_le_bytes(w.try_into().expect("eight")),
        }
        .to_le_bytes()
    });
    let stack: Vec<u8> = words.collect();
    let name = if kind & 1 == 0 { ".eh_frame" } else { ".debug_frame" };
    let file = elf_of(&[(name, table, TEXT + TEXT_SIZE)]);
    Made::of(&file, &stack).ask(&regs, &[]);
}

/// The sections that [`names`] makes a file of.
pub const SECTIONS: [&str; 12] = [
    ".debug_info",
    ".debug_abbrev",
    ".debug_line",
    ".debug_str",
    ".debug_line_str",
    ".debug_ranges",
    ".debug_rnglists",
    ".debug_addr",
    ".debug_str_offsets",
    ".debug_aranges",
    ".symtab",
    ".strtab",
];

/// Debug information: sections one behind the other, each with its number in [`SECTIONS`] and its size (two bytes).
pub fn names(data: &[u8]) {
    let mut sections: Vec<(&str, &[u8], u64)> = Vec::new();
    let mut rest = data;
    while let Some((&[id, low, high], after)) = rest.split_first_chunk::<3>() {
        let size = usize::from(u16::from_le_bytes([low, high])).min(after.len());
        let (bytes, next) = after.split_at(size);
        sections.push((SECTIONS[usize::from(id) % SECTIONS.len()], bytes, 0));
        rest = next;
    }
    let file = elf_of(&sections);
    let addresses: Vec<u64> = (0..16).map(|n| TEXT + n * 0x21).chain([u64::MAX]).collect();
    let regs = Regs { rip: BASE + TEXT + 1, rsp: 0x7fff_0000, cs: 0x33, ..Regs::default() };
    Made::of(&file, &[]).ask(&regs, &addresses);
}

/// The table of functions that a Go program carries.
pub fn go(data: &[u8]) {
    let file = elf_of(&[(".gopclntab", data, 0)]);
    let addresses: Vec<u64> = (0..16).map(|n| TEXT + n * 0x21).chain([u64::MAX]).collect();
    let regs = Regs { rip: BASE + TEXT + 1, rsp: 0x7fff_0000, cs: 0x33, ..Regs::default() };
    Made::of(&file, &[]).ask(&regs, &addresses);
}

/// The functions at the first and in the middle of the code of a file with this section.
pub fn functions(section: &str, bytes: &[u8]) -> Vec<String> {
    named(&elf_of(&[(section, bytes, 0)]), &[TEXT, TEXT + 0x100]).into_iter().map(|(function, _)| function).collect()
}

/// The functions and files at addresses of a file, as the file counts them.
pub fn named(file: &[u8], addresses: &[u64]) -> Vec<(String, Option<String>)> {
    let made = Made::of(file, &[]);
    let mut stacks = Stacks::new();
    let regs = Regs { rip: BASE + TEXT + 1, rsp: 0x7fff_0000, cs: 0x33, ..Regs::default() };
    let id = stacks.capture(SpaceId(1), &regs, &made);
    let module = stacks.frames(id)[0].module;
    let mut name = |&offset| {
        let named = stacks.explain_frame(Frame { module, offset, kind: FrameKind::Exact });
        named.last().map(|n| (n.function.clone().unwrap_or_default(), n.file.clone())).unwrap_or_default()
    };
    addresses.iter().map(&mut name).collect()
}

/// Such a table of two functions, `main.f` and `runtime.main`, as Go 1.20 writes it, with this magic number.
pub fn go_table(magic: u32) -> Vec<u8> {
    let mut t = magic.to_le_bytes().to_vec();
    t.extend([0, 0, 1, 8]);
    // Functions, files, the first address; where names, units, files, values and functions begin.
    for field in [2, 1, TEXT, 72, 96, 100, 116, 140] {
        t.extend(field.to_le_bytes());
    }
    let part = |t: &mut Vec<u8>, at: usize, bytes: &[u8]| {
        t.resize(at, 0);
        t.extend(bytes);
    };
    part(&mut t, 72, b"\0main.f\0runtime.main\0");
    part(&mut t, 96, &[1, 0, 0, 0]);
    part(&mut t, 100, b"\0/src/f.go\0");
    part(&mut t, 116, &[0, 2, 64, 0, 22, 16, 4, 48, 0, 0, 16, 2, 16, 1, 32, 0]);
    let rows = [0u32, 20, 0x40, 76, 0x400];
    let one = |name: u32| [0, name, 0, 0, 0, 1, 4, 3, 0, 1, 0, 0, 0, 9];
    let words = rows.into_iter().chain(one(1)).chain(one(8));
    part(&mut t, 140, &words.flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    t
}

/// The bytes that [`names`] makes the sections of.
pub fn pack(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in sections {
        let Some(id) = SECTIONS.iter().position(|s| s == name) else { continue };
        let size = bytes.len().min(usize::from(u16::MAX));
        out.push(id as u8);
        out.extend((size as u16).to_le_bytes());
        out.extend(&bytes[..size]);
    }
    out
}

/// A small 64-bit ELF file with code at [`TEXT`] and these sections: name, bytes, address.
pub fn elf_of(sections: &[(&str, &[u8], u64)]) -> Vec<u8> {
    let mut names = b"\0.shstrtab\0.text\0".to_vec();
    let mut out = vec![0; TEXT as usize];
    let mut headers: Vec<[u64; 10]> = vec![[0; 10], [11, 1, 6, TEXT, TEXT, TEXT_SIZE, 0, 0, 16, 0]];
    out.resize((TEXT + TEXT_SIZE) as usize, 0x90);
    let strtab = 2 + sections.iter().position(|s| s.0 == ".strtab").unwrap_or(0) as u64;
    for &(name, bytes, addr) in sections {
        let (kind, link, entry) = match name {
            ".symtab" => (2, strtab, 24),
            ".strtab" => (3, 0, 0),
            _ => (1, 0, 0),
        };
        let flags = u64::from(addr != 0) * 2;
        out.resize(out.len().next_multiple_of(8), 0);
        headers.push([names.len() as u64, kind, flags, addr, out.len() as u64, bytes.len() as u64, link, 0, 1, entry]);
        names.extend(name.as_bytes());
        names.push(0);
        out.extend(bytes);
    }
    headers.push([1, 3, 0, 0, out.len() as u64, names.len() as u64, 0, 0, 1, 0]);
    out.extend(&names);
    out.resize(out.len().next_multiple_of(8), 0);
    let at = out.len() as u64;
    for h in &headers {
        for (i, &value) in h.iter().enumerate() {
            // sh_name, sh_type, sh_link and sh_info are half as long as the others (elf(5)).
            if matches!(i, 0 | 1 | 6 | 7) {
                out.extend((value as u32).to_le_bytes());
            } else {
                out.extend(value.to_le_bytes());
            }
        }
    }
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    let halves = |head: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| head.extend(v.to_le_bytes()));
    halves(&mut head, &[3, 62]);
    head.extend(1u32.to_le_bytes());
    [TEXT, 64, at].iter().for_each(|v| head.extend(v.to_le_bytes()));
    head.extend(0u32.to_le_bytes());
    halves(&mut head, &[64, 56, 1, 64, headers.len() as u16, headers.len() as u16 - 1]);
    // PT_LOAD, readable and executable, the whole file.
    head.extend(1u32.to_le_bytes());
    head.extend(5u32.to_le_bytes());
    [0, 0, 0, at, at, 4096].iter().for_each(|v: &u64| head.extend(v.to_le_bytes()));
    out[..head.len()].copy_from_slice(&head);
    out
}

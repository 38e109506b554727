#!/usr/bin/env python3
"""Puts the stacks of fdwatch, gdb, strace -k, bpftrace and pystack side by side, on five programs at one close.

    cargo build --release && python3 tests/stacks.py [--fdwatch PROGRAM] [--pystack PROGRAM] [--only TARGET] [--show]

Each program closes descriptor 9, which it was started with. A frame counts with the function that a tool names; a name is
wrong if no symbol of the file covers the address (ELF sizes; the debug file's table, too), or if those that do have other
names. Besides, each name of fdwatch's is compared with gdb's for the same frame, and with that of addr2line, which reads the
debug information itself. What is missing is left out and said. The result of this is in docs/stacks.md.
"""
import argparse
import bisect
import glob
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGETS = os.path.join(ROOT, "tests/targets/stack")
LIMIT = 120


def run(command, **more):
    """Output of a command that has descriptor 9 open."""
    def nine():
        os.dup2(os.open(os.devnull, os.O_RDONLY), 9)
        os.set_inheritable(9, True)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          preexec_fn=nine, close_fds=False, timeout=LIMIT, **more)
    return done.stdout.decode(errors="replace")


def build(work):
    """Label and command of each program."""
    def source(name):
        text = open(os.path.join(TARGETS, name)).read().replace("-77", "9")
        path = os.path.join(work, name)
        open(path, "w").write(text)
        return path
    go = dict(os.environ, GOCACHE=work + "/gocache", GO111MODULE="off")
    for label, compiler, command in [
        ("Go", "go", ["go", "build", "-o", work + "/go", source("calls.go")]),
        ("Rust, release", "rustc",
         ["rustc", "--edition=2024", "-O", "-Cstrip=debuginfo", "-o", work + "/rust", source("generic.rs")]),
        ("C++, templates", "c++", ["c++", "-O2", "-o", work + "/cpp", source("templates.cpp")]),
    ]:
        if shutil.which(compiler):
            subprocess.run(command, check=True, env=go)
            yield label, [command[command.index("-o") + 1]]
        else:
            print("skipped: %s: no %s" % (label, compiler))
    script = os.path.join(TARGETS, "finalizer.py")
    rich = sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.11*/bin/python3.11")))
    for label, python in [("Python, stripped", "/usr/bin/python3"), ("Python, symbols", (rich or [""])[0])]:
        if os.path.exists(python):
            yield label, [os.path.realpath(python), "-S", "-E", script]
        else:
            print("skipped: %s: not here" % label)


class File:
    """Segments and symbols of an ELF file."""
    known = {}

    def __init__(self, path):
        data = open(path, "rb").read()
        at, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
        heads = [struct.unpack_from("<IIQQQQ", data, at + i * size) for i in range(count)]
        self.loads = [(offset, vaddr, length) for kind, _, offset, vaddr, _, length in heads if kind == 1]
        self.symbols = []
        notes = subprocess.run(["readelf", "-n", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        found = re.search(rb"Build ID: ([0-9a-f]{2})([0-9a-f]+)", notes)
        debug = "/usr/lib/debug/.build-id/%s/%s.debug" % tuple(b.decode() for b in found.groups()) if found else ""
        for table in [[path], ["-D", path], [debug]]:
            text = subprocess.run(["nm", "-S", "-C", *table], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            for line in text.decode(errors="replace").splitlines():
                m = re.match(r"([0-9a-f]{16}) (?:([0-9a-f]{16}) )?[tTwWiuV] (.*)", line)
                if m:
                    start, length = int(m[1], 16), int(m[2] or "0", 16)
                    self.symbols.append((start, start + length, plain(m[3].split("@")[0])))
        self.symbols.sort()
        self.starts = [s[0] for s in self.symbols]

    @classmethod
    def of(cls, path):
        if path not in cls.known:
            cls.known[path] = cls(path)
        return cls.known[path]

    def address(self, offset):
        return next((offset - o + v for o, v, n in self.loads if o & ~4095 <= offset < o + n), offset)

    def names(self, address):
        """All names of the code at an address. One without a size (assembly) reaches to the next."""
        at = bisect.bisect_right(self.starts, address)
        out = {name for start, end, name in self.symbols[max(0, at - 200):at] if start <= address < end}
        if at and self.symbols[at - 1][0] == self.symbols[at - 1][1]:
            out |= {name for start, _, name in self.symbols[max(0, at - 20):at] if start == self.starts[at - 1]}
        return out


def plain(name):
    """A name without parameters, template arguments, hashes and clones, which every tool writes its own way."""
    name = re.sub(r"::h[0-9a-f]{16}$|\[clone [^]]*\]|@.*|\.abi0$|\.(cold|part|constprop|isra|lto_priv|localalias)\b[.\d]*", "", name)
    name = name.replace("(anonymous namespace)", "anon").replace("operator()", "call")
    last = None
    while last != name:
        last, name = name, re.sub(r"<[^<>]*>|\([^()]*\)|\[[^][]*\]|\{[^{}]*\}(?!:)", "", name)
    words = re.sub(r" (const|&+|\[.*)$", "", name.strip()).split(" ")
    return re.sub(r"[^\w:$]+|::+(?=::)", "", words[-1]).strip(":")


def by_gdb(command, work, core=None):
    """Frames as gdb sees them, and the core file of that moment."""
    env = dict(os.environ, FDWATCH_FD="9", **({"FDWATCH_CORE": core} if core else {}))
    script = os.path.join(ROOT, "tests/stack_support/frames.py")
    shell = 'exec 9</dev/null; exec "$@"'
    gdb = subprocess.Popen(["sh", "-c", shell, "sh", "gdb", "-q", "-nx", "-batch", "-x", script, "--args", *command], env=env,
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        for line in gdb.stdout:
            if line.startswith("@"):
                stop = json.loads(line[1:])
                maps = [m.split(None, 5) for m in open("/proc/%d/maps" % stop["pid"])]
                frames = [frame(maps, pc, name) for pc, _, name in stop["frames"]]
                # At the end of a goroutine gdb makes up one more, at 0.
                return frames[:-1] if frames[-1][1] == 0 else frames
    finally:
        gdb.stdin.close()
        gdb.wait()
    return []


def frame(maps, pc, name):
    for m in maps:
        start, end = (int(x, 16) for x in m[0].split("-"))
        if start <= pc < end and "x" in m[1] and len(m) > 5:
            path = m[5].strip()
            return path, File.of(path).address(pc - start + int(m[2], 16)) if path[0] == "/" else pc - start, name
    return "", pc, name


def by_fdwatch(fdwatch, command, paths):
    text = run([fdwatch, "run", "--color", "never", "--fd", "9", "-ex", "bt full", "-ex", "kill", "--", *command])
    out, inlined = [], set()
    for line in text.splitlines():
        inlined |= {plain(n) for n in re.findall(r"#\d+ +(.*?) \(inlined\)", line)}
        m = re.match(r"[>* ] +#\d+ +(.*?)(?: at .*?)? from (\S+?)\+0x([0-9a-f]+)$", line.rstrip())
        if m and "(inlined)" not in line:
            name = None if m[1].startswith("??") else m[1]
            out.append((paths.get(m[2], m[2]), int(m[3], 16), name))
    return out, inlined


def by_strace(command, work):
    run(["strace", "-f", "-k", "-e", "trace=close", "-o", work + "/strace", *command])
    out, here = [], False
    for line in open(work + "/strace", errors="replace"):
        if " > " not in line[:12] and not line.startswith(" >"):
            if here and out:
                break
            here = bool(re.search(r"\bclose\(9\b", line))
        elif here:
            m = re.match(r" > (.*?)\((.*)\+0x[0-9a-f]+\) \[0x([0-9a-f]+)\]", line)
            bare = re.match(r" > (.*?)\(.*?\) \[0x([0-9a-f]+)\]", line)
            if m:
                out.append((m[1], File.of(m[1]).address(int(m[3], 16)), m[2]))
            elif bare:
                out.append((bare[1], int(bare[2], 16), None))
    return out


def by_bpftrace(command, work):
    program = 'tracepoint:syscalls:sys_enter_close /args->fd == 9/ { printf("%s", ustack(perf)); exit(); }'
    text = run(["bpftrace", "-c", " ".join(command), "-e", program])
    frames = re.findall(r"^\s+([0-9a-f]+) (.*?)(?:\+\d+)? \((.*)\)$", text, re.M)
    return [("", 0, None if n == "[unknown]" else n) for _, n, _ in frames] or "cannot: " + ([e for e in text.splitlines() if "ERROR" in e] or ["no stack"])[-1]


def by_pystack(pystack, command, core):
    text = run([pystack, "core", "--no-color", "--native-all", core, command[0]])
    if '" line' not in text and "(C)" not in text:
        return "cannot: " + (text.strip().splitlines() or ["?"])[-1]
    frames = re.findall(r'^ *\(C\) File ".*?", line \d+, in (.*?)(?: \(.*\))?$', text, re.M)
    return [("", 0, None if n.startswith("??") else n) for n in reversed(frames)]


def judge(frames, truth, inlined):
    """Frames, those with a name, wrong names."""
    wrong = []
    anywhere = {n for path, at, _ in truth if path.startswith("/") for n in File.of(path).names(at)}
    # pystack gives no addresses, and inlined calls like others.
    anywhere |= inlined | {plain(name) for _, _, name in truth if name}
    for path, at, name in frames:
        if not name:
            continue
        right = File.of(path).names(at) if path.startswith("/") else anywhere
        if right and plain(name) not in right and not any(plain(name).endswith("::" + n) or n.endswith("::" + plain(name)) for n in right):
            wrong.append("%s at %s+%#x, which is %s" % (plain(name), os.path.basename(path), at, "/".join(sorted(right)[:3])))
        elif not right and path.startswith("/"):
            wrong.append("%s at %s+%#x, where no symbol is" % (plain(name), os.path.basename(path), at))
    return len(frames), sum(1 for f in frames if f[2]), wrong


def by_addr2line(frames):
    """What addr2line calls the functions at these frames, where a symbol covers the address."""
    out = []
    for i, (path, at, _) in enumerate(frames):
        if path.startswith("/") and File.of(path).names(at):
            text = subprocess.run(["addr2line", "-f", "-i", "-C", "-e", path, "%#x" % (at - (i > 0))],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode(errors="replace")
            # Two lines for each function, the inlined ones first.
            physical = text.splitlines()[-2] if len(text.splitlines()) >= 2 else "??"
            out.append((path, at, None if physical.startswith("??") else physical))
    return out


def compare(ours, theirs):
    """How many frames both have named, and where they differ: not by two names of one function."""
    names = {(path, at): plain(name) for path, at, name in theirs if name}
    both, different = 0, []
    for path, at, name in ours:
        other = names.get((path, at))
        if not name or not other:
            continue
        both += 1
        one, right = plain(name), File.of(path).names(at) if path.startswith("/") else set()
        same = one == other or one.endswith("::" + other) or other.endswith("::" + one) or {one, other} <= right
        if not same:
            different.append("%s at %s+%#x, which another calls %s" % (one, os.path.basename(path), at, other))
    return both, different


def main():
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--fdwatch", default=os.path.join(ROOT, "target/release/fdwatch"))
    parse.add_argument("--pystack", default=shutil.which("pystack"))
    parse.add_argument("--only", default="")
    parse.add_argument("--show", action="store_true", help="the stacks and the wrong names, too")
    options = parse.parse_args()
    print("| target | tool | frames | named | wrong names | differ from gdb | differ from addr2line |\n" + "|---" * 7 + "|")
    fewer = False
    with tempfile.TemporaryDirectory(prefix="fdwatch-stacks-") as work:
        for label, command in build(work):
            if options.only.lower() not in label.lower():
                continue
            core = work + "/core" if options.pystack and "Python" in label else None
            tools = {"gdb": by_gdb(command, work, core)} if shutil.which("gdb") else {}
            paths = {os.path.basename(p): p for p, _, _ in tools.get("gdb", [])}
            tools["fdwatch"], inlined = by_fdwatch(options.fdwatch, command, paths)
            if shutil.which("strace"):
                tools["strace -k"] = by_strace(command, work)
            if shutil.which("bpftrace"):
                tools["bpftrace"] = by_bpftrace(command, work)
            if core:
                tools["pystack"] = by_pystack(options.pystack, command, core)
            for tool in sorted(tools, key=lambda t: t != "fdwatch"):
                frames = tools[tool]
                if isinstance(frames, str):
                    print("| %s | %s | %s | | |" % (label, tool, frames))
                    continue
                count, named, wrong = judge(frames, tools.get("gdb", []), inlined)
                others = {"gdb": tools.get("gdb", []), "addr2line": by_addr2line(frames) if shutil.which("addr2line") else []}
                cells = []
                for other, theirs in others.items() if tool == "fdwatch" else []:
                    both, different = compare(frames, theirs)
                    cells.append("%d of %d" % (len(different), both))
                    wrong += ["(%s) %s" % (other, d) for d in different if d not in wrong]
                    fewer |= bool(different)
                cells = (cells + ["", ""])[:2]
                print("| %s | %s | %d | %d | %d | %s | %s |" % (label, tool, count, named, len([w for w in wrong if w[0] != "("]), *cells))
                fewer |= tool == "fdwatch" and bool(wrong) or count > len(tools["fdwatch"])
                if options.show:
                    for path, at, name in frames:
                        print("      %s+%#x %s" % (os.path.basename(path), at, (name or "?")[:100]))
                    for line in wrong:
                        print("    wrong: " + line)
    sys.exit(1 if fewer else 0)


if __name__ == "__main__":
    main()

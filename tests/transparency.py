#!/usr/bin/env python3
"""Proof that a target does not notice fdwatch: programs are run without it and with it, and compared.

    tests/transparency.py                          all programs, both ways of tracing, then CPython's own tests
    tests/transparency.py --only git --only make   some of them
    tests/transparency.py --fast                   what `cargo test` runs
    tests/transparency.py --list                   names, and what is missing here

Compared are exit status, standard output, standard error (or what a terminal showed), what is left running, and for test
suites the verdict of each test. Ends with 0 when nothing differs but what is documented, with 1 otherwise.
docs/transparency.md says how to read the table.

Needs Python 3.8 or later, and nothing else; a program that is not there is skipped by name.
"""

import argparse
import ctypes
import difflib
import glob
import json
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAMS = os.path.join(ROOT, 'tests', 'transparency')
MODES = {'seccomp': [], 'full': ['--no-seccomp']}

# What differs for a reason that docs/transparency.md gives: a line of the output, and what stands for it.
DOCUMENTED = [
    ('surroundings', re.compile(r'^(TracerPid|Seccomp|Seccomp_filters) \d+$', re.M), r'\1 *'),
    # Only without CAP_SYS_ADMIN; the report says so.
    ('surroundings-nobody', re.compile(r'^NoNewPrivs \d+$', re.M), r'NoNewPrivs *'),
]


class Case:
    """One program: `argv` is run in an empty directory."""

    def __init__(self, name, argv, needs=(), limit=40, fast=False, full=True, typed=None, user=None, inside=False,
                 same=(), outer=False, ends=0):
        self.name = name
        self.argv = argv
        self.needs = [argv[0], *needs]
        self.limit = limit
        self.fast = fast
        self.modes = ['seccomp', 'full'] if full else ['seccomp']
        # On a terminal: what is typed, as pairs of (what to wait for, what to type); None waits for a new foreground group to
        # sleep, and a `~` in front for the text and then that.
        self.typed = typed
        # Runs as this user: fdwatch does, too, or with `inside` only the program.
        self.user = user
        self.inside = inside
        # Patterns whose matches are of no matter (process ids, times), and what stands for them.
        self.same = same
        # The program itself starts fdwatch, as $RUN says.
        self.outer = outer
        # Its exit status: what does not run at all would be the same without and with fdwatch.
        self.ends = ends

    def missing(self):
        for program in self.needs:
            if not shutil.which(program):
                return f'no {program}'
        if self.user:
            if os.geteuid() != 0:
                return 'only root can become another user'
            try:
                pwd.getpwnam(self.user)
            except KeyError:
                return f'no user {self.user}'
        return None


def program(name):
    return os.path.join(PROGRAMS, name)


PIDS = (re.compile(rb'(\[\d\]\s*[-+]?|line \d+:) +\d{2,}'), rb'\1 PID')
# When dash tells of jobs that have ended is a matter of time.
DASH = (re.compile(rb'^(\[\d\].*|Terminated|Killed)\r?\n', re.M), b'')
# A shell that echoes what is typed while it is busy may show it twice, or before its prompt.
SHELL = [
    ('ready> ', 'sleep 100\r'),
    (None, '\x1a'),
    ('ready> ', 'jobs\r'),
    ('ready> ', 'bg\r'),
    ('ready> ', 'fg\r'),
    # Before the shell has handed the terminal on, it is the shell that is interrupted.
    ('~sleep 100', '\x03'),
    ('ready> ', 'echo "$?"\r'),
    ('ready> ', 'cat | cat\r'),
    (None, 'through two cats\r'),
    ('through two cats\r\nthrough two cats\r\n', '\x04'),
    # Before it is a sleep it ignores SIGTERM, as the shell does.
    ('ready> ', 'sleep 100 & until grep -q sleep /proc/$!/comm; do :; done\r'),
    ('ready> ', 'kill %1; wait %1; echo "killed: $?"\r'),
    ('killed: \\d+.*ready> ', 'sh -c \'kill -STOP $$; exit 3\'\r'),
    ('ready> ', 'fg; echo "stopped: $?"\r'),
    ('stopped: \\d+.*ready> ', 'stty -echo; printf "\\147o\\n"; read x; stty echo; echo "read $x"\r'),
    ('go\r\n', 'hidden\r'),
    ('read hidden\r\n.*ready> ', 'exit 4\r'),
]
# Typed to a shell that fdwatch does not watch, but its child: the whole job is stopped and continued.
JOB = [
    ('ready> ', '$RUN sh -c \'printf "be\\147un\\n"; read x; echo "read $x"; exit 5\'\r'),
    ('~begun\r\n', '\x1a'),
    ('ready> ', 'jobs | sed "s/ *sh -c.*//; s/.RUN.*//"\r'),
    ('ready> ', 'fg >/dev/null\r'),
    (None, 'typed\r'),
    ('read typed.*ready> ', 'echo "status $?"\r'),
    ('status \\d+.*ready> ', '$RUN sh -c \'printf "be\\147un\\n"; sleep 100\'\r'),
    ('~begun\r\n', '\x03'),
    ('ready> ', 'echo "status $?"\r'),
    ('status \\d+.*ready> ', '$RUN cat\r'),
    (None, 'line\r'),
    ('line\r\nline\r\n', '\x1c'),
    ('ready> ', 'echo "status $?"\r'),
    ('status \\d+.*ready> ', 'exit 6\r'),
]

BASH = ['bash', '--noprofile', '--norc', '--noediting', '-i']
CASES = [
    Case('surroundings', [sys.executable, program('surroundings.py')], fast=True, ends=3),
    Case('surroundings-nobody', ['/usr/bin/python3', program('surroundings.py')], user='nobody', ends=3),
    Case('sh-descriptors', ['dash', program('shell.sh')], fast=True, ends=5),
    Case('bash-descriptors', ['bash', program('shell.sh')], same=[PIDS], ends=5),
    Case('bash-more', ['bash', program('bash.sh')], fast=True),
    Case('bash-jobs', ['bash', program('jobs.sh')], fast=True, same=[PIDS], ends=9),
    Case('dash-jobs', ['dash', program('jobs.sh')], fast=True, typed=[], same=[PIDS, DASH], ends=9),
    Case('bash-terminal', BASH, typed=SHELL, fast=True, same=[PIDS], ends=4),
    Case('dash-terminal', ['dash', '-i'], typed=SHELL, same=[PIDS], ends=4),
    Case('job-of-a-shell', BASH, typed=JOB, outer=True, same=[PIDS], ends=6),
    Case('script', ['script', '-q', '-e', '-c', f'dash {program("jobs.sh")}', 'typescript'], same=[PIDS, DASH], ends=9),
    Case('perl', ['perl', program('perl.pl')], fast=True, ends=6),
    Case('make', ['bash', program('make.sh')], needs=['make'], fast=True),
    Case('git', ['bash', program('git.sh')], needs=['git']),
    Case('gcc', ['bash', program('gcc.sh')], needs=['gcc', 'nm']),
    Case('vim', ['bash', program('vim.sh')], needs=['vim']),
    Case('tmux', ['bash', program('tmux.sh')], needs=['tmux']),
    Case('sqlite', ['bash', program('sqlite.sh')], needs=['sqlite3']),
    Case('redis', ['bash', program('redis.sh')], needs=['redis-server', 'redis-cli']),
    Case('node', ['node', program('node.js')], ends=7),
    Case('go-build', ['bash', '-c', 'cp "$1" program.go && go build -o program program.go; echo "build: $?"', 'bash',
                      program('program.go')], needs=['go'], limit=600, full=False),
    Case('go', ['bash', '-c', './program; echo "program: $?"'], needs=['go']),
    Case('java', ['java', '-Xshare:auto', program('Program.java')], limit=300, ends=5),
    Case('cargo', ['bash', program('cargo.sh')], needs=['cargo'], limit=600),
    Case('postgres', ['bash', program('postgres.sh')], needs=['initdb', 'pg_ctl', 'psql', 'setpriv'], limit=300,
         user='nobody'),
    Case('postgres-setpriv', ['bash', program('postgres.sh')], needs=['initdb', 'pg_ctl', 'psql', 'setpriv'], limit=300,
         user='nobody', inside=True, full=False),
]

MODULES = ['test_fork1', 'test_posix', 'test_os', 'test_signal', 'test_pty', 'test_io', 'test_subprocess', 'test_threading',
           'test_asyncio']


class Ran:
    """What one run of a program did."""

    def __init__(self, status, out, err, seconds, left, late, report):
        self.status, self.out, self.err = status, out, err
        self.seconds, self.left, self.late, self.report = seconds, left, late, report

    def how(self):
        if self.late:
            return 'too late'
        if os.WIFSIGNALED(self.status):
            return f'signal {os.WTERMSIG(self.status)}'
        return f'exit {os.WEXITSTATUS(self.status)}'


def descendants():
    """Everyone below this process: orphans come to it (PR_SET_CHILD_SUBREAPER)."""
    parent = {}
    for stat in glob.glob('/proc/[0-9]*/stat'):
        try:
            text = open(stat, 'rb').read().decode(errors='replace')
        except OSError:
            continue
        pid, rest = text.split(' ', 1)[0], text.rsplit(') ', 1)[1].split()
        parent[int(pid)] = (int(rest[1]), rest[0])
    found, front = [], [os.getpid()]
    while front:
        front = [p for p, (of, _) in parent.items() if of in front]
        found += front
    return [(p, parent[p][1]) for p in found]


def reap():
    """Waits for those who came to us; whether somebody is left."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


def kill_all():
    for pid, _ in descendants():
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


def end_all():
    """Ends whoever is left; their names, of those that were not about to go by themselves."""
    until = time.monotonic() + 10
    while reap() and time.monotonic() < until:
        time.sleep(0.01)
    left = []
    while reap():
        for pid, state in descendants():
            try:
                left.append(open(f'/proc/{pid}/comm').read().strip() + f' ({state})')
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        time.sleep(0.01)
    return sorted(set(left))


def spawn(argv, env, cwd, out, err, terminal, user):
    """Starts `argv` below a process that leads a session and does nothing else; gives that one's pid and a pipe with the
    wait status."""
    status_r, status_w = os.pipe()
    pid = os.fork()
    if pid:
        os.close(status_w)
        return pid, status_r
    try:
        os.setsid()
        for s in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTOU, signal.SIGTTIN, signal.SIGHUP):
            signal.signal(s, signal.SIG_IGN)
        if terminal is not None:
            tty = os.open(terminal, os.O_RDWR)  # becomes the controlling terminal: nobody leads it yet (tty_ioctl(4))
            stdin = out = err = tty
        else:
            stdin = os.open('/dev/null', os.O_RDONLY)
        child = os.fork()
        if child == 0:
            for s in range(1, 32):
                if s not in (signal.SIGKILL, signal.SIGSTOP):
                    signal.signal(s, signal.SIG_DFL)
            for to, of in enumerate((stdin, out, err)):
                os.dup2(of, to)
            os.closerange(3, 256)
            os.chdir(cwd)
            if user:
                who = pwd.getpwnam(user)
                os.setgroups([])
                os.setgid(who.pw_gid)
                os.setuid(who.pw_uid)
            try:
                os.execvpe(argv[0], argv, env)
            except OSError as e:
                os.write(2, f'{argv[0]}: {e.strerror}\n'.encode())
                os._exit(127)
        status = os.waitpid(child, 0)[1]
        os.write(status_w, str(status).encode())
    finally:
        os._exit(0)


class Runner:
    def __init__(self, fdwatch, keep):
        self.fdwatch = fdwatch
        self.keep = keep
        self.dir = tempfile.mkdtemp(prefix='fdwatch-transparency-')
        os.chmod(self.dir, 0o755)
        self.work = os.path.join(self.dir, 'work')
        self.shared = os.path.join(self.dir, 'shared')
        os.mkdir(self.shared)
        os.chmod(self.shared, 0o777)
        self.number = 0
        # Where the user cannot go (another's home) the program is brought along.
        self.public = os.path.join(self.dir, 'fdwatch')
        shutil.copy(fdwatch, self.public)
        os.chmod(self.public, 0o755)

    def env(self):
        env = {
            'PATH': os.environ.get('PATH', '/usr/bin:/bin'), 'HOME': self.work, 'LANG': 'C.UTF-8', 'LC_ALL': 'C.UTF-8',
            'TZ': 'UTC', 'TERM': 'xterm', 'TMPDIR': os.path.join(self.work, 'tmp'), 'PS1': 'ready> ', 'ENV': '',
            'GIT_AUTHOR_NAME': 'A', 'GIT_AUTHOR_EMAIL': 'a@example.org', 'GIT_AUTHOR_DATE': '2024-01-01T00:00:00Z',
            'GIT_COMMITTER_NAME': 'A', 'GIT_COMMITTER_EMAIL': 'a@example.org', 'GIT_CONFIG_NOSYSTEM': '1',
            'GIT_COMMITTER_DATE': '2024-01-01T00:00:00Z', 'HISTFILE': '/dev/null', 'GOFLAGS': '-mod=mod', 'GO111MODULE': 'off',
        }
        home = os.path.expanduser('~')
        for name, below in (('CARGO_HOME', '.cargo'), ('RUSTUP_HOME', '.rustup')):
            env[name] = os.environ.get(name, os.path.join(home, below))
        return env

    def run(self, argv, mode, limit, typed=None, user=None, inside=False, outer=False, env=(), files=()):
        """Runs `argv` without fdwatch (`mode` None) or with it."""
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(os.path.join(self.work, 'tmp'))
        for path in files:
            shutil.copy(path, self.work)
        if user:
            who = pwd.getpwnam(user)
            for path in (self.work, os.path.join(self.work, 'tmp')):
                os.chown(path, who.pw_uid, who.pw_gid)
        self.number += 1
        report = os.path.join(self.shared, f'report-{self.number}.json')
        env = dict(self.env(), **dict(env))
        if user and inside:
            argv = ['setpriv', f'--reuid={who.pw_uid}', f'--regid={who.pw_gid}', '--clear-groups', *argv]
            user = None
        if mode is not None:
            watch = [self.public, 'audit', '--fail-on', 'never', '--format', 'json', '-o', report, *MODES[mode], '--']
            if outer:
                env['RUN'] = ' '.join(watch)
            else:
                argv = watch + argv
        elif outer:
            env['RUN'] = ''
        outs = [os.path.join(self.shared, n) for n in ('out', 'err')]
        fds = [os.open(p, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666) for p in outs]
        master = terminal = None
        if typed is not None:
            master, slave = os.openpty()
            terminal = os.ttyname(slave)
            if user:
                os.chown(terminal, who.pw_uid, who.pw_gid)
        began = time.monotonic()
        pid, status_r = spawn(argv, env, self.work, fds[0], fds[1], terminal, user)
        for fd in fds:
            os.close(fd)
        shown = b''
        if typed is not None:
            os.close(slave)
            shown = self.converse(master, typed, began + limit)
        ready = select.select([status_r], [], [], max(0.0, began + limit - time.monotonic()))[0]
        late = not ready
        status = int(os.read(status_r, 64) or b'9') if ready else 9
        seconds = time.monotonic() - began
        if late and self.keep:
            self.look()
        if late:
            kill_all()
        left = end_all()
        os.close(status_r)
        if master is not None:
            os.close(master)
        out, err = (open(p, 'rb').read() for p in outs)
        try:
            text = json.load(open(report))
        except (OSError, ValueError):
            text = None
        if self.keep:
            for p, name in zip(outs, ('out', 'err')):
                shutil.copy(p, os.path.join(self.shared, f'{self.number}.{name}'))
        return Ran(status, shown or out, err, seconds, left, late, text)

    def look(self):
        """Who is there when the time is over, and where in the kernel."""
        for pid, state in descendants():
            try:
                what = open(f'/proc/{pid}/cmdline').read().replace('\0', ' ')[:100]
                print(f'    {pid} {state} {open(f"/proc/{pid}/wchan").read()} {what}')
            except OSError:
                pass

    def converse(self, master, typed, until):
        """Types at the terminal, each time after something was shown; what was shown in all."""
        shown, seen, todo = b'', 0, list(typed)
        while time.monotonic() < until:
            while todo:
                wanted, keys = todo[0]
                # A foreground program has begun to wait when it sleeps in another process group than the shell's.
                settle = wanted is None or wanted.startswith('~')
                hit = re.search((wanted or '').lstrip('~').encode(), shown[seen:], re.S)
                if not hit or settle and not self.settled(master):
                    break
                seen += hit.end()
                todo.pop(0)
                self.foreground = None if settle else self.group(master)
                os.write(master, keys.encode())
            if select.select([master], [], [], 0.05)[0]:
                try:
                    data = os.read(master, 65536)
                except OSError:  # EIO: nobody holds the terminal any more
                    break
                if not data:
                    break
                shown += data
        return shown

    def group(self, master):
        try:
            return os.tcgetpgrp(master)
        except OSError:
            return None

    def settled(self, master):
        """Whether every process of the terminal's foreground group is asleep, and the group is another than the shell's."""
        now = self.group(master)
        if now is None or now == self.foreground:
            return False
        states = []
        for stat in glob.glob('/proc/[0-9]*/stat'):
            try:
                rest = open(stat, 'rb').read().decode(errors='replace').rsplit(') ', 1)[1].split()
            except OSError:
                continue
            if int(rest[2]) == now:
                states.append(rest[0])
        return bool(states) and all(s == 'S' for s in states)

    def close(self):
        if not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)
        else:
            print(f'kept: {self.dir}')


def tidy(case, data, mode):
    for pattern, by in case.same:
        data = pattern.sub(by, data)
    text = data.decode(errors='backslashreplace')
    for name, pattern, by in DOCUMENTED:
        if name == case.name or case.name.startswith(name + '-'):
            text = pattern.sub(by, text)
    return text


def differences(case, native, watched, mode):
    found = []
    if native.how() != watched.how():
        found.append(f'ended with {watched.how()}, not {native.how()}')
    for what, a, b in (('stdout', native.out, watched.out), ('stderr', native.err, watched.err)):
        a, b = tidy(case, a, mode), tidy(case, b, mode)
        if a != b:
            lines = difflib.unified_diff(a.splitlines(), b.splitlines(), 'native ' + what, 'watched ' + what, lineterm='', n=1)
            found.append('\n'.join(list(lines)[:40]))
    if native.left != watched.left:
        found.append(f'left running: {watched.left}, not {native.left}')
    if watched.report is None and not case.outer:
        found.append('fdwatch wrote no report')
    return found


HEAD = ('program', 'mode', 'ended', 'errors', 'warnings', 'surprises', 'native s', 'watched s', 'ratio', 'verdict')
WIDTH = (28, 8, 10, 7, 9, 10, 9, 10, 6, 0)


def row(*cells):
    print(' '.join(str(c).ljust(w) if i < 3 or not w else str(c).rjust(w) for i, (c, w) in enumerate(zip(cells, WIDTH))), flush=True)


def counts(report):
    if report is None:
        return '-', '-', '-'
    return report['counts']['errors'], report['counts']['warnings'], report['coverage']['surprises']


def line(name, mode, native, watched, verdict):
    ratio = f'{watched.seconds / max(native.seconds, 0.001):.1f}'
    row(name, mode, watched.how(), *counts(watched.report), f'{native.seconds:.2f}', f'{watched.seconds:.2f}', ratio, verdict)


def compare(runner, case, modes):
    """Runs one case; whether nothing differs."""
    fine = True
    files = []
    if case.name == 'go':
        # Built without fdwatch; the case is the running.
        shutil.copy(program('program.go'), runner.shared)
        env = dict(runner.env(), HOME=runner.shared)
        built = subprocess.run(['go', 'build', '-o', 'program', 'program.go'], cwd=runner.shared, env=env)
        if built.returncode != 0:
            row(case.name, '-', '-', '-', '-', '-', '-', '-', '-', 'skipped: go cannot build it')
            return True
        files = [os.path.join(runner.shared, 'program')]
    options = dict(limit=case.limit, typed=case.typed, user=case.user, inside=case.inside, outer=case.outer, files=files)
    native = runner.run(case.argv, None, **options)
    if native.how() != f'exit {case.ends}':
        row(case.name, '-', native.how(), '-', '-', '-', f'{native.seconds:.2f}', '-', '-',
            f'FAILED without fdwatch: not exit {case.ends}')
        print('    ' + (native.out + native.err).decode(errors='replace')[-1000:].replace('\n', '\n    '))
        return False
    for mode in [m for m in case.modes if m in modes]:
        watched = runner.run(case.argv, mode, **options)
        found = differences(case, native, watched, mode)
        verdict = 'same'
        if found:
            # A program that differs from itself proves nothing.
            again = runner.run(case.argv, None, **options)
            own = differences(case, native, again, None)
            if [f for f in own if f != 'fdwatch wrote no report']:
                verdict = 'DIFFERS, but also from itself'
            else:
                verdict = 'DIFFERS'
            fine = False
        line(case.name, mode, native, watched, verdict)
        for f in found:
            print('    ' + f.replace('\n', '\n    '))
    return fine


# Test suites.

def verdicts(path):
    """Of each test of a JUnit file: its verdict."""
    try:
        tree = xml.etree.ElementTree.parse(path)
    except (OSError, xml.etree.ElementTree.ParseError):
        return None
    found = {}
    for test in tree.iter('testcase'):
        kinds = {child.tag for child in test} & {'failure', 'error', 'skipped'}
        name = test.get('name') or ''
        found[name] = '+'.join(sorted(kinds)) or 'ok'
    return found


def run_module(runner, python, module, mode, limit, only=(), user=None):
    result = os.path.join(runner.shared, 'result.xml')
    if os.path.exists(result):
        os.remove(result)
    argv = [python, '-m', 'test', '-v', '--timeout', str(limit - 20), '--junit-xml', result]
    for name in only:
        argv += ['-m', name]
    ran = runner.run([*argv, module], mode, limit, user=user)
    return ran, verdicts(result)


def suite(runner, python, module, modes, limit, user):
    """Whether nothing differs; None where nothing was compared."""
    version = subprocess.run([python, '-V'], capture_output=True, text=True).stdout.split()[-1]
    name = f'{version} {module}' + (f' ({user})' if user else '')
    native, expected = run_module(runner, python, module, None, limit, user=user)
    if expected is None:
        row(name, '-', native.how(), '-', '-', '-', f'{native.seconds:.1f}', '-', '-', 'skipped: fails without fdwatch, too')
        return None
    # regrtest ends with 4 where it ran no test.
    if not expected and native.how() not in ('exit 0', 'exit 4'):
        row(name, '-', native.how(), '-', '-', '-', f'{native.seconds:.1f}', '-', '-', 'skipped: it breaks without fdwatch, too')
        return None
    if not expected:
        row(name, '-', native.how(), '-', '-', '-', f'{native.seconds:.1f}', '-', '-', 'skipped: it runs no tests here')
        return None
    fine = True
    for mode in modes:
        watched, got = run_module(runner, python, module, mode, limit, user=user)
        if got is None:
            line(name, mode, native, watched, 'DIFFERS: no result')
            tail = (watched.out + watched.err).decode(errors='replace').splitlines()[-30:]
            print('    ' + '\n    '.join(tail))
            fine = False
            continue
        differ = {t for t in {*expected, *got} if expected.get(t) != got.get(t)}
        flaky, ours, once = set(), set(), set()
        if differ:
            # Flaky is what differs between two runs without fdwatch; each test that remains is run by itself.
            _, second = run_module(runner, python, module, None, limit, user=user)
            flaky = {t for t in differ if second is not None and second.get(t) != expected.get(t)}
            for test in sorted(differ - flaky):
                alone = [re.sub(r'^test\.', '', test), test]
                short = [test.rsplit('.', 1)[-1]] if len(differ) < 30 else alone
                tries = {m: [(run_module(runner, python, module, m, limit, short, user)[1] or {}).get(test) for _ in range(3)]
                         for m in (None, mode)}
                if len(set(tries[None])) > 1:
                    flaky.add(test)
                elif any(v != tries[None][0] for v in tries[mode]):
                    ours.add(test)
                else:
                    once.add(test)
                print(f'    {test}: {expected.get(test)} without, {got.get(test)} with; again, alone: {tries[None]}, {tries[mode]}')
        passed = sum(v == 'ok' for v in got.values())
        verdict = f'{len(got)} tests, {passed} ok, {len(ours)} differ'
        if flaky:
            verdict += f', {len(flaky)} flaky'
        if once:
            verdict += f', {len(once)} differed once'
        fine = fine and not ours
        if native.how() != watched.how() and not differ:
            verdict += f', DIFFERS: {watched.how()}, not {native.how()}'
            fine = False
        if native.left != watched.left:
            verdict += f', left running: {watched.left}'
            fine = False
        line(name, mode, native, watched, verdict)
    return fine


def interpreters():
    """Interpreters that ship their tests, the newest first."""
    found = {}
    candidates = [sys.executable, '/usr/bin/python3', *glob.glob(os.path.expanduser('~/.pyenv/versions/*/bin/python3'))]
    for path in candidates:
        ask = 'import sys, test.test_subprocess, test.libregrtest; print("%d.%d" % sys.version_info[:2], sys.executable)'
        try:
            done = subprocess.run([path, '-c', ask], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            version, real = done.stdout.split()
            found.setdefault(os.path.realpath(real), tuple(map(int, version.split('.'))))
    return sorted(found, key=lambda p: found[p], reverse=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--fdwatch', help='the program to be proven; target/release/fdwatch')
    parser.add_argument('--fast', action='store_true', help='only what takes a second or so')
    parser.add_argument('--list', action='store_true', help='only say what would be run')
    parser.add_argument('--only', action='append', metavar='NAME', help='only this program or test module (repeatable)')
    parser.add_argument('--mode', action='append', choices=list(MODES), help='seccomp, full (--no-seccomp); default: both')
    parser.add_argument('--no-suites', action='store_true', help="leave out CPython's tests")
    parser.add_argument('--suites', action='store_true', help="only CPython's tests")
    parser.add_argument('--python', action='append', metavar='PATH', help='the interpreter whose tests are run (repeatable)')
    parser.add_argument('--user', help="run CPython's tests as this user")
    parser.add_argument('--limit', type=int, default=1500, help='seconds for one test module')
    parser.add_argument('--keep', action='store_true', help='leave outputs and reports, and show who hangs')
    args = parser.parse_args()
    modes = args.mode or list(MODES)
    cases = [c for c in CASES if (not args.fast or c.fast) and (not args.only or c.name in args.only)]
    modules = [m for m in MODULES if not args.only or m in args.only]
    if args.fast or args.no_suites:
        modules = []
    if args.suites:
        cases = []
    pythons = args.python or (interpreters()[:2] if modules else [])
    if args.list:
        for case in cases:
            print(case.name, case.missing() or '')
        for python in pythons:
            print(python, *modules)
        return 0
    fdwatch = args.fdwatch or os.path.join(ROOT, 'target', 'release', 'fdwatch')
    if not os.path.exists(fdwatch):
        parser.error(f'{fdwatch} is not there: cargo build --release, or name it with --fdwatch')
    # Orphans come to us, so that they can be counted and ended (prctl(2), PR_SET_CHILD_SUBREAPER).
    ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    runner = Runner(fdwatch, args.keep)
    bad, skipped = [], 0
    try:
        row(*HEAD)
        for case in cases:
            missing = case.missing()
            if missing:
                skipped += 1
                row(case.name, '-', '-', '-', '-', '-', '-', '-', '-', f'skipped: {missing}')
            elif not compare(runner, case, modes):
                bad.append(case.name)
        if modules and not pythons:
            row('CPython', '-', '-', '-', '-', '-', '-', '-', '-', 'skipped: no interpreter ships its tests')
        for python in pythons:
            for module in modules:
                # Stopping at every call multiplies the minutes; one mode proves the verdicts.
                fine = suite(runner, python, module, args.mode or ['seccomp'], args.limit, args.user)
                if fine is None:
                    skipped += 1
                elif not fine:
                    bad.append(f'{python} {module}')
    finally:
        kill_all()
        end_all()
        runner.close()
    print(f'{len(bad)} of them differ: {", ".join(bad)}' if bad else 'nothing differs')
    if skipped:
        print(f'{skipped} of them were skipped')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())

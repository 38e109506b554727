"""What a program finds around it: descriptors, environment, signals, limits, groups, terminal, status."""
import os, resource, signal, stat, sys

def fd(n):
    s = os.fstat(n)
    import fcntl
    return n, stat.S_IFMT(s.st_mode), fcntl.fcntl(n, fcntl.F_GETFD), fcntl.fcntl(n, fcntl.F_GETFL)

here = os.open('/proc/self/fd', os.O_RDONLY)
print('fds', [fd(int(n)) for n in sorted(os.listdir('/proc/self/fd')) if int(n) not in (here,) and os.path.lexists(f'/proc/self/fd/{n}')])
os.close(here)
print('env', sorted(os.environ.items()))
print('cwd', os.getcwd(), 'umask', oct(os.umask(0)))
print('group is the parent\'s', os.getpgrp() == os.getpgid(os.getppid()), 'session', os.getsid(0) == os.getsid(os.getppid()))
print('limits', [resource.getrlimit(i) for i in range(16)])
print('affinity', sorted(os.sched_getaffinity(0)), 'scheduler', os.sched_getscheduler(0), 'nice', os.nice(0))
status = dict(l.rstrip('\n').split(':\t', 1) for l in open('/proc/self/status') if ':\t' in l)
for key in ('Umask', 'TracerPid', 'Uid', 'Gid', 'Groups', 'SigPnd', 'ShdPnd', 'SigBlk', 'SigIgn', 'SigCgt', 'CapInh', 'CapPrm', 'CapEff',
            'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp', 'Seccomp_filters', 'Cpus_allowed_list', 'Threads'):
    print(key, status.get(key, '').split('/')[-1])
for name in ('personality', 'oom_score_adj', 'coredump_filter', 'timerslack_ns', 'sched', 'cgroup', 'loginuid'):
    try:
        text = open('/proc/self/' + name).read().strip()
        print(name, text if name != 'sched' else [l for l in text.splitlines() if l.startswith(('policy', 'prio'))])
    except OSError as e:
        print(name, e.strerror)
try:
    tty = os.open('/dev/tty', os.O_RDWR)
    print('terminal', os.tcgetpgrp(tty) == os.getpgrp())
except OSError as e:
    print('terminal', e.strerror)
print('argv0', open('/proc/self/cmdline').read().split('\0')[0], 'exe', os.readlink('/proc/self/exe'))
print('auxv', len(open('/proc/self/auxv', 'rb').read()))
sys.exit(3)

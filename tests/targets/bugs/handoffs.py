"""Why: hand-offs that go wrong, one word each; with "repaired-" before it the same done right.

    direction   the read end of a pipe as a child's stdout
    listen      LISTEN_FDS for a socket that is close-on-exec
    devfd       /dev/fd/N in the arguments, and N closed for the child
    leak        a descriptor that every child inherits
    growth      a list that only grows (at most 256 open)
    exit        a file that is never closed
    use         a write to what has been closed (with --uses all)
    thousand    the same double close a thousand times
"""
import fcntl
import os
import resource
import socket
import subprocess
import sys


def direction(repaired):
    r, w = os.pipe()
    subprocess.run(["/bin/echo", "hi"], stdout=w if repaired else r, stderr=subprocess.DEVNULL)
    os.close(r), os.close(w)


def listen(repaired):
    sock = socket.socket(socket.AF_UNIX)
    pid = os.fork()
    if pid == 0:
        if repaired:
            os.dup2(sock.fileno(), 3) if sock.fileno() != 3 else os.set_inheritable(3, True)
        else:
            # The very number, and still close-on-exec.
            os.dup2(sock.fileno(), 3, inheritable=False) if sock.fileno() != 3 else None
        env = dict(os.environ, LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        os.execve("/bin/true", ["true"], env)
    os.waitpid(pid, 0)
    sock.close()


def devfd(repaired):
    with open("/etc/passwd") as f:
        passed = [f.fileno()] if repaired else []
        subprocess.run(["/bin/cat", "/dev/fd/%d" % f.fileno()], pass_fds=passed, stdout=-1, stderr=subprocess.DEVNULL)


def leak(repaired):
    fd = os.open("/etc/passwd", os.O_RDONLY)
    if not repaired:
        # As C's open without O_CLOEXEC has it.
        copy = fcntl.fcntl(fd, fcntl.F_DUPFD, 0)
        os.close(fd)
        fd = copy
    for _ in range(3):
        os.system("true")
    os.close(fd)


def growth(repaired):
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    if len(sys.argv) < 3:
        os.execv(sys.executable, [sys.executable] + sys.argv + ["again"])
    files = []
    for _ in range(230):
        files.append(open("/dev/null"))
        if repaired:
            files.pop().close()


def exit(repaired):
    fd = os.open("/dev/null", os.O_RDONLY)
    if repaired:
        os.close(fd)


def use(repaired):
    fd = os.open("/dev/null", os.O_WRONLY)
    if not repaired:
        os.close(fd)
    try:
        os.write(fd, b"hi")
    except OSError:
        pass
    if repaired:
        os.close(fd)


def close_twice(fd, repaired):
    os.close(fd)
    if not repaired:
        try:
            os.close(fd)
        except OSError:
            pass


def thousand(repaired):
    for _ in range(1000):
        close_twice(os.open("/dev/null", os.O_RDONLY), repaired)


mode = sys.argv[1]
repaired = mode.startswith("repaired-")
globals()[mode.replace("repaired-", "", 1)](repaired)

"""Why: two Python objects that own one number.

    loop      an event loop closes the number of a socket, another thread opens a pipe, and the socket's own finalizer
              closes the pipe (uvloop issue 763)
    manhole   os.fdopen of a socket's number: the socket closes it, a new socket gets it, the file's finalizer closes
              that (python-manhole issue 58, cpython issue 75163)
    collector the same, and the file is in a cycle: the cyclic collector closes the number of a new pair of sockets
    repaired-loop, repaired-manhole, repaired-collector: one owner each
"""
import gc
import os
import socket
import sys
import threading


def loop(repaired):
    opened, closed, barrier = [], [], threading.Barrier(2)

    def other():
        barrier.wait()
        opened.extend(os.pipe())
        barrier.wait()
        barrier.wait()
        for fd in opened:
            try:
                os.close(fd)
            except OSError as e:
                closed.append(e.errno)

    thread = threading.Thread(target=other)
    thread.start()
    sock = socket.socket(socket.AF_UNIX)
    number = sock.detach() if repaired else sock.fileno()
    os.close(number)
    barrier.wait()
    barrier.wait()
    del sock
    barrier.wait()
    thread.join()
    print(closed)


def manhole(repaired):
    sock = socket.socket(socket.AF_UNIX)
    number = os.dup(sock.fileno()) if repaired else sock.fileno()
    file = os.fdopen(number, "rb", buffering=0)
    sock.close()
    new = socket.socket(socket.AF_UNIX)
    del file
    try:
        new.close()
    except OSError as e:
        print(e.errno)


def collector(repaired):
    gc.disable()
    sock = socket.socket(socket.AF_UNIX)
    number = os.dup(sock.fileno()) if repaired else sock.fileno()
    held = [os.fdopen(number, "rb", buffering=0)]
    held.append(held)
    sock.close()
    pair = socket.socketpair()
    del held
    gc.collect()
    for new in pair:
        try:
            new.close()
        except OSError as e:
            print(e.errno)


mode = sys.argv[1]
repaired = mode.startswith("repaired-")
{"loop": loop, "manhole": manhole, "collector": collector}[mode.removeprefix("repaired-") if repaired else mode](repaired)

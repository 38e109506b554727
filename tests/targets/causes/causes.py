"""Ends of all kinds in CPython. Each opens a file of its own name in the folder of the first argument."""
import contextlib
import gc
import os
import sys


def path(name):
    return os.path.join(sys.argv[1], name)


def method():
    f = open(path("method"), "w")
    f.close()


def function():
    os.close(os.open(path("function"), os.O_CREAT | os.O_RDWR))


def block():
    with open(path("block"), "w") as f:
        f.write("x")


def raised():
    try:
        with open(path("raised"), "w"):
            raise ValueError
    except ValueError:
        pass


class Own:
    def __init__(self, name):
        self.fd = os.open(path(name), os.O_CREAT | os.O_RDWR)

    def close(self):
        os.close(self.fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Deleted(Own):
    def __del__(self):
        self.close()


def own_block():
    with Own("own_block"):
        pass


def closing():
    with contextlib.closing(Own("closing")):
        pass


def count():
    f = open(path("count"), "w")
    del f


def deleted():
    d = Deleted("deleted")
    del d


def cycle():
    loop = [open(path("cycle"), "w")]
    loop.append(loop)
    del loop
    gc.collect()


gc.disable()
method()
function()
block()
raised()
own_block()
closing()
count()
deleted()
cycle()
shutdown = open(path("shutdown"), "w")

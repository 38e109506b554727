"""Closes 9, which whoever starts it has left open: in a finalizer, below a callback of the regular expressions."""
import os
import re


class Owner:
    def __del__(self):
        os.close(9)


def replace(match):
    owner = Owner()
    return "y" if owner else "z"


def outer():
    return re.sub("x", replace, "x")


outer()

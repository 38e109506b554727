"""Opens argv[1] as number 40 and closes it, three times, while a child holds a pipe; waits for a line; closes 40 again.

Why: something for every command of the prompt to be tried on. Number 41 is a pipe in which `waiting` waits.
"""
import os
import sys


def shut(fd):
    try:
        os.close(fd)
        say("closed")
    except OSError as e:
        say(f"refused: {e.strerror}")


def turn(path):
    fd = os.open(path, os.O_RDONLY)
    os.dup2(fd, 40)
    os.close(fd)
    shut(40)


def main():
    gate, hold = os.pipe()
    full, fill = os.pipe()
    os.dup2(full, 41)
    os.write(fill, b"waiting")
    up, say_up = os.pipe()
    if os.fork() == 0:
        os.close(hold)
        os.write(say_up, b"x")
        try:
            os.read(gate, 1)
        except KeyboardInterrupt:
            say("child got SIGINT")
        os._exit(0)
    # What the child does of descriptors is over before the story begins.
    os.read(up, 1)
    for _ in range(3):
        turn(sys.argv[1])
    say("ready")
    try:
        say(f"line {sys.stdin.readline().strip()}")
    except KeyboardInterrupt:
        say("got SIGINT")
    shut(40)
    # What is found of a close that was refused is told two calls later: it may be a loop's first step.
    os.close(os.dup(full))
    say("over")


def say(text):
    """In one write, so that what two processes say does not mix."""
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    main()

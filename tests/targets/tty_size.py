"""Says how wide the terminal is whenever it is told that this changed, and repeats lines."""
import os
import signal
import sys


def told(number, frame):
    os.write(1, b"now %d columns\n" % os.get_terminal_size().columns)


signal.signal(signal.SIGWINCH, told)
print("%d columns" % os.get_terminal_size().columns, flush=True)
for line in sys.stdin:
    print("got", line, end="", flush=True)
print("over", flush=True)

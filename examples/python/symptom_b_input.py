"""Symptom b: with input=. The child's output is the read end of its own input.

Shows: subprocess opens a pipe for the input after the finalizer has closed the number, and the pipe's read end takes
it. The child gets that end as its stdin and as its stdout.
Seen without fdwatch: no exception, an empty file, and on stderr a "Bad file descriptor" from the child, which is free
to ignore it and exit with status 0.
Repair: keep the file object: `with open(path, "w") as out: subprocess.run(..., stdout=out)`.
"""
import os
import subprocess
import sys
import tempfile


def main(directory):
    path = os.path.join(directory, "output")
    done = subprocess.run(["/usr/bin/sort"], input=b"pear\napple\n", stdout=open(path, "w").fileno())
    print("status %d, the file holds %d bytes" % (done.returncode, os.path.getsize(path)))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(fresh)

"""Symptom a: the bare call. The output is lost, and a wrapper hides the only error.

Shows: the finalizer closes the number, and the child's dup2 of it onto 1 fails with EBADF.
Seen without fdwatch: an empty file, status 0; without the wrapper it would be OSError: [Errno 9] Bad file descriptor.
Repair: keep the file object: `with open(path, "w") as out: run_quietly(..., stdout=out)`.
"""
import os
import subprocess
import sys
import tempfile


def run_quietly(command, **options):
    """Return the status, or None when the command could not be started."""
    try:
        return subprocess.run(command, **options).returncode
    except OSError:
        return None


def main(directory):
    path = os.path.join(directory, "output")
    run_quietly(["/bin/echo", "hi"], stdout=open(path, "w").fileno())
    print("the file holds", os.path.getsize(path), "bytes")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(fresh)

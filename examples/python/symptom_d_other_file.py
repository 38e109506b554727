"""Symptom d: another file is opened in between. The output goes there, and nothing fails.

Shows: the journal takes the number that the finalizer of the output gave back.
Seen without fdwatch: status 0, an empty output, and a line in the journal that nobody wrote there.
Repair: keep the file object: `output = open(path, "w")`, and pass `stdout=output`.
"""
import os
import subprocess
import sys
import tempfile


def main(directory):
    path = os.path.join(directory, "output")
    number = open(path, "w").fileno()
    with open(os.path.join(directory, "journal"), "a+") as journal:
        status = subprocess.run(["/bin/echo", "hi"], stdout=number).returncode
        journal.seek(0)
        print("status %d, the file holds %d bytes, the journal says %r"
              % (status, os.path.getsize(path), journal.read()))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(fresh)

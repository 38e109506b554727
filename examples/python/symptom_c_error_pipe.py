"""Symptom c: "Bad exception data from child". The child writes its output into CPython's own error pipe.

Shows: the settings file held a lower number than the output, and both are closed by now. The pipe over which a failed
start would be reported takes them, and its write end has the number of the output. cwd= matters on CPython 3.13:
without it subprocess uses posix_spawn, there is no such pipe, and this is symptom a again.
Seen without fdwatch: SubprocessError: Bad exception data from child: b'hi\\n'; an empty file.
Repair: keep the file object until the child has been started.
"""
import os
import subprocess
import sys
import tempfile


def main(directory):
    path = os.path.join(directory, "output")
    with open(__file__):
        number = open(path, "w").fileno()
    try:
        subprocess.run(["/bin/echo", "hi"], stdout=number, cwd=directory)
        said = "nothing amiss"
    except subprocess.SubprocessError as error:
        said = error
    print("subprocess said: %s; the file holds %d bytes" % (said, os.path.getsize(path)))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(fresh)

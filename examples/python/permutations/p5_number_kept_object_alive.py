"""Working: `fd = f.fileno()` with `f` alive. A bare number is fine as long as its owner lives."""
import os
import subprocess
import sys
import tempfile


def main(directory):
    path = os.path.join(directory, "output")
    try:
        f = open(path, "w")
        fd = f.fileno()
        subprocess.run(["/bin/echo", "hi"], stdout=fd)
    except OSError as error:
        print("OSError:", error, end="; ")
    print("the file holds", os.path.getsize(path), "bytes")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(fresh)

"""Working: `f = open(p, "w")`, passed as `f.fileno()`. The name `f` keeps the object alive."""
import os
import subprocess
import sys
import tempfile


def main(directory):
    path = os.path.join(directory, "output")
    try:
        f = open(path, "w")
        subprocess.run(["/bin/echo", "hi"], stdout=f.fileno())
    except OSError as error:
        print("OSError:", error, end="; ")
    print("the file holds", os.path.getsize(path), "bytes")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(fresh)

"""Working: `with open(p, "w") as f`. The file is closed after the child has been started, on purpose."""
import os
import subprocess
import sys
import tempfile


def main(directory):
    path = os.path.join(directory, "output")
    try:
        with open(path, "w") as f:
            subprocess.run(["/bin/echo", "hi"], stdout=f)
    except OSError as error:
        print("OSError:", error, end="; ")
    print("the file holds", os.path.getsize(path), "bytes")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(fresh)

"""Not working: `open(p, "wb", 0).fileno()`. No buffer is involved, so buffering is not the cause."""
import os
import subprocess
import sys
import tempfile


def main(directory):
    path = os.path.join(directory, "output")
    try:
        subprocess.run(["/bin/echo", "hi"], stdout=open(path, "wb", 0).fileno())
    except OSError as error:
        print("OSError:", error, end="; ")
    print("the file holds", os.path.getsize(path), "bytes")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(fresh)

"""Working: `os.open`. There is no object: the number belongs to whoever closes it."""
import os
import subprocess
import sys
import tempfile


def main(directory):
    path = os.path.join(directory, "output")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        subprocess.run(["/bin/echo", "hi"], stdout=fd)
        os.close(fd)
    except OSError as error:
        print("OSError:", error, end="; ")
    print("the file holds", os.path.getsize(path), "bytes")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(fresh)

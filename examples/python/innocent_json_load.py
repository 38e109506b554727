"""Innocent: files that are read through temporaries, and closed by reference count all day.

Shows: `json.load(open(p))` and `open(p).read()` close like the five symptoms do: by finalizer, with no call of
close(). Nobody took a number out of those objects, and no child is meant to have it: fdwatch stays silent.
"""
import json
import os
import subprocess
import sys
import tempfile


def main(directory):
    path = os.path.join(directory, "settings.json")
    with open(path, "w") as settings:
        json.dump({"fruit": ["pear", "apple"]}, settings)
    total = 0
    for _ in range(100):
        total += len(json.load(open(path))["fruit"]) + len(open(path).read())
    subprocess.run(["/bin/true"], check=True)
    print("read", total, "in all")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(fresh)

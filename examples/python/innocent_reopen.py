"""Innocent: the number of a temporary is recycled by a file that is handed on properly.

Shows: the first file is closed by reference count and the next one gets its number; the child is given the second, an
object that is alive. The second round even prints the number of the temporary, which harms nobody: the number that the
child gets was asked of the object that lives. `fdwatch audit` finds nothing in either round.
"""
import os
import subprocess
import sys
import tempfile


def main(directory):
    notes, path = os.path.join(directory, "notes"), os.path.join(directory, "output")
    with open(notes, "w") as file:
        file.write("hi\n")

    text = open(notes).read()
    with open(path, "w") as output:
        subprocess.run(["/bin/echo", text.strip()], stdout=output, check=True)
    print("the file holds", os.path.getsize(path), "bytes")

    print("a temporary had number", open(notes).fileno())
    with open(path, "a") as output:
        print("the file has number", output.fileno())
        subprocess.run(["/bin/echo", "again"], stdout=output, check=True)
    print("the file holds", os.path.getsize(path), "bytes")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(fresh)

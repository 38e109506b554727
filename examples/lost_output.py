"""A report that comes out empty.

The program lets /bin/echo write a report into a file. It says "done", exits with status 0, and the file is empty: no
error is shown anywhere.

    python3 examples/lost_output.py [DIR]

Who is to blame? `open` returned an object, `fileno()` returned its number, and nothing kept the object: its reference
count dropped to zero before the child existed, and its finalizer closed the number. The child could not take it as
its output, and `quietly` hid the one error that said so. `fdwatch run` stops at that close; `keep` leaves the
descriptor open, and the report is there. The repair is to keep the object:

    with open(path, "w") as report:
        quietly(["/bin/echo", "3 apples, 2 pears"], stdout=report)
"""
import os
import subprocess
import sys
import tempfile


def quietly(command, **options):
    """Run a command; a report is never worth a crash."""
    try:
        subprocess.run(command, check=True, **options)
    except (OSError, subprocess.SubprocessError):
        pass


def main(directory):
    path = os.path.join(directory, "report.txt")
    quietly(["/bin/echo", "3 apples, 2 pears"], stdout=open(path, "w").fileno())
    print("done: report.txt holds", os.path.getsize(path), "bytes")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(fresh)

"""The five symptoms, repaired: python3 repaired.py LETTER [DIR] with a LETTER from a to e.

Shows: each keeps the file object alive until the child has been started. All print `the file holds N bytes` with an N
above 0, and fdwatch has nothing to say of any of them.
"""
import os
import subprocess
import sys
import tempfile


def bare_call(output, directory):
    subprocess.run(["/bin/echo", "hi"], stdout=output)


def with_input(output, directory):
    subprocess.run(["/usr/bin/sort"], input=b"pear\napple\n", stdout=output)


def error_pipe(output, directory):
    subprocess.run(["/bin/echo", "hi"], stdout=output.fileno(), cwd=directory)


def other_file(output, directory):
    with open(os.path.join(directory, "journal"), "a+"):
        subprocess.run(["/bin/echo", "hi"], stdout=output.fileno())


def posix_spawn(output, directory):
    actions = [(os.POSIX_SPAWN_DUP2, output.fileno(), 1)]
    os.waitpid(os.posix_spawn("/bin/echo", ["echo", "hi"], os.environ, file_actions=actions), 0)


def main(letter, directory):
    path = os.path.join(directory, "output")
    with open(path, "w") as output:
        dict(a=bare_call, b=with_input, c=error_pipe, d=other_file, e=posix_spawn)[letter](output, directory)
    print("the file holds", os.path.getsize(path), "bytes")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if len(sys.argv) > 2:
        main(sys.argv[1], sys.argv[2])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(sys.argv[1], fresh)

"""Symptom e: os.posix_spawn with a dup2 file action.

Shows: the number in the list of file actions is closed before posix_spawn reads the list.
Seen without fdwatch: OSError: [Errno 9] Bad file descriptor: '/bin/echo', and nothing is wrong with /bin/echo.
Repair: keep the file object until posix_spawn has returned.
"""
import os
import sys
import tempfile


def main(directory):
    path = os.path.join(directory, "output")
    actions = [(os.POSIX_SPAWN_DUP2, open(path, "w").fileno(), 1)]
    try:
        pid = os.posix_spawn("/bin/echo", ["echo", "hi"], os.environ, file_actions=actions)
        said = "status %d" % os.waitpid(pid, 0)[1]
    except OSError as error:
        said = "OSError: %s" % error
    print("%s; the file holds %d bytes" % (said, os.path.getsize(path)))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as fresh:
            main(fresh)

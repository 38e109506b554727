"""A program of the whole screen: each key is answered there, o opens a file as number 40 and closes it, q ends it."""
import curses
import os


def main(screen):
    screen.addstr(0, 0, "a whole screen")
    screen.refresh()
    count = 0
    while True:
        key = screen.get_wch()
        count += 1
        if key == "q":
            return
        if key == "o":
            fd = os.open("/etc/passwd", os.O_RDONLY)
            os.dup2(fd, 40)
            os.close(fd)
            os.close(40)
        # All of it again: what others wrote there is gone then.
        screen.clear()
        screen.addstr(1, 0, f"key {count} was {key}.")
        screen.refresh()


curses.wrapper(main)
print("back again", flush=True)

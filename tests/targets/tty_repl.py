"""A program that owns the terminal: prompts with `> `, answers each line in upper case, until `quit` or end of file.

Why: fdwatch and its target share one terminal. What is typed must reach the one whose prompt is shown, line by line.
"""
import sys


def main():
    while True:
        sys.stdout.write("> ")
        sys.stdout.flush()
        line = sys.stdin.readline()
        if line.strip() == "quit":
            break
        if not line:
            print()
            break
        print(line.strip().upper())
    print("bye, on a terminal" if sys.stdin.isatty() else "bye")


if __name__ == "__main__":
    main()

"""The command `cnnlab`, `python -m cnnlab` and launch.py: reads the words, carries the command out, and ends the process."""

import os
import sys


def run() -> None:
    """Carries out the command of sys.argv and ends the process with its exit code."""
    try:
        from cnnlab.cli.main import main

        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # before `main` handles signals
        print("stopped by SIGINT before anything was begun.", file=sys.stderr)
        sys.exit(75)
    except BrokenPipeError:  # the reader of a pipe, such as head, left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    run()

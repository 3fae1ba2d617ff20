#!/usr/bin/env python3
"""Launches everything in cnnlab: `python launch.py [VERB] --experiment=NAME [--knob=value …] [flags]`.

`python launch.py --help` lists the verbs, `python launch.py VERB --help` the flags of one of them, and
`python launch.py --experiment=NAME --help` the knobs of an experiment.
"""

import os
import sys

if __name__ == "__main__":
    try:
        from cnnlab.cli.main import main

        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # before `main` handles signals
        print("stopped by SIGINT before anything was begun.", file=sys.stderr)
        sys.exit(75)
    except BrokenPipeError:  # the reader of a pipe, such as head, left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)

#!/usr/bin/env python3
"""Launches everything in cnnlab: `python launch.py [VERB] --experiment=NAME [--knob=value …] [flags]`.

`python launch.py --help` lists the verbs, `python launch.py VERB --help` the flags of one of them, and
`python launch.py --experiment=NAME --help` the knobs of an experiment.
"""

import os
import sys

from cnnlab.cli.main import main

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:  # the reader of a pipe, such as head, left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)

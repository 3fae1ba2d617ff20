#!/usr/bin/env python3
"""Launches everything in cnnlab: `python launch.py [VERB] --experiment=NAME [--knob=value …] [flags]`.

`python launch.py --help` lists the verbs, `python launch.py VERB --help` the flags of one of them, and
`python launch.py --experiment=NAME --help` the knobs of an experiment.
"""

from cnnlab.__main__ import run

if __name__ == "__main__":
    run()

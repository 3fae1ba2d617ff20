"""Whether a long run grows: the memory of the process over the steps of one run, trained as the verb `train` trains it.

    python -m benchmarks.soak [--steps=20000] [--experiment=mlp_digits] [--most=1.0] [KNOBS]

The resident memory (RSS) of the process is read at every log, 400 times in all, after a garbage collection. The slope is that
of the straight line through the last half of the readings, by which caches are filled and memory pools have their size. The
exit code is 1 where it exceeds --most, in MB for 10,000 steps. Evaluations and checkpoints come 20 times each.
"""

import argparse
import gc
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnlab.cli.main import main as cnnlab_main
from cnnlab.runs.recorder import RunRecorder

READINGS = 400
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Returns the bytes of this process that are in memory."""
    gc.collect()
    return int(pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE


def soak(experiment: str, steps: int, knobs: Sequence[str], folder: str) -> list[tuple[int, int]]:
    """Returns (step, resident bytes) at every log of a run of so many steps."""
    found: list[tuple[int, int]] = []
    log_every, every = max(1, steps // READINGS), max(1, steps // 20)
    on_log = RunRecorder.on_log

    def reading(recorder: RunRecorder, step: int, pending_stats: list[Any]) -> None:
        on_log(recorder, step, pending_stats)
        if not found:
            gc.freeze()  # what is there before the first reading would be searched at each of them
        found.append((step, resident_bytes()))

    RunRecorder.on_log = reading  # type: ignore[method-assign]
    pace = [f"--log_every={log_every} steps", f"--eval_every={every} steps", f"--save_every={every} steps"]
    words = [f"--experiment={experiment}", f"--steps={steps}", *pace, "--devices=1", "--log_level=warning", *knobs]
    if code := cnnlab_main(["train", *words, f"--workdir={folder}/run"]):
        raise SystemExit(code)
    return found


def slope(readings: Sequence[tuple[int, int]]) -> float:
    """Returns the growth in MB for 10,000 steps over the last half of the readings."""
    steps, sizes = np.array(readings[len(readings) // 2 :], np.float64).T
    return float(np.polyfit(steps - steps.mean(), sizes, 1)[0]) * 1e4 / 1e6


def main() -> None:
    """Trains, and prints the memory at every tenth of the run and its slope."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--experiment", default="mlp_digits")
    parser.add_argument("--most", type=float, default=1.0, help="MB for 10,000 steps")
    given, knobs = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        readings = soak(given.experiment, given.steps, knobs, folder)
    grown = slope(readings)
    for step, size in readings[:: max(1, len(readings) // 10)]:
        print(f"step {step:7,}  {size / 1e6:8.1f} MB", file=sys.stderr)
    print(json.dumps({"steps": given.steps, "mb_per_10000_steps": grown, "last_mb": readings[-1][1] / 1e6}))
    sys.exit(int(grown > given.most))


if __name__ == "__main__":
    main()

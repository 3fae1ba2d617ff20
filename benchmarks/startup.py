"""Seconds from the command to the first finished step, with an empty and with a filled compilation cache.

    python benchmarks/startup.py [--experiment=lenet5_digits] [--runs=5]

A cold run gets an empty cache folder of its own; a warm one the folder that an earlier run filled. Medians of whole processes,
cold and warm in turn.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("experiment", "lenet5_digits", "name of a file in experiments/")
flags.DEFINE_integer("runs", 5, "runs of either kind")

LAUNCH = pathlib.Path(__file__).resolve().parents[1] / "launch.py"


def to_first_step(cache: str) -> float:
    """Seconds until the line of the first step appears."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, str(LAUNCH), f"--experiment={FLAGS.experiment}", "--steps=2", "--log_every=1 steps"]
        environment = {**os.environ, "XDG_CACHE_HOME": cache, "PYTHONUNBUFFERED": "1"}
        began = time.perf_counter()
        process = subprocess.Popen(
            [*words, "--workdir=run"], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 1/"):
                seconds = time.perf_counter() - began
                process.communicate()
                return seconds
        raise SystemExit(f"{' '.join(words)} ended with code {process.wait()} before its first step")


def main(argv: list[str]) -> None:
    seconds: dict[str, list[float]] = {"cold cache": [], "warm cache": []}
    with tempfile.TemporaryDirectory() as warm:
        to_first_step(warm)
        for _ in range(FLAGS.runs):
            with tempfile.TemporaryDirectory() as cold:
                seconds["cold cache"].append(to_first_step(cold))
            seconds["warm cache"].append(to_first_step(warm))
    print(f"{FLAGS.experiment}: from the command to the first step, {FLAGS.runs} runs each\n")
    print(f"{'':12}{'seconds (median)':>18}{'min':>8}{'max':>8}")
    for name, values in seconds.items():
        print(f"{name:12}{statistics.median(values):18.2f}{min(values):8.2f}{max(values):8.2f}")


if __name__ == "__main__":
    app.run(main)

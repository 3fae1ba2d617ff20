"""Seconds from the command to the first finished step, and of the identity of a run, with empty and with filled caches.

    python benchmarks/startup.py [--experiment=lenet5_digits] [--runs=5] [--only_identity]

A cold run gets an empty cache folder of its own; a warm one the folder that an earlier run filled. Medians of whole processes,
cold and warm in turn. The identity of a run (digests of its code, and of a file of initial weights of 100 MB) is measured in
seconds of the processor in this process, with jax loaded as in a run, beside the plain way: every file parsed, walked for its
imports and written out by the standard library, every byte of the weights read.
"""

import ast
import functools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("experiment", "lenet5_digits", "name of a file in experiments/")
flags.DEFINE_integer("runs", 5, "runs of either kind")
flags.DEFINE_boolean("only_identity", False, "measure the identity of a run alone")

LAUNCH = pathlib.Path(__file__).resolve().parents[1] / "launch.py"
sys.path.insert(0, str(LAUNCH.parent))

import jax  # noqa: E402, F401 — a run has it loaded, and garbage collection then takes longer

from cnnlab import sources  # noqa: E402
from cnnlab.digests import digest, file_digest  # noqa: E402
from cnnlab.runs import weights_digest  # noqa: E402


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


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of the processor that one call takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def plainly(files: list[pathlib.Path]) -> None:
    """Digests code without a cache, by the standard library alone."""
    for file in files:
        tree = ast.parse(file.read_bytes())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        digest([ast.dump(tree), *map(ast.dump, imports)])


def measure_identity(folder: pathlib.Path) -> dict[str, list[float]]:
    """Returns {what: seconds of each run} of the parts of a run's identity."""
    path = LAUNCH.parent / "experiments" / f"{FLAGS.experiment}.py"
    weights = folder / "weights.bin"
    weights.write_bytes(os.urandom(100_000_000))
    time.sleep(weights_digest.SETTLED + 1.0)  # the digest of a file that was written just now is not kept
    seconds: dict[str, list[float]] = {}
    for number in range(FLAGS.runs):
        os.environ["XDG_CACHE_HOME"] = str(folder / f"cache-{number}")
        measured = {
            "code, empty cache": lambda: sources.code_digests(path),
            "code, filled cache": lambda: sources.code_digests(path),
            "weights, empty cache": lambda: weights_digest.content_digest(weights),
            "weights, filled cache": lambda: weights_digest.content_digest(weights),
            "weights, plain way": lambda: file_digest(weights),
        }
        for name, work in measured.items():
            seconds.setdefault(name, []).append(seconds_of(work))
        found = [LAUNCH.parent / name for name in sources.code_digests(path)]
        seconds.setdefault(f"code, plain way ({len(found)} files)", []).append(seconds_of(functools.partial(plainly, found)))
    return seconds


def print_table(title: str, seconds: dict[str, list[float]]) -> None:
    """Prints a row for each list of seconds."""
    width = max(map(len, seconds)) + 2
    print(f"{title}, {FLAGS.runs} runs each\n")
    print(f"{'':{width}}{'seconds (median)':>18}{'min':>8}{'max':>8}")
    for name, values in seconds.items():
        print(f"{name:{width}}{statistics.median(values):18.3f}{min(values):8.3f}{max(values):8.3f}")
    print()


def main(argv: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print_table(f"{FLAGS.experiment}: identity of a run", measure_identity(pathlib.Path(folder)))
    if FLAGS.only_identity:
        return
    os.environ.pop("XDG_CACHE_HOME")
    seconds: dict[str, list[float]] = {"cold cache": [], "warm cache": []}
    with tempfile.TemporaryDirectory() as warm:
        to_first_step(warm)
        for _ in range(FLAGS.runs):
            with tempfile.TemporaryDirectory() as cold:
                seconds["cold cache"].append(to_first_step(cold))
            seconds["warm cache"].append(to_first_step(warm))
    print_table(f"{FLAGS.experiment}: from the command to the first step", seconds)


if __name__ == "__main__":
    app.run(main)

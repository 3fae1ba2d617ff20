"""CIFAR-10 to 94 %: the accuracy over seeds and the seconds by the rules of the record."""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import jax

from benchmarks.accelerator.board import Case, Row, Settings
from benchmarks.accelerator.timing import fit, program_of
from cnnlab import knobs
from cnnlab.engine import train
from experiments.airbench_cifar10 import experiment

SEEDS = 10
ACCURACY_GOAL, SECONDS_GOAL = 0.94, 2.0
"""The record by Jordan (2024) is 2.59 s on an A100, a later one 1.99 s."""
EVALUATED_AT_ONCE = 2000
TINY: dict[str, Any] = {
    "dataset": "stripes",
    "dataset.examples": 200,
    "dataset.size": 6,
    "batch_size": 50,
    "model.widths": "4",
    "duration": "4 steps",
}


def airbench(settings: Settings) -> Iterator[Row]:
    """Trains over seeds; whitening, training and the evaluation count, compilation does not."""
    path = settings.data / "cifar10.npz"
    if not settings.tiny and not path.exists():
        yield Row("CIFAR-10 to 94 %", f"no {path.name} in --data")
        return
    made = knobs.resolve(experiment, TINY if settings.tiny else {"dataset": f"npz:{path}"}).call()
    program = program_of(made, precision="bf16")
    dispatch = 1 if settings.tiny else 25
    accuracies, seconds = [], []
    for seed in range(-1, 2 if settings.tiny else SEEDS):  # the first run compiles, and is not counted
        if seed > 0 and settings.left() < 2 * seconds[-1]:
            break
        began = time.perf_counter()
        state = program.init(max(seed, 0))
        state = fit(program, state, 0, made.steps, log=made.steps, steps_per_dispatch=dispatch, seed=max(seed, 0))
        found = train.evaluate(program, state, "test", batch_size=EVALUATED_AT_ONCE)
        took = time.perf_counter() - began
        if seed < 0:
            yield Row("first run, with compilation", took, "s")
            continue
        accuracies.append(made.task.summary(found)["accuracy"])
        seconds.append(took)
    judged = not settings.tiny and jax.default_backend() != "cpu"
    mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    yield Row(
        "test accuracy",
        mean,
        goal=f">= {ACCURACY_GOAL:g}" if judged else "",
        met=mean >= ACCURACY_GOAL if judged else None,
        note=f"standard deviation {spread:.4f}, {len(accuracies)} seeds",
    )
    yield Row(
        "seconds a run",
        statistics.mean(seconds),
        "s",
        goal=f"<= {SECONDS_GOAL:g}" if judged else "",
        met=statistics.mean(seconds) <= SECONDS_GOAL if judged else None,
        note=f"{min(seconds):.2f} to {max(seconds):.2f} s, {made.steps} steps",
    )


CASES = (Case("cifar10", "airbench", 90, airbench),)

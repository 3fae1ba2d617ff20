"""Does it work there? Every task of the contract table against the CPU's curve, donation, memory, and a run that was killed."""

import functools
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.accelerator.board import Case, Row, Settings
from benchmarks.accelerator.steps import images
from benchmarks.accelerator.timing import experiment_of, fit, program_of
from cnnlab import inspect
from cnnlab.core import Experiment
from cnnlab.engine import train
from cnnlab.engine.parallel import STRATEGIES
from cnnlab.engine.program import build_program
from cnnlab.recipes.classification import classification

STEPS = 20
TOLERANCE = {"f32": 5e-3, "bf16": 1e-1}
"""Largest relative difference to the CPU's f32 curve over 20 steps, of the mean loss of every player. f32 products run at the
highest precision for this comparison; bf16 keeps 8 bits of mantissa, of which 20 steps leave about a tenth."""
WIDER = {("gan", "bf16"): 0.5, ("wgan_gp", "bf16"): 0.5, ("denoise", "bf16"): 0.5}
"""Two players drive each other's rounding errors, and noise that is added to bf16 images is drawn in bf16: on a CPU, too, these
curves differ by a tenth to a fifth."""
TINY_PLACES = (("jit", "bf16"), ("pmap", "f32"), ("fsdp", "f32"))
ROOT = pathlib.Path(__file__).resolve().parents[2]


def curve(experiment: Experiment, strategy: str, precision: str, device: Any) -> np.ndarray:
    """Returns the logged losses of every step, f64 [steps, N], trained on one device."""
    logged: list[list[float]] = []

    def on_log(step: int, stats: list[Any]) -> None:
        numbers = experiment.task.summary(train.merge(stats))
        logged.append([value for name, value in sorted(numbers.items()) if "loss" in name or name in ("elbo", "nats")])

    with jax.default_device(device), jax.default_matmul_precision("highest" if precision == "f32" else "default"):
        program = build_program(experiment, STRATEGIES[strategy]([device]), precision=precision)
        fit(program, program.init(0), 0, experiment.steps, log=1, on_log=on_log)
    return np.asarray(logged, np.float64)


def contract(settings: Settings, task: str) -> Iterator[Row]:
    """Trains one task under every strategy in f32 and bf16, and compares with jit in f32 on the CPU."""
    steps = 3 if settings.tiny else STEPS
    experiment = _tasks()[task](steps)
    expected = curve(experiment, "jit", "f32", jax.devices("cpu")[0])
    if not expected.size:
        return
    scale = np.maximum(np.abs(expected), np.abs(expected).mean(axis=0, keepdims=True))
    for strategy, precision in TINY_PLACES if settings.tiny else itertools.product(STRATEGIES, TOLERANCE):
        found = curve(experiment, strategy, precision, jax.devices()[0])
        gap = float(np.max(np.abs(found - expected) / scale)) if np.isfinite(found).all() else float("inf")
        tolerance = WIDER.get((task, precision), TOLERANCE[precision])
        goal = f"<= {tolerance:g}"
        yield Row(f"{task}, {strategy}, {precision}", gap, "of the CPU's", goal=goal, met=gap <= tolerance)


def donation(settings: Settings) -> Iterator[Row]:
    """The state that goes into a step is given away, and memory stays near what `inspect` predicts."""
    batch = 8 if settings.tiny else 128
    data = images(settings, side=28, channels=1, count=256 if settings.tiny else 8192)
    experiment = experiment_of(classification, {"model": "lenet5", "dataset": data, "batch_size": batch, "image_size": 32})
    program = program_of(experiment)
    state, shared = program.init(0), program.step_inputs("train")
    feed = program.strategy.shard_batch({name: leaf[None] for name, leaf in next(experiment.data.train(0, 0)).items()})
    after, _ = jax.block_until_ready(program.phase_steps[0](state, shared, feed))
    del after
    yield Row("the state is donated", all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params)))
    predicted = inspect.training_bytes(inspect.of_experiment(experiment), inspect.parameters(experiment), batch)
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    resident = sum(leaf.nbytes for leaf in jax.tree.leaves(experiment.data.resident))
    if peak is None:
        yield Row("peak memory", "the device keeps no statistics")
    else:
        yield Row(
            "peak memory",
            peak / 2**20,
            "MiB",
            note=f"predicted {predicted / 2**20:.0f} MiB and {resident / 2**20:.0f} MiB of data",
        )


def launch(settings: Settings, *words: str) -> subprocess.Popen[str]:
    """Starts launch.py in the benchmark's folder."""
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), *words],
        cwd=settings.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(settings: Settings, process: subprocess.Popen[str]) -> tuple[int | None, str]:
    """Returns (exit code, output) of a process; the code is None where the minutes were over and it was killed."""
    try:
        output, _ = process.communicate(timeout=max(settings.left(), 1))
    except subprocess.TimeoutExpired:
        process.kill()
        return None, process.communicate()[0]
    return process.returncode, output


def killed(settings: Settings) -> Iterator[Row]:
    """A run that is killed by SIGKILL after its first checkpoint goes on to the numbers of one that was not."""
    steps = 40 if settings.tiny else 400
    words = ["--experiment=lenet5_digits", f"--steps={steps}", f"--save_every={steps // 4}", "--log_level=warning"]
    whole, output = finished(settings, launch(settings, *words, "--workdir=whole"))
    halved = launch(settings, *words, "--workdir=halved")
    checkpoints = settings.folder / "halved" / "checkpoints"
    while halved.poll() is None and settings.left() > 0:
        if checkpoints.is_dir() and any(entry.name.isdigit() for entry in checkpoints.iterdir()):
            break
        time.sleep(0.01)
    was_running = halved.poll() is None
    halved.send_signal(signal.SIGKILL)
    halved.communicate()
    again, output = finished(settings, launch(settings, *words, "--workdir=halved")) if whole == 0 else (whole, output)
    if again is None:
        yield Row("a killed run goes on", "out of time")
        return
    if again:
        yield Row("a killed run goes on", False, note=output.strip()[-200:])
        return
    before, after = (json.loads((settings.folder / name / "result.json").read_text()) for name in ("whole", "halved"))
    gap = max(abs(after["metrics"][name] - value) for name, value in before["metrics"].items())
    yield Row("a killed run goes on", True, note="" if was_running else "it had ended before it could be killed")
    yield Row(
        "… to the same bits", before["state_digest"] == after["state_digest"], note=f"largest difference of a metric {gap:.3g}"
    )


def _tasks() -> Mapping[str, Callable[[int], Experiment]]:
    """Returns the contract table of the tests: {name: (number of steps) -> a small experiment}, at least one for every task."""
    sys.path.insert(0, str(ROOT / "tests"))  # the table's own imports are by name
    from contract import TASKS

    return TASKS


def cases() -> tuple[Case, ...]:
    """Returns a case for every task of the contract table, then the others."""
    each = tuple(Case("does it work", task, 30, functools.partial(contract, task=task)) for task in _tasks())
    others = (Case("does it work", "donation", 15, donation), Case("does it work", "killed", 60, killed))
    return (*each, *others)

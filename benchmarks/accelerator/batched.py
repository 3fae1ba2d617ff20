"""Many runs in one program: what batching brings over the same runs one after another, and which form of convolution pays.

The same cases measure on a CPU: `python -m benchmarks.accelerator --only="batched runs"`.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.accelerator.board import Case, Row, Settings
from benchmarks.accelerator.steps import images
from benchmarks.accelerator.timing import FOR_EVER, experiment_of, program_of, seconds_a_step, seconds_of
from benchmarks.accelerator.unfinished import ROOT
from cnnlab import knobs
from cnnlab.engine.batched import batch_programs, stack_members
from cnnlab.engine.parallel import STRATEGIES
from cnnlab.engine.program import Program, build_program
from cnnlab.recipes.classification import classification

LENET_GOAL, RESNET_GOAL = 10.0, 2.0
"""How many times faster than one after another: 32 runs of LeNet-5, 8 of ResNet-20."""


def compared(program: Program, counts: tuple[int, ...], *, steps: int, dispatch: int) -> Iterator[tuple[int, float, float]]:
    """Yields (runs, seconds per step of a run alone, seconds per step and run in one program)."""
    alone = seconds_a_step(program, steps=steps, steps_per_dispatch=dispatch)
    for count in counts:
        batched = batch_programs([program] * count)
        state = stack_members([program.init(seed) for seed in range(count)])
        together = seconds_a_step(batched, steps=steps, steps_per_dispatch=dispatch, seed=tuple(range(count)), state=state)
        yield count, alone, together / count


def lenet(settings: Settings) -> Iterator[Row]:
    """1, 4, 16 and 32 runs of LeNet-5 with batches of 128."""
    batch = 16 if settings.tiny else 128
    data = images(settings, side=28, channels=1, count=512 if settings.tiny else 8192)
    program = program_of(
        experiment_of(classification, {"model": "lenet5", "dataset": data, "batch_size": batch, "image_size": 32})
    )
    counts, steps, dispatch = ((2,), 4, 2) if settings.tiny else ((1, 4, 16, 32), 128, 32)
    for count, alone, each in compared(program, counts, steps=steps, dispatch=dispatch):
        is_goal = count == 32 and jax.default_backend() != "cpu"
        yield Row(
            f"{count} runs of LeNet-5 b{batch} in one program",
            alone / each,
            "x",
            goal=f">= {LENET_GOAL:g}" if is_goal else "",
            met=alone / each >= LENET_GOAL if is_goal else None,
            note=f"{1e6 * each:.0f} µs a step and run, {1e6 * alone:.0f} µs alone",
        )


def resnet20(settings: Settings) -> Iterator[Row]:
    """Eight runs of CIFAR's ResNet-20."""
    batch, count = (8, 2) if settings.tiny else (128, 8)
    data = images(settings, side=16 if settings.tiny else 32, channels=3, count=64 if settings.tiny else 8192)
    small: dict[str, Any] = {"model.width": 0.25} if settings.tiny else {}
    values = {"model": "cifar_resnet20", "dataset": data, "batch_size": batch, **small}
    program = program_of(experiment_of(classification, values))
    steps, dispatch = (2, 1) if settings.tiny else (64, 16)
    for runs, alone, each in compared(program, (count,), steps=steps, dispatch=dispatch):
        on_cpu = jax.default_backend() == "cpu"
        yield Row(
            f"{runs} runs of ResNet-20 b{batch} in one program",
            alone / each,
            "x",
            goal="" if on_cpu else f">= {RESNET_GOAL:g}",
            met=None if on_cpu else alone / each >= RESNET_GOAL,
            note=f"{1e6 * each:.0f} µs a step and run, {1e6 * alone:.0f} µs alone",
        )


def vmapped(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [M, B, H, W, C], kernel [M, 3, 3, C, F] -> [M, B, H, W, F]: jax.vmap of the library's convolution."""
    return jax.vmap(_convolve)(x, kernel)


def grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same by one convolution of M groups over M·C channels."""
    members, batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    wide = x.transpose(1, 2, 3, 0, 4).reshape(batch, height, width, members * channels)  # [M, B, H, W, C] -> [B, H, W, M·C]
    kernels = kernel.transpose(1, 2, 3, 0, 4).reshape(3, 3, channels, members * features)  # [M, 3, 3, C, F] -> [3, 3, C, M·F]
    out = _convolve(wide, kernels, groups=members)
    return out.reshape(batch, height, width, members, features).transpose(3, 0, 1, 2, 4)  # [B, H, W, M·F] -> [M, B, H, W, F]


def im2col(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same by nine shifted copies and one batched matrix product."""
    height, width = x.shape[2:4]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    columns = jnp.concatenate(shifts, axis=-1)  # 9 x [M, B, H, W, C] -> [M, B, H, W, 9·C]
    matrix = kernel.reshape(kernel.shape[0], -1, kernel.shape[-1])  # [M, 3, 3, C, F] -> [M, 9·C, F]
    return jnp.einsum("mbhwc,mcf->mbhwf", columns, matrix)


def _convolve(x: jax.Array, kernel: jax.Array, groups: int = 1) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups)


FORMS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {"vmapped": vmapped, "grouped": grouped, "im2col": im2col}


def forms(settings: Settings) -> Iterator[Row]:
    """Three forms of the convolution of many runs, forward and both gradients, against one run after another."""
    members, batch, side = (2, 4, 8) if settings.tiny else (16, 128, 32)
    for channels in (4,) if settings.tiny else (16, 64):
        random = np.random.default_rng(0)
        x = jnp.asarray(random.normal(size=(members, batch, side, side, channels)), jnp.float32)
        kernel = jnp.asarray(random.normal(size=(members, 3, 3, channels, channels)), jnp.float32)
        single = jax.jit(jax.grad(lambda a, b: (_convolve(a, b) ** 2).sum(), argnums=(0, 1)))
        parts = [(x[number], kernel[number]) for number in range(members)]
        alone = seconds_of(lambda single=single, parts=parts: [single(*part) for part in parts])
        for name, form in FORMS.items():
            gradients = jax.jit(jax.grad(lambda a, b, form=form: (form(a, b) ** 2).sum(), argnums=(0, 1)))
            seconds = seconds_of(lambda gradients=gradients, x=x, kernel=kernel: gradients(x, kernel))
            yield Row(
                f"{members} convolutions 3x3, {channels} channels, {name}", alone / seconds, "x", note=f"{1e3 * seconds:.2f} ms"
            )


def traced(settings: Settings) -> Iterator[Row]:
    """A learning rate that the program takes as an argument, as runs of one compilation do, against one that is a constant."""
    data = images(settings, side=28, channels=1, count=512 if settings.tiny else 8192)
    values = {"model": "lenet5", "dataset": data, "batch_size": 16 if settings.tiny else 128, "image_size": 32}
    resolved = knobs.resolve(classification, {"duration": FOR_EVER, **values})
    rate = {next(path for path in resolved.knobs if path.endswith(".lr")): 0.01}
    strategy = STRATEGIES["jit"](jax.devices()[:1])
    argument = build_program(resolved.call(), strategy, precision="f32", experiment_of=resolved.call_with, traced_knobs=rate)
    programs, rounds, steps = {"constant": program_of(resolved.call()), "argument": argument}, 5, 2 if settings.tiny else 64
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(1 if settings.tiny else rounds):  # in turns, so that a machine whose speed drifts bends no ratio
        for name, program in programs.items():
            times[name].append(seconds_a_step(program, steps=steps, steps_per_dispatch=1))
    constant, given = (statistics.median(times[name]) for name in ("constant", "argument"))
    note = f"{1e6 * given:.0f} µs a step with the rate as an argument, {1e6 * constant:.0f} µs as a constant"
    yield Row("LeNet-5, the rate as an argument", given / constant, "x", note=note)


def commands(settings: Settings) -> Iterator[Row]:
    """One study with one compilation against as many commands, as a user waits for them: start-up, checkpoints, figures."""
    runs, steps = (2, 3) if settings.tiny else (8, 100)
    rates = [f"{0.002 * 1.25**i:.6f}" for i in range(runs)]
    lines = {"study": [["ablate", f"--vary=lr:{','.join(rates)}", "--seeds=1"]]}
    lines["alone"] = [["train", f"--lr={rate}"] for rate in rates]
    seconds = {}
    for name, words in lines.items():
        folder = settings.folder / f"commands-{name}"
        folder.mkdir()
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # each side compiles for itself
        began = time.monotonic()
        for line in words:
            command = [sys.executable, str(ROOT / "launch.py"), *line, "--experiment=lenet5_digits", f"--steps={steps}"]
            given = {"cwd": folder, "env": environment, "check": True, "capture_output": True}
            subprocess.run([*command, "--devices=1"], timeout=max(settings.left(), 1), **given)
        seconds[name] = time.monotonic() - began
    note = f"{seconds['study']:.0f} s as a study, {seconds['alone']:.0f} s one by one"
    yield Row(f"{runs} runs of {steps} steps, one study for commands", seconds["alone"] / seconds["study"], "x", note=note)


CASES = (
    Case("batched runs", "lenets", 90, lenet),
    Case("batched runs", "resnet20", 90, resnet20),
    Case("batched runs", "forms", 40, forms),
    Case("batched runs", "traced", 30, traced),
    Case("batched runs", "commands", 120, commands),
)

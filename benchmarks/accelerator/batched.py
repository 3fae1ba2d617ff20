"""Many runs in one program: what batching brings over the same runs one after another, and which form of convolution pays."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.accelerator.board import Case, Row, Settings
from benchmarks.accelerator.steps import images
from benchmarks.accelerator.timing import experiment_of, program_of, seconds_a_step, seconds_of
from cnnlab.engine.program import Program, batch_programs, stack_members
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


CASES = (
    Case("batched runs", "lenets", 90, lenet),
    Case("batched runs", "resnet20", 90, resnet20),
    Case("batched runs", "forms", 40, forms),
)

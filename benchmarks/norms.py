"""Milliseconds of batch normalisation in training, forward and backward: shifted moments (ours), plain moments, Flax's layer.

    python benchmarks/norms.py [--rounds=9] [--seconds=0.3] [--shapes=64x32x32x64,64x8x8x256]

"shifted" is cnnlab.models.norms.BatchNorm, whose variance keeps its digits where the mean is large: x is shifted by the mean of
the first example before its moments are taken. "plain" is the same layer with E[x²] − E[x]² of x itself. All take turns in one
process, and medians over the rounds are compared, so that a machine whose speed drifts bends no ratio. CPU time is that of the
whole process: on a busy machine look there, with `taskset -c 0` before the command.
"""

import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cnnlab.models.norms import BatchNorm

FLAGS = flags.FLAGS
flags.DEFINE_list("shapes", ["64x32x32x64", "64x16x16x128", "64x8x8x256"], "shapes of the activations, BxHxWxC")
flags.DEFINE_integer("rounds", 9, "rounds, each of one measurement of every kind")
flags.DEFINE_float("seconds", 0.3, "length of one measurement, at least one call")

Layer = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(x [B, H, W, C], scale [C], bias [C]) -> normalised x."""


def plain(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Normalises by the moments of x itself, in one multiply-add as BatchNorm."""
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    variance = jnp.maximum(jnp.mean(x * x, axes) - mean * mean, 0)
    factor = scale * jax.lax.rsqrt(variance + 1e-5)
    return x * factor + (bias - mean * factor)


def of_module(module: nn.Module, **how: bool) -> Layer:
    """Returns a module as a layer; its running statistics are computed and dropped."""

    def layer(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        statistics_before = {"mean": jnp.zeros(channels), "var": jnp.ones(channels)}
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": statistics_before}
        return module.apply(variables, x, mutable=["batch_stats"], **how)[0]

    return layer


LAYERS: dict[str, Layer] = {
    "shifted": of_module(BatchNorm(), train=True),
    "plain": plain,
    "flax": of_module(nn.BatchNorm(momentum=0.9), use_running_average=False),
}


def measured(shape: tuple[int, ...]) -> dict[str, tuple[float, float]]:
    """Returns (wall, CPU) milliseconds of each layer on activations of a shape."""
    random = np.random.default_rng(0)
    inputs = [jnp.asarray(random.normal(size=size), jnp.float32) for size in (shape, shape[-1:], shape[-1:])]
    # The gradient with respect to all three inputs, through a loss that no part of the layer cancels.
    calls = {
        name: jax.jit(jax.grad(lambda *inputs, layer=layer: (layer(*inputs) ** 3).sum(), argnums=(0, 1, 2)))
        for name, layer in LAYERS.items()
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in LAYERS}
    counts = {}
    for name, call in calls.items():
        jax.block_until_ready(call(*inputs))
        began = time.perf_counter()
        jax.block_until_ready(call(*inputs))
        counts[name] = max(int(FLAGS.seconds / (time.perf_counter() - began)), 1)
    for _ in range(FLAGS.rounds):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(counts[name]):
                result = call(*inputs)
            jax.block_until_ready(result)
            took = time.perf_counter() - wall, time.process_time() - cpu
            times[name].append((1e3 * took[0] / counts[name], 1e3 * took[1] / counts[name]))
    return {
        name: (statistics.median(wall for wall, _ in found), statistics.median(cpu for _, cpu in found))
        for name, found in times.items()
    }


def main(argv: list[str]) -> None:
    del argv
    device = jax.devices()[0].device_kind
    print(f"{device}, f32, forward and backward, medians of {FLAGS.rounds} rounds; {time.strftime('%Y-%m-%d')}")
    print(f"{'':26}{'wall ms':>9}{'CPU ms':>9}   / plain (wall, CPU)")
    for text in FLAGS.shapes:
        found = measured(tuple(map(int, text.split("x"))))
        for name, (wall, cpu) in found.items():
            ratios = f"{wall / found['plain'][0]:10.2f}{cpu / found['plain'][1]:9.2f}"
            print(f"{text:16}{name:>10}{wall:9.2f}{cpu:9.2f}{ratios}", flush=True)


if __name__ == "__main__":
    app.run(main)

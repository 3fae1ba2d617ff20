"""The worker of batch normalisation: forward and backward of three layers on activations of one shape."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Work
from cnnlab.models.norms import BatchNorm

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
    "Flax": of_module(nn.BatchNorm(momentum=0.9), use_running_average=False),
}


def work(shape: list[int]) -> Work:
    """Returns a run of each layer: the gradient with respect to all inputs, through a loss that no part of it cancels."""
    random = np.random.default_rng(0)
    inputs = [jnp.asarray(random.normal(size=size), jnp.float32) for size in (shape, shape[-1:], shape[-1:])]

    def run_of(layer: Layer) -> Callable[[int], None]:
        call = jax.jit(jax.grad(lambda *inputs: (layer(*inputs) ** 3).sum(), argnums=(0, 1, 2)))

        def run(steps: int) -> None:
            for _ in range(steps):
                result = call(*inputs)
            jax.block_until_ready(result)

        return run

    return Work({name: run_of(layer) for name, layer in LAYERS.items()})

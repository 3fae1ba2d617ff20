"""The worker of sampling pixel by pixel: naively, from kept activations, and one evaluation of the network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Work
from cnnlab.models import PIXEL_MODELS
from cnnlab.ops.pixel_distributions import bernoulli
from cnnlab.tasks.pixel_sampling import LOOPS, to_signed


def work(model: str, width: int, size: int, images: int) -> Work:
    """Returns the runs `pass`, `cached` and `naive`. The weights are fresh: what is drawn does not change the time."""
    output = bernoulli()
    network = PIXEL_MODELS[model](outputs=1, groups=1, classes=0, width=width)
    canvas, labels = jnp.zeros((images, size, size, 1), jnp.float32), jnp.zeros(images, jnp.int32)
    variables = jax.jit(lambda key: network.init(key, canvas[:1], labels[:1], train=False))(jax.random.key(0))
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(1), jnp.arange(images))

    def drawing(name: str) -> Callable[[Any], jax.Array]:
        return jax.jit(lambda variables: LOOPS[name](network, output, variables, canvas, labels, keys, jnp.float32(1)))

    ways = {name: drawing(name) for name in LOOPS}
    ways["pass"] = jax.jit(lambda variables: network.apply(variables, to_signed(canvas), labels, train=False)[0])
    assert np.mean(np.asarray(ways["cached"](variables) != ways["naive"](variables))) < 0.001, "both loops draw the same images"

    def run_of(way: Callable[[Any], jax.Array]) -> Callable[[int], None]:
        return lambda steps: [jax.block_until_ready(way(variables)) for _ in range(steps)][-1]

    return Work({name: run_of(way) for name, way in ways.items()})

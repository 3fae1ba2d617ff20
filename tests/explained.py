"""A small network with random weights, in f64 or f32, for the tests of cnnlab/explain."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.explain.network import Network, make_network
from cnnlab.models.layers import Conv, MaxPool, flatten

SHAPE, CLASSES = (7, 6, 2), 3


class Small(nn.Module):
    """Two convolutions and a dense layer, on the mean over space or on all positions."""

    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu
    pooled: bool = True
    groups: int = 1

    @nn.compact
    def __call__(self, images, *, train):
        middle = self.activation(Conv(4, 3, name="conv1")(images))
        last = self.activation(Conv(4, 3, groups=self.groups, name="conv2")(MaxPool(2, name="pool")(middle)))
        features = jnp.mean(last, axis=(1, 2)) if self.pooled else flatten(last)
        logits = nn.Dense(CLASSES, name="output")(features)
        return logits, {"middle": middle, "last": last, "features": features, "output": logits}


def network(module: nn.Module, seed: int = 0, dtype=jnp.float64) -> Network:
    """The network with random weights and biases, in the dtype."""
    with jax.enable_x64(False):  # only the shapes count
        init = functools.partial(module.init, train=False)
        shapes = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)), jnp.zeros((1, *SHAPE)))["params"]
    random = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.6, leaf.shape), dtype), shapes)
    return make_network(functools.partial(predict, module), {"classifier": params}, {}, SHAPE)


def predict(module, params, model_state, images):
    return module.apply({"params": params["classifier"]}, images, train=False)[0]


def examples(dtype=jnp.float64):
    images = np.random.default_rng(5).normal(size=(CLASSES, *SHAPE))
    return jnp.asarray(images, dtype), jnp.arange(CLASSES, dtype=jnp.int32)

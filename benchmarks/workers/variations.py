"""The worker of variations: a batch of u8 images varied by a list of AUGMENTS."""

import functools
import itertools

import jax
import jax.numpy as jnp

from benchmarks.measure import Work
from cnnlab.data.kinds import Image
from cnnlab.data.variations import AUGMENTS
from cnnlab.data.variations.compose import Augmentation
from cnnlab.data.variations.examples import Examples


def work(names: str, size: int, batch: int) -> Work:
    """Returns the run `vary`; each image has draws of its own."""
    images = jax.random.randint(jax.random.key(0), (batch, size, size, 3), 0, 256).astype(jnp.uint8)

    def varied(augment: Augmentation, images: jax.Array, key: jax.Array) -> jax.Array:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(len(images)))
        examples = Examples({"image": images.astype(jnp.float32) / 256}, {"image": Image()})
        return augment(examples, keys).columns["image"]

    vary = jax.jit(functools.partial(varied, Augmentation(tuple(AUGMENTS[one] for one in names.split(",")))))
    numbers = itertools.count()

    def run(steps: int) -> None:
        for _ in range(steps):
            jax.block_until_ready(vary(images, jax.random.key(next(numbers))))

    return Work({"vary": run})

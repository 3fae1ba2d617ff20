"""The worker that compiles a step of ResNet-50 and does not run it."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.measure import Work
from cnnlab.models import layers
from cnnlab.models.resnet import resnet50_v1_5
from cnnlab.ops.lax_convolution import lax_convolve
from cnnlab.ops.windows import Geometry


def by_library(x: jax.Array, kernel: jax.Array, *, strides: Any, padding: Any, dilation: Any, groups: int) -> jax.Array:
    """Convolves by lax.conv_general_dilated, as flax.linen.Conv does."""
    return lax_convolve(x, kernel, Geometry(strides, padding, dilation), groups)


def work(kind: str, batch: int, side: int) -> Work:
    """Returns the run `compile`, with the convolutions of `cnnlab` or those of the library."""
    if kind != "cnnlab":
        layers.convolve = by_library
    module, optimizer, told = resnet50_v1_5(classes=1000), optax.sgd(0.1, momentum=0.9), {}
    images = jax.ShapeDtypeStruct((batch, side, side, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
    variables = jax.eval_shape(lambda key, images: module.init(key, images, train=True), jax.random.key(0), images)
    params, rest = variables["params"], {"batch_stats": variables["batch_stats"]}

    def run(steps: int) -> None:
        def loss(params: Any, rest: Any, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, Any]:
            (logits, _), rest = module.apply({"params": params, **rest}, images, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), rest

        def step(params: Any, rest: Any, memory: Any, images: jax.Array, labels: jax.Array) -> Any:
            gradients, rest = jax.grad(loss, has_aux=True)(params, rest, images, labels)
            updates, memory = optimizer.update(gradients, memory)
            return optax.apply_updates(params, updates), rest, memory

        for _ in range(steps):
            jax.clear_caches()
            began = time.perf_counter()
            memory = jax.eval_shape(optimizer.init, params)
            lowered = jax.jit(step, donate_argnums=(0, 1, 2)).lower(params, rest, memory, images, labels)
            told["lower"] = time.perf_counter() - began
            lowered.compile()

    return Work({"compile": run}, tell=lambda: told)

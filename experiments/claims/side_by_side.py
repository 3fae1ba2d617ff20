"""Small networks that are trained side by side in one compiled program, for claims that compare hundreds of them."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.core import Array, PyTree
from cnnlab.data.images import images
from cnnlab.data.normalize import raw
from cnnlab.data.tfds_sets import tfds
from cnnlab.ops.losses import cross_entropy


@functools.cache
def mnist(data_dir: str | None, image_size: int | None = None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns {"train", "test": (images f32 [N, H, W, 1] in [0, 1], labels i32 [N])}, resized where a size is given.

    Raises DataError where MNIST is neither prepared nor can be.
    """
    dataset = functools.partial(tfds, "mnist", data_dir=data_dir)
    data = images(dataset=dataset, batch_size=None, validation=0.0, normalize=raw, image_size=image_size)
    return {
        split: (np.asarray(data.resident[split]["image"], np.float32) / 255, np.asarray(data.resident[split]["label"]))
        for split in ("train", "test")
    }


def shuffled(seed: int, size: int, batch_size: int, steps: int) -> np.ndarray:
    """Returns the positions i32 [steps, batch_size] of the images of every step, shuffled in every epoch."""
    draw, each = np.random.default_rng(seed), size // batch_size
    epochs = [draw.permutation(size)[: each * batch_size] for _ in range(-(-steps // each))]
    return np.concatenate(epochs).reshape(-1, batch_size)[:steps].astype(np.int32)  # [epochs·each·B] -> [steps, B]


def initial(model: nn.Module, key: Array, inputs: Array) -> tuple[PyTree, PyTree]:
    """Returns (params, model_state) of a network, as it is initialised."""
    state = dict(model.init(key, inputs[:1], train=False))
    return state.pop("params"), state


def scores(model: nn.Module, params: PyTree, model_state: PyTree, inputs: Array, labels: Array) -> tuple[Array, Array]:
    """Returns (mean loss [], share of labels that get the largest logit []) of a network, as it is evaluated."""
    logits = model.apply({"params": params, **model_state}, inputs, train=False)[0]
    return jnp.mean(cross_entropy(logits, labels)), jnp.mean(jnp.argmax(logits, axis=1) == labels)


def train(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    variables: tuple[PyTree, PyTree],
    data: tuple[Array, Array],
    positions: Array,
    *,
    watch: Callable[[PyTree, PyTree], Any],
    every: int,
    prepare: Callable[[Array], Array] = lambda inputs: inputs,
) -> tuple[tuple[PyTree, PyTree], Any, Array]:
    """Trains a network in one scan; returns ((params, model_state) at the end, what `watch` gives, losses of the batches).

    It is traced: the caller compiles it, vectorised over rates, initial weights or orders.

    Args:
        model: network, `model(inputs, train=…) -> (logits, …)`.
        optimizer: optimiser, whose rate may be a tracer.
        variables: (params, model_state) before the first step.
        data: (inputs f32 [N, …], labels i32 [N]).
        positions: positions i32 [T, B] of the examples of every step.
        watch: (params, model_state) -> arrays, which are returned stacked, [T / every, …].
        every: steps between two calls of `watch`; it divides T.
        prepare: is applied to the inputs of every batch.
    """
    inputs, labels = data

    def loss_of(params: PyTree, model_state: PyTree, at: Array) -> tuple[Array, PyTree]:
        (logits, _), updated = model.apply(
            {"params": params, **model_state}, prepare(inputs[at]), train=True, mutable=sorted(model_state)
        )
        return jnp.mean(cross_entropy(logits, labels[at])), dict(updated)

    def step(carried: Any, at: Array) -> tuple[Any, Array]:
        params, model_state, held = carried
        (loss, model_state), gradient = jax.value_and_grad(loss_of, has_aux=True)(params, model_state, at)
        updates, held = optimizer.update(gradient, held, params)
        return (optax.apply_updates(params, updates), model_state, held), loss

    def interval(carried: Any, at: Array) -> tuple[Any, tuple[Any, Array]]:
        carried, losses = jax.lax.scan(step, carried, at)
        return carried, (watch(*carried[:2]), losses)

    grouped = positions.reshape(-1, every, positions.shape[1])  # [T, B] -> [T / every, every, B]
    params, model_state = variables
    (params, model_state, _), (watched, losses) = jax.lax.scan(interval, (params, model_state, optimizer.init(params)), grouped)
    return (params, model_state), watched, losses.reshape(-1)  # [T / every, every] -> [T]


def steps_to(level: float, curve: np.ndarray, every: int) -> np.ndarray:
    """Returns the steps f64 […] until a curve [T / every, …] first is at least `level`; T where it never is."""
    reached = np.asarray(curve) >= level
    first = np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, len(reached))
    return every * first.astype(np.float64)

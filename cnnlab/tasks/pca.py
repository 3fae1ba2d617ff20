"""Principal components: the best linear code, where training is one decomposition (Pearson 1901; Hotelling 1933)."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.errors import UsageError
from cnnlab.ops import corruptions
from cnnlab.ops.reconstruction_losses import squared
from cnnlab.tasks.reconstruct import CODES, METRICS, Coder, draw_figures, measure, sampler, snapshot, summary
from cnnlab.values import Count

Solver = Literal["exact", "randomised"]
OVERSAMPLED = 10
POWERS = 4
"""Directions more than are asked for, and power iterations, of the randomised solver."""


def pca_task(image_shape: tuple[int, int, int], *, components: Count = 30, solver: Solver = "exact") -> Task:
    """The task of giving back an image from its first principal components.

    `init` gets the whole training split as one batch: there is nothing else to train (`turns` is empty). The model state holds
    the mean image, the components and their variances.

    Args:
        image_shape: (H, W, C) of the images.
        components: units of the code, no more than there are examples or values.
        solver: exact: eigenvectors of the covariance of the values, or of the products of the examples where those are fewer.
            randomised: Halko, Martinsson and Tropp 2011 (arXiv 0909.4061, algorithm 4.4), for images of many values.
    """

    def encode(params: Params, model_state: PyTree, images: Array) -> Array:
        values = images.astype(jnp.float32).reshape(len(images), -1)
        return (values - model_state["mean"][None]) @ model_state["components"]

    def decode(params: Params, model_state: PyTree, codes: Array) -> Array:
        values = codes @ model_state["components"].T + model_state["mean"][None]
        return values.reshape(-1, *image_shape)

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        values = batch["image"].astype(jnp.float32).reshape(len(batch["image"]), -1)
        mean = jnp.mean(values, axis=0)
        directions, variances = decompose(values - mean[None], components, solver=solver, key=key)
        codes = {
            "batches": jnp.ones((), jnp.float32),
            "mean": jnp.zeros_like(variances),
            "covariance": jnp.diag(variances),
        }
        return {}, {"mean": mean, "components": directions, CODES: codes}

    coder = Coder(encode, decode, squared())
    return Task(
        init=init,
        loss=_no_loss,
        predict=coder.reconstruct,
        measure=functools.partial(measure, coder),
        summary=summary,
        figures=functools.partial(_figures, coder),
        turns=(),
        metrics=METRICS,
        snapshot=functools.partial(snapshot, coder, corruptions.no_corruption),
        sampler=sampler(coder),
    )


def _figures(coder: Coder, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Those of an autoencoder, and the components seen as images."""
    from cnnlab import figures

    components = np.asarray(model_state["components"]).T.reshape(-1, *data.image_shape)
    shares = np.diag(model_state[CODES]["covariance"])
    captions = [f"{number}: {variance:.3g}" for number, variance in enumerate(shares, start=1)]
    shown = draw_figures(coder, params, model_state, stats, data, split)
    return {**shown, "components": figures.filters(components, title="Components and their variances", captions=captions)}


def decompose(centred: Array, components: int, *, solver: Solver, key: Array) -> tuple[Array, Array]:
    """(directions f32 [D, Z], orthonormal, variances f32 [Z], the largest first) of centred values f32 [N, D]."""
    count, size = centred.shape
    if solver == "randomised":
        basis = _range(centred, min(components + OVERSAMPLED, count, size), key)
        _, singular, rows = jnp.linalg.svd(basis.T @ centred, full_matrices=False)
        return rows[:components].T, singular[:components] ** 2 / count
    if size <= count:
        values, vectors = jnp.linalg.eigh(centred.T @ centred / count)
        return vectors[:, ::-1][:, :components], values[::-1][:components]
    values, vectors = jnp.linalg.eigh(centred @ centred.T / count)
    directions, _ = jnp.linalg.qr(centred.T @ vectors[:, ::-1][:, :components])
    return directions, values[::-1][:components]


def _range(centred: Array, width: int, key: Array) -> Array:
    """f32 [N, width]: an orthonormal basis that nearly holds what the values do to any vector."""
    basis, _ = jnp.linalg.qr(centred @ jax.random.normal(key, (centred.shape[1], width), jnp.float32))
    for _ in range(POWERS):
        other, _ = jnp.linalg.qr(centred.T @ basis)
        basis, _ = jnp.linalg.qr(centred @ other)
    return basis


def _no_loss(params: Params, model_state: PyTree, batch: Batch, key: Array, player: str) -> tuple[Array, tuple[PyTree, Stats]]:
    raise UsageError("principal components are computed and do not descend: there is no loss to train. Take 0 steps.")

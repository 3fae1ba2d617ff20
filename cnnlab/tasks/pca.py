"""Principal components: the best linear code, where training is one decomposition (Pearson 1901; Hotelling 1933).

Letters in shapes: N examples, B batch, H W C an image, D = H·W·C its values, Z components.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.ops import corruptions
from cnnlab.ops.reconstruction_losses import squared
from cnnlab.tasks import prediction
from cnnlab.tasks.reconstruct import CODES, METRICS, Coder, draw_figures, measure, sampler, snapshot, summary
from cnnlab.tasks.untrained import no_loss
from cnnlab.values import Count

Solver = Literal["exact", "randomised"]
OVERSAMPLED = 10
"""Directions of the randomised solver beyond those that are wanted."""
POWERS = 4
"""Number of power iterations of the randomised solver."""


def pca_task(image_shape: tuple[int, int, int], *, components: Count = 30, solver: Solver = "exact") -> Task:
    """The task of reconstructing an image from its first principal components.

    `init` gets the whole training split as one batch: there is nothing else to train (`turns` is empty). The model state holds
    the mean image, the components and their variances.

    Args:
        image_shape: (H, W, C) of the images.
        components: number of units of the code, no more than there are examples or values.
        solver: exact: eigenvectors of the covariance of the values, or of the products of the examples where those are fewer.
            randomised: Halko, Martinsson and Tropp 2011 (arXiv 0909.4061, algorithm 4.4), for images of many values.
    """

    def encode(params: Params, model_state: PyTree, images: Array) -> Array:
        values = images.astype(np.promote_types(images.dtype, np.float32)).reshape(len(images), -1)  # [B, H, W, C] -> [B, D]
        return (values - model_state["mean"][None]) @ model_state["components"]

    def decode(params: Params, model_state: PyTree, codes: Array) -> Array:
        values = codes @ model_state["components"].T + model_state["mean"][None]
        return values.reshape(-1, *image_shape)  # [B, D] -> [B, H, W, C]

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        values = batch["image"].astype(jnp.float32).reshape(len(batch["image"]), -1)  # [N, H, W, C] -> [N, D]
        mean = jnp.mean(values, axis=0)
        directions, variances = decompose(values - mean[None], components, solver=solver, key=key)
        # The distribution of the codes as a running Gaussian of one batch, for the sampler.
        codes = {
            "batches": jnp.ones((), jnp.float32),
            "mean": jnp.zeros_like(variances),
            "covariance": jnp.diag(variances),
        }
        return {}, {"mean": mean, "components": directions, CODES: codes}

    coder = Coder(encode, decode, squared())
    return Task(
        init=init,
        loss=no_loss("principal components are computed by a decomposition, not trained"),
        predict=coder.reconstruct,
        measure=functools.partial(measure, coder),
        summary=summary,
        figures=functools.partial(_figures, coder),
        turns=(),
        metrics=METRICS,
        prediction=prediction.of_images(),
        snapshot=functools.partial(snapshot, coder, corruptions.no_corruption),
        sampler=sampler(coder),
    )


def _figures(coder: Coder, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Returns the figures of an autoencoder, and the components as images."""
    from cnnlab import figures

    components = np.asarray(model_state["components"]).T.reshape(-1, *data.image_shape)  # [D, Z] -> [Z, H, W, C]
    shares = np.diag(model_state[CODES]["covariance"])
    captions = [f"{number}: {variance:.3g}" for number, variance in enumerate(shares, start=1)]
    shown = draw_figures(coder, params, model_state, stats, data, split)
    return {**shown, "components": figures.filters(components, title="Components and their variances", captions=captions)}


def decompose(centred: Array, components: int, *, solver: Solver, key: Array) -> tuple[Array, Array]:
    """Returns orthonormal directions f32 [D, Z] and their variances f32 [Z], largest first, of centred values f32 [N, D]."""
    count, size = centred.shape
    if solver == "randomised":
        basis = _range(centred, min(components + OVERSAMPLED, count, size), key)
        _, singular, rows = jnp.linalg.svd(basis.T @ centred, full_matrices=False)
        return rows[:components].T, singular[:components] ** 2 / count
    # The smaller of the two symmetric matrices, [D, D] or [N, N], has the same eigenvalues that are not 0.
    if size <= count:
        values, vectors = jnp.linalg.eigh(centred.T @ centred / count)
        return vectors[:, ::-1][:, :components], values[::-1][:components]
    values, vectors = jnp.linalg.eigh(centred @ centred.T / count)
    directions, _ = jnp.linalg.qr(centred.T @ vectors[:, ::-1][:, :components])
    return directions, values[::-1][:components]


def _range(centred: Array, width: int, key: Array) -> Array:
    """Returns an orthonormal basis f32 [N, width] that approximates the range of the values [N, D]."""
    basis, _ = jnp.linalg.qr(centred @ jax.random.normal(key, (centred.shape[1], width), jnp.float32))
    for _ in range(POWERS):
        other, _ = jnp.linalg.qr(centred.T @ basis)
        basis, _ = jnp.linalg.qr(centred @ other)
    return basis

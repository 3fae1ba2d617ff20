"""The vector-quantised autoencoder: one player, and a codebook in the model state that follows the encoder's vectors.

A. van den Oord, O. Vinyals, K. Kavukcuoglu, Neural discrete representation learning, 2017, arXiv 1711.00937.

Letters in shapes: B batch, N images, H W space, C channels, h w the grid of codes, K entries of the codebook, D units of each,
P parameters of the likelihood for each value of an image.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Params, PyTree, Sampler, Stats, Task
from cnnlab.metric import Metric
from cnnlab.ops import collectives
from cnnlab.ops.keys import stream
from cnnlab.ops.likelihoods import Likelihood
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks import prediction
from cnnlab.tasks.reconstruct import interleave
from cnnlab.tasks.variational import PLAYER, SHOWN

SMOOTHING = 1e-5
"""Added to the counts of entries, so that the quotient of one that was never chosen is finite (appendix A.1)."""
PICTURED = 10
"""Number of test images in the figure."""

METRICS = (
    Metric("elbo", "nats", higher_is_better=True),
    Metric("loss", higher_is_better=False),
    Metric("reconstruction_nats", "nats", higher_is_better=False),
    Metric("code_distance"),
    Metric("bits_per_dim", "bits/dim", higher_is_better=False),
    Metric("perplexity", higher_is_better=True),
    Metric("used_entries", higher_is_better=True),
)
"""The metrics that `summary` gives. The distance from vectors to their entries has no sense: a collapsed encoder has 0."""


class VQVAE(Protocol):
    """The interface that this task needs of a network (models/vq_vae.py).

    `encode(images f32 [B, H, W, C]) -> vectors [B, h, w, D]` and `decode(vectors) -> parameters [B, H, W, C · P]` are its
    methods.
    """

    @property
    def init(self) -> Callable[..., Any]:
        """Makes the variables, as `flax.linen.Module.init`."""

    @property
    def apply(self) -> Callable[..., Any]:
        """Calls a method by name, as `flax.linen.Module.apply`: `encode` or `decode`."""

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the codes."""

    @property
    def dimension(self) -> int:
        """D, units of a vector."""

    @property
    def entries(self) -> int:
        """K, the number of entries of the codebook."""


@dataclasses.dataclass(frozen=True)
class _Network:
    """The model with its likelihood; computes in the dtype of its parameters and returns f32."""

    model: VQVAE
    likelihood: Likelihood

    def vectors(self, params: Params, images: Array) -> Array:
        """Returns the vectors f32 [B, h, w, D] of images [B, H, W, C], before quantisation."""
        images = images.astype(jax.tree.leaves(params)[0].dtype)
        found: Any = self.model.apply({"params": params[PLAYER]}, images, method="encode")
        return at_least_f32(found)

    def decode(self, params: Params, vectors: Array) -> Array:
        """Returns the parameters f32 [B, H, W, C · P] of p(x | vectors [B, h, w, D])."""
        vectors = vectors.astype(jax.tree.leaves(params)[0].dtype)
        found: Any = self.model.apply({"params": params[PLAYER]}, vectors, method="decode")
        return at_least_f32(found)

    def quantize(self, params: Params, model_state: PyTree, images: Array) -> tuple[Array, Array, Array]:
        """Returns the vectors f32 [B, h, w, D] of images, their codes i32 [B, h, w] and the entries f32 [B, h, w, D]."""
        vectors = self.vectors(params, images)
        codes = nearest_entries(vectors, model_state["codebook"])
        return vectors, codes, model_state["codebook"][codes]  # [K, D] at [B, h, w] -> [B, h, w, D]

    def reconstruct(self, params: Params, model_state: PyTree, images: Array) -> tuple[Array, Array]:
        """Returns the expected images f32 [B, H, W, C] and their codes i32 [B, h, w]."""
        _, codes, entries = self.quantize(params, model_state, images)
        return self.likelihood.mean(self.decode(params, entries)), codes

    def draw(self, params: Params, model_state: PyTree, keys: Array, labels: Array, temperature: Array) -> Array:
        """Returns images f32 [N, H, W, C] of codes sampled at each place by their frequency there, each place by itself."""
        logits = jnp.log(model_state["usage"] + SMOOTHING) / jnp.maximum(temperature, 1e-3)
        codes = jax.vmap(lambda key: jax.random.categorical(key, logits))(keys)  # [N, h, w]
        vectors = model_state["codebook"][codes]  # [K, D] at [N, h, w] -> [N, h, w, D]
        return self.likelihood.mean(self.decode(params, vectors))

    def predict(self, params: Params, model_state: PyTree, inputs: Array) -> Array:
        """Returns the expected image of each image's codes (core.Task.predict)."""
        return self.reconstruct(params, model_state, inputs)[0]

    def snapshot(self, params: Params, model_state: PyTree, batch: Batch, key: Array) -> dict[str, Array]:
        """Returns images, each followed by its reconstruction, and samples (core.Task.snapshot)."""
        images = batch["image"].astype(jnp.float32)
        out, _ = self.reconstruct(params, model_state, images)
        labels = jnp.zeros(SHOWN, jnp.int32)
        samples = self.draw(params, model_state, jax.random.split(key, SHOWN), labels, jnp.float32(1.0))
        return {"reconstructions": interleave(images, out), "samples": samples}

    def figures(self, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
        """Returns the figure of images, their codes and their reconstructions (core.Task.figures)."""
        feed: Any = next(data.evaluate(split, min(PICTURED, data.sizes[split])))
        images = data.prepare(data.resident.get(split, {}), feed, None)["image"]
        return _figures(images, *self.reconstruct(params, model_state, images), entries=self.model.entries, split=split)


def vq_vae_task(model: VQVAE, *, likelihood: Likelihood, commitment: float, decay: float, restart: float) -> Task:
    """The task of training `model` through codes: each vector is replaced by the nearest entry of the codebook.

    The decoder's gradient passes the replacement unchanged. Codes cost ln K nats each, the prior being uniform.

    Args:
        model: encoder and decoder.
        likelihood: p(x | codes), whose parameters the decoder gives.
        commitment: weight of the squared distance from the vectors to their entries, summed over an image (eq. 3).
        decay: decay of the moving averages of the codebook.
        restart: an entry that fewer vectors of a batch than this choose, on average, is moved to one of the batch's
            (Dhariwal et al. 2020, arXiv 2005.00341, section 3); 0: none is.
    """
    network = _Network(model, likelihood)
    cost = math.prod(model.grid) * math.log(model.entries)

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        params = model.init(key, batch["image"][:1])["params"]
        codebook = jax.random.normal(stream(key, "codebook"), (model.entries, model.dimension))
        counts = jnp.full((model.entries,), jnp.maximum(jnp.asarray(restart, jnp.float32), 1.0))
        usage = jnp.full((*model.grid, model.entries), 1.0 / model.entries)
        return {PLAYER: params}, {"codebook": codebook, "counts": counts, "sums": codebook * counts[:, None], "usage": usage}

    def loss(params: Params, model_state: PyTree, batch: Batch, key: Array, player: str) -> tuple[Array, tuple[PyTree, Stats]]:
        images = batch["image"].astype(jnp.float32)
        vectors, codes, entries = network.quantize(params, model_state, images)
        # The value is the entry, the gradient that of the vector (straight-through estimator).
        passed = vectors + jax.lax.stop_gradient(entries - vectors)
        log_p = likelihood.log_p(network.decode(params, passed), images)
        distance = jnp.sum(jnp.square(vectors - entries), axis=(1, 2, 3))
        value = jnp.mean(jnp.asarray(commitment, jnp.float32) * distance - log_p)
        updated = update_codebook(model_state, jax.lax.stop_gradient(vectors), codes, key, decay=decay, restart=restart)
        sums = {"loss": value * len(images), **_sums(log_p, distance, batch)}
        return value, (updated, {"sums": sums, "rows": {}})

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        images = batch["image"].astype(jnp.float32)
        vectors, codes, entries = network.quantize(params, model_state, images)
        log_p = likelihood.log_p(network.decode(params, entries), images)
        distance = jnp.sum(jnp.square(vectors - entries), axis=(1, 2, 3))
        rows = {"index": batch["index"], "mask": batch["mask"], "elbo": log_p - cost, "codes": codes}
        return {"sums": _sums(log_p, distance, batch), "rows": rows}

    return Task(
        init=init,
        loss=loss,
        predict=network.predict,
        measure=measure,
        summary=functools.partial(summary, entries=model.entries, cost=cost, bits=likelihood.discrete),
        figures=network.figures,
        turns=(PLAYER,),
        metrics=METRICS,
        logged_metrics=("reconstruction_nats", "code_distance"),
        prediction=prediction.of_images(),
        snapshot=network.snapshot,
        sampler=Sampler(network.draw),
        diagnosis=diagnosis,
    )


def nearest_entries(vectors: Array, codebook: Array) -> Array:
    """Returns the numbers i32 […] of the entries of the codebook [K, D] that are nearest to vectors [..., D]."""
    # ‖v − e‖² = ‖v‖² + ‖e‖² − 2 v·e, and ‖v‖² is the same for all entries; far from the origin this would lose the digits of
    # the difference, so both are centred first.
    centre = jnp.mean(codebook, axis=0)  # [D]
    vectors, codebook = vectors - _along(centre, vectors), codebook - centre[None]
    products = jnp.tensordot(vectors, codebook.T, axes=1)  # [..., D] and [D, K] -> [..., K]
    return jnp.argmin(_along(jnp.sum(jnp.square(codebook), axis=1), products) - 2.0 * products, axis=-1).astype(jnp.int32)


def _along(row: Array, like: Array) -> Array:
    """Returns row [K] with as many axes as `like`."""
    return row.reshape((1,) * (like.ndim - 1) + row.shape)  # [K] -> [1, …, 1, K]


def update_codebook(model_state: PyTree, vectors: Array, codes: Array, key: Array, *, decay: float, restart: float) -> PyTree:
    """Returns the model state after a batch: every entry is the moving average of the vectors that chose it (appendix A.1).

    Args:
        model_state: `codebook` [K, D], `counts` [K] and `sums` [K, D] whose quotient it is, `usage` [h, w, K] of each place.
        vectors: [B, h, w, D].
        codes: i32 [B, h, w], the entries that they chose.
        key: key by which entries are restarted.
        decay: decay of the averages.
        restart: count below which an entry is restarted.
    """
    kept, entries = jnp.asarray(decay, jnp.float32), len(model_state["codebook"])
    chosen = jax.nn.one_hot(codes, entries, dtype=jnp.float32)
    places = collectives.global_mean(jnp.mean(chosen, axis=0))
    # [B, h, w, D] -> [B·h·w, D] and [B, h, w, K] -> [B·h·w, K]
    flat, chosen = vectors.reshape(-1, vectors.shape[3]), chosen.reshape(-1, entries)
    counts = kept * model_state["counts"] + (1.0 - kept) * collectives.global_sum(jnp.sum(chosen, axis=0))
    # [K, B·h·w] @ [B·h·w, D] -> [K, D]
    sums = kept * model_state["sums"] + (1.0 - kept) * collectives.global_sum(chosen.T @ flat)
    least = jnp.asarray(restart, jnp.float32)
    # An entry that is hardly chosen never moves again: it starts anew at a vector of this batch.
    dead = counts < least
    counts = jnp.where(dead, jnp.maximum(least, 1.0), counts)
    sums = jnp.where(dead[:, None], _random_vectors(flat, key, entries) * counts[:, None], sums)
    return {
        "codebook": sums / (counts + SMOOTHING)[:, None],
        "counts": counts,
        "sums": sums,
        "usage": kept * model_state["usage"] + (1.0 - kept) * places,
    }


def _random_vectors(flat: Array, key: Array, count: int) -> Array:
    """Returns random vectors [count, D] of the global batch; flat [n, D] holds the n vectors of the local batch."""
    size = len(flat)
    whole = collectives.global_sum(jnp.int32(size))
    wanted = jax.random.randint(stream(key, "restart"), (count,), 0, whole) - collectives.positions(size)[0]
    # Each device gives the vectors that it has and zeros for the others: their sum has them all.
    here = (wanted >= 0) & (wanted < size)
    # [n, D] at [count] -> [count, D]
    return collectives.global_sum(jnp.where(here[:, None], flat[jnp.clip(wanted, 0, size - 1)], 0.0))


def _sums(log_p: Array, distance: Array, batch: Batch) -> dict[str, Array]:
    """Returns sums over the real examples."""
    real = batch["mask"].astype(jnp.float32)
    totals = {"log_likelihood": log_p, "distance": distance, "count": real, "values": real * batch["image"][0].size}
    return {name: jnp.sum(jnp.where(batch["mask"], each, 0.0)) for name, each in totals.items()}


def summary(stats: Stats, *, entries: int, cost: float, bits: bool) -> dict[str, float]:
    """Returns means over images: `elbo` = −`reconstruction_nats` − ln K for each code, `code_distance` to the entries.

    On held-out splits, `perplexity` is exp of the entropy of the codes, K at best, and `used_entries` are those that occur.
    """
    sums, rows = stats["sums"], stats["rows"]
    count = max(float(sums["count"]), 1.0)
    found = {"loss": float(sums["loss"]) / count} if "loss" in sums else {}
    found["reconstruction_nats"] = -float(sums["log_likelihood"]) / count
    found["code_distance"] = float(sums["distance"]) / count
    found["elbo"] = -found["reconstruction_nats"] - cost
    if bits:
        found["bits_per_dim"] = -found["elbo"] * count / max(float(sums["values"]), 1.0) / math.log(2)
    if "codes" in rows:
        shares = np.bincount(rows["codes"].ravel(), minlength=entries) / max(rows["codes"].size, 1)
        used = shares[shares > 0]
        found["perplexity"], found["used_entries"] = float(np.exp(-np.sum(used * np.log(used)))), float(len(used))
    return found


def diagnosis(metrics: Mapping[str, float]) -> str:
    """Returns a sentence that the codebook collapsed, where all images share one entry or two."""
    if metrics.get("test/perplexity", math.inf) >= 2:
        return ""
    return "the codebook collapsed: less than two of its entries are in use. Try a smaller --commitment, or --restart=1."


def _figures(images: Array, out: Array, codes: Array, *, entries: int, split: str) -> dict[str, Any]:
    """Returns {name: figure}: images, their codes as grey levels, and their reconstructions."""
    from cnnlab import figures

    height, width, channels = images.shape[1:]
    # Each pixel shows the code of its place: nearest-neighbour enlargement of [B, h, w] to [B, H, W, 1]
    rows = np.arange(height) * codes.shape[1] // height
    columns = np.arange(width) * codes.shape[2] // width
    grey = np.asarray(codes)[:, rows][:, :, columns, None] / max(entries - 1, 1)
    # Three of [B, H, W, C] -> [3, B, H, W, C]; grey levels have one channel and are repeated
    shown = np.stack([np.asarray(images), np.broadcast_to(grey, (*grey.shape[:3], channels)), np.asarray(out)])
    title, note = f"Codes of {split} images", f"codes: numbers of entries, 0 black to {entries - 1} white"
    captions = ("image", "codes", "decoded")
    return {"codes": figures.tiles(shown.astype(np.float32), title=title, note=note, row_captions=captions)}

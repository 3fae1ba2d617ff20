"""M17: an image from itself, through a code: the game of one player, the autoencoder."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Metric, Params, PyTree, Sampler, Stats, Task
from cnnlab.data.normalize import unit_value
from cnnlab.ops import collectives, corruptions, penalties, running_gaussian
from cnnlab.ops.keys import stream
from cnnlab.ops.reconstruction_losses import ReconstructionLoss, squared, squared_error
from cnnlab.tasks.classify import first_kernels

PLAYER = "autoencoder"
CODES = "codes"
"""What the model state calls the mean and the covariance of the codes, which samples are drawn by."""
BATCHES_REMEMBERED = 200
"""Over how many batches of training these are averaged."""
PICTURES = 24
"""Reconstructions shown at the end, and as many of the worst."""

METRICS = (
    Metric("squared_error", higher_is_better=False, log_scale=True),
    Metric("loss", higher_is_better=False, log_scale=True),
    Metric("activity"),
    Metric("penalty"),
)
"""What `summary` gives. The unit of the loss is that of the reconstruction loss: nats, or a squared distance."""

Corrupt = Callable[[Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class Coder:
    """The way from an image to its code and back, as functions of the parameters and the model state."""

    encode: Callable[[Params, PyTree, Array], Array]
    """(params, model_state, images f32 [B, H, W, C]) -> codes [B, Z]."""
    decode: Callable[[Params, PyTree, Array], Array]
    """(params, model_state, codes [B, Z]) -> outputs [B, H, W, C], which the fidelity reads."""
    fidelity: ReconstructionLoss

    def reconstruct(self, params: Params, model_state: PyTree, images: Array) -> Array:
        """images f32 [B, H, W, C] -> reconstructions f32 [B, H, W, C]."""
        outputs = self.decode(params, model_state, self.encode(params, model_state, images))
        return self.fidelity.reconstruct(outputs).astype(jnp.float32)


def reconstruct(
    model: nn.Module,
    *,
    loss: ReconstructionLoss | None = None,
    corruption: Corrupt = corruptions.no_corruption,
    penalty: Callable[[Callable[[Array], Array], Array, Array], Array] = penalties.no_penalty,
) -> Task:
    """The task of giving back the image that was put in.

    A denoising autoencoder gets the image corrupted and is to give back the clean one; held-out images are never corrupted.
    The mean and the covariance of the codes of the last batches are kept in the model state: the Gaussian that has them is
    what `sampler` draws codes from, since an autoencoder has no distribution of its own over them.

    Args:
        model: an autoencoder of models/autoencoder.py.
        loss: how outputs are read and compared; None: squared error.
        corruption: of training images [B, H, W, C], by keys [B].
        penalty: of (encode, corrupted images, their codes), added to the mean loss.
    """
    fidelity = loss or squared()

    def apply(params: Params, what: Array, method: str) -> Any:
        return model.apply({"params": params[PLAYER]}, what, train=False, method=method)

    coder = Coder(
        encode=lambda params, model_state, images: apply(params, images, "encode"),
        decode=lambda params, model_state, codes: apply(params, codes, "decode"),
        fidelity=fidelity,
    )

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        params = {PLAYER: model.init(key, batch["image"][:1], train=False)["params"]}
        codes = jax.eval_shape(coder.encode, params, {}, batch["image"][:1])
        return params, {CODES: running_gaussian.start(codes.shape[1])}

    def loss_of(
        params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        images = batch["image"]
        noisy = corruption(images, collectives.example_keys(stream(key, "corrupt"), len(images)))
        codes = coder.encode(params, model_state, noisy)
        losses, _, sums = compare(coder, params, model_state, codes, batch)
        extra = penalty(lambda inputs: coder.encode(params, model_state, inputs), noisy, codes)
        state = {**model_state, CODES: running_gaussian.update(model_state[CODES], codes, window=BATCHES_REMEMBERED)}
        sums["penalty"] = extra * sums["count"]
        return jnp.mean(losses) + extra, (state, {"sums": sums, "rows": {}})

    return Task(
        init=init,
        loss=loss_of,
        predict=coder.reconstruct,
        measure=functools.partial(measure, coder),
        summary=summary,
        figures=functools.partial(draw_figures, coder),
        turns=(PLAYER,),
        metrics=METRICS,
        snapshot=functools.partial(snapshot, coder, corruption),
        sampler=sampler(coder),
    )


def compare(
    coder: Coder, params: Params, model_state: PyTree, codes: Array, batch: Batch
) -> tuple[Array, Array, dict[str, Array]]:
    """(losses f32 [B] and squared errors f32 [B] of the images decoded from codes [B, Z], sums over the real examples).

    The sums are those of the losses, of the squared errors and of the mean magnitude of a code's units, and `count`.
    """
    outputs = coder.decode(params, model_state, codes)
    losses = coder.fidelity.losses(outputs, batch["image"])
    errors = squared_error(coder.fidelity.reconstruct(outputs), batch["image"])
    activity = jnp.mean(jnp.abs(codes.astype(jnp.float32)), axis=1)
    each = {"loss": losses, "squared_error": errors, "activity": activity, "count": jnp.ones_like(losses)}
    return losses, errors, {name: jnp.sum(jnp.where(batch["mask"], values, 0.0)) for name, values in each.items()}


def measure(coder: Coder, params: Params, model_state: PyTree, batch: Batch) -> Stats:
    """Statistics of a held-out batch; a code of two units is kept for the picture of the plane."""
    codes = coder.encode(params, model_state, batch["image"])
    losses, errors, sums = compare(coder, params, model_state, codes, batch)
    rows = {name: batch[name] for name in ("index", "label", "mask")} | {"loss": losses, "squared_error": errors}
    if codes.shape[1] == 2:
        rows["code"] = codes.astype(jnp.float32)
    return {"sums": sums, "rows": rows}


def summary(stats: Stats) -> dict[str, float]:
    """Means for each image: `squared_error` (summed over pixels), `loss` without the penalty, `activity` of a code's unit.

    Of training also the `penalty`; there, a denoising autoencoder's errors are those from corrupted images.
    """
    sums = stats["sums"]
    count = max(float(sums["count"]), 1.0)
    return {name: float(value) / count for name, value in sums.items() if name != "count"}


def snapshot(
    coder: Coder, corruption: Corrupt, params: Params, model_state: PyTree, batch: Batch, key: Array
) -> dict[str, Array]:
    """`reconstructions`: input and output beside one another; `denoised` the same from corrupted inputs; `samples`."""
    images = batch["image"]
    keys = collectives.example_keys(key, len(images))
    shown = {
        "reconstructions": beside(images, coder.reconstruct(params, model_state, images)),
        "samples": sampler(coder).draw(params, model_state, keys, batch["label"], jnp.float32(1)),
    }
    if corruption is not corruptions.no_corruption:
        noisy = corruption(images, keys)
        shown["denoised"] = beside(noisy, coder.reconstruct(params, model_state, noisy))
    return shown


def beside(images: Array, others: Array) -> Array:
    """[N, H, W, C] twice -> [2 N, H, W, C]: each image followed by the other, clipped to [0, 1]."""
    pairs = jnp.stack([images.astype(jnp.float32), others], axis=1)
    return jnp.clip(pairs.reshape(-1, *images.shape[1:]), 0.0, 1.0)


def sampler(coder: Coder) -> Sampler:
    """Draws codes from the Gaussian with the mean and covariance of the codes of training, and decodes them."""

    def codes(params: Params, model_state: PyTree, keys: Array, temperature: Array) -> Array:
        return running_gaussian.draw(model_state[CODES], keys, temperature)

    def decode(params: Params, model_state: PyTree, codes: Array, labels: Array) -> Array:
        return jnp.clip(coder.fidelity.reconstruct(coder.decode(params, model_state, codes)).astype(jnp.float32), 0.0, 1.0)

    def draw(params: Params, model_state: PyTree, keys: Array, labels: Array, temperature: Array) -> Array:
        return decode(params, model_state, codes(params, model_state, keys, temperature), labels)

    return Sampler(draw=draw, codes=codes, decode=decode)


def draw_figures(coder: Coder, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """The first and the worst reconstructions, the first layer's filters, and the plane of codes where they have two units."""
    from cnnlab import figures

    rows = stats["rows"]
    worst = np.argsort(-rows["squared_error"], kind="stable")[:PICTURES]
    chosen = {"reconstructions": np.arange(min(PICTURES, len(worst))), "worst": worst}
    shown = {name: _reconstructions(coder, params, model_state, rows, ids, data, split, name) for name, ids in chosen.items()}
    shown |= first_filters(params[PLAYER]["encoder"] if PLAYER in params else params, data)
    if "code" in rows:
        shown["codes"] = figures.code_plane(rows["code"], rows["label"], data.class_names, title=f"Codes of {split}")
    return shown


def first_filters(params: PyTree, data: Dataset) -> dict[str, Any]:
    """The figure `filters` of the first layer that sees the image; {} where there is none."""
    from cnnlab import figures

    kernels = first_kernels(params, data.image_shape)
    return {"filters": figures.filters(kernels[1], title=f"Kernels of {kernels[0]}")} if kernels else {}


def _reconstructions(
    coder: Coder, params: Params, model_state: PyTree, rows: Any, ids: np.ndarray, data: Dataset, split: str, name: str
) -> Any:
    """A figure of inputs, each followed by its reconstruction with the squared error beneath."""
    from cnnlab import figures

    stored = data.images(split, rows["index"][ids])
    images = stored.astype(np.float32) / unit_value(stored.dtype)
    pairs = np.asarray(beside(jnp.asarray(images), jax.jit(coder.reconstruct)(params, model_state, images)))
    captions = [text for i in ids for text in (data.class_names[rows["label"][i]], f"{rows['squared_error'][i]:.2f}")]
    title = {"reconstructions": f"The first images of {split}", "worst": f"The worst of {split}"}[name]
    return figures.image_grid(pairs, captions, title=f"{title}, each with its reconstruction and squared error", columns=8)

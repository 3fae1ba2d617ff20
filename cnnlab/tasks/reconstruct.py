"""Reconstruction of an image from its code: the game of one player, the autoencoder.

Letters in shapes: B batch, N images, H W space, C channels, Z units of a code.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Params, PyTree, Sampler, Stats, Task
from cnnlab.data.normalize import unit_value
from cnnlab.metric import Metric
from cnnlab.ops import collectives, corruptions, penalties, running_gaussian
from cnnlab.ops.keys import stream
from cnnlab.ops.labels import labels_of
from cnnlab.ops.reconstruction_losses import ReconstructionLoss, squared, squared_error
from cnnlab.tasks import prediction
from cnnlab.tasks.classify import first_kernels

PLAYER = "autoencoder"
CODES = "codes"
"""Key of the model state that holds the mean and the covariance of the codes, by which samples are drawn."""
BATCHES_REMEMBERED = 200
"""Number of training batches over which these are averaged."""
PICTURES = 24
"""Number of reconstructions shown at the end, and of the worst ones."""

METRICS = (
    Metric("squared_error", higher_is_better=False, log_scale=True),
    Metric("loss", higher_is_better=False, log_scale=True),
    Metric("activity"),
    Metric("penalty"),
)
"""The metrics that `summary` gives. The unit of the loss is that of the reconstruction loss: nats, or a squared distance."""

Corrupt = Callable[[Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class Coder:
    """An encoder and a decoder, as functions of the parameters and the model state."""

    encode: Callable[[Params, PyTree, Array], Array]
    """(params, model_state, images f32 [B, H, W, C]) -> codes [B, Z]."""
    decode: Callable[[Params, PyTree, Array], Array]
    """(params, model_state, codes [B, Z]) -> outputs [B, H, W, C], which the loss reads."""
    loss: ReconstructionLoss

    def reconstruct(self, params: Params, model_state: PyTree, images: Array) -> Array:
        """Returns the reconstructions f32 [B, H, W, C] of images f32 [B, H, W, C]; f64 where all arguments are f64."""
        outputs = self.loss.reconstruct(self.decode(params, model_state, self.encode(params, model_state, images)))
        return outputs.astype(np.promote_types(outputs.dtype, np.float32))


def reconstruct(
    model: nn.Module,
    *,
    loss: ReconstructionLoss | None = None,
    corruption: Corrupt = corruptions.no_corruption,
    penalty: Callable[[Callable[[Array], Array], Array, Array], Array] = penalties.no_penalty,
) -> Task:
    """The task of reconstructing an image from its code.

    A denoising autoencoder gets a corrupted image and reconstructs the clean one; held-out images are never corrupted. The
    mean and the covariance of the codes of the last batches are kept in the model state: `sampler` draws codes from the
    Gaussian that has them, since an autoencoder has no distribution of its own over codes.

    Args:
        model: an autoencoder of models/autoencoder.py.
        loss: reconstruction loss, which also says how outputs become reconstructions; None: squared error.
        corruption: (training images [B, H, W, C], keys [B]) -> corrupted images.
        penalty: (encode, corrupted images, their codes) -> f32 [], added to the mean loss.
    """

    def apply(params: Params, inputs: Array, method: str) -> Any:
        return model.apply({"params": params[PLAYER]}, inputs, train=False, method=method)

    coder = Coder(
        encode=lambda params, model_state, images: apply(params, images, "encode"),
        decode=lambda params, model_state, codes: apply(params, codes, "decode"),
        loss=loss or squared(),
    )

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        params = {PLAYER: model.init(key, batch["image"][:1], train=False)["params"]}
        # The width of the code is known to the model alone: it is found without computing a code.
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
        prediction=prediction.of_images(),
        snapshot=functools.partial(snapshot, coder, corruption),
        sampler=sampler(coder),
    )


def compare(
    coder: Coder, params: Params, model_state: PyTree, codes: Array, batch: Batch
) -> tuple[Array, Array, dict[str, Array]]:
    """Returns losses f32 [B] and squared errors f32 [B] of the images decoded from codes [B, Z], and sums over real examples.

    The sums are those of the losses, of the squared errors and of the mean magnitude of a code's units, and `count`.
    """
    outputs = coder.decode(params, model_state, codes)
    losses = coder.loss.losses(outputs, batch["image"])
    errors = squared_error(coder.loss.reconstruct(outputs), batch["image"])
    activity = jnp.mean(jnp.abs(codes.astype(jnp.float32)), axis=1)
    each = {"loss": losses, "squared_error": errors, "activity": activity, "count": jnp.ones_like(losses)}
    return losses, errors, {name: jnp.sum(jnp.where(batch["mask"], values, 0.0)) for name, values in each.items()}


def measure(coder: Coder, params: Params, model_state: PyTree, batch: Batch) -> Stats:
    """Returns the statistics of a held-out batch; codes of two units are kept for the figure of the plane."""
    codes = coder.encode(params, model_state, batch["image"])
    losses, errors, sums = compare(coder, params, model_state, codes, batch)
    rows = {"index": batch["index"], "label": labels_of(batch), "mask": batch["mask"]}
    rows |= {"loss": losses, "squared_error": errors}
    if codes.shape[1] == 2:
        rows["code"] = codes.astype(jnp.float32)
    return {"sums": sums, "rows": rows}


def summary(stats: Stats) -> dict[str, float]:
    """Returns means over images: `squared_error` (summed over pixels), `loss` without the penalty, `activity` of a code's unit.

    Training also has the `penalty`; there, a denoising autoencoder's errors are those from corrupted images.
    """
    sums = stats["sums"]
    count = max(float(sums["count"]), 1.0)
    return {name: float(value) / count for name, value in sums.items() if name != "count"}


def snapshot(
    coder: Coder, corruption: Corrupt, params: Params, model_state: PyTree, batch: Batch, key: Array
) -> dict[str, Array]:
    """Returns `reconstructions`: each image and its reconstruction; `denoised`, the same from corrupted images; `samples`."""
    images = batch["image"]
    keys = collectives.example_keys(key, len(images))
    shown = {
        "reconstructions": interleave(images, coder.reconstruct(params, model_state, images)),
        "samples": sampler(coder).draw(params, model_state, keys, labels_of(batch), jnp.float32(1)),
    }
    if corruption is not corruptions.no_corruption:
        noisy = corruption(images, keys)
        shown["denoised"] = interleave(noisy, coder.reconstruct(params, model_state, noisy))
    return shown


def interleave(images: Array, others: Array) -> Array:
    """Returns [2 N, H, W, C] in [0, 1]: each of images [N, H, W, C] followed by its counterpart among the others."""
    pairs = jnp.stack([images.astype(jnp.float32), others], axis=1)  # two of [N, H, W, C] -> [N, 2, H, W, C]
    return jnp.clip(pairs.reshape(-1, *images.shape[1:]), 0.0, 1.0)  # [N, 2, H, W, C] -> [2 N, H, W, C]


def sampler(coder: Coder) -> Sampler:
    """Returns the sampler that decodes codes drawn from the Gaussian with the mean and covariance of the training codes."""

    def codes(params: Params, model_state: PyTree, keys: Array, temperature: Array) -> Array:
        return running_gaussian.draw(model_state[CODES], keys, temperature)

    def decode(params: Params, model_state: PyTree, codes: Array, labels: Array) -> Array:
        return jnp.clip(coder.loss.reconstruct(coder.decode(params, model_state, codes)).astype(jnp.float32), 0.0, 1.0)

    def draw(params: Params, model_state: PyTree, keys: Array, labels: Array, temperature: Array) -> Array:
        return decode(params, model_state, codes(params, model_state, keys, temperature), labels)

    return Sampler(draw=draw, codes=codes, decode=decode)


def draw_figures(coder: Coder, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Returns the first and the worst reconstructions, the first layer's filters, and the plane of codes of two units."""
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
    """Returns the figure `filters` of the first layer on the image; {} where there is none."""
    from cnnlab import figures

    kernels = first_kernels(params, data.image_shape)
    return {"filters": figures.filters(kernels[1], title=f"Kernels of {kernels[0]}")} if kernels else {}


def _reconstructions(
    coder: Coder, params: Params, model_state: PyTree, rows: Any, ids: np.ndarray, data: Dataset, split: str, name: str
) -> Any:
    """Returns the figure of images, each followed by its reconstruction with the squared error below."""
    from cnnlab import figures

    stored = data.images(split, rows["index"][ids])
    images = stored.astype(np.float32) / unit_value(stored.dtype)
    pairs = np.asarray(interleave(jnp.asarray(images), jax.jit(coder.reconstruct)(params, model_state, images)))
    names = figures.class_labels(data.class_names)
    captions = [text for i in ids for text in (names[rows["label"][i]], f"{rows['squared_error'][i]:.2f}")]
    title = {"reconstructions": f"The first images of {split}", "worst": f"The worst of {split}"}[name]
    return figures.image_grid(pairs, captions, title=f"{title}, each with its reconstruction and squared error", columns=8)

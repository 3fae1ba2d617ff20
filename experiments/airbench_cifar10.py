"""CIFAR-10 to 94 % in 200 steps: whitened patches, alternating flips, label smoothing, Muon and six views at evaluation.

Paper:    K. Jordan, 94 % on CIFAR-10 in 3.29 seconds on a single GPU, 2024, arXiv 2404.00498; the version with Muon is
          airbench94_muon of github.com/KellerJordan/cifar10-airbench: 94.01 % (n = 200) in 2.59 s on one A100
Published: 94.01 % over 200 runs (K. Jordan, airbench94_muon)
Command:  python launch.py --experiment=airbench_cifar10 --precision=bf16 [--dataset=npz:cifar10.npz]
Result:   not run yet on the whole of CIFAR-10; `python -m benchmarks.accelerator --only=cifar10` measures it.

Each ingredient is a flag: --nowhitening, --augment=flip_crop --pad=2 --edge=reflect (random flips), --smoothing=0,
--optimizer=momentum --lr=0.05, --nofixed_norm, --initializer=he, --views=one.

The paper sums the loss over a batch of 2000 and we take its mean, so the rates that Muon does not normalise are 2000 times as
large here. Deviation: a batch may span two epochs, and the last, incomplete one is not dropped; with 50,000 images and batches
of 2000 there is none.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from cnnlab.core import FROZEN, Dataset, Experiment, Params, PyTree
from cnnlab.data.images import PIPELINES, images
from cnnlab.models.airbench import PATCH, Airbench94
from cnnlab.ops.losses import LOSSES, cross_entropy
from cnnlab.ops.optimizers import OPTIMIZERS, apart, muon
from cnnlab.ops.schedules import linear
from cnnlab.ops.views import Views
from cnnlab.ops.whitening import patch_whitening
from cnnlab.recipes.classification import classification
from cnnlab.values import Choice, Count, Duration

NETWORKS = {"airbench94": Airbench94}
BATCH = 2000
RECORD_MUON = partial(
    muon,
    lr=0.24,
    momentum=0.6,
    schedule=linear,
    iterations=3,
    fixed_norm=True,
    other_lr=0.053 * BATCH,
    output_lr=0.67 * BATCH,
    other_momentum=0.85,
    weight_decay=2e-6 * BATCH,
    other_decay=2e-6 * BATCH,
)


def experiment(
    *,
    model: Choice[NETWORKS] = "airbench94",
    data: Choice[PIPELINES] = partial(
        images, dataset="tfds:cifar10", batch_size=BATCH, validation=0.0, augment="alternating_flip_crop"
    ),
    loss: Choice[LOSSES] = partial(cross_entropy, smoothing=0.2),
    optimizer: Choice[OPTIMIZERS] = RECORD_MUON,
    duration: Duration = Duration(8, "epochs"),
    whitening: bool = True,
    whitening_images: Count = 5000,
    whitening_bias: Duration = Duration(3, "epochs"),
    frozen: tuple[str, ...] = (".*_norm[12]/scale",),
    views: Views = "mirrored_and_shifted",
) -> Experiment:
    """CIFAR-10 to 94 % in 200 steps.

    Args:
        model: network, whose first layer is called whitening.
        data: images with labels, and how they become batches.
        loss: loss that the classifier minimises.
        optimizer: rule by which the weights are updated, with its learning rates and schedule.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        whitening: whether the first layer's kernel whitens the patches of the training images, and stays so.
        whitening_images: number of training images whose patches are whitened.
        whitening_bias: with whitening, how long the first layer's bias is trained; its schedule runs over this time.
        frozen: regular expressions of further layers that are not trained: the scales of the norms.
        views: views of a test image over which the logits are averaged.
    """
    kept = (*frozen, "whitening/kernel") if whitening else frozen
    made = classification(model=model, data=data, loss=loss, optimizer=optimizer, duration=duration, frozen=kept, views=views)
    if not whitening:
        return made
    steps = whitening_bias.steps(size=made.data.sizes["train"], batch_size=made.data.batch_size)
    own = optimizer(steps=steps)
    optimizers = {player: apart(rest, own, "whitening/bias") for player, rest in made.optimizers.items()}
    return dataclasses.replace(made, optimizers=optimizers, start=whitened(made.data, whitening_images))


def whitened(data: Dataset, count: int) -> Callable[[Params, PyTree], tuple[Params, PyTree]]:
    """Makes the `Experiment.start` that sets the first layer's kernel from the first `count` training images, normalised."""

    def start(params: Params, model_state: PyTree) -> tuple[Params, PyTree]:
        size = min(count, data.sizes["train"])
        feed = jax.tree.map(jnp.asarray, next(data.evaluate("train", size)))
        shown = data.prepare(data.resident.get("train", {}), feed, None)["image"]
        kernel = patch_whitening(jax.device_get(shown), side=PATCH)
        return {**params, FROZEN: {**params[FROZEN], "whitening": {"kernel": kernel}}}, model_state

    return start

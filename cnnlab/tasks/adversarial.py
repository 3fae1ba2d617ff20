"""Attacks on a classifier as it is trained: training on adversarial examples, and what a network makes of attacked images.

An attack moves pixels of [0, 1] (ops/attacks.py), and a network takes normalised images, which augmentation may have moved out
of that range. The change of the pixels is therefore added to the normalised image: without a change it is the same to the bit.

Letters in shapes: B batch, H W space, C channels, K classes.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Params, PyTree, Stats, Task
from cnnlab.inputs import InputSpec, unit_value
from cnnlab.ops import collectives
from cnnlab.ops.attacks import Attack, LogitsOf, Loss, is_attack
from cnnlab.ops.keys import stream

Probe = Callable[[LogitsOf, Array, Batch], dict[str, Array]]
"""(pixels f32 [B, H, W, C] in [0, 1] -> outputs f32 [B, K], pixels of the batch, batch) -> rows of its examples, [B, …]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pixels:
    """How normalised images and pixels of [0, 1] belong together: normalised = (pixel − subtract) / divide."""

    subtract: np.ndarray
    """f32 [1, H or 1, W or 1, C or 1]."""
    divide: np.ndarray
    """As `subtract`."""

    @classmethod
    def of(cls, inputs: InputSpec) -> "Pixels":
        """Returns those of an input specification, whose numbers are in the unit of the stored images."""
        unit = np.float32(unit_value(inputs.dtype))
        return cls(inputs.subtract / unit, inputs.divide / unit)

    def of_images(self, images: Array) -> Array:
        """Returns the pixels f32 [B, H, W, C] in [0, 1] of normalised images; what lies outside is cut off."""
        return jnp.clip(images.astype(jnp.float32) * self.divide + self.subtract, 0.0, 1.0)

    def moved(self, images: Array, before: Array, after: Array) -> Array:
        """Returns normalised images [B, H, W, C] to which the change of their pixels is added."""
        return (images.astype(jnp.float32) + (after - before) / self.divide).astype(images.dtype)


def robust(task: Task, *, attack: Any, probes: Sequence[Probe], loss: Loss, column: str, inputs: InputSpec) -> Task:
    """Returns a task that trains on attacked images and measures probes at the end of a run; without both, the task itself.

    The images of a step are attacked with the weights before it, as the network predicts: with the running statistics of batch
    normalisation and without dropout, so that no example depends on the others (as in the code of Zhang et al. 2019, TRADES).
    Deviation: Madry et al. 2017 attack with the statistics of the batch.

    Args:
        task: a classification task.
        attack: an attack with its knobs filled in, or `no_attack`.
        probes: what is measured of held-out examples on other images than theirs.
        loss: (outputs f32 [B, K], labels) -> f32 [B], which the attack raises.
        column: the labels' column of a batch.
        inputs: how the images are normalised.
    """
    is_attacked = is_attack(attack)
    if not is_attacked and not probes:
        return task
    pixels = Pixels.of(inputs)

    def loss_of(
        params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        outputs_of = functools.partial(task.predict, params, model_state)
        keys = collectives.example_keys(stream(key, "attack"), len(batch["image"]))
        images = attacked(attack, outputs_of, pixels, batch["image"], batch[column], keys, loss)
        return task.loss(params, model_state, {**batch, "image": images}, key, player)

    def measure_final(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        images, before = batch["image"], pixels.of_images(batch["image"])

        def outputs_of(after: Array) -> Array:
            return task.predict(params, model_state, pixels.moved(images, before, after))

        return {"sums": {}, "rows": {name: row for probe in probes for name, row in probe(outputs_of, before, batch).items()}}

    again = functools.partial(robust, task, attack=attack, probes=probes, loss=loss, column=column)
    return dataclasses.replace(
        task,
        loss=loss_of if is_attacked else task.loss,
        measure_final=measure_final if probes else task.measure_final,
        for_inputs=lambda inputs: again(inputs=inputs),
    )


def attacked(
    attack: Attack, outputs_of: LogitsOf, pixels: Pixels, images: Array, labels: Array, keys: Array, loss: Loss
) -> Array:
    """Returns normalised images [B, H, W, C] whose pixels are attacked; no gradient flows through the attack.

    Args:
        attack: an attack with its knobs filled in.
        outputs_of: normalised images [B, H, W, C] -> outputs f32 [B, K].
        pixels: how they are normalised.
        images: [B, H, W, C], normalised.
        labels: the labels of the images.
        keys: one PRNG key for each image.
        loss: what the attack raises.
    """
    before = pixels.of_images(images)
    after = attack(lambda moved: outputs_of(pixels.moved(images, before, moved)), before, labels, keys, loss)
    return pixels.moved(images, before, jax.lax.stop_gradient(after))

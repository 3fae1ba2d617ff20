"""Claim C37, what strides allow: the best masks that scores 8, 16 and 32 pixels apart could give. No network, no training.

Paper:    J. Long, E. Shelhamer, T. Darrell, Fully convolutional networks for semantic segmentation, 2015, arXiv 1411.4038,
          section 4.2: upsampling predictions from a stride of 32 is coarse
Command:  python launch.py measure --experiment=c37_oracle_strides
Result:   supported at small scale; docs/claims/c37.md has the numbers.

The scores of a network that errs nowhere but in its resolution are the shares that each class has of the cells of its stride.
They are enlarged bilinearly, as those of an FCN are, and the class with the largest score is taken. A trained network may do
better at single pixels, since its scores need not be shares; it is a yardstick for c37_fcn_strides, not a bound. Every seed
draws its own scenes; the numbers that are stated were looked up on seed 100, which the measurement does not use.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most, identity
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import Array
from cnnlab.data.scenes import scenes
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import upsample
from cnnlab.tasks.segmentation_metrics import MaskMetrics

SIZE, SCENES = 64, 200
STRIDES = (1, 2, 4, 8, 16, 32)
METRICS = ("boundary_iou", "miou")


def arm(stride: int) -> str:
    """Returns the name of the scores of a stride."""
    return f"stride {stride}"


@functools.partial(jax.jit, static_argnums=(1, 2))
def scores_of(masks: Array, classes: int, stride: int) -> Array:
    """Returns the enlarged shares f32 [B, H, W, K] of the classes in cells of stride² pixels of masks u8 [B, H, W]."""
    batch, height, width = masks.shape
    # [B, H, W] -> [B, H / stride, stride, W / stride, stride, K]
    cells = (batch, height // stride, stride, width // stride, stride, classes)
    shares = jax.nn.one_hot(masks, classes).reshape(cells).mean(axis=(2, 4))
    return upsample.bilinear(shares, (height, width))


def measure(seed: int) -> Measured:
    """Returns the mIoU and the boundary IoU of the scenes of a seed for each stride."""
    source = scenes(size=SIZE, examples=4 * SCENES, most_objects=2, clutter=0, data_seed=seed)
    names = source.kinds["segmentation"].names
    metrics = MaskMetrics(names, 255, "segmentation")
    masks = jnp.asarray(source.splits["test"].columns["segmentation"])
    batch = {"segmentation": masks, "index": jnp.arange(SCENES), "mask": jnp.ones(SCENES, bool)}
    found: dict[str, dict[str, float]] = {name: {} for name in METRICS}
    for stride in STRIDES:
        rows: dict[str, Any] = dict(jax.device_get(jax.jit(metrics.rows)(scores_of(masks, len(names), stride), batch)))
        rows["loss_terms"] = np.zeros((SCENES, 1, 2))  # there is no loss
        summary = metrics.summary({"sums": {}, "rows": rows})
        for name in METRICS:
            found[name][arm(stride)] = summary[name]
    curves = {name: tuple((float(stride), found[name][arm(stride)]) for stride in STRIDES) for name in METRICS}
    return Measured(found, curves)


def _finer(stride: int, coarser: int) -> Rule:
    return contrast(
        "C37", arm(stride), "better", f"At stride {stride} borders are sharper than at {coarser}", against=arm(coarser)
    )


measurement = Measurement(
    claim="C37",
    question="How sharp can masks be whose scores are 8, 16 or 32 pixels apart?",
    measure=measure,
    metrics=tuple(Metric(name, SHARE, higher_is_better=True) for name in METRICS),
    seeds=8,
    verdict=every(
        _finer(8, 16),
        _finer(16, 32),
        at_most("C37", arm(32), 0.1, "At stride 32 no boundary IoU is above a tenth"),
        at_least("C37", arm(8), 0.25, "At stride 8 all are above a quarter"),
        shown=(on("miou", contrast("C37", arm(8), "better", "At stride 8 the mIoU is higher", against=arm(32))),),
        requires=(identity("C37", arm(1), 1.0, 0.0, "At stride 1 the masks are the true ones"),),
        scope="scenes of 64x64 with one or two digits of 19 to 32 pixels, 200 for a seed",
    ),
    card=Card(
        published=(
            "Long et al. (2015), table 2: FCN-32s 59.4 mIoU on a part of the validation images of PASCAL VOC 2011, FCN-16s "
            "62.4, FCN-8s 62.7."
        ),
        would_change="Masks that lose nothing at their borders where scores are 32 pixels apart.",
        quick="--seeds=1",
        figure=Figure(x="stride in pixels", y="IoU"),
        deviations="Digits have thin strokes, which a coarse stride loses sooner than the objects of photos.",
    ),
)

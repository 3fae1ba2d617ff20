"""R-CNN: each box that something else proposed is cut out of the image, warped to one size and passed through the network.

Girshick et al. 2014, Rich feature hierarchies for accurate object detection and semantic segmentation, arXiv 1311.2524.

Letters in shapes: as in models/detection.py and models/region_head.py; Q height and width of a crop, F features of a region.
"""

import functools
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnlab.core import OUTPUT
from cnnlab.errors import UsageError
from cnnlab.models.dense_maps import with_output
from cnnlab.models.detection import Detector
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.region_head import CODE, Lesson, RegionHead
from cnnlab.models.svm_head import SVMHead
from cnnlab.ops import anchors, boxes, init, regions
from cnnlab.ops.heads import Objects
from cnnlab.ops.precision import at_least_f32
from cnnlab.ops.proposals import Proposals
from cnnlab.values import Count, Fraction, Probability, Range

GRID_SHARES = (0.25, 0.4, 0.6, 0.9)
"""Square roots of the areas of the boxes that images alone get, as shares of their shorter side."""
GRID_RATIOS = (0.5, 1.0, 2.0)
"""Height over width of these."""


def crops(images: jax.Array, corners: jax.Array, side: int, context: int) -> jax.Array:
    """Returns what boxes show of images, warped to squares, f32 [B, S, Q, Q, C] (appendix A of the paper, `warp`).

    A crop shows `context` of its own pixels around the box on each side. What lies beyond the image is 0, the mean of
    normalised images. A pixel of a crop is interpolated between four of the image, without a filter even where the crop is
    smaller, as in the authors' code; boxes get no gradient.

    Args:
        images: f32 [B, H, W, C].
        corners: f32 [B, S, 4] in pixels.
        side: Q.
        context: pixels of a crop around the box on each side, below Q / 2; 16 of 227 in the paper.
    """
    middle, sides = (corners[..., 2:] + corners[..., :2]) / 2, corners[..., 2:] - corners[..., :2]
    reach = sides * (side / (side - 2 * context)) / 2
    dilated = jnp.concatenate([middle - reach, middle + reach], axis=-1)
    return jax.vmap(lambda image, own: regions.roi_align(image, own, side, 1.0, samples=1))(images, dilated)


class RegionOutputs(nn.Module):
    """The last layers of a region: classes, box and machines, drawn from N(0, 0.01²), the box from N(0, 0.001²).

    As in the paper the features learn from the classes alone: the others read them, and pass no gradient.

    Attributes:
        classes: number of classes of objects.
        boxes: per_class: codes for each class and the background; shared: for all together.
        has_machines: whether there are decision values of support vector machines.
    """

    classes: int
    boxes: Literal["per_class", "shared"]
    has_machines: bool

    @nn.compact
    def __call__(self, maps: jax.Array, features: jax.Array) -> jax.Array:
        """Maps the deepest map of regions, [S, F'], and their features, [S, F], to f32 [S, P]."""
        codes = CODE * (self.classes + 1 if self.boxes == "per_class" else 1)
        layers = [("class", self.classes + 1, 0.01, features), ("box", codes, 0.001, lax.stop_gradient(maps))]
        if self.has_machines:
            layers.append(("svm", self.classes, 0.01, lax.stop_gradient(features)))
        found = [
            nn.Dense(count, kernel_init=functools.partial(init.normal, std=std), name=name)(x) for name, count, std, x in layers
        ]
        return at_least_f32(jnp.concatenate(found, axis=-1))


class RCNN(Detector):
    """R-CNN on any encoder: crops through the network, a linear machine for each class, and a regression of boxes.

    Features, machines and boxes are three trainings in the paper and one here, in which each learns from its own loss.
    `--frozen=features` leaves the features as they start.

    Deviation: the box is coded from the deepest map by gradient descent, in the paper by ridge regression. Images alone, as
    `predict` has them, get a grid of boxes of four sizes and three ratios.

    Attributes:
        crop: height and width of a crop in pixels.
        context: pixels of a crop on each side that show what is around the box, 16 of 227 in the paper.
        region_samples: regions of an image from which is learnt.
        positive_share: largest share of regions with an object.
        least_overlap: IoU with an object from which a region may be learnt as background.
        hidden: units of the dense layers above the deepest map of a crop.
        depth: number of these layers, two in the paper; its pool5 has 0.
        boxes: per_class: a region has a box for each class, as in the paper; shared: one for all.
        classifier: svm: scores are of support vector machines; softmax: of the classes from which the features learn (appendix
            B).
        hard_negatives: negatives of an image from which a machine learns, those with the largest losses.
    """

    crop: Annotated[int, Range(2)] = 32
    context: Annotated[int, Range(0)] = 4
    region_samples: Count = 32
    positive_share: Probability = 0.25
    least_overlap: Fraction = 0.0
    hidden: Count = 128
    depth: Annotated[int, Range(0)] = 1
    boxes: Literal["per_class", "shared"] = "per_class"
    classifier: Literal["svm", "softmax"] = "svm"
    hard_negatives: Count = 8

    @nn.compact
    @checks_image_size
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool,
        objects: Objects | None = None,
        keys: jax.Array | None = None,
        proposals: Proposals | None = None,
    ) -> tuple[jax.Array | Lesson, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (outputs f32 [B, R, 5 + P] or a lesson, crops and features of regions).

        Args:
            images: of any size.
            train: whether the network is trained.
            objects: of the images, [B, …] each; with them it returns a lesson of each image, [B, …].
            keys: of the draws of regions, keys [B].
            proposals: R of each image, [B, …] each; None: a grid.
        """
        size = (images.shape[1], images.shape[2])
        given = grid(size, images.shape[0]) if proposals is None else proposals
        if objects is None or keys is None:
            outputs, shown = self.judged(images, given.corners, train=train)
            valid = given.valid[..., None].astype(given.corners.dtype)
            return with_output(jnp.concatenate([given.corners, valid, outputs], axis=-1), shown)
        chosen = jax.vmap(self.head(size).sample)(given, objects, keys)
        outputs, shown = self.judged(images, chosen.corners, train=train)
        return Lesson(chosen, outputs), shown

    def judged(self, images: jax.Array, corners: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns outputs f32 [B, S, P] for regions f32 [B, S, 4], and their crops [B, S, Q, Q, C] and features [B, S, F]."""
        if 2 * self.context >= self.crop:
            raise UsageError(
                f"--model.context={self.context}: crops of {self.crop} pixels show nothing but what is around a box.\n"
                f"Expected less than half of --model.crop, such as {self.crop // 8}."
            )
        cut = crops(images, corners, self.crop, self.context)
        cut = cut.reshape(-1, *cut.shape[2:])  # [B, S, Q, Q, C] -> [B·S, Q, Q, C]
        maps = self.features(cut, train=train)
        deepest = maps[max(maps)]
        x = flat = deepest.reshape(deepest.shape[0], -1)  # [B·S, h, w, C] -> [B·S, h·w·C]
        for number in range(1, self.depth + 1):
            x = self.activation(nn.Dense(self.hidden, kernel_init=self.initializer, name=f"region{number}")(x))
        outputs = RegionOutputs(self.classes, self.boxes, self.classifier == "svm", name=OUTPUT)(flat, x)
        # [B·S, …] -> [B, S, …]
        shown = {name: value.reshape(*corners.shape[:2], *value.shape[1:]) for name, value in (("crops", cut), ("features", x))}
        return outputs.reshape(*corners.shape[:2], -1), shown

    def head(self, image_size: tuple[int, int]) -> RegionHead:
        """Returns what the outputs mean for images (H, W)."""
        knobs: dict[str, Any] = {
            "image_size": image_size,
            "classes": self.classes,
            "region_samples": self.region_samples,
            "positive_share": self.positive_share,
            "least_overlap": self.least_overlap,
        }
        if self.classifier == "softmax":
            return RegionHead(**knobs)
        return SVMHead(**knobs, hard_negatives=self.hard_negatives)


def grid(image_size: tuple[int, int], count: int) -> Proposals:
    """Returns boxes of several sizes and ratios all over an image (H, W) as proposals of `count` images, R of each."""
    short, found = min(image_size), []
    for share in GRID_SHARES:
        step = max(1.0, share * short / 2)
        down, right = (max(1, round(side / step)) for side in image_size)
        strides = (image_size[0] / down, image_size[1] / right)
        found.append(anchors.grid_anchors((down, right), strides, [share * short], GRID_RATIOS, rounded=False, offset=0.5))
    corners = boxes.clipped(jnp.asarray(np.concatenate(found)), image_size)
    spread = jnp.broadcast_to(corners, (count, *corners.shape))  # [R, 4] -> [B, R, 4]
    return Proposals(spread, jnp.ones(spread.shape[:2], bool))

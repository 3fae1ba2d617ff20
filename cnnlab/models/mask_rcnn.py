"""Mask R-CNN: Faster R-CNN with a third branch, which finds the pixels of each object inside of its box.

He, Gkioxari, Dollár and Girshick 2017, Mask R-CNN, arXiv 1703.06870, on a feature pyramid (figure 4, right).

Letters in shapes: as in models/detection.py, models/region_head.py and models/mask_head.py.
"""

import functools
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax

from cnnlab.models.dense_maps import with_output
from cnnlab.models.faster_rcnn import FasterRCNN, faster_rcnn_resnet50
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.layers import Conv, ConvTranspose
from cnnlab.models.mask_head import MaskHead, of_class, packed
from cnnlab.models.region_head import Lesson
from cnnlab.models.two_stages import Maps, RegionOutput, features_of_regions
from cnnlab.ops import init, nms
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.heads import Objects
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.precision import at_least_f32
from cnnlab.values import Choice, Count

Suppression = Callable[[jax.Array, jax.Array], dict[str, jax.Array]]
"""(corners f32 [R, 4] or [R, K, 4], scores f32 [R, K]) -> the detections of an image, as of nms.detections."""
TORCHVISION: Suppression = functools.partial(nms.detections, least_score=0.05, threshold=0.5, before=1000, after=100)
"""How torchvision's Mask R-CNN chooses detections, where nobody says how."""


class MaskOutput(RegionOutput):
    """The last layers of a region: those of RegionOutput, and a convolution of 1x1 for its masks.

    Attributes:
        masks: J.
    """

    masks: int = 1

    def setup(self) -> None:
        """Makes the convolution."""
        self.mask = Conv(self.masks, 1, initializer=functools.partial(init.normal, std=0.01))

    def of_masks(self, x: jax.Array) -> jax.Array:
        """Maps features [N, B, B, C] to logits f32 [N, B, B, J]."""
        return at_least_f32(self.mask(x))


class MaskBranch(nn.Module):
    """Convolutions of 3x3 and a transposed one of 2x2, which doubles the bins (figure 4, right).

    Attributes:
        channels: channels of each layer.
        depth: number of convolutions.
        activation: applied after each of them.
        initializer: initialiser of the kernels.
    """

    channels: int
    depth: int
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps features [N, Q, Q, C] of regions to [N, 2 Q, 2 Q, channels]."""
        for number in range(1, self.depth + 1):
            conv = Conv(self.channels, 3, padding=1, initializer=self.initializer, name=f"conv{number}")
            x = self.activation(conv(x))
        double = ConvTranspose(self.channels, 2, 2, padding="valid", initializer=self.initializer, name="double")
        return self.activation(double(x))


class MaskRCNN(FasterRCNN):
    """Mask R-CNN on a feature pyramid of any encoder; ResNet-50 as in torchvision, 44,077,773 parameters for 20 classes.

    Masks are learnt in the regions with an object and found in the detections alone, each in the mask of its own class.

    Attributes:
        mask_bins: bins of a region along each axis from which its mask is found, which has twice as many.
        mask_channels: channels of the layers of masks.
        mask_depth: number of convolutions of 3x3 of these.
        masks: per_class: a region has a mask for each class, as in the paper; shared: one for all (table 2b).
    """

    mask_bins: Count = 14
    mask_channels: Count = 32
    mask_depth: Count = 4
    masks: Literal["per_class", "shared"] = "per_class"

    def setup(self) -> None:
        """Makes the last layers."""
        self.output = MaskOutput(self.classes, self.boxes, self.classes + 1 if self.masks == "per_class" else 1)

    @nn.compact
    @checks_image_size
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool,
        objects: Objects | None = None,
        keys: jax.Array | None = None,
        suppression: Suppression = TORCHVISION,
    ) -> tuple[jax.Array | Lesson, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (outputs f32 [B, D, 7 + 4 Q·Q] or a lesson, the levels of the pyramid).

        Args:
            images: of any size.
            train: whether the network is trained.
            objects: of the images, with masks, [B, …] each; with them it returns a lesson of each image, [B, …].
            keys: of the draws of regions and anchors, keys [B].
            suppression: how the boxes of an image become its detections.
        """
        head = self.head((images.shape[1], images.shape[2]))
        pooled, shown, judged = self.judged(images, train=train)
        proposals = jax.vmap(head.propose)(judged)
        branch = MaskBranch(self.mask_channels, self.mask_depth, self.activation, self.initializer, name="mask")
        if objects is None or keys is None:
            boxes = self.described(pooled, proposals)  # [B, R, 5 + P]
            found = jax.vmap(lambda each: suppression(*head.region_boxes(each)))(boxes)
            logits = self.mask_logits(branch, pooled, found["corners"])  # [B, D, 2 Q, 2 Q, J]
            own = jax.nn.sigmoid(jax.vmap(of_class)(logits, found["label"]))
            return with_output(jax.vmap(packed)(found, own), shown)
        lesson = self.lesson(head, pooled, judged, proposals, objects, keys)
        corners = lesson.regions.corners[:, : head.positives]
        return lesson._replace(masks=self.mask_logits(branch, pooled, corners)), shown

    def mask_logits(self, branch: MaskBranch, pooled: Maps, corners: jax.Array) -> jax.Array:
        """Returns the logits f32 [B, S, 2 Q, 2 Q, J] of the masks in regions with corners f32 [B, S, 4]."""
        pool = functools.partial(features_of_regions, pool=self.pool, bins=self.mask_bins, canonical_side=self.canonical_side)
        x = jax.vmap(pool)(pooled, corners)  # [B, S, Q, Q, C]
        logits: jax.Array = self.output.of_masks(branch(x.reshape(-1, *x.shape[2:])))  # [B, S, …] -> [B·S, …]
        return logits.reshape(*x.shape[:2], *logits.shape[1:])  # [B·S, …] -> [B, S, …]

    def head(self, image_size: tuple[int, int]) -> MaskHead:
        """Returns what the outputs mean for images (H, W)."""
        return MaskHead(**self.proposal_knobs(image_size))


mask_rcnn_resnet50 = functools.partial(MaskRCNN, **faster_rcnn_resnet50.keywords, mask_channels=256)
"""Mask R-CNN with ResNet-50 on levels 2 to 6, 44,077,773 parameters for 20 classes, as torchvision's."""

"""RetinaNet: one convolutional head on all levels of a feature pyramid, trained on all anchors by the focal loss.

Lin, Goyal, Girshick, He and Dollár 2017, Focal loss for dense object detection, arXiv 1708.02002.
"""

import functools
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import OUTPUT
from cnnlab.models import norms
from cnnlab.models.anchor_head import CODE, AnchorHead, logit_of
from cnnlab.models.dense_maps import with_output
from cnnlab.models.detection import Detector, Pyramid, SharedOutput, rows
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.resnet import resnet50_v1_5
from cnnlab.ops import anchors
from cnnlab.values import Count, Positive, Range

PRIOR = 0.01
"""Probability of every class with which training starts (section 3.3)."""
OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
"""Scales of the anchors of a cell (section 4)."""
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
ANCHORS = len(OCTAVE) * len(ANCHOR_RATIOS)
"""Number of anchors of a cell."""
BETA = 1 / 9
"""Error at which the loss of boxes turns linear (the authors' Detectron; torchvision's is linear from 0 on)."""


class RetinaNet(Detector):
    """RetinaNet on any encoder; with ResNet-50 as in torchvision, 32,615,969 parameters for 21 classes.

    Attributes:
        first_level: the finest level of the pyramid, whose cells are 2^first_level pixels apart.
        maps: number of levels.
        channels: channels of the pyramid and of the towers.
        depth: convolutions of each of the two towers.
        anchor_scale: side of the smallest anchors of a level in units of its cells.
    """

    first_level: Annotated[int, Range(1)] = 2
    maps: Count = 3
    channels: Count = 64
    depth: Count = 2
    anchor_scale: Positive = 4.0

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (outputs f32 [B, N, 4 + K], the levels of the pyramid)."""
        features = self.features(images, train=train)
        self.require_levels(features, self.first_level)
        levels = Pyramid(self.channels, name="pyramid")(features, self._levels)
        towers = {
            part: [self.conv_norm(self.channels, f"{part}_tower{number}") for number in range(1, self.depth + 1)]
            for part in ("box", "class")
        }
        output = SharedOutput({"box": CODE * ANCHORS, "class": self.classes * ANCHORS}, {"class": logit_of(PRIOR)}, name=OUTPUT)
        found = []
        for x in levels.values():
            ends = dict.fromkeys(towers, x)
            for part, tower in towers.items():
                for layer in tower:
                    ends[part] = layer(ends[part], train=train)
            codes, logits = (rows(value, ANCHORS) for value in output(ends).values())
            found.append(jnp.concatenate([codes, logits], axis=-1))
        shown = {f"level{level}": value for level, value in levels.items()}
        return with_output(jnp.concatenate(found, axis=1), shown)  # of [B, h·w·A, P] -> [B, N, P]

    @property
    def _levels(self) -> range:
        return range(self.first_level, self.first_level + self.maps)

    def head(self, image_size: tuple[int, int]) -> AnchorHead:
        """Returns what the outputs mean for images (H, W)."""
        found = []
        for level in self._levels:
            sides = [int(self.anchor_scale * 2**level * scale) for scale in OCTAVE]
            found.append(anchors.grid_anchors(self.size_at(image_size, level), 2**level, sides, ANCHOR_RATIOS))
        return AnchorHead(
            np.concatenate(found),
            image_size,
            "focal",
            positive=0.5,
            negative=0.4,
            variances=(1.0, 1.0, 1.0, 1.0),
            beta=BETA,
        )


retinanet_resnet50 = functools.partial(
    RetinaNet, backbone=resnet50_v1_5, first_level=3, maps=5, channels=256, depth=4, norm=norms.no_norm
)
"""RetinaNet with ResNet-50 on levels 3 to 7, 32,615,969 parameters for 21 classes (section 4; torchvision)."""

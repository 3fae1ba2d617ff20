"""Faster R-CNN: a network proposes boxes that may hold an object, and a second stage classifies and mends each of them.

Ren, He, Girshick and Sun 2015, Faster R-CNN: Towards real-time object detection with region proposal networks, arXiv
1506.01497; on a feature pyramid as Lin et al. 2017, arXiv 1612.03144, sections 4 and 5.

Letters in shapes: as in models/detection.py and models/region_head.py; Q bins of a region along each axis.
"""

import functools
from collections.abc import Mapping
from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import OUTPUT
from cnnlab.models import norms
from cnnlab.models.dense_maps import with_output
from cnnlab.models.detection import Detector, Pyramid, rows
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.layers import Conv
from cnnlab.models.region_head import CODE, Lesson, RegionHead
from cnnlab.models.resnet import resnet50_v1_5
from cnnlab.ops import anchors, init, regions
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.heads import Objects
from cnnlab.ops.precision import at_least_f32
from cnnlab.ops.proposals import Proposals
from cnnlab.values import Choice, Count, Fraction, Positive, Probability, Range

CANONICAL_LEVEL = 4
"""Level at which regions of the canonical side are pooled (Lin et al. 2017, 1612.03144, eq. 1)."""

ANCHOR_RATIOS = (0.5, 1.0, 2.0)
"""Ratios of the anchors (section 3.1.1)."""

Maps = Mapping[int, jax.Array]
"""{level: features [B, h, w, C]}."""
Pool = Literal["align", "half_cell", "max"]


class ProposalOutput(nn.Module):
    """The layers that judge anchors, shared by all levels: a convolution of 3x3, and one of 1x1 for logits and for codes.

    Kernels are drawn from N(0, 0.01²) (Ren et al. 2015, section 3.1.3).

    Attributes:
        anchors: number of anchors of a cell.
        activation: applied after the convolution of 3x3.
    """

    anchors: int
    activation: Choice[ACTIVATIONS] = jax.nn.relu

    @nn.compact
    def __call__(self, maps: Maps) -> jax.Array:
        """Maps {level: [B, h, w, C]} to a logit and four codes of each anchor, f32 [B, N, 5], level by level."""
        kernel = functools.partial(init.normal, std=0.01)
        channels = next(iter(maps.values())).shape[-1]
        shared = Conv(channels, 3, padding=1, initializer=kernel, name="conv")
        logit = Conv(self.anchors, 1, initializer=kernel, name="logit")
        code = Conv(CODE * self.anchors, 1, initializer=kernel, name="box")
        found = []
        for x in maps.values():
            x = self.activation(shared(x))
            found.append(jnp.concatenate([rows(logit(x), self.anchors), rows(code(x), self.anchors)], axis=-1))
        return at_least_f32(jnp.concatenate(found, axis=1))  # of [B, h·w·A, 5] -> [B, N, 5]


class RegionOutput(nn.Module):
    """The last dense layers of a region: logits and codes, drawn from N(0, 0.01²) and N(0, 0.001²).

    Girshick 2015 (arXiv 1504.08083), section 2.3.

    Attributes:
        classes: number of classes of objects.
        boxes: per_class: codes for each class and the background; shared: for all together.
    """

    classes: int
    boxes: Literal["per_class", "shared"]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps features [B, S, F] of regions to f32 [B, S, P]."""
        count = CODE * (self.classes + 1 if self.boxes == "per_class" else 1)
        logits, codes = (
            nn.Dense(features, kernel_init=functools.partial(init.normal, std=std), name=name)(x)
            for name, features, std in (("class", self.classes + 1, 0.01), ("box", count, 0.001))
        )
        return at_least_f32(jnp.concatenate([logits, codes], axis=-1))


def features_of_regions(maps: Maps, corners: jax.Array, *, pool: Pool, bins: int, canonical_side: float) -> jax.Array:
    """Returns features [S, Q, Q, C] of regions [S, 4] of an image, each from one of maps {level: [h, w, C]}.

    Args:
        maps: levels without a gap.
        corners: in pixels.
        pool: as of `FasterRCNN`.
        bins: Q.
        canonical_side: side in pixels of a box that is pooled from level 4.
    """
    first, last = min(maps), max(maps)
    level = regions.levels(corners, first, last, canonical_side=canonical_side, canonical_level=CANONICAL_LEVEL) - first
    scales = [1 / 2**each for each in maps]
    if pool != "max":
        return regions.pyramid_align(list(maps.values()), corners, level, bins, scales, aligned=pool == "align")
    found = [regions.roi_pool(x, corners, bins, scale) for x, scale in zip(maps.values(), scales, strict=True)]
    stacked = jnp.stack(found)  # [L, S, Q, Q, C]
    return stacked[level, jnp.arange(len(corners))]  # [L, S, Q, Q, C] at [S] and [S] -> [S, Q, Q, C]


class FasterRCNN(Detector):
    """Faster R-CNN on a feature pyramid of any encoder; ResNet-50 as in torchvision, 41,449,656 parameters for 20 classes.

    Each level of the pyramid has anchors of three ratios. In training the network is told the objects: it draws regions from
    its proposals and the objects, and returns what the loss reads. The regions' boxes and the layers above the pooled features
    are the same in both cases.

    Deviation: proposals pass no gradient to their boxes, the approximate joint training of section 3.2, and as many are taken
    in training as after it.

    Attributes:
        first_level: the finest level of the pyramid, whose cells are 2^first_level pixels apart.
        maps: number of levels; those beyond the encoder are every second cell of the one before, and regions do not use them.
        channels: channels of the pyramid.
        anchor_scales: sides of the anchors of a level in units of its cells.
        proposal_threshold: largest IoU of two proposals of a level.
        before: anchors of a level that enter the suppression, those with the highest scores.
        proposals: proposals of an image at most.
        anchor_samples: anchors of an image from which is learnt, half of them with an object at most.
        region_samples: regions of an image from which is learnt.
        positive_share: largest share of regions with an object.
        least_overlap: IoU with an object from which a region may be learnt as background, 0.1 in Fast R-CNN.
        pool: align: interpolation at four points of a bin; half_cell: the same half a cell off, as in torchvision; max: the
            largest features of whole cells, as in Fast R-CNN.
        bins: bins of a region along each axis.
        canonical_side: side in pixels of a box that is pooled from level 4; half of it from level 3.
        hidden: units of the dense layers above the pooled features.
        depth: number of these layers.
        boxes: per_class: a region has a box for each class; shared: one for all (Ren et al. and Girshick: per_class).
    """

    first_level: Annotated[int, Range(1)] = 2
    maps: Count = 3
    channels: Count = 64
    anchor_scales: tuple[float, ...] = (3.0, 4.5)
    proposal_threshold: Probability = 0.7
    before: Count = 200
    proposals: Count = 100
    anchor_samples: Count = 64
    region_samples: Count = 64
    positive_share: Fraction = 0.25
    least_overlap: Fraction = 0.0
    pool: Pool = "align"
    bins: Count = 7
    canonical_side: Positive = 64.0
    hidden: Count = 128
    depth: Count = 2
    boxes: Literal["per_class", "shared"] = "per_class"

    @nn.compact
    @checks_image_size
    def __call__(
        self, images: jax.Array, *, train: bool, objects: Objects | None = None, keys: jax.Array | None = None
    ) -> tuple[jax.Array | Lesson, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (outputs f32 [B, R, 5 + P] or a lesson, the levels of the pyramid).

        Args:
            images: of any size.
            train: whether the network is trained.
            objects: of the images, [B, …] each; with them it returns a lesson of each image, [B, …].
            keys: of the draws of regions and anchors, keys [B].
        """
        pooled, maps = self._pyramid(images, train=train)
        head = self.head((images.shape[1], images.shape[2]))
        judged = ProposalOutput(self._anchors, self.activation, name="proposal")(maps)
        proposals = jax.vmap(head.propose)(judged)
        shown = {f"level{level}": value for level, value in maps.items()}
        if objects is None or keys is None:
            return with_output(self._described(pooled, proposals), shown)
        drawn = jax.vmap(jax.random.split)(keys)  # [B] -> [B, 2]
        chosen = jax.vmap(head.sample)(proposals, objects, drawn[:, 0])
        return Lesson(judged, chosen, self._regions(pooled, chosen.corners), drawn[:, 1]), shown

    def _pyramid(self, images: jax.Array, *, train: bool) -> tuple[Maps, Maps]:
        """Returns the levels from which regions are pooled, and those with anchors."""
        features = self.features(images, train=train)
        self.require_levels(features, self.first_level)
        own = range(self.first_level, min(self._levels[-1], max(features)) + 1)
        pooled = Pyramid(self.channels, name="pyramid")(features, own)
        maps = dict(pooled)
        for level in range(own[-1] + 1, self._levels[-1] + 1):
            maps[level] = maps[level - 1][:, ::2, ::2]
        return pooled, maps

    def _described(self, maps: Maps, proposals: Proposals) -> jax.Array:
        """Returns the proposals with the outputs for them, f32 [B, R, 5 + P]."""
        valid = proposals.valid[..., None].astype(proposals.corners.dtype)
        return jnp.concatenate([proposals.corners, valid, self._regions(maps, proposals.corners)], axis=-1)

    def _regions(self, maps: Maps, corners: jax.Array) -> jax.Array:
        """Returns outputs f32 [B, S, P] of regions with corners f32 [B, S, 4]."""
        pooled = functools.partial(features_of_regions, pool=self.pool, bins=self.bins, canonical_side=self.canonical_side)
        x = jax.vmap(pooled)(maps, corners)  # [B, S, Q, Q, C]
        x = x.reshape(*x.shape[:2], -1)  # [B, S, Q, Q, C] -> [B, S, Q·Q·C]
        for number in range(1, self.depth + 1):
            x = self.activation(nn.Dense(self.hidden, kernel_init=self.initializer, name=f"region{number}")(x))
        return RegionOutput(self.classes, self.boxes, name=OUTPUT)(x)

    @property
    def _levels(self) -> range:
        return range(self.first_level, self.first_level + self.maps)

    @property
    def _anchors(self) -> int:
        return len(self.anchor_scales) * len(ANCHOR_RATIOS)

    def head(self, image_size: tuple[int, int]) -> RegionHead:
        """Returns what the outputs mean for images (H, W)."""
        found = [
            anchors.grid_anchors(
                self.size_at(image_size, level), 2**level, [scale * 2**level for scale in self.anchor_scales], ANCHOR_RATIOS
            )
            for level in self._levels
        ]
        return RegionHead(
            tuple(found),
            image_size,
            self.classes,
            self.proposal_threshold,
            self.before,
            self.proposals,
            anchor_samples=self.anchor_samples,
            region_samples=self.region_samples,
            positive_share=self.positive_share,
            least_overlap=self.least_overlap,
        )


faster_rcnn_resnet50 = functools.partial(
    FasterRCNN,
    backbone=resnet50_v1_5,
    maps=5,
    channels=256,
    anchor_scales=(8.0,),
    before=1000,
    proposals=1000,
    anchor_samples=256,
    region_samples=512,
    pool="half_cell",
    canonical_side=224.0,
    hidden=1024,
    norm=norms.no_norm,
)
"""Faster R-CNN with ResNet-50 on levels 2 to 6, 41,449,656 parameters for 20 classes, as torchvision's."""

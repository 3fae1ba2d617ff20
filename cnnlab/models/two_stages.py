"""What detectors in two stages share: features of regions, the layers above them, the last layer.

Letters in shapes: as in models/detection.py and models/region_head.py; Q bins of a region along each axis.
"""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.errors import UsageError
from cnnlab.models.detection import Detector, Pyramid
from cnnlab.models.region_head import CODE
from cnnlab.ops import anchors, init, regions
from cnnlab.ops.precision import at_least_f32
from cnnlab.ops.proposals import Proposals
from cnnlab.values import Count, Fraction, Positive, Probability, Range

CANONICAL_LEVEL = 4
"""Level at which regions of the canonical side are pooled (Lin et al. 2017, arXiv 1612.03144, eq. 1)."""
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
"""Ratios of the anchors (Ren et al. 2015, arXiv 1506.01497, section 3.1.1)."""
Maps = Mapping[int, jax.Array]
"""{level: features [B, h, w, C]}."""
Pool = Literal["align", "half_cell", "max"]


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
        pool: as of `TwoStages`.
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


class TwoStages(Detector):
    """A detector that pools the features of regions and classifies and mends each; the subclasses say whence regions come.

    In training it is told the objects: it draws regions from the proposals and the objects, and returns what the loss reads.

    Attributes:
        neck: fpn: a feature pyramid; none: the encoder's features of `first_level`, as in the papers before pyramids.
        first_level: the finest level with anchors, whose cells are 2^first_level pixels apart.
        maps: number of levels, one without a pyramid; those beyond the encoder are every second cell of the one before, and
            regions do not use them.
        channels: channels of the pyramid.
        anchor_scales: sides of the anchors of a level in units of its cells, each in three ratios.
        region_samples: regions of an image from which is learnt.
        positive_share: largest share of regions with an object.
        least_overlap: IoU with an object from which a region may be learnt as background, 0.1 in Fast R-CNN.
        pool: align: interpolation at four points of a bin; half_cell: the same half a cell off, as in torchvision; max: the
            largest features of whole cells, as in Fast R-CNN.
        bins: bins of a region along each axis.
        canonical_side: side in pixels of a box that is pooled from level 4; half of it from level 3.
        hidden: units of the dense layers above the pooled features.
        depth: number of these layers.
        boxes: per_class: a region has a box for each class, as in the papers; shared: one for all.
    """

    neck: Literal["fpn", "none"] = "fpn"
    first_level: Annotated[int, Range(1)] = 2
    maps: Count = 3
    channels: Count = 64
    anchor_scales: tuple[float, ...] = (3.0, 4.5)
    region_samples: Count = 64
    positive_share: Probability = 0.25
    least_overlap: Fraction = 0.0
    pool: Pool = "align"
    bins: Count = 7
    canonical_side: Positive = 64.0
    hidden: Count = 128
    depth: Count = 2
    boxes: Literal["per_class", "shared"] = "per_class"

    def setup(self) -> None:
        """Makes the last layer."""
        self.output = RegionOutput(self.classes, self.boxes)

    def pyramid(self, images: jax.Array, *, train: bool) -> tuple[Maps, Maps]:
        """Returns the levels from which regions are pooled, and those with anchors; called inside a compact module."""
        features = self.features(images, train=train)
        self.require_levels(features, self.first_level)
        if self.neck == "none":
            self._require_one_level()
            alone = {self.first_level: features[self.first_level]}
            return alone, alone
        own = range(self.first_level, min(self.levels_of_anchors[-1], max(features)) + 1)
        pooled = Pyramid(self.channels, name="pyramid")(features, own)
        maps = dict(pooled)
        for level in range(own[-1] + 1, self.levels_of_anchors[-1] + 1):
            maps[level] = maps[level - 1][:, ::2, ::2]
        return pooled, maps

    def _require_one_level(self) -> None:
        """Raises UsageError for levels that features without a pyramid do not have."""
        if self.maps != 1:
            raise UsageError(
                f"--model.neck=none: without a pyramid one level has anchors, and --model.maps={self.maps}.\nGive "
                "--model.maps=1, and --model.anchor_scales for objects of all sizes."
            )

    def described(self, maps: Maps, proposals: Proposals) -> jax.Array:
        """Returns the proposals with the outputs for them, f32 [B, R, 5 + P]."""
        valid = proposals.valid[..., None].astype(proposals.corners.dtype)
        return jnp.concatenate([proposals.corners, valid, self.regions(maps, proposals.corners)], axis=-1)

    def regions(self, maps: Maps, corners: jax.Array) -> jax.Array:
        """Returns outputs f32 [B, S, P] of regions with corners f32 [B, S, 4]."""
        pooled = functools.partial(features_of_regions, pool=self.pool, bins=self.bins, canonical_side=self.canonical_side)
        x = jax.vmap(pooled)(maps, corners)  # [B, S, Q, Q, C]
        x = x.reshape(*x.shape[:2], -1)  # [B, S, Q, Q, C] -> [B, S, Q·Q·C]
        for number in range(1, self.depth + 1):
            x = self.activation(nn.Dense(self.hidden, kernel_init=self.initializer, name=f"region{number}")(x))
        outputs: jax.Array = self.output(x)
        return outputs

    @property
    def levels_of_anchors(self) -> range:
        """The levels whose cells have anchors."""
        return range(self.first_level, self.first_level + self.maps)

    def anchors(self, image_size: tuple[int, int]) -> tuple[np.ndarray, ...]:
        """Returns the anchors of each level for images (H, W), f32 [N, 4] in pixels."""
        return tuple(
            anchors.grid_anchors(
                self.size_at(image_size, level), 2**level, [scale * 2**level for scale in self.anchor_scales], ANCHOR_RATIOS
            )
            for level in self.levels_of_anchors
        )

    def head_knobs(self, image_size: tuple[int, int]) -> dict[str, Any]:
        """Returns what every head of two stages takes, for images (H, W)."""
        return {
            "image_size": image_size,
            "classes": self.classes,
            "region_samples": self.region_samples,
            "positive_share": self.positive_share,
            "least_overlap": self.least_overlap,
        }

"""Faster R-CNN: a network proposes boxes that may hold an object, and a second stage classifies and mends each of them.

Ren, He, Girshick and Sun 2015, Faster R-CNN: Towards real-time object detection with region proposal networks, arXiv
1506.01497; on a feature pyramid as Lin et al. 2017, arXiv 1612.03144, sections 4 and 5.

Letters in shapes: as in models/detection.py and models/region_head.py.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import norms
from cnnlab.models.dense_maps import with_output
from cnnlab.models.detection import rows
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.layers import Conv
from cnnlab.models.region_head import CODE, Lesson, ProposalHead
from cnnlab.models.resnet import resnet50_v1_5
from cnnlab.models.two_stages import ANCHOR_RATIOS, Maps, TwoStages
from cnnlab.models.vgg import vgg16_d
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.heads import Objects
from cnnlab.ops.precision import at_least_f32
from cnnlab.ops.proposals import Proposals
from cnnlab.values import Choice, Count, Probability


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


class FasterRCNN(TwoStages):
    """Faster R-CNN on any encoder, with a feature pyramid or, as in the paper, without.

    With ResNet-50 as in torchvision it has 41,449,656 parameters for 20 classes.

    Deviation: proposals pass no gradient to their boxes, the approximate joint training of section 3.2, and as many are taken
    in training as after it.

    Attributes:
        proposal_threshold: largest IoU of two proposals of a level.
        before: anchors of a level that enter the suppression, those with the highest scores.
        proposals: proposals of an image at most.
        anchor_samples: anchors of an image from which is learnt, half of them with an object at most.
    """

    proposal_threshold: Probability = 0.7
    before: Count = 200
    proposals: Count = 100
    anchor_samples: Count = 64

    @nn.compact
    @checks_image_size
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool,
        objects: Objects | None = None,
        keys: jax.Array | None = None,
        given: Proposals | None = None,
    ) -> tuple[jax.Array | Lesson, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (outputs f32 [B, R, 5 + P] or a lesson, the levels of the pyramid).

        Args:
            images: of any size.
            train: whether the network is trained.
            objects: of the images, [B, …] each; with them it returns a lesson of each image, [B, …].
            keys: of the draws of regions and anchors, keys [B].
            given: proposals of another network, [B, …] each; None: those of this one.
        """
        head = self.head((images.shape[1], images.shape[2]))
        pooled, shown, judged = self.judged(images, train=train)
        proposals = jax.vmap(head.propose)(judged) if given is None else given
        if objects is None or keys is None:
            return with_output(self.described(pooled, proposals), shown)
        return self.lesson(head, pooled, judged, proposals, objects, keys), shown

    def judged(self, images: jax.Array, *, train: bool) -> tuple[Maps, dict[str, jax.Array], jax.Array]:
        """Returns the levels from which regions are pooled, all levels by name, and the outputs f32 [B, N, 5] for the anchors.

        It is called inside a compact module.
        """
        pooled, maps = self.pyramid(images, train=train)
        judged = ProposalOutput(len(self.anchor_scales) * len(ANCHOR_RATIOS), self.activation, name="proposal")(maps)
        return pooled, {f"level{level}": value for level, value in maps.items()}, judged

    def lesson(
        self, head: ProposalHead, pooled: Maps, judged: jax.Array, proposals: Proposals, objects: Objects, keys: jax.Array
    ) -> Lesson:
        """Returns what the loss reads of images whose objects are known, [B, …]; called inside a compact module."""
        drawn = jax.vmap(jax.random.split)(keys)  # [B] -> [B, 2]
        chosen = jax.vmap(head.sample)(proposals, objects, drawn[:, 0])
        return Lesson(chosen, self.regions(pooled, chosen.corners), judged, drawn[:, 1])

    def head(self, image_size: tuple[int, int]) -> ProposalHead:
        """Returns what the outputs mean for images (H, W)."""
        return ProposalHead(**self.proposal_knobs(image_size))

    def proposal_knobs(self, image_size: tuple[int, int]) -> dict[str, Any]:
        """Returns what a head with proposals takes, for images (H, W)."""
        return {
            **self.head_knobs(image_size),
            "anchors": self.anchors(image_size),
            "proposal_threshold": self.proposal_threshold,
            "before": self.before,
            "after": self.proposals,
            "anchor_samples": self.anchor_samples,
        }


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

faster_rcnn_vgg16 = functools.partial(
    FasterRCNN,
    backbone=vgg16_d,
    neck="none",
    first_level=4,
    maps=1,
    anchor_scales=(8.0, 16.0, 32.0),
    before=6000,
    proposals=300,
    anchor_samples=256,
    region_samples=128,
    least_overlap=0.1,
    pool="max",
    hidden=4096,
    norm=norms.no_norm,
)
"""The paper's network: VGG-16, nine anchors of 128, 256 and 512 pixels for each cell of conv5_3, 137,073,622 parameters for 20
classes, 4,617 less than with a softmax of two classes for each anchor. Deviation: no dropout between the dense layers."""

"""Fast R-CNN: classifies and mends boxes that something else proposed, on features that all of them share.

Girshick 2015, Fast R-CNN, arXiv 1504.08083; here on a feature pyramid, as Lin et al. 2017, arXiv 1612.03144, section 5.2.

Letters in shapes: as in models/detection.py and models/region_head.py.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.models.dense_maps import with_output
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.region_head import Lesson, RegionHead
from cnnlab.models.two_stages import Pool, TwoStages
from cnnlab.ops import boxes
from cnnlab.ops.heads import Objects
from cnnlab.ops.proposals import Proposals
from cnnlab.values import Fraction


class FastRCNN(TwoStages):
    """Fast R-CNN on a feature pyramid of any encoder, with proposals that the data set has.

    Images alone, as `predict` has them, get the anchors of all levels as proposals, a grid of boxes as dense as the cells, of
    which section 5.5 of the paper says that they are worse than those of selective search.
    """

    least_overlap: Fraction = 0.1
    pool: Pool = "max"

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
        """Maps images f32 [B, H, W, C] to (outputs f32 [B, R, 5 + P] or a lesson, the levels of the pyramid).

        Args:
            images: of any size.
            train: whether the network is trained.
            objects: of the images, [B, …] each; with them it returns a lesson of each image, [B, …].
            keys: of the draws of regions, keys [B].
            proposals: R of each image, [B, …] each; None: the anchors.
        """
        pooled, maps = self.pyramid(images, train=train)
        size = (images.shape[1], images.shape[2])
        given = self._grid(size, images.shape[0]) if proposals is None else proposals
        shown = {f"level{level}": value for level, value in maps.items()}
        if objects is None or keys is None:
            return with_output(self.described(pooled, given), shown)
        chosen = jax.vmap(self.head(size).sample)(given, objects, keys)
        return Lesson(chosen, self.regions(pooled, chosen.corners)), shown

    def _grid(self, image_size: tuple[int, int], count: int) -> Proposals:
        """Returns the anchors as proposals of `count` images."""
        corners = boxes.clipped(jnp.asarray(np.concatenate(self.anchors(image_size))), image_size)
        spread = jnp.broadcast_to(corners, (count, *corners.shape))  # [N, 4] -> [B, N, 4]
        return Proposals(spread, jnp.ones(spread.shape[:2], bool))

    def head(self, image_size: tuple[int, int]) -> RegionHead:
        """Returns what the outputs mean for images (H, W)."""
        return RegionHead(**self.head_knobs(image_size))

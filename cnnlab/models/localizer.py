"""Classification and localisation by two heads on one trunk (Simonyan and Zisserman, arXiv 1409.1556, appendix A).

Letters in shapes: B batch, H W space, C channels, K classes, F features.
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax

from cnnlab.models import layers
from cnnlab.models.detection import Detector
from cnnlab.models.vgg import vgg16_d
from cnnlab.ops import init
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count

BOX = 4
"""Numbers of a box."""
BoxesFor = Literal["shared", "per_class"]
Located = tuple[dict[str, jax.Array], dict[str, jax.Array]]
"""({"logits": f32 [B, K], "box": f32 [B, 4] or [B, K, 4]}, intermediates)."""


class Localizer(nn.Module):
    """Predicts the class and the position of the object in an image: logits and a box, from the same features.

    Both heads are one dense layer on the trunk's features, so the two losses add up in the trunk. A box is four numbers in
    units of the image's height and width, in the order of the labels; they are not bounded.

    Attributes:
        classes: number of classes.
        trunk: a network of MODELS built with classes=0, whose output is features [B, F].
        boxes: shared gives one box (single-class regression), per_class one for each class (per-class regression).
        initializer: initialiser of the heads' kernels; biases start at 0.
    """

    classes: int
    trunk: nn.Module
    boxes: BoxesFor = "shared"
    initializer: Choice[INITIALIZERS] = init.lecun

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Located:
        """Maps images f32 [B, H, W, C] to ({"logits": f32 [B, K], "box": f32 [B, 4] or [B, K, 4]}, intermediates)."""
        features, intermediates = self.trunk(images, train=train)
        return two_heads(features, intermediates, self.classes, self.boxes, self.initializer)


class MapLocalizer(Detector):
    """Two heads on a hidden layer, which sees the deepest map of a small encoder, or of any backbone, position by position.

    A mean over the positions, with which many networks of the zoo end, would leave little of where the object is.

    Attributes:
        hidden: units of the layer below both heads.
        boxes: shared: one box, whatever the class; per_class: one for each class.
    """

    hidden: Count = 128
    boxes: BoxesFor = "shared"

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Located:
        """Maps images f32 [B, H, W, C] to ({"logits": f32 [B, K], "box": f32 [B, 4] or [B, K, 4]}, intermediates)."""
        maps = self.features(images, train=train)
        x = maps[max(maps)].reshape(images.shape[0], -1)  # [B, h, w, C] -> [B, h · w · C]
        x = self.activation(nn.Dense(self.hidden, kernel_init=self.initializer, name="hidden")(x))
        seen = {f"level{level}": value for level, value in maps.items()}
        return two_heads(x, seen, self.classes, self.boxes, init.lecun)


def two_heads(
    features: jax.Array,
    intermediates: dict[str, jax.Array],
    classes: int,
    boxes: BoxesFor,
    initializer: Callable[..., jax.Array],
) -> Located:
    """Returns what a localiser returns, of features [B, F]; called inside a compact module."""
    shape = (classes, BOX) if boxes == "per_class" else (BOX,)
    logits = layers.output_layer(features, classes, initializer)
    box = nn.DenseGeneral(shape, kernel_init=initializer, name="box")(features)
    return {"logits": logits, "box": box}, {**intermediates, "features": features, "output": logits, "box": box}


def vgg16_localizer(*, classes: int, boxes: BoxesFor = "per_class") -> Localizer:
    """VGG-16, network D, with a head for the class and one for the box: one a class, as in the paper's best result."""
    return Localizer(classes=classes, trunk=vgg16_d(classes=0), boxes=boxes)

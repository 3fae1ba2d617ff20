"""M14: classification and localisation by two heads on one trunk (Simonyan and Zisserman, arXiv 1409.1556, appendix A)."""

from typing import Literal

import flax.linen as nn
import jax

from cnnlab.models import layers
from cnnlab.models.vgg import vgg16_d
from cnnlab.ops import init
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice

BOX = 4
"""Numbers of a box."""


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
    boxes: Literal["shared", "per_class"] = "shared"
    initializer: Choice[INITIALIZERS] = init.lecun

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to ({"logits": f32 [B, K], "box": f32 [B, 4] or [B, K, 4]}, intermediates)."""
        features, intermediates = self.trunk(images, train=train)
        shape = (self.classes, BOX) if self.boxes == "per_class" else (BOX,)
        logits = layers.output_layer(features, self.classes, self.initializer)
        box = nn.DenseGeneral(shape, kernel_init=self.initializer, name="box")(features)
        return {"logits": logits, "box": box}, {**intermediates, "features": features, "output": logits, "box": box}


def vgg16_localizer(*, classes: int, boxes: Literal["shared", "per_class"] = "per_class") -> Localizer:
    """VGG-16, network D, with a head for the class and one for the box: one a class, as in the paper's best result."""
    return Localizer(classes=classes, trunk=vgg16_d(classes=0), boxes=boxes)

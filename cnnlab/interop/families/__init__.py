"""Schemes of the names in other libraries, by the class of the models."""

import flax.linen as nn

from cnnlab.interop.families import (
    alexnet,
    densenet,
    detection,
    efficientnet,
    inception,
    keras,
    mobilenet,
    resnet,
    segmentation,
    squeezenet,
    vgg,
    zfnet,
)
from cnnlab.interop.scheme import Scheme

_TORCH = (alexnet, zfnet, vgg, inception, resnet, densenet, squeezenet, mobilenet, efficientnet, segmentation, detection)

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    model: (*schemes, *keras.SCHEMES.get(model, ())) for family in _TORCH for model, schemes in family.SCHEMES.items()
}
"""Schemes by class of model: those of torchvision, timm and pytorchcv first, then that of keras."""

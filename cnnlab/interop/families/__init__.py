"""The schemes of every family, by the class of its models."""

import flax.linen as nn

from cnnlab.interop.families import alexnet, densenet, efficientnet, mobilenet, resnet, squeezenet, vgg, zfnet
from cnnlab.interop.scheme import Scheme

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    **alexnet.SCHEMES,
    **zfnet.SCHEMES,
    **vgg.SCHEMES,
    **resnet.SCHEMES,
    **densenet.SCHEMES,
    **squeezenet.SCHEMES,
    **mobilenet.SCHEMES,
    **efficientnet.SCHEMES,
}

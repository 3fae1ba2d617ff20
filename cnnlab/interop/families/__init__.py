"""The schemes of every family, by the class of its models."""

import flax.linen as nn

from cnnlab.interop.scheme import Scheme

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {}

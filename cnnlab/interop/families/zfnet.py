"""Names of ZFNet in pytorchcv (`zfnet` and `zfnetb`), which are those of its AlexNet."""

import flax.linen as nn

from cnnlab.interop.families.alexnet import PYTORCHCV
from cnnlab.interop.scheme import Scheme
from cnnlab.models.zfnet import ZFNet

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {ZFNet: (PYTORCHCV,)}

"""Names of ZFNet in pytorchcv (`zfnet` and `zfnetb`), which are those of its AlexNet."""

import dataclasses

import flax.linen as nn

from cnnlab.interop.families.alexnet import PYTORCHCV
from cnnlab.interop.scheme import Scheme, always
from cnnlab.models.zfnet import ZFNet

_UNSEEN = (
    *PYTORCHCV.unseen,
    always("lrn", True, "has local response normalisation"),
    always("lrn_first", True, "normalises before it pools"),
)

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {ZFNet: (dataclasses.replace(PYTORCHCV, unseen=_UNSEEN),)}

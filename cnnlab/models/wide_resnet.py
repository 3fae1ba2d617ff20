"""Wide ResNet: few wide pre-activation blocks instead of many narrow ones.

Zagoruyko and Komodakis 2016, Wide residual networks, arXiv 1605.07146, Table 1: WRN-d-k has d convolutions, projections
included, and therefore (d - 4) / 6 blocks in each of three stages of 16k, 32k and 64k channels. The knob
block_dropout is the dropout between the convolutions of a block (section 2.4), 0.3 in the paper's
experiments on CIFAR. Wide ResNet-50-2, for ImageNet, is in resnet.py.
"""

import functools

from cnnlab.models.preact_resnet import PreActResNet

_wide = functools.partial(PreActResNet, block="basic", channels=16, stride_at="first", stem="small")
"""Builds networks with a stem of 16 channels and basic blocks."""

wrn16_4 = functools.partial(_wide, stages=(2, 2, 2), widen=4.0)
"""WRN-16-4, 2,748,890 parameters."""
wrn16_8 = functools.partial(_wide, stages=(2, 2, 2), widen=8.0)
"""WRN-16-8, 10,961,370 parameters."""
wrn28_10 = functools.partial(_wide, stages=(4, 4, 4), widen=10.0)
"""WRN-28-10, 36,479,194 parameters (4.00 % error on CIFAR-10)."""
wrn40_2 = functools.partial(_wide, stages=(6, 6, 6), widen=2.0)
"""WRN-40-2, 2,243,546 parameters."""
wrn40_4 = functools.partial(_wide, stages=(6, 6, 6), widen=4.0)
"""WRN-40-4, 8,949,210 parameters."""

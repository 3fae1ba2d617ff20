"""The residual networks of depth 6n + 2 for images of 32x32, their plain counterparts, and ResNeXt-29.

He et al. 2015, arXiv 1512.03385, section 4.2 and Table 6; Xie et al. 2017, arXiv 1611.05431, section 5.3 and Table 7. Those
with pre-activation are in preact_resnet.py and wide_resnet.py.
"""

import functools

from cnnlab.models.resnet import ResNet

_cifar = functools.partial(ResNet, block="basic", channels=16, stride_at="first", shortcut="A", stem="small")
"""Builds networks with stages of 16, 32 and 64 channels and shortcuts without parameters."""

cifar_resnet20 = functools.partial(_cifar, stages=(3, 3, 3))
"""ResNet-20 for CIFAR, 269,722 parameters (He et al. 2015, Table 6: 8.75 % error)."""
cifar_resnet32 = functools.partial(_cifar, stages=(5, 5, 5))
"""ResNet-32 for CIFAR, 464,154 parameters (7.51 %)."""
cifar_resnet44 = functools.partial(_cifar, stages=(7, 7, 7))
"""ResNet-44 for CIFAR, 658,586 parameters (7.17 %)."""
cifar_resnet56 = functools.partial(_cifar, stages=(9, 9, 9))
"""ResNet-56 for CIFAR, 853,018 parameters (6.97 %)."""
cifar_resnet110 = functools.partial(_cifar, stages=(18, 18, 18))
"""ResNet-110 for CIFAR, 1,727,962 parameters (6.43 %)."""
cifar_resnet1202 = functools.partial(_cifar, stages=(200, 200, 200))
"""ResNet-1202 for CIFAR, 19.4 M parameters (7.93 %: worse than ResNet-110, by overfitting)."""
cifar_plain20 = functools.partial(_cifar, stages=(3, 3, 3), residual=False)
"""ResNet-20 without its shortcuts, and with as many parameters (He et al. 2015, Figure 6, left)."""
cifar_plain32 = functools.partial(_cifar, stages=(5, 5, 5), residual=False)
"""ResNet-32 without its shortcuts."""
cifar_plain44 = functools.partial(_cifar, stages=(7, 7, 7), residual=False)
"""ResNet-44 without its shortcuts."""
cifar_plain56 = functools.partial(_cifar, stages=(9, 9, 9), residual=False)
"""ResNet-56 without its shortcuts: worse than the plain 20 layers, in training too."""
cifar_resnext29_16x64d = functools.partial(ResNet, stages=(3, 3, 3), groups=16, stem="small")
"""ResNeXt-29 of 16 groups of 64 channels for CIFAR, 68,155,210 parameters (Xie et al. 2017, Table 7: 3.58 % error)."""
cifar_resnext29_8x64d = functools.partial(ResNet, stages=(3, 3, 3), groups=8, stem="small")
"""ResNeXt-29 of 8 groups of 64 channels for CIFAR, 34.4 M parameters (Table 7: 3.65 %)."""

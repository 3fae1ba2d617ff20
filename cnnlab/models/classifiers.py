"""The classifiers by name, called as `model(images f32 [B, H, W, C], train=…) -> (logits f32 [B, K], intermediates)`."""

from cnnlab.models import (
    alexnet,
    cifar_resnet,
    densenet,
    efficientnet,
    googlenet,
    inception_bn,
    inception_resnet_v2,
    inception_v3,
    inception_v4,
    mobilenet,
    preact_resnet,
    recurrent,
    resnet,
    squeezenet,
    vgg,
    wide_resnet,
)
from cnnlab.models.airbench import Airbench94
from cnnlab.models.convnet import ConvNet
from cnnlab.models.lenet import LeNet5, LeNet5Caffe, LeNet51998
from cnnlab.models.linear import Linear
from cnnlab.models.mlp import MLP, lenet_300_100
from cnnlab.models.zfnet import ZFNet

MODELS = {
    "linear": Linear,
    "mlp": MLP,
    "lenet_300_100": lenet_300_100,
    "lenet5": LeNet5,
    "lenet5_1998": LeNet51998,
    "lenet5_20_50_500": LeNet5Caffe,
    "rnn": recurrent.rnn,
    "lstm": recurrent.lstm,
    "gru": recurrent.gru,
    "convnet": ConvNet,
    "airbench94": Airbench94,
    "alexnet_two_tower": alexnet.alexnet_two_tower,
    "alexnet": alexnet.alexnet,
    "alexnet_ungrouped": alexnet.alexnet_ungrouped,
    "zfnet": ZFNet,
    "vgg11_a": vgg.vgg11_a,
    "vgg11_a_lrn": vgg.vgg11_a_lrn,
    "vgg13_b": vgg.vgg13_b,
    "vgg16_c": vgg.vgg16_c,
    "vgg16_d": vgg.vgg16_d,
    "vgg19_e": vgg.vgg19_e,
    "vgg11_a_bn": vgg.vgg11_a_bn,
    "vgg13_b_bn": vgg.vgg13_b_bn,
    "vgg16_d_bn": vgg.vgg16_d_bn,
    "vgg19_e_bn": vgg.vgg19_e_bn,
    "googlenet": googlenet.googlenet,
    "googlenet_bn": googlenet.googlenet_bn,
    "inception_bn": inception_bn.inception_bn,
    "inception_v3": inception_v3.inception_v3,
    "inception_v4": inception_v4.inception_v4,
    "inception_resnet_v2": inception_resnet_v2.inception_resnet_v2,
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50_v1": resnet.resnet50_v1,
    "resnet50_v1_5": resnet.resnet50_v1_5,
    "resnet101_v1": resnet.resnet101_v1,
    "resnet101_v1_5": resnet.resnet101_v1_5,
    "resnet152_v1": resnet.resnet152_v1,
    "resnet152_v1_5": resnet.resnet152_v1_5,
    "wide_resnet50_2": resnet.wide_resnet50_2,
    "wide_resnet101_2": resnet.wide_resnet101_2,
    "resnext50_32x4d": resnet.resnext50_32x4d,
    "resnext101_32x8d": resnet.resnext101_32x8d,
    "se_resnet50": resnet.se_resnet50,
    "se_resnext50_32x4d": resnet.se_resnext50_32x4d,
    "preact_resnet18": preact_resnet.preact_resnet18,
    "preact_resnet34": preact_resnet.preact_resnet34,
    "preact_resnet50": preact_resnet.preact_resnet50,
    "preact_resnet101": preact_resnet.preact_resnet101,
    "preact_resnet152": preact_resnet.preact_resnet152,
    "cifar_preact_resnet20": preact_resnet.cifar_preact_resnet20,
    "cifar_preact_resnet56": preact_resnet.cifar_preact_resnet56,
    "cifar_preact_resnet110": preact_resnet.cifar_preact_resnet110,
    "cifar_preact_resnet164": preact_resnet.cifar_preact_resnet164,
    "cifar_resnet20": cifar_resnet.cifar_resnet20,
    "cifar_resnet32": cifar_resnet.cifar_resnet32,
    "cifar_resnet44": cifar_resnet.cifar_resnet44,
    "cifar_resnet56": cifar_resnet.cifar_resnet56,
    "cifar_resnet110": cifar_resnet.cifar_resnet110,
    "cifar_resnet1202": cifar_resnet.cifar_resnet1202,
    "cifar_plain20": cifar_resnet.cifar_plain20,
    "cifar_plain32": cifar_resnet.cifar_plain32,
    "cifar_plain44": cifar_resnet.cifar_plain44,
    "cifar_plain56": cifar_resnet.cifar_plain56,
    "cifar_resnext29_8x64d": cifar_resnet.cifar_resnext29_8x64d,
    "cifar_resnext29_16x64d": cifar_resnet.cifar_resnext29_16x64d,
    "wrn16_4": wide_resnet.wrn16_4,
    "wrn16_8": wide_resnet.wrn16_8,
    "wrn28_10": wide_resnet.wrn28_10,
    "wrn40_2": wide_resnet.wrn40_2,
    "wrn40_4": wide_resnet.wrn40_4,
    "densenet121": densenet.densenet121,
    "densenet161": densenet.densenet161,
    "densenet169": densenet.densenet169,
    "densenet201": densenet.densenet201,
    "cifar_densenet40_12": densenet.cifar_densenet40_12,
    "cifar_densenet100_12": densenet.cifar_densenet100_12,
    "cifar_densenet100_24": densenet.cifar_densenet100_24,
    "cifar_densenet_bc100_12": densenet.cifar_densenet_bc100_12,
    "cifar_densenet_bc190_40": densenet.cifar_densenet_bc190_40,
    "cifar_densenet_bc250_24": densenet.cifar_densenet_bc250_24,
    "squeezenet1_0": squeezenet.squeezenet1_0,
    "squeezenet1_1": squeezenet.squeezenet1_1,
    "mobilenet_v1": mobilenet.mobilenet_v1,
    "mobilenet_v2": mobilenet.mobilenet_v2,
    "efficientnet_b0": efficientnet.efficientnet_b0,
    "efficientnet_lite0": efficientnet.efficientnet_lite0,
    "efficientnet_lite1": efficientnet.efficientnet_lite1,
    "efficientnet_lite2": efficientnet.efficientnet_lite2,
    "efficientnet_lite3": efficientnet.efficientnet_lite3,
    "efficientnet_lite4": efficientnet.efficientnet_lite4,
}


def native_shape(name: str) -> tuple[int, int, int]:
    """Returns (H, W, C) of the images that a model of MODELS, SEGMENTERS or DETECTORS was published for."""
    if name in (others := SEGMENTED | DETECTED):
        return others[name]
    if name in ("linear", "mlp", "lenet_300_100", "lenet5_20_50_500", "rnn", "lstm", "gru"):
        return (28, 28, 1)
    if name in ("lenet5", "lenet5_1998"):
        return (32, 32, 1)
    if name in ("convnet", "airbench94") or name.startswith(("cifar_", "wrn")):
        return (32, 32, 3)
    side = _SIDES.get(name, 224)
    return (side, side, 3)


_SIDES = {
    "alexnet_two_tower": 227,
    "inception_v3": 299,
    "inception_v4": 299,
    "inception_resnet_v2": 299,
    "efficientnet_lite1": 240,
    "efficientnet_lite2": 260,
    "efficientnet_lite3": 280,
    "efficientnet_lite4": 300,
}
"""Sides of the images of the networks that were published for others than 224x224."""

SEGMENTED = {
    "unet": (256, 256, 3),
    "unet_2015": (388, 388, 1),
    "fcn32s": (500, 500, 3),
    "fcn16s": (500, 500, 3),
    "fcn8s": (500, 500, 3),
    "fcn_resnet50": (520, 520, 3),
    "fcn_resnet101": (520, 520, 3),
    "deconvnet": (224, 224, 3),
    "segnet": (360, 480, 3),
    "segnet_basic": (360, 480, 3),
    "full_resolution": (256, 256, 3),
    "patch_classifier": (64, 64, 3),
}
"""Images of the networks of SEGMENTERS: those of their papers, or of the code that they follow; 256x256 where any will do."""

DETECTED = {
    "ssd": (256, 256, 3),
    "ssd300": (300, 300, 3),
    "retinanet": (256, 256, 3),
    "retinanet_resnet50": (800, 800, 3),
    "centre": (256, 256, 3),
    "yolo_grid": (256, 256, 3),
    "yolo_v1": (448, 448, 3),
    "yolo_v1_tiny": (448, 448, 3),
}
"""The same of the networks of DETECTORS."""

"""Networks of reference libraries: ResNet, pre-activation ResNet, Wide ResNet and ResNeXt.

pytorchcv pools the last 7x7 of ImageNet networks by a window of fixed size, so 193x193 is the smallest image they take.
"""

from tests.parity.cases import Case

CASES: list[Case] = [
    Case("torchvision:resnet18", "resnet18", size=64, gradients=True),
    Case("torchvision:resnet50", "resnet50_v1_5", size=75),
    Case("torchvision:resnext50_32x4d", "resnext50_32x4d", size=64),
    Case("timm:resnet34", "resnet34", size=64),
    Case("timm:seresnet18", "resnet18", size=64, knobs={"se": True, "se_divisor": 8}),
    Case("timm:seresnext50_32x4d", "se_resnext50_32x4d", size=64),
    Case("timm:resnetv2_18", "preact_resnet18", size=64),
    Case("timm:resnetv2_50", "preact_resnet50", size=75),
    Case("pytorchcv:resnet50", "resnet50_v1", size=193, batch=2),
    Case("pytorchcv:preresnet18", "preact_resnet18", size=193, batch=2, knobs={"stem_norm": True}),
    Case("pytorchcv:resnet20_cifar10", "cifar_resnet20", size=32, classes=10, knobs={"shortcut": "B"}),
    Case(
        "pytorchcv:seresnet20_cifar10",
        "cifar_resnet20",
        size=32,
        classes=10,
        knobs={"shortcut": "B", "se": True},
        gradients=True,
    ),
    Case("pytorchcv:preresnet20_cifar10", "cifar_preact_resnet20", size=32, classes=10, gradients=True),
    Case("pytorchcv:preresnet164bn_cifar10", "cifar_preact_resnet164", size=32, classes=10),
    Case("pytorchcv:wrn16_10_cifar10", "wrn16_8", size=32, classes=10, knobs={"widen": 10.0}),
    Case(
        "pytorchcv:resnext29_32x4d_cifar10",
        "cifar_resnext29_16x64d",
        size=32,
        classes=10,
        knobs={"groups": 32, "group_width": 4},
    ),
]

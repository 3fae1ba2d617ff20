"""Networks of reference libraries: AlexNet, ZFNet, VGG and SqueezeNet."""

from tests.parity.cases import Case

FEW = {"options": {"num_classes": 10}, "classes": 10}
"""A small last layer, which keeps the files smaller."""

CASES: list[Case] = [
    Case("torchvision:alexnet", "alexnet", 64, gradients=True, **FEW),
    Case("pytorchcv:alexnet", "alexnet_ungrouped", 224, **FEW),
    Case("pytorchcv:zfnet", "zfnet", 224, knobs={"lrn_first": True}, **FEW),
    Case("torchvision:vgg11", "vgg11_a", 64, **FEW),
    Case("torchvision:vgg13_bn", "vgg13_b_bn", 64, **FEW),
    Case(
        "timm:vgg11",
        "vgg11_a",
        64,
        knobs={"hidden": "256,4096"},
        options={"num_classes": 10, "mlp_ratio": 1 / 16},
        classes=10,
        gradients=True,
    ),
    Case("torchvision:squeezenet1_0", "squeezenet1_0", 64),
    Case("torchvision:squeezenet1_1", "squeezenet1_1", 64, gradients=True),
    Case("pytorchcv:squeezeresnet_v1_0", "squeezenet1_0", 224, knobs={"bypass": True}, **FEW),
    Case("pytorchcv:squeezeresnet_v1_1", "squeezenet1_1", 224, knobs={"bypass": True}, **FEW),
]

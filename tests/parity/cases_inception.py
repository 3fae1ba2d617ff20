"""Networks of reference libraries: GoogLeNet and its successors.

pytorchcv pools the last grid by a window of fixed size: 223 (BN-Inception, whose grids must be even until 7x7) and 299
(Inception-v3, 8x8) are the smallest images that it takes.
"""

from tests.parity.cases import Case

CASES: list[Case] = [
    Case("torchvision:googlenet", "googlenet_bn", size=64, gradients=True),
    Case(
        "torchvision:googlenet",
        "googlenet_bn",
        size=64,
        knobs={"auxiliary": True},
        options={"num_classes": 10},
        classes=10,
    ),
    Case("torchvision:inception_v3", "inception_v3", size=75),
    Case("timm:inception_v3", "inception_v3", size=96, gradients=True),
    Case("timm:inception_v4", "inception_v4", size=75),
    Case("timm:inception_resnet_v2", "inception_resnet_v2", size=75),
    Case("pytorchcv:bninception", "inception_bn", size=223, batch=2),
    Case("pytorchcv:inceptionv3", "inception_v3", size=299, batch=2),
]

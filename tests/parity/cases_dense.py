"""Networks of reference libraries: DenseNet, MobileNet and EfficientNet."""

from tests.parity.cases import Case

CASES: list[Case] = [
    Case("torchvision:densenet121", "densenet121", 64),
    Case("pytorchcv:densenet100_k12_bc_cifar10", "cifar_densenet_bc100_12", 32, classes=10),
    Case(
        "pytorchcv:densenet40_k12_cifar10",
        "cifar_densenet40_12",
        32,
        {"compression": 0.5, "channels": None},
        classes=10,
        gradients=True,
    ),
    Case("timm:mobilenetv1_100", "mobilenet_v1", 64, {"activation": "relu6"}),
    Case("pytorchcv:mobilenet_wd4", "mobilenet_v1", 224, {"width": 0.25}),
    Case("torchvision:mobilenet_v2", "mobilenet_v2", 64, gradients=True),
    Case("timm:mobilenetv2_100", "mobilenet_v2", 64),
    Case("torchvision:efficientnet_b0", "efficientnet_b0", 64, options={"stochastic_depth_prob": 0.0}, gradients=True),
    Case("timm:efficientnet_b0", "efficientnet_b0", 64),
    Case("pytorchcv:efficientnet_b0", "efficientnet_b0", 64),
    Case("timm:tf_efficientnet_b0", "efficientnet_b0", 66, {"padding": "same", "norm.epsilon": 1e-3}),
    Case("timm:tf_efficientnet_lite0", "efficientnet_lite0", 64, gradients=True),
    Case("timm:tf_efficientnet_lite1", "efficientnet_lite1", 64),
    Case("timm:tf_efficientnet_lite2", "efficientnet_lite2", 64),
    Case("timm:tf_efficientnet_lite3", "efficientnet_lite3", 64),
    Case("timm:tf_efficientnet_lite4", "efficientnet_lite4", 65),
]

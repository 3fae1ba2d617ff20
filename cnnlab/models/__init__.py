"""The networks, by name. Every model: `model(images f32 [B, H, W, C], train=…) -> (logits f32 [B, K], intermediates)`."""

from cnnlab.models.convnet import ConvNet
from cnnlab.models.lenet import LeNet5, LeNet5Caffe, LeNet51998
from cnnlab.models.linear import Linear
from cnnlab.models.mlp import MLP, lenet_300_100

MODELS = {
    "linear": Linear,
    "mlp": MLP,
    "lenet_300_100": lenet_300_100,
    "lenet5": LeNet5,
    "lenet5_1998": LeNet51998,
    "lenet5_20_50_500": LeNet5Caffe,
    "convnet": ConvNet,
}

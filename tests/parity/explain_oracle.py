"""Writes the fixture of attributions: captum's, and the maps of pytorch-grad-cam before they are scaled, of one network in f64.

    python explain_oracle.py FIXTURE.npz

It runs in the environment of oracle.py. The network is torchvision's SqueezeNet 1.1, each of whose ReLUs is a module of
its own: captum replaces the gradient of modules alone, and for a ReLU that is a function it returns the plain gradient.
Conventions are fixed here: signed gradients per channel, baseline 0, no ReLU and no scaling of Grad-CAM.

The fixture holds state/NAME, input [B, C, H, W], target [B], and for each method its attribution as captum returns it.
"""

import sys

import numpy as np
import oracle  # declares torchvision's operators, without which it cannot be imported
import torch
from captum.attr import Deconvolution, GuidedBackprop, IntegratedGradients, LayerGradCam, Occlusion, Saliency
from conventions import SIDE, STEPS, STRIDE, WINDOW
from pytorch_grad_cam import GradCAMPlusPlus
from torch import nn


def main() -> None:
    """Writes the fixture."""
    torch.manual_seed(0)
    model = oracle.build("torchvision:squeezenet1_1", {})
    images = torch.randn(2, 3, SIDE, SIDE)
    oracle.calibrate(model, images)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # captum's rules need the input of every ReLU
    model, images = model.double().eval(), images.double()
    with torch.no_grad():
        logits = model(images)
    target = logits.argmax(1)  # the scores pass a ReLU, and one that is 0 would have no gradient
    found = {
        "saliency": Saliency(model).attribute(images, target=target, abs=False),
        "guided_backpropagation": GuidedBackprop(model).attribute(images, target=target),
        "deconvnet": Deconvolution(model).attribute(images, target=target),
        "integrated_gradients": IntegratedGradients(model).attribute(images, target=target, n_steps=STEPS),
        "grad_cam": LayerGradCam(model, model.features).attribute(images, target=target),
        "occlusion": Occlusion(model).attribute(
            images, target=target, sliding_window_shapes=(3, WINDOW, WINDOW), strides=(3, STRIDE, STRIDE), baselines=0
        ),
        "grad_cam_plus_plus": plus_plus(model, images, target),
    }
    assert (found["guided_backpropagation"] - found["saliency"]).abs().max() > 0.1 * found["saliency"].abs().max()
    arrays = {f"state/{name}": value.numpy() for name, value in model.state_dict().items()}
    arrays |= {name: value.detach().numpy() for name, value in found.items()}
    np.savez(sys.argv[1], input=images.numpy(), target=target.numpy(), logits=logits.numpy(), **arrays)


def plus_plus(model: nn.Module, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The weighted sum of the channels by pytorch-grad-cam's weights, [B, 1, h, w], before its ReLU and its scaling."""
    kept: list[torch.Tensor] = []
    handle = model.features.register_forward_hook(lambda module, given, output: kept.append(output))
    scores = model(images).gather(1, target[:, None]).sum()
    handle.remove()
    (slopes,) = torch.autograd.grad(scores, kept[0])
    activations, gradients = kept[0].detach().numpy(), slopes.numpy()
    method = GradCAMPlusPlus(model, [model.features])
    weights = method.get_cam_weights(None, None, None, activations, gradients)
    return torch.tensor((weights[:, :, None, None] * activations).sum(1, keepdims=True))


if __name__ == "__main__":
    main()

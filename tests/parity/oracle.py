"""Writes parity fixtures from public reference implementations; runs in an environment of its own, with torch.

    python oracle.py FOLDER < cases.json

cases.json: [{"file", "oracle", "size", "batch", "channels", "gradients", "options"}]. A freshly initialised network can
hide a wrong stem and always hides missing batch statistics (rotating GoogLeNet's first kernel moves its logits by 5e-12 of
their maximum), so the reference is calibrated first: Kaiming weights, one pass on batch statistics, jittered statistics.

A fixture holds state/NAME (f32), input [B, C, H, W] (f32), logits [B, K] in f64, signal (the largest change of a logit
between images), and with gradients grad/NAME of the mean cross-entropy to the labels arange(B) % K in training mode, f64.
"""

import json
import pathlib
import sys
import time

import numpy as np
import torch
from torch import nn


def declare_torchvision_operators() -> list[torch.library.Library]:
    """Lets torchvision's CUDA wheel be imported beside a CPU build of torch; the operators themselves are not used."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for signature in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "roi_pool(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width) -> (Tensor, Tensor)",
    ):
        library.define(signature)
    return [library]


KEPT = declare_torchvision_operators()


def build(name: str, options: dict) -> nn.Module:
    """`library:model` without trained weights."""
    library, model = name.split(":")
    if library == "torchvision":
        from torchvision import models

        extra = {"init_weights": False, "aux_logits": True} if model in ("googlenet", "inception_v3") else {}
        return models.get_model(model, weights=None, **extra, **options)
    if library == "timm":
        import timm

        return timm.create_model(model, pretrained=False, **options)
    if library == "pytorchcv":
        from pytorchcv.model_provider import get_model

        return get_model(model, pretrained=False, **options)
    raise SystemExit(f"unknown library {library!r}; there are torchvision, timm, pytorchcv")


def norms(model: nn.Module) -> list[nn.Module]:
    """The batch normalisations."""
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]


def calibrate(model: nn.Module, images: torch.Tensor) -> None:
    """Weights and statistics with which the logits depend on the image and on every statistic."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1)
    model.eval()
    momenta = [module.momentum for module in norms(model)]
    for module in norms(model):
        nn.init.uniform_(module.weight, 0.7, 1.3)
        nn.init.normal_(module.bias, 0, 0.2)
        module.momentum = 1.0
        module.train()
    with torch.no_grad():
        model(images)
    for module, momentum in zip(norms(model), momenta, strict=True):
        module.running_mean += 0.1 * module.running_var.sqrt() * torch.randn_like(module.running_mean)
        module.running_var *= torch.empty_like(module.running_var).uniform_(0.8, 1.25)
        module.momentum = momentum
    model.eval()


def logits_of(output: object) -> torch.Tensor:
    """The main head's logits."""
    return output[0] if isinstance(output, tuple) else output


def fixture(case: dict) -> dict[str, np.ndarray]:
    """The arrays of one case."""
    torch.manual_seed(0)
    model = build(case["oracle"], case["options"])
    images = torch.randn(case["batch"], case["channels"], case["size"], case["size"])
    calibrate(model, images)
    arrays = {f"state/{name}": value.numpy().copy() for name, value in model.state_dict().items()}
    model, exact = model.double(), images.double()
    with torch.no_grad():
        logits = logits_of(model(exact))
    arrays |= {"input": images.numpy(), "logits": logits.numpy(), "signal": (logits[0] - logits[1:]).abs().max().numpy()}
    if case["gradients"]:
        model.train()
        for module in model.modules():
            if "Drop" in type(module).__name__:
                module.eval()
        labels = torch.arange(case["batch"]) % logits.shape[1]
        nn.functional.cross_entropy(logits_of(model(exact)), labels).backward()
        arrays |= {f"grad/{k}": p.grad.numpy() for k, p in model.named_parameters() if p.grad is not None}
    return arrays


def main() -> None:
    """Writes every case that is not there yet."""
    folder = pathlib.Path(sys.argv[1])
    torch.set_num_threads(2)
    for case in json.load(sys.stdin):
        began, path = time.monotonic(), folder / f"{case['file']}.npz"
        arrays = fixture(case)
        ratio = float(arrays["signal"] / np.abs(arrays["logits"]).max())
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **arrays)
        partial.rename(path)
        count = sum(value.size for name, value in arrays.items() if name.startswith("state/"))
        print(f"{case['oracle']}: {count:,} numbers, signal/max {ratio:.1e}, {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()

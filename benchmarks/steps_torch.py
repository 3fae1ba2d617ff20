"""The PyTorch side of steps.py; runs in an environment of its own."""

import json
import os
import sys
import time

KIND, CORES = sys.argv[1], [int(core) for core in sys.argv[2].split(",")]
os.sched_setaffinity(0, CORES)

import torch  # noqa: E402
from torch import nn  # noqa: E402

torch.set_num_threads(len(CORES))
FORMAT = torch.channels_last if "channels_last" in KIND else torch.contiguous_format


def conv(channels: int, features: int, kernel: int, strides: int = 1, groups: int = 1, bias: bool = False) -> nn.Module:
    return nn.Conv2d(channels, features, kernel, strides, kernel // 2, groups=groups, bias=bias)


def normed(channels: int, features: int, kernel: int, strides: int = 1, groups: int = 1) -> list[nn.Module]:
    return [conv(channels, features, kernel, strides, groups), nn.BatchNorm2d(features)]


class Residual(nn.Module):
    def __init__(self, channels: int, features: int, strides: int):
        super().__init__()
        self.body = nn.Sequential(*normed(channels, features, 3, strides), nn.ReLU(), *normed(features, features, 3))
        self.skip = nn.Sequential(*normed(channels, features, 1, strides)) if channels != features else nn.Identity()

    def forward(self, x):
        return nn.functional.relu(self.body(x) + self.skip(x))


def head(features: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, 10)]


def lenet5() -> nn.Module:
    first = [conv(1, 6, 5, bias=True), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    dense = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(*first, nn.Flatten(), *dense)


def autoencoder() -> nn.Module:
    down = [conv(1, 32, 3, 2, bias=True), nn.ReLU(), conv(32, 64, 3, 2, bias=True), nn.ReLU()]
    up = [nn.ConvTranspose2d(64, 32, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 3, 2, 1, 1)]
    return nn.Sequential(*down, *up)


def depthwise() -> nn.Module:
    found, channels = [*normed(3, 32, 3), nn.ReLU()], 32
    for features, strides in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        found += [*normed(channels, channels, 3, strides, channels), nn.ReLU(), *normed(channels, features, 1), nn.ReLU()]
        channels = features
    return nn.Sequential(*found, *head(channels))


def resnet18() -> nn.Module:
    found, channels = [*normed(3, 64, 3), nn.ReLU()], 64
    for features, strides in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        found.append(Residual(channels, features, strides))
        channels = features
    return nn.Sequential(*found, *head(channels))


NETS = {
    "lenet5": (lenet5, (128, 1, 28, 28)),
    "autoencoder": (autoencoder, (128, 1, 28, 28)),
    "depthwise": (depthwise, (64, 3, 32, 32)),
    "resnet18": (resnet18, (64, 3, 32, 32)),
}


class Run:
    """A network in training."""

    def __init__(self, name: str):
        build, shape = NETS[name]
        self.model = build().to(memory_format=FORMAT)
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.optimizer = torch.optim.SGD(self.model.parameters(), 1e-3, momentum=0.9)
        self.batches = [torch.randn(shape).contiguous(memory_format=FORMAT) for _ in range(4)]
        self.labels = [torch.randint(10, (shape[0],)) for _ in range(4)]

    def run(self, steps: int) -> None:
        for number in range(steps):
            images = self.batches[number % 4]
            self.optimizer.zero_grad()
            logits = self.model(images)
            if logits.ndim == 4:
                loss = nn.functional.mse_loss(logits, images)
            else:
                loss = nn.functional.cross_entropy(logits, self.labels[number % 4])
            loss.backward()
            self.optimizer.step()


def main() -> None:
    """Answers as steps_jax.py does."""
    run = None
    for line in sys.stdin:
        asked = json.loads(line)
        if "build" in asked:
            run = Run(asked["build"])
            began = time.perf_counter()
            run.run(1)
            first = time.perf_counter() - began
            run.run(2)
            began = time.perf_counter()
            run.run(3)
            told = {"parameters": run.parameters, "seconds": (time.perf_counter() - began) / 3, "compile": first}
        else:
            began = time.perf_counter(), time.process_time()
            run.run(asked["steps"])
            told = {"wall": time.perf_counter() - began[0], "cpu": time.process_time() - began[1]}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()

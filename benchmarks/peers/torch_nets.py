"""The networks of steps/nets.py in PyTorch, with the loss of the SSD; runs in an environment of its own.

Letters in shapes: B batch, H W space, C channels, K classes, M places for objects, N anchors, T characters, U units, Z code.
"""

import torch
from torch import nn
from torch.nn import functional

from benchmarks.steps import nets


def conv(channels: int, features: int, kernel: int, strides: int = 1, groups: int = 1, bias: bool = False) -> nn.Module:
    """A convolution that is padded so that stride 1 keeps the size."""
    return nn.Conv2d(channels, features, kernel, strides, kernel // 2, groups=groups, bias=bias)


def normed(channels: int, features: int, kernel: int, strides: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution and batch normalisation."""
    return [conv(channels, features, kernel, strides, groups), nn.BatchNorm2d(features)]


def head(features: int) -> list[nn.Module]:
    """The mean over space and a dense layer."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, nets.CLASSES)]


def lenet5() -> nn.Module:
    first = [nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    dense = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, nets.CLASSES)]
    return nn.Sequential(*first, nn.Flatten(), *dense)


def autoencoder() -> nn.Module:
    down = [conv(1, 32, 3, 2, bias=True), nn.ReLU(), conv(32, 64, 3, 2, bias=True), nn.ReLU()]
    up = [nn.ConvTranspose2d(64, 32, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 3, 2, 1, 1)]
    return nn.Sequential(*down, *up)


def depthwise() -> nn.Module:
    found, channels = [*normed(3, 32, 3), nn.ReLU()], 32
    for features, strides in nets.SEPARABLE:
        found += [*normed(channels, channels, 3, strides, channels), nn.ReLU(), *normed(channels, features, 1), nn.ReLU()]
        channels = features
    return nn.Sequential(*found, *head(channels))


class Residual(nn.Module):
    def __init__(self, channels: int, features: int, strides: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*normed(channels, features, 3, strides), nn.ReLU(), *normed(features, features, 3))
        self.skip = nn.Sequential(*normed(channels, features, 1, strides)) if channels != features else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.body(x) + self.skip(x))


def resnet18() -> nn.Module:
    found, channels = [*normed(3, 64, 3), nn.ReLU()], 64
    for features, strides in nets.PAIRS:
        found.append(Residual(channels, features, strides))
        channels = features
    return nn.Sequential(*found, *head(channels))


def twice(channels: int, features: int) -> nn.Module:
    """Two convolutions with their norms."""
    return nn.Sequential(*normed(channels, features, 3), nn.ReLU(), *normed(features, features, 3), nn.ReLU())


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [16 * 2**level for level in range(4)]
        self.down = nn.ModuleList([twice(before, after) for before, after in zip([3, *widths], widths, strict=False)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * width, width, 2, 2) for width in widths[2::-1]])
        self.joined = nn.ModuleList([twice(2 * width, width) for width in widths[2::-1]])
        self.output = nn.Conv2d(16, nets.CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = []
        for level, part in enumerate(self.down):
            x = part(functional.max_pool2d(x, 2) if level else x)
            found.append(x)
        for up, joined, skip in zip(self.up, self.joined, found[2::-1], strict=True):
            x = joined(torch.cat([skip, up(x)], dim=1))  # [B, C, H, W] twice -> [B, 2 · C, H, W]
        return self.output(x)


class SSD(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.box, self.kind, channels = nn.ModuleList(), nn.ModuleList(), nn.ModuleList(), 1
        for features in (16, 32, 64, 128):
            parts: list[nn.Module] = []
            for before, strides in ((channels, 2), (features, 1)):
                parts += [conv(before, features, 3, strides), nn.GroupNorm(8, features), nn.ReLU()]
            self.encoder.append(nn.Sequential(*parts))
            channels = features
        for features in (32, 64, 128):
            self.box.append(conv(features, 4 * 4, 3, bias=True))
            self.kind.append(conv(features, 4 * (1 + nets.CLASSES), 3, bias=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = []
        for part in self.encoder:
            x = part(x)
            maps.append(x)
        rows = []
        for each, box, kind in zip(maps[1:], self.box, self.kind, strict=True):
            # [B, 4 · P, h, w] -> [B, h, w, 4 · P] -> [B, h · w · 4, P]
            found = [layer(each).permute(0, 2, 3, 1).flatten(1) for layer in (box, kind)]
            rows.append(torch.cat([found[0].unflatten(1, (-1, 4)), found[1].unflatten(1, (-1, 1 + nets.CLASSES))], dim=-1))
        return torch.cat(rows, dim=1)  # of [B, h · w · 4, P] -> [B, N, P]


class LSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(nets.CHARACTERS, nets.UNITS, batch_first=True)
        self.output = nn.Linear(nets.UNITS, nets.CHARACTERS)
        # PyTorch adds a second bias to the first, which changes nothing: it stays at 0 and is not trained.
        self.layer.bias_hh_l0.requires_grad_(False).zero_()

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return self.output(self.layer(functional.one_hot(text, nets.CHARACTERS).float())[0])


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.mean, self.log_variance = nn.Linear(784, 500), nn.Linear(500, 20), nn.Linear(500, 20)
        self.decoder, self.output = nn.Linear(20, 500), nn.Linear(500, 784)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = torch.tanh(self.encoder(images.flatten(1)))  # [B, C, H, W] -> [B, C·H·W]
        mean, log_variance = self.mean(x), self.log_variance(x)
        codes = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        logits = self.output(torch.tanh(self.decoder(codes))).view_as(images)  # [B, C·H·W] -> [B, C, H, W]
        return logits, mean, log_variance


NETS = {
    "lenet5": lenet5,
    "autoencoder": autoencoder,
    "depthwise": depthwise,
    "resnet18": resnet18,
    "unet": UNet,
    "ssd": SSD,
    "lstm": LSTM,
    "vae": VAE,
}

Batch = dict[str, torch.Tensor]


def classes(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross-entropy of logits [B, K], or of every pixel [B, K, H, W]."""
    return functional.cross_entropy(model(batch["image"]), batch["label"])


def squared(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Squared error of images."""
    return functional.mse_loss(model(batch["image"]), batch["image"])


def characters(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross-entropy of each next character, logits [B, T, K]."""
    text = batch["text"]
    return functional.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())


def elbo(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Minus the bound on log p(x) of images that are drawn as black and white."""
    images = torch.bernoulli(batch["image"])
    logits, mean, log_variance = model(images)
    nats = functional.binary_cross_entropy_with_logits(logits, images, reduction="sum")
    return (nats + 0.5 * torch.sum(mean**2 + log_variance.exp() - 1 - log_variance)) / len(images)


def multibox(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The loss of SSD, as flax_nets.multibox; the ranks of the negatives by two sorts, as in torchvision."""
    outputs, anchors, corners = model(batch["image"]), batch["anchors"], batch["corners"]
    codes, logits = outputs[..., :4], outputs[..., 4:]
    overlaps = _iou(corners, anchors).masked_fill(~batch["valid"][..., None], -1.0)  # [B, M, N]
    best, owner = overlaps.max(1)  # [B, N]
    # The best anchor of each object is its own; that of a place without an object is written to a column that is cut off.
    forced = torch.where(batch["valid"], overlaps.argmax(2), len(anchors))  # [B, M]
    places = torch.arange(nets.SSD_OBJECTS).expand_as(forced)
    best = functional.pad(best, (0, 1)).scatter(1, forced, 2.0)[:, :-1]
    owner = functional.pad(owner, (0, 1)).scatter(1, forced, places)[:, :-1]
    positive = best >= 0.5
    targets = _encode(corners.gather(1, owner[..., None].expand(-1, -1, 4)), anchors)  # [B, M, 4] -> [B, N, 4]
    box = (functional.smooth_l1_loss(codes, targets, reduction="none").sum(-1) * positive).sum()
    label = torch.where(positive, batch["label"].gather(1, owner) + 1, 0)  # [B, M] -> [B, N]
    entropy = functional.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="none").view_as(label)
    order = entropy.detach().masked_fill(positive, -torch.inf).sort(1, descending=True)[1]
    chosen = positive | (order.sort(1)[1] < 3 * positive.sum(1, keepdim=True))
    return (box + (entropy * chosen).sum()) / positive.sum().clamp(min=1)


def _iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Returns the overlap of boxes [B, M, 4] with boxes [N, 4], f32 [B, M, N]."""
    low, high = torch.maximum(a[:, :, None, :2], b[:, :2]), torch.minimum(a[:, :, None, 2:], b[:, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (a, b)]
    return common / (areas[0][..., None] + areas[1] - common)


def _encode(boxes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Returns boxes [B, N, 4] as codes against anchors [N, 4], in units of the variances of SSD."""
    middle, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    of_anchors, sides = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    return torch.cat([(middle - of_anchors) / sides / 0.1, torch.log(size / sides) / 0.2], dim=-1)


LOSSES = {
    "classes": classes,
    "pixels": classes,
    "squared": squared,
    "characters": characters,
    "elbo": elbo,
    "multibox": multibox,
}
OPTIMIZERS = {
    "momentum": lambda parameters: torch.optim.SGD(parameters, 1e-3, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, 1e-3),
}

"""The networks of steps/nets.py by Flax's own layers, as a user of Flax would write them, with the loss of the SSD.

Letters in shapes: B batch, H W space, C channels, K classes, M places for objects, N anchors, T characters, U units, Z code.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from benchmarks.steps import nets


def conv(features: int, kernel: int, strides: int = 1, groups: int = 1, bias: bool = False) -> nn.Conv:
    """A convolution that is padded so that stride 1 keeps the size."""
    pad = (kernel // 2, kernel // 2)
    return nn.Conv(features, (kernel, kernel), strides, (pad, pad), feature_group_count=groups, use_bias=bias)


def normed(x: jax.Array) -> jax.Array:
    """Batch normalisation in training."""
    return nn.BatchNorm(use_running_average=False, momentum=0.9)(x)


class LeNet5(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in (6, 16):
            x = nn.max_pool(nn.relu(nn.Conv(features, (5, 5), padding="VALID")(x)), (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)  # [B, H, W, C] -> [B, H·W·C]
        return nn.Dense(nets.CLASSES)(nn.relu(nn.Dense(84)(nn.relu(nn.Dense(120)(x)))))


class Autoencoder(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in (32, 64):
            x = nn.relu(conv(features, 3, 2, bias=True)(x))
        x = nn.relu(nn.ConvTranspose(32, (3, 3), (2, 2), padding=((1, 2), (1, 2)))(x))
        return nn.ConvTranspose(1, (3, 3), (2, 2), padding=((1, 2), (1, 2)))(x)


class Depthwise(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(normed(conv(32, 3)(x)))
        for features, strides in nets.SEPARABLE:
            x = nn.relu(normed(conv(x.shape[-1], 3, strides, groups=x.shape[-1])(x)))
            x = nn.relu(normed(conv(features, 1)(x)))
        return nn.Dense(nets.CLASSES)(x.mean((1, 2)))


class ResNet18(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(normed(conv(64, 3)(x)))
        for features, strides in nets.PAIRS:
            y = nn.relu(normed(conv(features, 3, strides)(x)))
            y = normed(conv(features, 3)(y))
            if x.shape != y.shape:
                x = normed(conv(features, 1, strides)(x))
            x = nn.relu(x + y)
        return nn.Dense(nets.CLASSES)(x.mean((1, 2)))


def twice(x: jax.Array, features: int) -> jax.Array:
    """Two convolutions with their norms, inside a compact module."""
    for _ in range(2):
        x = nn.relu(normed(conv(features, 3)(x)))
    return x


class UNet(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        found = []
        for level in range(4):
            x = nn.max_pool(x, (2, 2), (2, 2)) if level else x
            x = twice(x, 16 * 2**level)
            found.append(x)
        for level in (2, 1, 0):
            x = nn.ConvTranspose(16 * 2**level, (2, 2), (2, 2))(x)
            x = twice(jnp.concatenate([found[level], x], axis=-1), 16 * 2**level)  # [B, H, W, C] twice -> [B, H, W, 2 · C]
        return nn.Conv(nets.CLASSES, (1, 1))(x)


class SSD(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        maps = []
        for features in (16, 32, 64, 128):
            for strides in (2, 1):
                x = nn.relu(nn.GroupNorm(8)(conv(features, 3, strides)(x)))
            maps.append(x)
        rows = []
        for each in maps[1:]:
            for numbers in (4, 1 + nets.CLASSES):
                # [B, h, w, 4 · P] -> [B, h · w · 4, P]
                rows.append(conv(4 * numbers, 3, bias=True)(each).reshape(x.shape[0], -1, numbers))
        pairs = zip(rows[::2], rows[1::2], strict=True)
        return jnp.concatenate([jnp.concatenate(pair, axis=-1) for pair in pairs], axis=1)  # -> [B, N, 4 + 1 + K]


class LSTM(nn.Module):
    @nn.compact
    def __call__(self, text: jax.Array) -> jax.Array:
        x = nn.RNN(nn.OptimizedLSTMCell(nets.UNITS))(jax.nn.one_hot(text, nets.CHARACTERS))
        return nn.Dense(nets.CHARACTERS)(x)


class VAE(nn.Module):
    def setup(self) -> None:
        self.encoder, self.mean, self.log_variance = nn.Dense(500), nn.Dense(20), nn.Dense(20)
        self.decoder, self.output = nn.Dense(500), nn.Dense(784)

    def encode(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = nn.tanh(self.encoder(images.reshape(images.shape[0], -1)))  # [B, H, W, C] -> [B, H·W·C]
        return self.mean(x), self.log_variance(x)

    def decode(self, codes: jax.Array) -> jax.Array:
        return self.output(nn.tanh(self.decoder(codes))).reshape(-1, 28, 28, 1)  # [B, 784] -> [B, H, W, C]

    def __call__(self, images: jax.Array) -> jax.Array:
        mean, _ = self.encode(images)
        return self.decode(mean)


NETS: dict[str, Any] = {
    "lenet5": LeNet5,
    "autoencoder": Autoencoder,
    "depthwise": Depthwise,
    "resnet18": ResNet18,
    "unet": UNet,
    "ssd": SSD,
    "lstm": LSTM,
    "vae": VAE,
}


def multibox(outputs: jax.Array, batch: dict[str, jax.Array], anchors: jax.Array) -> jax.Array:
    """Returns the loss of SSD for outputs [B, N, 4 + 1 + K]: boxes of the positives, classes of these and of hard negatives.

    Each object has its best anchor, and all that it covers by a half; three negatives for each positive count.
    """
    codes, logits = outputs[..., :4], outputs[..., 4:]
    overlaps = jax.vmap(lambda corners: _iou(corners, anchors))(batch["corners"])  # [B, M, N]
    overlaps = jnp.where(batch["valid"][..., None], overlaps, -1.0)
    best, owner = overlaps.max(1), overlaps.argmax(1)  # [B, N]
    for place in range(nets.SSD_OBJECTS):
        forced = jax.nn.one_hot(overlaps[:, place].argmax(1), len(anchors), dtype=bool) & batch["valid"][:, place, None]
        best, owner = jnp.where(forced, 2.0, best), jnp.where(forced, place, owner)
    positive = best >= 0.5
    targets = _encode(jnp.take_along_axis(batch["corners"], owner[..., None], axis=1), anchors)  # [B, M, 4] -> [B, N, 4]
    box = jnp.where(positive, optax.huber_loss(codes, targets).sum(-1), 0.0).sum()
    label = jnp.where(positive, jnp.take_along_axis(batch["label"], owner, axis=1) + 1, 0)  # [B, M] -> [B, N]
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    rank = jnp.argsort(jnp.argsort(jnp.where(positive, jnp.inf, -jax.lax.stop_gradient(entropy)), axis=1), axis=1)
    chosen = positive | (rank < 3 * positive.sum(1, keepdims=True))
    return (box + jnp.where(chosen, entropy, 0.0).sum()) / jnp.maximum(positive.sum(), 1)


def _iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the overlap of boxes [M, 4] with boxes [N, 4], f32 [M, N]."""
    low, high = jnp.maximum(a[:, None, :2], b[None, :, :2]), jnp.minimum(a[:, None, 2:], b[None, :, 2:])
    common = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    return common / (_area(a)[:, None] + _area(b)[None] - common)


def _area(boxes: jax.Array) -> jax.Array:
    return jnp.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)


def _encode(boxes: jax.Array, anchors: jax.Array) -> jax.Array:
    """Returns boxes [B, N, 4] as codes against anchors [N, 4], in units of the variances of SSD."""
    middle, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    of_anchors, sides = (anchors[None, :, :2] + anchors[None, :, 2:]) / 2, anchors[None, :, 2:] - anchors[None, :, :2]
    return jnp.concatenate([(middle - of_anchors) / sides / 0.1, jnp.log(size / sides) / 0.2], axis=-1)

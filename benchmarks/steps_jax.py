"""The JAX side of steps.py: the networks by our layers or by Flax's own, and a process that runs their steps when told to."""

import functools
import json
import os
import pathlib
import sys
import time

KIND, CORES = sys.argv[1], [int(core) for core in sys.argv[2].split(",")]
os.sched_setaffinity(0, CORES)  # before jax counts them

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cnnlab.models import layers, norms  # noqa: E402, norms


def conv(features: int, kernel: int, strides: int = 1, groups: int = 1, bias: bool = False) -> nn.Module:
    """Padded so that stride 1 keeps the size."""
    pad = kernel // 2
    if KIND == "cnnlab":
        return layers.Conv(features, kernel, strides, pad, groups=groups, bias=bias)
    both = (kernel, kernel)
    return nn.Conv(features, both, strides, ((pad, pad), (pad, pad)), feature_group_count=groups, use_bias=bias)


def grow(features: int) -> nn.Module:
    if KIND == "cnnlab":
        return layers.ConvTranspose(features, 3, 2, 1, output_padding=1)
    return nn.ConvTranspose(features, (3, 3), (2, 2), padding=((1, 2), (1, 2)))


def pool(x: jax.Array) -> jax.Array:
    return layers.POOLS["max"](x) if KIND == "cnnlab" else nn.max_pool(x, (2, 2), (2, 2))


def normed(x: jax.Array) -> jax.Array:
    if KIND == "cnnlab":
        return norms.BatchNorm()(x, train=True)
    return nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)(x)


class LeNet5(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = pool(nn.relu(conv(6, 5, bias=True)(x)))
        valid = layers.Conv(16, 5, padding="valid") if KIND == "cnnlab" else nn.Conv(16, (5, 5), padding="VALID")
        x = pool(nn.relu(valid(x))).reshape(x.shape[0], -1)
        return nn.Dense(10)(nn.relu(nn.Dense(84)(nn.relu(nn.Dense(120)(x)))))


class Autoencoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        for features in (32, 64):
            x = nn.relu(conv(features, 3, 2, bias=True)(x))
        return grow(1)(nn.relu(grow(32)(x)))


class Depthwise(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(normed(conv(32, 3)(x)))
        for features, strides in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
            x = nn.relu(normed(conv(x.shape[-1], 3, strides, groups=x.shape[-1])(x)))
            x = nn.relu(normed(conv(features, 1)(x)))
        return nn.Dense(10)(x.mean((1, 2)))


class ResNet18(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(normed(conv(64, 3)(x)))
        for features, strides in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
            y = nn.relu(normed(conv(features, 3, strides)(x)))
            y = normed(conv(features, 3)(y))
            if x.shape != y.shape:
                x = normed(conv(features, 1, strides)(x))
            x = nn.relu(x + y)
        return nn.Dense(10)(x.mean((1, 2)))


NETS = {
    "lenet5": (LeNet5, (128, 28, 28, 1)),
    "autoencoder": (Autoencoder, (128, 28, 28, 1)),
    "depthwise": (Depthwise, (64, 32, 32, 3)),
    "resnet18": (ResNet18, (64, 32, 32, 3)),
}


class Run:
    """A network in training."""

    def __init__(self, name: str):
        net, shape = NETS[name]
        random = np.random.default_rng(0)
        self.batches = [random.normal(size=shape).astype(np.float32) for _ in range(4)]
        self.labels = [random.integers(0, 10, shape[0]).astype(np.int32) for _ in range(4)]
        optimizer = optax.sgd(1e-3, momentum=0.9)

        def loss(params, rest, images, labels):
            logits, rest = net().apply({"params": params, **rest}, images, mutable=["batch_stats"])
            if logits.ndim == 4:
                return jnp.mean((logits - images) ** 2), rest
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), rest

        @functools.partial(jax.jit, donate_argnums=0)
        def step(state, images, labels):
            params, rest, memory = state
            gradients, rest = jax.grad(loss, has_aux=True)(params, rest, images, labels)
            updates, memory = optimizer.update(gradients, memory)
            return optax.apply_updates(params, updates), rest, memory

        variables = dict(jax.jit(net().init)(jax.random.key(0), self.batches[0]))
        params = variables.pop("params")
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        self.step, self.state = step, (params, variables, optimizer.init(params))

    def run(self, steps: int) -> None:
        for number in range(steps):
            self.state = self.step(self.state, self.batches[number % 4], self.labels[number % 4])
        jax.block_until_ready(self.state)


def main() -> None:
    """Answers one line of JSON by another: {"build": net} and {"steps": number}."""
    run = None
    for line in sys.stdin:
        asked = json.loads(line)
        if "build" in asked:
            run = Run(asked["build"])
            began = time.perf_counter()
            run.run(1)
            compiled = time.perf_counter() - began
            run.run(2)
            began = time.perf_counter()
            run.run(3)
            told = {"parameters": run.parameters, "seconds": (time.perf_counter() - began) / 3, "compile": compiled}
        else:
            began = time.perf_counter(), time.process_time()
            run.run(asked["steps"])
            told = {"wall": time.perf_counter() - began[0], "cpu": time.process_time() - began[1]}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()

"""The worker of a training step in JAX: a network of nets.py by cnnlab or by Flax's own layers."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.measure import Work
from benchmarks.peers import flax_nets
from benchmarks.steps import nets
from benchmarks.steps.ours import OURS
from cnnlab.cli.common import setup_jax
from cnnlab.ops.heads import Objects

Apply = Callable[..., Any]
"""(inputs, method=None) -> outputs."""
OPTIMIZERS = {"momentum": lambda: optax.sgd(1e-3, momentum=0.9), "adam": lambda: optax.adam(1e-3)}
QUICKLY = {"xla_backend_optimization_level": 1}
"""As engine/program.py compiles the random start, which takes ten times as long at the default level."""
COMPILATION = "/jax/core/compile/backend_compile_duration"


def classes(apply: Apply, batch: Any, key: jax.Array) -> jax.Array:
    """Cross-entropy of logits [B, K], or of every pixel [B, H, W, K]."""
    return optax.softmax_cross_entropy_with_integer_labels(apply(batch["image"]), batch["label"]).mean()


def squared(apply: Apply, batch: Any, key: jax.Array) -> jax.Array:
    """Squared error of images [B, H, W, C]."""
    return jnp.mean((apply(batch["image"]) - batch["image"]) ** 2)


def characters(apply: Apply, batch: Any, key: jax.Array) -> jax.Array:
    """Cross-entropy of each next character, logits [B, T, K]."""
    text = batch["text"]
    return optax.softmax_cross_entropy_with_integer_labels(apply(text[:, :-1]), text[:, 1:]).mean()


def elbo(apply: Apply, batch: Any, key: jax.Array) -> jax.Array:
    """Minus the bound on log p(x) of images that are drawn as black and white."""
    images = jax.random.bernoulli(jax.random.fold_in(key, 0), batch["image"]).astype(jnp.float32)
    mean, log_variance = apply(images, method="encode")
    codes = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(jax.random.fold_in(key, 1), mean.shape)
    nats = optax.sigmoid_binary_cross_entropy(apply(codes, method="decode"), images).sum()
    return (nats + 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance)) / len(images)


def ssd_of_cnnlab(apply: Apply, batch: Any, key: jax.Array) -> jax.Array:
    """The loss of cnnlab's own head."""
    head = OURS["ssd"]().head((nets.SSD_SIDE, nets.SSD_SIDE))
    objects = Objects(batch["corners"], batch["label"], batch["valid"])
    terms, positives = jax.vmap(head.losses)(apply(batch["image"]), objects)
    return terms.sum() / jnp.maximum(positives.sum(), 1.0)


def ssd_of_flax(apply: Apply, batch: Any, key: jax.Array) -> jax.Array:
    """The loss as a user of Flax would write it."""
    return flax_nets.multibox(apply(batch["image"]), batch, jnp.asarray(nets.anchors()))


LOSSES = {"classes": classes, "pixels": classes, "squared": squared, "characters": characters, "elbo": elbo}


class Training:
    """A network in training: cnnlab's step gives its state away, as cnnlab's does; that of Flax's examples does not."""

    def __init__(self, net: str, kind: str) -> None:
        spec, is_ours = nets.NETS[net], kind == "cnnlab"
        module = OURS[net]() if is_ours else flax_nets.NETS[net]()
        of_boxes = ssd_of_cnnlab if is_ours else ssd_of_flax
        loss_of, optimizer = {**LOSSES, "multibox": of_boxes}[spec.loss], OPTIMIZERS[spec.optimizer]()
        self.batches, given = nets.batches(net), {"train": True} if is_ours and spec.loss != "elbo" else {}

        def loss(params: Any, rest: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, Any]:
            updated = dict(rest)

            def apply(inputs: jax.Array, method: str | None = None) -> Any:
                variables = {"params": params, **rest}
                found, new = module.apply(variables, inputs, mutable=["batch_stats"], method=method, **given)
                updated.update(new)
                return found if method or not is_ours else found[0]

            return loss_of(apply, batch, key), updated

        def step(state: Any, batch: Any) -> Any:
            params, rest, memory, number = state
            gradients, rest = jax.grad(loss, has_aux=True)(params, rest, batch, jax.random.fold_in(jax.random.key(0), number))
            updates, memory = optimizer.update(gradients, memory)
            return optax.apply_updates(params, updates), rest, memory, number + 1

        first = self.batches[0]
        inputs = first["text"][:1, :-1] if spec.loss == "characters" else first["image"][:1]
        init = jax.jit(functools.partial(module.init, **given), compiler_options=QUICKLY)
        variables = dict(init(jax.random.key(0), inputs))
        params = variables.pop("params")
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        self.state = params, variables, optimizer.init(params), jnp.int32(0)
        self.step = jax.jit(step, donate_argnums=0 if is_ours else ())
        self.loss = loss

    def run(self, steps: int) -> None:
        """Takes so many steps."""
        for number in range(steps):
            self.state = self.step(self.state, self.batches[number % nets.BATCHES])
        jax.block_until_ready(self.state)


def count_compilations() -> Callable[[], int]:
    """Returns a function that says how many programs were compiled from now on."""
    found = [0]

    def listen(event: str, seconds: float, **_: Any) -> None:
        found[0] += event == COMPILATION

    jax.monitoring.register_event_duration_secs_listener(listen)
    return lambda: found[0]


def work(net: str, kind: str) -> Work:
    """Returns the steps of a network by `cnnlab` or `flax`."""
    if kind == "cnnlab":
        setup_jax(None)
    compilations, training = count_compilations(), Training(net, kind)
    return Work({"step": training.run}, {"parameters": training.parameters}, lambda: {"compilations": compilations()})

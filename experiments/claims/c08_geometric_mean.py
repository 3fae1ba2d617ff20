"""Claim C8, exact part: a softmax layer of halved weights is the geometric mean of all its sub-networks. MLPs in float64.

Paper:    Hinton, Srivastava, Krizhevsky, Sutskever, Salakhutdinov, Improving neural networks by preventing co-adaptation of
          feature detectors, 2012, arXiv 1207.0580; Baldi, Sadowski, Understanding dropout, 2013
Command:  python launch.py measure --experiment=c08_geometric_mean
Result:   exact; docs/claims/c08.md has the numbers.

A sub-network keeps some of the 12 hidden units of cnnlab's MLP and drops the others; there are 2^12 = 4096. All are evaluated
on 16 random images with 10 classes, at random weights and a drop rate of one half. Their renormalised geometric mean is
compared with the network without dropout (train=False), whose weights are half of those in training: cnnlab multiplies the
units that are kept by 2 in training, instead of the weights by one half afterwards. That the sub-networks are those of
cnnlab's dropout is measured as well: each output in training equals that of one of the 4096.

With one hidden layer the two are equal, whatever its activation, since dropout then acts on the inputs of the softmax layer.
They are equal with several linear layers, too. With two hidden layers of ReLU they differ. The arithmetic mean of the
probabilities, which Monte-Carlo averaging estimates, is another mean and differs in every network.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import Metric
from cnnlab.models.mlp import MLP
from cnnlab.ops.activations import ACTIVATIONS

UNITS = 12
CLASSES = 10
IMAGES = 16
DRAWS = 8
"""Draws of cnnlab's dropout for each image that are looked up among the sub-networks."""
DEPTHS = (1, 2, 3, 4)
"""Numbers of hidden layers, over which the units are spread evenly."""
ACTIVATION = {"ReLU": "relu", "linear": "identity"}
CASES = {f"{label}, {depth} hidden": (name, depth) for label, name in ACTIVATION.items() for depth in DEPTHS}


def network(activation: str, depth: int) -> MLP:
    """Returns an MLP whose UNITS hidden units lie in `depth` layers, with a drop rate of one half after each."""
    return MLP(CLASSES, (UNITS // depth,) * depth, ACTIVATIONS[activation], dropout=0.5)


def sub_networks(params: Any, activation: str, depth: int, images: jax.Array, masks: jax.Array) -> jax.Array:
    """Returns the logits f64 [M, B, K] of the sub-networks of masks f64 [M, units], for images f64 [B, H, W, C].

    Written without the model: `x W + b`, the activation, and the mask times 2.
    """

    def logits(mask: jax.Array) -> jax.Array:
        x = images.reshape(IMAGES, -1)  # [B, H, W, C] -> [B, H·W·C]
        for number, kept in enumerate(jnp.split(mask, depth), start=1):
            layer = params[f"dense{number}"]
            x = ACTIVATIONS[activation](x @ layer["kernel"] + layer["bias"][None]) * 2.0 * kept[None]
        return x @ params["output"]["kernel"] + params["output"]["bias"][None]

    return jax.vmap(logits)(masks)


@functools.cache
def compared(activation: str, depth: int) -> Callable[..., dict[str, jax.Array]]:
    """Returns the compiled function (variables, images, labels i32 [B, 1], masks [M, units], key) -> numbers of a network."""
    model = network(activation, depth)

    def compare(variables: Any, images: jax.Array, labels: jax.Array, masks: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        halved = jax.nn.log_softmax(model.apply(variables, images, train=False)[0])  # [B, K]
        logits = sub_networks(variables["params"], activation, depth, images, masks)  # [M, B, K]
        logs = jax.nn.log_softmax(logits)
        geometric = jax.nn.log_softmax(jnp.mean(logs, axis=0))  # [M, B, K] -> [B, K], renormalised
        arithmetic = jnp.mean(jnp.exp(logs), axis=0)
        members = jnp.take_along_axis(jnp.mean(logs, axis=0), labels, axis=1)  # [B, K] at [B, 1] -> [B, 1]
        own = jnp.take_along_axis(halved, labels, axis=1)

        def draw(noise: jax.Array) -> jax.Array:
            """Returns how far an output of cnnlab's dropout is from the nearest sub-network, the largest over the images."""
            trained = model.apply(variables, images, train=True, rngs={"dropout": noise})[0]
            return jnp.max(jnp.min(jnp.max(jnp.abs(logits - trained[None]), axis=2), axis=0))

        return {
            "to_geometric_mean": jnp.max(jnp.abs(jnp.exp(halved) - jnp.exp(geometric))),
            "to_arithmetic_mean": jnp.max(jnp.abs(jnp.exp(halved) - arithmetic)),
            "to_a_sub_network": jnp.max(jax.lax.map(draw, jax.random.split(key, DRAWS))),
            "gain_in_nats": jnp.min(own - members),
        }

    return jax.jit(compare)


def compare_random(seed: int, activation: str, depth: int) -> dict[str, float]:
    """Returns the numbers of a network with random weights, on random images with random labels."""
    draw = np.random.default_rng(seed)
    images = draw.normal(size=(IMAGES, 4, 4, 1))
    labels = draw.integers(0, CLASSES, (IMAGES, 1)).astype(np.int32)
    masks = np.array(list(itertools.product((0.0, 1.0), repeat=UNITS)))  # [2^units, units]
    initialise = functools.partial(network(activation, depth).init, train=False)
    shapes = jax.eval_shape(initialise, jax.random.key(0), images)
    # Kernels and biases have a standard deviation of 0.5, so that no term of the network is negligible.
    variables = jax.tree.map(lambda leaf: 0.5 * draw.normal(size=leaf.shape), shapes)
    found = compared(activation, depth)(variables, images, labels, masks, jax.random.key(seed))
    return {name: float(number) for name, number in found.items()}


def measure(seed: int) -> Measured:
    """Returns the differences of a random network of every case."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        found = {case: compare_random(seed, *which) for case, which in CASES.items()}
    numbers = {metric.name: {case: found[case][metric.name] for case in CASES} for metric in METRICS}
    curves = {
        label: tuple((float(depth), found[f"{label}, {depth} hidden"]["to_geometric_mean"]) for depth in DEPTHS)
        for label in ACTIVATION
    }
    return Measured(numbers, curves)


METRICS = (
    Metric("to_geometric_mean", higher_is_better=False, log_scale=True),
    Metric("to_arithmetic_mean", higher_is_better=False, log_scale=True),
    Metric("to_a_sub_network", higher_is_better=False, log_scale=True),
    Metric("gain_in_nats", unit="nats", higher_is_better=True),
)
SAMPLED = "Each output of cnnlab's dropout is that of a sub-network"

measurement = Measurement(
    claim="C8",
    question="Is the network of halved weights the geometric mean of all the networks that dropout samples?",
    measure=measure,
    metrics=METRICS,
    seeds=20,
    verdict=every(
        identity("C8", "ReLU, 1 hidden", 0.0, 1e-12, "With one hidden layer of ReLU it is the geometric mean"),
        identity("C8", "linear, 3 hidden", 0.0, 1e-12, "With three linear hidden layers it is the geometric mean"),
        on(
            "gain_in_nats",
            at_least("C8", "ReLU, 1 hidden", 0.0, "It gives a label no less log-probability than the sub-networks on average"),
        ),
        shown=(
            on("to_arithmetic_mean", at_least("C8", "ReLU, 1 hidden", 1e-3, "It is not the arithmetic mean, even then")),
            at_least("C8", "ReLU, 3 hidden", 1e-3, "With three hidden layers of ReLU it is not the geometric mean either"),
        ),
        requires=(
            at_least("C8", "ReLU, 2 hidden", 1e-3, "With two hidden layers of ReLU it is not the geometric mean (the control)"),
            on("to_a_sub_network", identity("C8", "ReLU, 1 hidden", 0.0, 1e-12, f"{SAMPLED}, with one hidden layer")),
            on("to_a_sub_network", identity("C8", "linear, 3 hidden", 0.0, 1e-12, f"{SAMPLED}, with three linear ones")),
        ),
        scope="random MLPs of 12 hidden units in float64, probabilities of 10 classes, a drop rate of one half",
    ),
    card=Card(
        published="Hinton et al. (2012) state that with a single hidden layer and a softmax output the mean network is exactly "
        "the renormalised geometric mean of all 2^N networks, and that it gives the label no less log-probability than they do "
        "on average.",
        would_change="A difference of more than 1e-12 with one hidden layer, or none with two layers of ReLU.",
        quick="--seeds=2",
        figure=Figure(
            title="With one hidden layer, halved weights give the geometric mean of all thinned networks",
            x="hidden layers, with 12 units in all",
            y="largest difference of a probability from that of the geometric mean",
        ),
        deviations="The weights are random, not trained; the statement is about any weights.",
    ),
)

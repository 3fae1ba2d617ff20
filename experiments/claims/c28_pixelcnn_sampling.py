"""Claim C28: PixelCNN has an exact likelihood but samples slowly: one evaluation of the network after another for each value.

Paper:    van den Oord, Kalchbrenner, Kavukcuoglu, Pixel recurrent neural networks, 2016, arXiv 1601.06759; Ramachandran et al.,
          Fast generation for convolutional autoregressive models, 2017, arXiv 1704.06001
Command:  python launch.py measure --experiment=c28_pixelcnn_sampling
Result:   supported at small scale; docs/claims/c28.md has the numbers.

The number of evaluations is counted in the traced programs of the two samplers, so it is exact. Naive sampling evaluates the
whole network for every value, and an evaluation takes time in proportion to the pixels: together their square. Cached sampling
evaluates the network at one pixel from kept activations. The weights are random, since they do not change what is measured.
"""

import functools
import itertools
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, identity
from cnnlab.ablation.analyse.verdicts import contrast, equivalent, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import Array, Batch, Params, Task
from cnnlab.metric import Metric
from cnnlab.models import PIXEL_MODELS
from cnnlab.models.vae import mlp_400_20
from cnnlab.ops.pixel_distributions import PixelDistribution, bernoulli, softmax
from cnnlab.tasks.autoregress import autoregress

SIDES = (8, 12, 16, 24, 32)
"""Height and width of the sampled images, in pixels."""
IMAGES = 4
"""Number of images that are sampled at once."""
WIDTH = 16
"""Units inside a block of the network."""
LEAST_SECONDS = 0.05
"""A program is repeated until it has taken so much CPU time."""
Way = Literal["naive", "cached"]
WAYS: tuple[Way, ...] = ("naive", "cached")
LATENT = 20
"""Units of the code of the VAE."""


def task_of(way: Way, shape: tuple[int, int, int], output: PixelDistribution, model: str = "pixelcnn") -> Task:
    """Returns the task of an autoregressive network without classes, for images of `shape`."""
    channels = shape[2]
    groups = channels if output.autoregressive_channels else 1
    network = PIXEL_MODELS[model](outputs=output.parameter_count(channels), groups=groups, classes=0, width=WIDTH)
    return autoregress(network, output=output, image_shape=shape, sampling=way)


def batch_of(images: Array) -> Batch:
    """Returns a batch of images f32 [B, H, W, C] without labels."""
    order = jnp.arange(len(images), dtype=jnp.int32)
    return {"image": images, "label": order * 0, "index": order, "mask": jnp.ones(len(images), bool)}


def executions(jaxpr: Any, primitive: str) -> int:
    """Returns how often a program executes a primitive: that of the body of a loop as often as the loop runs.

    Args:
        jaxpr: program, whose loops all run a number of times that is known when it is traced.
        primitive: name of the primitive, such as dot_general.
    """
    count = 0
    for equation in jaxpr.eqns:
        assert equation.primitive.name not in ("while", "cond"), "a loop or branch that depends on values has no exact count"
        inner = [value for value in equation.params.values() if hasattr(value, "eqns") or hasattr(value, "jaxpr")]
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        count += times * sum(executions(getattr(one, "jaxpr", one), primitive) for one in inner)
        count += equation.primitive.name == primitive
    return count


def evaluations_per_value(way: Way, shape: tuple[int, int, int], output: PixelDistribution) -> float:
    """Returns how many evaluations of the network, one after another, a sampler takes for each of the H·W·C values of an image.

    Every kernel is multiplied once in an evaluation, so the matrix products in the traced sampler are those of one evaluation
    times the number of evaluations.
    """
    task = task_of(way, shape, output)
    params, _ = jax.eval_shape(task.init, jax.random.key(0), batch_of(jnp.zeros((1, *shape))))
    keys, labels = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1)), jnp.zeros(1, jnp.int32)
    assert task.sampler is not None
    traced = jax.make_jaxpr(task.sampler.draw)(params, {}, keys, labels, jnp.float32(1))
    kernels = sum(path[-1].key == "kernel" for path, _ in jax.tree.leaves_with_path(params))
    return executions(traced.jaxpr, "dot_general") / kernels / np.prod(shape)


@functools.cache
def counts() -> dict[str, float]:
    """Returns, by sampler and kind of image, the evaluations for each value that differ most from 1 over SIDES."""
    found = {}
    for way, (kind, channels, output) in itertools.product(WAYS, (("grey", 1, bernoulli()), ("colour", 3, softmax(levels=4)))):
        each = [evaluations_per_value(way, (side, side, channels), output) for side in SIDES]
        found[f"{way}, {kind}"] = float(max(each, key=lambda count: abs(count - 1)))
    return found


def probabilities(model: str, seed: int) -> np.ndarray:
    """Returns the probabilities f64 [512] of all binary images of 3x3 under a network with random weights."""
    task = task_of("cached", (3, 3, 1), bernoulli(binarize="threshold"), model)
    # 2⁹ rows of 9 pixels -> [512, 3, 3, 1]
    images = np.asarray(list(itertools.product((0.0, 1.0), repeat=9)), np.float32).reshape(512, 3, 3, 1)
    batch = batch_of(jnp.asarray(images))
    params, _ = jax.jit(task.init)(jax.random.key(seed), batch)
    return np.exp(-np.asarray(jax.jit(task.measure)(params, {}, batch)["rows"]["nats"], np.float64))


@functools.cache
def sampling(way: Way, side: int) -> Callable[[], Array]:
    """Returns a compiled program that samples IMAGES binary images of side x side; it has run once."""
    shape = (side, side, 1)
    task = task_of(way, shape, bernoulli())
    params: Params = jax.jit(task.init)(jax.random.key(0), batch_of(jnp.zeros((IMAGES, *shape))))[0]
    assert task.sampler is not None
    keys, labels = jax.random.split(jax.random.key(1), IMAGES), jnp.zeros(IMAGES, jnp.int32)
    program = functools.partial(jax.jit(task.sampler.draw), params, {}, keys, labels, jnp.float32(1))
    jax.block_until_ready(program())
    return program


@functools.cache
def decoding(side: int) -> Callable[[], Array]:
    """Returns a compiled pass of a VAE's decoder to IMAGES images of side x side; it has run once."""
    model = mlp_400_20(image_shape=(side, side, 1), outputs=1, classes=0)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, side, side, 1)))
    program = functools.partial(jax.jit(functools.partial(model.apply, method="decode")), params, jnp.zeros((IMAGES, LATENT)))
    jax.block_until_ready(program())
    return program


def seconds_of(program: Callable[[], Array]) -> float:
    """Returns the CPU time of one call, which other programs affect little; the mean of as many as take LEAST_SECONDS."""
    calls, began = 0, time.process_time()
    while (spent := time.process_time() - began) < LEAST_SECONDS or not calls:
        jax.block_until_ready(program())
        calls += 1
    return spent / calls if calls > 1 else time.process_time() - began


def measure(seed: int) -> Measured:
    """Returns counts, sums of probabilities, and the exponents of a regression of log time on log pixels over SIDES.

    A seed repeats the timing, sizes and samplers in turn, and draws other weights for the probabilities.
    """
    times: dict[Way, list[float]] = {way: [] for way in WAYS}
    for side, way in itertools.product(SIDES, WAYS):
        times[way].append(seconds_of(sampling(way, side)))
    pixels = np.array(SIDES, np.float64) ** 2
    slopes: dict[str, float] = {way: float(np.polyfit(np.log(pixels), np.log(times[way]), 1)[0]) for way in WAYS}
    p = {name: probabilities(name, seed) for name in ("pixelcnn", "gated_pixelcnn")}
    return Measured(
        numbers={
            "exponent": {**slopes, "1": 1.0, "2": 2.0},
            "evaluations_per_value": counts(),
            "total_probability": {name: float(values.sum()) for name, values in p.items()},
            "probability_ratio": {name: float(values.max() / values.min()) for name, values in p.items()},
            "seconds": {
                "naive": times["naive"][-1],
                "cached": times["cached"][-1],
                "VAE decoder": seconds_of(decoding(SIDES[-1])),
            },
        },
        curves={way: tuple(zip(pixels.tolist(), (value / IMAGES for value in times[way]), strict=True)) for way in WAYS},
    )


measurement = Measurement(
    claim="C28",
    question="How many evaluations, and how much time, does a PixelCNN take to sample an image, and is its likelihood exact?",
    measure=measure,
    metrics=(
        Metric("exponent", higher_is_better=False),
        Metric("evaluations_per_value", higher_is_better=False),
        Metric("total_probability"),
        Metric("probability_ratio"),
        Metric("seconds", "s", higher_is_better=False),
    ),
    seeds=8,
    verdict=every(
        on(
            "total_probability",
            identity("C28", "pixelcnn", 1.0, 1e-5, "The probabilities of all binary images of 3x3 add up to 1"),
        ),
        *(
            on(
                "evaluations_per_value",
                identity(
                    "C28",
                    f"{way}, {kind}",
                    1.0,
                    0.0,
                    f"{way.capitalize()} sampling evaluates the network once a value ({kind})",
                ),
            )
            for way, kind in itertools.product(WAYS, ("grey", "colour"))
        ),
        equivalent(
            "C28",
            "naive",
            0.2,
            "The time of naive sampling grows with the square of the number of pixels",
            against="2",
            source="a fifth of the difference between the two laws",
        ),
        equivalent(
            "C28",
            "cached",
            0.2,
            "With kept activations the time grows with the number of pixels",
            against="1",
            source="a fifth of the difference between the two laws",
        ),
        shown=(
            on(
                "total_probability",
                identity("C28", "gated_pixelcnn", 1.0, 1e-5, "The probabilities of a gated PixelCNN add up to 1, too"),
            ),
            on(
                "seconds",
                contrast(
                    "C28",
                    "cached",
                    "worse",
                    "Even with kept activations 32x32 pixels take longer than one pass of a VAE's decoder",
                    against="VAE decoder",
                    scale="log",
                ),
            ),
            on(
                "seconds",
                contrast(
                    "C28",
                    "naive",
                    "worse",
                    "Naive sampling of 32x32 pixels takes longer than one pass of a VAE's decoder",
                    against="VAE decoder",
                    scale="log",
                ),
            ),
        ),
        requires=(
            on(
                "probability_ratio",
                at_least(
                    "C28", "pixelcnn", 3.0, "The network prefers some images: the largest probability is 3 times the smallest"
                ),
            ),
        ),
        scope="networks with random weights, CPU time of 4 images at once from 8x8 to 32x32 pixels",
    ),
    card=Card(
        quick="--seeds=2",
        published=(
            "Van den Oord et al. 2016: sampling is sequential, pixel by pixel, while the likelihood of all pixels is evaluated"
            " in parallel (no times). Ramachandran et al. 2017 report up to 183 times faster sampling of PixelCNN++ with kept "
            "activations, on a GPU."
        ),
        would_change=(
            "A trace of these samplers in which an image takes another number of evaluations than it has values, or an "
            "exponent of time outside of 1.8 to 2.2 (naive) or 0.8 to 1.2 (cached)."
        ),
        figure=Figure(x="pixels", y="CPU time of an image in seconds", log_x=True, log_y=True),
        deviations=(
            "A small PixelCNN (16 units in a block) with random weights, on CPU cores. On an accelerator that a small image "
            "does not fill, a pass takes as long for more pixels, and the exponent of naive sampling is smaller."
        ),
    ),
)

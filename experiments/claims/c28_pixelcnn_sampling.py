"""Claim C28: PixelCNN has an exact likelihood but samples slowly, linearly in the number of pixels.

Paper:    van den Oord, Kalchbrenner, Kavukcuoglu, Pixel recurrent neural networks, 2016, arXiv 1601.06759
Command:  python launch.py ablate --experiment=c28_pixelcnn_sampling --jobs=1
Result:   supported here, 5 seeds, 2 CPU cores that ten other programs shared, seconds of the processors. A draw takes

                       14x14, 196 pixels                      28x28, 784 pixels
  naive     0.56 passes a pixel, 33 ms an image      0.74 passes a pixel, 642 ms an image
  cached    6.5 passes in all,   2.4 ms an image      7.6 passes in all,   7.7 ms an image

          A pass evaluates the whole network once on as many images. Naive, 28x28 − 14x14: +0.18 passes a pixel [0.11, 0.25],
          within the margin of 0.5 set before the runs; cached − naive at 14x14: −0.53 [−0.59, −0.47] (p < 0.001 after Holm).
          Paired by seed, 95 % t-interval; the runs of an arm share their weights, so that seeds repeat the measurement alone.

So a naive draw takes one half to three quarters as many passes as there are pixels, a little more than linearly; since a pass
itself grows with the pixels, its time grows with their square or faster. Kept activations take that away: their time is linear.
A first set of runs took the time of the wall, which the other programs made useless (naive, 14x14: 0.45 ± 0.46 passes a pixel);
those runs were replaced. No VAE was timed. That the likelihood is exact is not measured here but shown by tests: the
probabilities of all binary images of 3x3 add up to 1.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from cnnlab import knobs
from cnnlab.ablation.analyse.verdicts import bounded, contrast, every
from cnnlab.ablation.plan.study import StudySpec
from cnnlab.core import Array, Experiment, Metric, Stats, Task
from cnnlab.models.pixelcnn import PixelCNN
from cnnlab.ops.pixel_distributions import bernoulli
from cnnlab.recipes.pixels import pixel_by_pixel
from cnnlab.tasks.autoregress import PLAYER, autoregress
from cnnlab.values import Count

METRICS = (
    Metric("passes_per_pixel", higher_is_better=False),
    Metric("passes", higher_is_better=False),
    Metric("seconds_per_image", "s", higher_is_better=False),
)
"""What the runs of this study measure."""

ROUNDS = 3


def experiment(
    *, sampling: Literal["naive", "cached"] = "naive", side: Count = 14, images: Count = 4, width: Count = 16
) -> Experiment:
    """Trains nothing and draws from PixelCNN as it is initialised, since the weights do not change how long that takes.

    Args:
        sampling: by the whole network for every pixel, or by kept activations.
        side: of the images that are drawn, in pixels.
        images: drawn at once.
        width: of the network.
    """
    given = {"dataset": "digits", "validation": 0.0, "model": "pixelcnn", "width": width, "duration": "0 steps"}
    built = knobs.resolve(pixel_by_pixel, given).call()
    # The data is of 8x8 and the same for all arms; the network is a convolution and draws images of any size.
    told = bernoulli()
    network = PixelCNN(outputs=told.parameter_count(1), groups=1, classes=0, width=width)
    drawn = autoregress(network, output=told, image_shape=(side, side, 1), sampling=sampling)
    ways: list[Callable[[], Array]] = []

    def summary(stats: Stats) -> dict[str, float]:
        """Not of the statistics, which hold no time: a draw and a pass in turn, here and now."""
        if not ways:
            ways.extend(_compiled(drawn, images, (side, side, 1)))
        return _timed(*ways, pixels=side**2, images=images)

    task = dataclasses.replace(drawn, summary=summary, metrics=METRICS, logged_metrics=(), snapshot=None)
    return dataclasses.replace(built, task=task)


def _compiled(task: Task, images: int, shape: tuple[int, int, int]) -> tuple[Callable[[], Array], Callable[[], Array]]:
    """(draws images, evaluates the network on as many), compiled and called once."""
    canvas, labels = jnp.zeros((images, *shape), jnp.float32), jnp.zeros(images, jnp.int32)
    params, _ = task.init(jax.random.key(0), {"image": canvas, "label": labels})
    assert task.sampler is not None and set(params) == {PLAYER}
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(1), labels + jnp.arange(images, dtype=jnp.int32))
    drawing = partial(jax.jit(task.sampler.draw), params, {}, keys, labels, jnp.float32(1))
    passing = partial(jax.jit(task.predict), params, {}, canvas)
    jax.block_until_ready((drawing(), passing()))
    return drawing, passing


def _timed(drawing: Callable[[], Array], passing: Callable[[], Array], *, pixels: int, images: int) -> dict[str, float]:
    """Medians over rounds of a draw and of passes for half as long.

    On a CPU in seconds of the processors, which other work on the machine lengthens little; else in seconds of the wall.
    """
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    seconds, passes = [], []
    for _ in range(ROUNDS):
        began = clock()
        jax.block_until_ready(drawing())
        seconds.append(clock() - began)
        began, repeats = clock(), 0
        while repeats < 3 or clock() - began < 0.5 * seconds[-1]:
            jax.block_until_ready(passing())
            repeats += 1
        passes.append(seconds[-1] * repeats / (clock() - began))
    count = statistics.median(passes)
    return {"passes_per_pixel": count / pixels, "passes": count, "seconds_per_image": statistics.median(seconds) / images}


study = StudySpec(
    question="Does the time of a draw grow with the number of pixels, and what do kept activations save?",
    claim="C28",
    vary=("sampling:naive,cached", "side:14,28"),
    metric="test/passes_per_pixel",
    verdict=every(
        bounded("C28", "side=28", "not worse", 0.5, "A naive draw takes no more passes a pixel at 28x28 than at 14x14"),
        bounded("C28", "baseline", "not worse", 0.5, "A naive draw takes no fewer either", against="side=28"),
        contrast("C28", "sampling=cached", "better", "Kept activations make a draw cost fewer passes"),
    ),
)

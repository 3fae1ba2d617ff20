"""Claim C28: PixelCNN has an exact likelihood but samples slowly, linearly in the number of pixels.

Paper:    van den Oord, Kalchbrenner, Kavukcuoglu, Pixel recurrent neural networks, 2016, arXiv 1601.06759
Command:  python launch.py ablate --experiment=c28_pixelcnn_sampling --jobs=1
Result:   the opposite in its first part. CPU time over 5 seeds, on 2 CPU cores shared with ten other programs. Generating four
          images takes

                       14x14, 196 pixels                      28x28, 784 pixels
  naive     0.56 passes a pixel, 33 ms an image      0.74 passes a pixel, 642 ms an image
  cached    6.5 passes in all,   2.4 ms an image      7.6 passes in all,   7.7 ms an image

          A pass evaluates the whole network once on the same number of images. Naive, 28x28 − 14x14: +0.18 passes a pixel
          [0.11, 0.25], within the margin of 0.5 set before the runs. Cached − naive at 14x14: −0.53 [−0.59, −0.47] (p < 0.001
          after Holm). Paired by seed, 95 % t-interval. The runs of an arm have the same weights, so the seeds repeat only the
          measurement.

So naive sampling takes one half to three quarters as many passes as there are pixels, and the passes grow a little faster than
linearly. A pass itself takes longer with more pixels, so the time grows with their square or faster. With cached activations
the time is linear. A first set of runs measured wall-clock time, which the other programs made useless (naive, 14x14: 0.45 ±
0.46 passes a pixel); those runs were replaced. No VAE was timed. This study does not measure that the likelihood is exact;
tests show it: the probabilities of all binary images of 3x3 add up to 1.
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
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import bounded, contrast
from cnnlab.ablation.plan.study import StudySpec
from cnnlab.core import Array, Experiment, Stats, Task
from cnnlab.metric import Metric
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
"""The metrics of this study, which measure time."""

MARGIN = 0.06
"""Margin of passes a pixel, about a tenth of what a draw of 14x14 takes. It was 0.5 when the runs on record were made, which
          let
a growth by a third pass as none."""

ROUNDS = 3
"""Number of timed repetitions, of which the median counts."""


def experiment(
    *, sampling: Literal["naive", "cached"] = "naive", side: Count = 14, draws: Count = 4, width: Count = 16
) -> Experiment:
    """Generates images with an untrained PixelCNN, since the weights do not change how long that takes. Trains nothing.

    Args:
        sampling: naive evaluates the whole network for every pixel; cached reuses activations.
        side: height and width of the generated images in pixels.
        draws: number of images that are generated at once.
        width: number of units inside a block of the network.
    """
    given = {"dataset": "digits", "validation": 0.0, "model": "pixelcnn", "width": width, "duration": "0 steps"}
    built = knobs.resolve(pixel_by_pixel, given).call()
    # The data set, of 8x8, is the same for all arms; the network is convolutional and generates images of any size.
    distribution = bernoulli()
    network = PixelCNN(outputs=distribution.parameter_count(1), groups=1, classes=0, width=width)
    drawn = autoregress(network, output=distribution, image_shape=(side, side, 1), sampling=sampling)
    ways: list[Callable[[], Array]] = []

    def summary(stats: Stats) -> dict[str, float]:
        """Measures the times now, since the statistics hold none: image generation and passes in turn."""
        if not ways:
            ways.extend(_compiled(drawn, draws, (side, side, 1)))
        return _timed(*ways, pixels=side**2, images=draws)

    task = dataclasses.replace(drawn, summary=summary, metrics=METRICS, logged_metrics=(), snapshot=None)
    return dataclasses.replace(built, task=task)


def _compiled(task: Task, images: int, shape: tuple[int, int, int]) -> tuple[Callable[[], Array], Callable[[], Array]]:
    """Returns (generates images, evaluates the network on as many); both are compiled and were called once."""
    canvas, labels = jnp.zeros((images, *shape), jnp.float32), jnp.zeros(images, jnp.int32)
    params, _ = task.init(jax.random.key(0), {"image": canvas, "label": labels})
    assert task.sampler is not None and set(params) == {PLAYER}
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(1), labels + jnp.arange(images, dtype=jnp.int32))
    drawing = partial(jax.jit(task.sampler.draw), params, {}, keys, labels, jnp.float32(1))
    passing = partial(jax.jit(task.predict), params, {}, canvas)
    jax.block_until_ready((drawing(), passing()))
    return drawing, passing


def _timed(drawing: Callable[[], Array], passing: Callable[[], Array], *, pixels: int, images: int) -> dict[str, float]:
    """Returns the metrics: medians over rounds that time one generation, then passes for at least half as long.

    On a CPU it measures CPU time, which other programs affect little, on an accelerator wall-clock time.
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
        bounded("C28", "side=28", "not worse", MARGIN, "A naive draw takes no more passes a pixel at 28x28 than at 14x14"),
        bounded("C28", "baseline", "not worse", MARGIN, "A naive draw takes no fewer either", against="side=28"),
        contrast("C28", "sampling=cached", "better", "Kept activations make a draw cost fewer passes"),
        scope="an untrained PixelCNN, CPU time of two image sizes",
    ),
)

"""What it costs to draw images pixel by pixel: naively, from kept activations, and against one evaluation of the network.

    python benchmarks/sampling.py [--model=pixelcnn] [--width=16] [--sizes=7,14,28] [--images=16] [--rounds=5]

Every round takes the three in turn, so that a machine whose speed drifts does not bend the ratios; medians over the rounds. The
weights are fresh: what is drawn does not change the time. `passes` is how many evaluations of the whole network, on as many
images, take the time of one draw.
"""

import pathlib
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cnnlab.models import PIXEL_MODELS
from cnnlab.ops.pixel_distributions import bernoulli
from cnnlab.tasks.pixel_sampling import LOOPS, to_signed

FLAGS = flags.FLAGS
flags.DEFINE_enum("model", "pixelcnn", list(PIXEL_MODELS), "network")
flags.DEFINE_integer("width", 16, "of the network")
flags.DEFINE_list("sizes", ["7", "14", "28"], "sides of the images")
flags.DEFINE_integer("images", 16, "drawn at once")
flags.DEFINE_integer("rounds", 5, "rounds of the comparison")


def seconds(size: int) -> dict[str, list[float]]:
    """Seconds of each round, by what was done."""
    output, count = bernoulli(), FLAGS.images
    model = PIXEL_MODELS[FLAGS.model](outputs=1, groups=1, classes=0, width=FLAGS.width)
    canvas, labels = jnp.zeros((count, size, size, 1), jnp.float32), jnp.zeros(count, jnp.int32)
    variables = jax.jit(lambda key: model.init(key, canvas[:1], labels[:1], train=False))(jax.random.key(0))
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(1), jnp.arange(count))

    def drawing(name):
        return jax.jit(lambda variables: LOOPS[name](model, output, variables, canvas, labels, keys, jnp.float32(1)))

    ways = {name: drawing(name) for name in LOOPS}
    ways["pass"] = jax.jit(lambda variables: model.apply(variables, to_signed(canvas), labels, train=False)[0])
    drawn = {name: np.asarray(way(variables)) for name, way in ways.items()}  # compiles
    assert (drawn["cached"] != drawn["naive"]).mean() < 0.001, "both loops draw the same images"
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(FLAGS.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            jax.block_until_ready(way(variables))
            taken[name].append(time.perf_counter() - began)
    return taken


def main(argv: list[str]) -> None:
    del argv
    print(f"{FLAGS.model}, width {FLAGS.width}, {FLAGS.images} images at once, {jax.devices()[0].device_kind}\n")
    titles = ("size", "pixels", "pass ms", "cached ms", "naive ms", "naive/cached", "cached passes", "naive passes")
    print("".join(f"{title:>15}" for title in titles))
    for size in map(int, FLAGS.sizes):
        taken = seconds(size)

        def ratio(one, other, taken=taken):
            return statistics.median(a / b for a, b in zip(taken[one], taken[other], strict=True))

        times = [1e3 * statistics.median(taken[name]) for name in ("pass", "cached", "naive")]
        ratios = [ratio("naive", "cached"), ratio("cached", "pass"), ratio("naive", "pass")]
        cells = [str(size), str(size * size), *(f"{value:.1f}" for value in times + ratios)]
        print("".join(f"{cell:>15}" for cell in cells), flush=True)


if __name__ == "__main__":
    app.run(main)

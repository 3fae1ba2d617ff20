"""What it costs to vary a batch, against torchvision.transforms.v2 on the same cores.

    python benchmarks/variations.py [--torch_python=PYTHON] [--size=32] [--batch=512] [--cores=1] [--rounds=7]

Both vary u8 images of three channels to f32, each image by draws of its own; medians over the rounds. torchvision loops over
the images, as a DataLoader's worker does; more cores divide that loop, so one core is compared with one by default.
"""

import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from absl import app, flags

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

FLAGS = flags.FLAGS
flags.DEFINE_string("torch_python", os.environ.get("CNNLAB_ORACLE_PYTHON"), "a Python that has torchvision")
flags.DEFINE_integer("size", 32, "side of the images")
flags.DEFINE_integer("batch", 512, "images in a batch")
flags.DEFINE_integer("cores", 1, "cores that each side has")
flags.DEFINE_integer("rounds", 7, "rounds of the comparison")

LISTS = ("flip,pad_crop", "flip,pad_crop,color_jitter", "random_resized_crop,flip", "rand_augment")


def seconds() -> dict[str, list[float]]:
    """Returns {list of variations: seconds of each round}."""
    import jax
    import jax.numpy as jnp

    from cnnlab.data.kinds import Image
    from cnnlab.data.variations import AUGMENTS
    from cnnlab.data.variations.compose import Augmentation
    from cnnlab.data.variations.examples import Examples

    shape = (FLAGS.batch, FLAGS.size, FLAGS.size, 3)
    images = jax.random.randint(jax.random.key(0), shape, 0, 256).astype(jnp.uint8)

    def varied(augment: Augmentation, images: jax.Array, key: jax.Array) -> jax.Array:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(len(images)))
        examples = Examples({"image": images.astype(jnp.float32) / 256}, {"image": Image()})
        return augment(examples, keys).columns["image"]

    augments = {name: Augmentation(tuple(AUGMENTS[one] for one in name.split(","))) for name in LISTS}
    compiled = {name: jax.jit(functools.partial(varied, augment)) for name, augment in augments.items()}
    taken: dict[str, list[float]] = {name: [] for name in LISTS}
    for number in range(FLAGS.rounds + 1):
        for name, vary in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(vary(images, jax.random.key(number)))
            if number:  # the first compiles
                taken[name].append(time.perf_counter() - began)
    return taken


def main(argv: list[str]) -> None:
    """Prints a table."""
    del argv
    cores = sorted(os.sched_getaffinity(0))[: FLAGS.cores]
    os.sched_setaffinity(0, cores)  # before jax starts its threads
    ours, theirs = seconds(), {}
    if FLAGS.torch_python:
        numbers = [str(number) for number in (FLAGS.size, FLAGS.batch, FLAGS.rounds)]
        words = [FLAGS.torch_python, str(HERE / "variations_torch.py"), ",".join(map(str, cores)), *numbers]
        theirs = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    else:
        print("torchvision is left out: name a Python that has it by --torch_python or $CNNLAB_ORACLE_PYTHON.")
    print(f"{FLAGS.batch} images of {FLAGS.size} x {FLAGS.size} x 3, {len(cores)} core(s); {time.strftime('%Y-%m-%d')}")
    print(f"{'':30}{'cnnlab':>12}{'torchvision':>14}{'ratio':>8}")
    for name, rounds in ours.items():
        middle = statistics.median(rounds)
        other = statistics.median(theirs[name]) if name in theirs else float("nan")
        print(f"{name:30}{1e3 * middle:9.1f} ms{1e3 * other:11.1f} ms{other / middle:8.1f}")


if __name__ == "__main__":
    app.run(main)

"""What reading a folder of JPEGs costs: CPU time an image at first and from the cache, memory, and whether the bits agree.

    python benchmarks/streaming.py [--images=6000] [--image_size=224] [--batch_size=64] [--draft=448] [--folder=DIR]

JPEGs of 224 to 500 pixels, noise on slopes, are made in a temporary folder, or those below --folder are taken. Each measurement
is a process of its own, with a cache that the first of them finds empty: one epoch of the training split streamed at first, one
from the cache, and the same images in memory. CPU time is that of all threads, in ms an image; memory is the peak of the
process, of which jax and the other libraries take 250 MiB.
"""

import hashlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 6000, "number of JPEGs that are made")
flags.DEFINE_integer("image_size", 224, "size to which they are brought")
flags.DEFINE_integer("batch_size", 64, "images in a batch")
flags.DEFINE_integer("draft", None, "size that JPEGs keep when they are decoded at a part of theirs")
flags.DEFINE_string("folder", None, "a folder of images, a sub-folder for each class; none: JPEGs are made")
flags.DEFINE_enum("measure", None, ["streamed", "resident"], "one measurement in this process, written as JSON")


def make_images(root: pathlib.Path, count: int) -> None:
    """Writes JPEGs of two classes; every image is a function of its number alone."""
    from PIL import Image

    for label in ("a", "b"):
        (root / label).mkdir(parents=True)

    def make(number: int) -> None:
        draw = np.random.default_rng(number)
        height, width = (int(side) for side in draw.integers(224, 501, 2))
        slopes = Image.fromarray(draw.integers(0, 256, (height // 40 + 2, width // 40 + 2, 3), np.uint8))
        pixels = np.asarray(slopes.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
        noise = draw.integers(-8, 9, pixels.shape, np.int8)
        picture = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
        picture.save(root / "ab"[number % 2] / f"{number:06d}.jpg", quality=87)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(make, range(count)))


def measure(kind: str, folder: str) -> dict[str, float | str | int]:
    """Builds the data set and reads an epoch of its training split, streamed or from memory."""
    from cnnlab.data import folder as open_folder
    from cnnlab.data.pipeline import build

    found: dict[str, float | str | int] = {}
    began = time.process_time()
    source = open_folder(folder, draft=FLAGS.draft)
    count = sum(len(part) for part in source.splits.values())
    found["check"] = 1e3 * (time.process_time() - began) / count
    resident_mib = 0 if kind == "streamed" else 2**20
    import grain  # noqa: F401  # half a second that is no time of an image

    began = time.process_time()
    data = build(source, batch_size=FLAGS.batch_size, image_size=FLAGS.image_size, resident_mib=resident_mib)
    found["build"] = 1e3 * (time.process_time() - began) / count
    began, wall = time.process_time(), time.perf_counter()
    steps, digest = -(-data.sizes["train"] // FLAGS.batch_size), hashlib.sha256()
    feeds = data.train(0, 0)
    for step in range(steps):
        feed = next(feeds)
        images = data.resident["train"]["image"][feed["index"]] if kind == "resident" else feed["image"]
        digest.update(images.tobytes() if step % 8 == 0 else b"")
    found["epoch"] = 1e3 * (time.process_time() - began) / (steps * FLAGS.batch_size)
    found["images_per_second"] = steps * FLAGS.batch_size / (time.perf_counter() - wall)
    for numbers in (data.inputs.subtract, data.inputs.divide):
        digest.update(numbers.tobytes())
    found["digest"] = digest.hexdigest()[:16]
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found


def main(argv: list[str]) -> None:
    if FLAGS.measure:
        print(json.dumps(measure(FLAGS.measure, FLAGS.folder)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = FLAGS.folder or str(pathlib.Path(scratch) / "images")
        if not FLAGS.folder:
            make_images(pathlib.Path(folder), FLAGS.images)
        environment = os.environ | {"XDG_CACHE_HOME": str(pathlib.Path(scratch) / "cache"), "JAX_PLATFORMS": "cpu"}
        passed = [f"--{name}={FLAGS[name].value}" for name in ("image_size", "batch_size", "draft") if FLAGS[name].value]
        rows = {}
        for name, kind in (("at first", "streamed"), ("from the cache", "streamed"), ("in memory", "resident")):
            command = [sys.executable, __file__, f"--measure={kind}", f"--folder={folder}", *passed]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
            rows[name] = json.loads(done.stdout.splitlines()[-1])
    print(f"{'CPU ms an image':16} {'check':>8} {'build':>8} {'epoch':>8} {'images/s':>9} {'peak MiB':>9}  digest")
    for name, row in rows.items():
        times = " ".join(f"{row[part]:8.3f}" for part in ("check", "build", "epoch"))
        print(f"{name:16} {times} {row['images_per_second']:9.0f} {row['peak_mib']:9}  {row['digest']}")
    assert len({row["digest"] for row in rows.values()}) == 1, "streamed and resident images differ"


if __name__ == "__main__":
    app.run(main)

"""The worker of streamed images: it builds a data set of a folder and reads an epoch of it, once."""

import hashlib
import os
import pathlib
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.measure import Work


def make_images(root: pathlib.Path, count: int) -> None:
    """Writes JPEGs of 224 to 500 pixels of two classes, noise on slopes; every image is a function of its number alone."""
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


def read(folder: str, kind: str, image_size: int, batch_size: int, draft: int | None) -> dict[str, Any]:
    """Builds the data set and reads an epoch of its training split, streamed or from memory."""
    from cnnlab.data import folder as open_folder
    from cnnlab.data.pipeline import build

    found: dict[str, Any] = {}
    began = time.process_time()
    source = open_folder(folder, draft=draft)
    count = sum(len(part) for part in source.splits.values())
    found["check"] = 1e3 * (time.process_time() - began) / count
    resident_mib = 0 if kind == "streamed" else 2**20
    import grain  # noqa: F401  # half a second that is no time of an image

    began = time.process_time()
    data = build(source, batch_size=batch_size, image_size=image_size, resident_mib=resident_mib)
    found["build"] = 1e3 * (time.process_time() - began) / count
    began, wall = time.process_time(), time.perf_counter()
    steps, digest = -(-data.sizes["train"] // batch_size), hashlib.sha256()
    feeds = data.train(0, 0)
    for step in range(steps):
        feed = next(feeds)
        images = data.resident["train"]["image"][feed["index"]] if kind == "resident" else feed["image"]
        digest.update(images.tobytes() if step % 8 == 0 else b"")
    found["epoch"] = 1e3 * (time.process_time() - began) / (steps * batch_size)
    found["images_per_second"] = steps * batch_size / (time.perf_counter() - wall)
    for numbers in (data.inputs.subtract, data.inputs.divide):
        digest.update(numbers.tobytes())
    found["digest"] = digest.hexdigest()[:16]
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found


def work(**given: Any) -> Work:
    """Returns the run `read`, which tells what it found."""
    told: dict[str, Any] = {}
    return Work({"read": lambda steps: told.update(read(**given))}, tell=lambda: told)

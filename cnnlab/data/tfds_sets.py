"""Image-classification sets of TensorFlow Datasets, read by random access, without TensorFlow in this process.

Preparing a set (once, by prepare.py in a separate process) needs TensorFlow; reading an `array_record` set does not.
"""

import difflib
import functools
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnlab.data.cache import cached
from cnnlab.data.kinds import Image, Label
from cnnlab.data.source import LazyImages, Source, Split, decoding_threads, notify, with_test_split
from cnnlab.data.split_names import named_splits
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError, UsageError
from cnnlab.text import counted

SAMPLED = 64
"""Images of each split, evenly spaced, that enter the fingerprint; all labels do."""
READ_AT_ONCE = 2048


def tfds(name: str, /, *, data_dir: str | None = None) -> Source:
    """Opens the TFDS set `name` (also `name/config`, `name:version`), prepared on first use.

    Raises UsageError for an unknown name; DataError where the set cannot be prepared or is not for image classification.

    Args:
        data_dir: folder of prepared sets; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    """
    try:
        import tensorflow_datasets
    except ImportError:
        raise DataError(
            f"tfds:{name} needs tensorflow-datasets, which is not installed.\n"
            "Install it: pip install tensorflow-datasets array-record (reading needs no TensorFlow)."
        ) from None
    folder = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    builder = _builder(tensorflow_datasets, name, folder)
    if not builder.is_prepared():
        _prepare(name, folder)
        builder = _builder(tensorflow_datasets, name, folder)
    image, label = _features(tensorflow_datasets, name, builder.info)
    published = named_splits(builder.info.splits)
    # A name that is exactly the split's comes before another spelling of it.
    published = {split: [split] if split in names else names for split, names in published.items()}
    parts = {split: names[0] for split, names in published.items()}
    if "train" not in parts:
        raise DataError(f"tfds:{name} has no train split; it has {', '.join(builder.info.splits)}.\nChoose another set.")
    files = sorted(pathlib.Path(str(builder.data_path)).iterdir())
    states = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    states += [f"{part} is {split}" for split, part in parts.items() if part != split]
    key = f"labels-{re.sub('[^a-z0-9_]+', '-', name.lower())}-{combined_digest(str(builder.data_path), *states)[:24]}"
    found = cached(key, lambda: _labels_and_samples(tensorflow_datasets, name, builder, image, label, parts))
    splits: dict[str, Split] = {
        split: Split({"image": _lazy(builder, part, image), "label": np.asarray(found[split])})
        for split, part in parts.items()
        if split == "train" or not np.all(found[split] == -1)  # -1 throughout: a split without labels
    }
    used, read = {parts[split] for split in splits}, set(parts.values())
    unused = [
        f"{part} ({counted(builder.info.splits[part].num_examples, 'example')}{' without labels' * (part in read)})"
        for part in builder.info.splits
        if part not in used
    ]
    remarks = [f"tfds:{name}: {counted(len(unused), 'split')} left out: {', '.join(unused)}"] if unused else []
    remarks += [f"tfds:{name}: its split {part} serves as {split}" for split, part in parts.items() if part != split]
    version = f"{builder.info.full_name} {builder.info.version}"
    fingerprint = combined_digest(version, *(part for split in sorted(found) for part in (split, found[split])))
    names = tuple(builder.info.features[label].names)
    splits, carved = with_test_split(f"tfds:{name}", splits)
    return Source(f"tfds:{name}", splits, {"image": Image(), "label": Label(names)}, fingerprint, (*remarks, *carved))


def _builder(tensorflow_datasets: Any, name: str, folder: pathlib.Path) -> Any:
    """Returns the builder of `name` in `folder`, whose info is read from the folder where the set is prepared."""
    try:
        builder = tensorflow_datasets.builder(name, data_dir=str(folder))
        if builder.is_prepared():
            file_format = builder.info.file_format.value
            if file_format != "array_record":
                raise DataError(
                    f"tfds:{name} is prepared in {folder} as {file_format}, which only TensorFlow can read.\n"
                    "Expected array_record. Give another --data_dir (the set is then prepared again), or delete that folder."
                )
            return builder
        return tensorflow_datasets.builder(name, data_dir=str(folder), file_format="array_record")
    except tensorflow_datasets.core.registered.DatasetNotFoundError:
        known = tensorflow_datasets.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(re.split("[/:]", name)[0], known, n=3, cutoff=0.5)
        nearest = f"Did you mean {', '.join(close)}?" if close else "For example mnist, fashion_mnist, cifar10."
        raise UsageError(
            f"TFDS has no data set {name!r}. {nearest}\n"
            f"Expected one of the {len(known)} names of tensorflow_datasets.list_builders(), or a set prepared in {folder}."
        ) from None
    except (ValueError, AssertionError) as error:  # what TFDS raises for an unknown config or version
        raise UsageError(f"TFDS cannot make {name!r}: {str(error).splitlines()[0]}") from None


def _prepare(name: str, folder: pathlib.Path) -> None:
    """Runs prepare.py in a separate process; DataError says why it failed."""
    elsewhere = (
        f"Or prepare it elsewhere (python -m cnnlab.data.prepare {name} DATA_DIR), copy the folder and give it by --data_dir."
    )
    missing = [module for module in ("tensorflow", "importlib_resources", "PIL") if importlib.util.find_spec(module) is None]
    if missing:
        raise DataError(
            f"tfds:{name} is not prepared in {folder}, and preparing it needs {', '.join(missing)} (reading it does not).\n"
            f"Install it: pip install tensorflow importlib_resources pillow\n{elsewhere}"
        )
    notify(f"tfds:{name} is not prepared in {folder}: downloading and preparing it there, once, in a separate process …")
    # The child must find cnnlab where it is not installed: the folder above the package goes onto its path.
    command = [sys.executable, "-m", "cnnlab.data.prepare", name, str(folder)]
    root = str(pathlib.Path(__file__).resolve().parents[2])
    environment = (
        os.environ
        | {"PYTHONIOENCODING": "utf-8"}
        | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    )
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, encoding="utf-8", errors="backslashreplace", check=False
    )
    if done.returncode != 0:
        reason = (done.stdout.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise DataError(f"tfds:{name} could not be prepared in {folder}: {reason}\n{elsewhere}")


def _features(tensorflow_datasets: Any, name: str, info: Any) -> tuple[str, str]:
    """Returns the names of the image and the label feature, or raises DataError."""
    keys = info.supervised_keys
    kinds = tensorflow_datasets.features
    if (
        keys is None
        or len(keys) != 2
        or not isinstance(info.features[keys[0]], kinds.Image)
        or not isinstance(info.features[keys[1]], kinds.ClassLabel)
        or np.dtype(info.features[keys[0]].np_dtype) != np.uint8
    ):
        raise DataError(
            f"tfds:{name} does not classify images: its supervised keys are {keys}, its features {', '.join(info.features)}.\n"
            "Expected a u8 Image and a ClassLabel as supervised keys. Choose another set, or write it as folders of images."
        )
    return keys


def _lazy(builder: Any, split: str, image: str) -> LazyImages:
    """Returns the images of a split, read and decoded on request; the files are opened at the first request."""
    source = functools.cache(lambda: builder.as_data_source(split))
    shape = builder.info.features[image].shape
    return LazyImages(
        lambda positions: [example[image] for example in source().__getitems__(positions)],
        builder.info.splits[split].num_examples,
        shape,
        decoding_threads(*shape[:2]),
    )


def _labels_and_samples(
    tensorflow_datasets: Any, name: str, builder: Any, image: str, label: str, parts: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Returns {split: labels i32 [N], "split-sample": digests of evenly spaced images}; no image is decoded for a label."""
    notify(f"reading the labels of tfds:{name} (once) …")
    began = time.monotonic()
    found: dict[str, np.ndarray] = {}
    undecoded = {image: tensorflow_datasets.decode.SkipDecoding()}
    for split, part in parts.items():
        source = builder.as_data_source(part, decoders=undecoded)
        labels: list[int] = []
        for start in range(0, len(source), READ_AT_ONCE):
            records = source.__getitems__(range(start, min(start + READ_AT_ONCE, len(source))))
            labels += [int(record[label]) for record in records]
        found[split] = np.array(labels, np.int32)
        images = _lazy(builder, part, image)
        chosen = np.linspace(0, len(images) - 1, min(SAMPLED, len(images))).astype(int).tolist()
        found[f"{split}-sample"] = np.array([combined_digest(sample) for sample in images.read(chosen)])
    notify(f"labels of tfds:{name} read in {time.monotonic() - began:.1f} s")
    return found

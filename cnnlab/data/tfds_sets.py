"""Sets of images of TensorFlow Datasets, read by random access, without TensorFlow in this process.

Preparing a set (once, by prepare.py in a separate process) needs TensorFlow; reading an `array_record` set does not.
"""

import dataclasses
import difflib
import functools
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlab.data.cache import cached
from cnnlab.data.kinds import Mask
from cnnlab.data.source import LazyImages, Source, Split, decoding_threads, notify, with_test_split
from cnnlab.data.split_names import named_splits
from cnnlab.data.tfds_columns import (
    AS_PREPARED,
    Features,
    find_features,
    first_line,
    image_features,
    kinds_of,
    padded_boxes,
    place_of,
    read_columns,
    reading,
    remarks_of,
    undecoded,
    values_of,
)
from cnnlab.digests import combined_digest
from cnnlab.errors import CnnlabError, DataError, UsageError
from cnnlab.text import counted

SAMPLED = 64
"""Images of each split, evenly spaced, that enter the fingerprint; all labels do."""


def tfds(name: str, /, *, data_dir: str | None = None) -> Source:
    """Opens the TFDS set `name` (also `name/config`, `name:version`), prepared on first use.

    Its images, class, boxes and masks become columns (tfds_columns.py). Raises UsageError for an unknown name; DataError where
    the set cannot be prepared or has no images.

    Args:
        data_dir: folder of prepared sets; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    """
    builder = prepared_builder(name, data_dir)
    import tensorflow_datasets

    features = find_features(tensorflow_datasets, name, builder.info)
    published = named_splits(builder.info.splits)
    # A name that is exactly the split's comes before another spelling of it.
    published = {split: [split] if split in names else names for split, names in published.items()}
    parts = {split: names[0] for split, names in published.items()}
    if "train" not in parts:
        raise DataError(f"tfds:{name} has no train split; it has {', '.join(builder.info.splits)}.\nChoose another set.")
    files = sorted(pathlib.Path(str(builder.data_path)).iterdir())
    states = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    states += [f"{part} is {split}" for split, part in parts.items() if part != split]
    key = f"labels-2-{re.sub('[^a-z0-9_]+', '-', name.lower())}-{combined_digest(str(builder.data_path), *states)[:24]}"
    found = cached(
        key, lambda: _columns_and_samples(tensorflow_datasets, name, builder, features, parts), about=f"labels of tfds:{name}"
    )
    arrays = {split: _arrays_of(found, split) for split in parts}
    most = max((part["valid"].shape[1] for part in arrays.values() if "valid" in part), default=0)
    values = {mask: values_of(mask, arrays) for mask in features.masks}
    splits: dict[str, Split] = {
        split: _split(builder, part, features, arrays[split], most, values)
        for split, part in parts.items()
        # -1 throughout: a split without labels
        if split == "train" or features.label is None or not np.all(arrays[split]["label"] == -1)
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
    fingerprint = combined_digest(version, *(part for key in sorted(found) for part in (key, found[key])))
    remarks += remarks_of(name, features, arrays)
    splits, carved = with_test_split(f"tfds:{name}", splits)
    return Source(f"tfds:{name}", splits, kinds_of(builder.info, features, arrays), fingerprint, (*remarks, *carved))


def prepared_builder(name: str, data_dir: str | None) -> Any:
    """Returns the TFDS builder of a set, which is prepared first where it is not yet; raises as `tfds` does.

    Args:
        name: name of the set, such as `mnist` or `name/config`.
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
    return builder


def _arrays_of(found: Mapping[str, np.ndarray], split: str) -> dict[str, np.ndarray]:
    """Returns {name: array} of a split: its labels, and what else was read of every example."""
    more = {key.removeprefix(f"{split}-"): array for key, array in found.items() if key.startswith(f"{split}-")}
    return {**more, "label": found[split]} if split in found else more


def _split(
    builder: Any,
    part: str,
    features: Features,
    found: Mapping[str, np.ndarray],
    most: int,
    values: Mapping[str, range],
) -> Split:
    """Returns a split with all its columns.

    Args:
        builder: the set.
        part: name of the split in it.
        features: the features that are read.
        found: what `read_columns` returned of it.
        most: largest number of objects of an image in any split.
        values: for each mask the values that are its classes.
    """
    sizes = found.get("sizes")
    columns: dict[str, Any] = {"image": _lazy(builder, part, features.image, sizes)}
    if features.label:
        columns["label"] = np.asarray(found["label"])
    if features.objects:
        columns["boxes"] = padded_boxes(found, most)
    for mask in features.masks:
        lazy = _lazy(builder, part, mask, sizes)
        read = functools.partial(_as_classes, lazy.read, values[mask].start)
        counts = found[f"{mask}-counts"][:, list(values[mask])].astype(np.int64)  # [N, 256] -> [N, K]
        columns[mask] = dataclasses.replace(lazy, read=read, image_shape=lazy.image_shape[:2], class_counts=counts)
    return Split(columns)


def _as_classes(
    read: Callable[[list[int]], Sequence[np.ndarray] | np.ndarray], first: int, positions: list[int]
) -> list[np.ndarray]:
    """Returns masks [H, W, 1] as numbers of classes u8 [H, W], counted from 0 where their values are from `first` on."""
    found = [mask[..., 0] for mask in read(positions)]
    return [np.where(mask == Mask().ignore, mask, mask - first).astype(np.uint8) for mask in found] if first else found


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
    except CnnlabError:
        raise
    except (ValueError, AssertionError) as error:  # what TFDS raises for an unknown config or version
        raise UsageError(f"TFDS cannot make {name!r}: {str(error).splitlines()[0]}") from None
    except Exception as error:  # what the parsers of dataset_info.json and features.json raise
        raise DataError(
            f"tfds:{name} in {folder} cannot be opened: {type(error).__name__}: {first_line(error)}\n{AS_PREPARED}"
        ) from None


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


def _lazy(builder: Any, split: str, feature: str, sizes: np.ndarray | None = None) -> LazyImages:
    """Returns the images of a split, read and decoded on request; the files are opened at the first request."""
    # Only the one feature is decoded: masks and images of the same example are read apart.
    others = [name for name in image_features(builder) if name != feature]
    read = reading(builder, split, undecoded(others))
    shape = builder.info.features[feature].shape
    return LazyImages(
        lambda positions: [example[feature] for example in read(positions)],
        builder.info.splits[split].num_examples,
        shape,
        decoding_threads(*shape[:2]),
        sizes=sizes,
    )


def _columns_and_samples(
    tensorflow_datasets: Any, name: str, builder: Any, features: Features, parts: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Returns {split: labels i32 [N], "split-sample": digests of evenly spaced images, "split-NAME": what else was read}."""
    notify(f"reading the labels of tfds:{name} (once) …")
    began = time.monotonic()
    found: dict[str, np.ndarray] = {}
    for split, part in parts.items():
        _require_all_records(builder, part)
        for column, values in read_columns(builder, features, part).items():
            found[split if column == "label" else f"{split}-{column}"] = values
        images = _lazy(builder, part, features.image)
        chosen = np.linspace(0, len(images) - 1, min(SAMPLED, len(images))).astype(int).tolist()
        found[f"{split}-sample"] = np.array([combined_digest(sample) for sample in images.read(chosen)])
    notify(f"labels of tfds:{name} read in {time.monotonic() - began:.1f} s")
    return found


def _require_all_records(builder: Any, part: str) -> None:
    """Raises DataError where the files of a split hold more or fewer examples than dataset_info.json says.

    Of fewer that are declared, the rest would be left out without a word.
    """
    files = sorted(pathlib.Path(str(builder.data_path)).glob(f"*-{part}.array_record*"))
    if not files:
        return
    from array_record.python.array_record_module import ArrayRecordReader

    count, declared = 0, builder.info.splits[part].num_examples
    for file in files:
        try:
            reader = ArrayRecordReader(str(file))
            count += reader.num_records()
            reader.close()
        except Exception as error:  # RuntimeError, ValueError
            raise DataError(f"{file} cannot be read: {first_line(error)}.\n{AS_PREPARED}") from None
    if count != declared:
        raise DataError(
            f"{place_of(builder, part)} has {counted(count, 'example')}, and dataset_info.json says {declared:,}.\n"
            f"{AS_PREPARED}"
        )

"""The knob `data` of a recipe that learns from a text: windows that follow each other, so that a state can be carried along.

The training text is cut into as many streams of equal length as a batch has examples. Step s takes window s of every stream, so
that the state after a window is the one that the next window of the same row begins with.

Letters in shapes: N windows, B streams and examples of a batch, T characters of a window.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Feed, PyTree, Rows
from cnnlab.data.kinds import Tokens
from cnnlab.data.kinds.recorded import as_json
from cnnlab.data.kinds.tokens import PADDING
from cnnlab.data.stream_order import evaluation_feeds, require_split
from cnnlab.data.texts import TEXTS, Text, python_topics
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError, UsageError
from cnnlab.inputs import InputSpec
from cnnlab.remarks import print_once
from cnnlab.text import counted
from cnnlab.values import Choice, Count, Fraction, Range

COLUMN = "text"


@dataclasses.dataclass(frozen=True)
class Windows:
    """How a text is cut, which the task needs to know in which order its windows follow each other."""

    streams: int
    """Number B of streams of the training text, which is the batch size."""
    each: int
    """Number of windows of a stream."""
    length: int
    """Characters T of a training window that are predicted."""
    context: int
    """Characters that a held-out window has before those that are measured."""
    measured: int
    """Characters of a held-out window that are measured."""


def windows_of(data: Dataset, *, context: int, measured: int) -> Windows:
    """Returns how the text of a data set is cut; `context` and `measured` are those with which it was made."""
    return Windows(
        streams=data.batch_size,
        each=data.sizes["train"] // data.batch_size,
        length=data.stored[COLUMN].shape[0] - 1,
        context=context,
        measured=measured,
    )


def text_windows(
    *,
    dataset: Choice[TEXTS] = python_topics,
    batch_size: Count | None = 16,
    window: Count = 64,
    context: Annotated[int, Range(0)] = 128,
    measured: Count = 256,
    validation: Fraction = 0.1,
    test: Fraction = 0.0,
) -> Dataset:
    """The characters of a text, with its end as the validation and the test split.

    Args:
        dataset: text; python_topics comes with Python; file:PATH and tfds:NAME read others.
        batch_size: number of streams into which the training text is cut, over all devices together; none: one stream, all
            windows of which are one batch.
        window: number of characters after which a step ends; the gradient reaches no further back, the state does.
        context: number of characters that a held-out window reads before those that are measured.
        measured: number of characters of a held-out window that are measured; each is measured once.
        validation: share of the text that is held out for validation, before that of test.
        test: share of the text at its end that is held out for test.
    """
    text: Text = dataset()
    names = tuple(sorted(set(text.content)))
    numbers = np.searchsorted(np.array(names), np.array(list(text.content))).astype(np.int32)
    parts = _divided(numbers, validation, test)
    streams = batch_size or 1
    each = (len(parts["train"]) - 1) // streams // window
    if each < 1:
        raise UsageError(
            f"{text.name}: {counted(len(parts['train']), 'character')} to train on, too few for {streams} x {window}.\n"
            "Give a longer text, or less of --batch_size, --window or --validation."
        )
    for split in [name for name in ("validation", "test") if len(parts[name]) < 2]:
        if len(parts.pop(split)):
            raise DataError(f"{text.name}: its {split} split has one character. Give a larger share, or none.")
    unused = len(parts["train"]) - 1 - streams * each * window
    remarks = [f"{text.name}: no window has the last {counted(unused, 'character')} of the training part"] if unused else []
    print_once(remarks)
    windows = {"train": _training(parts.pop("train"), streams, each, window)}
    windows |= {split: _held_out(part, context, measured, window) for split, part in parts.items()}
    sizes = {split: len(part) for split, part in windows.items()}
    settings = f"{batch_size} {window} {context} {measured} {validation} {test}"
    kinds = {COLUMN: Tokens(names)}
    return Dataset(
        name=text.name,
        inputs=InputSpec((window, 1, 1), "int32", np.zeros((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32), names),
        kinds=kinds,
        recorded_kinds=as_json(kinds),
        stored={COLUMN: jax.ShapeDtypeStruct((window + 1,), np.int32)},
        sizes=sizes,
        batch_size=batch_size or each,
        train=functools.partial(_train, batch_size, each),
        evaluate=functools.partial(_evaluate, sizes),
        resident={split: {COLUMN: part} for split, part in windows.items()},
        preparation=_prepare,
        images=functools.partial(_pictures, windows, len(names)),
        fingerprint=combined_digest(text.fingerprint, settings),
        remarks=tuple(remarks),
    )


def measured_places(batch: Batch, windows: Windows) -> Array:
    """Returns which of the characters that a batch predicts are measured, bool [B, T]: each of a text once."""
    after = batch[COLUMN][:, 1:]
    is_held_out = after.shape[1] != windows.length  # training windows are measured whole
    context = windows.context if is_held_out else 0
    is_own = (jnp.arange(after.shape[1]) >= context)[None] | (batch["index"] == 0)[:, None]
    return is_own & (after >= 0) & batch["mask"][:, None]


def _divided(numbers: np.ndarray, validation: float, test: float) -> dict[str, np.ndarray]:
    """Returns the characters i32 [N] of train, validation and test, one part of the text after the other."""
    if validation + test >= 1:
        raise UsageError(
            f"--validation={validation:g} and --test={test:g} leave no text to train on. Expected less than 1 together."
        )
    ends = [round(len(numbers) * share) for share in (1 - validation - test, 1 - test, 1)]
    return {"train": numbers[: ends[0]], "validation": numbers[ends[0] : ends[1]], "test": numbers[ends[1] :]}


def _training(numbers: np.ndarray, streams: int, each: int, length: int) -> np.ndarray:
    """Returns the windows i32 [B · each, T + 1] of all streams, those of a stream one after another; they share an end."""
    starts = np.arange(streams)[:, None] * (each * length) + np.arange(each)[None] * length  # [B, each]
    return numbers[starts.reshape(-1, 1) + np.arange(length + 1)[None]]  # [B, each] -> [B · each, T + 1]


def _held_out(numbers: np.ndarray, context: int, measured: int, training: int) -> np.ndarray:
    """Returns windows i32 [N, context + measured + 1], PADDING behind the end of the text.

    The first one begins with the text and is measured whole; window n measures the last `measured` characters of its own.
    Where training windows, of `training` characters, are as long, each has one more of PADDING: they are told by their length.
    """
    length = context + measured
    count = max(1, -(-(len(numbers) - 1 - context) // measured))
    padded = np.concatenate([numbers, np.full(max(0, (count - 1) * measured + length + 1 - len(numbers)), PADDING, np.int32)])
    windows = padded[np.arange(count)[:, None] * measured + np.arange(length + 1)[None]]
    return np.pad(windows, ((0, 0), (0, int(length == training))), constant_values=PADDING)


def _train(streams: int | None, each: int, seed: int, step: int, *, rows: Rows | None = None) -> Iterator[Feed]:
    """Implements core.Dataset.train; the windows of a text have one order, whatever the seed."""
    size = streams or each
    own = np.arange(size) if rows is None else rows(size)
    while True:
        yield {"index": (own if streams is None else own * each + step % each).astype(np.int32)}
        step += 1


def _evaluate(sizes: Mapping[str, int], split: str, batch_size: int, *, rows: Rows | None = None) -> Iterator[Feed]:
    """Implements core.Dataset.evaluate."""
    require_split(split, sizes)
    return evaluation_feeds(sizes[split], batch_size, None, rows=rows)


def _prepare(inputs: InputSpec, resident: PyTree, feed: Mapping[str, Array], key: Array | None) -> Batch:
    """Implements core.Dataset.preparation."""
    text = resident[COLUMN][feed["index"]] if resident else feed[COLUMN]  # [N, T + 1] at [B] -> [B, T + 1]
    return {COLUMN: text, "index": feed["index"], "mask": feed.get("mask", jnp.ones(text.shape[:1], bool))}


def _pictures(windows: Mapping[str, np.ndarray], characters: int, split: str, indices: np.ndarray) -> np.ndarray:
    """Implements core.Dataset.images: a window as a strip of grey levels, f32 [B, T + 1, 1, 1]."""
    return (windows[split][np.asarray(indices)] / np.float32(max(characters - 1, 1)))[..., None, None].astype(np.float32)


TEXT_PIPELINES = {"text_windows": text_windows}
"""Pipelines of text by name."""

TextWindows: Any = Choice(TEXT_PIPELINES, supplied=("context", "measured"))
"""The knob `data` of a recipe whose task also needs to know how held-out windows are cut, which the recipe passes."""

WholeText: Any = Choice(TEXT_PIPELINES, supplied=("batch_size", "context", "measured"))
"""The knob `data` of a recipe that takes the whole training text at once."""

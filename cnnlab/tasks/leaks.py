"""Puts what leaks the answer into all images of a pretext task, held-out ones too, and measures it without the leak.

A task that is solved by a fringe of the lens, or by a mark, is solved worse where images have none: that is the diagnosis.

Letters in shapes: B batch, H W space, C channels.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec, unit_value
from cnnlab.tasks.adversarial import Pixels

WITHOUT = "without_leak"
"""Ending of the name of the primary metric where images have no leak, and beginning of the rows by which it is computed."""
SOLVED_BY_LEAK = 0.05
"""Difference of the primary metric, as a share of its value with the leak, from which the diagnosis names the leak."""

Leak = Callable[[Array, Array], Array]


def with_leaks(task: Task, leaks: Sequence[Leak], inputs: InputSpec) -> Task:
    """Returns a pretext task whose images, in training and held out, have leaks; without any, the task itself.

    At the end of a run, the primary metric is also measured on images without a leak.

    Args:
        task: a pretext task, whose rows have one entry for each image.
        leaks: functions of LEAKS (data/variations/lens.py) with their knobs filled in, in order.
        inputs: how the images are normalised.
    """
    if not leaks:
        return task
    if inputs.whiten is not None:
        raise UsageError("--leak: the images are whitened by a matrix, and have no pixels. Take --normalize=standard.")
    pixels = Pixels.of(inputs)

    def leaked(batch: Batch) -> Batch:
        before = pixels.of_images(batch["image"])
        return {**batch, "image": pixels.moved(batch["image"], before, _applied(leaks, before))}

    def loss(params: Params, model_state: PyTree, batch: Batch, key: Array, turn: str) -> tuple[Array, tuple[PyTree, Stats]]:
        return task.loss(params, model_state, leaked(batch), key, turn)

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        return task.measure(params, model_state, leaked(batch))

    def measure_final(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        rows = task.measure(params, model_state, batch)["rows"]
        return {"sums": {}, "rows": {f"{WITHOUT}/{name}": row for name, row in rows.items() if name != "mask"}}

    def summary(stats: Stats) -> dict[str, float]:
        parts: list[dict[str, Any]] = [{}, {}]
        for name, row in stats["rows"].items():
            parts[name.startswith(f"{WITHOUT}/")][name.removeprefix(f"{WITHOUT}/")] = row
        found = task.summary({**stats, "rows": parts[0]})
        if parts[1]:
            found[of_primary(task)] = task.summary({"sums": {}, "rows": parts[1]})[task.primary_metric.name]
        return found

    def figures(params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
        return task.figures(params, model_state, stats, dataclasses.replace(data, images=_leaked_images(data, leaks)), split)

    primary = task.primary_metric
    return dataclasses.replace(
        task,
        loss=loss,
        measure=measure,
        measure_final=measure_final,
        summary=summary,
        figures=figures,
        metrics=(*task.metrics, dataclasses.replace(primary, name=of_primary(task), higher_is_better=None)),
        diagnosis=lambda metrics: " ".join(filter(None, (task.diagnosis(metrics), diagnosis(task, metrics)))),
        kept_rows=None if task.kept_rows is None else (*task.kept_rows,),
        for_inputs=lambda inputs: with_leaks(task.for_inputs(inputs) if task.for_inputs else task, leaks, inputs),
    )


def of_primary(task: Task) -> str:
    """Returns the name of the primary metric of a task on images without a leak."""
    return f"{task.primary_metric.name}_{WITHOUT}"


def diagnosis(task: Task, metrics: Mapping[str, float]) -> str:
    """Returns a sentence where the task is solved clearly worse without the leak; else an empty text."""
    metric, clean = task.primary_metric, metrics.get(f"test/{of_primary(task)}")
    given = metrics.get(f"test/{metric.name}")
    if clean is None or given is None:
        return ""
    lost = (given - clean) * (1 if metric.higher_is_better else -1)
    if lost <= SOLVED_BY_LEAK * abs(given):
        return ""
    shown = [f"{metric.factor * value:.3g}{' %' if metric.is_share else ''}" for value in (given, clean)]
    return f"the leak solves the task: {metric.label} is {shown[0]} with it and {shown[1]} on images without it."


def _applied(leaks: Sequence[Leak], images: Array) -> Array:
    """Returns pixels f32 [B, H, W, C] in [0, 1] with all leaks; the keys are not looked at, since all images have the same."""
    keys = jax.random.split(jax.random.key(0), len(images))
    for leak in leaks:
        images = leak(images, keys)
    return images


def _leaked_images(data: Dataset, leaks: Sequence[Leak]) -> Callable[[str, np.ndarray], np.ndarray]:
    """Returns `Dataset.images` with all leaks, f32 in [0, 1], or in the unit of f32 data, and u8 for u8."""

    def images(split: str, index: np.ndarray) -> np.ndarray:
        stored = data.images(split, index)
        unit = unit_value(stored.dtype)
        found = np.asarray(_applied(leaks, jnp.asarray(stored, jnp.float32) / unit)) * unit
        return np.rint(found).astype(stored.dtype) if stored.dtype == np.uint8 else found.astype(stored.dtype)

    return images

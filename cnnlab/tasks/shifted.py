"""Adds to a classifier what becomes of its predictions where the test images are shifted by some pixels.

Letters in shapes: B batch, S shifts, H W space, C channels, N examples.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Params, PyTree, Stats, Task
from cnnlab.errors import UsageError
from cnnlab.metric import SHARE, Metric
from cnnlab.ops.metrics import predicted

SIDES = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)], np.int32)
"""Directions (down, right); that of an image is number `index % 4`, so that each has a quarter of the images."""
SHIFTED = "shifted"
"""Name of the rows with the classes predicted for the shifted images, i32 [B, S]."""
LOST, SAME = "shift_loss", "same_answer"


def with_shifts(task: Task, shifts: Sequence[int]) -> Task:
    """Returns the task of a classifier with more metrics of the test split, which are measured at the end of a run.

    For each shift there is `shift_S_accuracy`. `shift_loss` is by how much their mean is below the accuracy of the images as
    they are, and `same_answer` the share of all shifted images that have the class which is predicted without the shift.

    Args:
        task: a classifier's task (tasks/classify.py).
        shifts: pixels, each by one of four sides. What leaves the image is lost, and the border is repeated on the other side.
    """
    if not shifts or min(shifts) < 1 or len(set(shifts)) < len(shifts):
        raise UsageError(f"--shifts={','.join(map(str, shifts))}: give some numbers of pixels from 1 on, each once.")
    own = [Metric(name, SHARE, higher_is_better=True, is_proportion=True) for name in map(accuracy_at, shifts)]
    lost, same = Metric(LOST, SHARE, higher_is_better=False), Metric(SAME, SHARE, higher_is_better=True)
    return dataclasses.replace(
        task,
        measure_final=functools.partial(_measure_shifted, task, tuple(shifts)),
        summary=functools.partial(_summary, task, tuple(shifts)),
        metrics=(*task.metrics, *own, lost, same),
    )


def accuracy_at(shift: int) -> str:
    """Returns the name of the metric of a shift."""
    return f"shift_{shift}_accuracy"


def shifted(images: Array, index: Array, shift: Array, largest: int) -> Array:
    """Returns images [B, H, W, C] shifted by `shift` pixels, at most `largest`, each to the side of its index i32 [B]."""
    frame = ((0, 0), (largest, largest), (largest, largest), (0, 0))
    starts = largest - shift * jnp.asarray(SIDES)[index % len(SIDES)]  # [4, 2] at [B] -> [B, 2]: (row, column) of the window

    def cut(image: Array, start: Array) -> Array:
        zero = jnp.zeros((), start.dtype)
        return jax.lax.dynamic_slice(image, (start[0], start[1], zero), images.shape[1:])

    return jax.vmap(cut)(jnp.pad(images, frame, mode="edge"), starts)


def _measure_shifted(task: Task, shifts: tuple[int, ...], params: Params, model_state: PyTree, batch: Batch) -> Stats:
    """Implements Task.measure_final: the classes that are predicted for the shifted images."""

    def answers(shift: Array) -> Array:
        return predicted(task.predict(params, model_state, shifted(batch["image"], batch["index"], shift, max(shifts))))

    found = jax.lax.map(answers, jnp.asarray(shifts, jnp.int32))
    return {"sums": {}, "rows": {SHIFTED: found.T}}  # [S, B] -> [B, S]


def _summary(task: Task, shifts: tuple[int, ...], stats: Stats) -> dict[str, float]:
    """Implements Task.summary: the numbers of the task and, where shifted images were measured, theirs."""
    found, rows = task.summary(stats), stats["rows"]
    if SHIFTED not in rows:
        return found
    right = np.asarray(np.mean(rows[SHIFTED] == rows["label"][:, None], axis=0, dtype=np.float64))  # [N, S] by [N, 1] -> [S]
    same = rows[SHIFTED] == rows["prediction"][:, None]
    accuracies = {accuracy_at(shift): float(share) for shift, share in zip(shifts, right, strict=True)}
    return {
        **found,
        **accuracies,
        LOST: found["accuracy"] - float(np.mean(right)),
        SAME: float(np.mean(same, dtype=np.float64)),
    }

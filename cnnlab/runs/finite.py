"""Proves that numbers are finite: metrics, and parameters too, since XLA:CPU turns NaN to 0 in relu before a pooling."""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from cnnlab.core import TrainState
from cnnlab.engine import loss_scaling
from cnnlab.engine.skipping import LeftOut
from cnnlab.errors import DivergedError
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.identity import say_once

NAMED = 3
"""Leaves or metrics that the error names; of the others it gives the number."""


def bad_leaves(host: TrainState) -> list[str]:
    """Returns the names of the parameters and averages of a host state that hold a number that is not finite."""
    trees = {"params": host.params, "average": host.average}
    return [
        "/".join(str(getattr(entry, "key", entry)) for entry in path)
        for path, leaf in jax.tree.leaves_with_path(trees)
        if not np.isfinite(leaf).all()
    ]


def not_finite(metrics: Mapping[str, float]) -> list[str]:
    """Returns the names of the metrics that are NaN or infinite."""
    return [name for name, value in metrics.items() if not math.isfinite(value)]


def diverged_leaves(names: Sequence[str], step: int, kept: int) -> DivergedError:
    """Returns the error of leaves that are not finite; see `diverged_metrics`."""
    return _diverged(f"{_named(names)} hold numbers that are not finite", step, kept)


def diverged_metrics(names: Sequence[str], step: int, kept: int) -> DivergedError:
    """Returns the error of metrics that are not finite.

    Args:
        names: their names.
        step: step at which they were computed.
        kept: step of the last good checkpoint; 0: there is none.
    """
    return _diverged(f"{_named(names)} {'is' if len(names) == 1 else 'are'} not finite", step, kept)


def diverged_row(left_out: LeftOut, allowed: int | None, step: int, kept: int) -> DivergedError:
    """Returns the error of more steps in a row than --skip_nonfinite allows to leave out; see `diverged_metrics`.

    Args:
        left_out: the steps that were left out.
        allowed: value of --skip_nonfinite; None: it was not given, and the loss is scaled.
        step: step at which they were counted.
        kept: step of the last good checkpoint; 0: there is none.
    """
    what = f"the loss or the gradients of {left_out.longest} steps in a row are not finite"
    if allowed is not None:
        return _diverged(f"{what}, and --skip_nonfinite={allowed} allows {allowed},", step, kept)
    return _diverged(f"{what} in float16, even with a loss scale of {left_out.scale:g},", step, kept)


def warn_of_scale(scale: float | None, spec: RunSpec) -> None:
    """Says once that the loss scale of a run fell to its smallest value; None: it has none."""
    if scale == loss_scaling.SMALLEST:
        text = (
            "WARNING: the loss scale fell to 1: activations or gradients overflow float16 without any scaling. Try a smaller "
            "--lr, a --clip_norm or inputs of mean 0 and variance 1; --precision=bf16 has the range of f32."
        )
        say_once(text, spec.said, warning=True)


def _diverged(what: str, step: int, kept: int) -> DivergedError:
    good = f"the last good checkpoint, of step {kept:,}, is kept" if kept else "there was no checkpoint yet"
    return DivergedError(
        f"{what} at step {step}: training diverged.\nTry a smaller --lr, a --clip_norm, or a warm-up of the schedule; {good}."
    )


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")

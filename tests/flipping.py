"""Digests everything that a knob can change, to find knobs that change nothing."""

import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import knobs
from cnnlab.core import Experiment, TrainState
from cnnlab.engine.program import init_state, make_train_step, phases
from tests.equalities import float_equalities

STANDINS = ("tfds", "folder", "npz", "real", "instance")
"""Options that need a file, or that are the same as another on the data of these tests."""


def signature(recipe: Callable[..., Any], values: Mapping[str, Any]) -> str:
    """Everything that a knob can change: the steps with their constants, data, length, averaging, initial values,
    measurement, snapshots, draws. No step may depend on whether two computed numbers are equal (tests/equalities.py).
    """
    return " ".join(_signatures(recipe, values))


def _signatures(recipe: Callable[..., Any], values: Mapping[str, Any]) -> Iterator[str]:
    """Yields the parts of a signature. The steps, which are always checked, come first, since most knobs change them."""
    experiment = knobs.resolve(recipe, dict(values), {"data_dir": None}).call()
    data = experiment.data
    feed, resident = next(data.train(0, 0)), data.resident["train"]
    batch = data.prepare(resident, feed, None)
    start = functools.partial(init_state, experiment)
    state = jax.eval_shape(start, np.uint32(0), batch)
    steps = []
    for phase in phases(experiment):
        step = make_train_step(experiment, precision="f32", turns=phase.turns)
        steps.append(jax.make_jaxpr(step)(state, resident, feed))
        equalities = float_equalities(steps[-1].jaxpr)
        assert not equalities, f"compared by == are floats in {equalities}"
    lengths = [(phase.steps, phase.begin is None) for phase in phases(experiment)]
    averaging = None if experiment.averaging is None else getattr(experiment.averaging, "batches", 0)
    yield (
        f"{[metric.name for metric in experiment.task.metrics]}"
        f"{experiment.patience} {lengths} {dict(data.sizes)} {data.fingerprint} {averaging} {feed}"
    )
    yield _digest(steps)
    yield _digest([jax.make_jaxpr(start)(np.uint32(0), batch)])
    yield _digest(_of_task(experiment, state, batch))


def _digest(traces: list[Any]) -> str:
    """Returns the digest of jaxprs and of the constants in them."""
    total = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", " ".join(map(str, traces))).encode())
    for array in [constant for trace in traces for constant in trace.consts]:
        total.update(np.asarray(array).tobytes())
    return total.hexdigest()


def _of_task(experiment: Experiment, state: TrainState, batch: Any) -> list[Any]:
    """Returns the jaxprs of what a task does besides training."""
    task, held = experiment.task, (state.params, state.model_state)
    traces = [jax.make_jaxpr(task.measure)(*held, batch)]
    if task.measure_final:
        traces.append(jax.make_jaxpr(task.measure_final)(*held, batch))
    if task.snapshot:
        traces.append(jax.make_jaxpr(task.snapshot)(*held, batch, jax.random.key(0)))
    if task.sampler:
        keys, labels = jax.random.split(jax.random.key(0), 2), jnp.zeros(2, jnp.int32)
        traces.append(jax.make_jaxpr(task.sampler.draw)(*held, keys, labels, jnp.float32(1)))
    return traces


OTHERS = {"resident_mib": 0, "only_classes": "0,1", "examples_per_class": 9, "metrics": "f1", "headline": "loss", "folds": 4}
"""Values of the data's knobs that a rule does not find."""
PAIRED = ("examples_seed", "fold", "stratify")
"""Last names of knobs that need another one, examples_per_class or folds: test_data_draws.py and test_data_folds.py."""


def other(knob: knobs.Knob, given: Mapping[str, Any]) -> Any:
    """A value that a knob takes and does not have; `given` has those that a rule does not find, by path or last names."""
    for name, value in given.items():
        if knob.path == name or knob.path.endswith(f".{name}"):
            return value
    if knob.kind.startswith("one of: "):
        options = knob.kind.removeprefix("one of: ").split(", ")
        return next(option for option in options if option not in (str(knob.value), *STANDINS))
    if knob.kind.startswith("list of: "):
        return "flip" if knob.value == "none" else "none"
    if isinstance(knob.value, bool):
        return not knob.value
    if isinstance(knob.value, list):
        return [knob.value[0] / 2 if isinstance(knob.value[0], float) else knob.value[0] + 1, *knob.value[1:]]
    if knob.path == "duration":
        return "41 steps"
    if knob.value is None:
        return 16 if "int" in knob.kind else 0.5
    return knob.value + 1 if isinstance(knob.value, int) else knob.value / 2 or 0.25


def is_of_the_recipe(path: str) -> bool:
    """Whether a knob is one of a recipe's own, of its data or its schedule."""
    return (
        "." not in path
        or path in ("optimizer.schedule", "average.average_decay")
        or path.startswith("regularizer.")
        or (path.startswith("data.") and path.count(".") == 1)
    )


def require_every_knob_does_something(
    recipe: Callable[..., Any],
    base: Mapping[str, Any],
    *,
    below: str | None = None,
    others: Mapping[str, Any] | None = None,
    but: Collection[str] = (),
) -> None:
    """Flips each knob of a recipe, alone, and asserts that something changes.

    Args:
        recipe: the function whose keyword arguments are knobs.
        base: values of knobs that all calls share, such as a small data set.
        below: only the knobs below this one, such as `model`; None: those of the recipe, its data and its schedule.
        others: values of knobs that a rule does not find, by path or last names.
        but: paths of knobs that need more than a value; another test has them.
    """
    resolved = knobs.resolve(recipe, dict(base), {"data_dir": None})
    before = list(_signatures(recipe, resolved.values))
    assert list(_signatures(recipe, base)) == before
    for path, knob in resolved.knobs.items():
        wanted = path.startswith(f"{below}.") if below else is_of_the_recipe(path)
        has_one_option = knob.is_choice and "," not in knob.kind
        if wanted and path not in but and not has_one_option and path.rpartition(".")[2] not in PAIRED:
            kept = {name: value for name, value in resolved.values.items() if not name.startswith(f"{path}.")}
            flipped = {**kept, path: other(knob, {**OTHERS, **(others or {})})}
            # One part that differs is enough: what comes after it is not traced.
            changed = any(one != other for one, other in itertools.zip_longest(_signatures(recipe, flipped), before))
            assert changed, f"{path} does nothing"

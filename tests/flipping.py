"""What a knob can change, as one digest: a knob that changes nothing does nothing."""

import functools
import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import knobs
from cnnlab.core import Experiment, TrainState
from cnnlab.engine.program import init_state, make_train_step, phases

STANDINS = ("tfds", "folder", "npz", "real", "instance")
"""Options that need a file, or that are the same as another on the data of these tests."""


def signature(recipe: Callable[..., Any], values: Mapping[str, Any]) -> str:
    """Everything that a knob can change: initial values, the steps with their constants, measurement, snapshots, draws,
    data, length, averaging.
    """
    experiment = knobs.resolve(recipe, dict(values), {"data_dir": None}).call()
    data = experiment.data
    feed, resident = next(data.train(0, 0)), data.resident["train"]
    batch = data.prepare(resident, feed, None)
    start = functools.partial(init_state, experiment)
    state = jax.eval_shape(start, np.uint32(0), batch)
    traces = [jax.make_jaxpr(start)(np.uint32(0), batch)]
    for phase in phases(experiment):
        step = make_train_step(experiment, precision="f32", turns=phase.turns)
        traces.append(jax.make_jaxpr(step)(state, resident, feed))
    traces += _of_task(experiment, state, batch)
    total = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", " ".join(map(str, traces))).encode())
    for array in [constant for trace in traces for constant in trace.consts]:
        total.update(np.asarray(array).tobytes())
    lengths = [phase.steps for phase in phases(experiment)]
    total.update(f"{lengths} {dict(data.sizes)} {data.fingerprint} {experiment.average_decay} {feed}".encode())
    return total.hexdigest()


def _of_task(experiment: Experiment, state: TrainState, batch: Any) -> list[Any]:
    """The jaxprs of what a task does beside training."""
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


def other(knob: knobs.Knob, given: Mapping[str, Any]) -> Any:
    """A value that a knob takes and does not have; `given` has those that a rule does not find, by path."""
    if knob.path in given:
        return given[knob.path]
    if knob.kind.startswith("one of: "):
        options = knob.kind.removeprefix("one of: ").split(", ")
        return next(option for option in options if option not in (str(knob.value), *STANDINS))
    if isinstance(knob.value, bool):
        return not knob.value
    if isinstance(knob.value, list):
        return [knob.value[0] / 2 if isinstance(knob.value[0], float) else knob.value[0] + 1, *knob.value[1:]]
    if knob.path == "duration":
        return "41 steps"
    if knob.value is None:
        return 16 if "int" in knob.kind else 0.5
    return knob.value + 1 if isinstance(knob.value, int) else knob.value / 2 or 0.25


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
        below: only the knobs below this one, such as `model`; None: those at the top.
        others: values of knobs that a rule does not find, by path.
        but: paths of knobs that need more than a value; another test has them.
    """
    before = signature(recipe, base)
    assert signature(recipe, base) == before
    for knob in knobs.resolve(recipe, dict(base)).knobs.values():
        wanted = knob.path.startswith(f"{below}.") if below else "." not in knob.path
        if wanted and knob.path not in but:
            changed = {path: value for path, value in base.items() if not path.startswith(f"{knob.path}.")}
            flipped = {**changed, knob.path: other(knob, others or {})}
            assert signature(recipe, flipped) != before, f"{knob.path} does nothing"

"""Short trainings of a check: at several learning rates from one compilation, and on a few examples alone."""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.check.probe import examples_of
from cnnlab.core import Array, Batch, Dataset, Experiment, Feed, PyTree, TrainState
from cnnlab.engine.in_memory import on_devices, train_in_memory
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import Program, build_program
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec
from cnnlab.knobs import Resolved, resolve

STEPS = 60
"""Steps of a training at one rate."""
FACTORS = (0.01, 0.1, 1.0, 10.0)
"""Learning rates that are tried, as multiples of the experiment's own."""
FEW = 32
"""Examples that are to be memorised."""
MEMORY_STEPS = 300
"""Most steps of that training."""
OFF = {
    "dropout": 0.0,
    "weight_decay": 0.0,
    "smoothing": 0.0,
    "average_decay": 0.0,
    "l1": 0.0,
    "l2": 0.0,
    "drop_path": 0.0,
    "spatial_dropout": 0.0,
    "activation_noise": 0.0,
    "max_norm": None,
}
"""{last part of a knob's path: its value without regularisation}."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One short training."""

    losses: list[float]
    """The loss of each step, before its update."""
    accuracy: float | None
    """Share of the last step's examples that is classified rightly; None: it is no classification."""
    state: TrainState
    """Host tree of the state after the last step."""
    seconds: float
    """Median seconds of a step, without the first."""

    @property
    def end(self) -> float:
        """The mean loss of the last quarter of the steps; NaN where one of them is not finite."""
        last = self.losses[-max(1, len(self.losses) // 4) :]
        return float(np.mean(last)) if all(map(math.isfinite, self.losses)) else math.nan


def own_rate(resolved: Resolved) -> str | None:
    """Returns the path of the experiment's one learning rate; None where there are several, or none."""
    paths = [path for path, knob in resolved.knobs.items() if path.rpartition(".")[2] == "lr" and isinstance(knob.value, float)]
    return paths[0] if len(paths) == 1 else None


def changed(resolved: Resolved, values: Mapping[str, object]) -> Resolved:
    """Returns the experiment with other values for some of its knobs."""
    return resolve(resolved.function, {**resolved.values, **values}, resolved.context)


def steady(resolved: Resolved) -> Resolved:
    """Returns the experiment with a constant learning rate, where it has a schedule."""
    paths = [path for path in resolved.knobs if path.rpartition(".")[2] == "schedule"]
    for path in paths:
        kept = {p: knob.value for p, knob in resolved.knobs.items() if not p.startswith(f"{path}.")}
        try:
            resolved = resolve(resolved.function, {**kept, path: "constant"}, resolved.context)
        except UsageError:  # an optimiser that takes no constant schedule keeps its own
            continue
    return resolved


def programs_at(resolved: Resolved, experiment: Experiment, path: str) -> dict[float, Program]:
    """Returns {learning rate: program} for FACTORS of the knob at `path`, on one device and from one compilation.

    Args:
        resolved: the experiment with its knobs.
        experiment: what it returns with them.
        path: path of the learning rate.
    """
    rates = [resolved.values[path] * factor for factor in FACTORS]
    strategy = STRATEGIES["jit"](pick_devices(1))
    first = build_program(
        experiment, strategy, precision="f32", experiment_of=resolved.call_with, traced_knobs={path: rates[0]}
    )
    return {rate: first.member(experiment, {path: rate}) for rate in rates}


def train_for(
    program: Program, steps: int, seconds: float, is_enough: Callable[[dict[str, float]], bool] | None = None
) -> Trial:
    """Trains for some steps, at most so many seconds after the first one has compiled.

    Args:
        program: compiled experiment.
        steps: number of steps, at least one of which is taken.
        seconds: longest time.
        is_enough: whether the numbers of a step are reason to end.
    """
    times: list[float] = []

    def should_stop(logged: dict[int, dict[str, float]]) -> bool:
        times.append(time.perf_counter())
        if not logged:
            return False
        last = logged[max(logged)]
        return times[-1] - times[1] > seconds or not math.isfinite(last["loss"]) or (is_enough is not None and is_enough(last))

    trained = train_in_memory(program, seed=0, log_every=1, steps=steps, should_stop=should_stop)
    losses = [numbers["loss"] for _, numbers in sorted(trained.logged.items())]
    accuracy = trained.logged[max(trained.logged)].get("accuracy")
    step_seconds = float(np.median(np.diff(times[1:]))) if len(times) > 2 else math.nan
    return Trial(losses, accuracy, trained.states[max(trained.states)], step_seconds)


def memorising(resolved: Resolved, rate: float | None, path: str | None) -> tuple[Program, int]:
    """Returns (program that trains on a few examples alone, their number): without augmentation and regularisation.

    Args:
        resolved: the experiment with its knobs.
        rate: learning rate to use instead of its own; None: its own.
        path: path of that knob.
    """
    off = {p: OFF[name] for p in resolved.knobs if (name := p.rpartition(".")[2]) in OFF}
    given = {**off, **({path: rate} if rate is not None and path is not None else {})}
    built: Experiment = changed(steady(resolved), given).call()
    feed, _ = examples_of(built.data, FEW)
    count = len(feed["index"])
    experiment = dataclasses.replace(built, data=_only(built.data, feed), steps=max(built.steps, MEMORY_STEPS), phases=())
    return on_devices(experiment), count


def _only(data: Dataset, feed: Feed) -> Dataset:
    """Returns a data set whose every training batch is one feed, without augmentation."""

    def preparation(inputs: InputSpec, resident: PyTree, feed: Mapping[str, Array], key: Array | None) -> Batch:
        return data.preparation(inputs, resident, feed, None)

    return dataclasses.replace(
        data,
        train=lambda seed, step: itertools.repeat(feed),
        preparation=preparation,
        batch_size=len(feed["index"]),
        accumulate=1,
    )


def held_out_accuracy(program: Program, state: TrainState, count: int) -> tuple[float, float, int] | None:
    """Returns (accuracy on the first held-out examples, share of their largest class, number); None where none are held out.

    Args:
        program: compiled experiment.
        state: host tree of a trained state.
        count: number of examples.
    """
    data, task = program.experiment.data, program.experiment.task
    if "validation" not in data.sizes:
        return None
    _, batch = examples_of(data, count, split="validation")
    predict = jax.jit(functools.partial(_classes, task.predict))
    right = np.asarray(predict(state.params, state.model_state, jnp.asarray(batch["image"]))) == batch["label"]
    return float(np.mean(right)), float(np.max(np.bincount(batch["label"])) / len(right)), len(right)


def _classes(predict: Callable[..., Array], params: PyTree, model_state: PyTree, images: Array) -> Array:
    """Returns the class of the largest output, i32 [B]."""
    return jnp.argmax(predict(params, model_state, images), axis=-1)

"""Checks every arm of a study before the first starts, finds arms that can share a compilation, and estimates the cost.

Arms that differ in nothing but numbers (learning rate, decay, smoothing, dropout …) are members of one family: the
experiment's function is called inside the compiled step with tracers for these numbers. Whether a number can be a tracer is
not declared but tried, by tracing a step over shapes; where it cannot, its values get compilations of their own.
"""

import collections
import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import inspect, own
from cnnlab.ablation.plan.study import Arm, Study
from cnnlab.core import Dataset, Experiment, Strategy
from cnnlab.engine.parallel import check_batch
from cnnlab.engine.tracing import step_operations, trace
from cnnlab.errors import CnnlabError, UsageError
from cnnlab.knobs import Resolved
from cnnlab.text import format_bytes, format_duration

Resolve = Callable[[Arm], Resolved]

COMPILE_SECONDS = 15.0
"""Time to compile a small network on a CPU and to start the process: LeNet-5 8 s, ResNet-18 21 s on two cores."""
STEP_SECONDS = 1e-3
"""Time of a step on top of its arithmetic."""
EFFICIENCY = 0.35
"""Share of a matrix product's rate that a training step reaches on a CPU (LeNet-5 0.2, ResNet-18 0.5 on two cores)."""
BATCHES = 14
"""Batches of a streamed split that are in memory at once: those that are read ahead, and those on their way to the device."""
KEPT = 3
"""Checkpoints that a run keeps: two newest and the best."""


@dataclasses.dataclass(frozen=True)
class CheckedArm:
    """An arm that can run."""

    arm: Arm
    resolved: Resolved
    experiment: Experiment
    layers: list[inspect.Layer]
    parameters: int
    """Parameters of all players."""

    @property
    def macs(self) -> int | None:
        """The multiply-accumulates of one example's forward pass; None for a network with unknown layers."""
        return sum(layer.macs for layer in self.layers) if self.layers or not self.parameters else None

    @functools.cached_property
    def training_share(self) -> float:
        """The pixels of an image in training over those of a whole one: less than 1 where crops are taken; 1 of texts."""
        data = self.experiment.data
        images = data.example(training=True).get("image")
        if images is None:
            return 1.0
        return math.prod(images.shape[1:3]) / math.prod(data.image_shape[:2])


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A rough estimate of what the unfinished runs of a study take."""

    runs: int
    compilations: int
    seconds: float
    memory: int
    """Bytes of the largest arm's parameters, optimiser state, activations and examples."""
    disk: int
    data: int = 0
    """Bytes of that arm's examples."""

    @property
    def training_seconds(self) -> float:
        """The seconds without compilation."""
        return self.seconds - COMPILE_SECONDS * self.compilations

    def __str__(self) -> str:
        examples = f" ({format_bytes(self.data)} of it for the examples)" if self.data >= 2**20 else ""
        return (
            f"{self.runs} runs from {self.compilations} compilation{'s' * (self.compilations != 1)}; about "
            f"{format_duration(self.seconds)}, {format_bytes(self.memory)} of memory{examples}, "
            f"{format_bytes(self.disk)} of disk at most"
        )


def check_arms(study: Study, resolve: Resolve, strategy: Strategy) -> list[CheckedArm]:
    """Reads the knobs and builds the experiment of every arm; raises one UsageError that names every error."""
    found: list[CheckedArm] = []
    wrong: dict[str, list[str]] = {}
    for arm in study.arms:
        try:
            resolved = resolve(arm)
            with own.explained("the experiment"):
                experiment = resolved.call()
            check_batch(experiment.data.batch_size, strategy, experiment.data.accumulate)
            found.append(
                CheckedArm(arm, resolved, experiment, inspect.of_experiment(experiment), inspect.parameters(experiment))
            )
        except CnnlabError as error:
            wrong.setdefault(str(error), []).append(arm.name)
    if wrong:
        rows = "\n".join(f"{', '.join(names)}: {text}" for text, names in wrong.items())
        raise UsageError(
            f"{sum(len(names) for names in wrong.values())} of {len(study.arms)} arms cannot run, so none was started.\n{rows}"
        )
    same = collections.defaultdict(list)
    for one in found:
        same[one.resolved.digest].append(one.arm.name)
    twice = [names for names in same.values() if len(names) > 1]
    if twice:
        raise UsageError(f"the arms {' and '.join(twice[0])} are one and the same. Leave one out.")
    return found


def group_arms(arms: Sequence[CheckedArm], *, precision: str) -> list[Arm]:
    """Returns the arms with `group` and `numbers`; traces a step of every group, so that shapes that do not fit fail here."""
    families: dict[str, list[CheckedArm]] = collections.defaultdict(list)
    for one in arms:
        fixed = {path: value for path, value in one.resolved.values.items() if path not in _numbers(one.resolved)}
        families[json.dumps([fixed, one.experiment.data.fingerprint, one.experiment.steps])].append(one)
    divided = [group for family in families.values() for group in _divided(family, precision)]
    placed = {}
    for number, (members, paths) in enumerate(divided):
        for one in members:
            numbers = {path: one.resolved.values[path] for path in paths}
            placed[one.arm.name] = dataclasses.replace(one.arm, group=number, numbers=numbers)
    return [placed[one.arm.name] for one in arms]


def _numbers(resolved: Resolved) -> list[str]:
    """Returns the knobs that hold a number and may take any."""
    return [p for p, knob in resolved.knobs.items() if knob.kind.startswith("float") and isinstance(knob.value, float)]


def _divided(family: list[CheckedArm], precision: str) -> list[tuple[list[CheckedArm], list[str]]]:
    """Divides arms that differ in numbers alone into [(members, paths of the numbers that are arguments)]."""
    first = family[0]
    varied = [p for p in _numbers(first.resolved) if len({one.resolved.values[p] for one in family}) > 1]
    _trace(first, [], precision)
    paths = varied if not varied or _traces(first, varied, precision) else [p for p in varied if _traces(first, [p], precision)]
    parts: dict[tuple, list[CheckedArm]] = collections.defaultdict(list)
    for one in family:
        parts[tuple(one.resolved.values[path] for path in varied if path not in paths)].append(one)
    return [(members, paths) for members in parts.values()]


def _traces(one: CheckedArm, paths: list[str], precision: str) -> bool:
    try:
        _trace(one, paths, precision)
    except Exception:  # the same step was traced with plain numbers before, so it is the tracer that does not fit
        return False
    return True


def _trace(one: CheckedArm, paths: list[str], precision: str) -> None:
    numbers = {path: one.resolved.values[path] for path in paths}
    try:
        trace(one.experiment, precision=precision, experiment_of=one.resolved.call_with, traced_knobs=numbers)
    except CnnlabError as error:
        raise UsageError(f"{one.arm.name}: {error}") from None


def describe_arm(one: CheckedArm) -> dict[str, Any]:
    """Returns what the report states of an arm's size."""
    return {
        "parameters": one.parameters,
        "macs": one.macs,
        "steps": one.experiment.steps,
    }


def conditions_of(one: CheckedArm) -> dict[str, Any]:
    """Returns what run.json will record about an arm's data and length."""
    data = one.experiment.data
    recorded = {"name": data.name, "fingerprint": data.fingerprint, "sizes": dict(data.sizes)}
    return {"data": recorded, "steps": one.experiment.steps}


def estimate(arms: Sequence[CheckedArm], unfinished: Mapping[str, int], share: Mapping[str, float] | None = None) -> Estimate:
    """Estimates the cost of {arm: runs to do}. The speed of this machine is measured by a matrix product.

    share: {arm: how much of its steps its runs are expected to take}; all where an arm is not named.
    """
    rate = _rate() * EFFICIENCY
    seconds = COMPILE_SECONDS * len({one.arm.group for one in arms if unfinished[one.arm.name]})
    memory, data, disk = 0, 0, 0
    operations: dict[Any, float] = {}
    for one in arms:
        weights = one.parameters
        batch, steps = one.experiment.data.batch_size, one.experiment.steps
        whole_runs = unfinished[one.arm.name] * (share or {}).get(one.arm.name, 1.0)
        like = (one.arm.group, one.macs, weights, batch, one.experiment.task.turns)
        if whole_runs and like not in operations:
            operations[like] = _step_operations(one)
        seconds += whole_runs * steps * (STEP_SECONDS + operations.get(like, 0.0) / rate)
        examples = data_bytes(one.experiment.data)
        # examples whose activations are in memory at once, in whole images
        held = math.ceil(-(-batch // one.experiment.data.accumulate) * one.training_share)
        memory, data = max((memory, data), (examples + inspect.training_bytes(one.layers, weights, held), examples))
        disk += unfinished[one.arm.name] * KEPT * 12 * weights
    compilations = len({arm.arm.group for arm in arms if unfinished[arm.arm.name]})
    return Estimate(sum(unfinished.values()), compilations, seconds, memory, disk, data)


def _step_operations(one: CheckedArm) -> float:
    """Returns the floating-point operations of a training step.

    For one player they follow from the layers: a pass forwards and two backwards, two operations for each
    multiply-accumulate. For several turns, phases or unknown layers they are as XLA counts them.
    """
    macs, batch, task = one.macs, one.experiment.data.batch_size * one.training_share, one.experiment.task
    if macs is not None and len(task.turns) <= 1 and not one.experiment.phases:
        return 6.0 * macs * batch
    counted = step_operations(one.experiment)
    return 6.0 * (one.parameters if macs is None else macs) * batch if counted is None else counted


def data_bytes(data: Dataset) -> int:
    """Returns the bytes of examples in training: arrays on the host and on the device, or some batches of a streamed split."""
    arrays = sum({id(leaf): leaf.nbytes for leaf in jax.tree.leaves(dict(data.resident))}.values())
    example = math.prod(data.inputs.image_shape) * np.dtype(data.inputs.dtype).itemsize
    is_streamed = any(not part for part in data.resident.values())
    return 2 * arrays + (BATCHES * data.batch_size * example if is_streamed else 0)


def _rate() -> float:
    """Measures the operations a second of a matrix product, f32."""
    a = jnp.asarray(np.ones((1024, 1024), np.float32))
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    times = []
    for _ in range(5):
        began = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * 1024**3 / min(times)

"""Runs the checks of an experiment one after another and collects what they find."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.check import findings, probe, trials
from cnnlab.check.derivative import EXAMPLES, largest_error
from cnnlab.check.findings import Finding
from cnnlab.check.trials import Trial
from cnnlab.core import CLASSIFIER, Batch, Dataset, Experiment, TrainState
from cnnlab.engine.in_memory import on_devices
from cnnlab.engine.program import Program
from cnnlab.errors import UsageError
from cnnlab.inspect.memory import training_memory
from cnnlab.knobs import Resolved
from cnnlab.ops.losses import LOSSES
from cnnlab.text import format_bytes, format_duration

LABELS = 512
"""Examples whose labels are compared with their images."""
MOST_LABELS = 2048
"""Most examples that are read to count their classes."""


@dataclasses.dataclass(frozen=True)
class Checked:
    """What a check has found."""

    findings: list[Finding]
    probed: probe.Probed
    """The network after the short training; the untrained one where there was none or where it diverged."""
    curves: dict[str, list[float]]
    """{what was trained: loss of each step}."""
    suggested: float | None
    """Learning rate that the trials suggest; None: none were made."""

    @property
    def has_fault(self) -> bool:
        """Whether something is wrong."""
        return any(finding.state == "wrong" for finding in self.findings)


def check(resolved: Resolved, *, seconds: float, say: Callable[[str], None] = lambda text: None) -> Checked:
    """Checks an experiment on one device, in f32; it takes a minute or so for a small network. Nothing is written.

    Args:
        resolved: the experiment with its knobs.
        seconds: longest time of each short training.
        say: is called with what is done next.
    """
    say("reading the data and compiling")
    steady = trials.steady(resolved)
    experiment: Experiment = steady.call()
    task, data = experiment.task, experiment.data
    if not task.turns:
        raise UsageError("check: this experiment trains nothing, it only remembers. Nothing is to be checked before it.")
    if "image" not in data.example():
        raise UsageError(f"check: it looks at images, and {data.name} has none. Train for a few steps: --steps=20.")
    has_one_loss = len(set(task.turns)) == 1 and any(metric.name == "loss" for metric in task.metrics)
    path = trials.own_rate(resolved) if has_one_loss else None
    programs = trials.programs_at(steady, experiment, path) if path else {}
    own = resolved.values[path] if path else math.nan
    program = programs[own] if path else on_devices(experiment)
    state = program.strategy.to_host(program.init(0))
    _, many = probe.examples_of(data, min(MOST_LABELS, max(LABELS, 20 * data.classes)))
    batch = first_of(many, probe.probe_size(experiment))
    has_classes = "label" in batch and batch["label"].ndim == 1 and data.classes > 0
    measure = probe.probe_of(task)
    start = measure(state.params, state.model_state, batch)
    found = about_data(experiment, batch, state)
    found += [about_classes(data, many)] if has_classes else []
    found += about_start(resolved, experiment, batch, start, state)
    curves: dict[str, list[float]] = {}
    tried = try_rates(programs, own, seconds, say) if path else {}
    suggested, end, held_out = None, start, None
    if path:
        curves |= {f"rate {rate:g}" + " (its own)" * (rate == own): trial.losses for rate, trial in tried.items()}
        mine = tried[own]
        ends = {rate: trial.end for rate, trial in tried.items()}
        finding, suggested = findings.rates(own, ends, mine.losses[0], len(mine.losses))
        found.append(finding)
        if math.isfinite(mine.end):
            after = measure(mine.state.params, mine.state.model_state, batch)
            end = after if math.isfinite(sum(after.losses.values())) else start
        if task.turns == (CLASSIFIER,) and has_classes:
            held_out = trials.held_out_accuracy(programs[own], tried[suggested].state, LABELS)
    found += about_layers(start, end, "at the start" if end is start else f"after {len(tried[own].losses)} steps")
    if has_classes and data.classes > 1:
        found.append(about_labels(first_of(many, LABELS), held_out))
    if task.turns == (CLASSIFIER,):
        say("memorising a few examples")
        finding, curves["a few examples"] = about_memory(resolved, suggested, path, seconds)
        found.append(finding)
    say("comparing the gradient with finite differences")
    error = largest_error(task, state.params, state.model_state, first_of(batch, EXAMPLES))
    found.append(findings.derivative(error, is_exact=task.turns == (CLASSIFIER,)))
    say("memory and time")
    found.append(about_cost(program, tried.get(own)))
    return Checked(found, end, curves, suggested)


def first_of(batch: Batch, count: int) -> Batch:
    """Returns the first examples of a batch."""
    return jax.tree.map(lambda column: column[:count], batch)


def about_data(experiment: Experiment, batch: Batch, state: TrainState) -> list[Finding]:
    """Returns what a batch of inputs and its size show."""
    data = experiment.data
    images = np.asarray(batch["image"], np.float64)
    flat = images.reshape(len(images), -1)  # [B, H, W, C] -> [B, D]
    spread = float(np.sqrt(np.mean(np.var(flat, axis=0))))
    found = [findings.inputs(float(np.mean(flat)), float(np.sqrt(np.mean(flat**2))), spread)]
    has_statistics = isinstance(state.model_state, dict) and "batch_stats" in state.model_state
    normalised = findings.batch_statistics(data.batch_size // data.accumulate, is_used=has_statistics)
    return found + ([normalised] if normalised else [])


def about_classes(data: Dataset, many: Batch) -> Finding:
    """Returns how often each class is there."""
    counts = np.bincount(many["label"], minlength=data.classes)
    return findings.classes(counts.tolist(), data.class_names)


def about_start(
    resolved: Resolved, experiment: Experiment, batch: Batch, start: probe.Probed, state: TrainState
) -> list[Finding]:
    """Returns what the loss and the outputs of the untrained network show."""
    player = experiment.task.turns[0]
    loss = start.summary.get("loss", start.losses[player])
    expected = expected_loss(resolved, batch, experiment.data.classes)
    found = [findings.start(loss, expected, is_imported=experiment.start is not None)]
    if resolved.values.get("loss") in ("cross_entropy", "focal") and experiment.data.classes > 1:
        outputs = probe.outputs_of(experiment.task, state.params, state.model_state, batch)
        twice = findings.probabilities(float(outputs.min()), outputs.sum(axis=1).tolist(), resolved.values["loss"])
        found += [twice] if twice else []
    return found


def expected_loss(resolved: Resolved, batch: Batch, classes: int) -> float | None:
    """Returns the mean loss of outputs that are all 0; None for a loss that is not one of LOSSES, and for other labels."""
    name = resolved.values.get("loss")
    if name not in LOSSES or "label" not in batch or batch["label"].ndim != 1:
        return None
    below = {path.removeprefix("loss."): value for path, value in resolved.values.items() if path.startswith("loss.")}
    loss = functools.partial(LOSSES[name], **below)
    return float(jnp.mean(loss(jnp.zeros((len(batch["label"]), classes)), jnp.asarray(batch["label"]))))


def try_rates(programs: dict[float, Program], own: float, seconds: float, say: Callable[[str], None]) -> dict[float, Trial]:
    """Returns the training of each rate: of as many steps as the experiment's own rate takes in so many seconds."""
    say(f"training at its own learning rate, {own:g}")
    steps = min(trials.STEPS, programs[own].experiment.steps)
    tried = {own: trials.train_for(programs[own], steps, seconds)}
    if math.isfinite(tried[own].end):
        steps = len(tried[own].losses)
    for rate, program in programs.items():
        if rate not in tried:
            say(f"training at {rate:g}")
            tried[rate] = trials.train_for(program, steps, math.inf)
    return dict(sorted(tried.items()))


def about_layers(start: probe.Probed, end: probe.Probed, when: str) -> list[Finding]:
    """Returns what outputs and gradients of the layers show; a gradient of 0 at the start alone may be meant to be so."""
    return [
        findings.features(end.outputs),
        findings.detached(sorted(start.silent & end.silent), end.arrays),
        *findings.units(end.kernels, when),
    ]


def about_labels(batch: Batch, held_out: tuple[float, float, int] | None) -> Finding:
    """Returns whether labels belong to their images."""
    agree, chance = probe.neighbours_agree(batch["image"], batch["label"])
    return findings.labels(agree, chance, len(batch["label"]), held_out)


def about_memory(resolved: Resolved, rate: float | None, path: str | None, seconds: float) -> tuple[Finding, list[float]]:
    """Returns whether the network can memorise a few examples, and the loss of each step."""
    program, count = trials.memorising(resolved, rate, path)

    def is_enough(numbers: dict[str, float]) -> bool:
        return numbers.get("accuracy", 1.0) == 1.0 and numbers["loss"] < 0.1 * findings.MEMORISED

    trial = trials.train_for(program, trials.MEMORY_STEPS, seconds, is_enough)
    losses = trial.losses
    return findings.memory(losses[0], losses[-1], trial.accuracy, count, len(losses)), losses


def about_cost(program: Program, trial: Trial | None) -> Finding:
    """Returns the memory of a step and the time of the training steps of the whole run, on one device of this machine."""
    found, steps = training_memory(program), program.experiment.steps
    text = f"a step needs {format_bytes(found.total)} on one {found.platform} device"
    if trial and math.isfinite(trial.seconds):
        text += f"; {steps:,} steps of {trial.seconds:.3g} s each take about {format_duration(steps * trial.seconds)}"
    return Finding("cost", "fine", text)

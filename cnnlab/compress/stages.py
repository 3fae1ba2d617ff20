"""The stages by which a trained run becomes a small file: pruned in rounds, then with few values; each is a run of its own.

Han, Mao and Dally 2016, Deep compression, arXiv 1510.00149, figure 1. What follows, Huffman codes, loses nothing and trains
nothing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from cnnlab.errors import UsageError
from cnnlab.knobs import Resolved, merged
from cnnlab.runs.experiments import ExperimentFile

NEEDED = ("pruning", "init_from", "duration")
"""Knobs without which the stages of an experiment cannot be told apart."""
USUAL = {"pruning": "magnitude", "pruning.sharing": "kmeans", "pruning.dense": "0", "pruning.settle": "0.5"}
"""Knobs of compression where the command line gives no others; the last round of pruning has half of the steps of all."""
SHARING = "pruning.sharing"
SHARED_RATE = 0.05
"""Part of the run's learning rate with which shared values are trained, as a cosine has left of it in its last sixth: the
gradient of a value sums those of its weights."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One of the runs."""

    name: str
    does: str
    """What it does, in a clause."""
    resolved: Resolved
    steps: int


def require_trained(experiment: ExperimentFile, resolved: Resolved) -> None:
    """Raises UsageError for the run of an experiment that prunes nothing."""
    if missing := [name for name in NEEDED if name not in resolved.knobs]:
        raise UsageError(
            f"compress: {experiment.title} has no knob --{missing[0]}, so that nothing can be taken from its network.\n"
            "Give the --workdir of a run of classification."
        )


def compression(experiment: ExperimentFile, recorded: Mapping[str, Any], given: Mapping[str, Any], start: str) -> Resolved:
    """Returns the experiment of a run with the knobs of its compression, both stages in one, from the weights of the run.

    Args:
        experiment: the experiment of the run.
        recorded: knobs of the run.
        given: knobs on the command line.
        start: folder of the run.
    """
    require_trained(experiment, experiment.resolve(recorded))
    # What only a start from other weights, or an end before the last step, has a use for.
    fresh = {"init_from": start, "new_head": "false", "data_init": "none", "early_stopping": "none"}
    known = experiment.resolve(recorded).knobs
    fresh = {name: value for name, value in fresh.items() if name in known}
    found = experiment.resolve(merged(merged(recorded, {**USUAL, **fresh}), given))
    if f"{SHARING}.bits" not in found.knobs:
        raise UsageError(
            "compress prunes and shares values. For one of these alone, train with its knobs and --init_from=RUN, then export."
        )
    return found


def pruned(experiment: ExperimentFile, whole: Resolved, steps: int) -> Stage:
    """Returns the stage that prunes, in rounds.

    Args:
        experiment: the experiment of the run.
        whole: what `compression` returned.
        steps: of both stages.
    """
    values = {name: value for name, value in whole.values.items() if not name.startswith(SHARING)}
    own = steps - shared_steps(whole, steps)
    resolved = experiment.resolve({**values, SHARING: "none", "duration": f"{own} steps"})
    rounds, density = values["pruning.rounds"], values["pruning.density"]
    return Stage("pruned", f"{rounds} round{'s' * (rounds > 1)} to a density of {density:g}", resolved, own)


def shared(experiment: ExperimentFile, whole: Resolved, steps: int, start: str) -> Stage:
    """Returns the stage in which weights share values: it takes away what is away already, and trains the values.

    Args:
        experiment: the experiment of the run.
        whole: what `compression` returned.
        steps: of both stages.
        start: folder of the stage that prunes.
    """
    own = shared_steps(whole, steps)
    values = {**whole.values, "pruning.rounds": 1, "pruning.settle": 0.0, f"{SHARING}.part": 1.0}
    values |= {"init_from": start, "duration": f"{own} steps"}
    if isinstance(rate := values.get("optimizer.lr"), float):
        values["optimizer.lr"] = SHARED_RATE * rate
    return Stage("shared", f"{values[f'{SHARING}.bits']} bits a weight", experiment.resolve(values), own)


def shared_steps(whole: Resolved, steps: int) -> int:
    """Returns how many of the steps of both stages are those in which weights share values, at least one."""
    return min(max(1, round(whole.values[f"{SHARING}.part"] * steps)), steps - 1)

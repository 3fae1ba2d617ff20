"""Training without a run folder, for measurements: nothing is written, and the states at chosen steps are returned."""

import dataclasses
from collections.abc import Callable, Sequence

import jax

from cnnlab.core import Experiment, Stats, TrainState
from cnnlab.engine.batched import batch_programs, select_member, stack_members
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import Program, build_program
from cnnlab.engine.train import Intervals, fit, merge


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training in memory leaves."""

    states: dict[int, TrainState]
    """{step: host tree of the state after that many steps}."""
    logged: dict[int, dict[str, float]]
    """{step: the task's summary of the training statistics since the last entry}."""


def on_devices(experiment: Experiment, *, devices: int = 1, strategy: str = "jit") -> Program:
    """Returns an experiment compiled for the first devices, in f32; keep it, since every program compiles anew.

    Args:
        experiment: the experiment.
        devices: number of devices that share a batch.
        strategy: name of a strategy of STRATEGIES.
    """
    return build_program(experiment, STRATEGIES[strategy](pick_devices(devices)), precision="f32")


def train_in_memory(
    program: Program,
    seed: int,
    *,
    at: Sequence[int] = (),
    log_every: int | None = None,
    steps: int | None = None,
    should_stop: Callable[[dict[int, dict[str, float]]], bool] = lambda logged: False,
) -> Trained:
    """Trains from the start by the one loop, `fit`; nothing is written.

    Args:
        program: compiled experiment.
        seed: seed of initial weights, data order, augmentation and dropout.
        at: steps at which the state is returned, beside the last; 0: before the first step.
        log_every: steps between two entries of `logged`; None: the last step alone.
        steps: last step; None: that of the experiment.
        should_stop: is asked before each step, with what was logged so far, whether to end here.
    """
    (found,) = _trained(
        program, program.init(seed), seed, at, log_every, steps, should_stop=lambda logged: should_stop(logged[0])
    )
    return found


def train_together(
    members: Sequence[Program],
    seeds: Sequence[int],
    *,
    at: Sequence[int] = (),
    log_every: int | None = None,
    steps_per_dispatch: int = 1,
) -> list[Trained]:
    """Trains members of one family side by side in one program, as batched runs are; returns what each gives.

    Args:
        members: programs of one family (engine/family.py) with values of their own.
        seeds: the seed of each.
        at: steps at which the states are returned, beside the last.
        log_every: steps between two entries of `logged`; None: the last step alone.
        steps_per_dispatch: most steps sent to the device at once; more are quicker for networks without convolutions.
    """
    state = stack_members([member.init(seed) for member, seed in zip(members, seeds, strict=True)])
    return _trained(batch_programs(members), state, tuple(seeds), at, log_every, steps_per_dispatch=steps_per_dispatch)


def _trained(
    program: Program,
    state: TrainState,
    seed: int | tuple[int, ...],
    at: Sequence[int],
    log_every: int | None,
    steps: int | None = None,
    *,
    steps_per_dispatch: int = 1,
    should_stop: Callable[[list[dict[int, dict[str, float]]]], bool] = lambda logged: False,
) -> list[Trained]:
    """Trains a program, or members side by side; returns what each gives. `should_stop` gets what was logged of each."""
    task, last, count = program.experiment.task, program.experiment.steps, max(1, len(program.members))
    own = select_member if program.members else lambda tree, number: tree
    never = last + 1
    intervals = Intervals(log=log_every or never, evaluate=never, save=never, steps_per_dispatch=steps_per_dispatch)
    found = [Trained({}, {}) for _ in range(count)]
    pending: list[Stats] = []

    def on_log(step: int, parts: list[Stats]) -> None:
        for number, one in enumerate(found):
            one.logged[step] = task.summary(merge(own(parts, number)))

    step = 0
    for stop in sorted({*at, min(last, steps or last)}):
        state, step = fit(
            program,
            state,
            seed=seed,
            step=step,
            stop=stop,
            intervals=intervals,
            pending_stats=pending,
            on_log=on_log,
            on_evaluate=lambda step, state: None,
            on_save=lambda step, state, pending: None,
            should_stop=lambda: should_stop([one.logged for one in found]),
        )
        # The next dispatch donates the state.
        jax.block_until_ready(state.params)
        host = program.strategy.to_host(state)
        for number, one in enumerate(found):
            one.states[step] = own(host, number)
        if step < stop:
            break
    return found

"""Times of compiled programs: whole training through the one `fit`, and single functions."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from cnnlab import knobs
from cnnlab.core import Experiment, Stats
from cnnlab.engine import train
from cnnlab.engine.parallel import STRATEGIES
from cnnlab.engine.program import Program, build_program

NEVER = 10**9
FOR_EVER = "1000000 steps"


def seconds_of(call: Callable[[], Any], *, repeats: int = 5) -> float:
    """Returns the median seconds of `call`, whose arrays are waited for; the first call, which compiles, is not counted."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def experiment_of(recipe: Callable[..., Experiment], values: Mapping[str, Any]) -> Experiment:
    """Calls a recipe with knobs as on the command line; training never comes to its end by itself."""
    return knobs.resolve(recipe, {"duration": FOR_EVER, **values}).call()


def program_of(experiment: Experiment, *, precision: str = "f32", strategy: str = "jit") -> Program:
    """Compiles an experiment for the first device."""
    return build_program(experiment, STRATEGIES[strategy](jax.devices()[:1]), precision=precision)


def fit(
    program: Program,
    state: Any,
    start: int,
    stop: int,
    *,
    log: int,
    steps_per_dispatch: int = 1,
    seed: int | tuple[int, ...] = 0,
    on_log: Callable[[int, list[Stats]], None] = lambda step, stats: None,
) -> Any:
    """Trains from one step to another without evaluations and checkpoints; returns the state, which is waited for."""
    state, _ = train.fit(
        program,
        state,
        seed=seed,
        step=start,
        stop=stop,
        intervals=train.Intervals(log=log, evaluate=NEVER, save=NEVER, steps_per_dispatch=steps_per_dispatch),
        pending_stats=[],
        on_log=on_log,
        on_evaluate=lambda step, state: None,
        on_save=lambda step, state, stats: None,
        should_stop=lambda: False,
    )
    return jax.block_until_ready(state)


def seconds_a_step(
    program: Program, *, steps: int, steps_per_dispatch: int, seed: int | tuple[int, ...] = 0, state: Any = None
) -> float:
    """Returns seconds per step of `fit`, feeds included, after two dispatches that compile; logs come once, at the end."""
    warm = 2 * steps_per_dispatch
    size = {"steps_per_dispatch": steps_per_dispatch, "seed": seed}
    state = fit(program, program.init(0) if state is None else state, 0, warm, log=warm, **size)
    began = time.perf_counter()
    fit(program, state, warm, warm + steps, log=warm + steps, **size)
    return (time.perf_counter() - began) / steps

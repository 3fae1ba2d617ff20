"""The worker of --remat: a compiled step of a network in each of its modes."""

from collections.abc import Callable

import jax

from benchmarks.measure import Work
from cnnlab import knobs
from cnnlab.engine import remat
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import Program, build_program, stack_steps
from cnnlab.inspect.memory import training_memory
from cnnlab.recipes.classification import classification


def run_of(program: Program) -> Callable[[int], None]:
    """Returns a run of a program on one batch."""
    state, shared = program.init(0), program.step_inputs("train")
    feeds = program.strategy.shard_batch(stack_steps([next(program.experiment.data.train(0, 0))]))

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, _ = program.phase_steps[0](state, shared, feeds)
        jax.block_until_ready(state)

    return run


def work(model: str, size: int, batch: int) -> Work:
    """Returns a run of each mode, and says the MB of temporaries of each compiled step, as XLA counts them."""
    values = {"model": model, "batch_size": batch, "optimizer": "momentum", "duration": "1 steps"}
    data = {"dataset": "stripes", "dataset.examples": 2 * batch, "dataset.size": size}
    experiment = knobs.resolve(classification, {**values, **data}).call()
    strategy = STRATEGIES["jit"](pick_devices(1))
    programs = {mode: build_program(experiment, strategy, precision="f32", remat=mode) for mode in remat.MODES}
    temporaries = {mode: training_memory(program).compiled["temp"] / 1e6 for mode, program in programs.items()}
    return Work({mode: run_of(program) for mode, program in programs.items()}, {"temporaries": temporaries})

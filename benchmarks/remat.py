"""What --remat saves: the memory of a compiled training step, and the time that the step takes, for each of its modes.

    python -m benchmarks.remat [--model=cifar_resnet20] [--size=32] [--batch=64] [--rounds=5]

The memory is that of the temporaries of the compiled step, as XLA says (inspect/memory.py). A CPU keeps in one memory what
`offload` moves to that of the host, and XLA does not tell them apart there. Seconds are medians of the rounds, each of which is
one step; one step before them warms up.
"""

import argparse
import statistics
import time

import jax

from cnnlab import knobs
from cnnlab.engine import remat
from cnnlab.engine.parallel import STRATEGIES, pick_devices, use_compilation_cache
from cnnlab.engine.program import Program, build_program, stack_steps
from cnnlab.inspect.memory import training_memory
from cnnlab.recipes.classification import classification


def step_seconds(program: Program, rounds: int) -> float:
    """Returns the median of the seconds of a step."""
    data, state = program.experiment.data, program.init(0)
    shared = program.step_inputs("train")
    feeds = program.strategy.shard_batch(stack_steps([next(data.train(0, 0))]))
    seconds = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        state, _ = jax.block_until_ready(program.phase_steps[0](state, shared, feeds))
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])


def main() -> None:
    """Prints a line for each mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar_resnet20")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    use_compilation_cache()
    values = {"model": given.model, "batch_size": given.batch, "optimizer": "momentum", "duration": "1 steps"}
    data = {"dataset": "stripes", "dataset.examples": 2 * given.batch, "dataset.size": given.size}
    experiment = knobs.resolve(classification, {**values, **data}).call()
    print(f"{given.model}, {given.batch} images of {given.size} x {given.size}, {jax.devices()[0].platform}, a step in f32:")
    for mode in remat.MODES:
        program = build_program(experiment, STRATEGIES["jit"](pick_devices(1)), precision="f32", remat=mode)
        found = training_memory(program).compiled
        seconds = step_seconds(program, given.rounds)
        print(f"  {mode.ljust(13)} temporaries {found['temp'] / 1e6:8.1f} MB   {seconds:7.3f} s a step", flush=True)


if __name__ == "__main__":
    main()

"""Compares the cost of runs that differ in their learning rate: one study with one compilation against as many commands.

    python benchmarks/batched_runs.py [--runs=16] [--steps=100] [--experiment=lenet5_digits] [--rounds=9]

First the time of a step of one process is measured, in turns: a program whose learning rate is an argument, one in which it is
a constant, and one batched program for all runs (as with `ablate --batch_runs=always`), whose time is divided by their number.
The printed times are medians over the rounds. Then the wall time that a user waits is measured, with start-up, compilation,
checkpoints and figures, for one study and for single commands, each with an empty compilation cache of its own; --nowall
leaves this part out.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("runs", 16, "number of runs, each with a learning rate of its own")
flags.DEFINE_integer("steps", 100, "training steps of each run")
flags.DEFINE_string("experiment", "lenet5_digits", "experiment to train")
flags.DEFINE_integer("rounds", 9, "rounds in which the time of a step is measured")
flags.DEFINE_boolean("wall", True, "also measure the wall time of whole commands")

ROOT = pathlib.Path(__file__).resolve().parents[1]


def launch(words: list[str], folder: pathlib.Path) -> float:
    """Returns the seconds that a command of launch.py takes; its compilation cache lies in `folder`."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    began = time.monotonic()
    subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *words, f"--experiment={FLAGS.experiment}", f"--steps={FLAGS.steps}"],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
    )
    return time.monotonic() - began


def wall(rates: list[float]) -> tuple[float, float]:
    """Returns (seconds of one study, seconds of as many single commands)."""
    with tempfile.TemporaryDirectory() as study, tempfile.TemporaryDirectory() as single:
        batched = launch(["ablate", f"--vary=lr:{','.join(map(str, rates))}", "--seeds=1"], pathlib.Path(study))
        alone = sum(launch(["train", f"--lr={rate}"], pathlib.Path(single)) for rate in rates)
    return batched, alone


def steps(rates: list[float]) -> dict[str, float]:
    """Returns the milliseconds of a step and run: rate as an argument, rate as a constant, all runs in one batched program."""
    sys.path.insert(0, str(ROOT))
    import importlib

    import jax

    from cnnlab import knobs
    from cnnlab.engine.program import batch_programs, stack_members
    from cnnlab.runs import run
    from cnnlab.runs.folder import RunSpec

    module = importlib.import_module(f"experiments.{FLAGS.experiment}")
    resolved = knobs.resolve(module.experiment, {"lr": str(rates[0])})
    path = next(path for path in resolved.knobs if path.endswith(".lr"))
    spec = RunSpec(FLAGS.experiment, resolved.values, "f32", source="")
    programs = {}
    for name, numbers in (("argument", {path: rates[0]}), ("constant", {}), ("batched", {path: rates[0]})):
        program, seed = run.build(resolved, spec, numbers=numbers), 0
        state = program.init(0)
        if name == "batched":
            members = [program.member(program.experiment, {path: rate}) for rate in rates]
            program, seed = batch_programs(members), (0,) * len(rates)
            state = stack_members([state] * len(rates))
        feed = next(program.experiment.data.train(seed, 0))
        placed = program.strategy.shard_batch({key: leaf[None] for key, leaf in feed.items()})
        programs[name] = [program, state, program.step_inputs("train"), placed]
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(FLAGS.rounds):
        for name, parts in programs.items():
            program, state, shared, placed = parts
            began = time.perf_counter()
            for _ in range(20):
                state, stats = program.phase_steps[0](state, shared, placed)
            jax.block_until_ready(stats)
            times[name].append(1e3 * (time.perf_counter() - began) / 20 / (len(rates) if name == "batched" else 1))
            parts[1] = state
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def main(argv: list[str]) -> None:
    del argv
    rates = [round(0.002 * 1.25**i, 6) for i in range(FLAGS.runs)]
    each = steps(rates)
    argument, batched = each["argument"], each["batched"]
    print(f"a step of one run: {argument:.2f} ms with the rate as an argument, {each['constant']:.2f} ms as a constant")
    print(f"all {len(rates)} in one batched program: {batched:.2f} ms for each: {argument / batched:.2f}x")
    if not FLAGS.wall:
        return
    study, alone = wall(rates)
    cost = f"{study:.0f} s as a study, {alone:.0f} s one by one: {alone / study:.1f}x"
    print(f"{FLAGS.runs} runs of {FLAGS.steps} steps: {cost}")


if __name__ == "__main__":
    app.run(main)

"""What sixteen runs that differ in their learning rate cost: one study from one compilation against sixteen commands.

    python benchmarks/members.py [--members=16] [--steps=100] [--experiment=lenet5_digits] [--rounds=9]

First the wall time that a user pays, start-up, compilation, checkpoints and figures included, each way with an empty
compilation cache of its own. Then the time of a step of one process, in turns: a program whose learning rate is an argument,
one in which it is a constant, and one batched program for all members (what --members=together runs), of which the time is
divided by their number; medians over the rounds. --nowall leaves the first part out.
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
flags.DEFINE_integer("members", 16, "runs")
flags.DEFINE_integer("steps", 100, "steps of each")
flags.DEFINE_string("experiment", "lenet5_digits", "what to train")
flags.DEFINE_integer("rounds", 9, "rounds of the comparison of steps")
flags.DEFINE_boolean("wall", True, "whether to time whole commands too")

ROOT = pathlib.Path(__file__).resolve().parents[1]


def launch(words: list[str], folder: pathlib.Path) -> float:
    """Seconds of a command of launch.py whose cache lies in a folder."""
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
    """(seconds of one study, of as many commands)."""
    with tempfile.TemporaryDirectory() as study, tempfile.TemporaryDirectory() as single:
        together = launch(["ablate", f"--vary=lr:{','.join(map(str, rates))}", "--seeds=1"], pathlib.Path(study))
        alone = sum(launch(["train", f"--lr={rate}"], pathlib.Path(single)) for rate in rates)
    return together, alone


def steps(rates: list[float]) -> dict[str, float]:
    """Milliseconds of a step and member: with the learning rate as an argument, as a constant, of all members together."""
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
    plan = RunSpec(FLAGS.experiment, resolved.values, "f32", source="")
    going = {}
    for name, numbers in (("argument", {path: rates[0]}), ("constant", {}), ("together", {path: rates[0]})):
        program, seed = run.build(resolved, plan, numbers=numbers), 0
        state = program.init(0)
        if name == "together":
            members = [program.member(program.experiment, {path: rate}) for rate in rates]
            program, seed = batch_programs(members), (0,) * len(rates)
            state = stack_members([state] * len(rates))
        feed = next(program.experiment.data.train(seed, 0))
        placed = program.strategy.shard_batch({key: leaf[None] for key, leaf in feed.items()})
        going[name] = [program, state, program.step_inputs("train"), placed]
    times: dict[str, list[float]] = {name: [] for name in going}
    for _ in range(FLAGS.rounds):
        for name, parts in going.items():
            program, state, shared, placed = parts
            began = time.perf_counter()
            for _ in range(20):
                state, stats = program.phase_steps[0](state, shared, placed)
            jax.block_until_ready(stats)
            times[name].append(1e3 * (time.perf_counter() - began) / 20 / (len(rates) if name == "together" else 1))
            parts[1] = state
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def main(argv: list[str]) -> None:
    del argv
    rates = [round(0.002 * 1.25**i, 6) for i in range(FLAGS.members)]
    each = steps(rates)
    argument, together = each["argument"], each["together"]
    print(f"a step of one member: {argument:.2f} ms with the rate as an argument, {each['constant']:.2f} ms as a constant")
    print(f"all {len(rates)} in one batched program: {together:.2f} ms for each: {argument / together:.2f}x")
    if not FLAGS.wall:
        return
    study, alone = wall(rates)
    cost = f"{study:.0f} s as a study, {alone:.0f} s one by one: {alone / study:.1f}x"
    print(f"{FLAGS.members} runs of {FLAGS.steps} steps: {cost}")


if __name__ == "__main__":
    app.run(main)

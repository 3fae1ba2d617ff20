"""Steps per second of `fit` against the bare jitted step, in one process, in turn.

    python benchmarks/overhead.py [--experiment=lenet5_mnist] [--data_dir=DIR] [--rounds=9] [--steps=100]

`fit` draws the feeds, sends them to the device, keeps the statistics, logs them to a file and to TensorBoard; the bare step is
called over and over on feeds that are on the device already. The ratio of a round compares neighbours in time, so a machine
whose speed drifts does not bend it; the median of the rounds is what counts.
"""

import importlib
import pathlib
import statistics
import sys
import tempfile
import time

import jax
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cnnlab import knobs
from cnnlab.engine import train
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.runs import writers

FLAGS = flags.FLAGS
flags.DEFINE_string("experiment", "lenet5_mnist", "name of a file in experiments/")
flags.DEFINE_string("dataset", None, "another data set, such as digits where MNIST is not at hand")
flags.DEFINE_string("data_dir", None, "where TFDS data sets are")
flags.DEFINE_integer("rounds", 9, "rounds, each of one measurement of either kind")
flags.DEFINE_integer("steps", 100, "steps in one measurement")


def main(argv: list[str]) -> None:
    experiment = importlib.import_module(f"experiments.{FLAGS.experiment}").experiment
    given = {"dataset": FLAGS.dataset} if FLAGS.dataset else {}
    resolved = knobs.resolve(experiment, {**given, "duration": "1000000 steps"}, {"data_dir": FLAGS.data_dir})
    program = build_program(resolved.call(), STRATEGIES["jit"](pick_devices(1)), precision="f32")
    shared = program.step_inputs("train")
    feeds = program.experiment.data.train(0, 0)
    placed = [
        program.strategy.shard_batch({name: leaf[None] for name, leaf in next(feeds).items()}) for _ in range(FLAGS.steps)
    ]
    state = program.init(0)

    def bare(state):
        for feed in placed:
            state, _ = program.phase_steps[0](state, shared, feed)
        return jax.block_until_ready(state)

    with tempfile.TemporaryDirectory() as folder:
        lines = writers.metrics_file(pathlib.Path(folder) / "metrics.jsonl", resume_at=0)
        events, _, close = writers.tensorboard(pathlib.Path(folder) / "tensorboard", resume_at=0)

        def on_log(step, parts):
            numbers = program.experiment.task.summary(train.merge(parts))
            lines(step, numbers)
            events(step, numbers)

        def fitted(state):
            intervals = train.Intervals(log=50, evaluate=10**9, save=10**9)
            quiet = {"on_evaluate": lambda *_: None, "on_save": lambda *_: None, "should_stop": lambda: False}
            start = int(state.step)
            state, _ = train.fit(
                program,
                state,
                seed=0,
                step=start,
                stop=start + FLAGS.steps,
                intervals=intervals,
                pending_stats=[],
                on_log=on_log,
                **quiet,
            )
            return jax.block_until_ready(state)

        seconds = {"bare": [], "fit": []}
        state = fitted(bare(state))  # warm-up: compiles
        for _ in range(FLAGS.rounds):
            for name, loop in (("bare", bare), ("fit", fitted)):
                began = time.perf_counter()
                state = loop(state)
                seconds[name].append(time.perf_counter() - began)
        close()
    ratios = [fit / bare for fit, bare in zip(seconds["fit"], seconds["bare"], strict=True)]
    device = jax.devices()[0]
    print(f"{FLAGS.experiment} on {device.device_kind}, {FLAGS.rounds} rounds of {FLAGS.steps} steps each\n")
    print(f"{'':10}{'steps/s (median)':>18}{'min':>9}{'max':>9}")
    for name, values in seconds.items():
        speeds = sorted(FLAGS.steps / value for value in values)
        print(f"{name:10}{statistics.median(speeds):18.1f}{speeds[0]:9.1f}{speeds[-1]:9.1f}")
    spread = f"median of rounds; {min(ratios):.3f} to {max(ratios):.3f}"
    print(f"\nfit takes {statistics.median(ratios):.3f} x the time of the bare step ({spread})")


if __name__ == "__main__":
    app.run(main)

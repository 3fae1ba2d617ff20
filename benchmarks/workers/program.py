"""The worker of a whole experiment: its compiled step, the step with its feeds, and `fit`."""

import importlib
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import jax

from benchmarks.measure import Work
from benchmarks.workers.steps import count_compilations
from cnnlab import knobs
from cnnlab.cli.common import setup_jax
from cnnlab.engine import train
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import Program, build_program
from cnnlab.runs import writers

NEVER = 10**9
LOG_EVERY = 50
PLACED = 16
"""Feeds that lie on the devices for the bare step."""


class Training:
    """An experiment in training."""

    def __init__(self, program: Program) -> None:
        self.program, self.shared, self.state = program, program.step_inputs("train"), program.init(0)
        self.feeds = program.experiment.data.train(0, 0)
        self.placed = [self._placed() for _ in range(PLACED)]
        self.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self.folder.name)
        self.lines = writers.metrics_file(folder / "metrics.jsonl", resume_at=0)
        self.events, _, self.close = writers.tensorboard(folder / "tensorboard", resume_at=0)

    def _placed(self) -> Any:
        return self.program.strategy.shard_batch({name: leaf[None] for name, leaf in next(self.feeds).items()})

    def bare(self, steps: int) -> None:
        """Takes steps on feeds that lie on the devices already."""
        for number in range(steps):
            self.state, _ = self.program.phase_steps[0](self.state, self.shared, self.placed[number % PLACED])
        jax.block_until_ready(self.state)

    def fed(self, steps: int) -> None:
        """Takes steps, each on a new feed."""
        for _ in range(steps):
            self.state, _ = self.program.phase_steps[0](self.state, self.shared, self._placed())
        jax.block_until_ready(self.state)

    def fit(self, steps: int) -> None:
        """Takes steps by the one loop, which logs."""
        first = int(self.state.step)
        self.state, _ = train.fit(
            self.program,
            self.state,
            seed=0,
            step=first,
            stop=first + steps,
            intervals=train.Intervals(log=LOG_EVERY, evaluate=NEVER, save=NEVER),
            pending_stats=[],
            on_log=self._on_log,
            on_evaluate=lambda *_: None,
            on_save=lambda *_: None,
            should_stop=lambda: False,
        )
        jax.block_until_ready(self.state)

    def _on_log(self, step: int, parts: list[Any]) -> None:
        numbers = self.program.experiment.task.summary(train.merge(parts))
        self.lines(step, numbers)
        self.events(step, numbers)


def work(experiment: str, given: Mapping[str, Any], devices: int = 1) -> Work:
    """Returns the runs `bare`, `fed` and `fit` of an experiment, on CPU devices as --fake_devices gives them."""
    setup_jax(devices if devices > 1 else None)
    compilations = count_compilations()
    recipe = importlib.import_module(f"experiments.{experiment}").experiment
    resolved = knobs.resolve(recipe, {"duration": "1000000 steps", **given})
    training = Training(build_program(resolved.call(), STRATEGIES["jit"](pick_devices(devices)), precision="f32"))
    runs = {"bare": training.bare, "fed": training.fed, "fit": training.fit}
    return Work(runs, tell=lambda: {"compilations": compilations()})

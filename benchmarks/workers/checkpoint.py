"""The worker of checkpoints: a save and a restore of ResNet-50 with momentum, part by part."""

import itertools
import pathlib
import time

import jax

from benchmarks.measure import Work
from cnnlab import knobs
from cnnlab.engine.checkpoint import Checkpoints, tree_digest
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import Program, build_program
from cnnlab.ops.trees import named_leaves
from cnnlab.recipes.classification import classification
from cnnlab.runs import finite


def resnet50(width: float) -> Program:
    """Returns ResNet-50 for 1,000 classes with momentum; the images do not matter, since no step is taken."""
    given = {"model": "resnet50_v1_5", "model.width": width, "optimizer": "momentum", "batch_size": 8, "duration": "1 steps"}
    data = {"dataset": "stripes", "dataset.examples": 2000, "dataset.classes": 1000, "dataset.size": 32}
    experiment = knobs.resolve(classification, {**given, **data}).call()
    return build_program(experiment, STRATEGIES["jit"](pick_devices(1)), precision="f32")


def work(width: float, folder: str) -> Work:
    """Returns the run `round`, a save and a restore of one state, which tells the seconds of its parts."""
    program = resnet50(width)
    state = jax.block_until_ready(program.init(0))
    checkpoints = Checkpoints(pathlib.Path(folder), ranked_by=program.experiment.task.primary_metric)
    digest, numbers = tree_digest(program.strategy.to_host(state)), itertools.count()
    told: dict[str, float] = {}

    def run(steps: int) -> None:
        for _ in range(steps):
            step, times = next(numbers), [time.perf_counter()]
            host = program.strategy.to_host(state)
            times.append(time.perf_counter())
            assert not finite.bad_leaves(host)
            times.append(time.perf_counter())
            checkpoints.save(step, host, {}, None)
            times.append(time.perf_counter())
            checkpoints.close()
            times.append(time.perf_counter())
            restored = checkpoints.restore(program.shapes)
            times.append(time.perf_counter())
            assert restored is not None and restored[2] == step
            jax.block_until_ready(program.strategy.to_devices(restored[0]))
            times.append(time.perf_counter())
            assert tree_digest(restored[0]) == digest
            fetched, checked, taken, written, read, placed = (after - before for before, after in itertools.pairwise(times))
            told.update(
                {
                    "save: stall": fetched + checked + taken,
                    "– fetch the state": fetched,
                    "– check that it is finite": checked,
                    "– hand it to orbax": taken,
                    "save: in the background": written,
                    "restore": read + placed,
                    "– verify and read": read,
                    "– place": placed,
                }
            )

    size = sum(leaf.size * leaf.dtype.itemsize for leaf in named_leaves(program.shapes).values())
    return Work({"round": run}, {"mb": size / 1e6}, lambda: told)

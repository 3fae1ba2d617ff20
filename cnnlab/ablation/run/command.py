"""Makes the command line of a worker, and decides how many runs it batches. Imports no jax before that decision."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Literal

from cnnlab import home
from cnnlab.ablation.plan.study import Study
from cnnlab.values import Count


@dataclasses.dataclass(frozen=True)
class Batching:
    """How the runs that share a compilation are trained.

    Attributes:
        batch_runs: whether runs that share a compilation take their steps in one batched program; auto: on an accelerator
            only, because on a CPU one after another is faster.
        max_batched_runs: most runs in one batched program; their memory adds up.
    """

    batch_runs: Literal["auto", "always", "never"] = "auto"
    max_batched_runs: Count = 32

    def at_once(self, strategy: str) -> int:
        """Returns how many runs of one compilation take their steps in one batched program.

        On a CPU a batched convolution is slower than as many plain ones (benchmarks/accelerator/batched.py); an accelerator
        that one small network leaves idle trains them at once.
        """
        import jax

        batched = self.batch_runs == "always" or (self.batch_runs == "auto" and jax.default_backend() != "cpu")
        batched = batched and jax.process_count() == 1
        return self.max_batched_runs if batched and strategy == "jit" else 1


def worker_command(
    numbers: Sequence[int], *, study: Study, folder: pathlib.Path, batching: Batching, jobs: int = 1
) -> list[str]:
    """Returns the command line that trains some runs of a study.

    Args:
        numbers: numbers of the runs, in the order of `study_runs`.
        study: the study.
        folder: folder of the study.
        batching: how runs that share a compilation are trained.
        jobs: workers at once; where they have to share a group of runs, none batches more than its part of them.
    """
    everything = [arm for _ in study.seeds for arm in study.arms]  # as study_runs numbers them
    if len({everything[number].group for number in numbers}) < jobs:
        part = max(-(-len(numbers) // jobs), 1)
        batching = dataclasses.replace(batching, max_batched_runs=min(batching.max_batched_runs, part))
    words = [
        "work",
        f"--workdir={folder}",
        f"--runs={','.join(map(str, numbers))}",
        *(f"--{field.name}={getattr(batching, field.name)}" for field in dataclasses.fields(batching)),
        *study.flags,
    ]
    return home.process(words)

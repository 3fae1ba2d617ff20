"""A study, opened from its folder: its arms, its runs and its report."""

import functools
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnnlab.errors import UsageError
from cnnlab.files import absolute
from cnnlab.python.frames import frame
from cnnlab.python.run import Run

if TYPE_CHECKING:
    from cnnlab.ablation.plan.study import Study as Plan


class Study:
    """A study in its folder. Its runs are read when they are asked for, so the numbers are those of now."""

    def __init__(
        self, folder: str | pathlib.Path, *, best: bool = False, allow: Sequence[str] = (), devices: int | None = 1
    ) -> None:
        """Opens the folder of a study; raises UsageError where it is none.

        Args:
            folder: folder of the study.
            best: use the checkpoints with the best validation metric, not the newest ones.
            allow: what may have changed since a run was trained, of code, data, weights.
            devices: number of devices on which networks compute; None: all.
        """
        from cnnlab.ablation.run.runs import load_study

        self.folder = absolute(folder)
        self.plan: Plan = load_study(self.folder)
        self._options: dict[str, Any] = {"best": best, "allow": tuple(allow), "devices": devices}

    def __repr__(self) -> str:
        """Returns the name, the number of arms and seeds, and the folder."""
        return f"Study({self.plan.name}, {len(self.plan.arms)} arms x {len(self.plan.seeds)} seeds, {self.folder})"

    @property
    def arms(self) -> dict[str, dict[str, str]]:
        """{name of an arm: its knobs}, as they differ from the common ones; the baseline first."""
        return {arm.name: dict(arm.knobs) for arm in self.plan.arms}

    @functools.cached_property
    def runs(self) -> dict[tuple[str, int], Run]:
        """{(arm, seed): its run} of every run that was begun."""
        from cnnlab.ablation.run.runs import study_runs
        from cnnlab.runs import run_files

        begun = [one for one in study_runs(self.plan, self.folder) if (one.folder / run_files.RUN).exists()]
        return {(one.arm.name, one.seed): Run(one.folder, **self._options) for one in begun}

    def run(self, arm: str, seed: int | None = None) -> Run:
        """Returns the run of an arm, for the first seed unless another is given; UsageError where there is none."""
        seed = self.plan.seeds[0] if seed is None else seed
        if (arm, seed) not in self.runs:
            known = "; ".join(f"{name}, seed {number}" for name, number in self.runs)
            raise UsageError(f"no run of the arm {arm!r} with seed {seed} was begun.\nThere are: {known or 'none'}.")
        return self.runs[arm, seed]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """A row for each run, planned ones too: arm, seed, the knobs that vary, state, seconds, and its metrics."""
        from cnnlab.ablation.run.runs import read_results

        arms = {arm.name: arm for arm in self.plan.arms}
        rows = []
        for one in read_results(self.plan, self.folder):
            levels = {knob: self.plan.level(arms[one.arm], knob) for knob in self.plan.factors}
            about = {"arm": one.arm, "seed": one.seed, **levels, "state": one.state, "seconds": one.wall_seconds}
            rows.append({**about, **one.metrics, "folder": one.folder})
        return rows

    def frame(self) -> Any:
        """Returns the metrics as a pandas.DataFrame, a line for each run; needs pandas."""
        return frame(self.metrics)

    def report(
        self,
        *,
        metric: str | None = None,
        to: str | pathlib.Path | None = None,
        allow: Sequence[str] = (),
        overwrite: bool = False,
    ) -> str:
        """Writes the report of the finished runs, as `launch.py report` does; returns its table as text.

        Args:
            metric: the compared metric, SPLIT/NAME; None: the study's own.
            to: folder of the report; None: the study's own.
            allow: differences between runs to accept, of data, splits, steps, code, log_every, skip_nonfinite.
            overwrite: replace a report even where it rests on more finished runs.
        """
        from cnnlab.ablation.commands import write_study_report
        from cnnlab.cli.study import declared_verdict

        verdict = declared_verdict(self.plan, self.folder) if self.plan.claim and metric in (None, self.plan.metric) else None
        place = absolute(to) if to else None
        return write_study_report(
            self.plan, self.folder, allow=allow, metric=metric, verdict=verdict, to=place, overwrite=overwrite
        )

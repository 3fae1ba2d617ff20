"""Writes the runs of a study for TensorBoard's table of hyperparameters, without TensorFlow."""

import importlib.util
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from cnnlab.ablation.plan.levels import number_or_none
from cnnlab.ablation.plan.study import RunResult, Study

STATUS = {"DONE": "STATUS_SUCCESS", "FAILED": "STATUS_FAILURE", "DIVERGED": "STATUS_FAILURE", "RUNNING": "STATUS_RUNNING"}
"""TensorBoard's words for the states of a run; the other states have none."""


def tensorboard_hparams(folder: pathlib.Path, study: Study, outcomes: Sequence[RunResult]) -> None:
    """Writes a session for every run that was started, below `folder`: `tensorboard --logdir FOLDER`, tab HPARAMS.

    Does nothing where tensorboardX is not installed; the runs have warned of that.

    Event files that an earlier call left in a session's folder are replaced. A knob whose levels are all numbers is
    a number, so that TensorBoard can draw it on an axis.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        return
    from tensorboardX import SummaryWriter, summary

    arms = {arm.name: (i, arm) for i, arm in enumerate(study.arms)}
    begun = [outcome for outcome in outcomes if outcome.state != "MISSING" and outcome.arm in arms]
    metrics = sorted({name for outcome in begun for name in outcome.metrics} | {study.metric})
    knobs = list(dict.fromkeys([*study.factors, *(knob for arm in study.arms for knob in arm.knobs)]))
    settings = {arm.name: {knob: study.level(arm, knob) for knob in knobs} for arm in study.arms}
    numeric = {knob for knob in knobs if all(number_or_none(texts[knob]) is not None for texts in settings.values())}

    def parameters(name: str, seed: int) -> dict[str, str | float]:
        values = {knob: number_or_none(text) if knob in numeric else text for knob, text in settings[name].items()}
        return {"arm": name, "seed": float(seed), **{knob: value for knob, value in values.items() if value is not None}}

    _clear(folder)
    with SummaryWriter(str(folder)) as writer:
        example = parameters(study.arms[0].name, 0) if study.arms else {}
        writer.file_writer.add_summary(summary.hparams(example, dict.fromkeys(metrics, 0.0))[0])
    for outcome in begun:
        place, arm = arms[outcome.arm]
        session = folder / f"{place:02d}_{re.sub(r'[^A-Za-z0-9=.-]+', '_', arm.name)[:60].strip('_')}" / f"seed_{outcome.seed}"
        _clear(session)
        _, start, end = summary.hparams(parameters(arm.name, outcome.seed), {})
        _set_status(end, STATUS.get(outcome.state, "STATUS_UNKNOWN"))
        with SummaryWriter(str(session)) as writer:
            writer.file_writer.add_summary(start)
            writer.file_writer.add_summary(end)
            for name, value in outcome.metrics.items():
                if math.isfinite(value):
                    writer.add_scalar(name, value, outcome.provenance.get("steps"))


def _clear(folder: pathlib.Path) -> None:
    for events in folder.glob("events.out.tfevents.*"):
        events.unlink()


def _set_status(end: Any, status: str) -> None:
    """Overwrites the success that tensorboardX records for every session."""
    from tensorboardX.proto.api_pb2 import Status
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo

    content = HParamsPluginData(session_end_info=SessionEndInfo(status=Status.Value(status)), version=0)
    end.value[0].metadata.plugin_data.content = content.SerializeToString()

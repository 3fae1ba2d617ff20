"""What CPUs could not finish: PixelCNN at 28x28, and the studies of claims that are declared for an accelerator.

Each case is a command line of launch.py. The studies are the files of experiments/claims whose names end in _cifar10, run
exactly as they declare, so that they decide their claims; only the place of the images is filled in.
"""

import csv
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping

from benchmarks.accelerator.board import Case, Row, Settings

ROOT = pathlib.Path(__file__).resolve().parents[2]
PIXELCNN_GOAL = 84.0
"""Nats of the test split; the paper has 81.30."""
STOPPING_SECONDS = 20.0
"""Time that a command has to save its state after SIGTERM."""

Flags = Mapping[str, str]
STRIPES = {"dataset": "stripes", "dataset.examples": "200", "dataset.size": "12", "batch_size": "20", "steps": "2"}
TINY_CIFAR10 = {"dataset": "stripes", "dataset.examples": "200", "dataset.size": "32"}
"""Images that stand for CIFAR-10 where a study is only planned."""
DECLARED = {path.stem: path.stem.partition("_")[0] for path in sorted((ROOT / "experiments" / "claims").glob("c*_cifar10.py"))}
"""{experiment: case, such as c07} of the studies that are declared for an accelerator."""
STUDY_SECONDS = 840.0
"""Time that a study is given: they are declared for a quarter of an hour."""


def run(settings: Settings, verb: str, experiment: str, flags: Flags) -> tuple[pathlib.Path, str] | str:
    """Runs a command of launch.py in time; returns its folder and what it printed, or why there is nothing in it."""
    folder = settings.folder / f"{experiment}-{len(list(settings.folder.iterdir()))}" / "run"
    folder.parent.mkdir(parents=True)
    words = [f"--experiment={experiment}", f"--workdir={folder}", "--devices=1"]
    words += [f"--{name}={value}" for name, value in flags.items()]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), verb, *words],
        cwd=folder.parent,
        env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=max(settings.left() - STOPPING_SECONDS, 1))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # its workers too: they save their states and leave
        try:
            process.communicate(timeout=STOPPING_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        return f"out of time; {len(list(folder.parent.rglob('result.json')))} runs were finished in {folder.parent}"
    if process.returncode:
        raise RuntimeError(f"launch.py {verb} --experiment={experiment} failed: {output.strip()[-400:]}")
    return folder, output


def arms(folder: pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of a study's arms.csv."""
    with (folder / "arms.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rows_of(name: str, folder: pathlib.Path) -> Iterator[Row]:
    """Yields the mean of each arm of a study, and its difference to the baseline with the interval, where there is one."""
    metric = json.loads((folder / "study.json").read_text(encoding="utf-8"))["metric"]
    for arm in arms(folder):
        note = f"n = {arm['done']}, {arm['parameters']} parameters"
        if arm["difference"]:
            note += f", {float(arm['difference']):+.4g} {_interval(arm)} to the baseline"
        yield Row(f"{name}: {arm['arm']}", float(arm["mean"]) if arm["mean"] else "no finished run", metric, note=note)


def _interval(arm: Mapping[str, str]) -> str:
    """Returns the interval of an arm's difference, or why statistics.student_interval gives none."""
    if arm["difference_low"] and arm["difference_high"]:
        return f"[{float(arm['difference_low']):.4g}, {float(arm['difference_high']):.4g}]"
    return "(no interval: one pair)" if arm["pairs"] == "1" else f"(no interval: the same in all {arm['pairs']} pairs)"


def study(settings: Settings, experiment: str) -> Iterator[Row]:
    """Runs a declared study and yields its verdict and arms; with tiny sizes, which would be another test, its plan alone."""
    name, path = DECLARED[experiment], settings.data / "cifar10.npz"
    if settings.tiny:
        # Exploratory only so that files which are not committed can be planned too: nothing differs from the declaration.
        found = run(settings, "ablate", experiment, {**TINY_CIFAR10, "dry_run": "true", "exploratory": "true"})
        assert not isinstance(found, str)
        yield Row(f"{name}: planned", "planned", note=" ".join(found[1].split()))
        return
    if not path.exists():
        yield Row(name, f"no {path.name} in --data")
        return
    found = run(settings, "ablate", experiment, {"dataset": f"npz:{path}"})
    if isinstance(found, str):
        yield Row(name, found)
        return
    verdict = json.loads((found[0] / "verdict.json").read_text(encoding="utf-8"))
    yield Row(f"{name}: verdict", verdict["verdict"], note=verdict["sentence"])
    yield from rows_of(name, found[0])


def pixelcnn(settings: Settings) -> Iterator[Row]:
    """PixelCNN on binary MNIST at 28x28."""
    path = settings.data / "mnist.npz"
    if not settings.tiny and not path.exists():
        yield Row("PixelCNN", f"no {path.name} in --data")
        return
    flags = {"image_size": "none", "width": "32", "epochs": "20", "batch_size": "128", "precision": "bf16"}
    if settings.tiny:
        flags = {"image_size": "none", **STRIPES, "width": "4", "model.blocks": "1"}
    else:
        flags |= {"dataset": f"npz:{path}"}
    found = run(settings, "train", "pixelcnn_mnist", flags)
    if isinstance(found, str):
        yield Row("PixelCNN", found)
        return
    metrics = json.loads((found[0] / "result.json").read_text(encoding="utf-8"))["metrics"]
    nats = metrics.get("test/nats", metrics.get("test/loss"))
    goal = "" if settings.tiny else f"<= {PIXELCNN_GOAL:g}"
    yield Row("PixelCNN, test split", nats, "nats", goal=goal, met=nats <= PIXELCNN_GOAL if goal else None)


CASES = (
    Case("unfinished", "pixelcnn", 150, pixelcnn),
    *(
        Case("unfinished", case, STUDY_SECONDS, functools.partial(study, experiment=experiment))
        for experiment, case in DECLARED.items()
    ),
)

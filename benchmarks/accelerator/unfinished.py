"""What CPUs could not finish: PixelCNN at 28x28, and the studies of claims C3, C7, C21 and C13 on CIFAR-10.

Each case is a command line of launch.py. These are exploratory runs of declared studies on other data: they decide no claim.
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
ON_CIFAR10 = {"augment": "flip_crop", "batch_size": "128", "validation": "0.1", "precision": "bf16"}
STRIPES = {
    "dataset": "stripes",
    "dataset.examples": "200",
    "dataset.size": "12",
    "batch_size": "20",
    "steps": "2",
    "seeds": "2",
}
STUDIES: dict[str, tuple[str, float, Flags, Flags]] = {
    "c03": (
        "c03_activations",
        150,
        {
            **ON_CIFAR10,
            "augment": "none",
            "model": "convnet",
            "model.widths": "32,32,64",
            "model.depth": "1",
            "model.kernel": "5",
            "model.norm": "none",
            "image_size": "none",
            "epochs": "6",
            "seeds": "8",
        },
        {"model.widths": "4"},
    ),
    "c07": (
        "c07_plain_vs_residual",
        240,
        {**ON_CIFAR10, "width": "0.5", "schedule": "step", "warmup": "0.07", "epochs": "15", "seeds": "3"},
        {"width": "0.25", "vary": "model:cifar_plain20,cifar_resnet20"},
    ),
    "c21": (
        "c21_parameters",
        240,
        {**ON_CIFAR10, "epochs": "10", "seeds": "3"},
        {"vary": "model:vgg_narrow,resnet"},
    ),
}
"""{case: (experiment, seconds, flags on CIFAR-10, flags that make it tiny)}."""
RATES = {"momentum": "0.01,0.03,0.1,0.3", "adam": "0.0003,0.001,0.003,0.01"}
C13 = {**ON_CIFAR10, "model": "cifar_resnet20", "model.width": "0.5", "image_size": "none", "epochs": "10"}


def run(settings: Settings, verb: str, experiment: str, flags: Flags) -> pathlib.Path | str:
    """Runs a command of launch.py in time; returns its folder, or why there is nothing in it."""
    folder = settings.folder / f"{experiment}-{len(list(settings.folder.iterdir()))}" / "run"
    folder.parent.mkdir(parents=True)
    words = [f"--experiment={experiment}", f"--workdir={folder}", "--devices=1"]
    # `vary` may hold several factors.
    words += [f"--{name}={part}" for name, value in flags.items() for part in (value.split() if name == "vary" else [value])]
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
        return f"out of time; {len(list(folder.parent.rglob('result.json')))} runs were finished"
    if process.returncode:
        raise RuntimeError(f"launch.py {verb} --experiment={experiment} failed: {output.strip()[-400:]}")
    return folder


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


def flags_of(settings: Settings, flags: Flags, tiny: Flags) -> Flags | str:
    """Returns the flags with the data set, or why it is not there."""
    if settings.tiny:
        return {**{name: value for name, value in flags.items() if name != "epochs"}, **STRIPES, **tiny}
    path = settings.data / "cifar10.npz"
    return {**flags, "dataset": f"npz:{path}"} if path.exists() else f"no {path.name} in --data"


def study(settings: Settings, name: str) -> Iterator[Row]:
    """Runs one of STUDIES."""
    experiment, _, flags, tiny = STUDIES[name]
    given = flags_of(settings, flags, tiny)
    found = given if isinstance(given, str) else run(settings, "ablate", experiment, given)
    yield from [Row(name, found)] if isinstance(found, str) else rows_of(name, found)


def momentum_or_adam(settings: Settings) -> Iterator[Row]:
    """Claim C13: finds the rate of each optimiser on validation images, then compares the two with other seeds."""
    best = []
    for optimizer, rates in RATES.items():
        search = {"optimizer": optimizer, "vary": f"lr:{rates}", "seeds": "1", "seed": "100", "metric": "validation/accuracy"}
        given = flags_of(
            settings, {**C13, **search}, {"model.width": "0.25", "seeds": "1", "vary": f"lr:{','.join(rates.split(',')[:2])}"}
        )
        found = given if isinstance(given, str) else run(settings, "ablate", "c13_momentum_adam", given)
        if isinstance(found, str):
            yield Row("c13", found)
            return
        first = rates.split(",")[0]
        measured = [arm for arm in arms(found) if arm["mean"]]
        if not measured:
            yield Row("c13", f"no run with {optimizer} was finished")
            return
        top = max(measured, key=lambda arm: float(arm["mean"]))
        best.append(top["arm"].partition("lr=")[2] or first)
        yield Row(f"c13: best rate of {optimizer}", best[-1], note=f"validation accuracy {float(top['mean']):.4f}")
    compared = {"vary": f"optimizer:momentum,adam lr:{','.join(best)}", "design": "zip"}
    given = flags_of(settings, {**C13, "seeds": "8"}, {"model.width": "0.25"})
    assert not isinstance(given, str)
    found = run(settings, "ablate", "c13_momentum_adam", {**given, **compared})
    yield from [Row("c13", found)] if isinstance(found, str) else rows_of("c13", found)


def pixelcnn(settings: Settings) -> Iterator[Row]:
    """PixelCNN on binary MNIST at 28x28."""
    path = settings.data / "mnist.npz"
    if not settings.tiny and not path.exists():
        yield Row("PixelCNN", f"no {path.name} in --data")
        return
    flags = {"image_size": "none", "width": "32", "epochs": "20", "batch_size": "128", "precision": "bf16"}
    if settings.tiny:
        tiny = {name: value for name, value in STRIPES.items() if name != "seeds"}
        flags = {"image_size": "none", **tiny, "width": "4", "model.blocks": "1"}
    else:
        flags |= {"dataset": f"npz:{path}"}
    found = run(settings, "train", "pixelcnn_mnist", flags)
    if isinstance(found, str):
        yield Row("PixelCNN", found)
        return
    metrics = json.loads((found / "result.json").read_text(encoding="utf-8"))["metrics"]
    nats = metrics.get("test/nats", metrics.get("test/loss"))
    goal = "" if settings.tiny else f"<= {PIXELCNN_GOAL:g}"
    yield Row("PixelCNN, test split", nats, "nats", goal=goal, met=nats <= PIXELCNN_GOAL if goal else None)


CASES = (
    Case("unfinished", "pixelcnn", 150, pixelcnn),
    *(Case("unfinished", name, seconds, functools.partial(study, name=name)) for name, (_, seconds, _, _) in STUDIES.items()),
    Case("unfinished", "c13", 240, momentum_or_adam),
)

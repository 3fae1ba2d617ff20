"""Training steps of whole experiments through the one `fit`: how many steps a dispatch, bf16, and PyTorch beside it."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.accelerator.board import Case, Row, Settings
from benchmarks.accelerator.timing import experiment_of, program_of, seconds_a_step
from cnnlab.recipes.classification import classification
from cnnlab.recipes.gan import adversarial_pair
from cnnlab.recipes.vae import variational_autoencoder

RESNET50_GOAL = 5000.0
"""Images a second in bf16 at batch 256 (NVIDIA's PyTorch on one A100: 2,470)."""
DISPATCHES = (1, 8, 32, 128)


def images(settings: Settings, *, side: int, channels: int, count: int, classes: int = 10) -> str:
    """Writes random images as an .npz and returns the value of --dataset that reads it."""
    path = settings.folder / f"random_{side}_{channels}_{count}.npz"
    if not path.exists():
        random = np.random.default_rng(0)
        arrays: dict[str, np.ndarray] = {}
        for split, size in (("train", count), ("test", max(count // 8, 64))):
            arrays[f"x_{split}"] = random.integers(0, 256, (size, side, side, channels), np.uint8)
            arrays[f"y_{split}"] = np.arange(size) % classes
        np.savez(path, **arrays)
    return f"npz:{path}"


def lenet(settings: Settings) -> Iterator[Row]:
    """LeNet-5 on 28x28 with batches of 128: what it costs to send one step at a time."""
    data = images(settings, side=28, channels=1, count=512 if settings.tiny else 8192)
    batch = 32 if settings.tiny else 128
    program = program_of(
        experiment_of(classification, {"model": "lenet5", "dataset": data, "batch_size": batch, "image_size": 32})
    )
    first = None
    for size in DISPATCHES[:2] if settings.tiny else DISPATCHES:
        steps = 2 * size if settings.tiny else max(512, 4 * size)
        seconds = seconds_a_step(program, steps=steps, steps_per_dispatch=size)
        first = first or seconds
        yield Row(
            f"LeNet-5 b{batch}, {size} steps a dispatch",
            1e6 * seconds,
            "µs/step",
            note=f"{first / seconds:.2f}x of one step a dispatch",
        )


def resnet18(settings: Settings) -> Iterator[Row]:
    """CIFAR's ResNet-18 in bf16 and f32."""
    batch = 8 if settings.tiny else 512
    values = {
        "model": "resnet18",
        "model.stem": "small",
        "dataset": images(settings, side=16 if settings.tiny else 32, channels=3, count=64 if settings.tiny else 8192),
        "batch_size": batch,
        **({"model.width": 0.125} if settings.tiny else {}),
    }
    experiment = experiment_of(classification, values)
    for precision in ("bf16", "f32"):
        program = program_of(experiment, precision=precision)
        seconds = seconds_a_step(program, steps=2 if settings.tiny else 64, steps_per_dispatch=1 if settings.tiny else 16)
        yield Row(f"ResNet-18, 32x32, b{batch}, {precision}", batch / seconds, "images/s")


def resnet50(settings: Settings) -> Iterator[Row]:
    """ResNet-50 at 224x224 in bf16 on random images, and PyTorch's in the same run where torch is installed."""
    batch, side = (4, 64) if settings.tiny else (256, 224)
    values = {
        "model": "resnet50_v1_5",
        "dataset": images(settings, side=side, channels=3, count=16 if settings.tiny else 1024),
        "batch_size": batch,
        "validation": 0.0,
        **({"model.width": 0.125} if settings.tiny else {}),
    }
    program = program_of(experiment_of(classification, values), precision="bf16")
    seconds = seconds_a_step(program, steps=2 if settings.tiny else 32, steps_per_dispatch=1 if settings.tiny else 8)
    ours = batch / seconds
    on_cpu = jax.default_backend() == "cpu"
    yield Row(
        f"ResNet-50, {side}x{side}, b{batch}, bf16",
        ours,
        "images/s",
        goal="" if on_cpu else f">= {RESNET50_GOAL:,.0f}",
        met=None if on_cpu else ours >= RESNET50_GOAL,
    )
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if peak:
        yield Row("peak memory of the process so far", peak / 2**30, "GiB")
    theirs = torch_resnet50(settings, batch=batch, side=side)
    if isinstance(theirs, str):
        yield Row("PyTorch, channels last, AMP, torch.compile", theirs)
    else:
        note = f"ours is {ours / theirs['images_per_second']:.2f}x"
        yield Row("PyTorch, channels last, AMP, torch.compile", theirs["images_per_second"], "images/s", note=note)


def torch_resnet50(settings: Settings, *, batch: int, side: int) -> dict[str, Any] | str:
    """Runs benchmarks/accelerator/torch_resnet50.py in a process of its own; returns what it printed, or why it could not."""
    script = pathlib.Path(__file__).with_name("torch_resnet50.py")
    words = [f"--batch={batch}", f"--side={side}", f"--steps={2 if settings.tiny else 32}"]
    try:
        done = subprocess.run(
            [sys.executable, str(script), *words],
            capture_output=True,
            text=True,
            timeout=max(settings.left(), 1.0),
            env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "out of time"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no word"])[-1][:60]
    return json.loads(done.stdout.splitlines()[-1])


def generative(settings: Settings) -> Iterator[Row]:
    """DCGAN (two players) and a VAE on 28x28."""
    data = images(settings, side=16 if settings.tiny else 28, channels=1, count=128 if settings.tiny else 8192)
    batch = 16 if settings.tiny else 128
    common: Mapping[str, Any] = {"dataset": data, "batch_size": batch, "validation": 0.0}
    small: Mapping[str, Any] = {"model.width": 4} if settings.tiny else {}
    for name, recipe, values in (
        ("DCGAN", adversarial_pair, {"model": "dcgan", **small}),
        ("VAE", variational_autoencoder, {"model": "conv", **({"model.widths": "4,8"} if settings.tiny else {})}),
    ):
        program = program_of(experiment_of(recipe, {**common, **values}))
        seconds = seconds_a_step(program, steps=2 if settings.tiny else 128, steps_per_dispatch=1 if settings.tiny else 32)
        yield Row(f"{name}, b{batch}, f32", batch / seconds, "images/s")


CASES = (
    Case("steps", "lenet", 40, lenet),
    Case("steps", "resnet18", 60, resnet18),
    Case("steps", "resnet50", 120, resnet50),
    Case("steps", "generative", 40, generative),
)

"""Whole compiled steps in two ways: the allocator, the devices that share the cores, the kernels, the parts of a batch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from benchmarks.measure import together
from benchmarks.parts.loops import STRIPES
from benchmarks.settings import Settings
from benchmarks.tables import Table, lines_of

KEEPS_BLOCKS = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
"""glibc then takes large blocks from its heap, and gives none back: no page is faulted in twice."""
STRIPES_OF_28 = {**STRIPES, "batch_size": 128}
SHARED: Mapping[str, Mapping[str, Any]] = {
    "lenet5_mnist": STRIPES_OF_28,
    "convnet_fashion": STRIPES_OF_28,
    "mlp_mnist": STRIPES_OF_28,
    "vae_mnist": STRIPES,
    "conv_autoencoder_fashion": STRIPES_OF_28,
    "dcgan_fashion": STRIPES,
    "zoo_digits": {},
    "unet_scenes": {},
    "ssd_scenes": {},
    "simclr_digits": {},
    "lstm_shakespeare": {"dataset": "python_topics"},
    "row_mnist": STRIPES_OF_28,
}
"""{experiment: knobs with which it needs no download}."""
CONVOLVING = [name for name in SHARED if name not in ("mlp_mnist", "vae_mnist", "lstm_shakespeare", "row_mnist")]
"""Those whose steps convolve."""


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to take a step."""

    given: Mapping[str, Any]
    """Knobs of the experiment."""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    devices: int = 1


def allocator(settings: Settings, *, experiment: str, batch: int) -> Table:
    """Measures the steps of an experiment on stripes of 28x28, each with a new feed.

    Args:
        settings: how the benchmark was called.
        experiment: name of a file in experiments/.
        batch: number of images of a step.
    """
    given = {**STRIPES, "batch_size": batch}
    variants = {"as it is": Way(given), "malloc keeps blocks": Way(given, KEEPS_BLOCKS)}
    title = f"{experiment}, batches of {batch}"
    return _compared(settings, ("allocator", f"{experiment}_b{batch}", title), experiment, variants)


def devices(settings: Settings, *, experiment: str) -> Table:
    """Measures the steps of an experiment on one device and on two that share the cores, each with a new feed.

    Args:
        settings: how the benchmark was called.
        experiment: name of a file in experiments/, one of SHARED.
    """
    given = SHARED[experiment]
    variants = {"one device": Way(given), "two forced devices": Way(given, devices=2)}
    return _compared(settings, ("devices", experiment, f"{experiment}, by devices"), experiment, variants)


def kernels(settings: Settings, *, experiment: str) -> Table:
    """Measures the steps of an experiment by the library whose convolutions XLA:CPU calls; cnnlab chooses by the CPU.

    Args:
        settings: how the benchmark was called.
        experiment: name of a file in experiments/, one of SHARED.
    """
    given, flag = SHARED[experiment], "--xla_cpu_experimental_ynn_fusion_type"
    variants = {
        "YNN": Way(given, {"XLA_FLAGS": f"{flag}=+individual_convolution"}),
        "Eigen": Way(given, {"XLA_FLAGS": f"{flag}=-individual_convolution"}),
    }
    return _compared(settings, ("kernels", experiment, f"{experiment}, by the library of convolutions"), experiment, variants)


def accumulate(settings: Settings, *, experiment: str, batch: int = 512, parts: int = 4) -> Table:
    """Measures the steps of an experiment on a large batch: whole, in parts one after another, and a part alone.

    Args:
        settings: how the benchmark was called.
        experiment: name of a file in experiments/.
        batch: number of images of a step.
        parts: number of parts.
    """
    given = {**STRIPES, "batch_size": batch}
    variants = {
        "whole": Way(given),
        f"--accumulate={parts}": Way({**given, "accumulate": parts}),
        f"a part, {batch // parts} images": Way({**given, "batch_size": batch // parts}),
    }
    title = f"{experiment}, batches of {batch} in {parts} parts"
    return _compared(settings, ("accumulate", experiment, title), experiment, variants)


def _compared(settings: Settings, names: tuple[str, str, str], experiment: str, ways: Mapping[str, Way]) -> Table:
    """Measures the steps of an experiment in several ways, each over the first one.

    Args:
        settings: how the benchmark was called.
        names: part, case and title of the table.
        experiment: name of a file in experiments/.
        ways: what is compared, by name.
    """
    workers = {
        name: settings.worker(
            "benchmarks.workers.program",
            environment=way.environment,
            experiment=experiment,
            given=way.given,
            devices=way.devices,
        )
        for name, way in ways.items()
    }
    _, found = together({name: (worker, "fed") for name, worker in workers.items()}, **settings.how)
    return Table(*names, "ms", over=(next(iter(ways)),), **lines_of(found, "ms"))

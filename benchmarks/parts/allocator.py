"""Whole compiled steps by what the allocator does with large blocks, and by the number of devices that share the cores."""

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


def allocator(settings: Settings, *, experiment: str, batch: int) -> Table:
    """Measures the steps of an experiment on stripes of 28x28, each with a new feed.

    Args:
        settings: how the benchmark was called.
        experiment: name of a file in experiments/.
        batch: number of images of a step.
    """
    given = {**STRIPES, "batch_size": batch}
    variants = {"as it is": (1, {}), "malloc keeps blocks": (1, KEEPS_BLOCKS)}
    title = f"{experiment}, batches of {batch}"
    return _compared(settings, variants, ("allocator", f"{experiment}_b{batch}", title), experiment, given)


def devices(settings: Settings, *, experiment: str) -> Table:
    """Measures the steps of an experiment on one device and on two that share the cores, each with a new feed.

    Args:
        settings: how the benchmark was called.
        experiment: name of a file in experiments/, one of SHARED.
    """
    variants = {"one device": (1, {}), "two forced devices": (2, {})}
    return _compared(settings, variants, ("devices", experiment, experiment), experiment, SHARED[experiment])


def _compared(
    settings: Settings,
    variants: Mapping[str, tuple[int, Mapping[str, str]]],
    names: tuple[str, str, str],
    experiment: str,
    given: Mapping[str, Any],
) -> Table:
    """Measures variants {name: (devices, environment)} of an experiment, each over the first one.

    Args:
        settings: how the benchmark was called.
        variants: what is compared.
        names: part, case and title of the table.
        experiment: name of a file in experiments/.
        given: its knobs.
    """
    workers = {
        name: settings.worker(
            "benchmarks.workers.program", environment=environment, experiment=experiment, given=given, devices=devices
        )
        for name, (devices, environment) in variants.items()
    }
    _, found = together({name: (worker, "fed") for name, worker in workers.items()}, **settings.how)
    return Table(*names, "ms", over=(next(iter(variants)),), **lines_of(found, "ms"))

"""A simple model of a data-parallel step on accelerators, and the published figures that it is held against.

A step takes the time that one device needs for its share of the batch, plus the exchanges: bytes over bandwidth, and for each
exchange that the computation has to wait for a fixed time. Without overlap all exchanges come after the computation; with it
the gradients travel during the backward pass, two thirds of the computation, and only what is left of them counts.

    T = C + k·a + max(0, G − overlap · 2/3 · C)        C = examples / rate        G = bytes sent / bandwidth

It knows no input pipeline, no stragglers, no slower clock of eight devices that share a power budget, and no batch so small
that the device is not filled.
"""

import dataclasses

MB = 1e6
RESNET50 = 25_557_032
"""Parameters (He et al. 2016; torchvision)."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """What connects the devices."""

    name: str
    inside: float
    """Bytes per second that a device sends in a large exchange among those of one machine."""
    across: float
    """The same where several machines take part: what the network cards of one machine carry together."""
    wait_inside: float
    """Seconds of the smallest exchange in one machine."""
    wait_across: float
    source: str
    per_machine: int = 8


P100 = Machine("Big Basin, 8 P100, 50 Gbit/s", 60e9, 6.25e9, 30e-6, 100e-6, "arXiv:1706.02677, section 4; 60 GB/s assumed")
V100 = Machine("DGX-1, 8 V100", 130e9, 48e9, 20e-6, 60e-6, "130 of 150 GB/s of NVLink assumed; 4 cards at 12 GB/s")
A100 = Machine("DGX A100", 200e9, 192e9, 20e-6, 60e-6, "nccl-tests issue 149: 200 GB/s; issue 119: 24 GB/s a card, 8 cards")
H100 = Machine("DGX H100", 480e9, 384e9, 20e-6, 60e-6, "nccl-tests issue 212: 480 GB/s; 8 cards of twice the A100's")


@dataclasses.dataclass(frozen=True)
class Step:
    """The work of a step on one device."""

    rate: float
    """Examples per second of one device alone."""
    examples: int
    """Examples of a step on each device."""
    sent: float = 2.0 * 4 * RESNET50
    """Bytes that a device sends where infinitely many share a step; n send (n - 1) / n of it."""
    waits: int = 1
    """Exchanges for which the computation waits."""


def seconds(step: Step, machine: Machine, devices: int, *, overlap: bool) -> float:
    """Returns the seconds of a step on so many devices."""
    alone = step.examples / step.rate
    if devices == 1:
        return alone
    is_inside = devices <= machine.per_machine
    bandwidth = machine.inside if is_inside else min(machine.inside, machine.across)
    exchange = step.sent * (devices - 1) / devices / bandwidth
    hidden = alone * 2 / 3 if overlap else 0.0
    return alone + step.waits * (machine.wait_inside if is_inside else machine.wait_across) + max(0.0, exchange - hidden)


def speedup(step: Step, machine: Machine, devices: int, *, overlap: bool, of: int = 1) -> float:
    """Returns how many times more examples a second `devices` train than `of` of them."""
    return devices / of * seconds(step, machine, of, overlap=overlap) / seconds(step, machine, devices, overlap=overlap)


@dataclasses.dataclass(frozen=True)
class Published:
    """A measured speed-up of ResNet-50."""

    what: str
    step: Step
    machine: Machine
    of: int
    devices: int
    measured: float
    """Examples a second on `devices`, divided by those on `of`."""
    source: str


DEEP_LEARNING_EXAMPLES = "NVIDIA DeepLearningExamples, ResNet-50 v1.5 in PyTorch"
EPOCH = 1_281_167
EIGHT = 35.2 * EPOCH / (13.466 * 60) / 8
"""Examples per second and H100 of eight in MLPerf 3.0, with 35.2 epochs, those of the reference points at batch 3,264."""


def mlperf(batch: int, epochs: float, minutes: float, devices: int) -> Published:
    """Returns a speed-up over eight H100, given the epochs that the reference points of MLPerf take at a batch size."""
    rate = epochs * EPOCH / (minutes * 60)
    return Published(
        f"MLPerf 3.0, H100, batch {batch:,} assumed",
        Step(EIGHT, batch // devices),
        H100,
        8,
        devices,
        rate / (8 * EIGHT),
        f"{minutes} minutes; mlcommons/logging: {epochs} epochs at this batch",
    )


PUBLISHED = (
    Published("A100, TF32", Step(938, 256), A100, 1, 8, 7248 / 938, DEEP_LEARNING_EXAMPLES),
    Published("A100, mixed precision", Step(2470, 256), A100, 1, 8, 16621 / 2470, DEEP_LEARNING_EXAMPLES),
    Published("V100, f32", Step(367, 112), V100, 1, 8, 2855 / 367, DEEP_LEARNING_EXAMPLES),
    Published("V100, mixed precision", Step(1200, 256), V100, 1, 8, 8322 / 1200, DEEP_LEARNING_EXAMPLES),
    # Backward 120 ms for 32 images, two thirds of a step; "~90 % scaling efficiency when moving from 8 to 256 GPUs".
    Published(
        "P100, f32, batch 32 a device", Step(32 / 0.18, 32), P100, 8, 256, 0.9 * 32, "arXiv:1706.02677, abstract, section 4"
    ),
    mlperf(3_264, 35.2, 2.664, 64),
    mlperf(13_056, 45.4, 2.664, 64),
    mlperf(67_840, 85.9, 0.183, 3584),
)

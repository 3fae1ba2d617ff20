"""The worker of a training step in PyTorch: eager, channels_last, or compiled. Runs in an environment of its own."""

import os
from typing import Any

import torch

from benchmarks.measure import Work
from benchmarks.peers import torch_nets
from benchmarks.steps import nets

torch.set_num_threads(len(os.sched_getaffinity(0)))


def work(net: str, kind: str) -> Work:
    """Returns the steps of a network; `kind` is eager, channels_last or compile, which has the layout of the one before."""
    spec = nets.NETS[net]
    layout = torch.channels_last if kind != "eager" and spec.has_maps else torch.contiguous_format
    model = torch_nets.NETS[net]().to(memory_format=layout)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch_nets.OPTIMIZERS[spec.optimizer](trained)
    given = [placed(batch, layout) for batch in nets.batches(net)]
    loss_of = torch_nets.LOSSES[spec.loss]
    loss_of = torch.compile(loss_of) if kind == "compile" else loss_of

    def run(steps: int) -> None:
        for number in range(steps):
            optimizer.zero_grad()
            loss_of(model, given[number % nets.BATCHES]).backward()
            optimizer.step()

    about = {"parameters": sum(parameter.numel() for parameter in trained), "torch": torch.__version__}
    return Work({"step": run}, about)


def placed(batch: nets.Batch, layout: torch.memory_format) -> dict[str, Any]:
    """Returns a batch as tensors: images [B, H, W, C] -> [B, C, H, W], whole numbers as PyTorch's losses take them."""
    found = {name: torch.from_numpy(values) for name, values in batch.items()}
    found = {name: values.long() if values.dtype == torch.int32 else values for name, values in found.items()}
    if "image" in found:
        found["image"] = found["image"].permute(0, 3, 1, 2).contiguous(memory_format=layout)
    return {**found, "anchors": torch.from_numpy(nets.anchors())}

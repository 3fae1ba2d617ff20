"""Claim C44: data-parallel training on n devices gives the loss curve of one device, also with batch normalisation.

Paper:    P. Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1 hour, 2017, arXiv 1706.02677, section 2.3;
          S. Ioffe, C. Szegedy, Batch normalization, 2015, arXiv 1502.03167
Command:  python launch.py measure --experiment=c44_same_curve
Result:   exact; docs/claims/c44.md has the numbers.

The batch of 48 images stays the same and is split over 1, 2, 4 or 8 devices. Statistics of batch normalisation are those of the
whole batch, and the noise of an example belongs to the example. Then only the order in which numbers are added differs, so that
the gap of the curves is that of rounding: some 1e-7 of the loss in f32 and 1e-15 in f64. Where every part of a batch is
normalised by itself, as without communication, the loss is another one (the control).

This file is also the program that a measurement starts, since the number of forced CPU devices is set before jax starts.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import Array, Batch, Experiment, Params, PyTree, Stats, Task
from cnnlab.engine.in_memory import on_devices, train_in_memory
from cnnlab.engine.parallel import use_compilation_cache
from cnnlab.metric import Metric
from cnnlab.models.convnet import ConvNet
from cnnlab.ops.losses import cross_entropy
from cnnlab.recipes.classification import classification
from cnnlab.tasks.classify import PLAYER

STEPS, BATCH = 20, 48
DEVICES = (2, 4, 8)
"""Numbers of devices that are compared with one."""
MOST = {"f32": 1e-5, "f64": 1e-12}
"""{precision: largest relative gap of a loss that counts as rounding; an error grows while training goes on}."""
DIFFERS = 1e-4
"""Relative gap of a loss that no rounding explains."""
SMALLEST = 1e-17
"""Gap at which a gap of 0 is drawn."""
LIMIT = 540
"""Seconds after which the process that trains is stopped."""
WIDTHS = (8, 16)
"""Channels of the stages of the network."""


def experiment(precision: str) -> Experiment:
    """Returns a convolutional network with batch normalisation on digits: STEPS steps of BATCH images with momentum.

    Args:
        precision: f32, or f64, for which jax.enable_x64 must be on.
    """
    given = {
        "model": "convnet",
        "model.widths": ",".join(map(str, WIDTHS)),
        "model.norm": "batch",
        "data.dataset": "digits",
        "data.batch_size": BATCH,
        "optimizer": "momentum",
        "optimizer.lr": 0.05,
        "duration": f"{STEPS} steps",
        "average_decay": 0.0,
    }
    built: Experiment = knobs.resolve(classification, given).call()
    return built if precision == "f32" else dataclasses.replace(built, task=in_f64(built.task, built.data.classes))


def in_f64(task: Task, classes: int) -> Task:
    """Returns the task with weights and loss in f64; the engine keeps that precision, the task itself has its loss in f32."""
    network = ConvNet(classes, WIDTHS)

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), task.init(key, batch))

    def loss(params: Params, model_state: PyTree, batch: Batch, key: Array, player: str) -> tuple[Array, tuple[PyTree, Stats]]:
        images = batch["image"].astype(jnp.float64)
        (logits, _), updated = network.apply(
            {"params": params[PLAYER], **model_state}, images, train=True, mutable=["batch_stats"]
        )
        losses = cross_entropy(logits, batch["label"])
        sums = {"loss": jnp.sum(losses), "count": jnp.float64(len(losses)), "correct": jnp.float64(0)}
        return jnp.mean(losses), (dict(updated), {"sums": sums, "rows": {}})

    return dataclasses.replace(task, init=init, loss=loss, summary=lambda stats: {"loss": float(stats["sums"]["loss"] / BATCH)})


def curves(seed: int) -> dict[str, list[float]]:
    """Trains on 1 and on DEVICES devices in both precisions; returns {"f32, 8 devices": the loss of every step}.

    `f32, parts of 8` holds the loss of the first batch where each eighth of it is normalised by itself.
    """
    found = {}
    for precision in MOST:
        with jax.enable_x64(precision == "f64"):
            built = experiment(precision)
            for devices in (1, *DEVICES):
                logged = train_in_memory(on_devices(built, devices=devices), seed, log_every=1).logged
                found[f"{precision}, {devices} devices"] = [logged[step]["loss"] for step in range(1, STEPS + 1)]
    found["f32, parts of 8"] = [loss_of_parts(experiment("f32"), seed, max(DEVICES))]
    return found


def loss_of_parts(built: Experiment, seed: int, count: int) -> float:
    """Returns the mean loss before the first step of `count` parts of the first batch, each normalised by itself."""
    data, program = built.data, on_devices(built)
    state = program.init(seed)
    feed = jax.tree.map(jnp.asarray, next(data.train(seed, 0)))
    batch = data.prepare(data.resident["train"], feed, None)
    # Columns [B, …] -> [count, B / count, …]
    parts = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), batch)
    key = jax.random.key(0)
    losses = jax.jit(jax.vmap(lambda part: built.task.loss(state.params, state.model_state, part, key, PLAYER)[0]))(parts)
    return float(jnp.mean(losses))


def trained_apart(seed: int) -> dict[str, list[float]]:
    """Returns `curves` from a process with eight forced CPU devices."""
    root = pathlib.Path(__file__).resolve().parents[2]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={max(DEVICES)}"
    # XLA:CPU deadlocks where more devices than threads wait for each other.
    environment = {**os.environ, "XLA_FLAGS": flags, "PJRT_NPROC": "32", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)}
    ran = subprocess.run(
        [sys.executable, __file__, str(seed)], env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    if ran.returncode:
        raise RuntimeError(f"the process that trains ended with {ran.returncode}:\n{ran.stderr[-2000:]}")
    found: dict[str, list[float]] = json.loads(ran.stdout.splitlines()[-1])
    return found


def measure(seed: int) -> Measured:
    """Returns the largest relative gap of a loss to that on one device, over all steps, for each number of devices."""
    found = trained_apart(seed)
    gaps, lines = {}, {}
    for precision in MOST:
        alone = np.array(found[f"{precision}, 1 devices"])
        for devices in DEVICES:
            gap = np.abs(np.array(found[f"{precision}, {devices} devices"]) - alone) / alone
            gaps[f"{devices} devices, {precision}"] = float(gap.max())
            # A gap of 0 has no place on a logarithmic axis: it is drawn at half a unit in the last place of f64.
            largest = np.maximum(np.maximum.accumulate(gap), SMALLEST)
            lines[f"{devices} devices, {precision}"] = tuple((float(step), float(each)) for step, each in enumerate(largest, 1))
    alone = np.array(found["f32, 1 devices"])
    apart = abs(found["f32, parts of 8"][0] - alone[0]) / alone[0]
    return Measured(
        numbers={
            "gap": {**gaps, "8 parts, each normalised by itself": float(apart)},
            "fall": {"1 device": float(alone[-1] / alone[0])},
        },
        curves=lines,
    )


measurement = Measurement(
    claim="C44",
    question="Does training on 2, 4 and 8 devices follow the loss curve of one device, with batch normalisation?",
    measure=measure,
    metrics=(Metric("gap", higher_is_better=False), Metric("fall", higher_is_better=False)),
    seeds=3,
    verdict=every(
        *(
            at_most(
                "C44", f"{devices} devices, {precision}", most, f"On {devices} devices in {precision} the curve is that of one"
            )
            for precision, most in MOST.items()
            for devices in DEVICES
        ),
        requires=(
            at_least(
                "C44",
                "8 parts, each normalised by itself",
                DIFFERS,
                "Where eight parts of the batch are normalised by themselves the loss is another one (the control)",
            ),
            on("fall", at_most("C44", "1 device", 0.95, "The loss falls: the curve is that of a network that learns")),
        ),
        scope="a convolutional network with batch normalisation, 20 steps of 48 digits, forced CPU devices",
    ),
    card=Card(
        quick="--seeds=1",
        published=(
            "Goyal et al. 2017 train ResNet-50 on 8 to 256 GPUs with curves that match after warm-up. There the batch grows "
            "with the devices and statistics of batch normalisation are those of a device; here both stay as on one device."
        ),
        would_change="A loss that differs from that of one device by more than rounding while the global batch is the same.",
        figure=Figure(x="step", y="largest relative gap of the loss to that of one device so far", log_y=True),
        deviations=(
            "The devices are parts of one CPU. The strategy is jit over a mesh; tests hold pmap and fsdp, dropout and "
            "augmentation to the same curve. The task computes its loss in f32; for f64 the same network is trained with a "
            "loss in f64."
        ),
    ),
)

if __name__ == "__main__":
    use_compilation_cache()
    print(json.dumps(curves(int(sys.argv[1]))))

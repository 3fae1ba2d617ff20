"""Claim C38, the count: a separable layer takes 1 / C + 1 / k² of the operations of a full one; and its time on a CPU.

Paper:    A. G. Howard et al., MobileNets: efficient convolutional neural networks for mobile vision applications, 2017, arXiv
          1704.04861, section 3.1 and Table 4
Command:  python launch.py measure --experiment=c38_macs
Result:   exact; docs/claims/c38.md has the numbers.

A full convolution of k x k from C' to C maps multiplies k² C' C numbers at every position; a depth-wise one and one of 1x1
multiply k² C' + C' C. The counts are those of `launch.py inspect`, for layers of 8 to 256 maps and kernels of 3x3 and 5x5, and
for MobileNet itself, whose full form the paper counts too. What the count leaves out is time: the step of training of two
layers is timed in both forms, in CPU seconds, so that other programs matter little. A pilot on seed 0, which the measurement
does not use, had 16 maps 1.7 times slower in the separable form and 64 maps 2.0 times faster.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from cnnlab import inspect
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import identity
from cnnlab.ablation.analyse.rules import Direction, Rule
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import PyTree
from cnnlab.metric import Metric
from cnnlab.models.convnet import ConvNet
from cnnlab.models.mobilenet import mobilenet_v1
from experiments.claims.c36_sliding_window import seconds_of

WIDTHS, KERNELS = (8, 16, 32, 64, 128, 256), (3, 5)
SIDE, BATCH = 16, 32
"""Height and width of the images, and images of a step that is timed."""
TIMED = (16, 64)
"""Widths of the networks that are timed."""
Form = Literal["full", "separable"]
FORMS: tuple[Form, ...] = ("full", "separable")
BILLION = 1e9


def network(form: Form, width: int, kernel: int = 3) -> ConvNet:
    """Returns two convolutions, of which the second, from and to as many maps, has the form."""
    return ConvNet(classes=10, widths=(width,), depth=2, kernel=kernel, convolution=form)


def layer_macs(form: Form, width: int, kernel: int) -> int:
    """Returns the multiply-accumulates of the second convolution, by the layer table."""
    rows = inspect.layers(network(form, width, kernel), (SIDE, SIDE, 3))
    return sum(row.macs for row in rows if row.name.startswith("stage1") and row.name.endswith("2"))


@functools.cache
def mobilenet_macs() -> dict[str, float]:
    """Returns the millions of multiply-accumulates of MobileNet at 224x224, and with full convolutions in its place."""
    rows = [row for row in inspect.layers(mobilenet_v1(classes=1000), (224, 224, 3)) if row.macs]
    total = sum(row.macs for row in rows)
    # A full 3x3 convolution multiplies nine times what the 1x1 convolution after a depth-wise one does, and replaces both.
    pairs = {"/pointwise/": 9, "/depthwise/": 0}
    full = sum(next((factor for part, factor in pairs.items() if part in row.name), 1) * row.macs for row in rows)
    return {"MobileNet": total / 1e6, "MobileNet, full": full / 1e6}


@functools.cache
def step(form: Form, width: int) -> tuple[Callable[..., Any], PyTree]:
    """Returns (the compiled gradient of the squared logits by the parameters, random variables)."""
    model = network(form, width)
    variables = jax.jit(functools.partial(model.init, train=False))(
        jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3), jnp.float32)
    )

    def loss(params: PyTree, state: PyTree, images: jax.Array) -> jax.Array:
        (logits, _), _ = model.apply({"params": params, **state}, images, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.square(logits))

    return jax.jit(jax.grad(loss)), variables


def timed(form: Form, width: int, images: jax.Array) -> float:
    """Returns the CPU seconds of one step of training without the update."""
    program, variables = step(form, width)
    state = {name: part for name, part in variables.items() if name != "params"}
    return seconds_of(lambda: program(variables["params"], state, images))


def measure(seed: int) -> Measured:
    """Returns ratios of counts, those of MobileNet, and CPU seconds of a step by form and width."""
    images = jax.random.normal(jax.random.key(seed), (BATCH, SIDE, SIDE, 3), jnp.float32)
    ratio: dict[str, float] = {}
    curves = {}
    for kernel in KERNELS:
        of_kernel = {width: layer_macs("separable", width, kernel) / layer_macs("full", width, kernel) for width in WIDTHS}
        ratio |= {f"{kernel}x{kernel}, {width} maps": found for width, found in of_kernel.items()}
        curves[f"{kernel}x{kernel}"] = tuple((float(width), found) for width, found in of_kernel.items())
    seconds, per_macs = {}, {}
    for width in TIMED:
        for form in FORMS:
            total = sum(row.macs for row in inspect.layers(network(form, width), (SIDE, SIDE, 3)))
            name = f"{form}, {width} maps"
            seconds[name] = timed(form, width, images)
            per_macs[name] = seconds[name] / (BATCH * total / BILLION)
    return Measured({"ratio": ratio, "millions": mobilenet_macs(), "seconds": seconds, "seconds_per_billion": per_macs}, curves)


def slower(metric: str, width: int, expected: Direction, words: str) -> Rule:
    """Returns the rule that compares the times of the forms at a width."""
    says = f"Of {width} maps the separable form takes {words}"
    return on(
        metric,
        contrast("C38", f"separable, {width} maps", expected, says, against=f"full, {width} maps", scale="log"),
    )


measurement = Measurement(
    claim="C38",
    question="How many multiply-accumulates does a separable convolution take, and how much time?",
    measure=measure,
    metrics=(
        Metric("ratio"),
        Metric("millions", "million multiply-accumulates"),
        Metric("seconds", "s", higher_is_better=False),
        Metric("seconds_per_billion", "s", higher_is_better=False),
    ),
    seeds=6,
    first_seed=10,
    verdict=every(
        *(
            identity(
                "C38",
                f"{kernel}x{kernel}, {width} maps",
                1 / width + 1 / kernel**2,
                1e-12,
                f"A separable {kernel}x{kernel} to {width} maps takes 1 / {width} + 1 / {kernel**2} of a full one",
            )
            for kernel in KERNELS
            for width in WIDTHS
        ),
        *(
            on("millions", identity("C38", name, published, rounded, f"{name} takes the operations of the paper's table"))
            for name, published, rounded in (("MobileNet", 569.0, 0.5), ("MobileNet, full", 4866.0, 1.5))
        ),
        shown=(
            *(slower("seconds_per_billion", width, "worse", "more CPU time for each operation") for width in TIMED),
            slower("seconds", TIMED[0], "worse", "more CPU time in all"),
            slower("seconds", TIMED[1], "better", "less CPU time in all"),
        ),
        setting="source",
        scope="one layer of 8 to 256 maps, and MobileNet at 224x224; time of two convolutions on 32 images of 16x16",
    ),
    card=Card(
        published=(
            "Howard et al. (2017), section 3.1: 1 / N + 1 / D², 8 to 9 times fewer for 3x3; Table 4: MobileNet 569 million, "
            "with full convolutions 4866 million. No times."
        ),
        would_change="A count of the layers with another ratio.",
        figure=Figure(x="output maps", y="operations of the separable layer, of the full one", log_x=True, log_y=True),
        deviations=(
            "The full MobileNet counts to 4867.3 million with its last dense layer of 1.0. Time is that of XLA and this "
            "repository's depth-wise convolution on a CPU; other libraries have other ones."
        ),
    ),
)

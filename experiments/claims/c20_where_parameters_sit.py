"""Claim C20: most parameters sit in the first fully connected layer; most compute in the convolutions, not in the first.

Paper:    A. Krizhevsky, I. Sutskever, G. Hinton, ImageNet classification with deep convolutional neural networks, 2012; K.
          Simonyan, A. Zisserman, Very deep convolutional networks for large-scale image recognition, 2015, arXiv 1409.1556
Command:  python launch.py measure --experiment=c20_where_parameters_sit
Result:   exact; docs/claims/c20.md has the numbers.

The shares are counted from the published networks at their published sizes, so they are exact. That "most compute sits in the
first convolutions", as it is often said, is refuted by them: AlexNet computes most in conv2, and the two convolutions of the
first stage of VGG-16 are an eighth. What the first layers do hold are the activations: 71 % of VGG-16's are in the outputs of
its first two stages, which is where memory is needed in training.
"""

import functools

import flax.linen as nn
import numpy as np

from cnnlab import inspect
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import SHARE, Metric
from cnnlab.models.alexnet import alexnet_two_tower
from cnnlab.models.vgg import vgg16_d

Shares = tuple[dict[str, float], dict[str, float], dict[str, float]]
ROUNDED = 5e-5
"""Largest gap to a share that is given in hundredths of a percent."""
FIRST = {"AlexNet": ("conv1",), "VGG-16": ("conv1_1", "conv1_2")}
"""{network: its convolutions before the first pooling}."""


def shares(model: nn.Module, size: int) -> Shares:
    """Returns {layer: share} of the parameters, of the multiply-accumulates and of the outputs, for all layers with weights.

    Args:
        model: network.
        size: height and width of its images in colour.
    """
    rows = [row for row in inspect.layers(model, (size, size, 3)) if row.params]
    counts = (
        {row.name: row.params for row in rows},
        {row.name: row.macs for row in rows},
        {row.name: int(np.prod(row.output)) for row in rows},
    )
    params, macs, outputs = ({name: count / sum(each.values()) for name, count in each.items()} for each in counts)
    return params, macs, outputs


@functools.cache
def networks() -> dict[str, Shares]:
    """Returns the shares of both networks with 1000 classes, at the sizes of their papers."""
    return {"AlexNet": shares(alexnet_two_tower(classes=1000), 227), "VGG-16": shares(vgg16_d(classes=1000), 224)}


def total(of: dict[str, float], *beginnings: str) -> float:
    """Returns the share of all layers whose names begin so."""
    return sum(share for name, share in of.items() if name.startswith(beginnings))


def measure(seed: int) -> Measured:
    """Returns the shares that the claim names; nothing is random."""
    params_share, macs_share, outputs_share, curves = {}, {}, {}, {}
    for network, (params, macs, outputs) in networks().items():
        params_share[f"{network}, first dense layer"] = params["fc6"]
        params_share[f"{network}, largest other layer"] = max(share for name, share in params.items() if name != "fc6")
        macs_share[f"{network}, convolutions"] = total(macs, "conv")
        macs_share[f"{network}, first convolution"] = macs[FIRST[network][0]]
        macs_share[f"{network}, before the first pooling"] = total(macs, *FIRST[network])
        macs_share[f"{network}, largest layer"] = max(macs.values())
        macs_share[f"{network}, second convolution"] = list(macs.values())[1]
        outputs_share[f"{network}, before the second pooling"] = total(outputs, *FIRST[network], "conv2")
        for label, of in (("parameters", params), ("compute", macs)):
            curves[f"{network}, {label}"] = tuple((float(number), 100 * of[name]) for number, name in enumerate(of, start=1))
    return Measured(
        numbers={"parameter_share": params_share, "compute_share": macs_share, "output_share": outputs_share}, curves=curves
    )


measurement = Measurement(
    claim="C20",
    question="Where do the parameters of AlexNet and VGG-16 sit, and where their compute?",
    measure=measure,
    metrics=(Metric("parameter_share", SHARE), Metric("compute_share", SHARE), Metric("output_share", SHARE)),
    verdict=every(
        *(
            identity(
                "C20",
                f"{network}, first dense layer",
                share,
                ROUNDED,
                f"The first dense layer of {network} holds most parameters",
            )
            for network, share in (("AlexNet", 0.6193), ("VGG-16", 0.7427))
        ),
        *(
            on(
                "compute_share",
                identity("C20", f"{network}, convolutions", share, ROUNDED, f"The convolutions of {network} compute most"),
            )
            for network, share in (("AlexNet", 0.9191), ("VGG-16", 0.9920))
        ),
        *(
            on(
                "compute_share",
                identity(
                    "C20",
                    f"{network}, first convolution",
                    share,
                    ROUNDED,
                    f"The first convolution of {network} computes {part}",
                ),
            )
            for network, share, part in (("AlexNet", 0.1455, "15 %"), ("VGG-16", 0.0056, "under 1 %"))
        ),
        on(
            "compute_share",
            identity("C20", "AlexNet, second convolution", 0.3091, ROUNDED, "The second convolution of AlexNet computes 31 %"),
        ),
        on(
            "compute_share",
            identity(
                "C20",
                "AlexNet, second convolution",
                "AlexNet, largest layer",
                0.0,
                "No layer of AlexNet computes more than the second",
            ),
        ),
        on(
            "compute_share",
            at_most("C20", "VGG-16, before the first pooling", 0.1253, "The first stage of VGG-16 computes an eighth"),
        ),
        shown=(
            on(
                "output_share",
                at_least(
                    "C20", "VGG-16, before the second pooling", 0.7, "The first two stages of VGG-16 hold most activations"
                ),
            ),
            *(
                at_least(
                    "C20",
                    f"{network}, first dense layer",
                    f"{network}, largest other layer",
                    f"No layer of {network} holds more than the first dense one",
                )
                for network in FIRST
            ),
        ),
        setting="source",
        scope="AlexNet at 227x227 and VGG-16 at 224x224 with 1000 classes; multiply-accumulates of a forward pass",
    ),
    card=Card(
        published=(
            "Krizhevsky (2014): convolutions hold about 5 % of the parameters and do 90 to 95 % of the computation. Krizhevsky "
            "et al. (2012) state 60 million parameters, Simonyan and Zisserman (2015) 138 million for VGG-16 (Table 2); the "
            "shares follow from the layers."
        ),
        would_change="A count of the published layers with other shares.",
        figure=Figure(x="layer with weights, from the image on", y="share in %"),
        deviations=(
            "Lectures also say that most compute is in the first convolutions. The table of shares refutes that for these two "
            "networks; it holds for networks whose first convolution has many maps at full resolution."
        ),
    ),
)

"""Claim C34: later layers respond to larger patches of the image, exactly as large as the theory of receptive fields says.

Paper:    A. Araujo, W. Norris, J. Sim, Computing receptive fields of convolutional neural networks, 2019, Distill; M. Zeiler,
          R. Fergus, Visualizing and understanding convolutional networks, 2014, arXiv 1311.2901
Command:  python launch.py measure --experiment=c34_receptive_fields
Result:   exact; docs/claims/c34.md has the numbers.

The receptive field is measured by response: one row of pixels after the other is lit in a black image, and a layer's unit in
the middle sees those rows at which it is not 0. All weights are positive and biases 0, so that nothing cancels and no ReLU is
closed. The theory is that of the layer table, which reads it from the program. What trained weights make of the field is less:
its border counts little (Luo et al. 2016, arXiv 1701.04128).
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import inspect
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import Array, PyTree
from cnnlab.metric import Metric
from cnnlab.models import MODELS

NETWORKS = {
    "AlexNet": ("alexnet", 352, 64, 195),
    "VGG-16": ("vgg16_d", 352, 32, 212),
    "ResNet-50": ("resnet50_v1", 640, 32, 483),
}
"""{network: (its name in MODELS, height and width of the images in pixels, published side of the last receptive field)}."""
WIDTH = 1 / 16
"""Factor on all channels, which do not matter to a receptive field."""
AT_ONCE = 32
"""Number of images in a batch."""
SEQUENTIAL = ("AlexNet", "VGG-16")
"""The networks in which every layer takes the output of the one before."""


def positive(shapes: PyTree, dtype: Any = jnp.float32) -> PyTree:
    """Returns variables of these shapes that cannot cancel: kernels that average, norms that change nothing."""
    constants = {"scale": 1.0, "bias": 0.0, "mean": 0.0, "var": 1.0}

    def leaf(path: tuple[Any, ...], shape: jax.ShapeDtypeStruct) -> Array:
        value = constants.get(path[-1].key, 1.0 / max(math.prod(shape.shape[:-1]), 1))
        return jnp.full(shape.shape, value, dtype)

    return jax.tree.map_with_path(leaf, shapes)


def outputs_of(model: nn.Module, variables: PyTree, images: Array, names: frozenset[str]) -> dict[str, Array]:
    """Returns {name: output} of the layers of these names, in evaluation."""
    found: dict[str, Array] = {}

    def keep(call: Any, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        result = call(*args, **kwargs)
        name = "/".join(context.module.path)
        if context.method_name == "__call__" and name in names:
            found[name] = result
        return result

    with nn.intercept_methods(keep):
        model.apply(variables, images, train=False)
    return found


def rows_seen(model: nn.Module, layers: list[inspect.Layer], shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Returns, by layer, which rows of the image its units in the middle row respond to, bool [H].

    Args:
        model: network.
        layers: layers of the layer table that still have positions.
        shape: (H, W, C) of the images.
    """
    variables = positive(
        jax.eval_shape(
            functools.partial(model.init, train=False), jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        )
    )
    names = frozenset(layer.name for layer in layers)

    @jax.jit
    def responses(variables: PyTree, first: Array) -> dict[str, Array]:
        """Returns, by layer, whether its middle responds to each of AT_ONCE rows from `first` on, bool [AT_ONCE]."""
        rows = first + jnp.arange(AT_ONCE, dtype=jnp.int32)
        lit = (jnp.arange(shape[0], dtype=jnp.int32)[None] == rows[:, None]).astype(jnp.float32)  # [B, H]
        images = jnp.broadcast_to(lit[:, :, None, None], (AT_ONCE, *shape))  # [B, H] -> [B, H, W, C]
        found = outputs_of(model, variables, images, names)
        return {name: jnp.any(x[:, (x.shape[1] - 1) // 2] > 0, axis=(1, 2)) for name, x in found.items()}

    parts = [jax.device_get(responses(variables, jnp.int32(first))) for first in range(0, shape[0], AT_ONCE)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@functools.cache
def sides(network: str) -> list[tuple[str, float, float]]:
    """Returns (layer, measured height of its receptive field, that of the layer table) of the layers of a network, in order."""
    name, height, width, _ = NETWORKS[network]
    network_of: Any = MODELS[name]
    model = network_of(classes=10, width=WIDTH)
    table = inspect.layers(model, (height, width, 3))
    layers = [row for row in table if row.type in ("Conv", "MaxPool") and row.stride[0] is not None]
    seen = rows_seen(model, layers, (height, width, 3))
    found = []
    for layer in layers:
        rows = np.flatnonzero(seen[layer.name])
        assert rows[0] > 0 and rows[-1] < height - 1, f"{layer.name}: the image is too small for this measurement"
        found.append((layer.name, float(rows[-1] - rows[0] + 1), float(layer.receptive_field[0] or 0)))
    return found


def measure(seed: int) -> Measured:
    """Returns the measured sides of the last receptive fields, gaps to the table, and growth; nothing is random."""
    largest, gap, growth, curves = {}, {}, {}, {}
    for network, (_, _, _, published) in NETWORKS.items():
        layers = sides(network)
        largest[network] = max(side for _, side, _ in layers)
        largest[f"{network}, published"] = float(published)
        gap[network] = max(abs(side - theory) for _, side, theory in layers)
        if network in SEQUENTIAL:
            growth[network] = min(np.diff([side for _, side, _ in layers]).tolist())
        curves[f"{network}, measured"] = tuple((float(number), side) for number, (_, side, _) in enumerate(layers, start=1))
        curves[f"{network}, theory"] = tuple((float(number), theory) for number, (_, _, theory) in enumerate(layers, start=1))
    return Measured({"side": largest, "gap": gap, "growth": growth}, curves)


measurement = Measurement(
    claim="C34",
    question="How large is the patch of the image that a layer responds to, measured and by theory?",
    measure=measure,
    metrics=(
        Metric("side", "pixels"),
        Metric("gap", "pixels", higher_is_better=False),
        Metric("growth", "pixels", higher_is_better=True),
    ),
    verdict=every(
        *(
            on(
                "gap",
                identity("C34", network, 0.0, 0.0, f"Every layer of {network} responds to as many rows as the theory says"),
            )
            for network in NETWORKS
        ),
        *(
            identity("C34", network, f"{network}, published", 0.0, f"The last field of {network} has the published side")
            for network in NETWORKS
        ),
        *(
            on("growth", at_least("C34", network, 1.0, f"In {network} every layer sees more than the one before"))
            for network in SEQUENTIAL
        ),
        setting="source",
        scope="AlexNet, VGG-16 and ResNet-50 with positive weights and a sixteenth of their channels",
    ),
    card=Card(
        published="Araujo et al. 2019, table of networks: 195 pixels for AlexNet, 212 for VGG-16, 483 for ResNet-50.",
        would_change="A row outside of a layer's receptive field to which its unit responds, or one inside to which it cannot.",
        figure=Figure(x="convolution or pooling, from the image on", y="side of the receptive field in pixels", log_y=True),
        deviations=(
            "The weights are positive and the same for all taps, so that every pixel of the field can be seen. Trained weights "
            "respond mostly to the middle of the field. In ResNet-50 a shortcut sees less than the block beside it."
        ),
    ),
)

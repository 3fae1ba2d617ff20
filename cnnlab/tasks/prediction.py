"""What tasks predict for images without labels (core.Prediction): a class, or an image.

Letters in shapes: B batch, H W space, C channels, K classes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Predicted, Prediction
from cnnlab.inputs import InputSpec
from cnnlab.ops.metrics import predicted
from cnnlab.ops.reconstruction_losses import squared_error

TOP = 5
"""Largest number of classes in the rows of an image."""
NO_CLASS = "none"
"""Name of the class where scores are not numbers."""


def of_classes(probabilities: Callable[[Array], Array] = jax.nn.softmax) -> Prediction:
    """The prediction of one class: its probability, and the TOP most probable classes.

    Args:
        probabilities: outputs of the task, scores f32 [B, K] -> probabilities f32 [B, K].
    """

    def arrays(scores: Array, images: Array) -> dict[str, Array]:
        ranked = jax.lax.top_k(scores, min(TOP, scores.shape[1]))[1].astype(jnp.int32)  # [B, K] -> [B, TOP]
        return {"probabilities": probabilities(scores), "prediction": predicted(scores), "top_classes": ranked}

    example = "print(about['class_names'][int(scores.argmax())])"
    return Prediction(arrays=arrays, rows=_class_rows, caption=_class_caption, label=_class_name, example=example)


def _class_rows(arrays: Predicted, inputs: InputSpec) -> list[dict[str, Any]]:
    """Returns `class` and `probability` of an image, then those of the next classes: `class_2`, `probability_2`, …."""
    row: dict[str, Any] = {}
    for place, number in enumerate(arrays["top_classes"].tolist(), start=1):
        suffix, is_class = f"_{place}" * (place > 1), arrays["prediction"] >= 0
        row[f"class{suffix}"] = inputs.class_names[number] if is_class else NO_CLASS
        row[f"probability{suffix}"] = arrays["probabilities"][number]
    return [row]


def _class_name(arrays: Predicted, inputs: InputSpec) -> str:
    """Returns the name of the predicted class."""
    return inputs.class_names[int(arrays["prediction"])] if arrays["prediction"] >= 0 else NO_CLASS


def _class_caption(arrays: Predicted, inputs: InputSpec) -> str:
    """Returns the predicted class and its probability."""
    return f"{_class_name(arrays, inputs)} {np.max(arrays['probabilities']):.2f}"


def of_tags() -> Prediction:
    """The prediction of several labels: the probability of each."""

    def arrays(scores: Array, images: Array) -> dict[str, Array]:
        return {"probabilities": jax.nn.sigmoid(scores)}

    def rows(arrays: Predicted, inputs: InputSpec) -> list[dict[str, Any]]:
        return [dict(zip(inputs.class_names, arrays["probabilities"].tolist(), strict=True))]

    def caption(arrays: Predicted, inputs: InputSpec) -> str:
        return ", ".join(name for name, share in zip(inputs.class_names, arrays["probabilities"], strict=True) if share > 0.5)

    return Prediction(arrays=arrays, rows=rows, caption=caption)


def of_numbers() -> Prediction:
    """The prediction of numbers, under their names."""

    def arrays(outputs: Array, images: Array) -> dict[str, Array]:
        return {"numbers": outputs.astype(jnp.float32)}

    def rows(arrays: Predicted, inputs: InputSpec) -> list[dict[str, Any]]:
        return [dict(zip(inputs.class_names, arrays["numbers"].tolist(), strict=True))]

    def caption(arrays: Predicted, inputs: InputSpec) -> str:
        return ", ".join(f"{number:.3g}" for number in arrays["numbers"])

    return Prediction(arrays=arrays, rows=rows, caption=caption)


def of_images() -> Prediction:
    """The prediction of an image, its reconstruction, with the squared error of the reconstruction."""

    def arrays(outputs: Array, images: Array) -> dict[str, Array]:
        return {"reconstruction": outputs.astype(jnp.float32), "squared_error": squared_error(outputs, images)}

    return Prediction(
        arrays=arrays,
        rows=lambda arrays, inputs: [{"squared_error": arrays["squared_error"]}],
        caption=lambda arrays, inputs: f"{float(arrays['squared_error']):.3g}",
        picture=lambda image, arrays: arrays["reconstruction"],
    )

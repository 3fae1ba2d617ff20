"""A network with weights from elsewhere, such as those of torchvision or timm, from Python."""

import functools
import pathlib
from typing import TYPE_CHECKING, Any

from cnnlab.cli.common import setup_jax
from cnnlab.files import absolute

if TYPE_CHECKING:
    from cnnlab.explain.opening import Opened
    from cnnlab.python.inside import Inside
    from cnnlab.python.predictions import Predictions


class Pretrained:
    """A classifier of the zoo with weights that were not trained here: it predicts, and can be looked into."""

    def __init__(self, opened: "Opened") -> None:
        """Takes a network that `pretrained` has opened."""
        self._opened = opened

    def __repr__(self) -> str:
        """Returns the name of the network, its weights and what it takes."""
        return f"Pretrained({', '.join(text for _, text in self._opened.facts)})"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        return self._opened.class_names

    @functools.cached_property
    def inside(self) -> "Inside":
        """What the network looks at: layers, kernels, activations, attributions."""
        from cnnlab.python.inside import Inside

        return Inside(self._opened)

    def predict(self, images: Any) -> "Predictions":
        """Predicts images, brought to size and normalised as the weights expect; `images` as those of `Run.predict`."""
        import jax.numpy as jnp
        import numpy as np

        from cnnlab.explain.examples import stacked_images
        from cnnlab.explain.network import scores
        from cnnlab.predict.predictor import PredictedImage
        from cnnlab.python.inside import prepared_images
        from cnnlab.python.predictions import Predictions

        opened = self._opened
        prepared = prepared_images(opened, images)
        seen = opened.normalized(stacked_images([one.pixels for _, one in prepared]))
        logits = scores(opened.network, jnp.asarray(seen))
        arrays = {name: np.asarray(values) for name, values in opened.prediction.arrays(logits, jnp.asarray(seen)).items()}
        rows = ({name: values[number] for name, values in arrays.items()} for number in range(len(prepared)))
        predicted = [PredictedImage(found, one, row) for (found, one), row in zip(prepared, rows, strict=True)]
        return Predictions(predicted, opened.prediction, opened.inputs)


def pretrained(
    model: str, weights: str | pathlib.Path, *, class_names: str | pathlib.Path | None = None, **knobs: Any
) -> Pretrained:
    """Opens a network of the zoo with weights from a file, without a run and without a data set.

        cnnlab.pretrained("efficientnet_lite0", "efficientnet_lite0.safetensors", class_names="imagenet_classes.json")

    Images are brought to the size that the network was published for, and normalised as its published weights expect. Raises
    UsageError where the weights are not those of the network.

    Args:
        model: name of the network, as `cnnlab list` has it.
        weights: file of torchvision, timm, pytorchcv or keras, or the folder of a run.
        class_names: file with the names of the classes, a JSON list or one name a line; None: their numbers.
        knobs: `image_size`, `image_fit`, `normalize`, `classes`, and the knobs of the model by their path, such as
            `**{"model.width": 2}`.
    """
    setup_jax(None)
    from cnnlab.explain.opening import open_imported

    values = {name: str(value) for name, value in knobs.items()}
    if class_names is not None:
        values["class_names"] = str(absolute(class_names))
    return Pretrained(open_imported({"model": model, "init_from": str(absolute(weights)), **values}))

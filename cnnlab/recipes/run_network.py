"""The network of a run of classification, with the knobs with which it was trained, from the files of the run alone."""

import logging
import pathlib
from typing import Any

import flax.linen as nn

from cnnlab import knobs
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec
from cnnlab.models import MODELS
from cnnlab.models.narrowed import KNOB, narrowed
from cnnlab.models.own_network import as_network
from cnnlab.recipes.classification import classification
from cnnlab.runs.run_files import read_run
from cnnlab.runs.trained_function import read_inputs
from cnnlab.values import Choice

log = logging.getLogger(__name__)


def network_of_run(path: str, data_dir: str | None, flag: str) -> tuple[nn.Module, InputSpec]:
    """Returns the classifier of a run and what it takes; raises UsageError where the run did not train one.

    Args:
        path: folder of the run.
        data_dir: folder of prepared TFDS sets, which the statistics of the run of an older version may need.
        flag: flag with its value that names the run, for the message.
    """
    values = read_run(pathlib.Path(path))["knobs"]
    try:
        resolved = knobs.resolve(classification, values, {"data_dir": data_dir})
    except UsageError as error:
        first = str(error).partition("\n")[0]
        raise UsageError(f"{flag}: expected the run of a classifier, got that of another task: {first}") from None
    if values.get("quantization", "none") != "none":
        log.warning("%s: that run rounds its weights to integers; here they are floats, as it learned them", flag)
    # A run of an older version keeps no specification: the statistics are taken from its data again.
    own = read_inputs(pathlib.Path(path)) or resolved.call().data.inputs
    below = {name: value for name, value in values.items() if name.partition(".")[0] == "model"}
    network = knobs.resolve(_network, below).call()(classes=len(own.class_names))
    whole = as_network(network, own.image_shape, (len(own.class_names),))
    return narrowed(whole, values.get(KNOB, ()), own.image_shape), own


def _network(*, model: Choice[MODELS] = "lenet5") -> Any:
    """Returns the chosen model, so that knobs.resolve fills the knobs of the network and no others."""
    return model

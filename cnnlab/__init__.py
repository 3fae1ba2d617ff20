"""cnnlab: convolutional networks as pure functions — train by flag, on any number of devices, and ablate.

From Python, `cnnlab.load(folder)` opens a run or a study, `cnnlab.experiment(name, **knobs)` configures an experiment,
`cnnlab.train(experiment)` trains it, and `cnnlab.pretrained(model, weights)` opens a network with weights from elsewhere
(docs/notebooks). They are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from cnnlab.home import VERSION as __version__

if TYPE_CHECKING:
    from cnnlab.python.configured import ConfiguredExperiment, experiment, train
    from cnnlab.python.inside import Attributions, Inside
    from cnnlab.python.opened import load
    from cnnlab.python.predictions import Predictions
    from cnnlab.python.pretrained import Pretrained, pretrained
    from cnnlab.python.run import Run
    from cnnlab.python.study import Study

__all__ = [
    "Attributions",
    "ConfiguredExperiment",
    "Inside",
    "Predictions",
    "Pretrained",
    "Run",
    "Study",
    "__version__",
    "experiment",
    "load",
    "pretrained",
    "train",
]

_MODULES = {
    "Attributions": "inside",
    "ConfiguredExperiment": "configured",
    "Inside": "inside",
    "Predictions": "predictions",
    "Pretrained": "pretrained",
    "Run": "run",
    "Study": "study",
    "experiment": "configured",
    "load": "opened",
    "pretrained": "pretrained",
    "train": "configured",
}
"""{name: the module of cnnlab/python that has it}."""


def __getattr__(name: str) -> Any:
    """Imports one of the names above."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"cnnlab.python.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

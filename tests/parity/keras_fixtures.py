"""Makes the parity fixtures of keras.applications: an environment for keras, then two files for each case.

    python -m tests.parity.keras_fixtures [PART OF A NAME …]

They lie beside those of fixtures.py. $CNNLAB_KERAS_PYTHON names a Python that has keras and jax already.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from benchmarks.environments import python_of
from tests.parity.fixtures import FOLDER, HERE


@dataclasses.dataclass(frozen=True)
class KerasCase:
    """One network of keras.applications and the model that must equal it."""

    reference: str
    """Name in keras.applications."""
    model: str
    """Name in MODELS."""
    size: int
    """Side of the images."""
    knobs: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Our model's knobs, by name as on the command line."""
    layout: str = ".weights.h5"
    """What keras saves: `.weights.h5`, or `.h5`, its older layout."""
    differs: tuple[str, ...] = ()
    """What the test changes in our network because no knob does: `padding` below and to the right alone where the stride is
    2, `average` without the padding."""
    options: dict[str, Any] = dataclasses.field(default_factory=lambda: {"classes": 10})

    def request(self) -> dict[str, Any]:
        """What the oracle is asked; the file's name changes with it, and with the oracle's own source."""
        wanted = {"model": self.reference, "size": self.size, "layout": self.layout, "options": self.options}
        told = json.dumps(wanted, sort_keys=True) + (HERE / "keras_oracle.py").read_text(encoding="utf-8")
        return {**wanted, "file": f"keras-{self.reference}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"}

    def path(self, suffix: str) -> pathlib.Path:
        """Where a fixture lies once it is made."""
        return FOLDER / f"{self.request()['file']}{suffix}"


_TENSORFLOW = {"norm.epsilon": 1e-3}

CASES = [
    KerasCase("VGG16", "vgg16_d", 64, {"grid": 2}),
    KerasCase("ResNet50", "resnet50_v1", 64, {"norm.epsilon": 1.001e-5}),
    KerasCase("DenseNet121", "densenet121", 64, {"norm.epsilon": 1.001e-5}, layout=".h5"),
    KerasCase("MobileNet", "mobilenet_v1", 64, {"activation": "relu6", **_TENSORFLOW}, differs=("padding",)),
    KerasCase("MobileNetV2", "mobilenet_v2", 64, _TENSORFLOW, layout=".h5", differs=("padding",)),
    KerasCase("EfficientNetB0", "efficientnet_b0", 64, {"padding": "same", **_TENSORFLOW}),
    KerasCase("InceptionV3", "inception_v3", 139, differs=("average",), layout=".h5"),
    KerasCase("InceptionResNetV2", "inception_resnet_v2", 139),
]


def keras_python() -> str:
    """A Python with keras, installed into the folder on first use."""
    if given := os.environ.get("CNNLAB_KERAS_PYTHON"):
        return given
    return python_of(FOLDER / "keras-environment", [("-r", str(HERE / "keras_requirements.txt"))])


def make(cases: list[KerasCase]) -> None:
    """Makes the fixtures that are not there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    missing = [case.request() for case in cases if not case.path(".npz").exists()]
    if missing:
        environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
        command = [keras_python(), str(HERE / "keras_oracle.py"), str(FOLDER)]
        subprocess.run(command, input=json.dumps(missing), text=True, check=True, env=environment)
    print(f"{len(cases)} fixtures of keras in {FOLDER}, {len(missing)} of them new")


if __name__ == "__main__":
    make([case for case in CASES if not sys.argv[1:] or any(word in case.reference for word in sys.argv[1:])])

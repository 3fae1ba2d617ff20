"""Every row of the reference table: parameters and multiply-accumulates equal the published ones."""

import pytest

from cnnlab import inspect
from cnnlab.models import MODELS, native_shape
from tests.published import PUBLISHED
from tests.stages import slow_but
from tests.zoo import DEEP

REPEATING = (
    *("resnet101_v1_5", "resnet152_v1_5", "preact_resnet101", "preact_resnet152", "wrn28_10", "wrn40_4", "wrn40_2"),
    *("cifar_resnet44", "cifar_resnet56", "cifar_resnet110", "cifar_densenet100_12"),
    *("cifar_preact_resnet56", "cifar_preact_resnet110", "cifar_preact_resnet164"),
)
"""Networks with more of the blocks of a shallower one, which the fast stage counts."""


@pytest.mark.parametrize(
    ("name", "knobs", "shape", "params", "macs", "source"),
    slow_but(
        PUBLISHED,
        *(row for row in PUBLISHED if row[0] not in (*DEEP, *REPEATING)),
        thorough=("cifar_densenet_bc250_24", "cifar_densenet_bc190_40"),
    ),
)
def test_parameters_and_macs_are_the_published_ones(name, knobs, shape, params, macs, source):
    assert shape == native_shape(name)
    total = inspect.as_json(inspect.layers(MODELS[name](classes=10 if shape[0] == 32 else 1000, **knobs), shape))["total"]
    assert (total["params"], total["macs"]) == (params, macs), source

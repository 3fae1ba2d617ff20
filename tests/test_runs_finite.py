"""A state whose parameters are not finite is never saved as a checkpoint, whatever its loss."""

import dataclasses

import numpy as np
import pytest

from cnnlab.core import TrainState
from cnnlab.errors import DivergedError
from cnnlab.runs.finite import require_finite

FINE = TrainState(
    step=np.int32(4),
    key=np.zeros(2, np.uint32),
    params={"model": {"conv": {"kernel": np.ones((2, 2), np.float32), "bias": np.zeros(2, np.float32)}}},
    model_state={},
    opt_state={"model": (np.float32(np.inf),)},  # an optimiser may keep an infinite smallest loss
    average={},
)


def test_finite_parameters_pass_whatever_the_optimiser_keeps():
    assert require_finite(FINE, 4) is FINE


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_leaf_that_is_not_finite_is_named(value: float):
    kernel = np.ones((2, 2), np.float32)
    kernel[1, 0] = value
    broken = {"model": {"conv": {**FINE.params["model"]["conv"], "kernel": kernel}}}
    with pytest.raises(DivergedError, match=r"^params/model/conv/kernel hold numbers that are not finite at step 4"):
        require_finite(dataclasses.replace(FINE, params=broken), 4)
    with pytest.raises(DivergedError, match="average/model/conv/kernel"):
        require_finite(dataclasses.replace(FINE, average=broken), 4)

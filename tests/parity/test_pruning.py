"""Masks against torch.nn.utils.prune, to the bit, and lengths of codes against bitarray's."""

import functools

import numpy as np
import pytest

from cnnlab.compressed import huffman
from cnnlab.ops import pruning, trees, units
from tests.parity import fixtures
from tests.parity.pruning_oracle import CODES, DENSITIES, LAYERS, NORMS

pytestmark = [pytest.mark.parity, pytest.mark.slow]


@functools.cache
def fixture():
    path = fixtures.pruning_path()
    if not path.exists():
        pytest.skip("no fixture: `python -m tests.parity.fixtures pruning` makes it (torch in an environment of its own)")
    return dict(np.load(path))


def ours(array):
    """[O, …] of torch as [I, O] or [h, w, I, O]."""
    return array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)


def params():
    return trees.unflatten({f"{name}/kernel": ours(fixture()[f"{name}/kernel"]) for name in LAYERS})


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize(("theirs", "scope"), [("l1", "layer"), ("all", "network")])
def test_the_same_weights_stay(theirs, scope, density):
    found = pruning.masks(params(), {f"{name}/kernel": density for name in LAYERS}, scope)
    for name in LAYERS:
        assert np.array_equal(found[name]["kernel"], ours(fixture()[f"{theirs}/{name}/{density}"])), name


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("norm", NORMS)
def test_the_same_channels_stay(norm, density):
    families = []
    for name, shape in LAYERS.items():
        path = f"params/{name}/kernel"
        sizes = {path: ours(np.empty(shape)).shape}
        families.append(units.Units({(path, len(shape) - 1): np.arange(shape[0])[:, None]}, sizes))
    found = units.masks(params(), families, [density] * len(families), scope="layer", criterion=f"l{norm}")
    for name in LAYERS:
        assert np.array_equal(found[name]["kernel"], ours(fixture()[f"ln{norm}/{name}/{density}"])), name


@pytest.mark.parametrize("number", range(CODES))
def test_codes_are_as_short_as_those_of_bitarray(number):
    counts = fixture()[f"counts/{number}"]
    assert int(np.dot(huffman.code_lengths(counts), counts)) == int(fixture()[f"bits/{number}"])

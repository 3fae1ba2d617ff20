"""FGSM and PGD against an independent implementation in torch and against foolbox, in f64: the same images after all steps."""

import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.attacks import pgd
from cnnlab.ops.losses import cross_entropy
from tests.parity import fixtures
from tests.parity.conventions import ATTACKS, RESTARTS

pytestmark = [pytest.mark.parity, pytest.mark.slow]


@pytest.fixture(autouse=True)
def f64():
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        yield


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a fixture; skips the test where it is not there."""
    if not path.exists():
        name = path.name.partition("-")[0]
        pytest.skip(f"no fixture: `python -m tests.parity.fixtures {name}` makes it (torch in an environment of its own)")
    return dict(np.load(path))


def logits_function(fixture: dict[str, np.ndarray]) -> Callable[[jax.Array], jax.Array]:
    """The oracle's network, of images [B, H, W, C]."""
    kernel, weights = jnp.asarray(fixture["kernel"].transpose(2, 3, 1, 0)), jnp.asarray(fixture["weights"].T)

    def logits_of(moved: jax.Array) -> jax.Array:
        form = ("NHWC", "HWIO", "NHWC")
        hidden = jax.nn.softplus(jax.lax.conv_general_dilated(moved, kernel, (1, 1), "VALID", dimension_numbers=form))
        return hidden.transpose(0, 3, 1, 2).reshape(len(moved), -1) @ weights  # [B, H, W, O] -> [B, O·H·W] -> [B, K]

    return logits_of


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_equal_the_references(name: str):
    """The images of both references; from random starts foolbox reaches no larger loss than ours in as many steps."""
    fixture = read(fixtures.attacks_path())
    norm, epsilon, steps, step, targeted = ATTACKS[name]
    logits_of, images = logits_function(fixture), jnp.asarray(fixture["images"].transpose(0, 2, 3, 1))
    labels = jnp.asarray(fixture["targets" if targeted else "labels"], jnp.int32)
    knobs = {"epsilon": epsilon, "norm": norm, "iterations": steps, "step": step}

    @functools.partial(jax.jit, static_argnames="random_start")
    def attacked(keys: jax.Array, random_start: bool) -> tuple[jax.Array, jax.Array]:
        moved = pgd(logits_of, images, labels, keys, cross_entropy, targeted, random_start=random_start, **knobs)
        return moved, cross_entropy(logits_of(moved), labels)

    keys = jax.random.split(jax.random.key(0), (RESTARTS, len(images)))
    moved, _ = attacked(keys[0], False)
    np.testing.assert_allclose(moved, fixture[f"moved/{name}"].transpose(0, 2, 3, 1), rtol=0, atol=1e-10)
    foolbox = read(fixtures.foolbox_path())
    np.testing.assert_allclose(moved, foolbox[f"moved/{name}"].transpose(0, 2, 3, 1), rtol=0, atol=1e-10)
    sign = -1 if targeted else 1  # a targeted attack lowers the loss
    ours, theirs = (
        sign * np.asarray(found) for found in ([attacked(each, True)[1] for each in keys], foolbox[f"losses/{name}"])
    )
    for best in (lambda losses: losses.mean(), lambda losses: losses.max(axis=0).mean()):
        assert best(theirs) < best(ours) + 0.01 * abs(best(ours))

"""FGSM and PGD against an independent implementation in torch, in f64: the same images after all steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.attacks import pgd
from cnnlab.ops.losses import cross_entropy
from tests.parity import fixtures

pytestmark = [pytest.mark.parity, pytest.mark.slow]


def test_attacks_equal_the_reference():
    path = fixtures.attacks_path()
    if not path.exists():
        pytest.skip("no fixture: `python -m tests.parity.fixtures attacks` makes it (torch in an environment of its own)")
    fixture = dict(np.load(path))
    # What the oracle's table has; it cannot be imported without torch.
    table = {
        "fgsm": ("linf", 0.03, 1, 1.0, False),
        "linf": ("linf", 0.1, 7, 0.25, False),
        "linf-targeted": ("linf", 0.05, 12, 0.2, True),
        "l2": ("l2", 0.8, 7, 0.25, False),
        "l2-targeted": ("l2", 1.5, 12, 0.2, True),
    }
    assert {f"moved/{name}" for name in table} == {name for name in fixture if name.startswith("moved/")}
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        kernel = jnp.asarray(fixture["kernel"].transpose(2, 3, 1, 0))  # [O, C, h, w] -> [h, w, C, O]
        weights, images = jnp.asarray(fixture["weights"].T), jnp.asarray(fixture["images"].transpose(0, 2, 3, 1))

        def logits_of(moved: jax.Array) -> jax.Array:
            form = ("NHWC", "HWIO", "NHWC")
            hidden = jax.nn.softplus(jax.lax.conv_general_dilated(moved, kernel, (1, 1), "VALID", dimension_numbers=form))
            return hidden.transpose(0, 3, 1, 2).reshape(len(moved), -1) @ weights  # [B, H, W, O] -> [B, O·H·W] -> [B, K]

        for name, (norm, epsilon, steps, step, targeted) in table.items():
            given = jnp.asarray(fixture["targets" if targeted else "labels"], jnp.int32)
            knobs = {"epsilon": epsilon, "norm": norm, "iterations": steps, "step": step, "random_start": False}
            moved = jax.jit(
                lambda images, given=given, targeted=targeted, knobs=knobs: pgd(
                    logits_of, images, given, None, cross_entropy, targeted, **knobs
                )
            )(images)
            expected = fixture[f"moved/{name}"].transpose(0, 2, 3, 1)
            np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-10, err_msg=name)

"""Attacks: exact on a linear model, exactly in their ball and in [0, 1], each image for itself, stronger than noise."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops import attacks
from cnnlab.ops.losses import cross_entropy

SHAPE = (6, 5, 4, 3)
"""Images of a test, [B, H, W, C]."""
KEYS = jax.random.split(jax.random.key(1), SHAPE[0])
WEIGHTS = np.random.default_rng(0).normal(size=(5 * 4 * 3, 10)).astype(np.float32)
LABELS = jnp.arange(SHAPE[0], dtype=jnp.int32)


def logits_of(images: jax.Array) -> jax.Array:
    """A network of one layer and a bend, so that gradients depend on the image."""
    return jnp.tanh(images.reshape(len(images), -1) - 0.5) @ WEIGHTS


def some_images() -> np.ndarray:
    """Images with many pixels at 0 and at 1."""
    return np.clip(np.random.default_rng(2).uniform(-0.3, 1.3, SHAPE), 0, 1).astype(np.float32)


ATTACKS: dict[str, Any] = {
    "fgsm": attacks.fgsm,
    "pgd linf": functools.partial(attacks.pgd, steps=3),
    "pgd l2": functools.partial(attacks.pgd, norm="l2", steps=3),
    "loop": functools.partial(attacks.pgd, steps=attacks.WRITTEN_OUT + 1, norm="l2"),
    "noise linf": attacks.noise,
    "noise l2": functools.partial(attacks.noise, norm="l2"),
}


@functools.cache
def compiled(name: str, targeted: bool = False) -> Any:
    """(images, labels, keys, epsilon) -> attacked images."""

    def attack(images: Any, labels: Any, keys: Any, epsilon: Any) -> Any:
        return ATTACKS[name](logits_of, images, labels, keys, cross_entropy, targeted, epsilon=epsilon)

    return jax.jit(attack)


def test_fgsm_lowers_the_margin_of_a_linear_model_by_epsilon_times_the_sum_of_its_weights_exactly():
    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        # Multiples of powers of two: every sum and product is exact.
        weights = jnp.asarray(random.integers(-8, 9, (60, 2)), jnp.float64)
        images, epsilon = jnp.asarray(random.integers(20, 44, SHAPE) / 64, jnp.float64), 1 / 16
        labels = jnp.arange(SHAPE[0], dtype=jnp.int32) % 2

        def linear(images: jax.Array) -> jax.Array:
            return images.reshape(len(images), -1) @ weights  # [B, H, W, C] -> [B, K]

        def margin(images: jax.Array) -> np.ndarray:
            scores = np.asarray(linear(images))
            return scores[np.arange(SHAPE[0]), labels] - scores[np.arange(SHAPE[0]), 1 - labels]

        moved = attacks.fgsm(linear, images, labels, epsilon=epsilon)
        expected = epsilon * np.abs(np.asarray(weights[:, 0] - weights[:, 1])).sum()
        np.testing.assert_array_equal(margin(images) - margin(moved), np.full(SHAPE[0], expected))
        assert np.abs(moved - images).max() == epsilon
        # Towards the other class it is the same attack.
        np.testing.assert_array_equal(attacks.fgsm(linear, images, 1 - labels, targeted=True, epsilon=epsilon), moved)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_stays_in_its_ball_and_in_the_range_of_pixels_exactly(name: str):
    images = some_images()
    assert np.array_equal(compiled(name)(images, LABELS, KEYS, 0.0), images)
    for epsilon in (1e-3, 0.1, 8 / 255, 0.7):
        moved = np.asarray(compiled(name)(images, LABELS, KEYS, epsilon))
        change, radius = moved.astype(np.float64) - images, float(np.float32(epsilon))
        sizes = (
            np.sqrt(np.sum(change**2, axis=(1, 2, 3))) if "l2" in name or name == "loop" else np.abs(change).max(axis=(1, 2, 3))
        )
        assert moved.min() >= 0 and moved.max() <= 1 and sizes.max() <= radius
        assert sizes.min() > (0.5 if "l2" in name or name == "loop" else 0.99) * radius  # an edge of the range cuts off some


@pytest.mark.parametrize("name", [name for name in ATTACKS if "noise" not in name])
def test_an_attack_raises_the_loss_more_than_noise_and_a_targeted_one_lowers_it(name: str):
    images, epsilon = some_images(), 0.1
    kind = "noise l2" if "l2" in name or name == "loop" else "noise linf"

    def loss(images: Any, labels: Any = LABELS) -> np.ndarray:
        return np.asarray(cross_entropy(logits_of(jnp.asarray(images)), labels))

    moved, shaken = (compiled(one)(images, LABELS, KEYS, epsilon) for one in (name, kind))
    assert (loss(moved) > loss(images)).all() and (loss(moved) > loss(shaken)).all()
    targets = (LABELS + 3) % 10
    assert (loss(compiled(name, targeted=True)(images, targets, KEYS, epsilon), targets) < loss(images, targets)).all()


def test_an_image_is_attacked_alone_as_in_company_and_a_random_start_is_that_of_its_key():
    images, attack = some_images(), compiled("pgd l2")
    together = attack(images, LABELS, KEYS, 0.1)
    np.testing.assert_allclose(attack(images[2:4], LABELS[2:4], KEYS[2:4], 0.1), together[2:4], atol=1e-6)
    assert not np.allclose(attack(images, LABELS, KEYS[::-1], 0.1), together, atol=1e-4)
    steps: dict[str, Any] = {"steps": 1, "step": 1.0, "random_start": False, "epsilon": 0.1}
    single = attacks.pgd(logits_of, jnp.asarray(images), LABELS, None, **steps)
    np.testing.assert_array_equal(single, attacks.fgsm(logits_of, jnp.asarray(images), LABELS, epsilon=0.1))


def test_a_tiny_gradient_has_a_direction_and_none_at_all_moves_nothing():
    images = jnp.full((1, 2, 2, 1), 0.5)
    attack = functools.partial(attacks.pgd, norm="l2", steps=1, step=1.0, random_start=False, epsilon=0.1)
    for scale, size in ((1e-30, 0.1), (0.0, 0.0)):
        moved = attack(
            lambda images, scale=scale: scale * images.reshape(1, 4),
            images,
            jnp.zeros(1, jnp.int32),
            loss=lambda s, _: s.sum(1),
        )
        assert float(jnp.sqrt(jnp.sum(jnp.square(moved - images)))) == pytest.approx(size, rel=1e-4)


def test_any_image_and_noise_reach_every_class_and_stop_there():
    images = jnp.concatenate([jnp.asarray(some_images())[:2], jax.random.uniform(jax.random.key(3), (8, *SHAPE[1:]))])
    targets = jnp.arange(10, dtype=jnp.int32)
    reach = jax.jit(functools.partial(attacks.toward_class, logits_of), static_argnames=("confidence", "steps"))
    moved = reach(images, targets, confidence=0.9)
    reached = np.exp(-np.asarray(cross_entropy(logits_of(moved), targets)))
    assert (reached >= 0.9).all() and moved.min() >= 0 and moved.max() <= 1
    np.testing.assert_array_equal(reach(moved, targets, confidence=0.9), moved)
    assert not np.array_equal(reach(images, targets, confidence=0.9, steps=3), images)

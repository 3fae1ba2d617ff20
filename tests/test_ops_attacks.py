"""Attacks: exact on a linear model, exactly in their ball and in [0, 1], each image for itself, stronger than noise."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops import attacks
from cnnlab.ops.losses import cross_entropy
from tests.stages import slow_but

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
    "pgd linf": functools.partial(attacks.pgd, iterations=2),
    "pgd l2": functools.partial(attacks.pgd, norm="l2", iterations=2),
    "noise linf": attacks.noise,
    "noise l2": functools.partial(attacks.noise, norm="l2"),
}


@functools.cache
def compiled(name: str) -> Any:
    """(images, labels, keys, epsilon) -> attacked images."""

    def attack(images: Any, labels: Any, keys: Any, epsilon: Any) -> Any:
        return ATTACKS[name](logits_of, images, labels, keys, epsilon=epsilon)

    return jax.jit(attack)


def test_fgsm_lowers_the_margin_of_a_linear_model_by_epsilon_times_the_sum_of_its_weights_exactly():
    random = np.random.default_rng(0)
    # Multiples of powers of two: every sum and product is exact.
    weights, epsilon = random.integers(-8, 9, (60, 2)).astype(np.float64), 1 / 16
    images, labels = random.integers(20, 44, SHAPE) / 64, np.arange(SHAPE[0], dtype=np.int32) % 2

    @jax.jit
    def run(images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        def linear(images: jax.Array) -> jax.Array:
            return images.reshape(len(images), -1) @ weights  # [B, H, W, C] -> [B, K]

        away = attacks.fgsm(linear, images, labels, epsilon=epsilon)
        return away, attacks.fgsm(linear, images, 1 - labels, targeted=True, epsilon=epsilon)

    def margin(images: np.ndarray) -> np.ndarray:
        scores = images.reshape(len(images), -1) @ weights
        return scores[np.arange(SHAPE[0]), labels] - scores[np.arange(SHAPE[0]), 1 - labels]

    with jax.enable_x64(True):
        moved, towards = (np.asarray(found) for found in run(images, labels))
    expected = epsilon * np.abs(weights[:, 0] - weights[:, 1]).sum()
    np.testing.assert_array_equal(margin(images) - margin(moved), np.full(SHAPE[0], expected))
    assert np.abs(moved - images).max() == epsilon
    np.testing.assert_array_equal(towards, moved)  # of two classes, away from one is towards the other


@pytest.mark.parametrize("name", slow_but(ATTACKS, "fgsm", "pgd l2", "noise l2"))
def test_an_attack_stays_in_its_ball_and_in_the_range_of_pixels_exactly(name: str):
    images = some_images()
    assert np.array_equal(compiled(name)(images, LABELS, KEYS, 0.0), images)
    for epsilon in (1e-3, 0.1, 8 / 255, 0.7):
        moved = np.asarray(compiled(name)(images, LABELS, KEYS, epsilon))
        change, radius = moved.astype(np.float64) - images, float(np.float32(epsilon))
        is_l2 = "l2" in name
        sizes = np.sqrt(np.sum(change**2, axis=(1, 2, 3))) if is_l2 else np.abs(change).max(axis=(1, 2, 3))
        assert moved.min() >= 0 and moved.max() <= 1 and sizes.max() <= radius
        assert sizes.max() > (0.4 if is_l2 else 0.9) * radius  # less where pixels are at an end of their range


@pytest.mark.slow
def test_attacks_raise_the_loss_more_than_noise_and_targeted_ones_lower_it():
    images, targets = jnp.asarray(some_images()), (LABELS + 3) % 10

    @jax.jit
    def losses(images: jax.Array) -> dict[str, jax.Array]:
        moved = {name: ATTACKS[name](logits_of, images, LABELS, KEYS, epsilon=0.1) for name in ATTACKS}
        found = {name: cross_entropy(logits_of(one), LABELS) for name, one in moved.items()}
        for name in ("fgsm", "pgd l2"):
            aimed = ATTACKS[name](logits_of, images, targets, KEYS, cross_entropy, True, epsilon=0.1)
            found[f"{name}, targeted"] = cross_entropy(logits_of(aimed), targets)
        return {**found, "clean": cross_entropy(logits_of(images), LABELS), "target": cross_entropy(logits_of(images), targets)}

    found = {name: np.asarray(one) for name, one in losses(images).items()}
    for name in ("fgsm", "pgd linf", "pgd l2"):
        assert (found[name] > found["clean"]).all()
        assert found[name].mean() > found[f"noise {'l2' if 'l2' in name else 'linf'}"].mean()
    assert (found["fgsm, targeted"] < found["target"]).all() and (found["pgd l2, targeted"] < found["target"]).all()


def test_an_image_is_attacked_alone_as_in_company_and_a_random_start_is_that_of_its_key():
    images, attack = some_images(), compiled("pgd l2")
    together = np.asarray(attack(images, LABELS, KEYS, 0.1))
    others = np.concatenate([images[2:4], images[:4]])
    alone = attack(others, jnp.concatenate([LABELS[2:4], LABELS[:4]]), jnp.concatenate([KEYS[2:4], KEYS[:4]]), 0.1)
    np.testing.assert_allclose(alone[:2], together[2:4], atol=1e-6)
    assert not np.allclose(attack(images, LABELS, KEYS[::-1], 0.1), together, atol=1e-4)


def test_a_tiny_gradient_has_a_direction_and_none_at_all_moves_nothing():
    attack = functools.partial(attacks.pgd, norm="l2", iterations=1, step=1.0, random_start=False, epsilon=0.1)

    @jax.jit
    def moved(scale: jax.Array, images: jax.Array) -> jax.Array:
        labels = jnp.zeros(1, jnp.int32)
        return attack(lambda images: scale * images.reshape(1, 4), images, labels, loss=lambda scores, _: scores.sum(1))

    images = np.full((1, 2, 2, 1), 0.5, np.float32)
    for scale, size in ((1e-30, 0.1), (0.0, 0.0)):
        change = np.asarray(moved(jnp.float32(scale), images)) - images
        assert np.sqrt(np.sum(change**2)) == pytest.approx(size, rel=1e-4)


def test_any_image_and_noise_reach_every_class_and_stop_there():
    noise = np.random.default_rng(3).uniform(size=(8, *SHAPE[1:])).astype(np.float32)
    images, targets = np.concatenate([some_images()[:2], noise]), jnp.arange(10, dtype=jnp.int32)

    @jax.jit
    def reach(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        moved = attacks.toward_class(logits_of, images, targets, confidence=0.9)
        return moved, jnp.exp(-cross_entropy(logits_of(moved), targets))

    moved, reached = (np.asarray(found) for found in reach(images))
    assert (reached >= 0.9).all() and moved.min() >= 0 and moved.max() <= 1 and not np.array_equal(moved, images)
    np.testing.assert_array_equal(reach(moved)[0], moved)

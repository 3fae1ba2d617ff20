"""Adversarial examples: images in a small ball around given ones, on which a classifier errs.

An attack is `(logits_of, images, labels, keys, loss, targeted, *, epsilon, …) -> images`. Pixels are in [0, 1], and ε is in
their unit: normalisation belongs into `logits_of`. Every image is attacked for itself, so batches may be of any size, on any
number of devices. What is returned lies in the ball and in [0, 1] exactly, after rounding. Float arguments may be tracers.

Letters in shapes: B batch, H W space, C channels, K classes.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from cnnlab.ops import draws
from cnnlab.ops.losses import cross_entropy
from cnnlab.values import Count, NonNegative, Positive, Probability

LogitsOf = Callable[[jax.Array], jax.Array]
"""Images f32 [B, H, W, C] in [0, 1] -> logits f32 [B, K], each row of its own image alone."""
Loss = Callable[[jax.Array, jax.Array], jax.Array]
"""(logits f32 [B, K], labels) -> f32 [B]: what an attack raises, or lowers where it is targeted."""
Attack = Callable[..., jax.Array]
"""(logits_of, images f32 [B, H, W, C] in [0, 1], labels, keys [B], loss, targeted, *, epsilon) -> images."""
Norm = Literal["linf", "l2"]
"""Largest absolute change of a pixel, or the root of the sum of all squared changes of an image."""


def fgsm(
    logits_of: LogitsOf,
    images: jax.Array,
    labels: jax.Array,
    keys: jax.Array | None = None,
    loss: Loss = cross_entropy,
    targeted: bool = False,
    *,
    epsilon: NonNegative = 8 / 255,
) -> jax.Array:
    """Moves every pixel by ε in the direction in which the loss rises (Goodfellow et al. 2014, arXiv 1412.6572, section 4).

    Args:
        logits_of: the classifier.
        images: f32 [B, H, W, C] in [0, 1].
        labels: the classes, i32 [B] or shares f32 [B, K]; of a targeted attack the classes that it aims at.
        keys: one PRNG key for each image; unused, nothing is drawn.
        loss: the loss that rises, of a targeted attack falls.
        targeted: whether the attack aims at `labels` instead of moving away from them.
        epsilon: largest change of a pixel, in [0, 1]: of images of 8 bits, a level is 1/255.
    """
    once = functools.partial(pgd, norm="linf", iterations=1, step=1.0, random_start=False)
    return once(logits_of, images, labels, keys, loss, targeted, epsilon=epsilon)


def pgd(
    logits_of: LogitsOf,
    images: jax.Array,
    labels: jax.Array,
    keys: jax.Array | None = None,
    loss: Loss = cross_entropy,
    targeted: bool = False,
    *,
    epsilon: NonNegative = 8 / 255,
    norm: Norm = "linf",
    iterations: Count = 10,
    step: Positive = 0.25,
    random_start: bool = True,
) -> jax.Array:
    """Repeats steps of equal length along the gradient, each followed by the projection on the ball and on [0, 1].

    Projected gradient descent (Madry et al. 2017, arXiv 1706.06083, section 2.1). A step is the sign of the gradient in the
    maximum norm, and the gradient divided by its length in the Euclidean one.

    Args:
        logits_of: the classifier.
        images: f32 [B, H, W, C] in [0, 1].
        labels: the classes, i32 [B] or shares f32 [B, K]; of a targeted attack the classes that it aims at.
        keys: one PRNG key for each image; needed for a random start alone.
        loss: the loss that rises, of a targeted attack falls.
        targeted: whether the attack aims at `labels` instead of moving away from them.
        epsilon: radius of the ball, in pixels of [0, 1].
        norm: norm of the ball: linf, the largest change of a pixel, or l2, the length of the change of an image.
        iterations: number of gradients.
        step: length of a step as a share of ε.
        random_start: whether the first step begins at a random point of the ball, drawn uniformly, or at the image.
    """
    radius = jnp.asarray(epsilon, images.dtype)
    length = radius * jnp.asarray(-step if targeted else step, images.dtype)
    direction, project = (jnp.sign, _into_box) if norm == "linf" else (_unit, _into_sphere)
    gradient = jax.grad(lambda moved: jnp.sum(loss(logits_of(moved), labels)))

    def forward(moved: jax.Array) -> jax.Array:
        return project(moved + length * direction(gradient(moved)), images, radius)

    moved = images
    if random_start:
        assert keys is not None, "a random start takes a key for each image"
        moved = project(images + radius * _from_unit_ball(keys, images, norm), images, radius)
    return jax.lax.fori_loop(0, iterations, lambda _, moved: forward(moved), moved)


def noise(
    logits_of: LogitsOf,
    images: jax.Array,
    labels: jax.Array,
    keys: jax.Array,
    loss: Loss = cross_entropy,
    targeted: bool = False,
    *,
    epsilon: NonNegative = 8 / 255,
    norm: Norm = "linf",
) -> jax.Array:
    """Moves every pixel up or down at random, as far as an attack of the same ε may: the control of all attacks.

    Args:
        logits_of: the classifier, which is not asked.
        images: f32 [B, H, W, C] in [0, 1].
        labels: unused.
        keys: one PRNG key for each image.
        loss: unused.
        targeted: unused.
        epsilon: size of the change, in pixels of [0, 1].
        norm: norm of the change: linf, ±ε in every pixel, or l2, a random direction of length ε.
    """
    radius = jnp.asarray(epsilon, images.dtype)
    if norm == "linf":
        signs = jax.vmap(lambda key: jax.random.rademacher(key, images.shape[1:], images.dtype))(keys)
        return _into_box(images + radius * signs, images, radius)
    return _into_sphere(images + radius * _unit(_normal(keys, images)), images, radius)


def toward_class(
    logits_of: LogitsOf,
    images: jax.Array,
    targets: jax.Array,
    *,
    confidence: Probability = 0.99,
    step: Positive = 0.2,
    steps: Count = 200,
) -> jax.Array:
    """Moves images until the classifier takes them for the target, by steps of one length along the gradient of log p(target).

    Of a photograph it makes a targeted adversarial image (as Szegedy et al. 2013, arXiv 1312.6199, with another optimiser), of
    noise a fooling image (Nguyen et al. 2014, arXiv 1412.1897, section 3.3). There is no ball: an image that arrives stops.

    Args:
        logits_of: the classifier.
        images: f32 [B, H, W, C] in [0, 1].
        targets: the classes to reach, i32 [B].
        confidence: probability of the target at which an image stops.
        step: length of a step in the Euclidean norm, in pixels of [0, 1].
        steps: largest number of steps; an image that has not arrived stays where it is then.
    """

    def log_probability(moved: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = -cross_entropy(logits_of(moved), targets)
        return jnp.sum(found), found

    def forward(carried: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        count, moved, _ = carried
        gradient, found = jax.grad(log_probability, has_aux=True)(moved)
        is_there = found >= math.log(confidence)
        nearer = jnp.clip(moved + jnp.asarray(step, moved.dtype) * _unit(gradient), 0.0, 1.0)
        return count + 1, jnp.where(is_there[:, None, None, None], moved, nearer), jnp.all(is_there)

    def goes_on(carried: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return (carried[0] < steps) & ~carried[2]

    return jax.lax.while_loop(goes_on, forward, (jnp.int32(0), images, jnp.bool_(False)))[1]


def no_attack() -> None:
    """Leaves images as they are."""


def is_attack(attack: Any) -> bool:
    """Returns whether an attack, with its knobs filled in, is one and not `no_attack`."""
    return getattr(attack, "func", attack) is not no_attack


ATTACKS: dict[str, Attack] = {"fgsm": fgsm, "pgd": pgd}
"""Attacks by name, for `Choice[ATTACKS]`."""
ADVERSARIES: dict[str, Callable[..., jax.Array | None]] = {"none": no_attack, **ATTACKS}
"""What the images of training may be attacked by."""


def _sums(values: jax.Array) -> jax.Array:
    """Returns the sums over each image, [B, H, W, C] -> [B, 1, 1, 1]."""
    return jnp.sum(values, axis=(1, 2, 3), keepdims=True)


def _unit(values: jax.Array) -> jax.Array:
    """Returns values [B, H, W, C] of length 1 for each image; zeros stay zeros."""
    # Divided by its largest entry first, so that the squares of a tiny gradient do not vanish.
    largest = jnp.max(jnp.abs(values), axis=(1, 2, 3), keepdims=True)
    scaled = values / jnp.where(largest == 0, 1.0, largest)
    return scaled / jnp.maximum(jnp.sqrt(_sums(jnp.square(scaled))), 1.0)  # the largest entry is 1, or all are 0


def _normal(keys: jax.Array, images: jax.Array) -> jax.Array:
    return jax.vmap(lambda key: draws.normal(key, images.shape[1:], images.dtype))(keys)


def _from_unit_ball(keys: jax.Array, images: jax.Array, norm: Norm) -> jax.Array:
    """Draws a point of the unit ball for each image, uniformly: [B, H, W, C]."""
    if norm == "linf":
        return jax.vmap(lambda key: draws.uniform(key, images.shape[1:], images.dtype, -1.0, 1.0))(keys)
    # A uniform point has a uniform direction, and a radius whose n-th power is uniform, of n dimensions.
    shares = jax.vmap(lambda key: draws.uniform(jax.random.fold_in(key, 1), (1, 1, 1), images.dtype))(keys)
    return _unit(_normal(keys, images)) * shares ** (1.0 / math.prod(images.shape[1:]))


def _into_box(moved: jax.Array, images: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Returns the nearest images with |x − image| <= ε and 0 <= x <= 1, both exactly."""
    low = jnp.maximum(_rounded_towards(images, -epsilon), 0.0)
    high = jnp.minimum(_rounded_towards(images, epsilon), 1.0)
    return jnp.clip(moved, low, high)


def _rounded_towards(x: jax.Array, change: jax.Array) -> jax.Array:
    """Returns x + change, rounded towards x where it is no float."""
    total = x + change
    part = total - x
    error = (x - (total - part)) + (change - part)  # x + change = total + error exactly (Knuth, TAOCP 4.2.2, theorem B)
    is_beyond = (error < 0) == (change > 0)
    return jnp.where((error != 0) & is_beyond, jnp.nextafter(total, x), total)


def _into_sphere(moved: jax.Array, images: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Returns images with ‖x − image‖ <= ε and 0 <= x <= 1: scaled back into the ball where they are outside, then cut off."""
    change = moved - images
    # A radius that is smaller by what rounding can add: to a sum of n squares, and to each of n pixels.
    eps, root = float(jnp.finfo(images.dtype).eps), math.sqrt(math.prod(images.shape[1:]))
    radius = jnp.maximum(epsilon * (1.0 - eps * (root + 8.0)) - eps * root, 0.0)
    length = jnp.sqrt(_sums(jnp.square(change)))
    scale = jnp.where(length > radius, radius / jnp.where(length == 0, 1.0, length), 1.0)
    return jnp.clip(images + scale * change, 0.0, 1.0)

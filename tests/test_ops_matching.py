"""Matches of anchors and objects against loops in NumPy, on random overlaps and at the edges: no object, ties, all padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.ops import matching
from cnnlab.ops.matching import BACKGROUND, IGNORED

draw = np.random.default_rng(5)
match = jax.jit(matching.match, static_argnums=4)
match_best_first = jax.jit(matching.match_best_first)
sampled = jax.jit(jax.vmap(lambda kind, key: matching.sampled(kind, key, 16, 0.25)))


def overlaps(places=5, anchors=40):
    """Random overlaps f32 [places, anchors], many of them equal or 0."""
    return (draw.integers(0, 20, (places, anchors)) / 20 * (draw.random((places, anchors)) < 0.5)).astype(np.float32)


def by_loop(values, valid, positive, negative, force):
    """What `match` gives, anchor by anchor."""
    found = np.full(values.shape[1], BACKGROUND)
    real = np.flatnonzero(valid)
    for anchor in range(values.shape[1] if len(real) else 0):
        nearest = max(real, key=lambda place: (values[place, anchor], -place))
        largest = values[nearest, anchor]
        forced = force and any(values[place, anchor] == values[place].max() > 0 for place in real)
        if largest >= positive or forced:
            found[anchor] = nearest
        elif largest >= negative:
            found[anchor] = IGNORED
    return found


@pytest.mark.parametrize("how", [(0.5, 0.5, True), (0.7, 0.3, True), (0.5, 0.4, False)])
def test_matches_are_those_of_a_loop(how):
    for _ in range(10):
        values, valid = overlaps(), draw.random(5) < 0.7
        np.testing.assert_array_equal(match(values, valid, *how), by_loop(values, valid, *how))


def padded(rows):
    """Overlaps f32 [5, 40] that begin with some rows, and which places hold an object."""
    values = np.zeros((5, 40), np.float32)
    values[: len(rows), : len(rows[0])] = rows
    return values, np.arange(5) < len(rows)


def test_places_without_an_object_match_nothing_and_all_ties_of_an_object_are_forced():
    values, valid = padded([[0.2, 0.2, 0.0, 0.1]])
    values[1] = 0.9  # not an object
    np.testing.assert_array_equal(match(values, valid, 0.5, 0.4, True), [0, 0] + 38 * [BACKGROUND])
    for function in (match, match_best_first):
        how = (0.5, 0.4, True)[: 3 if function is match else 2]
        assert np.all(function(values, np.zeros(5, bool), *how) == BACKGROUND)
        assert np.all(function(0 * values, np.ones(5, bool), *how) == BACKGROUND)  # no overlap at all
        np.testing.assert_array_equal(function(values[:0], valid[:0], *how), 40 * [BACKGROUND])


def test_best_first_gives_each_object_an_anchor_of_its_own_in_the_order_of_overlaps():
    for _ in range(10):
        values, valid = (draw.random((5, 40)) * (draw.random((5, 40)) < 0.2)).astype(np.float32), draw.random(5) < 0.8
        values[:, :4] = np.maximum(values[:, :4], draw.random((5, 4)) > 0.2)  # several want these
        values = (values * draw.uniform(0.9, 1, values.shape)).astype(np.float32)
        expected = by_loop(values, valid, 0.5, 0.4, False)
        left = np.where(valid[:, None], values, 0)
        while left.max() > 0:
            place, anchor = np.unravel_index(left.argmax(), left.shape)
            expected[anchor], left[place], left[:, anchor] = place, 0, 0
        found = np.asarray(match_best_first(values, valid, 0.5, 0.4))
        np.testing.assert_array_equal(found, expected)
    # Two objects want one anchor at the same overlap: the first has it, the other its second best, small as it is.
    tied = padded([[0.8, 0.1, 0.0], [0.8, 0.3, 0.0]])
    np.testing.assert_array_equal(match_best_first(*tied, 0.5, 0.5), [0, 1] + 38 * [BACKGROUND])


def test_hard_negatives_have_the_largest_losses():
    losses = np.asarray([5, 9, 1, 7, 7, 8, 2], np.float32)
    positive = np.asarray([True, False, False, False, False, False, False])
    candidates = np.asarray([True, False, True, True, True, True, True])
    chosen = jax.jit(matching.hard_negatives)
    np.testing.assert_array_equal(np.flatnonzero(chosen(losses, positive, candidates, 2)), [3, 5])  # of equals the first
    np.testing.assert_array_equal(np.flatnonzero(chosen(losses, positive, candidates, 3)), [3, 4, 5])
    np.testing.assert_array_equal(np.flatnonzero(chosen(losses, positive, candidates, 9)), [2, 3, 4, 5, 6])
    assert not np.any(chosen(losses, ~positive & False, candidates, 3))  # no positive, no negative


def test_samples_are_drawn_of_each_kind_without_repetition():
    kind = draw.choice([BACKGROUND, IGNORED, 0, 3], 60, p=[0.4, 0.2, 0.2, 0.2]).astype(np.int32)
    keys = jax.random.split(jax.random.key(0), 200)
    indices, weights = (np.asarray(each) for each in sampled(np.tile(kind, (200, 1)), keys))
    assert np.all(weights == 1)
    kinds = kind[indices]  # [200, 16]
    assert np.all((kinds >= 0).sum(axis=1) == 4) and not np.any(kinds == IGNORED)
    assert all(len(set(row)) == 16 for row in indices)
    drawn = np.bincount(indices.reshape(-1), minlength=60)
    assert np.all(drawn[kind != IGNORED] > 0), "an anchor is never drawn"


def test_too_few_anchors_leave_places_without_a_weight():
    few = np.full((200, 60), IGNORED, np.int32)
    few[1, [2, 5]] = 0
    few[2, [1, 3, 4]] = [BACKGROUND, 0, BACKGROUND]
    keys = jax.random.split(jax.random.key(1), 200)
    indices, weights = (np.asarray(each) for each in sampled(few, keys))
    np.testing.assert_array_equal(weights[:3].sum(axis=1), [0, 2, 3])
    assert set(indices[1][weights[1] > 0]) == {2, 5} and set(indices[2][weights[2] > 0]) == {1, 3, 4}
    assert np.all(indices[weights == 0] == 0)
    _, weights = jax.jit(lambda kind: matching.sampled(kind, jax.random.key(0), 10, 0.0))(few[2, :8])  # more than there are
    assert np.sum(weights) == 2
    with pytest.raises(UsageError, match="share between 0 and 1"):
        matching.sampled(few[0], keys[0], 4, 1.5)


def test_nothing_here_passes_a_gradient():
    """A gradient through the rounds of pairs would be refused when it is traced."""

    def total(values):
        found = matching.match(values, jnp.ones(5, bool)) + matching.match_best_first(values, jnp.ones(5, bool))
        hard = matching.hard_negatives(values[0], found >= 0, found < 0)
        return jnp.sum(jnp.where(hard | (found >= 0), values[0], 0.0))

    jax.make_jaxpr(jax.grad(total))(overlaps())


def test_matching_is_batched():
    values, valid = np.stack([overlaps() for _ in range(3)]), draw.random((3, 5)) < 0.6
    first, second = jax.jit(
        jax.vmap(lambda *each: (matching.match(*each, 0.5, 0.4), matching.match_best_first(*each, 0.5, 0.4)))
    )(values, valid)
    for number, each in enumerate(zip(values, valid, strict=True)):
        np.testing.assert_array_equal(first[number], match(*each, 0.5, 0.4, True))
        np.testing.assert_array_equal(second[number], match_best_first(*each, 0.5, 0.4))

"""The mixture of Gaussians on a circle: where its modes are, how wide, and that a seed decides it."""

import numpy as np
import pytest

from cnnlab.data.images import images
from cnnlab.data.normalize import raw
from cnnlab.data.procedural import gaussians
from cnnlab.recipes import evaluators


def test_modes_lie_on_the_circle_with_the_deviation_that_was_asked_for():
    train = gaussians(modes=5, examples=5000, radius=0.3, deviation=0.05).splits["train"]
    assert train.images.shape == (5000, 1, 2, 1) and train.images.dtype == np.float32
    for mode in range(5):
        points = train.images[train.labels == mode].reshape(-1, 2)
        centre = 0.5 + 0.3 * np.array([np.cos(2 * np.pi * mode / 5), np.sin(2 * np.pi * mode / 5)])
        assert len(points) == 1000
        np.testing.assert_allclose(points.mean(axis=0), centre, atol=0.006)
        assert points.std() == pytest.approx(np.sqrt(0.05**2 + centre.std() ** 2), rel=0.05)


def test_a_seed_decides_the_points_and_splits_do_not_share_them():
    first, again, other = gaussians(), gaussians(), gaussians(data_seed=1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    train, test = (first.splits[name].images.reshape(-1, 2) for name in ("train", "test"))
    assert len(train) == 8000 and len(test) == 2000 and len(np.unique(np.concatenate([train, test]), axis=0)) == 10_000


def test_the_modes_of_a_streamed_mixture_are_those_of_one_in_memory(monkeypatch):
    monkeypatch.setattr(evaluators, "mixture_evaluator", lambda points, labels: (points, labels))
    streamed, resident = (
        evaluators.by_modes(data=images(dataset=gaussians, normalize=raw, resident_mib=mib)) for mib in (0, 10)
    )
    assert all(np.array_equal(one, other) for one, other in zip(streamed, resident, strict=True))

"""Training on attacked images and robust accuracy: pixels of [0, 1] whatever the normalisation, nothing where it is off."""

import dataclasses
import functools
import pathlib
from typing import Any

import contract
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from cnnlab import knobs
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec
from cnnlab.ops.attacks import fgsm, no_attack
from cnnlab.ops.losses import cross_entropy
from cnnlab.recipes.classification import classification, nearest_neighbours
from cnnlab.tasks.adversarial import Pixels, attacked, robust
from tests.commands import Here, read

SPEC = InputSpec(
    image_shape=(4, 4, 3),
    dtype="uint8",
    subtract=np.array([100, 120, 140], np.float32).reshape(1, 1, 1, 3),
    divide=np.array([50, 60, 200], np.float32).reshape(1, 1, 1, 3),
    class_names=("a", "b"),
)


def small(**values: Any) -> Any:
    return knobs.resolve(classification, {**contract.TRAINED, "model": "linear", "duration": "3 steps", **values}).call()


def test_the_change_is_in_pixels_whatever_the_normalisation_and_none_is_none_to_the_bit():
    stored = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3))
    images = jnp.asarray((stored - SPEC.subtract) / SPEC.divide, jnp.float32)
    pixels, labels, keys = Pixels.of(SPEC), jnp.zeros(5, jnp.int32), jax.random.split(jax.random.key(0), 5)
    np.testing.assert_allclose(pixels.of_images(images), stored / 255, atol=1e-6)

    def outputs_of(images: jax.Array) -> jax.Array:
        return jnp.stack([images.sum((1, 2, 3)), -images.sum((1, 2, 3))], axis=1)

    def loss(outputs: jax.Array, labels: jax.Array) -> jax.Array:
        return outputs[:, 0]

    @jax.jit
    def run(images: jax.Array, epsilon: jax.Array) -> jax.Array:
        return attacked(functools.partial(fgsm, epsilon=epsilon), outputs_of, pixels, images, labels, keys, loss)

    for epsilon in (0.0, 0.1):
        moved = run(images, epsilon)
        change = np.asarray(moved - images) * SPEC.divide / 255
        np.testing.assert_allclose(change, np.minimum(epsilon, 1 - stored / 255), atol=1e-6)
        assert np.array_equal(moved, images) == (epsilon == 0)
    # Values outside of [0, 1], as augmentation makes them, are not cut off in what the network sees.
    outside = images.at[0].set(9.0)
    assert np.array_equal(run(outside, 0.0), outside)


def test_without_an_attack_the_task_is_left_as_it_is():
    plain = small()
    given: dict[str, Any] = {"loss": cross_entropy, "column": "label", "inputs": plain.data.inputs}
    assert robust(plain.task, attack=no_attack, probes=(), **given) is plain.task
    assert plain.task.for_inputs is None and plain.task.measure_final is None


def test_a_step_trains_on_attacked_images_of_the_normalisation_that_the_run_has():
    def shown(params: Any, model_state: Any, batch: Any, key: Any, player: str) -> Any:
        return batch["image"]

    toy = dataclasses.replace(small().task, predict=lambda params, state, images: images.mean((1, 2)), loss=shown)
    attack = functools.partial(fgsm, epsilon=0.1)
    task = robust(toy, attack=attack, probes=(), loss=lambda s, _: s.sum(1), column="label", inputs=SPEC)
    batch = {"image": jnp.zeros((2, 4, 4, 3)), "label": jnp.zeros(2, jnp.int32)}
    given = ({}, {}, batch, jax.random.key(0), "classifier")
    expected = np.broadcast_to(0.1 * 255 / SPEC.divide, (2, 4, 4, 3))
    np.testing.assert_allclose(task.loss(*given), expected, rtol=1e-5)
    assert task.for_inputs is not None
    other = task.for_inputs(dataclasses.replace(SPEC, divide=2 * SPEC.divide))
    np.testing.assert_allclose(other.loss(*given), expected / 2, rtol=1e-5)


def test_what_cannot_be_attacked_or_ranked_by_it_is_refused():
    with pytest.raises(UsageError, match="cannot rank checkpoints"):
        small(metrics="robust_accuracy", headline="robust_accuracy_0.1")
    with pytest.raises(UsageError, match="expected numbers >= 0, each once"):
        small(metrics="robust_accuracy", **{"metrics.robust_accuracy.epsilons": "0.1,-1"})
    with pytest.raises(UsageError, match="votes of neighbours have none"):
        knobs.resolve(nearest_neighbours, {**contract.STRIPES, "metrics": "robust_accuracy"}).call()


def test_a_run_measures_robust_accuracy_at_its_end_and_evaluate_the_same(here: Here, tmp_path: pathlib.Path):
    words = ["--experiment=linear_digits", "--workdir=run", "--steps=40", "--adversarial=fgsm", "--adversarial.epsilon=0.05"]
    metrics = [
        "--metrics=robust_accuracy",
        "--metrics.robust_accuracy.epsilons=0,0.1",
        "--metrics.robust_accuracy.attack.iterations=3",
    ]
    code, _, err = here(*words, *metrics)
    assert code == 0, err
    (result,) = [read(path) for path in tmp_path.glob("run/**/result.json")]
    found = {name.removeprefix("test/"): value for name, value in result["metrics"].items() if name.startswith("test/")}
    assert found["robust_accuracy_0"] == found["noise_accuracy_0"] == found["accuracy"]
    assert found["robust_accuracy_0.1"] < found["noise_accuracy_0.1"]
    assert not any("robust" in name for name in result["metrics"] if name.startswith("validation/"))
    assert list(tmp_path.glob("run/**/robustness*.png"))
    code, _, err = here("evaluate", "--workdir=run")
    assert code == 0, err
    (evaluated,) = [read(path) for path in tmp_path.glob("run/**/evaluation.json")]
    assert evaluated["metrics"]["test/robust_accuracy_0.1"] == pytest.approx(found["robust_accuracy_0.1"])


@pytest.mark.slow
@pytest.mark.parametrize("place", [("pmap", 3), ("jit", 8)])
def test_training_on_attacked_images_is_the_same_on_any_devices(place: tuple[str, int]):
    alone, _, curve, _ = contract.reference("attacked")
    shared, _, other, _ = contract.reference("attacked", *place)
    assert toys.gap(alone, shared) < 1e-4 and curve.keys() == other.keys()
    for step, numbers in curve.items():
        assert dict(sorted(other[step].items())) == pytest.approx(dict(sorted(numbers.items())), rel=2e-5, abs=1e-6)

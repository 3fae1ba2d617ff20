"""Drawing from a trained model: what a person gets, and what is said where that cannot be."""

import importlib
import pathlib
from typing import Any

import numpy as np
import pytest
from commands import command
from PIL import Image

from cnnlab import knobs
from cnnlab.errors import UsageError
from cnnlab.runs import run
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.sample import INTERPOLATED, SampleRequest, sample_run


class Trained:
    """A run of two steps on the digits."""

    def __init__(self, folder: pathlib.Path, name: str, **given: Any) -> None:
        experiment = importlib.import_module(f"experiments.{name}").experiment
        self.resolved = knobs.resolve(experiment, {"dataset": "digits", "duration": "2 steps", **given})
        self.plan = RunSpec(name, self.resolved.values, "f32", source="", devices=1, quiet=True)
        self.folder = folder / name
        run.train_seeds(self.resolved, self.plan, {0: self.folder}, overwrite=False)

    def sample(self, to: pathlib.Path | None = None, **wanted: Any) -> dict[str, np.ndarray]:
        """The images and labels that a command leaves."""
        said = sample_run(self.resolved, self.plan, self.folder, SampleRequest(**wanted), target=to, best=False)
        sheet = pathlib.Path(said.splitlines()[1].split(" and ")[0].removeprefix("  in "))
        assert Image.open(sheet).convert("RGB").size[0] > 100
        with np.load(sheet.with_suffix(".npz")) as kept:
            return dict(kept)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("sample"), "cvae_mnist", latent=3, log_p_samples=0)


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("sample"), "autoencoder_mnist", widths="16", code=3)


def test_an_image_is_the_same_however_many_are_drawn(conditional: Trained):
    many, few = conditional.sample(count=70), conditional.sample(count=5)
    assert many["images"].shape == (70, 8, 8, 1) and 0 <= many["images"].min() <= many["images"].max() <= 1
    np.testing.assert_allclose(many["images"][:5], few["images"], atol=1e-6)
    assert list(many["labels"][:12]) == [*range(10), 0, 1]
    assert not np.allclose(few["images"], conditional.sample(count=5, seed=1)["images"])


def test_a_class_is_drawn_by_its_number(conditional: Trained):
    three = conditional.sample(count=11, label=3)
    assert set(three["labels"]) == {3}
    by_turn = conditional.sample(count=11)
    np.testing.assert_allclose(three["images"][3], by_turn["images"][3], atol=1e-6)
    assert not np.allclose(three["images"][4], by_turn["images"][4])


def test_no_temperature_is_one_image_for_all(autoencoder: Trained, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "call", None)  # the data set is not needed
    cold = autoencoder.sample(count=4, temperature=0.0)["images"]
    np.testing.assert_allclose(cold, np.broadcast_to(cold[:1], cold.shape), atol=1e-6)
    assert not np.allclose(autoencoder.sample(count=4)["images"], cold)


def test_rows_go_from_code_to_code(autoencoder: Trained, tmp_path: pathlib.Path):
    rows = autoencoder.sample(tmp_path / "rows.png", count=2 * INTERPOLATED - 3, interpolate=True)["images"]
    assert len(rows) == 2 * INTERPOLATED and (tmp_path / "rows.png").exists()
    steps = np.abs(np.diff(rows.reshape(2, INTERPOLATED, -1), axis=1)).max(axis=(1, 2))
    ends = np.abs(rows[[0, INTERPOLATED]] - rows[[INTERPOLATED - 1, -1]]).reshape(2, -1).max(axis=1)
    assert (steps < ends).all()


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"label": 3}, "--class: this model was not trained by class"),
        ({"to": pathlib.Path("sheet.jpg")}, "--to=sheet.jpg: expected a .png file"),
    ],
)
def test_what_a_model_cannot_draw_is_said(autoencoder: Trained, wanted: dict[str, Any], text: str):
    with pytest.raises(UsageError, match=text):
        autoencoder.sample(**wanted)


def test_a_class_that_there_is_not_is_refused(conditional: Trained):
    with pytest.raises(UsageError, match="--class=10: expected 0 to 9"):
        conditional.sample(label=10)


@pytest.mark.slow
def test_a_model_without_codes_has_no_way_between_them(tmp_path: pathlib.Path):
    pixels = Trained(tmp_path, "pixelcnn_mnist", width=4, blocks=1, image_size=6)
    with pytest.raises(UsageError, match="--interpolate: this model draws pixel by pixel"):
        pixels.sample(interpolate=True)
    assert pixels.sample(count=3)["images"].shape == (3, 6, 6, 1)


def test_the_run_of_a_classifier_is_one_clear_error(tmp_path: pathlib.Path):
    code, _, err = command("--experiment=linear_digits", "--steps=2", "--devices=1", "--workdir=run", cwd=tmp_path)
    assert code == 0, err
    code, _, err = command("sample", "--workdir=run", "--devices=1", cwd=tmp_path)
    assert code == 2 and err.startswith("error: run holds a run of linear_digits, whose model draws no images")

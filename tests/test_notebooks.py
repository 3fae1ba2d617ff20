"""The notebooks of the book: their cells run and have the outputs that are stored, which are small and name no paths."""

import base64
import os
import pathlib
import re
import subprocess
import sys

import pytest
from notebooks import FOLDER, ROOT, code_cells, compared, read

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NEEDED = "IMAGENET_WEIGHTS"


def run_and_compare(path: pathlib.Path, folder: pathlib.Path, *, kinds_only: bool) -> None:
    """Executes a notebook, as its reader would, and compares its outputs with those that are stored in it."""
    alone = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # which tests set to many devices
    words = [sys.executable, str(ROOT / "tests" / "notebooks.py"), path.stem, f"--to={folder}"]
    done = subprocess.run(words, env=alone, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    now, stored = (compared(read(place / path.name), kinds_only=kinds_only) for place in (folder, path.parent))
    for number, (ours, theirs) in enumerate(zip(now, stored, strict=True), start=1):
        assert ours == theirs, f"cell {number}"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_the_outputs_of_its_cells(path: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    needs = "outputs_need" in read(path)["metadata"].get("cnnlab", {})
    monkeypatch.delenv(NEEDED, raising=False)
    run_and_compare(path, tmp_path, kinds_only=needs)


@pytest.mark.slow
def test_the_inside_of_a_network_trained_on_imagenet_is_the_stored_one(
    shared_data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(NEEDED, str(shared_data / "weights" / "efficientnet_lite0.safetensors"))
    run_and_compare(FOLDER / "imagenet.ipynb", tmp_path, kinds_only=False)


def test_stored_outputs_are_complete_small_and_without_paths_of_a_machine():
    total = 0
    for path in NOTEBOOKS:
        counts = [cell["execution_count"] for cell in code_cells(read(path))]
        assert counts == list(range(1, len(counts) + 1)), f"{path.name}: execute it again: python tests/notebooks.py"
        for cell in code_cells(read(path)):
            for output in cell["outputs"]:
                forms = output.get("data", {"text/plain": output.get("text")})
                for form, content in forms.items():
                    if form.startswith("image/"):
                        assert cell["metadata"]["mystnb"]["image"]["alt"], f"{path.name}: a picture without an alternative text"
                        assert len(base64.b64decode(content)) <= 150_000, path.name
                    else:
                        assert not re.search(r"/(?:tmp|home|root|work|Users)/|File \"", "".join(content)), path.name
        total += path.stat().st_size
    assert total < 1_500_000


def test_what_is_compared_of_outputs_holds_texts_but_no_numbers():
    def told(*texts: str) -> list[list[object]]:
        outputs = [{"output_type": "stream", "name": "stdout", "text": [text]} for text in texts]
        return compared({"cells": [{"cell_type": "code", "outputs": outputs}]}, kinds_only=False)

    assert told("accuracy 0.9531  [−1.2, 3e-05]") == told("accuracy 0.94 [0.1,   4]")
    assert told("3 circles") != told("3 squares") and told("a") != told("a", "b")

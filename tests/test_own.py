"""Parts in a user's own file, FILE.py:NAME: how they are loaded, whether they fit, and what is said where they do not."""

import functools
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from cnnlab import knobs, own
from cnnlab.errors import UsageError
from cnnlab.recipes.classification import classification

PARTS = '''
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from own_scale import SCALE

from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.schedules import SCHEDULES
from cnnlab.values import Choice


class Net(nn.Module):
    """A network.

    Attributes:
        width: units of the hidden layer.
    """

    classes: int
    width: int = 8
    features: Sequence[int] = (4, 5)
    activation: Choice[ACTIVATIONS] = "relu"
    dtype: Any = jnp.float32


narrow = functools.partial(Net, width=2)

def weighted(logits, labels, *, gamma=2.0): return gamma * SCALE * logits[:, 0]
compiled = jax.jit(weighted)
def hidden(logits, labels, gamma=2.0): ...
def short(logits): ...
def loose(logits, labels, **options): ...
def sgd(*, steps, lr: float = 0.1, schedule: Choice[SCHEDULES] = "constant"): return optax.sgd(lr)
def read(name, /, *, size: int = 3): return name, size
def unnamed(x: "Missing", y, *, z: "Missing" = 1): ...
def bent(x, *, slope: float = 0.5): return jax.nn.relu(x) + slope * x
NUMBER = 3
'''


@pytest.fixture(autouse=True)
def own_files(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Writes mine.py and the module that it imports to the working folder; undoes what loading them changes."""
    (tmp_path / "mine.py").write_text(PARTS)
    (tmp_path / "own_scale.py").write_text("SCALE = 3.0\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield
    sys.path[:] = path
    for file in tmp_path.rglob("*.py"):
        file.write_text("# gone\n")
    own.forget_changed()


def values(**given: Any) -> dict[str, Any]:
    return knobs.resolve(classification, {name.replace("__", "."): text for name, text in given.items()}).values


def refused(**given: Any) -> str:
    with pytest.raises(UsageError) as caught:
        values(**given)
    return str(caught.value)


def test_every_knob_of_an_own_part_lies_below_its_choice(tmp_path: pathlib.Path):
    found = values(
        model="mine.py:Net", features="3,4", activation="leaky_relu", slope="0.2", loss="mine.py:weighted", gamma="3"
    )
    below = {path: value for path, value in found.items() if path.startswith(("model", "loss"))}
    assert below == {
        "model": f"{tmp_path / 'mine.py'}:Net",
        "model.width": 8,
        "model.features": [3, 4],
        "model.activation": "leaky_relu",
        "model.activation.slope": 0.2,
        "loss": f"{tmp_path / 'mine.py'}:weighted",
        "loss.gamma": 3.0,
    }
    assert values(model="mine.py:narrow")["model.width"] == 2 and values(loss="mine.py:compiled")["loss.gamma"] == 2.0
    assert values(optimizer="mine.py:sgd", final="0.1", schedule="cosine")["optimizer.schedule.final"] == 0.1
    assert values(model="mine.py:Net", activation="mine.py:bent")["model.activation.slope"] == 0.5
    assert "It is called with x." in refused(model="mine.py:Net", activation="mine.py:weighted")
    text = knobs.as_text(knobs.resolve(classification, {"model": "mine.py:Net"}))
    assert "--model.width=8\n        units of the hidden layer; int" in text


def test_the_spelling_of_a_path_changes_nothing(tmp_path: pathlib.Path):
    (tmp_path / "below").mkdir()
    (tmp_path / "link.py").symlink_to(tmp_path / "mine.py")
    spellings = ("mine.py:Net", "./mine.py:Net", "below/../mine.py:Net", f"{tmp_path}/mine.py:Net", "link.py:Net")
    resolved = [knobs.resolve(classification, {"model": spelling}) for spelling in spellings]
    assert len({one.digest for one in resolved}) == 1
    assert len({one.knobs["model"].value for one in resolved}) == 1
    assert resolved[0].reread(resolved[0].values) == resolved[0].values


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"loss": "nine.py:weighted"}, ["--loss=nine.py:weighted: there is no such file. Did you mean mine.py?", "mine.py"]),
        ({"loss": "no/mine.py:weighted"}, ["there is no such file", "nor such a folder"]),
        ({"loss": "mine.py:wieghted"}, ["mine.py has no wieghted. Did you mean weighted?", "mine.py defines Net, narrow"]),
        ({"loss": "mine.py"}, ["which of its functions?", "Write for example mine.py:Net"]),
        ({"loss": "mine.py:NUMBER"}, ["NUMBER is int, which cannot be called"]),
        (
            {"loss": "mine.py:short"},
            ["short(logits) does not fit", "It is called with logits, labels.", "def cross_entropy(logits"],
        ),
        ({"loss": "mine.py:hidden"}, ["gamma would be no knob; write *, before"]),
        ({"loss": "mine.py:loose"}, ["no flag can fill **options"]),
        ({"loss": "mine.py:Net"}, ["it is a class, and a function is expected"]),
        ({"loss": "mine.py:unnamed"}, ["an annotation cannot be read", "Missing"]),
        ({"model": "mine.py:short"}, ["It is called with classes=…", "class Linear(nn.Module): classes: …"]),
        ({"optimizer": "mine.py:weighted"}, ["It is called with steps=…", "def sgd(*, steps, lr=0.1"]),
        ({"data__augment": "mine.py:short"}, ["It is called with images, keys and, if it takes them, epoch, index."]),
        ({"data__dataset": "mine.py:weighted"}, ["It is called with nothing."]),
        ({"data__dataset": "mine.py:read"}, ["say which, as in --data.dataset=mine.py:read:NAME"]),
        ({"model": "mine.py:Net", "widht": "3"}, ["no knob --widht here. Did you mean --model.width?"]),
        ({"model": "mine.py:Net", "width": "x"}, ["--model.width=x: expected int (default 8)"]),
        ({"loss": "wieghted"}, ["unknown", "A function of your own is FILE.py:NAME"]),
    ],
)
def test_a_part_that_cannot_stand_there_is_one_clear_usage_error(given: dict[str, str], parts: list[str]):
    text = refused(**given)
    assert all(part in text for part in parts), text


def test_a_second_colon_binds_the_argument(tmp_path: pathlib.Path):
    resolved = knobs.resolve(classification, {"dataset": "mine.py:read:some:where", "size": "4"})
    assert resolved.values["data.dataset"] == f"{tmp_path / 'mine.py'}:read:some:where"
    assert resolved.values["data.dataset.size"] == 4
    assert resolved.reread(resolved.values) == resolved.values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import numpy\n\nraise RuntimeError('no\\nluck')\n", "broken.py:3: RuntimeError: no luck (while importing)"),
        ("def f(:\n", "broken.py:1: SyntaxError: invalid syntax"),
        ("import own_broken_helper\n", "own_broken_helper.py:2: ZeroDivisionError: division by zero (while importing)"),
        ("import missing_of_mine\n", "broken.py:1: ModuleNotFoundError: No module named 'missing_of_mine' (while importing)"),
        ("import json\n", "imports json, which is json.py beside it and an installed module too"),
        ("raise SystemExit(3)\n", "broken.py:1: SystemExit: 3 (while importing)"),
        (b"\xff\xfe = 1", "broken.py"),
    ],
)
def test_an_error_while_importing_is_one_line_with_its_place(tmp_path: pathlib.Path, text: str | bytes, said: str):
    (tmp_path / "own_broken_helper.py").write_text("x = 1\ny = x / 0\n")
    if "json" in str(text):
        (tmp_path / "json.py").write_text("")
    (tmp_path / "broken.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    message = refused(loss="broken.py:f")
    assert message.startswith("--loss=broken.py:f: ") and said in message.partition("\n")[0]
    assert "broken" not in sys.modules and "own_broken_helper" not in sys.modules


def test_a_module_is_loaded_once_and_anew_after_an_edit_of_its_helper(tmp_path: pathlib.Path):
    first = own.load_module(pathlib.Path("mine.py"), where="")
    own.forget_changed()
    assert own.load_module(tmp_path / "mine.py", where="") is first and first.SCALE == 3.0
    (tmp_path / "own_scale.py").write_text("SCALE = 5.0\n")
    assert own.load_module(tmp_path / "mine.py", where="") is first  # not in the middle of a command
    own.forget_changed()
    assert own.load_module(tmp_path / "mine.py", where="").SCALE == 5.0


def test_helpers_of_two_folders_may_have_one_name_and_a_file_the_name_of_an_installed_module(tmp_path: pathlib.Path):
    for folder, number in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "parts_of_mine.py").write_text(f"N = {number}\n")
        (tmp_path / folder / "flax.py").write_text(
            "import parts_of_mine\nN = parts_of_mine.N\ndef late():\n    import more_of_mine\n"
        )
        (tmp_path / folder / "more_of_mine.py").write_text("")
    import flax

    found = [own.load_module(tmp_path / folder / "flax.py", where="") for folder in "ab"]
    assert [module.N for module in found] == [1, 2] and sys.modules["flax"] is flax
    found[1].late()  # a helper that is imported inside a function is still found


def unclear(*, width: int = 3, **options: Any) -> None: ...
def open_ended(*widths: int) -> None: ...
def positional(width: int = 3) -> None: ...
def needing(*, width: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            unclear,
            r"unclear\(\*\*options: Any\): no flag can fill \*\*options: Any, so what was meant for it would be left out",
        ),
        (functools.partial(unclear, width=4), r"Name every knob in the signature"),
        (open_ended, r"no flag can fill \*widths"),
        (positional, r"a knob stands after a \*, as in def positional\(\*, width=…\)"),
        (needing, r"the knob has no default\. Write width=VALUE"),
    ],
)
def test_an_experiment_with_parameters_that_no_flag_fills_is_refused(function: Any, said: str):
    with pytest.raises(UsageError, match=said):
        knobs.resolve(function, {})


@pytest.mark.parametrize(
    ("text", "path", "shown"),
    [
        ("mine.py:Net", True, "mine.py:Net"),
        ("~/mine.py:Net", True, "mine.py:Net"),
        (r"C:\parts\mine.py:Net", True, "mine.py:Net"),
        ("/a,b (c)/mine.py:Net:x:y", True, "mine.py:Net:x:y"),
        ("relu", False, "relu"),
        ("tfds:mnist", False, "tfds:mnist"),
        ("mine.pyc:Net", False, "mine.pyc:Net"),
    ],
)
def test_the_form_of_a_part_is_recognised(text: str, path: bool, shown: str):
    assert own.is_part(text) == path and own.short(text) == shown
    assert own.canonical(text).endswith(text.removeprefix("~")) and pathlib.Path(own.canonical(text)).is_absolute() == path


def test_a_part_within_a_list_is_recognised(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert own.items("flip,a/mine.py:darken,mine.py:blur:3") == ["flip", "a/mine.py:darken", "mine.py:blur:3"]
    assert own.short("flip,/a/mine.py:darken,noise") == "flip,mine.py:darken,noise"
    assert own.canonical("flip,a/mine.py:darken") == f"flip,{tmp_path}/a/mine.py:darken"
    assert own.items("64,32") == ["64,32"] and own.items("/a,b/mine.py:Net") == ["/a,b/mine.py:Net"]
    (tmp_path / "a,b.py").write_text("", encoding="utf-8")
    assert own.items("a,b.py:Net") == ["a,b.py:Net"]

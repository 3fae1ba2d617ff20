"""Knobs of a signature: types, bounds, nested choices, misspelt names."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import pytest

from cnnlab import knobs
from cnnlab.errors import UsageError
from cnnlab.values import Choice, Choices, Count, Duration, Positive, Probability, with_options


def smooth(x: float, *, amount: Probability = 0.25) -> float:
    return x * amount


def plain(x: float) -> float:
    return x


SHAPES: dict[str, Callable[..., Any]] = {"smooth": smooth, "plain": plain}


class Net(nn.Module):
    """A network.

    Attributes:
        classes: given by the experiment.
        width: channels of
            the trunk.
        shape: the squashing.
    """

    classes: int
    width: Count = 8
    shape: Choice[SHAPES] = smooth


@dataclasses.dataclass(frozen=True)
class Opened:
    """The result of opening a data set."""

    name: str
    folder: str | None
    fast: bool


def by_name(name: str, /, *, data_dir: str | None, fast: bool = False) -> Opened:
    return Opened(name, data_dir, fast)


NETS = {"net": Net, "wide": functools.partial(Net, width=64)}
SETS: dict[str, Callable[..., Any]] = {"named": by_name, "fixed": lambda: Opened("fixed", None, False)}


def experiment(
    *,
    model: Choice[NETS] = "net",
    dataset: Choice[SETS] = "fixed",
    lr: Positive = 0.1,
    sizes: tuple[int, ...] = (1, 2),
    mode: Literal["a", "b"] = "a",
    limit: int | None = None,
    flag: bool = True,
    duration: Duration = Duration(3, "epochs"),
) -> dict[str, Any]:
    """An experiment.

    Args:
        lr: the rate.
        mode: which.
    """
    return {"model": model(classes=3), "data": dataset(), "lr": lr, "sizes": sizes, "limit": limit, "flag": flag, "mode": mode}


def call(**values: Any) -> dict[str, Any]:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return knobs.resolve(experiment, named, {"data_dir": "/data"}).call()


def test_defaults_call_the_function():
    out = call()
    assert out["model"] == Net(classes=3, shape=out["model"].shape) and out["model"].width == 8
    assert out["model"].shape(1.0) == 0.25 and out["sizes"] == (1, 2) and out["limit"] is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "1e-3", 1e-3),
        ("sizes", "5,6,7", (5, 6, 7)),
        ("sizes", "(5, 6)", (5, 6)),
        ("mode", "b", "b"),
        ("limit", "7", 7),
        ("limit", "none", None),
        ("flag", "false", False),
        ("noflag", "true", False),
    ],
)
def test_text_becomes_the_annotated_type(name: str, text: str, value: Any):
    assert call(**{name: text})[name.removeprefix("no")] == value


def test_choices_nest_to_any_depth_and_a_unique_last_name_is_enough():
    assert call(model__shape__amount="0.5")["model"].shape(1.0) == 0.5
    assert call(amount="0.5")["model"].shape(1.0) == 0.5
    assert call(shape="plain")["model"].shape is plain
    assert call(model="wide")["model"].width == 64
    assert call(model="wide", width="3")["model"].width == 3


def test_a_colon_binds_the_argument_and_context_fills_what_is_no_knob():
    assert call(dataset="named:mnist", fast="true")["data"] == Opened("mnist", "/data", True)
    assert "dataset.data_dir" not in knobs.resolve(experiment, {"dataset": "named:x"}, {"data_dir": None}).knobs


def test_partials_keep_knobs_with_other_defaults():
    variant = functools.partial(experiment, model=functools.partial(Net, width=5), lr=0.7)
    resolved = knobs.resolve(variant, {})
    assert resolved.values["model"] == "net" and resolved.values["model.width"] == 5 and resolved.call()["lr"] == 0.7
    assert knobs.resolve(variant, {"lr": "0.2", "width": "6"}).call()["model"].width == 6


OTHER_SHAPES = {"odd": plain}


def rough(x: float, *, shape: Choice[SHAPES] = "smooth", width: Count = 2) -> float: ...
def bare(x: float, *, width: Count = 3) -> float: ...
def strange(x: float, *, shape: Choice[OTHER_SHAPES] = "odd") -> float: ...


FAMILY: dict[str, Callable[..., Any]] = {
    "net": Net,
    "rough": rough,
    "set": functools.partial(rough, shape="smooth"),
    "bare": bare,
    "strange": strange,
}


def test_a_partial_of_an_option_that_is_a_partial_itself_is_that_option():
    """Python makes one partial of the two, so the option is found by what it sets."""
    nets = {"usual": functools.partial(Net), "wide": NETS["wide"]}
    narrow = functools.partial(nets["wide"], shape=plain)

    def recipe(*, net: Choice[nets] = narrow) -> Any:
        return net(classes=3)

    found = knobs.resolve(recipe, {})
    assert found.values == {"net": "wide", "net.width": 64, "net.shape": "plain"}
    assert knobs.resolve(recipe, found.values).digest == found.digest
    with pytest.raises(UsageError, match="not one of the functions usual, wide"):
        knobs.resolve(recipe, {"net": functools.partial(Opened, "x")})


@pytest.mark.parametrize(
    ("given", "below"),
    [
        ({}, {"width": 5, "shape": "plain"}),
        ({"model": "net"}, {"width": 5, "shape": "plain"}),
        ({"model": "rough"}, {"shape": "plain", "width": 2}),
        ({"model": "rough", "shape": "smooth"}, {"shape": "smooth", "shape.amount": 0.25, "width": 2}),
        ({"model": "set"}, {"shape": "smooth", "shape.amount": 0.25, "width": 2}),
        ({"model": "bare"}, {"width": 3}),
        ({"model": "strange"}, {"shape": "odd"}),
    ],
)
def test_another_option_keeps_the_choices_below_the_default_and_none_of_its_numbers(
    given: dict[str, str], below: dict[str, Any]
):
    def recipe(*, model: Choice[FAMILY] = functools.partial(Net, width=5, shape=plain)) -> None: ...

    values = knobs.resolve(recipe, given).values
    assert {path.removeprefix("model."): value for path, value in values.items() if path != "model"} == below


def test_another_option_takes_no_choice_from_a_default_that_is_a_name():
    def recipe(*, model: Choice[FAMILY] = "set") -> None: ...

    assert knobs.resolve(recipe, {"model": "net", "shape": "plain"}).values["model.shape"] == "plain"
    by_name = functools.partial(recipe, model=FAMILY["set"])
    assert knobs.resolve(by_name, {"model": "rough"}).values["model.shape"] == "smooth"


def test_digest_changes_with_every_knob_and_not_with_its_spelling():
    base = knobs.resolve(experiment, {}).digest
    assert knobs.resolve(experiment, {"lr": "0.10"}).digest == base == knobs.resolve(experiment, {"width": 8}).digest
    changed = {"lr": "0.2", "width": "9", "shape": "plain", "sizes": "1", "mode": "b", "limit": "1", "flag": "no"}
    digests = {knobs.resolve(experiment, {name: value}).digest for name, value in changed.items()}
    assert len(digests) == len(changed) and base not in digests


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widht": "3"}, r"no knob --widht here\. Did you mean --model\.width\?"),
        ({"lrr": "3"}, r"no knob --lrr here\. Did you mean --lr\?"),
        ({"lr": "-0.1"}, r"--lr=-0\.1: expected float finite and > 0 \(default 0\.1\), got '-0\.1'"),
        ({"lr": "nan"}, r"--lr=nan: expected float finite and > 0"),
        ({"lr": "inf"}, r"--lr=inf: expected float finite"),
        ({"width": "abc"}, r"--model\.width=abc: expected int finite and >= 1 \(default 8\), got 'abc'"),
        ({"width": "2.5"}, r"--model\.width=2\.5: expected int"),
        ({"sizes": "1,x"}, r"--sizes=1,x: expected comma-separated int"),
        ({"mode": "c"}, r"--mode=c: expected one of: a, b"),
        ({"flag": "maybe"}, r"--flag=maybe: expected bool"),
        ({"model": "nett"}, r"--model=nett: unknown\. Did you mean net\? It takes one of: net, wide\."),
        ({"dataset": "named"}, r"--dataset=named: say which, as in --dataset=named:NAME"),
        ({"dataset": "fixed:x"}, r"fixed takes nothing after a colon"),
        ({"duration": "3 weeks"}, r"--duration: '3 weeks' is not a duration\. Write '500 steps'"),
        ({"duration": "-3 steps"}, r"is not a duration"),
        ({"shape": "plain", "amount": "0.5"}, r"no knob --amount here"),
        ({"width": "3", "model.width": "4"}, r"--width and --model\.width are one knob, given twice"),
    ],
)
def test_a_bad_knob_is_one_clear_usage_error(values: dict[str, str], message: str):
    with pytest.raises(UsageError, match=message):
        knobs.resolve(experiment, values)


def test_an_ambiguous_last_name_names_the_candidates():
    def two(*, first: Choice[NETS] = "net", second: Choice[NETS] = "net") -> None: ...

    with pytest.raises(UsageError, match=r"--width could be --first\.width or --second\.width"):
        knobs.resolve(two, {"width": "3"})


def test_help_comes_from_the_docstrings():
    text = knobs.as_text(knobs.resolve(experiment, {}))
    assert "--lr=0.1\n      the rate; float finite and > 0" in text
    assert "channels of the trunk; int finite and >= 1" in text
    assert "the rate; float finite and > 0; default 0.1" in knobs.as_text(knobs.resolve(experiment, {"lr": "0.2"}))


@pytest.mark.parametrize(
    ("text", "steps"), [("7", 7), ("7 steps", 7), ("2 epochs", 20), ("0.01 epochs", 1), ("50 examples", 5), ("0 epochs", 0)]
)
def test_durations_count_steps_for_the_size_and_batch(text: str, steps: int):
    assert Duration.parse(text).steps(size=100, batch_size=10) == steps


@pytest.mark.parametrize(
    "text", ["10 epochs", "0.1 epochs", "90.123456 epochs", "1234567.5 epochs", "50000000 examples", "7 steps"]
)
def test_durations_are_recorded_to_the_last_digit(text: str):
    assert str(Duration.parse(text)) == text


Shaped: Any = Choice(NETS, supplied=("shape",))


def recipe(*, model: Shaped = functools.partial(Net, width=5), lr: Positive = 0.1) -> Net:
    """Makes a network and supplies its shape itself."""
    return model(classes=2, shape=plain)


def test_what_a_recipe_supplies_is_no_knob_below_its_choice():
    resolved = knobs.resolve(recipe, {"width": "7"})
    assert resolved.values == {"model": "net", "model.width": 7, "lr": 0.1}
    assert resolved.call().shape is plain and resolved.call().width == 7
    with pytest.raises(UsageError, match="no knob --shape here"):
        knobs.resolve(recipe, {"shape": "smooth"})
    with pytest.raises(TypeError, match="model sets shape, which the recipe supplies"):
        knobs.resolve(functools.partial(recipe, model=functools.partial(Net, shape="smooth")), {})


OTHER_NETS = {"narrow": functools.partial(Net, width=1), "wide": functools.partial(Net, width=99)}


def test_with_options_swaps_the_dict_of_a_choice_and_leaves_all_else():
    other = with_options(experiment, model=OTHER_NETS)
    assert other.__doc__ == experiment.__doc__ and other.__name__ == "experiment"
    assert inspect.signature(other).parameters.keys() == inspect.signature(experiment).parameters.keys()
    variant = functools.partial(other, model="narrow", lr=0.7)
    resolved = knobs.resolve(variant, {"shape": "plain"})
    assert resolved.call()["model"].width == 1 and resolved.values["lr"] == 0.7 and resolved.call()["model"].shape is plain
    assert resolved.knobs["model"].kind == "one of: narrow, wide" and resolved.knobs["lr"].help == "the rate."
    with pytest.raises(UsageError, match="unknown"):
        knobs.resolve(variant, {"model": "net"})
    assert knobs.resolve(experiment, {"model": "net"}).values["model.width"] == 8  # the original has its own dict still


def test_with_options_of_a_partial_keeps_its_defaults():
    variant = with_options(functools.partial(experiment, model="wide", lr=0.7), model=OTHER_NETS)
    assert knobs.resolve(variant, {}).call()["model"].width == 99 and knobs.resolve(variant, {}).values["lr"] == 0.7
    kept = with_options(functools.partial(recipe, model="wide"), model=OTHER_NETS)
    assert "model.shape" not in knobs.resolve(kept, {}).values  # what the recipe supplies is no knob here either


def test_with_options_refuses_what_is_no_choice():
    with pytest.raises(TypeError, match="experiment has no parameter 'lr' that is a Choice"):
        with_options(experiment, lr=OTHER_NETS)


def moved(x: float, *, by: Positive = 1.0, twice: bool = False) -> float: ...
def grown(x: float, *, by: Positive = 2.0, shape: Choice[SHAPES] = "smooth") -> float: ...


STEPS = {"moved": moved, "grown": grown, "plain": plain}


def pipeline(*, steps: Choices[STEPS] = (), by_hand: Choices[STEPS] = functools.partial(moved, by=5.0)) -> Any:
    """Returns both lists as they are filled in."""
    return steps, by_hand


def in_data(*, data: Choice[{"pipeline": pipeline}] = "pipeline", lr: Positive = 0.1) -> Any:
    return data()


def test_a_list_of_choices_keeps_its_order_and_has_the_knobs_of_each_below_its_name():
    resolved = knobs.resolve(in_data, {"steps": "grown, moved", "steps.moved.by": "3", "grown.shape": "plain"})
    below = {"grown.by": 2.0, "grown.shape": "plain", "moved.by": 3.0, "moved.twice": False}
    values = {path.removeprefix("data.steps."): value for path, value in resolved.values.items() if "data.steps." in path}
    assert values == below and resolved.values["data.steps"] == "grown,moved"
    first, second = resolved.call()[0]
    assert (first.func, second.func) == (grown, moved) and first.keywords["shape"] is plain and second.keywords["by"] == 3.0
    assert knobs.resolve(in_data, resolved.values).values == resolved.values
    assert knobs.resolve(in_data, {"steps": knobs.Repeated("grown", "moved")}).values["data.steps"] == "grown,moved"


def test_an_empty_list_is_none_and_the_default_is_a_text_a_function_or_a_tuple():
    values = knobs.resolve(in_data, {}).values
    assert values["data.steps"] == "none" and values["data.by_hand"] == "moved" and values["data.by_hand.moved.by"] == 5.0
    assert knobs.resolve(in_data, {"by_hand": "none"}).call() == ((), ())
    # What the default holds keeps its own number, whatever else the list holds.
    other = knobs.resolve(in_data, {"by_hand": "plain,moved"}).values
    assert other["data.by_hand"] == "plain,moved" and other["data.by_hand.moved.by"] == 5.0
    for default in ("plain,moved", (plain, "moved"), ("plain", functools.partial(moved))):
        assert knobs.resolve(functools.partial(pipeline, steps=default), {}).values["steps"] == "plain,moved"


def test_a_path_may_be_shortened_in_the_middle_where_it_is_unique():
    given = {"by_hand": "none", "steps": "moved,plain"}
    for name in ("by", "steps.by", "data.by", "data.steps.by", "moved.by"):
        assert knobs.resolve(in_data, {**given, name: "7"}).values["data.steps.moved.by"] == 7.0, name
    with pytest.raises(UsageError, match=r"--steps\.by could be --data\.steps\.grown\.by or --data\.steps\.moved\.by"):
        knobs.resolve(in_data, {"steps": "grown,moved", "steps.by": "7"})
    with pytest.raises(UsageError, match=r"no knob --lr\.by here"):
        knobs.resolve(in_data, {"lr.by": "7"})
    # A whole last part comes before a shortened one, and a whole path before both.
    assert knobs.matching("a.c", ["a.b.c", "x.a.c"]) == ["x.a.c"] and knobs.matching("a.c", ["a.c", "x.a.c"]) == ["a.c"]
    assert knobs.merged({"data.steps.moved.by": 1, "lr": 2}, {"steps.by": 3}) == {"lr": 2, "steps.by": 3}
    assert knobs.merged({"steps.by": 1, "lr": 2}, {"data.steps.moved.by": 3}) == {"lr": 2, "data.steps.moved.by": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("moved,moved", r"--data\.steps=moved,moved: moved stands there twice\.\nKeep one"),
        ("moved,grow", r"--data\.steps=grow: unknown\. Did you mean grown\? It takes one of: moved, grown, plain"),
        ("moved:3", r"moved takes nothing after a colon"),
    ],
)
def test_a_bad_list_is_one_clear_usage_error(text: str, message: str):
    with pytest.raises(UsageError, match=message):
        knobs.resolve(in_data, {"steps": text})


def test_the_help_of_a_list_says_what_it_takes_and_a_misspelt_knob_where_it_belongs():
    text = knobs.as_text(knobs.resolve(in_data, {"steps": "moved"}))
    assert "--data.steps=moved\n        list of: moved, grown, plain, or none; default none" in text
    assert "--data.steps.moved.by=1.0" in text
    with pytest.raises(UsageError, match=r"It is one with --data\.steps=moved"):
        knobs.resolve(in_data, {"by_hand": "none", "twice": "true"})

"""Trees by path: division, matching whole names, and the error for a pattern that finds nothing."""

import pytest

from cnnlab.errors import UsageError
from cnnlab.ops import trees

TREE = {"stem": {"kernel": 1}, "stage1_block1": {"conv1": {"kernel": 2, "bias": 3}}, "output": {"kernel": 4}}


def test_flatten_and_unflatten_are_inverse():
    assert trees.unflatten(trees.flatten(TREE)) == TREE
    assert trees.flatten(TREE)["stage1_block1/conv1/bias"] == 3


def test_divide_and_join_are_inverse():
    biases, rest = trees.partition(TREE, lambda path: path.endswith("bias"))
    assert biases == {"stage1_block1": {"conv1": {"bias": 3}}} and "bias" not in rest["stage1_block1"]["conv1"]
    assert trees.join([biases, rest]) == TREE


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [("stem", True), ("ste", False), (".*/bias", False), ("st.*", True), ("(a|stem)", True), ("stem/kernel", True)],
)
def test_a_pattern_matches_a_whole_name_at_some_depth(pattern, matched):
    assert trees.matches(pattern, "stem/kernel") is matched


def test_a_pattern_that_finds_nothing_names_the_layers():
    with pytest.raises(UsageError, match=r"--frozen: 'stag' matches no layer.\n.*Layers: output, stage1_block1, stem\."):
        trees.require_match(["stem", "stag"], trees.flatten(TREE), knob="frozen")
    with pytest.raises(UsageError, match="no regular expression"):
        trees.require_match(["("], trees.flatten(TREE), knob="frozen")

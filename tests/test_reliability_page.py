"""Every test that docs/reliability.md names is there, and every number of a bad input has a row with a test."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
BAD_INPUTS = 46


def page() -> str:
    return (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_the_tests_that_the_page_names_exist():
    named = TEST.findall(page())
    assert len(named) > 20
    trees: dict[str, set[str]] = {}
    for file, name in named:
        if file not in trees:
            tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
            trees[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in trees[file], f"{file}::{name}"


def test_every_bad_input_has_a_row_with_a_test():
    rows = [line.split("|")[1:-1] for line in page().splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(number) for number, *_ in rows] == list(range(1, BAD_INPUTS + 1))
    for number, given, happens, test in rows:
        assert TEST.search(test) and given.strip() and happens.strip(), number

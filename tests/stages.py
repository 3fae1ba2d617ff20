"""Divides the cases of a test between the fast stage, which everyone runs, and the slow one, which .ci/run adds."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(cases: Iterable[Any], *fast: Any, thorough: Iterable[Any] = ()) -> list[Any]:
    """The cases as parameters of a test: those in `fast` as they are, the others for the slow stage.

    A case that is a tuple may be named by its first element. Those in `thorough` are run by hand alone.
    """
    cases, made = list(cases), []
    for case in cases:
        if _is_among(case, fast):
            made.append(case)
            continue
        marks = [pytest.mark.slow, *[pytest.mark.thorough] * _is_among(case, thorough)]
        made.append(pytest.param(*case, marks=marks) if isinstance(case, tuple) else pytest.param(case, marks=marks))
    missing = [each for each in fast if not any(_is_among(case, [each]) for case in cases)]
    assert not missing, f"no such cases: {missing}"
    return made


def _is_among(case: Any, chosen: Iterable[Any]) -> bool:
    return any(case == each or (isinstance(case, tuple) and not isinstance(each, tuple) and case[0] == each) for each in chosen)

"""Finds comparisons by `==` of two computed numbers, on which a gradient must not depend.

XLA may compute a number twice and round it differently each time, so `x == max(x)` can fail everywhere (cnnlab/ops/bounds.py).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax._src import source_info_util
from jax._src.interpreters import partial_eval
from jax.extend import core


def float_equalities(jaxpr: core.Jaxpr) -> list[str]:
    """Returns the source line of each comparison by `==` of two floats neither of which is a constant, in all inner jaxprs.

    What no result depends on is left out, such as the derivative of a maximum below a stopped gradient.
    """
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _float_equalities(needed)


def _float_equalities(jaxpr: core.Jaxpr) -> list[str]:
    found, constants = [], set()

    def are_constants(values: list[Any]) -> list[bool]:
        return [isinstance(value, core.Literal) or value in constants for value in values]

    for equation in jaxpr.eqns:
        fixed = are_constants(equation.invars)
        if fixed and all(fixed):
            constants.update(equation.outvars)  # such as a number that is broadcast
        elif equation.primitive.name == "eq" and not any(fixed) and _is_float(equation.invars[0]):
            found.append(source_info_util.summarize(equation.source_info))
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                found += _float_equalities(inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner)
    return found


def _is_float(value: Any) -> bool:
    return bool(jnp.issubdtype(value.aval.dtype, jnp.floating))


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)

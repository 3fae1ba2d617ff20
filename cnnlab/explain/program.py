"""A network as a traced program whose named values can be shifted and whose ReLUs can have another gradient.

Values are named by the intermediates that a model returns (`stage3`) and by the paths of its modules (`stage3_block1/conv2`).
Both are variables of one traced program, so no module needs a hook, and a ReLU is found whether a module, a function or
`jnp.maximum(x, 0)` computes it. What is inside a loop or a lifted transformation (nn.scan, nn.remat) has no name, and its ReLUs
keep their gradient.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr
from jax.extend.core import Literal as Constant

from cnnlab.core import Array, Params, PyTree

Rule = Literal["plain", "guided", "deconvnet"]
"""The gradient of ReLUs: their own; that of guided backpropagation (Springenberg et al. 2014, arXiv 1412.6806), which passes
where input and gradient are positive; or a deconvnet's (Zeiler and Fergus 2013, arXiv 1311.2901), where the gradient is."""

Predict = Callable[[Params, PyTree, Array], Array]
"""(params, model_state, images [B, H, W, C]) -> logits [B, K]."""


@dataclasses.dataclass(frozen=True)
class Traced:
    """The program of a network for one size of a batch."""

    program: ClosedJaxpr
    """Its arguments are the leaves of (params, model_state, images), its results the logits and then the named values."""
    names: tuple[str, ...]
    """Names of these values: first those that the model returns, then those of modules, each in the order of computation."""
    returned: int
    """Number of names that the model returns."""


def trace(predict: Predict, params: Params, model_state: PyTree, images: Any, mark: Callable[[Array, int], None]) -> Traced:
    """Traces a network; arguments may be arrays or their shapes.

    Args:
        predict: the network.
        params: its parameters.
        model_state: its state, such as statistics of batch normalisation.
        images: f32 [B, H, W, C], normalised.
        mark: is called with each named value and its number while the program is traced.
    """
    names: list[str] = []
    counts: list[int] = []

    def whole(params: Params, model_state: PyTree, images: Array) -> tuple[Array, ...]:
        returned: dict[str, Array] = {}
        modules: dict[str, Array] = {}
        with nn.intercept_methods(lambda *call: _keep(returned, modules, images, *call)):
            logits = predict(params, model_state, images)
        modules = {name: value for name, value in modules.items() if name not in returned}
        names.extend([*returned, *modules])
        counts.append(len(returned))
        values = [*returned.values(), *modules.values()]
        for number, value in enumerate(values):
            mark(value, number)
        return (logits, *values)

    program = jax.make_jaxpr(whole)(params, model_state, images)
    return Traced(program, tuple(names), counts[0])


def _keep(
    returned: dict[str, Array],
    modules: dict[str, Array],
    images: Array,
    call: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    context: nn.module.InterceptorContext,
) -> Any:
    """Calls a module; keeps its output by its path, and the intermediates that the outermost module returns."""
    result = call(*args, **kwargs)
    if context.method_name != "__call__":
        return result
    name, output = "/".join(context.module.path), result[0] if isinstance(result, tuple) else result
    if name and _is_value(output, images):
        modules.setdefault(name, output)
    elif not name and isinstance(result, tuple) and isinstance(result[1], Mapping):
        for inner, value in result[1].items():
            if _is_value(value, images):
                returned.setdefault(inner, value)
    return result


def _is_value(value: Any, images: Array) -> bool:
    """Returns whether a value is an array [B, …] of the program that is traced, not of a loop or transformation inside it."""
    of_program = getattr(value, "_trace", None) is getattr(images, "_trace", None)
    return of_program and getattr(value, "ndim", 0) > 1 and value.shape[0] == images.shape[0]


def evaluate(traced: Traced, arguments: Sequence[Any], *, rule: Rule, shifts: Mapping[str, Array]) -> list[Array]:
    """Returns the results of a traced network: the logits and the named values.

    Args:
        traced: the network.
        arguments: leaves of (params, model_state, images).
        rule: gradient of the ReLUs.
        shifts: {name: array that is added to the value of that name}.
    """
    outputs = traced.program.jaxpr.outvars[1:]
    added: dict[Any, Array] = {}
    for name, shift in shifts.items():
        added[outputs[traced.names.index(name)]] = shift
    return _evaluate(traced.program, arguments, rule, added)


def _evaluate(program: ClosedJaxpr, arguments: Sequence[Any], rule: Rule, added: Mapping[Any, Array]) -> list[Any]:
    """Evaluates a program equation by equation, with `added[variable]` on top of a variable's value."""
    jaxpr = program.jaxpr
    values: dict[Any, Any] = {}
    values.update(zip(jaxpr.constvars, program.consts, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Constant) else values[atom]

    for equation in jaxpr.eqns:
        given = [read(atom) for atom in equation.invars]
        inner = equation.params.get("jaxpr") if equation.primitive.name in ("jit", "pjit") else None
        if rule != "plain" and _is_relu(equation):
            found: Any = [RULES[rule](given[1] if _is_zero(equation.invars[0]) else given[0])]
        elif rule != "plain" and inner is not None and count_relus(inner):
            found = _evaluate(inner, given, rule, {})
        else:
            found = _bound(program.jaxpr, equation, given)
        for variable, value in zip(equation.outvars, found, strict=True):
            values[variable] = value + added[variable] if variable in added else value
    return [read(atom) for atom in jaxpr.outvars]


def _bound(jaxpr: Any, equation: Any, given: Sequence[Any]) -> list[Any]:
    """Returns the results of one equation, evaluated as a program of its own: a derivative that is custom stays so."""
    arguments = {atom: value for atom, value in zip(equation.invars, given, strict=True) if not isinstance(atom, Constant)}
    info = jaxpr.debug_info.with_unknown_names()
    alone = jaxpr.replace(constvars=(), invars=[*arguments], outvars=equation.outvars, eqns=[equation], debug_info=info)
    return jax.core.eval_jaxpr(alone, (), *arguments.values())


def _is_zero(atom: Any) -> bool:
    return isinstance(atom, Constant) and getattr(atom.val, "ndim", 0) == 0 and bool(atom.val == 0)


def _is_relu(equation: Any) -> bool:
    """Returns whether an equation is max(x, 0), alone or as the whole of a function such as jax.nn.relu."""
    if equation.primitive.name == "max":
        return sum(map(_is_zero, equation.invars)) == 1
    inner = {"custom_jvp_call": "call_jaxpr", "jit": "jaxpr", "pjit": "jaxpr"}.get(equation.primitive.name)
    if inner is None or len(equation.invars) != 1 or len(equation.params[inner].jaxpr.eqns) != 1:
        return False
    (only,) = equation.params[inner].jaxpr.eqns
    return only.outvars == equation.params[inner].jaxpr.outvars and _is_relu(only)


def count_relus(program: ClosedJaxpr) -> int:
    """Returns the number of ReLUs of a program whose gradient `evaluate` can replace."""
    count = 0
    for equation in program.jaxpr.eqns:
        if _is_relu(equation):
            count += 1
        elif equation.primitive.name in ("jit", "pjit"):
            count += count_relus(equation.params["jaxpr"])
    return count


def _relu_with(backward: Callable[[Array, Array], Array]) -> Callable[[Array], Array]:
    """Returns a ReLU whose gradient is `backward(input, gradient of the output)`."""

    @jax.custom_vjp
    def relu(x: Array) -> Array:
        return jnp.maximum(x, jnp.zeros((), x.dtype))

    relu.defvjp(lambda x: (relu(x), x), lambda x, gradient: (backward(x, gradient),))
    return relu


def _positive(gradient: Array) -> Array:
    return jnp.maximum(gradient, jnp.zeros((), gradient.dtype))


RULES: dict[str, Callable[[Array], Array]] = {
    "guided": _relu_with(lambda x, gradient: jnp.where(x > 0, _positive(gradient), jnp.zeros((), x.dtype))),
    "deconvnet": _relu_with(lambda x, gradient: _positive(gradient)),
}
"""ReLUs by the rule of their gradient."""

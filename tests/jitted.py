"""A module's `init` and `apply`, compiled as a whole: one compilation instead of one for every operation of every shape."""

import ast
import functools
import pathlib
from typing import Any

import flax.linen as nn
import jax

METHODS = ("init", "apply", "init_with_output")
TRANSFORMS = ("grad", "value_and_grad", "vmap", "jacobian", "jacrev", "jacfwd", "hessian")


@functools.cache
def _compiled(module: nn.Module, name: str, how: tuple[tuple[str, Any], ...]) -> Any:
    """One compiled function for each module (by its fields), method and static arguments; jax keeps one program a shape."""
    function = functools.partial(getattr(module, name), **{key: list(v) if key == "mutable" else v for key, v in how})
    return jax.jit(lambda first, inputs, traced: function(first, *inputs, **traced))


def _call(
    module: nn.Module, name: str, first: Any, inputs: tuple[Any, ...], traced: dict[str, Any], how: dict[str, Any]
) -> Any:
    static = tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in sorted(how.items()))
    return _compiled(module, name, static)(first, inputs, traced)


def init(module: nn.Module, keys: Any, *inputs: Any, **how: Any) -> Any:
    """`module.init(keys, *inputs, **how)`; what `how` holds (train, method) is static."""
    return _call(module, "init", keys, inputs, {}, how)


def init_with_output(module: nn.Module, keys: Any, *inputs: Any, **how: Any) -> Any:
    """`module.init_with_output(keys, *inputs, **how)`, likewise."""
    return _call(module, "init_with_output", keys, inputs, {}, how)


def apply(module: nn.Module, variables: Any, *inputs: Any, rngs: Any = None, **how: Any) -> Any:
    """`module.apply(variables, *inputs, rngs=rngs, **how)`; what `how` holds (train, method, mutable) is static."""
    return _call(module, "apply", variables, inputs, {"rngs": rngs} if rngs is not None else {}, how)


def apply_uncompiled(module: nn.Module, variables: Any, *inputs: Any, **how: Any) -> Any:
    """`module.apply` operation by operation, for the tests that compare it with the compiled one."""
    return module.apply(variables, *inputs, **how)


def uncompiled_calls(path: pathlib.Path) -> list[str]:
    """The calls in a file that run operation by operation, as `FILE:LINE: CODE`.

    These are calls of a module's `init` or `apply`, and of what jax.grad or jax.vmap returns, in a function at the top level of
    the file. A function inside it, and one decorated with jax.jit, is taken to be compiled by whoever calls it.
    """
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        compiled = isinstance(node, ast.FunctionDef) and any("jit" in ast.unparse(each) for each in node.decorator_list)
        if not isinstance(node, ast.ClassDef) and not compiled:
            found += [call for call in _calls(node, 0) if _is_uncompiled(call)]
    return [f"{path.name}:{call.lineno}: {ast.unparse(call)}" for call in found]


def _calls(node: ast.AST, depth: int) -> list[ast.Call]:
    """The calls in a node, without those in functions inside the outermost one."""
    found = [node] if isinstance(node, ast.Call) else []
    for child in ast.iter_child_nodes(node):
        inside = depth + isinstance(node, ast.FunctionDef)
        if not isinstance(child, ast.Lambda) and not (inside and isinstance(child, ast.FunctionDef | ast.ClassDef)):
            found += _calls(child, inside)
    return found


def _is_uncompiled(call: ast.Call) -> bool:
    made = call.func
    if isinstance(made, ast.Attribute) and made.attr in METHODS:
        return ast.unparse(made.value) not in ("jitted", "optimizer", "program")  # the last is compiled
    return isinstance(made, ast.Call) and ast.unparse(made.func) in [f"jax.{name}" for name in TRANSFORMS]

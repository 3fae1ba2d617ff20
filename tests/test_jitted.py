"""Tests of networks and operations compile as a whole: operation by operation they take several times as long."""

import pathlib

from tests import jitted

FILES = [
    path
    for pattern in ("test_models_*.py", "test_ops_*.py", "test_zoo*.py")
    for path in sorted(pathlib.Path(__file__).parent.glob(pattern))
    if path.name != "test_ops_optimizers.py"  # optax's `init`, in NumPy's precision
]


def test_models_and_operations_are_compiled_as_a_whole():
    found = [call for path in FILES for call in jitted.uncompiled_calls(path)]
    assert not found, "use tests/jitted.py, or jax.jit, instead of\n" + "\n".join(found)


def test_what_is_uncompiled_is_found_and_what_a_compiled_function_calls_is_not(tmp_path: pathlib.Path):
    file = tmp_path / "test_some.py"
    file.write_text(
        "def test_a():\n"
        "    y = model.apply(variables, x)\n"
        "    z = [jax.vmap(f)(x) for x in some]\n"
        "    def inner(x):\n"
        "        return model.init(key, x)\n"
        "    return jax.jit(inner)(x), jax.jit(jax.grad(f))(x), jitted.apply(model, variables, x), g(lambda v: m.apply(v, x))\n"
        "@jax.jit\n"
        "def compiled():\n"
        "    return model.init(key, x)\n"
    )
    assert [call.split(":")[1] for call in jitted.uncompiled_calls(file)] == ["2", "3"]

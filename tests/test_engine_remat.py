"""What a backward pass computes again: where a loss is cut, what is kept of it, and what devices cannot do."""

import contextlib
import io
import json
import math
import pathlib
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import print_saved_residuals

from cnnlab.engine import remat
from cnnlab.errors import UsageError
from cnnlab.ops.convolve import convolve
from tests.commands import Here, read


def hourglass(x: jax.Array, wide: list[jax.Array], narrow: jax.Array) -> jax.Array:
    """Three wide layers, one narrow one, three wide ones."""
    for weight in wide:
        x = jnp.tanh(x @ weight)
    x = jnp.tanh(x @ narrow) @ narrow.T
    for weight in wide:
        x = jnp.tanh(x @ weight)
    return jnp.sum(x)


HOURGLASS = (jnp.ones((32, 64)), [jnp.full((64, 64), 0.01)] * 3, jnp.full((64, 2), 0.1))


def test_a_loss_is_cut_where_least_crosses_and_nothing_of_it_is_lost():
    traced = jax.make_jaxpr(hourglass)(*HOURGLASS)
    parts = remat.segments(traced)
    assert [equation for part in parts for equation in part.program.eqns] == traced.jaxpr.eqns and len(parts) > 1
    crossing = [sum(variable.aval.size for variable in part.outputs) for part in parts]
    assert crossing[-1] == 1 and 32 * 2 in crossing[:-1]
    values = dict(zip(traced.jaxpr.invars, jax.tree.leaves(HOURGLASS), strict=True))
    for part in parts:
        found = jax.core.eval_jaxpr(part.program, (), *(values[each] for each in part.inputs))
        values |= dict(zip(part.outputs, found, strict=True))
    np.testing.assert_allclose(values[traced.jaxpr.outvars[0]], hourglass(*HOURGLASS), rtol=1e-6)


def test_a_loss_of_a_single_operation_stays_whole():
    assert len(remat.segments(jax.make_jaxpr(jnp.negative)(1.0))) == 1


def saved_bytes(loss: Callable[..., jax.Array], *arguments: Any) -> int:
    """Bytes that a backward pass reads of the forward pass, apart from the arguments."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        print_saved_residuals(loss, *arguments)
    lines = [line for line in text.getvalue().splitlines() if "from the argument" not in line]
    shapes = [line.split("[")[1].split("]")[0] for line in lines if line.startswith("f32[")]
    return sum(4 * math.prod(int(size) for size in shape.split(",") if size) for shape in shapes)


def convolutional(kernels: list[jax.Array], state: None, images: jax.Array, key: None) -> tuple[jax.Array, None]:
    """A loss of ten layers of a convolution, a normalisation and a smooth activation each, in the form of LossOf."""
    for kernel in kernels:
        images = convolve(images, kernel, padding=((1, 1), (1, 1)))
        images = jax.nn.silu((images - jnp.mean(images)) * jax.lax.rsqrt(jnp.var(images) + 1e-5))
    return jnp.mean(images), None


def test_what_is_kept_falls_with_what_is_computed_again():
    kernels, images = [jax.ShapeDtypeStruct((3, 3, 4, 4), np.float32)] * 10, jax.ShapeDtypeStruct((8, 8, 8, 4), np.float32)
    kept = {}
    for mode in remat.MODES:
        loss = remat.rematerialized(convolutional, mode)
        kept[mode] = saved_bytes(lambda kernels, loss=loss: loss(kernels, None, jnp.zeros(images.shape), None)[0], kernels)
    assert kept["full"] < 0.5 * kept["none"] and kept["full"] < kept["save_matmuls"] < kept["none"]
    assert kept["offload"] <= kept["full"]


def test_devices_without_the_memory_of_the_host_are_refused():
    device = types.SimpleNamespace(platform="odd", addressable_memories=lambda: [types.SimpleNamespace(kind="device")])
    with pytest.raises(UsageError, match="--remat=offload: odd devices reach no memory of the host"):
        remat.check_remat("offload", [device])
    remat.check_remat("full", [device])
    assert remat.compiler_options("full", [device]) is None  # other compilers keep the barriers


@pytest.mark.slow
def test_a_run_may_go_on_with_another_choice_which_is_said(
    here: Here, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    words = ["train", "--experiment=linear_digits", "--steps=4", "--workdir=run", "--devices=1"]
    assert here(*words, "--remat=full", "--stop_after=2")[0] == 0
    assert here(*words)[0] == 0 and "not as when the run was last trained: --remat=full there, none now" in caplog.text
    assert [attempt["remat"] for attempt in read(tmp_path / "run" / "run.json")["attempts"]] == ["full", "none"]
    assert here("evaluate", "--workdir=run", "--remat=full")[0] == 2
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["steps"] == 4

"""Claim C31, exact part: an LSTM keeps a gradient over long lags where a tanh RNN loses it. Flax's cells in float64, untrained.

Paper:    Hochreiter, Schmidhuber, Long short-term memory, 1997; Gers, Schmidhuber, Cummins, Learning to forget, 2000; Pascanu,
          Mikolov, Bengio, On the difficulty of training recurrent neural networks, 2013, arXiv 1211.5063
Command:  python launch.py measure --experiment=c31_gradient_by_lag
Result:   supported at small scale; docs/claims/c31.md has the numbers.

The number is log10 of the spectral norm of the derivative of the state after `lag` steps by the state before them, for cells
of 32 units on inputs from N(0, 1). It is 0 where a gradient arrives undiminished, and below where it vanishes. The RNN is
flax's SimpleCell with orthogonal recurrent weights, as flax initialises it, and with Xavier's. The LSTM is flax's
OptimizedLSTMCell with its own initial weights and a bias of the forget gates of 0 (flax's own), 1 (Jozefowicz et al. 2015), 2
or 40, at which the gates are 1: the constant error carousel of the LSTM of 1997, which had no forget gates.

Along the cell path, where the hidden state that the gates see is held fixed, the derivative is the product of the forget
gates. The product is computed from the weights without the cell, and compared. The derivative along all paths is shown beside
it. What keeps the gradient is the open gate, not the cell alone: with a bias of 0 the gates are near one half, and the cell
path loses the gradient faster than the RNN.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_most, identity
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import Metric
from cnnlab.ops.init import xavier

UNITS = 32
INPUTS = 16
LAG = 100
"""Lag that decides, in steps."""
LAGS = (10, 50, LAG, 200, 500)
STEPS = max(LAGS)
SHOWN = (1, 2, 5, *range(10, 100, 10), *range(100, STEPS + 1, 50))
"""Lags at which the figure has a point."""
RNNS: dict[str, Callable[..., jax.Array]] = {"RNN, orthogonal": nn.initializers.orthogonal(), "RNN, Xavier": xavier}
"""{case: initialiser of the recurrent weights}."""
FORGET_BIASES = (0, 1, 2, 40)


def lstm_case(bias: float) -> str:
    """Returns the case of the cell path with a bias of the forget gates."""
    return "cell path, gates of 1" if bias == 40 else f"cell path, bias {bias:g}"


@functools.cache
def rnn_jacobians(case: str) -> Callable[[jax.Array], jax.Array]:
    """Returns the compiled function key -> derivatives f64 [T, D, D] of the states after 1 … T steps by the first state."""
    cell = nn.SimpleCell(UNITS, recurrent_kernel_init=RNNS[case], param_dtype=jnp.float64)

    def jacobians(key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, 3)
        inputs = jax.random.normal(keys[0], (STEPS, INPUTS), jnp.float64)
        first = jax.random.normal(keys[1], (UNITS,), jnp.float64)
        variables = cell.init(keys[2], first, inputs[0])

        def states(state: jax.Array) -> jax.Array:
            return jax.lax.scan(lambda h, x: cell.apply(variables, h, x), state, inputs)[1]

        return jax.jacfwd(states)(jnp.tanh(first))

    return jax.jit(jacobians)


@functools.cache
def lstm_jacobians() -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]:
    """Returns the compiled function (key, forget bias []) -> derivatives of the cell states by the first one.

    They are f64 [T, D, D] along the cell path, f64 [T, D, D] along all paths, and f64 [T, D], the products of the forget gates.
    """
    cell = nn.OptimizedLSTMCell(UNITS, param_dtype=jnp.float64)

    def jacobians(key: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        keys = jax.random.split(key, 3)
        inputs = jax.random.normal(keys[0], (STEPS, INPUTS), jnp.float64)
        first = jax.random.normal(keys[1], (UNITS,), jnp.float64)
        params = cell.init(keys[2], (first, first), inputs[0])["params"]
        params = params | {"hf": params["hf"] | {"bias": jnp.full((UNITS,), bias)}}

        def cells(state: jax.Array, hold: bool) -> tuple[jax.Array, jax.Array]:
            """Returns the cell states [T, D] and the hidden states [T, D] that the gates of each step see."""

            def move(carry: Any, x: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
                c, h = carry
                seen = jax.lax.stop_gradient(h) if hold else h
                carry, _ = cell.apply({"params": params}, (c, seen), x)
                return carry, (carry[0], h)

            return jax.lax.scan(move, (state, jnp.tanh(first)), inputs)[1]

        seen = cells(first, True)[1]
        pre = inputs @ params["if"]["kernel"] + seen @ params["hf"]["kernel"] + params["hf"]["bias"][None]  # [T, D]
        products = jnp.cumprod(jax.nn.sigmoid(pre), axis=0)
        along, everywhere = (jax.jacfwd(lambda c, hold=hold: cells(c, hold)[0])(first) for hold in (True, False))
        return along, everywhere, products

    return jax.jit(jacobians)


def log_norms(jacobians: Any) -> np.ndarray:
    """Returns log10 of the spectral norms [T] of derivatives [T, D, D]."""
    return np.log10(np.linalg.norm(np.asarray(jacobians), ord=2, axis=(1, 2)))


def measure(seed: int) -> Measured:
    """Returns the norms of one draw of weights, inputs and first state."""
    lines, differences = {}, {}
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        key = jax.random.key(seed)
        for case in RNNS:
            lines[case] = log_norms(rnn_jacobians(case)(key))
        for bias in FORGET_BIASES:
            along, everywhere, products = map(np.asarray, lstm_jacobians()(key, jnp.float64(bias)))
            lines[lstm_case(bias)] = log_norms(along)
            lines[lstm_case(bias).replace("cell path", "all paths")] = log_norms(everywhere)
            # Relative to the product, which is many orders of magnitude below 1 at long lags.
            diagonals = np.einsum("tdd->td", along)  # [T, D, D] -> its diagonals [T, D]
            beside = np.abs(along - diagonals[:, :, None] * np.eye(UNITS)[None]).max()
            differences[lstm_case(bias)] = float(max((np.abs(diagonals / products - 1)).max(), beside))
    numbers = {f"log_norm_at_{lag}": {case: float(line[lag - 1]) for case, line in lines.items()} for lag in LAGS}
    numbers["difference"] = differences
    drawn = (*RNNS, *map(lstm_case, FORGET_BIASES), "all paths, bias 2")
    curves = {case: tuple((float(lag), float(lines[case][lag - 1])) for lag in SHOWN) for case in drawn}
    return Measured(numbers, curves)


def _keeps(case: str, against: str, says: str) -> Any:
    return on(f"log_norm_at_{LAG}", contrast("C31", case, "higher", says, against=against))


measurement = Measurement(
    claim="C31",
    question="How much of a gradient arrives over a lag of up to 500 steps, in a tanh RNN and along the cell path of an LSTM?",
    measure=measure,
    metrics=(
        Metric(f"log_norm_at_{LAG}"),
        *(Metric(f"log_norm_at_{lag}") for lag in LAGS if lag != LAG),
        Metric("difference", higher_is_better=False, log_scale=True),
    ),
    seeds=20,
    verdict=every(
        on(
            "difference",
            identity("C31", lstm_case(2), 0.0, 1e-12, "Along the cell path the derivative is the product of the forget gates"),
        ),
        identity("C31", lstm_case(40), 0.0, 1e-12, "Where the gates are 1, as in the LSTM of 1997, it arrives undiminished"),
        at_most("C31", "RNN, orthogonal", -5.0, "With orthogonal recurrent weights a tanh RNN leaves at most 1e-5 of it"),
        at_most("C31", "RNN, Xavier", -5.0, "With Xavier's recurrent weights a tanh RNN leaves at most 1e-5 of it"),
        _keeps(lstm_case(2), "RNN, orthogonal", "Along the cell path with a bias of 2 more is left than in the RNN"),
        shown=(
            _keeps("all paths, bias 2", "RNN, orthogonal", "Along all paths with a bias of 2 more is left than in the RNN"),
            _keeps(lstm_case(1), "RNN, orthogonal", "Along the cell path with a bias of 1 more is left than in the RNN"),
            _keeps(lstm_case(0), "RNN, orthogonal", "Along the cell path with a bias of 0 more is left than in the RNN"),
        ),
        scope="untrained cells of 32 units in float64, 500 steps, inputs from N(0, 1)",
    ),
    card=Card(
        published="Hochreiter and Schmidhuber (1997) show that the error that flows back through the cell of an LSTM without "
        "forget gates is constant, while that of a recurrent network decays or grows exponentially with the lag.",
        would_change="A derivative along the cell path that is not the product of the gates, or a tanh RNN that keeps more "
        "than 1e-5 of a gradient over 100 steps.",
        quick="--seeds=2",
        figure=Figure(x="lag in steps", y="log10 of the norm of the derivative"),
        deviations="The cells are not trained, so that this is what training starts from; training can open and close gates. "
        "That an RNN cannot learn long lags does not follow from it alone.",
    ),
)

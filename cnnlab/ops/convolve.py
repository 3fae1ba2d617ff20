"""Convolution of images, [B, H, W, C] with kernels [height, width, C / groups, features]."""

import jax

Pairs = tuple[tuple[int, int], tuple[int, int]]
"""Rows above and below, columns left and right."""
Padding = int | tuple[int, int] | Pairs | str
"""`1` on all sides, `(rows, columns)`, ((above, below), (left, right)), "same" (as TensorFlow: ⌈H / stride⌉ rows come out,
an odd pad goes below and right) or "valid"."""


def pairs(padding: Padding, size: tuple[int, int], window: tuple[int, int], strides: tuple[int, int]) -> Pairs:
    """Padding in its long form for an image of `size` and a window (dilation included)."""
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0), (0, 0))
        if padding != "same":
            raise ValueError(f"padding is a number, numbers, 'same' or 'valid', not {padding!r}")
        missing = [max((-(-n // s) - 1) * s + w - n, 0) for n, w, s in zip(size, window, strides, strict=True)]
        rows, columns = ((m // 2, m - m // 2) for m in missing)
        return rows, columns
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    rows, columns = padding
    return (
        rows if isinstance(rows, tuple) else (rows, rows),
        columns if isinstance(columns, tuple) else (columns, columns),
    )


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Pairs = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> jax.Array:
    """Cross-correlation of x [B, H, W, C] with kernel [h, w, C / groups, O]: [B, H', W', O]."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )

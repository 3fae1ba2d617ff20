"""Where the windows of a convolution or a pooling lie: padding, strides and dilation, and the sizes that follow from them."""

import dataclasses

Pairs = tuple[tuple[int, int], tuple[int, int]]
"""((rows above, rows below), (columns left, columns right))."""
Padding = int | tuple[int, int] | Pairs | str
"""`1` on all sides, `(rows, columns)`, ((above, below), (left, right)), "same" (as in TensorFlow: the output has ⌈H / stride⌉
rows, and the odd row or column of padding goes below or to the right) or "valid" (no padding)."""


def explicit_padding(padding: Padding, size: tuple[int, int], window: tuple[int, int], strides: tuple[int, int]) -> Pairs:
    """Returns any form of padding as ((above, below), (left, right)), for an image of `size` = (H, W).

    Args:
        padding: in any of the forms of `Padding`.
        size: (H, W) of the image.
        window: (rows, columns) that a window covers, dilation included.
        strides: (down, right).
    """
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0), (0, 0))
        if padding != "same":
            raise ValueError(f"padding is a number, numbers, 'same' or 'valid', not {padding!r}")
        # ⌈H / stride⌉ windows need (⌈H / stride⌉ − 1) · stride + window rows; what H lacks is padding.
        missing = [max((-(-n // s) - 1) * s + w - n, 0) for n, w, s in zip(size, window, strides, strict=True)]
        both = [(m // 2, m - m // 2) for m in missing]
        return both[0], both[1]
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    rows, columns = padding
    return (
        rows if isinstance(rows, tuple) else (rows, rows),
        columns if isinstance(columns, tuple) else (columns, columns),
    )


def ceil_padding(size: tuple[int, int], window: tuple[int, int], strides: tuple[int, int], padding: Pairs) -> Pairs:
    """Returns the padding that completes an incomplete last window (ceil mode), unless it would begin in the padding."""
    extended = []
    for n, w, s, (low, high) in zip(size, window, strides, padding, strict=True):
        count = -(-(n + low + high - w) // s) + 1
        if (count - 1) * s >= n + low:
            count -= 1
        extended.append((low, max(high, (count - 1) * s + w - n - low)))
    return extended[0], extended[1]


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The strides, the padding and the dilation of a convolution or a pooling."""

    strides: tuple[int, int] = (1, 1)
    padding: Pairs = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)

    def output_size(self, image: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, int]:
        """Returns (H', W') for an image of shape [B, H, W, C] and a kernel of shape [h, w, …]."""
        rows, columns = (
            (n + sum(pad) - d * (k - 1) - 1) // s + 1
            for n, k, s, pad, d in zip(image[1:3], kernel[:2], self.strides, self.padding, self.dilation, strict=True)
        )
        return rows, columns

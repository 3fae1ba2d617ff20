"""Writes the fixture of single functions from torch.nn.functional in f64; runs in an environment of its own, with torch.

    python torch_functions.py FILE

For each case the file holds NAME/x [B, C, H, W], NAME/kernel where there is one, NAME/y, NAME/dy, and NAME/dx and NAME/dkernel,
the gradients of the sum of y · dy. The cases are read by test_functions.py too, which has no torch.
"""

import itertools
import sys

import numpy as np

CONVOLUTIONS = {  # x, kernel [O, C / groups, h, w], options
    "plain": ((3, 4, 9, 8), (6, 4, 3, 3), {"padding": 1}),
    "strided": ((3, 4, 9, 8), (6, 4, 3, 3), {"stride": 2, "padding": 1}),
    "lopsided": ((2, 3, 8, 9), (4, 3, 1, 5), {"stride": (1, 3), "padding": (0, 2)}),
    "dilated": ((2, 3, 9, 11), (5, 3, 3, 2), {"dilation": 2, "padding": 2}),
    "pointwise": ((3, 6, 5, 7), (4, 6, 1, 1), {}),
    "pointwise-strided": ((3, 6, 5, 7), (4, 6, 1, 1), {"stride": 2}),
    "two-groups": ((2, 6, 7, 7), (8, 3, 5, 5), {"padding": 2, "groups": 2}),
    "many-groups": ((2, 32, 7, 6), (48, 2, 3, 3), {"stride": 2, "padding": 1, "groups": 16}),
    "depthwise": ((3, 6, 8, 7), (6, 1, 3, 3), {"padding": 1, "groups": 6}),
    "depthwise-strided": ((3, 6, 9, 8), (6, 1, 5, 5), {"stride": 2, "padding": 2, "groups": 6}),
    "depthwise-twice": ((2, 5, 8, 7), (10, 1, 3, 3), {"stride": 2, "dilation": 2, "padding": 2, "groups": 5}),
    "one-channel": ((16, 1, 9, 9), (5, 1, 5, 5), {"padding": 2}),
    "large-batch": ((32, 48, 12, 12), (64, 48, 3, 3), {"padding": 1}),
    "large-batch-strided": ((32, 16, 14, 13), (24, 16, 3, 3), {"stride": 2, "padding": 1}),
}
TRANSPOSED = {  # x, kernel [C, O, h, w], options
    "doubled": ((3, 4, 5, 6), (4, 5, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "even": ((3, 4, 5, 6), (4, 5, 4, 4), {"stride": 2, "padding": 1}),
    "gaps": ((2, 3, 4, 5), (3, 2, 2, 2), {"stride": 3, "output_padding": (2, 1)}),
    "lopsided": ((2, 3, 4, 5), (3, 2, 5, 3), {"stride": (3, 2), "padding": (2, 0)}),
    "unstrided": ((2, 3, 6, 5), (3, 4, 3, 3), {"padding": 1}),
    "large-batch": ((64, 16, 7, 7), (16, 8, 5, 5), {"stride": 2, "padding": 2, "output_padding": 1}),
}
SIZES = ((7, 8), (12, 5))
WINDOWS = [
    (size, window, stride, padding, ceil)
    for size, window, stride, padding, ceil in itertools.product(SIZES, (2, 3, 5), (1, 2, 3), (0, 1, 2), (False, True))
    if padding <= window // 2
]
ADAPTIVE = [(size, cells) for size, cells in itertools.product(SIZES, ((1, 1), (3, 2), (6, 6), (7, 7)))]
UNPOOLED = list(itertools.product(SIZES, (2, 3), (False, True)))
ENLARGED = ((4, 3), (14, 16), (9, 20), (3, 4))
SPREAD = (2, 4, 8)
RECURRENT = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
"""Recurrent layers of torch.nn, with 4 inputs, 5 units and 7 times, from a state that is not 0."""
TEMPERATURES = ((1.0, 1), (4.0, 1), (20.0, 1), (4.0, 3))
"""Temperature of soft targets, and number of teachers whose probabilities are averaged."""
RESPONSES = list(itertools.product((1, 2, 3, 4, 5, 8), (1e-4, 0.5), (0.75, 0.5), (1.0, 2.0)))


def main() -> None:
    """Writes the file."""
    import torch
    from torch.nn import functional

    random, arrays = np.random.default_rng(0), {}

    def add(name, function, x, kernel=None):
        given = [torch.tensor(array, requires_grad=True) for array in (x, kernel) if array is not None]
        y = function(*given)
        dy = torch.tensor(random.normal(size=tuple(y.shape)))
        gradients = torch.autograd.grad(y, given, dy)
        found = {"x": given[0], "y": y, "dy": dy, "dx": gradients[0]}
        if kernel is not None:
            found |= {"kernel": given[1], "dkernel": gradients[1]}
        arrays.update({f"{name}/{key}": value.detach().numpy() for key, value in found.items()})

    for kind, cases, function in (
        ("conv", CONVOLUTIONS, functional.conv2d),
        ("conv_transpose", TRANSPOSED, functional.conv_transpose2d),
    ):
        for name, (image, kernel, options) in cases.items():
            x, weight = random.normal(size=image), random.normal(size=kernel)
            add(f"{kind}/{name}", lambda x, w, f=function, o=options: f(x, w, **o), x, weight)
    for size, window, stride, padding, ceil in WINDOWS:
        x, name = random.normal(size=(2, 3, *size)), f"{size}-{window}-{stride}-{padding}-{ceil}"
        shape = (window, stride, padding)
        add(f"max_pool/{name}", lambda x, s=shape, c=ceil: functional.max_pool2d(x, *s, ceil_mode=c), x)
        for counts in (False, True):
            add(f"avg_pool/{name}-{counts}", lambda x, s=shape, c=ceil, n=counts: functional.avg_pool2d(x, *s, c, n), x)
    for size, cells in ADAPTIVE:
        x = random.normal(size=(2, 3, *size))
        add(f"adaptive_avg_pool/{size}-{cells}", lambda x, c=cells: functional.adaptive_avg_pool2d(x, c), x)
    for size, window, ceil in UNPOOLED:
        x, name = random.normal(size=(2, 3, *size)), f"{size}-{window}-{ceil}"
        pool = {"kernel_size": window, "ceil_mode": ceil, "return_indices": True}
        add(f"switches/{name}", lambda x, p=pool: functional.max_pool2d(x, **p)[0], x)
        arrays[f"switches/{name}/places"] = functional.max_pool2d(torch.tensor(x), **pool)[1].numpy()
        back = {"kernel_size": window, "output_size": size}
        add(f"unpool/{name}", lambda x, p=pool, b=back: functional.max_unpool2d(*functional.max_pool2d(x, **p), **b), x)
    for size in ENLARGED:
        x = random.normal(size=(2, 3, 4, 5))
        add(f"bilinear/{size}", lambda x, s=size: functional.interpolate(x, s, mode="bilinear", align_corners=False), x)
    for factor in SPREAD:
        place = np.arange(2 * factor)
        line = 1 - abs(place / factor - (2 * factor - 1 - factor % 2) / (2 * factor))  # Caffe's filler `bilinear`
        kernel = torch.tensor(np.outer(line, line)).expand(3, 1, 2 * factor, 2 * factor)
        x = random.normal(size=(2, 3, 4, 5))
        add(f"spread/{factor}", lambda x, k=kernel, f=factor: functional.conv_transpose2d(x, k, stride=f, groups=3), x)
    for options in RESPONSES:
        x = 3.0 * random.normal(size=(2, 7, 3, 4))
        add(f"lrn/{options}", lambda x, o=options: functional.local_response_norm(x, *o), x)
    for name, kind in RECURRENT.items():
        layer = getattr(torch.nn, kind)(4, 5, batch_first=True).double()
        values = {"x": random.normal(size=(3, 7, 4)), "hidden": random.normal(size=(1, 3, 5))}
        values |= {"cell": random.normal(size=(1, 3, 5))} if name == "lstm" else {}
        for weight in layer.parameters():
            weight.data = torch.tensor(random.normal(0, 0.7, tuple(weight.shape)))
        given = {key: torch.tensor(value, requires_grad=True) for key, value in values.items()}
        start = (given["hidden"], given["cell"]) if name == "lstm" else given["hidden"]
        y, last = layer(given["x"], start)
        dy = torch.tensor(random.normal(size=tuple(y.shape)))
        given |= dict(layer.named_parameters())
        gradients = torch.autograd.grad(y, list(given.values()), dy)
        found = {**given, "y": y, "dy": dy, "last": last[1] if name == "lstm" else last}
        found |= {f"d{key}": gradient for key, gradient in zip(given, gradients, strict=True)}
        arrays.update({f"recurrent/{name}/{key}": value.detach().numpy() for key, value in found.items()})
    for temperature, teachers in TEMPERATURES:
        x, given = random.normal(size=(6, 9)), random.normal(size=(teachers, 6, 9))
        soft = functional.softmax(torch.tensor(given) / temperature, dim=2).mean(0)

        def divergence(x, soft=soft, t=temperature):
            return t**2 * functional.kl_div(functional.log_softmax(x / t, dim=1), soft, reduction="none").sum(1)

        add(f"soft_targets/{temperature}-{teachers}", divergence, x)
        arrays[f"soft_targets/{temperature}-{teachers}/teachers"] = given
    np.savez(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()

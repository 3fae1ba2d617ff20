"""Writes a fixture of quantisation by torch.ao.quantization and torch.fake_quantize; runs in an environment of its own.

    python quantize_oracle.py FILE

For each case of CASES the file holds NAME/batches f32 [batches, O, I], NAME/scale and NAME/zero of the observer that saw them,
NAME/x and NAME/y, an array and what fake quantisation makes of it, and NAME/dy and NAME/dx, gradients. The cases are read by
test_quantize.py too, which has no torch.
"""

import itertools
import sys

import numpy as np

CASES = {
    f"{observer}-{scheme}-{bits}-{shift}": (observer, scheme, bits, shift)
    for observer, scheme, bits, shift in itertools.product(
        ("minmax", "channels", "average"), ("affine", "symmetric"), (2, 3, 4, 8), (0.0, 3.0, -50.0)
    )
}
"""{name: (observer, whether there is a zero point, bits, what is added to the numbers)}."""


def main() -> None:
    """Writes the fixture."""
    import torch
    from torch.ao.quantization import observer as observers

    random, arrays = np.random.default_rng(0), {}
    for name, (observer, scheme, bits, shift) in CASES.items():
        most = 2 ** (bits - 1) - 1
        least = -most if scheme == "symmetric" else -most - 1
        by = "per_channel" if observer == "channels" else "per_tensor"
        given = {
            "dtype": torch.qint8,
            "qscheme": getattr(torch, f"{by}_{scheme}"),
            "quant_min": least,
            "quant_max": most,
        }
        made = {
            "minmax": observers.MinMaxObserver,
            "channels": observers.PerChannelMinMaxObserver,
            "average": observers.MovingAverageMinMaxObserver,
        }
        seen = made[observer](**given)
        batches = (random.normal(size=(3, 5, 40)) * random.uniform(0.1, 3, (3, 5, 1)) + shift).astype(np.float32)
        for batch in batches:
            seen(torch.tensor(batch))
        scale, zero = seen.calculate_qparams()
        # Ties, too, as far as f32 holds them: half of a step beside whole ones.
        ties = np.arange(-20, 20) / 2 * scale.numpy().reshape(-1, 1) * np.ones((5, 1))
        x = np.concatenate([random.normal(size=(5, 60)) * 4 + shift, ties], axis=1)
        leaf = torch.tensor(x, dtype=torch.float32, requires_grad=True)
        if observer == "channels":
            y = torch.fake_quantize_per_channel_affine(leaf, scale, zero.to(torch.int32), 0, least, most)
        else:
            y = torch.fake_quantize_per_tensor_affine(leaf, float(scale), int(zero), least, most)
        dy = torch.tensor(random.normal(size=x.shape), dtype=torch.float32)
        (dx,) = torch.autograd.grad(y, leaf, dy)
        found = {"x": leaf, "y": y, "dy": dy, "dx": dx}
        arrays |= {f"{name}/{key}": value.detach().numpy() for key, value in found.items()}
        arrays |= {f"{name}/batches": batches, f"{name}/scale": scale.numpy(), f"{name}/zero": zero.numpy()}
    np.savez(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()

"""Writes a fixture of attacks on a small network by torch in f64; runs in an environment of its own, with torch.

    python attacks_oracle.py FILE

The fixture holds kernel [O, C, h, w], weights [K, O·h·w], images [B, C, H, W] in [0, 1], labels [B], targets [B], and
moved/NAME, the images [B, C, H, W] that each attack makes of them.
"""

import sys

import numpy as np
import torch
from conventions import ATTACKS
from torch.nn import functional


def main() -> None:
    """Writes the fixture."""
    random = np.random.default_rng(0)
    arrays = {
        "kernel": random.normal(size=(4, 3, 3, 3)) / 3,
        "weights": random.normal(size=(10, 4 * 6 * 5)) / 3,
        "images": np.clip(random.uniform(-0.2, 1.2, (6, 3, 8, 7)), 0, 1),
        "labels": np.arange(6),
        "targets": (np.arange(6) + 4) % 10,
    }
    kernel, weights, images, labels, targets = (torch.tensor(array) for array in arrays.values())

    def logits(moved):
        return functional.softplus(functional.conv2d(moved, kernel)).flatten(1) @ weights.T

    for name, (norm, epsilon, steps, step, targeted) in ATTACKS.items():
        moved = images.clone()
        for _ in range(steps):
            moved = moved.detach().requires_grad_()
            loss = functional.cross_entropy(logits(moved), targets if targeted else labels, reduction="sum")
            (gradient,) = torch.autograd.grad(-loss if targeted else loss, moved)
            if norm == "linf":
                moved = moved + step * epsilon * gradient.sign()
                moved = torch.minimum(torch.maximum(moved, images - epsilon), images + epsilon)
            else:
                moved = moved + step * epsilon * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
                length = (moved - images).flatten(1).norm(dim=1)[:, None, None, None]
                moved = images + (moved - images) * torch.clamp(epsilon / length, max=1)
            moved = moved.clamp(0, 1)
        arrays[f"moved/{name}"] = moved.detach().numpy()
    np.savez(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()

"""Writes a fixture of foolbox's attacks on the network of attacks_oracle.py, in f64; runs in an environment of its own.

    python foolbox_oracle.py ATTACKS.npz FILE

The fixture holds moved/NAME, the images [B, C, H, W] that each attack makes without a random start, and losses/NAME [R, B],
the cross-entropy of what it reaches from R random starts.
"""

import sys

import foolbox
import numpy as np
import torch
from conventions import ATTACKS, RESTARTS
from foolbox.attacks import L2PGD, LinfPGD
from torch import nn
from torch.nn import functional


class Network(nn.Module):
    """The network of attacks_oracle.py."""

    def __init__(self, kernel: torch.Tensor, weights: torch.Tensor):
        super().__init__()
        self.kernel, self.weights = kernel, weights

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits [B, K] of images [B, C, H, W]."""
        return functional.softplus(functional.conv2d(images, self.kernel)).flatten(1) @ self.weights.T


def main() -> None:
    """Writes the fixture."""
    torch.manual_seed(0)
    given = {name: torch.tensor(array) for name, array in np.load(sys.argv[1]).items()}
    images, arrays = given["images"], {}
    network = Network(given["kernel"], given["weights"]).eval()
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    for name, (norm, epsilon, steps, step, targeted) in ATTACKS.items():
        labels = given["targets" if targeted else "labels"]
        criterion = (foolbox.TargetedMisclassification if targeted else foolbox.Misclassification)(labels)
        for random_start in (False, True):
            attack = {"linf": LinfPGD, "l2": L2PGD}[norm](rel_stepsize=step, steps=steps, random_start=random_start)
            found = [attack(model, images, criterion, epsilons=epsilon)[1] for _ in range(RESTARTS if random_start else 1)]
            if random_start:
                losses = [functional.cross_entropy(network(moved), labels, reduction="none") for moved in found]
                arrays[f"losses/{name}"] = torch.stack(losses).detach().numpy()
            else:
                arrays[f"moved/{name}"] = found[0].detach().numpy()
    np.savez(sys.argv[2], **arrays)


if __name__ == "__main__":
    main()

"""The settings that oracles share with the tests: of attributions (explain) and of attacks (attacks, foolbox)."""

SIDE = 63
"""Height and width of the images."""
WINDOW, STRIDE = 15, 8
"""Occlusion: side of the window, and distance between windows."""
STEPS = 20
"""Steps of integrated gradients."""

ATTACKS = {
    "fgsm": ("linf", 0.03, 1, 1.0, False),
    "linf": ("linf", 0.1, 7, 0.25, False),
    "linf-targeted": ("linf", 0.05, 12, 0.2, True),
    "l2": ("l2", 0.8, 7, 0.25, False),
    "l2-targeted": ("l2", 1.5, 12, 0.2, True),
}
"""Attacks: norm, ε, steps, step as a share of ε, whether it is targeted."""
RESTARTS = 20
"""Number of random starts of each attack."""

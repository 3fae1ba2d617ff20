"""The settings of attributions that explain_oracle.py and test_explain.py share."""

SIDE = 63
"""Height and width of the images."""
WINDOW, STRIDE = 15, 8
"""Occlusion: side of the window, and distance between windows."""
STEPS = 20
"""Steps of integrated gradients."""

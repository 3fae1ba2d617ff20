"""Checks an experiment before a long run: its data, its start, its gradients, its learning rate, and whether it can learn."""

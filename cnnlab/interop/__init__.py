"""Imports weights of torchvision, timm, pytorchcv and keras, and exports weights as safetensors and networks as StableHLO."""

"""Weights in and out: state dicts of torchvision, timm, pytorchcv and keras; safetensors, StableHLO."""

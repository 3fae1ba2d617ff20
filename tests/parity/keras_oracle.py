"""Writes weights and logits of keras.applications; runs in an environment of its own, with keras on jax.

    KERAS_BACKEND=jax JAX_ENABLE_X64=1 python keras_oracle.py FOLDER < cases.json

cases.json: [{"file", "model", "size", "layout", "options"}]. The reference is calibrated as in oracle.py: He weights, biases
and scales that are not trivial, statistics of one batch, jittered. FILE + layout (".weights.h5" or ".h5") is what keras
itself saves; FILE.npz holds input [B, H, W, C] (f32), logits [B, K] in f64 and signal (the largest change of a logit).
"""

import json
import pathlib
import sys
import time

import keras
import numpy as np
from absl import logging
from keras.src.backend.common import dtypes

logging.set_verbosity(logging.ERROR)  # the older layout is what is wanted
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"  # norms and means compute in f32 otherwise, whatever they are given


def calibrate(model: keras.Model, images: np.ndarray, random: np.random.Generator) -> None:
    """Weights and statistics with which the logits depend on the image and on every statistic; all of them f32 numbers."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in model.layers:
        for weight in layer.weights:
            kind, shape = weight.path.rpartition("/")[2], weight.shape
            if kind == "kernel":
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                inputs = np.prod(shape[:2]) if depthwise else np.prod(shape[:-1])
                weight.assign(random.normal(0, np.sqrt(2 / inputs), shape))
            elif kind in ("bias", "beta"):
                weight.assign(random.normal(0, 0.2, shape))
            elif kind == "gamma":
                weight.assign(random.uniform(0.7, 1.3, shape))
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    for layer in norms:
        layer.momentum = 0.0
    model(images, training=True)
    for layer in norms:
        mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
        layer.moving_mean.assign(mean + 0.1 * np.sqrt(variance) * random.normal(size=mean.shape))
        layer.moving_variance.assign(variance * random.uniform(0.8, 1.25, variance.shape))
    model.set_weights([weight.astype(np.float32) for weight in model.get_weights()])


def build(case: dict, dtype: str) -> keras.Model:
    """The model without trained weights, giving logits."""
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    shape = (case["size"], case["size"], 3)
    return getattr(keras.applications, case["model"])(
        weights=None, input_shape=shape, classifier_activation=None, **case["options"]
    )


def write(case: dict, folder: pathlib.Path) -> None:
    """Both files of one case; the .npz last, so that it stands for both."""
    random = np.random.default_rng(0)
    images = random.normal(size=(4, case["size"], case["size"], 3)).astype(np.float32)
    model = build(case, "float64")
    # EfficientNet divides by 255 within the network, and without trained weights its own normalisation does nothing.
    factor = 255.0 if case["model"].startswith("EfficientNet") else 1.0
    exact = factor * images.astype(np.float64)
    calibrate(model, exact, random)
    logits = np.asarray(model(exact, training=False))
    signal = np.abs(logits[0] - logits[1:]).max()
    single = build(case, "float32")
    single.set_weights(model.get_weights())
    saved = str(folder / case["file"]) + case["layout"]
    single.save(saved) if case["layout"] == ".h5" else single.save_weights(saved)
    partial = folder / f"{case['file']}.partial.npz"
    np.savez(partial, input=images, logits=logits, signal=signal)
    partial.rename(folder / f"{case['file']}.npz")
    print(
        f"{case['model']}: {model.count_params():,} numbers, signal/max {signal / np.abs(logits).max():.1e}", end="", flush=True
    )


def main() -> None:
    """Writes every case that is asked for."""
    for case in json.load(sys.stdin):
        began = time.monotonic()
        write(case, pathlib.Path(sys.argv[1]))
        print(f", {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()

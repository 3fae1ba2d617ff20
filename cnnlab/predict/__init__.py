"""Predictions of a trained run for images without labels: images found and prepared, predicted in batches, written."""

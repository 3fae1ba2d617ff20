"""The runs and studies below a folder at a glance: table, CSV, JSON, live view, comparison and cleaning. Imports no jax."""

"""What several devices cost: measured on devices that share a processor, counted in bytes, and predicted for accelerators."""

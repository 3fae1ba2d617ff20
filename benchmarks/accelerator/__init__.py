"""What cnnlab promises about accelerators, measured on one: correctness first, then ceilings, steps and batched runs."""

"""What cnnlab is measured against: the same networks as a user of PyTorch or of Flax would write them."""

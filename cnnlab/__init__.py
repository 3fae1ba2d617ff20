"""cnnlab: convolutional networks as pure functions — train by flag, on any number of devices, and ablate."""

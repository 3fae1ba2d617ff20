"""The networks whose training steps are compared: their batches, and how cnnlab builds them."""

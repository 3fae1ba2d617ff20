"""Pure array functions; imports nothing of cnnlab above it."""

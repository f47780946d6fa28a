"""The progressive codec: a file that can be cut anywhere, and is lossless when complete."""

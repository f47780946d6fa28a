"""The progressive codec: one file that can be cut anywhere, and is lossless whole."""

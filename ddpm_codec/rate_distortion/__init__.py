"""Rate-distortion curves of this codec beside those of others, measured in one run on the same pictures."""

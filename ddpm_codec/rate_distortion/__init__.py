"""Rate-distortion curves of this codec and of others, measured in one run on the same pictures."""

"""Training of codec networks, U-Nets and pixel decoders: data, objectives, loop, checkpoints, export."""

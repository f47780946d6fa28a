"""Training of denoisers: data, objective, loop, checkpoints, export."""

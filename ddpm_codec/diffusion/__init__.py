"""Diffusion mathematics: schedules, Gaussians, likelihoods, transforms, chains and the bound."""

"""Folders of trained DDPMs: ours, those of diffusers, and of improved- and guided-diffusion."""

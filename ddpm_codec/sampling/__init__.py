"""Pictures drawn from a model, and the figures of the DDPM paper."""

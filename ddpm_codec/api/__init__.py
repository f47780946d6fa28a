"""The library in memory: arrays and Pillow images to bytes and back, archives, bounds, progressive decoding.

The public names are those of :mod:`ddpm_codec`, and torch is loaded only where a model runs. A *source* is a ``.ddpm`` file:
its bytes, its path, or a binary stream at its start.
"""

"""ddpm-codec: diffusion models as lossless and lossy image codecs.

Importing this package loads neither torch nor a model; the sub-packages do, where they need it.
"""

__version__ = "0.1.0"

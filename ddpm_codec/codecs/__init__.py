"""Joins models, coders and the file format into codecs; the sub-modules import torch where they need it."""

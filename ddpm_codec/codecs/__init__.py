"""Codecs: models, coders and the file format combined. Sub-modules import torch only when they need it."""

"""The bound of a model on images: what ``ddpm-codec bpd`` computes and reports."""

from ddpm_codec.evaluation.bound import BoundSettings, bound_of, evaluate_bpd
from ddpm_codec.evaluation.report import BoundReport

__all__ = ["BoundReport", "BoundSettings", "bound_of", "evaluate_bpd"]

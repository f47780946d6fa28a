"""Muon for weight matrices, AdamW for everything else, in one optimiser with one learning rate.

Muon replaces the momentum M of a matrix by the nearest orthogonal matrix, M -> (M M^T)^(-1/2) M, found by five
Newton-Schulz steps; scaled by 0.2 sqrt(max(rows, columns)) its entries have the size of an AdamW update, so both share a
learning rate. Sources: Jordan et al. 2024 (Muon); Liu et al. 2025, "Muon is scalable for LLM training", eq. 4.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return a matrix with the singular vectors of ``matrix`` and singular values near one (0.6 to 1.3).

    Those under about 1/200 of the Frobenius norm stay smaller: five steps multiply them by 3.44^5 = 485 at most.

    Args:
        matrix: [rows, columns], any real dtype; computed in bfloat16.
        steps: Newton-Schulz iterations X <- a X + (b A + c A^2) X with A = X X^T.
    """
    a, b, c = _COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: Tensor = (wide / (wide.norm() + 1e-12)).to(torch.bfloat16)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    x = x.to(matrix.dtype)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


class MuonAdamW(torch.optim.Optimizer):
    """Muon on the convolution kernels of a network's body, AdamW (no weight decay) on the rest."""

    def __init__(self, matrices: Iterable[Tensor], others: Iterable[Tensor], lr: float) -> None:
        groups = [{"params": list(matrices), "muon": True}, {"params": list(others), "muon": False}]
        super().__init__([group for group in groups if group["params"]], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients (closures are not supported)."""
        if closure is not None:
            raise ValueError("MuonAdamW takes no closure")
        for group in self.param_groups:
            update = self._muon if group["muon"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.add_(update(parameter.grad, self.state[parameter]), alpha=-group["lr"])

    @staticmethod
    def _muon(gradient: Tensor, state: dict[str, Any], momentum: float = 0.95) -> Tensor:
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        average = state["momentum"].lerp_(gradient, 1.0 - momentum)
        nesterov = gradient.lerp(average, momentum)
        flat = orthogonalise(nesterov.flatten(1))
        update: Tensor = 0.2 * max(flat.shape) ** 0.5 * flat
        return update.view_as(nesterov)

    @staticmethod
    def _adam(gradient: Tensor, state: dict[str, Any]) -> Tensor:
        if "step" not in state:
            state["step"] = 0
            state["first"] = torch.zeros_like(gradient)
            state["second"] = torch.zeros_like(gradient)
        state["step"] += 1
        state["first"].lerp_(gradient, 0.1)
        state["second"].lerp_(gradient.square(), 0.01)
        first: Tensor = state["first"] / (1.0 - 0.9 ** state["step"])
        second: Tensor = state["second"] / (1.0 - 0.99 ** state["step"])
        return first / (second.sqrt() + 1e-10)


def build_optimizer(net: nn.Module, name: str, lr: float) -> torch.optim.Optimizer:
    """Return the optimiser ``name`` (``muon``, ``adamw`` or torch's own ``adam``) for a network.

    Kernels whose names say that they are heads, stems or embeddings stay with AdamW, as Muon's authors advise for first
    and last layers.
    """
    if name == "adam":
        return torch.optim.Adam(net.parameters(), lr=lr)
    body = {
        name
        for name, parameter in net.named_parameters()
        if parameter.ndim == 4 and not any(part in name for part in ("stem", "head", "variance"))
    }
    if name == "adamw":
        body = set()
    matrices = [parameter for key, parameter in net.named_parameters() if key in body]
    others = [parameter for key, parameter in net.named_parameters() if key not in body]
    return MuonAdamW(matrices, others, lr)

"""The optimiser of pretraining: Muon for hidden matrices, AdamW for embeddings and norms.

Muon is momentum made orthogonal (Jordan 2024, kellerjordan.github.io/posts/muon). As in
torch.optim.Muon, but matrices of one shape go through one batched product, in float32 on a CPU,
where torch's bfloat16 costs several times as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

MOMENTUM = 0.95
DECAY = 0.01  # of the matrices, times the rate
BETAS = (0.9, 0.98)


class Optimiser:
    """Both optimisers over one model; `state` and `restore` carry a run over an interruption."""

    def __init__(self, model: Module, rate: float, matrix_rate: float) -> None:
        import torch

        named = list(model.named_parameters())
        others = [p for name, p in named if p.ndim != 2 or "embed" in name]
        shapes: dict[tuple[int, ...], list[Tensor]] = {}
        for name, parameter in named:
            if parameter.ndim == 2 and "embed" not in name:
                shapes.setdefault(tuple(parameter.shape), []).append(parameter)
        self.matrices = list(shapes.values())
        self.averages = [torch.zeros_like(torch.stack(same)) for same in self.matrices]
        self.adam = torch.optim.AdamW(others, lr=rate, betas=BETAS, weight_decay=0.0)
        self.rate, self.matrix_rate = rate, matrix_rate

    def step(self, factor: float) -> None:
        """Move every parameter by its rate times `factor` and forget the gradients."""
        self.adam.param_groups[0]["lr"] = self.rate * factor
        self.adam.step()
        self.adam.zero_grad()
        for matrices, average in zip(self.matrices, self.averages, strict=True):
            muon(matrices, average, self.matrix_rate * factor)

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that a resumed run needs, by name."""
        state = {f"muon.{place}": average for place, average in enumerate(self.averages)}
        for place, moments in self.adam.state_dict()["state"].items():
            state.update({f"adam.{place}.{name}": value for name, value in moments.items()})
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned; other tensors are passed over."""
        moments: dict[int, dict[str, Any]] = {}
        for key, value in state.items():
            kind, _, rest = key.partition(".")
            if kind == "muon":
                self.averages[int(rest)].copy_(value)
            elif kind == "adam":
                place, name = rest.split(".")
                moments.setdefault(int(place), {})[name] = value
        groups = self.adam.state_dict()["param_groups"]
        self.adam.load_state_dict({"state": moments, "param_groups": groups})


def muon(matrices: Sequence[Tensor], average: Tensor, rate: float) -> None:
    """Move matrices of one shape by Nesterov momentum made orthogonal; `average` is updated."""
    import torch

    with torch.no_grad():
        gradients = [matrix.grad for matrix in matrices]
        gradient = torch.stack([g for g in gradients if g is not None])
        average.lerp_(gradient, 1 - MOMENTUM)
        moves = orthogonal(gradient.lerp(average, MOMENTUM))
        rows, columns = matrices[0].shape
        reach = rate * max(1.0, rows / columns) ** 0.5
        for matrix, move in zip(matrices, moves, strict=True):
            matrix.mul_(1 - rate * DECAY).sub_(move, alpha=reach)
            matrix.grad = None


def orthogonal(matrices: Tensor) -> Tensor:
    """Return nearly orthonormal matrices with the same singular vectors; shape (n, rows, columns).

    Five Newton-Schulz steps take the singular values to between about 0.7 and 1.2.
    """
    import torch

    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x.to(torch.bfloat16) if x.is_cuda else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    moves: Tensor = (x if wide else x.mT).to(matrices.dtype)
    return moves

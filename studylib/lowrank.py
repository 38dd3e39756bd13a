"""A matrix as a low-rank part, as a low-rank part plus a sparse part, and as what the layer's own inputs make of it.

Source: Yu, Liu, Wang, Tao, "On compressing deep models by low rank and sparse decomposition" (CVPR 2017), of which the
abstract was read and not the tables; the optimiser without an SVD follows Zhou and Tao's GreBsmo (AISTATS 2013).
Matrices are float tensors W (m, n), a layer's weight as outputs x inputs; its parameters are r (m + n) for a part of rank r,
and one for each number of the sparse part (their places are counted by `studylib.compression`, not here).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Parts:
    """W as u @ v + sparse: u (m, rank), v (rank, n), sparse (m, n)."""

    u: Tensor
    v: Tensor
    sparse: Tensor

    @property
    def low_rank(self) -> Tensor:
        return self.u @ self.v

    @property
    def matrix(self) -> Tensor:
        return self.low_rank + self.sparse

    @property
    def parameters(self) -> int:
        return self.u.numel() + self.v.numel() + int(self.sparse.count_nonzero())


def rank_within(parameters: int, shape: tuple[int, int]) -> int:
    """The greatest rank whose two factors have no more than so many parameters; 0 if none has."""
    return min(parameters // sum(shape), *shape)


def truncated(w: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The factors u (m, rank), v (rank, n) of the nearest matrix of that rank (Eckart and Young), by an SVD.

    Its squared distance is the sum of the squared singular values that are left out. Raises ValueError for a rank below 0
    or above min(m, n).
    """
    _check(w, rank, 0)
    u, s, v = torch.linalg.svd(w, full_matrices=False)
    return u[:, :rank] * s[:rank], v[:rank]


def truncated_for(w: Tensor, rank: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of the L of that rank that is best for the inputs x (n, samples): min |(W - L) x|.

    In closed form: with C = x x^T, L is the truncated W C^(1/2), times C^(-1/2). Directions that no input has do not count;
    there L is zero. Computed in float64, as C has the square of x's condition.
    """
    _check(w, rank, 0)
    if x.shape[0] != w.shape[1]:
        raise ValueError(f"x must be ({w.shape[1]}, samples) for W of shape {tuple(w.shape)}, got {tuple(x.shape)}")
    values, q = torch.linalg.eigh(x.double() @ x.double().T)
    values = values.clamp_min(0)
    seen = values > values.max() * len(values) * torch.finfo(torch.float64).eps
    root = q[:, seen] * values[seen].sqrt()
    u, v = truncated(w.double() @ root, min(rank, root.shape[1]))
    return u.to(w), (v @ (q[:, seen] / values[seen].sqrt()).T).to(w)


def largest(w: Tensor, nonzeros: int) -> Tensor:
    """W with all but its `nonzeros` numbers of largest magnitude set to zero: the nearest matrix so sparse."""
    flat = torch.zeros_like(w).flatten()
    places = w.abs().flatten().topk(nonzeros).indices
    flat[places] = w.flatten()[places]
    return flat.view_as(w)


def alternating(w: Tensor, rank: int, nonzeros: int, rounds: int = 10) -> Parts:
    """W as L + S: in turn the nearest L of that rank to W - S, and the nearest S with so many numbers to W - L.

    No step raises |W - L - S|. With rank 0 this is magnitude pruning, with no numbers Eckart and Young's. Each round takes
    an SVD. Raises ValueError for a rank outside of 0 to min(m, n), and for more numbers than W has.
    """
    _check(w, rank, nonzeros)
    sparse = torch.zeros_like(w)
    for _ in range(rounds):
        u, v = truncated(w - sparse, rank)
        sparse = largest(w - u @ v, nonzeros)
    return Parts(u, v, sparse)


def bilateral(w: Tensor, rank: int, nonzeros: int, rounds: int = 10, seed: int = 0) -> Parts:
    """The same split without an SVD: the row space of L is kept from round to round, and turned once a round.

    A round is u = orthonormal columns of (W - S) v^T, v = u^T (W - S), S = the largest of W - u v: two thin products and
    one QR. v begins at random by `seed`. For S at rest this is subspace iteration, which goes to the truncated SVD; so no
    round after the first raises |W - L - S|. GreBsmo thresholds softly and lets the rank grow; here both are given. This and
    `alternating` end in local minima, and either may end in the better one.
    """
    _check(w, rank, nonzeros)
    v = torch.randn(rank, w.shape[1], dtype=w.dtype, generator=torch.Generator().manual_seed(seed)).to(w.device)
    sparse = torch.zeros_like(w)
    for _ in range(rounds):
        u, _ = torch.linalg.qr((w - sparse) @ v.T)
        v = u.T @ (w - sparse)
        sparse = largest(w - u @ v, nonzeros)
    return Parts(u, v, sparse)


def _check(w: Tensor, rank: int, nonzeros: int) -> None:
    if w.dim() != 2:
        raise ValueError(f"a matrix (outputs, inputs) is split, got a tensor of shape {tuple(w.shape)}")
    if not 0 <= rank <= min(w.shape) or not 0 <= nonzeros <= w.numel():
        raise ValueError(
            f"W of shape {tuple(w.shape)} has a rank of 0 to {min(w.shape)} and 0 to {w.numel()} numbers, "
            f"got rank {rank} and {nonzeros} numbers"
        )

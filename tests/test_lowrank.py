"""The splits against their optimality: Eckart and Young's error, a minimum no neighbour beats, errors that fall."""

from itertools import pairwise

import pytest
import torch

from studylib.lowrank import Parts, alternating, bilateral, largest, rank_within, truncated, truncated_for


@pytest.fixture
def w():
    torch.manual_seed(0)
    return torch.randn(12, 20, dtype=torch.float64)


def planted(m=40, n=60, rank=3, nonzeros=60):
    """A matrix that is a low-rank part and a few large numbers, with both."""
    torch.manual_seed(1)
    low = torch.randn(m, rank, dtype=torch.float64) @ torch.randn(rank, n, dtype=torch.float64)
    sparse = torch.zeros(m * n, dtype=torch.float64)
    sparse[torch.randperm(m * n)[:nonzeros]] = 30 * torch.randn(nonzeros, dtype=torch.float64).sign()
    return low + sparse.view(m, n), sparse.view(m, n)


@pytest.mark.parametrize("rank", [0, 1, 5, 12])
def test_eckart_young(w, rank):
    u, v = truncated(w, rank)
    assert u.shape == (12, rank) and v.shape == (rank, 20)
    left_out = torch.linalg.svdvals(w)[rank:].square().sum()
    assert torch.allclose((w - u @ v).square().sum(), left_out)


def test_best_for_the_data(w):
    """At the minimum no small step in a factor lowers the error; and it is far below that of the plain SVD."""
    torch.manual_seed(2)
    x = torch.randn(20, 6, dtype=torch.float64) @ torch.randn(6, 300, dtype=torch.float64)
    x += 0.05 * torch.randn(20, 300, dtype=torch.float64)
    u, v = truncated_for(w, 3, x)

    def error(a, b):
        return torch.linalg.norm((w - a @ b) @ x)

    assert error(u, v) < 0.6 * error(*truncated(w, 3))
    for part in (u, v):
        for _ in range(30):
            step = 1e-4 * torch.randn_like(part)
            assert error(u + step, v) >= error(u, v) if part is u else error(u, v + step) >= error(u, v)
    # The error is that of the closed form: the singular values that W C^(1/2) = W x's have beyond the third.
    assert torch.allclose(error(u, v), torch.linalg.svdvals(w @ x)[3:].square().sum().sqrt())


def test_inputs_that_leave_directions_out(w):
    """Four inputs span four directions: a rank of four is exact on them, and zero on all others."""
    torch.manual_seed(3)
    x = torch.randn(20, 4, dtype=torch.float64)
    u, v = truncated_for(w, 6, x)
    assert torch.allclose(u @ v @ x, w @ x)
    beside = torch.linalg.svd(x, full_matrices=True).U[:, 4:]
    assert (u @ v @ beside).abs().max() < 1e-9


def test_white_inputs_are_eckart_young(w):
    ours, plain = truncated_for(w, 4, torch.eye(20, dtype=torch.float64)), truncated(w, 4)
    assert torch.allclose(ours[0] @ ours[1], plain[0] @ plain[1])


def test_the_ends_are_pruning_and_truncation(w):
    pruned = alternating(w, 0, 30)
    assert torch.equal(pruned.matrix, largest(w, 30)) and pruned.parameters == 30
    assert (pruned.matrix != 0).sum() == 30
    assert w[pruned.matrix == 0].abs().max() <= pruned.matrix[pruned.matrix != 0].abs().min()
    u, v = truncated(w, 4)
    low = alternating(w, 4, 0)
    assert torch.allclose(low.matrix, u @ v) and low.parameters == 4 * (12 + 20)


@pytest.mark.parametrize("split", [alternating, bilateral])
def test_the_sparse_part_is_the_largest_of_what_the_other_leaves(w, split):
    parts = split(w, 3, 25, 5)
    assert torch.allclose(parts.sparse, largest(w - parts.low_rank, 25), atol=1e-12)
    assert not torch.equal(parts.sparse != 0, largest(w, 25) != 0)


@pytest.mark.parametrize("split", [alternating, bilateral])
def test_no_round_raises_the_error(w, split):
    errors = [torch.linalg.norm(w - split(w, 3, 25, rounds).matrix).item() for rounds in range(1, 9)]
    assert all(b <= a + 1e-12 for a, b in pairwise(errors)) and errors[-1] < errors[0]


def test_what_was_planted():
    """The split is better than either part alone with as many parameters, and `bilateral` finds what was planted; from
    its own start `alternating` ends in a local minimum, with 8 of 2,400 places wrong."""
    w, sparse = planted()
    by_svd, by_qr = alternating(w, 3, 60, 60), bilateral(w, 3, 60, 60)
    assert torch.equal(by_qr.sparse != 0, sparse != 0) and torch.linalg.norm(w - by_qr.matrix) < 1e-9
    assert ((by_svd.sparse != 0) != (sparse != 0)).sum() < 10
    budget = by_svd.parameters
    alone = [alternating(w, rank_within(budget, (40, 60)), 0).matrix, largest(w, budget)]
    assert all(torch.linalg.norm(w - by_svd.matrix) < torch.linalg.norm(w - matrix) / 1.5 for matrix in alone)


def test_without_an_svd_it_comes_close(w):
    """Both end in local minima: on a matrix with neither part in it the one without an SVD is up to a sixth behind."""
    by_svd = torch.linalg.norm(w - alternating(w, 3, 25, 30).matrix)
    for seed in range(4):
        assert torch.linalg.norm(w - bilateral(w, 3, 25, 30, seed).matrix) < 1.17 * by_svd


def test_parameters_and_budget():
    parts = Parts(torch.ones(5, 2), torch.ones(2, 7), torch.eye(5, 7))
    assert parts.parameters == 10 + 14 + 5
    assert rank_within(29, (5, 7)) == 2 and rank_within(11, (5, 7)) == 0 and rank_within(999, (5, 7)) == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: truncated(w, 13), "rank of 0 to 12 and 0 to 240 numbers, got rank 13 and 0"),
        (lambda w: alternating(w, 1, 241), "got rank 1 and 241 numbers"),
        (lambda w: bilateral(w, -1, 0), "got rank -1"),
        (lambda w: truncated(w[0], 1), r"got a tensor of shape \(20,\)"),
        (lambda w: truncated_for(w, 1, w), r"x must be \(20, samples\) for W of shape \(12, 20\), got \(12, 20\)"),
    ],
)
def test_refuses(w, call, message):
    with pytest.raises(ValueError, match=message):
        call(w)

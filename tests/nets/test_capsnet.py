"""CapsNet against arXiv 1710.09829: squash, routing over the parents, margin loss, counts, reconstruction."""

import math
from itertools import pairwise

import pytest
import torch

from studylib import costs, nets
from studylib.nets.capsnet import CapsNet, PrimaryCaps, RoutedCaps, margin_loss, routing, squash


def random(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", [0.01, 0.5, 1.0, 3.0, 100.0])
def test_squash_keeps_the_direction_and_shortens(length):
    s = random(20, 8)
    s = s / s.norm(dim=1, keepdim=True) * length
    v = squash(s)
    assert (v.norm(dim=1) - length**2 / (1 + length**2)).abs().max() < 1e-14
    assert v.norm(dim=1).max() < 1
    assert (torch.cosine_similarity(v, s, dim=1) - 1).abs().max() < 1e-12
    if length == 1:
        assert (v.norm(dim=1) - 0.5).abs().max() < 1e-15


def test_squash_along_another_axis_and_its_gradient():
    s = random(3, 4, 2).requires_grad_()
    assert torch.equal(squash(s, dim=1), squash(s.movedim(1, -1)).movedim(-1, 1))
    assert torch.autograd.gradcheck(squash, s)
    zero = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(squash(zero), torch.zeros(2, 3))
    assert torch.equal(torch.autograd.grad(squash(zero).sum(), zero)[0], torch.zeros(2, 3))


@pytest.mark.parametrize("parents", [2, 10])
def test_couplings_are_shares_over_the_parents(parents):
    routed = routing(random(2, 6, parents, 4), 4)
    assert len(routed.couplings) == 4 and routed.outputs.shape == (2, parents, 4)
    assert torch.equal(routed.couplings[0], torch.full((2, 6, parents), 1 / parents, dtype=torch.float64))
    for couplings in routed.couplings:
        assert couplings.shape == (2, 6, parents) and couplings.min() > 0
        assert (couplings.sum(2) - 1).abs().max() < 1e-12
    assert (routed.couplings[-1].sum(1) - 1).abs().max() > 0.1  # and not over the children


def test_routing_is_procedure_1_in_loops():
    votes = random(2, 5, 3, 4, seed=1)
    for n in range(2):
        b = [[0.0] * 3 for _ in range(5)]
        for _ in range(3):
            c = [[math.exp(x) / sum(map(math.exp, row)) for x in row] for row in b]
            v = []
            for j in range(3):
                s = sum(c[i][j] * votes[n, i, j] for i in range(5))
                length = s.norm()
                v.append(length**2 / (1 + length**2) * s / length)
            b = [[b[i][j] + float(votes[n, i, j] @ v[j]) for j in range(3)] for i in range(5)]
        assert (routing(votes, 3).outputs[n] - torch.stack(v)).abs().max() < 1e-12


def test_agreement_draws_the_children_to_the_parent_they_agree_on():
    """Six children vote alike for parent 1, and each as it likes for the others."""
    votes = random(1, 6, 3, 8)
    votes[:, :, 1] = votes[:, :1, 1]
    shares = [couplings[0, :, 1] for couplings in routing(votes, 4).couplings]
    for before, after in pairwise(shares):
        assert (after > before).all()
    lengths = [routing(votes, iterations).outputs[0].norm(dim=1) for iterations in (1, 3)]
    assert lengths[0].argmax() == lengths[1].argmax() == 1 and lengths[1][1] > lengths[0][1]


def test_gradients_of_routing_and_loss():
    votes = random(2, 3, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: routing(u, 3).outputs, votes)
    labels = torch.tensor([0, 1])
    assert torch.autograd.gradcheck(lambda u: margin_loss(routing(u, 2).outputs.norm(dim=2), labels), votes)


@pytest.mark.parametrize(
    ("length", "of_its_class", "of_another"),
    [(0.9, 0.0, 0.5 * 0.8**2), (0.1, 0.8**2, 0.0), (0.0, 0.81, 0.0), (1.0, 0.0, 0.5 * 0.9**2)],
)
def test_margin_loss_at_its_corners(length, of_its_class, of_another):
    lengths = torch.tensor([[length, 0.0]], dtype=torch.float64)
    quiet = torch.tensor([[length, 0.95]], dtype=torch.float64)  # of the other class, which is right
    assert margin_loss(lengths, torch.tensor([0])).item() == pytest.approx(of_its_class, abs=1e-15)
    assert margin_loss(quiet, torch.tensor([1])).item() == pytest.approx(of_another, abs=1e-15)


def test_margin_loss_sums_over_classes_and_averages_over_the_batch():
    lengths = torch.tensor([[0.5, 0.5, 0.5], [0.9, 0.0, 0.0]], dtype=torch.float64)
    assert margin_loss(lengths, torch.tensor([0, 0])).item() == pytest.approx((0.16 + 2 * 0.08) / 2)


@pytest.mark.parametrize(("reconstruction", "params"), [(True, 8_215_568), (False, 6_804_224)])
def test_counts(reconstruction, params, on_meta):
    counted = costs.count(on_meta(nets.capsnet, reconstruction=reconstruction), (1, 28, 28))
    rows = {row.name: row for row in counted.rows}
    assert counted.params == params and counted.unknown == ()
    assert (rows["conv"].params, rows["primary.conv"].params, rows["digits"].params) == (20_992, 5_308_672, 1_474_560)
    assert rows["conv"].output_shape == (256, 20, 20) and rows["primary.conv"].output_shape == (256, 6, 6)
    assert rows["digits"].output_shape == (10, 16)
    decoder = sum(row.params for name, row in rows.items() if name.startswith("decoder"))
    assert decoder == (1_411_344 if reconstruction else 0)
    # Votes, and three weighted sums and two agreements of 1152 x 10 x 16 numbers.
    assert rows["digits"].macs == 1152 * 10 * (8 * 16 + 5 * 16)


@pytest.mark.parametrize(("image_size", "capsules"), [(28, 1152), (36, 3200), (17, 32), (18, 32)])
def test_image_sizes(image_size, capsules, on_meta):
    net = on_meta(nets.capsnet, image_size)
    assert net.digits.weight.shape == (capsules, 10, 8, 16)
    with torch.device("meta"):
        poses = net.poses(torch.empty(2, 1, image_size, image_size))
        assert net.reconstruct(poses).shape == (2, 1, image_size, image_size)


def test_capsules_are_the_channels_of_one_position():
    torch.manual_seed(0)
    layer = PrimaryCaps(2, types=3, size=4, kernel_size=3, stride=2).double()
    x = random(2, 2, 9, 9)
    capsules = layer(x)
    assert capsules.shape == (2, 3 * 4 * 4, 4)
    maps = layer.conv(x)
    assert (capsules[1, 1 * 16 + 2 * 4 + 3] - squash(maps[1, 4:8, 2, 3])).abs().max() < 1e-15


def test_votes_are_products_with_a_matrix_for_each_pair():
    torch.manual_seed(0)
    layer = RoutedCaps(5, 3, 2, 4, iterations=2).double()
    x = random(2, 5, 3)
    votes = layer.vote(x)
    assert votes.shape == (2, 5, 2, 4)
    assert (votes[1, 3, 1] - x[1, 3] @ layer.weight[3, 1]).abs().max() < 1e-15
    assert torch.equal(layer(x), routing(votes, 2).outputs)


def small(**knobs):
    torch.manual_seed(0)
    return CapsNet(8, channels=16, types=4, kernel_size=3, decoder=(16,), **knobs)


def test_reconstruction_sees_only_the_capsule_of_the_label():
    net = small()
    x = torch.rand(3, 1, 8, 8)
    poses = net.poses(x)
    labels = torch.tensor([1, 2, 3])
    image = net.reconstruct(poses, labels)
    assert image.shape == x.shape and image.min() > 0 and image.max() < 1
    others = poses.clone()
    others[0, 2:] += 1
    assert torch.equal(net.reconstruct(others, labels), image)
    others[0, 1, 5] += 1
    changed = (net.reconstruct(others, labels) != image).flatten(1).any(1)
    assert changed.tolist() == [True, False, False]
    longest = poses.norm(dim=2).argmax(1)
    assert torch.equal(net.reconstruct(poses), net.reconstruct(poses, longest))
    assert torch.allclose(net(x), poses.norm(dim=2))


def test_a_small_net_learns_a_batch():
    net = small()
    images, labels = torch.rand(10, 1, 8, 8), torch.arange(10)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(80):
        poses = net.poses(images)
        loss = margin_loss(poses.norm(dim=2), labels)
        loss = loss + 0.0005 * (net.reconstruct(poses, labels) - images).square().sum() / len(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (net(images).argmax(1) == labels).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nets.capsnet(16), "image_size must be at least 17 for two 9x9 convolutions, got 16"),
        (lambda: nets.capsnet(routing_iterations=0), "routing_iterations must be at least 1, got 0"),
        (lambda: routing(torch.zeros(1, 2, 3, 4), 0), "at least one iteration, got 0"),
        (lambda: routing(torch.zeros(2, 3, 4)), r"must be .batch, children, parents, size.*got .*\(2, 3, 4\)"),
        (lambda: small(reconstruction=False).reconstruct(torch.zeros(1, 10, 16)), "no decoder"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

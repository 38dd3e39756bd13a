"""FractalNet against arXiv 1605.07648: its counts, its recursion, its joins and drop-path."""

import copy
from importlib import import_module

import pytest
import torch

from studylib import costs, nets
from studylib.nets import fractalnet as constructor
from studylib.nets.fractalnet import LOCAL_DROP, ConvNormReLU, FractalBlock, count_paths, join

MODULE = import_module("studylib.nets.fractalnet")  # `nets.fractalnet` is the constructor
TABLE3 = (16, 32, 64, 128, 128)


@pytest.mark.parametrize(
    ("columns", "params", "printed"),
    [(1, 258_292, "0.3"), (2, 847_716, "0.8"), (3, 2_125_204, "2.1"), (5, 10_184_692, "10.2")],
)
def test_table_3(columns, params, printed, on_meta):
    counted = costs.count(on_meta(constructor, columns, channels=TABLE3, num_classes=100), (3, 32, 32))
    assert counted.params == params and f"{params / 1e6:.1f}" == printed
    assert counted.unknown == ()
    convolutions = [row for row in counted.rows if row.type == "Conv2d"]
    assert len(convolutions) == 5 * (2**columns - 1)


def test_table_1_does_not_reproduce(on_meta):
    """38.6M printed; three columns and the printed filters give 33.7M, of which 33,698,880 are the convolutions'."""
    counted = costs.count(on_meta(constructor, 3), (3, 32, 32))
    assert counted.params == 33_724_618
    assert counted.weights - 512 * 10 == 33_698_880


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_a_column_alone_is_a_plain_net(columns, on_meta):
    net = on_meta(constructor, 4, channels=TABLE3)
    counted = costs.count(net.column(columns), (3, 32, 32))
    convolutions = [row.output_shape for row in counted.rows if row.type == "Conv2d"]
    assert len(convolutions) == 5 * 2 ** (columns - 1)
    assert [shape[0] for shape in convolutions[:: 2 ** (columns - 1)]] == list(TABLE3)
    assert counted.rows[-1].output_shape == (10,)


def test_paths():
    assert [count_paths(columns) for columns in range(1, 7)] == [1, 2, 5, 26, 677, 458_330]
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        count_paths(0)


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_paths_of_the_real_block(columns):
    """Every convolution becomes 'one path from here on', every join a sum in place of a mean: then 1 becomes p."""
    block = FractalBlock(1, 1, columns)
    for column in block.columns:
        for i in range(len(column)):
            column[i] = torch.nn.Identity()
    block.pool = torch.nn.Identity()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "join", lambda paths, drop: torch.stack(paths).sum(0))
        assert block(torch.ones(1, 1, 1, 1)).item() == count_paths(columns)


def expanded(columns: list, x: torch.Tensor) -> list[torch.Tensor]:
    """The expansion rule as the paper writes it: the inputs of f_C's last join, the shallowest first.

    columns: of lists of layers. f_(C+1) is f_C twice and a convolution beside; the layers of the two halves of each
    deeper column are those of the two f_C.
    """
    if len(columns) == 1:
        return [columns[0][0](x)]
    halves = [column[: len(column) // 2] for column in columns[1:]], [c[len(c) // 2 :] for c in columns[1:]]
    middle = torch.stack(expanded(halves[0], x)).mean(0)
    return [columns[0][0](x), *expanded(halves[1], middle)]


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_the_block_is_the_papers_recursion(columns):
    torch.manual_seed(0)
    block = FractalBlock(2, 3, columns).double().eval()
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    ends = expanded([list(column) for column in block.columns], x)
    expected = torch.stack([block.pool(end) for end in ends]).mean(0)
    assert block(x).shape == (2, 3, 2, 2)
    assert (block(x) - expected).abs().max() < 1e-12 < expected.abs().max()


def test_the_mean_joins_gradient_is_shared_out():
    paths = [torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    upstream = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    for gradient in torch.autograd.grad(join(paths), paths, upstream):
        assert (gradient - upstream / 3).abs().max() < 1e-15


@pytest.mark.parametrize("drop", [0.15, 0.5, 0.999])
def test_local_drop_path_never_drops_all_and_keeps_the_expectation(drop):
    torch.manual_seed(0)
    n, draws = 3, 4000
    paths = list(torch.eye(n, dtype=torch.float64))  # a joined row then holds each path's weight
    weights = torch.stack([join(paths, drop) for _ in range(draws)])
    assert torch.allclose(weights.sum(1), torch.ones(draws, dtype=torch.float64), atol=1e-12)
    # A weight is in [0, 1], so its mean of 4000 draws has a standard error of at most 0.5 / sqrt(4000) = 0.008.
    assert (weights.mean(0) - 1 / n).abs().max() < 0.03
    all_kept = (weights > 0).all(1).double().mean().item()
    assert abs(all_kept - (1 - drop) ** n) < 0.03
    alone = (weights == 1).any(1).double().mean().item()
    assert abs(alone - (n * (1 - drop) * drop ** (n - 1) + drop**n)) < 0.03


def test_training_mixes_local_and_global_drop_path(monkeypatch):
    """Half of the batches run one column, each as often; the others drop within the joins; evaluation does neither."""
    torch.manual_seed(0)
    net = constructor(3, 2, (2, 2))
    seen = []
    monkeypatch.setattr(net, "column", lambda number: seen.append(number) or (lambda x: x))
    for block in net.blocks:
        monkeypatch.setattr(block, "forward", lambda x, drop: seen.append(drop) or torch.zeros(1, 2, 1, 1))
    for _ in range(1200):
        net(torch.zeros(1, 3, 4, 4))
    local = [drop for drop in seen if isinstance(drop, float)]
    columns = [number for number in seen if isinstance(number, int)]
    assert set(local) == {LOCAL_DROP} and len(local) / 2 + len(columns) == 1200
    assert abs(len(columns) / 1200 - 0.5) < 0.05
    assert all(abs(columns.count(number) / len(columns) - 1 / 3) < 0.08 for number in (1, 2, 3))
    seen.clear()
    net.eval()(torch.zeros(1, 3, 4, 4))
    net.train().drop_path = False
    net(torch.zeros(1, 3, 4, 4))
    assert seen == [0.0] * 4


def test_a_column_is_the_net_with_every_other_path_dropped():
    torch.manual_seed(0)
    net = constructor(3, 2, (3, 4)).double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for number in (1, 2, 3):
        alone = net.column(number)

        def one_path(paths, drop, number=number):
            """The columns that end at a join are always the deepest ones, so column `number` counts from the end."""
            return paths[number - 4] if len(paths) >= 4 - number else torch.full_like(paths[0], float("nan"))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MODULE, "join", one_path)
            assert torch.equal(net(x), alone(x))


def test_a_column_with_copied_weights_is_the_plain_net():
    torch.manual_seed(0)
    net = constructor(2, 2, (3, 4)).double().eval()
    plain = torch.nn.Sequential(
        ConvNormReLU(3, 3), ConvNormReLU(3, 3), torch.nn.MaxPool2d(2),
        ConvNormReLU(3, 4), ConvNormReLU(4, 4), torch.nn.MaxPool2d(2),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 10),
    ).double().eval()  # fmt: skip
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert not torch.equal(plain(x), net.column(2)(x))
    plain.load_state_dict(net.column(2).state_dict())
    assert torch.equal(plain(x), net.column(2)(x))


def test_a_column_shares_its_weights_and_a_copy_does_not():
    net = constructor(2, 1, (2,))
    assert net.column(2)[0].conv.weight is net.blocks[0].columns[1][0].conv.weight
    assert copy.deepcopy(net.column(2))[0].conv.weight is not net.blocks[0].columns[1][0].conv.weight


def test_it_learns_with_drop_path():
    torch.manual_seed(0)
    net = constructor(3, 2, (8, 8))
    images, labels = torch.rand(10, 3, 8, 8), torch.arange(10)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    with torch.no_grad():
        net.drop_path = False  # batch norm's running averages are not settled after so few batches
        losses = [torch.nn.functional.cross_entropy(part(images), labels) for part in (net, net.column(3))]
    assert all(loss < 1.5 for loss in losses)  # chance is 2.3


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"columns": 0}, "columns and blocks must be at least 1, got 0 and 5"),
        ({"blocks": 4}, "one number for each of the 4 blocks, got .64, 128, 256, 512, 512"),
    ],
)
def test_bad_knobs(knobs, message):
    with pytest.raises(ValueError, match=message):
        nets.fractalnet(**knobs)


def test_no_such_column(on_meta):
    with pytest.raises(ValueError, match=r"columns 1 .shallowest. to 4 .deepest., got 5"):
        on_meta(constructor, channels=TABLE3).column(5)

"""The training loop: against one written out by hand, its seeds, its messages, and the summary over seeds."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from studylib.data import Dataset
from studylib.training import Summary, accuracy, fit, over_seeds


def small_data(n=40, n_test=12, classes=3):
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(n + n_test, 1, 4, 4, generator=generator)
    y = torch.arange(n + n_test) % classes
    return Dataset(x[:n], y[:n], x[n:], y[n:])


def small_net(seed=0, classes=3, dropout=0.0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, classes))


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize(("optimizer", "weight_decay"), [("sgd", 0.01), ("adam", 0.0)])
def test_fit_is_the_loop_one_would_write_by_hand(optimizer, weight_decay):
    data, lr, epochs, batch_size = small_data(), 0.05, 3, 16
    net, by_hand = small_net(), small_net()
    history = fit(
        net, data, epochs=epochs, lr=lr, batch_size=batch_size, seed=7,
        optimizer=optimizer, weight_decay=weight_decay, show=False,
    )  # fmt: skip

    parameters = list(by_hand.parameters())
    opt = (
        torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay)
        if optimizer == "sgd"
        else torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)
    )
    order, losses, accuracies = torch.Generator().manual_seed(7), [], []
    for _ in range(epochs):
        permutation = torch.randperm(40, generator=order)
        for batch in (permutation[:16], permutation[16:32]):  # the last 8 make no whole batch
            opt.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * len(losses) / 6)) / 2
            loss = F.cross_entropy(by_hand(data.train_x[batch]), data.train_y[batch])
            losses.append(loss.item())
            opt.zero_grad()
            loss.backward()
            opt.step()
        accuracies.append((by_hand(data.test_x).argmax(1) == data.test_y).double().mean().item())
    torch.testing.assert_close(weights(net), weights(by_hand), rtol=0, atol=1e-6)
    assert history.losses == pytest.approx(losses, abs=1e-6)
    assert history.accuracies == pytest.approx(accuracies)
    assert all(type(value) is float for value in history.losses + history.accuracies)
    assert history.seconds > 0 and not history.interrupted


def test_a_loss_of_ones_own_takes_any_targets():
    """Cross-entropy with weights against a class for every pixel, and images' squared distance from themselves."""
    data = small_data()
    lit = data.train_x > 0.5
    maps = data._replace(train_x=lit.float(), train_y=lit[:, 0].long())
    torch.manual_seed(0)
    net = nn.Conv2d(1, 2, 1)
    weight = torch.tensor([1.0, 3.0])
    settings = {"epochs": 40, "lr": 0.3, "batch_size": 20, "evaluate": False, "show": False}
    history = fit(net, maps, loss=lambda net, x, y: F.cross_entropy(net(x), y, weight=weight), **settings)
    assert torch.equal(net(maps.train_x).argmax(1), maps.train_y)
    assert history.losses[-1] < 0.1 < history.losses[0]

    itself = nn.Conv2d(1, 1, 1)
    images = data._replace(train_y=data.train_x)
    history = fit(itself, images, loss=lambda net, x, y: F.mse_loss(net(x), y), **settings)
    assert history.losses[-1] < 1e-3 < history.losses[0]


def test_a_loss_of_ones_own_is_checked_too():
    data, own = small_data(), lambda net, x, y: F.cross_entropy(net(x), y)
    settings = {"epochs": 1, "lr": 0.1, "show": False, "loss": own}
    with pytest.raises(ValueError, match=r"train_y: expected \(n, ...\), got torch.int64 \(39,\)"):
        fit(small_net(), data._replace(train_y=data.train_y[1:]), evaluate=False, **settings)
    with pytest.raises(ValueError, match=r"train_y: expected torch.int64 \(n,\), got torch.float32 \(40, 1, 4, 4\)"):
        fit(small_net(), data._replace(train_y=data.train_x), **settings)


def test_a_small_set_is_learnt_by_heart():
    data = small_data(n=12)
    net = small_net()
    assert accuracy(net, data.train_x, data.train_y) < 0.7
    history = fit(net, data, epochs=200, lr=0.01, optimizer="adam", evaluate=False, show=False)
    assert accuracy(net, data.train_x, data.train_y) == 1
    assert history.losses[0] > 0.5 and history.losses[-1] < 0.01
    assert history.accuracies == []
    assert len(history.losses) == 200  # one batch an epoch, though smaller than batch_size


def test_a_seed_gives_the_same_weights_bit_for_bit_whatever_the_global_random_state():
    trained = []
    for global_seed, seed in [(1, 3), (2, 3), (1, 4)]:
        net = small_net(dropout=0.5)
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        fit(net, small_data(), epochs=2, lr=0.1, batch_size=8, seed=seed, show=False)
        assert torch.equal(torch.get_rng_state(), before)
        trained.append(weights(net))
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


def test_two_different_nets_see_the_same_batches():
    class Recorder(nn.Module):
        def __init__(self, dropout):
            super().__init__()
            self.net, self.seen = small_net(dropout=dropout), []

        def forward(self, x):
            if self.training:
                self.seen.append(x.clone())
            return self.net(x)

    plain, dropping = Recorder(0.0), Recorder(0.5)
    for net in (plain, dropping):
        fit(net, small_data(), epochs=2, lr=0.1, batch_size=16, show=False)
    assert len(plain.seen) == 4
    assert torch.equal(torch.stack(plain.seen), torch.stack(dropping.seen))


def test_after_step_keeps_pruned_weights_at_zero():
    net = small_net()
    mask = (torch.arange(32 * 16).reshape(32, 16) % 3 == 0).float()

    def prune(net):
        with torch.no_grad():
            net[1].weight.mul_(mask)

    prune(net)
    before = net[1].weight.clone()
    fit(net, small_data(), epochs=2, lr=0.1, after_step=prune, show=False)
    assert torch.equal(net[1].weight != 0, mask.bool())
    assert not torch.equal(net[1].weight, before)


def stopped_after(n_steps):
    """An after_step that is interrupted once, at step n, and a list with one entry a call."""
    calls = []

    def after_step(net):
        calls.append(None)
        if len(calls) == n_steps:
            raise KeyboardInterrupt

    return after_step, calls


def test_ctrl_c_keeps_what_was_learnt(capsys):
    interrupted, until_then = small_net(dropout=0.1), small_net(dropout=0.1)
    interrupted.eval()
    after_step, calls = stopped_after(5)
    history = fit(interrupted, small_data(), epochs=3, lr=0.1, batch_size=16, after_step=after_step, show=False)
    assert history.interrupted
    assert len(history.losses) == 5 and len(history.accuracies) == 2
    assert len(calls) == 6  # once more at the end, lest a mask be missing from the last step
    assert not interrupted.training
    assert "interrupted after 5 of 6 steps: loss" in capsys.readouterr().out
    # The weights are those of the fifth step, no more and no less.
    reference = []
    fit(
        until_then, small_data(), epochs=3, lr=0.1, batch_size=16, show=False,
        after_step=lambda net: reference.append(weights(net).clone()),
    )  # fmt: skip
    assert torch.equal(weights(interrupted), reference[4])
    assert not torch.equal(weights(interrupted), reference[5])


def test_ctrl_c_within_over_seeds_ends_all_since_half_a_run_is_no_result():
    started = []

    def run(seed):
        started.append(seed)
        fit(small_net(), small_data(), epochs=2, lr=0.1, after_step=stopped_after(1)[0], show=False)
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        over_seeds(run)
    assert started == [0]
    try:
        history = fit(small_net(), small_data(), epochs=2, lr=0.1, after_step=stopped_after(1)[0], show=False)
    except KeyboardInterrupt:
        pytest.fail("over_seeds is over, and fit still passes the interrupt on")
    assert history.interrupted


def test_the_bar_leaves_one_line_without_times_on_stdout(capsys):
    history = fit(small_net(), small_data(), epochs=2, lr=0.1, batch_size=16, seed=4)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "| 0/4 [" in captured.out
    loss = sum(history.losses[-2:]) / 2
    shown = captured.out.split("\r")[-1]
    assert shown == f"seed 4, 2 epochs: loss {loss:.4f}, test accuracy {100 * history.accuracies[-1]:.2f} %\n"
    fit(small_net(), small_data(), epochs=1, lr=0.1, show=False)
    assert capsys.readouterr().out == ""


def test_accuracy_is_a_fraction_counted_in_eval_mode_over_all_batches():
    class Always2(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.bias = nn.Dropout(1.0), nn.Parameter(torch.tensor([0.0, 1.0, 2.0]))
            self.frozen = nn.Identity().eval()

        def forward(self, x):
            return self.drop(self.bias.expand(len(x), 3))  # in training mode all zero: class 0

    net, y = Always2(), torch.arange(2501) % 3
    assert accuracy(net, torch.zeros(2501, 1), y) == 833 / 2501
    assert net.training and net.drop.training and not net.frozen.training
    with pytest.raises(ValueError, match="got 0 inputs"):
        accuracy(net, torch.zeros(0, 1), y[:0])
    with pytest.raises(ValueError, match="got 2 inputs, 3 classes"):
        accuracy(net, torch.zeros(2, 1), y[:3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"lr": 0.0}, r"lr=0\.0"),
        ({"lr": math.nan}, "lr=nan"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"optimizer": "adamw"}, "one of sgd, adam; got .*optimizer='adamw'"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        fit(small_net(), small_data(), **{"epochs": 1, "lr": 0.1, "show": False} | settings)


good = small_data()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"train_x": good.train_x[:0], "train_y": good.train_y[:0]},
            r"train_x: expected .* n > 0, got .*\(0, 1, 4, 4\)",
        ),
        ({"test_x": good.test_x[:0], "test_y": good.test_y[:0]}, "test_x: expected"),
        ({"train_x": (good.train_x * 255).byte()}, r"expected torch\.float32 .* got torch\.uint8"),
        ({"train_y": good.train_y.int()}, r"train_y: expected torch\.int64 \(n,\), got torch\.int32"),
        ({"train_y": F.one_hot(good.train_y)}, r"train_y: expected .* got torch\.int64 \(40, 3\)"),
        ({"train_y": good.train_y[:-1]}, r"got torch\.int64 \(39,\)"),
        ({"train_x": good.train_x[..., :3]}, r"does not take inputs \(1, 4, 3\)"),
        ({"train_y": good.train_y + 1}, r"from 1 to 3: expected outputs \(n, 4\) or wider .* returned \(1, 3\)"),
        ({"train_y": good.train_y - 1}, "from -1 to 1"),
    ],
)
def test_data_that_do_not_fit(change, message):
    net = small_net()
    before = weights(net).clone()
    with pytest.raises(ValueError, match=message):
        fit(net, good._replace(**change), epochs=1, lr=0.1, show=False)
    assert torch.equal(weights(net), before) and net.training


def test_the_test_part_is_not_needed_without_evaluate():
    empty = good._replace(test_x=good.test_x[:0], test_y=good.test_y[:0])
    assert len(fit(small_net(), empty, epochs=1, lr=0.1, evaluate=False, show=False).losses) == 1


def test_a_loss_that_is_not_finite_stops_at_once_and_names_step_and_lr(capsys):
    with pytest.raises(FloatingPointError, match=r"at step [2-9] of 100 with lr=1e\+30: try a smaller lr"):
        fit(small_net(), small_data(), epochs=100, lr=1e30, evaluate=False)
    assert capsys.readouterr().out.endswith("\r")  # the bar is gone


def test_summary_has_the_mean_and_its_standard_error():
    summary = Summary((96.9, 97.1, 97.6), unit="%")
    assert summary.mean == pytest.approx(97.2)
    # deviations -0.3, -0.1, 0.4: variance 0.26 / 2, standard error sqrt(0.13 / 3)
    assert summary.standard_error == pytest.approx(math.sqrt(0.13 / 3))
    assert str(summary) == "97.2 ± 0.2 % (3 seeds)"
    assert str(Summary((1.0, 1.0, 1.0))) == "1.00 ± 0.00 (3 seeds)"
    assert str(Summary((100.0, 200.0, 150.0, 170.0), "ms")) == "155 ± 21 ms (4 seeds)"
    with pytest.raises(ValueError, match="at least three"):
        Summary((1.0, 2.0))
    with pytest.raises(ValueError, match="finite"):
        Summary((1.0, 2.0, math.nan))


def test_over_seeds_seeds_the_initial_weights_and_leaves_the_global_state():
    torch.manual_seed(123)
    before = torch.get_rng_state()
    summary = over_seeds(lambda seed: nn.Linear(3, 1).weight.sum().item(), seeds=range(4), unit="V")
    assert torch.equal(torch.get_rng_state(), before)
    expected = []
    for seed in range(4):
        torch.manual_seed(seed)
        expected.append(nn.Linear(3, 1).weight.sum().item())
    assert summary == Summary(tuple(expected), "V")


@pytest.mark.parametrize("seeds", [(0, 1), (0, 1, 1), ()])
def test_over_seeds_refuses_fewer_than_three_different_seeds_before_it_runs(seeds):
    with pytest.raises(ValueError, match="at least three, all different"):
        over_seeds(lambda seed: pytest.fail("ran"), seeds)

"""The one training loop that all notebooks use, and the mean and standard error of a result over seeds."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from studylib.data import Dataset

OPTIMIZERS: dict[str, Any] = {"sgd": partial(torch.optim.SGD, momentum=0.9), "adam": torch.optim.Adam}
# Within over_seeds an interrupted run is not a result, so there `fit` passes Ctrl-C on.
_over_seeds: ContextVar[bool] = ContextVar("over_seeds", default=False)


@dataclass
class History:
    """What `fit` saw: the loss of each step's batch, test accuracy in [0, 1] after each epoch, wall time."""

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False


@dataclass(frozen=True)
class Summary:
    """A result over at least three seeds. Prints as "97.1 ± 0.2 % (3 seeds)": mean ± standard error of the mean.

    `values` are kept as given, `unit` is only printed: for percent give values in percent. The standard error is
    printed to one digit, all that a few seeds carry. Raises ValueError for fewer than three values or infinite ones.
    """

    values: Sequence[float]
    unit: str = ""

    def __post_init__(self) -> None:
        if len(self.values) < 3:
            raise ValueError(f"{len(self.values)} value(s): a claim about learning needs at least three seeds")
        if not all(math.isfinite(value) for value in self.values):
            raise ValueError(f"values must be finite, got {self.values}")

    @property
    def mean(self) -> float:
        """Arithmetic mean, in the unit of the values."""
        return math.fsum(self.values) / len(self.values)

    @property
    def standard_error(self) -> float:
        """Sample standard deviation (n - 1) divided by the square root of n, in the unit of the values."""
        n, mean = len(self.values), self.mean
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self.values) / (n - 1) / n)

    def __str__(self) -> str:
        error = self.standard_error
        decimals = max(0, -math.floor(math.log10(error))) if error > 0 else 2
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.mean:.{decimals}f} ± {error:.{decimals}f}{unit} ({len(self.values)} seeds)"


def over_seeds(run: Callable[[int], float], seeds: Iterable[int] = (0, 1, 2), unit: str = "") -> Summary:
    """Calls `run(seed)` for each seed, after `torch.manual_seed(seed)`, and sums up what it returns; with a bar.

    A net made inside `run` is therefore initialized from the seed; pass the seed on to `fit` as well. The global
    random state is afterwards what it was. Raises ValueError for fewer than three different seeds; Ctrl-C ends all.
    """
    seeds = tuple(seeds)
    if len(set(seeds)) < len(seeds) or len(seeds) < 3:
        raise ValueError(f"seeds {seeds}: a claim about learning needs at least three, all different")
    values = []
    token = _over_seeds.set(True)
    try:
        for seed in tqdm(seeds, file=sys.stdout, unit="seed", ncols=70):
            with _seeded(seed):
                values.append(float(run(seed)))
    finally:
        _over_seeds.reset(token)
    return Summary(tuple(values), unit)


def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Fraction in [0, 1] of the inputs x (n, ...) whose greatest output is their class y (n,); eval mode, in batches.

    The net's training mode is afterwards what it was. Raises ValueError for no inputs or unequal lengths.
    """
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"expected as many classes as inputs, at least one; got {len(x)} inputs, {len(y)} classes")
    device = next(net.parameters()).device
    with _mode(net, training=False), torch.no_grad():
        batches = zip(x.to(device).split(1000), y.to(device).split(1000), strict=True)
        right = sum(int((net(batch).argmax(1) == classes).sum()) for batch, classes in batches)
    return right / len(x)


def cross_entropy(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The loss of a batch of images x (n, ...) and classes y (n,): -log of the share that the net gives y, averaged."""
    return F.cross_entropy(net(x), y)


def fit(
    net: nn.Module,
    data: Dataset,
    *,
    epochs: int,
    lr: float,
    batch_size: int = 128,
    seed: int = 0,
    optimizer: str = "sgd",
    weight_decay: float = 0.0,
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor] = cross_entropy,
    after_step: Callable[[nn.Module], None] | None = None,
    evaluate: bool = True,
    show: bool = True,
) -> History:
    """Trains `net` in place to least cross-entropy, or `loss`, and returns its History; on the device where the net is.

    The step size falls from `lr` to 0 along half a cosine. `optimizer` is "sgd" (momentum 0.9) or "adam". Each epoch
    takes the training images in a new order, in whole batches: a rest smaller than `batch_size` is left out.
    `loss(net, x, y)` is the number to make small for a batch. With a loss of one's own and evaluate=False the targets y
    may be anything that has an entry for each image, such as a class for every pixel.
    `after_step(net)` runs after every step, for instance to put the zeros of a pruned net back.
    `seed` decides the order and the net's own dropout, whatever the global random state, which is left alone: one
    machine gives the same weights bit for bit. The initial weights are the caller's (see `over_seeds`).
    `evaluate` measures the test accuracy after each epoch, `show` draws a progress bar and leaves one line.
    Ctrl-C (the notebook's stop button) ends the training and keeps what was learnt; `History.interrupted` tells.
    Raises ValueError for data that do not fit the net or settings out of range, FloatingPointError as soon as a
    loss is not finite.
    """
    _check_settings(epochs, lr, batch_size, optimizer)
    _check_data(net, data, evaluate, classes=evaluate or loss is cross_entropy)
    device = next(net.parameters()).device
    x, y = data.train_x.to(device), data.train_y.to(device)
    n_batches = max(1, len(x) // batch_size)
    steps = epochs * n_batches
    opt = OPTIMIZERS[optimizer](net.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps)
    order = torch.Generator().manual_seed(seed)  # apart from the dropout's, so that two nets see the same batches
    history, start = History(), time.perf_counter()
    bar = tqdm(total=steps, unit="step", file=sys.stdout, disable=not show, leave=False, mininterval=0.5)
    try:
        with bar, _mode(net, training=True), _seeded(seed):
            for _ in range(epochs):
                for batch in torch.randperm(len(x), generator=order).to(device).split(batch_size)[:n_batches]:
                    value = loss(net, x[batch], y[batch])
                    history.losses.append(value.item())
                    if not math.isfinite(history.losses[-1]):
                        where = f"step {len(history.losses)} of {steps} with lr={lr}"
                        raise FloatingPointError(f"the loss is {history.losses[-1]} at {where}: try a smaller lr")
                    opt.zero_grad()
                    value.backward()
                    opt.step()
                    schedule.step()
                    if after_step is not None:
                        after_step(net)
                    bar.set_postfix_str(_line(history, n_batches), refresh=False)
                    bar.update()
                if evaluate:
                    history.accuracies.append(accuracy(net, data.test_x, data.test_y))
    except KeyboardInterrupt:
        if _over_seeds.get():
            raise
        history.interrupted = True
        if after_step is not None:  # the step may have been cut short before it
            after_step(net)
    history.seconds = time.perf_counter() - start
    if show or history.interrupted:
        end = f"interrupted after {len(history.losses)} of {steps} steps" if history.interrupted else f"{epochs} epochs"
        print(f"seed {seed}, {end}: {_line(history, n_batches)}")
    return history


def _line(history: History, n_batches: int) -> str:
    recent = history.losses[-n_batches:]
    parts = [f"loss {math.fsum(recent) / len(recent):.4f}"] if recent else ["nothing learnt yet"]
    if history.accuracies:
        parts.append(f"test accuracy {100 * history.accuracies[-1]:.2f} %")
    return ", ".join(parts)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    # Asking for the state of a GPU that nobody uses would take seconds and its memory.
    gpus = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _mode(net: nn.Module, training: bool) -> Iterator[None]:
    modes = {module: module.training for module in net.modules()}  # not all need be in one mode
    net.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _check_settings(epochs: int, lr: float, batch_size: int, optimizer: str) -> None:
    if epochs < 1 or batch_size < 1 or not lr > 0 or optimizer not in OPTIMIZERS:
        raise ValueError(
            f"expected epochs >= 1, batch_size >= 1, lr > 0, optimizer one of {', '.join(OPTIMIZERS)}; "
            f"got {epochs=}, {batch_size=}, {lr=}, {optimizer=}"
        )


def _check_data(net: nn.Module, data: Dataset, evaluate: bool, classes: bool) -> None:
    weight = next(net.parameters())
    for part, x, y in [("train", data.train_x, data.train_y), ("test", data.test_x, data.test_y)][: 1 + evaluate]:
        right_y = y.dtype == torch.int64 and y.shape == (len(x),) if classes else len(y) == len(x)
        if len(x) == 0 or x.dtype != weight.dtype or not right_y:
            raise ValueError(
                f"{part}_x: expected {weight.dtype} (n, ...) with n > 0, got {x.dtype} {tuple(x.shape)}; "
                f"{part}_y: expected {'torch.int64 (n,)' if classes else '(n, ...)'}, got {y.dtype} {tuple(y.shape)}"
            )
    with _mode(net, training=False), torch.no_grad():
        try:
            output = net(data.train_x[:1].to(weight.device))
        except RuntimeError as error:
            raise ValueError(f"the net does not take inputs {tuple(data.train_x.shape[1:])}: {error}") from error
    if not classes:
        return
    lowest, highest = int(data.train_y.min()), int(data.train_y.max())
    if output.ndim != 2 or lowest < 0 or highest >= output.shape[1]:
        raise ValueError(
            f"train_y goes from {lowest} to {highest}: expected outputs (n, {highest + 1}) or wider and no negative "
            f"class, the net returned {tuple(output.shape)} for one input"
        )

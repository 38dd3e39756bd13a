"""FractalNet: a block that contains itself twice, whose paths of many lengths are joined by their mean.

Source: Larsson et al., "FractalNet: ultra-deep neural networks without residuals" (arXiv 1605.07648), Section 3 and
Figure 1. The expansion rule is f_1 = conv, f_(C+1)(z) = join(f_C(f_C(z)), conv(z)); joins that meet are one. The paper's
dropout, 0 to 40 % from the first block to the last, is left out.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

LOCAL_DROP = 0.15
"""How often local drop-path drops an input of a join (Section 4)."""


class ConvNormReLU(nn.Sequential):
    """The paper's conv: 3x3 convolution, batch norm, ReLU.

    x: (batch, in_channels, height, width) to (batch, out_channels, height, width).
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()


def join(paths: Sequence[torch.Tensor], drop: float = 0.0) -> torch.Tensor:
    """The mean of those `paths` that are kept, all of one shape; the result has that shape too.

    Each is dropped with probability `drop`, for the whole batch at once; if all would be, one of them survives, any
    with equal chance. Then every path has the same expected weight, so that the expectation is the mean of all.
    """
    kept = list(paths)
    if drop:
        draw = torch.rand(len(kept)).tolist()
        # The one with the greatest number survives in any case: any with equal chance, and none where others do.
        kept = [path for path, u in zip(kept, draw, strict=True) if u >= drop or u == max(draw)]
    return torch.stack(kept).mean(0)


class FractalBlock(nn.Module):
    """f_C: C columns of 1, 2, 4, ..., 2^(C-1) convolutions over one input, joined wherever columns end together.

    x: (batch, in_channels, height, width) to (batch, out_channels, height / 2, width / 2): each column is pooled (2x2
    maximum) before the last join. `drop`: local drop-path's probability, at every join.
    """

    def __init__(self, in_channels: int, out_channels: int, columns: int):
        super().__init__()
        # Any, for torch's types do not say what a list of modules holds.
        self.columns: Any = nn.ModuleList(
            nn.ModuleList(ConvNormReLU(out_channels if i else in_channels, out_channels) for i in range(2**column))
            for column in range(columns)
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor, drop: float = 0.0) -> torch.Tensor:
        deepest = len(self.columns[-1])
        state = [x] * len(self.columns)
        for step in range(1, deepest + 1):
            # A convolution of a column of n stands beside deepest / n of the deepest column, and ends where they do.
            ending = [i for i, column in enumerate(self.columns) if step % (deepest // len(column)) == 0]
            outputs = []
            for i in ending:
                column = self.columns[i]
                output = column[step // (deepest // len(column)) - 1](state[i])
                outputs.append(self.pool(output) if step == deepest else output)
            joined = join(outputs, drop)
            for i in ending:
                state[i] = joined
        return joined


class FractalNet(nn.Module):
    """Fractal blocks with pooling, one linear layer. Input: (batch, 3, 32, 32); output: (batch, num_classes).

    With `drop_path`, training draws for each batch, half and half: local drop-path, which drops each input of each
    join with probability 0.15, or global, which runs one column alone. In evaluation all paths are joined.
    """

    def __init__(self, columns: int, channels: Sequence[int], num_classes: int, drop_path: bool):
        super().__init__()
        self.drop_path = drop_path
        inputs = (3, *channels[:-1])
        self.blocks: Any = nn.ModuleList(
            FractalBlock(before, after, columns) for before, after in zip(inputs, channels, strict=True)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels[-1], num_classes)

    def column(self, number: int) -> nn.Sequential:
        """The plain net of column `number` alone (1 is the shallowest), with the same weights, not copies.

        It has blocks * 2^(number - 1) convolutions. Raises ValueError where there is no such column.
        """
        columns = len(self.blocks[0].columns)
        if not 1 <= number <= columns:
            raise ValueError(f"the net has columns 1 (shallowest) to {columns} (deepest), got {number}")
        layers: list[nn.Module] = []
        for block in self.blocks:
            layers += [*block.columns[number - 1], block.pool]
        return nn.Sequential(*layers, self.pool, nn.Flatten(), self.classifier)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        drop = 0.0
        if self.training and self.drop_path:
            if torch.rand(()).item() < 0.5:
                columns = len(self.blocks[0].columns)
                return self.column(int(torch.randint(columns, ()).item()) + 1)(x)
            drop = LOCAL_DROP
        for block in self.blocks:
            x = block(x, drop)
        return self.classifier(torch.flatten(self.pool(x), 1))


def fractalnet(
    columns: int = 4,
    blocks: int = 5,
    channels: Sequence[int] = (64, 128, 256, 512, 512),
    num_classes: int = 10,
    drop_path: bool = True,
) -> FractalNet:
    """FractalNet with `blocks` blocks of `columns` columns (C): blocks * 2^(C-1) convolutions deep, 2^C - 1 a block.

    channels: of each block. Table 1's nets have 3 columns (20 layers) and 4 (40), Table 3's (16, 32, 64, 128, 128).
    The input's side must be divisible by 2^blocks. Input: (batch, 3, 32, 32).
    Raises ValueError for less than one column or block, and where there are not as many channels as blocks.
    """
    if columns < 1 or blocks < 1:
        raise ValueError(f"columns and blocks must be at least 1, got {columns} and {blocks}")
    if len(channels) != blocks:
        raise ValueError(f"channels must have one number for each of the {blocks} blocks, got {tuple(channels)}")
    return FractalNet(columns, channels, num_classes, drop_path)


def count_paths(columns: int) -> int:
    """Paths through one block from input to output: p(1) = 1, p(C + 1) = p(C)^2 + 1, so 1, 2, 5, 26, 677, 458330.

    Raises ValueError for less than one column.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    return 1 if columns == 1 else count_paths(columns - 1) ** 2 + 1

"""What a count found, row for row, and the table that shows it."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Unknown(NamedTuple):
    """An operation that has no rule: the module that ran it, and its name."""

    name: str
    operator: str


@dataclass(frozen=True)
class Row:
    """One call of a layer, or one operation that a container ran itself (then `type` is the operation's name).

    output_shape: of the (first) output, without the leading 1 of the batch; () where the layer was never called.
    params, weights: the layer's own, at its first call. macs: None where the layer ran an unknown operation.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    params: int
    weights: int
    macs: int | None


@dataclass(frozen=True, repr=False)
class Costs:
    """What `count` found; every total is the sum of the rows. With operations in `unknown`, `macs`, `macs_no_fc` and
    their row in the table are lower bounds."""

    net: str
    input_shape: tuple[int, ...]
    params: int
    params_no_bn: int
    weights: int
    buffers: int
    macs: int
    macs_no_fc: int
    activation_bytes: int
    rows: tuple[Row, ...]
    unknown: tuple[Unknown, ...]

    def _cells(self) -> Iterator[tuple[str, str, str, str, str]]:
        """The table's texts: header, rows, total."""
        yield "layer", "type", "output", "params", "multiply-adds"
        for row in self.rows:
            macs = "unknown" if row.macs is None else f"{row.macs:,}"
            yield row.name, row.type, _times(row.output_shape), f"{row.params:,}", macs
        yield "total", "", _times(self.input_shape) + " in", f"{self.params:,}", self._at_least() + f"{self.macs:,}"

    def _at_least(self) -> str:
        return "at least " if self.unknown else ""

    def _notes(self) -> list[str]:
        totals = (
            f"{self.net}: {self.params_no_bn:,} params without batch norm, {self.weights:,} of them weights; "
            f"{self._at_least()}{self.macs_no_fc:,} multiply-adds without linear layers; "
            f"{self.activation_bytes:,} bytes of activations"
        )
        return [totals, *(f"unknown, not counted: {operator} in {name}" for name, operator in self.unknown)]

    def __str__(self) -> str:
        cells = list(self._cells())
        widths = [max(len(line[column]) for line in cells) for column in range(5)]
        lines = [
            "  ".join(
                text.ljust(width) if column < 3 else text.rjust(width)
                for column, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        rule = "-" * (sum(widths) + 8)
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], *self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        header, *rows, total = self._cells()

        def line(texts: Sequence[str], tag: str, style: str = "") -> str:
            cells = (
                f'<{tag} style="text-align:{"left" if column < 3 else "right"};{style}">{html.escape(text)}</{tag}>'
                for column, text in enumerate(texts)
            )
            return f"<tr>{''.join(cells)}</tr>"

        # The header and the total stay in sight while a long net scrolls between them.
        sticky = "position:sticky;background:var(--jp-layout-color0,#fff);"
        notes = "<br>".join(html.escape(note) for note in self._notes())
        return (
            '<div style="max-height:28em;max-width:100%;overflow:auto">'
            '<table style="margin:0;font-size:12px;white-space:nowrap">'
            f"<thead>{line(header, 'th', sticky + 'top:0')}</thead>"
            f"<tbody>{''.join(line(row, 'td') for row in rows)}</tbody>"
            f"<tfoot>{line(total, 'th', sticky + 'bottom:0')}</tfoot></table></div><div>{notes}</div>"
        )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)

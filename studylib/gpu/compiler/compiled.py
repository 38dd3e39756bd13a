"""The figures that compiling a kernel gives, as a value, as text and as an HTML table."""

import html
import linecache
from dataclasses import dataclass, field

from studylib.gpu.language.source import display_name
from studylib.words import counted


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of a kernel for one compute capability.

    release: of the CUDA compiler; another one may allocate a few registers more or less. registers: per thread.
    shared_bytes: per block, static and dynamic. spill_bytes: stores and loads per thread, in the machine code, of
    values for which no register was left. local_bytes: per thread, for local arrays and spills. float64_lines:
    (file, line) of double-precision instructions. occupancy (0..1), blocks_per_sm and limited_by are None unless
    compile was given a block.
    """

    kernel: str
    cc: tuple[int, int]
    release: str
    registers: int
    shared_bytes: int
    spill_bytes: int
    local_bytes: int
    float64_lines: tuple[tuple[str, int], ...]
    ptx: str = field(repr=False)
    block: int | tuple[int, ...] | None = None
    occupancy: float | None = None
    blocks_per_sm: int | None = None
    limited_by: str | None = None

    @property
    def uses_float64(self) -> bool:
        """Whether any instruction computes in, or converts from or to, double precision.

        The branch that math.sin, cos and tan of a float32 take for arguments above 105,615 counts too.
        """
        return bool(self.float64_lines)

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            ("registers per thread", f"{self.registers}"),
            ("shared memory per block", f"{self.shared_bytes:,} bytes"),
            ("spilled per thread", f"{self.spill_bytes:,} bytes"),
            ("local memory per thread", f"{self.local_bytes:,} bytes"),
            ("double precision", "no"),
        ]
        if self.float64_lines:
            rows[-1] = ("double precision", "yes")
            rows += [("", source_line(file, line)) for file, line in self.float64_lines]
        if self.occupancy is not None:
            rows += [
                (
                    f"occupancy, block {self.block}",
                    f"{self.occupancy:.0%} ({counted(self.blocks_per_sm or 0, 'block')} per multiprocessor)",
                ),
                ("limited by", f"{self.limited_by}"),
            ]
        return rows

    def _title(self) -> str:
        return f"{self.kernel}, compiled for compute capability {self.cc[0]}.{self.cc[1]} by CUDA {self.release}"

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join([self._title(), *(f"  {name:<{width}}  {value}" for name, value in rows)])

    def _repr_html_(self) -> str:
        cell = '<td style="text-align: left">{}</td>'
        body = "".join(
            "<tr>" + "".join(cell.format(html.escape(text)) for text in row) + "</tr>" for row in self._rows()
        )
        return f"<table><caption>{html.escape(self._title())}</caption>{body}</table>"


def source_line(file: str, line: int) -> str:
    """`kernels.py, line 12: s = 0.0`, or without the text where the source cannot be found."""
    text = linecache.getline(file, line).strip()
    return f"{display_name(file)}, line {line}" + (f": {text}" if text else "")

"""Says whether a computed value is the number that was printed: to the printed digits, and no further."""

import re
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from studylib.errors import StudyError

# What one unit is worth behind a printed number. K is 1000 unless a row says `unit = 1024`.
UNITS = {
    "": "1", "x": "1", "times": "1", "bits": "1", "W": "1", "%": "0.01",
    "K": "1e3", "k": "1e3", "KB": "1e3", "M": "1e6", "MB": "1e6", "million": "1e6",
    "G": "1e9", "B": "1e9", "GB": "1e9", "billion": "1e9",
}  # fmt: skip
NOISE = Decimal("1e-14")  # as a share of a float: what the last bits of a few operations make
NUMBER = re.compile(r"(?P<about>[~≈]\s*)?(?P<digits>-?(\d[\d,]*)?(\.\d+)?)(?P<gap>\s*)(?P<suffix>.*)", re.DOTALL)


@dataclass(frozen=True)
class Printed:
    """A printed number: `value` printed units of `unit` each, of which `quantum` is the last meaningful digit."""

    value: Decimal
    unit: Decimal
    quantum: Decimal
    suffix: str

    @classmethod
    def parse(cls, text: str, unit: float = 0, precision: int = 0) -> "Printed":
        """Reads e.g. "4.2M", "1.19%", ".790", "60,965,224", "~70k", "8 times".

        `unit`: what one printed unit is worth, where the suffix does not say it. `precision`: what the last
        meaningful digit is worth; without it all printed digits count, trailing zeros too. Raises StudyError.
        """
        match = NUMBER.fullmatch(text)
        if match is None or not match["digits"].strip("-"):
            raise StudyError(f"got {text!r}, which does not begin with a number like 4.2M, 1.19% or 60,965,224")
        suffix = match["suffix"]
        if not unit and suffix not in UNITS:
            raise StudyError(f"unknown unit {suffix!r} in {text!r}: use one of {' '.join(UNITS)}, or give `unit`")
        value = Decimal(match["digits"].replace(",", ""))
        quantum = Decimal(precision) if precision else Decimal(1).scaleb(int(value.as_tuple().exponent))
        if value % quantum:
            raise StudyError(f"{text!r} is no multiple of the precision {precision}: correct one of them")
        return cls(value, Decimal(str(unit)) if unit else Decimal(UNITS[suffix]), quantum, match["gap"] + suffix)

    def verdict(self, computed: float) -> str:
        """What `computed` does: it "reproduces" the printed digits if it rounds to them (half away from zero).

        It "truncates" if only cutting it off after the last printed digit gives them, and else "does not reproduce".
        """
        return self._verdict(self._in_units(computed))

    def _verdict(self, exact: Decimal) -> str:
        quotient = exact / self.quantum
        for rounding, verdict in ((ROUND_HALF_UP, "reproduces"), (ROUND_DOWN, "truncates")):
            if quotient.to_integral_value(rounding) * self.quantum == self.value:
                return verdict
        return "does not reproduce"

    def show(self, computed: float) -> str:
        """`computed` in the printed unit, with two digits more than printed; exact where both are integers.

        Further digits are shown where two would look like another verdict: 149.497M, which rounds to 149M, and not
        149.50M.
        """
        if isinstance(computed, int) and self.unit == 1:
            return f"{computed:,}{self.suffix}"
        exact = self._in_units(computed)
        places = max(0, -int(self.quantum.normalize().as_tuple().exponent) + 2)
        shown = exact
        for more in range(12):
            shown = exact.quantize(Decimal(1).scaleb(-places - more), ROUND_HALF_UP) + 0  # + 0: no "-0.00"
            if self._verdict(shown) == self._verdict(exact):
                break
        return f"{shown:,}{self.suffix}"

    def _in_units(self, computed: float) -> Decimal:
        if isinstance(computed, int):
            return Decimal(computed) / self.unit
        # 3.1999999999999997 is the 3.2 that it stands for, and must not be cut to 3.1.
        exact, short = Decimal(float(computed)), Decimal(f"{computed:.12g}")
        return (short if abs(short - exact) <= NOISE * abs(exact) else exact) / self.unit

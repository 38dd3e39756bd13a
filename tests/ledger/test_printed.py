"""A computed value is compared to the printed digits, and no further."""

import math
from fractions import Fraction

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from studylib.ledger.printed import Printed


@pytest.mark.parametrize(
    ("text", "computed", "verdict", "shown"),
    [
        ("569M", 568_740_352, "reproduces", "568.74M"),
        ("568M", 568_740_352, "truncates", "568.74M"),
        ("570M", 568_740_352, "does not reproduce", "568.74M"),
        ("149M", 149_497_088, "reproduces", "149.497M"),
        ("4.2M", 4_231_976, "reproduces", "4.232M"),
        ("1.19%", 0.019056, "does not reproduce", "1.9056%"),
        (".790", 0.79, "reproduces", "0.79000"),
        ("22,855,952", 22_855_952, "reproduces", "22,855,952"),
        ("22,855,952", 22_855_953, "does not reproduce", "22,855,953"),
        ("~70k", 69_632, "reproduces", "69.63k"),
        ("8 times", 7.89, "reproduces", "7.89 times"),
        ("-0.97", -0.97, "reproduces", "-0.9700"),
        ("-1.2", -1.25, "truncates", "-1.250"),
        ("-1.3", -1.25, "reproduces", "-1.250"),
        ("0.00", -1e-18, "reproduces", "0.0000"),
        ("3.1", 3.1999999999999997, "does not reproduce", "3.200"),
        ("0.2", 0.15, "reproduces", "0.150"),
        ("100000.9502", 100000.95024964144, "reproduces", "100,000.9502496"),
        ("100000.9503", 100000.95024964144, "does not reproduce", "100,000.9502496"),
        ("100", 100.4, "reproduces", "100.40"),
        ("100", 104, "does not reproduce", "104"),
    ],
)
def test_verdict_to_the_printed_digits(text, computed, verdict, shown):
    printed = Printed.parse(text)
    assert (printed.verdict(computed), printed.show(computed)) == (verdict, shown)


def test_unit_and_precision():
    assert Printed.parse("159K").verdict(159.5 * 1024) == "does not reproduce"
    assert Printed.parse("159K", unit=1024).verdict(159.5 * 1024) == "truncates"
    assert Printed.parse("650,000").verdict(659_272) == "does not reproduce"
    assert Printed.parse("650,000", precision=10_000).verdict(659_272) == "truncates"


@given(st.floats(-1e6, 1e6), st.integers(0, 4), st.integers(-3, 3))
@example(100000.95024964144, 4, 0)
def test_only_one_number_reproduces(value, places, off):
    """Of the numbers with so many places, the rounded value reproduces and no neighbour does.

    A float that is a half but for its last bits counts as the half; which it is there, is not asked here.
    """
    scaled = abs(Fraction(value)) * 10**places
    assume(abs(scaled % 1 - Fraction(1, 2)) > scaled * Fraction(1, 10**13))
    near = math.floor(scaled + Fraction(1, 2)) + off
    verdict = Printed.parse(f"{math.copysign(1, value) * near / 10**places:.{places}f}").verdict(value)
    assert (verdict == "reproduces") == (off == 0)


@pytest.mark.parametrize("text", ["", "about 8", "9x-13x", "4.2 furlongs", "M", "4.2.1M"])
def test_printed_that_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="begin with a number|unknown unit"):
        Printed.parse(text)


def test_precision_must_fit():
    with pytest.raises(ValueError, match="no multiple of the precision"):
        Printed.parse("655", precision=10)

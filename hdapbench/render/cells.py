"""Numbers and words of cells and sentences: shares, points, intervals, leads."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from hdapbench.leaderboard.board import EqualAccuracy
from hdapbench.leaderboard.statistics import Interval

ABSENT = "-"


def lead_of(row: EqualAccuracy, cost: str) -> Interval:
    """Gain in speed at equal accuracy, or share of the reference's bytes that is saved; negative is a loss."""
    if cost == "latency":
        return row.lead
    return Interval(*(1 - 1 / (1 + end) for end in (row.lead.value, row.lead.low, row.lead.high)))


def lead_words(lead: Interval, cost: str) -> str:
    """``31.2% faster`` or ``4.1% slower``; smaller and larger where bytes are compared."""
    less, more = ("faster", "slower") if cost == "latency" else ("smaller", "larger")
    return f"{abs(lead.value):.1%} {less if lead.value >= 0 else more}"


def share(value: Interval) -> str:
    """A share as per cent, with its interval: ``98.2 (96.4-99.1)``; alone where nothing is known of it."""
    if (value.low, value.high) == (0.0, 1.0):
        return f"{value.value * 100:.2f}"
    decimals = 1 if value.high - value.low > 0.01 else 2
    ends = f"{value.low * 100:.{decimals}f}-{value.high * 100:.{decimals}f}"
    return f"{value.value * 100:.{decimals}f} ({ends})"


def points(value: Interval | None) -> str:
    """A difference of accuracies in points, with its sign; a star where its interval leaves out zero."""
    if value is None:
        return ABSENT
    return f"{value.value * 100:+z.2f}" + ("*" if value.low > 0 or value.high < 0 else "")


def relative(value: Interval) -> float:
    """Half the length of an interval, as share of its value."""
    return (value.high - value.low) / 2 / value.value


def significant(number: float) -> str:
    """Four significant digits, zeros included, without an exponent; ``number`` is positive."""
    rounded = float(f"{number:.4g}")
    return f"{rounded:,.{max(0, 3 - floor(log10(rounded)))}f}"


def one_line(text: str) -> str:
    """Text without line breaks."""
    return " ".join(text.split())


def interval_words(value: Interval, *, scale: float = 1.0, unit: str = "", decimals: int = 2) -> str:
    """``1.17x (1.15 to 1.19)``; the value alone where nothing is known of its interval."""
    said = f"{value.value * scale:z.{decimals}f}{unit}"
    if scale == 100 and (value.low, value.high) == (0.0, 1.0):
        return said
    return f"{said} ({value.low * scale:z.{decimals}f} to {value.high * scale:z.{decimals}f})"


def joined(names: Sequence[str]) -> str:
    """Names as a sentence lists them."""
    return f"{', '.join(names[:-1])} and {names[-1]}"


def counted(n: int, noun: str) -> str:
    """``1 seed`` or ``2 seeds``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"

"""A value with its 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass

CONFIDENCE = 0.95
"""Of all intervals, and of a whole table where its rows are compared."""


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval, in the unit of the value; the value need not be in the middle."""

    value: float
    low: float
    high: float

    @property
    def below(self) -> float:
        """Distance from the lower end to the value."""
        return self.value - self.low

    @property
    def above(self) -> float:
        """Distance from the value to the upper end."""
        return self.high - self.value

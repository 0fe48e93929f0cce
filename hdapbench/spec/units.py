"""FLOPs targets as people write them: ``0.5x``, ``1.0G``, ``500M``, ``4089184256``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_ABSOLUTE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kMGT]?)")
_RELATIVE = re.compile(r"(?P<number>\d*\.?\d+)x")


@dataclass(frozen=True)
class FlopsTarget:
    """Multiply-accumulates that a plan may use: absolute, or relative to the dense model.

    Exactly one of ``relative`` (in (0, 1]) and ``absolute`` is set.
    """

    text: str
    relative: float | None = None
    absolute: int | None = None

    def resolve(self, dense_flops: int) -> int:
        """Multiply-accumulates that this target allows for a dense model of ``dense_flops``."""
        if self.absolute is not None:
            return self.absolute
        return int((self.relative or 0.0) * dense_flops)

    def __str__(self) -> str:
        return self.text


def parse_flops(text: str) -> FlopsTarget:
    """Target of a text such as ``0.5x`` or ``1.0G``.

    Raises
    ------
    ValueError
        When the text is neither; the message says what is allowed.
    """
    stripped = text.strip()
    if match := _RELATIVE.fullmatch(stripped):
        share = float(match["number"])
        if not 0.0 < share <= 1.0:
            raise ValueError(f"a relative FLOPs target lies in (0, 1], such as 0.5x; got '{text}'")
        return FlopsTarget(text=f"{share:g}x", relative=share)
    if match := _ABSOLUTE.fullmatch(stripped):
        flops = round(float(match["number"]) * _UNITS[match["unit"]])
        if flops < 1:
            raise ValueError(f"a FLOPs target must be at least one multiply-accumulate; got '{text}'")
        return FlopsTarget(text=stripped.replace(" ", ""), absolute=flops)
    raise ValueError(f"write FLOPs (multiply-accumulates) as 0.5x, 1.0G, 500M or a whole number; got '{text}'")

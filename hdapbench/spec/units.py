"""Targets as people write them: FLOPs such as ``0.5x``, bytes such as ``20kB``, cycles, times, and several at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, get_args

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
        return FlopsTarget(text=_share_text(share), relative=share)
    if match := _ABSOLUTE.fullmatch(stripped):
        if "." in match["number"] and not match["unit"]:
            raise ValueError(f"write {stripped}x for a share of the dense model, or {stripped}G; got '{text}'")
        flops = round(float(match["number"]) * _UNITS[match["unit"]])
        if flops < 1:
            raise ValueError(f"a FLOPs target must be at least one multiply-accumulate; got '{text}'")
        return FlopsTarget(text=stripped.replace(" ", ""), absolute=flops)
    raise ValueError(f"write FLOPs (multiply-accumulates) as 0.5x, 1.0G, 500M or a whole number; got '{text}'")


def _share_text(share: float) -> str:
    """Share as people write it, all its digits kept and without an exponent."""
    short = f"{share:g}"
    return f"{short if 'e' not in short and float(short) == share else format(Decimal(repr(share)), 'f')}x"


TargetKind = Literal["flops", "size", "mpic", "ne16", "latency", "ram", "flash"]
"""What a target limits: multiply-accumulates, bytes stored, cycles on one of two processors, a fleet's latency, memory
of generated code."""

IN_BYTES = frozenset({"size", "ram", "flash"})
JOINT = " + "
"""What stands between limits that hold at once."""

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>|k|M|G)B")
_TIME = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*ms")


@dataclass(frozen=True)
class CostTarget:
    """A limit on one cost: absolute, or relative.

    Attributes
    ----------
    kind
        Which cost.
    relative
        In (0, 1]: relative to the dense model, for ``size``, ``mpic`` and ``ne16`` with 8-bit weights and activations.
    absolute
        Multiply-accumulates, bytes, cycles or ms.
    others
        Further limits that hold at the same time.
    """

    kind: TargetKind
    text: str
    relative: float | None = None
    absolute: float | None = None
    others: tuple[CostTarget, ...] = ()

    @property
    def parts(self) -> tuple[CostTarget, ...]:
        """Every limit, each alone."""
        return (replace(self, others=()), *self.others)

    @property
    def kinds(self) -> frozenset[TargetKind]:
        """What is limited."""
        return frozenset(part.kind for part in self.parts)

    def resolve(self, dense: float) -> int:
        """What the target allows where the dense model costs ``dense``, in whole units."""
        return int(self.absolute) if self.absolute is not None else int((self.relative or 0.0) * dense)

    def share(self, dense: float) -> float:
        """The same as a share of ``dense``, above one where the target allows more: how latency is limited."""
        return self.relative if self.relative is not None else (self.absolute or 0.0) / dense

    def __str__(self) -> str:
        return JOINT.join(p.text if p.kind == "flops" else f"{p.text} {p.kind}" for p in self.parts)


def parse_target(text: str) -> CostTarget:
    """Target of a text such as ``0.5x``, ``20kB size``, ``0.5x ne16``, ``4.2ms latency`` or ``0.3x size + 64kB ram``.

    Without a kind it is FLOPs. Several limits are brought into the order of `TargetKind`.

    Raises
    ------
    ValueError
        When the text is none of these; the message says what is allowed.
    """
    order = get_args(TargetKind)
    found = sorted((_parse_one(part) for part in text.split("+")), key=lambda part: order.index(part.kind))
    kinds = [part.kind for part in found]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"a target limits each of {', '.join(sorted(set(kinds)))} once; got '{text}'")
    return replace(found[0], others=tuple(found[1:]))


def _parse_one(text: str) -> CostTarget:
    """One limit."""
    amount, _, kind = text.strip().partition(" ")
    kind = kind.strip() or "flops"
    if kind not in get_args(TargetKind):
        raise ValueError(f"a target limits one of {', '.join(get_args(TargetKind))}; got '{kind}'")
    chosen: TargetKind = kind  # type: ignore[assignment] # it is one of them
    if match := (_SIZE.fullmatch(amount) if kind in IN_BYTES else None):
        return CostTarget(chosen, amount, absolute=round(float(match["number"]) * _UNITS[match["unit"]]))
    if kind in IN_BYTES and not amount.endswith("x"):
        what = "sizes" if kind == "size" else kind
        raise ValueError(f"write {what} as 0.3x (of the dense model at 8 bits), 20kB or 1.5MB; got '{amount}'")
    if match := (_TIME.fullmatch(amount) if kind == "latency" else None):
        if not float(match["number"]):
            raise ValueError(f"a latency target lies above zero; got '{amount}'")
        return CostTarget("latency", f"{float(match['number']):g}ms", absolute=float(match["number"]))
    if kind == "latency" and not amount.endswith("x"):
        raise ValueError(f"write latencies as 0.8x (of the dense model) or 4.2ms; got '{amount}'")
    found = parse_flops(amount)  # cycles are written like FLOPs
    return CostTarget(chosen, found.text, relative=found.relative, absolute=found.absolute)

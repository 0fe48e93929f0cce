"""Comparisons -> a sentence with numbers, then a table; and the same as plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

from hdapbench.errors import printable
from hdapbench.leaderboard.board import Row
from hdapbench.leaderboard.comparing import Change, Pair, Side
from hdapbench.leaderboard.statistics import Interval
from hdapbench.render.cells import ABSENT, interval_words, significant
from hdapbench.render.markdown import table

_PLURAL = {"appears": "appear", "vanishes": "vanish", "changes": "change", "stays": "stay"}


def pair_text(pair: Pair) -> str:
    """The second of a pair against the first: a sentence, and lines of tables."""
    lines = [pair_sentence(pair), "", *table(("of", "first", "second", "second / first"), _rows(pair))]
    differing = [
        name
        for name in {**pair.first.kept, **pair.second.kept}
        if pair.first.kept.get(name) != pair.second.kept.get(name)
    ]
    if differing:
        rows = [(name, _width(pair.first, name), _width(pair.second, name)) for name in differing]
        lines += ["", *table(("channels kept", "first", "second"), rows)]
    return "\n".join(map(printable, lines))


def pair_sentence(pair: Pair) -> str:
    """``B is 7.4 % (3.4 to 11.6) slower than A; it is 0.42 points less accurate ...``, and why there is no interval."""
    one, other = pair.first, pair.second
    ratio, flops = other.latency_ms / one.latency_ms - 1, other.flops / one.flops - 1
    if pair.same_widths:
        speed, widths = f"has the widths of {one.name}, and so its latency (measured {ratio:+.1%})", ""
    else:
        speed = f"is {_directed(pair.latency, ratio, ' %', ('slower', 'faster'), 1)} than {one.name}"
        n_groups = len({*one.kept, *other.kept})
        widths = f"; widths differ in {pair.n_differing} of {n_groups} groups" if n_groups else ""
    points = other.accuracy - one.accuracy
    accurate = _directed(pair.accuracy, points, " points", ("more accurate", "less accurate"), 2)
    if f"{abs(points) * 100:.2f}" == "0.00":
        found = pair.accuracy
        accurate = "as accurate" + (f" ({found.low * 100:+z.2f} to {found.high * 100:+z.2f} points)" if found else "")
    why = "" if pair.caution is None else f". Without an interval: {pair.caution}"
    return f"{other.name} {speed}; it is {accurate}, with {flops:+z.1%} FLOPs{widths}{why}."


def pair_values(pair: Pair) -> dict[str, Any]:
    """The same as plain values: numbers of both, and what is compared with its interval."""
    sides = {"first": pair.first, "second": pair.second}
    return {
        "sentence": pair_sentence(pair),
        **{name: {"name": side.name, **_numbers(side), "kept": dict(side.kept)} for name, side in sides.items()},
        "latency_ratio_less_one": _ends(pair.latency),
        "accuracy_difference": _ends(pair.accuracy),
        "same_widths": pair.same_widths,
        "caution": pair.caution,
    }


def changes_text(changes: Sequence[Change], before: str, after: str) -> str:
    """Rows that appear, vanish or change between two boards: a sentence, and a table of those that do not stay."""
    kinds = [change.kind for change in changes]
    said = ", ".join(f"{kinds.count(kind)} {_PLURAL[kind]}" for kind in ("appears", "vanishes", "changes", "stays"))
    lines = [f"From {before} to {after}, of {len(changes)} rows {said}.{_first_ones(changes)}"]
    moved = [change for change in changes if change.kind != "stays"]
    if moved:
        header = ("method", "at", "status", "rank", "ms", "accuracy (%)")
        lines += ["", *table(header, [_change_cells(change) for change in moved])]
    return "\n".join(map(printable, lines))


def changes_values(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """The same as plain values, rows that stay included."""
    return [
        {
            "fleet": change.fleet,
            "target": change.target,
            "label": change.label,
            "kind": change.kind,
            "before": _row_values(change.before),
            "after": _row_values(change.after),
        }
        for change in changes
    ]


def _directed(found: Interval | None, value: float, unit: str, words: tuple[str, str], decimals: int) -> str:
    """``7.4 % (3.4 to 11.6) slower``, with the word of the direction; what is not shown is said to be so."""
    sign = -1.0 if value < 0 else 1.0
    if found is None:
        return f"{abs(value) * 100:.{decimals}f}{unit} {words[value < 0]}"
    ends = sorted((sign * found.low, sign * found.high))
    size = interval_words(Interval(abs(found.value), *ends), scale=100, unit=unit, decimals=decimals)
    return f"{size} {words[value < 0]}{'' if ends[0] > 0 else ' (not shown)'}"


_FORMS: dict[str, tuple[str, Callable[[float], str]]] = {
    "latency_ms": ("latency (ms)", significant),
    "flops": ("M MACs", lambda value: f"{value / 1e6:,.2f}"),
    "params": ("params (k)", lambda value: f"{value / 1e3:,.1f}"),
    "size_bytes": ("size (KiB)", lambda value: f"{value / 1024:,.1f}"),
}


def _rows(pair: Pair) -> list[tuple[str, ...]]:
    """Numbers of both, and their ratio; of accuracy the difference in points."""
    one, other = _numbers(pair.first), _numbers(pair.second)
    rows = [
        (title, form(one[name]), form(other[name]), f"{other[name] / one[name]:.3f}")
        for name, (title, form) in _FORMS.items()
    ]
    points = f"{(other['accuracy'] - one['accuracy']) * 100:+z.2f} points"
    return [*rows, ("accuracy (%)", *(f"{of['accuracy'] * 100:.2f}" for of in (one, other)), points)]


def _numbers(side: Side) -> dict[str, float]:
    return {
        "latency_ms": side.latency_ms,
        "accuracy": side.accuracy,
        "flops": side.flops,
        "params": side.params,
        "size_bytes": side.size_bytes,
    }


def _width(side: Side, name: str) -> str:
    return f"{side.kept[name]:g}" if name in side.kept else ABSENT


def _ends(found: Interval | None) -> dict[str, float | None] | None:
    """An interval in finite numbers: an end without bound is None."""
    if found is None:
        return None
    ends = {"value": found.value, "low": found.low, "high": found.high}
    return {name: value if isfinite(value) else None for name, value in ends.items()}


def _first_ones(changes: Sequence[Change]) -> str:
    """Sentences on rankings whose first row is another one."""
    said = ""
    for fleet, target in dict.fromkeys((change.fleet, change.target) for change in changes):
        here = [change for change in changes if (change.fleet, change.target) == (fleet, target)]
        old = [change.label for change in here if change.before is not None and change.before.rank == 1]
        new = [change.label for change in here if change.after is not None and change.after.rank == 1]
        if old and new and set(old) != set(new):
            said += f" First at {target} on {fleet}: {' and '.join(new)} after {' and '.join(old)}."
    return said


def _change_cells(change: Change) -> tuple[str, ...]:
    def cell(form: Callable[[Row], str]) -> str:
        old, new = (ABSENT if row is None else form(row) for row in (change.before, change.after))
        return old if old == new else f"{old} > {new}"

    return (
        change.label,
        f"{change.target} on {change.fleet}",
        change.kind,
        cell(lambda row: ABSENT if row.rank is None else str(row.rank)),
        cell(lambda row: significant(row.latency_ms.value)),
        cell(lambda row: f"{row.accuracy.value * 100:.2f}"),
    )


def _row_values(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {"rank": row.rank, "latency_ms": _ends(row.latency_ms), "accuracy": _ends(row.accuracy)}
